"""One lab: networks, wires, capture and the four nodes, brought up in order and taken down in the opposite one."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pyroute2.netlink.exceptions import NetlinkError

from lab.capture_files import KEYLOG_NAME, RAW_NAME, RING_STEM
from lab.capturing import Capture, Port, of_a_run, ports
from lab.configs import SUPI, NodeConfigs, write_configs
from lab.errors import LabError, Misuse
from lab.event_log import EventLog
from lab.live_capture import WATCH_S, Captures, KeyTail, Request
from lab.netem import NetemWires
from lab.netem import require as netem_required
from lab.process import Process
from lab.scenario import Scenario
from lab.state import MARK, start_time
from lab.state import mark as state_mark
from lab.topology import AMF, N1_PORTS, PROXY_PORT, TAMPER_N1_OFFSET, TAMPER_N4, UPF_N4, AccessAddresses, Topology
from lab.wires import Wires, dropped
from node.errors import ControlError, NodeError, VerbError
from node.handle import NodeHandle

MODULES = {"amf": "control.amf", "smf": "control.smf", "upf": "upf", "ue": "ue"}
PLACES = {"amf": "core", "smf": "core", "upf": "upf", "ue": "ue"}
NODE_TIMEOUT = 15.0
SESSION_TIMEOUT = 20.0
KEY_REPAIR_S = 2.0
"""A core repairs a key that a node refused at once (a new one) or not at all: after so long no connection will come of it."""
INJECT_TIMEOUT = 5.0
NEVER = 1 << 30  # messages, until the relay flips one
LONGEST_STDERR = 4000
NAT_PORTS = 20001, 60000
WAKE_S = 0.5  # to see that a node ended, or that waiting has no point


class Lab:
    """`start`: CLOCK_MONOTONIC of the lab's time 0."""

    def __init__(
        self, name: str, scenario: Scenario, state_dir: Path, run_dir: Path, *, named: bool = False, keys: bool = False
    ) -> None:
        """`keys`: the nodes write a key log although the scenario captures nothing."""
        self.name = name
        self.scenario = scenario
        self.run_dir = run_dir
        self.start = time.monotonic()
        self.events = EventLog()
        self.nodes: dict[str, NodeHandle] = {}
        self.topology = Topology(named_prefix=name if named else None)
        self.wires: Wires | NetemWires = self._wires(scenario)
        self.capture: Capture | None = None
        self.capture_stats: dict[str, Any] = {}
        self.captures = Captures(run_dir, run_dir / KEYLOG_NAME, keys or scenario.capture, self.now)
        self._nat_port = 0
        self._ring_tail: KeyTail | None = None
        self._state_dir = state_dir
        self._configs: NodeConfigs | None = None
        self._event_file: IO[str] = (run_dir / "events.jsonl").open("a", buffering=1)
        self._changed = asyncio.Event()
        self._numbers = {a.name: k for k, a in enumerate(scenario.accesses, 1)}
        self._ue_ends: dict[str, tuple[int, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugged: dict[str, asyncio.Future[None]] = {}
        self._tampers: list[Process] = []
        self._n1_relay: Process | None = None
        self.crafting: Any = None
        """what lab.attack remembers of this lab (a lab.craft.Craft)"""
        self._stderr: dict[str, Path] = {}
        self.trouble = ""
        """why the run directory is not whole: the disk is full, and the like"""

    def _wires(self, scenario: Scenario) -> Wires | NetemWires:
        return NetemWires(lambda: self.topology.netns["wires"]) if scenario.wire == "netem" else Wires(scenario.seed)

    def now(self) -> float:
        return time.monotonic() - self.start

    # ---- up and down

    async def up(self) -> None:
        if self.scenario.wire == "netem":
            await asyncio.to_thread(netem_required)
        await self._networks()
        for name, number in self._numbers.items():
            self._ue_ends[name] = await asyncio.to_thread(self.topology.ue_access_plug, number)
        if self.scenario.capture:
            await self._capture_start()
        self._configs = write_configs(self.scenario, self._state_dir, self.run_dir, keys=self.captures.logging)
        await self._tamper()
        await self._spawn("amf")
        await self._ready("amf")
        await self._spawn("upf")
        await self._spawn("smf")
        await self._ready("upf")
        for name in self._numbers:
            try:
                async with asyncio.timeout(NODE_TIMEOUT):
                    await self._plugged[name]
            except TimeoutError:
                raise LabError(f"upf: no namespace for access {name} after {NODE_TIMEOUT:g} s{self._last_words('upf')}") from None
        self.wires.start()
        await self._ready("smf")
        await self._spawn("ue")
        await self._ready("ue")
        await self.wait_event("ue", "connection_ready", SESSION_TIMEOUT, give_up=self._key_refused)
        if len(self.scenario.accesses) > 1:
            await self.wait_event("ue", "path_validated", SESSION_TIMEOUT, count=2)
        self.event("lab", "up")

    async def _capture_start(self) -> None:
        ring = self.scenario.ring
        name = self.run_dir / (RAW_NAME if ring is None else RING_STEM)
        self.capture = Capture(name, ring=ring, keys=ring is not None)
        for port in of_a_run(await self._ports()):
            self.capture.add(port)
        self.capture.start()
        self._capture_began()
        self.capture.window(True, self.now())
        if ring is not None:
            self.capture.window(True, self.now())  # and nobody closes this one
            self._ring_tail = KeyTail(self.run_dir / KEYLOG_NAME)
            task = asyncio.create_task(self._ring_keys(self.capture))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ring_keys(self, capture: Capture) -> None:
        while self.capture is capture:
            self._ring_secrets(capture)
            await asyncio.sleep(WATCH_S)

    def _ring_secrets(self, capture: Capture) -> None:
        """Each file of a ring has the secrets so far; the one file of a run gets them afterwards (lab.capture_compose)."""
        if self._ring_tail is not None and (lines := self._ring_tail.read()):
            try:
                capture.secrets(lines)
            except LabError as error:
                self.trouble = self.trouble or str(error)

    def _capture_began(self) -> None:
        """What ties the clock of captures to that of the events."""
        self.event("lab", "capture_started", unix_ns=time.time_ns())

    async def _ports(self) -> list[Port]:
        return await asyncio.to_thread(ports, self.topology, list(self._numbers))

    async def live_capture(self, args: dict[str, Any]) -> dict[str, Any]:
        """`mpq capture`: the figures of a capture that is over. It is over, too, when nobody waits for it any more."""
        request = Request.of(args)
        earlier = self.captures.logging
        if request.keys == "yes" and not earlier:
            await self.captures.log_keys(list(self.nodes), self.ask)
        one = self.captures.open(request, await self._ports())
        self._capture_began()
        figures = await self.captures.run(one)
        self.event("lab", "captured", **{k: v for k, v in figures.items() if k != "interfaces"})
        return {**figures, "keys_from_the_start": earlier}

    async def _networks(self) -> None:
        """A thread makes them: also when nobody waits any more, taking them down must not overtake it."""
        building = asyncio.ensure_future(asyncio.to_thread(self.topology.build))
        try:
            await asyncio.shield(building)
        except asyncio.CancelledError:
            await asyncio.wait([building])
            raise
        except (NodeError, NetlinkError) as error:
            raise LabError(f"the lab's networks cannot be made: {error} (`mpq doctor` says what is missing)") from None

    async def _ready(self, name: str) -> None:
        try:
            await self.nodes[name].ready(NODE_TIMEOUT)
        except (ControlError, NodeError) as error:
            raise LabError(f"{error}{self._last_words(name)}") from None

    def _last_words(self, name: str) -> str:
        path = self._stderr.get(name)
        if path is None or not path.exists():
            return ""
        text = path.read_text(errors="replace")[-LONGEST_STDERR:].strip()
        return f"\n{text}" if text else ""

    async def _spawn(self, name: str) -> None:
        assert self._configs is not None
        path = self._stderr[name] = self.run_dir / f"{name}.stderr"
        with path.open("ab") as stderr:
            self.nodes[name] = await NodeHandle.spawn(
                name,
                MODULES[name],
                getattr(self._configs, name),
                netns=self.topology.netns[PLACES[name]],
                on_event=lambda event, t, fields: self._node_event(name, event, t, fields),
                on_netns=self._access_handed_over,
                stderr=stderr,
            )
        if name == "upf":
            loop = asyncio.get_running_loop()
            self._plugged = {a: loop.create_future() for a in self._numbers}

    def _access_handed_over(self, info: dict[str, Any], fd: int) -> None:
        task = asyncio.create_task(self._plug(str(info.get("access")), fd))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _plug(self, name: str, fd: int) -> None:
        """An access namespace of the UPF: the wire's other end and N1 go into it; then the UPF opens its socket there."""
        future = self._plugged.get(name)
        try:
            number = self._numbers[name]
            upf_end = await asyncio.to_thread(self.topology.access_plug, name, number, fd)
            access = self.scenario.accesses[number - 1]
            self.wires.add(name, self._ue_ends[name], upf_end, access.up, access.down)
            await self.nodes["upf"].request("access_ready", {"access": name})
        except Exception as error:
            if future is not None and not future.done():
                future.set_exception(LabError(f"access {name}: {error}"))
            return
        finally:
            os.close(fd)
        if future is not None and not future.done():
            future.set_result(None)

    async def _tamper(self) -> None:
        """Men in the middle that the scenario asks for; the nodes' configurations point at them already."""
        core = self.topology.netns["core"]
        for item in self.scenario.tamper:
            where, _, what = item.partition(":")
            if where == "n4":
                jobs = [["n4", "--listen", f"{TAMPER_N4}:8805", "--to", f"{UPF_N4}:8805", "--what", what]]
            else:
                first, _, count = what.partition("+")
                extra = ["--count", count] if count else []
                job = ["n1", "--from-message", str(NEVER) if first == "none" else first, *extra]
                for port in (N1_PORTS[a.type] for a in self.scenario.accesses):
                    job += ["--listen", f"{AMF}:{port + TAMPER_N1_OFFSET}", "--to", f"{AMF}:{port}"]
                jobs = [job]
            for job in jobs:
                process = await Process.python("lab.tamper", job, core, stdin=subprocess.PIPE)
                self._tampers.append(process)
                if where == "n1":
                    self._n1_relay = process
                await process.line(NODE_TIMEOUT)
                task = asyncio.create_task(self._tampered(process))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _tampered(self, process: Process) -> None:
        """What a man in the middle flipped is an event: a test must know that its octet was hit."""
        async for report in process.lines():
            fields = json.loads(report)
            self.event("tamper", next((e for e in ("injected", "not_injected") if e in fields), "flipped"), **fields)

    async def n1_inject(self, port: int, uplink: bool, pdu: bytes) -> None:
        """A NAS PDU between those of UE and AMF, on the access with this port."""
        if self._n1_relay is None:
            raise Misuse('N1 is reached through its relay: the scenario needs tamper: ["n1:none"]')
        seen = self.count_events("tamper", "injected")
        self._n1_relay.tell(json.dumps({"port": port, "uplink": uplink, "pdu": pdu.hex()}).encode())
        await self.wait_event("tamper", "injected", INJECT_TIMEOUT, count=seen + 1)

    async def craft(self, name: str, *, canary: bool = False) -> dict[str, Any]:
        """An attack of `lab.attack` on this lab; LabError when what must happen did not happen."""
        attack = await asyncio.to_thread(importlib.import_module, "lab.attack")  # scapy is slow to load
        self.event("lab", "attack", attack=name, canary=canary)
        outcome: dict[str, Any] = await attack.run(self, name, canary=canary)
        self.event("lab", "attacked", **{k: v for k, v in outcome.items() if k != "rose"})
        return outcome

    async def down(self) -> None:
        for name in ("ue", "upf", "smf", "amf"):
            node = self.nodes.pop(name, None)
            if node is not None:
                await node.stop(2.0)
        for process in self._tampers:
            process.kill()
        self.captures.close()
        if self.capture is not None:
            capture, self.capture = self.capture, None
            self._ring_secrets(capture)
            self.capture_stats = await asyncio.to_thread(capture.stop, self.now())
        self._wires_counted()
        self.wires.close()
        await asyncio.to_thread(self.topology.close)
        try:
            self._event_file.close()
        except OSError as error:
            self.not_written("events.jsonl", error)

    def _wires_counted(self) -> None:
        """What the wires dropped in all: no sample has what was dropped after it, when the nodes take their leave."""
        try:
            counts = dropped(self.wires.stats())
        except (LabError, NodeError, NetlinkError, OSError, KeyError) as error:      # of a lab that did not come up
            self.event("lab", "wires_not_counted", error=str(error))
        else:
            self.event("lab", "wires_counted", wires=counts)

    # ---- events

    def _node_event(self, node: str, event: str, t: float, fields: dict[str, Any]) -> None:
        self._record(t - self.start, node, event, fields)

    def event(self, node: str, event: str, **fields: Any) -> None:
        self._record(self.now(), node, event, fields)

    def _record(self, t: float, node: str, event: str, fields: dict[str, Any]) -> None:
        entry = {"t": round(t, 6), "node": node, "event": event, **fields}
        self.events.append(entry)
        if not self._event_file.closed:
            try:
                self._event_file.write(json.dumps(entry) + "\n")
            except OSError as error:  # the lab goes on; the run says that it failed
                self.not_written("events.jsonl", error)
        self._changed.set()

    def not_written(self, name: str, error: OSError) -> None:
        self.trouble = self.trouble or f"{self.run_dir / name}: {error.strerror}"

    def count_events(self, node: str, event: str) -> int:
        return self.events.count(node, event)

    def _key_refused(self) -> str:
        """Why no connection will come, when a node refused the session's key and no other one repaired that."""
        refusal = self.events.first("key_refused")
        if refusal is None or self.now() < refusal["t"] + KEY_REPAIR_S:
            return ""
        return f"key refused: {refusal['node']} refused the key of generation {refusal.get('generation')}" + (
            f" ({refusal['reason']})" if refusal.get("reason") else ""
        )

    async def wait_event(
        self, node: str, event: str, limit: float, *, count: int = 1, give_up: Callable[[], str] = str
    ) -> dict[str, Any]:
        """The count-th event of this name; LabError when it does not come in time, the node ends, or `give_up` says why."""
        deadline = time.monotonic() + limit
        while True:
            if (found := self.events.number(node, event, count)) is not None:
                return found
            handle = self.nodes.get(node)
            if handle is not None and handle.exited.done():
                raise LabError(f"{node} ended while waiting for {event}{self._last_words(node)}")
            if why := give_up():
                raise LabError(why)
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, min(WAKE_S, deadline - time.monotonic()))):
                    await self._changed.wait()
            except TimeoutError:
                if time.monotonic() >= deadline:
                    seen = ", ".join(f"{e['node']}.{e['event']}" for e in self.events.last(8))
                    raise LabError(f"{node}: no event {event} after {limit:g} s; last were {seen}") from None

    # ---- what a user asks for

    async def ask(self, node: str, verb: str, args: dict[str, Any] | None = None, limit: float = 20.0) -> Any:
        handle = self.nodes.get(node)
        if handle is None:
            raise Misuse(f"{node}: there is no such node; there are {', '.join(self.nodes)}")
        try:
            return await handle.request(verb, args, limit)
        except (ControlError, VerbError) as error:
            raise LabError(f"{node}: {error}") from None

    def access(self, name: str) -> str:
        if name not in self._numbers:
            raise Misuse(f"{name}: there is no such access; there are {', '.join(self._numbers)}")
        return name

    def cut(self, name: str, *, link_down: bool = False) -> None:
        if link_down:
            self._links(self.access(name), up=False)
        else:
            self.wires.cut(self.access(name), True)
        self.event("lab", "cut", access=name, link_down=link_down)

    def restore(self, name: str) -> None:
        wire_t = self.now()
        self.wires.cut(self.access(name), False)
        self._links(name, up=True)
        self.topology.ue_access_route(self._numbers[name])
        self.event("lab", "restore", access=name, wire_t=round(wire_t, 6))

    def rebind(self, name: str) -> int:
        """A NAT at the UE's end forgets its binding: the proxy sees the UE's packets come from another port, and the UE knows
        nothing of it. Returns the port."""
        first, last = NAT_PORTS
        self._nat_port = first if not self._nat_port or self._nat_port >= last else self._nat_port + 1
        self.wires.rebind(self.access(name), PROXY_PORT, self._nat_port)
        self.event("lab", "rebind", access=name, port=self._nat_port)
        return self._nat_port

    async def key_update(self, by: str) -> None:
        """QUIC's own key update (RFC 9001 §6): no new key from the core."""
        if by != "ue":
            raise Misuse(f"{by}: a key update is begun by ue")
        self.event("lab", "key_update", by=by)
        await self.ask("ue", "key_update")

    def _links(self, name: str, *, up: bool) -> None:
        self.topology.link("ue", AccessAddresses(self._numbers[name]).device, up)

    def shape(self, name: str, change: dict[str, Any]) -> None:
        """`change`: a `wire:` as in a scenario, over what holds now; a trace in it begins now."""
        self.wires.change(self.access(name), change)
        self.event("lab", "shape", access=name, change=change)

    async def rekey(self, by: str) -> dict[str, Any]:
        self.event("lab", "rekey", by=by)
        if by == "core":
            args = {"supi": SUPI, "pdu_session_id": self.scenario.session.id, "reason": "POLICY"}
            return dict(await self.ask("amf", "rekey", args))
        if by == "ue":
            return dict(await self.ask("ue", "rekey"))
        raise Misuse(f"{by}: a re-key is asked for by core or ue")

    def kill(self, node: str) -> None:
        self.nodes[node].kill()
        self.event("lab", "kill", target=node)

    async def status(self) -> dict[str, Any]:
        nodes: dict[str, Any] = {}
        for name in self.nodes:
            try:
                nodes[name] = await self.ask(name, "status", limit=3.0)
            except LabError as error:
                nodes[name] = {"error": str(error)}
        return {
            "lab": self.name,
            "scenario": self.scenario.name,
            "run": str(self.run_dir),
            "uptime_s": round(self.now(), 1),
            "wire_realtime": self.wires.realtime,
            "nodes": nodes,
            "wires": self.wires.stats(),
            "captures": self.captures.status(),
            "paths": await self._asked("ue", "paths"),
        }

    async def top(self) -> dict[str, Any]:
        """What changes from second to second, of both ends at once; `{"error": ...}` in place of what one does not answer."""
        asked = [("ue", "paths"), ("upf", "paths"), ("ue", "status"), ("ue", "metrics"), ("upf", "metrics")]
        answers = await asyncio.gather(*(self._asked(node, verb) for node, verb in asked))
        ue, upf, status, ue_counters, upf_counters = answers
        return {
            "t": self.now(),
            "lab": self.name,
            "scenario": self.scenario.name,
            "accesses": [access.name for access in self.scenario.accesses],
            "cut": [name for name, wire in self.wires.stats().items() if wire["cut"]],
            "paths": {"ue": ue, "upf": upf},
            "key": status.get("key"),
            "counters": {"ue": ue_counters.get("engine", {}), "upf": upf_counters.get("engine", {})},
        }

    async def _asked(self, node: str, verb: str) -> Any:
        try:
            return await self.ask(node, verb, limit=3.0)
        except LabError as error:
            return {"error": str(error)}

    async def run_command(self, place: str, command: list[str], limit: float) -> dict[str, Any]:
        """`mpq exec`: a command in a namespace; its output comes back whole."""
        netns = self.topology.netns.get(place)
        if netns is None:
            known = ", ".join(n for n in self.topology.netns if n != "wires")
            raise Misuse(f"{place}: there is no such place; there are {known}")
        try:
            mark = {MARK: state_mark(os.getpid(), start_time(os.getpid()))}
            process = await Process.start(command, netns, stderr=subprocess.PIPE, mark=mark)
        except OSError as error:
            raise LabError(f"{command[0]}: {error.strerror}") from None
        out, err, code = await process.finish(limit)
        return {"stdout": out.decode(errors="replace"), "stderr": err.decode(errors="replace"), "code": code}
