"""What a decryptor must read of the TLS 1.3 handshake: random, cipher suite, transport parameters (RFC 9846 §4)."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab.packets.errors import PacketError
from lab.packets.varint import read_varint, take, write_varint

CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, FINISHED = 1, 2, 8, 20
EXTENSION_TRANSPORT_PARAMETERS = 0x39
MESSAGE_MAX = 1 << 16
RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")    # HelloRetryRequest

TRANSPORT_PARAMETERS: dict[int, str] = {
    0x00: "original_destination_connection_id", 0x01: "max_idle_timeout", 0x02: "stateless_reset_token",
    0x03: "max_udp_payload_size", 0x04: "initial_max_data", 0x05: "initial_max_stream_data_bidi_local",
    0x06: "initial_max_stream_data_bidi_remote", 0x07: "initial_max_stream_data_uni", 0x08: "initial_max_streams_bidi",
    0x09: "initial_max_streams_uni", 0x0A: "ack_delay_exponent", 0x0B: "max_ack_delay",
    0x0C: "disable_active_migration", 0x0D: "preferred_address", 0x0E: "active_connection_id_limit",
    0x0F: "initial_source_connection_id", 0x10: "retry_source_connection_id", 0x11: "version_information",
    0x20: "max_datagram_frame_size", 0x3E: "initial_max_path_id", 0x2AB2: "grease_quic_bit",
    0xFF04DE1B: "min_ack_delay",
}


@dataclass(slots=True)
class Hello:
    """A ClientHello, ServerHello or EncryptedExtensions, as far as we look."""

    kind: int
    random: bytes = b""
    suite: int = 0
    parameters: dict[int, bytes] = field(default_factory=dict)


def read_transport_parameters(data: bytes) -> dict[int, bytes]:
    parameters: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        key, offset = read_varint(data, offset)
        length, offset = read_varint(data, offset)
        value, offset = take(data, offset, length, "transport parameter")
        if key in parameters:
            raise PacketError("transport parameters", f"0x{key:x} twice", offset)
        parameters[key] = value
    return parameters


def write_transport_parameters(parameters: dict[int, bytes]) -> bytes:
    return b"".join(write_varint(key) + write_varint(len(value)) + value for key, value in parameters.items())


def preferred_address_cid(parameters: dict[int, bytes]) -> bytes:
    """The connection ID inside preferred_address (RFC 9000 §18.2); empty: there is none, or it does not read."""
    value = parameters.get(0x0D, b"")
    end = 25 + value[24] if len(value) > 24 else 0
    return value[25:end] if end and len(value) == end + 16 and end <= 45 else b""


def read_hello(message: bytes) -> Hello | None:
    """The handshake message (type and length first); None for one that we do not look into."""
    kind = message[0]
    if kind not in (CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS):
        return None
    hello = Hello(kind)
    offset = 4
    if kind != ENCRYPTED_EXTENSIONS:
        hello.random, offset = take(message, offset + 2, 32, "hello random")
        _, offset = _read_vector(message, offset, 1)        # legacy_session_id
        if kind == CLIENT_HELLO:
            _, offset = _read_vector(message, offset, 2)    # cipher suites
            _, offset = _read_vector(message, offset, 1)    # compression
        else:
            suite, offset = take(message, offset, 3, "cipher suite")
            hello.suite = int.from_bytes(suite[:2], "big")
    extensions, _ = _read_vector(message, offset, 2)
    offset = 0
    while offset < len(extensions):
        code, offset = take(extensions, offset, 2, "extension")
        body, offset = _read_vector(extensions, offset, 2)
        if int.from_bytes(code, "big") == EXTENSION_TRANSPORT_PARAMETERS:
            hello.parameters = read_transport_parameters(body)
    return hello


def _read_vector(data: bytes, offset: int, width: int) -> tuple[bytes, int]:
    length, offset = take(data, offset, width, "TLS vector")
    return take(data, offset, int.from_bytes(length, "big"), "TLS vector")


class CryptoStream:
    """CRYPTO data of one level and direction, put in order; gives whole handshake messages. Bounded."""

    __slots__ = ("_buffer", "_chunks", "_position")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0                      # stream offset behind _buffer
        self._chunks: dict[int, bytes] = {}

    def add(self, offset: int, data: bytes) -> list[bytes]:
        if offset + len(data) <= self._position or offset > self._position + MESSAGE_MAX or len(self._chunks) > 256:
            return []
        self._chunks[offset] = max(data, self._chunks.get(offset, b""), key=len)
        for start in sorted(self._chunks):
            if start > self._position:
                break
            chunk = self._chunks.pop(start)[self._position - start:]
            self._buffer += chunk
            self._position += len(chunk)
        messages = []
        while len(self._buffer) >= 4:
            length = 4 + int.from_bytes(self._buffer[1:4], "big")
            if length > MESSAGE_MAX or len(self._buffer) < length:
                break
            messages.append(self._buffer[:length])
            self._buffer = self._buffer[length:]
        return messages
