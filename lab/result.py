"""`result.json` (design §5): the figures of a run, its checks and its verdict. Verdicts come from the receivers, the
capture and each node's own events, never from a sender's word. A check that could not be made is a check that failed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from lab.aims import AIMS
from lab.check import NO_VALUE, Check
from lab.measured import Figures, merged
from lab.numbers import percentile
from lab.paths import access_name, shown
from lab.run import PhaseRecord, RunRecord
from lab.sampler import ACCESS_TYPES
from lab.scenario import Scenario

SCHEMA = 1
GAP_WINDOW_S = 3.0
LONGEST_GAP_MS = 1000.0
LEAST_SHARE = 0.75
LEAST_BENEFIT = 0.85
LEAST_BENEFIT_EQUAL = 0.93  # over paths that are alike


def versions() -> dict[str, str]:
    found = {"kernel": platform.release(), "python": platform.python_version()}
    for package in ("mpquic-upf", "aioquic", "cryptography", "cffi"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    return {"cpus": os.cpu_count() or 0, "architecture": platform.machine(), "root": os.geteuid() == 0}


class Judge:
    """Reads a run's record."""

    def __init__(self, record: RunRecord) -> None:
        self._run = record
        self._names = {ACCESS_TYPES.index(a.type): a.name for a in record.scenario.accesses}
        self._figures = Figures(record)

    @property
    def scenario(self) -> Scenario:
        return self._run.scenario

    # ---- figures (docs/figures.md)

    def phases(self) -> list[dict[str, Any]]:
        """One document for each phase of the scenario that ran: of several turns the medians."""
        return [merged([self._figures.phase(r) for r in turns])
                | {"aggregation_benefit": self.benefit(name), "of_better": self.of_better(name)}
                for name, turns in self._turns().items()]

    def phase(self, name: str) -> dict[str, Any] | None:
        return next((p for p in self.phases() if p["id"] == name), None)

    def _turns(self) -> dict[str, list[PhaseRecord]]:
        found: dict[str, list[PhaseRecord]] = {}
        for record in self._run.phases:
            found.setdefault(record.phase.id, []).append(record)
        return found

    def goodput(self, phase: str) -> float | None:
        values = [r.traffic.goodput_mbps for r in self._turns().get(phase, [])]
        return None if not values or None in values else median(v for v in values if v is not None)

    def benefit(self, phase: str) -> float | None:
        """Of a phase `multi.<direction>`: what the paths give together above the best of them, as a share of what the others could
        have added, (G_multi - G_best) / (sum of G_i - G_best). None unless each ran alone (`alone.<access>.<direction>`)."""
        multi, alone = self.goodput(phase), self.alone(phase)
        if multi is None or not alone:
            return None
        best = max(alone)
        return round((multi - best) / (sum(alone) - best), 3)

    def of_better(self, phase: str) -> float | None:
        """Of a phase `multi.<direction>`: what the paths give together, as a multiple of what the better one gives alone."""
        multi, alone = self.goodput(phase), self.alone(phase)
        return None if multi is None or not alone else round(multi / max(alone), 3)

    def alone(self, phase: str) -> list[float]:
        """The goodput of each access alone, of a phase `multi.<direction>`; empty unless all were measured."""
        kind, _, direction = phase.partition(".")
        found = []
        for access in self._run.scenario.accesses:
            turns = self._turns().get(f"alone.{access.name}.{direction}", []) if kind == "multi" else []
            goodput = self.goodput(turns[0].phase.id) if turns and turns[0].phase.only == access.name else None
            if not goodput:
                return []
            found.append(goodput)
        return found

    def outages(self) -> list[dict[str, Any]]:
        return [outage for record in self._run.phases for outage in self._figures.outages(record)]

    def gap_ms(self, record: PhaseRecord, at: float, until: float) -> float | None:
        return self._figures.gap_ms(record, at, until)

    def keys(self) -> list[dict[str, Any]]:
        """Per generation, the fingerprint that each node told of in its own event."""
        found: dict[int, dict[str, Any]] = {}
        times: dict[int, dict[str, float]] = {}
        names = {("amf", "key_derived"): "amf", ("ue", "key_received"): "ue", ("upf", "key_installed"): "upf"}
        for event in self._run.events:
            who = names.get((event["node"], event["event"]))
            generation = event.get("generation")
            if who is None or not isinstance(generation, int):
                continue
            entry = found.setdefault(generation, {"generation": generation, "reason": "", "ue": "", "amf": "", "upf": "",
                                                  "delivered_ms": None})
            entry[who] = str(event.get("fingerprint", ""))
            times.setdefault(generation, {})[who] = float(event["t"])
            if who == "amf":
                entry["reason"] = str(event.get("reason", "")).lower()
        for generation, entry in found.items():
            t = times[generation]
            if len(t) == 3:
                entry["delivered_ms"] = round((max(t["ue"], t["upf"]) - t["amf"]) * 1000, 1)
        return [found[g] for g in sorted(found)]

    def paths(self) -> dict[str, Any]:
        states = {v: k for k, v in {"unused": 0, "validating": 1, "active": 2, "standby": 3, "suspect": 4, "failed": 5,
                                    "abandoned": 6}.items()}
        result: dict[str, Any] = {}
        for name, sums in self._run.path_sums.items():
            path = shown(p for p in self._run.paths if access_name(p) == name) or {"state": "none"}
            state = path.get("state", "")
            rtts = sorted(self._run.rtt_ms.get(name) or [float(path.get("rtt_smoothed", 0)) / 1e6])
            result[name] = {
                "packets": sums["packets_sent"] + sums["packets_received"],
                "bytes": sums["bytes_sent"] + sums["bytes_received"],
                "rtt_ms": {"p50": round(percentile(rtts, 50), 2), "p99": round(percentile(rtts, 99), 2)},
                "lost": sums["packets_lost"],
                "state": states.get(state, str(state)) if isinstance(state, int) else str(state),
                "reason": str(path.get("reason", "")),
            }
        return result

    # ---- checks

    def checks(self) -> list[Check]:
        run = self._run
        found: list[Check] = []
        if run.error:
            found.append(Check("run", False, NO_VALUE, "", "the run reaches its end", run.error))
        for record in run.phases:
            if record.traffic.error:
                found.append(Check(f"{record.phase.id}.traffic", False, NO_VALUE, "", "traffic flows", record.traffic.error))
            for step, _, error in record.steps:
                if error:
                    found.append(Check(f"{record.phase.id}.{step.kind}", False, NO_VALUE, "", "the step succeeds", error))
        found += [self._named(name) for name in run.scenario.checks]
        return found + [replace(self._named(name), fatal=False) for name in run.scenario.aims]

    def _named(self, name: str) -> Check:
        return CHECKS[name](self) if name in CHECKS else Check(name, False, NO_VALUE, "", "", "there is no such check")

    def _share(self, phase: str) -> Check:
        aim = LEAST_SHARE
        found = self.phase(phase)
        share = None if found is None else found["share_of_wires"]
        text = f">= {aim:g}"
        if share is None:
            return Check(f"{phase}.share", False, NO_VALUE, "", text, "not measured")
        why = "" if share >= aim or found is None else f"per path {found['per_path_mbps']} Mbit/s"
        return Check(f"{phase}.share", share >= aim, share, "of the wires' sum", text, why)

    def _benefit(self, direction: str, least: float = LEAST_BENEFIT, of: str = "") -> Check:
        name, text = f"aggregation.{of}{direction}", f">= {least:g}"
        value = self.benefit(f"multi.{direction}")
        if value is None:
            why = f"needs the phases multi.{direction} and alone.<access>.{direction} of each access"
            return Check(name, False, NO_VALUE, "", text, why)
        return Check(name, value >= least, value, "of what the other path can add", text)

    def _hash(self) -> Check:
        found = [r.traffic for r in self._turns().get("http.down", [])]
        if not found or not all(t.sha256_received for t in found):
            return Check("http.sha256", False, NO_VALUE, "", "equal at both ends", "no download")
        equal = all(t.sha256_received == t.sha256_sent for t in found)
        return Check("http.sha256", equal, found[0].sha256_received[:16], "", "equal at both ends")

    def first_outage(self, figure: str) -> float | None:
        """Of the first cut of the scenario, the median of its turns; None unless each was measured."""
        outages = self.outages()
        values = [o[figure] for o in outages if (o["phase"], o["step"]) == (outages[0]["phase"], outages[0]["step"])]
        return None if not values or None in values else float(median(values))

    def _cut_gap(self) -> Check:
        gap = self.first_outage("longest_gap_ms")
        return Check("cut.longest_gap", gap is not None and gap <= LONGEST_GAP_MS, NO_VALUE if gap is None else gap, "ms",
                     f"<= {LONGEST_GAP_MS:g}", "not measured" if gap is None else "")

    def _cut_back(self) -> Check:
        back = self.first_outage("back_in_use_ms")
        return Check("cut.path_back", back is not None, NO_VALUE if back is None else back, "ms",
                     "the restored path carries again", "it carried nothing" if back is None else "")

    def _rekey(self, by: str) -> Check:
        name, text = f"rekey.{by}.gap", f"<= {LONGEST_GAP_MS:g}"
        gaps: list[float] = []
        for record in self._run.phases:
            for step, at, error in record.steps:
                if step.kind == "rekey" and step.target == by:
                    gap = self.gap_ms(record, at, min(at + GAP_WINDOW_S, record.end))
                    if error or gap is None:
                        return Check(name, False, NO_VALUE, "ms", text, error or "not measured")
                    gaps.append(gap)
        if not gaps:
            return Check(name, False, NO_VALUE, "ms", text, "no such step was reached")
        return Check(name, median(gaps) <= LONGEST_GAP_MS, median(gaps), "ms", text)

    def _attacks(self) -> Check:
        """That none failed is the steps' own check; here that there were any."""
        made = [step for record in self._run.phases for step, _, error in record.steps if step.kind == "attack" and not error]
        asked = self._run.scenario.repeat * sum(a.kind == "attack" for phase in self._run.scenario.steps for a in phase.actions)
        ok = 0 < asked == len(made)
        return Check("attacks.seen", ok, len(made), f"of {asked}", "each is counted by name and changes nothing",
                     "" if ok else "not all were counted, or there is none")

    def _attacks_gap(self) -> Check:
        gaps = [self.gap_ms(r, r.start, r.end) for r in self._run.phases if any(s.kind == "attack" for s, _, _ in r.steps)]
        measured = [g for g in gaps if g is not None]
        ok = bool(measured) and len(measured) == len(gaps) and max(measured) <= LONGEST_GAP_MS
        value = max(measured) if measured else NO_VALUE
        return Check("attacks.gap", ok, value, "ms", f"<= {LONGEST_GAP_MS:g}", "" if measured else "not measured")

    def _old_key(self) -> Check:
        return Check("oldkey.refused", self._run.old_key == "key refused", self._run.old_key, "", "key refused")

    def _keys_equal(self) -> Check:
        keys = self.keys()
        bad = [k["generation"] for k in keys if not k["amf"] or not k["ue"] == k["amf"] == k["upf"]]
        ok = len(keys) >= 3 and not bad
        why = "" if ok else (f"generations {bad} differ" if bad else "fewer than three generations")
        return Check("keys.equal", ok, len(keys), "generations", "UE, AMF and UPF tell the same fingerprint", why)

    def _keys_fresh(self) -> Check:
        prints = [k["amf"] for k in self.keys()]
        return Check("keys.fresh", len(prints) >= 3 and len(set(prints)) == len(prints), len(set(prints)), "different",
                     "a new key for each generation")

    def _both_carry(self) -> Check:
        aim = "one client random per generation; path 0 and a further one carry data"
        verified = self._run.verified
        randoms = int(verified.get("client_randoms", 0))
        connections = verified.get("connections", [])
        carrying = sorted({int(p) for c in connections for p, n in c["datagrams"].items() if n})
        generations = len(self.keys())
        ok = randoms == generations >= 1 and 0 in carrying and any(p > 0 for p in carrying)
        why = "" if ok else f"{randoms} client randoms for {generations} generations; paths {carrying} carry data"
        return Check("paths.both_carry", ok, randoms, "client randoms", aim, why)

    def _decrypted(self) -> Check:
        verified = self._run.verified
        packets, clear = int(verified.get("packets", 0)), int(verified.get("decrypted", 0))
        ok = bool(verified.get("ok", packets == clear)) and packets > 0 and packets == clear
        why = "" if ok else str(verified.get("error") or verified.get("not_decrypted") or "no packets")
        return Check("capture.decrypted", ok, clear, f"of {packets} packets", "every 1-RTT packet of every path", why)

    def document(self) -> dict[str, Any]:
        run = self._run
        checks = [c.document() for c in self.checks()]
        return {
            "schema": SCHEMA,
            "scenario": run.scenario.name,
            "run": str(run.run_dir),
            "verdict": "pass" if all(c["ok"] for c in checks if c["fatal"]) and not run.error else "fail",
            "error": run.error,
            "duration_s": round(run.duration, 1),
            "up_s": round(run.up_s, 2),
            "versions": versions(),
            "machine": machine(),
            "wire_realtime": run.wire_realtime,
            "checks": checks,
            "repeat": run.scenario.repeat,
            "phases": self.phases(),
            "outages": self.outages(),
            "keys": self.keys(),
            "paths": self.paths(),
            "drops": dict(sorted(run.drops.items())),
            "reorder": run.reorder,
            "cpu": run.cpu,
            "wires": run.wires,
            "capture": run.capture,
        }


CHECKS: dict[str, Callable[[Judge], Check]] = {
    "tcp8.up.share": lambda j: j._share("tcp8.up"),
    "tcp8.down.share": lambda j: j._share("tcp8.down"),
    "aggregation.up": lambda j: j._benefit("up"),
    "aggregation.down": lambda j: j._benefit("down"),
    "aggregation.equal.up": lambda j: j._benefit("up", LEAST_BENEFIT_EQUAL, "equal."),
    "aggregation.equal.down": lambda j: j._benefit("down", LEAST_BENEFIT_EQUAL, "equal."),
    "http.sha256": Judge._hash,
    "cut.longest_gap": Judge._cut_gap,
    "cut.path_back": Judge._cut_back,
    "rekey.core.gap": lambda j: j._rekey("core"),
    "rekey.ue.gap": lambda j: j._rekey("ue"),
    "keys.equal": Judge._keys_equal,
    "keys.fresh": Judge._keys_fresh,
    "attacks.seen": Judge._attacks,
    "attacks.gap": Judge._attacks_gap,
    "oldkey.refused": Judge._old_key,
    "paths.both_carry": Judge._both_carry,
    "capture.decrypted": Judge._decrypted,
    **AIMS,
}
