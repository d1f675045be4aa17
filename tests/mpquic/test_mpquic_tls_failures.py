"""Every way in which the PSK handshake fails has its name and its code, at the end that sees it (quic.md §2.4)."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from typing import Any

import pytest
from handshakes import (
    IDENTITY,
    KEY,
    answered,
    client_of,
    connected,
    flight,
    flip_binder,
    hello_bytes,
    refused,
    server_of,
    setter,
    signed,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mpquic.crypto_stream import BUFFER_MOST, CryptoReceiver
from mpquic.errors import PskRole, PskSpent, TransportError
from mpquic.grease import Grease
from mpquic.key_schedule import KeySchedule
from mpquic.psk import Psk, PskMode
from mpquic.suites import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305
from mpquic.tls_client import ClientTls
from mpquic.tls_errors import CryptoBufferExceeded, KeyRefused, SpentKey, TlsError
from mpquic.tls_messages import (
    ClientHello,
    EncryptedExtensions,
    MessageType,
    ServerHello,
    message,
)
from mpquic.tls_server import ServerTls
from mpquic.tls_states import Level, State


def code_of(end: ClientTls | ServerTls, level: Level, data: bytes) -> int:
    return refused(end, level, data).code


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


def test_octets_one_by_one_from_behind_cost_no_more_than_their_number() -> None:
    """From anybody, before any key: 16,000 frames of one octet, the first octet last, kept the server busy for 6 s."""
    receiver = CryptoReceiver()
    start = time.process_time()
    for offset in range(BUFFER_MOST - 1, 0, -1):
        assert receiver.receive(offset, b"x") == b""
    assert receiver.receive(0, b"x") == b"x" * BUFFER_MOST
    assert time.process_time() - start < 1.5


def test_crypto_octets_one_by_one_with_gaps_cost_the_window_at_most() -> None:
    """R-29: before any key, too, what waits costs octets, not pieces."""
    receiver = CryptoReceiver()
    tracemalloc.start()
    try:
        for offset in range(BUFFER_MOST - 1, 0, -2):
            assert receiver.receive(offset, b"b") == b""
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 3 * BUFFER_MOST and most < 6 * BUFFER_MOST
    assert b"".join(receiver.receive(offset, b"a") for offset in range(0, BUFFER_MOST, 2)) == b"ab" * (BUFFER_MOST // 2)


# ---- what stays of a handshake


def test_a_finished_handshake_keeps_no_ephemeral_key() -> None:
    """With it and a recording, whoever reads our memory later would have the session's keys: no forward secrecy."""
    client, server = connected()
    assert client._private is None and not client._early and client._schedule is None
    assert not server._client_application and not server._client_finished


def test_a_client_whose_key_is_wiped_does_not_go_on_with_zeros() -> None:
    """wipe() overwrites the key in place: who then answers with a key of zeros must not be believed."""
    psk = Psk(KEY, IDENTITY)
    client = client_of(psk)
    client.start()
    flight(client)
    psk.wipe()
    server = server_of({IDENTITY: Psk(bytes(32), IDENTITY)}.get)
    server.receive(Level.INITIAL, hello_of(bytes(32)))
    error = refused(client, Level.INITIAL, flight(server)[Level.INITIAL])
    assert (error.code, error.counter) == (0x150, "psk_withdrawn")


def hello_of(key: bytes) -> bytes:
    client = client_of(Psk(key, IDENTITY))
    client.start()
    return flight(client)[Level.INITIAL]


def test_a_callback_that_raises_ends_the_handshake() -> None:
    """Whatever it raises: no keys and no messages stay behind."""

    def explode(_data: bytes) -> None:
        raise RuntimeError("bug of a user")

    server = server_of(on_peer_parameters=explode)
    with pytest.raises(RuntimeError):
        server.receive(Level.INITIAL, hello_bytes())
    assert server.state is State.FAILED and not server.take_actions()
    server.receive(Level.INITIAL, hello_bytes())  # over: ignored
    assert not server.take_actions()


def test_a_key_has_one_role_in_a_node() -> None:
    """RFC 9257 §4.1."""
    psk = Psk(KEY, IDENTITY)
    server_of({IDENTITY: psk}.get).receive(Level.INITIAL, hello_bytes())
    with pytest.raises(PskRole):
        client_of(psk)


# ---- GREASE (RFC 8701)


def greased() -> ClientTls:
    client = client_of(grease=Grease(lambda count: b"\x5f" * count))
    client.start()
    return client


def test_a_greased_hello_is_taken_for_what_it_is() -> None:
    client, server = greased(), server_of()
    sent = flight(client)[Level.INITIAL]
    assert b"\x5a\x5a\x00\x00\x00\x33" in sent  # an empty extension before key_share
    server.receive(Level.INITIAL, sent)
    for level, data in flight(server).items():
        client.receive(level, data)
    assert client.state is State.CLIENT_CONNECTED


def test_grease_is_never_selected() -> None:
    """RFC 8701 §3.1: the client refuses what it offered in jest."""
    client, server = greased(), server_of()
    server.receive(Level.INITIAL, flight(client)[Level.INITIAL])
    hello = ServerHello.decode(flight(server)[Level.INITIAL][4:])
    hello.suite = 0x5A5A
    assert code_of(client, Level.INITIAL, hello.encode()) == 0x12F
