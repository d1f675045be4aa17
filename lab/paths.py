"""Paths as an end tells them (its verb `paths`): which of an access is shown, and what waits for any of a connection."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lab.numbers import is_number


def shown(paths: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The path that is told of an access: of the newest connection (a re-key's overlap has two), one that carries, else the newest.
    What is no number counts as 0: a file may be anybody's."""
    return max(paths, key=_rank, default=None)


def _rank(path: dict[str, Any]) -> tuple[float, bool, float]:
    return _number(path.get("generation")), path.get("state") == "active", _number(path.get("path"))


def _number(value: Any) -> float:
    return float(value) if is_number(value) else 0.0


def shared_queue(paths: Iterable[dict[str, Any]]) -> int:
    """Octets that wait for whichever path may carry them first, of the newest connection: all its paths tell the same."""
    path = shown(paths)
    return 0 if path is None else int(path.get("shared_queue_bytes", 0))
