"""Seeded runs as `make simulate` does them, and the determinism of the simulator."""

from __future__ import annotations

import os

import simulate

from native import lib
from native.sim import SECOND, Simulator, check

SEEDS = int(os.environ.get("MPQ_SIMULATE", "2000"))


def test_a_few_thousand_seeds() -> None:
    failed = simulate.many(1, SEEDS, min(4, os.cpu_count() or 1))
    assert not failed, "\n".join(f"make simulate SEED={seed}\n{why}" for seed, why in list(failed.items())[:3])


def test_the_same_seed_gives_the_same_trace() -> None:
    traces = [simulate.run(seed) for seed in range(1, 21)]
    assert traces == [simulate.run(seed) for seed in range(1, 21)]
    assert len(set(traces)) == 20


def test_one_octet_changes_the_trace() -> None:
    def trace(size: int) -> int:
        with Simulator(3) as s:
            conn, _ = s.connect()
            check(lib.conn_datagram_send(s.client.endpoint, conn, b"\x05" + bytes(size), 1 + size))
            s.run(SECOND)
            return s.trace

    assert trace(10) == trace(10) != trace(11)
