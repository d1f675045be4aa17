"""Congestion controllers over a bottleneck with a bounded queue: what they use, and how they share it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from congestion_flows import CONTROLLERS, OUTER, SIZE, Bottleneck, jain
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from native import ffi, lib
from native.sim import ACTIVE_3GPP, BALANCED, MS, SECOND, Node, Simulator, check, udp4

CUBIC, NEWRENO, BBR, LIA = (CONTROLLERS[name] for name in ("cubic", "newreno", "bbr", "lia"))


@pytest.fixture
def links() -> Iterator[list[Bottleneck]]:
    made: list[Bottleneck] = []
    yield made
    for one in made:
        one.close()


def share(flows: list[tuple[int, int]], seeds: range = range(1, 2)) -> list[float]:
    """Mean goodput of flows (controller, paths) that share 10 Mbit/s with 40 ms of RTT and 50 ms of queue; some jitter, or the
    drops of a full queue keep in step."""
    total = [0.0] * len(flows)
    for seed in seeds:
        link = Bottleneck(10e6, 20 * MS, seed)
        for number in range(2):
            link.sim.shape(number, jitter=2 * MS)
        for control, paths in flows:
            link.add(control, paths)
        total = [x + y / len(seeds) for x, y in zip(total, link.run(8 * SECOND, 20 * SECOND), strict=True)]
        link.close()
    return total


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_each_controller_fills_the_bottleneck(name: str, links: list[Bottleneck]) -> None:
    link = Bottleneck(50e6, 20 * MS)
    links.append(link)
    flow = link.add(CONTROLLERS[name])
    (goodput,) = link.run(3 * SECOND, 4 * SECOND)
    assert goodput >= 0.9 * link.rate * SIZE / OUTER
    info = link.sim.client.paths(flow.conn)[0]
    assert ffi.string(lib.congestion_control_name(info.congestion_control)).decode() == name
    assert info.rtt_smoothed <= 40 * MS + link.queue + 5 * MS
    assert 0.8 * link.rate < info.delivery_rate * 8 < 1.2 * link.rate
    assert info.pacing_rate * 8 > 0.8 * link.rate
    assert info.bytes_in_flight < 2 * link.rate / 8 * (40 * MS + link.queue) / SECOND  # never below zero: it would wrap


@pytest.mark.parametrize("name", list(CONTROLLERS))
def test_two_flows_of_a_controller_share_fairly(name: str) -> None:
    both = share([(CONTROLLERS[name], 1)] * 2)
    assert jain(both) >= 0.8
    assert sum(both) >= 0.9 * 10e6 * SIZE / OUTER


def test_bbr_leaves_room_for_cubic() -> None:
    assert jain(share([(BBR, 1), (CUBIC, 1)])) >= 0.8


def test_coupled_paths_take_no_more_than_one_flow() -> None:
    """RFC 6356 goals 2 and 3 at a shared bottleneck; two uncoupled paths show that the comparison can fail."""
    coupled, alone = share([(LIA, 2), (CUBIC, 1)], range(1, 4))
    assert 0.6 <= coupled / alone <= 1.3
    uncoupled, alone = share([(CUBIC, 2), (CUBIC, 1)], range(1, 4))
    assert uncoupled / alone >= 1.6


def test_coupled_paths_reach_what_the_better_one_gives_alone() -> None:
    """RFC 6356 goal 1, on disjoint accesses: there, coupling costs nothing."""
    link = Bottleneck(10e6, 20 * MS)
    for direction in range(2):
        link.sim.wires[1, direction].shared = ffi.NULL
    link.sim.shape(1, rate=10e6)
    link.add(LIA, 2)
    goodput = link.run(4 * SECOND, 6 * SECOND, share=2.4)[0]
    link.close()
    assert goodput >= 0.9 * 20e6 * SIZE / OUTER


@pytest.mark.parametrize("rate", [5e6, 15e6])
def test_five_percent_of_loss_cost_bbr_less_than_a_tenth(rate: float, links: list[Bottleneck]) -> None:
    goodput = []
    for control, loss in ((BBR, 0.0), (BBR, 0.05), (NEWRENO, 0.05)):
        links.append(Bottleneck(rate, 20 * MS, loss=loss))
        links[-1].add(control)
        goodput += links[-1].run(3 * SECOND, 6 * SECOND)
    clean, lossy, reno = goodput
    assert clean >= 0.9 * rate * SIZE / OUTER
    assert lossy >= 0.9 * clean
    assert reno < 0.5 * clean  # what becomes of it when every loss halves the window


def test_bbr_keeps_the_queue_short(links: list[Bottleneck]) -> None:
    link = Bottleneck(20e6, 20 * MS)
    links.append(link)
    flow = link.add(BBR)
    link.run(3 * SECOND, 3 * SECOND)
    assert link.sim.client.paths(flow.conn)[0].rtt_smoothed < 48 * MS


def test_controller_is_chosen_by_configuration() -> None:
    with Simulator(81, client={"congestion_control": BBR}) as sim:
        conn, peer = sim.connect()
        assert sim.client.stats(conn).congestion_control == sim.client.paths(conn)[0].congestion_control == BBR
        assert sim.server.stats(peer).congestion_control == CUBIC  # the default


@pytest.mark.parametrize("which", [-1, len(CONTROLLERS)])
def test_unknown_controller_is_refused(which: int) -> None:
    with pytest.raises(ValueError, match="refused the configuration"):
        Node(0, 1, congestion_control=which)
    assert lib.congestion_control_name(which) == ffi.NULL
    with Simulator(82) as sim:
        conn, _ = sim.connect()
        assert lib.conn_congestion_control_set(sim.client.endpoint, conn, which) == -lib.ENGINE_E_ARGUMENT
        assert sim.client.stats(conn).congestion_control == CUBIC


def test_controller_can_be_changed_under_load(links: list[Bottleneck]) -> None:
    link = Bottleneck(10e6, 10 * MS)
    links.append(link)
    flow = link.add(CUBIC)
    for which in (BBR, LIA, NEWRENO, CUBIC):
        check(lib.conn_congestion_control_set(link.sim.client.endpoint, flow.conn, which))
        assert link.run(SECOND, SECOND)[0] >= 0.85 * 10e6 * SIZE / OUTER


@pytest.mark.parametrize("name", list(CONTROLLERS))
@pytest.mark.parametrize("warm", [0, 3])
def test_a_path_that_was_dead_is_full_again_soon(name: str, warm: int, links: list[Bottleneck]) -> None:
    """Cut at its first packets it had grown, for ten seconds, from the few that it had lost."""
    link = Bottleneck(50e6, 20 * MS)
    links.append(link)
    flow = link.add(CONTROLLERS[name])
    if warm:
        link.run(warm * SECOND, SECOND)
    for number in range(2):
        link.sim.shape(number, cut=True)
    link.run(2 * SECOND, 2 * SECOND)
    assert link.sim.client.paths(flow.conn)[0].state == lib.PATH_FAILED
    for number in range(2):
        link.sim.shape(number, cut=False)
    assert link.run(2500 * MS, SECOND)[0] >= 0.85 * link.rate * SIZE / OUTER


@pytest.mark.parametrize("name", ["cubic", "bbr"])
def test_an_access_that_changes_its_delay_is_followed(name: str, links: list[Bottleneck]) -> None:
    """A handover: BBR forgot a minimum that was too low only after 10 s, and its window shrank meanwhile."""
    link = Bottleneck(20e6, 5 * MS)
    links.append(link)
    link.add(CONTROLLERS[name])
    link.run(2 * SECOND, SECOND)
    for delay in (30, 5):
        for number in range(2):
            link.sim.shape(number, delay=delay * MS)
        (goodput,) = link.run(2 * SECOND, 3 * SECOND)
        assert goodput >= 0.75 * link.rate * SIZE / OUTER


def test_bbr_finds_the_rate_though_the_minimum_of_the_handshake_was_too_low() -> None:
    with Simulator(88, client={"congestion_control": BBR}) as sim:
        sim.shape(0, delay=5 * MS)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        sim.shape(0, delay=20 * MS, rate=100e6)
        sim.every(MS, sim.now + 4 * SECOND, lambda: [sim.inner(sim.client, udp4(SIZE)) for _ in range(9)] and None)
        sim.run(2 * SECOND)
        before = len(sim.server.inner)
        sim.run(SECOND)
        assert len(sim.server.inner) - before > 8500


@pytest.mark.parametrize("name", ["cubic", "newreno", "lia"])
def test_an_end_that_only_acknowledged_fills_its_way_at_once(name: str) -> None:
    """Its RTT rises because the peer fills the other direction: slow start was over at a window of some acknowledgements (CUBIC: 13
    Mbit/s of 50 in the first second, 23 in the second). The canary is what the window is before."""
    with Simulator(3, client={"congestion_control": CONTROLLERS[name]}, server={"congestion_control": CONTROLLERS[name]}) as sim:
        sim.shape(0, rate=50e6, delay=15 * MS, queue=50 * MS)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [ACTIVE_3GPP])
        arrived = 0

        def acknowledge(_tun: int, _packet: bytes) -> None:
            nonlocal arrived
            arrived += 1
            for _ in range(8 * (arrived % 16 == 0)):
                sim.inner(sim.client, udp4(60))

        sim.client.on_inner = acknowledge
        sim.every(MS, sim.now + 4 * SECOND, lambda: [sim.inner(sim.server, udp4(SIZE, up=False)) for _ in range(5)] and None)
        sim.run(5 * SECOND)
        assert sim.client.paths(conn)[0].cwnd < 60_000 < 50e6 / 8 * 0.03
        sim.server.inner.clear()
        sim.every(MS, sim.now + SECOND, lambda: [sim.inner(sim.client, udp4(SIZE, flow=n)) for n in range(5)] and None)
        sim.run(SECOND)
        assert len(sim.server.inner) * SIZE * 8 >= 0.8 * 50e6


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.tuples(*[st.tuples(st.integers(4, 12), st.integers(5, 30))] * 2))
def test_coupled_windows_grow_as_rfc_6356_says(lines: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """Over lines of (Mbit/s, ms one way), in congestion avoidance: each acknowledged octet is worth min(alpha / total, 1 / window)
    segments (§3), alpha = total max(window / RTT^2) / (sum of window / RTT)^2 (§4)."""
    with Simulator(29, client={"congestion_control": LIA}) as sim:
        for link, (rate, delay) in enumerate(lines):
            sim.shape(link, rate=rate * 1e6, delay=delay * MS, queue=50 * MS)
        conn, peer = sim.connect()
        sim.open_path(conn, 1)
        sim.tunnel(conn, peer, [BALANCED | {"weight": [50, 50]}])
        per_step = sum(rate for rate, _ in lines) * 5 * 3e6 / 8 / SIZE / 1000
        serial, credit, grown, expected, steps, before = 0, 0.0, [0.0, 0.0], [0.0, 0.0], [0, 0], {}
        for _ in range(800):
            credit += per_step
            while credit >= 1:
                sim.inner(sim.client, udp4(SIZE, flow=serial % 8))
                serial, credit = serial + 1, credit - 1
            sim.run(5 * MS)
            now = {n: p for n, p in sim.client.paths(conn).items() if n < 2}  # the third is not open
            if before and all(p.ssthresh <= p.cwnd for p in (*before.values(), *now.values())):
                total = sum(p.cwnd for p in before.values())
                paths = [(p.cwnd, p.rtt_smoothed / 1e9) for p in before.values()]
                alpha = total * max(w / r**2 for w, r in paths) / sum(w / r for w, r in paths) ** 2
                for n, p in now.items():
                    old = before[n]
                    if p.congestion_events == old.congestion_events and p.cwnd > old.cwnd:
                        acked = (p.packets_acked - old.packets_acked) * (SIZE + 32)
                        grown[n] += p.cwnd - old.cwnd
                        expected[n] += min(alpha / total, 1 / old.cwnd) * acked * p.max_udp_payload
                        steps[n] += 1
            before = now
        assert min(steps) > 100
        for n in range(2):
            assert grown[n] == pytest.approx(expected[n], rel=0.03), (n, steps)
