"""N1 over one access: a TCP connection to the AMF, bound to the access's address and device, made again for ever.

Each NAS PDU stands behind a two-octet length (the envelope of TS 24.502 §9.4). A dead access only keeps its own link
waiting: nothing else in the UE waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Protocol

from fiveg.nas.envelope import Deframer, EnvelopeBroken, envelope
from node.counters import Counters
from ue.config import AccessConfig

OUTPUT_LIMIT = 1 << 16
CONNECT_LIMIT = 3.0
RETRY = (0.25, 0.5, 1.0, 2.0)
"""Seconds between tries; the last repeats."""
USER_TIMEOUT_MS = 10_000
"""What was sent and not acknowledged for so long ends the connection: the access is dead (RFC 5482)."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))


class N1Handler(Protocol):
    """Called in order; must not raise for anything that the network sends."""

    def connected(self, link: N1Link) -> None: ...
    def received(self, link: N1Link, pdu: bytes) -> None: ...
    def lost(self, link: N1Link) -> None: ...


class N1Link(asyncio.Protocol):
    """`access` is the NAS access type, `name` what people call it."""

    def __init__(self, config: AccessConfig, handler: N1Handler, counters: Counters) -> None:
        self.config, self.access, self.name = config, config.type, config.name
        self._handler, self._counters = handler, counters
        self._transport: asyncio.Transport | None = None
        self._deframer = Deframer()
        self._ended = asyncio.Event()
        self.pause = 0.0
        """seconds to wait before the next connection at least: set by who was refused"""

    # ---- connecting

    async def run(self) -> None:
        """Until cancelled."""
        tries = 0
        try:
            while True:
                if await self._connect():
                    tries = 0
                    await self._ended.wait()
                else:
                    self._counters.inc(f"n1.connect_failed.{self.name}")
                delay = max(RETRY[min(tries, len(RETRY) - 1)], self.pause)
                self.pause = 0.0
                tries += 1
                await asyncio.sleep(delay)
        finally:
            self.abort()

    async def _connect(self) -> bool:
        loop = asyncio.get_running_loop()
        self._ended.clear()
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                sock = self._socket()
                await loop.sock_connect(sock, (self.config.amf, self.config.amf_port))
            await loop.create_connection(lambda: self, sock=sock)
            return True
        except (OSError, TimeoutError):
            if sock is not None:
                sock.close()
            return False
        except BaseException:
            if sock is not None:
                sock.close()
            raise

    def _socket(self) -> socket.socket:
        """Source address and device choose the access (design §1)."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.config.device.encode())
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
            sock.bind((self.config.address, 0))
        except BaseException:
            sock.close()
            raise
        return sock

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._deframer.clear()
        self._handler.connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for pdu in self._deframer.feed(data):
                self._counters.inc("n1.received")
                self._handler.received(self, pdu)
                if self._transport is None:
                    return
        except EnvelopeBroken:
            self._counters.inc("n1.bad_length")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is None and self._ended.is_set():
            return
        self._transport = None
        self._ended.set()
        self._handler.lost(self)

    # ---- use

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, pdu: bytes) -> bool:
        """False: there is no connection, or too much waits in it already."""
        if self._transport is None or self._transport.is_closing():
            return False
        if self._transport.get_write_buffer_size() > OUTPUT_LIMIT:
            self._counters.inc("n1.peer_reads_not")
            return False
        self._transport.write(envelope(pdu))
        self._counters.inc("n1.sent")
        return True

    def abort(self) -> None:
        """Drop the connection; `run` makes a new one."""
        if self._transport is not None:
            with contextlib.suppress(OSError):
                self._transport.abort()
