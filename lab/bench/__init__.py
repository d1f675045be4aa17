"""`mpq bench`: what the data plane does here, as ratios to limits and peers measured in the same run.

Turns alternate between ours and the other; figures are medians, ratios medians of the ratios of each turn. Rates of a machine that
others share say little: CPU-seconds per Gbit and ratios hold.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.bench.aead import measure_aead
from lab.bench.aims import AIMS, judge
from lab.bench.engine import measure_engine
from lab.bench.figure import Figure, rounded
from lab.bench.handshake import measure_handshakes
from lab.bench.sessions import measure_active, measure_idle, measure_memory
from lab.bench.tunnel import measure_ciphers, measure_multipath, measure_tunnel
from native._engine import ffi, lib

SCHEMA = 1
FORWARDER_CPU_LIMIT = 0.25  # CPU-s per Gbit on the machine that gave the anchors: above, our own limit is not as good as it can be


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
        "load_before": rounded(os.getloadavg()[0]),
    }


def run_bench(quick: bool, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """All figures as the document of `mpq bench --json`. Needs root (namespaces, TUN) and iperf3, else BenchError."""
    runs, seconds = (2, 1) if quick else (5, 3)
    about = machine()
    figures: list[Figure] = []
    progress("AEAD")
    figures += measure_aead(3 if quick else 5, 1_600 if quick else 12_800)
    progress("engine in memory")
    figures += measure_engine(3 if quick else 7, 16_000)
    progress("tunnel")
    figures += measure_tunnel(runs, seconds, progress)
    figures += measure_ciphers(1 if quick else 3, seconds, progress)
    figures += measure_multipath(runs, seconds, progress)
    progress("handshakes")
    figures.append(measure_handshakes(1 if quick else 3, 50 if quick else 200))
    progress("sessions")
    figures.append(measure_memory(200 if quick else 2_000))
    figures.append(measure_idle(500 if quick else 10_000))
    figures.append(measure_active(1 if quick else 3, seconds, progress))
    documents = [judge(figure.document()) for figure in figures]
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
        "| figure | median | spread | runs | ratios | aim |",
        "|---|---|---|---|---|---|",
        *(
            f"| {f['id']} | {f['value']:g} {f['unit']} | {f['spread'][0]:g} - {f['spread'][1]:g} | {f['runs']} | "
            f"{', '.join(f'{name} {value:g}' for name, value in f['ratios'].items())} | "
            f"{'; '.join(a['aim'] + (' met' if a['met'] else ' MISSED') for a in f.get('aims', []))} |"
            for f in document["figures"]
        ),
        *(f"\n{problem}" for problem in document["problems"]),
    ]
    return "\n".join(rows)


__all__ = ["AIMS", "machine", "markdown", "run_bench"]
