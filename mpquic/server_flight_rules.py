"""What the client accepts of a server's ServerHello and EncryptedExtensions: one rule, one function; each raises the error
with its alert (RFC 8446 §4.1.3, §4.2.11, §4.3.1, RFC 9001 §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpquic.suites import Suite
from mpquic.tls_errors import (
    IllegalParameter,
    MissingExtension,
    NoApplicationProtocol,
    ProtocolVersion,
    PskMissing,
    UnsupportedExtension,
)
from mpquic.tls_messages import GROUP_X25519, TLS_1_3, EncryptedExtensions, Extension, ServerHello

# In our ClientHello, yet not allowed in EncryptedExtensions (RFC 8446 §4.2, table)
_OFFERED_ELSEWHERE = frozenset(
    (
        Extension.KEY_SHARE,
        Extension.SUPPORTED_VERSIONS,
        Extension.SIGNATURE_ALGORITHMS,
        Extension.PSK_KEY_EXCHANGE_MODES,
        Extension.PRE_SHARED_KEY,
    )
)


def check_form(hello: ServerHello) -> None:
    if hello.is_retry:  # we have offered our only group
        raise IllegalParameter("HelloRetryRequest, although the only group was offered")
    if hello.unknown_extensions:
        raise UnsupportedExtension(f"ServerHello extension {hello.unknown_extensions[0]} was not offered")
    if hello.session_id or hello.compression:
        raise IllegalParameter("ServerHello does not echo session id and compression")


def check_version(hello: ServerHello) -> None:
    if hello.version is None:
        raise ProtocolVersion("ServerHello without TLS 1.3")
    if hello.version != TLS_1_3:
        raise IllegalParameter(f"ServerHello selects version 0x{hello.version:04x}")


def selected_suite(hello: ServerHello, offered: Mapping[int, Suite]) -> Suite:
    suite = offered.get(hello.suite)
    if suite is None:
        raise IllegalParameter(f"ServerHello selects suite 0x{hello.suite:04x}, which was not offered")
    return suite


def selected_identity(hello: ServerHello) -> int:
    """Without the PSK the server would have to be believed by a certificate: there are none here."""
    if hello.selected_identity is None:
        raise PskMissing("ServerHello without pre_shared_key: the server wants certificates")
    return hello.selected_identity


def check_identity(index: int, suite: Suite, hashes: Sequence[str]) -> None:
    """The identity was offered, and its key has the suite's hash. `hashes`: of the keys offered."""
    if index >= len(hashes):
        raise IllegalParameter(f"ServerHello selects identity {index} of {len(hashes)}")
    if hashes[index] != suite.hash_name:
        raise IllegalParameter("ServerHello selects a suite with another hash than the key's")


def selected_share(hello: ServerHello) -> bytes:
    if hello.key_share is None:
        raise IllegalParameter("ServerHello without key_share: psk_ke was not offered")
    group, share = hello.key_share
    if group != GROUP_X25519:
        raise IllegalParameter(f"ServerHello selects group 0x{group:04x}, which was not offered")
    return share


def check_offered(extensions: EncryptedExtensions) -> None:
    for type_ in extensions.other_extensions:
        if type_ in _OFFERED_ELSEWHERE:
            raise IllegalParameter(f"extension {type_} is not allowed in EncryptedExtensions")
        if type_ != Extension.SUPPORTED_GROUPS:
            raise UnsupportedExtension(f"EncryptedExtensions extension {type_} was not offered")


def selected_alpn(extensions: EncryptedExtensions, offered: Sequence[bytes]) -> bytes:
    if extensions.alpn is None:
        raise NoApplicationProtocol("EncryptedExtensions without ALPN (RFC 9001 §8.1)")
    if extensions.alpn not in offered:
        raise IllegalParameter("ALPN that was not offered")
    return extensions.alpn


def server_parameters(extensions: EncryptedExtensions) -> bytes:
    if extensions.transport_parameters is None:
        raise MissingExtension("EncryptedExtensions without quic_transport_parameters (RFC 9001 §8.2)")
    return extensions.transport_parameters
