"""HTTP/3: a tunnel's request over lossy streams, the codes of broken rules, garbage."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpquic.errors import ConnectRefused, H3Error
from mpquic.h3 import H3
from mpquic.h3_events import (
    DataReceived,
    GoawayReceived,
    H3Event,
    RequestReceived,
    ResponseReceived,
    SettingsReceived,
    StreamEnded,
    StreamFailed,
)
from mpquic.reader import varint
from mpquic.stream_events import StreamData
from mpquic.stream_limits import StreamLimits
from mpquic.streams import Streams

LIMITS = StreamLimits(1 << 20, 1 << 16, 1 << 16, 1 << 16, 8, 8)
REQUEST = [
    (b":method", b"CONNECT"),
    (b":protocol", b"connect-ip"),
    (b":scheme", b"https"),
    (b":authority", b"proxy.example"),
    (b":path", b"/.well-known/masque/ip/*/*/"),
    (b"capsule-protocol", b"?1"),
]
SETTINGS = bytes.fromhex("00 04 06 08 01 33 01 07 00")


class Side:
    def __init__(self, role: str) -> None:
        self.streams = Streams(role == "client", LIMITS, LIMITS)
        self.h3 = H3(role, self.streams.send, self.streams.open_uni, self.streams.open_bidi)  # type: ignore[arg-type]
        self.events: list[H3Event] = []


def settle(a: Side, b: Side, rng: random.Random) -> None:
    for _ in range(3000):
        for one, other in ((a, b), (b, a)):
            frames = one.streams.pending()
            rng.shuffle(frames)
            for frame, token in frames:
                if rng.random() < 0.25:
                    one.streams.lost(token)
                    continue
                for event in other.streams.receive_frame(frame):
                    if isinstance(event, StreamData):
                        other.events += other.h3.receive(event.stream_id, event.data, event.fin)
                one.streams.acked(token)
        if a.streams.idle and b.streams.idle:
            return
    raise AssertionError("the exchange does not end")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_tunnel_from_settings_to_goaway(seed: int) -> None:
    rng = random.Random(seed)
    client, server = Side("client"), Side("server")
    client.h3.start()
    server.h3.start()
    with pytest.raises(ConnectRefused):
        client.h3.request_connect(REQUEST)
    settle(client, server, rng)
    assert [type(event) for event in client.events + server.events] == [SettingsReceived, SettingsReceived]
    stream = client.h3.request_connect(REQUEST)
    settle(client, server, rng)
    assert server.events[1:] == [RequestReceived(stream, REQUEST)]
    server.h3.respond(stream, 200, [(b"capsule-protocol", b"?1")])
    body = rng.randbytes(20000)
    server.h3.send_data(stream, body)
    client.h3.send_data(stream, b"up", True)
    server.h3.goaway()
    settle(client, server, rng)
    assert server.events[2:] == [DataReceived(stream, b"up"), StreamEnded(stream)]
    assert ResponseReceived(stream, 200, [(b":status", b"200"), (b"capsule-protocol", b"?1")]) in client.events
    assert b"".join(event.data for event in client.events if isinstance(event, DataReceived)) == body
    assert GoawayReceived(stream + 4) in client.events
    assert client.h3.datagram(varint(stream // 4) + b"\x00E") == (stream, b"\x00E")
    assert server.h3.datagram(varint(stream // 4) + b"\x00E") is None


def test_a_refusal_ends_the_request() -> None:
    client, server = Side("client"), Side("server")
    client.h3.start()
    server.h3.start()
    settle(client, server, random.Random(3))
    stream = client.h3.request_connect(REQUEST)
    settle(client, server, random.Random(4))
    server.h3.respond(stream, 403, fin=True)
    settle(client, server, random.Random(5))
    assert client.events[1:] == [ResponseReceived(stream, 403, [(b":status", b"403")]), StreamEnded(stream)]


def server() -> H3:
    return H3("server", lambda stream_id, data, fin: None, lambda: 3, lambda: 1)


def client() -> H3:
    return H3("client", lambda stream_id, data, fin: None, lambda: 2, lambda: 0)


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([(2, b"\x00\x07\x01\x00", False)], 0x10A),
        ([(2, SETTINGS + SETTINGS[1:], False)], 0x105),
        ([(2, SETTINGS, True)], 0x104),
        ([(2, SETTINGS, False), (6, b"\x00", False)], 0x103),
        ([(2, b"\x01", False)], 0x103),
        ([(2, SETTINGS + b"\x00\x01a", False)], 0x105),
        ([(2, SETTINGS + b"\x06\x00", False)], 0x105),
        ([(2, b"\x00\x04\x02\x08\x02", False)], 0x109),
        ([(2, b"\x00\x04\x02\x33\x02", False)], 0x109),
        ([(2, b"\x00\x04\x02\x02\x00", False)], 0x109),
        ([(2, b"\x00\x04\x04\x08\x01\x08\x01", False)], 0x109),
        ([(2, b"\x00\x04\x01\x08", False)], 0x106),
        ([(2, b"\x00\x04\x80\x10\x00\x00", False)], 0x107),
        ([(0, b"\x00\x01a", False)], 0x105),
        ([(0, b"\x04\x00", False)], 0x105),
        ([(0, b"\x01\x80\x10\x00\x00", False)], 0x107),
        ([(0, b"\x01\x05\x00", True)], 0x106),
        ([(0, b"\x01\x03\x05\x00\x80", False)], 0x200),
        ([(2, b"\x02\x3f\x45", False)], 0x201),
        ([(2, b"\x03\x01", False)], 0x202),
        ([(1, b"", False)], 0x103),
    ],
)
def test_broken_rules_of_the_connection_have_their_code(pieces: list[tuple[int, bytes, bool]], code: int) -> None:
    h3 = server()
    for piece in pieces[:-1]:
        h3.receive(*piece)
    with pytest.raises(H3Error) as caught:
        h3.receive(*pieces[-1])
    assert caught.value.code == code


@pytest.mark.parametrize(
    "headers",
    [
        REQUEST[:2],
        [*REQUEST, REQUEST[0]],
        [REQUEST[-1], *REQUEST[:-1]],
        [*REQUEST, (b"Upper", b"a")],
        [*REQUEST, (b"connection", b"close")],
        [*REQUEST, (b"a", b"b\nc")],
        [(b":method", b"GET"), *REQUEST[1:]],
        [*REQUEST, (b":status", b"200")],
    ],
)
def test_a_malformed_request_fails_alone(headers: list[tuple[bytes, bytes]]) -> None:
    sent: list[bytes] = []
    peer = H3("client", lambda stream_id, data, fin: sent.append(data), lambda: 2, lambda: 0)
    peer.receive(3, SETTINGS)
    peer.request_connect(headers)
    [event] = server().receive(0, sent[-1])
    assert isinstance(event, StreamFailed)
    assert event.error.code == 0x10E


def test_a_request_after_goaway_is_rejected() -> None:
    h3 = server()
    h3.start()
    h3.goaway()
    [event] = h3.receive(0, b"\x01\x00")
    assert isinstance(event, StreamFailed)
    assert event.error.code == 0x10B


@pytest.mark.parametrize("payload", [b"", b"\xc0", varint(1 << 60)])
def test_a_broken_quarter_stream_id_closes(payload: bytes) -> None:
    with pytest.raises(H3Error) as caught:
        client().datagram(payload)
    assert caught.value.code == 0x33


PIECES = st.tuples(st.sampled_from((0, 2, 3, 4, 6, 7)), st.one_of(st.binary(max_size=40), st.just(SETTINGS)), st.booleans())


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.lists(PIECES, max_size=8))
def test_garbage_raises_only_h3_errors(is_client: bool, pieces: list[tuple[int, bytes, bool]]) -> None:
    h3 = client() if is_client else server()
    try:
        for piece in pieces:
            h3.receive(*piece)
    except H3Error as error:
        assert 0x100 <= error.code <= 0x202
