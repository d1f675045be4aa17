"""Seeded runs as `make simulate` does them, and the determinism of the simulator."""

from __future__ import annotations

import os
from typing import Any

import pytest
import simulate
from world import RULES

from native import ffi, lib
from native.sim import MS, SECOND, Simulator, check, udp4

SEEDS = int(os.environ.get("MPQ_SIMULATE", "2000"))


def test_a_few_thousand_seeds() -> None:
    failed = simulate.many(1, SEEDS, min(4, os.cpu_count() or 1))
    assert not failed, "\n".join(f"make simulate SEED={seed}\n{why}" for seed, why in list(failed.items())[:3])


@pytest.mark.parametrize(
    "seed",
    [
        31000720,  # a copy came, the receiver lost its state, the original waited for the next connection: that one may come twice
        31018786,  # what waited to be sent again went over the next connection, to a peer that had lost its state
        41008356,  # the same, while the connection before was still open
    ],
)
def test_seeds_that_found_what_no_smaller_case_shows(seed: int) -> None:
    simulate.run(seed)


def test_the_same_seed_gives_the_same_trace() -> None:
    traces = [simulate.run(seed) for seed in range(1, 21)]
    assert traces == [simulate.run(seed) for seed in range(1, 21)]
    assert len(set(traces)) == 20


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES])
def test_packets_that_were_cut_from_one_go_the_ways_that_they_would_go_alone(rule: dict[str, Any]) -> None:
    """With two paths over one access they need not: each of them goes over the less loaded, those that follow go together."""

    def trace(cut: bool) -> tuple[int, list[bytes], list[int]]:
        with Simulator(5) as s:
            conn, peer = s.connect()
            s.shape(0, rate=2_000_000, delay=10 * MS)
            s.shape(1, rate=1_000_000, delay=30 * MS)
            stats, (tunnel, _) = ffi.new("struct tunnel_stats *"), s.tunnel(conn, peer, [rule], hold_packets=20)
            check(lib.path_open(s.client.endpoint, conn, 1, s.server_address))
            for turn in range(60):
                if turn == 25:
                    s.wires[0, 0].loss = 1.0
                if turn == 45:  # what comes from now on is held until there is another connection, or for too long
                    check(lib.conn_close(s.client.endpoint, conn, 1, 0, 0, b"", 0))
                size = [60, 1200, 1280, 1280, 1400][turn % 5]  # the last one is larger than the tunnel's MTU
                burst = [udp4(max(size - (turn == i) * 20, 60), flow=turn % 3) for i in range([1, 7, 40][turn % 3])]
                for each in [burst] if cut else [[packet] for packet in burst]:
                    s.inner(s.client, *each)
                s.run(20 * MS)
            check(lib.tunnel_stats(s.client.endpoint, tunnel, stats))
            return s.trace, s.server.inner, [stats.packets_out, stats.dropped, stats.held]

    assert trace(True) == trace(False)


def test_one_octet_changes_the_trace() -> None:
    def trace(size: int) -> int:
        with Simulator(3) as s:
            conn, _ = s.connect()
            check(lib.conn_datagram_send(s.client.endpoint, conn, b"\x05" + bytes(size), 1 + size))
            s.run(SECOND)
            return s.trace

    assert trace(10) == trace(10) != trace(11)
