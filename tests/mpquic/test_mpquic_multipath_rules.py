"""What negotiates multipath in Python: the parameter, connection IDs, the AEAD (RFC 10069 §2.1). The ids are of docs/rules.toml."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from line import SERVER, Line, make_line, psk

from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.errors import EngineError, HandshakeFailed
from mpquic.suites import AES_128_GCM
from mpquic.tls_client import ClientTls
from mpquic.tls_errors import EmptyConnectionId
from mpquic.tls_server import ServerTls
from mpquic.transport_parameters import TransportParameters

both = pytest.mark.parametrize("end", ["client", "server"])


class Ends:
    """A client and a server that takes one key again and again."""

    def __init__(self, **server: object) -> None:
        self.accepted: list[Connection] = []
        config = EndpointConfig(
            role="server",
            psk_lookup=lambda _identity: psk(),
            on_connection=self.accepted.append,
            random_seed=22,
            **server,  # type: ignore[arg-type]
        )
        self.line: Line = make_line(config)

    def endpoint(self, end: str) -> Endpoint:
        return self.line.client if end == "client" else self.line.server

    async def connect(self) -> tuple[Connection, Connection]:
        known = len(self.accepted)
        client = await self.line.do(self.line.client.connect(psk(), 0, SERVER))
        assert isinstance(client, Connection)
        await self.line.run(None, 500)
        return client, self.accepted[known]

    async def close(self) -> None:
        self.line.client.engine.free()
        self.line.server.engine.free()


@pytest.mark.parametrize("from_server", [False, True])
def test_mp_04_multipath_without_a_cid_is_a_violation(from_server: bool) -> None:
    original = b"original" if from_server else None
    parameters = TransportParameters(
        initial_source_connection_id=b"", original_destination_connection_id=original, initial_max_path_id=0
    )
    with pytest.raises(EmptyConnectionId) as raised:
        parameters.authenticate(source=b"", original_destination=original)
    assert raised.value.code == 0x0A
    replace(parameters, initial_max_path_id=None).authenticate(source=b"", original_destination=original)


@both
def test_mp_05_multipath_needs_a_nonce_of_twelve_octets(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No suite has a shorter one: one is made up at the end that is to refuse it."""
    short = replace(AES_128_GCM, nonce_length=8)
    tls: Any = ClientTls if end == "client" else ServerTls
    install = tls._install
    monkeypatch.setattr(
        tls, "_install", lambda self, level, direction, _suite, secret: install(self, level, direction, short, secret)
    )

    async def scenario() -> None:
        ends = Ends(suites=(AES_128_GCM,))
        with pytest.raises(HandshakeFailed):
            await ends.line.do(ends.line.client.connect(psk(), 0, SERVER))
        assert ends.endpoint(end).counters["transport_parameter_error"] == 1
        await ends.close()

    asyncio.run(scenario())


@both
def test_mp_06_the_limit_of_an_earlier_connection_is_forgotten(end: str) -> None:
    """The same two endpoints again: only what the peer says this time counts."""

    async def scenario() -> None:
        ends = Ends()
        pair = await ends.connect()
        mine = pair[0] if end == "client" else pair[1]
        assert mine.stats()["max_path_id_remote"] == 3
        other = ends.endpoint("server" if end == "client" else "client")
        other.parameters_set(replace(other.parameters, initial_max_path_id=1))
        pair = await ends.connect()
        mine = pair[0] if end == "client" else pair[1]
        assert mine.stats()["max_path_id_remote"] == 1
        await ends.close()

    asyncio.run(scenario())


@both
def test_mp_07_a_limit_of_zero_is_multipath_with_one_path(end: str) -> None:
    """`end` announces 0: both ends speak multipath on path 0, and no other path is opened."""

    async def scenario() -> None:
        ends = Ends(initial_max_path_id=0 if end == "server" else 3)
        if end == "client":
            ends.line.client = Endpoint(EndpointConfig(role="client", random_seed=11, initial_max_path_id=0))
            ends.line.__post_init__()
        client, server = await ends.connect()
        assert client.stats()["multipath"] == 1 and server.stats()["multipath"] == 1
        assert not client.closed.done() and not server.closed.done()
        with pytest.raises(EngineError):
            ends.line.client.engine.path_open(client.handle, 1, SERVER)
        await ends.line.run(None, 300)
        assert len(client.paths()) == 1 and len(server.paths()) == 1
        assert not client.closed.done()
        await ends.close()

    asyncio.run(scenario())
