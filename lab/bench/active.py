"""Many active sessions against one that carries as many TCP flows: the same flows, the same machine, in turns."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lab.bench.figure import Figure
from lab.bench.iperf import GBIT
from lab.bench.pair import CLIENT, INNER, SERVER, EnginePair, Line
from lab.bench.profile import shares

ACTIVE = 100
SUITE = 0x1301
PORT = 5300
CHUNK = bytes(1 << 18)
SETTLE_S = 0.3  # of each turn, not counted: windows grow again
TURNS = 4  # for each run asked for: a ratio of turns that stand beside each other is what a shared machine leaves


@dataclass(frozen=True, slots=True)
class Cost:
    """What a turn gave, and what the engines did for it."""

    gbps: float
    cpu_per_gbit: float
    per_send: float  # QUIC packets in a send
    per_read: float  # inner packets in a read of a TUN

    @classmethod
    def of(cls, bits: float, seconds: float, before: Sequence[Any], after: Sequence[Any]) -> Cost:
        def grown(name: str) -> int:
            return sum(getattr(b, name) - getattr(a, name) for a, b in zip(before, after, strict=True))

        return cls(
            bits / seconds / GBIT,
            grown("cpu_ns") / bits if bits else float("inf"),  # ns a bit are s a Gbit
            grown("udp_send_datagrams") / max(1, grown("udp_sends")),
            grown("tun_packets_in") / max(1, grown("tun_reads")),
        )


class Bulk:
    """One TCP connection from each inner address of the client's, all as fast as they go while it is not paused."""

    def __init__(self, line: Line, addresses: Sequence[str]) -> None:
        self._addresses = addresses
        self._stop = threading.Event()
        self._go = threading.Event()
        self.received = 0
        self._listener = line.spaces[SERVER].call_sync(self._listen)
        self._senders = line.spaces[CLIENT].call_sync(self._connect)
        self._receivers = [self._listener.accept()[0] for _ in addresses]
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

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
            while self._go.wait() and not self._stop.is_set():
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

    def turn(self, pair: EnginePair, seconds: float) -> Cost:
        """So many seconds at full rate, then a pause until all has arrived."""
        self._go.set()
        time.sleep(SETTLE_S)
        before, octets, start = [side.stats() for side in pair.sides], self.received, time.monotonic()
        time.sleep(seconds)
        after, bits, passed = [side.stats() for side in pair.sides], (self.received - octets) * 8, time.monotonic() - start
        self._go.clear()
        octets = -1
        while octets != self.received:  # the other's turn shall not pay for what still waits in ours
            octets = self.received
            time.sleep(0.05)
        return Cost.of(bits, passed, before, after)

    def close(self) -> None:
        self._stop.set()
        self._go.set()
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._senders, *self._receivers):
            sock.close()


class Active:
    """A line with so many sessions, and a TCP connection of ACTIVE over each of them, or over the only one."""

    def __init__(self, sessions: int) -> None:
        self.sessions = sessions
        self.line = Line()
        self.line.__enter__()
        try:
            addresses = self.line.addresses(ACTIVE)
            self.pair = EnginePair(self.line, SUITE, sessions)
            try:
                self.bulk = Bulk(self.line, addresses if sessions > 1 else addresses[:1] * ACTIVE)
            except BaseException:
                self.pair.close()
                raise
        except BaseException:
            self.line.close()
            raise

    def turn(self, seconds: float) -> Cost:
        return self.bulk.turn(self.pair, seconds)

    def close(self) -> None:
        self.bulk.close()
        self.pair.close()
        self.line.close()


def measure_active(runs: int, seconds: float, progress: Callable[[str], None]) -> Figure:
    """Goodput of 100 TCP connections over 100 sessions, one each; ratio `one`: to as many over one session. Both stand at once and
    take short turns, who comes first alternating."""
    figure = Figure("sessions.100", "Gbit/s")
    both: list[Active] = []
    try:
        for sessions in (ACTIVE, 1):
            both.append(Active(sessions))
        for turn in range(runs * TURNS):
            found = {one.sessions: one.turn(seconds / 2) for one in (both if turn % 2 else both[::-1])}
            figure.add(found[ACTIVE].gbps, one=found[1].gbps)
            said = f"{found[ACTIVE].gbps:.2f} Gbit/s over {ACTIVE}, {found[1].gbps:.2f} over one"
            progress(f"sessions, turn {turn + 1} of {runs * TURNS}: {said}")
    finally:
        for one in both:
            one.close()
    return figure


def explain_active(seconds: float) -> str:
    """What the engines did for a Gbit over 100 sessions and over one, and the functions by share over 100."""
    costs: dict[int, Cost] = {}
    functions: list[tuple[str, float]] = []
    for sessions in (ACTIVE, 1):
        active = Active(sessions)
        try:
            costs[sessions] = active.turn(seconds)
            if sessions == ACTIVE:
                functions = shares(lambda active=active: active.turn(seconds))  # type: ignore[misc]
        finally:
            active.close()
    many, one = costs[ACTIVE], costs[1]
    named = ", ".join(f"{name} {share:.0f} %" for name, share in functions) or "no profile: perf is not there or may not"
    return (
        f"CPU-s per Gbit {many.cpu_per_gbit:.3f} against {one.cpu_per_gbit:.3f}, packets in a send {many.per_send:.1f} against "
        f"{one.per_send:.1f}, inner packets in a read {many.per_read:.1f} against {one.per_read:.1f}; functions: {named}"
    )
