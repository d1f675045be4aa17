"""The four TLS 1.3 messages of a PSK handshake (RFC 8446 §4): strict codec. Lengths, duplicates and order are checked
here; what the values mean is the handshake's business. There is no message with a certificate."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from enum import IntEnum

from mpquic.reader import Reader, ReadError
from mpquic.tls_errors import DecodeError, IllegalParameter, TlsProtocolViolation

LEGACY_VERSION = 0x0303
TLS_1_3 = 0x0304
GROUP_X25519 = 0x001D
X25519_LENGTH = 32
PSK_DHE_KE = 1
# What stacks expect to see in a ClientHello although no certificate is ever used: ecdsa_secp256r1_sha256.
SIGNATURE_ALGORITHMS = bytes.fromhex("0403")
HELLO_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class MessageType(IntEnum):
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24


class Extension(IntEnum):
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    PSK_KEY_EXCHANGE_MODES = 45
    KEY_SHARE = 51
    QUIC_TRANSPORT_PARAMETERS = 57


@dataclass(slots=True)
class ClientHello:
    """legacy_version, random, legacy_session_id, suites, compression, extensions."""

    random: bytes
    suites: list[int]
    session_id: bytes = b""
    compression: bytes = b"\x00"
    key_shares: list[tuple[int, bytes]] | None = None
    versions: list[int] | None = None
    signature_algorithms: bytes | None = SIGNATURE_ALGORITHMS
    groups: list[int] | None = None
    psk_modes: list[int] | None = None
    alpn: list[bytes] | None = None
    transport_parameters: bytes | None = None
    identities: list[tuple[bytes, int]] | None = None
    binders: list[bytes] = field(default_factory=list)
    early_data: bool = False
    grease: int | None = None  # type of an empty extension that stands first (RFC 8701)
    binders_length: int = 0  # octets of the binders list with its length field: what Truncate() leaves out

    def encode(self) -> bytes:
        """Extensions in the order 51, 43, 13, 10, 45, 16, 57, 42, 41 (the last by RFC 8446 §4.2.11)."""
        out: list[bytes] = []
        if self.grease is not None:
            out.append(_extension(self.grease, b""))
        if self.key_shares is not None:
            out.append(_extension(Extension.KEY_SHARE, _vector(2, b"".join(_share(*s) for s in self.key_shares))))
        if self.versions is not None:
            out.append(_extension(Extension.SUPPORTED_VERSIONS, _vector(1, _uints(self.versions))))
        if self.signature_algorithms is not None:
            out.append(_extension(Extension.SIGNATURE_ALGORITHMS, _vector(2, self.signature_algorithms)))
        if self.groups is not None:
            out.append(_extension(Extension.SUPPORTED_GROUPS, _vector(2, _uints(self.groups))))
        if self.psk_modes is not None:
            out.append(_extension(Extension.PSK_KEY_EXCHANGE_MODES, _vector(1, bytes(self.psk_modes))))
        if self.alpn is not None:
            out.append(_extension(Extension.ALPN, _vector(2, b"".join(_vector(1, name) for name in self.alpn))))
        if self.transport_parameters is not None:
            out.append(_extension(Extension.QUIC_TRANSPORT_PARAMETERS, self.transport_parameters))
        if self.early_data:
            out.append(_extension(Extension.EARLY_DATA, b""))
        if self.identities is not None:
            identities = b"".join(_vector(2, name) + age.to_bytes(4, "big") for name, age in self.identities)
            binders = binders_list(self.binders)
            self.binders_length = len(binders)
            out.append(_extension(Extension.PRE_SHARED_KEY, _vector(2, identities) + binders))
        body = (
            LEGACY_VERSION.to_bytes(2, "big")
            + self.random
            + _vector(1, self.session_id)
            + _vector(2, _uints(self.suites))
            + _vector(1, self.compression)
            + _vector(2, b"".join(out))
        )
        return message(MessageType.CLIENT_HELLO, body)

    @classmethod
    def decode(cls, body: bytes) -> ClientHello:
        reader = Reader(body)
        try:
            reader.uint(2)  # legacy_version: ignored beside supported_versions (RFC 8446 §4.2.1)
            hello = cls(random=reader.octets(32), suites=[], signature_algorithms=None)
            hello.session_id = reader.vector(1, most=32)
            hello.suites = _uint_list(reader.vector(2, least=2))
            hello.compression = reader.vector(1, least=1)
            # Up to TLS 1.2 the block may be missing: then there is no TLS 1.3 on offer, which is its own error
            extensions = _extensions(reader.vector(2)) if reader.left else {}
            reader.end()
        except ReadError as error:
            raise DecodeError(f"ClientHello: {error}") from None
        check_session_id(hello.session_id)
        if hello.compression != b"\x00":
            raise IllegalParameter("compression methods other than null (RFC 8446 §4.1.2)")
        check_psk_last(list(extensions))
        for type_, content in extensions.items():
            if parse := _CLIENT_HELLO_EXTENSIONS.get(type_):
                inner = Reader(content)
                try:
                    parse(hello, inner)
                    inner.end()
                except ReadError as error:
                    raise DecodeError(f"ClientHello extension {type_}: {error}") from None
        return hello


@dataclass(slots=True)
class ServerHello:
    random: bytes
    suite: int
    session_id: bytes = b""
    compression: int = 0
    version: int | None = None
    key_share: tuple[int, bytes] | None = None
    selected_identity: int | None = None
    unknown_extensions: list[int] = field(default_factory=list)

    @property
    def is_retry(self) -> bool:
        return self.random == HELLO_RETRY_RANDOM

    def encode(self) -> bytes:
        out = b""
        if self.version is not None:
            out += _extension(Extension.SUPPORTED_VERSIONS, self.version.to_bytes(2, "big"))
        if self.key_share is not None:
            out += _extension(Extension.KEY_SHARE, _share(*self.key_share))
        if self.selected_identity is not None:
            out += _extension(Extension.PRE_SHARED_KEY, self.selected_identity.to_bytes(2, "big"))
        body = (
            LEGACY_VERSION.to_bytes(2, "big")
            + self.random
            + _vector(1, self.session_id)
            + self.suite.to_bytes(2, "big")
            + bytes([self.compression])
            + _vector(2, out)
        )
        return message(MessageType.SERVER_HELLO, body)

    @classmethod
    def decode(cls, body: bytes) -> ServerHello:
        reader = Reader(body)
        try:
            reader.uint(2)
            hello = cls(random=reader.octets(32), suite=0)
            hello.session_id = reader.vector(1, most=32)
            hello.suite = reader.uint(2)
            hello.compression = reader.uint(1)
            extensions = _extensions(reader.vector(2))
            reader.end()
            if hello.is_retry:  # its key_share has another form; the caller refuses it anyway
                return hello
            for type_, content in extensions.items():
                inner = Reader(content)
                if type_ == Extension.SUPPORTED_VERSIONS:
                    hello.version = inner.uint(2)
                elif type_ == Extension.KEY_SHARE:
                    hello.key_share = (inner.uint(2), inner.vector(2, least=1))
                elif type_ == Extension.PRE_SHARED_KEY:
                    hello.selected_identity = inner.uint(2)
                else:
                    hello.unknown_extensions.append(type_)
                    continue
                inner.end()
        except ReadError as error:
            raise DecodeError(f"ServerHello: {error}") from None
        return hello


@dataclass(slots=True)
class EncryptedExtensions:
    alpn: bytes | None = None
    transport_parameters: bytes | None = None
    other_extensions: list[int] = field(default_factory=list)

    def encode(self) -> bytes:
        out = b""
        if self.alpn is not None:
            out += _extension(Extension.ALPN, _vector(2, _vector(1, self.alpn)))
        if self.transport_parameters is not None:
            out += _extension(Extension.QUIC_TRANSPORT_PARAMETERS, self.transport_parameters)
        return message(MessageType.ENCRYPTED_EXTENSIONS, _vector(2, out))

    @classmethod
    def decode(cls, body: bytes) -> EncryptedExtensions:
        reader = Reader(body)
        result = cls()
        try:
            extensions = _extensions(reader.vector(2))
            reader.end()
            for type_, content in extensions.items():
                if type_ == Extension.ALPN:
                    inner = Reader(content)
                    names = Reader(inner.vector(2, least=2))
                    result.alpn = names.vector(1, least=1)
                    names.end()  # exactly one name (RFC 7301 §3.1)
                    inner.end()
                elif type_ == Extension.QUIC_TRANSPORT_PARAMETERS:
                    result.transport_parameters = content
                else:
                    result.other_extensions.append(type_)
        except ReadError as error:
            raise DecodeError(f"EncryptedExtensions: {error}") from None
        return result


def message(type_: MessageType, body: bytes) -> bytes:
    """Handshake header: msg_type (1), length (3)."""
    return type_.to_bytes(1, "big") + _vector(3, body)


def binders_list(binders: list[bytes]) -> bytes:
    """What ends a ClientHello behind its truncated part (RFC 8446 §4.2.11.2)."""
    return _vector(2, b"".join(_vector(1, binder) for binder in binders))


# ---- parts


def _vector(size: int, content: bytes) -> bytes:
    return len(content).to_bytes(size, "big") + content


def _extension(type_: int, content: bytes) -> bytes:
    return type_.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


def _uints(values: list[int]) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


def _share(group: int, key: bytes) -> bytes:
    return group.to_bytes(2, "big") + _vector(2, key)


def _uint_list(content: bytes) -> list[int]:
    if len(content) % 2:
        raise ReadError("odd length of a list of 2-octet values")
    return [int.from_bytes(content[i : i + 2], "big") for i in range(0, len(content), 2)]


def _extensions(block: bytes) -> dict[int, bytes]:
    reader = Reader(block)
    out: dict[int, bytes] = {}
    while reader.position < len(block):
        type_ = reader.uint(2)
        content = reader.vector(2)
        check_unique(type_, out)
        out[type_] = content
    return out


def check_unique(type_: int, seen: Container[int]) -> None:
    if type_ in seen:
        raise IllegalParameter(f"extension {type_} twice (RFC 8446 §4.2)")


def check_psk_last(types: list[int]) -> None:
    if Extension.PRE_SHARED_KEY in types and types[-1] != Extension.PRE_SHARED_KEY:
        raise IllegalParameter("pre_shared_key is not the last extension (RFC 8446 §4.2.11)")


def check_session_id(session_id: bytes) -> None:
    if session_id:
        raise TlsProtocolViolation("legacy_session_id is not empty (RFC 9001 §8.4)")


def _parse_key_share(hello: ClientHello, inner: Reader) -> None:
    shares = Reader(inner.vector(2))
    hello.key_shares = []
    while shares.left:
        hello.key_shares.append((shares.uint(2), shares.vector(2, least=1)))


def _parse_versions(hello: ClientHello, inner: Reader) -> None:
    hello.versions = _uint_list(inner.vector(1, least=2, most=254))


def _parse_signatures(hello: ClientHello, inner: Reader) -> None:
    content = inner.vector(2, least=2)
    _uint_list(content)
    hello.signature_algorithms = content


def _parse_groups(hello: ClientHello, inner: Reader) -> None:
    hello.groups = _uint_list(inner.vector(2, least=2))


def _parse_psk_modes(hello: ClientHello, inner: Reader) -> None:
    hello.psk_modes = list(inner.vector(1, least=1))


def _parse_alpn(hello: ClientHello, inner: Reader) -> None:
    names = Reader(inner.vector(2, least=2))
    hello.alpn = []
    while names.left:
        hello.alpn.append(names.vector(1, least=1))


def _parse_transport_parameters(hello: ClientHello, inner: Reader) -> None:
    hello.transport_parameters = inner.rest()


def _parse_early_data(hello: ClientHello, inner: Reader) -> None:
    hello.early_data = True


def _parse_pre_shared_key(hello: ClientHello, inner: Reader) -> None:
    identities = Reader(inner.vector(2, least=7))
    hello.identities = []
    while identities.left:
        hello.identities.append((identities.vector(2, least=1), identities.uint(4)))
    start = inner.position
    # A binder that is too short is a wrong binder, not a syntax error: it must look like any other wrong one (bars R-06)
    binders = Reader(inner.vector(2))
    hello.binders_length = inner.position - start
    while binders.left:
        hello.binders.append(binders.vector(1))


_CLIENT_HELLO_EXTENSIONS: dict[int, Callable[[ClientHello, Reader], None]] = {
    Extension.KEY_SHARE: _parse_key_share,
    Extension.SUPPORTED_VERSIONS: _parse_versions,
    Extension.SIGNATURE_ALGORITHMS: _parse_signatures,
    Extension.SUPPORTED_GROUPS: _parse_groups,
    Extension.PSK_KEY_EXCHANGE_MODES: _parse_psk_modes,
    Extension.ALPN: _parse_alpn,
    Extension.QUIC_TRANSPORT_PARAMETERS: _parse_transport_parameters,
    Extension.EARLY_DATA: _parse_early_data,
    Extension.PRE_SHARED_KEY: _parse_pre_shared_key,
}
