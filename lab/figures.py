"""Figures of a run by name, from its result.json: what `mpq compare` sets side by side and `mpq sweep` plots. docs/figures.md
says what each one is."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.numbers import is_number

RESULT_NAME = "result.json"
SIZE_MAX = 16 << 20
PHASE = ("goodput_mbps", "share_of_wires", "aggregation_benefit", "of_better", "lost", "reordered", "longest_gap_ms",
         "reorder_depth", "duplicate_share", "stalls", "idle_path_kbps")
OF_PHASE = ("page_load_s", "cwnd_octets", "cpu_us_per_packet")
OUTAGE = ("longest_gap_ms", "fail_over_ms", "back_in_use_ms", "lost")
MORE_IS_BETTER = ("goodput_mbps", "share_of_wires", "aggregation_benefit", "of_better")
"""Last words of names; of all others less is better."""

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Of one figure over several runs."""

    median: float
    least: float
    most: float
    runs: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values), len(values))


def read_result(run: Path) -> dict[str, Any]:
    """The result of a run directory, or of that file itself. LabError says what is wrong with it."""
    path = run / RESULT_NAME if run.is_dir() else run
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise LabError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > SIZE_MAX:
        raise LabError(f"{path}: larger than {SIZE_MAX >> 20} MiB")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise LabError(f"{path}: is not JSON") from None
    if not isinstance(document, dict) or not isinstance(document.get("phases"), list) or "scenario" not in document:
        raise LabError(f"{path}: is not the result of a run")
    return document


def figures_of(document: dict[str, Any]) -> Figures:
    """By name, in the order of the run; what was not measured is not there."""
    return dict(_figures(document))


def _figures(document: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for phase in _dicts(document.get("phases")):
        name = str(phase.get("id", ""))
        yield from _numbers(name, phase, PHASE)
        for access, rate in _items(phase.get("per_path_mbps")):
            yield from _numbers(f"{name}.{access}", {"goodput_mbps": rate}, ("goodput_mbps",))
        for group in OF_PHASE:
            yield from ((f"{name}.{group}.{of}", value) for of, value in _items(phase.get(group)) if is_number(value))
        for direction, delays in _items(phase.get("delay_ms")):
            yield from ((f"{name}.delay_ms.{direction}.{of}", value) for of, value in _items(delays) if is_number(value))
    for outage in _dicts(document.get("outages")):
        yield from _numbers(str(outage.get("cause", "")), outage, OUTAGE)
    for access, path in _items(document.get("paths")):
        if isinstance(path, dict):
            yield from _numbers(f"path.{access}", path, ("lost",))
            yield from ((f"path.{access}.rtt_{name}_ms", value) for name, value in _items(path.get("rtt_ms")) if is_number(value))


def _numbers(prefix: str, holder: dict[str, Any], names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for name in names:
        if is_number(holder.get(name)):
            yield f"{prefix}.{name}", holder[name]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
