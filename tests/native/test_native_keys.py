"""Key updates under the simulator (RFC 9001 §6, RFC 10069 §2.5)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from native import lib
from native.sim import BALANCED, MS, SECOND, Simulator, check, serial_of, udp4


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(41) as s:
        yield s


def traffic(sim: Simulator, duration: int) -> None:
    count = 0

    def send() -> None:
        nonlocal count
        for flow in range(4):
            sim.inner(sim.client, udp4(300, flow=flow, serial=count))
            sim.inner(sim.server, udp4(300, up=False, flow=flow, serial=count))
            count += 1

    sim.every(2 * MS, sim.now + duration, send)


@pytest.mark.parametrize("by_client", [True, False])
def test_update_under_load_on_two_paths_loses_nothing(sim: Simulator, by_client: bool) -> None:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [BALANCED])
    sim.shape(0, delay=50 * MS)  # ten times the other: old-phase packets arrive long after new ones of the other path
    traffic(sim, 4 * SECOND)
    sim.run(SECOND)
    node, handle = (sim.client, conn) if by_client else (sim.server, peer)
    check(lib.conn_key_update(node.endpoint, handle))
    assert lib.conn_key_update(node.endpoint, handle) == -lib.ENGINE_E_STATE  # not before it is acknowledged
    sim.run(2 * SECOND)
    check(lib.conn_key_update(node.endpoint, handle))
    sim.run(3 * SECOND)
    for side, own in ((sim.client, by_client), (sim.server, not by_client)):
        assert [(e.a, e.b) for e in side.of_type(lib.EVENT_KEY_PHASE)] == [(1, not own), (2, not own)]
        assert not side.drops()
        assert sorted(serial_of(p) for _, _, p in side.inner) == list(range(8000))


def test_update_waits_for_three_ptos(sim: Simulator) -> None:
    conn, _ = sim.connect()
    sim.run(SECOND)
    check(lib.conn_key_update(sim.client.endpoint, conn))
    sim.run(40 * MS)  # acknowledged by now
    assert sim.server.of_type(lib.EVENT_KEY_PHASE)
    assert lib.conn_key_update(sim.client.endpoint, conn) == -lib.ENGINE_E_STATE
    sim.run(2 * SECOND)
    check(lib.conn_key_update(sim.client.endpoint, conn))


def test_update_before_the_handshake_is_confirmed_is_refused(sim: Simulator) -> None:
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    assert lib.conn_key_update(sim.client.endpoint, conn) == -lib.ENGINE_E_STATE


def test_keys_update_by_themselves_and_both_sides_at_once() -> None:
    with Simulator(42, client={"key_update_packets": 500}, server={"key_update_packets": 500}) as s:
        conn, peer = s.connect()
        s.open_path(conn, 1)
        s.tunnel(conn, peer, [BALANCED])
        traffic(s, 5 * SECOND)
        s.run(7 * SECOND)
        assert s.client.stats(conn).key_updates >= 5
        assert s.client.stats(conn).key_updates == s.server.stats(peer).key_updates
        assert sorted(serial_of(p) for _, _, p in s.server.inner) == list(range(10000))
        assert sorted(serial_of(p) for _, _, p in s.client.inner) == list(range(10000))
        assert not s.client.drops() and not s.server.drops()


def test_aead_limit_closes_the_connection() -> None:
    with Simulator(43, client={"close_after_packets": 300}) as s:
        conn, peer = s.connect()
        s.tunnel(conn, peer, [BALANCED])
        traffic(s, 2 * SECOND)
        s.run(2 * SECOND)
        assert s.client.of_type(lib.EVENT_CLOSED)[0].a == 0x0F
        assert s.server.of_type(lib.EVENT_CLOSED)[0].a == 0x0F


def test_update_with_loss_and_reordering() -> None:
    with Simulator(44, client={"key_update_packets": 300}) as s:
        conn, peer = s.connect()
        s.open_path(conn, 1)
        s.tunnel(conn, peer, [BALANCED])
        for link in range(2):
            s.shape(link, loss=0.03, reorder=0.1, duplicate=0.05)
        traffic(s, 5 * SECOND)
        s.run(7 * SECOND)
        assert s.client.stats(conn).closing == 0 and s.server.stats(peer).closing == 0
        assert s.client.stats(conn).key_updates >= 5
        assert s.server.counters().get("auth_failed", 0) == 0 and s.client.counters().get("auth_failed", 0) == 0
