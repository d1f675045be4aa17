"""One recorded run for all oracle tests, and what the tests of the lab make captures with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for folder in ("lab", "system", "fiveg"):
    sys.path.append(str(HERE.parent / folder))

from mpq_kit import Mpq  # noqa: E402
from oracle_recorded import Recorded  # noqa: E402


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """A small run of the whole procedure with both accesses and a re-key, as `mpq run` leaves it. Whether its traffic was well
    is no matter here: what has to be in the capture, each test counts."""
    one = Mpq(tmp_path_factory.mktemp("oracle"))
    try:
        done = one("run", str(HERE / "recorded.yaml"), "--json")
        if done.code:                           # other tests had the processors, perhaps: once more
            done = one("run", str(HERE / "recorded.yaml"), "--json")
        assert done.code in (0, 1), done.err
        run = Recorded(Path(done.document["run"]))
        assert run.capture.is_file(), done.err
        yield run
    finally:
        one.end()
