"""What the kernel says of one network device: down, up, and that it has got a route. Asked of rtnetlink in the namespace of the
thread that makes the watch, and told in the event loop, within a millisecond: who sends there need not find out by a time-out.

struct nlmsghdr: length, type (2), flags (2), sequence, port; then struct ifinfomsg or rtmsg, then attributes (rtnetlink(7)).
pyroute2's parser reads all attributes of a message, for 0.7 ms of the event loop each, and ends in struct.error where one is cut.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import sys
from collections.abc import Callable

from pyroute2.netlink import NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.rtnl import (
    RTM_DELLINK,
    RTM_GETLINK,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    RTMGRP_IPV4_ROUTE,
    RTMGRP_IPV6_ROUTE,
    RTMGRP_LINK,
)
from pyroute2.netlink.rtnl.ifinfmsg import IFF_LOWER_UP, IFF_UP

from node.counters import Counters
from node.errors import LinkError

HEADER = struct.Struct("=IHHII")
IFINFO = struct.Struct("=BxHiII")
"""family, type, index, flags, which of them changed"""
ROUTE_HEAD = 12
ATTRIBUTE = struct.Struct("=HH")

RTA_OIF = 4
READ = 65536
READS = 64
"""messages that are read in one turn of the event loop, at most"""

Told = Callable[[bool], object]


def is_up(flags: int) -> bool:
    """By administration, and with a carrier."""
    return bool(flags & IFF_UP) and bool(flags & IFF_LOWER_UP)


class LinkWatch:
    """Of a device by its index: a socket that is bound to it keeps to that, too, whatever it is called later."""

    def __init__(self, device: str, counters: Counters) -> None:
        """Nothing is told before `start`."""
        self.device, self._counters = device, counters
        self.up = True
        self._told: Told | None = None
        try:
            self.index = socket.if_nametoindex(device)
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
            )
        except OSError as error:
            raise LinkError(f"device {device} cannot be watched: {error.strerror}") from error
        try:
            self._socket.bind((0, RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE))
        except OSError as error:
            self._socket.close()
            raise LinkError(f"device {device} cannot be watched: {error.strerror}") from error

    def start(self, told: Told) -> None:
        """`told(False)`: it is down, or gone. `told(True)`: it is up, or has got a route since: what failed may work now. First
        what it is at this time."""
        self._told = told
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        self._ask()

    def close(self) -> None:
        if self._told is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._told = None
        self._socket.close()

    def _ask(self) -> None:
        """For all devices: the answers are as what is told unasked."""
        body = IFINFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        request = HEADER.pack(HEADER.size + len(body), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + body
        try:
            self._socket.send(request)
        except OSError:
            self._counters.inc("link_watch.not_asked")

    def _readable(self) -> None:
        for _ in range(READS):
            try:
                data, sender = self._socket.recvfrom(READ)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    self._counters.inc("link_watch.not_read")
                    return
                self._counters.inc("link_watch.overflow")  # something was missed: all is asked anew
                self._ask()
                continue
            if sender[0] != 0:  # by a process, not the kernel
                self._counters.inc("link_watch.stranger")
                continue
            for up in self._news(data):
                if self._told is not None:
                    self._told(up)

    def _news(self, data: bytes) -> list[bool]:
        """Of the device, in a datagram of messages."""
        news: list[bool] = []
        at = 0
        while at + HEADER.size <= len(data):
            length, kind, _, _, _ = HEADER.unpack_from(data, at)
            if length < HEADER.size or at + length > len(data):
                self._counters.inc("link_watch.malformed")
                break
            body = data[at + HEADER.size : at + length]
            if kind in (RTM_NEWLINK, RTM_DELLINK) and len(body) >= IFINFO.size:
                family, _, index, flags, _ = IFINFO.unpack_from(body)
                if index == self.index and family == socket.AF_UNSPEC:  # AF_BRIDGE: of a port, which is not the device
                    self.up = kind == RTM_NEWLINK and is_up(flags)
                    news.append(self.up)
            elif kind == RTM_NEWROUTE and self.up and _route_device(body) == self.index:
                news.append(True)
            at += (length + 3) & ~3
        return news


def _route_device(body: bytes) -> int:
    """Index of the device that a route goes over; 0: over none, or over several."""
    at = ROUTE_HEAD
    while at + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, at)
        if length < ATTRIBUTE.size or at + length > len(body):
            return 0
        if kind == RTA_OIF and length == ATTRIBUTE.size + 4:
            return int.from_bytes(body[at + ATTRIBUTE.size : at + length], sys.byteorder)
        at += (length + 3) & ~3
    return 0
