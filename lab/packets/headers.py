"""QUIC packet headers as they stand on the wire, before header protection is removed (RFC 9000 §17)."""

from __future__ import annotations

from dataclasses import dataclass

from lab.packets.errors import PacketError
from lab.packets.varint import read_varint, take

CID_LENGTH = 8          # of every connection ID that our endpoints issue
CID_MAX = 20            # RFC 9000 §17.2
VERSION_1 = 1
LONG_KINDS = ("initial", "0rtt", "handshake", "retry")


@dataclass(slots=True)
class Header:
    kind: str           # initial, 0rtt, handshake, retry, 1rtt, version-negotiation
    dcid: bytes
    scid: bytes         # empty for 1rtt
    token: bytes        # of an Initial or a Retry
    pn_offset: int      # from the packet's first octet; 0 where there is no packet number
    end: int            # offset in the datagram behind this packet


def read_header(data: bytes, start: int, cid_length: int = CID_LENGTH) -> Header:
    """The packet that starts at `start` of a datagram. cid_length: octets of the connection ID in a short header, which does not
    say it (RFC 9000 §17.3.1)."""
    first = data[start]
    if first & 0x80:
        return _read_long(data, start)
    if not first & 0x40:
        raise PacketError("QUIC packet", "the fixed bit is 0", start)
    dcid, _ = take(data, start + 1, cid_length, "short header")
    return Header("1rtt", dcid, b"", b"", 1 + cid_length, len(data))


def _read_long(data: bytes, start: int) -> Header:
    version_octets, offset = take(data, start + 1, 4, "long header")
    version = int.from_bytes(version_octets, "big")
    dcid, offset = _read_cid(data, offset)
    scid, offset = _read_cid(data, offset)
    if version == 0:
        return Header("version-negotiation", dcid, scid, b"", 0, len(data))
    if version != VERSION_1:
        raise PacketError("QUIC packet", f"version 0x{version:08x} is not 1", start + 1)
    if not data[start] & 0x40:
        raise PacketError("QUIC packet", "the fixed bit is 0", start)
    kind = LONG_KINDS[(data[start] >> 4) & 3]
    if kind == "retry":
        if len(data) - offset < 16:
            raise PacketError("Retry", "no room for its integrity tag", offset)
        return Header(kind, dcid, scid, data[offset:-16], 0, len(data))
    token = b""
    if kind == "initial":
        length, offset = read_varint(data, offset)
        token, offset = take(data, offset, length, "Initial token")
    length, offset = read_varint(data, offset)
    if length > len(data) - offset:
        raise PacketError("QUIC packet", f"length {length}, but {len(data) - offset} octets are there", offset)
    return Header(kind, dcid, scid, token, offset - start, offset + length)


def _read_cid(data: bytes, offset: int) -> tuple[bytes, int]:
    octet, offset = take(data, offset, 1, "connection ID")
    if octet[0] > CID_MAX:
        raise PacketError("connection ID", f"{octet[0]} octets, at most {CID_MAX} in version 1", offset)
    return take(data, offset, octet[0], "connection ID")


def decode_packet_number(truncated: int, bits: int, largest: int) -> int:
    """RFC 9000 Appendix A.3; largest is -1 when nothing was received in the space."""
    expected = largest + 1
    window = 1 << bits
    half = window >> 1
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - half and candidate + window < 1 << 62:
        return candidate + window
    if candidate > expected + half and candidate >= window:
        return candidate - window
    return candidate
