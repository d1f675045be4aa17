"""Files that a wire follows: rates, delays and losses at times (CSV), or times of delivery (Mahimahi).

CSV: a line of names, `time_s` first, then any of `rate_mbps`, `delay_ms`, `loss_percent`; then a line for each time, from 0 on,
rising. A line holds until the next, the last one as long as the one before it; then the trace begins again. `#` begins a comment.
What has no column stays as the wire's shape says. A rate of 0 stops the line.

Mahimahi: one whole number a line, the milliseconds at which 1504 octets may leave, not falling; after the last one it begins again.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lab.errors import ScenarioError

SIZE_LIMIT = 32 << 20
MOST_LINES = 2_000_000
LONGEST_S = 7 * 86400.0
DELIVERY_OCTETS = 1504  # native/src/wire_line.c
SHIPPED = Path(__file__).parent / "traces"
MOST = {"rate_mbps": 100_000.0, "delay_ms": 5000.0, "loss_percent": 100.0}  # as lab/scenario.schema.json


@dataclass(frozen=True, slots=True)
class Point:
    time_s: float
    rate_mbps: float | None = None
    delay_ms: float | None = None
    loss_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Either `points` or `deliveries_ms` is there."""

    length_s: float
    points: tuple[Point, ...] = ()
    deliveries_ms: array[int] | None = None

    def mean_mbps(self) -> float | None:
        """None: the trace has no rate."""
        if self.deliveries_ms is not None:
            return len(self.deliveries_ms) * DELIVERY_OCTETS * 8 / self.length_s / 1e6
        ends = [*(p.time_s for p in self.points[1:]), self.length_s]
        total = 0.0
        for point, end in zip(self.points, ends, strict=True):
            if point.rate_mbps is None:
                return None
            total += point.rate_mbps * (end - point.time_s)
        return total / self.length_s


def shipped_traces() -> list[str]:
    return sorted(p.stem for p in SHIPPED.glob("*.csv"))


def find_trace(name: str, beside: Path) -> Path:
    """A shipped trace by its name, or a file: its path is relative to the scenario's folder."""
    if "/" not in name and "." not in name:
        path = SHIPPED / f"{name}.csv"
        if path.is_file():
            return path
        raise ScenarioError(f"there is no trace {name!r}; shipped are {', '.join(shipped_traces())}; or give a file (./FILE)")
    return (beside / name).absolute()


@lru_cache(maxsize=16)
def load_trace(path: Path) -> Trace:
    try:
        with path.open("rb") as f:
            data = f.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from None
    return parse_trace(data, str(path))


def parse_trace(data: bytes, file: str) -> Trace:
    if len(data) > SIZE_LIMIT:
        raise ScenarioError(f"{file}: larger than {SIZE_LIMIT >> 20} MiB")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"{file}:{data.count(bytes([10]), 0, error.start) + 1}: must be plain text") from None
    numbered = ((i, line.split("#", 1)[0].strip()) for i, line in enumerate(text.split("\n"), 1))
    lines = [(i, line) for i, line in numbered if line]
    if not lines:
        raise ScenarioError(f"{file}: is empty")
    if len(lines) > MOST_LINES:
        raise ScenarioError(f"{file}: more than {MOST_LINES} lines")
    return _csv(lines, file) if lines[0][1].startswith("time_s") else _deliveries(lines, file)


def _deliveries(lines: list[tuple[int, str]], file: str) -> Trace:
    times = array("I")
    before = 0
    for i, line in lines:
        if not line.isdecimal() or len(line) > 9:
            raise ScenarioError(f"{file}:{i}: must be whole milliseconds (a CSV begins with names, time_s first)")
        at = int(line)
        if at < before:
            raise ScenarioError(f"{file}:{i}: {at} is before the line above it ({before})")
        times.append(at)
        before = at
    if before == 0:
        raise ScenarioError(f"{file}: all times are 0")
    return Trace(before / 1000, deliveries_ms=times)


def _csv(lines: list[tuple[int, str]], file: str) -> Trace:
    first, names = lines[0][0], [n.strip() for n in lines[0][1].split(",")]
    unknown = [n for n in names[1:] if n not in MOST]
    if names[0] != "time_s" or unknown or len(set(names)) != len(names) or len(names) < 2:
        raise ScenarioError(f"{file}:{first}: must be time_s, then any of {', '.join(MOST)}, each once")
    points: list[Point] = []
    for i, line in lines[1:]:
        texts = line.split(",")
        if len(texts) != len(names):
            raise ScenarioError(f"{file}:{i}: must have {len(names)} values, it has {len(texts)}")
        values = {name: _number(t, name, f"{file}:{i}") for name, t in zip(names, texts, strict=True)}
        at = values["time_s"]
        if points and at <= points[-1].time_s:
            raise ScenarioError(f"{file}:{i}: time_s: must be later than the line above it ({points[-1].time_s:g})")
        if not points and at != 0:
            raise ScenarioError(f"{file}:{i}: time_s: must begin with 0, not {at:g}")
        points.append(Point(**values))
    if not points:
        raise ScenarioError(f"{file}: has no line of values")
    last = points[-1].time_s
    trace = Trace(last + (last - points[-2].time_s if len(points) > 1 else 1.0), tuple(points))
    if trace.mean_mbps() == 0:
        raise ScenarioError(f"{file}: rate_mbps is 0 all the time: nothing would ever pass")
    return trace


def _number(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ScenarioError(f"{where}: {name}: must be a number, not {text.strip()[:40]!r}") from None
    most = MOST.get(name, LONGEST_S)
    if not math.isfinite(value) or not 0 <= value <= most:
        raise ScenarioError(f"{where}: {name}: must be between 0 and {most:g}, not {text.strip()[:40]}")
    return value
