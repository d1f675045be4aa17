"""Connections under the simulator: handshake, loss of its flights, closing, idling, resets, version negotiation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from native import ffi, lib
from native.sim import ANY, MS, SECOND, Event, Node, Simulator, check


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(7) as s:
        yield s


def closed(node: Node, source: int | None = None) -> list[Event]:
    return [e for e in node.of_type(lib.EVENT_CLOSED) if source is None or e.token == source]


def test_handshake_takes_two_round_trips_and_three_datagrams(sim: Simulator) -> None:
    start = sim.now
    conn, peer = sim.connect()
    assert sim.now - start == 20 * MS
    assert sim.client.stats(conn).handshake_confirmed and sim.server.stats(peer).handshake_confirmed
    assert sim.client.stats(conn).multipath == 1
    assert not sim.client.drops() and not sim.server.drops()


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
def test_every_suite_carries_the_connection(sim: Simulator, suite: int) -> None:
    sim.client_handshake.suite = sim.server_handshake.suite = suite
    conn, _ = sim.connect()
    assert sim.client.stats(conn).handshake_confirmed


def test_client_initials_are_padded_and_nothing_is_below_1200(sim: Simulator) -> None:
    sizes: list[tuple[int, int, int]] = []
    sim.tap = lambda direction, link, data: (sizes.append((direction, data[0], len(data))), data)[1]
    sim.connect()
    initials = [size for direction, first, size in sizes if first & 0xF0 == 0xC0]
    assert initials and min(initials) >= 1200
    assert sizes[0][2] == 1331


@pytest.mark.parametrize("victim", range(6))
def test_any_one_lost_datagram_only_delays_the_handshake(sim: Simulator, victim: int) -> None:
    count = 0

    def tap(direction: int, link: int, data: bytes) -> bytes | None:
        nonlocal count
        count += 1
        return None if count == victim + 1 else data

    sim.tap = tap
    conn, peer = sim.connect()
    assert sim.client.stats(conn).handshake_confirmed and sim.server.stats(peer).handshake_confirmed


def test_handshake_survives_loss_duplicates_and_reordering() -> None:
    for seed in range(60):
        with Simulator(seed + 1) as s:
            s.shape(0, loss=0.2, duplicate=0.2, reorder=0.2)
            s.connect()


def test_lost_client_hello_is_repeated_without_python(sim: Simulator) -> None:
    sim.shape(0, cut=True)
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    sim.run(2 * SECOND)
    sim.shape(0, cut=False)
    assert sim.run(3 * SECOND, lambda: bool(sim.server_handshake.done))


def test_handshake_that_nobody_answers_ends(sim: Simulator) -> None:
    sim.shape(0, cut=True)
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    assert sim.run(12 * SECOND, lambda: bool(sim.client.of_type(lib.EVENT_GONE)))
    assert closed(sim.client, lib.CLOSE_IDLE)
    assert sim.client.connections() == []


def test_wrong_keys_never_get_anything_through(sim: Simulator) -> None:
    sim.client_handshake.key = b"another key"
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    sim.run(12 * SECOND)
    assert not sim.server_handshake.done
    assert sim.client.counters()["auth_failed"] > 0
    assert sim.server.connections() == [] and sim.client.connections() == []


def test_close_reaches_the_peer_and_both_are_freed(sim: Simulator) -> None:
    conn, peer = sim.connect()
    check(lib.conn_close(sim.client.endpoint, conn, 1, 0x100, 0, b"bye", 3))
    assert sim.run(5 * SECOND, lambda: bool(sim.server.of_type(lib.EVENT_GONE)) and bool(sim.client.of_type(lib.EVENT_GONE)))
    event = sim.server.of_type(lib.EVENT_CLOSED)[0]
    assert (event.a, event.level, event.token, event.data) == (0x100, 1, lib.CLOSE_PEER, b"bye")
    assert sim.client.of_type(lib.EVENT_CLOSED)[0].token == lib.CLOSE_LOCAL
    assert lib.conn_stats(sim.client.endpoint, conn, ffi.new("struct conn_stats *")) == -lib.ENGINE_E_HANDLE
    assert lib.conn_close(sim.server.endpoint, peer, 0, 0, 0, ffi.NULL, 0) == -lib.ENGINE_E_HANDLE


def test_server_refuses_in_the_initial_space(sim: Simulator) -> None:
    """As after an unknown identity: CONNECTION_CLOSE 0x133 before any further key exists (quic.md PSK-01)."""

    def refuse(event: Event) -> None:
        if event.type == lib.EVENT_FRAME:
            lib.conn_close(sim.server.endpoint, event.conn, 0, 0x133, 6, ffi.NULL, 0)

    sim.server.on_event = refuse
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    assert sim.run(SECOND, lambda: bool(closed(sim.client)))
    event = sim.client.of_type(lib.EVENT_CLOSED)[0]
    assert (event.a, event.b, event.level, event.token) == (0x133, 6, 0, lib.CLOSE_PEER)


def test_application_close_is_hidden_before_1rtt(sim: Simulator) -> None:
    def refuse(event: Event) -> None:
        if event.type == lib.EVENT_FRAME:
            lib.conn_close(sim.server.endpoint, event.conn, 1, 0x10C, 0, b"secret", 6)

    sim.server.on_event = refuse
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    assert sim.run(SECOND, lambda: bool(closed(sim.client)))
    event = sim.client.of_type(lib.EVENT_CLOSED)[0]
    assert (event.a, event.level, event.data) == (0x0C, 0, b"")  # RFC 9000 §10.2.3


def test_client_keeps_an_idle_session_alive(sim: Simulator) -> None:
    conn, _ = sim.connect()
    sim.run(200 * SECOND)
    assert sim.client.stats(conn).closing == 0
    assert not closed(sim.server)


def test_silence_ends_both_ends_by_idle_timeout(sim: Simulator) -> None:
    sim.connect()
    sim.shape(0, cut=True)
    assert sim.run(60 * SECOND, lambda: bool(closed(sim.client, lib.CLOSE_IDLE)) and bool(closed(sim.server, lib.CLOSE_IDLE)))


def test_python_frames_are_acknowledged_or_lost(sim: Simulator) -> None:
    conn, _ = sim.connect()
    ping = b"\x10\x44\x00"  # MAX_DATA
    check(lib.conn_frame_send(sim.client.endpoint, conn, 2, ANY, ping, len(ping), 77, 0))
    sim.run(SECOND)
    assert [e.token for e in sim.client.of_type(lib.EVENT_ACKED)].count(77) == 1
    assert ping in [e.data for e in sim.server.of_type(lib.EVENT_FRAME)]


def test_every_frame_token_comes_back_once_under_loss() -> None:
    with Simulator(11) as s:
        conn, _ = s.connect()
        s.shape(0, loss=0.1)
        for token in range(100, 400):
            s.after(
                token * MS,
                lambda token=token: check(  # type: ignore[misc]
                    lib.conn_frame_send(s.client.endpoint, conn, 2, ANY, b"\x10\x44\x00", 3, token, 0)
                ),
            )
        s.run(20 * SECOND)
        back = sorted(e.token for e in s.client.events if e.type in (lib.EVENT_ACKED, lib.EVENT_LOST) and e.token >= 100)
        assert back == list(range(100, 400))
        assert any(e.type == lib.EVENT_LOST for e in s.client.events)


def test_stream_frames_come_normalised(sim: Simulator) -> None:
    conn, _ = sim.connect()
    frame = b"\x08\x04rest"  # STREAM without offset and length
    check(lib.conn_frame_send(sim.client.endpoint, conn, 2, ANY, frame, len(frame), 1, 0))
    sim.run(SECOND)
    data = [e.data for e in sim.server.of_type(lib.EVENT_FRAME) if e.data[0] in (0x0E, 0x0F)]
    assert data and data[0][:3] == b"\x0e\x04\x00"
    assert data[0][4:8] == b"rest"


def test_datagram_of_no_tunnel_reaches_python(sim: Simulator) -> None:
    conn, _ = sim.connect()
    check(lib.conn_datagram_send(sim.client.endpoint, conn, b"\x07hello", 6))
    sim.run(SECOND)
    assert [e.data for e in sim.server.of_type(lib.EVENT_DATAGRAM)] == [b"\x07hello"]


def test_stateless_reset_after_the_server_forgot(sim: Simulator) -> None:
    sim.server_handshake.tells_reset_token = True
    conn, _ = sim.connect()
    sim.run(SECOND)
    sim.restart(1, 99)
    check(lib.conn_datagram_send(sim.client.endpoint, conn, b"\x07" + bytes(100), 101))
    assert sim.run(5 * SECOND, lambda: bool(closed(sim.client, lib.CLOSE_RESET)))
    assert sim.server.counters()["reset_sent"] >= 1


def test_unknown_version_gets_version_negotiation(sim: Simulator) -> None:
    packet = bytes([0xC3]) + b"\x1a\x2a\x3a\x4a" + b"\x08" + b"D" * 8 + b"\x08" + b"S" * 8 + bytes(1300)
    sim.deliver(sim.server, 0, sim.client_address[0], packet)
    answers: list[bytes] = []
    sim.tap = lambda direction, link, data: answers.append(data)
    sim.run(10 * MS)
    assert answers[0][1:5] == bytes(4) and answers[0][5:14] == b"\x08" + b"S" * 8 and answers[0][-8:-4] == b"\0\0\0\1"
    sim.deliver(sim.server, 0, sim.client_address[0], packet[:1100])
    sim.run(10 * MS)
    assert len(answers) == 1  # RFC 9000 §6.1: not below 1200 octets


def test_half_open_limit_holds_and_frees() -> None:
    with Simulator(5, server={"max_half_open": 2}) as s:
        s.server.on_event = None
        for _ in range(4):
            s.client_handshake.start(check(lib.conn_connect(s.client.endpoint, 0, s.server_address, s.now)))
        s.run(100 * MS)
        assert len(s.server.connections()) == 2
        assert s.server.counters()["half_open_limit"] == 2
        s.run(60 * SECOND)
        assert s.server.connections() == []


def test_replayed_first_datagram_makes_no_second_connection(sim: Simulator) -> None:
    first: list[bytes] = []
    sim.tap = lambda direction, link, data: (first.append(data), data)[1]
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    sim.flush()
    sim.deliver(sim.server, 0, sim.client_address[0], first[0])
    sim.deliver(sim.server, 0, sim.client_address[0], first[0])
    sim.run(SECOND)
    assert len(sim.server.of_type(lib.EVENT_CONN_NEW)) == 1
    assert sim.server.counters()["packet_duplicate"] >= 1


def test_server_sends_at_most_three_times_what_came(sim: Simulator) -> None:
    sent = 0

    def tap(direction: int, link: int, data: bytes) -> bytes | None:
        nonlocal sent
        if direction == 1:
            sent += len(data)
            return None
        return data

    sim.tap = tap
    conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
    sim.client_handshake.start(conn)
    sim.flush()
    sim.run(5 * MS)
    sim.shape(0, cut=True)
    sim.run(9 * SECOND)
    assert 0 < sent <= 3 * 1331


def test_not_accepting_is_a_named_drop(sim: Simulator) -> None:
    check(lib.endpoint_accept(sim.server.endpoint, 0))
    sim.client_handshake.start(check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now)))
    sim.run(50 * MS)
    assert sim.server.drops() == {"not_accepting": 1}


def test_bad_arguments_are_refused(sim: Simulator) -> None:
    e = sim.client.endpoint
    assert lib.conn_connect(e, 9, sim.server_address, sim.now) == -lib.ENGINE_E_ARGUMENT
    assert lib.conn_connect(e, 5, sim.server_address, sim.now) == -lib.ENGINE_E_HANDLE
    assert lib.conn_connect(sim.server.endpoint, 0, sim.server_address, sim.now) == -lib.ENGINE_E_ARGUMENT
    assert lib.conn_frame_send(e, 0x10000, 2, ANY, b"\x01", 1, 0, 0) == -lib.ENGINE_E_HANDLE
    conn, _ = sim.connect()
    assert lib.conn_frame_send(e, conn, 2, ANY, b"\x01", 0, 0, 0) == -lib.ENGINE_E_ARGUMENT
    assert lib.conn_frame_send(e, conn, 2, 77, b"\x01", 1, 0, 0) == -lib.ENGINE_E_HANDLE
    assert lib.conn_frame_send(e, conn, 1, ANY, b"\x01", 1, 0, 0) == -lib.ENGINE_E_STATE
    with pytest.raises(ValueError):
        Simulator(1, client={"active_connection_id_limit": 1})
