"""What qlog costs: the CPU of both ends, every thread of them, for a Gbit through the tunnel, with the log written to files and
without, in turns. At a rate that the machine has room for: at full speed the writer takes the core that iperf3 needs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.iperf import GBIT, Iperf, Load
from lab.bench.pair import EnginePair, EngineSide, Line
from mpquic.qlog import Qlog
from mpquic.trace import Trace
from native._engine import lib

RATE_MBPS = 400
DETAILS = ("packets", "headers", "events")
OCTETS_MOST = 1 << 40  # the log's own limit would end the cost before the run
CLOCK = "2026-01-01T00:00:00Z"


class LoggedSide:
    """One end's log, written to a file as a node does."""

    def __init__(self, side: EngineSide, path: Path, detail: str) -> None:
        self._file = path.open("wb", buffering=0)
        self._trace = Trace(side.endpoint)
        self._qlog = Qlog(self._trace, self._file.write, path.stem, "server" if side.role else "client", CLOCK, OCTETS_MOST, detail)
        self._qlog.start()

    def stop(self) -> int:
        """Records that were lost."""
        self._qlog.stop()
        self._file.close()
        return self._trace.lost()


def _turn(line: Line, load: Load, seconds: int, directory: Path, detail: str) -> tuple[float, int]:
    """CPU-s per Gbit of this process, and records lost. `detail` empty: no log."""
    logs: list[LoggedSide] = []

    def begin(side: EngineSide) -> None:
        if detail:
            logs.append(LoggedSide(side, directory / f"{len(logs)}.sqlog", detail))

    pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256, before_start=begin)
    try:
        before = time.process_time()
        document = Iperf(line).run(load, seconds)
        lost = sum(log.stop() for log in logs)  # what is still to be written belongs to it
        spent = time.process_time() - before
        return spent / (float(document["end"]["sum_received"]["bytes"]) * 8 / GBIT), lost
    finally:
        pair.close()


def measure_qlog(
    runs: int, seconds: int, progress: Callable[[str], None], rate_mbps: int = RATE_MBPS, details: tuple[str, ...] = DETAILS
) -> list[Figure]:
    """`qlog.cost[.headers,.events]`: CPU per Gbit with a log of this detail; ratio `off`: to that without, of the same turn."""
    figures = {detail: Figure("qlog.cost" + ("" if detail == "packets" else f".{detail}"), "CPU-s/Gbit") for detail in details}
    load = Load("qlog.tcp", ("-C", "cubic", "-b", f"{rate_mbps}M") if rate_mbps else ("-C", "cubic"))
    with Line() as line, tempfile.TemporaryDirectory(prefix="mpq-bench-") as directory:
        for turn in range(runs):
            for detail in details if turn % 2 else reversed(details):
                off = _turn(line, load, seconds, Path(directory), "")[0]
                cost, lost = _turn(line, load, seconds, Path(directory), detail)
                figures[detail].add(cost, off=off)
                said = f"{cost:.3f} against {off:.3f} CPU-s per Gbit, {lost} records lost"
                progress(f"qlog {detail}, turn {turn + 1} of {runs}: {said}")
    return list(figures.values())
