"""Registration over one access, the UE's side, as a table (TS 24.501 §5.4, §5.5.1; TS 33.501 §6.3.2).

    OFFLINE ─connected─► WAITING ─┬─ its turn ──► REQUESTED ─challenge─► CHALLENGED ─command─► SECURED ─accept─► REGISTERED
                                  └─ a common context ─► REQUESTED ───────────────accept──────────────────────────┘

One access at a time authenticates; the other waits for the common security context, which it then takes into use.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    OFFLINE = auto()
    WAITING = auto()
    """connected; another access authenticates"""
    REQUESTED = auto()
    CHALLENGED = auto()
    SECURED = auto()
    REGISTERED = auto()
    REFUSED = auto()


class Event(Enum):
    CONNECTED = auto()
    TURN = auto()
    CONTEXT = auto()
    """a common security context is there, or a newer one"""
    IDENTITY_ASKED = auto()
    CHALLENGE = auto()
    COMMAND = auto()
    ACCEPTED = auto()
    REJECTED = auto()
    TIMER = auto()
    DEREGISTERED = auto()
    LOST = auto()


class Action(Enum):
    IGNORE = auto()
    ASK_TURN = auto()
    REQUEST_WITH_SUCI = auto()
    REQUEST_WITH_GUTI = auto()
    SEND_IDENTITY = auto()
    ANSWER_CHALLENGE = auto()
    COMPLETE_SECURITY = auto()
    COMPLETE = auto()
    DROP = auto()
    """this connection leads nowhere: a new one"""
    END = auto()
    """the connection is gone; whose turn it was is free again"""


_UNDER_WAY = (State.REQUESTED, State.CHALLENGED, State.SECURED)

TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.OFFLINE, Event.CONNECTED): (State.WAITING, Action.ASK_TURN),
    (State.WAITING, Event.TURN): (State.REQUESTED, Action.REQUEST_WITH_SUCI),
    (State.WAITING, Event.CONTEXT): (State.REQUESTED, Action.REQUEST_WITH_GUTI),
    (State.REGISTERED, Event.CONTEXT): (State.REQUESTED, Action.REQUEST_WITH_GUTI),
    (State.REQUESTED, Event.IDENTITY_ASKED): (State.REQUESTED, Action.SEND_IDENTITY),
    (State.REQUESTED, Event.CHALLENGE): (State.CHALLENGED, Action.ANSWER_CHALLENGE),
    # Again: a repetition, or the answer to our AUTS.
    (State.CHALLENGED, Event.CHALLENGE): (State.CHALLENGED, Action.ANSWER_CHALLENGE),
    (State.CHALLENGED, Event.COMMAND): (State.SECURED, Action.COMPLETE_SECURITY),
    (State.SECURED, Event.COMMAND): (State.SECURED, Action.COMPLETE_SECURITY),
    (State.REQUESTED, Event.ACCEPTED): (State.REGISTERED, Action.COMPLETE),
    (State.SECURED, Event.ACCEPTED): (State.REGISTERED, Action.COMPLETE),
    (State.REGISTERED, Event.ACCEPTED): (State.REGISTERED, Action.COMPLETE),
    **{(state, Event.REJECTED): (State.REFUSED, Action.DROP) for state in _UNDER_WAY},
    **{(state, Event.TIMER): (State.REFUSED, Action.DROP) for state in _UNDER_WAY},
    (State.REGISTERED, Event.DEREGISTERED): (State.REFUSED, Action.DROP),
    **{(state, Event.LOST): (State.OFFLINE, Action.END) for state in State},
}
"""What is not here is ignored and counted: a challenge or a command that belongs to nothing."""


def step(state: State, event: Event) -> tuple[State, Action]:
    return TABLE.get((state, event), (state, Action.IGNORE))
