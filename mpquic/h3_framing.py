"""HTTP/3 frames: Type (i), Length (i), Payload (RFC 9114 §7), cut out of a stream as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from mpquic.errors import H3Error
from mpquic.h3_codes import Code
from mpquic.reader import Reader, ReadError, peek_varint, varint


class Frame(IntEnum):
    DATA = 0x00
    HEADERS = 0x01
    CANCEL_PUSH = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    GOAWAY = 0x07
    MAX_PUSH_ID = 0x0D


RESERVED_FRAMES = (0x02, 0x06, 0x08, 0x09)  # of HTTP/2 (RFC 9114 §7.2.8)
KNOWN_FRAMES = frozenset(Frame) | frozenset(RESERVED_FRAMES)


def frame(kind: int, payload: bytes) -> bytes:
    return varint(kind) + varint(len(payload)) + payload


def only_varint(payload: bytes, name: str) -> int:
    reader = Reader(payload)
    try:
        value = reader.varint()
        reader.end()
    except ReadError as error:
        raise H3Error(Code.FRAME_ERROR, f"{name}: {error}") from None
    return value


@dataclass(slots=True)
class Framing:
    """Cuts one stream into frames. DATA comes in pieces, unknown frames are skipped as they come, others are kept whole
    within the bound that `check` allows."""

    buffer: bytearray = field(default_factory=bytearray)
    kind: int | None = None  # the frame that is open
    left: int = 0  # octets of it still to come

    def next(self, check: Callable[[int, int], None]) -> tuple[int, bytes] | None:
        """check(type, length) sees every header and raises for what may not come."""
        while True:
            if self.kind is None:
                kind = peek_varint(self.buffer, 0)
                length = peek_varint(self.buffer, kind[1]) if kind is not None else None
                if kind is None or length is None:
                    return None
                check(kind[0], length[0])
                self.kind, self.left = kind[0], length[0]
                del self.buffer[: length[1]]
            if self.kind == Frame.DATA or self.kind not in KNOWN_FRAMES:
                piece = bytes(self.buffer[: self.left])
                del self.buffer[: len(piece)]
                self.left -= len(piece)
                known = self.kind == Frame.DATA
                if not self.left:
                    self.kind = None
                if known and piece:
                    return int(Frame.DATA), piece
                if self.kind is not None:
                    return None
                continue
            if len(self.buffer) < self.left:
                return None
            kind_value, payload = self.kind, bytes(self.buffer[: self.left])
            del self.buffer[: self.left]
            self.kind, self.left = None, 0
            return kind_value, payload

    @property
    def inside(self) -> bool:
        return self.kind is not None or bool(self.buffer)
