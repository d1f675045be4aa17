"""Whole connections between two endpoints: PSK handshake, CONNECT-IP, two paths, packets through the tunnel, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from aioquic.quic.crypto import CryptoPair
from line import IDENTITY, KEY, SERVER, Line, make_line, psk

from mpquic.connection import CloseReason, Connection
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.errors import ConnectionClosed, ConnectRefused, HandshakeRefused, HandshakeTimeout, PathFailed, PskSpent, PskWiped
from mpquic.psk import Psk, PskMode
from mpquic.reader import Reader
from mpquic.steering import SteeringRule
from mpquic.suites import SUITES, Suite
from mpquic.tls_states import Level
from mpquic.tunnel_request import ConnectIpReply

UE, DN = IPv4Address("10.45.0.2"), IPv4Address("10.99.0.2")
BALANCED = SteeringRule(1, 10, weights={"3gpp": 30, "non-3gpp": 70})


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source: IPv4Address, destination: IPv4Address, port: int, payload: bytes = b"x" * 100) -> bytes:
    udp = struct.pack("!HHHH", port, 9000, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0, source.packed, destination.packed)
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


class Proxy:
    """A server with one key."""

    def __init__(self, **options: Any) -> None:
        self.key = psk()
        self.spent = False
        self.connections: list[Connection] = []
        self.reply = ConnectIpReply(200, (IPv4Network("10.45.0.2/32"),), (IPv4Network("0.0.0.0/0"),))
        self.line = make_line(
            EndpointConfig(role="server", psk_lookup=self.lookup, on_connection=self.connected, random_seed=22), **options
        )

    def lookup(self, identity: bytes) -> Psk | None:
        if identity != IDENTITY:
            return None
        if self.spent:
            raise PskSpent("spent")
        return self.key

    def connected(self, connection: Connection) -> None:
        self.spent = True
        self.connections.append(connection)
        connection.on_connect_ip = lambda _target: self.reply

    async def session(self) -> Connection:
        """Connected, CONNECT-IP, two paths, tunnels bound."""
        line = self.line
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        await line.do(connection.connect_ip("proxy"))
        path = await line.do(connection.open_path(1, SERVER))
        assert path == 1
        for endpoint, bound in ((line.client, connection), (line.server, self.connections[0])):
            tunnel = endpoint.tunnel_new(1, ipv4=UE)
            tunnel.steering_set([BALANCED])
            tunnel.bind(bound)
        return connection  # type: ignore[no-any-return]


def run(test: Callable[[Proxy], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        await test(Proxy(**options))

    asyncio.run(main())


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


def packets_of(line: Line, server: bool) -> list[bytes]:
    endpoint = line.server if server else line.client
    found = []
    while (one := endpoint.engine.tunnel_output()) is not None:
        found.append(one[1])
    return found


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


def close_frames(datagram: bytes, first_dcid: bytes) -> bytes:
    """The frames of a server's Initial, by aioquic's packet protection."""
    crypto = CryptoPair()
    crypto.setup_initial(first_dcid, is_client=True, version=1)
    reader = Reader(datagram)
    reader.octets(5)
    reader.vector(1)
    reader.vector(1)
    reader.octets(reader.varint())  # token
    length = reader.varint()
    packet = datagram[: reader.position + length]
    return bytes(crypto.decrypt_packet(packet, reader.position, 0)[1])


REFUSED_KEYS = {
    "psk_unknown_identity": (bytes(32), b"somebody els", False),
    "psk_wrong_binder": (bytes(32), IDENTITY, False),
    "psk_spent": (KEY, IDENTITY, True),
}


def test_refused_keys_look_alike_on_the_wire() -> None:
    """PSK-01: the same datagrams in number and length, the same frames in them, no word of why; the counters know."""
    seen: list[tuple[list[int], bytes]] = []

    async def test(proxy: Proxy) -> None:
        counter = list(REFUSED_KEYS)[len(seen)]
        key, identity, proxy.spent = REFUSED_KEYS[counter]
        answers: list[bytes] = []
        line = proxy.line

        def drop(datagram: Any, to_server: bool) -> bool:
            if not to_server:
                answers.append(datagram.data)
            return False

        line.drop = drop
        connecting = asyncio.ensure_future(line.client.connect(psk(key, identity), 0, SERVER))
        await asyncio.sleep(0)
        [connection] = line.client.connections.values()
        first_dcid = bytes.fromhex(connection.original_dcid)
        with pytest.raises(HandshakeRefused) as refused:
            await line.do(connecting)
        assert refused.value.code == 0x133
        assert refused.value.key_refused
        assert "identity" not in str(refused.value) and "binder" not in str(refused.value)
        assert {name: line.server.counters[name] for name in REFUSED_KEYS} == {name: name == counter for name in REFUSED_KEYS}
        assert not proxy.connections and proxy.spent == (counter == "psk_spent")
        frames = close_frames(answers[0], first_dcid)
        assert bytes.fromhex("1c 4133 06 00") in frames  # CONNECTION_CLOSE, CRYPTO_ERROR + 51, CRYPTO, no reason
        seen.append(([len(answer) for answer in answers], frames))

    for _ in REFUSED_KEYS:
        run(test)
    assert seen[0] == seen[1] == seen[2]


def test_a_key_that_cannot_be_used_leaves_nothing_in_the_engine() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        wiped = psk()
        wiped.wipe()
        with pytest.raises(PskWiped):
            await line.do(line.client.connect(wiped, 0, SERVER))
        await line.run(None, 5000)
        assert not line.client.connections and not line.client.engine.connections()

    run(test)


@pytest.mark.parametrize("timeout_ms", [(1 << 62) - 1, 1 << 45, 0])
def test_a_peer_may_announce_any_idle_timeout(timeout_ms: int) -> None:
    """RFC 9000 §18.2: a varint of milliseconds. In ns it does not fit the engine's integer."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        own = line.client.parameters
        line.client.parameters = lambda: replace(own(), max_idle_timeout=timeout_ms)  # type: ignore[method-assign]
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        await line.do(connection.connect_ip("proxy"))
        assert not line.server.counters["callback_failed"]

    run(test)


def test_crypto_octets_behind_a_gap_close_the_connection() -> None:
    """PSK-14: the ClientHello is whole, and something waits behind it in the same level."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connecting = asyncio.ensure_future(line.client.connect(psk(), 0, SERVER))
        await asyncio.sleep(0)
        [connection] = line.client.connections.values()
        connection._crypto_out[Level.INITIAL] += 1
        connection._crypto_send(Level.INITIAL, b"behind a gap")
        with pytest.raises(HandshakeRefused) as refused:
            await line.do(connecting)
        assert refused.value.code == 0x0A
        assert line.server.counters["tls_protocol_violation"] == 1

    run(test)


def test_a_refused_key_does_not_burn_the_true_one() -> None:
    async def test(proxy: Proxy) -> None:
        with pytest.raises(HandshakeRefused):
            await proxy.line.do(proxy.line.client.connect(psk(bytes(32)), 0, SERVER))
        await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        assert len(proxy.connections) == 1

    run(test)


def test_a_key_makes_one_connection() -> None:
    async def test(proxy: Proxy) -> None:
        await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        with pytest.raises(HandshakeRefused) as refused:
            await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        assert refused.value.code == 0x133
        assert proxy.line.server.counters["psk_spent"] == 1
        assert len(proxy.connections) == 1

    run(test)


def test_a_race_is_won_once_and_a_dead_access_does_not_keep_it_down() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.line.drop = lambda datagram, _to_server: datagram.link == 0
        connection: Any = await proxy.line.do(proxy.line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        assert connection.link == 1
        assert len(proxy.connections) == 1

    run(test)


def test_both_accesses_answer_one_finishes() -> None:
    async def test(proxy: Proxy) -> None:
        await proxy.line.do(proxy.line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        await proxy.line.run(None, 1000)
        assert len(proxy.connections) == 1
        assert proxy.line.server.counters["psk_spent"] == 0

    run(test)


def test_a_handshake_survives_lost_flights() -> None:
    async def test(proxy: Proxy) -> None:
        lost = [0]

        def drop(_datagram: Any, _to_server: bool) -> bool:
            lost[0] += 1
            return lost[0] % 3 == 1

        proxy.line.drop = drop
        connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        await proxy.line.do(connection.connect_ip("proxy"))

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


def test_the_key_log_has_both_roles_lines_and_no_key() -> None:
    async def test(proxy: Proxy) -> None:
        lines: list[str] = []
        proxy.line.client.config.keylog = lines.append
        await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
        assert {one.split()[0] for one in lines} >= {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}
        assert KEY.hex() not in "".join(lines)

    run(test)


def test_a_refusal_of_the_slower_access_does_not_hide_the_winner() -> None:
    """The winner's Finished spends the key; a ClientHello that comes after it is refused while HANDSHAKE_DONE is lost."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        done = [0]

        def drop(datagram: Any, to_server: bool) -> bool:
            if to_server and datagram.link == 1 and not proxy.spent:
                return True  # the slow access: its first hello arrives after the key is spent
            if not to_server and datagram.link == 0 and proxy.spent and not line.server.counters["psk_spent"]:
                done[0] += 1
                return True  # the winner's confirmation is lost until the other was refused
            return False

        line.drop = drop
        connection: Any = await line.do(line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        assert connection.link == 0
        assert done[0] and line.server.counters["psk_spent"] == 1
        assert len(proxy.connections) == 1

    run(test)


def test_nobody_answers_is_a_timeout() -> None:
    async def test(proxy: Proxy) -> None:
        proxy.line.drop = lambda _datagram, _to_server: True
        with pytest.raises(HandshakeTimeout):
            await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER), 60_000)

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


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_an_imported_key_carries_every_suite(suite: Suite) -> None:
    """RFC 9258, AES-256 and SHA-384 included: handshake and datagrams through the engine."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.server.config.suites = [suite]
        proxy.key = Psk(KEY, IDENTITY, PskMode.IMPORTED)
        connection: Any = await line.do(line.client.connect(Psk(KEY, IDENTITY, PskMode.IMPORTED), 0, SERVER))
        await line.do(connection.connect_ip("proxy"))
        assert connection._tls.suite is suite

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


# ---- requests: refused, cancelled, misused


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
        own = line.client.parameters
        line.client.parameters = lambda: replace(own(), max_datagram_frame_size=0)  # type: ignore[method-assign]
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        with pytest.raises(ConnectRefused) as refused:
            await line.do(connection.connect_ip("proxy"))
        assert refused.value.status == 400
        assert line.server.counters["connect_ip_refused_400"] == 1

    run(test)


async def tunnel(proxy: Proxy) -> tuple[Any, Any, int]:
    """Client's and server's connection, and the stream of the tunnel."""
    connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
    made: Any = await proxy.line.do(connection.connect_ip("proxy"))
    return connection, proxy.connections[0], made.stream_id


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


def test_no_stream_for_a_request_is_a_refusal() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        own = line.server.parameters
        line.server.parameters = lambda: replace(own(), initial_max_streams_bidi=0)  # type: ignore[method-assign]
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        with pytest.raises(ConnectRefused):
            await line.do(connection.connect_ip("proxy"))
        assert not connection.closed.done()

    run(test)


def test_the_parameters_and_the_hello_are_greased() -> None:
    """RFC 9000 §18.1, RFC 8701: and the peer takes no notice."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        connection: Any = await line.do(line.client.connect(psk(), 0, SERVER))
        for end in (connection, proxy.connections[0]):
            reader, seen = Reader(end.transport_parameters), []
            assert end.transport_parameters == end.transport_parameters  # drawn once
            while reader.left:
                seen.append(reader.varint())
                reader.octets(reader.varint())
            assert [identifier for identifier in seen if identifier > 0x3E and identifier % 31 == 27]

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


# ---- a race in which one access lies


def test_a_refusal_forged_on_one_access_does_not_end_the_race() -> None:
    """Initial packets are protected by public keys: who listens on one access can answer there with anything."""

    async def test(proxy: Proxy) -> None:
        line = proxy.line
        racing = asyncio.ensure_future(line.client.connect_race(psk(), [(0, SERVER), (1, SERVER)]))
        await asyncio.sleep(0)
        [attacked] = [c for c in line.client.connections.values() if c.link == 1]
        attacked.over(CloseReason("peer", 0x133, False, ""))
        await asyncio.sleep(0)
        connection: Any = await line.do(racing)
        assert connection.link == 0

    run(test)


def test_a_refusal_is_believed_when_no_other_access_answers() -> None:
    async def test(proxy: Proxy) -> None:
        line = proxy.line
        line.drop = lambda datagram, _to_server: datagram.link == 1
        racing = asyncio.ensure_future(line.client.connect_race(psk(bytes(32)), [(0, SERVER), (1, SERVER)]))
        await line.run(None, 200)
        start = time.monotonic()
        with pytest.raises(HandshakeRefused):
            await racing
        assert time.monotonic() - start < 5

    run(test)
