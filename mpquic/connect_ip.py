"""CONNECT-IP (RFC 9484): the request, its three capsules and their rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import unquote

from mpquic.capsule import Capsule
from mpquic.errors import H3StreamError
from mpquic.h3_codes import Code
from mpquic.reader import Reader, ReadError, varint

PROTOCOL = b"connect-ip"
DEFAULT_PATH = "/.well-known/masque/ip/*/*/"
_PREFIX = "/.well-known/masque/ip/"

ADDRESS_ASSIGN = 0x01
ADDRESS_REQUEST = 0x02
ROUTE_ADVERTISEMENT = 0x03
CAPSULES = frozenset((ADDRESS_ASSIGN, ADDRESS_REQUEST, ROUTE_ADVERTISEMENT))
ENTRIES_MOST = 256  # of one capsule

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def _malformed(reason: str) -> H3StreamError:
    return H3StreamError(Code.MESSAGE_ERROR, reason)


@dataclass(frozen=True, slots=True)
class Target:
    """What the request's path asks for; None = any."""

    target: str | None = None
    protocol: int | None = None

    @classmethod
    def parse(cls, path: str) -> Target:
        """ValueError (answered with 400) unless it is the default template with good variables (RFC 9484 §4.6)."""
        if not path.startswith(_PREFIX):
            raise ValueError("path is not of the CONNECT-IP template")
        parts = path[len(_PREFIX) :].split("/")
        if len(parts) != 3 or parts[2] or not parts[0] or not parts[1]:
            raise ValueError("path has not the two variables of the CONNECT-IP template")
        target, protocol = unquote(parts[0]), unquote(parts[1])
        number: int | None = None
        if protocol != "*":
            if not (protocol.isascii() and protocol.isdigit()) or int(protocol) > 255:
                raise ValueError("ipproto is neither * nor 0 to 255")
            number = int(protocol)
        if target == "*":
            return cls(None, number)
        if "%" in target:
            raise ValueError("target with a zone (RFC 9484 §4.6)")
        if "/" in target or ":" in target:
            ip_network(target)
        elif not all(c.isalnum() or c in "-._" for c in target) or not target.isascii():
            raise ValueError("target is neither *, an IP prefix nor a name")
        return cls(target, number)


@dataclass(frozen=True, slots=True)
class Assigned:
    """Entry of ADDRESS_ASSIGN and ADDRESS_REQUEST: Request ID (i), IP Version (8), IP Address, Prefix Length (8)."""

    request_id: int
    network: Network

    def encode(self) -> bytes:
        return (
            varint(self.request_id)
            + bytes([self.network.version])
            + self.network.network_address.packed
            + bytes([self.network.prefixlen])
        )


@dataclass(frozen=True, slots=True)
class Route:
    """Entry of ROUTE_ADVERTISEMENT: Version (8), Start, End, IP Protocol (8; 0 = all)."""

    start: Address
    end: Address
    protocol: int = 0

    @classmethod
    def of(cls, network: Network) -> Route:
        return cls(network.network_address, network.broadcast_address)

    @property
    def order(self) -> tuple[int, int, int]:
        return self.start.version, self.protocol, int(self.start)

    def encode(self) -> bytes:
        return bytes([self.start.version]) + self.start.packed + self.end.packed + bytes([self.protocol])


def address_assign(entries: Sequence[Assigned]) -> Capsule:
    return Capsule(ADDRESS_ASSIGN, b"".join(entry.encode() for entry in entries))


def address_request(entries: Sequence[Assigned]) -> Capsule:
    return Capsule(ADDRESS_REQUEST, b"".join(entry.encode() for entry in entries))


def route_advertisement(routes: Sequence[Route]) -> Capsule:
    return Capsule(
        ROUTE_ADVERTISEMENT, b"".join(route.encode() for route in sorted(routes, key=lambda r: r.order))
    )


def decode_assign(value: bytes) -> list[Assigned]:
    """The whole new list of addresses; empty = all withdrawn."""
    return _decode_addresses(value, "ADDRESS_ASSIGN")


def decode_request(value: bytes) -> list[Assigned]:
    entries = _decode_addresses(value, "ADDRESS_REQUEST")
    if not entries:
        raise _malformed("ADDRESS_REQUEST without an entry (RFC 9484 §4.7.2)")
    ids = [entry.request_id for entry in entries]
    if 0 in ids or len(set(ids)) != len(ids):
        raise _malformed("ADDRESS_REQUEST with Request ID 0, or one twice")
    return entries


def _decode_addresses(value: bytes, what: str) -> list[Assigned]:
    reader = Reader(value)
    out: list[Assigned] = []
    try:
        while reader.left:
            request_id = reader.varint()
            address = _address(reader, what)
            length = reader.uint(1)
            if length > address.max_prefixlen:
                raise _malformed(f"{what}: prefix length {length} of an IPv{address.version} address")
            try:
                network = ip_network((address, length))
            except ValueError:
                raise _malformed(f"{what}: bits below the prefix are not zero (RFC 9484 §4.7.1)") from None
            out.append(Assigned(request_id, network))
            if len(out) > ENTRIES_MOST:
                raise _malformed(f"{what} with more than {ENTRIES_MOST} entries")
    except ReadError as error:
        raise _malformed(f"{what}: {error}") from None
    return out


def decode_routes(value: bytes) -> list[Route]:
    """The whole new list of routes: sorted, without overlap (RFC 9484 §4.7.3)."""
    what = "ROUTE_ADVERTISEMENT"
    reader = Reader(value)
    out: list[Route] = []
    try:
        while reader.left:
            start = _address(reader, what)
            end = ip_address(reader.octets(4 if start.version == 4 else 16))
            route = Route(start, end, reader.uint(1))
            if int(route.start) > int(route.end):
                raise _malformed(f"{what}: a range ends before it starts")
            if out and not _follows(out[-1], route):
                raise _malformed(f"{what}: ranges are not in order, or overlap")
            out.append(route)
            if len(out) > ENTRIES_MOST:
                raise _malformed(f"{what} with more than {ENTRIES_MOST} entries")
    except ReadError as error:
        raise _malformed(f"{what}: {error}") from None
    everything = [route for route in out if route.protocol == 0]
    for route in out:
        if route.protocol and any(
            other.start.version == route.start.version
            and int(other.start) <= int(route.end)
            and int(route.start) <= int(other.end)
            for other in everything
        ):
            raise _malformed(f"{what}: a range of one protocol overlaps one of all protocols")
    return out


def _follows(a: Route, b: Route) -> bool:
    if (a.start.version, a.protocol) == (b.start.version, b.protocol):
        return int(a.end) < int(b.start)
    return (a.start.version, a.protocol) < (b.start.version, b.protocol)


def _address(reader: Reader, what: str) -> Address:
    version = reader.uint(1)
    if version == 4:
        return IPv4Address(reader.octets(4))
    if version == 6:
        return IPv6Address(reader.octets(16))
    raise _malformed(f"{what}: IP version {version}")
