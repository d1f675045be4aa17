"""The life of a connection between two endpoints: paths, callbacks, its end, and the same over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

import pytest
from line import IDENTITY, SERVER, Line, make_line, psk
from mpquic_rig import Proxy, run, tunnel

from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.errors import ConnectionClosed, HandshakeRefused, PathFailed
from mpquic.psk import Psk
from mpquic.tls import Tls
from mpquic.tls_states import Level
from mpquic.tunnel_request import ConnectIpReply


@pytest.mark.parametrize("timeout_ms", [(1 << 62) - 1, 1 << 45, 0])
def test_a_peer_may_announce_any_idle_timeout(timeout_ms: int) -> None:
    """RFC 9000 §18.2: a varint of milliseconds. In ns it does not fit the engine's integer."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.client.parameters_set(replace(line.client.parameters, max_idle_timeout=timeout_ms))
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        await line.do(connection.connect_ip("proxy"))
        assert not line.server.counters["callback_failed"]

    run(test)


def test_close_reaches_the_other_end() -> None:
    async def test(proxy: Proxy) -> None:
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        await proxy.line.do(connection.goaway())
        await proxy.line.do(connection.close())
        await proxy.line.run(None, 2000)
        assert proxy.connections[0].closed.result().source == "peer"
        assert not proxy.line.client.connections and not proxy.line.server.connections

    run(test)


def test_who_waits_for_a_path_hears_of_the_end() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        await line.run(None, 100)
        line.drop = lambda datagram, _to_server: datagram.link == 1
        opening = asyncio.ensure_future(connection.open_path(1, SERVER))
        await line.run(None, 50)
        assert not opening.done()
        await line.do(proxy.connections[0].close())
        with pytest.raises(PathFailed):
            await line.do(opening)

    run(test)


def test_a_failing_callback_costs_its_own_connection_only() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        reported: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))

        def explode(_target: Any) -> ConnectIpReply:
            raise RuntimeError("bug of a user")

        first: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        proxy.spent = False
        second: Any = await line.do(line.client.connect(psk(), 1, SERVER))
        proxy.connections[0].on_connect_ip = explode
        with pytest.raises(ConnectionClosed):
            await line.do(first.connect_ip("proxy"))
        assert await line.do(second.connect_ip("proxy"))
        assert line.server.counters["callback_failed"] == 1 and len(reported) == 1

    run(test)


def test_over_real_sockets_with_the_io_threads() -> None:
    """The same over UDP on loopback: race, CONNECT-IP, second path, graceful end."""

    async def main() -> None:
        spent = False

        def lookup(identity: bytes) -> Psk | None:
            return psk() if identity == IDENTITY and not spent else None

        def connected(connection: Connection) -> None:
            nonlocal spent
            spent = True
            connection.on_connect_ip = lambda _target: ConnectIpReply(
                200, (IPv4Network("10.45.0.2/32"),), (IPv4Network("0.0.0.0/0"),)
            )

        client = Endpoint(EndpointConfig(role="client"))
        server = Endpoint(EndpointConfig(role="server", psk_lookup=lookup, on_connection=connected))
        ports = []
        with contextlib.ExitStack() as stack:
            for link, access in enumerate(("3gpp", "non-3gpp")):
                for endpoint in (client, server):
                    udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    udp.setblocking(False)
                    udp.bind(("127.0.0.1", 0))
                    endpoint.add_socket(link, udp, access)
                    if endpoint is server:
                        ports.append(("127.0.0.1", udp.getsockname()[1]))
        client.start()
        server.start()
        async with asyncio.timeout(20):
            connection = await client.connect_race(psk(), [(0, ports[0]), (1, ports[1])])
            tunnel = await connection.connect_ip("proxy")
            assert tunnel.addresses == (IPv4Network("10.45.0.2/32"),)
            other = 1 - connection.link
            assert await connection.open_path(other, ports[other]) == 1
            with pytest.raises(HandshakeRefused):
                await client.connect(psk(), 0, ports[0])
            await connection.goaway()
            await connection.close()
            await client.close()
            await server.close()

    asyncio.run(main())


def test_nothing_is_read_after_the_frame_that_closes() -> None:
    """The rest of its packet is not looked at: one error, one counter, one CONNECTION_CLOSE."""

    async def test(proxy: Proxy) -> None:
        connection, server, _ = await tunnel(proxy)
        for token in (1001, 1002):  # STREAM of stream 240, far beyond the limit; twice in one packet
            connection._engine.frame_send(connection.handle, Level.ONE_RTT, b"\x0a\x40\xf0\x01a", token)
        await proxy.line.run(None, 2000)
        assert connection.closed.result().code == 0x04 and server.closed.done()
        assert proxy.line.server.counters["transport_stream_limit_error"] == 1

    run(test)


def test_each_end_chooses_its_congestion_controller() -> None:
    """The server's choice is visible in its paths and connections, by name; the client keeps the default."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.server = Endpoint(replace(line.server.config, congestion_control="bbr"))
        await proxy.session()
        assert {path["congestion_control"] for path in proxy.connections[0].paths()} == {"bbr"}
        assert proxy.connections[0].stats()["congestion_control"] == "bbr"
        (client,) = line.client.connections.values()
        assert client.stats()["congestion_control"] == "cubic"
        assert all(path["pacing_rate"] > 0 and path["cwnd"] > 0 for path in client.paths())

    run(test)


def test_ecn_can_be_switched_off_at_one_end() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.server = Endpoint(replace(line.server.config, ecn=False))
        await proxy.session()
        (client,) = line.client.connections.values()
        assert {path["ecn_failure"] for path in proxy.connections[0].paths()} == {"off"}
        assert "off" not in {path["ecn_failure"] for path in client.paths()}

    run(test)


def _without_collector(lookup: Callable[[bytes], Psk | None], work: Callable[[Line], Awaitable[None]]) -> None:
    """What `work` does on a line of its own, until its connections are over: meanwhile nothing goes but by its references."""

    async def scenario() -> None:
        line = make_line(EndpointConfig(role="server", psk_lookup=lookup))
        gc.collect()
        gc.disable()
        try:
            await work(line)
            await line.run(None, 5_000)
            assert not line.client.connections and not line.server.connections
        finally:
            gc.enable()
            await line.client.close()
            await line.server.close()

    asyncio.run(scenario())


def _kept_after_their_end() -> int:
    """How many of a connection's two ends wait for the garbage collector."""
    ends: list[weakref.ref[Connection]] = []

    async def made(line: Line) -> None:
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        ends.extend(weakref.ref(end) for end in (*line.client.connections.values(), *line.server.connections.values()))
        connection.abort()

    _without_collector(lambda _identity: psk(), made)
    assert len(ends) == 2
    return sum(end() is not None for end in ends)


def test_a_connection_that_is_over_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its keys: nothing of it waits for the garbage collector."""
    assert _kept_after_their_end() == 0
    monkeypatch.setattr(Tls, "forget", lambda self: None)  # the canary
    assert _kept_after_their_end() > 0


def _kept_after_a_refusal(monkeypatch: pytest.MonkeyPatch) -> int:
    """How many of a refused handshake's two ends, and of the error that tells of it, wait for the garbage collector."""
    kept: list[weakref.ref[Any]] = []
    init = Connection.__init__

    def noted(self: Connection, *arguments: Any, **more: Any) -> None:
        kept.append(weakref.ref(self))
        init(self, *arguments, **more)

    async def refused(line: Line) -> None:
        try:
            await line.do(line.client.connect(psk(), 0, SERVER))
        except HandshakeRefused as error:
            kept.append(weakref.ref(error))

    with monkeypatch.context() as patched:
        patched.setattr(Connection, "__init__", noted)
        _without_collector(lambda _identity: None, refused)
    assert len(kept) == 3
    return sum(one() is not None for one in kept)


def test_a_refused_handshake_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error tells where it was raised, and the frames there must not hold it, nor the connection that knows it."""
    assert _kept_after_a_refusal(monkeypatch) == 0
    race = Endpoint.connect_race

    async def holding(self: Endpoint, *arguments: Any) -> Connection:
        try:
            return await race(self, *arguments)
        except HandshakeRefused as error:
            held = error  # the canary: a frame of the traceback that holds its error
            raise held from None

    monkeypatch.setattr(Endpoint, "connect_race", holding)
    assert _kept_after_a_refusal(monkeypatch) > 0
