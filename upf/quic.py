"""The ports of the proxy (ports.py) on mpquic.endpoint: one server endpoint with its I/O thread and the TUN of N6."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from socket import socket
from typing import Any

from mpquic.connect_ip import Target
from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig, Tunnel
from mpquic.errors import EngineError, MpquicError
from mpquic.psk_choice import PskLookup
from mpquic.steering import SteeringRule
from mpquic.suites import suite_named
from mpquic.tunnel_request import ConnectIpReply
from native import lib
from upf.config import UpfConfig
from upf.errors import DatapathError
from upf.ports import Assignment, ConnectionPort, TunnelSpec
from upf.steering import Steering

MAX_CONNECTIONS = 3072
"""Three per session: one that carries, one that comes or drains, one that is being closed."""
MAX_HALF_OPEN = 256


class TextFile:
    """A file that only its owner can read, appended to in whole records: key log, qlog."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(fd, "ab", buffering=0)

    def write(self, text: str) -> None:
        self._file.write(text.encode())

    def write_octets(self, octets: bytes | memoryview) -> None:
        self._file.write(octets)

    def close(self) -> None:
        self._file.close()


class QuicConnection:
    """ConnectionPort."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._links = {0: connection.link}

    @property
    def identity(self) -> bytes:
        psk = self.connection.psk
        return b"" if psk is None else psk.identity

    @property
    def client_random(self) -> str:
        return self.connection.client_random

    def on_connect_ip(self, handler: Callable[[], Assignment]) -> None:
        def answer(target: Target) -> ConnectIpReply:
            """The session's address and all routes, whatever part of IP was asked for."""
            assignment = handler()
            return ConnectIpReply(assignment.status, assignment.addresses, assignment.routes, assignment.ready)

        self.connection.on_connect_ip = answer

    def on_event(self, handler: Callable[[str, dict[str, Any]], None]) -> None:
        def told(name: str, fields: dict[str, Any]) -> None:
            path, link = fields.get("path"), fields.get("link")
            if isinstance(path, int):
                if isinstance(link, int):
                    self._links[path] = link
                elif path in self._links:
                    fields = {**fields, "link": self._links[path]}
            handler(name, fields)

        self.connection.handlers.append(told)

    def close(self) -> Awaitable[None]:
        return self.connection.close()

    async def closed(self) -> str:
        return str(await self.connection.closed)

    def packets(self) -> int:
        try:
            stats = self.connection.stats()
        except EngineError:  # the engine has let it go, and nobody has told us yet
            return 0
        return int(stats.get("packets_sent", 0) + stats.get("packets_received", 0))

    def paths(self) -> list[dict[str, Any]]:
        try:
            return self.connection.paths()
        except EngineError:
            return []


class QuicTunnel:
    """TunnelPort."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def steering_set(self, steering: list[Steering]) -> None:
        try:
            self._tunnel.steering_set([steering_rule(s) for s in steering])
        except (MpquicError, ValueError) as error:
            raise DatapathError(f"steering of the session: {error}") from error

    def admit(self, connection: ConnectionPort) -> None:
        self._give(self._tunnel.admit, connection)

    def bind(self, connection: ConnectionPort) -> None:
        self._give(self._tunnel.bind, connection)

    def _give(self, call: Callable[[Connection], None], connection: ConnectionPort) -> None:
        assert isinstance(connection, QuicConnection)
        try:
            call(connection.connection)
        except MpquicError as error:
            raise DatapathError(f"the connection cannot carry the session: {error}") from error

    def stats(self) -> dict[str, Any]:
        return self._tunnel.stats()

    def free(self) -> None:
        self._tunnel.free()


class QuicEndpoint:
    """EndpointPort. Made in the thread of the running event loop, in the namespace that N6 is in."""

    def __init__(self, config: UpfConfig, psk_lookup: PskLookup, connected: Callable[[ConnectionPort], None]) -> None:
        self._keylog = None if config.keylog is None else TextFile(config.keylog)
        self._qlog = None if config.qlog is None or config.qlog_detail == "off" else TextFile(config.qlog)
        self._endpoint = Endpoint(
            EndpointConfig(
                role="server",
                name="upf",
                psk_lookup=psk_lookup,
                on_connection=lambda connection: connected(QuicConnection(connection)),
                keylog=None if self._keylog is None else self._keylog.write,
                qlog=None if self._qlog is None else self._qlog.write_octets,
                qlog_detail=config.qlog_detail,
                suites=[suite_named(name) for name in config.suites],
                backend=config.backend,
                congestion_control=config.congestion_control,
                ecn=config.ecn,
                mss_clamp=config.mss_clamp,
                max_connections=MAX_CONNECTIONS,
                max_half_open=MAX_HALF_OPEN,
            )
        )
        fd = lib.tun_open(config.tun.encode())
        if fd < 0:
            raise DatapathError(f"TUN {config.tun} cannot be opened: is /dev/net/tun there, and open to this user?")
        try:
            self._tun = self._endpoint.add_tun(fd)
        except MpquicError as error:
            raise DatapathError(f"TUN {config.tun}: {error}") from error
        finally:
            os.close(fd)

    def forbid(self, network: IPv4Network | IPv6Network) -> None:
        """No UE reaches these addresses through its tunnel."""
        self._endpoint.engine.forbid(network)

    def log_keys(self, path: Path) -> None:
        """Of connections that are made from now on. OSError."""
        old, self._keylog = self._keylog, TextFile(path)
        self._endpoint.config.keylog = self._keylog.write
        if old is not None:
            old.close()

    def start(self) -> None:
        self._endpoint.start()

    def tunnel_new(self, spec: TunnelSpec) -> QuicTunnel:
        try:
            return QuicTunnel(
                self._endpoint.tunnel_new(
                    self._tun,
                    ipv4=spec.ipv4,
                    ipv6=spec.ipv6,
                    mtu=spec.mtu,
                    hold_packets=spec.hold_packets,
                    hold_s=spec.hold_s,
                )
            )
        except MpquicError as error:
            raise DatapathError(f"tunnel of the session: {error}") from error

    def socket_add(self, link: int, sock: socket, access: str) -> None:
        try:
            self._endpoint.add_socket(link, sock, access)
        except MpquicError as error:
            raise DatapathError(f"socket of link {link}: {error}") from error

    def socket_remove(self, link: int) -> None:
        with contextlib.suppress(MpquicError):  # it was never added
            self._endpoint.engine.io_socket_remove(link)

    def link_state(self, link: int, up: bool) -> None:
        with contextlib.suppress(MpquicError):  # it is being closed
            self._endpoint.engine.link_state(link, up)

    def counters(self) -> dict[str, int]:
        return self._endpoint.all_counters()

    def io_stats(self) -> dict[str, int]:
        return self._endpoint.io_stats()

    async def close(self) -> None:
        await self._endpoint.close()
        for file in (self._keylog, self._qlog):
            if file is not None:
                file.close()


def steering_rule(steering: Steering) -> SteeringRule:
    return SteeringRule(
        rule_id=steering.rule_id,
        precedence=steering.precedence,
        remote=steering.match.remote,
        protocol=steering.match.protocol,
        ports=steering.match.port,
        weights=None if steering.weights is None else {str(k): v for k, v in steering.weights.items()},
        active=steering.active,
        standby=steering.standby,
        sequenced=steering.sequenced,
        priority=steering.priority,
        smallest_delay=steering.smallest_delay,
        autonomous=steering.autonomous,
        max_rtt_ms=steering.max_rtt_ms,
        max_loss_percent=steering.max_loss_percent,
        redundant=steering.redundant,
        primary=steering.primary,
    )
