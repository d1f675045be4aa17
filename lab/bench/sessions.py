"""Many sessions: what one costs in memory, idle and with a tunnel in use, and an idle one in time."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.memory_line import SERVER_ADDRESS, Line, psks
from lab.bench.pair import BenchError
from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.steering import SteeringRule
from mpquic.tunnel_request import ConnectIpReply
from native._engine import lib
from native.sim import MS, SECOND, Simulator, check, udp4

FIRST_ADDRESS, EVERYWHERE = IPv4Address("10.45.0.1"), IPv4Network("0.0.0.0/0")
BURST, PACKET = 32, 1280  # inner packets each way, octets of each
BURST_MS = 100  # of virtual time
IDLE_SECONDS = 120  # of virtual time


def _resident() -> int:
    """Octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _Sessions:
    """Sessions over one line, made one after the other."""

    def __init__(self, most: int) -> None:
        known = {p.identity: p for p in psks(most)}
        self._keys = iter(psks(most))
        self._accepted: list[Connection] = []
        server = EndpointConfig(
            role="server", psk_lookup=known.get, on_connection=self._on_connection, max_connections=most, retry_half_open=0
        )
        self.line = Line(Endpoint(EndpointConfig(role="client", max_connections=most)), Endpoint(server))

    def _on_connection(self, connection: Connection) -> None:
        self._accepted.append(connection)
        connection.on_connect_ip = lambda _target: ConnectIpReply(200, (IPv4Network(f"{self._address}/32"),), (EVERYWHERE,))

    @property
    def _address(self) -> IPv4Address:
        return FIRST_ADDRESS + len(self._accepted)

    async def idle(self) -> Connection:
        """Connection, TLS state, streams, HTTP/3, with a second path's connection IDs."""
        return await self.line.do(self.line.client.connect(next(self._keys), 0, SERVER_ADDRESS))

    async def active(self) -> None:
        """And CONNECT-IP, a second path, a tunnel at each end, and a burst in each direction that fills both paths."""
        connection, line = await self.idle(), self.line
        await line.do(connection.connect_ip("proxy"))
        await line.do(connection.open_path(1, SERVER_ADDRESS))
        for endpoint, bound in ((line.client, connection), (line.server, self._accepted[-1])):
            tunnel = endpoint.tunnel_new(1, ipv4=self._address)
            tunnel.steering_set([SteeringRule(1, 1, weights={"3gpp": 50, "non-3gpp": 50})])
            tunnel.bind(bound)
        for i in range(BURST):
            line.client.engine.tunnel_input(1, udp4(PACKET, flow=i, ue=str(self._address)), line.now)
            line.server.engine.tunnel_input(1, udp4(PACKET, up=False, flow=i, ue=str(self._address)), line.now)
        await line.run(None, BURST_MS)
        for endpoint in (line.client, line.server):
            arrived = 0
            while endpoint.engine.tunnel_output() is not None:
                arrived += 1
            if arrived < BURST:
                raise BenchError(f"{arrived} of {BURST} packets of a session arrived")


async def _memory(count: int, make: Callable[[_Sessions], Awaitable[object]]) -> float:
    """kB that a session takes at one end."""
    sessions = _Sessions(count + 1)
    await make(sessions)  # what is made once
    gc.collect()
    before = _resident()
    for _ in range(count):
        await make(sessions)
    await sessions.line.run(None, 2_000)
    gc.collect()
    grown = _resident() - before
    for endpoint in (sessions.line.client, sessions.line.server):
        endpoint.engine.free()
    return grown / count / 2 / 1000


def measure_memory(sessions: int) -> list[Figure]:
    """Of an idle session, and of one that carries packets: of these a quarter as many."""
    idle, active = Figure("session.memory", "kB"), Figure("session.memory.active", "kB")
    idle.add(asyncio.run(_memory(sessions, _Sessions.idle)))
    active.add(asyncio.run(_memory(sessions // 4, _Sessions.active)))
    return [idle, active]


def measure_idle(sessions: int) -> Figure:
    """Share of a core that one end's engine takes for idle sessions: keep-alives, timers. Virtual time, real CPU time."""
    figure = Figure("session.idle_cpu", "% of a core")
    limits = {"max_connections": sessions, "max_half_open": 64}
    with Simulator(1, client=limits, server=limits) as sim:
        lib.simnet_checks_set(sim.net, 0)  # they walk all connections at every datagram
        for _ in range(sessions):
            conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
            sim.client_handshake.start(conn)
            sim.run(MS)
        sim.run(10 * SECOND)
        before = time.process_time()
        sim.run(IDLE_SECONDS * SECOND)
        figure.add((time.process_time() - before) / IDLE_SECONDS / 2 * 100)
    return figure

