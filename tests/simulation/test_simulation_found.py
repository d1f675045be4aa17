"""What the simulator found, each as a small case of its own."""

from __future__ import annotations

from native import lib
from native.sim import BALANCED, MS, SECOND, Simulator, check, udp4

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
