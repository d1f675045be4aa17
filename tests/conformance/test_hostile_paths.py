"""An authenticated peer that means no good, on its paths: addresses that are not its own, floods on all at once (bars B)."""

from __future__ import annotations

import gc
from typing import Literal

import frames as f
import pytest
from heap import heap_in_use
from raw_peer import RawPeer

from native import lib
from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
Role = Literal["client", "server"]
VICTIM = ("10.9.0.1", 4000)
CHALLENGE = f.frame(f.PATH_CHALLENGE) + b"validate"
PROBING = {f.PATH_CHALLENGE, f.PATH_RESPONSE, f.PATH_ACK, f.PADDING, f.NEW_CONNECTION_ID, f.PATH_NEW_CONNECTION_ID}
PROTOCOL_VIOLATION = 0x0A
SPARE = 64 << 10
RECORD = 64  # octets, of a packet in flight; rings grow by doubling
UNREAD_MOST = 256 << 10  # octets of HTTP datagrams for Python that wait on one connection
ONLY_NON_3GPP = {"mode": lib.STEER_ACTIVE_STANDBY, "active_access": lib.ACCESS_NON_3GPP, "has_standby": 1}


@pytest.mark.parametrize("answered", [False, True], ids=["spoofed", "true"])
def test_no_data_goes_to_an_address_that_never_answered(answered: bool) -> None:
    """R-28: the rule prefers the second path, whose address is a victim's, and the peer acknowledges nothing on the first any more,
    so that this one is suspected, then taken for failed. The canary: once the address has answered, data goes there."""
    with RawPeer("server") as peer:
        peer.connect()
        peer.tunnel(**ONLY_NON_3GPP)
        peer.link_of[1], peer.address_of[1] = 1, VICTIM
        if not answered:
            peer.deaf.update((0, 1))
        peer.send(1, CHALLENGE, link=1, remote=VICTIM, pad=1200)
        received = 1200
        for _ in range(200):
            peer.inner()
            peer.run(20 * MS)
        there = [packet for packet in peer.packets if packet.remote == VICTIM]
        assert there and peer.error is None
        data = [x for packet in there for x in packet.frames if x.kind not in PROBING]
        assert bool(data) == answered
        if not answered:
            assert sum(packet.size for packet in there) <= 3 * received
            assert not any(x.kind in (f.DATAGRAM, f.DATAGRAM_LENGTH) for x in data)


@pytest.mark.parametrize("answered", [False, True], ids=["spoofed", "true"])
def test_all_paths_move_to_one_victim_at_once(answered: bool) -> None:
    """R-27: RFC 9000 §9.3.1, RFC 10069 §7.2: while traffic goes on, each path sends there three times what came on it from there at
    most. The canary: when the address answers, it gets more."""
    with RawPeer("server") as peer:
        peer.connect()
        for path in (1, 2, 3):
            peer.open_path(path)
        peer.tunnel(mode=lib.STEER_LOAD_BALANCING, weight=[50, 50])
        peer.run(SECOND)
        at = peer.mark()
        for path in range(4):
            peer.address_of[path] = VICTIM
            if not answered:
                peer.deaf.add(path)
            peer.send(path, f.frame(f.PING), remote=VICTIM, pad=1200)
        there = dict.fromkeys(range(4), 0)
        for _ in range(150):
            peer.inner()
            peer.run(20 * MS)
        for packet in peer.packets[at:]:
            if packet.remote == VICTIM:
                there[packet.path] += packet.size
        assert peer.error is None and all(there.values())
        if answered:
            assert sum(there.values()) > 4 * 3 * 1200
        else:
            assert all(size <= 3 * 1200 for size in there.values()), there


def test_challenges_on_all_paths_whose_answers_nobody_acknowledges() -> None:
    """R-21: a few answers wait on each path, the rest is counted; of those that went out only the packets' records pile up (8,192 a
    path at most), and the connection goes on."""
    with RawPeer("server") as peer:
        peer.connect()
        for path in (1, 2, 3):
            peer.open_path(path)
        peer.answers = False
        peer.packets.clear()
        base = most = sent = packets = 0
        for turn in range(300):
            for path in range(4):
                flood = b"".join(f.frame(f.PATH_CHALLENGE) + (sent + n).to_bytes(8, "big") for n in range(20))
                sent += 20
                peer.send(path, flood, pad=1200)
            peer.run(MS)
            answers = [len([x for x in p.frames if x.kind == f.PATH_RESPONSE]) for p in peer.packets]
            assert sum(answers) <= 16
            packets += len(answers)
            peer.packets.clear()
            peer.node.events.clear()
            for space in peer.spaces.values():
                space.received.clear()  # the peer's own memory
            if turn == 100:
                gc.collect()
                base = heap_in_use()
            elif turn > 100:
                most = max(most, heap_in_use() - base)
        assert most < SPARE + 2 * packets * RECORD and peer.error is None
        assert peer.counter("path_challenge_limit") >= sent - 300 * 16 > 0
        at = peer.mark()
        peer.send(0, CHALLENGE)
        assert [x.data for x in peer.frames(f.PATH_RESPONSE, since=at)][-1] == b"validate" and peer.error is None


@both
def test_a_datagram_frame_that_was_not_negotiated(role: Role) -> None:
    """R-33: RFC 9221 §3. The canary: announced, the same frame is taken."""
    for announced, error in ((65535, None), (0, PROTOCOL_VIOLATION)):
        with RawPeer(role, max_datagram_frame_size=announced) as peer:
            peer.connect()
            peer.send(0, f.frame(f.DATAGRAM_LENGTH, 2) + b"\x07x")
            assert peer.error == error


@both
def test_datagrams_of_a_stream_that_nobody_knows_are_kept_up_to_a_bound(role: Role) -> None:
    """R-33: RFC 9297 §2.1 lets them wait; while nobody takes them, what is above the bound is dropped and counted."""
    with RawPeer(role) as peer:
        peer.connect()
        take, peer.node.pump = peer.node.pump, lambda now: None  # type: ignore[method-assign]
        for _ in range(600):
            peer.send(0, f.frame(f.DATAGRAM_LENGTH, 1001) + b"\x2a" + bytes(1000))
        dropped = peer.counter("datagram_no_tunnel")
        peer.node.pump = take  # type: ignore[method-assign]
        peer.flush()
        kept = peer.events(lib.EVENT_DATAGRAM)
        assert len(kept) + dropped == 600 and dropped
        assert UNREAD_MOST / 2 < sum(len(event.data) for event in kept) <= UNREAD_MOST
        assert peer.error is None


@both
def test_a_flood_of_status_frames_costs_nothing(role: Role) -> None:
    """R-40: ever newer, of all paths to and fro; in the end the newest holds, and old ones change nothing."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.open_path()
        base = most = 0
        for turn in range(300):
            kind = (f.PATH_STATUS_BACKUP, f.PATH_STATUS_AVAILABLE)[turn % 2]
            peer.send(0, *(f.frame(kind, path, turn * 40 + n) for n in range(40) for path in range(2)))
            peer.send(0, *(f.frame(f.PATH_STATUS_BACKUP, path, n) for n in range(20) for path in range(2)))
            peer.node.events.clear()
            peer.packets.clear()
            if turn == 100:
                gc.collect()
                base = heap_in_use()
            elif turn > 100:
                most = max(most, heap_in_use() - base)
        assert most < SPARE and peer.error is None
        assert all(path.peer_available for path in peer.paths().values())


def test_resets_during_the_handshake_are_ignored() -> None:
    """R-13: before a token was told none is right, nor is that of zeros that stands for none afterwards (RFC 9000 §10.3.1)."""
    with RawPeer("client") as peer:
        peer.start_client()
        tokens = (bytes(16), b"\xff" * 16, peer.token_of(peer.own_cid))
        forged = [b"\x41" + bytes([n]) * 30 + token for n in (0, 7) for token in tokens]
        for reset in forged:
            peer.deliver(reset)
        hello = peer.seal_long(0, f.ack(0) + peer.crypto(b"server hello"))
        peer.deliver(hello)
        for reset in forged:
            peer.deliver(reset)
        peer.deliver(peer.seal_long(1, peer.crypto(b"server finished")))
        for reset in forged:
            peer.deliver(reset)
        peer.run(50 * MS)
        peer.send(0, f.frame(f.HANDSHAKE_DONE))
        peer.run(SECOND)
        assert peer.stats().handshake_confirmed and not peer.events(lib.EVENT_CLOSED)
        assert peer.counter("stateless_reset") == 0
