"""Probe time-outs and what they send before the handshake is confirmed (RFC 9002 §6.2, §6.4)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import HANDSHAKE, INITIAL, ONE_RTT, RawPeer

from native.sim import MS, SECOND

MAX_DATA = f.frame(0x10, 4096)


def client_waits(peer: RawPeer, losses: int = 0) -> None:
    """A client whose Initial, repeated so often, is acknowledged: nothing of it is in flight, and it has no other keys."""
    peer.start_client()
    for count in range(losses):
        assert peer.run(10 * SECOND, lambda count=count: len(peer.packets) > count + 1)
    peer.deliver(peer.seal_long(INITIAL, f.ack(*peer.spaces[INITIAL, 0].received)))


def test_no_probe_of_1rtt_before_the_handshake_is_confirmed() -> None:
    """§6.2.1: the peer may not have the keys."""
    with RawPeer("client") as peer:
        peer.start_client()
        hello = peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello"))
        peer.deaf.add(0)
        peer.deliver(hello + peer.seal_long(HANDSHAKE, peer.crypto(b"server finished")))
        peer.engine_sends(MAX_DATA)
        assert any(p.level == ONE_RTT and p.eliciting for p in peer.packets)
        at = peer.mark()
        peer.run(2 * SECOND)
        assert {p.level for p in peer.packets[at:]} == {HANDSHAKE}


def test_acknowledged_initials_do_not_end_a_clients_backoff() -> None:
    """§6.2.1: the server may not send before it has heard more of the client, but it is not to be flooded."""
    with RawPeer("client") as peer:
        client_waits(peer, losses=2)
        at, start, pto = peer.mark(), peer.now, peer.paths()[0].pto
        assert peer.run(10 * SECOND, lambda: peer.mark() > at)
        assert peer.now - start == 4 * pto


def test_a_client_keeps_a_server_from_being_stuck() -> None:
    """§6.2.2.1: with nothing in flight it still sends: a full Initial, or a Handshake packet once it has keys."""
    with RawPeer("client") as peer:
        client_waits(peer)
        at = peer.mark()
        assert peer.run(10 * SECOND, lambda: peer.mark() > at)
        (probe,) = peer.packets[at:]
        assert probe.level == INITIAL and probe.eliciting and probe.size >= 1200
        peer.deliver(peer.seal_long(INITIAL, f.ack(*peer.spaces[INITIAL, 0].received) + peer.crypto(b"server hello")))
        at = peer.mark()
        assert peer.run(10 * SECOND, lambda: peer.mark() > at)
        assert [(p.level, p.eliciting) for p in peer.packets[at:]] == [(HANDSHAKE, True)]


def test_a_server_at_its_limit_runs_no_timer() -> None:
    """§6.2.2.1: what it may not send it does not prepare; the client's next datagram sets it going."""
    with RawPeer("server") as peer:
        peer.start_server()
        peer.run(3 * SECOND)
        blocked, at = peer.counter("anti_amplification"), peer.mark()
        peer.run(6 * SECOND)
        assert peer.mark() == at and peer.counter("anti_amplification") == blocked
        peer.deliver(peer.seal_long(INITIAL, f.frame(f.PING).ljust(1170, b"\0")))
        peer.run(400 * MS)
        assert any(x.kind == f.CRYPTO for p in peer.packets[at:] for x in p.frames)


def test_a_probe_repeats_both_early_spaces() -> None:
    """§6.2.4: in one datagram, since what is missing of a flight is seldom one of them."""
    with RawPeer("server") as peer:
        peer.start_server()
        at = peer.mark()
        assert peer.run(SECOND, lambda: peer.mark() > at)
        assert [(p.level, any(x.kind == f.CRYPTO for x in p.frames)) for p in peer.packets[at:]] == [
            (INITIAL, True),
            (HANDSHAKE, True),
        ]


def test_what_discarded_keys_had_in_flight_is_in_flight_no_more() -> None:
    """§6.4"""
    with RawPeer("server") as peer:
        peer.start_server()
        assert peer.paths()[0].bytes_in_flight > 0
        finished = peer.seal_long(HANDSHAKE, peer.crypto(b"client finished"))
        peer.deliver(peer.seal_long(INITIAL, f.frame(f.PING).ljust(1050, b"\0")) + finished)  # and acknowledges nothing
        peer.run(200 * MS)
        assert peer.stats().handshake_confirmed
        assert peer.paths()[0].bytes_in_flight == 0


@pytest.mark.parametrize("role", ["client", "server"])
def test_the_window_begins_with_ten_datagrams(role: str) -> None:
    """§7.2: but with 14,720 octets at most, unless two datagrams are more."""
    for validation, window in ((1331, 13310), (1490, 14720)):
        with RawPeer(role, validation_size=validation, max_udp_payload=1500) as peer:  # type: ignore[arg-type]
            peer.connect()
            peer.deaf.add(1)
            peer.link_of[1] = 1
            if role == "client":
                assert peer.engine_opens() == 1
            else:
                peer.send(1, f.frame(f.PATH_CHALLENGE) + b"validate", link=1, pad=1200)
            assert peer.paths()[1].cwnd == window
