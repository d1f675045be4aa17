"""What every node's `__main__` calls: `run(NodeClass, ConfigClass)`.

Exit codes: 0 clean end, 1 failed, 2 misused (arguments or configuration). A node never outlives its supervisor: it
ends on end-of-file of the control channel and has a parent-death signal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from node.config import load
from node.control import ControlChannel
from node.counters import Counters
from node.errors import ConfigError, NodeError
from node.events import Events
from node.secrets import disable_core_dumps

PR_SET_PDEATHSIG = 1
STOP_LIMIT = 5.0  # s for a node's own clean end

C = TypeVar("C")
C_contra = TypeVar("C_contra", contravariant=True)


@dataclass(slots=True)
class NodeContext:
    """What a node gets besides its configuration."""

    events: Events
    counters: Counters
    channel: ControlChannel
    tasks: asyncio.TaskGroup

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A background task of the node. If it fails, the node ends with exit code 1."""
        return self.tasks.create_task(work, name=name)


class Node(Protocol):
    """`start` returns when all is up (then `ready` is sent); `stop` is the clean end; the two dicts answer verbs."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def status(self) -> dict[str, Any]: ...
    def metrics(self) -> dict[str, Any]: ...


class NodeFactory(Protocol[C_contra]):
    def __call__(self, config: C_contra, context: NodeContext) -> Node: ...


class _Stop(Exception):
    """Ends the task group; not an error."""


def run(node_class: NodeFactory[C], config_class: type[C], arguments: list[str] | None = None) -> int:
    """Parse arguments, read the configuration, run the node until told to end. `sys.exit(run(...))`."""
    parser = argparse.ArgumentParser(description=(getattr(node_class, "__doc__", None) or "").strip() or None)
    parser.add_argument("--config", required=True, metavar="FILE", help="configuration (JSON)")
    parser.add_argument("--control-fd", required=True, type=int, metavar="N", help="descriptor of the control channel")
    options = parser.parse_args(arguments)
    disable_core_dumps()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    try:
        config = load(options.config, config_class)
        os.fstat(options.control_fd)
        os.set_inheritable(options.control_fd, False)
    except ConfigError as e:
        print(e, file=sys.stderr)
        return 2
    except OSError as e:
        print(f"--control-fd {options.control_fd}: {e.strerror}", file=sys.stderr)
        return 2
    try:
        return asyncio.run(_main(node_class, config, options.control_fd))
    except KeyboardInterrupt:
        return 1


async def _main(node_class: NodeFactory[C], config: C, control_fd: int) -> int:
    counters = Counters()
    channel = ControlChannel(control_fd, counters)
    events = Events(channel.event)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    code = 0
    try:
        async with asyncio.TaskGroup() as tasks:
            context = NodeContext(events, counters, channel, tasks)
            node = node_class(config, context)
            _common_verbs(channel, node, stopping)
            tasks.create_task(_until_gone(channel, stopping), name="control channel")
            starting = asyncio.create_task(node.start(), name="start")
            stop = asyncio.create_task(stopping.wait(), name="stop")
            try:
                await asyncio.wait([starting, stop], return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    starting.result()
                    channel.ready()
                    await stop
            finally:
                for task in (starting, stop):
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await starting
                await _stopped(node)
            raise _Stop
    except* _Stop:
        pass
    except* ConfigError as group:  # found only when the node tried to use it
        code = _report(group, 2)
    except* (NodeError, OSError) as group:
        code = _report(group, 1)
    except* Exception as group:
        traceback.print_exception(group)
        code = 1
    channel.close()
    return code


async def _stopped(node: Node) -> None:
    try:
        async with asyncio.timeout(STOP_LIMIT):
            await node.stop()
    except TimeoutError:
        raise NodeError(f"the clean end took more than {STOP_LIMIT:g} s") from None


def _report(group: BaseExceptionGroup[BaseException], code: int) -> int:
    for e in _leaves(group):
        print(e, file=sys.stderr)
    return code


def _leaves(e: BaseException) -> list[BaseException]:
    if isinstance(e, BaseExceptionGroup):
        return [leaf for inner in e.exceptions for leaf in _leaves(inner)]
    return [e]


def _common_verbs(channel: ControlChannel, node: Node, stopping: asyncio.Event) -> None:
    async def status(args: dict[str, Any]) -> dict[str, Any]:
        return node.status()

    async def metrics(args: dict[str, Any]) -> dict[str, Any]:
        return {"counters": channel.counters.snapshot(), **node.metrics()}

    async def shutdown(args: dict[str, Any]) -> None:
        asyncio.get_running_loop().call_soon(stopping.set)  # after the answer is queued

    channel.verb("status", status)
    channel.verb("metrics", metrics)
    channel.verb("shutdown", shutdown)


async def _until_gone(channel: ControlChannel, stopping: asyncio.Event) -> None:
    await channel.run()
    stopping.set()
