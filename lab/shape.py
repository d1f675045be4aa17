"""What one direction of a wire is like: its values, the presets, and how a scenario's `wire:` becomes both directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

DEFAULT_QUEUE_MS = 50.0
DEFAULT_JITTER_EVERY_MS = 10.0
NO_TRACE = "none"


@dataclass(frozen=True, slots=True)
class BurstLoss:
    """Gilbert-Elliott: at each packet the wire enters the bad state, or leaves it, with these chances; in it
    `loss_percent` are lost."""

    enter_percent: float = 0.0
    leave_percent: float = 100.0
    loss_percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Shape:
    """One direction of a wire. `rate_mbps` None: as fast as the machine. `trace`: a file that rate, delay
    and loss follow (lab.wire_trace). `shares`: the line (rate and queue) is one that all wires with this name have in common."""

    rate_mbps: float | None = None
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    jitter: str = "uniform"
    jitter_every_ms: float = DEFAULT_JITTER_EVERY_MS
    loss_percent: float = 0.0
    burst_loss: BurstLoss = BurstLoss()
    reorder_percent: float = 0.0
    duplicate_percent: float = 0.0
    corrupt_percent: float = 0.0
    queue_ms: float = DEFAULT_QUEUE_MS
    queue_bytes: int | None = None
    trace: str | None = None
    shares: str | None = None

    def line(self) -> tuple[object, ...]:
        """What is the line's and not the wire's: equal for all that share it."""
        return self.rate_mbps, self.queue_ms, self.queue_bytes, self.trace

    def on_line_of(self, other: Shape) -> Shape:
        """With the other one's line."""
        return replace(self, rate_mbps=other.rate_mbps, queue_ms=other.queue_ms, queue_bytes=other.queue_bytes, trace=other.trace)

    def changed(self, values: dict[str, Any]) -> Shape:
        values = dict(values)
        if isinstance(burst := values.get("burst_loss"), dict):
            values["burst_loss"] = replace(self.burst_loss, **burst)
        if values.get("trace") == NO_TRACE:
            values["trace"] = None
        return replace(self, **values)


# What such an access is like for its user, by order of magnitude: a start for one's own figures, no claim about any network. Delays
# are one way; rates are such that the user-space wire carries both accesses at once (docs/wires.md).
PRESETS: dict[str, tuple[Shape, Shape]] = {
    "lte": (
        Shape(15, 25, 8, "normal", loss_percent=0.02, queue_ms=400),
        Shape(40, 20, 6, "normal", loss_percent=0.01, queue_ms=300),
    ),
    "nr": (
        Shape(40, 8, 3, "exponential", loss_percent=0.01, queue_ms=150),
        Shape(150, 8, 2, "exponential", loss_percent=0.01, queue_ms=100),
    ),
    "wifi": (
        Shape(80, 3, 2, "pareto", loss_percent=0.05, queue_ms=60),
        Shape(100, 3, 2, "pareto", loss_percent=0.05, queue_ms=60),
    ),
    "wifi-edge": (
        Shape(6, 8, 12, "pareto", burst_loss=BurstLoss(0.4, 15, 50), queue_ms=200),
        Shape(15, 8, 12, "pareto", burst_loss=BurstLoss(0.4, 15, 50), queue_ms=200),
    ),
    "satellite": (
        Shape(15, 30, 6, "normal", jitter_every_ms=200, burst_loss=BurstLoss(0.05, 5, 60), queue_ms=150),
        Shape(100, 25, 5, "normal", jitter_every_ms=200, burst_loss=BurstLoss(0.05, 5, 60), queue_ms=100),
    ),
    "satellite-geo": (
        Shape(5, 280, 4, "normal", loss_percent=0.01, queue_ms=300),
        Shape(30, 280, 4, "normal", loss_percent=0.01, queue_ms=300),
    ),
}


def both_ways(wire: dict[str, Any], up: Shape | None = None, down: Shape | None = None) -> tuple[Shape, Shape]:
    """(up, down) of a scenario's `wire:`: the preset, over it the values of both directions, over them those of one. Without
    a preset the values change `up` and `down`, those that hold now."""
    values = dict(wire)
    ways = [values.pop("up", {}), values.pop("down", {})]
    before = PRESETS[values.pop("preset")] if "preset" in values else (up or Shape(), down or Shape())
    made = [shape.changed(values).changed(way) for shape, way in zip(before, ways, strict=True)]
    return made[0], made[1]
