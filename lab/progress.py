"""Progress on stderr while a run lasts, and the table at its end."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO


class Progress:
    def __init__(self, out: TextIO | None = None, *, quiet: bool = False) -> None:
        self._out = out or sys.stderr
        self._quiet = quiet
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        if not self._quiet:
            print(f"[{time.monotonic() - self._start:5.1f} s] {text}", file=self._out, flush=True)

    def done(self, text: str) -> None:
        if not self._quiet:
            print(f"          -> {text}", file=self._out, flush=True)


def _number(value: Any, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"


def table(result: dict[str, Any]) -> str:
    """The result as people read it."""
    accesses = sorted({a for p in result["phases"] for a in p["per_path_mbps"]})
    columns = "".join(f"{a:>12}" for a in accesses)
    lines = ["", f"{'phase':<14}{'goodput':>14}{columns}{'of wires':>10}{'lost':>8}{'gap':>10}"]
    for phase in result["phases"]:
        share = phase["share_of_wires"]
        lines.append(
            f"{phase['id']:<14}{_number(phase['goodput_mbps'], 'Mbit/s'):>14}"
            + "".join(f"{phase['per_path_mbps'].get(a, 0.0):>12.1f}" for a in accesses)
            + f"{'-' if share is None else format(share, '.2f'):>10}{phase['lost']:>8}{_number(phase['longest_gap_ms'], 'ms'):>10}"
        )
    for phase in result["phases"]:
        if phase["aggregation_benefit"] is not None:
            better = f", {phase['of_better']:.2f} times the better path alone" if phase.get("of_better") is not None else ""
            lines.append(f"{phase['id']}: aggregation benefit {phase['aggregation_benefit']:.2f}"
                         f" (0: the better path alone, 1: the sum of both){better}")
        if phase["delay_ms"] is not None:
            delays = ", ".join(f"{d} p50 {v['p50']:.1f} p99 {v['p99']:.1f} ms" for d, v in phase["delay_ms"].items() if v)
            lines.append(f"{phase['id']}: one-way delay {delays or 'not measured'}; {phase['stalls']} stalls")
        if phase["page_load_s"] is not None:
            load = phase["page_load_s"]
            lines.append(f"{phase['id']}: {load['pages']:.0f} pages, median {load['p50']:.2f} s, longest {load['max']:.2f} s")
        if phase["skipped"]:
            lines.append(f"{phase['id']}: skipped: {phase['skipped']}")
        if "goodput_mbps" in phase["spread"]:
            least, most = phase["spread"]["goodput_mbps"]
            lines.append(f"{phase['id']}: goodput {least:.1f} to {most:.1f} Mbit/s in {phase['turns']} turns")
    for outage in result["outages"]:
        lines.append(
            f"{outage['cause']}: longest gap {_number(outage['longest_gap_ms'], 'ms')}, "
            f"on the other path after {_number(outage['fail_over_ms'], 'ms')}, "
            f"back in use {_number(outage['back_in_use_ms'], 'ms')} after it was restored, {outage['lost']} probes lost"
        )
    lines.append("")
    lines.append(f"{'key':<6}{'reason':<12}{'UE':>10}{'AMF':>10}{'UPF':>10}{'delivered':>12}")
    for key in result["keys"]:
        lines.append(f"{key['generation']:<6}{key['reason']:<12}{key['ue']:>10}{key['amf']:>10}{key['upf']:>10}"
                     f"{_number(key['delivered_ms'], 'ms'):>12}")
    lines.append("")
    for check in result["checks"]:
        value = check["value"]
        shown = f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        why = f"  ({check['why']})" if check["why"] else ""
        word = "ok    " if check["ok"] else "FAILED" if check["fatal"] else "missed"
        lines.append(f"{word} {check['id']:<20} {shown} {check['unit']}  aim {check['aim']}{why}")
    lines.append("")
    lines.append(f"verdict: {result['verdict']}   ({result['duration_s']:.1f} s, {result['run']})")
    return "\n".join(lines)
