"""The figures of a phase and of an outage, as docs/figures.md defines them. Each is the receiver's, the wire's or the kernel's,
not a sender's word; what was not measured is null."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from lab.numbers import is_number
from lab.run import PhaseRecord, RunRecord
from lab.sampler import ACCESS_TYPES

BACK_IN_USE_OCTETS = 20_000
STALL_S = 0.2
"""What a player has in its buffer: a longer silence stops the picture."""
LEAST_PACKETS = 1000  # inner packets, for a figure per packet
CUTS = {"cut": "cut", "down": "link down"}
SENDER = {"up": "ue", "down": "upf"}


def middle(values: list[Any]) -> Any:
    """The median of numbers, by key of objects, joined of texts. None as soon as one is None: what one turn
    could not measure is not measured."""
    first = values[0]
    if any(v is None for v in values):
        return None
    if isinstance(first, dict):
        return {k: middle([v.get(k) for v in values]) for k in first}
    if is_number(first):
        found = median(values)
        return int(found) if all(isinstance(v, int) for v in values) else round(found, 4)
    return first if all(v == first for v in values) else "; ".join(sorted({str(v) for v in values if v}))


def merged(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """The turns of one phase as one: medians, and of each number [least, most] under `spread`. `from_s` and
    `to_s` are the first turn's."""
    result = {key: middle([t[key] for t in turns]) for key in turns[0]}
    result |= {"from_s": turns[0]["from_s"], "to_s": turns[0]["to_s"], "turns": len(turns)}
    figures = [k for k in turns[0] if k not in ("from_s", "to_s")]
    result["spread"] = {k: [min(t[k] for t in turns), max(t[k] for t in turns)]
                        for k in figures if len(turns) > 1 and all(is_number(t[k]) for t in turns)}
    return result


class Figures:
    """Of a run's record."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._names = {ACCESS_TYPES.index(a.type): a.name for a in run.scenario.accesses}

    def phase(self, record: PhaseRecord) -> dict[str, Any]:
        """`aggregation_benefit` needs other phases, too: it is the judge's."""
        phase, traffic = record.phase, record.traffic
        seconds = record.end - record.start
        wires = self._run.scenario.wire_sum_mbps(phase.direction)
        goodput = traffic.goodput_mbps
        flows = [f for d in traffic.probe.values() for f in d["flows"].values()]
        longest = [(b - a) * 1000 for a, b in traffic.gaps()]
        came, twice = sum(int(f["received"]) for f in flows), sum(int(f["duplicates"]) for f in flows)
        loads = sorted(traffic.page_loads_s)
        return {
            "id": phase.id,
            "carrier": phase.carrier,
            "from_s": round(record.start, 3),
            "to_s": round(record.end, 3),
            "goodput_mbps": None if goodput is None else round(goodput, 2),
            "per_path_mbps": self._per_path(record, seconds),
            "rival_mbps": None if traffic.rival_mbps is None else round(traffic.rival_mbps, 2),
            "wire_sum_mbps": wires,
            "share_of_wires": None if goodput is None or not wires else round(goodput / wires, 3),
            "aggregation_benefit": None,
            "of_better": None,
            "lost": traffic.lost + sum(int(f["lost"]) for f in flows),
            "reordered": traffic.reordered,
            "longest_gap_ms": round(max(longest), 1) if longest else (0.0 if traffic.probe else None),
            "delay_ms": {d: traffic.probe[d].get("delay_ms") for d in ("up", "down")} if traffic.probe else None,
            "reorder_depth": max(int(f.get("depth", 0)) for f in flows) if flows else None,
            "duplicate_share": round(twice / (came + twice), 5) if came else None,
            "stalls": sum(gap >= STALL_S * 1000 for gap in longest) if traffic.probe else None,
            "page_load_s": {"p50": round(median(loads), 3), "max": round(loads[-1], 3), "pages": len(loads)} if loads else None,
            "cwnd_octets": self._windows(record),
            "cpu_us_per_packet": self._cpu(record),
            "idle_path_kbps": self._idle(record, seconds),
            "skipped": traffic.skipped,
            "error": traffic.error,
        }

    def _per_path(self, record: PhaseRecord, seconds: float) -> dict[str, float]:
        """Inner octets that came out of the tunnel by path; of a baseline, frames that the wire carried."""
        direction = record.phase.direction
        if record.phase.carrier != "tunnel":
            octets: Iterable[tuple[str, int]] = [(n, record.wire_octets.get(n, {}).get(direction, 0)) for n in self._names.values()]
        else:
            carried = record.after.since(record.before, direction)
            octets = [(name, carried[k]) for k, name in self._names.items()]
        return {name: round(n * 8 / seconds / 1e6, 2) for name, n in octets}

    def _windows(self, record: PhaseRecord) -> dict[str, int] | None:
        """The median of the sender's congestion window over the phase, by access."""
        sampler = self._run.sampler
        found: dict[str, list[int]] = {}
        for t, node, access, window in getattr(sampler, "windows", ()):
            if record.start <= t <= record.end and node == SENDER[record.phase.direction]:
                found.setdefault(access, []).append(window)
        return {a: int(median(v)) for a, v in sorted(found.items())} if found and record.phase.carrier == "tunnel" else None

    @staticmethod
    def _cpu(record: PhaseRecord) -> dict[str, float] | None:
        """Of a node's whole process, for each inner packet that it took from its TUN or gave to it."""
        found = {}
        for node, seconds in record.cpu_s.items():
            packets = record.after.packets.get(node, 0) - record.before.packets.get(node, 0)
            if packets >= LEAST_PACKETS:
                found[node] = round(seconds * 1e6 / packets, 2)
        return found if found and record.phase.carrier == "tunnel" else None

    @staticmethod
    def _idle(record: PhaseRecord, seconds: float) -> float | None:
        """What the path that carried least cost on its wire, both directions together, frames and all."""
        if not record.wire_octets:
            return None
        return round(min(sum(d.values()) for d in record.wire_octets.values()) * 8 / seconds / 1000, 3)

    def gap_ms(self, record: PhaseRecord, at: float, until: float) -> float | None:
        """The longest silence of any probe flow that overlaps [at, until] (s of the lab); None without a probe."""
        found = self._silences(record, at, until)
        return None if found is None else round(max((b - a for a, b in found), default=0.0) * 1000, 1)

    def _silences(self, record: PhaseRecord, at: float, until: float) -> list[tuple[float, float]] | None:
        flows = [f for d in record.traffic.probe.values() for f in d["flows"].values()]
        if not flows or any(f["received"] == 0 for f in flows):
            return None
        begin, end = at + self._run.start, until + self._run.start
        return [(a, b) for a, b in record.traffic.gaps() if b > begin and a < end]

    def outages(self, record: PhaseRecord) -> list[dict[str, Any]]:
        """`step`: which one of the phase's actions it was."""
        found = []
        for number, (step, at, _error) in enumerate(record.steps):
            if step.kind not in CUTS:
                continue
            back = next((t for s, t, _ in record.steps if s.target == step.target and t > at and s.kind == "restore"), None)
            until = record.end if back is None else back
            silences = self._silences(record, at, until)
            first = [b for a, b in silences or [] if a <= at + self._run.start + STALL_S]
            over = None if silences is None else round((max(first, default=at + self._run.start) - at - self._run.start) * 1000, 1)
            access = next(k for k, n in self._names.items() if n == step.target)
            used: float | None = None
            if back is not None and self._run.sampler is not None:
                when = self._run.sampler.first_after(back, access, BACK_IN_USE_OCTETS)
                used = None if when is None else round((when - back) * 1000, 1)
            lost = sum(int(f["lost"]) for d in record.traffic.probe.values() for f in d["flows"].values())
            found.append({
                "cause": f"{CUTS[step.kind]} {step.target}", "phase": record.phase.id, "turn": record.turn, "step": number,
                "at_s": round(at, 3), "longest_gap_ms": self.gap_ms(record, at, record.end), "fail_over_ms": over,
                "back_in_use_ms": used, "lost": lost,
            })
        return found
