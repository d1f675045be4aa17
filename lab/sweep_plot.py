"""The plot of a sweep as SVG: a line with its spread over one axis, a map of values over two. Light and dark, without anything from
outside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from html import escape
from typing import Any

from lab.figures import MORE_IS_BETTER, Spread
from lab.sweep_file import Axis, Sweep

CELL_W, CELL_H, LEFT, TOP, BELOW = 92, 46, 96, 58, 56
WIDTH, HEIGHT = 560, 260
STYLE = """
.ink { fill: #1b1f24; } .soft { fill: #57606a; } .rule { stroke: #8c959f; fill: none; }
.line { stroke: #1f6feb; fill: none; stroke-width: 2; } .dot { fill: #1f6feb; } .none { fill: #8c959f; fill-opacity: .18; }
text { font: 13px system-ui, sans-serif; } .small { font-size: 11px; }
@media (prefers-color-scheme: dark) {
  .ink { fill: #e6edf3; } .soft { fill: #9da7b3; } .line { stroke: #58a6ff; } .dot { fill: #58a6ff; }
}
"""

Spreads = Mapping[tuple[Any, ...], Spread]


def plot(sweep: Sweep, spreads: Spreads) -> str:
    """Empty when there is nothing to plot, or more than two axes have several values."""
    wide = [number for number, axis in enumerate(sweep.axes) if len(axis.to) > 1]
    if not spreads or len(wide) > 2:
        return ""
    if len(wide) < 2:
        number = wide[0] if wide else 0
        return _lines(sweep, sweep.axes[number], {values[number]: spread for values, spread in spreads.items()})
    x, y = wide
    return _map(sweep, sweep.axes[x], sweep.axes[y], {(values[x], values[y]): spread for values, spread in spreads.items()})


def _text(x: float, y: float, text: str, anchor: str = "middle", style: str = "ink", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}"{more}>{escape(text)}</text>'


def _on(x: float, y: float, text: str, ink: str, style: str = "") -> str:
    """A text on a coloured ground, which is the same in the dark."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="{ink}" class="{style}">{escape(text)}</text>'


def _page(width: float, height: float, title: str, parts: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title><style>{STYLE}</style>'
    )
    return head + "".join(parts) + "</svg>\n"


def _shade(share: float) -> tuple[str, str]:
    """A colour between pale and full blue (one hue: the order is seen without its colour, too), and that of a text upon it."""
    pale, full = (222, 235, 250), (8, 64, 129)
    mixed = [round(a + (b - a) * share) for a, b in zip(pale, full, strict=True)]
    return "#" + "".join(f"{v:02x}" for v in mixed), "#1b1f24" if share < 0.55 else "#ffffff"


def _map(sweep: Sweep, x: Axis, y: Axis, found: Mapping[tuple[Any, Any], Spread]) -> str:
    values = [spread.median for spread in found.values()]
    low, high = min(values), max(values)
    right = LEFT + CELL_W * len(x.to)
    bottom = TOP + CELL_H * len(y.to)
    title, digits = sweep.title or sweep.figure, digits_of(values)
    parts = [_text(LEFT, 22, title, "start"), _text(LEFT, 40, _better(sweep.figure), "start", "soft small")]
    for row, across in enumerate(reversed(y.to)):
        top = TOP + CELL_H * row
        parts.append(_text(LEFT - 10, top + CELL_H / 2 + 5, str(across), "end"))
        for column, along in enumerate(x.to):
            left = LEFT + CELL_W * column
            box = f'x="{left + 1}" y="{top + 1}" width="{CELL_W - 2}" height="{CELL_H - 2}" rx="3"'
            spread = found.get((along, across))
            if spread is None:
                parts.append(f'<rect {box} class="none"/>')
                continue
            fill, ink = _shade((spread.median - low) / (high - low) if high > low else 0.5)
            middle = left + CELL_W / 2
            parts.append(f'<rect {box} fill="{fill}"/>')
            level = top + CELL_H / 2 + (5 if spread.runs == 1 else 0)
            parts.append(_on(middle, level, f"{spread.median:.{digits}f}", ink))
            if spread.runs > 1:
                parts.append(_on(middle, level + 14, f"{spread.least:.{digits}f} – {spread.most:.{digits}f}", ink, "small"))
    parts += [_text(LEFT + CELL_W * (i + 0.5), bottom + 18, str(value)) for i, value in enumerate(x.to)]
    parts.append(_text((LEFT + right) / 2, bottom + 42, x.label, style="soft"))
    parts.append(_text(0, 0, y.label, style="soft", more=f' transform="translate(18 {(TOP + bottom) / 2:.1f}) rotate(-90)"'))
    # a label longer than its axis still has room
    width = max(right + 20, LEFT + 7 * len(x.label), 7 * len(title) + LEFT)
    return _page(width, max(bottom + BELOW, 7.2 * len(y.label) + TOP), title, parts)


def digits_of(values: Collection[float]) -> int:
    """Behind the point, the same for all of them."""
    most = max(map(abs, values))
    return 0 if most >= 100 or all(v == int(v) for v in values) else 1 if most >= 10 else 2


def _lines(sweep: Sweep, x: Axis, found: Mapping[Any, Spread]) -> str:
    places = {value: LEFT + (WIDTH - LEFT - 30) * (i + 0.5) / len(x.to) for i, value in enumerate(x.to)}
    high = max(spread.most for spread in found.values())
    low = min(0.0, min(spread.least for spread in found.values()))
    bottom = TOP + HEIGHT - BELOW

    def level(value: float) -> float:
        return bottom - (bottom - TOP) * (value - low) / ((high - low) or 1.0)

    parts = [_text(LEFT, 22, sweep.title or sweep.figure, "start"), _text(LEFT, 40, _better(sweep.figure), "start", "soft small")]
    for i in range(5):
        value = low + (high - low) * i / 4
        parts.append(f'<path d="M{LEFT} {level(value):.1f}H{WIDTH - 20}" class="rule" stroke-opacity=".35"/>')
        parts.append(_text(LEFT - 8, level(value) + 4, f"{value:.3g}", "end", "soft small"))
    points = [(places[value], found[value]) for value in x.to if value in found]
    parts.append(f'<path d="M{" L".join(f"{at:.1f} {level(s.median):.1f}" for at, s in points)}" class="line"/>')
    for at, spread in points:
        if spread.runs > 1:
            parts.append(f'<path d="M{at:.1f} {level(spread.least):.1f}V{level(spread.most):.1f}" class="line"/>')
        parts.append(f'<circle cx="{at:.1f}" cy="{level(spread.median):.1f}" r="3.5" class="dot"/>')
    parts += [_text(at, bottom + 20, str(value)) for value, at in places.items()]
    parts.append(_text((LEFT + WIDTH) / 2, bottom + 44, x.label, style="soft"))
    return _page(WIDTH, bottom + BELOW, sweep.title or sweep.figure, parts)


def _better(figure: str) -> str:
    return "more is better" if figure.endswith(MORE_IS_BETTER) else "less is better"
