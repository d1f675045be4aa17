"""N1 over TCP: one listener per access type, one connection per UE and access, each NAS PDU behind a two-octet length
(the envelope of TS 24.502 §9.4). Framing and limits only: what the PDUs mean is the handler's.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from control.amf.config import N1Config
from fiveg.nas.envelope import Deframer, EnvelopeBroken, envelope
from node.budget import Budget
from node.counters import Counters

MOST_CONNECTIONS = 512
"""When it is reached, the oldest connection on which no MAC has verified yet makes room: strangers keep no UE out."""
OUTPUT_LIMIT = 1 << 18
"""Octets that wait for a UE that is silent; a UE behind a dead access must not cost more."""
MESSAGES_PER_S = 200.0
MESSAGES_BURST = 400.0

USER_TIMEOUT_MS = 10_000
"""What was sent and not acknowledged for so long ends the connection: its access is dead (RFC 5482)."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))


def _notice_death(sock: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    for option, value in KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


class N1Handler(Protocol):
    """Called in order for each connection; must not block and must not raise for anything that a peer sends."""

    def connected(self, connection: N1Connection) -> None: ...
    def received(self, connection: N1Connection, pdu: bytes) -> None: ...
    def lost(self, connection: N1Connection) -> None: ...


class N1Connection(asyncio.Protocol):
    """One access of one UE. `state` is the handler's own."""

    def __init__(self, server: N1Server, access: str) -> None:
        self._server = server
        self.access = access
        self.state: Any = None
        self.heard_at = 0.0
        """when a MAC last verified here; 0: never"""
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None
        self._budget = Budget(MESSAGES_BURST, MESSAGES_PER_S, server.clock())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        _notice_death(transport.get_extra_info("socket"))
        if not self._server.admit(self):
            transport.abort()
            self._transport = None
            return
        self._server.handler.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for pdu in self._deframer.feed(data):
                if not self._budget.take(self._server.clock()):
                    self._server.counters.inc("n1.flood")
                    self.abort()
                    return
                self._server.counters.inc("n1.received")
                self._server.handler.received(self, pdu)
                if not self.open:  # what else came with a message that ended the connection is not read
                    return
        except EnvelopeBroken:
            self._server.counters.inc("n1.bad_length")
            self.abort()

    def send(self, pdu: bytes) -> bool:
        """False: the connection is gone, or too much waits in it already."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > OUTPUT_LIMIT:
            self._server.counters.inc("n1.peer_reads_not")
            return False
        self._transport.write(envelope(pdu))
        self._server.counters.inc("n1.sent")
        return True

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """After what was sent is out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._server.discharge(self):
            self._server.handler.lost(self)


class N1Server:
    def __init__(
        self,
        listeners: tuple[N1Config, ...],
        handler: N1Handler,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listeners, self.handler, self.counters, self.clock = listeners, handler, counters, clock
        self._servers: list[asyncio.Server] = []
        self._connections: dict[N1Connection, None] = {}
        """in order of arrival"""
        self.ports: dict[str, int] = {}

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            access = listener.access

            def factory(access: str = access) -> N1Connection:
                return N1Connection(self, access)

            server = await loop.create_server(factory, listener.address, listener.port)
            self._servers.append(server)
            self.ports[access] = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        for server in self._servers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await server.wait_closed()
        await asyncio.sleep(0)  # the aborted connections are told of their end in the loop's next turn

    def admit(self, connection: N1Connection) -> bool:
        if len(self._connections) >= MOST_CONNECTIONS:
            stranger = next((c for c in self._connections if not c.heard_at), None)
            if stranger is None:
                self.counters.inc("n1.too_many_connections")
                return False
            self.counters.inc("n1.stranger_evicted")
            stranger.abort()
            self.discharge(stranger)
            self.handler.lost(stranger)
        self._connections[connection] = None
        return True

    def discharge(self, connection: N1Connection) -> bool:
        if connection not in self._connections:
            return False
        del self._connections[connection]
        return True
