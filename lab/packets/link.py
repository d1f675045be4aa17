"""From a captured frame to its UDP or TCP payload, and one line about an IP packet. No scapy: it must be fast."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from lab.packets.errors import PacketError

LINK_NULL, LINK_ETHERNET, LINK_RAW, LINK_LOOP, LINK_SLL = 0, 1, 101, 108, 113
LINK_IPV4, LINK_IPV6, LINK_EXPORTED_PDU, LINK_SLL2 = 228, 229, 252, 276
# Link type -> where its protocol stands, if anywhere, and where the IP header begins (https://www.tcpdump.org/linktypes.html)
LINKS: dict[int, tuple[int | None, int]] = {
    LINK_ETHERNET: (12, 14), LINK_SLL: (14, 16), LINK_SLL2: (0, 20), LINK_NULL: (None, 4), LINK_LOOP: (None, 4),
    LINK_RAW: (None, 0), LINK_IPV4: (None, 0), LINK_IPV6: (None, 0)}
UDP, TCP, ICMP, ICMPV6 = 17, 6, 1, 58
_PORTS = struct.Struct("!HH")


@dataclass(slots=True)
class Flow:
    """The addresses and the payload of one captured packet."""

    source: bytes           # 4 or 16 octets
    destination: bytes
    protocol: int
    source_port: int
    destination_port: int
    payload: bytes
    cut: bool               # the capture holds less than the packet had
    sequence: int = 0       # TCP
    flags: int = 0          # TCP


def read_link(linktype: int, data: bytes) -> Flow | None:
    """None: not IP over UDP or TCP. PacketError: IP that does not read."""
    known = LINKS.get(linktype)
    if known is None:
        return None
    at, start = known
    if at is not None:
        kind = data[at:at + 2]
        while linktype == LINK_ETHERNET and kind in (b"\x81\x00", b"\x88\xa8"):
            start += 4
            kind = data[start - 2:start]
        if kind not in (b"\x08\x00", b"\x86\xdd"):
            return None
    return read_ip(data, start)


def read_ip(data: bytes, start: int) -> Flow | None:
    if len(data) < start + 20:
        raise PacketError("IP", "shorter than a header", start)
    version = data[start] >> 4
    if version == 4:
        header = (data[start] & 15) * 4
        end = start + ((data[start + 2] << 8) | data[start + 3])
        if header < 20 or end < start + header:
            raise PacketError("IPv4", "bad length", start)
        if (data[start + 6] & 0x3F) or data[start + 7]:
            return None                                     # a fragment: we send none (DF is set)
        protocol = data[start + 9]
        source, destination = data[start + 12:start + 16], data[start + 16:start + 20]
        offset = start + header
    elif version == 6:
        if len(data) < start + 40:
            raise PacketError("IPv6", "shorter than a header", start)
        end = start + 40 + ((data[start + 4] << 8) | data[start + 5])
        protocol = data[start + 6]
        source, destination = data[start + 8:start + 24], data[start + 24:start + 40]
        offset = start + 40
    else:
        raise PacketError("IP", f"version {version}", start)
    if protocol == UDP:
        if len(data) < offset + 8:
            raise PacketError("UDP", "shorter than a header", offset)
        source_port, destination_port = _PORTS.unpack_from(data, offset)
        length = (data[offset + 4] << 8) | data[offset + 5]
        if length:
            end = min(end, offset + length)
        return Flow(source, destination, UDP, source_port, destination_port, data[offset + 8:end], end > len(data))
    if protocol == TCP:
        if len(data) < offset + 20:
            raise PacketError("TCP", "shorter than a header", offset)
        source_port, destination_port = _PORTS.unpack_from(data, offset)
        body = offset + (data[offset + 12] >> 4) * 4
        return Flow(source, destination, TCP, source_port, destination_port, data[body:end], end > len(data),
                    int.from_bytes(data[offset + 4:offset + 8], "big"), data[offset + 13])
    return None


def address_text(octets: bytes) -> str:
    return str(IPv4Address(octets) if len(octets) == 4 else IPv6Address(octets))


def tcp_flags_text(flags: int) -> str:
    return "".join(letter for bit, letter in zip((2, 16, 8, 1, 4), "SAPFR", strict=True) if flags & bit) or "-"


def ip_words(packet: bytes) -> str:
    """One line about an inner IP packet."""
    try:
        flow = read_ip(packet, 0)
    except PacketError as error:
        return f"not IP: {error.reason}"
    version = packet[0] >> 4
    if flow is not None:
        source_end = f"{address_text(flow.source)}:{flow.source_port}"
        ends = f"{source_end} > {address_text(flow.destination)}:{flow.destination_port}"
        if flow.protocol == UDP:
            return f"IPv{version} {ends} UDP {len(flow.payload)}"
        return f"IPv{version} {ends} TCP {tcp_flags_text(flow.flags)} seq {flow.sequence} len {len(flow.payload)}"
    if version == 4:
        source, destination, protocol = packet[12:16], packet[16:20], packet[9]
    else:
        source, destination, protocol = packet[8:24], packet[24:40], packet[6]
    name = {ICMP: "ICMP", ICMPV6: "ICMPv6"}.get(protocol, f"protocol {protocol}")
    return f"IPv{version} {address_text(source)} > {address_text(destination)} {name} {len(packet)}"
