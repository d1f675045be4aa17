"""N1 over one access: a TCP connection to the AMF, from the access's own address and device, NAS messages in envelopes
(TS 24.502 §9.4)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from fiveg.nas.envelope import Deframer, EnvelopeBroken, envelope
from ue.config import AccessConfig

OUTPUT_LIMIT = 1 << 18
"""Octets that wait for an access that is silent"""
USER_TIMEOUT_MS = 20_000
"""An access that acknowledges nothing for so long is given up (TCP_USER_TIMEOUT)."""


class N1Link(asyncio.Protocol):
    def __init__(self, received: Callable[[bytes], None]) -> None:
        self._received = received
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, access: AccessConfig, received: Callable[[bytes], None]) -> N1Link:
        """OSError when there is no way; who calls bounds the time."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, access.device.encode() + b"\0")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
            sock.bind((access.address, 0))
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (access.amf, access.amf_port))
            _, protocol = await loop.create_connection(lambda: cls(received), sock=sock)
        except BaseException:
            sock.close()
            raise
        return protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._deframer.feed(data)
        except EnvelopeBroken as e:
            self._end(str(e))
            return
        for message in messages:
            if self.open:
                self._received(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed by the AMF" if exc is None else type(exc).__name__)

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        self.abort()

    def send(self, message: bytes) -> bool:
        """False: it is not on its way, the link is gone or takes nothing any more."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > OUTPUT_LIMIT:
            return False
        transport.write(envelope(message))
        return True

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def close(self, limit: float) -> None:
        """What was sent goes out first, for so long."""
        if self._transport is not None:
            self._transport.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self.lost), limit)
        self.abort()
