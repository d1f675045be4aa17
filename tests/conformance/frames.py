"""QUIC frames as octets and back (RFC 9000 §19, RFC 9221 §4, RFC 10069 §4), independent of the engine's parser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

PADDING, PING, ACK, ACK_ECN, CRYPTO, NEW_TOKEN = 0x00, 0x01, 0x02, 0x03, 0x06, 0x07
NEW_CONNECTION_ID, RETIRE_CONNECTION_ID, PATH_CHALLENGE, PATH_RESPONSE = 0x18, 0x19, 0x1A, 0x1B
CLOSE, CLOSE_APPLICATION, HANDSHAKE_DONE, DATAGRAM, DATAGRAM_LENGTH = 0x1C, 0x1D, 0x1E, 0x30, 0x31
PATH_ACK, PATH_ACK_ECN = 0x3E, 0x3F
PATH_ABANDON, PATH_STATUS_BACKUP, PATH_STATUS_AVAILABLE, PATH_NEW_CONNECTION_ID = 0x3E75, 0x3E76, 0x3E77, 0x3E78
PATH_RETIRE_CONNECTION_ID, MAX_PATH_ID, PATHS_BLOCKED, PATH_CIDS_BLOCKED = 0x3E79, 0x3E7A, 0x3E7B, 0x3E7C
MULTIPATH = {PATH_ACK, PATH_ACK_ECN, *range(PATH_ABANDON, PATH_CIDS_BLOCKED + 1)}
NOT_ELICITING = {PADDING, ACK, ACK_ECN, PATH_ACK, PATH_ACK_ECN, CLOSE, CLOSE_APPLICATION}

# Fields after the type that are plain varints, in their order.
VARINTS: dict[int, tuple[str, ...]] = {
    PING: (),
    HANDSHAKE_DONE: (),
    0x04: ("stream", "code", "size"),
    0x05: ("stream", "code"),
    0x10: ("limit",),
    0x11: ("stream", "limit"),
    0x12: ("limit",),
    0x13: ("limit",),
    0x14: ("limit",),
    0x15: ("stream", "limit"),
    0x16: ("limit",),
    0x17: ("limit",),
    RETIRE_CONNECTION_ID: ("sequence",),
    PATH_ABANDON: ("path", "code"),
    PATH_STATUS_BACKUP: ("path", "sequence"),
    PATH_STATUS_AVAILABLE: ("path", "sequence"),
    PATH_RETIRE_CONNECTION_ID: ("path", "sequence"),
    MAX_PATH_ID: ("path",),
    PATHS_BLOCKED: ("path",),
    PATH_CIDS_BLOCKED: ("path", "sequence"),
}


def varint(value: int) -> bytes:
    for bits, prefix in ((6, 0), (14, 1), (30, 2), (62, 3)):
        if value < 1 << bits:
            return (value | prefix << bits).to_bytes((bits + 2) // 8, "big")
    raise ValueError(value)


def frame(kind: int, *values: int) -> bytes:
    """Type and fields, all varints."""
    return b"".join(map(varint, (kind, *values)))


def ack(*pns: int, path: int | None = None, delay: int = 0, ecn: tuple[int, int, int] | None = None) -> bytes:
    """ACK (path None) or PATH_ACK of exactly these packet numbers."""
    numbers = sorted(set(pns), reverse=True)
    ranges: list[list[int]] = []
    for pn in numbers:
        if ranges and ranges[-1][0] == pn + 1:
            ranges[-1][0] = pn
        else:
            ranges.append([pn, pn])
    kind = (ACK if path is None else PATH_ACK) + (ecn is not None)
    fields = [*([] if path is None else [path]), numbers[0], delay, len(ranges) - 1, ranges[0][1] - ranges[0][0]]
    for before, this in itertools.pairwise(ranges):
        fields += [before[0] - this[1] - 2, this[1] - this[0]]
    return frame(kind, *fields, *(ecn or ()))


def new_cid(path: int | None, sequence: int, retire: int, cid: bytes, token: bytes) -> bytes:
    """NEW_CONNECTION_ID (path None) or PATH_NEW_CONNECTION_ID."""
    head = frame(NEW_CONNECTION_ID) if path is None else frame(PATH_NEW_CONNECTION_ID, path)
    return head + varint(sequence) + varint(retire) + bytes([len(cid)]) + cid + token


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    fields: dict[str, int] = field(default_factory=dict)
    data: bytes = b""
    token: bytes = b""
    acked: tuple[int, ...] = ()

    @property
    def path(self) -> int:
        """The path it names; 0 for the frames of RFC 9000."""
        return self.fields.get("path", 0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def varint(self) -> int:
        size = 1 << (self.data[self.at] >> 6)
        value = int.from_bytes(self.octets(size), "big")
        return value & ((1 << (8 * size - 2)) - 1)

    def octets(self, n: int) -> bytes:
        piece = self.data[self.at : self.at + n]
        if len(piece) != n:
            raise ValueError("frame is cut short")
        self.at += n
        return piece


def _acknowledgement(r: _Reader, kind: int) -> Frame:
    fields = {"path": r.varint()} if kind >= PATH_ACK else {}
    largest, fields["delay"], count, first = r.varint(), r.varint(), r.varint(), r.varint()
    low = largest - first
    acked = list(range(low, largest + 1))
    for _ in range(count):
        high = low - r.varint() - 2
        low = high - r.varint()
        acked += range(low, high + 1)
    if kind & 1:
        fields |= {"ect0": r.varint(), "ect1": r.varint(), "ce": r.varint()}
    return Frame(kind, fields | {"largest": largest}, acked=tuple(acked))


def parse(payload: bytes) -> Iterator[Frame]:
    """All frames of a packet; runs of PADDING are one."""
    r = _Reader(payload)
    while r.at < len(payload):
        kind = r.varint()
        if kind == PADDING:
            while r.at < len(payload) and not payload[r.at]:
                r.at += 1
            yield Frame(kind)
        elif kind in (ACK, ACK_ECN, PATH_ACK, PATH_ACK_ECN):
            yield _acknowledgement(r, kind)
        elif kind in VARINTS:
            yield Frame(kind, {name: r.varint() for name in VARINTS[kind]})
        elif kind == CRYPTO:
            offset = r.varint()
            yield Frame(kind, {"offset": offset}, r.octets(r.varint()))
        elif kind == NEW_TOKEN:
            yield Frame(kind, data=r.octets(r.varint()))
        elif kind in (NEW_CONNECTION_ID, PATH_NEW_CONNECTION_ID):
            fields = {"path": r.varint() if kind == PATH_NEW_CONNECTION_ID else 0}
            fields |= {"sequence": r.varint(), "retire": r.varint()}
            yield Frame(kind, fields, r.octets(r.octets(1)[0]), r.octets(16))
        elif kind in (PATH_CHALLENGE, PATH_RESPONSE):
            yield Frame(kind, data=r.octets(8))
        elif kind in (CLOSE, CLOSE_APPLICATION):
            code = r.varint()
            frame_type = r.varint() if kind == CLOSE else 0
            yield Frame(kind, {"code": code, "frame": frame_type}, r.octets(r.varint()))
        elif kind in (DATAGRAM, DATAGRAM_LENGTH):
            yield Frame(kind, data=r.octets(r.varint() if kind == DATAGRAM_LENGTH else len(payload) - r.at))
        elif 0x08 <= kind <= 0x0F:
            fields = {"stream": r.varint(), "offset": r.varint() if kind & 4 else 0, "fin": kind & 1}
            yield Frame(kind, fields, r.octets(r.varint() if kind & 2 else len(payload) - r.at))
        else:
            raise ValueError(f"unknown frame type 0x{kind:x}")
