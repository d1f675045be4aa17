"""JSON lines over an AF_UNIX stream socket, descriptors riding along (SCM_RIGHTS): both ends of the control channel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from node.config import strict_json
from node.errors import ControlError

LINE_LIMIT = 1 << 20  # octets of one line
OUTPUT_LIMIT = 8 << 20  # octets waiting for a peer that does not read
FDS_PER_READ = 16

LineHandler = Callable[[dict[str, Any], list[int]], None]


class LineSocket:
    """Non-blocking lines. `on_line(object, fds)` owns the descriptors it gets; `closed` is done when the peer left."""

    def __init__(self, sock: socket.socket, on_line: LineHandler, fd_member: str) -> None:
        """A line with the member `fd_member` takes one descriptor; no other line has any."""
        sock.setblocking(False)
        self._sock = sock
        self._on_line = on_line
        self._fd_member = fd_member
        self._loop = asyncio.get_running_loop()
        self._input = bytearray()
        self._fds: deque[int] = deque()
        self._output: deque[tuple[bytes, list[int]]] = deque()
        self._output_size = 0
        self._writing = False
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: dict[str, Any], fds: list[int] | None = None) -> bool:
        """Queue one line. Descriptors are duplicated: the caller keeps its own. False: closed, or the peer reads not."""
        if self.closed.done():
            return False
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(data) > LINE_LIMIT:
            raise ControlError(f"a line of {len(data)} octets is over the limit of {LINE_LIMIT}")
        if self._output_size + len(data) > OUTPUT_LIMIT:
            return False
        self._output.append((data, [os.dup(fd) for fd in fds or []]))
        self._output_size += len(data)
        if not self._writing:
            self._writable()
        return True

    def flush(self) -> None:
        """Write what is queued, blocking: for the last words of a process."""
        if not self.closed.done():
            self._sock.setblocking(True)
            self._sock.settimeout(1.0)
            with contextlib.suppress(OSError):
                while self._output:
                    data, _ = self._output.popleft()
                    self._sock.sendall(data)

    def _writable(self) -> None:
        try:
            while self._output:
                data, fds = self._output[0]
                sent = socket.send_fds(self._sock, [data], fds) if fds else self._sock.send(data)
                for fd in fds:
                    os.close(fd)
                self._output_size -= sent
                if sent == len(data):
                    self._output.popleft()
                else:
                    self._output[0] = (data[sent:], [])
        except BlockingIOError:
            pass
        except OSError as e:
            self.close(f"write failed: {e.strerror}")
            return
        if bool(self._output) != self._writing:
            self._writing = bool(self._output)
            if self._writing:
                self._loop.add_writer(self._sock.fileno(), self._writable)
            else:
                self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._sock, 1 << 16, FDS_PER_READ)
        except BlockingIOError:
            return
        except OSError as e:
            self.close(f"read failed: {e.strerror}")
            return
        self._fds.extend(fds)
        if flags & socket.MSG_CTRUNC:
            self.close("too many descriptors at once")
            return
        if not data:
            self.close("the peer closed")
            return
        self._input += data
        while not self.closed.done() and (end := self._input.find(b"\n")) >= 0:
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            self._line(line)
        if len(self._input) > LINE_LIMIT:
            self.close(f"a line over {LINE_LIMIT} octets")

    def _line(self, line: bytes) -> None:
        try:
            message = strict_json(line)
            if not isinstance(message, dict):
                raise ValueError("not an object")
        except ValueError as e:
            self.close(f"not a line of ours: {e}")
            return
        fds: list[int] = []
        if self._fd_member in message:
            if not self._fds:  # the kernel delivers a descriptor with the first octet of its line
                self.close(f"a line with {self._fd_member!r} came without its descriptor")
                return
            fds.append(self._fds.popleft())
        self._on_line(message, fds)

    def close(self, reason: str = "closed here") -> None:
        if self.closed.done():
            return
        self._loop.remove_reader(self._sock.fileno())
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for fd in self._fds:
            os.close(fd)
        for _, fds in self._output:
            for fd in fds:
                os.close(fd)
        self._fds.clear()
        self._output.clear()
        self.closed.set_result(reason)
