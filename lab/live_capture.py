"""`mpq capture`: a capture of a lab that runs, beside that of its scenario. It ends at a limit, when it is told to, when its asker
is gone, or with the lab; however it ends, its files are whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.capture_files import ring_files
from lab.capturing import Capture, Port, chosen
from lab.decrypt_keys import keylog_lines
from lab.errors import LabError, Misuse
from lab.scenario import Ring

WATCH_S = 0.05
SNAPLEN_MAX = 262144
LONGEST_S = 86_400.0 * 365
MOST = 8
"""Captures at once of one lab."""


def _number(args: dict[str, Any], name: str, low: float, high: float) -> float | None:
    value = args.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Misuse(f"{name}: must be a number from {low:g} to {high:g}")
    return float(value)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for. `name`: by which the capture is ended. `output`: absolute; None: in the run's directory. `keys`: "yes"
    has the nodes log them from now on, "auto" takes what they log, "no" nothing."""

    name: str
    output: Path | None = None
    seconds: float | None = None
    packets: int | None = None
    megabytes: float | None = None
    ring: Ring | None = None
    interfaces: tuple[str, ...] = ()
    keys: str = "auto"
    snaplen: int = SNAPLEN_MAX

    @classmethod
    def of(cls, args: dict[str, Any]) -> Request:
        """Misuse names what is wrong."""
        known = {"name", "output", "seconds", "packets", "megabytes", "ring", "file_mb", "interfaces", "keys", "snaplen"}
        if unknown := sorted(args.keys() - known):
            raise Misuse(f"{unknown[0]}: unknown; known are {', '.join(sorted(known))}")
        name = args.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 64 or not name.isprintable():
            raise Misuse("name: must be a short text")
        output, patterns, keys = args.get("output"), args.get("interfaces", []), args.get("keys", "auto")
        if output is not None and (not isinstance(output, str) or not output.startswith("/") or "\0" in output):
            raise Misuse("output: must be an absolute path")
        if not isinstance(patterns, list) or not all(isinstance(p, str) and len(p) <= 128 for p in patterns) or len(patterns) > 64:
            raise Misuse("interfaces: must be a list of names")
        if keys not in ("auto", "yes", "no"):
            raise Misuse("keys: must be auto, yes or no")
        files, size = _number(args, "ring", 2, 10_000), _number(args, "file_mb", 1, 100_000)
        if (files is None) != (size is None):
            raise Misuse("ring and file size go together")
        packets, snaplen = _number(args, "packets", 1, 1e12), _number(args, "snaplen", 64, SNAPLEN_MAX)
        megabytes = _number(args, "megabytes", 1, 1e6)
        if files is not None and megabytes is not None:
            raise Misuse("a ring is limited by its files: megabytes is for one file")
        return cls(
            name, None if output is None else Path(output), _number(args, "seconds", 0.1, LONGEST_S),
            None if packets is None else int(packets), megabytes,
            None if files is None or size is None else Ring(int(files), size), tuple(patterns), keys,
            SNAPLEN_MAX if snaplen is None else int(snaplen),
        )


class KeyTail:
    """What is new in a key log, each line once: both ends of a connection write the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._seen: set[bytes] = set()

    def read(self) -> bytes:
        try:
            if self._path.stat().st_size <= self._offset:
                return b""
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return b""
        whole = data[:data.rfind(b"\n") + 1]
        self._offset += len(whole)
        fresh = []
        for line in keylog_lines(whole).splitlines(keepends=True):
            mark = hashlib.sha256(line).digest()
            if mark not in self._seen:
                self._seen.add(mark)
                fresh.append(line)
        return b"".join(fresh)


class LiveCapture:
    def __init__(self, request: Request, path: Path, every: list[Port], keylog: Path | None, clock: Callable[[], float]) -> None:
        """Captures from now on. LabError, OSError: it does not; nothing is left."""
        self.request = request
        self.path = path
        self._clock = clock
        self._start = clock()
        self._tail = None if keylog is None else KeyTail(keylog)
        self._ending = asyncio.Event()
        self._why = ""
        self._result: dict[str, Any] | None = None
        ports = chosen(every, list(request.interfaces))
        if request.ring is None:
            _may_write(path)
        self._capture = Capture(
            path, snaplen=request.snaplen, ring=request.ring, max_packets=request.packets or 0,
            max_octets=0 if request.megabytes is None else round(request.megabytes * 1e6), keys=keylog is not None,
        )
        try:
            self._secrets()
            for port in ports:
                self._capture.add(port)
            self._capture.start()
        except BaseException:
            self._capture.close()
            if request.ring is None:
                with contextlib.suppress(OSError):
                    path.unlink()
            raise

    async def run(self) -> dict[str, Any]:
        """Until it is over; its figures. Whoever waits may be cancelled: the capture is over then, too."""
        try:
            while not self._ending.is_set():
                self._secrets()
                figures = self._capture.figures()
                if self.request.seconds is not None and self._clock() - self._start >= self.request.seconds:
                    self.end("time")
                elif self.request.packets is not None and figures["packets"] >= self.request.packets:
                    self.end("packets")
                elif self.request.megabytes is not None and figures["dropped_limit"]:
                    self.end("size")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_S):
                        await self._ending.wait()
        finally:
            self.finish("its asker left")
        assert self._result is not None
        return self._result

    def end(self, why: str) -> None:
        self._why = self._why or why
        self._ending.set()

    def finish(self, why: str) -> None:
        """The files are whole; again it does nothing. Milliseconds: a buffer is written out."""
        if self._result is not None:
            return
        self.end(why)
        with contextlib.suppress(LabError):
            self._secrets()
        limited = self.request.packets is not None or self.request.megabytes is not None
        seconds = round(self._clock() - self._start, 3)
        figures = self._capture.stop(self._clock())
        figures.pop("windows"), figures.pop("outside_windows")
        if limited:  # what came after the limit was not asked for
            figures["dropped_limit"] = 0
        self._result = {
            "name": self.request.name, "seconds": seconds, "ended": self._why, "keys": self._tail is not None,
            "written": self.files(), **figures,
        }

    def files(self) -> list[str]:
        """Those that are there, oldest first."""
        if self.request.ring is None:
            return [str(self.path)]
        return [str(path) for path in ring_files(self.path.parent, self.path.name)]

    def status(self) -> dict[str, Any]:
        seconds = round(self._clock() - self._start, 1)
        return {"name": self.request.name, "path": str(self.path), "seconds": seconds, **self._capture.figures()}

    def _secrets(self) -> None:
        lines = b"" if self._tail is None else self._tail.read()
        if lines:
            self._capture.secrets(lines)


def _may_write(path: Path) -> None:
    """A capture replaces a file, not a device or a directory."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISREG(mode):
        raise LabError(f"{path}: there is something that is no file")


Ask = Callable[[str, str, dict[str, Any]], Awaitable[Any]]


class Captures:
    """Those of a lab."""

    def __init__(self, run_dir: Path, keylog: Path, logging: bool, clock: Callable[[], float]) -> None:
        """`logging`: the nodes write that key log already."""
        self._run_dir, self._keylog, self.logging, self._clock = run_dir, keylog, logging, clock
        self._running: dict[str, LiveCapture] = {}
        self._number = 0

    async def log_keys(self, nodes: list[str], ask: Ask) -> None:
        """The nodes write the keys of connections that are made from now on."""
        for node in nodes:
            await ask(node, "keylog", {"file": str(self._keylog)})
        self.logging = True

    def open(self, request: Request, every: list[Port]) -> LiveCapture:
        if len(self._running) >= MOST:
            raise LabError(f"{MOST} captures of this lab are running: end one of them")
        if request.name in self._running:
            raise LabError(f"{request.name}: another capture has this name")
        self._number += 1
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        path = request.output or self._run_dir / f"capture-{stamp}-{self._number}"
        if request.output is None and request.ring is None:
            path = path.with_name(path.name + ".pcapng")
        if any(os.path.realpath(one.path) == os.path.realpath(path) for one in self._running.values()):
            raise LabError(f"{path}: another capture writes it")
        wanted = request.keys == "yes" or (request.keys == "auto" and self.logging)
        one = LiveCapture(request, path, every, self._keylog if wanted else None, self._clock)
        self._running[request.name] = one
        return one

    async def run(self, one: LiveCapture) -> dict[str, Any]:
        try:
            return await one.run()
        finally:
            self._running.pop(one.request.name, None)

    def end(self, name: str) -> None:
        """Misuse when there is none."""
        one = self._running.get(name)
        if one is None:
            raise Misuse(f"{name}: no such capture is running")
        one.end("told to")

    def status(self) -> list[dict[str, Any]]:
        return [one.status() for one in self._running.values()]

    def close(self) -> None:
        """The lab ends."""
        for one in self._running.values():
            one.finish("the lab ended")
