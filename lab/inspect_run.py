"""What a run directory says about a capture: events with the capture's clock, moments by name, cuts, windows, counters."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import Misuse

EVENTS_NAME, METRICS_NAME, RESULT_NAME = "events.jsonl", "metrics.jsonl", "result.json"
FILE_MAX = 64 << 20
NUMBER_MAX = 1e12
STEPS = ("cut", "restore", "rebind", "shape", "rekey", "key_update", "kill")
CAPTURE_EVENT = "capture_started"       # of the node `lab`: unix_ns, the wall clock of the capture at this event's t
_MOMENT = re.compile(r"(step|phase|event):(.+?)(?:#([0-9]{1,6}))?([+-][0-9.]{1,12}s)?")


def told_number(value: object) -> float | None:
    """A number that a record tells, if it is one to count with."""
    return float(value) if isinstance(value, int | float) and abs(value) <= NUMBER_MAX else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """JSON objects of a file of lines; what a kill cut off, or is none, is left out."""
    if not path.is_file():
        return []
    found = []
    with path.open("rb") as file:
        for line in file.read(FILE_MAX).splitlines():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and told_number(entry.get("t")) is not None:
                found.append(entry)
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds of the run; end is infinite when nothing ended it."""

    start: float
    end: float
    link_down: bool = False             # of a cut: the device went down, and no wire counted
    sure: float = float("inf")          # of a cut: until then it was one for certain; its end was told some time after that

    def has(self, t: float, slack: float = 0.0) -> bool:
        return self.start - slack <= t <= self.end + slack


@dataclass(slots=True)
class RunRecord:
    """events in their order. start_ns: the capture's clock at second 0 of the run; None when the run does not say."""

    events: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    start_ns: int | None = None
    holes: list[tuple[int, int]] = field(default_factory=list)      # ns between which files of the capture are missing or damaged

    def seconds(self, time_ns: int) -> float | None:
        return None if self.start_ns is None else (time_ns - self.start_ns) / 1e9

    def cuts(self) -> dict[str, list[Span]]:
        """By access: when its wire, or its link, was cut."""
        out: dict[str, list[Span]] = {}
        for event in self.events:
            access = event.get("access")
            if event.get("node") != "lab" or not isinstance(access, str):
                continue
            spans = out.setdefault(access, [])
            running = bool(spans) and spans[-1].end == float("inf")
            if event.get("event") == "cut" and not running:
                spans.append(Span(float(event["t"]), float("inf"), event.get("link_down") is True))
            elif event.get("event") == "restore" and running:
                end, link_down, wire_t = float(event["t"]), spans[-1].link_down, told_number(event.get("wire_t"))
                spans[-1] = Span(spans[-1].start, end, link_down, end if wire_t is None or link_down else min(wire_t, end))
        return out

    def generations(self) -> dict[str, int]:
        """Of the key of each connection, by its client random."""
        out: dict[str, int] = {}
        for event in self.events:
            random, generation = event.get("client_random"), event.get("generation")
            if event.get("event") == "connection_ready" and isinstance(random, str) and isinstance(generation, int):
                out[random] = generation
        return out

    def windows(self) -> list[Span]:
        """When whole packets were captured; empty: always, as far as the run says."""
        capture = self.result.get("capture")
        found = capture.get("windows") if isinstance(capture, dict) else None
        out = []
        for pair in found if isinstance(found, list) else []:
            if isinstance(pair, list) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair):
                out.append(Span(float(pair[0]), float(pair[1])))
        return out

    def moment(self, text: str, after: float = float("-inf")) -> float:
        """`step:cut-wifi`, `step:restore`, `phase:tcp8.up`, `event:upf.key_installed`, each with #N and +0.5s; or seconds."""
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            return float(text)
        parts = _MOMENT.fullmatch(text)
        if parts is None:
            raise Misuse(f"{text}: a moment is step:KIND[-TARGET], phase:NAME, event:NODE.NAME (with #N, +0.5s) or seconds")
        kind, name, number, offset = parts[1], parts[2], int(parts[3] or 1), parts[4]
        times = [t for t, what in self._named(kind) if t > after and (what == name or what.startswith(name + "-"))]
        if not 1 <= number <= len(times):
            known = ", ".join(dict.fromkeys(f"{kind}:{what}" for _, what in self._named(kind))) or "none"
            late = "" if after == float("-inf") else " after the first moment"
            raise Misuse(f"{text}: there is no such {kind} in this run{late}; there are {known}")
        try:
            return times[number - 1] + (float(offset[:-1]) if offset else 0.0)
        except ValueError:
            raise Misuse(f"{text}: {offset} is not a number of seconds") from None

    def _named(self, kind: str) -> list[tuple[float, str]]:
        out = []
        for event in self.events:
            what, t = str(event.get("event")), float(event["t"])
            if kind == "event":
                out.append((t, f"{event.get('node')}.{what}"))
            elif event.get("node") == "lab" and kind == "phase" and what == "phase":
                out.append((t, str(event.get("phase"))))
            elif event.get("node") == "lab" and kind == "step" and what in STEPS:
                target = event.get("access") or event.get("by") or event.get("target")
                out.append((t, f"{what}-{target}" if target else what))
        return out


def read_run(capture: Path) -> RunRecord:
    """What lies beside the capture, or the first file of it; empty for a capture from elsewhere."""
    run = RunRecord(_lines(capture.with_name(EVENTS_NAME)), _lines(capture.with_name(METRICS_NAME)))
    result = capture.with_name(RESULT_NAME)
    if result.is_file():
        try:
            with result.open("rb") as file:
                document = json.loads(file.read(FILE_MAX))
        except (ValueError, RecursionError):
            document = None
        run.result = document if isinstance(document, dict) else {}
    for event in run.events:
        wall = event.get("unix_ns")
        if event.get("event") == CAPTURE_EVENT and isinstance(wall, int):
            run.start_ns = wall - round(event["t"] * 1e9)
            break
    return run
