"""Loss recovery, congestion control and pacing under the simulator (RFC 9002, RFC 9438)."""

from __future__ import annotations

import pytest

from native import lib
from native.sim import BALANCED, MS, SECOND, Simulator, serial_of, udp4


def load(sim: Simulator, duration: int, per_ms: int, size: int = 1280) -> None:
    count = 0

    def send() -> None:
        nonlocal count
        for _ in range(per_ms):
            sim.inner(sim.client, udp4(size, serial=count))
            count += 1

    sim.every(MS, sim.now + duration, send)


def single(sim: Simulator, **shape: float) -> tuple[int, int]:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [BALANCED])
    sim.shape(0, **shape)
    return conn, peer


def goodput(sim: Simulator, seconds: int) -> float:
    before = sum(len(p) for _, _, p in sim.server.inner)
    sim.run(seconds * SECOND)
    return (sum(len(p) for _, _, p in sim.server.inner) - before) * 8 / seconds


@pytest.mark.parametrize("rate,delay", [(100e6, 5 * MS), (50e6, 15 * MS), (10e6, 40 * MS)])
def test_drop_tail_link_is_used_to_nine_tenths(rate: float, delay: int) -> None:
    with Simulator(71) as s:
        conn, _ = single(s, rate=rate, delay=delay)
        load(s, 7 * SECOND, int(rate / 8000 / 1280) + 3)
        s.run(2 * SECOND)
        assert goodput(s, 4) >= 0.9 * rate * 1280 / 1340
        path = s.client.paths(conn)[0]
        assert path.packets_lost > 0  # the queue did overflow
        assert path.bytes_in_flight <= path.cwnd


def test_random_loss_is_counted_and_nothing_comes_twice() -> None:
    with Simulator(72) as s:
        conn, _ = single(s, rate=100e6, delay=5 * MS, loss=0.02)
        load(s, 3 * SECOND, 1, 600)
        s.run(5 * SECOND)
        serials = [serial_of(p) for _, _, p in s.server.inner]
        path = s.client.paths(conn)[0]
        assert len(serials) == len(set(serials))
        assert path.datagrams_sent == len(serials) + path.datagrams_lost
        assert 0.01 < path.datagrams_lost / path.datagrams_sent < 0.04


def test_window_does_not_grow_while_the_application_is_the_limit() -> None:
    with Simulator(73) as s:
        conn, _ = single(s, rate=100e6)
        load(s, 10 * SECOND, 1, 300)  # 2.4 Mbit/s
        s.run(10 * SECOND)
        assert s.client.paths(conn)[0].cwnd < 60_000


def test_window_does_not_grow_because_a_queue_goes_in_several_batches() -> None:
    """Packets that become larger end a batch each: what waits behind it waits for nothing but its turn."""
    with Simulator(79) as s:
        conn, _ = single(s, rate=1e9, delay=5 * MS)
        s.run(SECOND)
        for _ in range(500):
            for size in range(400, 800, 40):
                s.inner(s.client, udp4(size))
            s.run(20 * MS)
        path = s.client.paths(conn)[0]
        assert len(s.server.inner) == 5000 and path.datagrams_lost == 0
        assert path.cwnd < 30_000


def test_window_does_not_grow_because_bursts_wait_for_the_pacer() -> None:
    """20 packets each 50 ms, of which the pacer lets half go at once: the window grew to 1.3 MB, with 50 KB in flight."""
    with Simulator(80) as s:
        conn, _ = single(s, rate=100e6, delay=50 * MS)
        s.run(SECOND)
        for _ in range(400):
            for serial in range(20):
                s.inner(s.client, udp4(1200, serial=serial))
            s.run(50 * MS)
        s.run(SECOND)
        path = s.client.paths(conn)[0]
        assert len(s.server.inner) >= 7990 and path.datagrams_lost == 0
        assert path.cwnd < 400_000  # as the queue of the first second let it grow


def test_pacing_keeps_a_small_queue_from_overflowing() -> None:
    """No burst of a whole window: a queue of 4 ms survives a steady load at two thirds of the rate."""
    with Simulator(74) as s:
        conn, _ = single(s, rate=30e6, delay=20 * MS, queue=4 * MS)
        load(s, 4 * SECOND, 2)
        s.run(5 * SECOND)
        path = s.client.paths(conn)[0]
        assert path.datagrams_lost < 0.02 * path.datagrams_sent


def test_reordering_makes_the_sender_patient() -> None:
    with Simulator(75) as s:
        conn, _ = single(s, delay=5 * MS, reorder=0.1)
        load(s, 4 * SECOND, 2)
        s.run(2 * SECOND)
        early = s.client.paths(conn)[0].packets_spurious
        s.run(3 * SECOND)
        assert s.client.paths(conn)[0].packets_spurious - early <= 20
        assert len(s.server.inner) == 8000


def test_rtt_follows_the_delay_of_the_path() -> None:
    with Simulator(76) as s:
        conn, _ = single(s, delay=5 * MS)
        load(s, 6 * SECOND, 1)
        s.run(2 * SECOND)
        assert 9 * MS < s.client.paths(conn)[0].rtt_smoothed < 16 * MS
        s.shape(0, delay=50 * MS)
        s.run(3 * SECOND)
        path = s.client.paths(conn)[0]
        assert 99 * MS < path.rtt_smoothed < 115 * MS and path.rtt_min < 12 * MS


def test_outage_of_a_single_path_is_survived_with_a_small_window() -> None:
    with Simulator(77) as s:
        conn, _ = single(s, rate=50e6)
        load(s, 10 * SECOND, 3)
        s.run(2 * SECOND)
        s.shape(0, cut=True)
        s.run(3 * SECOND)
        s.shape(0, cut=False)
        s.run(2 * SECOND)
        assert goodput(s, 1) >= 0.85 * 24 * 1280 * 1000
        assert s.client.paths(conn)[0].pto_count == 0


def test_silent_receiver_only_sends_acknowledgements() -> None:
    with Simulator(78) as s:
        _, peer = single(s, rate=100e6)
        load(s, 3 * SECOND, 4)
        s.run(4 * SECOND)
        stats = s.server.stats(peer)
        assert stats.packets_sent < stats.packets_received / 3


def test_acknowledgements_come_within_the_promised_delay() -> None:
    with Simulator(79) as s:
        conn, _ = single(s, delay=5 * MS)
        s.run(SECOND)
        s.inner(s.client, udp4(100))
        start = s.now
        acked = s.client.paths(conn)[0].packets_acked
        assert s.run(SECOND, lambda: s.client.paths(conn)[0].packets_acked > acked)
        assert s.now - start <= 36 * MS


@pytest.mark.parametrize("rate,most", [(20e6, 0.11), (200e6, 0.02)])
def test_acknowledgements_are_eight_a_round_trip_at_high_rates(rate: float, most: float) -> None:
    """Every 10th packet, and no more than 8 per RTT; fewer than that would leave slow start without its samples."""
    with Simulator(83) as s:
        conn, peer = single(s, rate=rate, delay=20 * MS)
        load(s, 5 * SECOND, int(rate / 8000 / 1280) + 1)
        s.run(4 * SECOND)
        stats = s.server.stats(peer)
        sent, received = stats.packets_sent, stats.packets_received
        s.run(SECOND)
        stats = s.server.stats(peer)
        acks = stats.packets_sent - sent
        assert acks < most * (stats.packets_received - received)
        rtt = s.client.paths(conn)[0].rtt_smoothed
        assert 5 * SECOND / rtt < acks < 11 * SECOND / rtt + 0.1 * rate / 8 / 1340
        assert s.client.paths(conn)[0].pto_count == 0


def test_a_small_window_does_not_wait_for_the_acknowledgement_delay() -> None:
    """Five packets are fewer than the ten that are acknowledged together: an eighth of the RTT is all they wait."""
    with Simulator(84) as s:
        conn, _ = single(s, delay=20 * MS)
        s.run(SECOND)
        for _ in range(30):  # past the first packets, each second of which is acknowledged
            for _ in range(5):
                s.inner(s.client, udp4(600))
            s.run(100 * MS)
        start, acked = s.now, s.client.paths(conn)[0].packets_acked
        for _ in range(5):
            s.inner(s.client, udp4(600))
        assert s.run(SECOND, lambda: s.client.paths(conn)[0].packets_acked >= acked + 5)
        assert 40 * MS <= s.now - start <= 47 * MS


def test_one_who_only_receives_learns_the_rtt_and_forgets_what_is_told() -> None:
    """RFC 9000 13.2.4: a PING a second with its acknowledgements; and two idle ends do not keep each other awake."""
    with Simulator(85) as s:
        _, peer = single(s)
        load(s, 4 * SECOND, 1, 600)
        s.run(SECOND)
        s.shape(0, delay=50 * MS)
        s.run(4 * SECOND)
        assert 90 * MS < s.server.paths(peer)[0].rtt_latest < 130 * MS
        before = s.server.stats(peer).packets_sent
        s.run(9 * SECOND)
        assert s.server.stats(peer).packets_sent - before <= 3


def bursts(sim: Simulator) -> dict[int, int]:
    """Octets that the client sends on link 0 in each instant, filled by the tap."""
    at: dict[int, int] = {}

    def tap(direction: int, link: int, data: bytes) -> bytes:
        if direction == 0 and len(data) > 200:
            at[sim.now] = at.get(sim.now, 0) + len(data)
        return data

    sim.tap = tap
    return at


@pytest.mark.parametrize("control", range(lib.CC_COUNT))
def test_what_leaves_at_once_is_bounded(control: int) -> None:
    """A millisecond at the pacing rate under load; ten packets or a millisecond when a whole queue comes after idle time."""
    with Simulator(86, client={"congestion_control": control}) as s:
        conn, _ = single(s, rate=100e6, delay=20 * MS)
        load(s, 2 * SECOND, 9)
        s.run(SECOND)
        at = bursts(s)
        rate = 0
        for _ in range(20):
            s.run(50 * MS)
            rate = max(rate, s.client.paths(conn)[0].pacing_rate)
        assert len(at) > 200
        assert max(at.values()) <= rate / 1000 + 2 * 1340
        s.run(2 * SECOND)  # the load is over
        at.clear()
        for i in range(200):
            s.inner(s.client, udp4(1280, serial=i))
        s.run(50 * MS)
        assert sum(at.values()) > 100 * 1280
        rate = s.client.paths(conn)[0].pacing_rate
        assert max(at.values()) <= max(10 * 1340, rate / 1000) + 1340


def test_idle_ends_ask_for_no_time() -> None:
    """Whatever the controller: without traffic nothing but keep-alive and the idle time-out is due."""
    for control in range(lib.CC_COUNT):
        with Simulator(87, client={"congestion_control": control}, server={"congestion_control": control}) as s:
            single(s, rate=50e6)
            load(s, SECOND, 2)
            s.run(4 * SECOND)
            for node in (s.client, s.server):
                assert lib.endpoint_deadline(node.endpoint) - s.now > SECOND // 2
