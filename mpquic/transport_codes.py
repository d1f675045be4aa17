"""Error codes and frame types of QUIC that Python speaks of (RFC 9000 §19, §20.1); the others are the engine's."""

from __future__ import annotations

from enum import IntEnum


class TransportCode(IntEnum):
    NO_ERROR = 0x00
    INTERNAL_ERROR = 0x01
    FLOW_CONTROL_ERROR = 0x03
    STREAM_LIMIT_ERROR = 0x04
    STREAM_STATE_ERROR = 0x05
    FINAL_SIZE_ERROR = 0x06
    FRAME_ENCODING_ERROR = 0x07
    TRANSPORT_PARAMETER_ERROR = 0x08
    PROTOCOL_VIOLATION = 0x0A
    CRYPTO_BUFFER_EXCEEDED = 0x0D
    CRYPTO_ERROR = 0x0100  # plus the TLS alert (RFC 9001 §4.8)


class FrameType(IntEnum):
    RESET_STREAM = 0x04
    STOP_SENDING = 0x05
    CRYPTO = 0x06
    NEW_TOKEN = 0x07
    STREAM = 0x08  # to 0x0f, with the bits STREAM_FIN, STREAM_LEN, STREAM_OFF
    MAX_DATA = 0x10
    MAX_STREAM_DATA = 0x11
    MAX_STREAMS_BIDI = 0x12
    MAX_STREAMS_UNI = 0x13
    DATA_BLOCKED = 0x14
    STREAM_DATA_BLOCKED = 0x15
    STREAMS_BLOCKED_BIDI = 0x16
    STREAMS_BLOCKED_UNI = 0x17


STREAM_FIN, STREAM_LEN, STREAM_OFF = 0x01, 0x02, 0x04
