"""`mpq status`"""

from __future__ import annotations

import argparse
from typing import Any

from lab import client
from lab.reasons import why
from lab.verbs.common import chosen_lab, lab_argument, show


def configure(parser: argparse.ArgumentParser) -> None:
    lab_argument(parser, first=True)


def run(options: argparse.Namespace) -> int:
    document = client.ask(chosen_lab(options), "status")
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
        access = path.get("access")
        told = why(path, None, cut=access in d["wires"] and d["wires"][access]["cut"])
        lines.append(f"  path {path.get('path')} on {access}: {path.get('state')}{f' ({told})' if told else ''},"
                     f" rtt {rtt:.1f} ms, sent {path.get('packets_sent')}, lost {path.get('packets_lost')}")
    return "\n".join(lines)
