"""Stateless reset, idle time-out, closing and draining, and the order in which keys come and go (RFC 9000 §10, RFC 9001 §4.9)."""

from __future__ import annotations

import frames as f
import pytest
from crafted import long_packet, unread
from raw_peer import HANDSHAKE, INITIAL, ONE_RTT, RawPeer, Role

from native import ffi, lib
from native.sim import ACTIVE_3GPP, MS, SECOND, check, udp4

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)
ELSEWHERE = ("10.9.9.9", 4433)


def received(peer: RawPeer) -> int:
    return peer.counter("packets_received")


# ---- stateless reset


def lost_connection(peer: RawPeer) -> bytes:
    """A CID whose connection the server has forgotten."""
    peer.connect()
    cid = peer.engine_cids[0, 1]
    peer.send(0, f.frame(f.CLOSE, 0, 0, 0))
    peer.run(10 * SECOND)
    assert peer.node.connections() == []
    return cid


@pytest.mark.parametrize(("size", "answer"), [(28, 0), (29, 28), (30, 29), (42, 41), (43, 42), (44, 43), (1200, 43)])
def test_a_reset_is_smaller_than_its_cause(size: int, answer: int) -> None:
    """RFC 9000 §10.3, §10.3.3: like a short packet, unpredictable, with the CID's token at the end."""
    with RawPeer("server") as peer:
        cid = lost_connection(peer)
        out = unread(peer)
        for _ in range(2):
            peer.deliver((b"\x43" + cid).ljust(size, b"\x99"))
        assert [len(packet) for packet, _ in out] == [answer] * (2 if answer else 0)
        assert all(packet[0] & 0xC0 == 0x40 and packet[-16:] == peer.tokens[0, 1] for packet, _ in out)
        assert len({packet[:-16] for packet, _ in out}) == len(out)


def test_resets_are_limited_in_rate() -> None:
    """RFC 9000 §10.3.3: 100 in a second, and more in the next."""
    with RawPeer("server") as peer:
        out = unread(peer)
        for turn in (1, 2):
            for i in range(150):
                peer.deliver((b"\x43" + i.to_bytes(8, "big")).ljust(100, b"\x99"))
            assert len(out) == 100 * turn
            peer.run(1100 * MS)


def reset(peer: RawPeer, start: bytes, size: int, token: bytes | None = None) -> bytes:
    return start.ljust(size - 16, b"\x99") + (peer.token_of(peer.cid_of(1, 0)) if token is None else token)


@pytest.mark.parametrize(
    ("start", "size"),
    [
        (b"\x41", 21),
        (b"\x41", 28),
        (b"\x41", 43),
        (b"\x41", 1200),
        (b"\xc3\0\0\0\1\x08", 200),
        (b"\xc3\x1a\x2a\x3a\x4a\x08", 1200),
        (b"\x01", 60),
    ],
    ids=["least", "shorter than a packet", "usual", "large", "long header", "another version", "no fixed bit"],
)
def test_a_reset_is_known_by_its_end(two: RawPeer, start: bytes, size: int) -> None:
    """RFC 9000 §10.3: whatever comes before the token. The connection drains and says nothing."""
    at = two.mark()
    two.deliver(reset(two, start, size), link=1)
    assert [e.token for e in two.events(lib.EVENT_CLOSED)] == [lib.CLOSE_RESET]
    two.run(SECOND)
    assert two.packets[at:] == []


def test_a_reset_behind_a_known_cid(two: RawPeer) -> None:
    """RFC 9000 §10.3.1: its random octets may be the CID of a connection."""
    two.deliver(reset(two, b"\x41" + two.engine_cids[1, 0], 60), link=1)
    assert [e.token for e in two.events(lib.EVENT_CLOSED)] == [lib.CLOSE_RESET]


def test_a_token_counts_for_the_cid_in_use_at_its_address(two: RawPeer) -> None:
    """RFC 9000 §10.3.1: not from elsewhere, and not for a CID that was never used."""
    unread(two)
    two.deliver(reset(two, b"\x41", 60), link=1, remote=ELSEWHERE)
    for cid in (two.cid_of(1, 1), two.cid_of(2, 0)):
        two.deliver(reset(two, b"\x41", 60, two.token_of(cid)), link=1)
    assert not two.events(lib.EVENT_CLOSED)
    two.deliver(reset(two, b"\x41", 60), link=1)
    assert two.events(lib.EVENT_CLOSED)


# ---- idle


@pytest.mark.parametrize(("ours", "theirs", "effective"), [(5, 30, 5), (30, 5, 5), (0, 5, 5), (5, 0, 5)])
@both
def test_the_lesser_idle_timeout_holds(role: Role, ours: int, theirs: int, effective: int) -> None:
    """RFC 9000 §10.1; 0 is none. What we send counts once after what came."""
    with RawPeer(role, params={"max_idle_timeout_ns": theirs * SECOND}, max_idle_timeout_ns=ours * SECOND) as peer:
        peer.connect()
        peer.run(SECOND)
        peer.answers = False
        peer.send(0, MAX_DATA)
        last = peer.now
        assert not peer.run((effective - 1) * SECOND, lambda: bool(peer.events(lib.EVENT_CLOSED)))
        assert peer.run(4 * SECOND, lambda: bool(peer.events(lib.EVENT_CLOSED)))
        closed = peer.events(lib.EVENT_CLOSED)[0]
        assert closed.token == lib.CLOSE_IDLE and closed.time - last <= (effective + 3) * SECOND


@both
def test_an_idle_timeout_has_three_pto(role: Role) -> None:
    """RFC 9000 §10.1: however little was announced."""
    with RawPeer(role, params={"max_idle_timeout_ns": 10 * MS}) as peer:
        peer.connect()
        peer.send(0, MAX_DATA)
        peer.run(30 * MS)  # its acknowledgement is out
        peer.send(0, MAX_DATA)
        started, pto = peer.now, peer.paths()[0].pto
        assert peer.run(SECOND, lambda: bool(peer.events(lib.EVENT_CLOSED)))
        waited = peer.events(lib.EVENT_CLOSED)[0].time - started
        assert waited >= 3 * pto > 30 * MS


def test_a_client_keeps_its_connection() -> None:
    """RFC 9000 §10.1.2: with PING, on time, and no more often than every third of the time-out."""
    with RawPeer("client") as peer:
        peer.connect()
        peer.run(5 * SECOND)
        at = peer.mark()
        peer.run(60 * SECOND)
        assert peer.error is None
        pings = peer.frames(f.PING, since=at)
        assert 5 <= len(pings) <= 8


# ---- closing and draining


def test_closing_repeats_itself_ever_more_rarely(two: RawPeer) -> None:
    """RFC 9000 §10.2.1."""
    lib.conn_close(two.node.endpoint, two.conn, 0, 0x21, 0, b"", 0)
    two.flush()
    at = two.mark()
    for _ in range(64):
        two.send(0, MAX_DATA)
    repeats = [p for p, _ in two.found(f.CLOSE, since=at) if p.path == 0]
    assert 1 <= len(repeats) <= 7
    assert len([p for p in two.packets[at:] if not any(x.kind == f.CLOSE for x in p.frames)]) == 0


def test_draining_is_silent(two: RawPeer) -> None:
    """RFC 9000 §10.2.2."""
    two.answers = False
    two.send(0, f.frame(f.CLOSE, 0x21, 0, 0))
    at = two.mark()
    for _ in range(64):
        two.send(0, MAX_DATA)
        two.send(1, MAX_DATA)
    two.run(SECOND)
    assert two.packets[at:] == []


# ---- keys


def handshake_only(role: Role) -> RawPeer:
    """The engine has Handshake keys in use; nothing is confirmed."""
    peer = RawPeer(role)
    if role == "client":
        peer.start_client()
        peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
        peer.deliver(peer.seal_long(HANDSHAKE, peer.crypto(b"server finished")))
        assert any(p.level == HANDSHAKE for p in peer.packets)
    else:
        peer.start_server()
        peer.deliver(long_packet(peer, HANDSHAKE, PING + bytes(3)))
    return peer


@both
def test_initial_keys_go_with_the_first_handshake_packet(role: Role) -> None:
    """RFC 9001 §4.9.1: the client's when it sends one, the server's when it receives one."""
    with handshake_only(role) as peer:
        before = received(peer), peer.counter("keys_unavailable")
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0")))
        assert (received(peer), peer.counter("keys_unavailable")) == (before[0], before[1] + 1)


@both
def test_handshake_keys_go_with_the_confirmation(role: Role) -> None:
    """RFC 9001 §4.9.2."""
    with RawPeer(role) as peer:
        peer.connect()
        before = received(peer), peer.counter("keys_unavailable")
        peer.deliver(long_packet(peer, HANDSHAKE, PING + bytes(3)))
        assert (received(peer), peer.counter("keys_unavailable")) == (before[0], before[1] + 1)


@both
def test_nothing_of_1rtt_is_processed_before_the_handshake_is_complete(role: Role) -> None:
    """RFC 9001 §5.7: though the keys are there. It is kept, and processed then."""
    with RawPeer(role) as peer:
        peer.node.on_event = None
        peer.answers = False
        if role == "client":
            peer.start_client()
            peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
        else:
            peer._initial_keys(b"first dc")
            peer.deliver(peer.seal_long(INITIAL, peer.crypto(b"hello").ljust(1170, b"\0"), b"first dc"))
            peer.conn = peer.node.connections()[0]
            peer.engine_cids[0, 0] = local_cid(peer)
        peer.handshake.params(peer.conn)
        for direction in (0, 1):
            peer.handshake.keys(peer.conn, ONE_RTT, direction)
        before = received(peer)
        peer.send(0, MAX_DATA)
        assert received(peer) == before
        check(lib.conn_handshake_complete(peer.node.endpoint, peer.conn))
        peer.flush()
        assert received(peer) == before + 1


def local_cid(peer: RawPeer) -> bytes:
    info = ffi.new("struct conn_info *")
    check(lib.conn_info(peer.node.endpoint, peer.conn, info))
    return bytes(info.local_cid[0 : info.local_cid_length])


def test_a_client_s_handshake_is_confirmed_by_handshake_done() -> None:
    """RFC 9001 §4.1.2: not by its completion."""
    with handshake_only("client") as peer:
        peer.send(0, MAX_DATA)
        peer.run(100 * MS)
        assert not peer.stats().handshake_confirmed
        peer.send(0, f.frame(f.HANDSHAKE_DONE))
        assert peer.stats().handshake_confirmed


# ---- DATAGRAM (RFC 9221)


@both
def test_a_datagram_frame_above_the_announced_size(role: Role) -> None:
    """RFC 9221 §3: the whole frame counts, type and length included."""
    for kind, head in ((f.DATAGRAM, 1), (f.DATAGRAM_LENGTH, 3)):
        with RawPeer(role, max_datagram_frame_size=100) as peer:
            peer.connect()
            for size, error in ((100, None), (101, 0x0A)):
                data = bytes(size - head)
                length = (0x4000 | len(data)).to_bytes(2, "big") if head == 3 else b""
                peer.send(0, bytes([kind]) + length + data)
                assert peer.error == error, (kind, size)


def tunnel(peer: RawPeer) -> None:
    """A tunnel for 10.45.0.2 on TUN 0, bound to the connection with Quarter Stream ID 0."""
    endpoint = peer.node.endpoint
    config = ffi.new("struct tunnel_config *")
    config.has_ipv4, config.ipv4 = 1, [10, 45, 0, 2]
    config.mtu = 1500
    handle = check(lib.tunnel_new(endpoint, config))
    rule = ffi.new("struct steering_rule *", {"rule_id": 1, **ACTIVE_3GPP})
    check(lib.tunnel_steering_set(endpoint, handle, rule, 1))
    check(lib.tunnel_bind(endpoint, handle, peer.conn, 0))


@both
def test_no_datagram_frame_above_what_the_peer_announced(role: Role) -> None:
    """RFC 9221 §3: neither Python's nor a tunnel's."""
    with RawPeer(role, params={"max_datagram_frame_size": 700}) as peer:
        peer.connect()
        peer.run(SECOND)
        tunnel(peer)
        for size in range(650, 760):
            lib.conn_datagram_send(peer.node.endpoint, peer.conn, bytes([7]) + bytes(size - 1), size)
            packet = udp4(size, up=role == "client")
            check(lib.tunnel_input(peer.node.endpoint, 0, packet, len(packet), peer.now))
            peer.run(MS)
        frames = peer.frames(f.DATAGRAM, f.DATAGRAM_LENGTH)
        sizes = [1 + len(frame.data) + (2 if frame.kind == f.DATAGRAM_LENGTH else 0) for frame in frames]
        assert len(sizes) > 90 and max(sizes) == 700
        assert peer.counter("inner_path_mtu") > 50
