"""Path MTU discovery per path (RFC 8899, RFC 9000 §14.3, RFC 10069 §5.6), under the simulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from native import lib
from native.sim import BALANCED, MS, SECOND, Node, Simulator, check, udp4

BASE, MOST, STEP = 1331, 1452, 16
OVERHEAD = 32  # short header 13, DATAGRAM 1, Quarter Stream ID 1, Context ID 1, tag 16


class Net:
    """The largest UDP payload that each link lets pass, in both directions; silently."""

    def __init__(self, sim: Simulator) -> None:
        self.most = {0: 65535, 1: 65535}
        self.vanished: list[int] = []
        sim.tap = self.tap

    def tap(self, _direction: int, link: int, data: bytes) -> bytes | None:
        if len(data) <= self.most[link]:
            return data
        self.vanished.append(len(data))
        return None


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(7) as s:
        yield s


def size(node: Node, conn: int, path: int = 0) -> int:
    return int(node.paths(conn)[path].max_udp_payload)


def test_on_most_paths_one_probe_finds_the_most(sim: Simulator) -> None:
    conn, peer = sim.connect()
    assert size(sim.client, conn) == BASE
    sim.run(200 * MS)
    assert size(sim.client, conn) == size(sim.server, peer) == MOST
    told = [(e.a, e.b) for e in sim.client.of_type(lib.EVENT_PATH_MTU)]
    assert told == [(BASE, BASE - OVERHEAD), (MOST, MOST - OVERHEAD)]


@pytest.mark.parametrize("most", [BASE, 1340, 1400, 1437])
def test_the_search_ends_within_a_step_below_what_passes(sim: Simulator, most: int) -> None:
    Net(sim).most[0] = most
    conn, peer = sim.connect()
    sim.run(5 * SECOND)
    assert most - STEP <= size(sim.client, conn) <= most
    assert most - STEP <= size(sim.server, peer) <= most
    assert not [e for e in sim.client.of_type(lib.EVENT_PATH_STATE) if e.a == lib.PATH_SUSPECT]
    assert sim.client.paths(conn)[0].cwnd >= 10 * 1200  # a lost probe is no congestion


def test_one_lost_probe_is_no_verdict(sim: Simulator) -> None:
    """RFC 8899 §5.1.2: a size is too large after three lost probes."""
    lost: set[int] = set()

    def tap(direction: int, _link: int, data: bytes) -> bytes | None:
        first = len(data) > BASE and direction not in lost
        lost.update({direction} if first else ())
        return None if first else data

    sim.tap = tap
    conn, peer = sim.connect()
    sim.run(2 * SECOND)
    assert lost == {0, 1}
    assert size(sim.client, conn) == size(sim.server, peer) == MOST


def test_each_path_has_its_own(sim: Simulator) -> None:
    Net(sim).most[1] = 1400
    conn, _ = sim.connect()
    sim.open_path(conn, 1)
    sim.run(5 * SECOND)
    assert size(sim.client, conn, 0) == MOST and 1400 - STEP <= size(sim.client, conn, 1) <= 1400


def test_the_peer_s_limit_is_kept(sim: Simulator) -> None:
    sim.server_handshake.peer_params = {"max_udp_payload_size": 1350}
    sim.client_handshake.peer_params = {"max_udp_payload_size": 1350}
    sizes: list[int] = []
    sim.tap = lambda _d, _link, data: (sizes.append(len(data)), data)[1]
    conn, _ = sim.connect()
    sim.run(SECOND)
    assert size(sim.client, conn) == 1350 and max(sizes) == 1350


def test_when_large_packets_vanish_the_size_goes_down_and_up_again_later(sim: Simulator) -> None:
    net = Net(sim)
    conn, peer = sim.connect()
    sim.run(300 * MS)
    assert size(sim.client, conn) == MOST
    sim.tunnel(conn, peer, [BALANCED], mtu=1400)
    net.most[0] = 1360
    start = sim.now
    sim.every(5 * MS, start + 4 * SECOND, lambda: sim.inner(sim.client, udp4(1400)))
    sim.every(20 * MS, start + 4 * SECOND, lambda: sim.inner(sim.client, udp4(200, flow=1)))
    sim.run(5 * SECOND)
    assert sim.client.counters().get("mtu_black_hole", 0) >= 1
    assert 1360 - STEP <= size(sim.client, conn) <= 1360
    assert sim.client.counters().get("inner_path_mtu", 0) > 100
    told = [p for _, _, p in sim.client.inner if p[9] == 1 and p[20:22] == bytes([3, 4])]
    assert len(told) == sim.client.counters()["inner_path_mtu"]  # those that waited when it went down, too
    net.most[0] = 65535
    sim.run(700 * SECOND)
    assert size(sim.client, conn) == MOST  # the raise timer


def test_the_sender_of_a_too_large_packet_is_told_the_path_s_mtu(sim: Simulator) -> None:
    Net(sim).most[0] = BASE
    conn, peer = sim.connect()
    sim.run(3 * SECOND)
    sim.tunnel(conn, peer, [BALANCED], mtu=1400)
    mtu = size(sim.client, conn) - OVERHEAD
    sim.inner(sim.client, udp4(mtu))
    sim.run(100 * MS)
    assert len(sim.server.inner) == 1  # canary: this size passes
    sim.inner(sim.client, udp4(mtu + 1))
    sim.run(100 * MS)
    assert len(sim.server.inner) == 1 and sim.client.counters()["inner_path_mtu"] == 1
    _, _, answer = sim.client.inner[-1]
    assert answer[9] == 1 and answer[20:22] == bytes([3, 4]) and int.from_bytes(answer[26:28], "big") == mtu


def test_loss_from_congestion_is_no_black_hole(sim: Simulator) -> None:
    """An overloaded bottleneck drops large packets by the dozen while small ones pass."""
    sim.shape(0, rate=5e6, queue=10 * MS)
    conn, peer = sim.connect()
    sim.run(SECOND)
    sim.tunnel(conn, peer, [BALANCED], mtu=1400)
    end = sim.now + 5 * SECOND
    sim.every(MS, end, lambda: sim.inner(sim.client, udp4(1400)))
    sim.every(7 * MS, end, lambda: sim.inner(sim.client, udp4(100, flow=1)))
    sim.run(6 * SECOND)
    assert sim.client.stats(conn).packets_lost > 20  # canary: it was congested
    assert sim.client.counters().get("mtu_black_hole", 0) == 0 and size(sim.client, conn) == MOST


def test_a_path_too_small_for_its_validation_is_not_used(sim: Simulator) -> None:
    net = Net(sim)
    conn, _ = sim.connect()
    sim.run(SECOND)
    net.most[1] = BASE - 1
    path = check(lib.path_open(sim.client.endpoint, conn, 1, sim.server_address))
    sim.run(20 * SECOND)
    assert any(e.path == path for e in sim.client.of_type(lib.EVENT_PATH_ABANDONED))


def test_a_probe_that_the_window_does_not_hold_waits_for_it(sim: Simulator) -> None:
    """A path validated at one end just as it was cut: after that outage its window holds two packets, one is in flight. The
    probe was due, could not be sent and stayed due: the simulator (as the I/O thread would) turned without time passing."""
    sim.shape(0, delay=15 * MS, rate=50e6)
    sim.shape(1, delay=10 * MS, rate=100e6)
    conn, _ = sim.connect()
    sim.run(1200 * MS)
    path = check(lib.path_open(sim.client.endpoint, conn, 1, sim.server_address))
    sim.run(13 * MS)  # the answer to its challenge is on its way
    sim.shape(1, cut=True)
    sim.run(1670 * MS)
    sim.shape(1, cut=False)
    windows: list[int] = []
    sim.every(5 * MS, sim.now + 20 * SECOND, lambda: windows.append(sim.client.paths(conn)[path].cwnd))
    sim.run(20 * SECOND)
    assert min(windows) < 2 * MOST  # canary: the window was that small
    assert size(sim.client, conn, path) == MOST


def test_a_packet_too_large_for_its_home_goes_where_it_fits(sim: Simulator) -> None:
    """A path that was just validated does not know its MTU yet: that is no reason to tell the sender of a small one."""
    Net(sim).most[1] = BASE
    conn, peer = sim.connect()
    path = sim.open_path(conn, 1)
    sim.run(5 * SECOND)
    assert size(sim.client, conn, path) == BASE and size(sim.client, conn) == MOST
    sim.tunnel(conn, peer, [{"mode": 2, "weight": [1, 99]}], mtu=1400)
    before = sim.client.paths(conn)[path].datagrams_sent
    for flow in range(4):
        sim.inner(sim.client, udp4(1200, flow=flow))
    sim.run(100 * MS)
    assert sim.client.paths(conn)[path].datagrams_sent > before  # canary: small ones go there
    delivered = len(sim.server.inner)
    for flow in range(4):
        sim.inner(sim.client, udp4(1400, flow=flow))
    sim.run(100 * MS)
    assert len(sim.server.inner) == delivered + 4 and not sim.client.counters().get("inner_path_mtu")
