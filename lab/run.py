"""A scenario from beginning to end: lab up, phases with their steps, checks, lab down, the run directory made readable."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.baseline import run_baseline
from lab.capture_compose import ComposeError, compose
from lab.capture_files import CAPTURE_NAME, RAW_NAME, InspectError, ring_files
from lab.configs import TUN_MTU
from lab.decrypt_nas import NasKeysError
from lab.errors import LabError
from lab.inspect_stats import verify_capture, verify_ring
from lab.lab import Lab
from lab.paths import PathTotals
from lab.pcapng import PcapngError
from lab.probe import DELAYS_NAME
from lab.progress import Progress
from lab.reasons import without_rule
from lab.sampler import Sample, Sampler, sample
from lab.scenario import Action, Phase, Scenario
from lab.topology import AccessAddresses
from lab.traffic import TrafficResult, run_traffic
from native import ffi, lib
from node.errors import NodeError

SETTLE_S = 0.3
BACK_S, POLL_S = 10.0, 0.1  # for a path to come back
IN_USE = ("active", "standby")
SET_ASIDE = ("standby by rule", "backup by the peer")
FOUND_OUT_MBPS, FOUND_OUT_TRIES = 50.0, 5  # that an access is cut
WINDOW_PHASE_S = 0.1  # of full packets (some 1,000) at the start of a phase, and
WINDOW_STEP_S = 0.5  # before and after each step


EXPECTED = (LabError, NodeError, OSError)
"""What the world may do to a run: the record says it. Anything else is a fault of ours."""


def words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def leaves(group: BaseException | None) -> list[BaseException]:
    if isinstance(group, BaseExceptionGroup):
        return [leaf for one in group.exceptions for leaf in leaves(one)]
    return [] if group is None else [group]


@dataclass(slots=True)
class PhaseRecord:
    phase: Phase
    start: float
    end: float
    before: Sample
    after: Sample
    traffic: TrafficResult
    steps: list[tuple[Action, float, str]] = field(default_factory=list)  # step, when it was done, error
    turn: int = 1
    wire_octets: dict[str, dict[str, int]] = field(default_factory=dict)  # by access and direction, in this phase
    cpu_s: dict[str, float] = field(default_factory=dict)  # of UE and UPF, in this phase


@dataclass(slots=True)
class RunRecord:
    """Everything that `lab.result` judges."""

    scenario: Scenario
    run_dir: Path
    phases: list[PhaseRecord] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    sampler: Sampler | None = None
    start: float = 0.0  # CLOCK_MONOTONIC
    duration: float = 0.0
    up_s: float = 0.0
    paths: list[dict[str, Any]] = field(default_factory=list)
    path_sums: dict[str, dict[str, int]] = field(default_factory=dict)  # by access: PathTotals.sums
    rtt_ms: dict[str, list[float]] = field(default_factory=dict)  # samples by access
    drops: dict[str, int] = field(default_factory=dict)
    reorder: dict[str, dict[str, float]] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    wires: dict[str, Any] = field(default_factory=dict)
    wire_realtime: bool = False
    old_key: str = ""
    capture: dict[str, Any] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def make_run_dir(scenario: str, root: Path) -> Path:
    """`<time>-<scenario>`, and `last` points at it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        name = f"{stamp}-{scenario}" + (f"-{number}" if number else "")
        try:
            (root / name).mkdir(mode=0o755)
            break
        except FileExistsError:
            number += 1
        except OSError as error:
            raise LabError(f"{root / name}: {error.strerror}") from None
    link = root / "last"
    fresh = root / f".last-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(name)
    if link.is_dir() and not link.is_symlink():
        raise LabError(f"{link} is a directory: it must be a link to the newest run")
    fresh.replace(link)
    return root / name


def _cpu_ticks(pid: int) -> float:
    """User and system seconds of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Runner:
    def __init__(self, lab: Lab, progress: Progress) -> None:
        self.lab = lab
        self.progress = progress
        self._turn = 1
        self.record = RunRecord(lab.scenario, lab.run_dir, start=lab.start)

    async def run(self) -> RunRecord:
        """Never raises for what happens inside: the record says it. The lab is down afterwards."""
        record = self.record
        try:
            self.progress.say("bringing the lab up")
            await self.lab.up()
            record.up_s = self.lab.now()
            if self.lab.capture is not None:
                self.lab.capture.window(False, self.lab.now())
            self.progress.say(f"session is up on {len(self.lab.scenario.accesses)} accesses")
            record.sampler = Sampler(self.lab, self.lab.run_dir / "metrics.jsonl")
            record.sampler.start()
            for turn in range(1, self.lab.scenario.repeat + 1):
                if self.lab.scenario.repeat > 1:
                    self.progress.say(f"turn {turn} of {self.lab.scenario.repeat}")
                self._turn = turn
                for phase in self.lab.scenario.steps:
                    await self._phase(phase)
            await self._after()
        except EXPECTED as error:
            record.error = words(error)
        except ExceptionGroup as group:
            mine, rest = group.split(EXPECTED)
            if rest is not None:
                raise rest from None
            record.error = "; ".join(words(e) for e in leaves(mine))
        except asyncio.CancelledError:
            record.error = "interrupted"
            raise
        finally:
            await self._down()
        return record

    async def _down(self) -> None:
        record = self.record
        if record.sampler is not None:
            await record.sampler.stop()
            record.rtt_ms = record.sampler.rtt_ms
        record.wires = self.lab.wires.stats()
        record.wire_realtime = self.lab.wires.realtime
        record.events = list(self.lab.events)  # what taking the lab down sets off is in events.jsonl, but no figure
        await self.lab.down()
        record.capture = self.lab.capture_stats
        trouble = self.lab.trouble or (str(record.capture.get("error", "")) and f"the capture: {record.capture['error']}")
        record.error = record.error or trouble
        if self.lab.scenario.capture:
            self.progress.say("making the capture readable")
            try:
                record.verified = await asyncio.to_thread(self._capture_read)
            except (ComposeError, InspectError, NasKeysError, PcapngError, OSError) as error:
                record.verified = {"error": words(error)}
        record.duration = self.lab.now()

    def _capture_read(self) -> dict[str, Any]:
        """The one file of a run becomes the readable one; the files of a ring are what they are."""
        place = self.lab.run_dir
        if self.lab.scenario.ring is not None:
            return verify_ring(ring_files(place))
        compose(place)
        (place / RAW_NAME).unlink(missing_ok=True)
        return verify_capture(place / CAPTURE_NAME)

    async def _phase(self, phase: Phase) -> None:
        if phase.carrier != "tunnel":  # past the tunnel: nothing has to be cut
            await self._traffic(phase)
            return
        async with self._alone(phase):
            await self._traffic(phase)

    @asynccontextmanager
    async def _alone(self, phase: Phase) -> AsyncIterator[None]:
        """The other accesses are cut before (None: none is), and both ends use them again afterwards."""
        others = [] if phase.only is None else [a for a in self.lab.scenario.accesses if a.name != phase.only]
        for access in others:
            self.lab.cut(access.name)
        try:
            if others:
                await self._found_out(phase.direction, {a.name for a in others})
            yield
        finally:
            for access in others:
                self.lab.restore(access.name)
        for node in ("ue", "upf") if others else ():
            await self._in_use(node, {a.name for a in others})

    async def _found_out(self, direction: str, names: set[str]) -> None:
        """Who sends in this direction knows that these accesses are cut: by UDP traffic that would fill them. Else one TCP flow
        would lose the first packets that they are tried with, and grow from there for the whole phase."""
        rate = self.lab.scenario.wire_sum_mbps(direction) or FOUND_OUT_MBPS
        burst = Phase("found-out", "udp", direction, flows=4, seconds=1, rate_mbps=rate)
        node = "upf" if direction == "down" else "ue"
        for _ in range(FOUND_OUT_TRIES):
            await run_traffic(self.lab.topology, burst, self._ue_address())
            if not names & trusted(await self.lab.ask(node, "paths")):
                return
        raise LabError(f"{node}: {', '.join(sorted(names))}: cut, but in use after {FOUND_OUT_TRIES} s of traffic")

    async def _in_use(self, node: str, names: set[str]) -> None:
        for _ in range(int(BACK_S / POLL_S)):
            if names <= {p.get("access") for p in await self.lab.ask(node, "paths") if p["state"] in IN_USE}:
                return
            await asyncio.sleep(POLL_S)
        raise LabError(f"{node}: {', '.join(sorted(names))}: restored, but not used again after {BACK_S:g} s")

    async def _traffic(self, phase: Phase) -> None:
        self.progress.say(f"{phase.id}: {describe(phase)}")
        before = await sample(self.lab)
        cpu, wires = self._cpu(), self._wire_octets()
        start = self.lab.now()
        self.lab.event("lab", "phase", phase=phase.id)
        steps: list[tuple[Action, float, str]] = []
        async with asyncio.TaskGroup() as group:
            started = asyncio.Event()
            traffic = group.create_task(self._carry(phase, started))
            group.create_task(self._steps(phase, started, steps))
            group.create_task(self._window(WINDOW_PHASE_S))
        end = self.lab.now()
        await asyncio.sleep(SETTLE_S)
        after = await sample(self.lab)
        result = traffic.result()
        if phase.id.startswith("tcp8"):
            self._cpu_add(cpu, result)
        spent = {node: now - cpu[node] for node, now in self._cpu().items() if node in cpu}
        octets = {a: {d: n - wires[a][d] for d, n in now.items()} for a, now in self._wire_octets().items()}
        self.record.phases.append(PhaseRecord(phase, start, end, before, after, result, steps, self._turn, octets, spent))
        self._keep_delays(phase, result)
        figure = "" if result.goodput_mbps is None else f"{result.goodput_mbps:.1f} Mbit/s"
        self.progress.done(figure or result.error or (f"skipped: {result.skipped}" if result.skipped else "done"))

    def _keep_delays(self, phase: Phase, result: TrafficResult) -> None:
        """The distributions beside the percentiles of result.json, for the report's plots."""
        lines = [
            json.dumps({"phase": phase.id, "turn": self._turn, "direction": direction, **document["delays"]}) + "\n"
            for direction, document in result.probe.items()
            if document.get("delays")
        ]
        if not lines:
            return
        try:
            with (self.lab.run_dir / DELAYS_NAME).open("a", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            self.lab.not_written(DELAYS_NAME, error)

    async def _carry(self, phase: Phase, started: asyncio.Event) -> TrafficResult:
        lab = self.lab
        numbers = {a.name: k for k, a in enumerate(lab.scenario.accesses, 1)}
        if phase.carrier == "tunnel":
            beside = "" if phase.rival is None else AccessAddresses(numbers[phase.rival]).ue
            return await run_traffic(lab.topology, phase, self._ue_address(), started, beside)
        started.set()
        return await run_baseline(lab.topology, phase, numbers)

    def _wire_octets(self) -> dict[str, dict[str, int]]:
        return {name: {word: int(of[word]["bytes"]) for word in ("up", "down")} for name, of in self.lab.wires.stats().items()}

    async def _window(self, seconds: float, after: asyncio.Event | None = None) -> None:
        """Full packets are captured for so long, `after` that, if given; the windows stand in result.json."""
        if self.lab.capture is not None:
            self.lab.capture.window(True, self.lab.now())
            if after is not None:
                await after.wait()
            await asyncio.sleep(seconds)
            self.lab.capture.window(False, self.lab.now())

    async def _steps(self, phase: Phase, started: asyncio.Event, done: list[tuple[Action, float, str]]) -> None:
        """From when the probe runs: on a busy machine it takes a while to start, and would not see what happens before."""
        await started.wait()
        start = self.lab.now()
        windows: list[asyncio.Task[None]] = []
        for step in phase.actions:
            await asyncio.sleep(max(0.0, start + step.at - WINDOW_STEP_S - self.lab.now()))
            over = asyncio.Event()  # a re-key can take a while, and what its new connection carries first is wanted, too
            windows.append(asyncio.create_task(self._window(WINDOW_STEP_S, after=over)))
            await asyncio.sleep(max(0.0, start + step.at - self.lab.now()))
            at, error = self.lab.now(), ""
            try:
                await self._step(step)
            except LabError as problem:
                error = str(problem)
            finally:
                over.set()
            done.append((step, at, error))
            self.progress.say(f"  {step.kind} {step.target}" + (f": {error}" if error else ""))
        await asyncio.gather(*windows)

    async def _step(self, step: Action) -> None:
        lab = self.lab
        match step.kind:
            case "cut":
                lab.cut(step.target)
            case "down":
                lab.cut(step.target, link_down=True)
            case "restore":
                lab.restore(step.target)
            case "rekey":
                await lab.rekey(step.target)
            case "rebind":
                lab.rebind(step.target)
            case "key_update":
                await lab.key_update(step.target)
            case "shape":
                lab.shape(step.target, step.wire)
            case "attack":
                outcome = await lab.craft(step.target, canary=step.canary)
                if not outcome["ok"]:
                    raise LabError(f"{step.target}: {outcome['why']}")

    async def _after(self) -> None:
        record, lab = self.record, self.lab
        record.paths = list(await lab.ask("ue", "paths"))
        totals = PathTotals() if record.sampler is None else record.sampler.totals
        totals.see(record.paths)
        record.path_sums = totals.sums()
        if "oldkey.refused" in lab.scenario.checks:
            self.progress.say("trying the old key")
            window = asyncio.create_task(self._window(WINDOW_STEP_S))
            answer = await lab.ask("ue", "probe_spent_key", limit=15.0)
            await window
            record.old_key = str(answer.get("outcome"))
            self.progress.done(record.old_key)
        for node in ("ue", "upf"):
            metrics = await lab.ask(node, "metrics")
            for name, value in drops_of(metrics).items():
                record.drops[f"{node}.{name}"] = value
            counters = metrics.get("tunnel") or {}
            self.record.reorder[node] = reorder_of(counters)
            lab.event("lab", "tunnel_counters", of=node, **{k: v for k, v in counters.items() if isinstance(v, int)})

    def _ue_address(self) -> str:
        for event in reversed(self.lab.events):
            if event["event"] == "pdu_session_established" and event.get("ipv4"):
                return str(event["ipv4"])
        raise LabError("the UE has no address: no event pdu_session_established with ipv4")

    def _cpu(self) -> dict[str, float]:
        found = {}
        for node in ("ue", "upf"):
            handle = self.lab.nodes.get(node)
            if handle is not None and handle.process is not None:
                found[node] = _cpu_ticks(handle.process.pid)
        return found

    def _cpu_add(self, before: dict[str, float], result: TrafficResult) -> None:
        """Microseconds of CPU per inner packet of a full segment; the mean of the eight-flow phases."""
        packets = result.octets / (TUN_MTU - 52)  # less IPv4 and TCP with timestamps
        if packets < 1000:
            return
        for node, now in self._cpu().items():
            value = (now - before[node]) * 1e6 / packets
            name = f"{node}_us_per_packet"
            self.record.cpu[name] = round((self.record.cpu[name] + value) / 2 if name in self.record.cpu else value, 2)


def trusted(paths: list[dict[str, Any]]) -> set[str]:
    """The accesses that data may be put on. One that stands by, by its rule or as the peer asks, is given none while the other one
    is there, and so no traffic can find it dead; one that does for another reason (the other path is shorter) is tried in time."""
    return {str(p.get("access")) for p in paths if p["state"] in IN_USE and without_rule(str(p.get("reason"))) not in SET_ASIDE}


def reorder_of(tunnel: dict[str, Any]) -> dict[str, float]:
    """Of a tunnel's statistics, what its packets with sequence numbers did (docs/sequenced_datagrams.md), times in ms."""
    waited = int(tunnel.get("reorder_waited", 0))
    counts = ("waited", "depth", "lost", "timeouts", "late", "duplicates", "jumps", "full")
    return {name: int(tunnel.get(f"reorder_{name}", 0)) for name in counts} | {
        "wait_mean_ms": round(tunnel.get("reorder_wait_ns", 0) / max(waited, 1) / 1e6, 2),
        "wait_most_ms": round(tunnel.get("reorder_wait_most_ns", 0) / 1e6, 2),
        "timeout_ms": round(tunnel.get("reorder_timeout_ns", 0) / 1e6, 2),
    }


def drops_of(metrics: dict[str, Any]) -> dict[str, int]:
    """The engine's counters of what it dropped, also those at 0."""
    counters = metrics.get("engine", {})
    drops = [ffi.string(lib.counter_name(i)).decode() for i in range(lib.counter_count()) if lib.counter_is_drop(i)]
    return {name: int(counters[name]) for name in drops if name in counters}


def describe(phase: Phase) -> str:
    words = {"tcp": f"{phase.flows} TCP flow{'s' if phase.flows > 1 else ''}", "udp": "UDP", "http": "HTTP download",
             "web": "web pages", "none": "nothing"}[phase.traffic]
    words += "" if phase.carrier == "tunnel" else f" by {phase.carrier}"
    beside = "" if not phase.probe else ", with probe" if phase.probe is True else f", with {phase.probe}"
    return f"{words} {phase.direction}, {phase.seconds:g} s{beside}"


def write_scenario(scenario: Scenario, run_dir: Path, versions: dict[str, str], machine: dict[str, Any]) -> None:
    """What ran, resolved (YAML is a superset of JSON)."""
    from dataclasses import asdict

    document = {"scenario": asdict(scenario), "versions": versions, "machine": machine}
    (run_dir / "scenario.yaml").write_text(json.dumps(document, indent=1) + "\n")
