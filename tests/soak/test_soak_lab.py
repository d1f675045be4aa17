"""What must not grow: re-keys in a row on one lab, labs in a row on one machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mpq_kit import Done, Host, Mpq

REKEYS = 100
LABS = 20
SPARE_DESCRIPTORS = 4
GROWTH_KIB = 20_000
PATIENCE = 60

pytestmark = pytest.mark.system


@pytest.fixture
def mpq(tmp_path: Path) -> Iterator[Mpq]:
    one = Mpq(tmp_path)
    yield one
    one.end()


def use(mpq: Mpq) -> dict[int, tuple[int, int]]:
    """Descriptors and resident KiB by pid."""
    found = {}
    for pid in mpq.processes():
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if "VmRSS" in status:
            found[pid] = (len(list(Path(f"/proc/{pid}/fd").iterdir())), int(status["VmRSS"].split()[0]))
    return found


def rekey(mpq: Mpq, by: str) -> Done:
    """The AMF makes only so many keys a minute (429 TOO_MANY_KEYS, cause 4): then later."""
    for _ in range(PATIENCE):
        done = mpq("rekey", "--by", by, "--json")
        if done.code == 0:
            return done
        assert "cause 4" in done.err or "TOO_MANY_KEYS" in done.err, done.err
        time.sleep(1)
    raise AssertionError(done.err)


def test_a_hundred_rekeys_leave_nothing_behind(mpq: Mpq) -> None:
    assert mpq("up").code == 0
    generations = []
    before: dict[int, tuple[int, int]] = {}
    for number in range(REKEYS):
        done = rekey(mpq, ("core", "ue")[number % 2])
        generations.append(done.document["generation"])
        assert mpq.round_trip().code == 0
        if number == 9:
            before = use(mpq)
    assert generations == sorted(set(generations))
    after = use(mpq)
    for pid, (descriptors, memory) in before.items():
        assert after[pid][0] <= descriptors + SPARE_DESCRIPTORS
        assert after[pid][1] <= memory + GROWTH_KIB


def test_twenty_labs_in_a_row_leave_nothing_behind(mpq: Mpq) -> None:
    host = Host.look()
    for _ in range(LABS):
        assert mpq("up").code == 0
        assert mpq.round_trip().code == 0
        assert mpq("down").code == 0
        assert mpq.nothing_left() and Host.look() == host and mpq.labs() == []
