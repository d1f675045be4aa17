"""Goodput of each phase as bars, and the delays of its probe as distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.report.chart import WIDTH, Scale, cut_to, line, rising_scale, svg, text, wide
from lab.report.markup import Markup, el, number, plain
from lab.report.samples import finite

BAR, GAP = 18.0, 10.0
NAME_ROOM, VALUE_ROOM = 150.0, 210.0
CDF_W, CDF_H = 420.0, 250.0
CDF_MOST = 24  # plots
DELAY_LEAST = 0.01  # ms, on a logarithmic scale


def bars(phases: Sequence[dict[str, Any]], names: Sequence[str]) -> Markup | None:
    """What each phase carried, by path; a tick where the receiver's goodput is, a frame as long as the wires' rates. None: nothing
    was carried."""
    known = [
        (number_, phase) for number_, phase in enumerate(phases, 1) if _rates(phase, names) or finite(phase.get("goodput_mbps"))
    ]
    if not known:
        return None
    top, left, right = 8.0, NAME_ROOM, WIDTH - VALUE_ROOM
    most = max(
        m
        for _, phase in known
        for m in (
            sum(_rates(phase, names)),
            finite(phase.get("goodput_mbps")) or 0.0,
            finite(phase.get("wire_sum_mbps")) or 0.0,
        )
    )
    x = rising_scale(most, left, right, 6)
    bottom = top + (BAR + GAP) * len(known)
    parts: list[Markup] = []
    for value, word in x.ticks(6):
        parts += [line(x(value), top, x(value), bottom, "grid"), text(x(value), bottom + 16, word, "middle", "t soft")]
    parts.append(text((left + right) / 2, bottom + 34, "Mbit/s", "middle", "t soft"))
    for row, (position, phase) in enumerate(known):
        y = top + (BAR + GAP) * row + GAP / 2
        parts += _bar(phase, names, x, y, position)
    return svg("phases", "Goodput of each phase by path", bottom + 44, *parts, points=len(known))


def _rates(phase: dict[str, Any], names: Sequence[str]) -> list[float]:
    found = phase.get("per_path_mbps")
    rates = [finite(found.get(name)) if isinstance(found, dict) else None for name in names]
    return [max(0.0, rate or 0.0) for rate in rates] if any(rate is not None for rate in rates) else []


def _bar(phase: dict[str, Any], names: Sequence[str], x: Scale, y: float, position: int) -> list[Markup]:
    parts: list[Markup] = []
    name = cut_to(f"{position}  {phase.get('id', '')}", NAME_ROOM - 14)
    parts.append(text(8, y + BAR - 4.5, name, "start", "t"))
    wires, goodput = finite(phase.get("wire_sum_mbps")), finite(phase.get("goodput_mbps"))
    if wires:
        parts.append(
            el(
                "rect",
                el("title", f"the wires together: {number(wires)} Mbit/s"),
                x=x(0),
                y=y,
                width=f"{x(wires) - x(0):.1f}",
                height=BAR,
                class_="wires",
            )
        )
    done = 0.0
    for index, rate in enumerate(_rates(phase, names)):
        parts.append(
            el(
                "rect",
                el("title", f"{names[index]}: {number(rate)} Mbit/s"),
                x=x(done),
                y=y + 2,
                width=f"{x(done + rate) - x(done):.1f}",
                height=BAR - 4,
                class_=f"bar a{index}",
                data_rate=names[index],
            )
        )
        done += rate
    said = "no goodput of its own" if goodput is None else f"{number(goodput)} Mbit/s"
    if goodput is not None:
        parts.append(
            el(
                "rect",
                el("title", f"goodput at the receiver: {said}"),
                x=f"{x(goodput) - 1.5:.1f}",
                y=y - 2,
                width=3,
                height=BAR + 4,
                class_="goodput",
            )
        )
    benefit, share = finite(phase.get("aggregation_benefit")), finite(phase.get("share_of_wires"))
    said += f", benefit {number(benefit)}" if benefit is not None else f", {share:.0%} of the wires" if share is not None else ""
    error = phase.get("skipped") or phase.get("error")
    parts.append(text(WIDTH - VALUE_ROOM + 14, y + BAR - 4.5, "did not run" if error and goodput is None else said, "start", "t"))
    return parts


@dataclass(frozen=True, slots=True)
class Delays:
    """One-way delays of the probe of one turn of a phase: (share of the packets, ms), rising."""

    phase: str
    turn: int
    direction: str
    count: int
    points: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, document: dict[str, Any]) -> Delays | None:
        """A line of delays.jsonl; None of what is none."""
        pairs = document.get("ms")
        points: list[tuple[float, float]] = []
        for pair in pairs if isinstance(pairs, list) else []:
            share, delay = (finite(v) for v in pair) if isinstance(pair, list) and len(pair) == 2 else (None, None)
            if share is None or delay is None or delay < 0 or not 0 <= share <= 1 or (points and (share, delay) < points[-1]):
                return None
            points.append((share, delay))
        direction = document.get("direction")
        if not points or direction not in ("up", "down"):
            return None
        return cls(
            str(document.get("phase", "")),
            int(finite(document.get("turn")) or 1),
            direction,
            int(finite(document.get("count")) or 0),
            tuple(points),
        )


def distributions(delays: Sequence[Delays]) -> list[Markup]:
    """One plot a phase, all with the same scale: what share of the probe's packets took no longer. A turn more is a line more."""
    phases = list(dict.fromkeys(d.phase for d in delays))[:CDF_MOST]
    values = [max(v, DELAY_LEAST) for d in delays for _, v in d.points]
    if not values:
        return []
    low, high = min(values), max(values)
    x = Scale(low / 1.15, max(high * 1.15, low * 3), 46, CDF_W - 14, log=True)
    return [_distribution(phase, [d for d in delays if d.phase == phase], x) for phase in phases]


def _free_place(own: list[tuple[float, float]], taken: list[tuple[float, float]], length: float) -> tuple[float, float]:
    """Beside the curve, where a label that long has the fewest points under it."""

    def under(place: tuple[float, float]) -> int:
        left, level = place
        return sum(left - 4 <= px <= left + length + 4 and level - 9 <= py <= level + 9 for px, py in taken)

    places = [(px + gap, py) for px, py in own[5:-5:3] for gap in (8.0, -8.0 - length) if 48 <= px + gap <= CDF_W - 14 - length]
    return min(places, key=under, default=(CDF_W - 14 - length, own[-1][1]))


def _distribution(phase: str, delays: Sequence[Delays], x: Scale) -> Markup:
    top, bottom = 34.0, CDF_H - 44
    y = Scale(0.0, 1.0, bottom, top)
    parts: list[Markup] = [text(46, 16, cut_to(phase, CDF_W - 60), "start", "t strong")]
    for value, word in ((0.0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1.0, "100 %")):
        parts += [line(46, y(value), CDF_W - 14, y(value), "grid"), text(40, y(value) + 4, word, "end", "t soft")]
    for value, word in x.ticks(8):
        parts += [line(x(value), bottom, x(value), bottom + 4, "axis"), text(x(value), bottom + 17, word, "middle", "t soft")]
    parts.append(text((46 + CDF_W) / 2, bottom + 36, "one-way delay in ms, no longer than (log scale)", "middle", "t soft"))
    curves = [[(x(max(v, DELAY_LEAST)), y(share)) for share, v in one.points] for one in delays]
    for one, curve in zip(delays, curves, strict=True):
        parts.append(
            el(
                "path",
                el("title", f"{one.direction}link, turn {one.turn}: {one.count} packets"),
                d="M" + " ".join(f"{px} {py}" for px, py in curve),
                class_=f"line way-{one.direction}",
                data_series=f"{phase}.{one.direction}.{one.turn}",
                data_points=len(curve),
            )
        )
    taken: list[tuple[float, float]] = [point for curve in curves for point in curve]
    for direction in ("up", "down"):
        own = next((c for one, c in zip(delays, curves, strict=True) if one.direction == direction), None)
        if own is not None:
            left, level = _free_place(own, taken, wide(f"{direction}link"))
            parts.append(text(left, level + 4, f"{direction}link", "start", f"t lab way-{direction}"))
            taken += [(left + part * wide(f"{direction}link") / 8, level) for part in range(9)]
    return svg(
        f"delay.{phase}",
        f"One-way delay of the probe in phase {plain(phase)}",
        CDF_H,
        *parts,
        points=sum(len(d.points) for d in delays),
        width=CDF_W,
    )
