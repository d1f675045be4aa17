"""The N4 socket: datagrams between the network and the PFCP agent, and its timers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from fiveg.pfcp.transaction import Transactions
from upf.pfcp_agent import PfcpAgent


class N4(asyncio.DatagramProtocol):
    """Every datagram is handled to its end before the next; what the agent wants sent leaves at once."""

    def __init__(
        self, agent: PfcpAgent, transactions: Transactions, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._agent = agent
        self._transactions = transactions
        self._clock = clock
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    async def open(cls, agent: PfcpAgent, transactions: Transactions, address: str, port: int) -> N4:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_datagram_endpoint(
            lambda: cls(agent, transactions), local_addr=(address, port)
        )
        return protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._agent.receive(data, (str(addr[0]), int(addr[1])), self._clock())
        self.flush()

    def flush(self) -> None:
        """Send what waits and set the timer anew; also after the agent was told something by the data path."""
        if self._transport is None:
            return
        for data, peer in self._transactions.datagrams():
            self._transport.sendto(data, peer)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._agent.deadline()
        if deadline is not None:
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._advance)

    def _advance(self) -> None:
        self._timer = None
        self._agent.advance(self._clock())
        self.flush()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
