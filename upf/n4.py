"""The N4 socket: datagrams between the network and the PFCP agent, and its timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fiveg.pfcp.transaction import Transactions
from node.counters import Counters
from node.events import Events
from upf.pfcp_agent import PfcpAgent

LEAST_WAIT = 0.001
"""Seconds: a deadline that stays in the past, by a fault of ours, does not spin."""


class N4(asyncio.DatagramProtocol):
    """Every datagram is handled to its end before the next; what the agent wants sent leaves at once. A fault of ours is
    counted and named, and costs the peer no more than its answer: the timers and the other sessions go on."""

    def __init__(
        self,
        agent: PfcpAgent,
        transactions: Transactions,
        events: Events,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._agent = agent
        self._transactions = transactions
        self._events = events
        self._counters = counters
        self._clock = clock
        self._transport: Any = None  # asyncio says no get_write_buffer_size of a DatagramTransport
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls,
        agent: PfcpAgent,
        transactions: Transactions,
        events: Events,
        counters: Counters,
        address: str,
        port: int,
    ) -> N4:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(
            lambda: cls(agent, transactions, events, counters), local_addr=(address, port)
        )
        return protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        with self._guarded("receive"):
            self._agent.receive(data, (str(addr[0]), int(addr[1])), self._clock())
        self.flush()

    @contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._counters.inc("n4.internal_error")
            self._events.emit("n4_internal_error", what=what, error=type(error).__name__)

    def flush(self) -> None:
        """Send what waits and set the timer anew; also after the agent was told something by the data path."""
        if self._transport is None:
            return
        for data, peer in self._transactions.datagrams():
            # What the kernel does not take now (ARP for a peer that has gone is under way) must not be queued in front of what
            # other peers wait for. PFCP repeats what is lost.
            if self._transport.get_write_buffer_size():
                self._counters.inc("n4.send_dropped")
                continue
            self._transport.sendto(data, peer)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._agent.deadline()
        if deadline is not None:
            delay = max(LEAST_WAIT, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._advance)

    def _advance(self) -> None:
        self._timer = None
        with self._guarded("advance"):
            self._agent.advance(self._clock())
        self.flush()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
