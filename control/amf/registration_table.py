"""Registration over one N1 connection as a table (TS 24.501 §5.4, §5.5.1; TS 33.501 §6.1.3.2).

REGISTRATION REQUEST ─► [IDENTITY] ─► AUTHENTICATION ─► SECURITY MODE ─► REGISTRATION ACCEPT ─► COMPLETE
                    └─ with the UE's valid security context (second access): straight to ACCEPT ─┘
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    DEREGISTERED = auto()
    IDENTIFYING = auto()
    AUTHENTICATING = auto()
    SECURING = auto()
    ACCEPTING = auto()
    REGISTERED = auto()
    CLOSED = auto()


class Event(Enum):
    REQUEST_WITH_SUCI = auto()
    REQUEST_WITH_CONTEXT = auto()
    """5G-GUTI of ours, and the MAC verifies under its context"""
    REQUEST_UNKNOWN = auto()
    """an identity that we cannot resolve, or a MAC that is wrong"""
    IDENTITY = auto()
    RES_RIGHT = auto()
    RES_WRONG = auto()
    SYNC_FAILURE = auto()
    OTHER_FAILURE = auto()
    SECURED = auto()
    SECURITY_REFUSED = auto()
    COMPLETED = auto()
    DEREGISTERED = auto()
    TIMER = auto()
    GAVE_UP = auto()
    """the timer has run out for the last time"""


class Action(Enum):
    IGNORE = auto()
    CHALLENGE = auto()
    RESYNCHRONISE = auto()
    ASK_IDENTITY = auto()
    COMMAND_SECURITY = auto()
    ACCEPT = auto()
    FINISH = auto()
    REJECT_AUTHENTICATION = auto()
    REPEAT = auto()
    ABORT = auto()
    RELEASE = auto()


_REQUESTS = {
    Event.REQUEST_WITH_SUCI: (State.AUTHENTICATING, Action.CHALLENGE),
    Event.REQUEST_WITH_CONTEXT: (State.ACCEPTING, Action.ACCEPT),
    Event.REQUEST_UNKNOWN: (State.IDENTIFYING, Action.ASK_IDENTITY),
}
_WAITING = (State.IDENTIFYING, State.AUTHENTICATING, State.SECURING, State.ACCEPTING)

TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    # A registration request always starts anew: the UE has given up what was under way (§5.5.1.2.8 e).
    **{(state, event): result for state in State if state is not State.CLOSED for event, result in _REQUESTS.items()},
    (State.IDENTIFYING, Event.IDENTITY): (State.AUTHENTICATING, Action.CHALLENGE),
    (State.AUTHENTICATING, Event.RES_RIGHT): (State.SECURING, Action.COMMAND_SECURITY),
    (State.AUTHENTICATING, Event.RES_WRONG): (State.CLOSED, Action.REJECT_AUTHENTICATION),
    (State.AUTHENTICATING, Event.SYNC_FAILURE): (State.AUTHENTICATING, Action.RESYNCHRONISE),
    (State.AUTHENTICATING, Event.OTHER_FAILURE): (State.CLOSED, Action.REJECT_AUTHENTICATION),
    (State.SECURING, Event.SECURED): (State.ACCEPTING, Action.ACCEPT),
    (State.SECURING, Event.SECURITY_REFUSED): (State.CLOSED, Action.ABORT),
    (State.ACCEPTING, Event.COMPLETED): (State.REGISTERED, Action.FINISH),
    **{(state, Event.TIMER): (state, Action.REPEAT) for state in _WAITING},
    **{(state, Event.GAVE_UP): (State.CLOSED, Action.ABORT) for state in _WAITING},
    (State.DEREGISTERED, Event.GAVE_UP): (State.CLOSED, Action.ABORT),
    (State.ACCEPTING, Event.DEREGISTERED): (State.DEREGISTERED, Action.RELEASE),
    (State.REGISTERED, Event.DEREGISTERED): (State.DEREGISTERED, Action.RELEASE),
}
"""What is not here is ignored and counted: an IDENTITY RESPONSE or an AUTS that nobody asked for (R-105, R-111)."""


def step(state: State, event: Event) -> tuple[State, Action]:
    return TABLE.get((state, event), (state, Action.IGNORE))
