"""Sweep files: a scenario, and the values that its parts take. Read like scenario files, and refused like them.

```yaml
about: what is asked
scenario: unequal_one_flow              # a shipped one, or FILE.yaml beside this file
figure: multi.down.aggregation_benefit  # the one that is plotted (docs/figures.md)
title: aggregation benefit              # over the plot; default: the figure's name
repeat: 1                               # how often, for a median with spread
with: {steps/multi.down/seconds: 8}     # what is set for all
grid:                                   # the first is x, the second y
  - {set: accesses/wifi/wire/delay_ms, to: [10, 30, 60], label: delay of wifi in ms}
  - {set: accesses/wifi/wire/rate_mbps, to: [20, 40, 80]}
```
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lab.errors import ScenarioError
from lab.matrix import Lines, Where
from lab.scenario import check_document, find, read_document, refuse

SCHEMA = Path(__file__).parent / "sweep.schema.json"
SHIPPED = Path(__file__).parent / "sweeps"
CELLS_MOST = 1000
NAME_MOST = 40  # characters of a scenario's name
NAMED_BY = ("name", "phase", "id")
"""What an element of a list is called by in `set`; else it has its number, from 0."""


@dataclass(frozen=True, slots=True)
class Axis:
    set: str
    to: tuple[Any, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of values and one repetition of it."""

    values: tuple[Any, ...]
    attempt: int

    @property
    def key(self) -> str:
        return json.dumps([*self.values, self.attempt])


@dataclass(frozen=True, slots=True)
class Sweep:
    name: str
    about: str
    scenario: Path
    document: dict[str, Any]
    """of the scenario, with what is set for all"""
    figure: str
    axes: tuple[Axis, ...]
    repeat: int
    title: str = ""

    def cells(self) -> list[Cell]:
        """Every combination once, then all again for the next repetition: what others do to the machine spreads over all."""
        return [
            Cell(values, attempt)
            for attempt in range(self.repeat)
            for values in itertools.product(*(axis.to for axis in self.axes))
        ]

    def scenario_of(self, cell: Cell) -> dict[str, Any]:
        document = copy.deepcopy(self.document)
        for axis, value in zip(self.axes, cell.values, strict=True):
            put(document, axis.set, value)
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(map(str, cell.values)))
        document["name"] = f"{self.name[:24]}-{plain}"[:NAME_MOST]
        return document


def put(document: Any, path: str, value: Any) -> None:
    """Set one value; KeyError names the part of the path that leads nowhere. The last key need not be there yet."""
    *ways, last = path.split("/")
    at = document
    for word in ways:
        at = _step(at, word)
    if isinstance(at, dict):
        at[last] = value
    elif isinstance(at, list) and last.isdecimal() and int(last) < len(at):
        at[int(last)] = value
    else:
        raise KeyError(last)


def _step(at: Any, word: str) -> Any:
    if isinstance(at, dict) and word in at:
        return at[word]
    if isinstance(at, dict):
        return at.setdefault(word, {})
    if isinstance(at, list):
        for item in at:
            if isinstance(item, dict) and any(str(item.get(key)) == word for key in NAMED_BY):
                return item
        if word.isdecimal() and int(word) < len(at):
            return at[int(word)]
    raise KeyError(word)


@cache
def schema() -> dict[str, Any]:
    return dict(json.loads(SCHEMA.read_text(encoding="utf-8")))


def shipped() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load(name: str, repeat: int | None = None) -> Sweep:
    """A shipped sweep by its name, or a file; `repeat` in place of what it says. ScenarioError for what it, or any scenario that it
    would make, gets wrong."""
    path = SHIPPED / f"{name}.yaml"
    if "/" in name or name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif not path.is_file():
        raise ScenarioError(f"there is no sweep {name!r}; shipped are {', '.join(shipped())}; or give a file (FILE.yaml)")
    document, lines = read_document(path, schema())
    given = str(document["scenario"])
    scenario = path.parent / given if given.endswith((".yaml", ".yml")) else find(given)
    base, _ = read_document(scenario, None)
    for where, value in document.get("with", {}).items():
        try:
            put(base, where, value)
        except KeyError as error:
            raise refuse(str(path), lines, ("with", where), f"{scenario} has no {error.args[0]!r} there") from None
    axes = tuple(Axis(a["set"], tuple(a["to"]), a.get("label", a["set"])) for a in document["grid"])
    sweep = Sweep(
        name=path.stem,
        about=document.get("about", ""),
        scenario=scenario,
        document=base,
        figure=document["figure"],
        axes=axes,
        repeat=repeat or document.get("repeat", 1),
        title=document.get("title", ""),
    )
    if len(sweep.cells()) > CELLS_MOST:
        raise refuse(str(path), lines, ("grid",), f"makes {len(sweep.cells())} runs, {CELLS_MOST} are allowed")
    _check(sweep, str(path), lines)
    return sweep


def _check(sweep: Sweep, file: str, lines: Lines) -> None:
    """Each value by itself, before the first run: what is wrong is said now, not after an hour."""
    first = tuple(axis.to[0] for axis in sweep.axes)
    for number, axis in enumerate(sweep.axes):
        for value in axis.to:
            values = (*first[:number], value, *first[number + 1 :])
            where: Where = ("grid", number, "to")
            try:
                document = sweep.scenario_of(Cell(values, 0))
            except KeyError as error:
                raise refuse(file, lines, ("grid", number, "set"), f"{sweep.scenario} has no {error.args[0]!r} there") from None
            try:
                check_document(document, str(sweep.scenario))
            except ScenarioError as error:
                raise refuse(file, lines, where, f"{axis.set} = {value!r}: {error}") from None
