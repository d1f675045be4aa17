"""What qlog costs: the CPU of both ends, every thread of them, for a Gbit through the tunnel, with the log written to files and
without, in slices of one connection: from one second to the next a machine that others share changes by more than a log costs. At
a rate that the machine has room for: at full speed the writer takes the core that iperf3 needs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.iperf import GBIT, Iperf, Load
from lab.bench.pair import BenchError, EnginePair, EngineSide, Line
from mpquic.qlog import Qlog
from mpquic.trace import Trace
from native._engine import lib

RATE_MBPS = 400
DETAILS = ("packets", "headers", "events")
OCTETS_MOST = 1 << 40  # the log's own limit would end the cost before the run
CLOCK = "2026-01-01T00:00:00Z"
SLICE_S = 0.5
SETTLE_S = 1.0  # until TCP has its rate
PAIRS_PER_SECOND = 3  # of slices, for each second that others measure: they are short


class LoggedSide:
    """One end's log, written to a file as a node does, between begin and end; else no packet is told, and no thread runs."""

    def __init__(self, side: EngineSide, path: Path) -> None:
        self.side = side
        self._file = path.open("wb", buffering=0)
        self._trace = Trace(side.endpoint)
        role = "server" if side.role else "client"
        self._qlog = Qlog(self._trace, self._file.write, path.stem, role, CLOCK, OCTETS_MOST, "events")

    def begin(self, detail: str) -> None:
        self._trace.detail(detail)
        self._qlog.start()

    def end(self) -> None:
        """What is still to be written is."""
        self._trace.detail("events")
        self._qlog.stop()

    def packets(self) -> int:
        return self.side.counters()["inner_sent"]

    def close(self) -> int:
        """Records that were lost. Before the endpoint is freed."""
        lost = self._trace.lost()
        self._file.close()
        return lost


@dataclass(slots=True)
class Slices:
    """CPU-s and packets, of all slices alike."""

    cpu: float = 0.0
    packets: int = 0

    def add(self, cpu: float, packets: int) -> None:
        self.cpu += cpu
        self.packets += packets


def _slice(logs: list[LoggedSide], detail: str, into: Slices) -> None:
    """`detail` empty: no log."""
    cpu, packets = time.process_time(), sum(log.packets() for log in logs)
    for log in logs:
        if detail:
            log.begin(detail)
    time.sleep(SLICE_S)
    for log in logs:
        if detail:
            log.end()
    into.add(time.process_time() - cpu, sum(log.packets() for log in logs) - packets)


def _turn(line: Line, load: Load, pairs: int, directory: Path, detail: str) -> tuple[float, float, int]:
    """CPU-s per Gbit of this process with and without the log, and records lost. BenchError: nothing went through."""
    logs: list[LoggedSide] = []

    def made(side: EngineSide) -> None:
        logs.append(LoggedSide(side, directory / f"{len(logs)}.sqlog"))

    pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256, before_start=made)
    try:
        with_log, without = Slices(), Slices()
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(Iperf(line).run, load, int(SETTLE_S + 2 * SLICE_S * pairs + 1))
            time.sleep(SETTLE_S)
            for _ in range(pairs):
                _slice(logs, "", without)
                _slice(logs, detail, with_log)
            document = running.result()
        if not with_log.packets or not without.packets:
            raise BenchError("qlog: nothing went through the tunnel while it was measured")
        per_gbit = sum(log.packets() for log in logs) / (float(document["end"]["sum_received"]["bytes"]) * 8 / GBIT)
        lost = sum(log.close() for log in logs)
        return with_log.cpu / with_log.packets * per_gbit, without.cpu / without.packets * per_gbit, lost
    finally:
        pair.close()


def measure_qlog(
    runs: int, seconds: int, progress: Callable[[str], None], rate_mbps: int = RATE_MBPS, details: tuple[str, ...] = DETAILS
) -> list[Figure]:
    """`qlog.cost[.headers,.events]`: CPU per Gbit with a log of this detail; ratio `off`: to that without, of the same connection.
    The full detail in `runs` turns, the others in half as many."""
    figures = {detail: Figure("qlog.cost" + ("" if detail == "packets" else f".{detail}"), "CPU-s/Gbit") for detail in details}
    load = Load("qlog.tcp", ("-C", "cubic", "-b", f"{rate_mbps}M") if rate_mbps else ("-C", "cubic"))
    with Line() as line, tempfile.TemporaryDirectory(prefix="mpq-bench-") as directory:
        for turn in range(runs):
            for detail in details if 2 * turn < runs or turn == 0 else details[:1]:
                cost, off, lost = _turn(line, load, PAIRS_PER_SECOND * seconds, Path(directory), detail)
                figures[detail].add(cost, off=off)
                said = f"{cost:.3f} against {off:.3f} CPU-s per Gbit, {lost} records lost"
                progress(f"qlog {detail}, turn {turn + 1} of {runs}: {said}")
    return list(figures.values())
