"""The files of one capture, pcapng or classic pcap: one, or those of a ring in their order. Which of a ring are gone is said."""

from __future__ import annotations

import contextlib
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from lab.pcap_classic import as_pcapng

RAW_NAME, CAPTURE_NAME, KEYLOG_NAME = "capture.raw.pcapng", "capture.pcapng", "keys.log"
RING_STEM = "capture"           # of a scenario's `capture:` with a ring
FILES_MAX = 10_000              # of a capture: as many as a ring may have
FAR = 1 << 63                   # no packet has such a number
_RING = re.compile(r"(?P<ring>.+)_(?P<number>[0-9]{5,9})_[^_]+\.pcapng(?:\.part)?")     # as native/src/capture_file.c names them


class InspectError(Exception):
    """Nothing to inspect: what was looked for and what to do."""


@dataclass(slots=True)
class Part:
    """One file. first, last: numbers of its packets in the whole capture, once it has been read."""

    path: Path
    missing: int = 0                    # files of the ring between the one before it and this one
    first: int = 0                      # 0: it was not read yet
    last: int = 0                       # one less than first: it has no packets
    problem: str = ""                   # why the rest of it was not read

    def document(self) -> dict[str, Any]:
        return {"file": str(self.path), "first": self.first, "packets": self.last - self.first + 1 if self.first else 0,
                "problem": self.problem or None}


@dataclass(slots=True)
class CaptureFiles:
    """Read one after the other. `notices`: what is not there, in words."""

    parts: list[Part]
    notices: list[str] = field(default_factory=list)

    @property
    def first(self) -> Path:
        """Beside it lies what belongs to the capture: keys, events, qlogs."""
        return self.parts[0].path

    @property
    def size(self) -> int:
        """Octets, of what is there."""
        total = 0
        for part in self.parts:
            with contextlib.suppress(OSError):
                total += part.path.stat().st_size
        return total

    def words(self) -> str:
        return str(self.first) if len(self.parts) == 1 else f"{self.first} and {len(self.parts) - 1} more"

    def place(self, number: int) -> tuple[Part, int] | None:
        """The file of this packet, as far as they have been read, and its number there."""
        at = bisect_right(self.parts, number, key=lambda part: part.first or FAR) - 1
        return (self.parts[at], number - self.parts[at].first + 1) if at >= 0 else None

    def streams(self) -> Iterator[tuple[Part, BinaryIO]]:
        """Each is open until the next one is asked for. One of several that does not open, as when a ring goes on meanwhile, is an
        empty one with a problem; OSError: the only one does not open."""
        for part in self.parts:
            part.problem, part.first, part.last = "", 0, 0
            stream: BinaryIO
            try:
                stream = _open(part.path)
            except OSError as error:
                if len(self.parts) == 1:
                    raise
                part.problem = "it is gone" if isinstance(error, FileNotFoundError) else f"it does not open: {error.strerror}"
                stream = BytesIO()
            with stream:
                yield part, as_pcapng(stream)


def _open(path: Path) -> BinaryIO:
    """A file of a ring has lost its `.part` when it is whole: perhaps since it was listed."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        if path.suffix != ".part":
            raise
        return path.with_suffix("").open("rb")


def one_file(path: Path) -> CaptureFiles:
    return CaptureFiles([Part(path)])


def _place(path: Path) -> tuple[str, int] | None:
    """What the names of its ring begin with, and its number there; None: it is of none."""
    match = _RING.fullmatch(path.name)
    return None if match is None else (match["ring"], int(match["number"]))


def ring_files(directory: Path, ring: str = RING_STEM) -> list[Path]:
    """Those of this ring, oldest first; one that was not ended, too."""
    found = [(place[1], path) for path in directory.iterdir() if (place := _place(path)) is not None and place[0] == ring]
    return [path for _, path in sorted(found)]


def of_files(paths: Sequence[Path]) -> CaptureFiles:
    """In their order; those that are all of one ring in the ring's."""
    places = [place for path in paths if (place := _place(path)) is not None]
    if not 2 <= len(paths) == len(places) or len({ring for ring, _ in places}) > 1 or len({path.parent for path in paths}) > 1:
        return CaptureFiles([Part(path) for path in paths])
    ordered = sorted((number, path) for (_, number), path in zip(places, paths, strict=True))
    numbers = [number for number, _ in ordered]
    files = CaptureFiles([Part(path) for _, path in ordered])
    if numbers[0] > 1:
        files.notices.append(f"the ring begins at file {numbers[0]}: those before it are gone, and what they had is not shown")
    for part, before, number in zip(files.parts[1:], numbers, numbers[1:], strict=False):
        part.missing = max(0, number - before - 1)
        if part.missing:
            which = f"file {before + 1}" if part.missing == 1 else f"files {before + 1} to {number - 1}"
            files.notices.append(f"{which} of the ring {'is' if part.missing == 1 else 'are'} missing")
    return files


def find_capture(targets: Sequence[str] | str | None) -> CaptureFiles:
    """A capture file, that of a run directory, all of a ring, or several files as one; without a target the newest run's."""
    names = [targets] if isinstance(targets, str) else list(targets or ())
    if len(names) > 1:
        for name in names:
            if not Path(name).is_file():
                raise InspectError(f"{name}: there is no such capture")
        if len(names) > FILES_MAX:
            raise InspectError(f"{len(names)} files: at most {FILES_MAX} are read as one capture")
        if len({os.path.realpath(name) for name in names}) < len(names):
            raise InspectError("a file is named twice: its packets would be counted twice")
        return of_files([Path(name) for name in names])
    path = Path(names[0]) if names else Path(os.environ.get("MPQ_RUNS", "runs")) / "last"
    if path.is_dir():
        return _of_directory(path)
    if path.is_file():
        return one_file(path)
    if names and path.parent.is_dir() and (files := ring_files(path.parent, path.name)):     # as `mpq capture --ring -o` was told
        return of_files(files)
    if names:
        raise InspectError(f"{path}: there is no such run or capture")
    raise InspectError(f"{path}: there is no run yet; name a run directory or a capture")


def _of_directory(path: Path) -> CaptureFiles:
    for name in (CAPTURE_NAME, RAW_NAME):
        if (path / name).is_file():
            return one_file(path / name)
    if files := ring_files(path):               # of a scenario's `capture:` with a ring
        return of_files(files)
    others = [other for other in path.iterdir() if other.name.startswith("capture-") and ".pcapng" in other.suffixes]
    if others:                                  # of `mpq capture`
        newest = max(others, key=lambda one: one.stat().st_mtime)
        place = _place(newest)
        return one_file(newest) if place is None else of_files(ring_files(path, place[0]))
    raise InspectError(f"{path} has no {CAPTURE_NAME}: was the run made with captures?")
