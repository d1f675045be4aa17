"""aioquic's parsers as a reader of packets: headers, frames (as its connection reads them), transport parameters.

Its frame parsers are methods of a connection that also act on what they read. Each frame is given to them alone; what counts is
what they tell their log, which they do between reading and acting. The refusals of a connection without state are no matter here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicReceiveContext
from aioquic.quic.logger import QuicLoggerTrace
from aioquic.quic.packet import QuicHeader, pull_quic_header
from aioquic.tls import Epoch
from oracle_compare import Row, Values, number, octets, text

EPOCHS = {"initial": Epoch.INITIAL, "handshake": Epoch.HANDSHAKE, "1rtt": Epoch.ONE_RTT}
CID_LENGTH = 8


class Told(QuicLoggerTrace):
    """Its log, with the octets that it leaves out."""

    def encode_stream_frame(self, frame: Any, stream_id: int) -> dict[str, Any]:
        return {**super().encode_stream_frame(frame, stream_id), "data": frame.data}

    def encode_crypto_frame(self, frame: Any) -> dict[str, Any]:
        return {**super().encode_crypto_frame(frame), "data": frame.data}


class AioquicReader:
    def __init__(self) -> None:
        self._connection = QuicConnection(configuration=QuicConfiguration(is_client=True))
        self._connection._quic_logger = Told(is_client=True, odcid=b"")
        self._connection._remote_ack_delay_exponent = 0
        self._handlers = self._connection._QuicConnection__frame_handlers

    def frames(self, kind: str, data: bytes) -> list[dict[str, Any]]:
        """The frames of a payload. One that it does not read ends the list with its reason."""
        buffer, out = Buffer(data=data), []
        while not buffer.eof():
            frame_type = buffer.pull_uint_var()
            handler, epochs = self._handlers.get(frame_type, (None, ()))
            if handler is None or EPOCHS[kind] not in epochs:
                return [*out, {"frame_type": "refused", "type": frame_type}]
            told: list[dict[str, Any]] = []
            context = QuicReceiveContext(epoch=EPOCHS[kind], host_cid=bytes(8), network_path=None, quic_logger_frames=told,
                                         time=0.0, version=1)
            try:
                handler(context, frame_type, buffer)
            except Exception as error:          # of a connection that never began; whether it read the frame, its log says
                if not told:
                    return [*out, {"frame_type": "refused", "type": frame_type, "error": repr(error)}]
            (frame,) = told
            out.append(frame)
        return out


def header(data: bytes) -> QuicHeader:
    return pull_quic_header(Buffer(data=data), host_cid_length=CID_LENGTH)


# ---- our fields <-> those of its log ------------------------------------------------------------------------------------------


def _ack_ranges(frame: Any) -> bytes:
    low, out = frame.largest - frame.first_range, [[frame.largest - frame.first_range, frame.largest]]
    for one in frame.ranges:
        high = low - one.gap - 2
        low = high - one.length
        out.insert(0, [low, high])
    return repr(out).encode()


NAMES = {
    "QuicPadding": "padding", "QuicPing": "ping", "QuicAck": "ack", "QuicResetStream": "reset_stream",
    "QuicStopSending": "stop_sending", "QuicCrypto": "crypto", "QuicNewToken": "new_token", "QuicStream": "stream",
    "QuicMaxData": "max_data", "QuicMaxStreamData": "max_stream_data", "QuicMaxStreamsBidi": "max_streams",
    "QuicMaxStreamsUni": "max_streams", "QuicDataBlocked": "data_blocked", "QuicStreamDataBlocked": "stream_data_blocked",
    "QuicStreamsBlockedBidi": "streams_blocked", "QuicStreamsBlockedUni": "streams_blocked",
    "QuicNewConnectionId": "new_connection_id", "QuicRetireConnectionId": "retire_connection_id",
    "QuicPathChallenge": "path_challenge", "QuicPathResponse": "path_response", "QuicConnectionClose": "connection_close",
    "QuicApplicationClose": "connection_close", "QuicHandshakeDone": "handshake_done", "QuicDatagram": "datagram",
}


def _direction(unidirectional: bool) -> Any:
    return lambda _frame: "unidirectional" if unidirectional else "bidirectional"


def _space(application: bool) -> Any:
    return lambda _frame: "application" if application else "transport"


FRAMES = (
    Row("frame_type", text, {layer: lambda frame: NAMES[type(frame).__name__] for layer in NAMES}),
    Row("ack.acked_ranges", octets, {"QuicAck": _ack_ranges}),
    Row("ack.ack_delay", text, {"QuicAck": lambda frame: repr(frame.delay / 1000000 * 1000)}),
    Row("reset_stream.stream_id", number, {"QuicResetStream": "stream"}),
    Row("reset_stream.error_code", number, {"QuicResetStream": "error"}),
    Row("reset_stream.final_size", number, {"QuicResetStream": "final_size"}),
    Row("stop_sending.stream_id", number, {"QuicStopSending": "stream"}),
    Row("stop_sending.error_code", number, {"QuicStopSending": "error"}),
    Row("crypto.offset", number, {"QuicCrypto": "offset"}),
    Row("crypto.data", octets, {"QuicCrypto": "data"}),
    Row("new_token.token", octets, {"QuicNewToken": "token"}),
    Row("stream.stream_id", number, {"QuicStream": "stream"}),
    Row("stream.offset", number, {"QuicStream": lambda frame: frame.offset if frame.type & 4 else 0}),
    Row("stream.fin", number, {"QuicStream": lambda frame: frame.type & 1}),
    Row("stream.data", octets, {"QuicStream": "data"}),
    Row("max_data.maximum", number, {"QuicMaxData": "maximum"}),
    Row("max_stream_data.stream_id", number, {"QuicMaxStreamData": "stream"}),
    Row("max_stream_data.maximum", number, {"QuicMaxStreamData": "maximum"}),
    Row("max_streams.maximum", number, {"QuicMaxStreamsBidi": "maximum", "QuicMaxStreamsUni": "maximum"}),
    Row("max_streams.stream_type", text, {"QuicMaxStreamsBidi": _direction(False), "QuicMaxStreamsUni": _direction(True)}),
    Row("data_blocked.limit", number, {"QuicDataBlocked": "limit"}),
    Row("stream_data_blocked.stream_id", number, {"QuicStreamDataBlocked": "stream"}),
    Row("stream_data_blocked.limit", number, {"QuicStreamDataBlocked": "limit"}),
    Row("streams_blocked.limit", number, {"QuicStreamsBlockedBidi": "limit", "QuicStreamsBlockedUni": "limit"}),
    Row("streams_blocked.stream_type", text,
        {"QuicStreamsBlockedBidi": _direction(False), "QuicStreamsBlockedUni": _direction(True)}),
    Row("new_connection_id.connection_id", octets, {"QuicNewConnectionId": "cid"}),
    Row("new_connection_id.retire_prior_to", number, {"QuicNewConnectionId": "retire_prior_to"}),
    Row("new_connection_id.sequence_number", number, {"QuicNewConnectionId": "sequence"}),
    Row("new_connection_id.reset_token", octets, {"QuicNewConnectionId": "token"}),
    Row("retire_connection_id.sequence_number", number, {"QuicRetireConnectionId": "sequence"}),
    Row("path_challenge.data", octets, {"QuicPathChallenge": "data"}),
    Row("path_response.data", octets, {"QuicPathResponse": "data"}),
    Row("connection_close.error_code", number, {"QuicConnectionClose": "error", "QuicApplicationClose": "error"}),
    Row("connection_close.error_space", text, {"QuicConnectionClose": _space(False), "QuicApplicationClose": _space(True)}),
    Row("connection_close.trigger_frame_type", number, {"QuicConnectionClose": "frame_type"}),
    Row("connection_close.reason", text, {"QuicConnectionClose": "reason", "QuicApplicationClose": "reason"}),
    Row("datagram.length", number, {"QuicDatagram": lambda frame: len(frame.data)}),
)


def theirs(frames: Iterable[dict[str, Any]]) -> Values:
    found: Values = {row.theirs: [] for row in FRAMES}
    for frame in frames:
        found["frame_type"].append(frame["frame_type"])
        for row in FRAMES[1:]:
            kind, _, key = row.theirs.partition(".")
            if kind == frame["frame_type"] and key in frame:
                value = frame[key]
                if key == "acked_ranges":
                    value = repr(value).encode()
                elif key == "ack_delay":
                    value = repr(value)
                found[row.theirs].append(row.kind(value))
    return found


HEADER = (
    Row("version", number, dict.fromkeys(("QuicProtectedLong", "QuicRetry", "QuicVersionNegotiation"), "version")),
    Row("packet_type", number, {"QuicProtectedLong": "long_type", "QuicRetry": "long_type"}),
    Row("destination_cid", octets, dict.fromkeys(
        ("QuicProtectedLong", "QuicProtectedShort", "QuicRetry", "QuicVersionNegotiation"), "dcid")),
    Row("source_cid", octets, dict.fromkeys(("QuicProtectedLong", "QuicRetry", "QuicVersionNegotiation"), "scid")),
    Row("token", octets, {"QuicProtectedLong": "token", "QuicRetry": "token"}),
    Row("integrity_tag", octets, {"QuicRetry": "tag"}),
)


def header_values(data: bytes) -> Values:
    """Of the first packet of a datagram."""
    read = header(data)
    kind = read.packet_type.name
    long = kind in ("INITIAL", "ZERO_RTT", "HANDSHAKE", "RETRY")
    out: Values = {row.theirs: [] for row in HEADER}
    out["destination_cid"] = [read.destination_cid]
    if long or kind == "VERSION_NEGOTIATION":
        out["version"], out["source_cid"] = [read.version], [read.source_cid]
    if long:
        out["packet_type"] = [("INITIAL", "ZERO_RTT", "HANDSHAKE", "RETRY").index(kind)]
    if kind in ("INITIAL", "RETRY"):
        out["token"] = [read.token]
    if kind == "RETRY":
        out["integrity_tag"] = [read.integrity_tag]
    return out
