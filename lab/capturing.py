"""Interfaces of a lab into pcapng by the engine's capture thread (native/src/capture.c): what a scenario's `capture:` and
`mpq capture` share. `lab.capture_compose` makes the readable file of a run's raw one afterwards.

What is captured, by name:

  ue/<access>      the UE's end of an access's wire: what `mpq inspect` reads QUIC and N1 from
  upf/n4           N4
  core/sbi         the loopback of `core`: SBI
  <place>:<device> every other one: further sights of the same packets (`wifi:wire`, `core:n4`), inner packets (`ue:mpq0`, `upf:n6`)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.scenario import Ring
from lab.topology import PROXY_PORT, AccessAddresses, Topology
from native import ffi, lib

SNAPLEN = 2048
MAX_OCTETS = 96 << 20  # two wires full for the five seconds around a cut, its end and two re-keys, and some
SECRETS_ROOM = 32 << 10
"""Octets in front of a capture for keys that come later: some forty connections. Further ones stand where they came."""


@dataclass(frozen=True, slots=True)
class Port:
    """An interface of the lab: its name in the capture, and where it is."""

    name: str
    netns: int
    index: int


def _name(place: str, device: str, accesses: dict[str, str]) -> str:
    if place == "ue" and device in accesses:
        return f"ue/{accesses[device]}"
    if (place, device) == ("upf", "n4"):
        return "upf/n4"
    if (place, device) == ("core", "lo"):
        return "core/sbi"
    return f"{place.removeprefix('access:')}:{device}"


def ports(topology: Topology, accesses: Iterable[str]) -> list[Port]:
    """Every interface that is up, in every namespace."""
    devices = {AccessAddresses(k).device: name for k, name in enumerate(accesses, 1)}
    found = []
    for place in topology.netns:
        for device, index in topology.devices(place):
            found.append(Port(_name(place, device, devices), topology.netns[place].fd, index))
    return found


def of_a_run(every: Iterable[Port]) -> list[Port]:
    """Each packet of the session and of the core once."""
    return [port for port in every if "/" in port.name]


def chosen(every: list[Port], patterns: list[str]) -> list[Port]:
    """Those that a pattern (`ue/*`, `*:lo`) fits; without patterns all but the wires' own ports, which are the other ends of links
    that are captured already. LabError for a pattern that fits none."""
    if not patterns:
        return [port for port in every if not port.name.startswith("wires:")]
    for pattern in patterns:
        if not any(fnmatchcase(port.name, pattern) for port in every):
            raise LabError(f"{pattern}: no interface is named so; there are {', '.join(p.name for p in every)}")
    return [port for port in every if any(fnmatchcase(port.name, pattern) for pattern in patterns)]


class Capture:
    """One capture. `path`: the file, or with a ring what the names of its files begin with. `keys`: secrets will come."""

    def __init__(
        self, path: Path, *, snaplen: int = SNAPLEN, max_octets: int = MAX_OCTETS, max_packets: int = 0, ring: Ring | None = None,
        keys: bool = False,
    ) -> None:
        name = ffi.new("char[]", os.fsencode(path))
        options = ffi.new("struct capture_options *", {
            "path": name, "snaplen": snaplen, "max_packets": max_packets, "secrets_room": SECRETS_ROOM if keys else 0,
            "max_bytes": max_octets if ring is None else round(ring.file_mb * 1e6), "files": 0 if ring is None else ring.files,
            "handshake_port": PROXY_PORT,
        })
        self._capture = lib.capture_new(options)
        if self._capture == ffi.NULL:
            raise LabError(f"{path}: the capture cannot be written: {os.strerror(ffi.errno)}")
        self.names: list[str] = []
        self.windows: list[tuple[float, float]] = []
        self._open_since: float | None = None
        self._wanted = 0

    def add(self, port: Port) -> None:
        if lib.capture_interface_add(self._capture, port.netns, port.index, port.name.encode()) < 0:
            raise LabError(f"interface {port.name} cannot be captured: {os.strerror(ffi.errno)}")
        self.names.append(port.name)

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

    def secrets(self, lines: bytes) -> None:
        """Lines of a TLS key log into the file. LabError: they are not in it."""
        if lib.capture_secrets(self._capture, lines, len(lines)) < 0:
            raise LabError("the capture's secrets cannot be written: it opens less than it could")

    def figures(self) -> dict[str, int]:
        """What was captured so far, and what was not."""
        stats = ffi.new("struct capture_stats *")
        lib.capture_stats(self._capture, stats)
        return {name: int(getattr(stats, name)) for name in (
            "packets", "bytes", "dropped_kernel", "dropped_limit", "outside_windows", "files")}

    def interfaces(self) -> dict[str, dict[str, int]]:
        """By name: packets that were read, packets that the kernel dropped before."""
        stats = ffi.new("struct capture_interface_stats *")
        found = {}
        for number, name in enumerate(self.names):
            lib.capture_interface_stats(self._capture, number, stats)
            found[name] = {"received": int(stats.received), "dropped": int(stats.dropped)}
        return found

    def stop(self, now: float) -> dict[str, Any]:
        """The file is whole; its figures. `error`: it is not."""
        if self._open_since is not None:
            self.windows.append((self._open_since, now))
            self._open_since = None
        error = os.strerror(ffi.errno) if lib.capture_stop(self._capture) < 0 else ""
        figures, interfaces = self.figures(), self.interfaces()
        self.close()
        return {
            **({"error": error} if error else {}), **figures, "interfaces": interfaces,
            "windows": [[round(a, 3), round(b, 3)] for a, b in self.windows],
        }

    def close(self) -> None:
        if self._capture != ffi.NULL:
            lib.capture_free(self._capture)
            self._capture = ffi.NULL
