"""A token bucket: what a peer may ask for, at once and on the long run."""

from __future__ import annotations


class Budget:
    """`take(now)` is False when the peer was too quick; what is refused costs it nothing."""

    __slots__ = ("_burst", "_last", "_left", "_rate")

    def __init__(self, burst: float, per_s: float, now: float) -> None:
        self._burst, self._rate, self._left, self._last = burst, per_s, burst, now

    def take(self, now: float) -> bool:
        left = min(self._burst, self._left + (now - self._last) * self._rate)
        self._last = now
        if left < 1:
            self._left = left
            return False
        self._left = left - 1
        return True
