"""A link whose device goes down says so, at one end: what that end and its peer make of it (path_link.c), on the virtual clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from tunnel_ends import BothWays, Ends

from native import ffi, lib
from native.sim import ACTIVE_3GPP, MS, SECOND, SPLIT, Node, Simulator, check, serial_of, udp4

BACKUP, AVAILABLE = 0, 1
DELAY = 20 * MS
SLACK = 3 * MS


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(89) as s:
        for link in range(2):
            s.shape(link, rate=20e6, delay=DELAY)
        yield s
        s.check()


def device(sim: Simulator, node: Node, link: int, up: bool, says: bool = True) -> None:
    """Takes it down or up; `says`: the end is told."""
    sim.shape(link, cut=not up)
    if says:
        check(lib.endpoint_link_state(node.endpoint, link, int(up)))


def told(node: Node, path: int = 0) -> list[int]:
    return [e.a for e in node.of_type(lib.EVENT_PATH_STATUS) if e.path == path]


class Stream:
    """A packet every 2 ms from one end, for so long; the longest silence at the other."""

    def __init__(self, sim: Simulator, up: bool, length: int = 4 * SECOND) -> None:
        self.times: list[int] = []
        sender, receiver = (sim.client, sim.server) if up else (sim.server, sim.client)
        receiver.on_inner = lambda _tun, _packet: self.times.append(sim.now)
        sim.every(2 * MS, sim.now + length, lambda: sim.inner(sender, udp4(100, up=up)))

    def gap(self) -> int:
        return max(b - a for a, b in pairwise(self.times))


@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("down_at", [0, 1])
@pytest.mark.parametrize("up", [True, False])
def test_what_the_sender_is_told_costs_nothing_and_its_peer_hears_of_it_over_the_other_path(
    sim: Simulator, up: bool, down_at: int, says: bool
) -> None:
    """`down_at`: the end whose device goes down. Its own packets take the other path at once; those of its peer when
    PATH_STATUS_BACKUP is there, one way later, and then they are as long on their way. By a PTO alone (not told: the canary) it
    takes longer, both ways."""
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [ACTIVE_3GPP])
    stream = Stream(sim, up)
    sim.run(SECOND)
    node = sim.server if down_at else sim.client
    device(sim, node, 0, False, says)
    sim.run(SECOND)
    sender = 0 if up else 1
    allowed = (DELAY if sender == down_at else 2 * DELAY) + SLACK
    # what was on the wire is lost; the first packet over the other path is one way behind the last that came
    assert (stream.gap() <= allowed) == says
    if says:
        paths = (node.paths(peer if down_at else conn))[0]
        assert (paths.state, paths.reason) == (lib.PATH_FAILED, lib.REASON_LINK_DOWN)
        assert told(sim.client if down_at else sim.server) == [BACKUP]
    device(sim, node, 0, True, says)
    sim.run(SECOND)
    carried = sim.client.paths(conn)[0].datagrams_sent + sim.server.paths(peer)[0].datagrams_sent
    sim.run(100 * MS)
    assert sim.client.paths(conn)[0].datagrams_sent + sim.server.paths(peer)[0].datagrams_sent - carried >= 49
    assert says is False or told(sim.client if down_at else sim.server) == [BACKUP, AVAILABLE]


def test_a_link_that_is_up_again_is_asked_at_once(sim: Simulator) -> None:
    """Not when the next probe of a failed path is due, half a second later: an answer takes one round trip, and a route that comes
    later than the device asks again."""
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [ACTIVE_3GPP])
    device(sim, sim.client, 0, False)
    sim.run(20 * SECOND)
    check(lib.endpoint_link_state(sim.client.endpoint, 0, 1))  # up, without a route: what is sent goes nowhere
    sim.run(10 * MS)
    assert sim.client.paths(conn)[0].state == lib.PATH_FAILED
    device(sim, sim.client, 0, True)
    sim.run(2 * DELAY + SLACK)
    assert sim.client.paths(conn)[0].state == lib.PATH_ACTIVE
    assert told(sim.server)[-1] == BACKUP
    sim.run(DELAY + SLACK)
    assert told(sim.server)[-1] == AVAILABLE


def test_an_acknowledgement_of_before_does_not_bring_a_dead_link_back(sim: Simulator) -> None:
    """It comes over the other path: the peer acknowledges a path whose way back is gone there."""
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [ACTIVE_3GPP])
    Stream(sim, True)
    sim.run(SECOND)
    sim.wires[0, 1].cut = True  # downlink: the UPF's acknowledgements of path 0 take the other one after a PTO
    check(lib.endpoint_link_state(sim.client.endpoint, 0, 0))
    for _ in range(100):
        sim.run(10 * MS)
        assert sim.client.paths(conn)[0].state == lib.PATH_FAILED
    sim.shape(0, cut=False)
    check(lib.endpoint_link_state(sim.client.endpoint, 0, 1))
    sim.run(SECOND)
    assert sim.client.paths(conn)[0].state == lib.PATH_ACTIVE


@pytest.mark.parametrize("says", [True, False])
def test_a_flow_with_numbers_loses_nothing(sim: Simulator, says: bool) -> None:
    """What was under way on the dead path goes once more over the other one, from both ends, and in its order. (Not told, the
    canary, it is sent again too, so late that the receiver has not waited.)"""
    ends = Ends(sim, SPLIT)
    traffic = BothWays(sim, 1000, 2 * SECOND)
    sim.run(SECOND)
    busiest = max(sim.client.paths(ends.conn).values(), key=lambda p: p.datagrams_sent)
    device(sim, sim.client, busiest.link, False, says)
    sim.run(3 * SECOND)
    came = [[serial_of(packet) for _, _, packet in node.inner] for node in (sim.client, sim.server)]
    assert [sorted(of) for of in came] == [list(range(traffic.sent))] * 2
    assert [of == sorted(of) for of in came] == [says] * 2
    assert all(node.counters()["datagrams_sent_again"] for node in (sim.client, sim.server))


def test_both_links_down_tell_nothing_and_each_comes_back_by_itself(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [ACTIVE_3GPP])
    for link in range(2):
        device(sim, sim.client, link, False)
    sim.run(5 * SECOND)
    assert [sim.client.paths(conn)[n].state for n in range(2)] == [lib.PATH_FAILED] * 2
    device(sim, sim.client, 1, True)
    sim.run(2 * SECOND)
    assert [sim.client.paths(conn)[n].state for n in range(2)] == [lib.PATH_FAILED, lib.PATH_ACTIVE]
    assert told(sim.server) == [BACKUP] and told(sim.server, 1) == []  # it is told of the other one as soon as it can be
    device(sim, sim.client, 0, True)
    sim.run(SECOND)
    assert told(sim.server) == [BACKUP, AVAILABLE]


def test_a_link_that_goes_up_and_down_costs_two_frames_each_time(sim: Simulator) -> None:
    """And every time the path comes back: 300 cycles, of each end's device in turn."""
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [ACTIVE_3GPP])
    sim.every(20 * MS, sim.now + 400 * SECOND, lambda: sim.inner(sim.client, udp4(200)))
    for turn in range(300):
        node = (sim.client, sim.server)[turn % 2]
        device(sim, node, 0, False)
        sim.run(300 * MS)
        device(sim, node, 0, True)
        sim.run(300 * MS)
        assert sim.client.paths(conn)[0].state == lib.PATH_ACTIVE, turn
        assert sim.server.paths(peer)[0].state == lib.PATH_ACTIVE, turn
    assert len(told(sim.client)) + len(told(sim.server)) <= 600


@pytest.mark.parametrize(("link", "end"), [(1 << 31, True), (lib.ENGINE_MAX_LINKS, True), (0, False)])
def test_what_is_no_link_is_refused(sim: Simulator, link: int, end: bool) -> None:
    endpoint: Any = sim.client.endpoint if end else ffi.NULL
    assert lib.endpoint_link_state(endpoint, link, 0) == -lib.ENGINE_E_ARGUMENT
