"""Network faults under the simulator, on a virtual clock (rows R-50 to R-72 of docs/rules.toml)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from native import lib
from native.sim import ACTIVE_3GPP, ACTIVE_NON_3GPP, MS, SECOND, SPLIT, Simulator, address, serial_of, udp4

EVEN = {"mode": 2, "weight": [50, 50]}
UP, DOWN = 0, 1
BOTH = (UP, DOWN)
STANDBY_ON = (ACTIVE_NON_3GPP, ACTIVE_3GPP)
"""By the access that stands by: the rule whose active one is the other."""


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(50) as s:
        yield s
        s.check()


@dataclass
class Probe:
    """Small packets every 2 ms in both directions, and when each came: what a silence is measured with."""

    sim: Simulator
    flows: int = 1
    came: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {UP: [], DOWN: []})
    serial: int = 0

    def __post_init__(self) -> None:
        def taken(direction: int) -> Callable[[int, bytes], None]:
            return lambda _, packet: self.came[direction].append((self.sim.now, serial_of(packet)))

        self.sim.server.on_inner, self.sim.client.on_inner = taken(UP), taken(DOWN)

    def start(self, duration: int, directions: tuple[int, ...] = BOTH, interval: int = 2 * MS, size: int = 300) -> None:
        def send() -> None:
            for flow in range(self.flows):
                for direction in directions:
                    node = (self.sim.client, self.sim.server)[direction]
                    self.sim.inner(node, udp4(size, up=direction == UP, flow=flow, serial=self.serial))
            self.serial += 1

        self.sim.every(interval, self.sim.now + duration, send)

    def gap(self, direction: int, since: int) -> int:
        times = [t for t, _ in self.came[direction] if t >= since]
        return max((b - a for a, b in pairwise([since, *times])), default=0)

    def twice(self, direction: int) -> int:
        """Packets that came more than once (with one flow)."""
        serials = [s for _, s in self.came[direction]]
        return len(serials) - len(set(serials))


def two_paths(sim: Simulator, rule: dict[str, Any], *, sequenced: bool = False, **options: int) -> tuple[int, int]:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    client, server = sim.tunnel(conn, peer, [rule], **options)
    for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)) if sequenced else ():
        sim.sequence(node, tunnel, c)
    return conn, peer


def connect(sim: Simulator) -> int:
    """As the UE does it: a connection that nobody answered within 10 s is tried again."""
    for _ in range(3):
        try:
            return sim.connect()[0]
        except TimeoutError:
            sim.run(SECOND)
    raise TimeoutError("three times no answer")


def burst_loss(sim: Simulator, share: float, length: int, links: tuple[int, ...] = (0, 1)) -> None:
    """Losses of this share in runs of this length (quic-interop-runner's drop-rate with burst), both ways; seeded."""
    left = dict.fromkeys([(link, d) for link in links for d in BOTH], 0)

    def tap(direction: int, link: int, data: bytes) -> bytes | None:
        if link not in links:
            return data
        if not left[link, direction] and sim.rng.random() < share / (length * (1 - share) + share):
            left[link, direction] = length
        if not left[link, direction]:
            return data
        left[link, direction] -= 1
        return None

    sim.tap = tap


# ---- cuts


@pytest.mark.parametrize("access", [0, 1])
@pytest.mark.parametrize("ways", [BOTH, (UP,), (DOWN,)], ids=["both", "up", "down"])
def test_a_cut_of_either_access_either_way_costs_three_round_trips_and_the_path_is_used_again(
    sim: Simulator, access: int, ways: tuple[int, ...]
) -> None:
    """R-50: the aim of issue 6 for active-standby, and back in use within 2 s."""
    for link in range(2):
        sim.shape(link, delay=15 * MS)
    conn, peer = two_paths(sim, STANDBY_ON[1 - access])
    probe = Probe(sim)
    probe.start(9 * SECOND)
    sim.run(2 * SECOND)
    cut = sim.now
    for way in ways:
        sim.wires[access, way].cut = 1
    sim.run(3 * SECOND)
    assert max(probe.gap(d, cut) for d in BOTH) <= 3 * 30 * MS + 50 * MS
    for way, (node, c) in enumerate(((sim.client, conn), (sim.server, peer))):
        assert (node.paths(c)[access].state == lib.PATH_FAILED) == (way in ways)  # who gets through there may go on
    sim.shape(access, cut=0)
    sim.run(2 * SECOND)
    before = [node.paths(c)[access].datagrams_sent for node, c in ((sim.client, conn), (sim.server, peer))]
    sim.run(SECOND)
    after = [node.paths(c)[access].datagrams_sent for node, c in ((sim.client, conn), (sim.server, peer))]
    assert all(b - a > 450 for a, b in zip(before, after, strict=True))  # 500 packets a second each way


@pytest.mark.parametrize("rule", [EVEN, SPLIT, {"mode": 1}, ACTIVE_3GPP], ids=["balanced", "split", "delay", "standby"])
def test_both_cut_for_two_seconds_is_survived(sim: Simulator, rule: dict[str, Any]) -> None:
    """R-52: the same connection goes on."""
    for link in range(2):
        sim.shape(link, delay=15 * MS)
    conn, peer = two_paths(sim, rule, sequenced=True)
    probe = Probe(sim, flows=4)
    probe.start(6 * SECOND, interval=8 * MS)
    sim.run(SECOND)
    for link in range(2):
        sim.shape(link, cut=1)
    sim.run(2 * SECOND)
    for link in range(2):
        sim.shape(link, cut=0)
    sim.run(SECOND)
    back = sim.now
    sim.run(SECOND)
    for direction in BOTH:
        assert sum(t >= back for t, _ in probe.came[direction]) > 0.95 * 500
    assert not sim.client.stats(conn).closing and not sim.server.stats(peer).closing


def test_both_cut_for_longer_than_the_idle_timeout_ends_both_ends(sim: Simulator) -> None:
    """R-52: nothing of the connection is left at either end, and another one is made when the network is back."""
    two_paths(sim, EVEN)
    Probe(sim).start(60 * SECOND, interval=20 * MS)
    sim.run(SECOND)
    for link in range(2):
        sim.shape(link, cut=1)
    sim.run(50 * SECOND)
    for node in (sim.client, sim.server):
        assert node.of_type(lib.EVENT_CLOSED) and node.connections() == []
    for link in range(2):
        sim.shape(link, cut=0)
    conn, _ = sim.connect()
    assert sim.client.paths(conn)[0].validated


def flap(cycles: int) -> None:
    """R-70: so many cuts at random times, and the path comes back each time. Neither path IDs nor connection IDs run out, whether
    it only falls silent or, each tenth time, is given up and opened again, as when its link goes down."""
    with Simulator(70) as sim:
        conn, peer = two_paths(sim, EVEN)
        Probe(sim, flows=2).start(1 << 62, interval=50 * MS)
        path = 1
        ends = ((sim.client, conn), (sim.server, peer))
        for cycle in range(cycles):
            sim.run(sim.rng.randrange(300) * MS)
            sim.shape(1, cut=1)
            sim.run(sim.rng.randrange(600) * MS)
            if cycle % 10 == 0:
                assert lib.path_abandon(sim.client.endpoint, conn, path, 0x3E) == 0
            sim.shape(1, cut=0)
            if cycle % 10 == 0:
                path += 1
                assert sim.open_path(conn, 1) == path
            for _ in range(20):
                if all(node.paths(c)[path].state == lib.PATH_ACTIVE for node, c in ends):
                    break
                sim.run(100 * MS)
            else:
                raise AssertionError(f"cycle {cycle}: the path has not come back in 2 s")
        sent = sim.client.paths(conn)[path].datagrams_sent
        sim.run(SECOND)
        assert sim.client.paths(conn)[path].datagrams_sent > sent
        assert [len(node.paths(c)) for node, c in ends] == [2, 2]
        sim.check()


def test_cuts_at_random_times_and_the_path_comes_back_each_time() -> None:
    flap(150)  # a thousand of them: tests/soak


# ---- loss, corruption, duplicates, order


def test_fifty_handshakes_in_a_third_of_loss_by_threes(sim: Simulator) -> None:
    """R-53"""
    for link in range(2):
        sim.shape(link, rate=10e6, delay=15 * MS, queue=25 * 12 * MS // 10)
    burst_loss(sim, 0.3, 3)
    for _ in range(50):
        conn = connect(sim)
        assert lib.conn_close(sim.client.endpoint, conn, 1, 0, 0, b"", 0) == 0
        sim.run(SECOND)


def test_fifty_handshakes_in_which_a_third_of_all_packets_is_corrupted(sim: Simulator) -> None:
    """R-54"""
    for link in range(2):
        sim.shape(link, rate=10e6, delay=15 * MS, corrupt=0.3)
    for _ in range(50):
        conn = connect(sim)
        assert lib.conn_close(sim.client.endpoint, conn, 1, 0, 0, b"", 0) == 0
        sim.run(SECOND)
    assert sim.client.counters()["auth_failed"] + sim.server.counters()["auth_failed"] > 50


def test_of_a_corrupting_path_everything_is_delivered_right_or_counted(sim: Simulator) -> None:
    """R-54"""
    for link in range(2):
        sim.shape(link, rate=20e6, delay=10 * MS)
    two_paths(sim, EVEN)
    given: set[bytes] = set()
    got: list[bytes] = []
    sim.server.on_inner = lambda _, packet: got.append(packet)
    for link in range(2):
        sim.shape(link, corrupt=0.02)

    def send() -> None:
        for flow in range(4):
            given.add(packet := udp4(1000, flow=flow, serial=len(given)))
            sim.inner(sim.client, packet)

    sim.every(4 * MS, sim.now + 4 * SECOND, send)
    sim.run(6 * SECOND)
    corrupted = sum(sim.wires[link, UP].corrupted for link in range(2))
    drops = sim.server.drops()
    assert len(got) == len(set(got)) and set(got) <= given
    assert sim.client.counters()["inner_sent"] - len(got) <= corrupted == sum(drops.values()) and corrupted > 50


@pytest.mark.parametrize("links", [(1,), (0, 1)], ids=["one", "both"])
def test_two_percent_lost_by_threes_does_not_slow_the_clean_path(sim: Simulator, links: tuple[int, ...]) -> None:
    """R-55: all the clean path can carry, whatever the lossy one does."""
    for link in range(2):
        sim.shape(link, rate=10e6, delay=15 * MS, queue=60 * MS)
    conn, _ = two_paths(sim, EVEN)
    probe = Probe(sim, flows=12)
    burst_loss(sim, 0.02, 3, links)
    probe.start(6 * SECOND, (UP,), 6 * MS, 1200)  # 19.2 Mbit/s
    sim.run(2 * SECOND)
    paths = sim.client.paths(conn)
    before = {k: paths[k].datagrams_sent - paths[k].datagrams_lost for k in range(2)}
    sim.run(3 * SECOND)
    paths = sim.client.paths(conn)
    rate = {k: (paths[k].datagrams_sent - paths[k].datagrams_lost - before[k]) * 1260 * 8 / 3e6 for k in range(2)}
    for link in range(2):
        assert rate[link] >= (1.0 if link in links else 9.0), rate
    if len(links) == 2:
        assert max(rate.values()) <= 3 * min(rate.values()), rate  # each pays for its own losses


def test_a_satellite_beside_a_short_path_costs_nothing(sim: Simulator) -> None:
    """R-56: 1.5 s of RTT beside 20 ms, one flow packet by packet: no less than the short path alone."""
    sim.shape(0, rate=10e6, delay=750 * MS, queue=200 * MS)
    sim.shape(1, rate=10e6, delay=10 * MS)
    conn, peer = sim.connect(0)  # the handshake over the satellite
    sim.open_path(conn, 1)
    client, server = sim.tunnel(conn, peer, [SPLIT])
    for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)):
        sim.sequence(node, tunnel, c)
    probe = Probe(sim)
    probe.start(9 * SECOND, (UP,), MS, 1200)  # 9.6 Mbit/s
    sim.run(5 * SECOND)
    before = len(probe.came[UP])
    sim.run(3 * SECOND)
    assert len(probe.came[UP]) - before >= 0.95 * 3000
    assert all(a < b for (_, a), (_, b) in pairwise(probe.came[UP]))  # what the full queue lost was sent again, and waited for


def test_everything_twice_and_late_beyond_a_thousand_is_delivered_once(sim: Simulator) -> None:
    """R-64"""
    for link in range(2):
        sim.shape(link, delay=10 * MS, duplicate=1.0, reorder=0.01, reorder_by=600 * MS)
    two_paths(sim, EVEN)
    probe = Probe(sim)
    probe.start(4 * SECOND, interval=MS // 2)  # 1,200 packets in 600 ms
    sim.run(8 * SECOND)
    for direction, node in ((UP, sim.server), (DOWN, sim.client)):
        assert probe.twice(direction) == 0
        other = sim.client if direction == UP else sim.server
        assert len(probe.came[direction]) == other.counters()["inner_sent"] > 4000
        assert node.drops()["packet_duplicate"] >= 4000


def test_a_recorded_minute_sent_again_delivers_nothing(sim: Simulator) -> None:
    """R-64"""
    recorded: list[tuple[int, int, bytes]] = []
    conn, peer = two_paths(sim, EVEN)
    probe = Probe(sim, flows=2)
    probe.start(60 * SECOND, interval=25 * MS)
    sim.tap = lambda direction, link, data: (recorded.append((direction, link, data)), data)[1]
    sim.run(61 * SECOND)
    sim.tap = None
    came, moved = {d: len(probe.came[d]) for d in BOTH}, len(sim.server.of_type(lib.EVENT_PATH_REMOTE_CHANGED))
    assert min(came.values()) > 4000  # canary: it was recorded from something,
    assert all(sim.client.paths(conn)[k].packets_sent > 4096 + 64 for k in range(2))  # and there is more than the window remembers
    thief = address("192.0.2.7", 7)
    for direction, link, data in recorded:
        node = (sim.server, sim.client)[direction]
        sim.deliver(node, link, sim.server_address if direction == DOWN else thief, data)
    sim.run(SECOND)
    assert {d: len(probe.came[d]) for d in BOTH} == came
    assert len(sim.server.of_type(lib.EVENT_PATH_REMOTE_CHANGED)) == moved
    refused = sum(sim.server.drops().values()) + sum(sim.client.drops().values())
    assert refused >= len(recorded) and not sim.server.stats(peer).closing and not sim.client.stats(conn).closing


@pytest.mark.parametrize("control", [lib.CC_CUBIC, lib.CC_BBR])
def test_a_tenth_of_all_packets_out_of_order_costs_less_than_a_fifth(control: int) -> None:
    """R-65: by 1 to 50 packets on each path; the spurious losses are told."""
    goodput, spurious = [], []
    for share in (0.0, 0.1):
        with Simulator(65, client={"congestion_control": control}) as sim:
            for link in range(2):
                sim.shape(link, rate=10e6, delay=15 * MS, queue=60 * MS)
            conn, _ = two_paths(sim, EVEN)
            probe = Probe(sim, flows=16)
            for link in range(2):
                sim.shape(link, reorder=share)
            probe.start(6 * SECOND, (UP,), 8 * MS, 1200)  # 19.2 Mbit/s, and a little over 1 ms a packet
            sim.every(10 * MS, sim.now + 6 * SECOND, lambda s=sim: [  # type: ignore[misc]
                s.shape(link, reorder_by=s.rng.randrange(1, 50) * MS) for link in range(2)])
            sim.run(2 * SECOND)
            before = len(probe.came[UP])
            sim.run(3 * SECOND)
            goodput.append(len(probe.came[UP]) - before)
            spurious.append(sum(p.packets_spurious for p in sim.client.paths(conn).values()))
    assert goodput[1] >= 0.8 * goodput[0] and goodput[0] >= 0.85 * 3 * 2000
    assert spurious[0] == 0 < spurious[1]


# ---- addresses


def test_rebindings_every_five_seconds_move_their_path_and_disturb_no_other(sim: Simulator) -> None:
    """R-57: a port, then an address, under load."""
    for link in range(2):
        sim.shape(link, delay=10 * MS)
    _, peer = two_paths(sim, EVEN)
    probe = Probe(sim, flows=6)
    probe.start(25 * SECOND, interval=10 * MS)
    sim.run(SECOND)
    where = [address("10.2.0.2", 50001), address("10.2.7.9", 50001), address("10.2.7.9", 50002), address("10.2.0.2", 50003)]
    for number, new in enumerate(where, 1):
        since = sim.now
        sim.client_address[1] = new
        sim.run(5 * SECOND)
        info = sim.server.paths(peer)
        assert (info[1].remote.port, bytes(info[1].remote.ip[0:4])) == (new.port, bytes(new.ip[0:4]))
        assert info[0].remote.port == 40000
        assert [e.path for e in sim.server.of_type(lib.EVENT_PATH_REMOTE_CHANGED)] == [1] * number
        assert max(probe.gap(d, since) for d in BOTH) <= 20 * MS  # the flows of the other path went on
        assert all(p.state == lib.PATH_ACTIVE for p in info.values() if p.validated)
    lost = 21 * 100 * 6 - len(probe.came[DOWN])
    assert lost < 4 * 6 * 10  # at most 100 ms of the moved path's flows each time


@pytest.mark.parametrize("down_only", [False, True], ids=["both ways", "downlink only"])
def test_a_nat_that_forgets_the_standby_path_after_two_seconds(sim: Simulator, down_only: bool) -> None:
    """R-58: keep-alives are rarer than that, to keep an idle access idle. When the active access falls silent the UE's first packet
    makes the mapping again, and the UPF follows it."""
    for link in range(2):
        sim.shape(link, delay=15 * MS)
    conn, peer = two_paths(sim, ACTIVE_3GPP)
    probe = Probe(sim)
    last, mapped, port = [sim.now], [True], [40001]

    def nat(direction: int, link: int, data: bytes) -> bytes | None:
        if link != 1:
            return data
        if sim.now - last[0] > 2 * SECOND:
            mapped[0] = False
        if direction == UP:
            last[0] = sim.now
            if not mapped[0]:
                mapped[0], port[0] = True, port[0] + 1
                sim.client_address[1] = address("10.2.0.2", port[0])
        return data if mapped[0] else None

    sim.tap = nat
    probe.start(17 * SECOND, (DOWN,) if down_only else BOTH, 5 * MS)
    sim.run(12 * SECOND)
    assert sim.now - last[0] > 2 * SECOND or port[0] > 40001  # canary: it has forgotten the path
    cut = sim.now
    sim.shape(0, cut=1)
    sim.run(5 * SECOND)
    assert port[0] > 40001
    assert probe.gap(DOWN, cut) <= (2500 if down_only else 500) * MS
    assert sim.server.paths(peer)[1].remote.port == port[0] and not sim.client.stats(conn).closing


# ---- MTU


def test_an_mtu_that_drops_under_way_is_found_and_the_other_path_keeps_its_own(sim: Simulator) -> None:
    """R-62: 1500, 1400, 1280 with ICMP filtered. At 1280 no full inner packet fits any more: the path is left, with a reason."""
    for link in range(2):
        sim.shape(link, delay=10 * MS, rate=50e6)
    conn, _ = two_paths(sim, EVEN, mtu=1400)
    probe = Probe(sim, flows=8)
    probe.start(40 * SECOND, (UP,), 5 * MS, 1280)
    sim.every(5 * MS, sim.now + 15 * SECOND, lambda: [sim.inner(sim.client, udp4(1400, flow=20 + f)) for f in range(4)] and None)
    sim.run(2 * SECOND)
    assert all(p.max_udp_payload == 1452 for p in sim.client.paths(conn).values() if p.validated)
    sim.shape(1, mtu=1400)
    sim.run(3 * SECOND)
    paths = sim.client.paths(conn)
    assert 1356 <= paths[1].max_udp_payload <= 1372 and paths[0].max_udp_payload == 1452
    assert sim.client.counters()["mtu_black_hole"] == 1
    sim.shape(1, mtu=1280)
    sim.run(2 * SECOND)
    since = sim.now
    sim.run(SECOND)
    assert sum(t >= since for t, _ in probe.came[UP]) >= 0.99 * 1600  # the other path carries all of it
    assert sim.client.counters()["path_too_narrow"] == 1
    sim.run(8 * SECOND)
    (left,) = sim.client.of_type(lib.EVENT_PATH_ABANDONED)
    assert (left.path, left.a) == (1, 0x3E76)
    assert [(e.a, e.b) for e in sim.client.of_type(lib.EVENT_PATH_STATE) if e.path == 1][-1] == (
        lib.PATH_ABANDONED, lib.REASON_VALIDATION_FAILED)
    assert sim.client.paths(conn)[0].max_udp_payload == 1452


def test_a_path_that_lost_full_packets_by_chance_stays(sim: Simulator) -> None:
    """Half a second in which small packets alone get through: it is asked again, answers, and carries."""
    for link in range(2):
        sim.shape(link, delay=10 * MS)
    conn, peer = two_paths(sim, EVEN)
    probe = Probe(sim, flows=8)
    probe.start(6 * SECOND, interval=5 * MS, size=1280)
    sim.run(SECOND)
    sim.shape(1, mtu=1280)
    sim.run(500 * MS)
    sim.shape(1, mtu=0)
    sim.run(2 * SECOND)
    assert sim.client.counters()["path_too_narrow"] >= 1  # canary
    for node, c in ((sim.client, conn), (sim.server, peer)):
        assert node.paths(c)[1].state == lib.PATH_ACTIVE
    before = sim.client.paths(conn)[1].datagrams_sent
    sim.run(SECOND)
    assert sim.client.paths(conn)[1].datagrams_sent - before > 500
    assert not sim.client.of_type(lib.EVENT_PATH_ABANDONED)


# ---- ECN


def test_bleached_then_all_marked_on_one_path_does_not_stall(sim: Simulator) -> None:
    """R-67: a network that marks all is believed, and slow; one that removes marks is found out; the other path is as it was."""
    for link in range(2):
        sim.shape(link, delay=10 * MS, rate=20e6)
    conn, _ = two_paths(sim, EVEN)
    probe = Probe(sim, flows=8)
    probe.start(12 * SECOND, interval=5 * MS)
    sim.run(SECOND)
    sim.shape(1, ecn=(0, 3, 3, 3))
    since = sim.now
    sim.run(3 * SECOND)
    paths = sim.client.paths(conn)
    assert paths[1].ecn_ce > 100 and paths[1].congestion_events > 5
    assert paths[0].ecn_ce == 0 and paths[0].congestion_events == 0
    sim.shape(1, ecn=(0, 0, 0, 0))
    sim.run(3 * SECOND)
    paths = sim.client.paths(conn)
    assert paths[1].ecn_failure == lib.ECN_BLEACHED and paths[0].ecn_state == lib.ECN_CAPABLE
    assert max(probe.gap(d, since) for d in BOTH) <= 20 * MS


# ---- many paths


@pytest.mark.parametrize("count", [4, 8])
def test_many_paths_are_all_used(count: int) -> None:
    """R-71"""
    options = {"initial_max_path_id": count - 1}
    with Simulator(71, client=options, server=options, links=count) as sim:
        for handshake in (sim.client_handshake, sim.server_handshake):
            handshake.peer_params["initial_max_path_id"] = count - 1
        for link in range(count):
            sim.shape(link, rate=5e6, delay=(5 + link) * MS, queue=60 * MS)
        conn, peer = sim.connect()
        for link in range(1, count):
            assert sim.open_path(conn, link) == link
        sim.tunnel(conn, peer, [EVEN])
        probe = Probe(sim, flows=count * 8)
        probe.start(6 * SECOND, BOTH, 24 * MS, 1200)  # 3.2 Mbit/s for each
        sim.run(SECOND)
        before = {k: p.datagrams_sent for k, p in sim.client.paths(conn).items()}
        sim.run(4 * SECOND)
        paths = sim.client.paths(conn)
        assert all(paths[k].datagrams_sent - before[k] > 100 for k in range(count))
        for direction in BOTH:
            assert len({s for _, s in probe.came[direction]}) > 200
        sim.check()
