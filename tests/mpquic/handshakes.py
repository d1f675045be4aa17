"""Both ends of a PSK handshake in memory, and their messages with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mpquic.errors import TransportError
from mpquic.key_schedule import KeySchedule
from mpquic.psk import Psk
from mpquic.tls import SendCrypto
from mpquic.tls_client import ClientTls
from mpquic.tls_messages import ClientHello, EncryptedExtensions, MessageType, ServerHello, message
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


def with_binder(binder: bytes) -> bytes:
    hello = ClientHello.decode(hello_bytes()[4:])
    hello.binders = [binder]
    return hello.encode()


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


def connected() -> tuple[ClientTls, ServerTls]:
    client, server = client_of(), server_of()
    client.start()
    for source, target in ((client, server), (server, client), (client, server)):
        for level, data in flight(source).items():
            target.receive(level, data)
    assert client.state is State.CLIENT_CONNECTED and server.state is State.SERVER_CONNECTED
    return client, server


def refused(end: ClientTls | ServerTls, level: Level, data: bytes) -> TransportError:
    """The error with which `end` refuses these octets; it is over then, and says nothing more."""
    with pytest.raises(TransportError) as raised:
        end.receive(level, data)
    assert end.state is State.FAILED
    assert end.take_actions() == []
    assert raised.value.frame == 0x06
    return raised.value


def server_waits() -> tuple[ClientTls, ServerTls, bytes]:
    """A server that waits for this client's Finished, and that Finished."""
    client, server = client_of(), server_of()
    client.start()
    server.receive(Level.INITIAL, flight(client)[Level.INITIAL])
    for level, data in flight(server).items():
        client.receive(level, data)
    return client, server, flight(client)[Level.HANDSHAKE]


def client_waits(
    change_hello: Callable[[ServerHello], None] = lambda _hello: None,
    change_extensions: Callable[[bytes], bytes] = lambda extensions: extensions,
) -> tuple[ClientTls, bytes]:
    """A client that has taken the ServerHello, and the encrypted flight with a change."""
    client, hello, sent = answered(change_hello, change_extensions)
    client.receive(Level.INITIAL, hello)
    flight(client)
    return client, sent
