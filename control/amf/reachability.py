"""UEs that no access reaches, and when they count as gone: the mobile reachable timer and the implicit de-registration that
follows it (TS 24.501 §5.3.7), as one timer per UE context.

It runs only while none of the UE's accesses is connected. A UE that comes back in time keeps its context, its sessions and its
keys; one that does not is de-registered without a word, since there is nobody to say it to.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from control.amf.ue_context import UeContext


class Reachability:
    """`gone` is called once for a context that nothing reached for `patience` seconds of the event loop's (monotonic) time."""

    def __init__(self, patience: float, gone: Callable[[UeContext], None]) -> None:
        self._patience, self._gone = patience, gone
        self._timers: dict[int, asyncio.TimerHandle] = {}
        """by the context's id(): a context is alive while its timer is, which holds it"""

    def lost(self, ue: UeContext) -> None:
        """One of its accesses has ended. Counts from the last one that did."""
        if ue.live() is None and id(ue) not in self._timers:
            self._timers[id(ue)] = asyncio.get_running_loop().call_later(self._patience, self._expired, ue)

    def reached(self, ue: UeContext) -> None:
        """It is back, or its context has ended otherwise."""
        timer = self._timers.pop(id(ue), None)
        if timer is not None:
            timer.cancel()

    def stop(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _expired(self, ue: UeContext) -> None:
        del self._timers[id(ue)]
        if ue.live() is None:
            self._gone(ue)
