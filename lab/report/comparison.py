"""The page of `mpq compare`: figures of several names side by side, each with its spread drawn, and its ratio to the first name."""

from __future__ import annotations

from collections.abc import Sequence

from lab.compare import Column, names_of, ratio
from lab.figures import MORE_IS_BETTER, Spread
from lab.report.chart import Scale, line, svg
from lab.report.markup import Markup, digits_of, el, join, plain, told
from lab.report.page import document

WIDTH, ROW, PAD = 240.0, 13.0, 6.0
COLOURS = 4  # of style.py; a fifth column has the first one's colour again, and its place


def page(sides: Sequence[Column], only: str = "") -> str:
    names = names_of(list(sides), only)
    title = "Comparison: " + ", ".join(plain(side.name) for side in sides)
    rows = [_row(name, sides) for name in names]
    heads = [el("th", "figure", class_="left"), el("th", "median, and from least to most", class_="left")]
    heads += [
        el("th", _key(i), side.name, f" ({len(side.runs)} runs)" if len(side.runs) > 1 else "") for i, side in enumerate(sides)
    ]
    runs = [join(el("dt", _key(i), side.name), *(el("dd", run) for run in side.runs)) for i, side in enumerate(sides)]
    body = [
        el("h1", title),
        el(
            "p",
            "Figures by name, as docs/figures.md and docs/sweeps.md have them. x: ratio to the first. An arrow says which way is "
            "better; each plot has a scale of its own, from 0.",
            class_="soft",
        ),
        el("div", el("table", el("thead", el("tr", *heads)), el("tbody", *rows)), class_="wide"),
        el("h2", "Runs"),
        el("dl", *runs),
    ]
    return document(title, *body)


def _key(number: int) -> Markup:
    return el("span", class_=f"key a{number % COLOURS}")


def _row(name: str, sides: Sequence[Column]) -> Markup:
    spreads = [side.figures.get(name) for side in sides]
    digits = digits_of(value for spread in spreads if spread is not None for value in (spread.median, spread.least, spread.most))
    cells = [_cell(name, side, sides[0], digits) for side in sides]
    better = "" if ".cwnd_octets." in name else " ↑" if name.endswith(MORE_IS_BETTER) else " ↓"
    return el("tr", el("td", f"{name}{better}", class_="left"), el("td", _plot(name, spreads), class_="dots"), *cells)


def _cell(name: str, side: Column, first: Column, digits: int) -> Markup:
    spread = side.figures.get(name)
    if spread is None:
        return el("td", "–")
    against = ratio(side, first, name)
    parts = [el("data", told(spread.median, digits), value=repr(spread.median), data_of=f"{side.name}/{name}")]
    if spread.runs > 1:
        parts.append(el("small", f" {told(spread.least, digits)} – {told(spread.most, digits)}"))
    if against is not None:
        parts.append(el("b", f" x{against:.3g}"))
    return el("td", *parts)


def _plot(name: str, spreads: Sequence[Spread | None]) -> Markup:
    """A line a column: a dot at the median, a bar from the least to the most."""
    known = [spread for spread in spreads if spread is not None]
    low, high = min(0.0, *(s.least for s in known)), max(0.0, *(s.most for s in known))
    x = Scale(low, high if high > low else low + 1.0, PAD, WIDTH - PAD)
    height = ROW * len(spreads) + PAD
    parts = [line(x(0.0), 2, x(0.0), height - 2, "axis")]
    for number, spread in enumerate(spreads):
        if spread is None:
            continue
        y, colour = PAD + ROW * (number + 0.4), f"a{number % COLOURS}"
        parts.append(
            el("line", x1=x(spread.least), x2=x(spread.most), y1=y, y2=y, class_=f"range {colour}")
        )
        parts.append(el("circle", el("title", told(spread.median)), cx=x(spread.median), cy=y, r=4, class_=f"bar {colour}"))
    return svg(name, name, height, *parts, points=len(known), width=WIDTH)
