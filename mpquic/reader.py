"""A cursor over octets from a peer: every read is checked, nothing is read beyond the end."""

from __future__ import annotations


class ReadError(ValueError):
    """The octets end too early, or too late. Callers turn it into the named error of their protocol."""


class Reader:
    __slots__ = ("_data", "_end", "position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._end = len(data)
        self.position = 0

    @property
    def left(self) -> int:
        return self._end - self.position

    def _short(self, count: int) -> ReadError:
        return ReadError(f"{count} octets wanted, {self.left} left")

    def octets(self, count: int) -> bytes:
        start = self.position
        end = start + count
        if end > self._end:
            raise self._short(count)
        self.position = end
        return self._data[start:end]

    def uint(self, size: int) -> int:
        start = self.position
        end = start + size
        if end > self._end:
            raise self._short(size)
        self.position = end
        return int.from_bytes(self._data[start:end], "big")

    def vector(self, size: int, least: int = 0, most: int | None = None) -> bytes:
        """A TLS vector with a length field of `size` octets."""
        length = self.uint(size)
        if length < least or (most is not None and length > most):
            raise ReadError(f"vector of {length} octets: {least} to {most} allowed")
        start = self.position
        end = start + length
        if end > self._end:
            raise self._short(length)
        self.position = end
        return self._data[start:end]

    def varint(self) -> int:
        """A QUIC variable-length integer (RFC 9000 §16)."""
        start = self.position
        if start < self._end and self._data[start] < 0x40:  # most are one octet long
            self.position = start + 1
            return self._data[start]
        found = peek_varint(self._data, start)
        if found is None:
            raise ReadError(f"a variable-length integer wanted, {self.left} octets left")
        value, self.position = found
        return value

    def rest(self) -> bytes:
        return self.octets(self.left)

    def end(self) -> None:
        if self.position < self._end:
            raise ReadError(f"{self.left} octets left over")


def varint(value: int) -> bytes:
    """The shortest encoding of a QUIC variable-length integer."""
    if value < 0x40:
        return value.to_bytes(1, "big")
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    if value < 0x4000000000000000:
        return (value | 0xC000000000000000).to_bytes(8, "big")
    raise ValueError(f"{value} does not fit a variable-length integer")


def peek_varint(buffer: bytearray | bytes, position: int) -> tuple[int, int] | None:
    """A variable-length integer and the position after it; None while it is incomplete."""
    if position >= len(buffer):
        return None
    first = buffer[position]
    if first < 0x40:
        return first, position + 1
    end = position + (1 << (first >> 6))
    if end > len(buffer):
        return None
    size = end - position
    return int.from_bytes(buffer[position:end], "big") & ((1 << (8 * size - 2)) - 1), end
