"""N6: the TUN in the UPF's own namespace through which the sessions' packets reach the data network and come back. Each
session has a route for its address there; towards `dn` the namespace routes by what the supervisor set up."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pyroute2 import NetlinkError

from node.netns import Netns
from upf.access import forwarding_enable
from upf.errors import DatapathError
from upf.rules import IPV6_PREFIX


class N6:
    """Made with the TUN's descriptor open already (the engine's tun_open); netlink runs in a worker thread, because
    pyroute2's calls cannot run in the thread of the event loop."""

    def __init__(self, name: str, mtu: int) -> None:
        self.name = name
        self.mtu = mtu
        self._netns = Netns.current()
        self._index = 0

    def up(self) -> None:
        try:
            self._netns.call_sync(self._up)
        except (NetlinkError, OSError) as error:
            raise DatapathError(f"TUN {self.name}: {error}") from error

    def _up(self) -> None:
        ipr = self._netns.ipr
        found = ipr.link_lookup(ifname=self.name)
        if not found:
            raise DatapathError(f"there is no TUN {self.name}")
        self._index = found[0]
        ipr.link("set", index=self._index, mtu=self.mtu, state="up")
        forwarding_enable()

    def network_of(self, address: IPv4Address) -> IPv4Network:
        """What is on the link of an address of this namespace; the address alone when no interface has it."""
        found = self._netns.call_sync(lambda: list(self._netns.ipr.get_addr(address=str(address))))
        prefix = found[0]["prefixlen"] if found else 32
        return IPv4Network((address, prefix), strict=False)

    def route_add(self, ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> None:
        """Routes of one session, both or none."""
        added: list[str] = []
        try:
            for destination in _routes(ipv4, ipv6):
                self._netns.call_sync(self._route, "replace", destination)
                added.append(destination)
        except NetlinkError as error:
            for destination in added:
                with contextlib.suppress(NetlinkError):
                    self._netns.call_sync(self._route, "del", destination)
            raise DatapathError(f"route of the session: {error}") from error

    def route_remove(self, ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> None:
        """DatapathError when one could not be removed; the other one is gone all the same."""
        failed: list[str] = []
        for destination in _routes(ipv4, ipv6):
            try:
                self._netns.call_sync(self._route, "del", destination)
            except NetlinkError as error:
                failed.append(f"{destination}: {error}")
        if failed:
            raise DatapathError(f"route of the session: {', '.join(failed)}")

    def _route(self, command: str, destination: str) -> None:
        self._netns.ipr.route(command, dst=destination, oif=self._index)

    def close(self) -> None:
        self._netns.close()


def _routes(ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> list[str]:
    found = [] if ipv4 is None else [f"{ipv4}/32"]
    return found if ipv6 is None else [*found, str(IPv6Network((ipv6, IPV6_PREFIX), strict=False))]
