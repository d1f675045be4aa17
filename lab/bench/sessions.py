"""Many idle sessions: what one costs in memory and time."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.memory_line import SERVER_ADDRESS, Line, psks
from mpquic.endpoint import Endpoint, EndpointConfig
from native._engine import lib
from native.sim import MS, SECOND, Simulator, check

IDLE_SECONDS = 120  # of virtual time


def _resident() -> int:
    """Octets of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _memory(sessions: int) -> float:
    """kB of an idle session at one end: connection, TLS state, streams, HTTP/3, with a second path's connection IDs."""
    known, keys = {p.identity: p for p in psks(sessions)}, psks(sessions)
    server = Endpoint(
        EndpointConfig(role="server", psk_lookup=known.get, max_connections=sessions + 1, max_half_open=64, retry_half_open=0)
    )
    line = Line(Endpoint(EndpointConfig(role="client", max_connections=sessions + 1)), server)
    await line.do(line.client.connect(keys[0], 0, SERVER_ADDRESS))  # what is made once
    gc.collect()
    before = _resident()
    for psk in keys[1:]:
        await line.do(line.client.connect(psk, 0, SERVER_ADDRESS))
    await line.run(None, 2_000)
    gc.collect()
    grown = _resident() - before
    for endpoint in (line.client, line.server):
        endpoint.engine.free()
    return grown / (sessions - 1) / 2 / 1000


def measure_memory(sessions: int) -> Figure:
    figure = Figure("session.memory", "kB")
    figure.add(asyncio.run(_memory(sessions)))
    return figure


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

