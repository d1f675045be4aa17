"""Scenario files: YAML into dataclasses, strictly. Every refusal is one line: file, line, key, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from lab import matrix
from lab.errors import Misuse, ScenarioError
from lab.matrix import Lines, Where
from lab.shape import NO_TRACE, Shape, both_ways
from lab.wire_trace import find_trace, load_trace

SIZE_LIMIT = 256 << 10
DEPTH_LIMIT = 12
SHIPPED = Path(__file__).parent / "scenarios"
SCHEMA = Path(__file__).parent / "scenario.schema.json"


@dataclass(frozen=True, slots=True)
class Access:
    name: str
    type: str
    up: Shape
    down: Shape


@dataclass(frozen=True, slots=True)
class Session:
    id: int = 5
    dnn: str = "internet"
    type: str = "IPv4v6"


@dataclass(frozen=True, slots=True)
class Psk:
    mode: str = "external"
    suites: tuple[str, ...] = ("TLS_AES_128_GCM_SHA256",)


@dataclass(frozen=True, slots=True)
class Action:
    """Something that happens `at` seconds after the start of its phase's traffic."""

    at: float
    kind: str
    target: str
    wire: dict[str, Any] = field(default_factory=dict)
    canary: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of traffic, one after the other."""

    id: str
    traffic: str
    carrier: str = "tunnel"  # or a baseline: mptcp, forwarder (lab/baseline.py)
    direction: str = "down"
    flows: int = 1
    seconds: float = 5.0
    rate_mbps: float | None = None
    megabytes: int = 16
    objects: int = 60  # of a web page
    probe: bool | str = False  # or what is sent in its place: game, video (lab/traffic.py)
    ipv6: bool = False
    rival: str | None = None  # over which access a TCP flow of the kernel, outside of the tunnel, runs at the same time
    omit_s: int | None = None  # goodput does not count the first seconds (None: as the traffic module has it)
    only: str | None = None  # the access that carries it alone: the others are cut from before it until after it
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Ring:
    """Of a capture: `files` files of `file_mb` million octets at most; the oldest goes before a new one comes."""

    files: int
    file_mb: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """`ring`: full packets all the time into files of bounded size, instead of windows into one."""

    name: str
    accesses: tuple[Access, ...]
    about: str = ""
    seed: int = 1
    wire: str = "own"  # or netem: lab.netem
    capture: bool = False
    ring: Ring | None = None
    session: Session = Session()
    key: dict[str, Any] = field(default_factory=dict)
    psk: Psk = Psk()
    congestion_control: str = "cubic"
    ecn: bool = True
    mss_clamp: bool = True
    qlog: str = "packets"
    rules: tuple[dict[str, Any], ...] = ()
    steps: tuple[Phase, ...] = ()
    checks: tuple[str, ...] = ()
    aims: tuple[str, ...] = ()  # checks that are printed with what they ask for, and fail no run
    repeat: int = 1  # the phases, in one lab
    tamper: tuple[str, ...] = ()
    document: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def access(self, name: str) -> Access | None:
        return next((a for a in self.accesses if a.name == name), None)

    def wire_sum_mbps(self, direction: str) -> float | None:
        """A line that wires share counts once."""
        shapes = [a.up if direction == "up" else a.down for a in self.accesses]
        shapes = [s for i, s in enumerate(shapes) if s.shares is None or s.shares not in [t.shares for t in shapes[:i]]]
        rates = [mean_rate_mbps(s) for s in shapes]
        return None if None in rates else sum(r for r in rates if r is not None)


def mean_rate_mbps(shape: Shape) -> float | None:
    rate = load_trace(Path(shape.trace)).mean_mbps() if shape.trace is not None else None
    return shape.rate_mbps if rate is None else rate


MODES: dict[str, tuple[str | None, set[str]]] = {
    "LOAD_BALANCING": ("3gLoad", {"thresValue", "steerModeInd"}),
    "ACTIVE_STANDBY": ("active", {"standby"}),
    "SMALLEST_DELAY": (None, set()),
    "PRIORITY_BASED": ("prioAcc", {"thresValue"}),
    "REDUNDANT": (None, {"primary", "thresValue"}),
}
"""Steering modes (docs/steering.md): the member that each must have, and what it may have besides."""
MODE_MEMBERS = {
    "3gLoad": "0, 10, … 100",
    "active": "3GPP_ACCESS or NON_3GPP_ACCESS",
    "prioAcc": "3GPP_ACCESS or NON_3GPP_ACCESS",
}
DEFAULT_RULES: tuple[dict[str, Any], ...] = (
    {"id": 1, "precedence": 10, "match": {}, "steering": "MPQUIC_IP", "mode": {"steerModeValue": "LOAD_BALANCING", "3gLoad": 50}},
)


@cache
def families() -> dict[str, list[str]]:
    """The shipped files by name, and the scenarios of those that have a matrix (empty: the file is one)."""
    found = {}
    for path in sorted(SHIPPED.glob("*.yaml")):
        data = path.read_bytes()
        found[path.stem] = list(matrix.names(_document(data, str(path))[0])) if b"\nmatrix:" in data else []
    return found


def shipped() -> list[str]:
    return [name for stem, variants in families().items() for name in ([f"{stem}-{v}" for v in variants] or [stem])]


def find(name: str) -> Path:
    """A scenario by name of a shipped one, or by the path of a user's file; FILE.yaml:NAME is one of a file with a matrix."""
    if "/" in name or name.endswith((".yaml", ".yml")) or _parts(Path(name))[1]:
        return Path(name)
    for stem, variants in families().items():
        if name == stem:
            return SHIPPED / f"{stem}.yaml"
        if name.startswith(f"{stem}-") and name.removeprefix(f"{stem}-") in variants:
            return SHIPPED / f"{stem}.yaml:{name.removeprefix(f'{stem}-')}"
    known = ", ".join(stem + "-..." * bool(variants) for stem, variants in families().items())
    raise ScenarioError(f"there is no scenario {name!r}; shipped are {known}; or give a file (FILE.yaml)")


def _parts(path: Path) -> tuple[Path, str]:
    """The file, and which scenario of its matrix (empty: none is named)."""
    for end in (".yaml", ".yml"):
        file, found, variant = str(path).rpartition(f"{end}:")
        if found and "/" not in variant:
            return Path(file + end), variant
    return path, ""


def load(path: Path) -> Scenario:
    file, variant = _parts(path)
    return parse(_read(file), str(file), file.stem, variant)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as f:
            return f.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read: {error.strerror}") from None


def read_document(path: Path, rules: dict[str, Any] | None) -> tuple[dict[str, Any], Lines]:
    """A file in the language of scenarios, held to a schema if there is one, and the line of each of its values."""
    file, variant = _parts(path)
    document, lines = _one_of(*_document(_read(file), str(file)), str(file), variant)
    if rules is not None:
        _validate(document, lines, str(path), rules)
    if not isinstance(document, dict):
        raise refuse(str(path), lines, (), "must be keys and values")
    return document, lines


def check_document(document: dict[str, Any], file: str) -> Scenario:
    """A scenario that is no file (yet); `file` is where its traces are looked for, and what errors name."""
    _validate(document, {}, file, schema())
    return _Builder(file, {}).scenario(document, "scenario")


def parse(data: bytes, file: str, name: str, variant: str = "") -> Scenario:
    """`variant`: which scenario of a file with a matrix."""
    document, lines = _one_of(*_document(data, file), file, variant)
    name += f"-{variant}" if variant else ""
    _validate(document, lines, file, schema())
    assert isinstance(document, dict)
    return _Builder(file, lines).scenario(document, name)


def _one_of(document: Any, lines: Lines, file: str, variant: str) -> tuple[Any, Lines]:
    try:
        choices = matrix.names(document)
        if variant in choices:
            return matrix.pick(document, choices[variant], lines)
    except matrix.MatrixError as error:
        raise refuse(file, lines, error.where, str(error)) from None
    if choices:
        which = f"{variant or 'a scenario'} must be one of {', '.join(choices)}"
        raise refuse(file, lines, ("matrix",), f"{which}: name it as FILE.yaml:NAME")
    if variant:
        raise refuse(file, lines, (), f"has no matrix, and so no {variant}")
    return document, lines


def refuse(file: str, lines: Lines, where: Where, text: str) -> ScenarioError:
    at = where
    while at not in lines and at:
        at = at[:-1]
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in where).lstrip(".")
    return ScenarioError(f"{file}:{lines.get(at, 1)}: {key or 'scenario'}: {text}")


def _document(data: bytes, file: str) -> tuple[Any, Lines]:
    """Plain values and the line of each. Anchors are refused: no scenario needs them, and they multiply."""
    import yaml

    if len(data) > SIZE_LIMIT:
        raise ScenarioError(f"{file}: larger than {SIZE_LIMIT >> 10} KiB")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ScenarioError(f"{file}:{line}: must be UTF-8 text") from None
    lines: Lines = {(): 1}
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_LIMIT:  # at once: the scanner's time grows with depth and length
                line = event.start_mark.line + 1 if event.start_mark is not None else 1
                raise ScenarioError(f"{file}:{line}: nested deeper than {DEPTH_LIMIT}")
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
                line = event.start_mark.line + 1 if event.start_mark is not None else 1
                raise ScenarioError(f"{file}:{line}: anchors and aliases are not allowed")
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            value = _plain(loader, node, (), lines, file) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ScenarioError(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{file}: not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ScenarioError(f"{file}: nested too deeply") from None
    return value, lines


def _plain(loader: Any, node: Any, where: Where, lines: Lines, file: str) -> Any:
    import yaml

    if len(where) > DEPTH_LIMIT:
        raise ScenarioError(f"{file}:{node.start_mark.line + 1}: nested deeper than {DEPTH_LIMIT}")
    lines.setdefault(where, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*where, i), lines, file) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Any] = {}
        for key_node, item in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise ScenarioError(f"{file}:{line}: a key must be a word")
            key = str(key_node.value)
            if key in result:
                raise ScenarioError(f"{file}:{line}: {key}: stands twice")
            lines[(*where, key)] = line
            result[key] = _plain(loader, item, (*where, key), lines, file)
        return result
    try:
        value = loader.construct_object(node)
    except (ValueError, OverflowError):
        raise ScenarioError(f"{file}:{node.start_mark.line + 1}: {str(node.value)[:40]!r} is not a value") from None
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        raise ScenarioError(f"{file}:{node.start_mark.line + 1}: {node.value} is not a finite number")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(node.value)  # dates and the like: the text as it stands


@cache
def schema() -> dict[str, Any]:
    result: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return result


def _validate(document: Any, lines: Lines, file: str, rules: dict[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    errors = list(Draft202012Validator(rules).iter_errors(document))
    errors.sort(key=lambda e: (list(map(str, e.absolute_path)), e.validator))
    if errors:
        where, text = _words(errors[0])
        raise refuse(file, lines, where, text)


def check_wire(change: dict[str, Any]) -> dict[str, Any]:
    """What a user asks of a running wire is held to what a scenario may say of it; the same with its traces found. Misuse names the
    value. A trace's path is absolute, or the name of a shipped one."""
    from jsonschema import Draft202012Validator

    rules = {"$ref": "#/$defs/wire", "$defs": schema()["$defs"]}
    for error in Draft202012Validator(rules).iter_errors(change):
        where, text = _words(error)
        raise Misuse(f"{'.'.join(map(str, where)) or 'wire'}: {text}")
    if "shares" in change:
        raise Misuse("shares: a wire is laid when the lab comes up: it changes its line no more")
    return _Builder("/wire", {}).traces(change, ())


KINDS_OF_ACTION = ("cut", "down", "restore", "rebind", "rekey", "key_update", "shape", "attack")
KINDS = {"object": "keys and values", "array": "a list", "string": "a text", "integer": "a whole number", "number": "a number",
         "boolean": "true or false"}


def _words(error: Any) -> tuple[Where, str]:
    where: Where = tuple(error.absolute_path)
    value, limit = error.instance, error.validator_value
    short = repr(value)[:60]
    match error.validator:
        case "additionalProperties":
            allowed = error.schema["properties"]
            unknown = next(k for k in value if k not in allowed)
            return (*where, unknown), f"unknown key; allowed: {', '.join(sorted(allowed))}"
        case "required":
            return where, f"{next(k for k in limit if k not in value)} is missing"
        case "type":
            return where, f"must be {KINDS[limit]}, not {short}"
        case "enum":
            return where, f"must be one of {', '.join(map(str, limit))}, not {short}"
        case "minimum" | "exclusiveMinimum":
            return where, f"must be {'at least' if error.validator == 'minimum' else 'more than'} {limit}, not {short}"
        case "maximum":
            return where, f"must be at most {limit}, not {short}"
        case "minItems" | "maxItems":
            bound = "at least" if error.validator == "minItems" else "at most"
            return where, f"must have {bound} {limit} items, it has {len(value)}"
        case "pattern":
            return where, f"must look like {limit}, not {short}"
        case _:
            return where, str(error.message)[:200]


class _Builder:
    """What the schema cannot say, and the dataclasses."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.file, self.lines = file, lines

    def fail(self, where: Where, text: str) -> ScenarioError:
        return refuse(self.file, self.lines, where, text)

    def scenario(self, d: dict[str, Any], name: str) -> Scenario:
        accesses = tuple(self.access(a, ("accesses", i)) for i, a in enumerate(d["accesses"]))
        if accesses[0].name == accesses[1].name:
            raise self.fail(("accesses", 1, "name"), "another access has this name")
        if sorted(a.type for a in accesses) != ["3gpp", "non-3gpp"]:
            raise self.fail(("accesses", 1, "type"), "there must be one access of each type: 3gpp, non-3gpp")
        self.lines_agree(accesses)
        psk = d.get("psk", {})
        result = Scenario(
            name=d.get("name", name),
            about=d.get("about", ""),
            accesses=accesses,
            seed=d.get("seed", 1),
            wire=d.get("wire", "own"),
            capture=d.get("capture", False) is not False,
            ring=Ring(capture["ring"], capture["file_mb"]) if isinstance(capture := d.get("capture"), dict) else None,
            session=Session(**d.get("session", {})),
            key=d.get("key", {}),
            psk=Psk(psk.get("mode", "external"), tuple(psk.get("suites", ("TLS_AES_128_GCM_SHA256",)))),
            congestion_control=d.get("congestion_control", "cubic"),
            ecn=d.get("ecn", True),
            mss_clamp=d.get("mss_clamp", True),
            qlog=d.get("qlog", "packets") or "off",  # YAML reads `off` as false
            rules=tuple(self.rules(d.get("rules", list(DEFAULT_RULES)))),
            steps=tuple(self.phase(p, ("steps", i), accesses) for i, p in enumerate(d.get("steps", []))),
            checks=tuple(d.get("checks", [])),
            aims=tuple(d.get("aims", [])),
            repeat=d.get("repeat", 1),
            tamper=tuple(d.get("tamper", [])),
            document=d,
        )
        if result.wire == "netem":
            self.netem(result)
        for i, name in enumerate(result.aims):
            if name in result.checks:
                raise self.fail(("aims", i), "is one of the checks: an aim fails no run, a check does")
        seen: set[str] = set()
        for i, phase in enumerate(result.steps):
            if result.ring is not None and any(action.kind == "attack" for action in phase.actions):
                raise self.fail(("capture",), "an attack is made from what one capture has from its beginning: not with a ring")
            if phase.id in seen:
                raise self.fail(("steps", i, "phase"), "another phase has this name")
            seen.add(phase.id)
        return result

    def lines_agree(self, accesses: tuple[Access, ...]) -> None:
        """Wires that share a line say the same of it, in each direction. A trace has delay and loss, which are each wire's own."""
        for i, access in enumerate(accesses):
            if access.up.shares is not None and (access.up.trace is not None or access.down.trace is not None):
                raise self.fail(("accesses", i, "wire", "shares"), "a line that wires share follows no trace")
            for before in accesses[:i]:
                if access.up.shares is None or access.up.shares != before.up.shares:
                    continue
                if access.up.line() != before.up.line() or access.down.line() != before.down.line():
                    raise self.fail(("accesses", i, "wire", "shares"),
                                    f"{before.name} says another rate or queue of the line {access.up.shares}")

    def netem(self, scenario: Scenario) -> None:
        """What netem cannot do is said now, by name. Each change of a wire is tried on what the scenario has said of it before."""
        from lab.netem import refusal

        shapes = {a.name: (a.up, a.down) for a in scenario.accesses}
        for i, access in enumerate(scenario.accesses):
            if why := refusal(access.up) or refusal(access.down):
                raise self.fail(("accesses", i, "wire"), f"wire: netem: {why}")
        for i, phase in enumerate(scenario.steps):
            for k, action in enumerate(phase.actions):
                where: Where = ("steps", i, "actions", k)
                if action.kind == "rebind":
                    raise self.fail(where, "wire: netem: rebind: netem has no NAT")
                if action.kind != "shape":
                    continue
                up, down = shapes[action.target] = both_ways(action.wire, *shapes[action.target])
                if why := refusal(up) or refusal(down):
                    raise self.fail((*where, "wire"), f"wire: netem: {why}")

    def access(self, d: dict[str, Any], where: Where) -> Access:
        wire = self.traces(d.get("wire", {}), (*where, "wire"))
        up, down = both_ways(wire)
        for word, shape in (("up", up), ("down", down)):
            self.rate_there(shape, (*where, "wire"), word)
        return Access(d["name"], d["type"], up, down)

    def traces(self, wire: dict[str, Any], where: Where) -> dict[str, Any]:
        """`wire` with its traces found and read: what is wrong with one is said now, not when the wire takes it."""
        result = dict(wire)
        for word in ("up", "down"):
            if word in wire:
                result[word] = self.traces(wire[word], (*where, word))
        if (name := wire.get("trace", NO_TRACE)) != NO_TRACE:
            try:
                path = find_trace(name, Path(self.file).parent)
                load_trace(path)
            except ScenarioError as error:
                raise self.fail((*where, "trace"), str(error)) from None
            result["trace"] = str(path)
        return result

    def rate_there(self, shape: Shape, where: Where, word: str) -> None:
        if shape.trace is not None and mean_rate_mbps(shape) is None:
            raise self.fail((*where, "trace"), f"{shape.trace} has no rate_mbps, and {word} has none either")

    def rules(self, rules: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        ids: set[int] = set()
        precedences: set[int] = set()
        for i, rule in enumerate(rules):
            where: Where = ("rules", i)
            if rule["id"] in ids:
                raise self.fail((*where, "id"), "another rule has this id")
            if rule["precedence"] in precedences:
                raise self.fail((*where, "precedence"), "another rule has this precedence")
            ids.add(rule["id"])
            precedences.add(rule["precedence"])
            mode = rule["mode"]
            value = mode["steerModeValue"]
            needs, may = MODES[value]
            if needs is not None and needs not in mode and "steerModeInd" not in mode:
                raise self.fail((*where, "mode"), f"{value} needs {needs} ({MODE_MEMBERS[needs]})")
            if wrong := mode.keys() - {"steerModeValue", needs} - may:
                raise self.fail((*where, "mode", min(wrong)), f"not with {value}")
            if value == "REDUNDANT" and rule.get("transport") != "DATAGRAM_1":
                raise self.fail((*where, "mode"), "REDUNDANT needs transport: DATAGRAM_1 (by its number the second copy is known)")
            if value == "REDUNDANT" and "thresValue" in mode and "primary" not in mode:
                raise self.fail((*where, "mode", "thresValue"), "needs primary (3GPP_ACCESS or NON_3GPP_ACCESS)")
            if "steerModeInd" in mode and "thresValue" in mode:
                raise self.fail((*where, "mode", "thresValue"), f"not with {mode['steerModeInd']}")
            if "standby" in mode and mode["standby"] == mode["active"]:
                raise self.fail((*where, "mode", "standby"), "must be the other access")
            ip = rule.get("match", {}).get("ip")
            if ip is not None:
                try:
                    ip_network(ip)
                except ValueError:
                    raise self.fail((*where, "match", "ip"), f"must be a prefix such as 10.99.0.0/16, not {ip!r}") from None
            yield {"match": {}, "steering": "MPQUIC_IP", **rule}

    def phase(self, d: dict[str, Any], where: Where, accesses: tuple[Access, ...]) -> Phase:
        values = {k: v for k, v in d.items() if k not in ("phase", "actions")}
        if "omit_s" in d and (d["traffic"] not in ("tcp", "udp") or d["omit_s"] >= d.get("seconds", 5.0) - 1):
            raise self.fail((*where, "omit_s"), "only with traffic: tcp and udp, and less than its seconds")
        if "megabytes" in d and d["traffic"] != "http":
            raise self.fail((*where, "megabytes"), "only with traffic: http")
        if "objects" in d and d["traffic"] != "web":
            raise self.fail((*where, "objects"), "only with traffic: web")
        if d["traffic"] in ("http", "web") and d.get("direction") == "up":
            raise self.fail((*where, "direction"), f"{d['traffic']} downloads only")
        self.baseline(d, where)
        self.rival(d, where, accesses)
        phase = Phase(id=d["phase"], **values)
        if phase.only is not None and phase.only not in [a.name for a in accesses]:
            known = ", ".join(a.name for a in accesses)
            raise self.fail((*where, "only"), f"no access {phase.only!r}; there are {known}")
        for i, a in enumerate(d.get("actions", []) if phase.only is not None else []):
            if {"cut", "down", "restore"} & a.keys():
                raise self.fail((*where, "actions", i), "cut and restore do not go with only: the phase cuts the others itself")
        if d["traffic"] in ("http", "web") and d.get("actions"):
            raise self.fail((*where, "actions"), f"not with traffic: {d['traffic']}")
        actions, before = [], 0.0
        for i, a in enumerate(d.get("actions", [])):
            action = self.action(a, (*where, "actions", i), accesses)
            if action.at < before:
                raise self.fail((*where, "actions", i, "at"), f"is before the action above it ({before:g} s)")
            if action.at >= phase.seconds:
                raise self.fail((*where, "actions", i, "at"), f"must be before the end of the phase ({phase.seconds:g} s)")
            before = action.at
            actions.append(action)
        return replace(phase, actions=tuple(actions))

    def baseline(self, d: dict[str, Any], where: Where) -> None:
        """What goes past the tunnel has neither its addresses nor its paths."""
        carrier = d.get("carrier", "tunnel")
        if carrier == "tunnel":
            return
        if d["traffic"] not in (("tcp",) if carrier == "mptcp" else ("tcp", "udp")):
            raise self.fail((*where, "traffic"), f"{carrier} carries {'tcp' if carrier == 'mptcp' else 'tcp and udp'} only")
        if d.get("probe") or d.get("ipv6"):
            raise self.fail((*where, "carrier"), f"{carrier} has neither probe nor ipv6")
        if carrier == "forwarder" and "only" not in d:
            raise self.fail((*where, "only"), "is missing: the forwarder has one path")
        if carrier == "mptcp" and "only" in d:
            raise self.fail((*where, "only"), "mptcp is there to use both paths")

    def rival(self, d: dict[str, Any], where: Where, accesses: tuple[Access, ...]) -> None:
        if "rival" not in d:
            return
        if d["traffic"] != "tcp" or d.get("carrier", "tunnel") != "tunnel" or "only" in d:
            raise self.fail((*where, "rival"), "only with traffic: tcp through the tunnel over all accesses")
        if d["rival"] not in (known := [a.name for a in accesses]):
            raise self.fail((*where, "rival"), f"no access {d['rival']!r}; there are {', '.join(known)}")

    def action(self, d: dict[str, Any], where: Where, accesses: tuple[Access, ...]) -> Action:
        kinds = [k for k in KINDS_OF_ACTION if k in d]
        if len(kinds) != 1:
            raise self.fail(where, f"must have exactly one of {', '.join(KINDS_OF_ACTION)}")
        kind = kinds[0]
        if ("wire" in d) != (kind == "shape"):
            raise self.fail(where, "wire goes with shape, and shape with wire")
        if "canary" in d and kind != "attack":
            raise self.fail((*where, "canary"), "goes with attack")
        if kind not in ("rekey", "key_update", "attack") and d[kind] not in [a.name for a in accesses]:
            raise self.fail((*where, kind), f"no access {d[kind]!r}; there are {', '.join(a.name for a in accesses)}")
        wire = self.traces(d.get("wire", {}), (*where, "wire"))
        if "shares" in wire:
            raise self.fail((*where, "wire", "shares"), "a wire is laid when the lab comes up: it changes its line no more")
        return Action(float(d["at"]), kind, d[kind], wire, d.get("canary", False))
