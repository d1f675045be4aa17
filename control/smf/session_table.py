"""The life of an SM context as a table (TS 23.502 §4.3.2.2.1, §4.22.2.1; TS 24.501 §6.4)."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    ESTABLISHING = auto()
    """N4 and N1 are being set up"""
    ACTIVE = auto()
    RELEASING = auto()
    """the UE has been told, its RELEASE COMPLETE is awaited"""
    RELEASED = auto()


class Event(Enum):
    SET_UP = auto()
    FAILED = auto()
    UE_ASKS_AGAIN = auto()
    """the same MA PDU request, over the other access"""
    UE_RELEASES = auto()
    UE_COMPLETES = auto()
    UE_IS_SILENT = auto()
    """no RELEASE COMPLETE after the last T3592"""
    AMF_RELEASES = auto()
    UPF_LOST = auto()


class Action(Enum):
    IGNORE = auto()
    REPORT_ACTIVE = auto()
    UNDO = auto()
    """whatever part was set up is taken down, the UE gets a reject"""
    ACCEPT_AGAIN = auto()
    COMMAND_RELEASE = auto()
    REMOVE = auto()
    RESTORE = auto()
    """the UPF has started again: the same session is set up there anew"""


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.ESTABLISHING, Event.SET_UP): (State.ACTIVE, Action.REPORT_ACTIVE),
    (State.ESTABLISHING, Event.FAILED): (State.RELEASED, Action.UNDO),
    (State.ESTABLISHING, Event.AMF_RELEASES): (State.RELEASED, Action.REMOVE),
    (State.ACTIVE, Event.UE_ASKS_AGAIN): (State.ACTIVE, Action.ACCEPT_AGAIN),
    (State.ACTIVE, Event.UE_RELEASES): (State.RELEASING, Action.COMMAND_RELEASE),
    (State.ACTIVE, Event.AMF_RELEASES): (State.RELEASED, Action.REMOVE),
    (State.ACTIVE, Event.UPF_LOST): (State.ACTIVE, Action.RESTORE),
    (State.RELEASING, Event.UE_RELEASES): (State.RELEASING, Action.COMMAND_RELEASE),
    (State.RELEASING, Event.UE_COMPLETES): (State.RELEASED, Action.REMOVE),
    (State.RELEASING, Event.UE_IS_SILENT): (State.RELEASED, Action.REMOVE),
    (State.RELEASING, Event.AMF_RELEASES): (State.RELEASED, Action.REMOVE),
}


def step(state: State, event: Event) -> tuple[State, Action]:
    return TABLE.get((state, event), (state, Action.IGNORE))
