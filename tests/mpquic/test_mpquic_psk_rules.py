"""The failures PSK-01 to PSK-16 (docs/rules.toml), each at the end that sees it: exact code, its counter, nothing sent after.

Every test of a row fails once the row's protection is removed (tests/rules/rule_sabotage.py): a row's test asks for nothing
that would hold without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from handshakes import (
    IDENTITY,
    KEY,
    answered,
    client_of,
    client_waits,
    connected,
    duplicate_extension,
    extension_setter,
    flight,
    flip_binder,
    hello_bytes,
    hello_setter,
    psk_not_last,
    refused,
    rewritten,
    server_of,
    server_waits,
    setter,
    signed,
    with_binder,
)

from mpquic import key_schedule, tls_server
from mpquic.crypto_stream import CryptoReceiver
from mpquic.errors import HandshakeRefused, PskSpent, TransportError
from mpquic.key_schedule import KeySchedule
from mpquic.psk import Psk, PskMode
from mpquic.suites import AES_128_GCM, AES_256_GCM, Suite
from mpquic.tls_messages import ClientHello, EncryptedExtensions, MessageType, ServerHello, message
from mpquic.tls_states import Level, Role
from mpquic.transport_parameters import TransportParameters
from native import lib

Change = Callable[[bytes], bytes]
X25519, P256 = 0x001D, 0x0017
SHARE = (X25519, b"\x09" + bytes(31))


def spent(_identity: bytes) -> Psk | None:
    raise PskSpent("spent")


def refusal_of(hello: bytes, **options: Any) -> TransportError:
    return refused(server_of(**options), Level.INITIAL, hello)


# ---- PSK-01, PSK-02: a key that is not accepted

BAD_KEYS: dict[str, tuple[Callable[[], bytes], dict[str, Any], str]] = {
    "identity unknown": (lambda: signed(setter(identities=[(b"somebody-els", 0)])), {}, "psk_unknown_identity"),
    "binder flipped": (lambda: flip_binder(hello_bytes()), {}, "psk_wrong_binder"),
    "binder short": (lambda: with_binder(b"x" * 31), {}, "psk_wrong_binder"),
    "binder empty": (lambda: with_binder(b""), {}, "psk_wrong_binder"),
    "binder of another hash": (lambda: with_binder(bytes(48)), {}, "psk_wrong_binder"),
    "key spent": (hello_bytes, {"lookup": spent}, "psk_spent"),
    "suite of another hash": (lambda: signed(setter(suites=[0x1302])), {}, "psk_no_suite"),
}


@pytest.mark.parametrize(("make", "options", "counter"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_psk_01_every_refused_key_has_one_code_and_its_own_counter(
    make: Callable[[], bytes], options: dict[str, Any], counter: str
) -> None:
    error = refusal_of(make(), **options)
    assert (error.code, error.counter) == (0x133, counter)


def imported_hello(suite: Suite, key: bytes = KEY, identity: bytes = IDENTITY, context: bytes = b"") -> bytes:
    client = client_of(Psk(key, identity, PskMode.IMPORTED, [suite], context))
    client.start()
    return flight(client)[Level.INITIAL]


def test_psk_01_every_refusal_costs_the_same_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same derivations over the same lengths, and no Diffie-Hellman; with an imported key, the import too."""
    work: list[tuple[object, ...]] = []

    class Counted:
        """The engine's functions of key derivation: numbers as they are, of octets how many."""

        def __getattr__(self, name: str) -> Callable[..., int]:
            def call(*arguments: Any) -> int:
                work.append((name, *(a if isinstance(a, int) else len(a) for a in arguments)))
                return int(getattr(lib, name)(*arguments))

            return call

    def no_exchange(*_: object) -> bytes:
        raise AssertionError("Diffie-Hellman for a key that is refused")

    def cost(hello: bytes, **options: Any) -> list[tuple[object, ...]]:
        with monkeypatch.context() as patch:
            patch.setattr(key_schedule, "lib", Counted())
            patch.setattr(tls_server, "x25519_shared", no_exchange)
            work.clear()
            assert refusal_of(hello, **options).code == 0x133
        return list(work)

    known = cost(flip_binder(hello_bytes()))
    assert len(known) == 3  # extract, binder key, binder
    for name in ("identity unknown", "key spent", "binder empty"):
        make, options, _ = BAD_KEYS[name]
        assert cost(make(), **options) == known, name
    for suite in (AES_128_GCM, AES_256_GCM):
        imported: dict[str, Any] = {"lookup": {IDENTITY: Psk(KEY, IDENTITY, PskMode.IMPORTED)}.get}
        known = cost(flip_binder(imported_hello(suite)), **imported)
        assert len(known) == 5  # and the import: extract, expand
        assert cost(imported_hello(suite, identity=b"somebody-els"), **imported) == known
        assert cost(imported_hello(suite), lookup=spent) == known
        assert cost(imported_hello(suite)) == known  # an external key, offered as imported


def test_psk_02_that_an_identity_is_unknown_is_never_said() -> None:
    """unknown_psk_identity would tell which identities exist; from others it means what decrypt_error means."""
    assert HandshakeRefused(0x173, "").key_refused
    assert refusal_of(signed(setter(identities=[(b"somebody", 0)]))).code != 0x173


# ---- PSK-03 to PSK-05: what the ClientHello brings

NOTHING_IN_COMMON: dict[str, tuple[Callable[[ClientHello], None], str]] = {
    "certificates only": (setter(identities=None), "psk_missing"),
    "no common suite": (setter(suites=[0x1304]), "tls_handshake_failure"),
    "psk_ke only": (setter(psk_modes=[0]), "tls_handshake_failure"),
    "no x25519": (setter(groups=[P256], key_shares=[(P256, b"\x04" * 65)]), "tls_handshake_failure"),
    "no share of x25519": (setter(key_shares=[]), "tls_handshake_failure"),
}


@pytest.mark.parametrize(("change", "counter"), NOTHING_IN_COMMON.values(), ids=NOTHING_IN_COMMON)
def test_psk_03_nothing_in_common(change: Callable[[ClientHello], None], counter: str) -> None:
    error = refusal_of(signed(change))
    assert (error.code, error.counter) == (0x128, counter)


@pytest.mark.parametrize("missing", ["psk_modes", "key_shares", "groups", "transport_parameters"])
def test_psk_04_a_server_misses_an_extension(missing: str) -> None:
    error = refusal_of(signed(setter(**{missing: None})))
    assert (error.code, error.counter) == (0x16D, "tls_missing_extension")


def test_psk_04_a_client_misses_the_transport_parameters() -> None:
    client, sent = client_waits(change_extensions=rewritten(extension_setter(transport_parameters=None)))
    error = refused(client, Level.HANDSHAKE, sent)
    assert (error.code, error.counter) == (0x16D, "tls_missing_extension")


ILLEGAL: dict[str, Callable[[], bytes]] = {
    "PSK not last": lambda: signed(setter(), psk_not_last),
    "two identities, one binder": lambda: signed(setter(identities=[(IDENTITY, 0), (b"b", 0)])),
    "one identity, two binders": lambda: signed(setter(binders=[bytes(32), bytes(32)])),
    "extension twice": lambda: signed(setter(), duplicate_extension),
    "key share too short": lambda: signed(setter(key_shares=[(X25519, b"x" * 31)])),
    "key share too long": lambda: signed(setter(key_shares=[(X25519, b"x" * 33)])),
    "key share of low order": lambda: signed(setter(key_shares=[(X25519, bytes(32))])),
    "key share of low order 1": lambda: signed(setter(key_shares=[(X25519, b"\x01" + bytes(31))])),
    "key share twice": lambda: signed(setter(key_shares=[SHARE, SHARE])),
    "key share of a group not offered": lambda: signed(setter(key_shares=[SHARE, (P256, b"\x04" * 65)])),
}


@pytest.mark.parametrize("make", ILLEGAL.values(), ids=ILLEGAL)
def test_psk_05_illegal_parameters(make: Callable[[], bytes]) -> None:
    error = refusal_of(make())
    assert (error.code, error.counter) == (0x12F, "tls_illegal_parameter")


# ---- PSK-06, PSK-07: what the ServerHello selects


def imported_client_answered(**fields: Any) -> TransportError:
    """A client with a key for both hashes: identity 0 is SHA-256's, 1 is SHA-384's."""
    client = client_of(Psk(KEY, IDENTITY, PskMode.IMPORTED))
    client.start()
    server = server_of({IDENTITY: Psk(KEY, IDENTITY, PskMode.IMPORTED)}.get)
    server.receive(Level.INITIAL, flight(client)[Level.INITIAL])
    hello = ServerHello.decode(flight(server)[Level.INITIAL][4:])
    hello_setter(**fields)(hello)
    return refused(client, Level.INITIAL, hello.encode())


BAD_SELECTIONS = {
    "identity out of range": {"selected_identity": 1},
    "suite not offered": {"suite": 0x1302},
    "no key_share": {"key_share": None},
    "group not offered": {"key_share": (P256, b"\x04" * 65)},
}


@pytest.mark.parametrize("fields", BAD_SELECTIONS.values(), ids=BAD_SELECTIONS)
def test_psk_06_a_client_gets_what_it_offered(fields: dict[str, Any]) -> None:
    client, hello, _ = answered(hello_setter(**fields))
    error = refused(client, Level.INITIAL, hello)
    assert (error.code, error.counter) == (0x12F, "tls_illegal_parameter")


@pytest.mark.parametrize("fields", [{"selected_identity": 1}, {"suite": 0x1302}, {"selected_identity": 2}])
def test_psk_06_identity_and_suite_have_one_hash(fields: dict[str, Any]) -> None:
    error = imported_client_answered(**fields)
    assert (error.code, error.counter) == (0x12F, "tls_illegal_parameter")


def test_psk_07_a_server_that_wants_certificates_is_left() -> None:
    client, hello, _ = answered(hello_setter(selected_identity=None))
    error = refused(client, Level.INITIAL, hello)
    assert (error.code, error.counter) == (0x128, "psk_missing")


# ---- PSK-08 to PSK-13


def test_psk_08_a_server_does_not_take_a_wrong_finished() -> None:
    asked: list[int] = []
    server = server_of(authorise=lambda: asked.append(1))
    server.receive(Level.INITIAL, hello_bytes())
    flight(server)
    error = refused(server, Level.HANDSHAKE, message(MessageType.FINISHED, bytes(32)))
    assert (error.code, error.counter) == (0x133, "tls_wrong_finished")
    assert not asked  # the key is not spent by it


@pytest.mark.parametrize(
    "change",
    [lambda sent: flip_binder(sent), rewritten(extension_setter(transport_parameters=b"\x01\x01\x05"))],
    ids=["flipped", "EncryptedExtensions changed on the way"],
)
def test_psk_08_a_client_does_not_take_a_wrong_finished(change: Change) -> None:
    client, sent = client_waits(change_extensions=change)
    error = refused(client, Level.HANDSHAKE, sent)
    assert (error.code, error.counter) == (0x133, "tls_wrong_finished")


def without_extensions() -> bytes:
    """A ClientHello of TLS 1.2 may end after the compression methods (RFC 8446 §4.1.2)."""
    hello = hello_bytes()
    return message(MessageType.CLIENT_HELLO, hello[4 : 4 + 2 + 32 + 1 + 2 + 4 + 2])


OLD: dict[str, Callable[[], bytes]] = {
    "no versions": lambda: signed(setter(versions=None)),
    "TLS 1.2": lambda: signed(setter(versions=[0x0303])),
    "a draft of TLS 1.3": lambda: signed(setter(versions=[0x7F1C])),
    "no extensions at all": without_extensions,
}


@pytest.mark.parametrize("make", OLD.values(), ids=OLD)
def test_psk_09_a_server_speaks_tls_1_3_only(make: Callable[[], bytes]) -> None:
    error = refusal_of(make())
    assert (error.code, error.counter) == (0x146, "tls_protocol_version")


def test_psk_09_a_client_speaks_tls_1_3_only() -> None:
    client, hello, _ = answered(hello_setter(version=None))
    error = refused(client, Level.INITIAL, hello)
    assert (error.code, error.counter) == (0x146, "tls_protocol_version")


@pytest.mark.parametrize("alpn", [None, [b"h2"], [b"h3-29", b"H3"]])
def test_psk_10_a_server_finds_no_protocol(alpn: list[bytes] | None) -> None:
    error = refusal_of(signed(setter(alpn=alpn)))
    assert (error.code, error.counter) == (0x178, "tls_no_application_protocol")


def test_psk_10_a_client_is_told_no_protocol() -> None:
    client, sent = client_waits(change_extensions=rewritten(extension_setter(alpn=None)))
    error = refused(client, Level.HANDSHAKE, sent)
    assert (error.code, error.counter) == (0x178, "tls_no_application_protocol")


UNPARSABLE: dict[str, Callable[[], bytes]] = {
    "cut inside": lambda: message(MessageType.CLIENT_HELLO, hello_bytes()[4:-1]),
    "an octet after it": lambda: message(MessageType.CLIENT_HELLO, hello_bytes()[4:] + b"\0"),
    "empty": lambda: message(MessageType.CLIENT_HELLO, b""),
    "no suites": lambda: signed(setter(suites=[])),
    "empty identity": lambda: signed(setter(identities=[(b"", 0)])),
    "no modes": lambda: signed(setter(psk_modes=[])),
    "empty ALPN": lambda: signed(setter(alpn=[b""])),
}


@pytest.mark.parametrize("make", UNPARSABLE.values(), ids=UNPARSABLE)
def test_psk_11_a_server_cannot_parse(make: Callable[[], bytes]) -> None:
    error = refusal_of(make())
    assert (error.code, error.counter) == (0x132, "tls_decode_error")


def test_psk_11_a_client_cannot_parse() -> None:
    client, hello, _ = answered()
    error = refused(client, Level.INITIAL, message(MessageType.SERVER_HELLO, hello[4:-1]))
    assert (error.code, error.counter) == (0x132, "tls_decode_error")
    client, _ = client_waits()
    error = refused(client, Level.HANDSHAKE, message(MessageType.ENCRYPTED_EXTENSIONS, b"\x00\x03\x00"))
    assert (error.code, error.counter) == (0x132, "tls_decode_error")


@pytest.mark.parametrize("kind", [MessageType.FINISHED, MessageType.CERTIFICATE, MessageType.KEY_UPDATE, 0, 254])
def test_psk_12_a_server_waits_for_a_client_hello(kind: int) -> None:
    error = refusal_of(bytes([kind, 0, 0, 0]))
    assert (error.code, error.counter) == (0x10A, "tls_unexpected_message")


def test_psk_12_change_cipher_spec_is_no_message_of_quic() -> None:
    assert refusal_of(bytes.fromhex("140303000101")).code == 0x10A


@pytest.mark.parametrize("kind", [MessageType.CLIENT_HELLO, MessageType.CERTIFICATE, MessageType.CERTIFICATE_VERIFY])
def test_psk_12_a_server_waits_for_finished(kind: int) -> None:
    _, server, _ = server_waits()
    assert refused(server, Level.HANDSHAKE, bytes([kind, 0, 0, 0])).code == 0x10A


@pytest.mark.parametrize(
    "change",
    [
        lambda sent: message(MessageType.CERTIFICATE_REQUEST, b"\0\0\0") + sent,
        lambda sent: sent[:-36] + message(MessageType.CERTIFICATE, b"\0\0\0\0") + sent[-36:],
        lambda sent: sent[-36:] + sent[:-36],
    ],
    ids=["CertificateRequest", "Certificate", "Finished first"],
)
def test_psk_12_a_client_knows_no_certificates(change: Change) -> None:
    client, sent = client_waits(change_extensions=change)
    error = refused(client, Level.HANDSHAKE, sent)
    assert (error.code, error.counter) == (0x10A, "tls_unexpected_message")


def test_psk_12_keys_are_never_updated_by_tls() -> None:
    """RFC 9001 §6: QUIC has its own key update."""
    for end in connected():
        assert refused(end, Level.ONE_RTT, message(MessageType.KEY_UPDATE, b"\0")).code == 0x10A


@pytest.mark.parametrize("extra", ["002a0000", "fafa0000", "00000000"], ids=["early_data", "GREASE", "server_name"])
def test_psk_13_a_client_gets_no_extension_unasked(extra: str) -> None:
    client, sent = client_waits(change_extensions=rewritten(extension_setter(), bytes.fromhex(extra)))
    error = refused(client, Level.HANDSHAKE, sent)
    assert (error.code, error.counter) == (0x16E, "tls_unsupported_extension")


# ---- PSK-14, PSK-15: CRYPTO octets

FORBIDDEN: dict[str, Callable[[], bytes]] = {
    "session id": lambda: signed(setter(session_id=b"x" * 32)),
    "EndOfEarlyData": lambda: message(MessageType.END_OF_EARLY_DATA, b""),
    "octets left over": lambda: hello_bytes() + b"\x14",
}


@pytest.mark.parametrize("make", FORBIDDEN.values(), ids=FORBIDDEN)
def test_psk_14_what_quic_forbids(make: Callable[[], bytes]) -> None:
    error = refusal_of(make())
    assert (error.code, error.counter) == (0x0A, "tls_protocol_violation")


def test_psk_14_a_client_has_octets_left_over() -> None:
    client, hello, _ = answered()
    assert refused(client, Level.INITIAL, hello + b"\x0b").code == 0x0A
    client, sent = client_waits()
    assert refused(client, Level.HANDSHAKE, sent + b"\x04").code == 0x0A


def test_psk_14_octets_behind_a_gap_at_a_key_change() -> None:
    receiver = CryptoReceiver()
    receiver.receive(0, b"whole")
    receiver.receive(6, b"behind a gap")
    with pytest.raises(TransportError) as raised:
        receiver.close()
    assert (raised.value.code, raised.value.frame) == (0x0A, 0x06)


def test_psk_14_octets_of_a_level_that_is_over() -> None:
    """A repetition is none; RFC 9001 §4.1.3: nothing past the end of what was received."""
    receiver = CryptoReceiver()
    receiver.receive(0, b"whole")
    receiver.close()
    assert receiver.receive(0, b"whole") == receiver.receive(3, b"le") == b""
    with pytest.raises(TransportError) as raised:
        receiver.receive(3, b"le+")
    assert (raised.value.code, raised.value.frame) == (0x0A, 0x06)


@pytest.mark.parametrize("length", [0xFFFFFF, 8193])
def test_psk_15_a_message_is_bounded(length: int) -> None:
    error = refusal_of(b"\x01" + length.to_bytes(3, "big"))
    assert (error.code, error.counter) == (0x0D, "crypto_buffer_exceeded")


@pytest.mark.parametrize("offset", [16384, 1 << 40, (1 << 62) - 2])
def test_psk_15_gaps_are_bounded(offset: int) -> None:
    receiver = CryptoReceiver()
    assert receiver.receive(4095, b"x") == b""  # RFC 9000 §7.5: 4096 octets are accepted
    with pytest.raises(TransportError) as raised:
        receiver.receive(offset, b"x")
    assert (raised.value.code, raised.value.counter) == (0x0D, "crypto_buffer_exceeded")


# ---- PSK-16: transport parameters


@pytest.mark.parametrize("parameters", [b"\x03\x02\x44\xaf", b"\x01\x01\x05\x01\x01\x05", b"\x02\x10" + bytes(16), b"\x01"])
def test_psk_16_a_server_refuses_broken_parameters(parameters: bytes) -> None:
    """Too small, twice, a server's only, cut."""
    error = refusal_of(signed(setter(transport_parameters=parameters)))
    assert (error.code, error.counter) == (0x08, "transport_parameter_error")


def test_psk_16_a_client_refuses_broken_parameters() -> None:
    client, sent = client_waits(change_extensions=rewritten(extension_setter(transport_parameters=b"\x0a\x01\x15")))
    error = refused(client, Level.HANDSHAKE, sent)
    assert (error.code, error.counter) == (0x08, "transport_parameter_error")


AUTHENTIC = {"original_destination_connection_id": b"original", "initial_source_connection_id": b"source"}


@pytest.mark.parametrize(
    "fields",
    [
        {"initial_source_connection_id": b"other"},
        {"initial_source_connection_id": None},
        {"original_destination_connection_id": None},
        {"original_destination_connection_id": b"other"},
        {"retry_source_connection_id": b"retry"},
    ],
)
def test_psk_16_connection_ids_are_authenticated(fields: dict[str, Any]) -> None:
    """RFC 9000 §7.3, the client's part of it included: retry_source_connection_id without a Retry."""
    parameters = TransportParameters(**(AUTHENTIC | fields))
    with pytest.raises(TransportError) as raised:
        parameters.authenticate(source=b"source", original_destination=b"original")
    assert (raised.value.code, raised.value.counter) == (0x08, "transport_parameter_error")


def test_psk_16_a_retry_without_its_parameter() -> None:
    with pytest.raises(TransportError) as raised:
        TransportParameters(**AUTHENTIC).authenticate(source=b"source", original_destination=b"original", retry_source=b"r")
    assert raised.value.code == 0x08


# ---- roles (RFC 9257 §4.1): not a row of the table, yet a rule of the key


def test_roles_a_reflected_hello_is_refused_by_both_roles() -> None:
    """Selfie: the node's client and its server have one key; its own ClientHello comes back to either of them."""
    psk = Psk(KEY, IDENTITY)
    client = client_of(psk)
    client.start()
    hello = flight(client)[Level.INITIAL]
    error = refusal_of(hello, lookup={IDENTITY: psk}.get)
    assert (error.code, error.counter) == (0x133, "psk_wrong_role")
    assert refused(client, Level.INITIAL, hello).code == 0x10A


def test_roles_a_server_claims_a_key_by_its_binder_only() -> None:
    """A guessed identity must not take the key from the node's client."""
    psk = Psk(KEY, IDENTITY)
    refusal_of(flip_binder(hello_bytes()), lookup={IDENTITY: psk}.get)
    assert psk.role is None
    server_of({IDENTITY: psk}.get).receive(Level.INITIAL, hello_bytes())
    assert psk.role is Role.SERVER


def test_the_means_of_these_tests_change_nothing_else() -> None:
    """An unchanged hello and flight, made by the same helpers, pass."""
    server_of().receive(Level.INITIAL, signed(setter()))
    client, sent = client_waits(change_extensions=rewritten(extension_setter()))
    client.receive(Level.HANDSHAKE, sent)
    assert EncryptedExtensions.decode(sent[4 : 4 + int.from_bytes(sent[1:4], "big")]).alpn == b"h3"
    assert len(KeySchedule("sha256", KEY).binder("ext binder", b"")) == 32
