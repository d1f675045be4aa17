"""HTTP datagrams, HTTP/3 frames and capsules (RFC 9297, RFC 9114 §7, RFC 9484 §4.7), plain and bounded."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from lab.packets.errors import PacketError
from lab.packets.varint import read_varint, take, write_varint

H3_FRAMES: dict[int, str] = {0x00: "DATA", 0x01: "HEADERS", 0x03: "CANCEL_PUSH", 0x04: "SETTINGS", 0x05: "PUSH_PROMISE",
                             0x07: "GOAWAY", 0x0D: "MAX_PUSH_ID"}
H3_STREAMS: dict[int, str] = {0x00: "control", 0x01: "push", 0x02: "qpack-encoder", 0x03: "qpack-decoder"}
H3_SETTINGS: dict[int, str] = {0x01: "QPACK_MAX_TABLE_CAPACITY", 0x06: "MAX_FIELD_SECTION_SIZE",
                               0x07: "QPACK_BLOCKED_STREAMS", 0x08: "ENABLE_CONNECT_PROTOCOL", 0x33: "H3_DATAGRAM"}
CAPSULES: dict[int, str] = {0x00: "DATAGRAM", 0x01: "ADDRESS_ASSIGN", 0x02: "ADDRESS_REQUEST",
                            0x03: "ROUTE_ADVERTISEMENT"}
SEQUENCED_CONTEXT, SEQUENCE_LENGTH = 2, 4  # docs/sequenced_datagrams.md
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read_http_datagram(data: bytes) -> tuple[int, int, bytes]:
    """Quarter Stream ID, Context ID, and what they carry (context 0: one IP packet; 2: one behind its sequence number)."""
    quarter, offset = read_varint(data, 0)
    context, offset = read_varint(data, offset)
    return quarter, context, data[offset:]


def inner_packet(data: bytes) -> bytes | None:
    """The session's IP packet inside a DATAGRAM frame, or None when it is none."""
    try:
        _, context, packet = read_http_datagram(data)
    except PacketError:
        return None
    if context == SEQUENCED_CONTEXT:
        context, packet = 0, packet[SEQUENCE_LENGTH:]
    return packet if context == 0 and packet and packet[0] >> 4 in (4, 6) else None


def read_typed(data: bytes) -> list[tuple[int, bytes, bool]]:
    """HTTP/3 frames or capsules (both are type, length, value): (type, value, whole). The last may be cut off."""
    out: list[tuple[int, bytes, bool]] = []
    offset = 0
    while offset < len(data):
        try:
            kind, after = read_varint(data, offset)
            length, after = read_varint(data, after)
        except PacketError:
            break
        value = data[after:after + length]
        out.append((kind, value, len(value) == length))
        offset = after + length
    return out


@dataclass(frozen=True, slots=True)
class Assigned:
    """An entry of ADDRESS_ASSIGN or ADDRESS_REQUEST."""

    request_id: int
    address: IpAddress
    prefix: int


@dataclass(frozen=True, slots=True)
class Route:
    start: IpAddress
    end: IpAddress
    protocol: int


def _read_address(data: bytes, offset: int, version: int) -> tuple[IpAddress, int]:
    if version not in (4, 6):
        raise PacketError("capsule", f"IP version {version}", offset)
    octets, offset = take(data, offset, 4 if version == 4 else 16, "capsule")
    return ipaddress.ip_address(octets), offset


def read_addresses(value: bytes) -> list[Assigned]:
    out, offset = [], 0
    while offset < len(value):
        request_id, offset = read_varint(value, offset)
        version, offset = take(value, offset, 1, "capsule")
        address, offset = _read_address(value, offset, version[0])
        prefix, offset = take(value, offset, 1, "capsule")
        out.append(Assigned(request_id, address, prefix[0]))
    return out


def read_routes(value: bytes) -> list[Route]:
    out, offset = [], 0
    while offset < len(value):
        version, offset = take(value, offset, 1, "capsule")
        start, offset = _read_address(value, offset, version[0])
        end, offset = _read_address(value, offset, version[0])
        protocol, offset = take(value, offset, 1, "capsule")
        out.append(Route(start, end, protocol[0]))
    return out


def capsule_words(kind: int, value: bytes) -> str:
    name = CAPSULES.get(kind, f"capsule 0x{kind:x}")
    try:
        if kind in (0x01, 0x02):
            entries = read_addresses(value)
            return f"{name} " + ", ".join(f"{a.address}/{a.prefix} (request {a.request_id})" for a in entries)
        if kind == 0x03:
            return f"{name} " + ", ".join(f"{r.start}-{r.end} protocol {r.protocol}" for r in read_routes(value))
    except PacketError as error:
        return f"{name} malformed: {error}"
    return f"{name} {len(value)} octets"


def write_typed(kind: int, value: bytes) -> bytes:
    return write_varint(kind) + write_varint(len(value)) + value
