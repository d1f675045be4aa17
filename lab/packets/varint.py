"""Variable-length integers of QUIC (RFC 9000 §16)."""

from __future__ import annotations

from lab.packets.errors import PacketError

VARINT_MAX = (1 << 62) - 1
_MASK = {2: 0x3FFF, 4: 0x3FFFFFFF, 8: 0x3FFFFFFFFFFFFFFF}


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Value and the offset behind it."""
    try:
        first = data[offset]
    except IndexError:
        raise PacketError("varint", "data ends before it", offset) from None
    if first < 0x40:
        return first, offset + 1
    size = 1 << (first >> 6)
    end = offset + size
    if end > len(data):
        raise PacketError("varint", "truncated", offset)
    return int.from_bytes(data[offset:end], "big") & _MASK[size], end


def write_varint(value: int) -> bytes:
    """The shortest form."""
    if value < 0 or value > VARINT_MAX:
        raise PacketError("varint", f"{value} is outside 0..2^62-1")
    if value < 0x40:
        return bytes((value,))
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    return (value | 0xC000000000000000).to_bytes(8, "big")


def take(data: bytes, offset: int, length: int, what: str) -> tuple[bytes, int]:
    """`length` octets at offset, and the offset behind them."""
    end = offset + length
    if end > len(data):
        raise PacketError(what, f"{length} octets announced, {max(0, len(data) - offset)} there", offset)
    return data[offset:end], end
