"""QUIC frames as plain dataclasses: RFC 9000 §19, RFC 9221, RFC 10069 §4, and ACK_FREQUENCY.

This is the fast reader behind `mpq inspect` and the decryptor; lab.packets.quic has the same frames as scapy layers.
A frame is described by its `layout`: (field, kind) with kind one of
  i   varint            8, 16   that many octets
  L   octets with a one-octet length       V   octets with a varint length       R   octets to the end of the packet
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from lab.packets.errors import PacketError
from lab.packets.varint import read_varint, take, write_varint

Layout = tuple[tuple[str, str], ...]


class Frame:
    """One frame. `name` is that of the RFC, `type` the code point (of the simplest variant)."""

    __slots__ = ()
    name: ClassVar[str] = ""
    type: ClassVar[int] = -1
    layout: ClassVar[Layout] = ()

    def encode(self) -> bytes:
        return write_varint(self.type) + encode_fields(self, self.layout)

    def words(self) -> str:
        """One short phrase for a table or a comment."""
        parts = [self.name]
        for key, kind in self.layout:
            value = getattr(self, key)
            parts.append(f"{key} {value if kind == 'i' else value.hex()}")
        return " ".join(parts)


def encode_fields(frame: Frame, layout: Layout) -> bytes:
    out = []
    for key, kind in layout:
        value = getattr(frame, key)
        if kind == "i":
            out.append(write_varint(value))
        elif kind == "L":
            if len(value) > 255:
                raise PacketError(frame.name, f"{key} is longer than 255 octets")
            out.append(bytes((len(value),)) + value)
        elif kind == "V":
            out.append(write_varint(len(value)) + value)
        elif kind == "R":
            out.append(value)
        elif len(value) != int(kind):
            raise PacketError(frame.name, f"{key} must have {kind} octets")
        else:
            out.append(value)
    return b"".join(out)


def read_fields(name: str, layout: Layout, data: bytes, offset: int) -> tuple[list[Any], int]:
    values: list[Any] = []
    for key, kind in layout:
        value: Any
        if kind == "i":
            value, offset = read_varint(data, offset)
        elif kind == "R":
            value, offset = data[offset:], len(data)
        else:
            if kind == "L":
                if offset >= len(data):
                    raise PacketError(name, f"{key} is missing", offset)
                length, offset = data[offset], offset + 1
            elif kind == "V":
                length, offset = read_varint(data, offset)
            else:
                length = int(kind)
            value, offset = take(data, offset, length, name)
        values.append(value)
    return values, offset


# ---- RFC 9000 ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Padding(Frame):
    length: int = 1
    name: ClassVar[str] = "PADDING"
    type: ClassVar[int] = 0x00

    def encode(self) -> bytes:
        return bytes(self.length)

    def words(self) -> str:
        return f"PADDING {self.length}"


@dataclass(slots=True)
class Ping(Frame):
    name: ClassVar[str] = "PING"
    type: ClassVar[int] = 0x01


@dataclass(slots=True)
class Ack(Frame):
    """ranges: (lowest, highest) packet numbers, highest range first. delay is the raw field (ack_delay_exponent)."""

    ranges: list[tuple[int, int]]
    delay: int = 0
    ecn: tuple[int, int, int] | None = None
    name: ClassVar[str] = "ACK"
    type: ClassVar[int] = 0x02

    def encode(self) -> bytes:
        return write_varint(self.type + (self.ecn is not None)) + self._body()

    def _body(self) -> bytes:
        if not self.ranges:
            raise PacketError(self.name, "has no range")
        low, high = self.ranges[0]
        out = [high, self.delay, len(self.ranges) - 1, high - low]
        for next_low, next_high in self.ranges[1:]:
            out += (low - next_high - 2, next_high - next_low)
            low = next_low
        return b"".join(map(write_varint, out + list(self.ecn or ())))

    def words(self) -> str:
        return f"{self.name} {ranges_words(self.ranges)}"


@dataclass(slots=True)
class PathAck(Ack):
    """PATH_ACK (RFC 10069 §4.1)."""

    path: int = 0
    name: ClassVar[str] = "PATH_ACK"
    type: ClassVar[int] = 0x3E

    def encode(self) -> bytes:
        return write_varint(self.type + (self.ecn is not None)) + write_varint(self.path) + self._body()

    def words(self) -> str:
        return f"PATH_ACK path {self.path} {ranges_words(self.ranges)}"


def ranges_words(ranges: list[tuple[int, int]]) -> str:
    shown = ",".join(f"{low}-{high}" if low != high else str(low) for low, high in ranges[:4])
    return shown + (f",+{len(ranges) - 4}" if len(ranges) > 4 else "")


@dataclass(slots=True)
class ResetStream(Frame):
    stream: int
    error: int
    final_size: int
    name: ClassVar[str] = "RESET_STREAM"
    type: ClassVar[int] = 0x04
    layout: ClassVar[Layout] = (("stream", "i"), ("error", "i"), ("final_size", "i"))


@dataclass(slots=True)
class StopSending(Frame):
    stream: int
    error: int
    name: ClassVar[str] = "STOP_SENDING"
    type: ClassVar[int] = 0x05
    layout: ClassVar[Layout] = (("stream", "i"), ("error", "i"))


@dataclass(slots=True)
class Crypto(Frame):
    offset: int
    data: bytes
    name: ClassVar[str] = "CRYPTO"
    type: ClassVar[int] = 0x06
    layout: ClassVar[Layout] = (("offset", "i"), ("data", "V"))

    def words(self) -> str:
        return f"CRYPTO {self.offset}+{len(self.data)}"


@dataclass(slots=True)
class NewToken(Frame):
    token: bytes = field(repr=False)
    name: ClassVar[str] = "NEW_TOKEN"
    type: ClassVar[int] = 0x07
    layout: ClassVar[Layout] = (("token", "V"),)

    def words(self) -> str:
        return f"NEW_TOKEN {len(self.token)} octets"


@dataclass(slots=True)
class Stream(Frame):
    """STREAM 0x08..0x0f. `has_length` False: the data runs to the end of the packet."""

    stream: int
    data: bytes
    offset: int = 0
    fin: bool = False
    has_length: bool = True
    name: ClassVar[str] = "STREAM"
    type: ClassVar[int] = 0x08

    def encode(self) -> bytes:
        kind = 0x08 | (0x04 if self.offset else 0) | (0x02 if self.has_length else 0) | (0x01 if self.fin else 0)
        head = bytes((kind,)) + write_varint(self.stream) + (write_varint(self.offset) if self.offset else b"")
        return head + (write_varint(len(self.data)) if self.has_length else b"") + self.data

    def words(self) -> str:
        return f"STREAM {self.stream} {self.offset}+{len(self.data)}{' fin' if self.fin else ''}"


@dataclass(slots=True)
class MaxData(Frame):
    maximum: int
    name: ClassVar[str] = "MAX_DATA"
    type: ClassVar[int] = 0x10
    layout: ClassVar[Layout] = (("maximum", "i"),)


@dataclass(slots=True)
class MaxStreamData(Frame):
    stream: int
    maximum: int
    name: ClassVar[str] = "MAX_STREAM_DATA"
    type: ClassVar[int] = 0x11
    layout: ClassVar[Layout] = (("stream", "i"), ("maximum", "i"))


@dataclass(slots=True)
class MaxStreamsBidi(Frame):
    maximum: int
    name: ClassVar[str] = "MAX_STREAMS_BIDI"
    type: ClassVar[int] = 0x12
    layout: ClassVar[Layout] = (("maximum", "i"),)


@dataclass(slots=True)
class MaxStreamsUni(Frame):
    maximum: int
    name: ClassVar[str] = "MAX_STREAMS_UNI"
    type: ClassVar[int] = 0x13
    layout: ClassVar[Layout] = (("maximum", "i"),)


@dataclass(slots=True)
class DataBlocked(Frame):
    limit: int
    name: ClassVar[str] = "DATA_BLOCKED"
    type: ClassVar[int] = 0x14
    layout: ClassVar[Layout] = (("limit", "i"),)


@dataclass(slots=True)
class StreamDataBlocked(Frame):
    stream: int
    limit: int
    name: ClassVar[str] = "STREAM_DATA_BLOCKED"
    type: ClassVar[int] = 0x15
    layout: ClassVar[Layout] = (("stream", "i"), ("limit", "i"))


@dataclass(slots=True)
class StreamsBlockedBidi(Frame):
    limit: int
    name: ClassVar[str] = "STREAMS_BLOCKED_BIDI"
    type: ClassVar[int] = 0x16
    layout: ClassVar[Layout] = (("limit", "i"),)


@dataclass(slots=True)
class StreamsBlockedUni(Frame):
    limit: int
    name: ClassVar[str] = "STREAMS_BLOCKED_UNI"
    type: ClassVar[int] = 0x17
    layout: ClassVar[Layout] = (("limit", "i"),)


@dataclass(slots=True)
class NewConnectionId(Frame):
    sequence: int
    retire_prior_to: int
    cid: bytes
    token: bytes = field(repr=False)
    name: ClassVar[str] = "NEW_CONNECTION_ID"
    type: ClassVar[int] = 0x18
    layout: ClassVar[Layout] = (("sequence", "i"), ("retire_prior_to", "i"), ("cid", "L"), ("token", "16"))

    def words(self) -> str:
        return f"NEW_CONNECTION_ID seq {self.sequence} cid {self.cid.hex()}"


@dataclass(slots=True)
class RetireConnectionId(Frame):
    sequence: int
    name: ClassVar[str] = "RETIRE_CONNECTION_ID"
    type: ClassVar[int] = 0x19
    layout: ClassVar[Layout] = (("sequence", "i"),)


@dataclass(slots=True)
class PathChallenge(Frame):
    data: bytes
    name: ClassVar[str] = "PATH_CHALLENGE"
    type: ClassVar[int] = 0x1A
    layout: ClassVar[Layout] = (("data", "8"),)


@dataclass(slots=True)
class PathResponse(Frame):
    data: bytes
    name: ClassVar[str] = "PATH_RESPONSE"
    type: ClassVar[int] = 0x1B
    layout: ClassVar[Layout] = (("data", "8"),)


@dataclass(slots=True)
class ConnectionClose(Frame):
    """CONNECTION_CLOSE 0x1c: an error of the transport."""

    error: int
    frame_type: int
    reason: bytes
    name: ClassVar[str] = "CONNECTION_CLOSE"
    type: ClassVar[int] = 0x1C
    layout: ClassVar[Layout] = (("error", "i"), ("frame_type", "i"), ("reason", "V"))

    def words(self) -> str:
        return f"CONNECTION_CLOSE transport 0x{self.error:x} {printable(self.reason)}".rstrip()


@dataclass(slots=True)
class ApplicationClose(Frame):
    """CONNECTION_CLOSE 0x1d: by the application."""

    error: int
    reason: bytes
    name: ClassVar[str] = "CONNECTION_CLOSE_APP"
    type: ClassVar[int] = 0x1D
    layout: ClassVar[Layout] = (("error", "i"), ("reason", "V"))

    def words(self) -> str:
        return f"CONNECTION_CLOSE application 0x{self.error:x} {printable(self.reason)}".rstrip()


def printable(text: bytes) -> str:
    """A peer's text, safe for a terminal."""
    return "".join(chr(c) if 0x20 <= c < 0x7F else "." for c in text[:64])


@dataclass(slots=True)
class HandshakeDone(Frame):
    name: ClassVar[str] = "HANDSHAKE_DONE"
    type: ClassVar[int] = 0x1E


@dataclass(slots=True)
class ImmediateAck(Frame):
    name: ClassVar[str] = "IMMEDIATE_ACK"
    type: ClassVar[int] = 0x1F


@dataclass(slots=True)
class AckFrequency(Frame):
    sequence: int
    threshold: int
    max_ack_delay: int
    reordering: int
    name: ClassVar[str] = "ACK_FREQUENCY"
    type: ClassVar[int] = 0xAF
    layout: ClassVar[Layout] = (("sequence", "i"), ("threshold", "i"), ("max_ack_delay", "i"), ("reordering", "i"))


# ---- RFC 9221 ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Datagram(Frame):
    """DATAGRAM 0x30 (to the end of the packet) or 0x31 (with a length)."""

    data: bytes = field(repr=False)
    has_length: bool = True
    name: ClassVar[str] = "DATAGRAM"
    type: ClassVar[int] = 0x30

    def encode(self) -> bytes:
        return b"\x31" + write_varint(len(self.data)) + self.data if self.has_length else b"\x30" + self.data

    def words(self) -> str:
        return f"DATAGRAM {len(self.data)}"


# ---- RFC 10069 -----------------------------------------------------------------------------------


@dataclass(slots=True)
class PathAbandon(Frame):
    path: int
    error: int
    name: ClassVar[str] = "PATH_ABANDON"
    type: ClassVar[int] = 0x3E75
    layout: ClassVar[Layout] = (("path", "i"), ("error", "i"))


@dataclass(slots=True)
class PathStatusBackup(Frame):
    path: int
    sequence: int
    name: ClassVar[str] = "PATH_STATUS_BACKUP"
    type: ClassVar[int] = 0x3E76
    layout: ClassVar[Layout] = (("path", "i"), ("sequence", "i"))


@dataclass(slots=True)
class PathStatusAvailable(Frame):
    path: int
    sequence: int
    name: ClassVar[str] = "PATH_STATUS_AVAILABLE"
    type: ClassVar[int] = 0x3E77
    layout: ClassVar[Layout] = (("path", "i"), ("sequence", "i"))


@dataclass(slots=True)
class PathNewConnectionId(Frame):
    path: int
    sequence: int
    retire_prior_to: int
    cid: bytes
    token: bytes = field(repr=False)
    name: ClassVar[str] = "PATH_NEW_CONNECTION_ID"
    type: ClassVar[int] = 0x3E78
    layout: ClassVar[Layout] = (
        ("path", "i"), ("sequence", "i"), ("retire_prior_to", "i"), ("cid", "L"), ("token", "16"),
    )

    def words(self) -> str:
        return f"PATH_NEW_CONNECTION_ID path {self.path} seq {self.sequence} cid {self.cid.hex()}"


@dataclass(slots=True)
class PathRetireConnectionId(Frame):
    path: int
    sequence: int
    name: ClassVar[str] = "PATH_RETIRE_CONNECTION_ID"
    type: ClassVar[int] = 0x3E79
    layout: ClassVar[Layout] = (("path", "i"), ("sequence", "i"))


@dataclass(slots=True)
class MaxPathId(Frame):
    maximum: int
    name: ClassVar[str] = "MAX_PATH_ID"
    type: ClassVar[int] = 0x3E7A
    layout: ClassVar[Layout] = (("maximum", "i"),)


@dataclass(slots=True)
class PathsBlocked(Frame):
    maximum: int
    name: ClassVar[str] = "PATHS_BLOCKED"
    type: ClassVar[int] = 0x3E7B
    layout: ClassVar[Layout] = (("maximum", "i"),)


@dataclass(slots=True)
class PathCidsBlocked(Frame):
    path: int
    next_sequence: int
    name: ClassVar[str] = "PATH_CIDS_BLOCKED"
    type: ClassVar[int] = 0x3E7C
    layout: ClassVar[Layout] = (("path", "i"), ("next_sequence", "i"))


# ---- reading -------------------------------------------------------------------------------------

PLAIN_FRAMES: tuple[type[Frame], ...] = (
    Ping, ResetStream, StopSending, Crypto, NewToken, MaxData, MaxStreamData, MaxStreamsBidi, MaxStreamsUni,
    DataBlocked, StreamDataBlocked, StreamsBlockedBidi, StreamsBlockedUni, NewConnectionId, RetireConnectionId,
    PathChallenge, PathResponse, ConnectionClose, ApplicationClose, HandshakeDone, ImmediateAck, AckFrequency,
    PathAbandon, PathStatusBackup, PathStatusAvailable, PathNewConnectionId, PathRetireConnectionId, MaxPathId,
    PathsBlocked, PathCidsBlocked,
)
Reader = Callable[[int, bytes, int], tuple[Frame, int]]


def _read_plain(cls: type[Frame]) -> Reader:
    make: Callable[..., Frame] = cls

    def read(_kind: int, data: bytes, offset: int) -> tuple[Frame, int]:
        values, offset = read_fields(cls.name, cls.layout, data, offset)
        return make(*values), offset

    return read


def _read_padding(_kind: int, data: bytes, offset: int) -> tuple[Frame, int]:
    start = offset - 1
    rest = len(data) - offset
    offset += rest - len(data[offset:].lstrip(b"\0"))
    return Padding(offset - start), offset


def _read_ranges(name: str, ecn: bool, data: bytes, offset: int) -> tuple[list[tuple[int, int]], int,
                                                                      tuple[int, int, int] | None, int]:
    start = offset
    largest, offset = read_varint(data, offset)
    delay, offset = read_varint(data, offset)
    count, offset = read_varint(data, offset)
    first, offset = read_varint(data, offset)
    low = largest - first
    ranges = [(low, largest)]
    if count * 2 > len(data) - offset:      # each further range takes two octets at least: no loop that a peer sizes
        raise PacketError(name, "more ranges announced than octets left", start)
    for _ in range(count):
        gap, offset = read_varint(data, offset)
        length, offset = read_varint(data, offset)
        high = low - gap - 2
        low = high - length
        ranges.append((low, high))
    if low < 0:
        raise PacketError(name, "a range below packet number 0", start)      # RFC 9000 §19.3.1
    counts = None
    if ecn:
        a, offset = read_varint(data, offset)
        b, offset = read_varint(data, offset)
        c, offset = read_varint(data, offset)
        counts = (a, b, c)
    return ranges, delay, counts, offset


def _read_ack(kind: int, data: bytes, offset: int) -> tuple[Frame, int]:
    ranges, delay, ecn, offset = _read_ranges("ACK", kind == 0x03, data, offset)
    return Ack(ranges, delay, ecn), offset


def _read_path_ack(kind: int, data: bytes, offset: int) -> tuple[Frame, int]:
    path, offset = read_varint(data, offset)
    ranges, delay, ecn, offset = _read_ranges("PATH_ACK", kind == 0x3F, data, offset)
    return PathAck(ranges, delay, ecn, path), offset


def _read_stream(kind: int, data: bytes, offset: int) -> tuple[Frame, int]:
    stream, offset = read_varint(data, offset)
    position = 0
    if kind & 0x04:
        position, offset = read_varint(data, offset)
    if kind & 0x02:
        length, offset = read_varint(data, offset)
        body, offset = take(data, offset, length, "STREAM")
    else:
        body, offset = data[offset:], len(data)
    return Stream(stream, body, position, bool(kind & 0x01), bool(kind & 0x02)), offset


def _read_datagram(kind: int, data: bytes, offset: int) -> tuple[Frame, int]:
    if kind == 0x30:
        return Datagram(data[offset:], False), len(data)
    length, offset = read_varint(data, offset)
    body, offset = take(data, offset, length, "DATAGRAM")
    return Datagram(body, True), offset


READERS: dict[int, Reader] = {cls.type: _read_plain(cls) for cls in PLAIN_FRAMES}
READERS |= {0x00: _read_padding, 0x02: _read_ack, 0x03: _read_ack, 0x3E: _read_path_ack, 0x3F: _read_path_ack,
            0x30: _read_datagram, 0x31: _read_datagram}
READERS |= dict.fromkeys(range(0x08, 0x10), _read_stream)
ALL_FRAMES: tuple[type[Frame], ...] = (*PLAIN_FRAMES, Padding, Ack, PathAck, Stream, Datagram)
FRAME_NAMES: tuple[str, ...] = tuple(sorted({cls.name for cls in ALL_FRAMES}))


def read_frame(data: bytes, offset: int) -> tuple[Frame, int]:
    kind, after = read_varint(data, offset)
    reader = READERS.get(kind)
    if reader is None:
        raise PacketError("frame", f"unknown type 0x{kind:x}", offset)
    return reader(kind, data, after)


def read_frames(data: bytes) -> tuple[list[Frame], PacketError | None]:
    """All frames up to the first that does not read, and why that one does not."""
    frames: list[Frame] = []
    offset, end = 0, len(data)
    try:
        while offset < end:
            frame, offset = read_frame(data, offset)
            frames.append(frame)
    except PacketError as error:
        return frames, error
    return frames, None


def encode_frames(frames: Iterable[Frame]) -> bytes:
    return b"".join(frame.encode() for frame in frames)
