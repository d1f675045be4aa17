"""The files of a run directory as the report reads them. It may be anybody's: what is wrong in them is a LabError that says so, or
is left out and counted; nothing of them is trusted to be small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.figures import read_result
from lab.probe import DELAYS_NAME
from lab.report.chart import Mark
from lab.report.phases import Delays
from lab.report.samples import Samples, finite
from lab.sampler import ACCESS_TYPES

LINE_MOST = 1 << 20
SCENARIO_MOST = 1 << 20
MARKS_MOST = 2000
DELAYS_MOST = 500
LISTS = ("checks", "phases", "outages", "keys")
OBJECTS = ("paths", "drops", "wires", "versions", "machine", "cpu", "reorder", "capture")
STEPS = ("cut", "restore", "rekey", "shape", "rebind", "key_update", "kill", "attack")


def objects(path: Path) -> Iterator[dict[str, Any]]:
    """Of a file of JSON lines, whose last one a kill may have cut; none when there is no such file."""
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(LINE_MOST):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value


@dataclass(slots=True)
class RunFiles:
    """`names`: of the accesses, 3GPP first, as the samples have them."""

    directory: Path
    result: dict[str, Any]
    scenario: dict[str, Any]
    names: tuple[str, ...]
    samples: Samples
    marks: list[Mark] = field(default_factory=list)
    phases_began: list[tuple[float, str]] = field(default_factory=list)
    delays: list[Delays] = field(default_factory=list)
    marks_left_out: int = 0

    @classmethod
    def read(cls, directory: Path) -> RunFiles:
        """LabError when the run has no result."""
        result = read_result(directory)
        for key in LISTS:
            if not isinstance(result.setdefault(key, []), list) or not all(isinstance(e, dict) for e in result[key]):
                raise LabError(f"{directory}: result.json: {key}: must be a list of objects")
        for key in OBJECTS:
            if not isinstance(result.setdefault(key, {}), dict):
                raise LabError(f"{directory}: result.json: {key}: must be an object")
        scenario = _scenario(directory / "scenario.yaml")
        names = _names(scenario, result)
        try:
            found = cls(directory, result, scenario, names, Samples.of(objects(directory / "metrics.jsonl"), names))
            for document in objects(directory / "events.jsonl"):
                found._event(document)
            for document in objects(directory / DELAYS_NAME):
                if (delays := Delays.of(document)) is not None and len(found.delays) < DELAYS_MOST:
                    found.delays.append(delays)
        except OSError as error:
            raise LabError(f"{error.filename or directory}: cannot be read: {error.strerror}") from None
        found.marks.sort(key=lambda mark: mark.t)
        found.phases_began.sort()
        return found

    def _event(self, event: dict[str, Any]) -> None:
        t, name = finite(event.get("t")), event.get("event")
        if event.get("node") != "lab" or t is None or t < 0:
            return
        if name == "phase":
            if len(self.phases_began) < MARKS_MOST:
                self.phases_began.append((t, str(event.get("phase", ""))))
        elif name in STEPS:
            if len(self.marks) < MARKS_MOST:
                self.marks.append(Mark(t, str(name), _words(event)))
            else:
                self.marks_left_out += 1


def _words(event: dict[str, Any]) -> str:
    name = str(event["event"])
    if name == "cut" and event.get("link_down") is True:
        name = "link down"
    if name == "rekey":
        return f"re-key by {event.get('by', '')}"
    about = next((str(event[key]) for key in ("access", "by", "attack", "target") if event.get(key)), "")
    return f"{name.replace('_', ' ')} {about}".strip()


def _scenario(path: Path) -> dict[str, Any]:
    """As it ran (YAML that is JSON); empty when it is not there."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(SCENARIO_MOST))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LabError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise LabError(f"{path}: is not the scenario of a run") from None
    scenario = document.get("scenario") if isinstance(document, dict) else None
    return scenario if isinstance(scenario, dict) else {}


def _names(scenario: dict[str, Any], result: dict[str, Any]) -> tuple[str, ...]:
    accesses = scenario.get("accesses")
    found = [a for a in (accesses if isinstance(accesses, list) else []) if isinstance(a, dict)]
    known = sorted((ACCESS_TYPES.index(a["type"]), str(a.get("name"))) for a in found if a.get("type") in ACCESS_TYPES)
    return tuple(name for _, name in known) or tuple(map(str, result["wires"] or result["paths"]))
