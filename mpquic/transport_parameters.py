"""QUIC transport parameters (RFC 9000 §18, RFC 9221 §3, RFC 10069 §2.1): typed, strict, with CID authentication."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from mpquic.reader import Reader, ReadError, peek_varint, varint
from mpquic.tls_errors import EmptyConnectionId, TransportParameterError

MAX_CID = 20
MAX_STREAMS = 1 << 60
MAX_PATH_ID = (1 << 32) - 1
NONCE_LEAST = 12


@dataclass(frozen=True, slots=True)
class _Rule:
    """Wire form of one parameter: an integer with limits, a CID, `length` octets, or a flag (length 0)."""

    id: int
    least: int = 0
    most: int = (1 << 62) - 1
    length: int | None = None
    cid: bool = False
    server_only: bool = False


_RULES: dict[str, _Rule] = {
    "original_destination_connection_id": _Rule(0x00, cid=True, server_only=True),
    "max_idle_timeout": _Rule(0x01),
    "stateless_reset_token": _Rule(0x02, length=16, server_only=True),
    "max_udp_payload_size": _Rule(0x03, least=1200),
    "initial_max_data": _Rule(0x04),
    "initial_max_stream_data_bidi_local": _Rule(0x05),
    "initial_max_stream_data_bidi_remote": _Rule(0x06),
    "initial_max_stream_data_uni": _Rule(0x07),
    "initial_max_streams_bidi": _Rule(0x08, most=MAX_STREAMS),
    "initial_max_streams_uni": _Rule(0x09, most=MAX_STREAMS),
    "ack_delay_exponent": _Rule(0x0A, most=20),
    "max_ack_delay": _Rule(0x0B, most=(1 << 14) - 1),
    "disable_active_migration": _Rule(0x0C, length=0),
    "active_connection_id_limit": _Rule(0x0E, least=2),
    "initial_source_connection_id": _Rule(0x0F, cid=True),
    "retry_source_connection_id": _Rule(0x10, cid=True, server_only=True),
    "max_datagram_frame_size": _Rule(0x20),
    "initial_max_path_id": _Rule(0x3E, most=MAX_PATH_ID),
}
_PREFERRED_ADDRESS = 0x0D
_NAMES = {rule.id: name for name, rule in sorted(_RULES.items(), key=lambda item: item[1].id)}  # ascending
_PARAMETERS_MOST = 64  # in one list; GREASE and unknown ones included


@dataclass(frozen=True, slots=True)
class PreferredAddress:
    """What counts of preferred_address for us, who do not go there: its CID, number 1 of path 0 (RFC 9000 §5.1.1)."""

    cid: bytes
    token: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TransportParameters:
    """The parameters of one side; None = absent (then the default of RFC 9000 §18.2 holds)."""

    original_destination_connection_id: bytes | None = None
    max_idle_timeout: int | None = None  # ms
    stateless_reset_token: bytes | None = None
    max_udp_payload_size: int | None = None
    initial_max_data: int | None = None
    initial_max_stream_data_bidi_local: int | None = None
    initial_max_stream_data_bidi_remote: int | None = None
    initial_max_stream_data_uni: int | None = None
    initial_max_streams_bidi: int | None = None
    initial_max_streams_uni: int | None = None
    ack_delay_exponent: int | None = None
    max_ack_delay: int | None = None  # ms
    disable_active_migration: bool = False
    active_connection_id_limit: int | None = None
    initial_source_connection_id: bytes | None = None
    retry_source_connection_id: bytes | None = None
    max_datagram_frame_size: int | None = None
    initial_max_path_id: int | None = None
    preferred_address: PreferredAddress | None = None  # received only: we have one address

    def encode(self) -> bytes:
        """In ascending order of the identifiers."""
        out = b""
        for identifier, name in _NAMES.items():
            value = getattr(self, name)
            if value is None or value is False:
                continue
            if value is True:
                content = b""
            elif isinstance(value, bytes):
                content = value
            else:
                content = varint(value)
            out += varint(identifier) + varint(len(content)) + content
        return out

    @classmethod
    def decode(cls, data: bytes, from_server: bool) -> TransportParameters:
        """Strict: a duplicate, a value out of its limits, a length that does not fit, an identifier that only a
        server may send: TRANSPORT_PARAMETER_ERROR. Unknown identifiers are ignored (RFC 9000 §7.4.2)."""
        values: dict[str, int | bytes | bool] = {}
        seen: set[int] = set()
        preferred: PreferredAddress | None = None
        reader = Reader(data)
        try:
            while reader.position < len(data):
                identifier = reader.varint()
                content = reader.octets(reader.varint())
                if identifier in seen:
                    raise TransportParameterError(f"transport parameter 0x{identifier:x} twice")
                seen.add(identifier)
                if len(seen) > _PARAMETERS_MOST:
                    raise TransportParameterError(f"more than {_PARAMETERS_MOST} transport parameters")
                if identifier == _PREFERRED_ADDRESS:
                    preferred = _decode_preferred_address(content, from_server)
                elif name := _NAMES.get(identifier):
                    values[name] = _decode_value(name, _RULES[name], content, from_server)
        except ReadError as error:
            raise TransportParameterError(f"transport parameters do not parse: {error}") from None
        return cls(preferred_address=preferred, **values)  # type: ignore[arg-type]

    def authenticate(
        self, *, source: bytes, original_destination: bytes | None = None, retry_source: bytes | None = None
    ) -> None:
        """CIDs of the handshake against those that the peer says it used (RFC 9000 §7.3). original_destination is given
        by a client only: it is the DCID of its first Initial."""
        if self.initial_source_connection_id != source:
            raise TransportParameterError("initial_source_connection_id is not the peer's source CID")
        if original_destination is not None:
            if self.original_destination_connection_id != original_destination:
                raise TransportParameterError("original_destination_connection_id is not our first destination CID")
            if self.retry_source_connection_id != retry_source:
                raise TransportParameterError("retry_source_connection_id does not fit the Retry")
        self.check_cid(source)

    def check_cid(self, source: bytes) -> None:
        """RFC 10069 §2.1: multipath needs CIDs; an empty one with initial_max_path_id is a PROTOCOL_VIOLATION."""
        if self.initial_max_path_id is not None and not source:
            raise EmptyConnectionId("initial_max_path_id from a peer with an empty CID")

    def check_nonce(self, length: int) -> None:
        """RFC 10069 §2.1: the nonce holds path ID and packet number, 12 octets; no suite of TLS 1.3 has less so far."""
        if self.initial_max_path_id is not None and length < NONCE_LEAST:
            raise TransportParameterError(f"multipath with an AEAD whose nonce has {length} octets: at least {NONCE_LEAST}")

    def describe(self) -> dict[str, int | bool | str]:
        """For the log: what is set, without the reset token."""
        out: dict[str, int | bool | str] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None or value is False or item.name in ("stateless_reset_token", "preferred_address"):
                continue
            out[item.name] = value.hex() if isinstance(value, bytes) else value
        return out


def _decode_value(name: str, rule: _Rule, content: bytes, from_server: bool) -> int | bytes | bool:
    if rule.server_only and not from_server:
        raise TransportParameterError(f"{name} from a client")
    if rule.cid:
        if len(content) > MAX_CID:
            raise TransportParameterError(f"{name} of {len(content)} octets: at most {MAX_CID}")
        return content
    if rule.length is not None:
        if len(content) != rule.length:
            raise TransportParameterError(f"{name} of {len(content)} octets: it has {rule.length}")
        return content if rule.length else True
    found = peek_varint(content, 0)
    if found is None:
        raise TransportParameterError(f"{name}: {len(content)} octets are no integer")
    value, end = found
    if end < len(content):
        raise TransportParameterError(f"{name}: {len(content) - end} octets after its integer")
    if not rule.least <= value <= rule.most:
        raise TransportParameterError(f"{name} is {value}: {rule.least} to {rule.most} allowed")
    return value


def _decode_preferred_address(content: bytes, from_server: bool) -> PreferredAddress:
    """The address itself is not used: the UE's paths come from its accesses."""
    if not from_server:
        raise TransportParameterError("preferred_address from a client")
    reader = Reader(content)
    reader.octets(4 + 2 + 16 + 2)
    length = reader.uint(1)
    if not 1 <= length <= MAX_CID:
        raise TransportParameterError(f"preferred_address with a CID of {length} octets: 1 to {MAX_CID}")
    cid, token = reader.octets(length), reader.octets(16)
    if reader.left:
        raise TransportParameterError("preferred_address: octets left over")
    return PreferredAddress(cid, token)
