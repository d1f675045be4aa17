"""The supervisor's end of a node: start the process in its namespace, ask verbs, hear events, know when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from node.errors import ControlError, VerbError
from node.lines import LineSocket
from node.netns import Netns

EventHandler = Callable[[str, float, dict[str, Any]], None]
NetnsHandler = Callable[[dict[str, Any], int], None]


def _ignore_event(name: str, t: float, fields: dict[str, Any]) -> None:
    pass


def _close_fd(info: dict[str, Any], fd: int) -> None:
    os.close(fd)


class NodeHandle:
    """One node. `on_netns(info, fd)` owns the descriptor it gets."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        *,
        on_event: EventHandler = _ignore_event,
        on_netns: NetnsHandler = _close_fd,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.name = name
        self.process = process
        self._on_event = on_event
        self._on_netns = on_netns
        self._loop = asyncio.get_running_loop()
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._ready.add_done_callback(lambda f: f.cancelled() or f.exception())  # nobody may be waiting
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._lines = LineSocket(sock, self._line, "netns")
        self._lines.closed.add_done_callback(lambda f: self._fail(f"{self.name}: control channel: {f.result()}"))
        if process is not None:
            self._pidfd = os.pidfd_open(process.pid)
            self._loop.add_reader(self._pidfd, self._exit)

    @classmethod
    async def spawn(
        cls,
        name: str,
        module: str,
        config: str | Path,
        *,
        netns: Netns | None = None,
        on_event: EventHandler = _ignore_event,
        on_netns: NetnsHandler = _close_fd,
        stderr: int | IO[Any] | None = None,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> NodeHandle:
        """Start `python -m module` in `netns` (this process's own namespace when None). The process dies with us."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = [sys.executable, "-m", module, "--config", str(config), "--control-fd", str(theirs.fileno())]
        command += arguments

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stderr if stderr is not None else subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C goes to the supervisor, which ends its nodes in order
                env=environment,
            )

        try:
            process = await netns.call(start) if netns is not None else start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(name, ours, on_event=on_event, on_netns=on_netns, process=process)

    async def ready(self, timeout: float) -> None:  # noqa: ASYNC109
        """Wait for the node's `ready`. ControlError when it ends first or takes too long."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise ControlError(f"{self.name}: not ready after {timeout} s") from None

    async def request(self, verb: str, args: dict[str, Any] | None = None, timeout: float = 10.0) -> Any:  # noqa: ASYNC109
        """Ask; the node's refusal is a VerbError, a dead or silent node a ControlError."""
        number, self._next_id = self._next_id, self._next_id + 1
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[number] = future
        try:
            if not self._lines.send({"id": number, "verb": verb, "args": args or {}}):
                raise ControlError(f"{self.name}: the control channel is closed")
            async with asyncio.timeout(timeout):  # not wait_for: it loses a cancellation that comes with the answer
                return await future
        except TimeoutError:
            raise ControlError(f"{self.name}: no answer to {verb} in {timeout} s") from None
        finally:
            self._waiting.pop(number, None)

    async def stop(self, timeout: float = 5.0) -> int:  # noqa: ASYNC109
        """Clean end: `shutdown`, then SIGTERM, then SIGKILL. Returns the exit code (0 when there was no process)."""
        with contextlib.suppress(ControlError, VerbError):
            await self.request("shutdown", timeout=timeout)
        code = 0
        if self.process is not None:
            for sig in (None, signal.SIGTERM, signal.SIGKILL):
                if sig is not None and not self.exited.done():
                    self.process.send_signal(sig)
                done, _ = await asyncio.wait([self.exited], timeout=timeout)
                if done:
                    break
            code = self.exited.result() if self.exited.done() else -signal.SIGKILL
        self._lines.close()
        return code

    def kill(self) -> None:
        """SIGKILL: for `kill` steps of a scenario, and when a supervisor gives up."""
        if self.process is not None and not self.exited.done():
            self.process.kill()

    def close(self) -> None:
        """Let the channel go; a node that still runs sees it and ends."""
        self._lines.close()

    def _exit(self) -> None:
        assert self.process is not None
        code = self.process.poll()
        if code is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self.exited.done():
            self.exited.set_result(code)
        self._fail(f"{self.name}: ended with exit code {code}")

    def _fail(self, text: str) -> None:
        for future in [self._ready, *self._waiting.values()]:
            if not future.done():
                future.set_exception(ControlError(text))

    def _line(self, message: dict[str, Any], fds: list[int]) -> None:
        if fds:
            info = message["netns"]
            self._on_netns(info if isinstance(info, dict) else {}, fds[0])
        elif "event" in message:
            name, t, fields = message["event"], message.get("t"), message.get("fields")
            if isinstance(name, str) and isinstance(t, int | float) and isinstance(fields, dict):
                self._on_event(name, float(t), fields)
        elif message.get("ready") is True:
            if not self._ready.done():
                self._ready.set_result(None)
        elif type(message.get("id")) is int:
            future = self._waiting.get(message["id"])
            if future is None or future.done():
                return  # the asker gave up
            if message.get("ok") is True:
                future.set_result(message.get("result"))
            else:
                code, text = message.get("code", "unknown"), message.get("error", "failed")
                future.set_exception(VerbError(str(code), str(text)))
