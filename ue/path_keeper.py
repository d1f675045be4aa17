"""Keeps one path per access on a connection: opens it, and opens a new one when it was abandoned, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from node.counters import Counters
from node.events import Events
from ue.errors import DatapathError, UeError
from ue.ports import ConnectionPort

REOPEN = 1.0
"""Seconds between tries while the access gives no answer."""

Sleep = Callable[[float], Awaitable[None]]


class PathKeeper:
    """Of one connection. `links`: access name and access type by link; `standby`: access types that no rule uses while the
    other one is there."""

    def __init__(
        self,
        connection: ConnectionPort,
        generation: int,
        links: list[tuple[str, str]],
        standby: frozenset[str],
        events: Events,
        counters: Counters,
        sleep: Sleep,
    ) -> None:
        self._connection, self._generation, self._links = connection, generation, links
        self._standby, self._events, self._counters, self._sleep = standby, events, counters, sleep
        self._link_of = {0: connection.link}
        self._gone: dict[int, asyncio.Event] = {link: asyncio.Event() for link in range(len(links))}
        self._current: dict[int, int] = {connection.link: 0}
        self._told_backup: set[int] = set()
        self._opened: dict[int, asyncio.Event] = {link: asyncio.Event() for link in range(len(links))}
        self._opened[connection.link].set()
        connection.on_path(self._path)

    async def run(self) -> None:
        """Until cancelled."""
        self._validated(0)
        async with asyncio.TaskGroup() as tasks:
            for link in range(len(self._links)):
                tasks.create_task(self._keep(link), name=f"paths over {self._links[link][0]}")

    async def opened(self, links: Iterable[int]) -> None:
        """Once a path over each of these was there."""
        for link in links:
            if link in self._opened:
                await self._opened[link].wait()

    def standby_set(self, standby: frozenset[str]) -> None:
        """New rules."""
        self._standby = standby
        for path in self._current.values():
            self._status(path)

    async def _keep(self, link: int) -> None:
        while True:
            if link not in self._current:
                self._gone[link].clear()
                try:
                    path = await self._connection.open_path(link)
                except UeError:
                    self._counters.inc("paths.not_opened")
                    await self._sleep(REOPEN)
                    continue
                self._link_of[path], self._current[link] = link, path
                self._opened[link].set()
                self._validated(path)
            await self._gone[link].wait()
            await self._sleep(REOPEN)

    def _validated(self, path: int) -> None:
        self._events.emit("path_validated", path=path, access=self._name(path), generation=self._generation)
        self._status(path)

    def _status(self, path: int) -> None:
        """A standby access is left free: the peer is told too (RFC 10069, PATH_STATUS_BACKUP)."""
        access = self._links[self._link_of[path]][1]
        available = access not in self._standby
        if available and path not in self._told_backup:
            return
        try:
            self._connection.path_available(path, available)
        except DatapathError:  # it was abandoned in this moment
            return
        (self._told_backup.discard if available else self._told_backup.add)(path)

    def _path(self, name: str, fields: dict[str, Any]) -> None:
        path = fields.get("path")
        if not isinstance(path, int):
            return
        if name == "path_abandoned":
            self._abandoned(path)
        if name != "path_state":
            return
        self._events.emit(
            "path_state",
            path=path,
            access=self._name(path),
            state=fields.get("state"),
            reason=fields.get("reason"),
            generation=self._generation,
        )
        if fields.get("state") == "abandoned":
            self._abandoned(path)

    def _abandoned(self, path: int) -> None:
        link = self._link_of.get(path)
        if link is not None and self._current.get(link) == path:
            del self._current[link]
            self._gone[link].set()

    def _name(self, path: int) -> str:
        link = self._link_of.get(path)
        if link is None:  # it is being opened: only the engine knows over which link
            found = (p.get("link") for p in self._connection.paths() if p.get("path") == path)
            link = next((n for n in found if isinstance(n, int) and 0 <= n < len(self._links)), None)
        return "" if link is None else self._links[link][0]
