"""Which connection carries a session's tunnel. A new one waits until the old one has closed, or for TAKEOVER seconds; then
it carries, and the old one is closed. As a table, because it is the whole of a re-key at the UPF:

    NONE ──ready──► CARRIED ──ready──► WAITING ──old closed, or time──► CARRIED
                       └──closed──► NONE     └──new closed──► CARRIED (by the old)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, Protocol, TypeVar

TAKEOVER = 1.0
"""Seconds that a new connection waits for the old one to close (design §3)."""


class State(Enum):
    NONE = auto()
    CARRIED = auto()
    WAITING = auto()


class Timer(Protocol):
    def cancel(self) -> None: ...


C = TypeVar("C")


@dataclass(slots=True)
class Carrier(Generic[C]):
    """`bind` gives the tunnel to a connection, `end` closes one, `after` calls something later."""

    bind: Callable[[C], None]
    end: Callable[[C], None]
    after: Callable[[float, Callable[[], None]], Timer]
    active: C | None = None
    waiting: C | None = None
    timer: Timer | None = None

    @property
    def state(self) -> State:
        if self.waiting is not None:
            return State.WAITING
        return State.NONE if self.active is None else State.CARRIED

    def ready(self, connection: C) -> None:
        """A connection of this session is up and wants the tunnel."""
        if self.state is State.WAITING:  # a third one: the second never carried, it gives way
            assert self.waiting is not None
            passed, self.waiting = self.waiting, connection
            self.end(passed)
        elif self.state is State.CARRIED:
            self.waiting = connection
            self.timer = self.after(TAKEOVER, self._take_over)
        else:
            self.active = connection
            self.bind(connection)

    def closed(self, connection: C) -> None:
        if connection is self.waiting:
            self._timer_stop()
            self.waiting = None
        elif connection is self.active:
            self._timer_stop()
            self.active, self.waiting = self.waiting, None
            if self.active is not None:
                self.bind(self.active)

    def stop(self) -> None:
        """The session is over: both connections end."""
        self._timer_stop()
        gone = [c for c in (self.active, self.waiting) if c is not None]
        self.active = self.waiting = None
        for connection in gone:
            self.end(connection)

    def _take_over(self) -> None:
        self.timer = None
        old, self.active, self.waiting = self.active, self.waiting, None
        if self.active is not None:
            self.bind(self.active)
        if old is not None:
            self.end(old)

    def _timer_stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
