"""What was counted beside a capture, in time: drops of the wires by sample of metrics.jsonl, of an engine by record of its qlog.

A counter does not say which packet it counted. Each unit of it explains one packet that was under way while it rose, and of those
that could, the unit that is gone first: so as many packets as possible are explained, and each in its time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab.inspect_run import told_number

WIRE_REASONS = ("queue", "loss", "cut")
SLACK_S = 0.02                  # a sample is taken a little before or after its time


@dataclass(slots=True)
class Bucket:
    """`count` units of `reason` rose between begin and end (seconds of the run)."""

    begin: float
    end: float
    reason: str
    count: int


@dataclass(slots=True)
class Buckets:
    """In the order of their ends."""

    items: list[Bucket] = field(default_factory=list)
    first: int = 0              # those before are empty

    def take(self, first: float, last: float, reasons: tuple[str, ...]) -> str:
        """A reason that was counted between the two times: one unit less. Of one sample the first of `reasons`."""
        items = self.items
        while self.first < len(items) and not items[self.first].count:
            self.first += 1
        found: Bucket | None = None
        for i in range(self.first, len(items)):
            one = items[i]
            if one.begin - SLACK_S > last or (found is not None and one.end > found.end):
                break
            if one.count and one.reason in reasons and one.end + SLACK_S >= first and (
                    found is None or reasons.index(one.reason) < reasons.index(found.reason)):
                found = one
        if found is None:
            return ""
        found.count -= 1
        return found.reason


def _counted(sample: dict[str, Any]) -> tuple[float, float]:
    """Between which seconds the wires were asked; records of an older mpq have only the sample's own time."""
    told = sample.get("wires_counted")
    times = [told_number(t) for t in told] if isinstance(told, list) and len(told) == 2 else []
    asked, answered = times or (None, None)
    return (float(sample["t"]), float(sample["t"])) if asked is None or answered is None else (asked, answered)


def last_counts(events: list[dict[str, Any]], totals: dict[tuple[str, str], dict[str, int]]) -> dict[str, Any]:
    """As a sample: what the wires had dropped when the run ended, after the last sample. totals: of result.json, for records of an
    older mpq, which does not say when."""
    told = [event for event in events if event.get("event") == "wires_counted" and event.get("node") == "lab"]
    if told:
        return dict(told[-1])
    wires: dict[str, Any] = {}
    for (access, way), counts in totals.items():
        if all(why in counts for why in WIRE_REASONS):
            wires.setdefault(access, {})[way] = [counts[why] for why in WIRE_REASONS]
    return {"t": float("inf"), "wires": wires}


def wire_buckets(samples: list[dict[str, Any]]) -> dict[tuple[str, str], Buckets]:
    """By access and direction (up, down), from a run's samples: [queue, loss, cut] so far; a wire made anew begins with none."""
    out: dict[tuple[str, str], Buckets] = {}
    last: dict[tuple[str, str], tuple[float, list[int]]] = {}
    for sample in samples:
        asked, answered = _counted(sample)
        wires = sample.get("wires")
        for access, ways in wires.items() if isinstance(wires, dict) else ():
            for way in ("up", "down"):
                counts = ways.get(way) if isinstance(ways, dict) else None
                if not (isinstance(counts, list) and len(counts) == 3 and all(isinstance(c, int) for c in counts)):
                    continue
                then, before = last.get((access, way), (0.0, [0, 0, 0]))
                if any(count < was for count, was in zip(counts, before, strict=True)):
                    before = [0, 0, 0]
                for why, count, was in zip(WIRE_REASONS, counts, before, strict=True):
                    if count > was:
                        out.setdefault((access, way), Buckets()).items.append(Bucket(then, answered, why, count - was))
                last[access, way] = (asked, counts)
    for buckets in out.values():
        buckets.items.sort(key=lambda one: one.end)
    return out
