"""`mpq status`"""

from __future__ import annotations

import argparse
from typing import Any

from lab import client
from lab.verbs.common import lab_argument, show


def configure(parser: argparse.ArgumentParser) -> None:
    lab_argument(parser)


def run(options: argparse.Namespace) -> int:
    document = client.ask(options.lab, "status")
    show(options, document, words(document))
    return 0


def shape(way: dict[str, Any]) -> str:
    rate = "as fast as it goes" if way["rate_mbps"] is None else f"{way['rate_mbps']:g} Mbit/s"
    return f"{rate} {way['delay_ms']:g} ms {way['loss_percent']:g} % loss"


def words(d: dict[str, Any]) -> str:
    lines = [f"lab {d['lab']}: scenario {d['scenario']}, up {d['uptime_s']:g} s, run directory {d['run']}"]
    for name, status in d["nodes"].items():
        lines.append(f"  {name}: {status.get('error', 'running')}")
    for name, wire in d["wires"].items():
        ways = (f"{way} {shape(wire[way])}" for way in ("up", "down"))
        lines.append(f"  wire {name}: {'cut; ' if wire['cut'] else ''}{', '.join(ways)}")
    for one in d["captures"]:
        lines.append(f"  capture {one['path']}: {one['seconds']:g} s, {one['packets']} packets, {one['dropped_kernel']} dropped")
    paths = d["paths"] if isinstance(d["paths"], list) else []
    for path in paths:
        rtt = path.get("rtt_smoothed", 0) / 1e6
        lines.append(f"  path {path.get('path')} on {path.get('access')}: {path.get('state')} {path.get('reason') or ''}"
                     f" rtt {rtt:.1f} ms, sent {path.get('packets_sent')}, lost {path.get('packets_lost')}")
    return "\n".join(lines)
