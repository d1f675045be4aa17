"""A program of the lab: its output is bounded, and it ends when it should, with all that it started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable

import pytest

from lab.process import Process, dying_with_us


class Here:
    """A namespace that is this one."""

    async def call(self, make: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        return make()


def with_process(command: list[str], work: Callable[[Process], Awaitable[None]]) -> None:
    async def main() -> None:
        process = await Process.start(command, Here(), stderr=subprocess.PIPE)  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            await work(process)

    asyncio.run(main())


def test_output_and_code() -> None:
    async def work(process: Process) -> None:
        assert await process.finish(10) == (b"out\n", b"err\n", 7)

    with_process(["sh", "-c", "echo out; echo err >&2; exit 7"], work)


@pytest.mark.parametrize("command", ["sleep 60; true", "sleep 60 & wait", "exec >&- 2>&-; sleep 60"])
def test_it_and_its_children_are_killed_when_its_time_is_over(command: str) -> None:
    async def work(process: Process) -> None:
        start = time.monotonic()
        assert (await process.finish(0.5))[2] != 0
        assert time.monotonic() - start < 10

    with_process(["sh", "-c", command], work)


def test_what_it_left_in_the_background_is_not_waited_for() -> None:
    async def work(process: Process) -> None:
        assert await process.finish(15) == (b"done\n", b"", 0)

    start = time.monotonic()
    with_process(["sh", "-c", "sleep 20 & echo done"], work)
    assert time.monotonic() - start < 15


def test_endless_output_is_cut() -> None:
    async def work(process: Process) -> None:
        out, _, code = await process.finish(30, most=100_000)
        assert len(out) == 100_000 and code != 0

    with_process(["yes"], work)


def test_when_nobody_waits_it_ends() -> None:
    async def work(process: Process) -> None:
        task = asyncio.ensure_future(process.finish(60))
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        assert await asyncio.to_thread(process.popen.wait, 10) != 0

    with_process(["sh", "-c", "sleep 60; true"], work)


@pytest.mark.parametrize(("orphan", "said"), [(True, b""), (False, b"begun\n")])
def test_a_program_whose_starter_is_gone_before_it_begins_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, orphan: bool, said: bytes
) -> None:
    """kill -9 at the moment of a start: the kernel's signal comes to those only that have asked for it by then."""
    if orphan:
        monkeypatch.setattr(os, "getpid", lambda: 1 << 30)
    command = dying_with_us(["echo", "begun"])
    assert subprocess.run(command, capture_output=True, timeout=20, check=False).stdout == said
