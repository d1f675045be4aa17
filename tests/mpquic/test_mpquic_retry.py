"""Retry and NEW_TOKEN with the real handshake: the transport parameters authenticate the CIDs (RFC 9000 §7.3, §8.1)."""

from __future__ import annotations

import asyncio

import pytest
from line import IDENTITY, SERVER, Line, make_line, psk

from mpquic.endpoint import EndpointConfig
from mpquic.engine import Datagram
from mpquic.errors import HandshakeFailed
from mpquic.token_store import SERVERS, TOKENS_PER_SERVER, TokenStore


def always_retry() -> Line:
    return make_line(
        EndpointConfig(
            role="server", random_seed=12, retry_half_open=1, psk_lookup=lambda identity: psk() if identity == IDENTITY else None
        )
    )


def test_a_connection_after_a_retry_and_the_next_one_with_its_token() -> None:
    async def main() -> None:
        line = always_retry()
        await line.do(line.client.connect(psk(), 0, SERVER))
        await line.run(None, 200)
        assert line.client.all_counters()["retry_accepted"] == 1
        await line.do(line.client.connect(psk(), 0, SERVER))
        assert line.server.all_counters()["retry_sent"] == 1  # the token spared the second

    asyncio.run(main())


def test_a_server_that_hides_its_retry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """retry_source_connection_id is missing: somebody between the ends may have sent the Retry."""

    async def main() -> None:
        line = always_retry()
        from mpquic import connection

        own = connection.Connection._own_parameters

        def without(self: connection.Connection) -> object:
            parameters = own(self)
            object.__setattr__(parameters, "retry_source_connection_id", None)
            return parameters

        monkeypatch.setattr(connection.Connection, "_own_parameters", without)
        with pytest.raises(HandshakeFailed):
            await line.do(line.client.connect(psk(), 0, SERVER))
        assert any("transport_parameter" in name for name in line.client.counters)

    asyncio.run(main())


def test_a_lost_retry_only_delays() -> None:
    async def main() -> None:
        line = always_retry()
        lost = 0

        def drop(datagram: Datagram, to_server: bool) -> bool:
            nonlocal lost
            retry = not to_server and datagram.data[0] & 0xF0 == 0xF0
            lost += retry
            return retry and lost == 1

        line.drop = drop
        await line.do(line.client.connect(psk(), 0, SERVER))
        assert lost >= 2

    asyncio.run(main())


def test_the_store_gives_each_token_once_newest_first_and_is_bounded() -> None:
    store = TokenStore()
    for i in range(TOKENS_PER_SERVER + 2):
        store.put(SERVER, bytes([i]))
    assert store.take(("10.9.9.9", 4433)) is None
    assert [store.take(SERVER) for _ in range(TOKENS_PER_SERVER + 1)] == [
        *(bytes([i]) for i in range(TOKENS_PER_SERVER + 1, 1, -1)),
        None,
    ]
    store.put(SERVER, bytes(2000))
    assert store.take(SERVER) is None
    for port in range(SERVERS + 1):
        store.put(("10.0.0.1", port), b"x")
    assert store.take(("10.0.0.1", 0)) is None and store.take(("10.0.0.1", SERVERS)) == b"x"
