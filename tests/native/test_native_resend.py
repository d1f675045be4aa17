"""Inner packets with a number that are lost on the way and sent again while they are young (docs/sequenced_datagrams.md)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tunnel_ends import Ends

from native import lib
from native.sim import ACTIVE_3GPP, ACTIVE_NON_3GPP, BALANCED, MS, SECOND, SPLIT, Simulator, check, udp4


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(97) as s:
        yield s
        s.check()


class Flow(Ends):
    """Large packets, one each 2 ms."""

    def __init__(self, sim: Simulator, rule: dict[str, Any] = SPLIT, numbers: bool = True) -> None:
        super().__init__(sim, rule, numbers)

    def send(self, count: int, every: int = 2 * MS, size: int = 1000) -> None:
        super().send(count, every, size)

    def count(self, name: str) -> int:
        return self.sim.client.counters().get(name, 0)


def both(sim: Simulator, **shape: Any) -> None:
    for link in range(2):
        sim.shape(link, **shape)


def test_what_a_path_loses_comes_all_the_same_and_in_order(sim: Simulator) -> None:
    both(sim, delay=15 * MS, rate=20e6)
    flow = Flow(sim)
    for link in range(2):
        sim.wires[link, 0].loss = 0.01
    flow.send(3000)
    sim.run(SECOND)
    got = flow.got()
    again = flow.count("datagrams_sent_again")
    assert again >= 20
    assert len(got) == len(set(got)) >= 2998  # one that is lost a second time is lost
    assert got == sorted(got)  # none waits for its turn behind new packets while the window is full


@pytest.mark.parametrize("delay", [5, 40, 100])
def test_the_first_one_that_is_lost_comes_in_order_already(sim: Simulator, delay: int) -> None:
    """Lost is known after a round trip, those behind it are there after half of one: with 100 ms each way what was sent again comes
    300 ms after it left first, and nobody waited so long: not the sender, nor a receiver that had seen none come late."""
    both(sim, delay=delay * MS)
    flow = Flow(sim)
    flow.send(100, 5 * MS, 200)
    for loss in (1.0, 0.0):
        for link in range(2):
            sim.wires[link, 0].loss = loss
        flow.send(1 if loss else 100, 5 * MS, 200)
    sim.run(SECOND)
    assert flow.got() == list(range(201)) and flow.count("datagrams_sent_again") == 1


def test_a_silent_cut_loses_nothing(sim: Simulator) -> None:
    """All that the path had under way goes over the other one when it becomes suspect."""
    both(sim, delay=15 * MS, rate=20e6)
    flow = Flow(sim)
    flow.send(500)
    sim.shape(0, cut=True)
    flow.send(500)
    sim.run(SECOND)
    assert sorted(flow.got()) == list(range(1000)) and flow.count("datagrams_sent_again") >= 3


def test_without_numbers_nothing_is_sent_again(sim: Simulator) -> None:
    """The receiver would deliver it twice when it was only late."""
    both(sim, delay=15 * MS)
    flow = Flow(sim, BALANCED, numbers=False)
    for link in range(2):
        sim.wires[link, 0].loss = 0.05
    flow.send(500)
    sim.run(SECOND)
    assert flow.count("datagrams_sent_again") == 0 and len(flow.got()) < 500


def test_never_a_third_time(sim: Simulator) -> None:
    """Half of all is lost: no packet leaves more than twice, and none comes out twice."""
    both(sim, delay=5 * MS)
    flow = Flow(sim)
    for link in range(2):
        sim.wires[link, 0].loss = 0.5
    flow.send(1000, 10 * MS, 300)
    sim.run(SECOND)
    out = flow.stats(sim.client)
    assert out.packets_out <= 1000 and 100 < out.copies_out <= out.packets_out
    got = flow.got()
    assert len(got) == len(set(got))


def test_what_would_come_when_nobody_waits_is_not_sent(sim: Simulator) -> None:
    """Paths of 150 ms: lost is known after 300 ms, and the receiver waits for 250 at most."""
    both(sim, delay=150 * MS)
    flow = Flow(sim)
    for link in range(2):
        sim.wires[link, 0].loss = 0.02
    flow.send(500, 5 * MS)
    sim.run(2 * SECOND)
    assert flow.count("datagrams_sent_again") == 0 < flow.count("datagrams_too_old")


def test_what_goes_over_a_short_path_does_not_push_out_what_is_under_way_on_a_long_one(sim: Simulator) -> None:
    """1,500 packets over the short one in a round trip of the long one: what the long one lost was not kept any more."""
    sim.shape(0, delay=90 * MS)
    sim.shape(1, delay=2 * MS)
    flow = Flow(sim)
    near = {"match_ip_version": 4, "remote": bytes([10, 99, 0, 3]), "remote_prefix": 32}
    sim.rules(sim.client, flow.tunnels[0], [ACTIVE_NON_3GPP | near | {"transport": 1}, ACTIVE_3GPP | {"transport": 1}])
    sim.wires[0, 0].loss = 0.2
    for serial in range(100):
        sim.inner(sim.client, udp4(200, serial=serial))
        for _ in range(40):
            sim.inner(sim.client, udp4(200, serial=10**6, dn="10.99.0.3"))
        sim.run(5 * MS)
    sim.run(SECOND)
    assert flow.count("datagrams_sent_again") >= 10  # canary: some were lost
    assert [serial for serial in flow.got() if serial < 10**6] == list(range(100))


def test_a_path_that_brings_what_it_had_passed_is_not_believed_to_lose(sim: Simulator) -> None:
    """A third of its packets is late by 20 ms: all of them would go twice."""
    both(sim, delay=5 * MS)
    flow = Flow(sim, ACTIVE_3GPP | {"transport": 1})
    sim.wires[0, 0].reorder, sim.wires[0, 0].reorder_by = 0.33, 20 * MS
    flow.send(1000)
    sim.run(SECOND)
    assert flow.count("datagrams_sent_again") <= 60 and sorted(flow.got()) == list(range(1000))


def test_what_is_kept_is_bounded_and_given_back(sim: Simulator) -> None:
    """More under way than is kept of a connection (1,024); afterwards every buffer is back in the pool (the simulator's books)."""
    both(sim, delay=60 * MS)
    flow = Flow(sim, ACTIVE_3GPP | {"transport": 1})
    for _ in range(60):
        for _ in range(100):
            sim.inner(sim.client, udp4(600, serial=flow.sent))
            flow.sent += 1
        sim.run(5 * MS)
        sim.check()
    sim.shape(0, cut=True)
    sim.run(2 * SECOND)
    sim.check()
    assert flow.count("datagrams_sent_again") <= 1024
    check(lib.conn_close(sim.client.endpoint, flow.conn, 1, 0, 0, b"", 0))
    sim.run(5 * SECOND)
