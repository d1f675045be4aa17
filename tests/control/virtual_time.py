"""An event loop whose time passes only when everybody waits: then it is at once what the next timer waits for. Hours take
milliseconds, and what a test sees does not depend on how busy the machine is. For code without sockets."""

import asyncio
import selectors


class _Selector(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise AssertionError("everybody waits, and nobody for a timer: nothing will ever happen")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self):
        return self._virtual.now


def run_virtually(work, limit=1e6):
    """Runs a coroutine; `limit`: seconds of its own time."""

    async def limited():
        async with asyncio.timeout(limit):
            return await work

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(limited())
