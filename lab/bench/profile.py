"""Where the CPU time goes: the shares of functions, by Linux perf where it is there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.bench.iperf import Iperf, Load
from lab.bench.pair import EnginePair, Line
from lab.process import dying_with_us

FREQUENCY = "1999"
COUNT = 10
LIMIT_S = 60


def shares(work: Callable[[], object]) -> list[tuple[str, float]]:
    """(function, percent of this process's CPU time), largest first, while `work` runs. Empty: perf is not there, or may not."""
    program = shutil.which("perf")
    if program is None:
        return []
    with TemporaryDirectory(prefix="mpq-perf-") as folder:
        data = Path(folder) / "data"
        with subprocess.Popen(
            dying_with_us([program, "record", "-q", "-F", FREQUENCY, "-p", str(os.getpid()), "-o", str(data)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as perf:
            try:
                work()
            finally:
                perf.send_signal(signal.SIGINT)
        report = subprocess.run(
            [program, "report", "-i", str(data), "--stdio", "-q", "--sort", "symbol", "--percent-limit", "1"],
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )
        return parse(report.stdout.splitlines())


def tunnel_profile(load: Load, seconds: int, suite: int = 0x1301) -> list[tuple[str, float]]:
    """The same while both engines of a tunnel carry the load."""
    with Line() as line:
        pair = EnginePair(line, suite)
        try:
            return shares(lambda: Iperf(line).run(load, seconds))
        finally:
            pair.close()


def parse(lines: Sequence[str]) -> list[tuple[str, float]]:
    """Of `perf report --sort symbol`: `  12.34%  [k] name`; [k] is the kernel."""
    shares = []
    for line in lines:
        percent, _, rest = line.strip().partition("%")
        mark, _, name = rest.strip().partition(" ")
        try:
            share = float(percent)
        except ValueError:
            continue
        name = name.split()[0] if name.split() else "?"  # columns of other sorts may follow it
        shares.append((f"{name} (kernel)" if mark == "[k]" else name, share))
    return sorted(shares, key=lambda item: -item[1])[:COUNT]
