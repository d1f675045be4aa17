"""A program in a namespace of the lab, which ends with the lab however the lab ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator

from lab.errors import LabError
from node.netns import Netns

_UNLESS_ALONE = '[ "$PPID" = "$0" ] && exec "$@"'
OUTPUT_MAX = 16 << 20
"""Octets of output and error output that are kept: a program that says more is killed."""
LAST_WORDS_S = 0.2
"""After its end: what it left in the background may hold the pipe for ever."""


def dying_with_us(command: list[str]) -> list[str]:
    """`command`, killed by the kernel when the thread that starts it ends. One whose starter was killed before it could ask the
    kernel for that would stay for ever: it looks whose child it is once it has asked, and does not begin."""
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", _UNLESS_ALONE, str(os.getpid()), *command]


class Process:
    def __init__(self, popen: subprocess.Popen[bytes], command: list[str]) -> None:
        self.popen = popen
        self.command = " ".join(command)
        """As errors name it."""

    @classmethod
    async def start(
        cls, command: list[str], netns: Netns, *, stderr: int = subprocess.DEVNULL, mark: dict[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> Process:
        """`mark`: further environment, by which what it leaves in the background is found."""

        def make() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                dying_with_us(command),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=None if mark is None else {**os.environ, **mark},
                start_new_session=True,
            )

        return cls(await netns.call(make), command)

    @classmethod
    async def python(cls, module: str, arguments: list[str], netns: Netns, *, stdin: int = subprocess.DEVNULL) -> Process:
        return await cls.start([sys.executable, "-m", module, *arguments], netns, stdin=stdin)

    def tell(self, line: bytes) -> None:
        """A line for its standard input (started with `stdin=PIPE`)."""
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(line + b"\n")
            self.popen.stdin.flush()
        except (OSError, ValueError):
            raise LabError(f"{self.command}: it has ended") from None

    async def line(self, limit: float) -> bytes:
        """Its next line of output."""
        assert self.popen.stdout is not None
        try:
            async with asyncio.timeout(limit):
                line = await asyncio.to_thread(self.popen.stdout.readline)
        except TimeoutError:
            self.kill()
            raise LabError(f"{self.command}: no output after {limit:g} s") from None
        if not line:
            raise LabError(f"{self.command}: ended with exit code {self.popen.poll()}")
        return line

    async def lines(self) -> AsyncIterator[bytes]:
        """Its output, line by line, until it ends or is killed."""
        assert self.popen.stdout is not None
        try:
            while line := await asyncio.to_thread(self.popen.stdout.readline):
                yield line
        except ValueError:  # killed: the pipe is closed
            return

    async def finish(self, limit: float, most: int = OUTPUT_MAX) -> tuple[bytes, bytes, int]:
        """Its output, error output and exit code. After `limit` seconds, or more than `most` octets, or when nobody waits
        any more, it is killed and all of its process group with it."""
        try:
            return await asyncio.to_thread(self._read_all, time.monotonic() + limit, most)
        except asyncio.CancelledError:
            self._kill_group()
            raise

    def _read_all(self, deadline: float, most: int) -> tuple[bytes, bytes, int]:
        read: dict[int, bytearray] = {}
        ended: float | None = None
        with selectors.DefaultSelector() as selector:
            for stream in (self.popen.stdout, self.popen.stderr):
                if stream is not None:
                    read[stream.fileno()] = bytearray()
                    selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                now = time.monotonic()
                if self.popen.poll() is not None:
                    ended = ended or now
                if now >= deadline or sum(map(len, read.values())) > most:
                    self._kill_group()
                    break
                if ended is not None and now >= ended + LAST_WORDS_S:
                    break
                for key, _ in selector.select(min(LAST_WORDS_S, deadline - now)):
                    data = os.read(key.fd, 1 << 16)
                    read[key.fd] += data
                    if not data:
                        selector.unregister(key.fileobj)
        try:
            self.popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._kill_group()
            self.popen.wait()
        outputs = []
        for stream in (self.popen.stdout, self.popen.stderr):
            outputs.append(b"" if stream is None else bytes(read[stream.fileno()][:most]))
        self.kill()
        return outputs[0], outputs[1], self.popen.returncode

    def _kill_group(self) -> None:
        """It leads a session of its own. Not after it was waited for: the number may be another's then."""
        if self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, signal.SIGKILL)

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
