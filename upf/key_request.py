"""When a session asks for a key (step 2 of the procedure), as a table: one request in flight, an answer awaited for a bounded
time, and a back-off that doubles, so that neither a silent SMF nor a hostile UE makes the UPF ask in a loop (R-141)."""

from __future__ import annotations

from enum import Enum, auto

from fiveg.pfcp.codes import KeyReason

KEY_WAIT = 10.0
"""Seconds from the SMF's acceptance until the key must be there."""
BACKOFF_FIRST = 1.0
BACKOFF_LONGEST = 60.0


class State(Enum):
    IDLE = auto()
    ASKING = auto()
    """the report is in flight"""
    WAITING = auto()
    """accepted, the key is due"""
    BACKOFF = auto()


class Event(Enum):
    NEED = auto()
    NEED_SOON = auto()
    """the last request was a moment ago: its key did not last"""
    ACCEPTED = auto()
    REFUSED = auto()
    KEY = auto()
    TIMER = auto()


class Action(Enum):
    NONE = auto()
    ASK = auto()
    AWAIT = auto()
    BACK_OFF = auto()
    DONE = auto()


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.IDLE, Event.NEED): (State.ASKING, Action.ASK),
    (State.IDLE, Event.NEED_SOON): (State.BACKOFF, Action.BACK_OFF),
    (State.ASKING, Event.ACCEPTED): (State.WAITING, Action.AWAIT),
    (State.ASKING, Event.REFUSED): (State.BACKOFF, Action.BACK_OFF),
    (State.ASKING, Event.KEY): (State.IDLE, Action.DONE),
    (State.WAITING, Event.KEY): (State.IDLE, Action.DONE),
    (State.WAITING, Event.TIMER): (State.BACKOFF, Action.BACK_OFF),
    (State.BACKOFF, Event.TIMER): (State.ASKING, Action.ASK),
    (State.BACKOFF, Event.KEY): (State.IDLE, Action.DONE),
}
"""What is not here changes nothing: a second need while one is asked for, an answer that comes after the key."""


class KeyRequester:
    """The request of one session. `step` says whether a report is to be sent now."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.reason = KeyReason.INITIAL
        self.due: float | None = None
        self._backoff = BACKOFF_FIRST
        self._asked: float | None = None

    def need(self, reason: KeyReason, now: float) -> bool:
        if self.state is State.IDLE:
            self.reason = reason
        passed = None if self._asked is None else now - self._asked
        if passed is None or passed > BACKOFF_LONGEST:
            self._backoff = BACKOFF_FIRST
        return self.step(Event.NEED if passed is None or passed >= self._backoff else Event.NEED_SOON, now)

    def step(self, event: Event, now: float) -> bool:
        self.state, action = TABLE.get((self.state, event), (self.state, Action.NONE))
        match action:
            case Action.ASK:
                self.due, self._asked = None, now
            case Action.AWAIT:
                self.due = now + KEY_WAIT
            case Action.BACK_OFF:
                self.due = now + self._backoff
                self._backoff = min(2 * self._backoff, BACKOFF_LONGEST)
            case Action.DONE:
                self.due = None
            case Action.NONE:
                pass
        return action is Action.ASK
