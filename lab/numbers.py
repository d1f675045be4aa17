"""Numbers as figures have them; without anything that a small program of the lab would have to load first."""

from __future__ import annotations

from typing import Any


def is_number(value: Any) -> bool:
    """True and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def percentile(ordered: list[float], percent: int) -> float:
    """Nearest rank, of what is sorted and not empty."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
