"""HTTP/3: a tunnel's request over lossy streams, the codes of broken rules, garbage."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpquic.errors import ConnectRefused, H3Error, StreamsExhausted
from mpquic.grease import Grease
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
from mpquic.qpack import Qpack
from mpquic.reader import Reader, varint
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


def ready() -> H3:
    """A server that has the client's SETTINGS."""
    h3 = server()
    h3.receive(2, SETTINGS)
    return h3


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
    h3 = server() if pieces[-1][0] == 2 or len(pieces) > 1 else ready()
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
    [event] = ready().receive(0, sent[-1])
    assert isinstance(event, StreamFailed)
    assert event.error.code == 0x10E


@pytest.mark.parametrize(
    ("settings", "why"),
    [(b"\x00\x04\x02\x08\x01", "HTTP datagrams"), (b"\x00\x04\x02\x33\x01", "extended CONNECT"), (b"", "did not come")],
)
def test_a_request_waits_for_what_the_server_offers(settings: bytes, why: str) -> None:
    """RFC 9220 §3, RFC 9297 §2.1.1: an extended CONNECT for datagrams needs both settings."""
    h3 = client()
    if settings:
        h3.receive(3, settings)
    with pytest.raises(ConnectRefused, match=why):
        h3.request_connect(REQUEST)


def test_a_datagram_of_a_request_that_is_over_or_not_there_is_dropped() -> None:
    """RFC 9297 §2.1: silently; the peer may not know yet."""
    sent: list[bytes] = []
    peer = H3("client", lambda stream_id, data, fin: sent.append(data), lambda: 2, lambda: 0)
    peer.receive(3, SETTINGS)
    peer.request_connect(REQUEST)
    h3 = ready()
    assert h3.datagram(b"\x00\x00E") is None
    h3.receive(0, sent[-1])
    assert h3.datagram(b"\x00\x00E") == (0, b"\x00E")
    h3.receive(0, b"", True)
    assert h3.datagram(b"\x00\x00E") is None


def test_a_request_after_goaway_is_rejected() -> None:
    h3 = ready()
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


# ---- messages: what is legal beside a tunnel, and what is not


def encoded(headers: list[tuple[bytes, bytes]]) -> bytes:
    """A HEADERS frame; the static table and literals only."""
    block = Qpack().encode(0, headers)
    return b"\x01" + varint(len(block)) + block


GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"proxy"), (b":path", b"/")]
TRAILERS = [(b"x-sum", b"1")]
DATA = b"\x00\x01a"


def test_an_ordinary_request_may_have_trailers() -> None:
    h3 = ready()
    events = h3.receive(0, encoded(GET) + DATA + encoded(TRAILERS), True)
    assert events == [RequestReceived(0, GET), DataReceived(0, b"a"), StreamEnded(0)]


def test_a_refusal_may_have_a_body_and_trailers() -> None:
    h3 = client()
    h3.receive(3, SETTINGS)
    stream = h3.request_connect(REQUEST)
    refusal = [(b":status", b"403")]
    events = h3.receive(stream, encoded(refusal) + DATA + encoded(TRAILERS), True)
    assert events == [ResponseReceived(stream, 403, refusal), DataReceived(stream, b"a"), StreamEnded(stream)]


@pytest.mark.parametrize("more", [DATA, encoded(TRAILERS)], ids=["DATA", "HEADERS"])
def test_nothing_comes_after_trailers(more: bytes) -> None:
    with pytest.raises(H3Error) as caught:
        ready().receive(0, encoded(GET) + encoded(TRAILERS) + more)
    assert caught.value.code == 0x105


def test_a_tunnel_has_no_trailers() -> None:
    """RFC 9114 §4.4."""
    with pytest.raises(H3Error) as caught:
        ready().receive(0, encoded(REQUEST) + encoded(TRAILERS))
    assert caught.value.code == 0x105


@pytest.mark.parametrize("trailers", [[(b":path", b"/")], [(b"Upper", b"a")], [(b"connection", b"close")]])
def test_trailers_have_no_pseudo_headers(trailers: list[tuple[bytes, bytes]]) -> None:
    [_, event] = ready().receive(0, encoded(GET) + encoded(trailers))
    assert isinstance(event, StreamFailed) and event.error.code == 0x10E


@pytest.mark.parametrize(
    "headers",
    [
        [*REQUEST, (b"content-length", b"0")],
        [*REQUEST, (b"content-type", b"text/plain")],
        [*REQUEST[:3], (b":authority", b"a@proxy"), *REQUEST[4:]],
        [*REQUEST, (b"host", b"other.example")],
        [GET[0], GET[1], GET[3]],
        [*GET, (b"host", b"other")],
        [GET[0], GET[1], GET[3], (b"host", b"")],
    ],
)
def test_a_request_of_two_minds_is_malformed(headers: list[tuple[bytes, bytes]]) -> None:
    """RFC 9297 §3.2: no content fields with the Capsule Protocol; RFC 9114 §4.3.1: one authority, without userinfo."""
    [event] = ready().receive(0, encoded(headers))
    assert isinstance(event, StreamFailed) and event.error.code == 0x10E


def test_host_may_stand_for_the_authority() -> None:
    headers = [GET[0], GET[1], GET[3], (b"host", b"proxy")]
    assert ready().receive(0, encoded(headers)) == [RequestReceived(0, headers)]


@pytest.mark.parametrize(
    "response",
    [
        [(b":status", b"204")],
        [(b":status", b"205")],
        [(b":status", b"206")],
        [(b":status", b"200"), (b"content-length", b"10")],
        [(b":status", b"200"), (b"content-type", b"a/b")],
    ],
)
def test_a_response_that_no_capsules_can_follow_is_malformed(response: list[tuple[bytes, bytes]]) -> None:
    """RFC 9297 §3.2."""
    h3 = client()
    h3.receive(3, SETTINGS)
    stream = h3.request_connect(REQUEST)
    [event] = h3.receive(stream, encoded(response))
    assert isinstance(event, StreamFailed) and event.error.code == 0x10E


# ---- connection


def test_goaway_ends_the_wait_for_an_answer_that_will_not_come() -> None:
    """RFC 9114 §5.2: requests from the identifier on were not processed."""
    h3 = H3("client", lambda stream_id, data, fin: None, lambda: 2, iter((0, 4, 8)).__next__)
    h3.receive(3, SETTINGS)
    for _ in range(3):
        h3.request_connect(REQUEST)
    h3.receive(0, encoded([(b":status", b"200")]))
    [first, *failed] = h3.receive(3, b"\x07\x01\x04")
    assert first == GoawayReceived(4)
    assert [(e.stream_id, e.error.code) for e in failed if isinstance(e, StreamFailed)] == [(4, 0x10B), (8, 0x10B)]


@pytest.mark.parametrize("identifiers", [(4, 8), (1,), (2,), (3,)])
def test_goaway_never_rises_and_names_requests(identifiers: tuple[int, ...]) -> None:
    h3 = client()
    h3.receive(3, SETTINGS)
    with pytest.raises(H3Error) as caught:
        for identifier in identifiers:
            h3.receive(3, b"\x07\x01" + bytes([identifier]))
    assert caught.value.code == 0x108


def test_grease_of_the_peer_is_read_over() -> None:
    """RFC 9114 §7.2.4.1, §7.2.8, §6.2.3: settings, frames and streams of reserved and unknown types."""
    h3 = server()
    reserved = varint(31 * 1000 + 33)
    settings = varint(8) + b"\x01" + reserved + varint(1 << 61) + varint(0x33) + b"\x01"
    [event] = h3.receive(2, b"\x00\x04" + varint(len(settings)) + settings)
    assert isinstance(event, SettingsReceived) and event.settings.datagram
    assert h3.receive(2, reserved + varint(100000) + bytes(60000)) == []
    assert h3.receive(2, bytes(40000) + b"\x21\x00" + b"\x0d\x01\x05") == []
    assert h3.receive(6, reserved + b"whatever", True) == []
    assert h3.receive(0, b"\x21\x03abc" + encoded(REQUEST) + reserved + b"\x01x" + DATA) == [
        RequestReceived(0, REQUEST),
        DataReceived(0, b"a"),
    ]


def test_we_grease_what_the_peer_must_ignore() -> None:
    sent: list[bytes] = []
    h3 = H3("client", lambda stream_id, data, fin: sent.append(data), lambda: 2, lambda: 0, grease=Grease(scripted_random))
    h3.start()
    plain: list[bytes] = []
    H3("client", lambda stream_id, data, fin: plain.append(data), lambda: 2, lambda: 0).start()
    assert len(b"".join(sent)) > len(b"".join(plain))
    peer = server()
    [event] = peer.receive(2, b"".join(sent))
    assert isinstance(event, SettingsReceived) and event.settings.datagram
    settings = sent[0]
    identifiers = grease_identifiers(settings[3:])
    assert any((identifier - 33) % 31 == 0 and identifier > 33 for identifier in identifiers)


def scripted_random(count: int) -> bytes:
    return bytes(range(1, count + 1))


def grease_identifiers(payload: bytes) -> list[int]:
    reader = Reader(payload)
    out = []
    while reader.left >= 2 and len(out) < 6:
        out.append(reader.varint())
        reader.varint()
    return out


def test_a_datagram_of_a_stream_that_cannot_be_closes() -> None:
    """RFC 9297 §2.1: beyond the limit of request streams."""
    h3 = H3("server", lambda stream_id, data, fin: None, lambda: 3, lambda: 1, requests_allowed=lambda: 8)
    assert h3.datagram(varint(7) + b"\x00E") is None  # it may be opened yet
    with pytest.raises(H3Error) as caught:
        h3.datagram(varint(8) + b"\x00E")
    assert caught.value.code == 0x108


def test_a_peer_that_allows_no_control_stream_is_told_so() -> None:
    """RFC 9114 §6.2: three unidirectional streams at least."""

    def none() -> int:
        raise StreamsExhausted("the peer allows 0 streams of this kind")

    with pytest.raises(H3Error) as caught:
        H3("client", lambda stream_id, data, fin: None, none, none).start()
    assert caught.value.code == 0x101
    h3 = H3("client", lambda stream_id, data, fin: None, lambda: 2, none)
    h3.receive(3, SETTINGS)
    with pytest.raises(ConnectRefused):
        h3.request_connect(REQUEST)


def test_a_tunnel_whose_sending_part_is_stopped_is_over() -> None:
    h3 = ready()
    h3.receive(0, encoded(REQUEST))
    assert h3.stopped(0, 7) == []  # not answered yet
    h3 = ready()
    h3.receive(0, encoded(REQUEST))
    h3.respond(0, 200)
    assert h3.stopped(0, 7) == [StreamEnded(0, 7)]


def test_requests_that_failed_leave_nothing_behind() -> None:
    """A client that sends malformed requests for ever: the entry of each stayed with the connection."""
    rng = random.Random(1)
    client, server = Side("client"), Side("server")
    client.h3.start()
    server.h3.start()
    settle(client, server, rng)
    for _ in range(50):
        stream = client.streams.open_bidi()
        client.streams.send(stream, b"\x21\x00" + encoded(REQUEST[:2]))
        settle(client, server, rng)
        event = server.events[-1]
        assert isinstance(event, StreamFailed) and event.stream_id == stream
        server.streams.reset(stream, 0x10E)
        server.streams.stop_sending(stream, 0x10E)
        server.h3.abandon(stream)
        settle(client, server, rng)
    assert not server.h3._requests and len(server.streams._streams) == 2


def test_a_request_waits_for_the_settings_of_its_client() -> None:
    """RFC 9297 §2.1.1: no datagram before them; the control stream may come last."""
    h3 = server()
    assert h3.receive(0, encoded(REQUEST)) == h3.receive(0, DATA, True) == h3.receive(4, encoded(REQUEST)) == []
    assert h3.reset(4, 0x10C) == []
    [settings_event, *events] = h3.receive(2, SETTINGS)
    assert isinstance(settings_event, SettingsReceived)
    assert events == [RequestReceived(0, REQUEST), DataReceived(0, b"a"), StreamEnded(0)]


def test_what_waits_for_settings_is_bounded() -> None:
    h3 = server()
    with pytest.raises(H3Error) as caught:
        for _ in range(1000):
            h3.receive(0, b"")
    assert caught.value.code == 0x107
