"""What metrics.jsonl tells, made small enough for a page: at most 2 * POINTS_MOST samples are kept. When there are more, two become
one, as often as it takes. Counters are those of the second, so that a rate between two samples stays the exact mean; of gauges
(RTT, window, queue) the larger one is kept, so that no peak is lost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from typing import Any

from lab.numbers import HUGE, is_number
from lab.paths import shown

POINTS_MOST = 600
STATES_MOST = 4000
ENDS = ("ue", "upf")
WAYS = ("down", "up")
SENDER = {"up": "ue", "down": "upf"}
PATHS = {"ue": "paths", "upf": "upf_paths"}
GAUGES = {"rtt": ("rtt_smoothed", 1e-6), "cwnd": ("cwnd", 1e-3), "queue": ("queue_bytes", 1e-3)}
"""Of a path at its end, by the word in `path_info`: ms, kB, kB."""
ByEnd = dict[str, dict[str, dict[str, Any]]]
"""The path that counts, by end and access."""
HOLE, HOLE_S = 4.0, 1.0
"""So many times the usual distance between samples, and so many seconds at least: nothing is known of what lies between."""


def finite(value: Any) -> float | None:
    """A number as plots can have it."""
    return float(value) if is_number(value) else None


@dataclass(frozen=True, slots=True)
class Sample:
    """`octets`: by way and access, what came out of the tunnel so far; `counted`: when, by way. `gauges`: by (name, end or way,
    access)."""

    t: float
    octets: dict[tuple[str, str], float]
    gauges: dict[tuple[str, str, str], float]
    counted: dict[str, float] = field(default_factory=dict)

    def after(self, earlier: Sample) -> Sample:
        """Both as one."""
        gauges = {
            key: max(earlier.gauges.get(key, -math.inf), self.gauges.get(key, -math.inf))
            for key in earlier.gauges.keys() | self.gauges.keys()
        }
        return Sample(self.t, self.octets, gauges, self.counted)


@dataclass(slots=True)
class State:
    """Of the path over an access as one end had it, from `begin` to `end`."""

    begin: float
    end: float
    state: str
    reason: str


@dataclass(slots=True)
class Samples:
    names: tuple[str, ...]
    """of the accesses in the order of the samples: 3GPP first"""
    kept: list[Sample] = field(default_factory=list)
    states: dict[tuple[str, str], list[State]] = field(default_factory=dict)
    """by end and access"""
    count: int = 0
    errors: int = 0
    _step: int = 1
    _open: Sample | None = None
    _in_open: int = 0

    @classmethod
    def of(cls, documents: Iterable[dict[str, Any]], names: tuple[str, ...]) -> Samples:
        found = cls(names)
        for document in documents:
            found.add(document)
        found.finish()
        return found

    def add(self, document: dict[str, Any]) -> None:
        """What is no sample, or not later than the last one, is left out."""
        t = finite(document.get("t"))
        if t is None or t < 0:
            return
        if "error" in document:
            self.errors += 1
            return
        octets = {}
        for way in WAYS:
            values = document.get(way)
            for name, value in zip(self.names, values if isinstance(values, list) else [], strict=False):
                if (known := finite(value)) is not None:
                    octets[way, name] = known
        last = self._open or (self.kept[-1] if self.kept else None)
        if not octets or (last is not None and t <= last.t):
            return
        self.count += 1
        times = document.get("counted")
        counted = {way: at for way in WAYS if isinstance(times, dict) and (at := finite(times.get(way))) is not None}
        paths = {end: self._paths(document, end) for end in ENDS}
        one = Sample(t, octets, self._gauges(document, paths), counted)
        self._states(paths, t)
        self._open = one if self._open is None else one.after(self._open)
        self._in_open += 1
        if self._in_open == self._step:
            self.finish()
            if len(self.kept) >= 2 * POINTS_MOST:
                self._halve()

    def finish(self) -> None:
        if self._open is not None:
            self.kept.append(self._open)
        self._open, self._in_open = None, 0

    def _halve(self) -> None:
        """The first sample stays: rates count from it."""
        first, rest = self.kept[0], self.kept[1:]
        odd = rest[len(rest) // 2 * 2 :]
        self.kept = [first, *(b.after(a) for a, b in zip(rest[::2], rest[1::2], strict=False)), *odd]
        self._step *= 2

    @property
    def end(self) -> float:
        return self.kept[-1].t if self.kept else 0.0

    # ---- what a sample has

    def _paths(self, document: dict[str, Any], end: str) -> dict[str, dict[str, Any]]:
        """The path that counts, by access."""
        paths = document.get(PATHS[end])
        known = [path for path in paths if isinstance(path, dict)] if isinstance(paths, list) else []
        found = {name: shown(path for path in known if path.get("access") == name) for name in self.names}
        return {name: path for name, path in found.items() if path is not None}

    def _gauges(self, document: dict[str, Any], paths: ByEnd) -> dict[tuple[str, str, str], float]:
        found = {}
        for end in ENDS:
            for access, path in paths[end].items():
                for name, (word, unit) in GAUGES.items():
                    value = finite(path.get(word))
                    if value is not None and value >= 0 and (value or name == "queue"):
                        found[name, end, access] = value * unit
            shared = document.get("shared_queue")
            value = finite(shared.get(end)) if isinstance(shared, dict) else None
            if value is not None and value >= 0:
                found["shared", end, ""] = value / 1e3
        waiting = document.get("wire_queues")
        for access in self.names:
            values = waiting.get(access) if isinstance(waiting, dict) else None
            for way, queued in zip(("up", "down"), values if isinstance(values, list) else [], strict=False):
                if (known := finite(queued)) is not None and known >= 0:
                    found["wire", way, access] = known / 1e3
        return found

    def _states(self, paths: ByEnd, t: float) -> None:
        for end in ENDS:
            for access in self.names:
                path = paths[end].get(access, {})
                state, reason = str(path.get("state", "")), str(path.get("reason", ""))
                line = self.states.setdefault((end, access), [])
                if line:
                    line[-1].end = t
                if (not line or (line[-1].state, line[-1].reason) != (state, reason)) and len(line) < STATES_MOST:
                    line.append(State(t, t, state, reason))

    def lengths(self) -> dict[tuple[str, str, str, str], float]:
        """Seconds in each state, by access, end, state and reason."""
        found: dict[tuple[str, str, str, str], float] = {}
        for (end, access), line in self.states.items():
            for state, following in zip_longest(line, line[1:]):
                until = state.end if following is None else following.begin
                key = (access, end, state.state, state.reason)
                found[key] = found.get(key, 0.0) + until - state.begin
        return found

    # ---- series

    def hole(self) -> float:
        """Seconds between samples above which they do not follow each other."""
        gaps = sorted(b.t - a.t for a, b in pairwise(self.kept))
        return max(HOLE_S, HOLE * gaps[len(gaps) // 2]) if gaps else HOLE_S

    def rates(self, way: str, access: str) -> list[tuple[float, float]]:
        """Mbit/s between a sample and the one before it, at its time. Over a hole it is the mean all the same, and level:
        the counters went on. One that fell began anew."""
        hole, points = self.hole(), list[tuple[float, float]]()
        for a, b in pairwise(self.kept):
            grown = b.octets.get((way, access), 0.0) - a.octets.get((way, access), 0.0)
            seconds = b.counted.get(way, b.t) - a.counted.get(way, a.t)
            rate = max(0.0, grown) * 8 / (seconds if seconds > 0 else b.t - a.t) / 1e6
            points += [(a.t, rate)] * (b.t - a.t > hole) + [(b.t, rate)]
        return points

    def gauge(self, name: str, of: str, access: str) -> list[list[tuple[float, float]]]:
        """Pieces: between them there was no such path, or nobody knows."""
        hole, last = self.hole(), -HUGE
        found: list[list[tuple[float, float]]] = []
        for sample in self.kept:
            value = sample.gauges.get((name, of, access))
            if value is None:
                last = -HUGE
                continue
            if sample.t - last > hole:
                found.append([])
            found[-1].append((sample.t, value))
            last = sample.t
        return found
