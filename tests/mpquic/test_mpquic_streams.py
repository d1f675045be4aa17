"""Streams and flow control: loss, reordering, limits, pieces, garbage."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpquic.errors import StreamsExhausted, TransportError
from mpquic.reader import varint
from mpquic.stream_events import StreamData, StreamReset
from mpquic.stream_limits import StreamLimits
from mpquic.streams import Streams

LIMITS = StreamLimits(data=20000, bidi_local=8000, bidi_remote=8000, uni=8000, streams_bidi=4, streams_uni=4)


def stream_frame(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    return varint(0x0E | fin) + varint(stream_id) + varint(offset) + varint(len(data)) + data


def exchange(a: Streams, b: Streams, rng: random.Random, loss: float, rounds: int = 4000) -> tuple[dict, dict]:
    """Frames both ways, lost, doubled and out of order, until both sides are idle; the octets got by a and by b."""
    got: tuple[dict[int, bytearray], dict[int, bytearray]] = ({}, {})
    for _ in range(rounds):
        for sender, receiver, sink in ((a, b, got[1]), (b, a, got[0])):
            frames = sender.pending()
            rng.shuffle(frames)
            for frame, token in frames:
                if rng.random() < loss:
                    sender.lost(token)
                    continue
                for _ in range(1 + (rng.random() < 0.1)):
                    for event in receiver.receive_frame(frame):
                        if isinstance(event, StreamData):
                            sink.setdefault(event.stream_id, bytearray()).extend(event.data)
                # an acknowledgment may be lost too: the frame counts as lost though it came
                (sender.lost if rng.random() < loss else sender.acked)(token)
        if a.idle and b.idle:
            return got
    raise AssertionError("the exchange does not end")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 60000), st.integers(0, 30000))
def test_octets_arrive_whole_over_loss_and_reordering(seed: int, up: int, down: int) -> None:
    rng = random.Random(seed)
    client, server = Streams(True, LIMITS, LIMITS), Streams(False, LIMITS, LIMITS)
    there, back = rng.randbytes(up), rng.randbytes(down)
    stream, uni = client.open_bidi(), server.open_uni()
    client.send(stream, there, True)
    server.send(uni, back, True)
    got_client, got_server = exchange(client, server, rng, 0.3)
    assert bytes(got_server.get(stream, b"")) == there
    assert bytes(got_client.get(uni, b"")) == back


def test_stream_credit_comes_back_when_streams_end() -> None:
    client, server = Streams(True, LIMITS, LIMITS), Streams(False, LIMITS, LIMITS)
    rng = random.Random(1)
    for number in range(20):  # five times the limit
        stream = client.open_uni()
        client.send(stream, b"x" * 3000, True)
        assert exchange(client, server, rng, 0.2)[1][stream] == b"x" * 3000, number


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([stream_frame(0, 7999, b"ab")], 3),
        ([stream_frame(0, 0, b"a" * 8000), stream_frame(4, 7999, b"a"), stream_frame(8, 4000, b"a")], 3),
        ([stream_frame(16, 0, b"a")], 4),
        ([stream_frame(1, 0, b"a")], 5),
        ([stream_frame(3, 0, b"a")], 5),
        ([varint(0x11) + varint(2) + varint(9)], 5),
        ([varint(0x05) + varint(2) + varint(9)], 5),
        ([stream_frame(0, 0, b"abc", True), stream_frame(0, 3, b"d")], 6),
        ([stream_frame(0, 5, b"abc"), stream_frame(0, 0, b"abc", True)], 6),
        ([stream_frame(0, 0, b"abc"), varint(4) + varint(0) + varint(1) + varint(2)], 6),
        ([stream_frame(0, 9, b"a", True), varint(4) + varint(0) + varint(1) + varint(11)], 6),
        ([varint(0x12) + varint((1 << 60) + 1)], 7),
        ([b"\x0e\x00\x00\x05ab"], 7),
        ([b"\x07\x01a"], 10),
        ([b"\x06\x00\x00"], 7),
    ],
)
def test_broken_rules_have_their_code(frames: list[bytes], code: int) -> None:
    server = Streams(False, LIMITS, LIMITS)
    for frame in frames[:-1]:
        server.receive_frame(frame)
    with pytest.raises(TransportError) as caught:
        server.receive_frame(frames[-1])
    assert caught.value.code == code


def test_single_octets_backwards_with_gaps_cost_the_window_at_most() -> None:
    """R-29: 4000 pieces of an octet each; as objects they were some 80 octets each."""
    server = Streams(False, LIMITS, LIMITS)
    tracemalloc.start()
    try:
        for offset in range(7999, 0, -2):
            assert server.receive_frame(stream_frame(0, offset, b"b")) == []
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert server.buffered <= 8000 and kept < 3 * 8000 and most < 6 * 8000
    out = b""
    for offset in range(0, 8000, 2):
        for event in server.receive_frame(stream_frame(0, offset, b"a")):
            assert isinstance(event, StreamData)
            out += event.data
    assert out == b"ab" * 4000
    assert server.buffered == 0


def test_reset_is_told_once_and_repeated_until_acknowledged() -> None:
    client, server = Streams(True, LIMITS, LIMITS), Streams(False, LIMITS, LIMITS)
    stream = client.open_bidi()
    client.send(stream, b"a" * 5000)
    for _, token in client.pending():
        client.lost(token)
    client.reset(stream, 0x10C)
    [(frame, token)] = client.pending()
    client.lost(token)
    [(frame, token)] = client.pending()
    assert server.receive_frame(frame) == [StreamReset(stream, 0x10C)]
    assert server.receive_frame(frame) == []
    client.acked(token)
    assert client.pending() == []


def test_a_stopped_stream_keeps_nothing_and_gets_no_credit() -> None:
    """RFC 9000 §3.5: the peer is expected to reset; the connection's credit comes back, the stream's does not."""
    server = Streams(False, LIMITS, LIMITS)
    server.receive_frame(stream_frame(0, 100, b"b" * 3000))
    assert server.buffered
    server.stop_sending(0, 0x10C)
    assert server.buffered == 0
    for _, token in server.pending():
        server.acked(token)
    assert server.receive_frame(stream_frame(0, 3100, b"b" * 4800)) == []
    kinds = [frame[0] for frame, _ in server.pending()]
    assert 0x11 not in kinds
    with pytest.raises(TransportError) as caught:
        server.receive_frame(stream_frame(0, 7900, b"b" * 200))
    assert caught.value.code == 3


def test_a_stopped_and_reset_stream_gives_all_its_credit_back() -> None:
    server = Streams(False, LIMITS, LIMITS)
    for number in range(100):  # 100 times the connection's window would not fit
        stream = number * 4
        server.receive_frame(stream_frame(stream, 500, b"b" * 3000))
        server.stop_sending(stream, 1)
        server.reset(stream, 1)
        assert server.receive_frame(b"\x04" + varint(stream) + varint(1) + varint(7000)) == []
        while frames := server.pending():
            for _, token in frames:
                server.acked(token)
    assert not server._streams and server.idle


def sent_octets(streams: Streams) -> int:
    """Of STREAM frames with offset and length that are to go out now."""
    total = 0
    for frame, _ in streams.pending():
        if 0x08 <= frame[0] <= 0x0F:
            head = 1 + len(varint(0))
            for _ in range(frame[0] >> 2 & 1):
                head += 1 << (frame[head] >> 6)
            head += 1 << (frame[head] >> 6) if frame[0] & 2 else 0
            total += len(frame) - head
    return total


def test_no_octets_beyond_the_peers_limits_and_none_of_them_falls() -> None:
    """RFC 9000 §4.1: of the stream, then of the connection; a limit that raises nothing is ignored."""
    streams = Streams(True, LIMITS, LIMITS)
    ids = [streams.open_uni() for _ in range(3)]
    streams.receive_frame(b"\x10" + varint(10_000))
    streams.receive_frame(b"\x11" + varint(ids[0]) + varint(7_000))
    for stream in ids:
        streams.send(stream, bytes(50_000), False)
    assert sent_octets(streams) == 20_000  # the connection's, of 3 x 8,000
    streams.receive_frame(b"\x10" + varint(100_000))
    assert sent_octets(streams) == 4_000  # each stream's 8,000
    streams.receive_frame(b"\x11" + varint(ids[0]) + varint(9_000))
    assert sent_octets(streams) == 1_000


def test_no_stream_beyond_the_peers_limit() -> None:
    streams = Streams(True, LIMITS, LIMITS)
    for _ in range(4):
        streams.open_uni()
    with pytest.raises(StreamsExhausted):
        streams.open_uni()
    assert [frame for frame, _ in streams.pending()] == [b"\x17\x04"]  # STREAMS_BLOCKED
    streams.receive_frame(b"\x13\x05")
    assert streams.open_uni() == 18


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(st.tuples(st.integers(4, 0x18), st.binary(max_size=24)), max_size=20))
def test_garbage_raises_only_transport_errors(is_client: bool, frames: list[tuple[int, bytes]]) -> None:
    streams = Streams(is_client, LIMITS, LIMITS)
    streams.open_bidi()
    try:
        for kind, body in frames:
            streams.receive_frame(bytes([kind]) + body)
            assert all(len(frame) <= 1024 for frame, _ in streams.pending())
    except TransportError as error:
        assert error.code in (3, 4, 5, 6, 7, 10)
