"""The wires of a lab: one C thread that carries frames between the two ends of every access (native/src/wire.c)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.shape import Shape, both_ways
from lab.wire_trace import Trace, load_trace
from native import ffi, lib

UP, DOWN = 0, 1  # a -> b: from the UE; b -> a: to the UE
MILLION = 1_000_000
SECOND = 1_000_000_000
PPM = 10_000  # of a percent
JITTER = {"uniform": lib.WIRE_JITTER_UNIFORM, "normal": lib.WIRE_JITTER_NORMAL, "exponential": lib.WIRE_JITTER_EXPONENTIAL,
          "pareto": lib.WIRE_JITTER_PARETO}


def values(shape: Shape, cut: bool = False) -> dict[str, int]:
    """As struct wire_shape has them."""
    burst = shape.burst_loss
    return {
        "rate_bps": int((shape.rate_mbps or 0) * MILLION),
        "delay_ns": int(shape.delay_ms * MILLION),
        "jitter_ns": int(shape.jitter_ms * MILLION),
        "jitter_every_ns": int(shape.jitter_every_ms * MILLION),
        "jitter": JITTER[shape.jitter],
        "loss_ppm": int(shape.loss_percent * PPM),
        "burst_enter_ppm": int(burst.enter_percent * PPM),
        "burst_leave_ppm": int(burst.leave_percent * PPM),
        "burst_loss_ppm": int(burst.loss_percent * PPM),
        "reorder_ppm": int(shape.reorder_percent * PPM),
        "duplicate_ppm": int(shape.duplicate_percent * PPM),
        "corrupt_ppm": int(shape.corrupt_percent * PPM),
        "queue_ns": int(shape.queue_ms * MILLION),
        "queue_bytes": shape.queue_bytes or 0,
        "cut": int(cut),
    }


def points(trace: Trace, shape: Shape) -> list[dict[str, int]]:
    """As struct wire_point has them; what has no column is the shape's."""

    def of(value: float | None, default: float | None) -> float:
        return (default or 0.0) if value is None else value

    return [
        {
            "at_ns": int(p.time_s * SECOND),
            "rate_bps": int(of(p.rate_mbps, shape.rate_mbps) * MILLION),
            "delay_ns": int(of(p.delay_ms, shape.delay_ms) * MILLION),
            "loss_ppm": int(of(p.loss_percent, shape.loss_percent) * PPM),
        }
        for p in trace.points
    ]


def late(buckets: list[int], share: float) -> int:
    """Within how many microseconds of its time this share of the frames left: a power of two (struct wire_stats)."""
    total, seen = sum(buckets), 0
    for i, count in enumerate(buckets):
        seen += count
        if total and seen >= share * total:
            return 1 << i
    return 0


@dataclass(slots=True)
class Wire:
    number: int
    shapes: list[Shape]
    cut: list[bool] = field(default_factory=lambda: [False, False])
    nat: tuple[int, int] | None = None


def dropped(stats: dict[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Of what stats() tells: by access and direction, how many frames were dropped in the queue, by loss, by the cut."""
    return {name: {word: [of[word][f"dropped_{why}"] for why in ("queue", "loss", "cut")] for word in ("up", "down")}
            for name, of in stats.items()}


class Wires:
    def __init__(self, seed: int) -> None:
        self._wires = lib.wires_new(seed, 1)
        if self._wires == ffi.NULL:
            raise LabError("the wires' thread cannot be made: no memory")
        self._by_name: dict[str, Wire] = {}
        self._lines: list[str] = []  # that wires share, by number
        self._started = False

    @property
    def realtime(self) -> bool:
        return bool(lib.wires_realtime(self._wires))

    def add(self, name: str, ue_end: tuple[int, int], upf_end: tuple[int, int], up: Shape, down: Shape) -> None:
        """(namespace fd, interface index) of both ends. A wire of this name is replaced and keeps its shape."""
        old = self._by_name.pop(name, None)
        if old is not None:
            lib.wire_remove(self._wires, old.number)
        number = lib.wire_add(self._wires, *ue_end, *upf_end)
        if number < 0:
            raise LabError(f"the wire of access {name} cannot be made (error {-number})")
        wire = old or Wire(number, [up, down])
        wire.number = number
        self._by_name[name] = wire
        if (line := wire.shapes[UP].shares) is not None:
            self._lines += [] if line in self._lines else [line]
            if lib.wire_share(self._wires, number, self._lines.index(line)) < 0:
                raise LabError(f"the wire of access {name} cannot share the line {line}")
        if wire.nat is not None:
            self.rebind(name, *wire.nat)
        for direction in (UP, DOWN):
            self._set(wire, direction, wire.shapes[direction], wire.cut[direction])
            self._follow(wire, direction, wire.shapes[direction])

    def start(self) -> None:
        if not self._started:
            if lib.wires_start(self._wires) < 0:
                raise LabError("the wires' thread cannot be started")
            self._started = True

    def cut(self, name: str, cut: bool, directions: tuple[int, ...] = (UP, DOWN)) -> None:
        """A silent black hole, or its end."""
        wire = self._named(name)
        for direction in directions:
            self._set(wire, direction, wire.shapes[direction], cut)

    def rebind(self, name: str, server: int, outside: int) -> None:
        """A NAT between the UE and this wire gives the UE's UDP flow to port `server` another port outside. The UE is not told."""
        wire = self._named(name)
        if lib.wire_nat(self._wires, wire.number, server, outside) < 0:
            raise LabError("the wire refused this NAT")
        wire.nat = (server, outside)

    def change(self, name: str, change: dict[str, Any]) -> None:
        """`change`: as `wire:` in a scenario, over what holds now. A trace in it begins now, also the one that was followed. Of a
        line that wires share it is a change for all of them."""
        wire = self._named(name)
        shapes = [replace(s, shares=wire.shapes[UP].shares) for s in both_ways(change, *wire.shapes)]  # a preset has none
        if any(s.shares is not None and s.trace is not None for s in shapes):
            raise LabError("a line that wires share follows no trace: its delay and loss would be those of all")
        for direction, shape in zip((UP, DOWN), shapes, strict=True):
            values = {**change, **change.get(("up", "down")[direction], {})}
            self._set(wire, direction, shape, wire.cut[direction])
            if "trace" in values or "preset" in values:
                self._follow(wire, direction, shape)
            for other in self._by_name.values():
                if shape.shares is not None and other.shapes[direction].shares == shape.shares:
                    other.shapes[direction] = other.shapes[direction].on_line_of(shape)

    def shape_of(self, name: str, direction: int) -> Shape:
        return self._named(name).shapes[direction]

    def _named(self, name: str) -> Wire:
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(self._by_name)
            raise LabError(f"{name}: there is no such access; there are {known}") from None

    def _set(self, wire: Wire, direction: int, shape: Shape, cut: bool) -> None:
        """Remembered when the wire has taken it."""
        if lib.wire_shape_set(self._wires, wire.number, direction, ffi.new("struct wire_shape *", values(shape, cut))) < 0:
            raise LabError("the wire refused this shape")
        wire.shapes[direction], wire.cut[direction] = shape, cut

    def _follow(self, wire: Wire, direction: int, shape: Shape) -> None:
        trace = None if shape.trace is None else load_trace(Path(shape.trace))
        if trace is not None and trace.deliveries_ms is not None:
            times = ffi.from_buffer("uint32_t[]", trace.deliveries_ms)
            result = lib.wire_deliveries_set(self._wires, wire.number, direction, times, len(trace.deliveries_ms))
        else:
            made = points(trace, shape) if trace is not None else []
            length = int(trace.length_s * SECOND) if trace is not None else 0
            block = ffi.new("struct wire_point[]", made)
            result = lib.wire_trace_set(self._wires, wire.number, direction, block, len(made), length)
        if result < 0:
            raise LabError(f"the wire refused the trace {shape.trace}: one round of it must carry at least a frame")

    def stats(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        value = ffi.new("struct wire_stats *")
        for name, wire in self._by_name.items():
            result[name] = {"cut": any(wire.cut)}
            for direction, word in ((UP, "up"), (DOWN, "down")):
                lib.wire_stats(self._wires, wire.number, direction, value)
                shape = wire.shapes[direction]
                result[name][word] = {
                    "rate_mbps": shape.rate_mbps, "delay_ms": shape.delay_ms, "loss_percent": shape.loss_percent,
                    "packets": value.packets, "bytes": value.bytes, "dropped_queue": value.dropped_queue,
                    "dropped_loss": value.dropped_loss, "dropped_cut": value.dropped_cut,
                    "duplicated": value.duplicated, "reordered": value.reordered, "corrupted": value.corrupted,
                    "queued_bytes": value.queued_bytes, "queued_max_bytes": value.queued_max_bytes,
                    "late_p50_us": late(list(value.late), 0.50), "late_p99_us": late(list(value.late), 0.99),
                    "late_max_ms": round(value.late_max_ns / 1e6, 3), "kernel_drops": value.kernel_drops,
                    "dropped_nat": value.dropped_nat,
                }
        return result

    def close(self) -> None:
        if self._wires != ffi.NULL:
            lib.wires_free(self._wires)
            self._wires = ffi.NULL
            self._by_name.clear()


