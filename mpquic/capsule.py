"""Capsules in the data of a request stream (RFC 9297 §3.2): Type (i), Length (i), Value."""

from __future__ import annotations

from dataclasses import dataclass

from mpquic.errors import H3StreamError
from mpquic.h3_codes import Code
from mpquic.reader import Reader, ReadError, varint

DATAGRAM = 0x00  # RFC 9297 §3.5
VALUE_MOST = 65536  # octets of a capsule that is understood; others are skipped, whatever their length
_HEADER_MOST = 16


@dataclass(frozen=True, slots=True)
class Capsule:
    type: int
    value: bytes

    def encode(self) -> bytes:
        return varint(self.type) + varint(len(self.value)) + self.value


class CapsuleReader:
    """Octets of the stream in, whole capsules of the known types out."""

    def __init__(self, known: frozenset[int]) -> None:
        self._known = known
        self._buffer = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[Capsule]:
        out: list[Capsule] = []
        self._buffer += data
        while self._buffer:
            if self._skip:
                count = min(self._skip, len(self._buffer))
                del self._buffer[:count]
                self._skip -= count
                continue
            reader = Reader(bytes(self._buffer[:_HEADER_MOST]))
            try:
                type_, length = reader.varint(), reader.varint()
            except ReadError:
                return out  # the rest of the header is to come
            if type_ not in self._known:  # RFC 9297 §3.2: skipped silently
                del self._buffer[: reader.position]
                self._skip = length
                continue
            if length > VALUE_MOST:
                raise H3StreamError(Code.MESSAGE_ERROR, f"capsule 0x{type_:x} of {length} octets")
            if len(self._buffer) < reader.position + length:
                return out
            out.append(Capsule(type_, bytes(self._buffer[reader.position : reader.position + length])))
            del self._buffer[: reader.position + length]
        return out

    def end(self) -> None:
        """FIN: a truncated capsule makes the message malformed (RFC 9297 §3.3)."""
        if self._buffer or self._skip:
            raise H3StreamError(Code.MESSAGE_ERROR, "the stream ends inside a capsule")
