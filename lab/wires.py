"""The wires of a lab: one C thread that carries frames between the two ends of every access (native/src/wire.c)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lab.errors import LabError
from lab.scenario import Shape
from native import ffi, lib

UP, DOWN = 0, 1  # a -> b: from the UE; b -> a: to the UE
MILLION = 1_000_000


@dataclass(slots=True)
class Wire:
    number: int
    shapes: list[Shape]
    cut: list[bool] = field(default_factory=lambda: [False, False])
    nat: tuple[int, int] | None = None


class Wires:
    def __init__(self, seed: int) -> None:
        self._wires = lib.wires_new(seed, 1)
        if self._wires == ffi.NULL:
            raise LabError("the wires' thread cannot be made: no memory")
        self._by_name: dict[str, Wire] = {}
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
        if wire.nat is not None:
            self.rebind(name, *wire.nat)
        for direction in (UP, DOWN):
            self._set(wire, direction, wire.shapes[direction], wire.cut[direction])

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

    def shape(self, name: str, direction: int, shape: Shape) -> None:
        wire = self._named(name)
        self._set(wire, direction, shape, wire.cut[direction])

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
        value = ffi.new("struct wire_shape *", {
            "rate_bps": int((shape.rate_mbps or 0) * MILLION),
            "delay_ns": int(shape.delay_ms * MILLION),
            "jitter_ns": int(shape.jitter_ms * MILLION),
            "loss_ppm": int(shape.loss_percent * 10_000),
            "reorder_ppm": int(shape.reorder_percent * 10_000),
            "duplicate_ppm": int(shape.duplicate_percent * 10_000),
            "queue_ns": int(shape.queue_ms * MILLION),
            "cut": int(cut),
        })
        if lib.wire_shape_set(self._wires, wire.number, direction, value) < 0:
            raise LabError("the wire refused this shape")
        wire.shapes[direction], wire.cut[direction] = shape, cut

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
                    "late_max_ms": round(value.late_max_ns / 1e6, 3), "kernel_drops": value.kernel_drops,
                    "dropped_nat": value.dropped_nat,
                }
        return result

    def close(self) -> None:
        if self._wires != ffi.NULL:
            lib.wires_free(self._wires)
            self._wires = ffi.NULL


