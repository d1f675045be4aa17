"""The aims of the project as checks of a run: each is one figure of docs/figures.md with its bound. A scenario asks for them by
name, under `checks` (the run fails without) or under `aims` (told only)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from lab.check import NO_VALUE, Check
from lab.scenario import Scenario

BETTER_SHARE = 0.95
"""Of the better path alone: below it by more than what two runs of the same differ."""
GAP_OF_RTTS, GAP_BESIDE_MS = 3, 50.0
IDLE_KBPS = 1.0
LOSS_COST = 0.10
PAGE_S = 3.0
BLOAT_MS = 50.0
RIVAL_SHARE = 1.2
"""Of one flow of the kernel at the same bottleneck: RFC 6356 §2 asks for no more than that, and two runs of the same differ."""
RIVAL_LEAST = 0.25
GAME_MS = 100.0


class Run(Protocol):
    """What an aim needs of lab.result.Judge."""

    @property
    def scenario(self) -> Scenario: ...

    def phases(self) -> list[dict[str, Any]]: ...

    def phase(self, name: str) -> dict[str, Any] | None: ...

    def goodput(self, phase: str) -> float | None: ...

    def of_better(self, phase: str) -> float | None: ...

    def first_outage(self, figure: str) -> float | None: ...

    def outages(self) -> list[dict[str, Any]]: ...


def at_most(name: str, value: float | None, bound: float, unit: str, why: str) -> Check:
    aim = f"<= {bound:g}"
    if value is None:
        return Check(name, False, NO_VALUE, unit, aim, why)
    return Check(name, value <= bound, round(value, 4), unit, aim)


def better(run: Run, direction: str) -> Check:
    """Never below the better path alone."""
    name, aim, unit = f"better.{direction}", f">= {BETTER_SHARE:g}", "of the better path alone"
    share = run.of_better(f"multi.{direction}")
    if share is None:
        why = f"needs the phases multi.{direction} and alone.<access>.{direction} of each access"
        return Check(name, False, NO_VALUE, unit, aim, why)
    return Check(name, share >= BETTER_SHARE, share, unit, aim)


def gap_of_rtt(run: Run) -> Check:
    """A path that falls silent is left after one PTO: three RTTs of it, and 50 ms for the peer's ACK delay and our timers."""
    name = "cut.gap_of_rtt"
    outages = run.outages()
    access = run.scenario.access(outages[0]["cause"].split()[-1]) if outages else None
    if access is None:
        return Check(name, False, NO_VALUE, "ms", f"<= {GAP_OF_RTTS} RTT + {GAP_BESIDE_MS:g}", "no access was cut")
    bound = GAP_OF_RTTS * (access.up.delay_ms + access.down.delay_ms) + GAP_BESIDE_MS
    return at_most(name, run.first_outage("longest_gap_ms"), bound, "ms", "needs a probe")


def lost_at_cut(run: Run) -> Check:
    """Redundant steering: what the path that was cut had under way comes over the other one."""
    outages = run.outages()
    probed = [o["lost"] for o in outages if o["longest_gap_ms"] is not None]
    return at_most("cut.lost", sum(probed) if probed and len(probed) == len(outages) else None, 0, "probe packets",
                   "needs an access that is cut, and a probe")


def idle(run: Run) -> Check:
    """What the second path costs while nothing has to go over it: keep-alives, acknowledgements, NAS, headers and all."""
    found = run.phase("idle")
    return at_most("idle.second_path", None if found is None else found["idle_path_kbps"], IDLE_KBPS, "kbit/s", "no phase idle")


def loss_cost(run: Run) -> Check:
    """What is missing of the sum when one path loses: phases `clean.down` and `lossy.down`."""
    clean, lossy = run.goodput("clean.down"), run.goodput("lossy.down")
    cost = None if not clean or lossy is None else 1 - lossy / clean
    return at_most("loss.cost", cost, LOSS_COST, "of the goodput without loss", "needs the phases clean.down and lossy.down")


def page_load(run: Run) -> Check:
    loads = [p["page_load_s"]["p50"] for p in run.phases() if p["page_load_s"] is not None]
    return at_most("page.load", max(loads, default=None), PAGE_S, "s", "no page was loaded")


def stalls(run: Run) -> Check:
    counts = [p["stalls"] for p in _probed(run, "video")]
    return at_most("video.stalls", None if not counts or None in counts else sum(counts), 0, "stalls", "no phase with probe: video")


def game_delay(run: Run) -> Check:
    delays: list[float | None] = [d["p99"] if d else None for p in _probed(run, "game") for d in (p["delay_ms"] or {}).values()]
    known = [d for d in delays if d is not None]
    return at_most("game.delay", max(known) if known and len(known) == len(delays) else None, GAME_MS, "ms (p99)",
                   "no phase with probe: game, or nothing came")


def bloat(run: Run) -> Check:
    """What a bulk flow adds to the delay of small packets: phases `idle.down` and `bulk.down`, both with the probe."""
    idle_phase, bulk = run.phase("idle.down"), run.phase("bulk.down")
    before = (idle_phase or {}).get("delay_ms") or {}
    beside = (bulk or {}).get("delay_ms") or {}
    known = before.get("down") and beside.get("down")
    added = beside["down"]["p95"] - before["down"]["p50"] if known else None
    why = "needs the phases idle.down and bulk.down with a probe"
    return at_most("bloat.delay", added, BLOAT_MS, "ms (p95, beside a bulk flow)", why)


def coupled(run: Run) -> Check:
    """The session over both paths, beside one TCP flow of the kernel at the bottleneck that they share."""
    name, aim, unit = "coupled.share", f"{RIVAL_LEAST:g} .. {RIVAL_SHARE:g}", "of the rival's goodput"
    found = next((p for p in run.phases() if p["rival_mbps"] is not None), None)
    if found is None or found["goodput_mbps"] is None or not found["rival_mbps"]:
        return Check(name, False, NO_VALUE, unit, aim, "needs a phase with rival, and its goodput")
    share = round(found["goodput_mbps"] / found["rival_mbps"], 3)
    return Check(name, RIVAL_LEAST <= share <= RIVAL_SHARE, share, unit, aim)


def _probed(run: Run, kind: str) -> list[dict[str, Any]]:
    names = [p.id for p in run.scenario.steps if p.probe == kind]
    return [found for name in names if (found := run.phase(name)) is not None]


AIMS: dict[str, Callable[[Run], Check]] = {
    "better.up": lambda run: better(run, "up"),
    "better.down": lambda run: better(run, "down"),
    "cut.gap_of_rtt": gap_of_rtt,
    "cut.lost": lost_at_cut,
    "idle.second_path": idle,
    "loss.cost": loss_cost,
    "page.load": page_load,
    "video.stalls": stalls,
    "game.delay": game_delay,
    "bloat.delay": bloat,
    "coupled.share": coupled,
}
