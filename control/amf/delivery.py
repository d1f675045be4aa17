"""Step 5b: a key container on its way to the UE until the UE has answered, or until nobody can be reached.

T-key-ack is 6 s with three retransmissions (like T3550). The first look comes after 1 s already: an access may have died
without a word (a black hole), then the container goes out over the other one. The transaction number stays the same, so
that the UE acknowledges a repetition and does not install it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

T_KEY_ACK = 6.0
RETRANSMISSIONS = 3
FIRST_LOOK = 1.0
SCHEDULE = (FIRST_LOOK, *(T_KEY_ACK,) * RETRANSMISSIONS)
"""Seconds after each sending until the next; after the last the UE counts as not reachable."""


class Outcome(Enum):
    ACKNOWLEDGED = auto()
    REFUSED = auto()
    NOT_REACHABLE = auto()


class Delivery:
    """`send(previous)` puts the container on a live access, another than `previous` if there is one, and returns which;
    None: there is none now. `came_back` wakes a delivery that waits for an access."""

    def __init__(self, send: Callable[[str | None], str | None], schedule: tuple[float, ...] = SCHEDULE) -> None:
        self._send = send
        self._schedule = schedule
        self._answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._back = asyncio.Event()
        self._access: str | None = None
        self.attempts = 0

    def first(self) -> bool:
        """The first sending, at once. False: the UE is not reachable now."""
        return self._once()

    def _once(self) -> bool:
        access = self._send(self._access)
        if access is None:
            return False
        self._access = access
        self.attempts += 1
        return True

    def answered(self, outcome: Outcome) -> None:
        if not self._answer.done():
            self._answer.set_result(outcome)

    def came_back(self) -> None:
        self._back.set()

    async def run(self) -> Outcome:
        """The rest after `first()`. A UE that cannot be reached is waited for as long as the schedule is; once the
        container is out, the whole schedule counts from there."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(sum(self._schedule)):
                await self._until_sent()
        if self._access is None:
            return self._answer.result() if self._answer.done() else Outcome.NOT_REACHABLE
        for number, wait in enumerate(self._schedule, 1):
            await asyncio.wait({self._answer}, timeout=wait)
            if self._answer.done():
                return self._answer.result()
            if number < len(self._schedule):
                self._once()
        return Outcome.NOT_REACHABLE

    async def _until_sent(self) -> None:
        """Until the container is out once, or it is over (revoked, superseded)."""
        while self._access is None and not self._answer.done():
            self._back.clear()
            back: asyncio.Future[Any] = asyncio.ensure_future(self._back.wait())
            answer: asyncio.Future[Any] = self._answer
            try:
                await asyncio.wait({answer, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                back.cancel()
            if not self._answer.done():
                self._once()
