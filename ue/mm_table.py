"""Registration over one access as a table (TS 24.501 §5.4, §5.5.1), the UE's side.

    DEREGISTERED ─link─► REGISTERING ─challenge─► CHALLENGED ─command─► SECURED ─accept─► REGISTERED
                              └──────────── with a context (second access) ──── accept ──────┘
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    DEREGISTERED = auto()
    REGISTERING = auto()
    """the request is out, plain or with the integrity of a context that the UE has"""
    CHALLENGED = auto()
    """RES* is out"""
    SECURED = auto()
    """SECURITY MODE COMPLETE is out"""
    REGISTERED = auto()


class Event(Enum):
    LINK_UP = auto()
    LINK_LOST = auto()
    IDENTITY_REQUEST = auto()
    CHALLENGE = auto()
    CHALLENGE_REFUSED = auto()
    """wrong MAC, separation bit 0, or SQN not fresh: the failure is told"""
    SECURITY_COMMAND = auto()
    SECURITY_REFUSED = auto()
    ACCEPT = auto()
    REJECT = auto()
    """of the registration, or of the authentication"""
    NETWORK_DEREGISTERS = auto()
    TIMER = auto()
    """T3510: the registration takes too long"""


class Action(Enum):
    IGNORE = auto()
    REQUEST = auto()
    IDENTIFY = auto()
    ANSWER = auto()
    FAIL = auto()
    SECURE = auto()
    REFUSE_SECURITY = auto()
    COMPLETE = auto()
    COMPLETE_AGAIN = auto()
    FORGET_CONTEXT = auto()
    ABORT = auto()
    LEAVE = auto()
    CLEAR = auto()


_UNDER_WAY = (State.REGISTERING, State.CHALLENGED, State.SECURED)
_ALL = (*_UNDER_WAY, State.REGISTERED)

TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.DEREGISTERED, Event.LINK_UP): (State.REGISTERING, Action.REQUEST),
    (State.REGISTERING, Event.IDENTITY_REQUEST): (State.REGISTERING, Action.IDENTIFY),
    (State.REGISTERING, Event.CHALLENGE): (State.CHALLENGED, Action.ANSWER),
    (State.CHALLENGED, Event.CHALLENGE): (State.CHALLENGED, Action.ANSWER),
    (State.REGISTERED, Event.CHALLENGE): (State.REGISTERED, Action.ANSWER),
    (State.REGISTERING, Event.CHALLENGE_REFUSED): (State.REGISTERING, Action.FAIL),
    (State.CHALLENGED, Event.CHALLENGE_REFUSED): (State.REGISTERING, Action.FAIL),
    (State.REGISTERED, Event.CHALLENGE_REFUSED): (State.REGISTERED, Action.FAIL),
    (State.CHALLENGED, Event.SECURITY_COMMAND): (State.SECURED, Action.SECURE),
    (State.SECURED, Event.SECURITY_COMMAND): (State.SECURED, Action.SECURE),
    (State.REGISTERED, Event.SECURITY_COMMAND): (State.REGISTERED, Action.SECURE),
    (State.CHALLENGED, Event.SECURITY_REFUSED): (State.CHALLENGED, Action.REFUSE_SECURITY),
    (State.REGISTERED, Event.SECURITY_REFUSED): (State.REGISTERED, Action.REFUSE_SECURITY),
    (State.REGISTERING, Event.ACCEPT): (State.REGISTERED, Action.COMPLETE),
    (State.SECURED, Event.ACCEPT): (State.REGISTERED, Action.COMPLETE),
    (State.REGISTERED, Event.ACCEPT): (State.REGISTERED, Action.COMPLETE_AGAIN),
    **{(state, Event.REJECT): (State.DEREGISTERED, Action.FORGET_CONTEXT) for state in _UNDER_WAY},
    (State.REGISTERED, Event.NETWORK_DEREGISTERS): (State.DEREGISTERED, Action.LEAVE),
    **{(state, Event.TIMER): (State.DEREGISTERED, Action.ABORT) for state in _UNDER_WAY},
    **{(state, Event.LINK_LOST): (State.DEREGISTERED, Action.CLEAR) for state in _ALL},
}
"""What is not here is ignored and counted: a challenge after the SECURITY MODE COMPLETE, an accept that was not asked for."""


def step(state: State, event: Event) -> tuple[State, Action]:
    return TABLE.get((state, event), (state, Action.IGNORE))
