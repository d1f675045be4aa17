"""ECN through the network: marks, bleaching and mangling on the way, black holes of marked packets, a marking queue."""

from __future__ import annotations

import pytest
from congestion_flows import CONTROLLERS, OUTER, SIZE, Bottleneck

from native import lib
from native.sim import BALANCED, MS, SECOND, Simulator, udp4


def loaded(sim: Simulator) -> int:
    """A connection with two paths and some traffic on both."""
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [BALANCED | {"weight": [50, 50]}])
    traffic(sim)
    return conn


def traffic(sim: Simulator) -> None:
    count = 0

    def send() -> None:
        nonlocal count
        for flow in range(8):
            sim.inner(sim.client, udp4(600, flow=flow, serial=count))
            count += 1

    sim.every(2 * MS, sim.now + 300 * MS, send)
    sim.run(600 * MS)


def failures(sim: Simulator) -> dict[str, int]:
    return {name: value for name, value in sim.client.counters().items() if name.startswith("ecn_")}


def test_a_network_that_passes_marks_is_found_capable() -> None:
    with Simulator(91) as sim:
        conn = loaded(sim)
        for path in sim.client.paths(conn).values():
            if path.validated:
                assert path.ecn_state == lib.ECN_CAPABLE and path.ecn_ce == 0
                assert path.ecn_marked >= path.datagrams_sent > 100
        assert not failures(sim)


@pytest.mark.parametrize(
    "ecn,name,failure",
    [((0, 0, 0, 0), "ecn_missing", lib.ECN_MISSING), ((0, 1, 1, 3), "ecn_remarked", lib.ECN_REMARKED)],
)
def test_a_network_that_changes_marks_is_found_out_on_its_path_alone(ecn: tuple[int, ...], name: str, failure: int) -> None:
    with Simulator(92) as sim:
        sim.wires[1, 0].ecn = ecn
        conn = loaded(sim)
        good, bad = sim.client.paths(conn)[0], sim.client.paths(conn)[1]
        assert good.ecn_state == lib.ECN_CAPABLE
        assert (bad.ecn_state, bad.ecn_failure) == (lib.ECN_FAILED, failure)
        assert failures(sim) == {name: 1}
        assert len(sim.server.inner) == 150 * 8  # nothing was lost for it
        assert bad.ecn_marked < 60  # the rest went unmarked


def test_bleaching_that_begins_later_is_found_out() -> None:
    with Simulator(93) as sim:
        conn = loaded(sim)
        assert sim.client.paths(conn)[0].ecn_state == lib.ECN_CAPABLE
        sim.wires[0, 0].ecn = (0, 0, 0, 0)
        traffic(sim)
        assert sim.client.paths(conn)[0].ecn_failure == lib.ECN_BLEACHED
        assert sim.client.paths(conn)[1].ecn_state == lib.ECN_CAPABLE
        assert failures(sim) == {"ecn_bleached": 1}


def test_a_network_that_drops_marked_packets_costs_marks_only() -> None:
    with Simulator(94) as sim:
        sim.tap = lambda direction, link, data: None if lib.simnet_tapped(sim.net).ecn else data
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        sim.run(2 * SECOND)
        traffic(sim)
        traffic(sim)
        path = sim.client.paths(conn)[0]
        assert (path.ecn_state, path.ecn_failure) == (lib.ECN_FAILED, lib.ECN_BLACK_HOLE)
        assert failures(sim) == {"ecn_black_hole": 2}  # tested once more, and no third time
        before = len(sim.server.inner)
        traffic(sim)
        assert len(sim.server.inner) - before == 150 * 8


def test_a_cut_while_testing_is_no_verdict() -> None:
    """All marked packets were lost, as in a black hole; once the path answers it is tested again."""
    with Simulator(95) as sim:
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        sim.tap = lambda direction, link, data: None if lib.simnet_tapped(sim.net).ecn or sim.now < 4 * SECOND else data
        sim.run(4 * SECOND)
        sim.tap = None
        sim.run(2 * SECOND)
        traffic(sim)
        assert sim.client.paths(conn)[0].ecn_state == lib.ECN_CAPABLE


def test_marking_can_be_switched_off_and_counting_goes_on() -> None:
    with Simulator(96, client={"ecn_off": 1}) as sim:
        conn = loaded(sim)
        for path in sim.client.paths(conn).values():
            assert path.ecn_marked == 0
            assert path.ecn_failure == lib.ECN_OFF
        (peer,) = sim.server.connections()
        assert sim.server.paths(peer)[0].ecn_state == lib.ECN_CAPABLE


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_a_marking_queue_slows_down_without_a_loss(name: str) -> None:
    link = Bottleneck(20e6, 10 * MS, queue=100 * MS)
    link.sim.wires[0, 0].shared.mark = 10 * MS
    flow = link.add(CONTROLLERS[name])
    (goodput,) = link.run(3 * SECOND, 4 * SECOND)
    path = link.sim.client.paths(flow.conn)[0]
    link.close()
    assert goodput >= 0.85 * link.rate * SIZE / OUTER
    assert path.ecn_ce > 0 and path.congestion_events > 0 and path.packets_lost == 0
    assert path.rtt_smoothed < 20 * MS + 40 * MS
