"""Our field <-> tshark's field, protocol by protocol."""

from __future__ import annotations

from typing import Any

from oracle_compare import Row, address, number, octets

LONG = ("QuicLong", "QuicRetry", "QuicVersionNegotiation")


def _bit(mask: int) -> Any:
    return lambda layer: int(bool(layer.type & mask))


def _stream_length(frame: Any) -> int | None:
    return len(frame.data) if frame.type & 0x02 else None


QUIC_HEADER = (
    Row("quic.header_form", number, dict.fromkeys((*LONG, "QuicShort"), "form")),
    Row("quic.fixed_bit", number, {"QuicLong": "fixed", "QuicShort": "fixed"}),
    Row("quic.long.packet_type", number, {"QuicLong": "long_type", "QuicRetry": "long_type"}),
    Row("quic.version", number, {"QuicLong": "version", "QuicRetry": "version", "QuicVersionNegotiation": "version"}),
    Row("quic.dcil", number, dict.fromkeys(LONG, lambda packet: len(packet.dcid))),
    Row("quic.scil", number, dict.fromkeys(LONG, lambda packet: len(packet.scid))),
    Row("quic.token_length", number, {"QuicLong": lambda packet: len(packet.token) if packet.long_type == 0 else None}),
    Row("quic.token", octets, {"QuicLong": lambda packet: packet.token if packet.long_type == 0 and packet.token else None}),
    Row("quic.length", number, {"QuicLong": "length"}),
    Row("quic.packet_number_length", number, {"QuicLong": "pn_length", "QuicShort": "pn_length"}),
    Row("quic.spin_bit", number, {"QuicShort": "spin"}),
    Row("quic.key_phase", number, {"QuicShort": "key_phase"}),
    Row("quic.long.reserved", number, {"QuicLong": "reserved"}),
    Row("quic.short.reserved", number, {"QuicShort": "reserved"}),
    Row("quic.retry_token", octets, {"QuicRetry": "token"}),
    Row("quic.retry_integrity_tag", octets, {"QuicRetry": "tag"}),
)
FRAMES = ("Padding", "Ping", "Ack", "ResetStream", "StopSending", "Crypto", "NewToken", "Stream", "MaxData", "MaxStreamData",
          "MaxStreamsBidi", "MaxStreamsUni", "DataBlocked", "StreamDataBlocked", "StreamsBlockedBidi", "StreamsBlockedUni",
          "NewConnectionId", "RetireConnectionId", "PathChallenge", "PathResponse", "ConnectionClose", "ApplicationClose",
          "HandshakeDone", "Datagram", "AckFrequency")       # those that tshark knows at the values we use
QUIC_FRAMES = (
    Row("quic.frame_type", number, {f"Quic{name}": "type" for name in FRAMES}),
    Row("quic.padding_length", number, {"QuicPadding": lambda frame: 1 + len(frame.more)}),
    Row("quic.ack.largest_acknowledged", number, {"QuicAck": "largest"}),
    Row("quic.ack.ack_delay", number, {"QuicAck": "delay"}),
    Row("quic.ack.ack_range_count", number, {"QuicAck": "range_count"}),
    Row("quic.ack.first_ack_range", number, {"QuicAck": "first_range"}),
    Row("quic.ack.gap", number, {"QuicAckRange": "gap"}),
    Row("quic.ack.ack_range", number, {"QuicAckRange": "length"}),
    Row("quic.ack.ect0_count", number, {"QuicAck": "ect0"}),
    Row("quic.ack.ect1_count", number, {"QuicAck": "ect1"}),
    Row("quic.ack.ecn_ce_count", number, {"QuicAck": "ce"}),
    Row("quic.rsts.stream_id", number, {"QuicResetStream": "stream"}),
    Row("quic.rsts.application_error_code", number, {"QuicResetStream": "error"}),
    Row("quic.rsts.final_size", number, {"QuicResetStream": "final_size"}),
    Row("quic.ss.stream_id", number, {"QuicStopSending": "stream"}),
    Row("quic.ss.application_error_code", number, {"QuicStopSending": "error"}),
    Row("quic.crypto.offset", number, {"QuicCrypto": "offset"}),
    Row("quic.crypto.length", number, {"QuicCrypto": lambda frame: len(frame.data)}),
    Row("quic.nt.token", octets, {"QuicNewToken": "token"}),
    Row("quic.stream.stream_id", number, {"QuicStream": "stream"}),
    Row("quic.stream.fin", number, {"QuicStream": _bit(0x01)}),
    Row("quic.stream.len", number, {"QuicStream": _bit(0x02)}),
    Row("quic.stream.off", number, {"QuicStream": _bit(0x04)}),
    Row("quic.stream.offset", number, {"QuicStream": lambda frame: frame.offset if frame.type & 0x04 else None}),
    Row("quic.stream.length", number, {"QuicStream": _stream_length}),
    Row("quic.stream_data", octets, {"QuicStream": lambda frame: frame.data or None}),
    Row("quic.md.maximum_data", number, {"QuicMaxData": "maximum"}),
    Row("quic.msd.stream_id", number, {"QuicMaxStreamData": "stream"}),
    Row("quic.msd.maximum_stream_data", number, {"QuicMaxStreamData": "maximum"}),
    Row("quic.ms.max_streams", number, {"QuicMaxStreamsBidi": "maximum", "QuicMaxStreamsUni": "maximum"}),
    Row("quic.sb.stream_data_limit", number, {"QuicDataBlocked": "limit", "QuicStreamDataBlocked": "limit"}),
    Row("quic.sdb.stream_id", number, {"QuicStreamDataBlocked": "stream"}),
    Row("quic.sib.stream_limit", number, {"QuicStreamsBlockedBidi": "limit", "QuicStreamsBlockedUni": "limit"}),
    Row("quic.nci.sequence", number, {"QuicNewConnectionId": "sequence"}),
    Row("quic.nci.retire_prior_to", number, {"QuicNewConnectionId": "retire_prior_to"}),
    Row("quic.nci.connection_id", octets, {"QuicNewConnectionId": "cid"}),
    Row("quic.nci.stateless_reset_token", octets, {"QuicNewConnectionId": "token"}),
    Row("quic.rci.sequence", number, {"QuicRetireConnectionId": "sequence"}),
    Row("quic.path_challenge.data", octets, {"QuicPathChallenge": "data"}),
    Row("quic.path_response.data", octets, {"QuicPathResponse": "data"}),
    Row("quic.cc.error_code", number, {"QuicConnectionClose": "error"}),
    Row("quic.cc.error_code.app", number, {"QuicApplicationClose": "error"}),
    Row("quic.cc.frame_type", number, {"QuicConnectionClose": "frame_type"}),
    Row("quic.cc.reason_phrase.length", number, {"QuicConnectionClose": lambda frame: len(frame.reason),
                                                 "QuicApplicationClose": lambda frame: len(frame.reason)}),
    Row("quic.dg", octets, {"QuicDatagram": lambda frame: frame.data or None}),
    Row("quic.dg.length", number, {"QuicDatagram": lambda frame: len(frame.data) if frame.type & 1 else None}),
    Row("quic.af.sequence_number", number, {"QuicAckFrequency": "sequence"}),
    Row("quic.af.ack_eliciting_threshold", number, {"QuicAckFrequency": "threshold"}),
    Row("quic.af.request_max_ack_delay", number, {"QuicAckFrequency": "max_ack_delay"}),
)
_INTEGERS = {0x01: "max_idle_timeout", 0x03: "max_udp_payload_size", 0x04: "initial_max_data",
             0x05: "initial_max_stream_data_bidi_local", 0x06: "initial_max_stream_data_bidi_remote",
             0x07: "initial_max_stream_data_uni", 0x08: "initial_max_streams_bidi", 0x09: "initial_max_streams_uni",
             0x0A: "ack_delay_exponent", 0x0B: "max_ack_delay", 0x0E: "active_connection_id_limit",
             0x20: "max_datagram_frame_size"}
_OCTETS = {0x00: "original_destination_connection_id", 0x02: "stateless_reset_token", 0x0F: "initial_source_connection_id",
           0x10: "retry_source_connection_id"}


def _of(key: int) -> Any:
    return lambda parameter: parameter.value if parameter.id == key else None


PARAMETER = ("TransportParameter", "TransportParameterInteger", "TransportParameterPreferredAddress", "TransportParameterVersions")
TRANSPORT_PARAMETERS = (
    Row("tls.quic.parameter.type", number, dict.fromkeys(PARAMETER, "id")),
    *(Row(f"tls.quic.parameter.{name}", number, {"TransportParameterInteger": _of(key)}) for key, name in _INTEGERS.items()),
    *(Row(f"tls.quic.parameter.{name}", octets, {"TransportParameter": _of(key)}) for key, name in _OCTETS.items()),
    Row("tls.quic.parameter.preferred_address.ipv4address", address, {"PreferredAddress": "ipv4"}),
    Row("tls.quic.parameter.preferred_address.ipv4port", number, {"PreferredAddress": "ipv4_port"}),
    Row("tls.quic.parameter.preferred_address.ipv6address", address, {"PreferredAddress": "ipv6"}),
    Row("tls.quic.parameter.preferred_address.ipv6port", number, {"PreferredAddress": "ipv6_port"}),
    Row("tls.quic.parameter.preferred_address.connectionid", octets, {"PreferredAddress": "cid"}),
    Row("tls.quic.parameter.preferred_address.statelessresettoken", octets, {"PreferredAddress": "token"}),
    Row("tls.quic.parameter.vi.chosen_version", number, {"VersionInformation": "chosen"}),
)
H3 = ("H3Frame", "H3Data", "H3Headers", "H3Settings", "H3Goaway", "H3MaxPushId", "H3CancelPush", "H3PushPromise")
HTTP3 = (
    Row("http3.stream_type", number, {"H3UniStream": "type"}),
    Row("http3.frame_type", number, dict.fromkeys(H3, "type")),
    Row("http3.settings.id", number, {"H3Setting": "id"}),
    Row("http3.settings.value", number, {"H3Setting": "value"}),
)
