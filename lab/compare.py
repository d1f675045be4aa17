"""Runs side by side (`mpq compare`): figures of each scenario as median with spread over its runs, and its ratio to the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import Misuse
from lab.figures import Figures, Spread, figures_of, read_result


@dataclass(frozen=True, slots=True)
class Column:
    """The runs of one name: repetitions of the same."""

    name: str
    runs: tuple[str, ...]
    figures: dict[str, Spread]


def columns(given: list[str]) -> list[Column]:
    """Of `RUN` or `NAME=RUN`, in order; runs without a name are of their scenario's. LabError, Misuse."""
    found: dict[str, list[tuple[str, Figures]]] = {}
    for text in given:
        name, separator, run = text.rpartition("=") if not Path(text).exists() else ("", "", text)
        if separator and not name:
            raise Misuse(f"{text}: a name is missing before =")
        document = read_result(Path(run))
        found.setdefault(name or str(document["scenario"]), []).append((run, figures_of(document)))
    return [_column(name, runs) for name, runs in found.items()]


def _column(name: str, runs: list[tuple[str, Figures]]) -> Column:
    values: dict[str, list[float]] = {}
    for _, figures in runs:
        for figure, value in figures.items():
            values.setdefault(figure, []).append(value)
    return Column(name, tuple(run for run, _ in runs), {figure: Spread.of(v) for figure, v in values.items()})


def names_of(sides: list[Column], only: str = "") -> list[str]:
    """Figures that some column has, in the order in which they come; `only`: those with this in their names."""
    return [name for name in dict.fromkeys(name for side in sides for name in side.figures) if only in name]


def ratio(side: Column, first: Column, name: str) -> float | None:
    if side is first or name not in side.figures or name not in first.figures or not first.figures[name].median:
        return None
    return side.figures[name].median / first.figures[name].median


def document(sides: list[Column], only: str = "") -> dict[str, Any]:
    figures = []
    for name in names_of(sides, only):
        cells: list[dict[str, Any] | None] = []
        for side in sides:
            spread = side.figures.get(name)
            cells.append(None if spread is None else {
                "median": spread.median, "least": spread.least, "most": spread.most, "runs": spread.runs,
                "ratio": ratio(side, sides[0], name),
            })
        figures.append({"id": name, "columns": cells})
    return {"columns": [{"name": side.name, "runs": list(side.runs)} for side in sides], "figures": figures}


def table(sides: list[Column], only: str = "") -> str:
    """Rows of figures, columns of names; behind a median its spread, if there are several runs, and its ratio to the first."""
    rows = [["figure", *(f"{side.name} ({len(side.runs)})" if len(side.runs) > 1 else side.name for side in sides)]]
    for name in names_of(sides, only):
        rows.append([name, *(_cell(side, sides[0], name) for side in sides)])
    return aligned(rows)


def aligned(rows: list[list[str]]) -> str:
    """Columns of equal width, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        padded = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *padded]))
    return "\n".join(lines)


def _cell(side: Column, first: Column, name: str) -> str:
    spread = side.figures.get(name)
    if spread is None:
        return "-"
    text = f"{spread.median:.4g}"
    if spread.runs > 1:
        text += f" ({spread.least:.4g} - {spread.most:.4g})"
    against = ratio(side, first, name)
    return text if against is None else f"{text} x{against:.3g}"
