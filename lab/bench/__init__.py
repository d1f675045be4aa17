"""`mpq bench`: what the data plane does here, as ratios to limits and peers measured in the same run.

Turns alternate between ours and the other; figures are medians, ratios medians of the ratios of each turn. Rates of a machine that
others share say little: CPU-seconds per Gbit and ratios hold.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bench.active import measure_active
from lab.bench.aead import measure_aead
from lab.bench.aims import AIMS, judge
from lab.bench.capture import measure_capture, measure_views
from lab.bench.engine import measure_engine
from lab.bench.figure import Figure, rounded
from lab.bench.handshake import measure_handshakes
from lab.bench.inspect import measure_inspect
from lab.bench.inspect_logs import measure_logs
from lab.bench.packages import Peer
from lab.bench.qlog import measure_qlog
from lab.bench.sessions import measure_idle, measure_memory
from lab.bench.shaped import measure_sum
from lab.bench.tunnel import measure_ciphers, measure_multipath, measure_tunnel
from lab.bench.why import explain
from lab.bench.wire import measure_wire
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


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long each thing is measured."""

    runs: int  # turns of the tunnel; the others, which each take their own time, less often
    seconds: int
    others: int
    aead_packets: int
    handshakes: int
    memory_sessions: int
    idle_sessions: int
    sum_seconds: int
    settle_seconds: int
    inspect_packets: int


FULL = Plan(3, 2, 2, 12_800, 200, 10_000, 10_000, 4, 2, 40_000)
QUICK = Plan(2, 1, 1, 1_600, 50, 200, 500, 3, 2, 10_000)
Measure = Callable[[Plan, Callable[[str], None], list[Peer]], list[Figure]]
PARTS: dict[str, Measure] = {  # what can be measured alone, in the order of the table
    "aead": lambda plan, _progress, _peers: measure_aead(plan.others, plan.aead_packets),
    "engine": lambda plan, _progress, _peers: measure_engine(plan.runs, 16_000),
    "tunnel": lambda plan, progress, peers: measure_tunnel(plan.runs, plan.seconds, progress, peers=peers),
    "ciphers": lambda plan, progress, peers: measure_ciphers(plan.others, plan.seconds, progress, peers),
    "multipath": lambda plan, progress, _peers: measure_multipath(plan.runs, plan.seconds, progress),
    "sum": lambda plan, progress, peers: measure_sum(plan.others, progress, peers, plan.sum_seconds, plan.settle_seconds),
    "qlog": lambda plan, progress, _peers: measure_qlog(plan.runs, plan.seconds, progress),
    "handshake": lambda plan, _progress, _peers: [measure_handshakes(plan.others, plan.handshakes)],
    "session": lambda plan, _progress, _peers: [*measure_memory(plan.memory_sessions), measure_idle(plan.idle_sessions)],
    "sessions": lambda plan, progress, _peers: measure_active(plan.others, plan.seconds, progress),
    "capture": lambda plan, progress, _peers: measure_capture(plan.others, plan.sum_seconds, progress),
    "inspect": lambda plan, _progress, _peers: [
        measure_inspect(plan.others, plan.inspect_packets), *measure_views(plan.others, plan.inspect_packets * 3),
        *measure_logs(plan.others, plan.inspect_packets * 3 // 2)],
    "wire": lambda plan, _progress, _peers: measure_wire(plan.others, plan.seconds),
}


def run_bench(
    plan: Plan, progress: Callable[[str], None], peers: list[Peer], only: Sequence[str] = tuple(PARTS)
) -> dict[str, Any]:
    """The figures of these parts as the document of `mpq bench --json`. Needs root (namespaces, TUN) and iperf3, else BenchError.
    Peers that fail are marked absent in `peers`."""
    about = machine()
    figures: list[Figure] = []
    for name, measure in PARTS.items():
        if name in only:
            progress(name)
            figures += measure(plan, progress, peers)
    documents = [judge(figure.document()) for figure in figures]
    documents = explain(documents, progress, plan.seconds)
    problems = [
        f"the forwarder takes {d['value']} CPU-s per Gbit, more than {FORWARDER_CPU_LIMIT}: our limit or the machine is slow"
        for d in documents
        if d["id"] == "forwarder.cpu" and d["value"] > FORWARDER_CPU_LIMIT
    ]
    return {
        "schema": SCHEMA,
        "machine": about,
        "peers": [peer.document() for peer in peers],
        "figures": documents,
        "problems": problems,
    }


def _peer(peer: dict[str, str]) -> str:
    return f"{peer['name']} {peer['version']}  " if "version" in peer else f"{peer['name']} not measured: {peer['absent']}  "


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
        "",
        *(f"{f['id']} misses its aim: {f['why']}  " for f in document["figures"] if "why" in f),
        *(_peer(p) for p in document["peers"]),
        *(f"\n{problem}" for problem in document["problems"]),
    ]
    return "\n".join(rows)


__all__ = ["AIMS", "FULL", "PARTS", "QUICK", "Plan", "machine", "markdown", "run_bench"]
