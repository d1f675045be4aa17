"""What the proxy needs of the MPQUIC endpoint, in the UPF's own terms; quic.py makes it of mpquic.endpoint. Kept apart so
that who may connect, and who carries a session, is tested without a packet."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from socket import socket
from typing import Any, Protocol

from upf.steering import Steering


@dataclass(frozen=True, slots=True)
class TunnelSpec:
    """Addresses are the session's (the UE's side); packets without a connection are held so long and so many."""

    ipv4: IPv4Address | None
    ipv6: IPv6Network | None
    mtu: int
    hold_packets: int
    hold_s: float


@dataclass(frozen=True, slots=True)
class Assignment:
    """The answer to CONNECT-IP: status, and with 200 the addresses and the routes of the session. `ready` is called when the
    connection can carry them and before the answer goes out."""

    status: int
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    routes: tuple[IPv4Network | IPv6Network, ...] = ()
    ready: Callable[[], None] | None = None


class ConnectionPort(Protocol):
    """A connection whose client's Finished is verified."""

    @property
    def identity(self) -> bytes:
        """Of the key that it was made from."""

    @property
    def client_random(self) -> str: ...

    def on_connect_ip(self, handler: Callable[[], Assignment]) -> None:
        """Called for each CONNECT-IP request."""

    def on_event(self, handler: Callable[[str, dict[str, Any]], None]) -> None:
        """Called with the name and fields of what happens to its paths."""

    def close(self) -> Awaitable[None]: ...

    def closed(self) -> Awaitable[str]:
        """Why it ended, once it has."""

    def packets(self) -> int:
        """Sent and received, all paths."""

    def paths(self) -> list[dict[str, Any]]: ...


class TunnelPort(Protocol):
    def steering_set(self, steering: list[Steering]) -> None: ...

    def admit(self, connection: ConnectionPort) -> None:
        """What arrives on the connection, on the stream of its CONNECT-IP request, goes to N6 from now on."""

    def bind(self, connection: ConnectionPort) -> None:
        """The same, and it carries what N6 has for the UE. The connection before still delivers until it ends."""

    def stats(self) -> dict[str, Any]: ...

    def free(self) -> None: ...


class EndpointPort(Protocol):
    """Errors of its calls are DatapathError."""

    def tunnel_new(self, spec: TunnelSpec) -> TunnelPort: ...

    def socket_add(self, link: int, sock: socket, access: str) -> None: ...

    def socket_remove(self, link: int) -> None: ...

    def link_state(self, link: int, up: bool) -> None:
        """The host says of the link's device that it is down, or up."""

    def counters(self) -> dict[str, int]: ...

    async def close(self) -> None: ...
