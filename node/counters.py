"""Named counters: everything that is dropped, refused or repeated says so under a name."""

from __future__ import annotations

from collections import Counter


class Counters:
    """Counters by dotted name (`nas.wrong_mac`). Names come from our code, never from a peer, so they are few."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: Counter[str] = Counter()

    def inc(self, name: str, by: int = 1) -> None:
        self._values[name] += by

    def get(self, name: str) -> int:
        return self._values[name]

    def snapshot(self) -> dict[str, int]:
        return {k: v for k, v in sorted(self._values.items()) if v}
