"""Numbers as figures have them; without anything that a small program of the lab would have to load first."""

from __future__ import annotations

from typing import Any

HUGE = 1e18


def is_number(value: Any) -> bool:
    """That figures are made of: true and false are none, nor what JSON allows besides: infinite, not a number, of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -HUGE < value < HUGE


def percentile(ordered: list[float], percent: int) -> float:
    """Nearest rank, of what is sorted and not empty."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
