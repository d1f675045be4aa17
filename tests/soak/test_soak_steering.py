"""Steering that takes its time to settle, in a whole system."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mpq_kit import Mpq
from test_system_scenarios import phase, run

pytestmark = pytest.mark.system


@pytest.fixture
def mpq(tmp_path: Path) -> Iterator[Mpq]:
    one = Mpq(tmp_path)
    yield one
    one.end()


def test_autonomous_weights_find_the_faster_path(mpq: Mpq) -> None:
    result = run(mpq, "autonomous")
    learned = phase(result, "learned")["per_path_mbps"]
    assert learned["wifi"] > 2 * learned["3gpp"] > 0
