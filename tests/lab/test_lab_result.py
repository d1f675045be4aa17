"""The verdict: each check fails when what it is about is wrong, or was not measured; result.json keeps its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import lab
from lab.aims import AIMS
from lab.paths import PathTotals
from lab.result import CHECKS, Judge
from lab.run import PhaseRecord, RunRecord, drops_of
from lab.sampler import Sample
from lab.scenario import Action, Phase, find, load
from lab.traffic import TrafficResult

SCHEMA = json.loads((Path(lab.__file__).parent / "result.schema.json").read_text())
START = 1000.0  # CLOCK_MONOTONIC


def connections(datagrams: dict[str, int]) -> list[dict[str, Any]]:
    """As verify_capture tells them: three, each with so many DATAGRAM frames by path."""
    return [{"client_random": c * 64, "packets": datagrams, "datagrams": datagrams} for c in "abc"]


class Samples:
    """Stands for a Sampler: the path carried again after a while."""

    def __init__(self, back: float | None) -> None:
        self.back = back

    def first_after(self, t: float, access: int, octets: int) -> float | None:
        return None if self.back is None else t + self.back


def probe(*gaps: tuple[float, float], received: int = 100) -> dict[str, Any]:
    flow = {"received": received, "lost": 3, "reordered": 0, "duplicates": 0, "gaps": [[START + a, START + b] for a, b in gaps]}
    return {"up": {"flows": {"0": dict(flow)}, "malformed": 0}, "down": {"flows": {"0": dict(flow)}, "malformed": 0}}


def traffic(phase: Phase, at: float) -> TrafficResult:
    if phase.traffic == "http":
        return TrafficResult(goodput_mbps=100.0, octets=16_000_000, sha256_sent="ab" * 32, sha256_received="ab" * 32)
    result = TrafficResult(goodput_mbps=125.0, octets=50_000_000)
    if phase.probe:
        result.probe = probe((at + 1.1, at + 1.4))
    return result


def good() -> RunRecord:
    scenario = load(find("demo"))
    record = RunRecord(scenario, Path("runs/x"), start=START, duration=42.0, up_s=1.5, wire_realtime=True)
    at = 2.0
    for phase in scenario.steps:
        steps = [(a, at + a.at, "") for a in phase.actions]
        end = at + phase.seconds
        after = Sample(end, (10_000_000, 20_000_000), (10_000_000, 20_000_000))
        record.phases.append(PhaseRecord(phase, at, end, Sample(at, (0, 0), (0, 0)), after, traffic(phase, at), steps))
        at = end
    for generation in (1, 2, 3):
        for node, event in (("amf", "key_derived"), ("ue", "key_received"), ("upf", "key_installed")):
            record.events.append({"t": generation + 0.01, "node": node, "event": event, "generation": generation,
                                  "fingerprint": f"0000000{generation}", "reason": "POLICY"})
    record.sampler = Samples(0.2)  # type: ignore[assignment]
    record.old_key = "key refused"
    record.verified = {"ok": True, "packets": 900, "decrypted": 900, "client_randoms": 3, "not_decrypted": [],
                       "connections": connections({"0": 100, "1": 80})}
    path = {"access": "3gpp", "path": 0, "packets_sent": 5, "packets_received": 6, "bytes_sent": 7, "bytes_received": 8,
            "rtt_smoothed": 30_000_000, "rtt_min": 30_000_000, "packets_lost": 0, "state": "active", "reason": "none"}
    record.paths = [path, {**path, "access": "wifi", "path": 1}]
    totals = PathTotals()
    totals.see(record.paths)
    record.path_sums = totals.sums()
    record.drops = {"upf.ingress_filter": 0}
    return record


def phase(record: RunRecord, name: str) -> PhaseRecord:
    return next(p for p in record.phases if p.phase.id == name)


def without(name: str) -> Callable[[RunRecord], None]:
    return lambda record: record.phases.remove(phase(record, name))


def spoil(name: str, **values: Any) -> Callable[[RunRecord], None]:
    def change(record: RunRecord) -> None:
        for key, value in values.items():
            setattr(phase(record, name).traffic, key, value)

    return change


def fingerprint(node: str, generation: int, value: str) -> Callable[[RunRecord], None]:
    def change(record: RunRecord) -> None:
        for event in record.events:
            if event["node"] == node and event["generation"] == generation:
                event["fingerprint"] = value

    return change


def all_fingerprints(generation: int, value: str) -> Callable[[RunRecord], None]:
    def change(record: RunRecord) -> None:
        for node in ("amf", "ue", "upf"):
            fingerprint(node, generation, value)(record)

    return change


def setting(**values: Any) -> Callable[[RunRecord], None]:
    def change(record: RunRecord) -> None:
        for key, value in values.items():
            setattr(record, key, value)

    return change


def verified(**values: Any) -> Callable[[RunRecord], None]:
    return lambda record: record.verified.update(values)


def step_failed(name: str) -> Callable[[RunRecord], None]:
    def change(record: RunRecord) -> None:
        one = phase(record, name)
        one.steps = [(a, t, "amf: no answer") for a, t, _ in one.steps]

    return change


def events_gone(node: str) -> Callable[[RunRecord], None]:
    return lambda record: setattr(record, "events", [e for e in record.events if e["node"] != node])


WRONG: list[tuple[str, str, Callable[[RunRecord], None]]] = [
    ("tcp8.up.share", "half", spoil("tcp8.up", goodput_mbps=75.0)),
    ("tcp8.up.share", "not measured", without("tcp8.up")),
    ("tcp8.up.share", "no figure", spoil("tcp8.up", goodput_mbps=None)),
    ("tcp8.down.share", "half", spoil("tcp8.down", goodput_mbps=75.0)),
    ("tcp8.down.share", "not measured", without("tcp8.down")),
    ("http.sha256", "differs", spoil("http.down", sha256_received="cd" * 32)),
    ("http.sha256", "empty", spoil("http.down", sha256_received="", sha256_sent="")),
    ("http.sha256", "not measured", without("http.down")),
    ("cut.longest_gap", "not measured", without("cut")),
    ("cut.longest_gap", "no probe", spoil("cut", probe={})),
    ("cut.longest_gap", "a flow got nothing", spoil("cut", probe=probe(received=0))),
    ("cut.path_back", "never", setting(sampler=Samples(None))),
    ("cut.path_back", "not measured", without("cut")),
    ("rekey.core.gap", "refused", step_failed("rekey.core")),
    ("rekey.core.gap", "no probe", spoil("rekey.core", probe={})),
    ("rekey.ue.gap", "refused", step_failed("rekey.ue")),
    ("rekey.ue.gap", "not measured", without("rekey.ue")),
    ("keys.equal", "UPF differs", fingerprint("upf", 2, "deadbeef")),
    ("keys.equal", "UE differs", fingerprint("ue", 3, "deadbeef")),
    ("keys.equal", "UE silent", events_gone("ue")),
    ("keys.equal", "AMF silent", events_gone("amf")),
    ("keys.equal", "nobody spoke", setting(events=[])),
    ("keys.fresh", "same again", all_fingerprints(3, "00000001")),
    ("keys.fresh", "nobody spoke", setting(events=[])),
    ("oldkey.refused", "it worked", setting(old_key="connected")),
    ("oldkey.refused", "not tried", setting(old_key="")),
    ("oldkey.refused", "silence", setting(old_key="no answer")),
    ("paths.both_carry", "path 0 only", verified(connections=connections({"0": 9}))),
    ("paths.both_carry", "path 1 idle", verified(connections=connections({"0": 9, "1": 0}))),
    ("paths.both_carry", "one connection for all", verified(client_randoms=1)),
    ("paths.both_carry", "no capture", setting(verified={})),
    ("capture.decrypted", "one is not", verified(decrypted=899, ok=False)),
    ("capture.decrypted", "empty", verified(packets=0, decrypted=0)),
    ("capture.decrypted", "no capture", setting(verified={"error": "nothing"})),
]


def verdicts(record: RunRecord) -> dict[str, bool]:
    document = Judge(record).document()
    found = {c["id"]: c["ok"] for c in document["checks"]}
    assert document["verdict"] == ("pass" if all(found.values()) and not record.error else "fail")
    return found


def test_a_good_run_passes_and_keeps_the_schema() -> None:
    document = Judge(good()).document()
    assert document["verdict"] == "pass", document["checks"]
    assert [c["id"] for c in document["checks"]] == list(load(find("demo")).checks)
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(document)))


@pytest.mark.parametrize(("check", "why", "change"), WRONG, ids=[f"{c}: {w}" for c, w, _ in WRONG])
def test_a_check_fails_when_what_it_is_about_is_wrong(check: str, why: str, change: Callable[[RunRecord], None]) -> None:
    record = good()
    change(record)
    assert verdicts(record)[check] is False


@pytest.mark.parametrize("name", ["cut", "rekey.core", "rekey.ue"])
def test_a_silence_of_over_a_second_fails(name: str) -> None:
    record = good()
    one = phase(record, name)
    one.traffic.probe = probe((one.start + 0.9, one.start + 2.0))
    check = "cut.longest_gap" if name == "cut" else f"{name}.gap"
    assert verdicts(record)[check] is False


def test_every_check_of_the_demo_has_a_case_that_fails() -> None:
    demo = set(load(find("demo")).checks)
    others = {c for c in CHECKS if c.startswith(("attacks.", "aggregation."))} | set(AIMS)
    assert {c for c, _, _ in WRONG} == demo == set(CHECKS) - others


def attacked(error: str = "", gap: tuple[float, float] | None = None) -> dict[str, bool]:
    """The verdicts on attacks of a run with one, in its phase `cut`; `error`: of its step."""
    record = good()
    one = phase(record, "cut")
    attack = Action(1.0, "attack", "quic-replay")
    one.phase = replace(one.phase, actions=(attack,))
    one.steps = [(attack, one.start + 1.0, error)]
    if gap is not None:
        one.traffic.probe = probe((one.start + gap[0], one.start + gap[1]))
    record.scenario = replace(record.scenario, steps=(one.phase,), checks=("attacks.seen", "attacks.gap"))
    return verdicts(record)


def test_attacks_are_seen_and_cost_nothing() -> None:
    fine = attacked()
    assert fine["attacks.seen"] and fine["attacks.gap"]
    assert not attacked("not counted: upf:packet_duplicate +0 of 1")["attacks.seen"]
    assert not attacked(gap=(0.9, 2.0))["attacks.gap"]


def test_a_run_without_attacks_has_seen_none() -> None:
    record = good()
    record.scenario = replace(record.scenario, checks=("attacks.seen", "attacks.gap"))
    assert not verdicts(record)["attacks.seen"] and not verdicts(record)["attacks.gap"]


def test_an_error_fails_a_run_whose_checks_all_pass() -> None:
    record = good()
    record.error = "upf ended"
    assert Judge(record).document()["verdict"] == "fail"


def test_an_unknown_check_is_a_failed_one() -> None:
    record = good()
    record.scenario = replace(record.scenario, checks=("it.works",))
    assert verdicts(record) == {"it.works": False}


def test_the_schema_refuses_other_names() -> None:
    document = {**Judge(good()).document(), "goodput": 1}
    assert not Draft202012Validator(SCHEMA).is_valid(document)


def together(multi: float, alone: dict[str, float]) -> RunRecord:
    """Each access of the demo alone and both together, downwards."""
    record = good()
    template = phase(record, "tcp8.down")
    for name, goodput in alone.items():
        only = replace(template.phase, id=f"alone.{name}.down", only=name)
        record.phases.append(replace(template, phase=only, traffic=TrafficResult(goodput_mbps=goodput)))
    both = replace(template.phase, id="multi.down")
    record.phases.append(replace(template, phase=both, traffic=TrafficResult(goodput_mbps=multi)))
    record.scenario = replace(record.scenario, checks=("aggregation.down",))
    return record


@pytest.mark.parametrize(
    ("multi", "benefit", "ok"),
    [(90.0, 0.0, False), (45.0, -1.125, False), (124.0, 0.85, True), (130.0, 1.0, True), (120.0, 0.75, False)],
)
def test_the_benefit_of_both_paths(multi: float, benefit: float, ok: bool) -> None:
    judge = Judge(together(multi, {"3gpp": 40.0, "wifi": 90.0}))
    document = judge.document()
    both = next(p for p in document["phases"] if p["id"] == "multi.down")
    assert both["aggregation_benefit"] == pytest.approx(benefit) and both["of_better"] == pytest.approx(multi / 90, abs=1e-3)
    (check,) = document["checks"]
    assert (check["id"], check["ok"], check["value"]) == ("aggregation.down", ok, pytest.approx(benefit))
    Draft202012Validator(SCHEMA).validate(document)


@pytest.mark.parametrize("alone", [{}, {"wifi": 90.0}, {"3gpp": 0.0, "wifi": 90.0}])
def test_no_benefit_without_each_path_alone(alone: dict[str, float]) -> None:
    judge = Judge(together(120.0, alone))
    assert [judge.document()["phases"][-1][name] for name in ("aggregation_benefit", "of_better")] == [None, None]
    (check,) = judge.checks()
    assert not check.ok and "needs the phases multi.down and alone." in check.why


def test_the_drops_of_a_node_are_its_engines() -> None:
    metrics = {"engine": {"auth_failed": 3, "inner_malformed": 0, "packets_sent": 9}, "tunnel": {"dropped": 4}, "paths": []}
    assert drops_of(metrics) == {"auth_failed": 3, "inner_malformed": 0}
    assert drops_of({}) == {}
