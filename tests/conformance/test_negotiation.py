"""Whether there is multipath at all, and what it makes of packets and acknowledgements (RFC 10069 §2)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import HANDSHAKE, INITIAL, ONE_RTT, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

ROLES: list[Role] = ["client", "server"]
both = pytest.mark.parametrize("role", ROLES)
MAX_DATA = f.frame(0x10, 4096)
FRAME_ENCODING_ERROR, PROTOCOL_VIOLATION = 0x07, 0x0A


@both
def test_without_the_peers_parameter_there_is_no_multipath(role: Role) -> None:
    """MP-01: no multipath frame is sent, and one that comes is an unknown frame."""
    with RawPeer(role, params={"multipath": 0}) as peer:
        peer.connect()
        peer.send(0, MAX_DATA)
        peer.engine_sends(MAX_DATA)
        peer.run(SECOND)
        assert peer.frames(*f.MULTIPATH) == []
        assert peer.frames(f.ACK)
        peer.send(0, f.frame(f.MAX_PATH_ID, 8))
        assert peer.error == FRAME_ENCODING_ERROR


@both
def test_connection_ids_are_never_empty(role: Role) -> None:
    """MP-03."""
    with RawPeer(role) as peer:
        if role == "client":
            peer.start_client()
        else:
            peer.start_server()
        long = [p for p in peer.packets if p.level != ONE_RTT]
        assert long and all(p.scid and p.dcid for p in long)


@both
def test_early_packets_are_acknowledged_by_ack_alone(role: Role) -> None:
    """MP-11."""
    with RawPeer(role) as peer:
        peer.connect()
        early = [frame for p in peer.packets if p.level != ONE_RTT for frame in p.frames]
        assert any(frame.kind == f.ACK for frame in early)
        assert not any(frame.kind in (f.PATH_ACK, f.PATH_ACK_ECN) for frame in early)


@both
def test_after_the_handshake_path_zero_is_acknowledged_by_path_ack(role: Role) -> None:
    """MP-12."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.send(0, MAX_DATA)
        peer.run(SECOND)
        late = [frame for p in peer.packets if p.level == ONE_RTT for frame in p.frames]
        assert not any(frame.kind in (f.ACK, f.ACK_ECN) for frame in late)
        assert any(frame.kind == f.PATH_ACK and frame.path == 0 for frame in late)


def test_ack_means_path_zero_on_whatever_path_it_comes(two: RawPeer) -> None:
    """MP-13."""
    two.deaf.add(0)
    at = two.mark()
    two.engine_sends(MAX_DATA, path=0, token=77)
    pn = next(p.pn for p in two.packets[at:] if p.path == 0)
    two.send(1, f.ack(pn))
    assert two.error is None
    assert 77 in [e.token for e in two.events(lib.EVENT_ACKED)]


@both
def test_the_nonce_has_the_path_id_on_every_path(role: Role) -> None:
    """MP-14: the peer opens every packet with the nonce of RFC 10069 §2.4, and none other opens it."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.open_path()
        at = peer.mark()
        peer.engine_sends(MAX_DATA, path=0)
        peer.engine_sends(MAX_DATA, path=1)
        assert {p.path for p in peer.packets[at:]} == {0, 1}
        peer.tunnel(mode=lib.STEER_ACTIVE_STANDBY, active_access=lib.ACCESS_NON_3GPP)
        at = peer.mark()
        peer.inner()
        assert [p.path for p, _ in peer.found(f.DATAGRAM, f.DATAGRAM_LENGTH, since=at)] == [1]


@both
def test_a_packet_sealed_for_another_path_is_dropped_and_counted(role: Role) -> None:
    """MP-15."""
    with RawPeer(role) as peer:
        peer.connect()
        if role == "client":
            assert peer.engine_opens() == 1
        failed = peer.counter("auth_failed")
        received = peer.counter("packets_received")
        peer.send(1, MAX_DATA, link=1, nonce_path=0)
        peer.send(0, MAX_DATA, nonce_path=1)
        assert peer.counter("auth_failed") == failed + 2
        assert peer.counter("packets_received") == received
        assert peer.error is None
        peer.send(1, MAX_DATA, link=1)
        assert peer.counter("packets_received") > received


@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE])
@both
def test_multipath_frames_before_1rtt_are_violations(role: Role, level: int) -> None:
    """MP-65: every one of them, and the engine sends none there."""
    bad = [
        f.ack(0, path=0),
        f.ack(0, path=0, ecn=(0, 0, 0)),
        *(f.frame(kind, 1, 0) for kind in (0x3E75, 0x3E76, 0x3E77, 0x3E79, 0x3E7C)),
        f.frame(f.MAX_PATH_ID, 9),
        f.frame(f.PATHS_BLOCKED, 1),
        f.new_cid(1, 0, 0, b"12345678", bytes(16)),
    ]
    for payload in bad:
        with RawPeer(role) as peer:
            if role == "client":
                peer.start_client()
                if level == HANDSHAKE:
                    peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
            else:
                peer.start_server()
            peer.deliver(peer.seal_long(level, payload.ljust(1170, b"\0")))
            assert peer.error == PROTOCOL_VIOLATION, payload
            assert not [frame for p in peer.packets if p.level != ONE_RTT for frame in p.frames if frame.kind in f.MULTIPATH]


def test_connection_close_comes_and_goes_on_every_path(two: RawPeer) -> None:
    """MP-19, the sending half; each path has it at once."""
    at = two.mark()
    lib.conn_close(two.node.endpoint, two.conn, 0, 0x21, 0, b"", 0)
    two.flush()
    assert {p.path for p, _ in two.found(f.CLOSE, since=at)} == {0, 1}


def test_connection_close_is_heard_on_any_path(two: RawPeer) -> None:
    """MP-19, the receiving half."""
    two.send(1, f.frame(f.CLOSE, 0x21, 0, 0))
    assert two.error == 0x21
    assert two.events(lib.EVENT_CLOSED)[0].token == lib.CLOSE_PEER


def test_closing_and_draining_last_three_of_the_largest_pto(two: RawPeer) -> None:
    """MP-20."""
    most = max(p.pto for p in two.paths().values())
    two.send(0, f.frame(f.CLOSE, 0x21, 0, 0))
    two.run(3 * most - MS)
    assert not two.events(lib.EVENT_GONE)
    two.run(2 * MS)
    assert two.events(lib.EVENT_GONE)


def test_idle_timeout_is_the_connections(two: RawPeer) -> None:
    """MP-90: what comes on one path keeps the connection, and the other path; silence on all ends it."""
    two.deaf.add(0)
    for _ in range(50):
        two.send(1, MAX_DATA)
        two.run(SECOND)
    assert two.error is None and 0 in two.paths()
    two.deaf.add(1)
    two.run(28 * SECOND)
    assert two.error is None
    two.run(3 * SECOND)
    assert two.events(lib.EVENT_CLOSED)[0].token == lib.CLOSE_IDLE
