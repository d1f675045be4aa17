"""What is acknowledged, when, and what an acknowledgement says (RFC 9000 §13.2, §13.3)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import HANDSHAKE, INITIAL, ONE_RTT, RawPeer, Role

from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)


def acks(peer: RawPeer, since: int, path: int = 0) -> list[f.Frame]:
    """PATH_ACKs of a path since then."""
    return [x for x in peer.frames(f.PATH_ACK, f.PATH_ACK_ECN, since=since) if x.path == path]


@both
def test_early_packets_are_acknowledged_at_once(role: Role) -> None:
    """Initial and Handshake, though nothing else is to be sent."""
    with RawPeer(role) as peer:
        if role == "client":
            peer.start_client()
            peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
        else:
            peer.start_server()
        for level in (INITIAL, HANDSHAKE):
            at, pn = peer.mark(), peer.spaces[level, 0].next_pn
            peer.deliver(peer.seal_long(level, PING.ljust(1170, b"\0")))
            assert [pn in x.acked for p, x in peer.found(f.ACK, since=at) if p.level == level] == [True]


def test_the_promised_delay_is_kept(two: RawPeer) -> None:
    for path in (0, 1):
        at, pn, start = two.mark(), two.send(path, PING), two.now
        assert two.run(SECOND, lambda at=at, path=path, pn=pn: any(pn in x.acked for x in acks(two, at, path)))
        assert 0 < two.now - start <= 25 * MS  # max_ack_delay


def test_what_comes_out_of_order_is_acknowledged_at_once(two: RawPeer) -> None:
    two.run(200 * MS)
    at = two.mark()
    two.send(1, PING)
    assert not acks(two, at, 1)
    two.run(200 * MS)
    two.spaces[ONE_RTT, 1].next_pn += 1
    pn = two.send(1, PING)
    assert any(pn in x.acked for x in acks(two, at, 1))


def test_a_ce_mark_is_acknowledged_at_once(two: RawPeer) -> None:
    two.run(200 * MS)
    at, pn = two.mark(), two.send(1, PING, ecn=3)
    assert [(pn in x.acked, x.fields["ce"]) for x in acks(two, at, 1)] == [(True, 1)]


def test_every_second_packet_is_acknowledged_at_first(two: RawPeer) -> None:
    two.run(200 * MS)
    at = two.mark()
    two.send(1, PING)
    assert not acks(two, at, 1)
    pn = two.send(1, PING)
    assert any(pn in x.acked for x in acks(two, at, 1))


def test_what_asks_for_nothing_gets_nothing(two: RawPeer) -> None:
    """Acknowledgements and padding are not acknowledged for themselves, not even behind a gap: two ends would never be quiet."""
    two.run(SECOND)
    at = two.mark()
    for _ in range(5):
        two.spaces[ONE_RTT, 1].next_pn += 2
        two.send(1, bytes(40))
        two.send(1, two.ack(0))
    two.run(SECOND)
    assert not two.frames(f.ACK, f.PATH_ACK, f.PATH_ACK_ECN, since=at)
    last = two.send(1, PING)
    two.run(100 * MS)
    assert {last, last - 1, last - 2} <= set(acks(two, at, 1)[0].acked)  # with the next that is due


def test_one_who_only_acknowledges_seldom_asks_for_an_acknowledgement(peer: RawPeer) -> None:
    """§13.2.4: now and then; in every packet, and both ends would go on for ever."""
    peer.run(SECOND)
    at = peer.mark()
    for _ in range(400):
        peer.send(0, PING)
        peer.send(0, PING)
        peer.run(10 * MS)
    own = [p for p in peer.packets[at:] if p.level == ONE_RTT]
    asking = [p for p in own if p.eliciting]
    assert len(own) > 40 and 1 <= len(asking) <= 6


def test_ranges_that_the_peer_has_heard_of_are_not_told_again(peer: RawPeer) -> None:
    peer.run(SECOND)
    peer.answers = False
    for _ in range(3):
        peer.spaces[ONE_RTT, 0].next_pn += 1
        peer.send(0, PING)
    at = peer.mark()
    largest = peer.send(0, PING)
    peer.engine_sends(MAX_DATA, path=0)
    packet, ack = next((p, x) for p, x in peer.found(f.PATH_ACK, since=at) if p.eliciting)
    assert ack.fields["largest"] == largest and len(ack.acked) == largest - min(ack.acked) + 1 - 3  # with its gaps
    at = peer.mark()
    peer.send(0, peer.ack(0, packet.pn))
    peer.send(0, PING)
    peer.send(0, PING)
    peer.run(100 * MS)
    assert acks(peer, at) and all(len(x.acked) == max(x.acked) - min(x.acked) + 1 for x in acks(peer, at))


def test_an_acknowledgement_tells_how_long_it_waited(two: RawPeer) -> None:
    two.run(200 * MS)
    at, pn, start = two.mark(), two.send(1, PING), two.now
    assert two.run(SECOND, lambda: any(pn in x.acked for x in acks(two, at, 1)))
    waited, (ack,) = two.now - start, acks(two, at, 1)
    assert waited >= MS
    assert waited - 8000 < ack.fields["delay"] * 8000 <= waited  # ack_delay_exponent 3


def test_handshake_done_is_repeated_until_it_is_acknowledged() -> None:
    with RawPeer("server") as peer:
        peer.deaf.add(0)
        peer._connect_server()
        peer.flush()
        peer.run(SECOND)
        assert len(peer.frames(f.HANDSHAKE_DONE)) >= 2
        peer.deaf.clear()
        peer.send(0, peer.ack(0))
        at = peer.mark()
        peer.run(2 * SECOND)
        assert not peer.frames(f.HANDSHAKE_DONE, since=at)
