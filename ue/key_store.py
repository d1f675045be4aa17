"""K_MPQUIC at the UE: one slot, the newest generation, as a table. Older ones are refused, the same is acknowledged again.

    EMPTY ──new──► HELD ──connection made──► SPENT
                     ├──refused by the proxy──► REFUSED        any ──newer one──► HELD
                     └──revoked, or its time over──► OVER
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from fiveg.keys import fingerprint, psk_identity
from node.secrets import Secret


class State(Enum):
    EMPTY = auto()
    HELD = auto()
    """may make its one connection"""
    SPENT = auto()
    """has made it"""
    REFUSED = auto()
    OVER = auto()
    """revoked, or its lifetime has ended unused"""


class Event(Enum):
    NEW = auto()
    SAME = auto()
    """the generation we have, with the same key: a repetition"""
    OTHER_KEY = auto()
    """the generation we have, with another key"""
    STALE = auto()
    SPENT = auto()
    REFUSED = auto()
    REVOKED = auto()
    EXPIRED = auto()


class Action(Enum):
    IGNORE = auto()
    INSTALL = auto()
    """keep it and acknowledge"""
    ACKNOWLEDGE = auto()
    REJECT_STALE = auto()
    REJECT_MISMATCH = auto()
    WIPE = auto()
    WIPE_AND_END = auto()
    """and the connection made from it ends"""


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    **{(state, Event.NEW): (State.HELD, Action.INSTALL) for state in State},
    **{(state, Event.STALE): (state, Action.REJECT_STALE) for state in State if state is not State.EMPTY},
    **{(state, Event.OTHER_KEY): (state, Action.REJECT_MISMATCH) for state in State if state is not State.EMPTY},
    (State.HELD, Event.SAME): (State.HELD, Action.ACKNOWLEDGE),
    (State.SPENT, Event.SAME): (State.SPENT, Action.ACKNOWLEDGE),
    (State.REFUSED, Event.SAME): (State.REFUSED, Action.REJECT_MISMATCH),
    (State.OVER, Event.SAME): (State.OVER, Action.REJECT_STALE),
    (State.HELD, Event.SPENT): (State.SPENT, Action.WIPE),
    (State.HELD, Event.REFUSED): (State.REFUSED, Action.WIPE),
    (State.HELD, Event.EXPIRED): (State.OVER, Action.WIPE),
    (State.HELD, Event.REVOKED): (State.OVER, Action.WIPE),
    (State.SPENT, Event.REVOKED): (State.OVER, Action.WIPE_AND_END),
    (State.REFUSED, Event.REVOKED): (State.OVER, Action.WIPE),
}


def step(state: State, event: Event) -> tuple[State, Action]:
    return TABLE.get((state, event), (state, Action.IGNORE))


@dataclass(slots=True, eq=False)
class Slot:
    """A key and what is known of it; the octets are wiped when they can make no connection any more."""

    generation: int
    key: Secret = field(repr=False)
    identity: bytes = field(repr=False)
    fingerprint: str
    expires_at: float


class KeyStore:
    """`keep_spent`: the last spent key stays for the verb `probe_spent_key`."""

    def __init__(self, clock: Callable[[], float], *, keep_spent: bool = False) -> None:
        self._clock, self._keep_spent = clock, keep_spent
        self.state = State.EMPTY
        self.slot: Slot | None = None
        self.last_spent: Slot | None = None

    @property
    def generation(self) -> int:
        return 0 if self.slot is None else self.slot.generation

    def provision(self, generation: int, key: bytes, lifetime: int) -> Action:
        event = self._event(generation, key)
        self.state, action = step(self.state, event)
        if action is Action.INSTALL:
            if self.slot is not None:
                self.slot.key.wipe()
            expires = self._clock() + lifetime
            self.slot = Slot(generation, Secret(key), psk_identity(key), fingerprint(key), expires)
        return action

    def _event(self, generation: int, key: bytes) -> Event:
        if self.slot is None or generation > self.slot.generation:
            return Event.NEW
        if generation < self.slot.generation:
            return Event.STALE
        return Event.SAME if fingerprint(key) == self.slot.fingerprint else Event.OTHER_KEY

    def usable(self) -> Slot | None:
        """The key that may make a connection now."""
        if self.state is State.HELD and self.slot is not None and self._clock() >= self.slot.expires_at:
            self._do(Event.EXPIRED)
        return self.slot if self.state is State.HELD else None

    def spent(self, slot: Slot) -> None:
        if slot is self.slot:
            if self._keep_spent:
                if self.last_spent is not None:
                    self.last_spent.key.wipe()
                copy = Secret(slot.key.reveal())
                self.last_spent = Slot(slot.generation, copy, slot.identity, slot.fingerprint, slot.expires_at)
            self._do(Event.SPENT)

    def refused(self, slot: Slot) -> None:
        if slot is self.slot:
            self._do(Event.REFUSED)

    def revoke(self, generation: int) -> Action:
        """Only the newest can be revoked; an older one is gone already."""
        return self._do(Event.REVOKED) if generation == self.generation else Action.IGNORE

    def _do(self, event: Event) -> Action:
        self.state, action = step(self.state, event)
        if action in (Action.WIPE, Action.WIPE_AND_END) and self.slot is not None:
            self.slot.key.wipe()
        return action

    def clear(self) -> None:
        """The session is over; generations go on where they were when it comes again."""
        for slot in (self.slot, self.last_spent):
            if slot is not None:
                slot.key.wipe()
        if self.state is State.HELD:
            self.state = State.OVER

    def forget(self) -> None:
        """A new K_AMF: its generations are counted anew (facts: never reused while K_AMF lives)."""
        self.clear()
        self.slot, self.last_spent, self.state = None, None, State.EMPTY
