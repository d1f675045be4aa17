"""Cuts by the thousand, on a virtual clock and in a whole lab, and every shipped steering scenario."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mpq_kit import Mpq
from test_native_faults import flap
from test_system_scenarios import run

from lab.scenario import families

CYCLES = int(os.environ.get("MPQ_SOAK_CYCLES", "1000"))
A_PHASE = 40  # cycles
SCENARIO = """\
accesses:
  - {name: 3gpp, type: 3gpp, wire: {rate_mbps: 30, delay_ms: 15}}
  - {name: wifi, type: non-3gpp, wire: {rate_mbps: 30, delay_ms: 15}}
rules:
  - {id: 1, precedence: 10, transport: DATAGRAM_1, mode: {steerModeValue: LOAD_BALANCING, 3gLoad: 50}}
steps:
"""


@pytest.fixture
def mpq(tmp_path: Path) -> Iterator[Mpq]:
    one = Mpq(tmp_path)
    yield one
    one.end()


def test_a_thousand_cuts_on_a_virtual_clock() -> None:
    flap(1000)


@pytest.mark.system
def test_a_thousand_cuts_of_a_lab(mpq: Mpq, tmp_path: Path) -> None:
    """One flow over both paths; one of them is cut for 0.4 s every 1.4 s. It carries again after each cut."""
    text = SCENARIO
    for number in range(-(-CYCLES // A_PHASE)):
        cycles = min(A_PHASE, CYCLES - number * A_PHASE)
        access = ("wifi", "3gpp")[number % 2]
        times = [1 + 1.4 * k for k in range(cycles)]
        actions = ", ".join(f"{{at: {t:.1f}, cut: {access}}}, {{at: {t + 0.4:.1f}, restore: {access}}}" for t in times)
        text += (f"  - {{phase: flap-{number}, traffic: tcp, direction: down, seconds: {1.4 * cycles + 2:.1f}, probe: true, "
                 f"actions: [{actions}]}}\n")
    (tmp_path / "flap.yaml").write_text(text)
    done = mpq("run", str(tmp_path / "flap.yaml"), "--json", "--quiet", limit=3 * CYCLES + 300)
    assert done.code == 0, (done.err, done.out[-2000:])
    outages = done.document["outages"]
    assert len(outages) == CYCLES
    assert [o["at_s"] for o in outages if o["back_in_use_ms"] is None] == []
    assert max(o["longest_gap_ms"] for o in outages) < 1000
    assert all(p["goodput_mbps"] > 1 for p in done.document["phases"])


@pytest.mark.system
@pytest.mark.parametrize("name", families()["steering"])
def test_every_steering_mode_over_every_kind_of_paths(mpq: Mpq, name: str) -> None:
    assert run(mpq, f"steering-{name}")["verdict"] == "pass"
