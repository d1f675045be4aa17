"""Acknowledgements, RTT, window and retransmission per path (RFC 10069 §4.1, §5)."""

from __future__ import annotations

import frames as f
import pytest
from raw_peer import ONE_RTT, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
FRAME_ENCODING_ERROR, PROTOCOL_VIOLATION = 0x07, 0x0A


@pytest.mark.parametrize("path", [0, 1])
@both
def test_path_ack_of_what_was_never_sent(role: Role, path: int) -> None:
    """MP-67: on that path, though the other has sent more."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.open_path()
        for _ in range(30):
            peer.engine_sends(MAX_DATA, path=1 - path)
        following = peer.spaces[ONE_RTT, path].largest + 1
        peer.send(0, f.ack(following, path=path))
        assert peer.error == PROTOCOL_VIOLATION


def test_path_ack_reads_as_ack(two: RawPeer) -> None:
    """MP-67: ranges and the delay's exponent; ranges below zero do not parse."""
    two.deaf.add(1)
    at = two.mark()
    for token in range(100, 110):
        two.engine_sends(MAX_DATA, path=1, token=token)
    sent = [p.pn for p in two.packets[at:] if p.path == 1]
    two.now += 100 * MS
    two.send(0, f.ack(*sent[:3], *sent[5:7], sent[9], path=1, delay=10_000 >> 3, ecn=(0, 0, 0)))
    assert sorted(e.token for e in two.events(lib.EVENT_ACKED) if 100 <= e.token < 110) == [100, 101, 102, 105, 106, 109]
    assert two.paths()[1].rtt_latest == 100 * MS
    two.send(0, f.frame(f.PATH_ACK, 1, 3, 0, 1, 0, 5, 0))
    assert two.error == FRAME_ENCODING_ERROR


def test_ecn_counts_are_those_of_the_path(two: RawPeer) -> None:
    """MP-68: ECT(0) on path 0, CE and ECT(1) on path 1."""
    at = two.mark()
    for _ in range(3):
        two.send(0, MAX_DATA, ecn=2)
    for ecn in (3, 1, 1, 3):
        two.send(1, MAX_DATA, ecn=ecn)
    two.run(100 * MS)
    last = {x.path: (x.fields["ect0"], x.fields["ect1"], x.fields["ce"]) for x in two.frames(f.PATH_ACK_ECN, since=at)}
    assert last == {0: (3, 0, 0), 1: (0, 2, 2)}


def test_each_path_has_its_own_window(two: RawPeer) -> None:
    """MP-86: a full window holds back what counts in flight, on that path alone; acknowledgements still go out."""
    two.run(2 * SECOND)
    two.deaf.update({0, 1})
    two.send(0, f.frame(f.PATH_STATUS_BACKUP, 0, 0))  # datagrams go on path 1
    payload = b"\x07" + bytes(1000)
    for _ in range(60):
        lib.conn_datagram_send(two.node.endpoint, two.conn, payload, len(payload))
        two.flush()
    full = two.paths()[1]
    assert full.bytes_in_flight < full.cwnd + 1500
    assert two.paths()[0].bytes_in_flight < 5000
    at = two.mark()
    pn = two.send(1, MAX_DATA), two.send(1, MAX_DATA)
    assert any(set(pn) <= set(x.acked) for x in two.frames(f.PATH_ACK, since=at) if x.path == 1)
    assert not two.frames(f.DATAGRAM_LENGTH, since=at)
    assert two.paths()[1].bytes_in_flight == full.bytes_in_flight


def test_the_least_rtt_starts_anew_when_acks_take_another_way(two: RawPeer) -> None:
    """MP-87: a sample is the sum of two one-way delays."""
    two.deaf.add(1)

    def sample(delay: int, back: int) -> None:
        at = two.mark()
        two.engine_sends(MAX_DATA, path=1)
        two.now += delay
        two.send(back, f.ack(next(p.pn for p in two.packets[at:] if p.path == 1), path=1))

    sample(10 * MS, back=1)
    least = two.paths()[1].rtt_min
    assert least <= 10 * MS
    sample(20 * MS, back=1)
    assert two.paths()[1].rtt_min == least
    sample(30 * MS, back=0)
    assert two.paths()[1].rtt_min == 30 * MS
    sample(25 * MS, back=0)
    assert two.paths()[1].rtt_min == 25 * MS


@both
def test_each_path_has_its_own_mtu(role: Role) -> None:
    """MP-89: path 0 loses what is above 1331 octets, path 1 carries all. A frame is never larger than every path carries, so that
    what was lost on the one fits on the other: larger STREAM frames are refused, Python makes them small."""
    with RawPeer(role) as peer:
        original = peer._read

        def narrow(datagram: bytes, link: int, remote: tuple[str, int], ecn: int) -> None:
            if link == 1 or len(datagram) <= 1331:
                original(datagram, link, remote, ecn)

        peer._read = narrow  # type: ignore[method-assign]
        peer.connect()
        peer.open_path()
        peer.run(20 * SECOND)
        assert peer.paths()[1].max_udp_payload == 1452
        assert peer.paths()[0].max_udp_payload == 1331
        stream = f.frame(0x0E, 0, 0, 1000) + bytes(1000)
        refused = lib.conn_frame_send(peer.node.endpoint, peer.conn, ONE_RTT, 1, bytes(1025), 1025, 0, 1)
        assert refused == -lib.ENGINE_E_ARGUMENT
        peer.deaf.add(1)
        peer.send(0, f.frame(f.PATH_STATUS_BACKUP, 0, 0))
        at = peer.mark()
        peer.engine_sends(stream, token=77)
        peer.run(2 * SECOND)
        carried = [(p.path, p.size) for p, x in peer.found(0x0E, since=at)]
        assert {path for path, _ in carried} == {0, 1} and max(size for _, size in carried) <= 1200


def test_after_a_pto_the_frames_go_on_another_path(two: RawPeer) -> None:
    """MP-88: without being lost; one acknowledgement, of either packet, is enough."""
    two.send(0, f.frame(f.PATH_STATUS_BACKUP, 1, 0))
    two.deaf.add(0)
    at = two.mark()
    two.engine_sends(MAX_DATA, token=77)
    assert {p.path for p, _ in two.found(0x10, since=at)} == {0}
    pto = two.paths()[0].pto
    two.run(pto + MS)
    assert {p.path for p, _ in two.found(0x10, since=at)} == {0, 1}
    assert [e.token for e in two.events(lib.EVENT_ACKED)].count(77) == 1
    assert 77 not in [e.token for e in two.events(lib.EVENT_LOST)]
