"""PATH_STATUS_AVAILABLE and PATH_STATUS_BACKUP, both ways (RFC 10069 §3.3, §4.3)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import ONE_RTT, RawPeer

from native import lib
from native.sim import BALANCED, MS, SECOND, Simulator, check, udp4

MAX_DATA = f.frame(0x10, 4096)
STATUS = (f.PATH_STATUS_BACKUP, f.PATH_STATUS_AVAILABLE)


def tell(peer: RawPeer, path: int, available: bool) -> None:
    check(lib.path_status_set(peer.node.endpoint, peer.conn, path, available))
    peer.flush()


def told(peer: RawPeer, since: int = 0) -> list[tuple[int, int, bool]]:
    """Path, sequence number, available: of the engine's status frames."""
    return [(x.path, x.fields["sequence"], x.kind == f.PATH_STATUS_AVAILABLE) for x in peer.frames(*STATUS, since=since)]


@pytest.mark.parametrize("sender", ["client", "server"])
def test_a_backup_path_carries_nothing_while_another_is_available(sender: str) -> None:
    """MP-50: inner packets and frames; if every path is backup, traffic goes on."""
    with Simulator(31) as s:
        conn, peer = s.connect()
        s.open_path(conn, 1)
        s.tunnel(conn, peer, [BALANCED])
        near, near_conn, far, far_conn = (
            (s.client, conn, s.server, peer) if sender == "client" else (s.server, peer, s.client, conn)
        )

        def load(flows: range) -> dict[int, int]:
            before = {path: info.datagrams_sent for path, info in near.paths(near_conn).items()}
            for flow in flows:
                s.inner(near, udp4(300, up=sender == "client", flow=flow))
            check(lib.conn_datagram_send(near.endpoint, near_conn, b"\x07hello", 6))
            s.run(200 * MS)
            return {path: info.datagrams_sent - before[path] for path, info in near.paths(near_conn).items()}

        check(lib.path_status_set(far.endpoint, far_conn, 1, 0))
        s.run(100 * MS)
        assert load(range(20)) == {0: 20, 1: 0}
        check(lib.path_status_set(far.endpoint, far_conn, 0, 0))
        s.run(100 * MS)
        assert sum(load(range(20, 40)).values()) == 20


def test_a_backup_carries_no_frames_either(two: RawPeer) -> None:
    """MP-50: frames of no path in particular avoid it, whatever its RTT."""
    two.send(0, f.frame(f.PATH_STATUS_BACKUP, 0, 0))
    at = two.mark()
    two.engine_sends(MAX_DATA)
    assert {p.path for p, x in two.found(0x10, since=at)} == {1}


def test_a_broken_path_is_told_to_the_peer_that_could_use_it(two: RawPeer) -> None:
    """MP-51: the available path falls silent, the backup takes over: the peer learns that the first is to be avoided, as soon as a
    probe goes without an answer; when it answers again it is available again."""
    two.send(0, f.frame(f.PATH_STATUS_BACKUP, 1, 0))
    two.deaf.add(0)
    at = two.mark()
    two.engine_sends(MAX_DATA, path=0)
    assert two.run(10 * SECOND, lambda: bool(told(two, at)))
    assert told(two, at) == [(0, 0, False)]
    assert two.paths()[0].state in (lib.PATH_SUSPECT, lib.PATH_FAILED)
    two.deaf.clear()
    two.send(0, two.ack(0))
    assert told(two, at) == [(0, 0, False), (0, 1, True)]


def test_status_numbers_grow_over_both_frames_of_a_path(two: RawPeer) -> None:
    """MP-71: each path has its own."""
    for path, available in ((0, False), (1, False), (0, True), (0, False), (1, True)):
        tell(two, path, available)
    assert told(two) == [(0, 0, False), (1, 0, False), (0, 1, True), (0, 2, False), (1, 1, True)]


def test_an_old_status_is_ignored(two: RawPeer) -> None:
    """MP-72: not newer than the newest of its path; the numbers of another path do not count."""
    two.send(0, f.frame(f.PATH_STATUS_BACKUP, 1, 5))
    two.send(0, f.frame(f.PATH_STATUS_AVAILABLE, 1, 5), f.frame(f.PATH_STATUS_AVAILABLE, 1, 4))
    assert not two.paths()[1].peer_available
    two.send(0, f.frame(f.PATH_STATUS_BACKUP, 0, 3))
    assert not two.paths()[0].peer_available
    two.send(0, f.frame(f.PATH_STATUS_AVAILABLE, 1, 6))
    assert two.paths()[1].peer_available


def test_only_the_newest_status_is_repeated(two: RawPeer) -> None:
    """MP-73: both are lost."""
    two.answers = False
    at = two.mark()
    tell(two, 1, False)
    tell(two, 1, True)
    carriers = [p.pn for p, _ in two.found(*STATUS, since=at)]
    for _ in range(5):
        two.engine_sends(MAX_DATA, path=0)
    two.send(0, two.ack(0, *(p.pn for p in two.packets[at:] if p.path == 0 and p.level == ONE_RTT and p.pn > max(carriers))))
    assert told(two, at) == [(1, 0, False), (1, 1, True), (1, 1, True)]


def test_status_may_come_before_its_path(peer: RawPeer) -> None:
    """MP-74: it is kept."""
    peer.send(0, f.frame(f.PATH_STATUS_BACKUP, 2, 7))
    assert [(e.path, e.a, e.b) for e in peer.events(lib.EVENT_PATH_STATUS)] == [(2, 0, 7)]
    peer.open_path(1)
    peer.open_path(2)
    assert peer.paths()[1].peer_available and not peer.paths()[2].peer_available


def test_status_may_come_with_what_makes_the_path() -> None:
    """MP-75: in the packet of its PATH_NEW_CONNECTION_ID, and in that of the PATH_RESPONSE, ahead of it."""
    for role in ("client", "server"):
        with RawPeer(role) as peer:  # type: ignore[arg-type]
            peer.connect(paths=0)
            peer.send(0, peer.cid_frame(1, 0), f.frame(f.PATH_STATUS_BACKUP, 1, 0))
            peer.answers = False
            if role == "client":
                assert peer.engine_opens() == 1
            else:
                peer.send(1, f.frame(f.PATH_CHALLENGE) + b"validate", link=1, pad=1200)
            assert not peer.paths()[1].peer_available
            challenge = next(x for p, x in peer.found(f.PATH_CHALLENGE) if p.path == 1)
            response = f.frame(f.PATH_RESPONSE) + challenge.data
            peer.send(1, f.frame(f.PATH_STATUS_AVAILABLE, 1, 1), response, link=1)
            assert peer.paths()[1].validated and peer.paths()[1].peer_available
