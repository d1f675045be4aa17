"""A program in a namespace of the lab, which ends with the lab however the lab ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

from lab.errors import LabError
from node.netns import Netns

DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


class Process:
    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen

    @classmethod
    async def start(cls, command: list[str], netns: Netns, *, stderr: int = subprocess.DEVNULL) -> Process:
        def make() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*DIES_WITH_US, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )

        return cls(await netns.call(make))

    @classmethod
    async def python(cls, module: str, arguments: list[str], netns: Netns) -> Process:
        return await cls.start([sys.executable, "-m", module, *arguments], netns)

    @property
    def command(self) -> str:
        return str(self.popen.args)

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

    async def finish(self, limit: float) -> tuple[bytes, bytes, int]:
        """Its output, error output and exit code; killed after `limit` seconds."""

        def wait() -> tuple[bytes, bytes, int]:
            try:
                out, err = self.popen.communicate(timeout=limit)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                out, err = self.popen.communicate()
            return out or b"", err or b"", self.popen.returncode

        return await asyncio.to_thread(wait)

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
