"""HTTP/3 (RFC 9114) with extended CONNECT (RFC 9220) and HTTP datagrams (RFC 9297), sans-IO; QPACK without a dynamic table.

A broken rule of the connection raises H3Error; one of a request comes as StreamFailed, in order with what came before:
the connection then resets that stream with the error's code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from mpquic.errors import ConnectionClosed, ConnectRefused, H3Error, H3StreamError, StreamsExhausted
from mpquic.grease import Grease
from mpquic.h3_codes import Code
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
from mpquic.h3_framing import KNOWN_FRAMES, RESERVED_FRAMES, Frame, Framing, frame, only_varint
from mpquic.h3_message import Headers, check_request, check_response, check_trailers, section_size
from mpquic.h3_settings import (
    BLOCKED_STREAMS,
    ENABLE_CONNECT_PROTOCOL,
    H3_DATAGRAM,
    MAX_FIELD_SECTION_SIZE,
    MAX_TABLE_CAPACITY,
    Settings,
    decode_settings,
    encode_settings,
)
from mpquic.qlog_events import H3Log
from mpquic.qpack import FIELD_SECTION_MOST, Qpack
from mpquic.reader import peek_varint, varint

CONTROL, PUSH, ENCODER, DECODER = 0x00, 0x01, 0x02, 0x03  # types of unidirectional streams
CONTROL_FRAME_MOST = 4096
QUARTER_MOST = (1 << 60) - 1
_CLIENT_SETTINGS = encode_settings(
    [(MAX_TABLE_CAPACITY, 0), (MAX_FIELD_SECTION_SIZE, FIELD_SECTION_MOST), (BLOCKED_STREAMS, 0), (H3_DATAGRAM, 1)]
)
_SERVER_SETTINGS = _CLIENT_SETTINGS + encode_settings([(ENABLE_CONNECT_PROTOCOL, 1)])
HELD_MOST = 32768  # octets of requests that wait for the client's SETTINGS


@dataclass(slots=True)
class _Uni:
    """A unidirectional stream of the peer."""

    type: int | None = None
    head: bytearray = field(default_factory=bytearray)  # while the type is incomplete
    framing: Framing = field(default_factory=Framing)


class _Phase(Enum):
    """What the peer's part of a request may bring next (RFC 9114 §4.1, §4.4)."""

    HEADERS = "HEADERS"
    TUNNEL = "DATA"  # after CONNECT, to its end
    BODY = "DATA or trailers"
    TRAILERS = "nothing more"


_ALLOWED = {
    _Phase.HEADERS: (Frame.HEADERS,),
    _Phase.TUNNEL: (Frame.DATA,),
    _Phase.BODY: (Frame.DATA, Frame.HEADERS),
    _Phase.TRAILERS: (),
}


@dataclass(slots=True)
class _Request:
    framing: Framing = field(default_factory=Framing)
    phase: _Phase = _Phase.HEADERS
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
        requests_allowed: Callable[[], int] = lambda: 1 << 60,
        grease: Grease | None = None,
        log: H3Log | None = None,
    ) -> None:
        """open_*: the new stream's id, or StreamsExhausted. requests_allowed: number of bidirectional streams that the client
        may have opened by now."""
        self._client = role == "client"
        self._send = send
        self._open_uni = open_uni
        self._open_bidi = open_bidi
        self._requests_allowed = requests_allowed
        self._grease = grease
        self._log = log
        self._qpack = Qpack()
        self._control: int | None = None  # ours
        self._unis: dict[int, _Uni] = {}
        self._critical: dict[int, int] = {}  # the peer's: type -> stream id
        self._requests: dict[int, _Request] = {}
        self._next_request = 0  # server: above all request streams seen
        self._held: list[tuple[int, bytes, bool]] = []  # server: what came on request streams before the client's SETTINGS
        self._held_octets = 0
        self._goaway_sent: int | None = None
        self._goaway_received: int | None = None
        self._max_push_id: int | None = None
        self.settings: Settings | None = None  # the peer's

    def start(self) -> None:
        """Opens the control stream and says our SETTINGS. There are no QPACK streams of ours: RFC 9204 §4.2 lets an
        endpoint without a dynamic table go without."""
        if self._control is not None:
            return
        payload, extra = _CLIENT_SETTINGS if self._client else _SERVER_SETTINGS, b""
        if self._grease is not None:
            payload += encode_settings([self._grease.setting()])
            extra = frame(*self._grease.frame())
        try:
            self._control = self._open_uni()
        except StreamsExhausted as error:
            raise H3Error(Code.GENERAL_PROTOCOL_ERROR, f"no control stream (RFC 9114 §6.2): {error}") from None
        self._send(self._control, varint(CONTROL) + frame(Frame.SETTINGS, payload) + extra, False)
        if self._log is not None:
            self._log.stream(self._control, CONTROL, ours=True)
            self._log.settings(self._control, payload, ours=True)

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
        if most is not None and section_size(headers) > most:
            raise ConnectRefused(0, f"the server takes {most} octets of header")
        try:
            stream_id = self._open_bidi()
        except StreamsExhausted as error:
            raise ConnectRefused(0, f"no request stream: {error}") from None
        self._requests[stream_id] = _Request(sent=True)
        if self._log is not None:
            self._log.stream(stream_id, None, ours=True)
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
        self._send(stream_id, frame(Frame.DATA, data) if data else b"", fin)
        if self._log is not None and data:
            self._log.frame(stream_id, Frame.DATA, len(data), ours=True)
        self._forget(stream_id)

    def goaway(self) -> None:
        """Server: later requests are rejected. Client: no pushes, which it never allowed."""
        if self._control is None or self._goaway_sent is not None:
            return
        self._goaway_sent = 0 if self._client else self._next_request
        self._send(self._control, frame(Frame.GOAWAY, varint(self._goaway_sent)), False)
        if self._log is not None:
            self._log.frame(self._control, Frame.GOAWAY, 0, ours=True, value=self._goaway_sent)

    def abandon(self, stream_id: int) -> None:
        """The connection reset and stopped this request: the streams below tell nothing more of it, nor do we."""
        self._requests.pop(stream_id, None)

    def _headers(self, stream_id: int, headers: Headers) -> bytes:
        if self._log is not None:
            self._log.headers(stream_id, headers, ours=True)
        return frame(Frame.HEADERS, self._qpack.encode(stream_id, headers))

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
        self._held = [early for early in self._held if early[0] != stream_id]
        request = self._request(stream_id) if not stream_id & 0x03 else None
        if request is None or request.received_end:
            return []
        request.received_end = True
        told = not request.failed and (self._client or request.phase is not _Phase.HEADERS)
        if not told:
            request.sent_end = True
        self._forget(stream_id)
        return [StreamEnded(stream_id, code)] if told else []

    def stopped(self, stream_id: int, code: int) -> list[H3Event]:
        """The peer sent STOP_SENDING: a closed critical stream, or the end of a tunnel that stood."""
        if stream_id == self._control:
            raise H3Error(Code.CLOSED_CRITICAL_STREAM, "the peer stopped our control stream")
        request = self._requests.get(stream_id)
        if request is None:
            return []
        request.sent_end = True
        tunnel = request.sent and request.phase is _Phase.TUNNEL and not request.failed
        self._forget(stream_id)
        return [StreamEnded(stream_id, code)] if tunnel else []

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
            if self._log is not None:
                self._log.stream(stream_id, kind[0], ours=False)
        events: list[H3Event] = []
        if uni.type == CONTROL:
            events = self._receive_control(stream_id, uni, data)
        elif uni.type == ENCODER:
            self._qpack.receive_encoder(data)
        elif uni.type == DECODER:
            self._qpack.receive_decoder(data)
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

    def _receive_control(self, stream_id: int, uni: _Uni, data: bytes) -> list[H3Event]:
        events: list[H3Event] = []
        uni.framing.buffer += data
        while (one := uni.framing.next(self._check_control)) is not None:
            kind, payload = one
            if kind == Frame.SETTINGS:
                self.settings = decode_settings(payload)
                if self._log is not None:
                    self._log.settings(stream_id, payload, ours=False)
                events.append(SettingsReceived(self.settings))
                held, self._held = self._held, []
                for early in held:
                    events += self._receive_request(*early)
            elif kind == Frame.GOAWAY:
                identifier = only_varint(payload, "GOAWAY")
                events += self._on_goaway(identifier)
                if self._log is not None:
                    self._log.frame(stream_id, kind, len(payload), ours=False, value=identifier)
            elif kind == Frame.MAX_PUSH_ID:
                identifier = only_varint(payload, "MAX_PUSH_ID")
                if self._max_push_id is not None and identifier < self._max_push_id:
                    raise H3Error(Code.ID_ERROR, "MAX_PUSH_ID went down")
                self._max_push_id = identifier
                if self._log is not None:
                    self._log.frame(stream_id, kind, len(payload), ours=False, value=identifier)
            else:
                only_varint(payload, "CANCEL_PUSH")
                raise H3Error(Code.ID_ERROR, "CANCEL_PUSH for a push that never was")
        return events

    def _check_control(self, kind: int, length: int) -> None:
        if self.settings is None and kind != Frame.SETTINGS:
            raise H3Error(Code.MISSING_SETTINGS, f"control stream begins with frame 0x{kind:x}")
        if kind == Frame.SETTINGS and self.settings is not None:
            raise H3Error(Code.FRAME_UNEXPECTED, "second SETTINGS")
        if kind in (Frame.DATA, Frame.HEADERS, Frame.PUSH_PROMISE) or kind in RESERVED_FRAMES:
            raise H3Error(Code.FRAME_UNEXPECTED, f"frame 0x{kind:x} on the control stream")
        if kind == Frame.MAX_PUSH_ID and self._client:
            raise H3Error(Code.FRAME_UNEXPECTED, "MAX_PUSH_ID from a server")
        if kind in KNOWN_FRAMES and length > CONTROL_FRAME_MOST:
            raise H3Error(Code.EXCESSIVE_LOAD, f"frame 0x{kind:x} of {length} octets: at most {CONTROL_FRAME_MOST}")

    def _on_goaway(self, identifier: int) -> list[H3Event]:
        if self._client and identifier & 0x03:
            raise H3Error(Code.ID_ERROR, f"GOAWAY with stream {identifier}, which is no request")
        if self._goaway_received is not None and identifier > self._goaway_received:
            raise H3Error(Code.ID_ERROR, "GOAWAY with a higher identifier than before")
        self._goaway_received = identifier
        events: list[H3Event] = [GoawayReceived(identifier)]
        for stream_id, request in self._requests.items():
            if self._client and stream_id >= identifier and request.phase is _Phase.HEADERS and not request.failed:
                request.failed = True
                error = H3StreamError(Code.REQUEST_REJECTED, "the server is going away and has not processed the request")
                events.append(StreamFailed(stream_id, error))
        return events

    # requests

    def _request(self, stream_id: int) -> _Request | None:
        """The streams below deliver nothing after the end of a stream, so an unknown one is new: to a server."""
        request = self._requests.get(stream_id)
        if request is None and not self._client:
            self._next_request = max(self._next_request, stream_id + 4)
            request = self._requests[stream_id] = _Request()
            if self._log is not None:
                self._log.stream(stream_id, None, ours=False)
        return request

    def _hold(self, stream_id: int, data: bytes, fin: bool) -> None:
        """The control stream was lost or overtaken. No HTTP datagram may be sent before the client's SETTINGS are here
        (RFC 9297 §2.1.1), so its request waits for them."""
        self._held_octets += len(data) + 64
        if self._held_octets > HELD_MOST:
            raise H3Error(Code.EXCESSIVE_LOAD, "too much before SETTINGS")
        self._held.append((stream_id, data, fin))

    def _receive_request(self, stream_id: int, data: bytes, fin: bool) -> list[H3Event]:
        if self.settings is None and not self._client:
            self._hold(stream_id, data, fin)
            return []
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
        while (one := request.framing.next(check)) is not None:
            kind, payload = one
            if kind == Frame.DATA:
                if self._log is not None:
                    self._log.frame(stream_id, kind, len(payload), ours=False)
                events.append(DataReceived(stream_id, payload))
                continue
            headers = self._qpack.decode(stream_id, payload)
            if self._log is not None:
                self._log.headers(stream_id, headers, ours=False)
            events += self._on_headers(stream_id, request, headers)
        if fin:
            if request.framing.inside:
                raise H3Error(Code.FRAME_ERROR, "the stream ends inside a frame")
            if request.phase is _Phase.HEADERS:
                code = Code.MESSAGE_ERROR if self._client else Code.REQUEST_INCOMPLETE
                raise H3StreamError(code, "the stream ends without a message")

    def _on_headers(self, stream_id: int, request: _Request, headers: Headers) -> list[H3Event]:
        if request.phase is _Phase.BODY:
            check_trailers(headers)
            request.phase = _Phase.TRAILERS
            return []
        if not self._client:
            check_request(headers)
            request.phase = _Phase.TUNNEL if (b":method", b"CONNECT") in headers else _Phase.BODY
            return [RequestReceived(stream_id, headers)]
        status = check_response(headers)
        if status < 200:
            return []
        request.phase = _Phase.TUNNEL if status < 300 else _Phase.BODY
        return [ResponseReceived(stream_id, status, headers)]

    def _check_request(self, request: _Request, kind: int, length: int) -> None:
        if kind in (Frame.DATA, Frame.HEADERS) and kind not in _ALLOWED[request.phase]:
            raise H3Error(Code.FRAME_UNEXPECTED, f"frame 0x{kind:x} where {request.phase.value} may come")
        if kind == Frame.PUSH_PROMISE and self._client:
            raise H3Error(Code.ID_ERROR, "PUSH_PROMISE, but no push was allowed")
        if kind in KNOWN_FRAMES and kind not in (Frame.DATA, Frame.HEADERS):
            raise H3Error(Code.FRAME_UNEXPECTED, f"frame 0x{kind:x} on a request stream")
        if kind == Frame.HEADERS and length > FIELD_SECTION_MOST:
            raise H3Error(Code.EXCESSIVE_LOAD, f"HEADERS of {length} octets: at most {FIELD_SECTION_MOST}")

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
        if quarter[0] >= self._requests_allowed():
            raise H3Error(Code.ID_ERROR, f"HTTP datagram of stream {quarter[0] * 4}, which may not be opened")
        request = self._requests.get(quarter[0] * 4)
        if request is None or request.received_end or request.failed or request.phase is _Phase.HEADERS:
            return None
        return quarter[0] * 4, payload[quarter[1] :]
