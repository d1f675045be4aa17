"""The pieces of a plot: scales with round ticks, a frame with its axes, marks in time, labels that keep clear of each other.
Lengths are the pixels of an SVG that is WIDTH wide and shrinks with the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lab.report.markup import Markup, el, grouped, join, plain

WIDTH = 880
LEFT, RIGHT = 92.0, 92.0
TICK_SPACE = 22.0
AXIS_SPACE = 20.0  # below the ticks, for the axis title
CHARACTER = 7.4  # at most about, of a label; bold, in a wide font
LINE = 14.0  # least distance of labels one below the other


def round_step(span: float, most: int) -> float:
    """1, 2 or 5 times a power of ten, so that `span` has at most so many of it."""
    least = span / max(1, most)
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * f for f in (1, 2, 5, 10) if power * f >= least * (1 - 1e-9))


def tick_text(value: float, step: float) -> str:
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return grouped(value, digits)


@dataclass(frozen=True, slots=True)
class Scale:
    """From values to pixels; `begin` may be below `end` (y) or above."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            value, low, high = (math.log10(max(v, 1e-9)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        share = (value - low) / (high - low) if high > low else 0.0
        return round(self.begin + min(max(share, -0.02), 1.02) * (self.end - self.begin), 1)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        if self.log:
            return self._decades(most)
        step = round_step((self.high - self.low) or 1.0, most)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [(n * step, tick_text(n * step, step)) for n in range(first, last + 1)]

    def _decades(self, most: int) -> list[tuple[float, str]]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        found: list[tuple[float, str]] = []
        for factors in ((1, 2, 5), (1, 3), (1,)):
            values = [f * 10.0**p for p in range(low, high + 1) for f in factors]
            found = [(v, f"{v:g}") for v in values if self.low * 0.999 <= v <= self.high * 1.001]
            if len(found) <= most:
                break
        return found


def rising_scale(most: float, begin: float, end: float, ticks: int) -> Scale:
    """From 0 to the next tick above the largest value."""
    most = most if most > 0 else 1.0
    step = round_step(most, ticks)
    return Scale(0.0, step * math.ceil(most / step - 1e-9), begin, end)


def text(x: float, y: float, what: str, anchor: str = "start", style: str = "t", **more: object) -> Markup:
    return el("text", what, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=style, **more)


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return el("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=style)


def wide(what: str) -> float:
    return CHARACTER * len(what)


def cut_to(what: str, room: float) -> str:
    """With an ellipsis when it is longer than its room."""
    what, most = plain(what), max(1, int(room / CHARACTER))
    return what if len(what) <= most else what[: most - 1] + "…"


def spread_labels(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Heights as near as may be to those wanted, LINE apart, in the same order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = [0.0] * len(wanted)
    before = top - LINE
    for i in order:
        before = max(wanted[i], before + LINE)
        placed[i] = before
    after = bottom + LINE
    for i in reversed(order):
        after = min(placed[i], after - LINE)
        placed[i] = after
    return placed


@dataclass(frozen=True, slots=True)
class Frame:
    """One plot: where its inner rectangle lies, and its scales."""

    x: Scale
    y: Scale
    top: float
    bottom: float
    height: float
    right: float
    ticks: int = 4

    @classmethod
    def of(cls, x_range: tuple[float, float], most: float, *, top: float, inner: float, ticks: int = 4) -> Frame:
        """Time along x, from 0 upwards along y."""
        right = WIDTH - RIGHT
        x = Scale(*x_range, LEFT, right)
        bottom = top + inner
        return cls(x, rising_scale(most, bottom, top, ticks), top, bottom, bottom + TICK_SPACE + AXIS_SPACE, right, ticks)

    def grid(self) -> list[Markup]:
        parts = []
        for value, word in self.y.ticks(self.ticks):
            at = self.y(value)
            parts += [line(LEFT, at, self.right, at, "grid"), text(LEFT - 7, at + 4, word, "end", "t soft")]
        return parts

    def time_axis(self, title: str) -> list[Markup]:
        parts = [line(LEFT, self.bottom, self.right, self.bottom, "axis")]
        for value, word in self.x.ticks(12):
            at = self.x(value)
            parts += [line(at, self.bottom, at, self.bottom + 4, "axis"), text(at, self.bottom + 17, word, "middle", "t soft")]
        parts.append(text((LEFT + self.right) / 2, self.bottom + TICK_SPACE + 14, title, "middle", "t soft"))
        return parts


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that was done at a time of the run."""

    t: float
    kind: str  # cut, restore, rekey, ...
    words: str
    node: str = ""


def mark_lines(frame: Frame, marks: Iterable[Mark]) -> list[Markup]:
    return [
        el(
            "line",
            el("title", f"{mark.t:.2f} s: {mark.words}"),
            x1=frame.x(mark.t),
            x2=frame.x(mark.t),
            y1=frame.top,
            y2=frame.bottom,
            class_=f"mark {mark.kind}",
        )
        for mark in marks
    ]


def mark_labels(frame: Frame, marks: Sequence[Mark], first_row: float, rows: int) -> list[Markup]:
    """A sign at each mark, and its words where they keep clear of others; else the sign has them as its title only."""
    parts: list[Markup] = []
    free = [-1e9] * rows
    for mark in marks:
        at, length = frame.x(mark.t), wide(mark.words) + 12
        row = next((r for r in range(rows) if free[r] <= at - 4 and at + length <= WIDTH), None)
        sign = el(
            "path",
            el("title", f"{mark.t:.2f} s: {mark.words}"),
            d=SIGNS.get(mark.kind, DOT),
            class_=f"sign {mark.kind}",
            transform=f"translate({at} {frame.top - 5:.1f})",
            data_mark=mark.kind,
        )
        parts.append(sign)
        if row is None:
            continue
        level = first_row + row * LINE
        free[row] = at + length
        parts += [line(at, level + 2, at, frame.top - 9, "lead"), text(at + 3, level, mark.words, style="t lab")]
    return parts


DOT = "M-3 -3H3V3H-3Z"
SIGNS = {
    "cut": "M-4 -4L4 4M4 -4L-4 4",  # a cross
    "restore": "M0 -5L5 4H-5Z",  # a triangle that stands
    "rekey": "M0 -5L5 0L0 5L-5 0Z",  # a diamond
}
"""So that a cut is told from a re-key without its colour."""


def svg(name: str, title: str, height: float, *parts: object, points: int | None = None, width: float = WIDTH) -> Markup:
    """`points`: how many a series of the plot has, for whoever reads the page by program."""
    return el(
        "svg",
        el("title", title),
        join(*parts),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=title,
        data_plot=name,
        data_points=points,
    )
