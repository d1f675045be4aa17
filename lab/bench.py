"""`mpq bench`: what the data plane does here, as ratios to limits measured in the same minute.

AEAD per packet against a bare OpenSSL loop; the tunnel on an unshaped veth pair against the forwarder that has our
offloads and no cryptography. Both ends, iperf3 and this process share the machine's cores, so the ratios and
CPU-seconds per Gbit say more than rates. Engine and forwarder take turns; figures are medians, ratios medians of the
ratios of each turn.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.bench_pair import CLIENT, INNER, SERVER, BenchError, EnginePair, ForwarderPair, Line
from native._engine import ffi, lib

SCHEMA = 1
GBIT = 1e9
FORWARDER_CPU_LIMIT = 0.25  # CPU-s per Gbit on the machine that gave the anchors: above, our own limit is not as good as it can be
PACKETS = 12_800
IPERF_TIMEOUT = 30

SUITES = {
    "aead.aes_128_gcm": 0x1301,
    "aead.aes_256_gcm": 0x1302,
    "aead.chacha20_poly1305": 0x1303,
}


@dataclass(slots=True)
class Figure:
    """One measured quantity: all its runs, and the ratios of each run to the peers of the same turn."""

    id: str
    unit: str
    values: list[float] = field(default_factory=list)
    ratios: dict[str, list[float]] = field(default_factory=dict)

    def add(self, value: float, **peers: float) -> None:
        self.values.append(value)
        for name, peer in peers.items():
            if peer:
                self.ratios.setdefault(name, []).append(value / peer)

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "value": _rounded(statistics.median(self.values)),
            "unit": self.unit,
            "spread": [_rounded(min(self.values)), _rounded(max(self.values))],
            "runs": len(self.values),
            "ratios": {name: _rounded(statistics.median(values)) for name, values in self.ratios.items()},
        }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "aead_backends": [ffi.string(lib.aead_backend_name(i)).decode() for i in range(lib.aead_backend_count())],
        "load_before": _rounded(os.getloadavg()[0]),
    }


# ---- AEAD


def _aead_ns(backend: bytes | None, suite: int, opening: int, packets: int) -> float:
    result = ffi.new("double *")
    name = ffi.NULL if backend is None else backend
    if lib.aead_bench(name, suite, opening, packets, result) < 0:
        raise BenchError(f"aead_bench refuses suite {suite:#x}")
    return float(result[0])


def measure_aead(runs: int, packets: int) -> list[Figure]:
    """Seal of 1350-octet packets with header protection, and open beside it; `openssl` is a bare EVP loop."""
    figures = []
    for name, suite in SUITES.items():
        for suffix, opening in (("", 0), (".open", 1)):
            figure = Figure(name + suffix, "ns/packet")
            for _ in range(runs):
                bare = _aead_ns(b"bare", suite, opening, packets)
                figure.add(_aead_ns(None, suite, opening, packets), openssl=bare)
            figures.append(figure)
    return figures


# ---- tunnel


@dataclass(frozen=True, slots=True)
class Load:
    """One iperf3 run through the tunnel; direction as seen from the UE."""

    id: str
    arguments: tuple[str, ...]
    datagram: int = 0  # octets of UDP payload; 0 = TCP


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


def _measure(pair: EnginePair | ForwarderPair, iperf: Iperf, load: Load, seconds: int) -> Outcome:
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


def measure_tunnel(runs: int, seconds: int, progress: Callable[[str], None], suite: int = 0x1301) -> list[Figure]:
    """Engine and forwarder in turn over the same line."""
    rates = {load.id: Figure(load.id, "packet/s" if load.datagram == 64 else "Gbit/s") for load in LOADS}
    cpu = Figure("tunnel.cpu", "CPU-s/Gbit")
    limit = Figure("forwarder.cpu", "CPU-s/Gbit")
    with Line() as line:
        iperf = Iperf(line)
        for turn in range(runs):
            outcomes: list[dict[str, Outcome]] = []
            for make in (lambda: EnginePair(line, suite), lambda: ForwarderPair(line)):
                pair: EnginePair | ForwarderPair = make()
                try:
                    outcomes.append({load.id: _measure(pair, iperf, load, seconds) for load in LOADS})
                finally:
                    pair.close()
            ours, bare = outcomes
            for load in LOADS:
                a, b = ours[load.id], bare[load.id]
                if load.datagram == 64:
                    rates[load.id].add(a.packets_per_second, forwarder=b.packets_per_second)
                else:
                    rates[load.id].add(a.bits_per_second / GBIT, forwarder=b.bits_per_second / GBIT)
            for load in LOADS[:2]:
                cpu.add(ours[load.id].cpu_per_gbit, forwarder=bare[load.id].cpu_per_gbit)
                limit.add(bare[load.id].cpu_per_gbit)
            progress(f"turn {turn + 1} of {runs}: {ours['tunnel.tcp.up'].bits_per_second / GBIT:.2f} Gbit/s up")
    return [*rates.values(), cpu, limit]


def run_bench(quick: bool, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """All figures as the document of `mpq bench --json`. Needs root (namespaces, TUN) and iperf3, else BenchError."""
    runs, seconds = (2, 1) if quick else (5, 3)
    about = machine()
    progress("AEAD")
    figures = measure_aead(3 if quick else 5, 1_600 if quick else PACKETS)
    progress("tunnel")
    figures += measure_tunnel(runs, seconds, progress)
    documents = [figure.document() for figure in figures]
    problems = [
        f"the forwarder takes {d['value']} CPU-s per Gbit, more than {FORWARDER_CPU_LIMIT}: our limit or the machine is slow"
        for d in documents
        if d["id"] == "forwarder.cpu" and d["value"] > FORWARDER_CPU_LIMIT
    ]
    return {"schema": SCHEMA, "machine": about, "figures": documents, "problems": problems}


def markdown(document: dict[str, Any]) -> str:
    """The figures as a table."""
    about = document["machine"]
    rows: Sequence[str] = [
        f"{about['cpu']}, {about['cores']} cores, kernel {about['kernel']}, AEAD {', '.join(about['aead_backends'])}",
        "",
        "| figure | median | spread | runs | ratios |",
        "|---|---|---|---|---|",
        *(
            f"| {f['id']} | {f['value']:g} {f['unit']} | {f['spread'][0]:g} - {f['spread'][1]:g} | {f['runs']} | "
            f"{', '.join(f'{name} {value:g}' for name, value in f['ratios'].items())} |"
            for f in document["figures"]
        ),
        *(f"\n{problem}" for problem in document["problems"]),
    ]
    return "\n".join(rows)
