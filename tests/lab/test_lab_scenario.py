"""Scenario files: what is right becomes dataclasses; what is wrong is one line with file, line, key and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.configs import write_configs
from lab.errors import Misuse, ScenarioError
from lab.scenario import SIZE_LIMIT, check_wire, find, load, parse, shipped
from mpquic.endpoint import CongestionControl
from mpquic.engine import CONGESTION_CONTROLLERS
from node import config as node_config
from ue.config import UeConfig
from upf.config import UpfConfig

GOOD = """\
accesses:
  - name: 3gpp
    type: 3gpp
    wire: {rate_mbps: 50, delay_ms: 15}
  - name: wifi
    type: non-3gpp
    wire: {rate_mbps: 100, up: {rate_mbps: 20}}
rules:
  - {id: 1, precedence: 10, mode: {steerModeValue: LOAD_BALANCING, 3gLoad: 30}}
steps:
  - phase: cut
    traffic: tcp
    seconds: 5
    actions:
      - {at: 1, cut: wifi}
      - {at: 3, restore: wifi}
"""


def test_shipped_scenarios_load() -> None:
    assert {"demo", "two_paths"} <= set(shipped())
    for name in shipped():
        assert load(find(name)).name == name


ONLY = """\
accesses: [{name: 3gpp, type: 3gpp}, {name: wifi, type: non-3gpp}]
steps:
  - {phase: alone.wifi.up, traffic: tcp, only: ONLY, actions: [ACTIONS]}
"""


def test_a_phase_over_one_access() -> None:
    assert parse(ONLY.replace("ONLY", "wifi").replace("ACTIONS", "").encode(), "f", "f").steps[0].only == "wifi"
    with pytest.raises(ScenarioError, match=r"steps\[0\]\.only: no access 'dsl'; there are 3gpp, wifi"):
        parse(ONLY.replace("ONLY", "dsl").replace("ACTIONS", "").encode(), "f", "f")
    with pytest.raises(ScenarioError, match="cut and restore do not go with only"):
        parse(ONLY.replace("ONLY", "wifi").replace("ACTIONS", "{at: 1, cut: wifi}").encode(), "f", "f")


PHASES = """\
accesses: [{name: 3gpp, type: 3gpp}, {name: wifi, type: non-3gpp}]
steps:
  - {phase: a, seconds: 5, %s}
"""


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        ("traffic: udp, carrier: mptcp", "traffic: mptcp carries tcp only"),
        ("traffic: http, carrier: forwarder, only: wifi", "traffic: forwarder carries tcp and udp only"),
        ("traffic: tcp, carrier: forwarder", "only: is missing: the forwarder has one path"),
        ("traffic: tcp, carrier: mptcp, only: wifi", "only: mptcp is there to use both paths"),
        ("traffic: tcp, carrier: mptcp, probe: true", "carrier: mptcp has neither probe nor ipv6"),
        ("traffic: tcp, carrier: pigeon", "must be one of tunnel, mptcp, forwarder"),
        ("traffic: tcp, objects: 5", "objects: only with traffic: web"),
        ("traffic: web, direction: up", "direction: web downloads only"),
        ("traffic: tcp, probe: radio", "must be one of False, True, game, video"),
        ("traffic: tcp, actions: [{at: 1, down: dsl}]", "no access 'dsl'"),
    ],
)
def test_what_a_phase_cannot_be(phase: str, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse((PHASES % phase).encode(), "f", "f")
    assert words in str(caught.value)


def test_baselines_probes_and_link_down() -> None:
    for phase in ("traffic: tcp, carrier: mptcp", "traffic: udp, carrier: forwarder, only: 3gpp", "traffic: web, objects: 10",
                  "traffic: tcp, probe: video, actions: [{at: 1, down: wifi}]"):
        assert len(parse((PHASES % phase).encode(), "f", "f").steps) == 1


def test_an_aim_is_no_check_and_turns_are_bounded() -> None:
    assert parse(f"aims: [better.down]\nrepeat: 3\n{GOOD}".encode(), "f", "f").repeat == 3
    with pytest.raises(ScenarioError, match=r"aims\[0\]: is one of the checks"):
        parse(f"aims: [better.down]\nchecks: [better.down]\n{GOOD}".encode(), "f", "f")
    with pytest.raises(ScenarioError, match="repeat: must be at most 100"):
        parse(f"repeat: 101\n{GOOD}".encode(), "f", "f")


def test_values_arrive() -> None:
    scenario = parse(GOOD.encode(), "file.yaml", "mine")
    assert scenario.name == "mine"
    wifi = scenario.access("wifi")
    assert wifi is not None and wifi.up.rate_mbps == 20 and wifi.down.rate_mbps == 100 and wifi.down.queue_ms == 50
    assert scenario.congestion_control == "cubic"
    assert scenario.wire_sum_mbps("up") == 70 and scenario.wire_sum_mbps("down") == 150
    assert [(a.at, a.kind, a.target) for a in scenario.steps[0].actions] == [(1.0, "cut", "wifi"), (3.0, "restore", "wifi")]


@pytest.mark.parametrize("name", get_args(CongestionControl))
def test_congestion_control_reaches_both_ends(name: str, tmp_path: Path) -> None:
    assert set(CONGESTION_CONTROLLERS) == set(get_args(CongestionControl))
    scenario = parse(f"congestion_control: {name}\n{GOOD}".encode(), "file.yaml", "mine")
    configs = write_configs(scenario, tmp_path, tmp_path)
    assert node_config.load(configs.ue, UeConfig).congestion_control == name
    assert node_config.load(configs.upf, UpfConfig).congestion_control == name


@pytest.mark.parametrize("on", [True, False])
def test_ecn_can_be_switched_off_at_both_ends(on: bool, tmp_path: Path) -> None:
    text = GOOD if on else f"ecn: false\n{GOOD}"
    configs = write_configs(parse(text.encode(), "file.yaml", "mine"), tmp_path, tmp_path)
    assert node_config.load(configs.ue, UeConfig).ecn is node_config.load(configs.upf, UpfConfig).ecn is on


@pytest.mark.parametrize("on", [True, False])
def test_the_clamp_of_segment_sizes_can_be_switched_off_at_both_ends(on: bool, tmp_path: Path) -> None:
    text = GOOD if on else f"mss_clamp: false\n{GOOD}"
    configs = write_configs(parse(text.encode(), "file.yaml", "mine"), tmp_path, tmp_path)
    assert node_config.load(configs.ue, UeConfig).mss_clamp is node_config.load(configs.upf, UpfConfig).mss_clamp is on


@pytest.mark.parametrize("detail", ["off", "'off'", "events", "headers", "packets"])
def test_the_detail_of_qlog_reaches_both_ends(detail: str, tmp_path: Path) -> None:
    scenario = parse(f"qlog: {detail}\n{GOOD}".encode(), "file.yaml", "mine")
    configs = write_configs(scenario, tmp_path, tmp_path)
    for config in (node_config.load(configs.ue, UeConfig), node_config.load(configs.upf, UpfConfig)):
        assert config.qlog_detail == detail.strip("'") and config.qlog is not None
    assert parse(GOOD.encode(), "file.yaml", "mine").qlog == "packets"


WRONG = {
    "unknown key": ("    type: 3gpp\n", "    type: 3gpp\n    colour: red\n", 4, "accesses[0].colour: unknown key; allowed: name"),
    "wrong type": ("rate_mbps: 50", "rate_mbps: fast", 4, "must be a number"),
    "negative rate": ("rate_mbps: 50", "rate_mbps: -5", 4, "must be more than 0, not -5"),
    "loss of 101 %": ("delay_ms: 15", "loss_percent: 101", 4, "must be at most 100, not 101"),
    "infinite": ("delay_ms: 15", "delay_ms: .inf", 4, "not a finite number"),
    "step in the past": ("{at: 3, restore: wifi}", "{at: 0.5, restore: wifi}", 16, "is before the action above it"),
    "step after the end": ("at: 3", "at: 5", 16, "must be before the end of the phase (5 s)"),
    "no such access": ("cut: wifi", "cut: wlan", 15, "no access 'wlan'; there are 3gpp, wifi"),
    "two actions in one": ("cut: wifi", "cut: wifi, rekey: ue", 15, "exactly one of cut, down, restore, rebind, rekey, key_update"),
    "same name twice": ("- name: wifi", "- name: 3gpp", 5, "another access has this name"),
    "same type twice": ("type: non-3gpp", "type: 3gpp", 6, "one access of each type"),
    "key twice": ("    traffic: tcp\n", "    traffic: tcp\n    traffic: udp\n", 13, "traffic: stands twice"),
    "anchor": ("rules:", "rules: &a", 8, "anchors and aliases are not allowed"),
    "balancing without weights": (", 3gLoad: 30", "", 9, "LOAD_BALANCING needs 3gLoad"),
    "priority without access": (
        "LOAD_BALANCING, 3gLoad: 30",
        "PRIORITY_BASED",
        9,
        "PRIORITY_BASED needs prioAcc (3GPP_ACCESS or NON_3GPP_ACCESS)",
    ),
    "smallest delay with a load": ("LOAD_BALANCING", "SMALLEST_DELAY", 9, "not with SMALLEST_DELAY"),
    "threshold of 0 ms": ("3gLoad: 30", "3gLoad: 30, thresValue: {rttThres: 0}", 9, "must be at least 1"),
    "no threshold": ("3gLoad: 30", "3gLoad: 30, thresValue: {}", 9, "thresValue"),
    "thresholds that are ignored": (
        "3gLoad: 30",
        "steerModeInd: AUTO_LOAD_BALANCE, thresValue: {rttThres: 9}",
        9,
        "not with AUTO_LOAD_BALANCE",
    ),
    "UE assistance": ("3gLoad: 30", "3gLoad: 30, steerModeInd: UE_ASSISTANCE", 9, "must be"),
    "redundant": ("LOAD_BALANCING, 3gLoad: 30", "REDUNDANT", 9, "REDUNDANT needs transport: DATAGRAM_1"),
    "weight of 35": ("3gLoad: 30", "3gLoad: 35", 9, "must be one of 0, 10, 20"),
    "bad prefix": ("mode: {", "match: {ip: 10.0.0.0/40}, mode: {", 9, "must be a prefix"),
    "run name with ../": ("accesses:\n", "name: ../../etc\naccesses:\n", 1, "must look like"),
    "no such detail of qlog": ("accesses:\n", "qlog: everything\naccesses:\n", 1, "must be one of off, events, headers, packets"),
    "no such controller": ("accesses:\n", "congestion_control: vegas\naccesses:\n", 1, "must be one of cubic, newreno, bbr, lia"),
    "not closed": ("{at: 1, cut: wifi}", "{at: 1, cut: wifi", 16, "not YAML"),
}


@pytest.mark.parametrize("case", WRONG)
def test_refusal_is_one_line_with_its_place(case: str) -> None:
    old, new, line, words = WRONG[case]
    assert old in GOOD
    with pytest.raises(ScenarioError) as caught:
        parse(GOOD.replace(old, new, 1).encode(), "file.yaml", "mine")
    text = str(caught.value)
    assert text.startswith(f"file.yaml:{line}:") and words in text and "\n" not in text
    assert caught.value.exit_code == 2


def test_not_utf8_and_too_large() -> None:
    with pytest.raises(ScenarioError, match=r"file:2: must be UTF-8"):
        parse(b"name: a\nabout: \xff\n", "file", "x")
    with pytest.raises(ScenarioError, match="larger than"):
        parse(b"#" * (SIZE_LIMIT + 1), "file", "x")


def test_bombs_end_at_once() -> None:
    bomb = b"a: &a [x,x,x]\n" + b"".join(b"%c: &%c [*%c,*%c,*%c]\n" % (c + 1, c + 1, c, c, c) for c in range(97, 120))
    with pytest.raises(ScenarioError, match="anchors"):
        parse(bomb, "file", "x")
    for deep in (b"[" * 200_000, b"{a: " * 50_000):  # minutes, if the whole of it were read
        with pytest.raises(ScenarioError, match="nested deeper than"):
            parse(deep, "file", "x")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(GOOD)))
def test_any_input_is_read_or_refused_by_name(noise: bytes, at: int) -> None:
    data = GOOD.encode()
    for mutated in (noise, data[:at] + noise + data[at:]):
        try:
            parse(mutated, "file", "x")
        except ScenarioError as error:
            assert str(error).startswith("file")


def test_transport_and_omitted_seconds():
    rule = "rules: [{id: 1, precedence: 1, transport: %s, mode: {steerModeValue: LOAD_BALANCING, 3gLoad: 50}}]\n"
    phase = "steps: [{phase: a, traffic: %s, seconds: 10, omit_s: %d}]\n"
    accesses = "accesses: [{name: a, type: 3gpp}, {name: b, type: non-3gpp}]\n"
    made = parse((accesses + rule % "DATAGRAM_1" + phase % ("tcp", 5)).encode(), "f.yaml", "f")
    assert made.rules[0]["transport"] == "DATAGRAM_1" and made.steps[0].omit_s == 5
    for text, why in (
        (accesses + rule % "STREAM", "transport: must be one of DATAGRAM_1, DATAGRAM_2"),
        (accesses + phase % ("tcp", 9), "omit_s"),
        (accesses + phase % ("http", 5), "omit_s"),
    ):
        with pytest.raises(ScenarioError, match=why):
            parse(text.encode(), "f.yaml", "f")


def test_wires_that_share_a_line_agree_on_it() -> None:
    """One rate and one queue in each direction; delays are each wire's own. The line counts once."""
    text = "accesses: [{name: a, type: 3gpp, wire: {%s}}, {name: b, type: non-3gpp, wire: {%s}}]\n"
    line = "shares: home, rate_mbps: 20, up: {rate_mbps: 5}, delay_ms: "
    made = parse((text % (line + "20", line + "5")).encode(), "f.yaml", "f")
    assert [a.down.shares for a in made.accesses] == ["home", "home"] and [a.down.delay_ms for a in made.accesses] == [20, 5]
    assert (made.wire_sum_mbps("down"), made.wire_sum_mbps("up")) == (20, 5)
    assert parse((text % (line + "20", "rate_mbps: 20")).encode(), "f.yaml", "f").wire_sum_mbps("down") == 40
    for other, why in (
        ("shares: home, rate_mbps: 20", "another rate or queue of the line home"),
        (line + "5, queue_ms: 10", "another rate or queue of the line home"),
        ("shares: work, trace: drive-lte", "follows no trace"),
    ):
        with pytest.raises(ScenarioError, match=why):
            parse((text % (line + "20", other)).encode(), "f.yaml", "f")
    step = "steps: [{phase: p, traffic: none, seconds: 2, actions: [{at: 1, shape: a, wire: {shares: home}}]}]\n"
    with pytest.raises(ScenarioError, match="changes its line no more"):
        parse((text % (line + "20", line + "5") + step).encode(), "f.yaml", "f")
    with pytest.raises(Misuse, match="changes its line no more"):
        check_wire({"shares": "home"})


@pytest.mark.parametrize(("phase", "why"), [
    ("traffic: udp, rival: a", "only with traffic: tcp"),
    ("traffic: tcp, rival: a, only: b", "over all accesses"),
    ("traffic: tcp, carrier: mptcp, rival: a", "through the tunnel"),
    ("traffic: tcp, rival: c", "no access 'c'; there are a, b"),
])
def test_a_rival_runs_beside_tcp_over_all_accesses(phase: str, why: str) -> None:
    text = "accesses: [{name: a, type: 3gpp}, {name: b, type: non-3gpp}]\nsteps: [{phase: p, %s}]\n"
    assert parse((text % "traffic: tcp, rival: a").encode(), "f.yaml", "f").steps[0].rival == "a"
    with pytest.raises(ScenarioError, match=why):
        parse((text % phase).encode(), "f.yaml", "f")
