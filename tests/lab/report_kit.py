"""A run directory without a run, and a report read back."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from test_lab_result import good

from lab.probe import DELAYS_NAME, distribution
from lab.result import Judge

SVG = "{http://www.w3.org/2000/svg}"
STEPS = ({"t": 9.0, "event": "cut", "access": "wifi", "link_down": False}, {"t": 12.0, "event": "restore", "access": "wifi"},
         {"t": 15.0, "event": "rekey", "by": "core"}, {"t": 16.0, "event": "shape", "access": "3gpp", "change": {}})
WIRE = {"rate_mbps": 50, "delay_ms": 15, "loss_percent": 0.5, "packets": 1000, "bytes": 1_200_000, "dropped_queue": 3,
        "dropped_loss": 0, "dropped_cut": 7, "queued_max_bytes": 90_000, "late_p99_us": 32}
WIRES = {"3gpp": {"cut": False, "up": WIRE, "down": WIRE}, "wifi": {"cut": False, "up": WIRE, "down": {**WIRE, "bytes": 9_000_000}}}


def result() -> dict[str, Any]:
    """Of a good run of the demo."""
    record = good()
    record.wires = WIRES
    record.drops = {"upf.ingress_filter": 3, "ue.auth_failed": 0, "ue.path_queue_full": 1234}
    document: dict[str, Any] = json.loads(json.dumps(Judge(record).document()))
    return document


def path(access: str, number: int, t: float, **more: Any) -> dict[str, Any]:
    return {"access": access, "path": number, "generation": 1, "state": "active", "reason": "", "rtt_smoothed": (10 + t) * 1e6,
            "cwnd": 20_000 + 100 * t, "queue_bytes": 500.0 * t} | more


def sample(t: float, names: tuple[str, ...] = ("3gpp", "wifi"), **more: Any) -> dict[str, Any]:
    """8 Mbit/s up over the first access, 16 down over the second."""
    paths = [path(name, number, t) for number, name in enumerate(names)]
    return {"t": t, "up": [t * 1e6, 0], "down": [0, t * 2e6], "paths": paths, "upf_paths": paths,
            "shared_queue": {"ue": 0, "upf": 900}, "wires": {}, "wire_queues": {name: [100, 2000] for name in names}} | more


def write(directory: Path, document: dict[str, Any], samples: list[dict[str, Any]], *, names: tuple[str, str] = ("3gpp", "wifi"),
          about: str = "what it shows") -> Path:
    accesses = [{"name": names[1], "type": "non-3gpp"}, {"name": names[0], "type": "3gpp"}]
    scenario = {"accesses": accesses, "about": about, "seed": 1, "congestion_control": "cubic"}
    (directory / "scenario.yaml").write_text(json.dumps({"scenario": scenario}))
    (directory / "result.json").write_text(json.dumps(document))
    phases = [{"t": p["from_s"], "node": "lab", "event": "phase", "phase": p["id"]} for p in document["phases"]]
    events = [*phases, *({"node": "lab", **step} for step in STEPS), {"t": 1.0, "node": "ue", "event": "registered"}]
    (directory / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    (directory / "metrics.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
    delays = [{"phase": "cut", "turn": 1, "direction": d, "count": 100, "ms": distribution([(n + 1) / 1000 for n in range(100)])}
              for d in ("up", "down")]
    (directory / DELAYS_NAME).write_text("".join(json.dumps(d) + "\n" for d in delays))
    return directory


class Page:
    """A report, read as XML: that it is well formed is the first thing asked of it."""

    def __init__(self, file: Path) -> None:
        self.text = file.read_text(encoding="utf-8")
        self.root = ET.fromstring(self.text.removeprefix("<!DOCTYPE html>"))

    def plots(self) -> dict[str, ET.Element]:
        return {str(plot.get("data-plot")): plot for plot in self.root.iter(f"{SVG}svg")}

    def figures(self) -> Iterator[tuple[str, Any, str]]:
        """JSON pointer, value, as it is shown."""
        for element in self.root.iter("data"):
            yield str(element.get("data-of")), json.loads(str(element.get("value"))), "".join(element.itertext())

    def words(self) -> str:
        return " ".join("".join(self.root.itertext()).split())


def points(element: ET.Element) -> list[tuple[float, float]]:
    """Of a path of M and numbers alone."""
    numbers = [float(n) for n in str(element.get("d")).replace("M", " ").split()]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def at(document: Any, pointer: str) -> Any:
    """RFC 6901; None of what is not there."""
    try:
        for step in pointer.split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            document = document[int(step) if isinstance(document, list) else step]
    except (KeyError, IndexError, TypeError):
        return None
    return document
