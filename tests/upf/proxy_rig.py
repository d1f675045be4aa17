"""The PFCP agent's rig with the real proxy, and connections, tunnels and routes that only write down what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from socket import socket
from typing import Any

from upf_rig import K_N4, KEY, UP_RECOVERY, Rig, config

from fiveg.keys import psk_identity
from node.events import Events
from node.secrets import Secret
from upf.errors import DatapathError
from upf.pfcp_agent import PfcpAgent
from upf.ports import Assignment, ConnectionPort, TunnelSpec
from upf.proxy import Proxy
from upf.steering import Steering


@dataclass(eq=False)
class FakeConnection:
    identity: bytes
    client_random: str = "00" * 32
    handler: Callable[[], Assignment] | None = None
    over: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def on_connect_ip(self, handler: Callable[[], Assignment]) -> None:
        self.handler = handler

    def on_event(self, handler: Callable[[str, dict[str, Any]], None]) -> None:
        self.event = handler

    async def close(self) -> None:
        if not self.over.done():
            self.over.set_result("closed by us")

    async def closed(self) -> str:
        return await self.over

    def packets(self) -> int:
        return 7

    def paths(self) -> list[dict[str, Any]]:
        return [{"path": 0, "link": 0, "state": "active"}]

    def connect_ip(self) -> Assignment:
        assert self.handler is not None
        answer = self.handler()
        if answer.ready is not None:
            answer.ready()
        return answer


@dataclass(eq=False)
class FakeTunnel:
    spec: TunnelSpec
    steering: list[Steering] = field(default_factory=list)
    admitted: list[ConnectionPort] = field(default_factory=list)
    bound: list[ConnectionPort] = field(default_factory=list)
    freed: bool = False
    fail: bool = False

    def steering_set(self, steering: list[Steering]) -> None:
        if self.fail:
            raise DatapathError("told to fail")
        self.steering = steering

    def admit(self, connection: ConnectionPort) -> None:
        self.admitted.append(connection)

    def bind(self, connection: ConnectionPort) -> None:
        self.bound.append(connection)

    def stats(self) -> dict[str, Any]:
        return {"packets_in": 1}

    def free(self) -> None:
        self.freed = True


class FakeEndpoint:
    def __init__(self) -> None:
        self.tunnels: list[FakeTunnel] = []
        self.fail = False
        self.sockets: dict[int, str] = {}
        self.refuse_link: int | None = None
        self.links_told: list[tuple[int, bool]] = []

    def tunnel_new(self, spec: TunnelSpec) -> FakeTunnel:
        self.tunnels.append(FakeTunnel(spec, fail=self.fail))
        return self.tunnels[-1]

    def socket_add(self, link: int, sock: socket, access: str) -> None:
        if link == self.refuse_link:
            raise DatapathError("told to fail")
        self.sockets[link] = access

    def socket_remove(self, link: int) -> None:
        del self.sockets[link]

    def link_state(self, link: int, up: bool) -> None:
        self.links_told.append((link, up))

    def counters(self) -> dict[str, int]:
        return {}

    async def close(self) -> None: ...


class FakeRoutes:
    def __init__(self) -> None:
        self.routes: list[tuple[IPv4Address | None, IPv6Address | None]] = []
        self.fail = False

    def route_add(self, ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> None:
        if self.fail:
            raise DatapathError("told to fail")
        self.routes.append((ipv4, ipv6))

    def route_remove(self, ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> None:
        if self.fail:
            raise DatapathError("told to fail")
        self.routes.remove((ipv4, ipv6))


class ProxyRig(Rig):
    """The agent's rig with the real proxy in place of the recorder."""

    def __init__(self) -> None:
        super().__init__()
        self.endpoint, self.routes = FakeEndpoint(), FakeRoutes()
        events = Events(self.events)
        self.proxy = Proxy(config(), events, self.counters, lambda: self.now)
        self.agent = PfcpAgent(
            config(),
            Secret(K_N4),
            UP_RECOVERY,
            self.transactions,
            self.proxy,
            events,
            self.counters,
            self.agent._random,
        )
        self.proxy.attach(self.endpoint, self.routes, self.agent.keys, lambda: None)

    @property
    def tunnel(self) -> FakeTunnel:
        return self.endpoint.tunnels[-1]

    async def connect(self, key: bytes = KEY, connect_ip: bool = True) -> FakeConnection:
        """What mpquic does when a client has this key."""
        assert self.proxy.psk_lookup(psk_identity(key)) is not None
        connection = FakeConnection(psk_identity(key))
        self.proxy.connected(connection)
        if connect_ip:
            connection.connect_ip()
        await settle()
        return connection


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
