"""The MA PDU session at the UE, as a table (TS 24.501 §6.1.3.2, §6.4.1; TS 24.193 §5.2)."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    INACTIVE = auto()
    REQUESTED = auto()
    ACTIVE = auto()


class Event(Enum):
    WANTED = auto()
    ACCEPTED = auto()
    REJECTED = auto()
    NOT_FORWARDED = auto()
    TIMER = auto()
    GAVE_UP = auto()
    """the timer has run out for the last time"""
    MODIFIED = auto()
    RELEASED = auto()
    CONTEXT_LOST = auto()
    """the network knows nothing of us any more"""


class Action(Enum):
    IGNORE = auto()
    REQUEST = auto()
    """with a new PTI"""
    REPEAT = auto()
    ACCEPT = auto()
    ACCEPT_AGAIN = auto()
    """the answer to our request over the second access"""
    TRY_LATER = auto()
    MODIFY = auto()
    RELEASE = auto()


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.INACTIVE, Event.WANTED): (State.REQUESTED, Action.REQUEST),
    (State.REQUESTED, Event.TIMER): (State.REQUESTED, Action.REPEAT),
    (State.REQUESTED, Event.ACCEPTED): (State.ACTIVE, Action.ACCEPT),
    (State.REQUESTED, Event.REJECTED): (State.INACTIVE, Action.TRY_LATER),
    (State.REQUESTED, Event.NOT_FORWARDED): (State.INACTIVE, Action.TRY_LATER),
    (State.REQUESTED, Event.GAVE_UP): (State.INACTIVE, Action.TRY_LATER),
    (State.REQUESTED, Event.CONTEXT_LOST): (State.INACTIVE, Action.TRY_LATER),
    (State.ACTIVE, Event.ACCEPTED): (State.ACTIVE, Action.ACCEPT_AGAIN),
    (State.ACTIVE, Event.MODIFIED): (State.ACTIVE, Action.MODIFY),
    (State.ACTIVE, Event.RELEASED): (State.INACTIVE, Action.RELEASE),
    (State.REQUESTED, Event.RELEASED): (State.INACTIVE, Action.RELEASE),
    (State.ACTIVE, Event.CONTEXT_LOST): (State.INACTIVE, Action.RELEASE),
}


def step(state: State, event: Event) -> tuple[State, Action]:
    return TABLE.get((state, event), (state, Action.IGNORE))
