"""Every test of this folder brings its own labs up and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mpq_kit import Mpq


@pytest.fixture
def mpq(tmp_path: Path) -> Iterator[Mpq]:
    one = Mpq(tmp_path)
    yield one
    one.end()


@pytest.fixture(scope="module", params=["root", "rootless"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mpq]:
    """A lab that is up: as root, and as an ordinary user has it (in a user namespace)."""
    one = Mpq(tmp_path_factory.mktemp(request.param), rootless=request.param == "rootless")
    try:
        done = one("up", "--json")
        assert done.code == 0, done.err
        yield one
    finally:
        one.end()
