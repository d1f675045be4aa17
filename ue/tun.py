"""The TUN mpq0 in the UE's own namespace: the session's addresses and routes. Outer packets are not caught by its default
route: they have their access's source address, and a policy rule for that comes first.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

from pyroute2 import NetlinkError

from native import lib
from node.netns import Netns
from ue.errors import DatapathError
from ue.ports import Network

IFA_F_NODAD = 0x02
SETTINGS = (("accept_ra", "0"), ("addr_gen_mode", "1"))
"""No link-local address and no router solicitation: the session's prefix allows neither."""
GONE = (errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENOENT, errno.ENODEV)


class Tun:
    """Opened in the calling thread's namespace; netlink runs in a worker thread of that namespace."""

    def __init__(self, name: str, mtu: int) -> None:
        self.name, self.mtu = name, mtu
        self.fd = int(lib.tun_open(name.encode()))
        if self.fd < 0:
            raise DatapathError(f"TUN {name} cannot be opened: {os.strerror(-self.fd)}")
        self._netns = Netns.current()
        self._index = 0
        self._addresses: list[tuple[str, int]] = []
        self._routes: list[str] = []
        try:
            self._netns.call_sync(self._up)
        except BaseException as error:
            self.close()
            if isinstance(error, NetlinkError | OSError):
                raise DatapathError(f"TUN {name}: {error}") from error
            raise

    def _up(self) -> None:
        ipr = self._netns.ipr
        found = ipr.link_lookup(ifname=self.name)
        if not found:
            raise DatapathError(f"there is no TUN {self.name}")
        self._index = found[0]
        for setting, value in SETTINGS:
            path = Path(f"/proc/sys/net/ipv6/conf/{self.name}/{setting}")
            if path.exists():  # no IPv6 in the kernel: nothing to set
                path.write_text(value)
        ipr.link("set", index=self._index, mtu=self.mtu, state="up")

    def configure(
        self, ipv4: IPv4Address | None, ipv6: IPv6Network | None, interface_id: bytes | None, routes: Sequence[Network]
    ) -> None:
        """Addresses and routes of the session, in place of those before."""
        addresses = [] if ipv4 is None else [(str(ipv4), 32)]
        if ipv6 is not None and interface_id is not None:
            host = int.from_bytes(interface_id, "big")
            addresses.append((str(IPv6Address(int(ipv6.network_address) | host)), ipv6.prefixlen))
        try:
            self._netns.call_sync(self._configure, addresses, [str(r) for r in routes])
        except Exception as error:
            raise DatapathError(f"TUN {self.name}: {type(error).__name__}: {error}") from error

    def _configure(self, addresses: list[tuple[str, int]], routes: list[str]) -> None:
        ipr, index = self._netns.ipr, self._index
        for destination in self._routes:
            _removed(ipr.route, "del", dst=destination, oif=index)
        for address, length in self._addresses:
            _removed(ipr.addr, "del", index=index, address=address, prefixlen=length)
        self._routes, self._addresses = [], []
        for address, length in addresses:
            flags = {"flags": IFA_F_NODAD} if ":" in address else {}
            ipr.addr("replace", index=index, address=address, prefixlen=length, **flags)
            self._addresses.append((address, length))
        for destination in routes:
            ipr.route("replace", dst=destination, oif=index)
            self._routes.append(destination)

    def mtu_set(self, mtu: int) -> None:
        try:
            self._netns.call_sync(lambda: self._netns.ipr.link("set", index=self._index, mtu=mtu))
        except Exception as error:
            raise DatapathError(f"TUN {self.name}: MTU {mtu}: {type(error).__name__}: {error}") from error
        self.mtu = mtu

    def close(self) -> None:
        """With the last descriptor the device goes."""
        self._netns.close()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _removed(call: Callable[..., Any], *arguments: Any, **more: Any) -> None:
    """Also when somebody else has done it: an interface set down has lost its IPv6 addresses, a flush its routes."""
    try:
        call(*arguments, **more)
    except NetlinkError as error:
        if error.code not in GONE:
            raise
