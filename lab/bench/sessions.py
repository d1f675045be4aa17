"""Many sessions: what an idle one costs in memory and time, and what many active ones cost against one."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.memory_line import SERVER_ADDRESS, Line, psks
from lab.bench.pair import CLIENT, INNER, SERVER, EnginePair
from lab.bench.pair import Line as VethLine
from mpquic.endpoint import Endpoint, EndpointConfig
from native._engine import lib
from native.sim import MS, SECOND, Simulator, check

ACTIVE = 100
PORT = 5300
CHUNK = bytes(1 << 18)
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


# ---- active sessions


class _Bulk:
    """One TCP connection from each inner address of the client's, all as fast as they go."""

    def __init__(self, line: VethLine, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._stop = threading.Event()
        self.received = 0
        self._listener = line.spaces[SERVER].call_sync(self._listen)
        self._senders = line.spaces[CLIENT].call_sync(self._connect)
        self._receivers = [self._listener.accept()[0] for _ in addresses]
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]

    def _listen(self) -> socket.socket:
        listener = socket.create_server((INNER[SERVER], PORT), backlog=2 * ACTIVE)
        listener.settimeout(10)
        return listener

    def _connect(self) -> list[socket.socket]:
        return [
            socket.create_connection((INNER[SERVER], PORT), timeout=10, source_address=(address, 0)) for address in self._addresses
        ]

    def _send(self) -> None:
        with selectors.DefaultSelector() as ready:
            for sender in self._senders:
                sender.setblocking(False)
                ready.register(sender, selectors.EVENT_WRITE)
            while not self._stop.is_set():
                for key, _ in ready.select(0.1):
                    try:
                        key.fileobj.send(CHUNK)  # type: ignore[union-attr]
                    except BlockingIOError:
                        continue

    def _receive(self) -> None:
        buffer = bytearray(1 << 20)
        with selectors.DefaultSelector() as ready:
            for receiver in self._receivers:
                receiver.setblocking(False)
                ready.register(receiver, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in ready.select(0.1):
                    self.received += key.fileobj.recv_into(buffer)  # type: ignore[union-attr]

    def run(self, seconds: float) -> float:
        """Bits per second at the receivers, after a warm-up of half a second."""
        for thread in self._threads:
            thread.start()
        time.sleep(0.5)
        octets, start = self.received, time.monotonic()
        time.sleep(seconds)
        rate = (self.received - octets) * 8 / (time.monotonic() - start)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._senders, *self._receivers):
            sock.close()
        return rate


def measure_active(runs: int, seconds: float, progress: Callable[[str], None]) -> Figure:
    """Goodput of 100 TCP connections over 100 sessions, one each; ratio `one`: to as many over one session."""
    figure = Figure("sessions.100", "Gbit/s")
    with VethLine() as line:
        addresses = line.addresses(ACTIVE)
        for turn in range(runs):
            rates = []
            for sessions in (ACTIVE, 1):
                pair = EnginePair(line, 0x1301, sessions)
                try:
                    rates.append(_Bulk(line, addresses if sessions > 1 else addresses[:1] * ACTIVE).run(seconds) / 1e9)
                finally:
                    pair.close()
            figure.add(rates[0], one=rates[1])
            progress(f"sessions, turn {turn + 1} of {runs}: {rates[0]:.2f} Gbit/s over {ACTIVE}, {rates[1]:.2f} over one")
    return figure
