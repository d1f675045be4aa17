"""Hostile input: raw datagrams, authenticated but wrong frames, frames at the wrong place (quic.md §1.4, §6.2)."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from native import ffi, lib
from native.sim import ANY, BALANCED, MS, SECOND, Simulator, check, udp4

FRAME_ENCODING, PROTOCOL_VIOLATION, CID_LIMIT = 0x07, 0x0A, 0x09


def varint(value: int) -> bytes:
    for bits, prefix in ((6, 0), (14, 1), (30, 2), (62, 3)):
        if value < 1 << bits:
            return (value | prefix << bits).to_bytes((bits + 2) // 8, "big")
    raise ValueError(value)


def send(sim: Simulator, conn: int, frame: bytes, node: object = None) -> None:
    endpoint = (node or sim.client).endpoint  # type: ignore[attr-defined]
    check(lib.conn_frame_send(endpoint, conn, 2, ANY, frame, len(frame), 0, 1))


CID = bytes(range(8))
TOKEN = bytes(16)


def new_cid(path: int, seq: int, retire: int = 0, cid: bytes = CID, token: bytes = TOKEN) -> bytes:
    return varint(0x3E78) + varint(path) + varint(seq) + varint(retire) + bytes([len(cid)]) + cid + token


REFUSED = {
    "unknown type": (b"\x21", FRAME_ENCODING),
    "long form of a type": (b"\x40\x01", PROTOCOL_VIOLATION),
    "truncated STREAM": (b"\x0a\x00\x20ab", FRAME_ENCODING),
    "stream beyond 2^62": (b"\x0e\x00\xff\xff\xff\xff\xff\xff\xff\xff\x01a", FRAME_ENCODING),
    "too many streams": (b"\x12" + b"\xff" * 8, FRAME_ENCODING),
    "ACK of an unsent packet": (b"\x02" + varint(1 << 20) + b"\x00\x00\x00", PROTOCOL_VIOLATION),
    "ACK range below 0": (b"\x02\x01\x00\x00\x02", FRAME_ENCODING),
    "ACK gap below 0": (b"\x02\x03\x00\x01\x00\x05\x00", FRAME_ENCODING),
    "PATH_ACK of an unsent packet": (b"\x3e\x00" + varint(1 << 20) + b"\x00\x00\x00", PROTOCOL_VIOLATION),
    "PATH_ACK of an unused path": (b"\x3e\x02\x00\x00\x00\x00", PROTOCOL_VIOLATION),
    "PATH_ACK beyond our limit": (b"\x3e\x09\x00\x00\x00\x00", PROTOCOL_VIOLATION),
    "PATH_ABANDON beyond our limit": (varint(0x3E75) + b"\x09\x00", PROTOCOL_VIOLATION),
    "PATH_STATUS beyond our limit": (varint(0x3E76) + b"\x09\x00", PROTOCOL_VIOLATION),
    "MAX_PATH_ID below the parameter": (varint(0x3E7A) + b"\x01", PROTOCOL_VIOLATION),
    "MAX_PATH_ID above 2^32-1": (varint(0x3E7A) + varint(1 << 32), PROTOCOL_VIOLATION),
    "PATHS_BLOCKED beyond our limit": (varint(0x3E7B) + b"\x09", PROTOCOL_VIOLATION),
    "PATH_CIDS_BLOCKED with a future number": (varint(0x3E7C) + b"\x01\x20", PROTOCOL_VIOLATION),
    "CID of length 0": (varint(0x3E78) + b"\x01\x05\x00\x00" + TOKEN, FRAME_ENCODING),
    "CID of length 21": (varint(0x3E78) + b"\x01\x05\x00\x15" + bytes(21) + TOKEN, FRAME_ENCODING),
    "retire above the sequence": (new_cid(1, 2, 3), FRAME_ENCODING),
    "CID beyond our path limit": (new_cid(9, 0), PROTOCOL_VIOLATION),
    "the same CID for two paths": (new_cid(1, 7) + new_cid(2, 7), PROTOCOL_VIOLATION),
    "the same number, another CID": (new_cid(1, 7) + new_cid(1, 7, 0, bytes(range(1, 9))), PROTOCOL_VIOLATION),
    "the same CID, another token": (new_cid(1, 7) + new_cid(1, 7, 0, CID, b"x" * 16), PROTOCOL_VIOLATION),
    "too many CIDs": (b"".join(new_cid(1, 10 + i, 0, bytes([i]) * 8) for i in range(5)), CID_LIMIT),
    "retiring what was never issued": (varint(0x3E79) + b"\x01\x20", PROTOCOL_VIOLATION),
    "retiring the CID in use": (b"\x19\x00", PROTOCOL_VIOLATION),
    "HANDSHAKE_DONE from a client": (b"\x1e", PROTOCOL_VIOLATION),
    "NEW_TOKEN from a client": (b"\x07\x01t", PROTOCOL_VIOLATION),
    "truncated PATH_CHALLENGE": (b"\x1a1234", FRAME_ENCODING),
    "truncated varint": (b"\x10\xc0", FRAME_ENCODING),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_frames_close_with_the_right_error(name: str) -> None:
    frame, error = REFUSED[name]
    with Simulator(51) as s:
        conn, _peer = s.connect()
        s.run(SECOND)
        send(s, conn, frame)
        s.run(100 * MS)
        events = s.server.of_type(lib.EVENT_CLOSED)
        assert [(e.a, e.level, e.token) for e in events] == [(error, 0, lib.CLOSE_ERROR)]
        assert s.client.of_type(lib.EVENT_CLOSED)[0].a == error
        s.run(10 * SECOND)
        assert s.server.connections() == [] and s.client.connections() == []


ACCEPTED = {
    "MAX_PATH_ID again": varint(0x3E7A) + b"\x03",
    "ACK of path 0 by its old name": b"\x02\x00\x00\x00\x00",
    "CIDS_BLOCKED that is true": varint(0x3E7C) + b"\x01\x00",
    "PATHS_BLOCKED": varint(0x3E7B) + b"\x03",
    "status of an unused path": varint(0x3E76) + b"\x02\x05",
    "abandon of an unused path": varint(0x3E75) + b"\x03" + varint(0x123456),
    "unknown PATH_RESPONSE": b"\x1b12345678",
    "challenge": b"\x1a12345678",
    "DATAGRAM of nothing known": b"\x31\x02\x07x",
    "the same CID twice": new_cid(1, 7) + new_cid(1, 7),
    "CID retiring an older one": new_cid(1, 7, 1),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_right_frames_are_accepted(name: str) -> None:
    with Simulator(52) as s:
        conn, peer = s.connect()
        s.run(SECOND)
        send(s, conn, ACCEPTED[name])
        s.run(SECOND)
        assert s.server.stats(peer).closing == 0 and s.client.stats(conn).closing == 0


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("frame", [b"\x0a\x00\x01a", b"\x1e", b"\x30x", b"\x18\x01\x00\x08" + CID + TOKEN, b"\x1a12345678",
                                   b"\x1d\x00\x00", varint(0x3E75) + b"\x01\x00"])
def test_frames_of_1rtt_in_early_packets(level: int, frame: bytes) -> None:
    with Simulator(53) as s:
        conn = check(lib.conn_connect(s.client.endpoint, 0, s.server_address, s.now))
        original = s.client_handshake.crypto
        s.client_handshake.start(conn) if level else None

        def inject(event: object) -> None:
            if level == 1 and event.type == lib.EVENT_FRAME and event.level == 0:  # type: ignore[attr-defined]
                s.client_handshake.keys(conn, 1, 0)
                s.client_handshake.keys(conn, 1, 1)
                check(lib.conn_frame_send(s.client.endpoint, conn, 1, ANY, frame, len(frame), 0, 1))

        s.client.on_event = inject
        if level == 0:
            check(lib.conn_frame_send(s.client.endpoint, conn, 0, ANY, frame, len(frame), 0, 1))
        s.run(SECOND)
        assert original
        assert s.server.of_type(lib.EVENT_CLOSED)[0].a in (PROTOCOL_VIOLATION, FRAME_ENCODING)


def test_flood_of_path_challenges_is_bounded() -> None:
    with Simulator(54) as s:
        conn, peer = s.connect()
        send(s, conn, b"".join(b"\x1a" + i.to_bytes(8, "big") for i in range(100)))
        s.run(SECOND)
        assert s.server.stats(peer).closing == 0
        assert s.server.counters()["path_challenge_limit"] == 96


def test_flood_of_retirements_ends_by_name() -> None:
    """Every new CID retires the last one: the answers name numbers that the sender never issued."""
    with Simulator(55) as s:
        conn, _ = s.connect()
        s.run(SECOND)
        for i in range(400):
            send(s, conn, new_cid(1, 10 + i, 10 + i, i.to_bytes(8, "big")))
        s.run(10 * SECOND)
        assert [e.a for e in s.client.of_type(lib.EVENT_CLOSED)] == [PROTOCOL_VIOLATION]
        assert s.client.connections() == [] and s.server.connections() == []


@given(payload=st.binary(min_size=1, max_size=200), seed=st.integers(0, 1 << 30))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_authenticated_payload_is_survived(payload: bytes, seed: int) -> None:
    with Simulator(seed % 1000 + 1) as s:
        conn, peer = s.connect()
        send(s, conn, payload)
        send(s, peer, payload, s.server)
        s.run(2 * SECOND)
        s.run(20 * SECOND)
        for node in (s.client, s.server):
            ends = node.of_type(lib.EVENT_CLOSED)
            assert len(ends) <= 1 and (not ends or len(node.of_type(lib.EVENT_GONE)) == 1)


FRAMES = st.one_of(
    st.binary(min_size=1, max_size=30),
    st.builds(
        lambda kind, rest: varint(kind) + bytes(rest),
        st.sampled_from([0x02, 0x18, 0x19, 0x1A, 0x1B, 0x31, 0x3E, 0x3F, *range(0x3E75, 0x3E7D)]),
        st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 0x40]), max_size=30),
    ),
)


@given(frames=st.lists(FRAMES, min_size=1, max_size=8), seed=st.integers(1, 1000))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_frames_that_almost_make_sense_are_survived(frames: list[bytes], seed: int) -> None:
    with Simulator(seed) as s:
        conn, peer = s.connect()
        s.open_path(conn, 1)
        s.tunnel(conn, peer, [BALANCED])
        for frame in frames:
            if lib.conn_frame_send(s.client.endpoint, conn, 2, ANY, frame, len(frame), 0, 1) < 0:
                break
            s.inner(s.server, udp4(300, up=False))
            s.run(50 * MS)
        s.run(20 * SECOND)
        for node in (s.client, s.server):
            ends = node.of_type(lib.EVENT_CLOSED)
            assert len(ends) <= 1 and (not ends or len(node.of_type(lib.EVENT_GONE)) == 1)


@given(data=st.binary(max_size=1500), first=st.sampled_from([None, 0x40, 0xC0, 0xE0, 0xF0, 0xD0]), cid=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_datagram_is_survived_and_counted(data: bytes, first: int | None, cid: bool) -> None:
    with Simulator(61) as s:
        _conn, peer = s.connect()
        info = ffi.new("struct conn_info *")
        check(lib.conn_info(s.server.endpoint, peer, info))
        ours = bytes(info.local_cid[0:8])
        if first is not None:
            long = b"" if first == 0x40 else b"\0\0\0\1\x08"
            data = bytes([first]) + long + (ours if cid else CID) + data
        before = sum(s.server.drops().values())
        s.deliver(s.server, 0, s.client_address[0], data)
        s.run(SECOND)
        assert s.server.stats(peer).closing == 0
        if len(data) > 0:
            assert sum(s.server.drops().values()) > before


def test_flipped_bits_never_get_through() -> None:
    rng = random.Random(1)
    with Simulator(62) as s:
        conn, peer = s.connect()
        s.open_path(conn, 1)
        s.tunnel(conn, peer, [BALANCED])

        def tap(direction: int, link: int, data: bytes) -> bytes:
            if rng.random() < 0.3:
                at = rng.randrange(len(data))
                return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            return data

        sent = [udp4(300, flow=i % 5, serial=i) for i in range(2000)]
        todo = iter(sent)
        s.every(MS, s.now + 2 * SECOND, lambda: s.inner(s.client, next(todo)))
        s.tap = tap
        s.run(2 * SECOND)
        assert {p for _, _, p in s.server.inner} <= set(sent)
        assert len(s.server.inner) > 100
        assert s.server.counters()["auth_failed"] > 100


def test_full_event_queue_ends_the_flooder_only() -> None:
    with Simulator(63) as s:
        quiet, quiet_peer = s.connect()
        loud, loud_peer = s.connect()
        s.server.pump = lambda now: None  # type: ignore[method-assign]  # Python stalls
        chunk = b"\x0e\x00" + varint(0) + varint(900) + bytes(900)

        def flood() -> None:
            for _ in range(20):
                lib.conn_frame_send(s.client.endpoint, loud, 2, ANY, chunk, len(chunk), 0, 1)

        s.every(5 * MS, s.now + 3 * SECOND, flood)
        s.run(4 * SECOND)
        del s.server.pump
        s.run(SECOND)
        assert s.server.counters()["event_overflow"] >= 1
        assert [e.conn for e in s.server.of_type(lib.EVENT_CLOSED)] == [loud_peer]
        assert s.server.of_type(lib.EVENT_OVERFLOW)
        assert s.server.stats(quiet_peer).closing == 0 and s.client.stats(quiet).closing == 0
