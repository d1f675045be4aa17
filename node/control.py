"""The node's end of the control channel: verbs come in, answers, events and `ready` go out (docs/interfaces.md)."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from node.counters import Counters
from node.errors import ConfigError, ControlError, VerbError
from node.lines import LineSocket

Verb = Callable[[dict[str, Any]], Awaitable[Any]]
VERBS_AT_ONCE = 64


class ControlChannel:
    """Made inside a running event loop; `run()` answers verbs until the supervisor is gone."""

    def __init__(self, fd: int | socket.socket, counters: Counters | None = None) -> None:
        sock = fd if isinstance(fd, socket.socket) else socket.socket(fileno=fd)
        self.counters = counters or Counters()
        self._verbs: dict[str, Verb] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines = LineSocket(sock, self._request, "netns")

    def verb(self, name: str, handler: Verb) -> None:
        """`handler(args)` returns what JSON knows, or raises VerbError."""
        self._verbs[name] = handler

    def event(self, name: str, t: float, fields: dict[str, Any]) -> None:
        """Sink of `Events`. A supervisor that does not read loses events, and so does one that cannot be told (a value that
        JSON does not know, a line too long): counted; the node goes on with what it was doing."""
        try:
            sent = self._lines.send({"event": name, "t": t, "fields": fields})
        except (ControlError, ValueError):
            sent = False
        if not sent:
            self.counters.inc("control.events_lost")

    def ready(self) -> None:
        self._lines.send({"ready": True})

    def hand_over_netns(self, access: str, fd: int, **more: Any) -> None:
        """Give the supervisor the namespace of an access; `fd` stays the caller's."""
        self._lines.send({"netns": {"access": access, **more}}, [fd])

    async def run(self) -> str:
        """Returns why the channel ended. Handlers still running are cancelled then."""
        try:
            return await asyncio.shield(self._lines.closed)
        finally:
            for task in list(self._tasks):
                task.cancel()

    def close(self) -> None:
        self._lines.flush()
        self._lines.close()

    def _request(self, message: dict[str, Any], fds: list[int]) -> None:
        for fd in fds:  # only the node sends descriptors: none is wanted here
            self.counters.inc("control.descriptor_unasked")
            os.close(fd)
        number, name, args = message.get("id"), message.get("verb"), message.get("args", {})
        if type(number) is not int or not isinstance(name, str) or not isinstance(args, dict):
            self._lines.close("a request without id, verb and args")
            return
        if len(self._tasks) >= VERBS_AT_ONCE:
            self._refuse(number, "busy", f"{VERBS_AT_ONCE} requests are being worked on already")
            return
        task = asyncio.get_running_loop().create_task(self._answer(number, name, args), name=f"verb {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, name: str, args: dict[str, Any]) -> None:
        handler = self._verbs.get(name)
        if handler is None:
            self._refuse(number, "unknown_verb", f"no verb {name[:40]!r}; there are {', '.join(sorted(self._verbs))}")
            return
        try:
            result = await handler(args)
            self._lines.send({"id": number, "ok": True, "result": {} if result is None else result})
        except VerbError as e:
            self._refuse(number, e.code, str(e))
        except ConfigError as e:
            self._refuse(number, "misused", str(e))
        except asyncio.CancelledError:
            self._refuse(number, "ending", "the node is ending")
            raise
        except Exception as e:  # a fault of ours: named to the caller, the node stays up
            self.counters.inc("control.verb_failed")
            # Where, but not what it says: the text of a foreign exception may repeat a value, and a value may be a key.
            self._refuse(number, "internal", f"{name} failed: {type(e).__name__} at {_place(e)}")

    def _refuse(self, number: int, code: str, text: str) -> None:
        self._lines.send({"id": number, "ok": False, "error": text, "code": code})


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"
