"""The tunnel of a connection: CONNECT-IP, its capsules and refusals, packets over both paths."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from line import SERVER, psk
from mpquic_rig import BALANCED, DN, UE, Proxy, packet, packets_of, run, tunnel

from mpquic.connection import Connection
from mpquic.errors import ConnectRefused
from mpquic.tunnel_request import ConnectIpReply, sequenced_context


def test_the_tunnel_is_bound_before_the_answer_goes_out() -> None:
    """Else the client's first packets, which may be there before the server's Python goes on, find no tunnel."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        order: list[str] = []

        def ready() -> None:
            tunnel = line.server.tunnel_new(1, ipv4=UE)
            tunnel.bind(proxy.connections[0])
            order.append("bound")

        frame_send = line.server.engine.frame_send

        def sent(*args: Any, **options: Any) -> None:
            order.append("sent")
            frame_send(*args, **options)

        proxy.reply = replace(proxy.reply, ready=ready)
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        await line.run(None, 500)
        order.clear()
        line.server.engine.frame_send = sent  # type: ignore[method-assign]
        await line.do(connection.connect_ip("proxy"))
        assert order[0] == "bound" and "sent" in order

    run(test)


def test_packets_cross_both_paths_both_ways() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connection = await proxy.session()
        assert connection.client_random == proxy.connections[0].client_random
        sent = [packet(UE, DN, port) for port in range(40000, 40020)]
        for one in sent:
            line.client.engine.tunnel_input(1, one, line.now)
        await line.run(None, 500)
        assert sorted(packets_of(line, server=True)) == sorted(sent)
        back = [packet(DN, UE, port) for port in range(40000, 40020)]
        for one in back:
            line.server.engine.tunnel_input(1, one, line.now)
        await line.run(None, 500)
        assert sorted(packets_of(line, server=False)) == sorted(back)
        carried = {p["access"]: p["datagrams_sent"] for p in connection.paths()}
        assert carried["3gpp"] > 0 and carried["non-3gpp"] > 0

    run(test)


def test_addresses_and_routes_come_from_the_proxy() -> None:
    async def test(proxy: Proxy) -> None:
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        tunnel: Any = await proxy.line.do(connection.connect_ip("proxy"))
        assert tunnel.addresses == (IPv4Network("10.45.0.2/32"),)
        assert tunnel.routes == (IPv4Network("0.0.0.0/0"),)

    run(test)


def test_a_proxy_may_refuse_the_tunnel() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.reply = ConnectIpReply(403)
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        with pytest.raises(ConnectRefused):
            await proxy.line.do(connection.connect_ip("proxy"))

    run(test)


def test_a_foreign_source_address_never_comes_out() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        await proxy.session()
        for endpoint in (line.client, line.server):
            assert endpoint.engine.counters()["ingress_filter"] == 0
        line.client.engine.tunnel_input(1, packet(IPv4Address("10.45.0.3"), DN, 40000), line.now)
        line.client.engine.tunnel_input(1, packet(UE, DN, 40001), line.now)
        await line.run(None, 500)
        assert packets_of(line, server=True) == [packet(UE, DN, 40001)]

    run(test)


def test_a_malformed_capsule_ends_the_wait_for_a_tunnel() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        server = proxy.connections[0]
        server._h3.send_data = lambda stream, _data, fin=False: type(server._h3).send_data(  # type: ignore[method-assign]
            server._h3, stream, b"\x01\x07\x01\x04\x0a\x2d\x00\x02\x21", fin
        )
        with pytest.raises(ConnectRefused):
            await line.do(connection.connect_ip("proxy"))
        assert line.client.counters["h3_stream_message_error"] == 1
        assert not connection.closed.done()  # the stream alone

    run(test)


async def refused_often(proxy: Proxy, times: int) -> Connection:
    proxy.reply = ConnectIpReply(403)
    connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
    for _ in range(times):
        with pytest.raises(ConnectRefused) as refused:
            await proxy.line.do(connection.connect_ip("proxy"))
        assert refused.value.status == 403
        await proxy.line.run(None, 100)
    return connection  # type: ignore[no-any-return]


def test_a_refusal_costs_neither_the_connection_nor_a_stream() -> None:
    """More requests than streams are allowed at once: each end lets go of a refused one."""

    async def test(proxy: Proxy) -> None:
        connection = await refused_often(proxy, 20)
        server = proxy.connections[0]
        assert not connection.closed.done() and not server.closed.done()
        for end in (connection, server):
            assert not end._h3._requests
            assert len(end._streams._streams) == 2  # the control streams
        proxy.reply = ConnectIpReply(200, (IPv4Network("10.45.0.2/32"),), (IPv4Network("0.0.0.0/0"),))
        assert await proxy.line.do(connection.connect_ip("proxy"))

    run(test)


def test_a_request_that_is_cancelled_is_taken_back() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        await line.run(None, 100)
        waiting = asyncio.ensure_future(connection.connect_ip("proxy"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await line.do(waiting)
        assert connection.tunnel is None
        await line.run(None, 500)
        assert not connection._h3._requests

    run(test)


def test_a_client_that_takes_no_datagrams_gets_no_tunnel() -> None:
    """RFC 9221 §3."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.client.parameters_set(replace(line.client.parameters, max_datagram_frame_size=0))
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        with pytest.raises(ConnectRefused) as refused:
            await line.do(connection.connect_ip("proxy"))
        assert refused.value.status == 400
        assert line.server.counters["connect_ip_refused_400"] == 1

    run(test)


def test_an_end_inside_a_capsule_is_malformed() -> None:
    """RFC 9297 §3.3."""

    async def test(proxy: Proxy) -> None:
        connection, _server, stream = await tunnel(proxy)
        connection._h3.send_data(stream, b"\x01\x07\x01", True)
        connection._flush()
        await proxy.line.run(None, 2000)
        assert proxy.line.server.counters["h3_stream_message_error"] == 1
        assert connection.closed.result().code == 0x10E

    run(test)


def test_a_broken_capsule_of_a_client_ends_its_tunnel() -> None:
    async def test(proxy: Proxy) -> None:
        connection, server, stream = await tunnel(proxy)
        connection._h3.send_data(stream, b"\x02\x00")  # ADDRESS_REQUEST without an entry
        connection._flush()
        await proxy.line.run(None, 2000)
        assert server.closed.done() and connection.closed.result().code == 0x10E

    run(test)


def test_a_tunnel_that_is_stopped_is_over_and_nothing_else_breaks() -> None:
    """STOP_SENDING, then a capsule that wants an answer: it ended in an unnamed error."""

    async def test(proxy: Proxy) -> None:
        connection, _server, stream = await tunnel(proxy)
        connection._streams.stop_sending(stream, 0x10C)
        connection._h3.send_data(stream, bytes.fromhex("02 07 01 04 00000000 20"))
        connection._flush()
        await proxy.line.run(None, 2000)
        assert connection.closed.result().code == 0x100
        assert not [name for name in proxy.line.server.counters if name.startswith("unexpected")]

    run(test)


def test_a_datagram_capsule_is_counted() -> None:
    """RFC 9297 §3.5: packets of the tunnel come in DATAGRAM frames only."""

    async def test(proxy: Proxy) -> None:
        connection, server, stream = await tunnel(proxy)
        connection._h3.send_data(stream, b"\x00\x02\x00E" * 3 + b"\x40\x7f\x01u")
        connection._flush()
        await proxy.line.run(None, 500)
        assert proxy.line.server.counters["capsule_datagram_dropped"] == 3
        assert not server.closed.done()

    run(test)


def test_no_stream_for_a_request_is_a_refusal() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.server.parameters_set(replace(line.server.parameters, initial_max_streams_bidi=0))
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        with pytest.raises(ConnectRefused):
            await line.do(connection.connect_ip("proxy"))
        assert not connection.closed.done()

    run(test)


@pytest.mark.parametrize(("client", "server", "agreed"), [(True, True, True), (True, False, False), (False, True, False)])
def test_packets_with_sequence_numbers_where_both_ends_want_them(client: bool, server: bool, agreed: bool) -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.client.config.sequenced, line.server.config.sequenced = client, server
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        made: Any = await line.do(connection.connect_ip("proxy"))
        other: Any = proxy.connections[0].tunnel
        assert made.sequenced is agreed and other.sequenced is agreed and made.offered is client
        assert await line.do(connection.open_path(1, SERVER)) == 1
        for endpoint, bound in ((line.client, connection), (line.server, proxy.connections[0])):
            tunnel = endpoint.tunnel_new(1, ipv4=UE)
            tunnel.steering_set([replace(BALANCED, sequenced=True)])
            tunnel.bind(bound)
        sent = [packet(UE, DN, 40000, bytes([n])) for n in range(100)]
        back = [packet(DN, UE, 40000, bytes([n])) for n in range(100)]
        for up, down in zip(sent, back, strict=True):
            line.client.engine.tunnel_input(1, up, line.now)
            line.server.engine.tunnel_input(1, down, line.now)
        await line.run(None, 500)
        assert packets_of(line, server=True) == sent and packets_of(line, server=False) == back
        assert not any(e.engine.counters().get("datagram_context") for e in (line.client, line.server))

    run(test)


@pytest.mark.parametrize(
    ("fields", "context"),
    [
        ([], None),
        ([b"2"], 2),
        ([b" 2"], 2),
        ([b"2;v=1"], 2),
        ([b"4"], 4),
        ([b"2", b"2"], None),
        ([b"-2"], None),
        ([b"2.0"], None),
        ([b"2 2"], None),
        ([b"?1"], None),
        ([b""], None),
        ([b"9" * 15], 999_999_999_999_999),
        ([b"9" * 16], None),
        ([b"2\xff"], None),
    ],
)
def test_the_offer_is_an_integer_or_nothing(fields: list[bytes], context: int | None) -> None:
    headers = [(b":method", b"CONNECT"), *((b"sequenced-datagrams", value) for value in fields), (b"capsule-protocol", b"?1")]
    assert sequenced_context(headers) == context


def test_a_proxy_accepts_no_context_but_ours() -> None:
    """Another number than the engine's is answered as no offer at all; an answer that was not asked for is read over."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.client.config.sequenced = False
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        connection._h3.request_connect = partial(_offering, connection._h3.request_connect, b"4")
        made: Any = await line.do(connection.connect_ip("proxy"))
        other: Any = proxy.connections[0].tunnel
        assert not made.sequenced and not other.sequenced and not other.offered

    run(test)


def _offering(request: Any, value: bytes, headers: Any) -> int:
    return int(request([*headers, (b"sequenced-datagrams", value)]))
