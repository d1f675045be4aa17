"""Two namespaces joined by a wire: veths whose other ends lie in a third one, with the emulator between them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from native._engine import ffi, lib
from node.netns import Netns

ADDRESS = ("198.51.100.1", "198.51.100.2")


def privileged() -> bool:
    """Whether this process may make namespaces (root, or mapped root)."""
    return os.geteuid() == 0


def ends(left: Netns, middle: Netns, number: int) -> int:
    """A veth from `left` (port0) into `middle`; the interface index there."""

    def make() -> None:
        left.ipr.link("add", ifname="port0", kind="veth", peer={"ifname": f"mid{number}", "net_ns_fd": middle.fd})
        index = left.ipr.link_lookup(ifname="port0")[0]
        left.ipr.addr("add", index=index, address=ADDRESS[number], prefixlen=24)
        left.ipr.link("set", index=index, state="up")

    def up() -> int:
        index = middle.ipr.link_lookup(ifname=f"mid{number}")[0]
        with open(f"/proc/sys/net/ipv6/conf/mid{number}/disable_ipv6", "w", encoding="ascii") as f:
            f.write("1")
        middle.ipr.link("set", index=index, state="up")
        return int(index)

    def quiet() -> None:
        with open("/proc/sys/net/ipv6/conf/all/disable_ipv6", "w", encoding="ascii") as f:
            f.write("1")

    left.call_sync(quiet)
    left.call_sync(make)
    return middle.call_sync(up)


class Wire:
    def __init__(self, wires: Any, number: int, left: Netns, right: Netns) -> None:
        self.wires, self.number, self.left, self.right = wires, number, left, right

    def shape(self, direction: int = 0, **values: int) -> None:
        assert lib.wire_shape_set(self.wires, self.number, direction, ffi.new("struct wire_shape *", values)) == 0

    def stats(self, direction: int = 0) -> Any:
        stats = ffi.new("struct wire_stats *")
        assert lib.wire_stats(self.wires, self.number, direction, stats) == 0
        return stats

    def sockets(self, kind: int = socket.SOCK_DGRAM, port: int = 5000) -> tuple[socket.socket, socket.socket]:
        def make(side: int) -> socket.socket:
            s = socket.socket(socket.AF_INET, kind)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            s.bind((ADDRESS[side], port))
            s.settimeout(10)
            return s

        return self.left.call_sync(make, 0), self.right.call_sync(make, 1)


@contextmanager
def wire(seed: int = 7, *, start: bool = True) -> Iterator[Wire]:
    """`start` False: nobody takes the frames, as of a process that stands still, until `lib.wires_start`."""
    with Netns() as left, Netns() as right, Netns() as middle:
        a, b = ends(left, middle, 0), ends(right, middle, 1)
        wires = ffi.gc(lib.wires_new(seed, 1), lib.wires_free)
        number = lib.wire_add(wires, middle.fd, a, middle.fd, b)
        assert number == 0
        if start:
            assert lib.wires_start(wires) == 0
        yield Wire(wires, number, left, right)
        ffi.release(wires)
