"""Access paths: one anonymous namespace each, with the UPF's end of the access in it. The sockets of the MPQUIC proxy are
opened inside, so each access has its own addresses, routes and MTU, and only the sockets cross the border.

    supervisor ──plugs in──►  wire (towards the UE)   lo: proxy address   n1 (towards the AMF)
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import TypeVar

from pyroute2 import NetlinkError

from node.counters import Counters
from node.errors import LinkError
from node.link_watch import LinkWatch, Told
from node.netns import Netns
from upf.config import AccessConfig, ProxyConfig
from upf.errors import UpfError

T = TypeVar("T")

WIRE = "wire"
LO = 1
IFA_F_NODAD = 0x02
NO_DAD = Path("/proc/sys/net/ipv6/conf/default/accept_dad")
FORWARDING = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")


class AccessError(UpfError):
    """An access path could not be set up."""


def forwarding_enable() -> None:
    """In the calling thread's namespace: the UE's N1 passes through an access on its way to the core."""
    for name in FORWARDING:
        path = Path(name)
        if path.exists():  # no IPv6 in the kernel: nothing to forward there
            path.write_text("1")


@dataclass(slots=True)
class AccessPath:
    """One access. `sockets` are the proxy's, IPv4 first, in the order of the engine's links."""

    config: AccessConfig
    proxy: ProxyConfig
    netns: Netns = field(default_factory=Netns)
    sockets: list[socket.socket] = field(default_factory=list)
    _watch: LinkWatch | None = None

    def prepare(self) -> None:
        """What needs no interface of the supervisor: loopback, proxy address, forwarding."""
        self._inside(self._prepare)

    def _inside(self, work: Callable[[], T]) -> T:
        """Runs it in the access's namespace; what netlink refuses is AccessError."""
        try:
            return self.netns.call_sync(work)
        except (NetlinkError, OSError) as error:
            raise AccessError(f"access {self.config.name}: {error}") from error

    def _prepare(self) -> None:
        ipr = self.netns.ipr
        if NO_DAD.exists():
            NO_DAD.write_text("0")  # link-local addresses too are usable at once
        ipr.link("set", index=LO, state="up")
        ipr.addr("add", index=LO, address=self.proxy.ipv4, prefixlen=32)
        if self.proxy.ipv6 is not None:
            ipr.addr("add", index=LO, address=self.proxy.ipv6, prefixlen=128)
        forwarding_enable()

    def ready(self) -> list[socket.socket]:
        """The supervisor has plugged the wire in: addresses on it, sockets open. Again after a new wire: the sockets
        stay, the addresses are set anew."""
        return self._inside(self._ready)

    def _ready(self) -> list[socket.socket]:
        ipr = self.netns.ipr
        found = ipr.link_lookup(ifname=WIRE)
        if not found:
            raise AccessError(f"access {self.config.name} has no interface `{WIRE}`")
        index = found[0]
        ipr.link("set", index=index, state="up")
        addresses: list[IPv4Interface | IPv6Interface] = [IPv4Interface(self.config.upf_ipv4)]
        if self.config.upf_ipv6 is not None:
            addresses.append(IPv6Interface(self.config.upf_ipv6))
        for address in addresses:
            # No duplicate address detection: the wire has two ends, and both are ours.
            ipr.addr(
                "replace",
                index=index,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **({"flags": IFA_F_NODAD} if address.version == 6 else {}),
            )
        if not self.sockets:
            self.sockets = self._open()
        return self.sockets

    def _open(self) -> list[socket.socket]:
        """Bound to the proxy's address, so that answers leave from it; not connected: the engine finds connections by
        their IDs."""
        opened: list[socket.socket] = []
        try:
            for family, address in ((socket.AF_INET, self.proxy.ipv4), (socket.AF_INET6, self.proxy.ipv6)):
                if address is None:
                    continue
                sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                opened.append(sock)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind((address, self.proxy.port))
        except OSError as error:
            for sock in opened:
                sock.close()
            name = errno.errorcode.get(error.errno or 0, "?")
            raise AccessError(f"access {self.config.name}: socket for the proxy: {name}") from error
        return opened

    def watch(self, told: Told, counters: Counters) -> None:
        """Tells what becomes of the wire's device from now on; of a new wire: of that one. In the thread of the event loop."""
        self._watch_end()
        try:
            self._watch = self.netns.call_sync(LinkWatch, WIRE, counters)
        except LinkError:  # its failures are found out by time-outs then
            counters.inc("link_watch.not_opened")
            return
        self._watch.start(told)

    def _watch_end(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def close(self) -> None:
        self._watch_end()
        for sock in self.sockets:
            sock.close()
        self.netns.close()
