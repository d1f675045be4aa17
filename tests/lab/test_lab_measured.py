"""Figures by hand, their medians, and that page, schema and code tell of the same ones."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from test_lab_result import SCHEMA, START, good, phase, probe

import lab
from lab.figures import figures_of
from lab.measured import Figures, merged
from lab.probe import FORMAT, MAGIC, Tally, percentiles
from lab.result import CHECKS, Judge
from lab.run import PhaseRecord, RunRecord
from lab.sampler import Sample
from lab.scenario import Action
from lab.traffic import TrafficResult

PAGE = (Path(lab.__file__).parent.parent / "docs" / "figures.md").read_text()
NOT_FIGURES = {"id", "from_s", "to_s", "carrier", "skipped", "error", "phase", "turn", "step", "at_s"}


def names(section: str) -> set[str]:
    """First cells of the tables of a section of the page."""
    text = PAGE.split(f"## {section}")[1].split("\n## ")[0]
    return {n for row in re.findall(r"^\| (`[^|]*) \|", text, re.M) for n in re.findall(r"`([a-z0-9_.]+)`", row)}


def test_page_schema_and_code_have_the_same_figures() -> None:
    document = Judge(good()).document()
    for section, key in (("Of a phase", "phases"), ("Of an outage", "outages")):
        made = set(document[key][0])
        assert made - NOT_FIGURES == names(section), section
        assert made == set(SCHEMA["properties"][key]["items"]["properties"]), section
    own = ("better", "idle", "loss", "page", "video", "game", "cut.", "aggregation", "bloat", "coupled")
    assert {n for n in CHECKS if n.startswith(own)} == names("Checks and aims")


def test_delays_are_from_when_a_packet_was_due() -> None:
    tally = Tally()
    for n in range(100):  # 1 ms to 100 ms late
        tally.packet(FORMAT.pack(MAGIC, 0, 1, n, 100, 11.0, 10.0), 10.0 + (n + 1) / 1000)
    tally.packet(FORMAT.pack(MAGIC, 0, 1, 99, 100, 11.0, 10.0), 19.0)  # a duplicate has no delay
    assert tally.document()["delay_ms"] == {"p50": pytest.approx(51), "p95": pytest.approx(96), "p99": pytest.approx(100),
                                           "max": pytest.approx(100)}
    assert percentiles([]) is None and Tally().document()["delay_ms"] is None


def test_depth_is_how_far_behind_the_highest() -> None:
    tally = Tally()
    for n in (0, 5, 1, 4, 6):
        tally.packet(FORMAT.pack(MAGIC, 0, 1, n, 10, 11.0, 10.0), 10.0)
    flow: Any = tally.document()["flows"]
    assert (flow["0"]["reordered"], flow["0"]["depth"]) == (2, 4)


def turns(goodputs: list[float | None]) -> RunRecord:
    """A run whose phase tcp8.down ran so often."""
    record = good()
    one = phase(record, "tcp8.down")
    record.phases = [replace(one, turn=n, traffic=TrafficResult(goodput_mbps=g)) for n, g in enumerate(goodputs, 1)]
    record.scenario = replace(record.scenario, checks=("tcp8.down.share",), repeat=len(goodputs))
    return record


def test_of_several_turns_the_median_counts_and_the_spread_is_told() -> None:
    document = Judge(turns([10.0, 130.0, 120.0])).document()
    (found,) = document["phases"]
    assert found["goodput_mbps"] == 120 and found["spread"]["goodput_mbps"] == [10, 130] and found["turns"] == 3
    assert document["verdict"] == "pass" and document["repeat"] == 3
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(document)))
    assert Judge(turns([10.0, 10.0, 130.0])).document()["verdict"] == "fail"


def test_what_one_turn_did_not_measure_is_not_measured() -> None:
    judge = Judge(turns([120.0, None, 120.0]))
    assert judge.phases()[0]["goodput_mbps"] is None and judge.document()["verdict"] == "fail"


def test_medians_by_key() -> None:
    turn = {"from_s": 1, "to_s": 2, "a": 1, "b": {"x": 1.0, "y": None}, "error": ""}
    other = {"from_s": 5, "to_s": 6, "a": 4, "b": {"x": 2.0, "y": 3.0}, "error": "no"}
    assert merged([turn, other]) == {"from_s": 1, "to_s": 2, "a": 2, "b": {"x": 1.5, "y": None}, "error": "no", "turns": 2,
                                     "spread": {"a": [1, 4]}}


def cut(*gaps: tuple[float, float], kind: str = "cut") -> tuple[RunRecord, PhaseRecord]:
    """Wi-Fi is cut 1 s into the phase and restored 3 s later."""
    record = good()
    one = phase(record, "cut")
    one.steps = [(Action(1.0, kind, "wifi"), one.start + 1.0, ""), (Action(4.0, "restore", "wifi"), one.start + 4.0, "")]
    one.traffic.probe = probe(*((one.start + a, one.start + b) for a, b in gaps))
    return record, one


def test_time_to_fail_over_and_to_return() -> None:
    record, one = cut((0.2, 0.3), (1.05, 1.2), (1.1, 1.4), (3.0, 3.5))
    (outage,) = Figures(record).outages(one)
    assert (outage["cause"], outage["fail_over_ms"], outage["longest_gap_ms"]) == ("cut wifi", 400, 500)
    assert outage["back_in_use_ms"] == 200
    assert Figures(record).outages(cut()[1])[0]["fail_over_ms"] == 0


def test_a_link_that_goes_down_is_an_outage_too() -> None:
    record, one = cut((1.0, 1.1), kind="down")
    assert Figures(record).outages(one)[0]["cause"] == "link down wifi"


def test_cpu_and_windows_are_of_the_phase() -> None:
    record = good()
    one = phase(record, "tcp8.down")
    one.before, one.after = Sample(0, (0, 0), (0, 0), {"ue": 500, "upf": 0}), Sample(9, (0, 0), (0, 0), {"ue": 10_500, "upf": 999})
    one.cpu_s = {"ue": 0.02, "upf": 0.5}
    record.sampler.windows = [  # type: ignore[union-attr]
        (one.start + 1, "upf", "wifi", 10), (one.start + 2, "upf", "wifi", 30), (one.start + 3, "upf", "wifi", 20),
        (one.start + 1, "ue", "wifi", 1), (one.end + 1, "upf", "wifi", 99),
    ]
    found = Figures(record).phase(one)
    assert found["cpu_us_per_packet"] == {"ue": 2.0}  # too few at the UPF
    assert found["cwnd_octets"] == {"wifi": 20}


def test_a_baseline_is_measured_at_the_wires_and_may_be_skipped() -> None:
    record = good()
    one = phase(record, "tcp8.down")
    one.phase = replace(one.phase, carrier="mptcp")
    one.wire_octets = {"3gpp": {"up": 0, "down": 1_000_000}, "wifi": {"up": 250, "down": 250}}
    seconds = one.end - one.start
    found = Figures(record).phase(one)
    assert found["per_path_mbps"] == {"3gpp": pytest.approx(8 / seconds, abs=0.01), "wifi": pytest.approx(0, abs=0.01)}
    assert found["idle_path_kbps"] == pytest.approx(4 / seconds, abs=0.01)
    one.traffic = TrafficResult(skipped="no MPTCP here")
    document = Judge(record).document()
    assert next(p for p in document["phases"] if p["id"] == "tcp8.down")["skipped"] == "no MPTCP here"
    Draft202012Validator(SCHEMA).validate(json.loads(json.dumps(document)))


AIMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # what holds, what does not: figures by phase; the first phase of a name is changed
    "idle.second_path": ({"idle": {"wire": 100}}, {"idle": {"wire": 1000}}),
    "loss.cost": ({"clean.down": {"goodput": 100}, "lossy.down": {"goodput": 91}}, {"clean.down": {"goodput": 100},
                                                                                    "lossy.down": {"goodput": 89}}),
    "page.load": ({"web": {"loads": [1.0, 2.0, 9.0]}}, {"web": {"loads": [1.0, 3.5, 4.0]}}),
    "video.stalls": ({"v": {"probe": "video", "gap": 0.19}}, {"v": {"probe": "video", "gap": 0.21}}),
    "game.delay": ({"g": {"probe": "game", "delay": 90.0}}, {"g": {"probe": "game", "delay": 101.0}}),
    "bloat.delay": ({"idle.down": {"probe": True, "delay": 3.0}, "bulk.down": {"probe": True, "delay": 60.0, "p95": 51.0}},
                    {"idle.down": {"probe": True, "delay": 3.0}, "bulk.down": {"probe": True, "delay": 60.0, "p95": 51.1}}),
    "coupled.share": ({"beside.down": {"goodput": 12, "rival": 10.0}}, {"beside.down": {"goodput": 15, "rival": 10.0}}),
    "aggregation.equal.down": (
        {"multi.down": {"goodput": 193}, "alone.3gpp.down": {"goodput": 100}, "alone.wifi.down": {"goodput": 100}},
        {"multi.down": {"goodput": 192}, "alone.3gpp.down": {"goodput": 100}, "alone.wifi.down": {"goodput": 100}}),
    "cut.gap_of_rtt": ({"cut": {"cut": 0.079}}, {"cut": {"cut": 0.081}}),
    "cut.lost": ({"cut": {"cut": 0.02, "lost": 0}}, {"cut": {"cut": 0.02, "lost": 1}}),
    "better.down": ({"multi.down": {"goodput": 96}, "alone.3gpp.down": {"goodput": 40}, "alone.wifi.down": {"goodput": 100}},
                    {"multi.down": {"goodput": 94}, "alone.3gpp.down": {"goodput": 40}, "alone.wifi.down": {"goodput": 100}}),
}


def aimed(name: str, figures: dict[str, Any]) -> dict[str, Any]:
    record = good()
    template = phase(record, "tcp8.down")
    record.phases = []
    for number, (title, of) in enumerate(figures.items()):
        only = title.split(".")[1] if title.startswith("alone.") else None
        plan = replace(template.phase, id=title, probe=of.get("probe", False), only=only)
        traffic = TrafficResult(goodput_mbps=of.get("goodput", 1.0), page_loads_s=of.get("loads", []), rival_mbps=of.get("rival"))
        start = 100.0 * number
        one = replace(template, phase=plan, traffic=traffic, start=start, end=start + 1.0, steps=[])
        if "wire" in of:
            one.wire_octets = {"3gpp": {"up": 10**9, "down": 0}, "wifi": {"up": of["wire"] // 2, "down": of["wire"] // 2}}
        if {"gap", "cut", "delay"} & of.keys():
            silence = of.get("gap", of.get("cut", 0.0))
            traffic.probe = probe((start + 0.5, start + 0.5 + silence)) if silence else probe()
            for direction in traffic.probe.values():
                direction["flows"]["0"]["lost"] = of.get("lost", 3)
                direction["delay_ms"] = {"p50": 1.0, "p95": of.get("p95", 2.0), "p99": of.get("delay", 3.0), "max": 999.0}
        if "cut" in of:
            one.steps = [(Action(0.5, "cut", "wifi"), start + 0.5, "")]
        record.phases.append(one)
    record.scenario = replace(record.scenario, checks=(name,), steps=tuple(r.phase for r in record.phases))
    assert record.start == START
    (check,) = Judge(record).document()["checks"]
    return dict(check)


@pytest.mark.parametrize("name", AIMS)
def test_an_aim_is_met_missed_or_not_measured(name: str) -> None:
    fine, wrong = AIMS[name]
    assert aimed(name, fine)["ok"], aimed(name, fine)
    missed = aimed(name, wrong)
    assert not missed["ok"] and missed["value"] != ""
    nothing = aimed(name, {})
    assert not nothing["ok"] and nothing["value"] == "" and nothing["why"]


def test_runs_can_be_compared_by_every_figure() -> None:
    record, one = cut((1.05, 1.2))
    for direction in one.traffic.probe.values():
        direction["delay_ms"] = {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}
    one.cpu_s = {"ue": 0.02}
    one.before, one.after = Sample(0, (0, 0), (0, 0), {"ue": 0}), Sample(9, (0, 0), (0, 0), {"ue": 10_000})
    found = figures_of(Judge(record).document())
    assert found["cut.delay_ms.down.p99"] == 3 and found["cut.cpu_us_per_packet.ue"] == 2 and found["cut.reorder_depth"] == 0
    assert found["cut wifi.fail_over_ms"] == 200


def test_an_aim_fails_no_run_and_a_check_does() -> None:
    record = turns([10.0])
    assert Judge(record).document()["verdict"] == "fail"
    record.scenario = replace(record.scenario, checks=(), aims=("tcp8.down.share",))
    document = Judge(record).document()
    (check,) = document["checks"]
    assert document["verdict"] == "pass" and not check["ok"] and not check["fatal"]
