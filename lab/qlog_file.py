"""qlog files as `mpq inspect` reads them: JSON-SEQ (RFC 7464), record by record, whatever stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHUNK = 1 << 20
RECORD_MAX = 1 << 20            # octets of one record; a longer one is malformed
FILE_MAX = 1 << 30              # octets that are read of a file
TIME_MAX_MS = 1e13              # three hundred years
SUFFIX = ".sqlog"


class QlogError(Exception):
    """The file is no qlog that we read: the text says why."""


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


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text, parse_constant=_refuse)
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

    def _texts(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            left, size = b"", 0
            while chunk := file.read(CHUNK):
                size += len(chunk)
                if size > FILE_MAX:
                    self.cut = True
                    break
                parts = (left + chunk).split(b"\x1e")
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
            value = _object(text) if len(text) <= RECORD_MAX else None
            time, name, data = (value.get("time"), value.get("name"), value.get("data")) if value else (None, None, None)
            if (not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < TIME_MAX_MS
                    or not isinstance(name, str) or not isinstance(data, dict)):
                self.malformed += 1
                continue
            assert value is not None
            record = Record(round(time * 1e6), name, str(value.get("group_id", self._group)), data, text)
            if name == "mpquic:records_lost" and isinstance(count := data.get("count"), int):
                self.lost += max(count, 0)
            elif name == "mpquic:log_full" and self.full_ns is None:
                self.full_ns = record.time_ns
            yield record

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
