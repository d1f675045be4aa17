"""qlog files as `mpq inspect` reads them: JSON-SEQ (RFC 7464), record by record, whatever stands in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from native import ffi, lib

CHUNK = 1 << 20
RECORD_MAX: int = lib.QLOG_RECORD_MAX       # octets of one record; a longer one is malformed
FILE_MAX = 1 << 30              # octets that are read of a file
TIME_MAX_MS = 9e12              # 285 years: nanoseconds have room in 63 bits
EXACT_MS = 1e9                  # later times (of a wall clock) are no more exact than microseconds: a float has 53 bits
SUFFIX = ".sqlog"
ENDS = ("ue", "upf")
SEPARATOR = b"\x1e"
LOST, FULL = "mpquic:records_lost", "mpquic:log_full"       # events in which a log tells of itself
OF_ITSELF = (LOST.encode(), FULL.encode())


class QlogError(Exception):
    """The file is no qlog that we read: the text says why."""


def beside(capture: Path) -> list[tuple[str, Path]]:
    """The logs of both ends of a run that are there, by end."""
    paths = [(end, capture.with_name(end + SUFFIX)) for end in ENDS]
    return [(end, path) for end, path in paths if path.is_file()]


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

    def _wholes(self, wanted: tuple[bytes, ...] = ()) -> Iterator[bytes]:
        """Parts of the file that begin at a record's first octet; each ends behind a separator, but for the last. wanted: those
        without any of these are passed over."""
        with self.path.open("rb") as file:
            left, size = b"", 0
            while chunk := file.read(CHUNK):
                size += len(chunk)
                if size > FILE_MAX:
                    self.cut = True
                    break
                whole = left + chunk
                end = whole.rfind(SEPARATOR) + 1
                left = whole[end:]
                if end and not (wanted and not any(mark in whole for mark in wanted)):
                    yield whole[:end]
                if len(left) > RECORD_MAX:
                    self.malformed += not wanted
                    left = b""          # its rest is malformed, too
            if left:
                yield left

    def _texts(self) -> Iterator[bytes]:
        """Records as they stand there."""
        for whole in self._wholes():
            yield from (text for text in whole.split(SEPARATOR) if text)

    def __iter__(self) -> Iterator[Record]:
        texts = self._texts()
        next(texts, None)
        self.malformed = self.lost = 0
        for text in texts:
            record = self._record(text)
            if record is not None:
                self._note(record)
                yield record

    def left_by(self, take: Callable[[bytes, int], int]) -> Iterator[Record]:
        """As iteration, without the records that `take` takes: given octets and the place where a record begins in them, it returns
        the place of the first that it leaves."""
        self.malformed = self.lost = 0
        first = True
        for whole in self._wholes():
            at = 0
            while at < len(whole):
                at = at if first else take(whole, at)
                end = whole.find(SEPARATOR, at)
                text = whole[at:end] if end >= 0 else whole[at:]
                at = end + 1 if end >= 0 else len(whole)
                if not text:
                    continue
                record = self._record(text) if not first else None
                first = False
                if record is not None:
                    self._note(record)
                    yield record

    def with_mark(self, mark: bytes) -> Iterator[Record]:
        """As iteration, but events in which these octets do not stand are passed over by the engine where it can."""

        def passed(octets: bytes, at: int) -> int:
            return at + int(lib.qlog_pass(ffi.from_buffer("char[]", octets) + at, len(octets) - at, mark, len(mark)))

        return self.left_by(passed)

    def about(self, *marks: bytes) -> Iterator[Record]:
        """Events in which one of these octets stands; no other is read, and none is counted."""
        for whole in self._wholes(marks):
            places = set[int]()         # where their records begin
            for mark in marks:
                at = whole.find(mark)
                while at >= 0:
                    places.add(whole.rfind(SEPARATOR, 0, at) + 1)
                    end = whole.find(SEPARATOR, at)
                    at = whole.find(mark, end) if end >= 0 else -1
            for start in sorted(places):
                end = whole.find(SEPARATOR, start)
                record = self._record(whole[start:end] if end >= 0 else whole[start:])
                if record is not None:
                    yield record

    def _record(self, text: bytes) -> Record | None:
        """None, and counted: it is no event that we read."""
        value = _object(text) if len(text) <= RECORD_MAX else None
        time, name, data = (value.get("time"), value.get("name"), value.get("data")) if value else (None, None, None)
        if (not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < TIME_MAX_MS
                or not isinstance(name, str) or not isinstance(data, dict)):
            self.malformed += 1
            return None
        assert value is not None
        time_ns = round(time * 1e6) if time < EXACT_MS else round(time * 1e3) * 1000
        return Record(time_ns, name, str(value.get("group_id", self._group)), data, text)

    def _note(self, record: Record) -> None:
        if record.name == LOST and isinstance(count := record.data.get("count"), int):
            self.lost += max(count, 0)
        elif record.name == FULL and self.full_ns is None:
            self.full_ns = record.time_ns

    def scan(self) -> None:
        """As a pass over it, but only for what the log tells of itself: `lost` and `full_ns`. Twenty times as fast."""
        self.malformed = self.lost = 0
        for record in self.about(*OF_ITSELF):
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
