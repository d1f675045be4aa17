"""Who is connected to whom, and what each access carried: a line as thick as its octets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.report.chart import LINE, cut_to, svg, text, wide
from lab.report.markup import Markup, el, figure, number
from lab.report.samples import finite

TOP, ROW = 112.0, 78.0
UE, UPF, DN = 70.0, 700.0, 830.0
BOX_W, BOX_H = 92.0, 40.0
THICK_MOST, THICK_LEAST = 26.0, 1.5
DROPS = (("dropped_queue", "queue full"), ("dropped_loss", "lost"), ("dropped_cut", "cut"))


def octets(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} octets"


def _box(x: float, y: float, name: str, width: float = BOX_W, height: float = BOX_H) -> list[Markup]:
    return [
        el("rect", x=x - width / 2, y=y - height / 2, width=width, height=height, rx=6, class_="box"),
        text(x, y + 4.5, name, "middle", "t strong"),
    ]


def _way(wire: Any, way: str) -> dict[str, Any]:
    found = wire.get(way) if isinstance(wire, dict) else None
    return found if isinstance(found, dict) else {}


def _count(holder: dict[str, Any], name: str) -> float:
    return max(0.0, finite(holder.get(name)) or 0.0)


def _shape(way: dict[str, Any]) -> str:
    rate, delay, loss = (finite(way.get(name)) for name in ("rate_mbps", "delay_ms", "loss_percent"))
    told = ["rate not limited" if rate is None else f"{number(rate)} Mbit/s"]
    told += [] if delay is None else [f"{number(delay)} ms"]
    told += [f"{number(loss)} % loss"] if loss else []
    return ", ".join(told)


def topology(result: dict[str, Any], names: Sequence[str]) -> Markup:
    wires: dict[str, Any] = result["wires"]
    height = TOP + ROW * len(names) + 44
    middle = TOP + ROW * len(names) / 2
    core = 56.0
    parts: list[Markup] = [
        el("path", d=f"M{UE} {middle - BOX_H / 2}V{core}H{300}", class_="control"),
        el("path", d=f"M{392} {core}H{468}", class_="control"),
        el("path", d=f"M{560} {core}H{UPF}V{middle - BOX_H / 2}", class_="control"),
        el("path", d=f"M{UPF + BOX_W / 2} {middle}H{DN - 32}", class_="link"),
        text(300 - 12, core - 6, "N1 (NAS), over both accesses", "end", "t soft"),
        text(430, core - 6, "SBI", "middle", "t soft"),
        text(560 + 8, core - 6, "N4 (PFCP)", "start", "t soft"),
        *_box(346, core, "AMF"),
        *_box(514, core, "SMF"),
    ]
    most = max((_count(_way(wires.get(n), w), "bytes") for n in names for w in ("up", "down")), default=0.0)
    for position, name in enumerate(names):
        y = TOP + ROW * position + ROW / 2
        parts += _access(name, wires.get(name), y, middle, most, position)
        parts += _words(wires.get(name), y - 46 if position < len(names) / 2 else y + 40)
    parts += [*_box(UE, middle, "UE"), *_box(UPF, middle, "UPF"), *_box(DN, middle, "DN", 64)]
    return svg("topology", "The lab: UE, accesses, UPF and core, and what each access carried", height, *parts)


def _access(name: str, wire: Any, y: float, middle: float, most: float, position: int) -> list[Markup]:
    left, right = UE + BOX_W / 2, UPF - BOX_W / 2
    parts: list[Markup] = []
    for way, side in (("up", -1), ("down", 1)):
        carried = _count(_way(wire, way), "bytes")
        thick = max(THICK_LEAST, THICK_MOST * carried / most) if most and carried else THICK_LEAST
        at = y + side * (thick / 2 + 1.5)
        start = middle + side * 4
        d = (
            f"M{left} {start:.1f}C{left + 60} {start:.1f} {left + 40} {at:.1f} {left + 100} {at:.1f}H{right - 100}"
            f"C{right - 40} {at:.1f} {right - 60} {start:.1f} {right} {start:.1f}"
        )
        parts.append(
            el(
                "path",
                el("title", f"{name}, {way}: {octets(carried)}"),
                d=d,
                class_=f"flow a{position}" + ("" if carried else " nothing"),
                style=f"stroke-width:{thick:.1f}",
                data_flow=f"{name}.{way}",
            )
        )
    label = cut_to(name, 120)
    length = wide(label) + 14
    parts.append(el("rect", x=(left + right) / 2 - length / 2, y=y - 9, width=length, height=18, rx=9, class_=f"pill a{position}"))
    parts.append(text((left + right) / 2, y + 4.5, label, "middle", "t strong on"))
    return parts


def _words(wire: Any, y: float) -> list[Markup]:
    """Two lines, on the outer side of the access: there they have room."""
    parts = []
    for row, (way, arrow) in enumerate((("up", "↑"), ("down", "↓"))):
        of = _way(wire, way)
        told = f"{arrow} {octets(_count(of, 'bytes'))} in {number(_count(of, 'packets'))} frames ({_shape(of)})"
        drops = ", ".join(f"{number(_count(of, key))} {what}" for key, what in DROPS if _count(of, key))
        told += f"; dropped: {drops}" if drops else ""
        parts.append(text((UE + UPF) / 2, y + LINE * row, cut_to(told, UPF - UE - 40), "middle", "t"))
    return parts


def flows(result: dict[str, Any], names: Sequence[str]) -> list[list[object]]:
    """The same as rows of a table: frames of the wires, each direction."""
    rows: list[list[object]] = []
    for name in names:
        for way in ("up", "down"):
            at = ("wires", name, way)
            rows.append([f"{name} {way}", *(figure(result, *at, word) for word in FLOW_WORDS)])
    return rows


FLOW_WORDS = (
    "rate_mbps",
    "delay_ms",
    "loss_percent",
    "packets",
    "bytes",
    "dropped_queue",
    "dropped_loss",
    "dropped_cut",
    "queued_max_bytes",
    "late_p99_us",
)
FLOW_HEAD = (
    "wire",
    "rate, Mbit/s",
    "delay, ms",
    "loss, %",
    "frames",
    "octets",
    "dropped: queue",
    "dropped: loss",
    "dropped: cut",
    "longest queue, octets",
    "late p99, µs",
)
