"""qlog files as `mpq inspect` reads them: JSON-SEQ (RFC 7464), record by record, whatever stands in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
RECORD_MAX = 1 << 20            # octets of one record; a longer one is malformed
FILE_MAX = 1 << 30              # octets that are read of a file
TIME_MAX_MS = 1e13              # three hundred years
SUFFIX = ".sqlog"
ENDS = ("ue", "upf")
PIECE = 4096                    # plain packets that are told at once
LOST, FULL = "mpquic:records_lost", "mpquic:log_full"       # events in which a log tells of itself
OF_ITSELF = (LOST.encode(), FULL.encode())


class QlogError(Exception):
    """The file is no qlog that we read: the text says why."""


def beside(capture: Path) -> list[tuple[str, Path]]:
    """The logs of both ends of a run that are there, by end."""
    paths = [(end, capture.with_name(end + SUFFIX)) for end in ENDS]
    return [(end, path) for end, path in paths if path.is_file()]


_INTEGER = rb"(0|[1-9][0-9]{0,18})"
_PLAIN = re.compile(       # a packet with one DATAGRAM or without frames: almost every record is such a one
    rb'\{"time":([1-9][0-9]{0,11}|0)\.([0-9]{3}),"group_id":"([0-9a-f]{1,40})",(?:"tuple":"[0-9.]{1,20}",)?'
    rb'"name":"quic:packet_(sent|received)",'
    rb'"data":\{"header":\{"packet_type":"1RTT"(?:,"key_phase":(?:0|[1-9][0-9]{0,18}))?(?:,"path_id":' + _INTEGER + rb')?'
    rb',"packet_number":' + _INTEGER + rb'\},"raw":\{"length":' + _INTEGER + rb'\}'
    rb'(?:,"frames":\[\{"frame_type":"datagram"\}\])?\}\}\n')


# of a plain packet: milliseconds and their fraction, group, sent or received, path (None: 0), number, length; all in decimals
Plain = tuple[bytes, bytes, bytes, bytes, bytes | None, bytes, bytes]


@dataclass(slots=True)
class Record:
    """time_ns: of the log's own clock."""

    time_ns: int
    name: str
    group: str
    data: dict[str, Any]
    raw: bytes


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = _DECODER.decode(text.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


class QlogFile:
    """One pass: `for record in QlogFile(path)`. QlogError when it does not begin as a qlog in JSON-SEQ."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.malformed = 0              # records that do not read, or are no events
        self.lost = 0                   # records for which the ring of the engine had no room, as the log itself says
        self.full_ns: int | None = None     # when packets were told no more
        self.cut = False                # it goes on behind FILE_MAX
        self.name, self.role = path.stem, ""
        first = next(self._texts(), b"")
        head = _object(first)
        if head is None or not str(head.get("file_schema", "")).startswith("urn:ietf:params:qlog:file:sequential"):
            raise QlogError(f"{path}: this is no qlog in JSON-SEQ (urn:ietf:params:qlog:file:sequential)")
        trace = head.get("trace")
        trace = trace if isinstance(trace, dict) else {}
        point, common = trace.get("vantage_point"), trace.get("common_fields")
        if isinstance(point, dict):
            self.role = str(point.get("type", ""))[:16]
            self.name = str(point.get("name", "") or self.name)[:32]
        common = common if isinstance(common, dict) else {}
        if common.get("time_format", "relative_to_epoch") != "relative_to_epoch":
            raise QlogError(f"{path}: times are {str(common.get('time_format'))[:40]}; only relative_to_epoch is read")
        self._group = str(common.get("group_id", ""))

    def _texts(self, wanted: tuple[bytes, ...] = ()) -> Iterator[bytes]:
        """wanted: parts of the file without any of these may be passed over."""
        with self.path.open("rb") as file:
            left, size = b"", 0
            while chunk := file.read(CHUNK):
                size += len(chunk)
                if size > FILE_MAX:
                    self.cut = True
                    break
                whole = left + chunk
                if wanted and not any(mark in whole for mark in wanted):
                    left = whole[max(whole.rfind(b"\x1e"), 0):].removeprefix(b"\x1e")
                    if len(left) > RECORD_MAX:
                        left = b""
                    continue
                parts = whole.split(b"\x1e")
                left = parts.pop()
                yield from (part for part in parts if part)
                if len(left) > RECORD_MAX:
                    self.malformed += 1
                    left = b""          # its rest is malformed, too
            if left:
                yield left

    def __iter__(self) -> Iterator[Record]:
        texts = self._texts()
        next(texts, None)
        self.malformed = self.lost = 0
        for text in texts:
            record = self._record(text)
            if record is not None:
                self._note(record)
                yield record

    def pieces(self) -> Iterator[Record | list[Plain]]:
        """As iteration, but plain packets come many at a time, and only their numbers: six times as fast."""
        texts = self._texts()
        next(texts, None)
        self.malformed = self.lost = 0
        match, plain = _PLAIN.fullmatch, list[Plain]()
        for text in texts:
            found = match(text)
            if found is not None:
                plain.append(found.groups())  # type: ignore[arg-type]
                if len(plain) < PIECE:
                    continue
            if plain:
                yield plain
                plain = []
            if found is None:
                record = self._record(text)
                if record is not None:
                    self._note(record)
                    yield record
        if plain:
            yield plain

    def _record(self, text: bytes) -> Record | None:
        """None, and counted: it is no event that we read."""
        value = _object(text) if len(text) <= RECORD_MAX else None
        time, name, data = (value.get("time"), value.get("name"), value.get("data")) if value else (None, None, None)
        if (not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < TIME_MAX_MS
                or not isinstance(name, str) or not isinstance(data, dict)):
            self.malformed += 1
            return None
        assert value is not None
        return Record(round(time * 1e6), name, str(value.get("group_id", self._group)), data, text)

    def _note(self, record: Record) -> None:
        if record.name == LOST and isinstance(count := record.data.get("count"), int):
            self.lost += max(count, 0)
        elif record.name == FULL and self.full_ns is None:
            self.full_ns = record.time_ns

    def scan(self) -> None:
        """As a pass over it, but only for what the log tells of itself: `lost` and `full_ns`. Twenty times as fast."""
        self.malformed = self.lost = 0
        for text in self._texts(OF_ITSELF):
            record = self._record(text) if any(mark in text for mark in OF_ITSELF) else None
            if record is not None:
                self._note(record)

    def words(self) -> list[str]:
        """What a reader must know of it; call it after the pass."""
        out = []
        if self.lost:
            out.append(f"{self.lost} records were lost: the engine's ring had no room")
        if self.full_ns is not None:
            out.append("it was full: packets are told up to then only (mpquic:log_full)")
        if self.malformed:
            out.append(f"{self.malformed} records do not read")
        if self.cut:
            out.append(f"only its first {FILE_MAX >> 20} MiB were read")
        return [f"{self.path.name}: {text}" for text in out]
