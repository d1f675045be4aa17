"""Steps 2 to 6 of the procedure for one session, as a table: who asked, what the AMF answered, what the UPF and the UE have.

One procedure at a time: who asks while one runs joins it. The old key stays in force until UPF and UE have the new one;
whatever fails takes the new key back and leaves the old one (R-126).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from control.errors import ControlPlaneError, PfcpUnreachable, ProcedureFailed
from fiveg.keys import fingerprint
from fiveg.pfcp.errors import PfcpError
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import KeyReason, MpquicKeyCreatedData
from node.counters import Counters
from node.events import Events


class State(Enum):
    NO_KEY = auto()
    ASKING = auto()
    """step 3 is on its way"""
    INSTALLING = auto()
    """5a is here, step 6 on its way"""
    DELIVERING = auto()
    """the UPF has the key, the UE has not said so yet"""
    IN_FORCE = auto()
    """both have it"""
    CLOSED = auto()


class Event(Enum):
    ASKED = auto()
    ANSWERED = auto()
    REFUSED = auto()
    INSTALLED = auto()
    NOT_INSTALLED = auto()
    UE_HAS_IT = auto()
    UE_HAS_IT_NOT = auto()
    RELEASED = auto()


class Action(Enum):
    NONE = auto()
    ASK_AMF = auto()
    INSTALL = auto()
    AWAIT_UE = auto()
    DONE = auto()
    GIVE_UP = auto()
    """the AMF forgets the new key"""
    TAKE_BACK = auto()
    """the UPF forgets the new key, and the AMF"""
    END = auto()


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.NO_KEY, Event.ASKED): (State.ASKING, Action.ASK_AMF),
    (State.IN_FORCE, Event.ASKED): (State.ASKING, Action.ASK_AMF),
    (State.DELIVERING, Event.ASKED): (State.ASKING, Action.ASK_AMF),
    (State.ASKING, Event.ANSWERED): (State.INSTALLING, Action.INSTALL),
    (State.ASKING, Event.REFUSED): (State.NO_KEY, Action.NONE),
    (State.INSTALLING, Event.INSTALLED): (State.DELIVERING, Action.AWAIT_UE),
    (State.INSTALLING, Event.NOT_INSTALLED): (State.NO_KEY, Action.GIVE_UP),
    (State.DELIVERING, Event.UE_HAS_IT): (State.IN_FORCE, Action.DONE),
    (State.DELIVERING, Event.UE_HAS_IT_NOT): (State.NO_KEY, Action.TAKE_BACK),
    **{(state, Event.RELEASED): (State.CLOSED, Action.END) for state in State},
}
"""What is not here changes nothing. Where NO_KEY follows, what was before is so again (`_settle`): a key whose delivery
was under way when the AMF refused the next one, or the key in force."""

VERDICTS_KEPT = 4


class KeyOperations(Protocol):
    """What the procedure needs done; each raises when it is not done."""

    async def ask_amf(self, reason: KeyReason, held: int) -> MpquicKeyCreatedData: ...
    async def install_at_upf(self, generation: int, key: bytes, lifetime: int) -> None: ...
    async def revoke_at_upf(self, generation: int) -> None: ...
    async def revoke_at_amf(self, generation: int) -> None: ...


@dataclass(slots=True)
class Run:
    """One procedure. `answered`: 5a is here; `installed`: step 6 is done. Both hold the generation, or an error."""

    reason: KeyReason
    answered: asyncio.Future[int]
    installed: asyncio.Future[int]
    generation: int = 0
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def fail(self, error: ProcedureFailed) -> None:
        for future in (self.answered, self.installed):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody need be waiting


class KeyProcedure:
    def __init__(self, operations: KeyOperations, events: Events, counters: Counters) -> None:
        self._operations, self._events, self._counters = operations, events, counters
        self.state = State.NO_KEY
        self.in_force = 0
        """generation that UPF and UE have; 0 none"""
        self.held = 0
        """newest generation at the UPF that was not taken back"""
        self.fingerprint = ""
        """of the key `held`"""
        self._fingerprint_in_force = ""
        self._run: Run | None = None
        self._delivering: Run | None = None
        """installed, its verdict open, when the next one was asked for"""
        self._verdicts: dict[int, Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, reason: KeyReason) -> Run:
        """Ask for a key, or join who is asking."""
        if self.state is State.CLOSED:
            raise ProcedureFailed("the session is released")
        if self._run is not None and self.state in (State.ASKING, State.INSTALLING):
            self._counters.inc("key.joined")
            return self._run
        loop = asyncio.get_running_loop()
        self._delivering = self._run if self.state is State.DELIVERING else None
        run = self._run = Run(reason, loop.create_future(), loop.create_future())
        self._step(Event.ASKED)
        run.task = self._spawn(self._do(run))
        return run

    def ue_verdict(self, generation: int, has_it: bool) -> None:
        """The AMF says what the UE said of a generation. It may come before 5a is through: it is kept until then."""
        run = self._run
        if run is None or (run.generation and generation != run.generation) or generation <= self.in_force:
            self._counters.inc("key.stale_verdict")
            return
        self._verdicts[generation] = Event.UE_HAS_IT if has_it else Event.UE_HAS_IT_NOT
        while len(self._verdicts) > VERDICTS_KEPT:
            del self._verdicts[min(self._verdicts)]
        if self.state is State.DELIVERING:
            self._judge(run)

    def in_use(self, generation: int) -> None:
        """The UPF says that a connection of this key is confirmed: the UE has it, whatever became of the AMF's word."""
        if self.state is State.DELIVERING and self._run is not None and self._run.generation == generation:
            self._counters.inc("key.verdict_by_use")
            self.ue_verdict(generation, True)

    def close(self) -> None:
        self._step(Event.RELEASED)
        run, self._run, self._delivering = self._run, None, None
        if run is not None:
            run.fail(ProcedureFailed("the session is released"))
        for task in list(self._tasks):
            task.cancel()

    # ---- the work of one run

    async def _do(self, run: Run) -> None:
        try:
            await self._obtain(run)
        except Exception as e:  # a fault of ours: the procedure ends, the next one is not kept waiting for it
            event = Event.REFUSED if self.state is State.ASKING else Event.NOT_INSTALLED
            self._failed(run, event, "fault", f"a fault of the SMF: {type(e).__name__}")

    async def _obtain(self, run: Run) -> None:
        """Steps 3 to 6."""
        try:
            data = await self._operations.ask_amf(run.reason, self.held)
        except (SbiError, ControlPlaneError) as e:
            self._failed(run, Event.REFUSED, "amf_refused", f"the AMF gives no key: {e}")
            return
        run.generation = data.generation
        self._delivering = None  # the AMF has let the one before go
        run.answered.set_result(data.generation)
        self._step(Event.ANSWERED)
        try:
            await self._operations.install_at_upf(data.generation, data.key, data.lifetime)
        except (ControlPlaneError, PfcpError) as e:
            self._failed(run, Event.NOT_INSTALLED, "upf_refused", f"the UPF does not take the key: {e}")
            if isinstance(e, PfcpUnreachable):  # its answer may be what was lost: then the UPF has the key
                await self._quietly(self._operations.revoke_at_upf(data.generation))
            await self._quietly(self._operations.revoke_at_amf(data.generation))
            return
        self.held = data.generation
        self.fingerprint = fingerprint(data.key)
        self._step(Event.INSTALLED)
        run.installed.set_result(data.generation)
        self._judge(run)

    def _judge(self, run: Run) -> None:
        verdict = self._verdicts.pop(run.generation, None)
        if verdict is None:
            return
        self._verdicts = {g: v for g, v in self._verdicts.items() if g > run.generation}
        action = self._step(verdict)
        if action is Action.DONE:
            renewed = self.in_force > 0
            self.in_force, self._fingerprint_in_force = run.generation, self.fingerprint
            if renewed:
                self._events.emit("rekey_done", generation=run.generation, fingerprint=self.fingerprint)
        elif action is Action.TAKE_BACK:
            self._counters.inc("key.taken_back")
            self._events.emit("key_refused", generation=run.generation, by="ue")
            self.held, self.fingerprint = self.in_force, self._fingerprint_in_force
            self._settle()
            self._spawn(self._take_back(run.generation))

    async def _take_back(self, generation: int) -> None:
        await self._quietly(self._operations.revoke_at_upf(generation))
        await self._quietly(self._operations.revoke_at_amf(generation))

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except (SbiError, ControlPlaneError, PfcpError):
            self._counters.inc("key.revocation_failed")

    def _failed(self, run: Run, event: Event, name: str, text: str) -> None:
        self._counters.inc(f"key.{name}")
        self._events.emit("key_refused", reason=name, generation=run.generation)
        self._step(event)
        self._settle()
        run.fail(ProcedureFailed(text))

    def _settle(self) -> None:
        """Back to the delivery that the failed procedure interrupted, or to the key that is in force, if there is one."""
        if self.state is not State.NO_KEY:
            return
        if self._delivering is not None:
            self._run, self._delivering, self.state = self._delivering, None, State.DELIVERING
            self._judge(self._run)
        elif self.in_force:
            self.state = State.IN_FORCE

    def _step(self, event: Event) -> Action:
        self.state, action = TABLE.get((self.state, event), (self.state, Action.NONE))
        return action

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
