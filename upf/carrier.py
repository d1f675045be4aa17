"""Which connection carries a session's tunnel. This is the whole of a re-key at the UPF, as a table.

*To carry* is to send what N6 has for the UE. Every connection whose CONNECT-IP was accepted is *admitted*: what arrives on it
goes to N6, whoever carries. So the client may move whenever it likes, and what is under way on the old connection when the
new one takes over still arrives; the client closes the old one when nothing comes on it any more.

    NONE ──ready──► CARRIED ──ready──► WAITING ──GOAWAY or end of the old, or TAKEOVER──► DRAINING ──old closed, or DRAIN──► CARRIED
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Generic, Protocol, TypeVar

TAKEOVER = 1.0
"""Seconds that a new connection waits for a word of the old one (design §3)."""
DRAIN = 3.0
"""Seconds after which the old connection is closed for a client that does not (ours does within 2)."""


class State(Enum):
    NONE = auto()
    """no connection"""
    CARRIED = auto()
    """one, `active`"""
    WAITING = auto()
    """`active` carries, `other` is newer and admitted"""
    DRAINING = auto()
    """`active` carries, `other` is older and admitted still"""


class Event(Enum):
    READY = auto()
    """a newer connection was admitted"""
    LEAVING = auto()
    """GOAWAY on the active one"""
    ACTIVE_CLOSED = auto()
    OTHER_CLOSED = auto()
    TIME = auto()


class Timer(Protocol):
    def cancel(self) -> None: ...


C = TypeVar("C")


@dataclass(slots=True)
class Carrier(Generic[C]):
    """`admit` lets a connection deliver inward, `bind` gives it the tunnel's outward traffic, `end` closes it, `after` calls
    something later. Connections come in the order of their generations: who may call `ready` is the proxy's to say."""

    admit: Callable[[C], None]
    bind: Callable[[C], None]
    end: Callable[[C], None]
    after: Callable[[float, Callable[[], None]], Timer]
    state: State = State.NONE
    active: C | None = None
    other: C | None = None
    leaving: list[C] = field(default_factory=list)
    timer: Timer | None = None

    def ready(self, connection: C) -> None:
        """A connection of this session is up and wants the tunnel."""
        self._step(Event.READY, connection)

    def goaway(self, connection: C) -> None:
        """The client will not use this one any more."""
        if connection not in self.leaving and (connection is self.active or connection is self.other):
            self.leaving.append(connection)
        if connection is self.active:
            self._step(Event.LEAVING)

    def closed(self, connection: C) -> None:
        self.leaving = [c for c in self.leaving if c is not connection]
        if connection is self.active:
            self._step(Event.ACTIVE_CLOSED)
        elif connection is self.other:
            self._step(Event.OTHER_CLOSED)

    def stop(self) -> None:
        """The session is over: both connections end."""
        self._timer_stop()
        gone = [c for c in (self.active, self.other) if c is not None]
        self.active = self.other = None
        self.state = State.NONE
        self.leaving.clear()
        for connection in gone:
            self.end(connection)

    def _time(self) -> None:
        self.timer = None
        self._step(Event.TIME)

    def _step(self, event: Event, connection: C | None = None) -> None:
        action = TABLE.get((self.state, event))
        if action is not None:
            action(self, connection)

    # ---- actions

    def _first(self, new: C) -> None:
        self.state, self.active = State.CARRIED, new
        self.bind(new)

    def _wait(self, new: C) -> None:
        self.state, self.other = State.WAITING, new
        self.admit(new)
        if self.active in self.leaving:
            self._hand_over()
        else:
            self.timer = self.after(TAKEOVER, self._time)

    def _instead(self, new: C) -> None:
        """A third one: the second never carried, it gives way; the time runs on."""
        passed, self.other = self.other, new
        self.admit(new)
        if passed is not None:
            self.end(passed)

    def _hurry(self, new: C) -> None:
        """The next re-key comes while the last one drains: no more patience with the oldest."""
        self._drained()
        self._wait(new)

    def _hand_over(self, _: C | None = None) -> None:
        self._timer_stop()
        self.state, self.active, self.other = State.DRAINING, self.other, self.active
        self.timer = self.after(DRAIN, self._time)
        self._bind_active()

    def _inherit(self, _: C | None = None) -> None:
        """The active one is gone: the other carries, newer or older."""
        self._timer_stop()
        self.state, self.active, self.other = State.CARRIED, self.other, None
        self._bind_active()

    def _forget(self, _: C | None = None) -> None:
        self._timer_stop()
        self.state, self.other = State.CARRIED, None

    def _drained(self, _: C | None = None) -> None:
        passed = self.other
        self._forget()
        if passed is not None:
            self.end(passed)

    def _none(self, _: C | None = None) -> None:
        self.state, self.active = State.NONE, None

    def _bind_active(self) -> None:
        if self.active is not None:
            self.bind(self.active)

    def _timer_stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


TABLE: dict[tuple[State, Event], Callable[[Carrier[Any], Any], None]] = {
    (State.NONE, Event.READY): Carrier._first,
    (State.CARRIED, Event.READY): Carrier._wait,
    (State.CARRIED, Event.ACTIVE_CLOSED): Carrier._none,
    (State.WAITING, Event.READY): Carrier._instead,
    (State.WAITING, Event.LEAVING): Carrier._hand_over,
    (State.WAITING, Event.TIME): Carrier._hand_over,
    (State.WAITING, Event.ACTIVE_CLOSED): Carrier._inherit,
    (State.WAITING, Event.OTHER_CLOSED): Carrier._forget,
    (State.DRAINING, Event.READY): Carrier._hurry,
    (State.DRAINING, Event.TIME): Carrier._drained,
    (State.DRAINING, Event.ACTIVE_CLOSED): Carrier._inherit,
    (State.DRAINING, Event.OTHER_CLOSED): Carrier._forget,
}
"""What is not here changes nothing: GOAWAY while there is nothing newer is remembered, no more."""
