"""The MPQUIC endpoint of the UE: mpquic.endpoint in the UE's own terms (ports.py). One socket per access, bound to the
access's address and device; its link number is the access's place in the configuration.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig, Tunnel
from mpquic.engine import PER_ACCESS
from mpquic.errors import EngineError, HandshakeFailed, MpquicError
from mpquic.errors import HandshakeRefused as QuicRefused
from mpquic.psk import Psk
from mpquic.steering import ACCESSES, SteeringRule
from node.counters import Counters
from node.errors import LinkError
from node.link_watch import LinkWatch
from ue.config import AccessConfig, UeConfig
from ue.errors import DatapathError, HandshakeRefused, NoAnswer, PathNotOpened
from ue.ports import Assignment, ConnectionPort, PathHandler, TunnelPort, TunnelSpec

AUTHORITY = "mpquic-proxy"
HANDSHAKE_LIMIT = 5.0


def access_socket(access: AccessConfig) -> socket.socket:
    """Source address and device choose the access; unconnected, since the engine finds connections by their IDs."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, access.device.encode())
        sock.bind((access.address, 0))
    except OSError as error:
        sock.close()
        raise DatapathError(f"access {access.name}: socket at {access.address}: {error.strerror}") from error
    return sock


class QuicConnection:
    """ConnectionPort of one connection."""

    def __init__(self, connection: Connection, remote: tuple[str, int]) -> None:
        self.connection, self._remote = connection, remote

    @property
    def client_random(self) -> str:
        return self.connection.client_random

    @property
    def link(self) -> int:
        return self.connection.link

    def on_path(self, handler: PathHandler) -> None:
        self.connection.handlers.append(handler)

    async def connect_ip(self, tunnel: TunnelPort | None) -> Assignment:
        def opened() -> None:
            if isinstance(tunnel, QuicTunnel):
                tunnel.admit(self)

        try:
            made = await self.connection.connect_ip(AUTHORITY, opened)
        except MpquicError as error:
            raise DatapathError(str(error)) from error
        return Assignment(made.addresses, made.routes)

    async def open_path(self, link: int) -> int:
        try:
            return await self.connection.open_path(link, self._remote)
        except MpquicError as error:
            raise PathNotOpened(str(error)) from error

    def path_available(self, path: int, available: bool) -> None:
        try:
            self.connection.path_available(path, available)
        except EngineError as error:
            raise DatapathError(str(error)) from error

    def key_update(self) -> None:
        try:
            self.connection.key_update()
        except EngineError as error:
            raise DatapathError(str(error)) from error

    async def goaway(self) -> None:
        try:
            await self.connection.goaway()
        except MpquicError as error:
            raise DatapathError(str(error)) from error

    async def close(self) -> None:
        await self.connection.close()

    async def closed(self) -> str:
        await asyncio.wait([self.connection.closed])  # the future is the connection's: cancelling us leaves it alone
        return str(self.connection.closed.result())

    def paths(self) -> list[dict[str, Any]]:
        try:
            return self.connection.paths()
        except EngineError:  # it ended in this moment
            return []


class QuicTunnel:
    """TunnelPort"""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def steering_set(self, rules: Sequence[SteeringRule]) -> None:
        try:
            self._tunnel.steering_set(rules)
        except EngineError as error:
            raise DatapathError(f"steering rules: {error}") from error

    def admit(self, connection: QuicConnection) -> None:
        self._tunnel.admit(connection.connection)

    def bind(self, connection: ConnectionPort) -> None:
        assert isinstance(connection, QuicConnection)
        try:
            self._tunnel.bind(connection.connection)
        except MpquicError as error:
            raise DatapathError(f"tunnel: {error}") from error

    def stats(self) -> dict[str, Any]:
        """As struct tunnel_stats: what is per access stands in the order of the accesses."""
        stats = self._tunnel.stats()
        for name in PER_ACCESS:
            value = stats.get(name)
            if isinstance(value, dict):
                stats[name] = [value[access] for access in ACCESSES]
        return stats

    def free(self) -> None:
        self._tunnel.free()


class QuicEndpoint:
    """The engine with its I/O thread, the sockets of the accesses, and the TUN."""

    def __init__(self, config: UeConfig, tun_fd: int, counters: Counters) -> None:
        self._files: list[int] = []
        self._watches: dict[int, LinkWatch] = {}
        self._endpoint = Endpoint(
            EndpointConfig(
                role="client",
                keylog=self._text_sink(config.keylog),
                qlog=self._sink(None if config.qlog_detail == "off" else config.qlog),
                qlog_detail=config.qlog_detail,
                name="ue",
                backend=config.backend,
                congestion_control=config.congestion_control,
                ecn=config.ecn,
                mss_clamp=config.mss_clamp,
                handshake_timeout_s=HANDSHAKE_LIMIT,
            )
        )
        self._tun = self._endpoint.add_tun(tun_fd)
        for link, access in enumerate(config.accesses):
            sock = access_socket(access)
            try:
                self._endpoint.add_socket(link, sock, access.type)  # it duplicates the descriptor
            finally:
                sock.close()
            try:
                self._watches[link] = LinkWatch(access.device, counters)
            except LinkError:  # its failures are found out by time-outs then
                counters.inc("link_watch.not_opened")

    def _text_sink(self, path: Path | None) -> Callable[[str], object] | None:
        sink = self._sink(path)
        return None if sink is None else lambda text: sink(text.encode())

    def _sink(self, path: Path | None) -> Callable[[bytes | memoryview], object] | None:
        """Appends whole records: the key log is one file for both ends."""
        if path is None:
            return None
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._files.append(fd)
        return lambda octets: os.write(fd, octets)

    def log_keys(self, path: Path) -> None:
        """Of connections that are made from now on. OSError."""
        self._endpoint.config.keylog = self._text_sink(path)

    def start(self) -> None:
        self._endpoint.start()
        for link, watch in self._watches.items():
            watch.start(partial(self._endpoint.engine.link_state, link))

    async def close(self) -> None:
        for watch in self._watches.values():
            watch.close()
        self._watches = {}
        await self._endpoint.close()
        for fd in self._files:
            os.close(fd)
        self._files = []

    async def connect(self, psk: Psk, remote: tuple[str, int], links: Sequence[int]) -> QuicConnection:
        try:
            made = await self._endpoint.connect_race(psk, [(link, remote) for link in links])
        except QuicRefused as error:
            if error.key_refused:
                raise HandshakeRefused(str(error), key_refused=True) from error
            raise NoAnswer(str(error)) from error
        except HandshakeFailed as error:
            raise NoAnswer(str(error)) from error
        except EngineError as error:
            raise DatapathError(str(error)) from error
        return QuicConnection(made, remote)

    def tunnel_new(self, spec: TunnelSpec) -> TunnelPort:
        try:
            tunnel = self._endpoint.tunnel_new(
                self._tun,
                ipv4=spec.ipv4,
                ipv6=spec.ipv6,
                mtu=spec.mtu,
                hold_packets=spec.hold_packets,
                hold_s=spec.hold_s,
            )
        except EngineError as error:
            raise DatapathError(f"tunnel: {error}") from error
        return QuicTunnel(tunnel)

    def counters(self) -> dict[str, int]:
        return self._endpoint.all_counters()
