"""What a ClientHello must bring before any key is looked at: one rule, one function; each raises the error with its alert
(RFC 8446 §4.1.2, §4.2, RFC 9001 §8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpquic.suites import Suite
from mpquic.tls_errors import (
    IllegalParameter,
    MissingExtension,
    NoApplicationProtocol,
    NoCommonParameters,
    ProtocolVersion,
    PskMissing,
)
from mpquic.tls_messages import GROUP_X25519, PSK_DHE_KE, TLS_1_3, X25519_LENGTH, ClientHello


def check_version(hello: ClientHello) -> None:
    if hello.versions is None or TLS_1_3 not in hello.versions:
        raise ProtocolVersion("ClientHello without TLS 1.3")


def check_extensions(hello: ClientHello) -> None:
    """What RFC 8446 §9.2 and RFC 9001 §8.2 require to be there; without a PSK the next rule says so."""
    if hello.transport_parameters is None:
        raise MissingExtension("ClientHello without quic_transport_parameters (RFC 9001 §8.2)")
    if hello.identities is None:
        return
    if hello.psk_modes is None:
        raise MissingExtension("pre_shared_key without psk_key_exchange_modes (RFC 8446 §4.2.9)")
    if hello.groups is None or hello.key_shares is None:
        raise MissingExtension("ClientHello without supported_groups or key_share (RFC 8446 §9.2)")


def check_psk(hello: ClientHello) -> None:
    """A PSK, and forward secrecy: psk_ke alone would let a key that leaks later open what was recorded."""
    if hello.identities is None:
        raise PskMissing("ClientHello without pre_shared_key: there are no certificates here")
    if PSK_DHE_KE not in (hello.psk_modes or ()):
        raise NoCommonParameters("psk_dhe_ke is not offered")


def check_binder_count(hello: ClientHello) -> None:
    identities = hello.identities or ()
    if len(hello.binders) != len(identities):
        raise IllegalParameter(f"{len(identities)} identities and {len(hello.binders)} binders")


def check_key_shares(hello: ClientHello) -> None:
    """RFC 8446 §4.2.8: at most one share a group, of groups that are offered; RFC 8446 §4.2.8.2: x25519's has 32 octets."""
    shares = hello.key_shares or []
    groups = [group for group, _ in shares]
    if len(set(groups)) != len(groups) or not set(groups) <= set(hello.groups or ()):
        raise IllegalParameter("key shares twice for one group, or for a group that is not offered")
    for group, key in shares:
        if group == GROUP_X25519 and len(key) != X25519_LENGTH:
            raise IllegalParameter(f"x25519 key share of {len(key)} octets: {X25519_LENGTH} wanted")


def check_group(hello: ClientHello) -> None:
    """A share of x25519 is wanted in the first flight: there is no HelloRetryRequest here."""
    if GROUP_X25519 not in dict(hello.key_shares or ()):
        raise NoCommonParameters("no x25519 key share")


def check(hello: ClientHello, suites: Iterable[Suite], alpn: Sequence[bytes]) -> tuple[bytes, bytes]:
    """All rules in their order; the client's x25519 share and the application protocol."""
    check_version(hello)
    check_extensions(hello)
    check_psk(hello)
    check_binder_count(hello)
    check_key_shares(hello)
    check_group(hello)
    check_suites(hello, suites)
    return dict(hello.key_shares or ())[GROUP_X25519], common_alpn(hello, alpn)


def check_suites(hello: ClientHello, suites: Iterable[Suite]) -> None:
    if not any(suite.code in hello.suites for suite in suites):
        raise NoCommonParameters("no common cipher suite")


def common_alpn(hello: ClientHello, ours: Sequence[bytes]) -> bytes:
    """The first of ours that the client offers (RFC 7301 §3.2)."""
    common = [name for name in ours if name in (hello.alpn or ())]
    if not common:
        raise NoApplicationProtocol("no common ALPN (RFC 9001 §8.1)")
    return common[0]
