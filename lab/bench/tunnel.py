"""The tunnel on an unshaped veth pair against the forwarder that has our offloads and no cryptography: iperf3 through both in turn.
Both ends, iperf3 and this process share the machine's cores, so ratios and CPU-seconds per Gbit say more than rates."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lab.bench.figure import Figure
from lab.bench.pair import CLIENT, INNER, SERVER, BenchError, EnginePair, ForwarderPair, Line, check
from native._engine import ffi, lib

GBIT = 1e9
IPERF_TIMEOUT = 30


@contextmanager
def forced(backend: str | None) -> Iterator[None]:
    """Connections made inside use this AEAD backend."""
    check(lib.aead_backend_force(ffi.NULL if backend is None else backend.encode()), "aead_backend_force")
    try:
        yield
    finally:
        lib.aead_backend_force(ffi.NULL)


@dataclass(frozen=True, slots=True)
class Load:
    """One iperf3 run through the tunnel; direction as seen from the UE."""

    id: str
    arguments: tuple[str, ...]
    datagram: int = 0  # octets of UDP payload; 0 = TCP

    @property
    def unit(self) -> str:
        return "packet/s" if self.datagram == 64 else "Gbit/s"


LOADS = (
    Load("tunnel.tcp.up", ("-C", "cubic")),  # whatever the machine's default is
    Load("tunnel.tcp.down", ("-C", "cubic", "-R")),
    Load("tunnel.udp1200", ("-u", "-b", "0", "-l", "1200"), 1200),
    Load("tunnel.udp64", ("-u", "-b", "0", "-l", "64"), 64),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    bits_per_second: float
    packets_per_second: float
    cpu_per_gbit: float

    def of(self, load: Load) -> float:
        """In the load's unit."""
        return self.packets_per_second if load.datagram == 64 else self.bits_per_second / GBIT


class Iperf:
    """iperf3 from the near end of the line to the far one; a server for each run, so that none is busy with the last."""

    def __init__(self, line: Line) -> None:
        program = shutil.which("iperf3")
        if program is None:
            raise BenchError("iperf3 is not installed: make setup installs it")
        self.program = program
        self.line = line

    def _serve(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.program, "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, load: Load, seconds: int) -> dict[str, Any]:
        """The document of the client."""
        with self.line.spaces[SERVER].call_sync(self._serve) as server:
            try:
                assert server.stdout is not None
                if not any("listening" in text for text in iter(server.stdout.readline, "")):
                    raise BenchError(f"the iperf3 server ended with {server.wait()}")
                return self._client(load, seconds)
            finally:
                server.terminate()

    def _client(self, load: Load, seconds: int) -> dict[str, Any]:
        argv = [self.program, "-c", INNER[SERVER], "-J", "-t", str(seconds), *load.arguments]
        try:
            done = self.line.spaces[CLIENT].call_sync(
                lambda: subprocess.run(argv, capture_output=True, text=True, timeout=IPERF_TIMEOUT, check=False)
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{load.id}: iperf3 did not end within {IPERF_TIMEOUT} s") from None
        try:
            document: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise BenchError(f"iperf3 says {done.stderr.strip() or done.stdout.strip()!r}") from None
        if "error" in document:
            raise BenchError(f"{load.id}: iperf3: {document['error']}")
        return document


def measure(pair: EnginePair | ForwarderPair, iperf: Iperf, load: Load, seconds: int) -> Outcome:
    before = pair.cpu_ns()
    document = iperf.run(load, seconds)
    spent = (pair.cpu_ns() - before) / 1e9
    end = document["end"]
    total = end["sum"] if load.datagram else end["sum_received"]
    bits = float(total["bits_per_second"])
    octets = float(total["bytes"])
    if load.datagram:  # iperf3's sum is what was sent: what arrived is less by its loss
        arrived = 1 - float(total.get("lost_percent", 0)) / 100
        bits, octets = bits * arrived, octets * arrived
    packets = bits / 8 / load.datagram if load.datagram else 0.0
    return Outcome(bits, packets, spent / (octets * 8 / GBIT) if octets else float("inf"))


def measure_tunnel(
    runs: int,
    seconds: int,
    progress: Callable[[str], None],
    suite: int = 0x1301,
    backend: str | None = None,
    prefix: str = "tunnel",
) -> list[Figure]:
    """Engine and forwarder in turn over the same line."""
    rates = {load.id: Figure(load.id.replace("tunnel", prefix), load.unit) for load in LOADS}
    cpu = Figure(f"{prefix}.cpu", "CPU-s/Gbit")
    limit = Figure("forwarder.cpu", "CPU-s/Gbit")
    with Line() as line, forced(backend):
        iperf = Iperf(line)
        for turn in range(runs):
            outcomes: list[dict[str, Outcome]] = []
            for make in (lambda: EnginePair(line, suite), lambda: ForwarderPair(line)):
                pair: EnginePair | ForwarderPair = make()
                try:
                    outcomes.append({load.id: measure(pair, iperf, load, seconds) for load in LOADS})
                finally:
                    pair.close()
            ours, bare = outcomes
            for load in LOADS:
                rates[load.id].add(ours[load.id].of(load), forwarder=bare[load.id].of(load))
            for load in LOADS[:2]:
                cpu.add(ours[load.id].cpu_per_gbit, forwarder=bare[load.id].cpu_per_gbit)
                limit.add(bare[load.id].cpu_per_gbit)
            progress(f"{prefix}, turn {turn + 1} of {runs}: {ours['tunnel.tcp.up'].bits_per_second / GBIT:.2f} Gbit/s up")
    return [*rates.values(), cpu, limit]


def measure_ciphers(runs: int, seconds: int, progress: Callable[[str], None]) -> list[Figure]:
    """CPU per Gbit of the tunnel with the other suites, and with the backend that every CPU has."""
    figures = []
    for prefix, suite, backend in (
        ("tunnel.aes_256_gcm", 0x1302, None),
        ("tunnel.chacha20_poly1305", 0x1303, None),
        ("tunnel.openssl", 0x1301, "openssl"),
    ):
        for figure in measure_tunnel(runs, seconds, progress, suite, backend, prefix):
            if figure.id in (f"{prefix}.cpu", f"{prefix}.tcp.down"):
                figures.append(figure)
    return figures


def measure_multipath(runs: int, seconds: int, progress: Callable[[str], None]) -> list[Figure]:
    """CPU per Gbit over two unshaped paths, half the flows on each, against one path: the same eight flows down."""
    cpu = Figure("multipath.cpu", "CPU-s/Gbit")
    load = Load("multipath.tcp.down", ("-C", "cubic", "-R", "-P", "8"))
    with Line(2) as two, Line() as one:
        for turn in range(runs):
            spent = []
            for line in (two, one):
                pair = EnginePair(line, 0x1301)
                try:
                    spent.append(measure(pair, Iperf(line), load, seconds).cpu_per_gbit)
                finally:
                    pair.close()
            cpu.add(spent[0], single=spent[1])
            progress(f"multipath, turn {turn + 1} of {runs}: {spent[0]:.2f} against {spent[1]:.2f} CPU-s per Gbit")
    return [cpu]
