"""Every way in which the PSK handshake fails has its name and its code, at the end that sees it (quic.md §2.4)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpquic.crypto_stream import BUFFER_MOST, CryptoReceiver
from mpquic.errors import PskSpent, TransportError
from mpquic.key_schedule import KeySchedule
from mpquic.psk import Psk, PskMode
from mpquic.suites import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305
from mpquic.tls import SendCrypto
from mpquic.tls_client import ClientTls
from mpquic.tls_errors import CryptoBufferExceeded, KeyRefused, SpentKey, TlsError
from mpquic.tls_messages import (
    HELLO_RETRY_RANDOM,
    ClientHello,
    EncryptedExtensions,
    MessageType,
    ServerHello,
    message,
)
from mpquic.tls_server import ServerTls
from mpquic.tls_states import Level, State
from mpquic.transport_parameters import TransportParameters

KEY, IDENTITY = bytes(range(32)), b"mpquic-kat-1"
PARAMETERS = TransportParameters(initial_source_connection_id=b"12345678", initial_max_path_id=3)


def server_of(lookup: Callable[[bytes], Psk | None] | None = None, **options: Any) -> ServerTls:
    return ServerTls(
        lookup or {IDENTITY: Psk(KEY, IDENTITY)}.get,
        alpn=options.pop("alpn", [b"h3"]),
        transport_parameters=PARAMETERS.encode(),
        on_peer_parameters=options.pop(
            "on_peer_parameters", lambda data: TransportParameters.decode(data, from_server=False)
        ),
        authorise=options.pop("authorise", lambda: None),
        **options,
    )


def client_of(psk: Psk | None = None, alpn: bytes = b"h3", **options: Any) -> ClientTls:
    return ClientTls(
        psk or Psk(KEY, IDENTITY),
        alpn=[alpn],
        transport_parameters=PARAMETERS.encode(),
        on_peer_parameters=lambda data: TransportParameters.decode(data, from_server=True),
        authorise=options.pop("authorise", lambda: None),
        **options,
    )


def flight(end: ClientTls | ServerTls) -> dict[Level, bytes]:
    out: dict[Level, bytes] = {}
    for action in end.take_actions():
        if isinstance(action, SendCrypto):
            out[action.level] = out.get(action.level, b"") + action.data
    return out


def hello_bytes() -> bytes:
    client = client_of()
    client.start()
    return flight(client)[Level.INITIAL]


def signed(change: Callable[[ClientHello], None], order: Callable[[bytes], bytes] = lambda b: b) -> bytes:
    """A ClientHello with a change and right binders for what it then says."""
    hello = ClientHello.decode(hello_bytes()[4:])
    change(hello)
    schedule = KeySchedule("sha256", KEY)
    if hello.identities is not None and hello.binders:
        truncated = hello.encode()[: -hello.binders_length]
        hello.binders = [schedule.binder("ext binder", truncated) for _ in hello.binders]
    return order(hello.encode())


def code_of(end: ClientTls | ServerTls, level: Level, data: bytes) -> int:
    with pytest.raises(TransportError) as raised:
        end.receive(level, data)
    assert end.state is State.FAILED
    assert end.take_actions() == []  # nothing goes out of a handshake that has failed
    assert raised.value.frame == 0x06
    return raised.value.code


def setter(**fields: Any) -> Callable[[ClientHello], None]:
    def change(hello: ClientHello) -> None:
        for name, value in fields.items():
            setattr(hello, name, value)

    return change


def flip_binder(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def duplicate_extension(data: bytes) -> bytes:
    """supported_versions (43) twice, lengths right."""
    extra = bytes.fromhex("002b0003020304")
    at = 4 + 2 + 32 + 1 + 2 + 4 + 2
    body = data[4:at] + (int.from_bytes(data[at : at + 2], "big") + len(extra)).to_bytes(2, "big") + extra + data[at + 2 :]
    return message(MessageType.CLIENT_HELLO, body)


def psk_not_last(data: bytes) -> bytes:
    extra = bytes.fromhex("fafa0000")
    at = 4 + 2 + 32 + 1 + 2 + 4 + 2
    body = data[4:at] + (int.from_bytes(data[at : at + 2], "big") + len(extra)).to_bytes(2, "big") + data[at + 2 :] + extra
    return message(MessageType.CLIENT_HELLO, body)


SHARE = (0x001D, b"\x09" + bytes(31))
CLIENT_HELLOS: list[tuple[str, Callable[[], bytes], int]] = [
    ("PSK-01 identity unknown", lambda: signed(setter(identities=[(b"somebody", 0)])), 0x133),
    ("PSK-01 binder flipped", lambda: flip_binder(hello_bytes()), 0x133),
    ("PSK-01 binder truncated", lambda: _binder(b"x" * 31), 0x133),
    ("PSK-01 binder empty", lambda: _binder(b""), 0x133),
    ("PSK-01 binder of another hash", lambda: _binder(bytes(48)), 0x133),
    ("PSK-03 no PSK", lambda: signed(setter(identities=None)), 0x128),
    ("PSK-03 no common suite", lambda: signed(setter(suites=[0x1304])), 0x128),
    ("PSK-03 SHA-384 suite alone", lambda: signed(setter(suites=[0x1302])), 0x133),
    ("PSK-03 psk_ke only", lambda: signed(setter(psk_modes=[0])), 0x128),
    ("PSK-03 no x25519", lambda: signed(setter(groups=[0x17], key_shares=[(0x17, b"\x04" * 65)])), 0x128),
    ("PSK-04 no modes", lambda: signed(setter(psk_modes=None)), 0x16D),
    ("PSK-04 no key_share", lambda: signed(setter(key_shares=None)), 0x16D),
    ("PSK-04 no supported_groups", lambda: signed(setter(groups=None)), 0x16D),
    ("PSK-04 no transport parameters", lambda: signed(setter(transport_parameters=None)), 0x16D),
    ("PSK-05 PSK not last", lambda: signed(setter(), psk_not_last), 0x12F),
    ("PSK-05 two identities, one binder", lambda: signed(setter(identities=[(IDENTITY, 0), (b"b", 0)])), 0x12F),
    ("PSK-05 extension twice", lambda: signed(setter(), duplicate_extension), 0x12F),
    ("PSK-05 key share too short", lambda: signed(setter(key_shares=[(0x1D, b"x" * 31)])), 0x12F),
    ("PSK-05 key share all zero", lambda: signed(setter(key_shares=[(0x1D, bytes(32))])), 0x12F),
    ("PSK-05 key share twice", lambda: signed(setter(key_shares=[SHARE, SHARE])), 0x12F),
    ("PSK-05 compression", lambda: signed(setter(compression=b"\x01\x00")), 0x12F),
    ("PSK-09 no versions", lambda: signed(setter(versions=None)), 0x146),
    ("PSK-09 TLS 1.2", lambda: signed(setter(versions=[0x0303])), 0x146),
    ("PSK-10 other ALPN", lambda: signed(setter(alpn=[b"h2"])), 0x178),
    ("PSK-10 no ALPN", lambda: signed(setter(alpn=None)), 0x178),
    ("PSK-11 cut inside", lambda: message(MessageType.CLIENT_HELLO, hello_bytes()[4:-1]), 0x132),
    ("PSK-11 trailing octet", lambda: message(MessageType.CLIENT_HELLO, hello_bytes()[4:] + b"\0"), 0x132),
    ("PSK-12 Finished first", lambda: message(MessageType.FINISHED, bytes(32)), 0x10A),
    ("PSK-12 Certificate", lambda: message(MessageType.CERTIFICATE, b""), 0x10A),
    ("PSK-12 KeyUpdate", lambda: message(MessageType.KEY_UPDATE, b"\0"), 0x10A),
    ("PSK-14 session id", lambda: signed(setter(session_id=b"x" * 32)), 0x0A),
    ("PSK-14 EndOfEarlyData", lambda: message(MessageType.END_OF_EARLY_DATA, b""), 0x0A),
    ("PSK-14 octets left over", lambda: hello_bytes() + b"\x14", 0x0A),
    ("PSK-15 too long", lambda: b"\x01\xff\xff\xff", 0x0D),
    ("PSK-16 parameters", lambda: signed(setter(transport_parameters=b"\x03\x02\x44\xaf")), 0x08),
]


def _binder(binder: bytes) -> bytes:
    hello = ClientHello.decode(hello_bytes()[4:])
    hello.binders = [binder]
    return hello.encode()


@pytest.mark.parametrize(("make", "code"), [c[1:] for c in CLIENT_HELLOS], ids=[c[0] for c in CLIENT_HELLOS])
def test_a_bad_client_hello_has_its_code(make: Callable[[], bytes], code: int) -> None:
    assert code_of(server_of(), Level.INITIAL, make()) == code


def test_a_good_client_hello_is_accepted_by_the_same_means() -> None:
    """The helpers above change nothing else: an unchanged signed hello passes."""
    server = server_of()
    server.receive(Level.INITIAL, signed(setter()))
    assert server.state is State.SERVER_WAIT_FINISHED


def test_refusals_of_a_key_are_alike_but_for_their_name() -> None:
    def spent(_identity: bytes) -> Psk | None:
        raise PskSpent("spent")

    seen = []
    for server, hello in (
        (server_of(), signed(setter(identities=[(b"somebody", 0)]))),
        (server_of(), flip_binder(hello_bytes())),
        (server_of(spent), hello_bytes()),
    ):
        with pytest.raises(KeyRefused) as raised:
            server.receive(Level.INITIAL, hello)
        seen.append(raised.value)
    assert {(e.code, e.frame) for e in seen} == {(0x133, 6)}
    assert [e.counter for e in seen] == ["psk_unknown_identity", "psk_wrong_binder", "psk_spent"]


def test_the_first_known_identity_is_taken_and_only_its_binder_counts() -> None:
    """R-10: [unknown, known]; the unknown one's binder is garbage."""
    hello = ClientHello.decode(hello_bytes()[4:])
    hello.identities = [(b"unknown", 0), (IDENTITY, 0)]
    hello.binders = [bytes(32), bytes(32)]
    truncated = hello.encode()[: -hello.binders_length]
    hello.binders = [b"g" * 32, KeySchedule("sha256", KEY).binder("ext binder", truncated)]
    server = server_of()
    server.receive(Level.INITIAL, hello.encode())
    answer = ServerHello.decode(flight(server)[Level.INITIAL][4:])
    assert answer.selected_identity == 1


def test_early_data_is_rejected_and_the_handshake_goes_on() -> None:
    """R-09: no early_data in EncryptedExtensions."""
    server = server_of()
    server.receive(Level.INITIAL, signed(setter(early_data=True)))
    sent = flight(server)[Level.HANDSHAKE]
    length = int.from_bytes(sent[1:4], "big")
    assert EncryptedExtensions.decode(sent[4 : 4 + length]).other_extensions == []


@pytest.mark.parametrize(("mine", "theirs"), [(PskMode.EXTERNAL, PskMode.IMPORTED), (PskMode.IMPORTED, PskMode.EXTERNAL)])
def test_a_key_has_one_mode(mine: PskMode, theirs: PskMode) -> None:
    client = client_of(Psk(KEY, IDENTITY, mine))
    client.start()
    server = server_of({IDENTITY: Psk(KEY, IDENTITY, theirs)}.get)
    assert code_of(server, Level.INITIAL, flight(client)[Level.INITIAL]) == 0x133


def test_a_key_imported_for_another_context_is_unknown() -> None:
    client = client_of(Psk(KEY, IDENTITY, PskMode.IMPORTED, context=b"one"))
    client.start()
    server = server_of({IDENTITY: Psk(KEY, IDENTITY, PskMode.IMPORTED, context=b"two")}.get)
    assert code_of(server, Level.INITIAL, flight(client)[Level.INITIAL]) == 0x133


def test_a_wiped_key_is_unknown_and_hides_itself() -> None:
    psk = Psk(KEY, IDENTITY)
    assert KEY.hex() not in repr(psk) and str(KEY) not in repr(psk)
    held = psk.offer(AES_128_GCM).key
    psk.wipe()
    assert not any(held)
    assert code_of(server_of({IDENTITY: psk}.get), Level.INITIAL, hello_bytes()) == 0x133


def test_a_client_does_not_answer_its_own_hello() -> None:
    """R-07, Selfie: reflected to it, a ClientHello is a message out of order."""
    client = client_of()
    client.start()
    assert code_of(client, Level.INITIAL, flight(client)[Level.INITIAL]) == 0x10A


# ---- what the client refuses


def answered(
    change_hello: Callable[[ServerHello], None] = lambda _hello: None,
    change_extensions: Callable[[bytes], bytes] = lambda extensions: extensions,
) -> tuple[ClientTls, bytes, bytes]:
    """A client that waits, a ServerHello with a change, and the encrypted flight with a change (Finished recomputed is
    not needed: the change is refused before it)."""
    client = client_of()
    client.start()
    server = server_of()
    server.receive(Level.INITIAL, flight(client)[Level.INITIAL])
    out = flight(server)
    hello = ServerHello.decode(out[Level.INITIAL][4:])
    change_hello(hello)
    return client, hello.encode(), change_extensions(out[Level.HANDSHAKE])


def hello_setter(**fields: Any) -> Callable[[ServerHello], None]:
    def change(hello: ServerHello) -> None:
        for name, value in fields.items():
            setattr(hello, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (hello_setter(selected_identity=1), 0x12F),
        (hello_setter(suite=0x1302), 0x12F),
        (hello_setter(suite=0x1304), 0x12F),
        (hello_setter(key_share=None), 0x12F),
        (hello_setter(key_share=(0x17, b"\x04" * 65)), 0x12F),
        (hello_setter(key_share=(0x1D, bytes(32))), 0x12F),
        (hello_setter(selected_identity=None), 0x128),
        (hello_setter(version=None), 0x146),
        (hello_setter(version=0x0303), 0x12F),
        (hello_setter(session_id=b"x"), 0x12F),
        (hello_setter(random=HELLO_RETRY_RANDOM), 0x12F),
    ],
)
def test_a_bad_server_hello_has_its_code(change: Callable[[ServerHello], None], code: int) -> None:
    client, hello, _ = answered(change)
    assert code_of(client, Level.INITIAL, hello) == code


def rewritten(change: Callable[[EncryptedExtensions], None], extra: bytes = b"") -> Callable[[bytes], bytes]:
    def apply(sent: bytes) -> bytes:
        length = int.from_bytes(sent[1:4], "big")
        extensions = EncryptedExtensions.decode(sent[4 : 4 + length])
        change(extensions)
        block = extensions.encode()[6:] + extra
        return message(MessageType.ENCRYPTED_EXTENSIONS, len(block).to_bytes(2, "big") + block) + sent[4 + length :]

    return apply


def extension_setter(**fields: Any) -> Callable[[EncryptedExtensions], None]:
    def change(extensions: EncryptedExtensions) -> None:
        for name, value in fields.items():
            setattr(extensions, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (rewritten(extension_setter(alpn=None)), 0x178),
        (rewritten(extension_setter(alpn=b"h2")), 0x12F),
        (rewritten(extension_setter(transport_parameters=None)), 0x16D),
        (rewritten(extension_setter(), bytes.fromhex("002a0000")), 0x16E),  # early_data
        (rewritten(extension_setter(), bytes.fromhex("002d00020101")), 0x12F),  # offered, not allowed here
        (rewritten(extension_setter(), bytes.fromhex("fafa0000")), 0x16E),
        (rewritten(extension_setter(transport_parameters=b"\x0a\x01\x15")), 0x08),
        (lambda sent: message(MessageType.CERTIFICATE_REQUEST, b"\0\0\0") + sent, 0x10A),
        (lambda sent: sent[:-36] + message(MessageType.CERTIFICATE, b"\0\0\0\0"), 0x10A),
        (lambda sent: sent[:-1] + bytes([sent[-1] ^ 1]), 0x133),  # Finished wrong
        (rewritten(extension_setter(transport_parameters=b"\x01\x01\x05")), 0x133),  # changed on the way
        (lambda sent: sent[:-36] + message(MessageType.FINISHED, bytes(31)), 0x132),
        (lambda sent: sent + b"\x04", 0x0A),  # left over at the key change
    ],
)
def test_a_bad_encrypted_flight_has_its_code(change: Callable[[bytes], bytes], code: int) -> None:
    client, hello, sent = answered(change_extensions=change)
    client.receive(Level.INITIAL, hello)
    flight(client)
    with pytest.raises(TransportError) as raised:
        client.receive(Level.HANDSHAKE, sent)
    assert raised.value.code == code
    assert not flight(client)  # no Finished of ours


def test_messages_at_another_level_are_out_of_order() -> None:
    client, hello, sent = answered()
    client.receive(Level.INITIAL, hello)
    assert code_of_only(client, Level.INITIAL, sent) == 0x10A


def code_of_only(end: ClientTls | ServerTls, level: Level, data: bytes) -> int:
    with pytest.raises(TransportError) as raised:
        end.receive(level, data)
    return raised.value.code


def test_a_client_of_another_key_never_gets_the_servers_application_keys() -> None:
    """A wrong Finished of the client: refused, and authorise is not asked."""
    asked = []
    server = server_of(authorise=lambda: asked.append(1))
    server.receive(Level.INITIAL, hello_bytes())
    flight(server)
    assert code_of_only(server, Level.HANDSHAKE, message(MessageType.FINISHED, bytes(32))) == 0x133
    assert not asked


def test_the_second_finished_with_one_key_is_refused_as_spent() -> None:
    def spent() -> None:
        raise SpentKey("another connection was faster")

    client = client_of()
    client.start()
    server = server_of(authorise=spent)
    server.receive(Level.INITIAL, flight(client)[Level.INITIAL])
    for level, data in flight(server).items():
        client.receive(level, data)
    assert code_of_only(server, Level.HANDSHAKE, flight(client)[Level.HANDSHAKE]) == 0x133
    assert not server.take_actions()  # no receive key, no completion


def connected() -> tuple[ClientTls, ServerTls]:
    client, server = client_of(), server_of()
    client.start()
    for source, target in ((client, server), (server, client), (client, server)):
        for level, data in flight(source).items():
            target.receive(level, data)
    assert client.state is State.CLIENT_CONNECTED and server.state is State.SERVER_CONNECTED
    return client, server


def test_after_the_handshake_only_tickets_are_read_over() -> None:
    client, server = connected()
    client.receive(Level.ONE_RTT, message(MessageType.NEW_SESSION_TICKET, bytes(40)))
    assert code_of_only(client, Level.ONE_RTT, message(MessageType.KEY_UPDATE, b"\0")) == 0x10A
    assert code_of_only(server, Level.ONE_RTT, message(MessageType.NEW_SESSION_TICKET, bytes(40))) == 0x10A


def test_tickets_without_end_are_refused() -> None:
    client, _ = connected()
    with pytest.raises(CryptoBufferExceeded):
        for _ in range(100):
            client.receive(Level.ONE_RTT, message(MessageType.NEW_SESSION_TICKET, bytes(40)))


@pytest.mark.parametrize("suite", [AES_128_GCM, CHACHA20_POLY1305])
def test_the_server_chooses_the_suite_in_its_order(suite: Any) -> None:
    server = server_of(suites=[AES_256_GCM, suite])  # a SHA-384 suite never goes with an external PSK
    server.receive(Level.INITIAL, hello_bytes())
    assert server.suite is suite


# ---- mutations: never an unnamed exception


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_client_hellos_raise_only_transport_errors(data: st.DataObject) -> None:
    octets = bytearray(hello_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    del octets[data.draw(st.integers(1, len(octets))) :]
    server = server_of()
    try:
        server.receive(Level.INITIAL, bytes(octets))
    except TransportError:
        assert server.state is State.FAILED


def test_every_flipped_bit_of_a_client_hello_is_refused() -> None:
    """R-15: the binder covers all of it."""
    good = hello_bytes()
    for index, bit in itertools.product(range(len(good)), range(8)):
        bad = bytearray(good)
        bad[index] ^= 1 << bit
        server = server_of()
        try:
            server.receive(Level.INITIAL, bytes(bad))
        except TransportError:
            continue
        # a longer length: the message is not complete yet; nothing else may pass
        assert server.state is State.SERVER_WAIT_CLIENT_HELLO and 1 <= index <= 3


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_server_flights_raise_only_transport_errors(data: st.DataObject) -> None:
    client, hello, sent = answered()
    octets = bytearray(hello + sent)
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TransportError):
        client.receive(Level.INITIAL, bytes(octets[: len(hello)]))
        client.receive(Level.HANDSHAKE, bytes(octets[len(hello) :]))
        client.receive(Level.HANDSHAKE, b"\xff" * 9000)  # the length grew: whatever comes, it is refused
    assert client.state is State.FAILED


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(list(Level)))
def test_garbage_raises_only_transport_errors(garbage: bytes, level: Level) -> None:
    for end in (server_of(), client_of()):
        if isinstance(end, ClientTls):
            end.start()
        try:
            end.receive(level, garbage)
        except TransportError as error:
            assert isinstance(error, TlsError) or error.code in (0x0A, 0x0D)


# ---- CRYPTO reassembly


@given(st.permutations(range(20)), st.integers(1, 40))
def test_crypto_octets_come_in_order_whatever_the_order(order: list[int], size: int) -> None:
    text = bytes(range(256))[: 20 * 8]
    receiver = CryptoReceiver()
    out = b"".join(receiver.receive(i * 8, text[i * 8 : i * 8 + size]) for i in order)
    out += receiver.receive(0, text)  # what was cut short by the size
    assert out[: len(text)] == text[: len(out)] and len(out) >= len(text)


def test_crypto_gaps_cost_a_bounded_amount() -> None:
    """R-14: far offsets, and overlapping parts that never close the gap."""
    with pytest.raises(CryptoBufferExceeded) as raised:
        CryptoReceiver().receive(BUFFER_MOST, b"x")
    assert raised.value.code == 0x0D
    receiver = CryptoReceiver()
    with pytest.raises(CryptoBufferExceeded):
        for offset in range(1, BUFFER_MOST):
            receiver.receive(offset, bytes(1000))
