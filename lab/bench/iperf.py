"""iperf3 through what lies between the two namespaces of a line, and what the processes between took for it."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Protocol

from lab.bench.pair import CLIENT, INNER, SERVER, BenchError, Line
from lab.process import dying_with_us

GBIT = 1e9
IPERF_TIMEOUT = 30


class Pair(Protocol):
    """What carries packets from one TUN of a line to the other."""

    def cpu_ns(self) -> int:
        """CPU time of both ends so far."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Load:
    """One iperf3 run through the tunnel; direction as seen from the UE."""

    id: str
    arguments: tuple[str, ...]
    datagram: int = 0  # octets of UDP payload; 0 = TCP

    @property
    def unit(self) -> str:
        return "packet/s" if self.datagram == 64 else "Gbit/s"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the receiver got."""

    bits_per_second: float
    packets_per_second: float
    cpu_per_gbit: float

    def of(self, load: Load) -> float:
        """In the load's unit."""
        return self.packets_per_second if load.datagram == 64 else self.bits_per_second / GBIT


class Iperf:
    """iperf3 from the near end of the line to `target` at the far one; a server for each run, so that none is busy with the last.
    `prefix`: a program that starts iperf3 its own way."""

    def __init__(self, line: Line, target: str = INNER[SERVER], prefix: tuple[str, ...] = ()) -> None:
        program = shutil.which("iperf3")
        if program is None:
            raise BenchError("iperf3 is not installed: make setup installs it")
        self.argv = dying_with_us([*prefix, program])
        self.line = line
        self.target = target

    def _serve(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.argv, "-s", "-1", "--forceflush"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
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
        argv = [*self.argv, "-c", self.target, "-J", "-t", str(seconds), *load.arguments]
        try:
            done = self.line.spaces[CLIENT].call_sync(
                lambda: subprocess.run(argv, capture_output=True, text=True, timeout=seconds + IPERF_TIMEOUT, check=False)
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{load.id}: iperf3 did not end within {seconds + IPERF_TIMEOUT} s") from None
        try:
            document: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise BenchError(f"iperf3 says {done.stderr.strip() or done.stdout.strip()!r}") from None
        if "error" in document:
            raise BenchError(f"{load.id}: iperf3: {document['error']}")
        return document


def measure(pair: Pair, iperf: Iperf, load: Load, seconds: int) -> Outcome:
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
