"""HTTP/3 (RFC 9114) with extended CONNECT (RFC 9220) and HTTP datagrams (RFC 9297), sans-IO; QPACK without a dynamic table.

A broken rule of the connection raises H3Error; one of a request comes as StreamFailed, in order with what came before:
the connection then resets that stream with the error's code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal

import pylsqpack

from mpquic.errors import ConnectionClosed, ConnectRefused, H3Error, H3StreamError
from mpquic.reader import Reader, ReadError, varint

ALPN = "h3"
Headers = list[tuple[bytes, bytes]]


class Code(IntEnum):
    """RFC 9114 §8.1, RFC 9204 §6, RFC 9297 §5.2."""

    DATAGRAM_ERROR = 0x33
    NO_ERROR = 0x100
    GENERAL_PROTOCOL_ERROR = 0x101
    INTERNAL_ERROR = 0x102
    STREAM_CREATION_ERROR = 0x103
    CLOSED_CRITICAL_STREAM = 0x104
    FRAME_UNEXPECTED = 0x105
    FRAME_ERROR = 0x106
    EXCESSIVE_LOAD = 0x107
    ID_ERROR = 0x108
    SETTINGS_ERROR = 0x109
    MISSING_SETTINGS = 0x10A
    REQUEST_REJECTED = 0x10B
    REQUEST_CANCELLED = 0x10C
    REQUEST_INCOMPLETE = 0x10D
    MESSAGE_ERROR = 0x10E
    CONNECT_ERROR = 0x10F
    VERSION_FALLBACK = 0x110
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class Frame(IntEnum):
    DATA = 0x00
    HEADERS = 0x01
    CANCEL_PUSH = 0x03
    SETTINGS = 0x04
    PUSH_PROMISE = 0x05
    GOAWAY = 0x07
    MAX_PUSH_ID = 0x0D


_RESERVED_FRAMES = (0x02, 0x06, 0x08, 0x09)  # of HTTP/2 (RFC 9114 §7.2.8)
_KNOWN_FRAMES = frozenset(Frame) | frozenset(_RESERVED_FRAMES)

CONTROL, PUSH, ENCODER, DECODER = 0x00, 0x01, 0x02, 0x03  # types of unidirectional streams

MAX_TABLE_CAPACITY = 0x01
MAX_FIELD_SECTION_SIZE = 0x06
BLOCKED_STREAMS = 0x07
ENABLE_CONNECT_PROTOCOL = 0x08
H3_DATAGRAM = 0x33
_RESERVED_SETTINGS = (0x00, 0x02, 0x03, 0x04, 0x05)

FIELD_SECTION_MOST = 16384  # octets encoded, and decoded as RFC 9114 §4.2.2 counts
CONTROL_FRAME_MOST = 4096
SETTINGS_MOST = 64
QUARTER_MOST = (1 << 60) - 1


# ---- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    max_field_section_size: int | None = None
    enable_connect_protocol: bool = False
    datagram: bool = False


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    settings: Settings


@dataclass(frozen=True, slots=True)
class RequestReceived:
    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """The final response; interim ones are not told."""

    stream_id: int
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class DataReceived:
    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    """The client gets a stream id: requests from there on were not processed."""

    identifier: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer's part of a request is over; code is None after a clean end, else that of its RESET_STREAM."""

    stream_id: int
    code: int | None = None


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The peer broke a rule on a request: reset and stop the stream with error.code."""

    stream_id: int
    error: H3StreamError


H3Event = (
    SettingsReceived | RequestReceived | ResponseReceived | DataReceived | GoawayReceived | StreamEnded | StreamFailed
)


# ---- framing ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Framing:
    """Cuts one stream into frames. DATA comes in pieces, unknown frames are skipped as they come, others are kept whole
    within the bound that `check` allows."""

    buffer: bytearray = field(default_factory=bytearray)
    kind: int | None = None  # the frame that is open
    left: int = 0  # octets of it still to come

    def next(self, check: Callable[[int, int], None]) -> tuple[int, bytes] | None:
        """check(type, length) sees every header and raises for what may not come."""
        while True:
            if self.kind is None:
                kind = peek_varint(self.buffer, 0)
                length = peek_varint(self.buffer, kind[1]) if kind is not None else None
                if kind is None or length is None:
                    return None
                check(kind[0], length[0])
                self.kind, self.left = kind[0], length[0]
                del self.buffer[: length[1]]
            if self.kind == Frame.DATA or self.kind not in _KNOWN_FRAMES:
                piece = bytes(self.buffer[: self.left])
                del self.buffer[: len(piece)]
                self.left -= len(piece)
                known = self.kind == Frame.DATA
                if not self.left:
                    self.kind = None
                if known and piece:
                    return int(Frame.DATA), piece
                if self.kind is not None:
                    return None
                continue
            if len(self.buffer) < self.left:
                return None
            kind_value, payload = self.kind, bytes(self.buffer[: self.left])
            del self.buffer[: self.left]
            self.kind, self.left = None, 0
            return kind_value, payload

    @property
    def inside(self) -> bool:
        return self.kind is not None or bool(self.buffer)


@dataclass(slots=True)
class _Uni:
    """A unidirectional stream of the peer."""

    type: int | None = None
    head: bytearray = field(default_factory=bytearray)  # while the type is incomplete
    framing: _Framing = field(default_factory=_Framing)


@dataclass(slots=True)
class _Request:
    framing: _Framing = field(default_factory=_Framing)
    headers: bool = False  # the peer's (final) HEADERS came
    sent: bool = False  # ours are out
    received_end: bool = False
    sent_end: bool = False
    failed: bool = False  # reported; what still comes is thrown away


# ---- connection -------------------------------------------------------------------------------------------------------


class H3:
    """One side of an HTTP/3 connection."""

    def __init__(
        self,
        role: Literal["client", "server"],
        send: Callable[[int, bytes, bool], None],
        open_uni: Callable[[], int],
        open_bidi: Callable[[], int],
    ) -> None:
        self._client = role == "client"
        self._send = send
        self._open_uni = open_uni
        self._open_bidi = open_bidi
        self._encoder = pylsqpack.Encoder()
        self._decoder = pylsqpack.Decoder(0, 0)
        self._control: int | None = None  # ours
        self._unis: dict[int, _Uni] = {}
        self._critical: dict[int, int] = {}  # the peer's: type -> stream id
        self._requests: dict[int, _Request] = {}
        self._next_request = 0  # server: above all request streams seen
        self._goaway_sent: int | None = None
        self._goaway_received: int | None = None
        self._max_push_id: int | None = None
        self._cancel = 0  # octets of an integer on the decoder stream
        self.settings: Settings | None = None  # the peer's

    def start(self) -> None:
        """Opens the control stream and says our SETTINGS. There are no QPACK streams of ours: RFC 9204 §4.2 lets an
        endpoint without a dynamic table go without."""
        if self._control is not None:
            return
        values = [(MAX_TABLE_CAPACITY, 0), (MAX_FIELD_SECTION_SIZE, FIELD_SECTION_MOST), (BLOCKED_STREAMS, 0)]
        if not self._client:
            values.append((ENABLE_CONNECT_PROTOCOL, 1))
        values.append((H3_DATAGRAM, 1))
        payload = b"".join(varint(identifier) + varint(value) for identifier, value in values)
        self._control = self._open_uni()
        self._send(self._control, varint(CONTROL) + _frame(Frame.SETTINGS, payload), False)

    # ---- sending ----------------------------------------------------------------------------------------------------

    def request_connect(self, headers: Headers) -> int:
        """Client: an extended CONNECT, once the server's SETTINGS allow it; the new stream."""
        if not self._client:
            raise ValueError("requests come from clients")
        if self.settings is None:
            raise ConnectRefused(0, "the server's SETTINGS did not come yet")
        if not self.settings.enable_connect_protocol:
            raise ConnectRefused(0, "the server does not offer extended CONNECT")
        if not self.settings.datagram:
            raise ConnectRefused(0, "the server does not offer HTTP datagrams")
        if self._goaway_received is not None:
            raise ConnectionClosed("the server is going away")
        most = self.settings.max_field_section_size
        if most is not None and _section_size(headers) > most:
            raise ConnectRefused(0, f"the server takes {most} octets of header")
        stream_id = self._open_bidi()
        self._requests[stream_id] = _Request(sent=True)
        self._send(stream_id, self._headers(stream_id, headers), False)
        return stream_id

    def respond(self, stream_id: int, status: int, headers: Headers | None = None, fin: bool = False) -> None:
        """Server: accept (2xx) or refuse; a refusal normally ends the stream."""
        request = self._requests.get(stream_id)
        if self._client or request is None or request.sent:
            raise ConnectionClosed(f"stream {stream_id} awaits no response")
        request.sent = True
        block = self._headers(stream_id, [(b":status", b"%d" % status), *(headers or [])])
        request.sent_end = fin
        self._send(stream_id, block, fin)
        self._forget(stream_id)

    def send_data(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        request = self._requests.get(stream_id)
        if request is None or not request.sent or request.sent_end or request.failed:
            raise ConnectionClosed(f"stream {stream_id} takes no data")
        request.sent_end = fin
        self._send(stream_id, _frame(Frame.DATA, data) if data else b"", fin)
        self._forget(stream_id)

    def goaway(self) -> None:
        """Server: later requests are rejected. Client: no pushes, which it never allowed."""
        if self._control is None or self._goaway_sent is not None:
            return
        self._goaway_sent = 0 if self._client else self._next_request
        self._send(self._control, _frame(Frame.GOAWAY, varint(self._goaway_sent)), False)

    def abandon(self, stream_id: int) -> None:
        """The connection reset this request: nothing more is told about it."""
        request = self._requests.get(stream_id)
        if request is not None:
            request.failed = request.sent_end = True
            self._forget(stream_id)

    def _headers(self, stream_id: int, headers: Headers) -> bytes:
        _, block = self._encoder.encode(stream_id, headers)
        return _frame(Frame.HEADERS, block)

    # ---- receiving --------------------------------------------------------------------------------------------------

    def receive(self, stream_id: int, data: bytes, fin: bool = False) -> list[H3Event]:
        if stream_id & 0x02:
            return self._receive_uni(stream_id, data, fin)
        if stream_id & 0x01:
            raise H3Error(Code.STREAM_CREATION_ERROR, "bidirectional stream of a server")
        return self._receive_request(stream_id, data, fin)

    def reset(self, stream_id: int, code: int) -> list[H3Event]:
        """The peer sent RESET_STREAM."""
        if stream_id in self._critical.values():
            raise H3Error(Code.CLOSED_CRITICAL_STREAM, "a critical stream was reset")
        self._unis.pop(stream_id, None)
        request = self._request(stream_id) if not stream_id & 0x03 else None
        if request is None or request.received_end:
            return []
        request.received_end = True
        told = not request.failed and (self._client or request.headers)
        if not told:
            request.sent_end = True
        self._forget(stream_id)
        return [StreamEnded(stream_id, code)] if told else []

    def stopped(self, stream_id: int) -> None:
        """The peer sent STOP_SENDING: for the control stream that is a closed critical stream."""
        if stream_id == self._control:
            raise H3Error(Code.CLOSED_CRITICAL_STREAM, "the peer stopped our control stream")
        if (request := self._requests.get(stream_id)) is not None:
            request.sent_end = True
            self._forget(stream_id)

    # unidirectional streams

    def _receive_uni(self, stream_id: int, data: bytes, fin: bool) -> list[H3Event]:
        uni = self._unis.setdefault(stream_id, _Uni())
        if uni.type is None:
            uni.head += data
            kind = peek_varint(uni.head, 0)
            if kind is None:
                if fin:  # RFC 9114 §6.2: a stream that ends before its type is no error
                    del self._unis[stream_id]
                return []
            data = bytes(uni.head[kind[1] :])
            uni.head.clear()
            uni.type = kind[0]
            self._opened(stream_id, kind[0])
        events: list[H3Event] = []
        if uni.type == CONTROL:
            events = self._receive_control(uni, data)
        elif uni.type == ENCODER:
            self._receive_encoder(data)
        elif uni.type == DECODER:
            self._receive_decoder(data)
        if fin:
            if uni.type in (CONTROL, ENCODER, DECODER):
                raise H3Error(Code.CLOSED_CRITICAL_STREAM, f"the peer ended its stream of type {uni.type}")
            del self._unis[stream_id]
        return events

    def _opened(self, stream_id: int, kind: int) -> None:
        if kind == PUSH:
            if self._client:
                raise H3Error(Code.ID_ERROR, "push stream, but no push was allowed")
            raise H3Error(Code.STREAM_CREATION_ERROR, "push stream of a client")
        if kind in (CONTROL, ENCODER, DECODER):
            if kind in self._critical:
                raise H3Error(Code.STREAM_CREATION_ERROR, f"second stream of type {kind}")
            self._critical[kind] = stream_id

    def _receive_encoder(self, data: bytes) -> None:
        """Our table has no room: only Set Dynamic Table Capacity 0 makes sense (RFC 9204 §4.3.1)."""
        if data.strip(b"\x20"):
            raise H3Error(Code.QPACK_ENCODER_STREAM_ERROR, "instruction for a dynamic table of capacity 0")

    def _receive_decoder(self, data: bytes) -> None:
        """We insert nothing, so only Stream Cancellation can be right (RFC 9204 §4.4.2)."""
        for octet in data:
            if self._cancel:
                self._cancel = self._cancel + 1 if octet & 0x80 else 0
                if self._cancel > 10:
                    raise H3Error(Code.QPACK_DECODER_STREAM_ERROR, "stream cancellation with an integer too long")
            elif octet & 0xC0 != 0x40:
                raise H3Error(Code.QPACK_DECODER_STREAM_ERROR, "acknowledgment of insertions that were never made")
            elif octet & 0x3F == 0x3F:
                self._cancel = 1

    def _receive_control(self, uni: _Uni, data: bytes) -> list[H3Event]:
        events: list[H3Event] = []
        uni.framing.buffer += data
        while (frame := uni.framing.next(self._check_control)) is not None:
            kind, payload = frame
            if kind == Frame.SETTINGS:
                self.settings = _decode_settings(payload)
                events.append(SettingsReceived(self.settings))
            elif kind == Frame.GOAWAY:
                events.append(self._on_goaway(_only_varint(payload, "GOAWAY")))
            elif kind == Frame.MAX_PUSH_ID:
                identifier = _only_varint(payload, "MAX_PUSH_ID")
                if self._max_push_id is not None and identifier < self._max_push_id:
                    raise H3Error(Code.ID_ERROR, "MAX_PUSH_ID went down")
                self._max_push_id = identifier
            else:
                _only_varint(payload, "CANCEL_PUSH")
                raise H3Error(Code.ID_ERROR, "CANCEL_PUSH for a push that never was")
        return events

    def _check_control(self, kind: int, length: int) -> None:
        if self.settings is None and kind != Frame.SETTINGS:
            raise H3Error(Code.MISSING_SETTINGS, f"control stream begins with frame 0x{kind:x}")
        if kind == Frame.SETTINGS and self.settings is not None:
            raise H3Error(Code.FRAME_UNEXPECTED, "second SETTINGS")
        if kind in (Frame.DATA, Frame.HEADERS, Frame.PUSH_PROMISE) or kind in _RESERVED_FRAMES:
            raise H3Error(Code.FRAME_UNEXPECTED, f"frame 0x{kind:x} on the control stream")
        if kind == Frame.MAX_PUSH_ID and self._client:
            raise H3Error(Code.FRAME_UNEXPECTED, "MAX_PUSH_ID from a server")
        if kind in _KNOWN_FRAMES and length > CONTROL_FRAME_MOST:
            raise H3Error(Code.EXCESSIVE_LOAD, f"frame 0x{kind:x} of {length} octets: at most {CONTROL_FRAME_MOST}")

    def _on_goaway(self, identifier: int) -> GoawayReceived:
        if self._client and identifier & 0x03:
            raise H3Error(Code.ID_ERROR, f"GOAWAY with stream {identifier}, which is no request")
        if self._goaway_received is not None and identifier > self._goaway_received:
            raise H3Error(Code.ID_ERROR, "GOAWAY with a higher identifier than before")
        self._goaway_received = identifier
        return GoawayReceived(identifier)

    # requests

    def _request(self, stream_id: int) -> _Request | None:
        """The streams below deliver nothing after the end of a stream, so an unknown one is new: to a server."""
        request = self._requests.get(stream_id)
        if request is None and not self._client:
            self._next_request = max(self._next_request, stream_id + 4)
            request = self._requests[stream_id] = _Request()
        return request

    def _receive_request(self, stream_id: int, data: bytes, fin: bool) -> list[H3Event]:
        request = self._request(stream_id)
        if request is None:
            return []
        events: list[H3Event] = []
        if not request.failed:
            try:
                self._feed_request(stream_id, request, data, fin, events)
            except H3StreamError as error:
                request.failed = request.sent_end = True
                events.append(StreamFailed(stream_id, error))
        if fin:
            request.received_end = True
            if not request.failed:
                events.append(StreamEnded(stream_id))
            self._forget(stream_id)
        return events

    def _feed_request(self, stream_id: int, request: _Request, data: bytes, fin: bool, events: list[H3Event]) -> None:
        if self._goaway_sent is not None and not self._client and stream_id >= self._goaway_sent:
            raise H3StreamError(Code.REQUEST_REJECTED, "request after GOAWAY")

        def check(kind: int, length: int) -> None:
            self._check_request(request, kind, length)

        request.framing.buffer += data
        while (frame := request.framing.next(check)) is not None:
            kind, payload = frame
            if kind == Frame.DATA:
                events.append(DataReceived(stream_id, payload))
                continue
            headers = self._decode(stream_id, payload)
            if not self._client:
                check_request(headers)
                request.headers = True
                events.append(RequestReceived(stream_id, headers))
                continue
            status = check_response(headers)
            if status >= 200:
                request.headers = True
                events.append(ResponseReceived(stream_id, status, headers))
        if fin:
            if request.framing.inside:
                raise H3Error(Code.FRAME_ERROR, "the stream ends inside a frame")
            if not request.headers:
                code = Code.MESSAGE_ERROR if self._client else Code.REQUEST_INCOMPLETE
                raise H3StreamError(code, "the stream ends without a message")

    def _check_request(self, request: _Request, kind: int, length: int) -> None:
        if kind == Frame.DATA and not request.headers:
            raise H3Error(Code.FRAME_UNEXPECTED, "DATA before HEADERS")
        if kind == Frame.HEADERS and request.headers:  # RFC 9114 §4.4: after CONNECT only DATA
            raise H3Error(Code.FRAME_UNEXPECTED, "second HEADERS on a CONNECT stream")
        if kind == Frame.PUSH_PROMISE and self._client:
            raise H3Error(Code.ID_ERROR, "PUSH_PROMISE, but no push was allowed")
        if kind in _KNOWN_FRAMES and kind not in (Frame.DATA, Frame.HEADERS):
            raise H3Error(Code.FRAME_UNEXPECTED, f"frame 0x{kind:x} on a request stream")
        if kind == Frame.HEADERS and length > FIELD_SECTION_MOST:
            raise H3Error(Code.EXCESSIVE_LOAD, f"HEADERS of {length} octets: at most {FIELD_SECTION_MOST}")

    def _decode(self, stream_id: int, block: bytes) -> Headers:
        try:
            _, headers = self._decoder.feed_header(stream_id, block)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked, ValueError) as error:
            raise H3Error(Code.QPACK_DECOMPRESSION_FAILED, f"QPACK: {type(error).__name__}") from None
        out: Headers = list(headers)
        if (size := _section_size(out)) > FIELD_SECTION_MOST:
            raise H3StreamError(Code.EXCESSIVE_LOAD, f"header of {size} octets: at most {FIELD_SECTION_MOST}")
        return out

    def _forget(self, stream_id: int) -> None:
        request = self._requests.get(stream_id)
        if request is not None and request.received_end and request.sent_end:
            del self._requests[stream_id]

    # ---- HTTP datagrams ---------------------------------------------------------------------------------------------

    def datagram(self, payload: bytes) -> tuple[int, bytes] | None:
        """Payload of a QUIC DATAGRAM: the request stream and the rest; None = dropped, no such request is open."""
        quarter = peek_varint(payload, 0)
        if quarter is None or quarter[0] > QUARTER_MOST:
            raise H3Error(Code.DATAGRAM_ERROR, "HTTP datagram with a broken Quarter Stream ID")
        request = self._requests.get(quarter[0] * 4)
        if request is None or request.received_end or request.failed or not request.headers:
            return None
        return quarter[0] * 4, payload[quarter[1] :]


# ---- fields -----------------------------------------------------------------------------------------------------------


def peek_varint(buffer: bytearray | bytes, position: int) -> tuple[int, int] | None:
    """A variable-length integer and the position after it; None while it is incomplete."""
    if position >= len(buffer):
        return None
    end = position + (1 << (buffer[position] >> 6))
    if end > len(buffer):
        return None
    size = end - position
    return int.from_bytes(buffer[position:end], "big") & ((1 << (8 * size - 2)) - 1), end


def _frame(kind: int, payload: bytes) -> bytes:
    return varint(kind) + varint(len(payload)) + payload


def _section_size(headers: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 32 for name, value in headers)


def _only_varint(payload: bytes, name: str) -> int:
    reader = Reader(payload)
    try:
        value = reader.varint()
        reader.end()
    except ReadError as error:
        raise H3Error(Code.FRAME_ERROR, f"{name}: {error}") from None
    return value


def _decode_settings(payload: bytes) -> Settings:
    reader = Reader(payload)
    values: dict[int, int] = {}
    try:
        while reader.left:
            identifier, value = reader.varint(), reader.varint()
            if identifier in values:
                raise H3Error(Code.SETTINGS_ERROR, f"setting 0x{identifier:x} twice")
            if identifier in _RESERVED_SETTINGS:
                raise H3Error(Code.SETTINGS_ERROR, f"setting 0x{identifier:x} is of HTTP/2")
            if identifier in (ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM) and value > 1:
                raise H3Error(Code.SETTINGS_ERROR, f"setting 0x{identifier:x} is {value}, neither 0 nor 1")
            if len(values) == SETTINGS_MOST:
                raise H3Error(Code.EXCESSIVE_LOAD, f"more than {SETTINGS_MOST} settings")
            values[identifier] = value
    except ReadError as error:
        raise H3Error(Code.FRAME_ERROR, f"SETTINGS: {error}") from None
    return Settings(
        values.get(MAX_FIELD_SECTION_SIZE), bool(values.get(ENABLE_CONNECT_PROTOCOL)), bool(values.get(H3_DATAGRAM))
    )


_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_CONNECTION_FIELDS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))


def _malformed(reason: str) -> H3StreamError:
    return H3StreamError(Code.MESSAGE_ERROR, reason)


def _pseudo(headers: Headers, allowed: frozenset[bytes]) -> dict[bytes, bytes]:
    """The pseudo-header fields of a message that is well formed (RFC 9114 §4.2, §4.3)."""
    out: dict[bytes, bytes] = {}
    regular = False
    for name, value in headers:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise _malformed("a field has octets that it may not have")
        if not name.startswith(b":"):
            regular = True
            if name in _CONNECTION_FIELDS or (name == b"te" and value != b"trailers"):
                raise _malformed(f"field {name.decode()} is of HTTP/1.1")
            continue
        if regular or name in out or name not in allowed:
            raise _malformed(f"pseudo-header field {name.decode()} late, twice or unknown")
        out[name] = value
    return out


def check_request(headers: Headers) -> None:
    pseudo = _pseudo(headers, _REQUEST_PSEUDO)
    present = frozenset(pseudo)
    if b":method" not in present:
        raise _malformed("request without :method")
    if b":protocol" in present:
        if pseudo[b":method"] != b"CONNECT" or present != _REQUEST_PSEUDO:
            raise _malformed("extended CONNECT needs :method, :protocol, :scheme, :authority and :path")
    elif pseudo[b":method"] == b"CONNECT":
        if present != {b":method", b":authority"}:
            raise _malformed("CONNECT has :method and :authority only")
    elif not present >= {b":scheme", b":path"}:
        raise _malformed("request without :scheme or :path")
    if b":authority" in pseudo and not pseudo[b":authority"]:
        raise _malformed("empty :authority")
    if b":path" in pseudo and not pseudo[b":path"].startswith(b"/") and pseudo[b":path"] != b"*":
        raise _malformed("path does not begin with /")


def check_response(headers: Headers) -> int:
    pseudo = _pseudo(headers, frozenset((b":status",)))
    status = pseudo.get(b":status", b"")
    if not re.fullmatch(rb"[1-9][0-9]{2}", status) or status == b"101":
        raise _malformed("response without a proper :status")
    return int(status)
