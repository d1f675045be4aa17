"""One flow over several paths: which path takes the next packet, and what becomes of those that wait when paths come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from native import ffi, lib
from native.sim import BALANCED, MS, SECOND, SPLIT, Simulator, check, serial_of, tcp4, udp4


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(71) as s:
        yield s
        s.check()


def stats(node: Any, tunnel: int) -> Any:
    out = ffi.new("struct tunnel_stats *")
    check(lib.tunnel_stats(node.endpoint, tunnel, out))
    return out


def serials(node: Any) -> list[int]:
    return [serial_of(packet) for _, _, packet in node.inner]


class Flow:
    """One inner flow from the server's end with a window of packets, that minds no losses."""

    def __init__(self, sim: Simulator, window: int, size: int = 1200) -> None:
        self.sim, self.window, self.size = sim, window, size
        self.sent = self.seen = 0
        sim.client.on_inner = self._arrived
        self.order: list[int] = []
        self.last = 0
        sim.every(100 * MS, sim.now + 60 * SECOND, self._again)

    def _again(self) -> None:
        """All of a window was lost: nothing would come of it."""
        if self.sim.now - self.last > 200 * MS:
            self.seen = self.sent
            self.fill()

    def _arrived(self, _tun: int, packet: bytes) -> None:
        serial = serial_of(packet)
        self.order.append(serial)
        self.sim.after(20 * MS, lambda: self._acknowledged(serial + 1))

    def _acknowledged(self, upto: int) -> None:
        self.seen, self.last = max(self.seen, upto), self.sim.now
        self.fill()

    def fill(self) -> None:
        while self.sent - self.seen < self.window:
            self.sim.inner(self.sim.server, udp4(self.size, up=False, serial=self.sent))
            self.sent += 1


def pair(sim: Simulator, rule: Any = SPLIT) -> tuple[int, int, int, int]:
    """Two paths, tunnels, both ends with numbers."""
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    client, server = sim.tunnel(conn, peer, [rule])
    for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)):
        sim.sequence(node, tunnel, c)
    sim.run(SECOND)
    return conn, peer, client, server


def carried(sim: Simulator, peer: int) -> list[int]:
    paths = sim.server.paths(peer)
    return [paths[0].datagrams_sent, paths[1].datagrams_sent]


def goodput(sim: Simulator, flow: Flow, duration: int) -> float:
    """Mbit/s of inner packets."""
    before = len(flow.order)
    sim.run(duration)
    return (len(flow.order) - before) * flow.size * 8 / (duration / SECOND) / 1e6


@pytest.mark.parametrize(("rule", "least", "most"), [(SPLIT, 36, 40), (BALANCED, 10, 20)])
def test_one_flow_fills_both_paths(sim: Simulator, rule: Any, least: int, most: int) -> None:
    for link in range(2):
        sim.shape(link, rate=20e6, delay=25 * MS, queue=50 * MS)
    pair(sim, rule)
    flow = Flow(sim, 350)
    flow.fill()
    sim.run(3 * SECOND)
    assert least <= goodput(sim, flow, 3 * SECOND) <= most
    assert (flow.order == sorted(flow.order)) or rule is SPLIT


def test_unequal_paths_give_their_sum(sim: Simulator) -> None:
    sim.shape(0, rate=8e6, delay=30 * MS, queue=60 * MS)
    sim.shape(1, rate=30e6, delay=10 * MS, queue=60 * MS)
    pair(sim)
    flow = Flow(sim, 350)
    flow.fill()
    sim.run(3 * SECOND)
    assert goodput(sim, flow, 3 * SECOND) >= 33


def test_what_the_faster_path_carries_alone_stays_on_it(sim: Simulator) -> None:
    """The slow path would hold it up by 50 ms: it is not asked, even for bursts."""
    sim.shape(0, rate=20e6, delay=60 * MS)
    sim.shape(1, rate=20e6, delay=10 * MS)
    _, peer, client, _ = pair(sim)
    before = carried(sim, peer)
    for burst in range(50):
        for n in range(20):
            sim.inner(sim.server, udp4(1200, up=False, serial=20 * burst + n))
        sim.run(20 * MS)
    sim.run(SECOND)
    now = carried(sim, peer)
    assert now[1] - before[1] >= 990 and now[0] - before[0] <= 10
    assert sorted(serials(sim.client)) == list(range(1000)) and stats(sim.client, client).reorder_waited <= 30


def test_a_path_that_dies_takes_nothing_that_waits_with_it(sim: Simulator) -> None:
    for link in range(2):
        sim.shape(link, rate=10e6, delay=10 * MS)
    _, peer, _, _ = pair(sim)
    flow = Flow(sim, 100)
    flow.fill()
    sim.run(SECOND)
    sim.shape(0, cut=True)
    sim.run(SECOND)
    assert sim.server.paths(peer)[0].state in (lib.PATH_SUSPECT, lib.PATH_FAILED)
    before = len(flow.order)
    sim.run(SECOND)
    assert len(flow.order) - before > 600
    assert sim.server.stats(peer).queue_packets < 100
    assert set(sim.server.drops()) <= {"path_queue_codel"}


def test_when_no_path_is_good_what_waits_goes_the_way_of_its_rule(sim: Simulator) -> None:
    """The client calls both paths backups: the shared queue is steered to one of them, not kept for ever."""
    for link in range(2):
        sim.shape(link, rate=2e6, delay=10 * MS, queue=SECOND)
    conn, peer, _, _ = pair(sim)
    for n in range(200):
        sim.inner(sim.server, udp4(1200, up=False, serial=n))
    assert sim.server.stats(peer).queue_packets > 100
    for path in range(2):
        check(lib.path_status_set(sim.client.endpoint, conn, path, 0))
    sim.run(100 * MS)
    assert sim.server.stats(peer).queue_packets == 0
    sim.run(5 * SECOND)
    assert len(sim.client.inner) + sim.server.drops()["path_queue_codel"] == 200


def test_a_re_key_takes_what_waits_along(sim: Simulator) -> None:
    for link in range(2):
        sim.shape(link, rate=2e6, delay=10 * MS, queue=SECOND)
    _, peer, client, server = pair(sim)
    newer, newer_peer = sim.connect()
    sim.open_path(newer, 1)
    for n in range(200):
        sim.inner(sim.server, udp4(1200, up=False, serial=n))
    assert sim.server.stats(peer).queue_packets > 100
    for node, tunnel, c in ((sim.client, client, newer), (sim.server, server, newer_peer)):
        check(lib.tunnel_admit(node.endpoint, tunnel, c, 0))
        sim.sequence(node, tunnel, c)
    check(lib.tunnel_bind(sim.server.endpoint, server, newer_peer, 0))
    assert sim.server.stats(peer).queue_packets == 0 and sim.server.stats(newer_peer).queue_packets > 100
    sim.run(5 * SECOND)
    assert len(sim.client.inner) + sim.server.drops()["path_queue_codel"] == 200
    assert serials(sim.client) == sorted(serials(sim.client))


@pytest.mark.parametrize("how", ["close", "unbind", "free"])
def test_what_waits_is_accounted_for_when_a_connection_or_tunnel_ends(sim: Simulator, how: str) -> None:
    for link in range(2):
        sim.shape(link, rate=2e6, delay=10 * MS, queue=SECOND)
    _, peer, _, server = pair(sim)
    for n in range(200):
        sim.inner(sim.server, udp4(1200, up=False, serial=n))
    if how == "close":
        check(lib.conn_close(sim.server.endpoint, peer, 1, 0, 0, b"", 0))
    elif how == "unbind":
        check(lib.tunnel_unbind(sim.server.endpoint, server, peer))
    else:
        check(lib.tunnel_free(sim.server.endpoint, server))
    sim.run(10 * SECOND)
    sim.check()
    lost = sum(sim.server.drops().values())
    assert len(sim.client.inner) + lost == 200 and lost > 100


def test_packets_that_one_path_cannot_carry_go_over_the_other() -> None:
    with Simulator(72, client={"max_udp_payload": 1500}, server={"max_udp_payload": 1500}) as sim:
        sim.shape(0, mtu=1400)
        conn, peer = sim.connect()
        sim.open_path(conn, 1)
        client, server = sim.tunnel(conn, peer, [SPLIT], mtu=1450)
        for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)):
            sim.sequence(node, tunnel, c)
        sim.run(5 * SECOND)
        before = carried(sim, peer)
        for n in range(100):
            sim.inner(sim.server, udp4(1400, up=False, serial=n))
            sim.run(5 * MS)
        sim.run(SECOND)
        assert serials(sim.client) == list(range(100)) and carried(sim, peer)[0] == before[0]


class Tcp(Flow):
    """As much of TCP as minds the order (RFC 6675): what is missing behind three others counts as lost, is sent again, and leaves
    0.7 of the window once a round trip; otherwise it grows by 8 a round trip. Down, from the server's end."""

    def __init__(self, sim: Simulator) -> None:
        super().__init__(sim, 20)
        self.cwnd, self.threshold = 20.0, 1e9
        self.next, self.recover = 0, 0
        self.ahead: set[int] = set()  # arrived, and something before it has not
        self.again: set[int] = set()  # sent again, and not yet arrived

    def _again(self) -> None:
        if self.sim.now - self.last > 300 * MS:
            self.last, self.threshold, self.cwnd = self.sim.now, self.cwnd / 2, 2.0
            self.again.clear()
            self._send(self.seen)

    def _send(self, serial: int) -> None:
        self.sim.inner(self.sim.server, udp4(self.size, up=False, serial=serial))

    def _arrived(self, _tun: int, packet: bytes) -> None:
        serial = serial_of(packet)
        self.order.append(serial)
        self.again.discard(serial)
        if serial >= self.next:
            self.ahead.add(serial)
        while self.next in self.ahead:
            self.ahead.discard(self.next)
            self.next += 1
        upto, missing = self.next, [n for n in range(self.next, max(self.ahead, default=0) - 2) if n not in self.ahead]
        self.sim.after(20 * MS, lambda: self._told(upto, missing))

    def _told(self, upto: int, missing: list[int]) -> None:
        if upto > self.seen:
            self.cwnd += (upto - self.seen) * (1 if self.cwnd < self.threshold else 8 / self.cwnd)
            self.seen, self.last = upto, self.sim.now
        for serial in missing:
            if serial in self.again or serial < self.seen:
                continue
            self.again.add(serial)
            self._send(serial)
            if serial >= self.recover:
                self.recover, self.threshold = self.sent, max(0.7 * self.cwnd, 2)
                self.cwnd = self.threshold
        self.window = int(self.cwnd) + len(self.ahead)
        self.fill()


def test_r60_one_tcp_flow_over_two_equal_paths(sim: Simulator) -> None:
    """At least 1.6 times what one path carries; that the order is kept is what it needs (the canary passes packets at once)."""
    for link in range(2):
        sim.shape(link, rate=10e6, delay=25 * MS, jitter=2 * MS, queue=50 * MS)
    pair(sim)
    flow = Tcp(sim)
    flow.fill()
    sim.run(6 * SECOND)
    assert goodput(sim, flow, 3 * SECOND) >= 1.6 * 10 * 1200 / 1260


def test_a_path_that_is_used_now_and_then_is_waited_for(sim: Simulator) -> None:
    """What the slow path brings once a second came 60 ms after the faster one's next packets: they were taken as proof that it was
    lost, and an inner TCP slowed down each time."""
    sim.shape(0, rate=60e6, delay=10 * MS, queue=500 * MS)
    sim.shape(1, rate=30e6, delay=60 * MS, queue=500 * MS)
    _, peer, client, _ = pair(sim)
    serial = 0
    for _ in range(6):
        for count in [*[10] * 60, 250]:  # as the faster path carries alone; then more than it brings before the slow one would
            for _ in range(count):
                sim.inner(sim.server, udp4(1200, up=False, serial=serial))
                serial += 1
            sim.run(15 * MS)
    sim.run(SECOND)
    assert carried(sim, peer)[1] > 30  # canary: it was used
    assert serials(sim.client) == list(range(serial))
    assert (stats(sim.client, client).reorder_late, stats(sim.client, client).reorder_lost) == (0, 0)


def test_acknowledgements_go_the_shortest_way_without_numbers(sim: Simulator) -> None:
    """With numbers those behind one that is lost, or goes the long way, would wait for it; a later one says all that it says."""
    sim.shape(0, rate=1e6, delay=50 * MS)
    sim.shape(1, rate=1e6, delay=10 * MS)
    conn, _, _, server = pair(sim)
    for _ in range(100):
        for _ in range(20):
            sim.inner(sim.client, tcp4(0x10))
        sim.run(20 * MS)
    sim.run(SECOND)
    assert [sim.client.paths(conn)[p].datagrams_sent for p in range(2)] == [0, 2000]
    assert stats(sim.server, server).reorder_waited == 0
    sim.inner(sim.client, tcp4(0x10, b"data"))
    sim.inner(sim.client, tcp4(0x11))
    sim.run(SECOND)
    assert len(sim.server.inner) == 2002
