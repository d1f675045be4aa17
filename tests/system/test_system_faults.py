"""A flow over both paths loses one of them silently; in the same lab, what its wires carry without the tunnel, and that packets
that go over both accesses lose nothing at a cut of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mpq_kit import Mpq

pytestmark = pytest.mark.system

SCENARIO = """\
accesses:
  - {name: 3gpp, type: 3gpp, wire: {rate_mbps: 20, delay_ms: 15}}
  - {name: wifi, type: non-3gpp, wire: {rate_mbps: 20, delay_ms: 15}}
rules:
  - {id: 1, precedence: 10, match: {protocol: 17}, transport: DATAGRAM_1, mode: {steerModeValue: REDUNDANT}}
  - {id: 2, precedence: 20, transport: DATAGRAM_1, mode: {steerModeValue: LOAD_BALANCING, 3gLoad: 50}}
steps:
  - {phase: split, traffic: tcp, direction: down, seconds: 4, probe: true, actions: [{at: 1, cut: wifi}, {at: 2.2, restore: wifi}]}
  - {phase: mptcp, traffic: tcp, carrier: mptcp, direction: down, flows: 4, seconds: 1}
  - {phase: forwarder, traffic: tcp, carrier: forwarder, only: wifi, direction: down, flows: 2, seconds: 1}
  - phase: redundant
    traffic: none
    seconds: 3
    probe: true
    actions: [{at: 0.4, cut: wifi}, {at: 1, restore: wifi}, {at: 2.2, cut: 3gpp}]
checks: [cut.longest_gap, cut.path_back]
"""


def test_a_silent_cut_under_a_split_flow_the_baselines_and_packets_over_both(mpq: Mpq, tmp_path: Path) -> None:
    file = tmp_path / "faults.yaml"
    file.write_text(SCENARIO)
    done = mpq("run", str(file), "--json", "--quiet")
    assert done.code == 0, (done.err, done.out[-2000:])
    phases: dict[str, Any] = {p["id"]: p for p in done.document["phases"]}
    split = phases["split"]
    assert split["goodput_mbps"] > 5 and min(split["per_path_mbps"].values()) > 1
    outage, *redundant = done.document["outages"]
    assert outage["back_in_use_ms"] < 2000 and outage["longest_gap_ms"] < 1000
    assert done.document["wires"]["wifi"]["down"]["dropped_cut"] > 0  # canary: something was cut
    # The receivers' word, and the engines': both ends sent twice, both dropped what came second.
    assert [(o["cause"], o["lost"]) for o in redundant] == [("cut wifi", 0), ("cut 3gpp", 0)]
    assert redundant[0]["longest_gap_ms"] <= 3 * 30 + 50  # as cut.gap_of_rtt, which the scenario redundant asks for
    assert redundant[0]["back_in_use_ms"] is not None
    assert all(done.document["drops"][f"{end}.reorder_duplicate"] > 500 for end in ("ue", "upf"))
    if not phases["mptcp"]["skipped"]:
        assert min(phases["mptcp"]["per_path_mbps"].values()) > 2
    forwarder = phases["forwarder"]
    assert forwarder["skipped"] or (forwarder["per_path_mbps"]["wifi"] > 5 > 1 > forwarder["per_path_mbps"]["3gpp"])
