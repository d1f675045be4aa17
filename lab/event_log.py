"""What happened in a lab: the newest events in order, and how often each happened since it came up. A lab may stay up for weeks;
`events.jsonl` has all of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

MOST = 50_000
"""Events that are kept; of older ones only their number is known."""

Event = dict[str, Any]
"""`t` (s since the lab's start), `node`, `event`, and its own fields."""


class EventLog:
    def __init__(self, most: int = MOST) -> None:
        self._newest: deque[Event] = deque(maxlen=most)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[str, Event] = {}

    def append(self, entry: Event) -> None:
        self._newest.append(entry)
        self._counts[entry["node"], entry["event"]] += 1
        self._first.setdefault(entry["event"], entry)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._newest)

    def __reversed__(self) -> Iterator[Event]:
        return reversed(self._newest)

    def count(self, node: str, event: str) -> int:
        return self._counts[node, event]

    def first(self, event: str) -> Event | None:
        """Of this name, of whatever node."""
        return self._first.get(event)

    def number(self, node: str, event: str, number: int) -> Event | None:
        """The number-th of this name, counted from 1; None: it has not come yet. One that is no longer kept: the oldest that is."""
        back = self._counts[node, event] - number
        if back < 0:
            return None
        oldest: Event | None = None
        for entry in reversed(self._newest):
            if entry["node"] == node and entry["event"] == event:
                if back == 0:
                    return entry
                back, oldest = back - 1, entry
        return oldest

    def last(self, count: int) -> list[Event]:
        return list(self._newest)[-count:]
