"""What the MPQUIC client needs of the MPQUIC endpoint, in the UE's own terms; quic.py makes it of mpquic.endpoint. Kept apart
so that retries, paths and re-keys are tested without a packet. Paths are named by their link: one per access.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Protocol

from mpquic.psk import Psk
from mpquic.steering import SteeringRule

Network = IPv4Network | IPv6Network
PathHandler = Callable[[str, dict[str, Any]], None]
"""Name and fields (path, state, reason) of what happens to a path."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What CONNECT-IP gave: addresses and routes of the session."""

    addresses: tuple[Network, ...]
    routes: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class TunnelSpec:
    ipv4: IPv4Address | None
    ipv6: IPv6Network | None
    mtu: int
    hold_packets: int
    hold_s: float


class ConnectionPort(Protocol):
    """A connection whose handshake is complete. Errors of its calls are UeError."""

    @property
    def client_random(self) -> str: ...

    @property
    def link(self) -> int:
        """Of path 0: over which the race was won."""

    def on_path(self, handler: PathHandler) -> None: ...

    async def connect_ip(self, tunnel: TunnelPort | None) -> Assignment:
        """Asks for the tunnel. What the proxy sends before its answer has come is delivered by `tunnel`, if there is one."""

    async def open_path(self, link: int) -> int:
        """The path's ID once it is validated, or PathNotOpened."""

    def path_available(self, path: int, available: bool) -> None:
        """PATH_STATUS_AVAILABLE or _BACKUP"""

    def key_update(self) -> None:
        """QUIC's own, of all paths; nothing of 5G. UeError while the one before is not done."""

    async def goaway(self) -> None: ...

    async def close(self) -> None: ...

    async def closed(self) -> str:
        """Why it ended, once it has."""

    def paths(self) -> list[dict[str, Any]]: ...


class TunnelPort(Protocol):
    def steering_set(self, rules: Sequence[SteeringRule]) -> None: ...

    def bind(self, connection: ConnectionPort) -> None:
        """The connection carries the tunnel from now on; the one before still delivers until it ends."""

    def stats(self) -> dict[str, Any]: ...

    def free(self) -> None: ...


class EndpointPort(Protocol):
    async def connect(self, psk: Psk, remote: tuple[str, int], links: Sequence[int]) -> ConnectionPort:
        """One ClientHello over each link, the first that answers is finished. HandshakeRefused or NoAnswer."""

    def tunnel_new(self, spec: TunnelSpec) -> TunnelPort: ...


class TunPort(Protocol):
    """The TUN device mpq0."""

    def configure(
        self, ipv4: IPv4Address | None, ipv6: IPv6Network | None, interface_id: bytes | None, routes: Sequence[Network]
    ) -> None:
        """Its addresses and routes, in place of those before."""

    def mtu_set(self, mtu: int) -> None: ...
