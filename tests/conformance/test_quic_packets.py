"""Packets, versions and frames of QUIC itself, which multipath inherits (RFC 9000 §6, §12 to §14, §17)."""

from __future__ import annotations

import frames as f
import pytest
from crafted import VERSION_1, long_packet, short_packet, unread
from raw_peer import HANDSHAKE, HELLO, INITIAL, ONE_RTT, SERVER_ADDRESS, RawPeer, Role

from native import lib
from native.sim import MS, SECOND

both = pytest.mark.parametrize("role", ["client", "server"])
MAX_DATA = f.frame(0x10, 4096)
PING = f.frame(f.PING)
FRAME_ENCODING_ERROR, PROTOCOL_VIOLATION = 0x07, 0x0A
UNKNOWN_VERSION = b"\x5a\x6b\x7c\x8d"
FIRST = b"first dc"


def strange(size: int, dcid: bytes = FIRST, scid: bytes = b"source") -> bytes:
    """A long packet of a version that nobody knows."""
    head = b"\xd5" + UNKNOWN_VERSION + bytes([len(dcid)]) + dcid + bytes([len(scid)]) + scid
    return head.ljust(size, b"\x55")


def hello(peer: RawPeer, size: int = 1200, **options: object) -> bytes:
    """A client's first Initial, `size` octets in all."""
    options.setdefault("dcid", FIRST)
    dcid = options["dcid"]
    assert isinstance(dcid, bytes)
    peer._initial_keys(dcid)
    body = peer.crypto(HELLO)
    empty = long_packet(peer, INITIAL, body, **options)  # type: ignore[arg-type]
    peer.spaces[INITIAL, 0].next_pn = 0
    return long_packet(peer, INITIAL, body + bytes(size - len(empty)), **options)  # type: ignore[arg-type]


def received(peer: RawPeer) -> int:
    return peer.counter("packets_received")


def versions(packet: bytes) -> list[int]:
    """What a Version Negotiation packet lists."""
    at = 6 + packet[5]
    at += 1 + packet[at]
    return [int.from_bytes(packet[i : i + 4], "big") for i in range(at, len(packet), 4)]


def version_negotiation(peer: RawPeer, *listed: bytes) -> bytes:
    """The server's answer to the engine's first packet."""
    scid, dcid = peer.packets[0].scid, peer.packets[0].dcid
    return b"\x80" + bytes(4) + bytes([len(scid)]) + scid + bytes([len(dcid)]) + dcid + b"".join(listed)


def closed_for_version(peer: RawPeer) -> bool:
    return [e.token for e in peer.events(lib.EVENT_CLOSED)] == [lib.CLOSE_VERSION]


# ---- versions


@pytest.mark.parametrize(("size", "answers"), [(1200, 1), (1199, 0)])
def test_version_negotiation_answers_large_datagrams_only(size: int, answers: int) -> None:
    """RFC 9000 §6.1: an answer is never larger than what caused it, and small packets of unknown versions have none."""
    with RawPeer("server") as peer:
        out = unread(peer)
        peer.deliver(strange(1200))
        out.clear()
        peer.deliver(strange(size))
        assert len(out) == answers


@pytest.mark.parametrize(("dcid", "scid"), [(FIRST, b"source"), (b"d" * 30, b"s" * 255), (FIRST, b"")])
def test_version_negotiation_echoes_the_cids_and_lists_a_reserved_version(dcid: bytes, scid: bytes) -> None:
    """RFC 9000 §17.2.1, §6.3: whatever their lengths; the reserved one is another each time."""
    with RawPeer("server") as peer:
        out = unread(peer)
        for _ in range(3):
            peer.deliver(strange(1300, dcid, scid))
        for packet, _ in out:
            assert packet[0] & 0x80 and packet[1:5] == bytes(4)
            assert packet[5:].startswith(bytes([len(scid)]) + scid + bytes([len(dcid)]) + dcid)
        listed = [versions(packet) for packet, _ in out]
        assert all(v[0] == 1 and [x & 0x0F0F0F0F for x in v[1:]] == [0x0A0A0A0A] for v in listed)
        assert len({v[1] for v in listed}) == 3


def test_version_negotiation_is_over_when_another_packet_came() -> None:
    """RFC 9000 §6.2."""
    with RawPeer("client") as peer:
        peer.start_client()
        peer.deliver(peer.seal_long(INITIAL, f.ack(0)))
        peer.deliver(version_negotiation(peer, UNKNOWN_VERSION))
        assert not peer.events(lib.EVENT_CLOSED)
    with RawPeer("client") as peer:
        peer.start_client()
        peer.deliver(version_negotiation(peer, UNKNOWN_VERSION))
        assert closed_for_version(peer)


def test_version_negotiation_that_lists_the_version_in_use_is_ignored() -> None:
    """RFC 9000 §6.2."""
    with RawPeer("client") as peer:
        peer.start_client()
        peer.deliver(version_negotiation(peer, UNKNOWN_VERSION, VERSION_1))
        assert not peer.events(lib.EVENT_CLOSED) and peer.counter("version_negotiation_ignored") == 1
        peer.deliver(version_negotiation(peer, UNKNOWN_VERSION, b"\x1a\x2a\x3a\x4a"))
        assert closed_for_version(peer)


# ---- headers


@both
def test_a_packet_without_the_fixed_bit_is_dropped(role: Role) -> None:
    """RFC 9000 §17.2, §17.3.1: authentic or not."""
    with RawPeer(role) as peer:
        peer.connect()
        before = received(peer), peer.counter("fixed_bit")
        peer.deliver(short_packet(peer, 0, MAX_DATA, first=0x00))
        assert (received(peer), peer.counter("fixed_bit")) == (before[0], before[1] + 1)
        peer.deliver(short_packet(peer, 0, MAX_DATA))
        assert received(peer) == before[0] + 1
    with RawPeer("server") as peer:
        peer.deliver(hello(peer, first=0x80))
        assert peer.node.connections() == [] and peer.counter("fixed_bit") == 1


@pytest.mark.parametrize("longer", ["dcid", "scid"])
def test_a_cid_has_at_most_twenty_octets(longer: str) -> None:
    """RFC 9000 §17.2."""
    with RawPeer("server") as peer:
        peer.deliver(hello(peer, **{longer: bytes(21)}))
        assert peer.node.connections() == [] and peer.counter("header_malformed") == 1
        peer.deliver(hello(peer, **{longer: bytes(20)}))
        assert len(peer.node.connections()) == 1


def test_the_first_destination_cid_has_eight_random_octets() -> None:
    """RFC 9000 §7.2: a server takes no shorter one; a client makes a new one each time."""
    with RawPeer("server") as peer:
        peer.deliver(hello(peer, dcid=b"7 octet"))
        assert peer.node.connections() == [] and peer.counter("initial_short_cid") == 1
    made = set()
    for seed in (1, 2, 3):
        with RawPeer("client", seed=seed) as peer:
            peer.start_client()
            made.add(peer.packets[0].dcid)
    assert len(made) == 3 and all(len(cid) >= 8 for cid in made)


def test_a_server_takes_no_small_initial() -> None:
    """RFC 9000 §14.1: neither as the first nor later."""
    with RawPeer("server") as peer:
        peer.deliver(hello(peer, 1199))
        assert peer.node.connections() == [] and peer.counter("initial_small") == 1
        peer.spaces[INITIAL, 0].next_pn = 0
        peer.deliver(hello(peer, 1200))
        assert len(peer.node.connections()) == 1
        before = received(peer)
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1100, b"\0")))
        assert received(peer) == before and peer.counter("initial_small") == 2


@both
def test_initials_go_in_full_datagrams(role: Role) -> None:
    """RFC 9000 §14.1: all of a client's, a server's if they elicit an acknowledgement."""
    with RawPeer(role) as peer:
        peer.connect()
        initials = [p for p in peer.packets if p.level == INITIAL]
        assert initials and all(p.size >= 1200 for p in initials if role == "client" or p.eliciting)


def test_a_client_takes_no_initial_with_a_token() -> None:
    """RFC 9000 §17.2.2."""
    with RawPeer("client") as peer:
        peer.start_client()
        peer.deliver(long_packet(peer, INITIAL, f.ack(0), token=b"token"))
        assert received(peer) == 0 and peer.counter("header_malformed") == 1
        peer.deliver(long_packet(peer, INITIAL, f.ack(0)))
        assert received(peer) == 1


@both
def test_another_source_cid_during_the_handshake_is_dropped(role: Role) -> None:
    """RFC 9000 §7.2."""
    with RawPeer(role) as peer:
        if role == "client":
            peer.start_client()
        else:
            peer.start_server()
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0")))
        before = received(peer)
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0"), scid=b"another1"))
        assert received(peer) == before
        peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0")))
        assert received(peer) == before + 1


def test_coalesced_packets_have_one_destination() -> None:
    """RFC 9000 §12.2: a packet to another CID than the first of its datagram is dropped."""
    with RawPeer("server") as peer:
        peer.start_server()
        initial = long_packet(peer, INITIAL, f.ack(0).ljust(1100, b"\0"), dcid=FIRST)
        finished = long_packet(peer, HANDSHAKE, f.ack(0) + peer.crypto(b"client finished"))
        peer.deliver(initial + finished)
        assert peer.counter("coalesced_foreign") == 1 and not peer.stats().handshake_confirmed
        peer.deliver(finished)
        assert peer.stats().handshake_confirmed
        early = long_packet(peer, HANDSHAKE, PING + bytes(3))
        before = received(peer)
        peer.deliver(early + peer.seal(0, MAX_DATA, cid=peer.engine_cids[0, 1]))
        assert received(peer) == before and peer.counter("coalesced_foreign") == 2
        peer.deliver(early + peer.seal(0, MAX_DATA, cid=peer.engine_cids[0, 0]))
        assert received(peer) == before + 1


@both
def test_a_packet_number_counts_once_and_only_if_authentic(role: Role) -> None:
    """RFC 9000 §12.3, RFC 9001 §9.5: what is not authentic is not even looked up."""
    with RawPeer(role) as peer:
        peer.connect()
        packet = short_packet(peer, 0, MAX_DATA)
        peer.deliver(packet)
        before = received(peer), peer.counter("packet_duplicate"), peer.counter("auth_failed")
        peer.deliver(packet)
        assert (received(peer), peer.counter("packet_duplicate")) == (before[0], before[1] + 1)
        peer.deliver(packet[:-1] + bytes([packet[-1] ^ 1]))
        assert (peer.counter("packet_duplicate"), peer.counter("auth_failed")) == (before[1] + 1, before[2] + 1)
        assert len([e for e in peer.events(lib.EVENT_FRAME) if e.data == MAX_DATA]) == 1
    with RawPeer(role) as peer:
        if role == "client":
            peer.start_client()
        else:
            peer.start_server()
        packet = long_packet(peer, INITIAL, PING.ljust(1200, b"\0"))
        peer.deliver(packet)
        count = received(peer)
        peer.deliver(packet)
        assert received(peer) == count and peer.counter("packet_duplicate") == 1


@both
def test_packet_numbers_are_read_from_their_last_bits(role: Role) -> None:
    """RFC 9000 §17.1, Appendix A.3: around the largest received, across the edges of the window."""
    with RawPeer(role) as peer:
        peer.connect()
        for pn, length in ((0x1FE, 4), (0x203, 1), (0x1FF, 1), (0x280, 1), (0xFF00, 4), (0x10002, 2), (0xFF01, 2)):
            before = received(peer)
            peer.deliver(short_packet(peer, 0, MAX_DATA, pn=pn, pn_length=length))
            assert received(peer) == before + 1, hex(pn)


@both
def test_reserved_bits_are_zero(role: Role) -> None:
    """RFC 9000 §17.2, §17.3.1: known to be wrong only after the AEAD said that the packet is the peer's."""
    for bits in (0x08, 0x10):
        with RawPeer(role) as peer:
            peer.connect()
            wrong = short_packet(peer, 0, MAX_DATA, first=0x40 | bits)
            peer.deliver(wrong[:-1] + bytes([wrong[-1] ^ 1]))
            assert peer.error is None
            peer.deliver(wrong)
            assert peer.error == PROTOCOL_VIOLATION
    for bits in (0x04, 0x08):
        with RawPeer(role) as peer:
            if role == "client":
                peer.start_client()
            else:
                peer.start_server()
            peer.deliver(long_packet(peer, INITIAL, PING.ljust(1200, b"\0"), first=0xC0 | bits))
            assert peer.error == PROTOCOL_VIOLATION


def test_a_client_hears_its_server_only() -> None:
    """RFC 9000 §9: packets from another address are dropped, at every level."""
    elsewhere = ("10.100.0.9", 4433)
    with RawPeer("client") as peer:
        peer.start_client()
        peer.deliver(long_packet(peer, INITIAL, f.ack(0)), remote=elsewhere)
        assert received(peer) == 0
        flight = peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello"))
        peer.deliver(flight + peer.seal_long(HANDSHAKE, peer.crypto(b"server finished")))
        peer.run(50 * MS)
        peer.send(0, f.frame(f.HANDSHAKE_DONE))
        assert peer.stats().handshake_confirmed
        before = received(peer)
        peer.send(0, MAX_DATA, remote=elsewhere)
        assert received(peer) == before
        peer.send(0, MAX_DATA, remote=SERVER_ADDRESS)
        assert received(peer) == before + 1


# ---- frames


@both
def test_a_packet_has_a_frame(role: Role) -> None:
    """RFC 9000 §12.4."""
    with RawPeer(role) as peer:
        peer.connect()
        peer.deliver(short_packet(peer, 0, b""))
        assert peer.error == PROTOCOL_VIOLATION


def at_level(role: Role, level: int, payload: bytes) -> int | None:
    """The error with which the engine closes for these frames at a level."""
    with RawPeer(role) as peer:
        if level == ONE_RTT:
            peer.connect()
            peer.send(0, payload)
            return peer.error
        if role == "client":
            peer.start_client()
            if level == HANDSHAKE:
                peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
        else:
            peer.start_server()
        peer.deliver(peer.seal_long(level, payload.ljust(1170, b"\0")))
        return peer.error


@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE, ONE_RTT])
@both
def test_an_unknown_frame_is_an_error(role: Role, level: int) -> None:
    """RFC 9000 §12.4: also those of extensions that were not agreed on."""
    for kind in (0x1F, 0x21, 0x2F, 0xAF, 0x3E74, 0x3E7D, 31 * 1000 + 33, (1 << 62) - 1):
        assert at_level(role, level, f.frame(kind)) == FRAME_ENCODING_ERROR, hex(kind)


@both
def test_a_frame_type_has_its_shortest_form(role: Role) -> None:
    """RFC 9000 §12.4; other integers may be longer than they need."""
    assert at_level(role, ONE_RTT, b"\x40\x01") == PROTOCOL_VIOLATION
    assert at_level(role, ONE_RTT, b"\x80\x00\x3e\x7a\x03") == PROTOCOL_VIOLATION
    assert at_level(role, ONE_RTT, b"\x10\x80\x00\x10\x00") is None


@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE])
@both
def test_a_frame_of_the_wrong_packet_is_a_violation(role: Role, level: int) -> None:
    """RFC 9000 §12.4, §12.5: every frame that belongs to 0-RTT and 1-RTT."""
    wrong = [
        *(f.frame(kind, 0, 0, 0) for kind in (0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17)),
        f.frame(f.NEW_TOKEN, 1) + b"t",
        f.frame(0x0A, 0, 1) + b"a",
        f.new_cid(None, 1, 0, b"12345678", bytes(16)),
        f.frame(f.RETIRE_CONNECTION_ID, 0),
        f.frame(f.PATH_CHALLENGE) + b"12345678",
        f.frame(f.PATH_RESPONSE) + b"12345678",
        f.frame(f.CLOSE_APPLICATION, 0, 0),
        f.frame(f.HANDSHAKE_DONE),
        f.frame(f.DATAGRAM_LENGTH, 1) + b"d",
    ]
    for payload in wrong:
        assert at_level(role, level, payload) == PROTOCOL_VIOLATION, payload[:2].hex()


@pytest.mark.parametrize("payload", [f.frame(f.HANDSHAKE_DONE), f.frame(f.NEW_TOKEN, 1) + b"t"], ids=["done", "token"])
def test_frames_of_servers_are_not_sent_by_clients(payload: bytes) -> None:
    """RFC 9000 §19.7, §19.20."""
    assert at_level("server", ONE_RTT, payload) == PROTOCOL_VIOLATION
    assert at_level("client", ONE_RTT, payload) is None


@pytest.mark.parametrize("level", [INITIAL, HANDSHAKE])
@both
def test_an_early_packet_that_was_never_sent_is_not_acknowledged(role: Role, level: int) -> None:
    """RFC 9000 §13.1."""
    assert at_level(role, level, f.ack(9)) == PROTOCOL_VIOLATION


@pytest.mark.parametrize("path", [0, 1])
@both
def test_optimistic_acknowledgements_are_found_out(role: Role, path: int) -> None:
    """RFC 9000 §21.4: packet numbers are left out, at random; whoever acknowledges one has not received it."""
    left_out = []
    for seed in (1, 2):
        with RawPeer(role, seed=seed) as peer:
            peer.connect()
            peer.open_path()
            for _ in range(400):
                peer.engine_sends(MAX_DATA, path=path)
                peer.now += MS
            assert peer.error is None
            got = peer.spaces[ONE_RTT, path].received
            missing = sorted(set(range(max(got))) - got)
            assert 1 <= len(missing) <= 8
            left_out.append(missing)
            peer.send(0, peer.ack(path, *range(missing[-1] - 1, max(got) + 1)))
            assert peer.error == PROTOCOL_VIOLATION
    assert left_out[0] != left_out[1]


@both
def test_an_idle_peer_and_a_busy_one_see_few_gaps(role: Role) -> None:
    """What is left out costs the peer an ACK range, so it becomes rare."""
    with RawPeer(role) as peer:
        peer.connect()
        for _ in range(3000):
            peer.engine_sends(MAX_DATA, path=0)
            peer.now += MS
        got = peer.spaces[ONE_RTT, 0].received
        assert len(set(range(max(got))) - got) <= 12
        peer.run(SECOND)
        assert peer.error is None


@both
def test_packets_of_a_datagram_are_processed_each_by_itself(role: Role) -> None:
    """RFC 9000 §12.2: one that does not open hides none of those behind it, and each is acknowledged in its space."""
    with RawPeer(role) as peer:
        if role == "client":
            peer.start_client()
            peer.deliver(peer.seal_long(INITIAL, f.ack(0) + peer.crypto(b"server hello")))
        else:
            peer.start_server()
        before, at = received(peer), peer.mark()
        broken = bytearray(peer.seal_long(INITIAL, PING.ljust(400, b"\0")))
        broken[-1] ^= 1
        pns = {level: peer.spaces[level, 0].next_pn for level in (INITIAL, HANDSHAKE)}
        peer.deliver(bytes(broken) + peer.seal_long(INITIAL, PING.ljust(700, b"\0")) + peer.seal_long(HANDSHAKE, PING))
        assert received(peer) == before + 2 and peer.counter("auth_failed") == 1
        acked = {p.level: x.acked for p, x in peer.found(f.ACK, since=at)}
        assert all(pns[level] in acked.get(level, ()) for level in pns if level == HANDSHAKE or role == "client")
