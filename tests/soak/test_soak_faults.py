"""Cuts by the thousand on a virtual clock (in a lab: test_soak_cycles.py), and every shipped steering scenario."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mpq_kit import Mpq
from test_native_faults import flap
from test_system_scenarios import run

from lab.scenario import families


@pytest.fixture
def mpq(tmp_path: Path) -> Iterator[Mpq]:
    one = Mpq(tmp_path)
    yield one
    one.end()


def test_a_thousand_cuts_on_a_virtual_clock() -> None:
    flap(1000)


@pytest.mark.system
@pytest.mark.parametrize("name", families()["steering"])
def test_every_steering_mode_over_every_kind_of_paths(mpq: Mpq, name: str) -> None:
    assert run(mpq, f"steering-{name}")["verdict"] == "pass"
