"""Network namespaces, each held by one worker thread and a descriptor: killed with the process, nothing stays behind.

Functions given to `call` run inside the namespace: netlink through `.ipr`, `socket()` with `bind()`, opening a TUN,
starting a process. A socket stays in the namespace it was made in, whatever thread uses it later.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from node.errors import NetnsError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

CLONE_NEWNET = 0x40000000
MS_BIND = 4096
MNT_DETACH = 2
NAMED = Path("/run/netns")

P = ParamSpec("P")
R = TypeVar("R")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise NetnsError(f"{what}: {os.strerror(error)}")


class Netns:
    """A network namespace. `Netns()` makes one, `Netns.open(fd)` adopts one; `close()` lets it go."""

    def __init__(self, name: str | None = None, *, adopt: int | None = None) -> None:
        """`name` shows it under /run/netns; `adopt` is a descriptor of an existing namespace (it is duplicated)."""
        if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
            raise NetnsError(f"{name!r} cannot be the name of a namespace")
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="netns")
        self._named: Path | None = None
        self._closed = False
        self.ipr: IPRoute
        self.fd = -1
        try:
            self._pool.submit(self._make, adopt, name).result()
        except BaseException:
            self._pool.shutdown()
            self._hide()
            if self.fd >= 0:
                os.close(self.fd)
            raise

    @classmethod
    def open(cls, fd: int) -> Netns:
        """Adopt the namespace behind `fd` (a duplicate is kept: the caller still owns and closes `fd`)."""
        return cls(adopt=fd)

    @classmethod
    def current(cls) -> Netns:
        """The namespace this process is in."""
        fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return cls(adopt=fd)
        finally:
            os.close(fd)

    def _make(self, adopt: int | None, name: str | None) -> None:
        from pyroute2 import IPRoute  # 0.3 s: only processes with namespaces pay for it

        if adopt is None:
            _checked(_libc.unshare(CLONE_NEWNET), "cannot make a network namespace")
        else:
            _checked(_libc.setns(adopt, CLONE_NEWNET), "cannot enter the network namespace")
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if name is not None:
            self._bind(name)
        self.ipr = IPRoute()  # made in this thread: its netlink socket is in the namespace
        if adopt is None:
            self.ipr.link("set", index=1, state="up")  # lo is always index 1

    def _bind(self, name: str) -> None:
        NAMED.mkdir(mode=0o755, parents=True, exist_ok=True)
        path = NAMED / name
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        except FileExistsError:
            raise NetnsError(f"{path} exists already: another namespace has this name") from None
        try:
            source = f"/proc/self/fd/{self.fd}".encode()
            _checked(_libc.mount(source, os.fsencode(path), b"none", MS_BIND, None), f"cannot show {path}")
        except NetnsError:
            path.unlink()
            raise
        self._named = path

    def call_sync(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run `fn` inside the namespace and wait for its result."""
        return self._pool.submit(fn, *args, **kwargs).result()

    async def call(self, fn: Callable[..., R], /, *args: Any) -> R:
        """Run `fn` inside the namespace without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)

    def close(self) -> None:
        """Let the namespace go; the kernel removes it when nothing else (socket, process, descriptor) holds it."""
        if self._closed:
            return
        self._closed = True
        self._pool.submit(self.ipr.close).result()
        self._pool.shutdown()
        self._hide()
        os.close(self.fd)
        self.fd = -1

    def _hide(self) -> None:
        if self._named is not None:
            _libc.umount2(os.fsencode(self._named), MNT_DETACH)
            self._named.unlink(missing_ok=True)
            self._named = None

    def __enter__(self) -> Netns:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
