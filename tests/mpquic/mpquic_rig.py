"""A proxy with one key on a line in memory, and inner packets: what tests of whole connections share."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from line import IDENTITY, SERVER, Line, make_line, psk

from mpquic.connection import Connection
from mpquic.endpoint import EndpointConfig
from mpquic.errors import PskSpent
from mpquic.psk import Psk
from mpquic.steering import SteeringRule
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


def packets_of(line: Line, server: bool) -> list[bytes]:
    endpoint = line.server if server else line.client
    found = []
    while (one := endpoint.engine.tunnel_output()) is not None:
        found.append(one[1])
    return found


async def tunnel(proxy: Proxy) -> tuple[Any, Any, int]:
    """Client's and server's connection, and the stream of the tunnel."""
    connection: Any = await proxy.line.do(proxy.line.client.connect(psk(), 0, SERVER))
    made: Any = await proxy.line.do(connection.connect_ip("proxy"))
    return connection, proxy.connections[0], made.stream_id
