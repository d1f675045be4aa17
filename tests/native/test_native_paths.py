"""Paths under the simulator: opening, carrying, cutting, coming back, abandoning, migrating (RFC 10069)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from native import ffi, lib
from native.sim import ACTIVE_NON_3GPP, ANY, BALANCED, MS, SECOND, Simulator, address, check, serial_of, udp4


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(21) as s:
        yield s


def two_paths(sim: Simulator, rules: list[dict[str, int]]) -> tuple[int, int]:
    conn, peer = sim.connect()
    assert sim.open_path(conn, 1) == 1
    sim.tunnel(conn, peer, rules)
    return conn, peer


def stream(sim: Simulator, duration: int, interval: int = 2 * MS, size: int = 300, flows: int = 1) -> None:
    """UDP both ways, `flows` packets every interval, numbered."""
    count = 0

    def send() -> None:
        nonlocal count
        for flow in range(flows):
            sim.inner(sim.client, udp4(size, flow=flow, serial=count))
            sim.inner(sim.server, udp4(size, up=False, flow=flow, serial=count))
            count += 1

    sim.every(interval, sim.now + duration, send)


def test_both_paths_carry_by_weight(sim: Simulator) -> None:
    conn, _peer = two_paths(sim, [BALANCED])
    sim.shape(0, rate=50e6, delay=15 * MS)
    sim.shape(1, rate=100e6, delay=5 * MS)
    stream(sim, 3 * SECOND, MS, 1200, 20)
    sim.run(SECOND)
    before = len(sim.server.inner), len(sim.client.inner)
    sim.run(SECOND)
    up, down = (len(sim.server.inner) - before[0]) * 9600, (len(sim.client.inner) - before[1]) * 9600
    assert up >= 0.85 * 150e6 and down >= 0.85 * 150e6
    paths = sim.client.paths(conn)
    assert paths[0].datagrams_sent > 1000 and paths[1].datagrams_sent > 2000


def test_every_inner_packet_is_delivered_or_counted(sim: Simulator) -> None:
    conn, _ = two_paths(sim, [BALANCED])
    sim.shape(0, rate=20e6, delay=15 * MS, loss=0.01)
    sim.shape(1, rate=30e6, delay=5 * MS, loss=0.01)
    stream(sim, 2 * SECOND, MS, 1000, 10)
    sim.run(4 * SECOND)
    given = sim.client.counters()["inner_sent"] + sum(sim.client.drops().values())
    assert given == 20000
    paths = sim.client.paths(conn).values()
    assert len(sim.server.inner) + sum(p.datagrams_lost for p in paths) == sim.client.counters()["inner_sent"]


def test_cut_moves_traffic_and_restoring_brings_it_back(sim: Simulator) -> None:
    conn, _peer = two_paths(sim, [ACTIVE_NON_3GPP])
    arrivals: dict[int, list[int]] = {0: [], 1: []}
    sim.server.on_inner = lambda tun, packet: arrivals[0].append(sim.now)
    sim.client.on_inner = lambda tun, packet: arrivals[1].append(sim.now)
    stream(sim, 9 * SECOND)
    sim.run(2 * SECOND)
    sim.shape(1, cut=True)
    cut_at = sim.now
    sim.run(3 * SECOND)
    assert sim.client.paths(conn)[1].state == lib.PATH_FAILED
    assert sim.client.paths(conn)[1].reason == lib.REASON_NO_ANSWER
    sim.shape(1, cut=False)
    sim.run(SECOND)
    sent = sim.client.paths(conn)[1].datagrams_sent
    sim.run(2 * SECOND)
    assert sim.client.paths(conn)[1].state == lib.PATH_ACTIVE
    assert sim.client.paths(conn)[1].datagrams_sent - sent > 900
    for times in arrivals.values():
        assert max(b - a for a, b in itertools.pairwise(times)) < 200 * MS
    states = [e.a for e in sim.server.of_type(lib.EVENT_PATH_STATE) if e.path == 1 and e.time > cut_at]
    assert states == [lib.PATH_SUSPECT, lib.PATH_FAILED, lib.PATH_ACTIVE]


def test_cut_of_everything_for_three_seconds_heals(sim: Simulator) -> None:
    two_paths(sim, [BALANCED])
    stream(sim, 9 * SECOND, 5 * MS, flows=4)
    sim.run(SECOND)
    sim.shape(0, cut=True)
    sim.shape(1, cut=True)
    sim.run(3 * SECOND)
    sim.shape(0, cut=False)
    sim.shape(1, cut=False)
    sim.run(SECOND)
    before = len(sim.server.inner)
    sim.run(SECOND)
    assert len(sim.server.inner) - before > 700


def test_standby_path_says_why_it_is_silent(sim: Simulator) -> None:
    conn, _ = two_paths(sim, [ACTIVE_NON_3GPP])
    stream(sim, SECOND)
    sim.run(SECOND)
    paths = sim.client.paths(conn)
    assert (paths[0].state, paths[0].reason) == (lib.PATH_STANDBY, lib.REASON_STANDBY_BY_RULE)
    assert (paths[1].state, paths[1].reason) == (lib.PATH_ACTIVE, lib.REASON_NONE)
    assert (paths[0].rule, paths[1].rule) == (1, 0)


@pytest.mark.parametrize("standby", [True, False])
def test_a_path_that_stands_in_is_no_standby(sim: Simulator, standby: bool) -> None:
    """While the other access is silent it carries, and says so at both ends; where the rule has no standby nothing may carry."""
    conn, peer = two_paths(sim, [{**ACTIVE_NON_3GPP, "has_standby": int(standby)}])
    sim.shape(1, cut=True)
    stream(sim, 4 * SECOND)
    sim.run(4 * SECOND)
    info = sim.client.paths(conn)
    assert info[1].state in (lib.PATH_SUSPECT, lib.PATH_FAILED)
    carries, waits = (lib.PATH_ACTIVE, lib.REASON_NONE, 0), (lib.PATH_STANDBY, lib.REASON_STANDBY_BY_RULE, 1)
    assert (info[0].state, info[0].reason, info[0].rule) == (carries if standby else waits)
    assert (sim.server.paths(peer)[0].state == lib.PATH_ACTIVE) is standby
    sim.shape(1, cut=False)
    stream(sim, 4 * SECOND)
    sim.run(6 * SECOND)
    assert (sim.client.paths(conn)[0].state, sim.client.paths(conn)[0].rule) == (lib.PATH_STANDBY, 1)


def test_the_first_of_several_rules_is_the_reason(sim: Simulator) -> None:
    dns = {**ACTIVE_NON_3GPP, "match_protocol": 1, "protocol": 17, "match_port": 1, "port_low": 53, "port_high": 53}
    conn, peer = two_paths(sim, [dns, ACTIVE_NON_3GPP])
    stream(sim, SECOND)
    sim.run(SECOND)
    assert (sim.client.paths(conn)[0].reason, sim.client.paths(conn)[0].rule) == (lib.REASON_STANDBY_BY_RULE, 1)
    check(lib.path_status_set(sim.server.endpoint, peer, 0, 0))
    sim.run(100 * MS)
    assert (sim.client.paths(conn)[0].reason, sim.client.paths(conn)[0].rule) == (lib.REASON_PEER_BACKUP, 0)


def test_backup_status_of_the_peer_keeps_traffic_away(sim: Simulator) -> None:
    conn, peer = two_paths(sim, [BALANCED])
    check(lib.path_status_set(sim.server.endpoint, peer, 1, 0))
    sim.run(100 * MS)
    assert [(e.path, e.a, e.b) for e in sim.client.of_type(lib.EVENT_PATH_STATUS)] == [(1, 0, 0)]
    sent = sim.client.paths(conn)[1].datagrams_sent
    stream(sim, SECOND, flows=6)
    sim.run(SECOND)
    info = sim.client.paths(conn)[1]
    assert info.datagrams_sent == sent
    assert (info.state, info.reason) == (lib.PATH_STANDBY, lib.REASON_PEER_BACKUP)
    check(lib.path_status_set(sim.server.endpoint, peer, 1, 1))
    sim.run(100 * MS)
    assert sim.client.paths(conn)[1].state == lib.PATH_ACTIVE


@pytest.mark.parametrize("by_client", [True, False])
def test_abandon_from_each_side_and_a_new_id_follows(sim: Simulator, by_client: bool) -> None:
    conn, peer = two_paths(sim, [BALANCED])
    stream(sim, 4 * SECOND, flows=4)
    sim.run(SECOND)
    node, handle = (sim.client, conn) if by_client else (sim.server, peer)
    check(lib.path_abandon(node.endpoint, handle, 1, 0x3E))
    sim.run(SECOND)
    for side, own in ((sim.client, by_client), (sim.server, not by_client)):
        events = side.of_type(lib.EVENT_PATH_ABANDONED)
        assert [(e.path, e.a, e.b) for e in events] == [(1, 0x3E, 0 if own else 1)]
    assert 1 not in sim.client.paths(conn) and 1 not in sim.server.paths(peer)
    assert sim.client.stats(conn).max_path_id_local == 4 and sim.server.stats(peer).max_path_id_local == 4
    assert sim.client.stats(conn).max_path_id_remote == 4
    assert sim.open_path(conn, 1) == 2  # ids are never reused (RFC 10069 §3.4)
    assert lib.path_abandon(sim.client.endpoint, conn, 1, 0) == -lib.ENGINE_E_HANDLE
    before = len(sim.server.inner)
    sim.run(SECOND)
    assert len(sim.server.inner) > before


def test_paths_can_be_opened_and_abandoned_many_times(sim: Simulator) -> None:
    conn, peer = sim.connect()
    for expected in range(1, 41):
        assert sim.open_path(conn, 1) == expected
        check(lib.path_abandon(sim.client.endpoint, conn, expected, 0))
    sim.run(SECOND)
    assert sim.server.stats(peer).closing == 0 and len(sim.server.paths(peer)) == 1


def test_abandoning_the_only_path_ends_the_connection(sim: Simulator) -> None:
    conn, _ = sim.connect()
    check(lib.path_abandon(sim.client.endpoint, conn, 0, 0))
    sim.run(SECOND)
    assert sim.client.of_type(lib.EVENT_CLOSED)[0].a == 0x10


def test_path_zero_can_go_while_another_carries(sim: Simulator) -> None:
    conn, peer = two_paths(sim, [BALANCED])
    stream(sim, 3 * SECOND, flows=4)
    check(lib.path_abandon(sim.client.endpoint, conn, 0, 0x3E))
    sim.run(SECOND)
    before = len(sim.server.inner)
    sim.run(SECOND)
    assert len(sim.server.inner) - before > 1500
    assert sim.client.stats(conn).closing == 0 and sim.server.stats(peer).closing == 0


def test_path_over_a_dead_access_is_abandoned(sim: Simulator) -> None:
    conn, _peer = sim.connect()
    sim.run(SECOND)
    sim.shape(1, cut=True)
    path = check(lib.path_open(sim.client.endpoint, conn, 1, sim.server_address))
    assert sim.run(20 * SECOND, lambda: bool(sim.client.of_type(lib.EVENT_PATH_ABANDONED)))
    event = sim.client.of_type(lib.EVENT_PATH_ABANDONED)[0]
    assert (event.path, event.a) == (path, 0x3E76)
    sim.run(SECOND)
    assert sim.server.of_type(lib.EVENT_PATH_ABANDONED)[0].path == path


def test_path_open_beyond_the_limit_says_blocked() -> None:
    with Simulator(4, client={"initial_max_path_id": 1}, server={"initial_max_path_id": 1}) as s:
        s.client_handshake.peer_params["initial_max_path_id"] = 1
        s.server_handshake.peer_params["initial_max_path_id"] = 1
        conn, _ = s.connect()
        s.open_path(conn, 1)
        assert lib.path_open(s.client.endpoint, conn, 1, s.server_address) == -lib.ENGINE_E_LIMIT
        s.run(SECOND)
        assert s.client.stats(conn).closing == 0


def test_server_opens_no_path(sim: Simulator) -> None:
    _, peer = sim.connect()
    assert lib.path_open(sim.server.endpoint, peer, 1, sim.client_address[1]) == -lib.ENGINE_E_STATE


def test_without_multipath_there_is_one_path_and_plain_acks() -> None:
    with Simulator(3) as s:
        s.client_handshake.peer_params["multipath"] = 0
        s.server_handshake.peer_params["multipath"] = 0
        conn, peer = s.connect()
        assert lib.path_open(s.client.endpoint, conn, 1, s.server_address) == -lib.ENGINE_E_STATE
        s.tunnel(conn, peer, [BALANCED])
        stream(s, SECOND)
        s.run(2 * SECOND)
        assert len(s.server.inner) == 500
        frame = b"\x7e\x7a\x08"  # MAX_PATH_ID is an unknown frame then (RFC 10069 §2)
        check(lib.conn_frame_send(s.client.endpoint, conn, 2, ANY, frame, 3, 0, 1))
        s.run(SECOND)
        assert s.server.of_type(lib.EVENT_CLOSED)[0].a == 0x07


def test_nat_rebinding_of_one_path_moves_only_that_path(sim: Simulator) -> None:
    _conn, peer = two_paths(sim, [BALANCED])
    stream(sim, 4 * SECOND, flows=6)
    sim.run(SECOND)
    sim.client_address[1] = address("10.2.0.2", 50123)
    before = len(sim.client.inner)
    sim.run(2 * SECOND)
    changed = sim.server.of_type(lib.EVENT_PATH_REMOTE_CHANGED)
    assert [e.path for e in changed] == [1]
    info = sim.server.paths(peer)
    assert info[1].remote.port == 50123 and info[0].remote.port == 40000
    assert len(sim.client.inner) - before > 0.9 * 6000


def test_spoofed_source_address_does_not_take_a_path_away(sim: Simulator) -> None:
    """RFC 9000 §9.3.2: the challenge to the new address is not answered, the old one stays."""
    _conn, peer = two_paths(sim, [BALANCED])
    stream(sim, 9 * SECOND, flows=4)
    sim.run(SECOND)
    spoof = address("192.0.2.1", 9)
    state = {"taken": 0}

    def tap(direction: int, link: int, data: bytes) -> bytes | None:
        if direction == 0 and link == 1 and state["taken"] < 1:
            state["taken"] += 1
            sim.deliver(sim.server, 1, spoof, data)
            return None
        return data

    sim.tap = tap
    sim.run(8 * SECOND)
    assert state["taken"] == 1
    assert sim.server.paths(peer)[1].remote.port == 40001


def test_cids_for_every_path_are_there_before_they_are_needed(sim: Simulator) -> None:
    conn, _ = sim.connect()
    sim.run(SECOND)
    opened = [check(lib.path_open(sim.client.endpoint, conn, 1, sim.server_address)) for _ in range(3)]
    assert opened == [1, 2, 3]
    sim.run(SECOND)
    assert all(p.validated for p in sim.client.paths(conn).values())


def test_duplicates_and_reordering_deliver_everything_once(sim: Simulator) -> None:
    two_paths(sim, [BALANCED])
    for link in range(2):
        sim.shape(link, duplicate=0.3, reorder=0.2)
    stream(sim, 2 * SECOND, flows=4)
    sim.run(4 * SECOND)
    serials = [serial_of(packet) for _, _, packet in sim.server.inner]
    assert len(serials) == len(set(serials)) == 4000
    assert sim.server.counters()["packet_duplicate"] > 500


def test_stalled_python_does_not_stop_the_traffic(sim: Simulator) -> None:
    """No event is taken for five seconds: acknowledgements, recovery, paths and inner packets go on."""
    conn, _ = two_paths(sim, [BALANCED])
    sim.shape(0, loss=0.01)
    stream(sim, 6 * SECOND, flows=4)
    sim.client.on_event = sim.server.on_event = None
    sim.run(7 * SECOND)
    lost = sum(p.datagrams_lost for p in sim.client.paths(conn).values())
    assert len(sim.server.inner) + lost >= 11990


def test_stale_and_foreign_handles(sim: Simulator) -> None:
    conn, _ = sim.connect()
    out = ffi.new("struct path_info *")
    assert lib.path_info(sim.client.endpoint, conn, 99, out) == -lib.ENGINE_E_HANDLE
    assert lib.path_info(sim.client.endpoint, conn ^ 0x10000, 0, out) == -lib.ENGINE_E_HANDLE
    assert lib.path_open(sim.client.endpoint, conn, 3, sim.server_address) == -lib.ENGINE_E_HANDLE
