"""Two mpquic endpoints on a line in memory, driven under a virtual clock in one event loop. For benchmarks and tests."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpquic.endpoint import Endpoint
from mpquic.engine import Datagram
from mpquic.psk import Psk

KEY = bytes(range(32))
SERVER_ADDRESS = ("10.100.0.1", 4433)
MILLISECOND = 1_000_000
T = TypeVar("T")


def psks(count: int) -> list[Psk]:
    """Keys of one end; each end has its own objects, since a key knows its end's role."""
    return [Psk(KEY, f"session {i}".encode()) for i in range(count)]


def client_of(link: int) -> tuple[str, int]:
    return (f"10.{link + 1}.0.2", 50000)


@dataclass
class Line:
    """`delay_ms` each way, or `delays_ms` by link; `drop(datagram, to_server)` may lose it."""

    client: Endpoint
    server: Endpoint
    delay_ms: float = 5.0
    delays_ms: dict[int, float] = field(default_factory=dict)
    drop: Callable[[Datagram, bool], bool] = lambda _datagram, _to_server: False
    now: int = 1_000_000_000
    _queue: list[tuple[int, int, bool, Datagram]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for endpoint in (self.client, self.server):
            endpoint.clock_set(lambda: self.now)
        for link, access in enumerate(("3gpp", "non-3gpp")):
            self.client.engine.link_set(link, access)
            self.server.engine.link_set(link, access)

    def _collect(self) -> None:
        for endpoint, to_server in ((self.client, True), (self.server, False)):
            while (datagram := endpoint.engine.output(self.now)) is not None:
                if not self.drop(datagram, to_server):
                    at = self.now + int(self.delays_ms.get(datagram.link, self.delay_ms) * MILLISECOND)
                    heapq.heappush(self._queue, (at, next(self._number), to_server, datagram))

    async def run(self, wanted: asyncio.Future[Any] | None, limit_ms: float = 20_000) -> None:
        """Until `wanted` is done (or for `limit_ms` of virtual time)."""
        end = self.now + int(limit_ms * MILLISECOND)
        while True:
            for endpoint in (self.client, self.server):
                endpoint.process_events()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self._collect()
            if wanted is not None and wanted.done():
                return
            times = [self.client.engine.deadline(), self.server.engine.deadline()]
            if self._queue:
                times.append(self._queue[0][0])
            self.now = max(self.now, min(times))
            if self.now > end:
                self.now = end
                if wanted is not None:
                    raise TimeoutError("virtual time is over")
                return
            while self._queue and self._queue[0][0] <= self.now:
                _, _, to_server, datagram = heapq.heappop(self._queue)
                endpoint = self.server if to_server else self.client
                remote = client_of(datagram.link) if to_server else SERVER_ADDRESS
                endpoint.engine.input(Datagram(datagram.link, remote, datagram.data, datagram.ecn), self.now)
            for endpoint in (self.client, self.server):
                endpoint.engine.advance(self.now)

    async def do(self, work: Awaitable[T], limit_ms: float = 20_000) -> T:
        """Wait for work while the line moves; its result or its error."""
        task = asyncio.ensure_future(work)
        await self.run(task, limit_ms)
        try:
            return task.result()
        finally:
            del task  # an error's traceback holds this frame, and the task the error
