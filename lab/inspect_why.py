"""Why a packet was dropped: the cut, the wire's queue or chance, a counter of an engine or the capture, or not explained.

The wires and the engines count what they drop but do not say which packet it was. So each lost packet takes one from a
counter that rose when it was under way, and a counter explains no more packets than it counted. What is left over is
"not explained": a fault of ours, until somebody knows better.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from lab.inspect_run import RunRecord
from lab.inspect_track import Loss

WIRE_REASONS = ("queue", "loss", "cut")
REASON_WORDS = {"queue": "wire: its queue was full", "loss": "wire: lost by chance", "cut": "wire: cut"}
UNDER_WAY_S = 0.25              # how long after it was sent a packet may still reach the place where it is dropped
NOT_EXPLAINED = "not explained"
OMITTED = "likely no loss: a number that the sender left out, to catch acknowledgements of what was not sent (RFC 9000 §21.4)"
NO_COUNTERS = "not explained: the capture has no run with counters beside it"
# Counters of the receiving engine behind which an outer packet may have vanished; sending ones come under `udp_send_failed`.
RECEIVER = ("udp_receive_overflow", "auth_failed", "cid_unknown", "keys_unavailable", "path_limit", "path_abandoned",
            "conn_closing", "fixed_bit", "datagram_short", "cid_unroutable_link")


@dataclass(frozen=True, slots=True)
class Explained:
    loss: Loss
    t: float | None             # seconds of the run; None when it has no clock
    reason: str                 # its first words are the place: wire, engine, not explained


class Explainer:
    """Explains losses in the order of their time; every counter is used once."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._cuts = run.cuts()
        self._steps = self._wire_steps()
        self._totals = self._wire_totals()
        drops = run.result.get("drops")
        self._drops = {str(name): int(value) for name, value in drops.items() if isinstance(value, int)} \
            if isinstance(drops, dict) else {}
        capture = run.result.get("capture")
        self._capture_drops = {name: int(capture.get(name) or 0) for name in ("dropped_kernel", "dropped_limit")} \
            if isinstance(capture, dict) else {}
        self._known = bool(run.events or run.result or self._steps)

    def _wire_steps(self) -> dict[tuple[str, str], list[tuple[float, float, dict[str, int]]]]:
        """(access, direction) -> (from, to, dropped by reason) of each sample in which something was dropped."""
        out: dict[tuple[str, str], list[tuple[float, float, dict[str, int]]]] = {}
        last: dict[tuple[str, str], tuple[float, list[int]]] = {}
        for sample in self._run.samples:
            wires = sample.get("wires")
            for access, ways in wires.items() if isinstance(wires, dict) else ():
                for way in ("up", "down"):
                    counts = ways.get(way) if isinstance(ways, dict) else None
                    if not (isinstance(counts, list) and len(counts) == 3 and all(isinstance(c, int) for c in counts)):
                        continue
                    then, before = last.get((access, way), (0.0, [0, 0, 0]))
                    rose = {why: now - was for why, now, was in zip(WIRE_REASONS, counts, before, strict=True) if now > was}
                    if rose:
                        out.setdefault((access, way), []).append((then, float(sample["t"]), rose))
                    last[access, way] = (float(sample["t"]), counts)
        return out

    def _wire_totals(self) -> dict[tuple[str, str], dict[str, int]]:
        out = {}
        wires = self._run.result.get("wires")
        for access, ways in wires.items() if isinstance(wires, dict) else ():
            for way in ("up", "down"):
                counts = ways.get(way) if isinstance(ways, dict) else None
                if isinstance(counts, dict):
                    out[access, way] = {why: int(counts.get(f"dropped_{why}") or 0) for why in WIRE_REASONS}
        return out

    def explain(self, losses: list[Loss]) -> list[Explained]:
        ordered = sorted(losses, key=lambda loss: (loss.from_ns, loss.path, loss.number))
        numbers = {(loss.connection, loss.path, loss.number) for loss in ordered if not loss.up}
        out = []
        for loss in ordered:
            one = self._one(loss)
            beside = any((loss.connection, loss.path, loss.number + step) in numbers for step in (-1, 1))
            if one.reason == NOT_EXPLAINED and not loss.up and not beside:
                one = Explained(loss, one.t, OMITTED)       # a burst has neighbours, and a wire counts what it drops
            out.append(one)
        return out

    def _one(self, loss: Loss) -> Explained:
        way = "up" if loss.up else "down"
        start, end = self._run.seconds(loss.from_ns), self._run.seconds(loss.to_ns)
        if not self._known:
            return Explained(loss, start, NO_COUNTERS)
        if start is not None and end is not None:
            # an uplink packet is dropped within moments of being sent; a downlink one between those that arrived around it
            first, last = (start, start + UNDER_WAY_S) if loss.up else (start - UNDER_WAY_S, end)
            for span in self._cuts.get(loss.access, []):
                if span.start <= last and span.end >= first and self._wire(loss.access, way, first, last, ("cut",)):
                    return Explained(loss, start, f"wire: cut of {loss.access} from {span.start:.3f} s")
            why = self._wire(loss.access, way, first, last, ("queue", "loss"))
            if why:
                return Explained(loss, start, REASON_WORDS[why])
        elif (why := self._total(loss.access, way, WIRE_REASONS)):
            return Explained(loss, start, REASON_WORDS[why])
        return Explained(loss, start, self._engine(loss.up) or self._capture(loss.up) or NOT_EXPLAINED)

    def _wire(self, access: str, way: str, first: float, last: float, reasons: tuple[str, ...]) -> str:
        """Takes one from the samples that overlap the interval; without samples, from the wire's totals."""
        steps = self._steps.get((access, way))
        if steps is None:
            return self._total(access, way, reasons) if not self._steps else ""
        for begin, end, rose in steps:
            if begin <= last and end >= first:
                for why in reasons:
                    if rose.get(why, 0) > 0:
                        rose[why] -= 1
                        return why
        return ""

    def _total(self, access: str, way: str, reasons: tuple[str, ...]) -> str:
        totals = self._totals.get((access, way), {})
        for why in reasons:
            if totals.get(why, 0) > 0:
                totals[why] -= 1
                return why
        return ""

    def _engine(self, up: bool) -> str:
        sender, receiver = ("ue", "upf") if up else ("upf", "ue")
        for name in [f"{sender}.udp_send_failed", *(f"{receiver}.{counter}" for counter in RECEIVER)]:
            if self._drops.get(name, 0) > 0:
                self._drops[name] -= 1
                return f"engine: counter {name}"
        return ""

    def _capture(self, up: bool) -> str:
        """A downlink packet may have arrived and not have been captured."""
        for name, count in self._capture_drops.items():
            if not up and count > 0:
                self._capture_drops[name] -= 1
                return f"capture: its own counter {name}"
        return ""


def summary(explained: list[Explained]) -> dict[str, int]:
    return dict(Counter(one.reason for one in explained).most_common())


def why_document(explained: list[Explained], more: int) -> dict[str, Any]:
    """`mpq inspect --dropped --json`. more: losses beyond those that are told one by one."""
    return {"lost": len(explained), "not_told": more, "reasons": summary(explained), "packets": [
        {"t": one.t, "connection": one.loss.connection, "path": one.loss.path, "access": one.loss.access,
         "direction": "up" if one.loss.up else "down", "pn": one.loss.number, "record": one.loss.record or None,
         "reason": one.reason} for one in explained]}


def why_lines(explained: list[Explained], more: int) -> list[str]:
    lines = [f"{len(explained)} packets were lost on their way" + (f", and {more} more, too many to tell" if more else "")]
    lines += [f"  {count:>6}  {reason}" for reason, count in summary(explained).items()]
    if explained:
        lines.append(f"{'time/s':>11} {'dir':<4} {'path':>4} {'pn':>8} {'No.':>8} {'access':<10} reason")
    for one in explained:
        t = "-" if one.t is None else f"{one.t:.6f}"
        lines.append(f"{t:>11} {'up' if one.loss.up else 'down':<4} {one.loss.path:>4} {one.loss.number:>8} "
                     f"{one.loss.record or '-':>8} {one.loss.access:<10} {one.reason}")
    return lines
