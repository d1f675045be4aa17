"""The capture of a run: every interface that matters into `capture.raw.pcapng` (native/src/capture.c); full packets only in
windows when a run is long. `lab.capture_compose` makes the readable file of it afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lab.errors import LabError
from native import ffi, lib

SNAPLEN = 2048
MAX_OCTETS = 96 << 20  # two wires full for the five seconds around a cut, its end and two re-keys, and some


class Capture:
    def __init__(self, path: Path) -> None:
        self._capture = lib.capture_new(str(path).encode(), SNAPLEN, MAX_OCTETS)
        if self._capture == ffi.NULL:
            raise LabError(f"{path}: the capture cannot be written")
        self.windows: list[tuple[float, float]] = []
        self._open_since: float | None = None
        self._wanted = 0

    def add(self, netns_fd: int, index: int, name: str) -> None:
        if lib.capture_interface_add(self._capture, netns_fd, index, name.encode()) < 0:
            raise LabError(f"interface {name} cannot be captured")

    def start(self) -> None:
        if lib.capture_start(self._capture) < 0:
            raise LabError("the capture's thread cannot be started")

    def window(self, opened: bool, now: float) -> None:
        """Windows may overlap: packets are kept while anybody wants them."""
        self._wanted += 1 if opened else -1
        if opened and self._open_since is None:
            self._open_since = now
            lib.capture_window(self._capture, 1)
        elif self._wanted <= 0 and self._open_since is not None:
            self.windows.append((self._open_since, now))
            self._open_since = None
            lib.capture_window(self._capture, 0)

    def flush(self) -> None:
        """What was captured so far can be read in the file."""
        if lib.capture_flush(self._capture) < 0:
            raise LabError(f"the capture cannot be written: {os.strerror(ffi.errno)}")

    def stop(self, now: float) -> dict[str, Any]:
        if self._open_since is not None:
            self.windows.append((self._open_since, now))
            self._open_since = None
        stats = ffi.new("struct capture_stats *")
        error = os.strerror(ffi.errno) if lib.capture_stop(self._capture) < 0 else ""
        lib.capture_stats(self._capture, stats)
        lib.capture_free(self._capture)
        self._capture = ffi.NULL
        return {
            **({"error": error} if error else {}),
            "packets": stats.packets, "bytes": stats.bytes, "dropped_kernel": stats.dropped_kernel,
            "dropped_limit": stats.dropped_limit, "outside_windows": stats.outside_windows,
            "windows": [[round(a, 3), round(b, 3)] for a, b in self.windows],
        }

    def close(self) -> None:
        if self._capture != ffi.NULL:
            lib.capture_free(self._capture)
            self._capture = ffi.NULL
