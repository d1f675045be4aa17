"""Redundant steering (docs/steering.md): each packet over both accesses, delivered once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from tunnel_ends import Ends

from native import ffi, lib
from native.sim import MS, REDUNDANT, SECOND, Simulator, check, udp4

PRIMARY = REDUNDANT | {"active_access": 0, "max_rtt_ms": 60}
"""Twice only while access 0 takes longer."""


def reasons(ends: Ends) -> list[int]:
    return [p.reason for p in ends.sim.client.paths(ends.conn).values()]


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(91) as s:
        yield s
        s.check()


def test_each_packet_goes_over_both_and_comes_out_once(sim: Simulator) -> None:
    sim.shape(0, delay=30 * MS)
    sim.shape(1, delay=10 * MS)
    ends = Ends(sim, REDUNDANT)
    ends.send(200)
    sim.run(SECOND)
    assert ends.got() == list(range(200))
    out, came = ends.stats(sim.client), ends.stats(sim.server)
    assert (out.packets_out, out.copies_out) == (200, 200) and list(out.access_packets_out) == [200, 200]
    assert (came.packets_in, came.reorder_duplicates) == (200, 200)
    assert list(came.access_packets_in) == [0, 200] and list(came.access_copies_in) == [200, 0]  # the shorter one's came first
    assert list(came.access_copy_bytes_in) == [came.bytes_in, 0]
    assert sim.server.counters()["reorder_duplicate"] == 200 == sim.client.counters()["redundant_copies"]
    assert reasons(ends) == [lib.REASON_NONE] * 2 and not sim.client.drops()


@pytest.mark.parametrize("dead", [0, 1])
def test_a_silent_cut_loses_no_packet_and_makes_none_wait(sim: Simulator, dead: int) -> None:
    for link in range(2):
        sim.shape(link, delay=(10 + 10 * link) * MS)
    ends = Ends(sim, REDUNDANT)
    ends.send(100)
    sim.shape(dead, cut=True)
    ends.send(200)
    sim.shape(dead, cut=False)
    ends.send(200)
    sim.run(SECOND)
    assert ends.got() == list(range(500))
    times = [at for at, _, _ in sim.server.inner]
    assert max(b - a for a, b in pairwise(times)) <= 25 * MS  # the difference of the paths, and the interval
    assert ends.stats(sim.client).copies_out >= 250  # twice again when it is back


def test_what_one_path_loses_comes_over_the_other_in_order(sim: Simulator) -> None:
    """10 % lost on each: 1 % on both. What is missing is waited for while the longer path may still bring it."""
    for link in range(2):
        sim.shape(link, delay=(10 + 20 * link) * MS, loss=0.1)
    ends = Ends(sim, REDUNDANT)
    ends.send(1000)
    sim.run(SECOND)
    got = ends.got()
    assert len(got) == len(set(got)) >= 975
    assert got == sorted(got)  # those too that went once, beside a suspect path, and were sent again


def test_without_loss_and_thresholds_the_primary_access_carries_all(sim: Simulator) -> None:
    sim.shape(0, delay=20 * MS)
    sim.shape(1, delay=20 * MS)
    ends = Ends(sim, PRIMARY)
    ends.send(100)
    assert ends.stats(sim.client).copies_out == 0 and list(ends.stats(sim.client).access_packets_out) == [100, 0]
    assert reasons(ends) == [lib.REASON_NONE, lib.REASON_WITHIN_THRESHOLD]
    sim.shape(0, delay=60 * MS)
    ends.send(150)
    doubled = ends.stats(sim.client).copies_out
    assert 50 <= doubled <= 140 and reasons(ends) == [lib.REASON_NONE] * 2
    sim.shape(0, delay=20 * MS)
    ends.send(400)
    doubled = ends.stats(sim.client).copies_out
    ends.send(100)
    sim.run(SECOND)
    assert ends.stats(sim.client).copies_out == doubled  # back within
    assert sorted(ends.got()) == list(range(750))  # not in order where it changes: the other path is that much shorter


def test_a_primary_access_without_threshold_has_its_copies_too(sim: Simulator) -> None:
    ends = Ends(sim, REDUNDANT | {"active_access": 1})
    ends.send(50)
    assert ends.stats(sim.client).copies_out == 50


def test_a_peer_that_takes_no_numbers_gets_each_packet_once(sim: Simulator) -> None:
    """It would deliver both."""
    sim.shape(0, delay=30 * MS)
    sim.shape(1, delay=10 * MS)
    ends = Ends(sim, REDUNDANT, numbers=False)
    ends.send(50)
    sim.run(SECOND)
    assert ends.got() == list(range(50)) and ends.stats(sim.client).copies_out == 0


def test_copies_give_way_on_a_path_that_cannot_carry_them(sim: Simulator) -> None:
    """8 Mbit/s where one path carries 1: what fills its queue is not doubled any more, and the other path loses nothing by it."""
    sim.shape(0, rate=20e6, delay=10 * MS)
    sim.shape(1, rate=1e6, delay=10 * MS)
    ends = Ends(sim, REDUNDANT | {"active_access": 0})
    ends.send(3000, MS, 1000)
    sim.run(2 * SECOND)
    assert sorted(ends.got()) == list(range(3000)) and len(ends.got()) == 3000
    counters = sim.client.counters()
    assert set(sim.client.drops()) <= {"redundant_dropped"}
    copies = ends.stats(sim.client).copies_out
    assert 100 < copies < 1000 and counters["redundant_copies"] == copies + counters.get("redundant_dropped", 0)


@pytest.mark.parametrize("dead", [True, False])
def test_what_came_long_ago_over_the_other_path_does_not_stand_in_the_way(sim: Simulator, dead: bool) -> None:
    """The primary access carries half of the flow: its queue was full of packets whose copies had come, a second's worth, and
    nothing new came for so long when the other one fell silent (found by the scenario handover: 0.5 s)."""
    sim.shape(0, rate=20e6, delay=10 * MS)
    sim.shape(1, rate=1e6, delay=10 * MS)
    ends = Ends(sim, REDUNDANT | {"active_access": 1})
    ends.send(1000, 4 * MS, 1000)
    sim.shape(0, cut=dead)
    ends.send(500, 4 * MS, 1000)
    times = [at for at, _, _ in sim.server.inner]
    assert max(b - a for a, b in pairwise(times)) < (250 if dead else 20) * MS
    assert dead or sorted(ends.got())[:1400] == list(range(1400))


def test_a_path_too_long_to_help_carries_no_copies(sim: Simulator) -> None:
    """They would come when nobody waits for them (REORDER_WAIT_MOST_NS), 4,096 numbers later perhaps."""
    sim.shape(0, delay=10 * MS)
    sim.shape(1, delay=300 * MS)
    ends = Ends(sim, REDUNDANT)
    ends.send(100)
    assert ends.stats(sim.client).copies_out == 0 and ends.got() == list(range(len(ends.got())))


def test_a_packet_that_fits_one_path_only_goes_once(sim: Simulator) -> None:
    sim.shape(0, delay=10 * MS, mtu=1400)
    sim.shape(1, delay=20 * MS)
    ends = Ends(sim, REDUNDANT)
    sim.run(3 * SECOND)
    inner = sim.client.paths(ends.conn)[0].inner_mtu
    assert inner <= 1280 + 100
    ends.send(50, size=1280)
    ends.send(50, size=600)
    sim.run(SECOND)
    assert sorted(ends.got()) == list(range(100)) and len(ends.got()) == 100


def test_followers_of_a_flow_that_have_no_number_go_once(sim: Simulator) -> None:
    """Later fragments: they would be delivered twice."""
    sim.shape(0, delay=30 * MS)
    ends = Ends(sim, REDUNDANT)
    first = bytearray(udp4(204))
    first[6:8] = b"\x20\x00"  # more fragments
    later = bytearray(udp4(200, serial=7))
    later[6:8] = b"\x00\x18"
    for packet in (first, later):
        sim.inner(sim.client, bytes(packet))
        sim.run(100 * MS)
    assert len(sim.server.inner) == 2
    assert ends.stats(sim.client).packets_out == 2


def test_rules_that_replace_a_redundant_one_deliver_nothing_twice(sim: Simulator) -> None:
    """While originals and copies wait in queues: their numbers are of flows that are over."""
    for link in range(2):
        sim.shape(link, rate=1e6, delay=10 * MS, queue=SECOND)
    ends = Ends(sim, REDUNDANT)
    for turn in range(20):
        for _ in range(20):
            sim.inner(sim.client, udp4(1000, serial=ends.sent))
            ends.sent += 1
        rules = ffi.new("struct steering_rule[1]")
        rules[0].mode, rules[0].transport, rules[0].active_access = (4, 1, -1) if turn % 2 else (0, 1, 0)
        rules[0].has_standby = 1
        check(lib.tunnel_steering_set(sim.client.endpoint, ends.tunnels[0], rules, 1))
        sim.run(20 * MS)
    sim.run(5 * SECOND)
    got = ends.got()
    assert len(got) == len(set(got))


@pytest.mark.parametrize("wrong", [
    {"transport": 0}, {"active_access": 2}, {"active_access": -2}, {"max_rtt_ms": 50}, {"has_max_loss": 1, "max_loss_percent": 1},
    {"active_access": 0, "has_max_loss": 1, "max_loss_percent": 101}, {"autonomous": 1},
])  # fmt: skip
def test_what_it_cannot_be_is_refused_at_set_up(sim: Simulator, wrong: dict[str, int]) -> None:
    """Nothing is set then; the canary: without the wrong value it is taken."""
    ends = Ends(sim, REDUNDANT)
    rules = ffi.new("struct steering_rule[1]")
    for name, value in REDUNDANT.items():
        setattr(rules[0], name, value)
    assert lib.tunnel_steering_set(sim.client.endpoint, ends.tunnels[0], rules, 1) == 0
    for name, value in wrong.items():
        setattr(rules[0], name, value)
    assert lib.tunnel_steering_set(sim.client.endpoint, ends.tunnels[0], rules, 1) == -lib.ENGINE_E_ARGUMENT
