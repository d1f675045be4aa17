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


def access_name(path: dict[str, Any]) -> str:
    """Its access; of one that is of none, its number."""
    return str(path.get("access", path.get("path")))


def shared_queue(paths: Iterable[dict[str, Any]]) -> int:
    """Octets that wait for whichever path may carry them first, of the newest connection: all its paths tell the same."""
    path = shown(paths)
    return 0 if path is None else int(path.get("shared_queue_bytes", 0))


COUNTED = ("packets_sent", "packets_received", "bytes_sent", "bytes_received", "packets_lost")


class PathTotals:
    """What the paths of all connections carried, by access: an end tells only those that are there, and a re-key makes new ones. Of
    one that has gone it is as it was last seen."""

    def __init__(self) -> None:
        self._newest: dict[tuple[float, float], dict[str, Any]] = {}
        self._gone: list[dict[str, Any]] = []

    def see(self, paths: Iterable[dict[str, Any]]) -> None:
        for path in paths:
            key = _number(path.get("generation")), _number(path.get("path"))
            before = self._newest.get(key)
            if before is not None and any(_number(path.get(name)) < _number(before.get(name)) for name in COUNTED):
                self._gone.append(before)  # the process began anew, and counts from 0
            self._newest[key] = path

    def sums(self) -> dict[str, dict[str, int]]:
        """By access, the counters of struct path_info that are sums."""
        sums: dict[str, dict[str, int]] = {}
        for path in (*self._gone, *self._newest.values()):
            of = sums.setdefault(access_name(path), dict.fromkeys(COUNTED, 0))
            for name in COUNTED:
                of[name] += int(_number(path.get(name)))
        return sums
