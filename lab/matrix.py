"""Many scenarios in one file: `matrix:` has axes, each axis names, each name what it says beside or instead of the rest. A
scenario is one name of each axis, joined by `-`: of modes.yaml with the axes mode and paths, `modes-active-standby-lossy`.

    matrix:
      mode: {active-standby: {rules: [...]}, load-balancing: {rules: [...]}}
      paths: {equal: {accesses: [...]}, lossy: {accesses: [...]}}
"""

from __future__ import annotations

import re
from itertools import product
from typing import Any

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
MOST = 200

Where = tuple[str | int, ...]
Lines = dict[Where, int]
"""In which line of its file a value stands."""


class MatrixError(Exception):
    """What is wrong, and where."""

    def __init__(self, where: Where, text: str) -> None:
        super().__init__(text)
        self.where = where


def names(document: Any) -> dict[str, tuple[tuple[str, str], ...]]:
    """Of a document, the scenarios in it: per name one (axis, name) of each axis. Empty: it is a scenario itself."""
    matrix = document.get("matrix") if isinstance(document, dict) else None
    if matrix is None:
        return {}
    if not isinstance(matrix, dict) or not matrix:
        raise MatrixError(("matrix",), "must be axes: AXIS: {NAME: {what it says}}")
    axes = []
    count = 1
    for axis, choices in matrix.items():
        if not isinstance(choices, dict) or not choices:
            raise MatrixError(("matrix", axis), "must be names: NAME: {what it says}")
        for name, patch in choices.items():
            if not NAME.fullmatch(name):
                raise MatrixError(("matrix", axis, name), "a name must look like active-standby")
            if not isinstance(patch, dict):
                raise MatrixError(("matrix", axis, name), "must be keys and values")
        count *= len(choices)
        if count > MOST:
            raise MatrixError(("matrix", axis), f"more than {MOST} scenarios in all")
        axes.append([(axis, name) for name in choices])
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for choice in product(*axes):
        name = "-".join(n for _, n in choice)
        if name in found:
            raise MatrixError(("matrix",), f"two scenarios would be called {name}")
        found[name] = choice
    return found


def pick(document: dict[str, Any], choice: tuple[tuple[str, str], ...], lines: Lines) -> tuple[dict[str, Any], Lines]:
    """The scenario of this choice, and the line of each of its values. Later axes win; keys of objects are joined, all else is
    replaced."""
    result: dict[str, Any] = {k: v for k, v in document.items() if k != "matrix"}
    of = {where: line for where, line in lines.items() if where[:1] != ("matrix",)}
    for axis, name in choice:
        result = _joined(result, document["matrix"][axis][name], (), ("matrix", axis, name), lines, of)
    return result, of


def _joined(base: Any, patch: Any, at: Where, source: Where, lines: Lines, of: Lines) -> Any:
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {k: _joined(base.get(k), v, (*at, k), (*source, k), lines, of) for k, v in patch.items()}
    for where in [w for w in of if w[: len(at)] == at]:
        del of[where]
    of |= {(*at, *where[len(source):]): line for where, line in lines.items() if where[: len(source)] == source}
    return patch
