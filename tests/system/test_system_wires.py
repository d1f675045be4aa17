"""A phase over one access, over a wire that follows a trace and corrupts: what the scenario says is what the packets meet."""

from __future__ import annotations

from pathlib import Path

import pytest
from mpq_kit import Mpq

pytestmark = pytest.mark.system

SCENARIO = """\
accesses:
  - {name: 3gpp, type: 3gpp, wire: {preset: nr}}
  - {name: wifi, type: non-3gpp, wire: {trace: ./steps.csv, corrupt_percent: 0.2, burst_loss: BURST}}
steps:
  - {phase: alone.wifi.down, traffic: tcp, direction: down, flows: 4, seconds: 4, only: wifi}
  - {phase: multi.down, traffic: tcp, direction: down, flows: 4, seconds: 3}
"""
TRACE = """\
time_s,rate_mbps,delay_ms
0,40,5
0.5,60,5
1.0,20,10
"""


def test_one_access_alone_on_a_wire_with_a_trace(mpq: Mpq, tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text(TRACE)
    file = tmp_path / "wires.yaml"
    file.write_text(SCENARIO.replace("BURST", "{enter_percent: 0.1, leave_percent: 50}"))
    done = mpq("run", str(file), "--json", "--quiet")
    assert done.code == 0, (done.err, done.out[-2000:])
    alone, multi = done.document["phases"]
    assert alone["per_path_mbps"]["3gpp"] < 1 < alone["per_path_mbps"]["wifi"] < 60
    assert multi["per_path_mbps"]["3gpp"] > 1  # it is used again
    assert alone["wire_sum_mbps"] == multi["wire_sum_mbps"] == pytest.approx(150 + (40 * 0.5 + 60 * 0.5 + 20 * 0.5) / 1.5)
    down = done.document["wires"]["wifi"]["down"]
    assert down["corrupted"] > 0 and down["dropped_loss"] > 0 and down["queued_max_bytes"] > 1500
    assert down["late_p50_us"] <= down["late_p99_us"]
    assert done.document["drops"]["ue.auth_failed"] > 0  # what was corrupted came to the engine, and went no further
