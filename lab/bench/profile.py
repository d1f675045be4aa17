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
MARK = " (kernel)"
KERNEL, AEAD, ENGINE = "the kernel", "AEAD", "the engine"
AEAD_FUNCTIONS = ("gcm_", "aead_", "EVP_", "CRYPTO_", "aes_", "aesni_", "Poly1305", "poly1305", "ChaCha20", "chacha20")


def shares(work: Callable[[], object], thread: str = "") -> list[tuple[str, float]]:
    """(function, percent of this process's CPU time), largest first, while `work` runs; of threads of this name alone, all their
    functions. Empty: perf is not there, or may not."""
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
        which = ["--comm", thread] if thread else ["--percent-limit", "1"]
        report = subprocess.run(
            [program, "report", "-i", str(data), "--stdio", "-q", "--sort", "symbol", *which],
            capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )
        found = parse(report.stdout.splitlines())
        return found if thread else found[:COUNT]


def parts(functions: Sequence[tuple[str, float]]) -> dict[str, float]:
    """What of all these functions' time is whose, of 1."""
    whole = sum(share for _, share in functions)
    found = dict.fromkeys((KERNEL, AEAD, ENGINE), 0.0)
    for name, share in functions:
        found[KERNEL if name.endswith(MARK) else AEAD if name.startswith(AEAD_FUNCTIONS) else ENGINE] += share / whole
    return found


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
        shares.append((f"{name}{MARK}" if mark == "[k]" else name, share))
    return sorted(shares, key=lambda item: -item[1])
