"""Scenario files (YAML): the accesses and their wires, the steering rules, the traffic and the steps at times.

Everything is checked before anything is made: an unknown key, a wrong type, a value out of range or a step after its phase's end is
one sentence with file, line and key (`UsageError`, exit code 2). `scenario.schema.json` says the same for editors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from lab.errors import UsageError

SHIPPED = Path(__file__).parent / "scenarios"
FILE_LIMIT = 256 << 10
Direction = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Shape:
    """One direction of a wire."""

    rate_bps: int = 0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0  # fraction
    reorder: float = 0.0
    duplicate: float = 0.0
    queue_ms: float = 50.0


@dataclass(frozen=True, slots=True)
class Access:
    name: str
    type: Literal["3gpp", "non-3gpp"]
    up: Shape
    down: Shape
    cut: bool = False  # dead from the start


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens `at` seconds after its phase began."""

    at: float
    action: Literal["cut", "restore", "link_down", "link_up", "rekey", "kill", "shape"]
    target: str  # an access, `core` or `ue` (rekey), a node (kill)
    shape: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Phase:
    id: str
    traffic: Literal["tcp", "udp", "http", "probe", "idle"]
    direction: Direction
    duration: float
    flows: int = 1
    rate_bps: int = 0  # udp
    octets: int = 0  # http
    probe: bool = False
    omit: float = 0.0  # seconds of slow start that do not count
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    accesses: tuple[Access, ...]
    rules: tuple[dict[str, Any], ...]
    phases: tuple[Phase, ...]
    seed: int = 1
    capture: bool = False
    key: dict[str, Any] = field(default_factory=dict)
    psk_mode: str = "external"
    suites: tuple[str, ...] = ("TLS_AES_128_GCM_SHA256",)
    tamper: tuple[str, ...] = ()
    checks: dict[str, float] = field(default_factory=dict)
    demo: bool = False


class _Line(dict[str, Any]):
    """A mapping that knows on which line it and its keys stand."""

    line = 0
    lines: dict[str, int]


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> _Line:
    result = _Line()
    result.line = node.start_mark.line + 1
    result.lines = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(None, None, "a key must be text", key_node.start_mark)
        if key in result:
            raise yaml.MarkedYAMLError(None, None, f"{key} stands twice", key_node.start_mark)
        result[key] = loader.construct_object(value_node, deep=True)
        result.lines[key] = key_node.start_mark.line + 1
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*(bit|kbit|mbit|gbit)")
_RATE_UNITS = {"bit": 1, "kbit": 1_000, "mbit": 1_000_000, "gbit": 1_000_000_000}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)")
_TIME_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_SIZE = re.compile(r"(\d+)\s*(B|kB|MB)")
_SIZE_UNITS = {"B": 1, "kB": 1000, "MB": 1_000_000}
_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class _Reader:
    """One mapping of the file, read key by key; what nobody asked for is an error."""

    def __init__(self, file: str, where: str, value: object, line: int = 1) -> None:
        if not isinstance(value, _Line):
            raise UsageError(f"{file}:{line}: {where}: must be a mapping")
        self._file, self._where, self._value = file, where, value
        self._asked: set[str] = set()

    def fail(self, key: str, allowed: str) -> UsageError:
        line = self._value.lines.get(key, self._value.line)
        where = f"{self._where}.{key}" if self._where else key
        return UsageError(f"{self._file}:{line}: {where}: {allowed}")

    def get(self, key: str, default: Any = None, *, required: bool = False) -> Any:
        self._asked.add(key)
        if key not in self._value:
            if required:
                raise self.fail(key, "is required")
            return default
        return self._value[key]

    def has(self, key: str) -> bool:
        return key in self._value

    def text(self, key: str, allowed: tuple[str, ...] | None = None, default: str | None = None) -> str:
        value = self.get(key, default, required=default is None)
        if not isinstance(value, str) or (allowed is not None and value not in allowed):
            raise self.fail(key, "must be text" if allowed is None else f"must be one of {', '.join(allowed)}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = self.get(key, default, required=default is None)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.fail(key, f"must be a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.get(key, default, required=default is None)
        if type(value) is not int or not low <= value <= high:
            raise self.fail(key, f"must be an integer from {low} to {high}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, "must be true or false")
        return value

    def quantity(self, key: str, pattern: re.Pattern[str], units: dict[str, float], example: str, high: float,
                 default: float | None = None) -> float:
        value = self.get(key, None, required=default is None)
        if value is None:
            assert default is not None
            return default
        match = pattern.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise self.fail(key, f"must be like {example}")
        result = float(match[1]) * units[match[2]]
        if result > high:
            raise self.fail(key, "is too large")
        return result

    def share(self, key: str) -> float:
        value = self.get(key)
        if value is None:
            return 0.0
        match = _SHARE.fullmatch(value) if isinstance(value, str) else None
        if match is None or float(match[1]) > 100:
            raise self.fail(key, "must be a percentage from 0% to 100%")
        return float(match[1]) / 100

    def rate(self, key: str, default: float | None = None) -> int:
        return int(self.quantity(key, _RATE, {k: float(v) for k, v in _RATE_UNITS.items()}, "50mbit", 100e9, default))

    def time_ms(self, key: str, default: float | None = None) -> float:
        return self.quantity(key, _TIME, _TIME_UNITS, "15ms", 60_000, default)

    def items(self, key: str, most: int, *, required: bool = True) -> list[tuple[str, Any, int]]:
        value = self.get(key, [], required=required)
        if not isinstance(value, list) or len(value) > most or (required and not value):
            raise self.fail(key, f"must be a list of {1 if required else 0} to {most}")
        line = self._value.lines.get(key, self._value.line)
        where = f"{self._where}.{key}" if self._where else key
        return [(f"{where}[{n}]", item, line) for n, item in enumerate(value)]

    def sub(self, where: str, value: object, line: int) -> _Reader:
        return _Reader(self._file, where, value, line)

    def end(self) -> None:
        for key in self._value:
            if key not in self._asked:
                raise self.fail(key, f"is not known here; known are {', '.join(sorted(self._asked))}")


def _shape(reader: _Reader, base: Shape) -> Shape:
    """The shape that a mapping describes, over `base`."""
    return Shape(
        rate_bps=reader.rate("rate", base.rate_bps),
        delay_ms=reader.time_ms("delay", base.delay_ms),
        jitter_ms=reader.time_ms("jitter", base.jitter_ms),
        loss=reader.share("loss") if reader.has("loss") else base.loss,
        reorder=reader.share("reorder") if reader.has("reorder") else base.reorder,
        duplicate=reader.share("duplicate") if reader.has("duplicate") else base.duplicate,
        queue_ms=reader.time_ms("queue", base.queue_ms),
    )


def shape_change(values: dict[str, str], base: Shape) -> Shape:
    """`mpq path shape wifi rate=20mbit delay=30ms` over the shape in force."""
    mapping = _Line(values)
    mapping.lines = {}
    reader = _Reader("shape", "", mapping)
    for key in ("rate", "delay", "jitter", "loss", "reorder", "duplicate", "queue"):
        reader.get(key)
    reader.end()
    return _shape(reader, base)


def _access(reader: _Reader) -> Access:
    name = reader.text("name")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,14}", name):
        raise reader.fail("name", "must be 1 to 15 lower-case letters, digits and hyphens")
    kind = reader.text("type", ("3gpp", "non-3gpp"))
    both = _shape(reader, Shape())
    up, down = reader.get("up"), reader.get("down")
    shapes = []
    for key, value in (("up", up), ("down", down)):
        if value is None:
            shapes.append(both)
            continue
        one = reader.sub(key, value, 0)
        shapes.append(_shape(one, both))
        one.end()
    result = Access(name, "3gpp" if kind == "3gpp" else "non-3gpp", shapes[0], shapes[1], reader.flag("cut"))
    reader.end()
    return result


ACTIONS = ("cut", "restore", "link_down", "link_up", "rekey", "kill", "shape")


def _step(reader: _Reader, duration: float, accesses: set[str]) -> Step:
    at = reader.number("at", 0, duration)
    present = [a for a in ACTIONS if reader.has(a)]
    if len(present) != 1:
        raise reader.fail("at", f"needs exactly one of {', '.join(ACTIONS)}")
    action = present[0]
    allowed = {"rekey": ("core", "ue"), "kill": ("amf", "smf", "upf", "ue")}.get(action, tuple(sorted(accesses)))
    target = reader.text(action, allowed)
    shape: dict[str, Any] = {}
    if action == "shape":
        value = reader.get("to", required=True)
        if not isinstance(value, dict):
            raise reader.fail("to", "must be a mapping such as {rate: 20mbit}")
        try:
            shape_change(dict(value), Shape())
        except UsageError as error:
            raise reader.fail("to", str(error)) from error
        shape = dict(value)
    reader.end()
    return Step(at, action, target, shape)  # type: ignore[arg-type]


def _phase(reader: _Reader, accesses: set[str]) -> Phase:
    traffic = reader.text("traffic", ("tcp", "udp", "http", "probe", "idle"))
    duration = reader.number("duration", 0.5, 3600)
    steps = []
    for where, item, line in reader.items("steps", 100, required=False):
        steps.append(_step(reader.sub(where, item, line), duration, accesses))
    phase = Phase(
        id=reader.text("id"),
        traffic=traffic,  # type: ignore[arg-type]
        direction=reader.text("direction", ("up", "down"), "down"),  # type: ignore[arg-type]
        duration=duration,
        flows=reader.integer("flows", 1, 64, 1),
        rate_bps=reader.rate("rate", 0),
        octets=int(reader.quantity("size", _SIZE, {k: float(v) for k, v in _SIZE_UNITS.items()}, "20MB", 1e9, 0)),
        probe=reader.flag("probe"),
        omit=reader.number("omit", 0, 60, 0),
        steps=tuple(sorted(steps, key=lambda s: s.at)),
    )
    if traffic == "udp" and phase.rate_bps == 0:
        raise reader.fail("rate", "is required for udp")
    if traffic == "http" and phase.octets == 0:
        raise reader.fail("size", "is required for http")
    reader.end()
    return phase


TAMPER = ("n4:mpquic-key", "n4:weight", "n4:steering-mode")
TAMPER_N1 = re.compile(r"n1:(\d{1,3})(?:\+(\d{1,6}))?")


def parse(text: str, file: str) -> Scenario:
    """The scenario in `text`. UsageError with file, line and key."""
    try:
        document = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = 1 if mark is None else mark.line + 1
        raise UsageError(f"{file}:{line}: {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{file}:1: not YAML: {str(error).splitlines()[0] if str(error) else 'nested too deeply'}") from None
    top = _Reader(file, "", document)
    accesses = tuple(_access(top.sub(w, v, n)) for w, v, n in top.items("accesses", 2))
    names = {a.name for a in accesses}
    if len(names) != len(accesses) or len({a.type for a in accesses}) != len(accesses):
        raise top.fail("accesses", "names and types must differ")
    rules = []
    for where, item, line in top.items("rules", 16):
        reader = top.sub(where, item, line)
        rules.append({
            "id": reader.integer("id", 1, 255),
            "precedence": reader.integer("precedence", 0, 255),
            "match": dict(reader.get("match", {}) or {}),
            "steering": reader.text("steering", ("MPQUIC_IP",), "MPQUIC_IP"),
            "mode": dict(reader.get("mode", required=True)),
        })
        reader.end()
    phases = tuple(_phase(top.sub(w, v, n), names) for w, v, n in top.items("phases", 100, required=False))
    if len({p.id for p in phases}) != len(phases):
        raise top.fail("phases", "two have the same id")
    tamper = []
    for where, item, line in top.items("tamper", 4, required=False):
        if not isinstance(item, str) or not (item in TAMPER or TAMPER_N1.fullmatch(item)):
            raise UsageError(f"{file}:{line}: {where}: must be one of {', '.join(TAMPER)}, n1:<message>")
        tamper.append(item)
    checks = top.get("checks", {})
    if not isinstance(checks, dict) or not all(isinstance(v, int | float) for v in checks.values()):
        raise top.fail("checks", "must be a mapping of check to number")
    suites = top.get("suites", ["TLS_AES_128_GCM_SHA256"])
    if not isinstance(suites, list) or not all(isinstance(s, str) for s in suites):
        raise top.fail("suites", "must be a list of TLS cipher suites")
    scenario = Scenario(
        name=top.text("name"),
        accesses=accesses,
        rules=tuple(rules),
        phases=phases,
        seed=top.integer("seed", 1, 2**63 - 1, 1),
        capture=top.flag("capture"),
        key=dict(top.get("key", {}) or {}),
        psk_mode=top.text("psk_mode", ("external", "imported"), "external"),
        suites=tuple(suites),
        tamper=tuple(tamper),
        checks={str(k): float(v) for k, v in checks.items()},
        demo=top.flag("demo"),
    )
    top.end()
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,40}", scenario.name) or ".." in scenario.name:
        raise top.fail("name", "must be 1 to 41 lower-case letters, digits, '.', '_' and '-'")
    return scenario


def load(name: str) -> Scenario:
    """A scenario file, or the name of one that is shipped."""
    path = Path(name)
    if "/" not in name and not name.endswith((".yaml", ".yml")):
        path = SHIPPED / f"{name}.yaml"
        if not path.is_file():
            shipped = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.yaml")))
            raise UsageError(f"{name}: there is no such scenario; shipped are {shipped}")
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise UsageError(f"{path}: larger than {FILE_LIMIT >> 10} KiB")
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8") from None
