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
from lab.bench.profile import COUNT, parts, shares

ACTIVE = 100
SUITE = 0x1301
PORT = 5300
CHUNK = bytes(1 << 18)
CONGESTION = b"cubic"  # whatever the machine's default is
THREAD = "mpq-io"
SETTLE_S = 1.5  # of each turn, not counted: flows that paused begin with small windows, and it is the steady state that is compared
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
        return [self._sender(address) for address in self._addresses]

    def _sender(self, address: str) -> socket.socket:
        sender = socket.socket()
        try:
            sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
            sender.settimeout(10)
            sender.bind((address, 0))
            sender.connect((INNER[SERVER], PORT))
        except BaseException:
            sender.close()
            raise
        return sender

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
    """A line with so many sessions, and one of so many TCP connections over each of them, or all over the only one."""

    def __init__(self, sessions: int, flows: int = ACTIVE) -> None:
        self.sessions = sessions
        self.line = Line()
        self.line.__enter__()
        try:
            addresses = self.line.addresses(flows)
            self.pair = EnginePair(self.line, SUITE, sessions)
            try:
                self.bulk = Bulk(self.line, addresses if sessions > 1 else addresses[:1] * flows)
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


def measure_active(runs: int, seconds: float, progress: Callable[[str], None]) -> list[Figure]:
    """Goodput of 100 TCP connections over 100 sessions, one each, and CPU time of both ends; ratio `one`: over one session. Both
    stand at once and take short turns, who comes first alternating."""
    goodput, cpu = Figure("sessions.100", "Gbit/s"), Figure("sessions.100.cpu", "CPU-s/Gbit")
    both: list[Active] = []
    try:
        for sessions in (ACTIVE, 1):
            both.append(Active(sessions))
        for turn in range(runs * TURNS):
            found = {one.sessions: one.turn(seconds / 2) for one in (both if turn % 2 else both[::-1])}
            many, one = found[ACTIVE], found[1]
            goodput.add(many.gbps, one=one.gbps)
            cpu.add(many.cpu_per_gbit, one=one.cpu_per_gbit)
            progress(f"sessions, turn {turn + 1} of {runs * TURNS}: {many.gbps:.2f} Gbit/s over {ACTIVE}, {one.gbps:.2f} over one")
    finally:
        for active in both:
            active.close()
    return [goodput, cpu]


def explain_active(seconds: float) -> str:
    """What the engines did for a Gbit over 100 sessions and over one, whose time it was, and the functions by share over 100."""
    costs: dict[int, Cost] = {}
    functions: dict[int, list[tuple[str, float]]] = {}
    for sessions in (ACTIVE, 1):
        active = Active(sessions)
        try:
            costs[sessions] = active.turn(seconds)
            functions[sessions] = shares(lambda active=active: active.turn(seconds), THREAD)  # type: ignore[misc]
        finally:
            active.close()
    many, one = costs[ACTIVE], costs[1]
    text = (
        f"CPU-s per Gbit {many.cpu_per_gbit:.3f} against {one.cpu_per_gbit:.3f}, packets in a send {many.per_send:.1f} against "
        f"{one.per_send:.1f}, inner packets in a read {many.per_read:.1f} against {one.per_read:.1f}"
    )
    if not functions[ACTIVE] or not functions[1]:
        return f"{text}; functions: no profile: perf is not there or may not"
    theirs = parts(functions[1])
    split = ", ".join(
        f"{name} {share * many.cpu_per_gbit:.3f} against {theirs[name] * one.cpu_per_gbit:.3f}"
        for name, share in parts(functions[ACTIVE]).items()
    )
    named = ", ".join(f"{name} {share:.0f} %" for name, share in functions[ACTIVE][:COUNT])
    return f"{text}; of the CPU-s {split}; functions: {named}"
