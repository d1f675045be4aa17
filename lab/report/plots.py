"""The plots over the time of a run: goodput stacked by path, gauges as lines, the states of the paths as a strip."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lab.report.chart import (
    AXIS_SPACE,
    LEFT,
    LINE,
    RIGHT,
    TICK_SPACE,
    WIDTH,
    Frame,
    Mark,
    Scale,
    cut_to,
    mark_labels,
    mark_lines,
    spread_labels,
    svg,
    text,
    wide,
)
from lab.report.markup import Markup, el
from lab.report.samples import ENDS, Samples, State

SECONDS = "seconds since the lab began"
BAND_LANE = 16.0
MARK_ROWS = 3
STRIP_ROW = 20.0
END_NAMES = {"ue": "UE", "upf": "UPF"}
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Band:
    """A phase as it ran; `number` as in the table of phases."""

    number: int
    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Times:
    """What all plots over time have in common."""

    end: float
    bands: tuple[Band, ...]
    marks: tuple[Mark, ...]

    @property
    def range(self) -> tuple[float, float]:
        return 0.0, self.end if self.end > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Line:
    """`style`: the class of its colour. `pieces`: without holes."""

    name: str
    style: str
    pieces: list[Points]

    @property
    def points(self) -> int:
        return sum(map(len, self.pieces))


def path_of(frame: Frame, pieces: Sequence[Points], style: str, **more: object) -> Markup:
    d = " ".join("M" + " ".join(f"{frame.x(t)} {frame.y(v)}" for t, v in piece) for piece in pieces)
    return el("path", d=d, class_=f"line {style}", **more)


def bands(frame: Frame, times: Times, *, named: bool) -> list[Markup]:
    """Every other phase on a ground; `named`: with its name above, or its number where the name is too long."""
    parts = []
    for position, band in enumerate(times.bands):
        left, right = frame.x(band.begin), frame.x(band.end)
        if right <= left:
            continue
        title = el("title", f"phase {band.number}: {band.name}, {band.begin:.1f} s to {band.end:.1f} s")
        parts.append(
            el(
                "rect",
                title,
                x=left,
                y=frame.top,
                width=f"{right - left:.1f}",
                height=f"{frame.bottom - frame.top:.1f}",
                class_=f"band b{position % 2}",
                data_phase=band.name,
            )
        )
        if named:
            label = next((w for w in (band.name, str(band.number)) if wide(w) <= right - left - 4), "")
            if label:
                parts.append(text((left + right) / 2, BAND_LANE - 4, label, "middle", "t soft"))
    return parts


def stacked(name: str, title: str, lines: Sequence[Line], times: Times) -> Markup:
    """Areas upon each other, with the marks named above. All lines have one piece, with its points at the same times."""
    series = [line.pieces[0] if line.pieces else [] for line in lines]
    tops: list[Points] = [[(t, 0.0) for t, _ in series[0]]] if series else [[]]
    for points in series:
        tops.append([(t, below + v) for (_, below), (t, v) in zip(tops[-1], points, strict=True)])
    most = max((v for _, v in tops[-1]), default=0.0)
    frame = Frame.of(times.range, most, top=BAND_LANE + MARK_ROWS * LINE + 14, inner=200)
    parts: list[Markup] = [text(LEFT - 7, frame.top - 8, "Mbit/s", "end", "t soft")]
    parts += [*bands(frame, times, named=True), *frame.grid()]
    labels: list[Markup] = []
    for line, below, here in zip(lines, tops, tops[1:], strict=False):
        upper = " ".join(f"{frame.x(t)} {frame.y(v)}" for t, v in here)
        lower = " ".join(f"{frame.x(t)} {frame.y(v)}" for t, v in reversed(below))
        if here:
            parts.append(el("path", d=f"M{upper} L{lower}Z", class_=f"area {line.style}"))
        parts.append(path_of(frame, [here] if here else [], line.style, data_series=line.name, data_points=len(here)))
        labels += _area_label(frame, line.name, below, here)
    parts += frame.time_axis(SECONDS)
    parts += mark_lines(frame, times.marks)
    parts += labels
    parts += mark_labels(frame, times.marks, BAND_LANE + 10, MARK_ROWS)
    return svg(name, title, frame.height, *parts, points=len(tops[-1]))


def _area_label(frame: Frame, name: str, below: Points, here: Points) -> list[Markup]:
    """The name inside the area, where there is most room for all of it; nothing where there is none."""
    half = wide(name) / 2 + 3
    places = [frame.x(t) for t, _ in here]
    best, where = 0.0, 0
    for number, x in enumerate(places):
        if places[0] <= x - half and x + half <= places[-1]:
            under = range(bisect_left(places, x - half), bisect_right(places, x + half))
            height = min(frame.y(below[i][1]) for i in under) - max(frame.y(here[i][1]) for i in under)
            if height > best:
                best, where = height, number
    if best < 1.1 * LINE:
        return []
    return [text(places[where], (frame.y(below[where][1]) + frame.y(here[where][1])) / 2 + 4, name, "middle", "t on")]


def gauges(name: str, title: str, unit: str, lines: Sequence[Line], times: Times, inner: float = 110) -> Markup:
    """Lines, each named at its end."""
    most = max((v for line in lines for piece in line.pieces for _, v in piece), default=0.0)
    frame = Frame.of(times.range, most, top=20, inner=inner, ticks=3)
    parts = [text(LEFT - 7, frame.top - 8, unit, "end", "t soft"), *bands(frame, times, named=False), *frame.grid()]
    parts += mark_lines(frame, times.marks)
    known = [line for line in lines if line.points]
    heights = spread_labels([frame.y(line.pieces[-1][-1][1]) for line in known], frame.top, frame.bottom - 5)
    for line, level in zip(known, heights, strict=True):
        parts.append(path_of(frame, line.pieces, line.style, data_series=line.name, data_points=line.points))
        x = min(frame.x(line.pieces[-1][-1][0]) + 5, frame.right + 5)
        parts.append(text(x, level + 4, cut_to(line.name, RIGHT - 8), "start", f"t lab {line.style}"))
    parts += frame.time_axis(SECONDS)
    return svg(name, title, frame.height, *parts, points=max((line.points for line in lines), default=0))


def strip(samples: Samples, times: Times) -> Markup:
    """What state each path was in, as each end had it, and why it carried nothing."""
    rows = [(access, end) for access in samples.names for end in ENDS]
    top = 6.0
    bottom = top + STRIP_ROW * len(rows)
    right = WIDTH - RIGHT
    x = Scale(*times.range, LEFT, right)
    frame = Frame(x, Scale(0, 1, bottom, top), top, bottom, bottom + TICK_SPACE + AXIS_SPACE, right)
    parts: list[Markup] = []
    for number, (access, end) in enumerate(rows):
        y = top + STRIP_ROW * number
        parts.append(text(LEFT - 7, y + 14, f"{cut_to(access, LEFT - 42)} {END_NAMES[end]}", "end"))
        parts += _strip_row(frame, samples.states.get((end, access), []), y, access, end, f"a{samples.names.index(access)}")
    parts += mark_lines(frame, times.marks)
    parts += frame.time_axis(SECONDS)
    return svg("states", "State of each path over time, at both ends", frame.height, *parts, points=samples.count)


def _strip_row(frame: Frame, states: Sequence[State], y: float, access: str, end: str, colour: str) -> list[Markup]:
    parts = []
    ends = [b.begin for _, b in pairwise(states)] + [states[-1].end] if states else []
    for state, until in zip(states, ends, strict=True):
        left, right = frame.x(state.begin), frame.x(until)
        words = state.reason or state.state or "no path"
        title = el(
            "title",
            f"{access} at the {END_NAMES[end]}, {state.begin:.1f} s to {until:.1f} s: {state.state or 'no path'}"
            + (f", {state.reason}" if state.reason else ""),
        )
        parts.append(
            el(
                "rect",
                title,
                x=left,
                y=y + 2,
                width=f"{max(right - left, 0.6):.1f}",
                height=STRIP_ROW - 4,
                class_=f"state {_state_style(state)} {colour}",
                data_state=state.state,
            )
        )
        shown = "" if state.state == "active" and not state.reason else words
        if shown and wide(shown) <= right - left - 6:
            parts.append(text((left + right) / 2, y + 14, shown, "middle", "t onstate"))
    return parts


STATE_STYLES = ("active", "standby", "suspect", "failed", "validating", "abandoned")


def _state_style(state: State) -> str:
    if state.state == "active" and state.reason:
        return "idle"
    return state.state if state.state in STATE_STYLES else "none"
