"""What the simulator found, each as a small case of its own."""

from __future__ import annotations

from native import lib
from native.sim import ANY, BALANCED, MS, SECOND, Simulator, address, check, udp4

UP = 0


def test_an_mtu_probe_that_waits_for_the_window_does_not_keep_its_timer_due() -> None:
    """It did: the I/O thread ran in circles until the next acknowledgement (the simulator says "10000 turns")."""
    with Simulator(1, client={"max_udp_payload": 1500}, server={"max_udp_payload": 1500}) as s:
        s.shape(0, mtu=1400)  # the first probe is lost; the next one is due while the window is full
        conn, peer = s.connect()
        s.tunnel(conn, peer, [BALANCED])
        for _ in range(200):
            s.inner(s.server, udp4(1200, up=False))
        s.run(2 * SECOND)
        assert len(s.client.inner) == 200
        assert 1331 < s.server.paths(peer)[0].max_udp_payload <= 1372


def test_a_path_without_the_peers_cid_does_not_keep_its_mtu_timer_due() -> None:
    """The client opens a path to where it is validated already, and its CIDs for it are lost: the server may not send there yet."""
    with Simulator(2, client={"max_udp_payload": 1500}, server={"max_udp_payload": 1500}) as s:
        opened: list[int] = []

        def tap(direction: int, link: int, data: bytes) -> bytes | None:
            return None if direction == UP and not data[0] & 0x80 and not opened else data

        s.tap = tap
        conn, peer = s.connect()
        opened.append(check(lib.path_open(s.client.endpoint, conn, 0, s.server_address)))
        s.run(8 * MS)
        path = s.server.paths(peer)[1]
        assert path.validated and path.max_udp_payload == 1331
        s.run(2 * SECOND)
        assert s.server.paths(peer)[1].max_udp_payload == 1500


def test_a_path_whose_address_changes_while_it_is_validated_is_validated_all_the_same() -> None:
    """It stayed in validation for ever: the new address was valid, the path was not."""
    with Simulator(3) as s:
        conn, peer = s.connect()
        s.tunnel(conn, peer, [BALANCED])
        s.run(SECOND)
        path = check(lib.path_open(s.client.endpoint, conn, 1, s.server_address))
        s.run(11 * MS)
        assert s.client.paths(conn)[path].validated and not s.server.paths(peer)[path].validated
        s.client_address[1] = address("10.2.0.2", 50123)
        s.wires[1, UP].loss = 1.0  # nor does the client's PATH_RESPONSE arrive
        s.run(2 * MS)
        s.wires[1, UP].loss = 0.0
        check(lib.conn_frame_send(s.client.endpoint, conn, 2, path, b"\x01", 1, 0, 1))
        s.run(SECOND)
        info = s.server.paths(peer)[path]
        assert info.validated and info.state in (lib.PATH_ACTIVE, lib.PATH_STANDBY) and info.remote.port == 50123


def test_an_address_that_was_never_valid_is_not_gone_back_to() -> None:
    """A path that moved before it was validated fell back to its first address as if that were valid (3x limit off)."""
    with Simulator(4) as s:
        conn, peer = s.connect()
        s.run(SECOND)
        s.wires[1, 1].cut = True  # no challenge of the server's arrives
        path = check(lib.path_open(s.client.endpoint, conn, 1, s.server_address))
        s.run(20 * MS)
        s.client_address[1] = address("10.2.0.2", 50123)
        check(lib.conn_frame_send(s.client.endpoint, conn, 2, path, b"\x01", 1, 0, 1))
        s.run(20 * MS)
        assert s.server.paths(peer)[path].remote.port == 50123
        s.wires[0, UP].cut = True  # nor does the client's word that it gave the path up
        s.run(10 * SECOND)
        assert [(e.path, e.a, e.b) for e in s.server.of_type(lib.EVENT_PATH_ABANDONED)] == [(path, 0x3E76, 0)]


def test_a_peer_that_has_not_heard_of_an_abandonment_is_not_reset() -> None:
    """The CIDs of the path were forgotten after nine PTO, and the peer's next packet on it met a stateless reset."""
    with Simulator(5) as s:
        conn, peer = s.connect()
        path = s.open_path(conn, 1)
        for link in range(2):
            s.shape(link, cut=True)
        check(lib.path_abandon(s.server.endpoint, peer, path, 0))
        s.run(5 * SECOND)
        s.shape(1, cut=False)
        s.run(5 * SECOND)
        assert not s.client.of_type(lib.EVENT_CLOSED) and "reset_sent" not in s.server.counters()
        assert path in s.client.paths(conn)
        s.shape(0, cut=False)
        s.run(2 * SECOND)
        assert [e.b for e in s.client.of_type(lib.EVENT_PATH_ABANDONED)] == [1]
        assert not s.client.of_type(lib.EVENT_CLOSED)


def test_a_frame_that_waits_for_an_abandoned_path_comes_back_as_lost() -> None:
    """It stood in the queue to the end of the connection, and its token came back never."""
    with Simulator(6) as s:
        conn, _ = s.connect()
        path = s.open_path(conn, 1)
        check(lib.conn_frame_send(s.client.endpoint, conn, 2, path, b"\x01", 1, 777, 0))
        check(lib.path_abandon(s.client.endpoint, conn, path, 0))
        s.run(SECOND)
        assert [e.type for e in s.client.events if e.token == 777] == [lib.EVENT_LOST]
        assert not s.client.of_type(lib.EVENT_CLOSED)


def test_a_path_that_may_send_no_more_to_a_new_address_does_not_hold_traffic_back() -> None:
    """The client moved, and moved again without a word: the server, at its 3x limit, ran no PTO, and what it had for that path
    waited for six seconds, until the validation failed."""
    with Simulator(7) as s:
        conn, peer = s.connect()
        path = s.open_path(conn, 1)
        s.tunnel(conn, peer, [BALANCED])
        for flow in range(40):
            s.inner(s.server, udp4(1200, up=False, flow=flow))
        s.run(SECOND)
        assert len(s.client.inner) == 40
        s.client_address[1] = address("10.2.0.2", 50123)
        check(lib.conn_frame_send(s.client.endpoint, conn, 2, path, b"\x01", 1, 0, 1))
        s.run(5 * MS)  # the server has it now; its challenge is on its way
        s.client_address[1] = address("10.2.0.2", 50124)
        s.wires[1, UP].cut = True
        s.run(10 * MS)
        assert s.server.paths(peer)[path].remote.port == 50123
        for flow in range(40):
            s.inner(s.server, udp4(1200, up=False, flow=flow))
        s.run(400 * MS)
        info = s.server.paths(peer)[path]
        assert info.queue_packets == 0 and info.state == lib.PATH_SUSPECT
        got = len(s.client.inner)
        for flow in range(40):
            s.inner(s.server, udp4(1200, up=False, flow=flow))
        s.run(400 * MS)
        assert len(s.client.inner) == got + 40  # all of them over the other path
        s.wires[1, UP].cut = False
        s.run(SECOND)
        info = s.server.paths(peer)[path]
        assert info.remote.port == 50124 and info.state == lib.PATH_ACTIVE


def test_what_waits_on_a_failed_path_goes_on_one_that_comes_later() -> None:
    """It stayed for ever: in three packets of the failed path already when the new path came, and sent no fourth time."""
    with Simulator(4) as s:
        conn, peer = s.connect()
        s.run(SECOND)
        for direction in (UP, 1):
            s.wires[0, direction].loss = 1.0
        got: list[bytes] = []
        s.client.on_event = lambda event: got.append(event.data) if event.type == lib.EVENT_FRAME else None
        frame = b"\x0e\x00\x00\x04here"
        check(lib.conn_frame_send(s.server.endpoint, peer, 2, ANY, frame, len(frame), 7, 0))
        s.run(5 * SECOND)
        assert s.server.paths(peer)[0].state == lib.PATH_FAILED and not got
        check(lib.path_open(s.client.endpoint, conn, 1, s.server_address))
        s.run(3 * SECOND)
        assert got == [frame]
        s.run(10 * SECOND)
        assert got == [frame]
