"""The lab's networks (design §1): namespaces, links and addresses. All namespaces are anonymous unless `named`: they vanish
with the supervisor, however it ends.

    ue ── acc1 ═ wires:u1 ~wire~ wires:n1 ═ wire ── [access 1] ── n1 ═ n1-1 ── core ── n4 ═ n4 ── upf ── n6link ═ eth0 ── dn
       ── acc2 ═ wires:u2 ~wire~ wires:n2 ═ wire ── [access 2] ── n1 ═ n1-2 ──┘

The access namespaces are the UPF's: it makes them and hands their descriptors over; `access_plug` puts the links in.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.errors import NetnsError
from node.netns import Netns

AMF, SMF, UPF_N4 = "10.90.0.10", "10.90.0.11", "10.90.0.20"
TAMPER_N4 = "10.90.0.30"
PROXY, PROXY6, PROXY_PORT = "10.100.0.1", "fd64::1", 4433
DN, DN6 = "10.99.0.2", "fd99::2"
DN_GATEWAY, DN_GATEWAY6 = "10.99.0.1", "fd99::1"
UE_POOL, UE_POOL6 = "10.45.0.0/16", "fd45::/48"
N1_PORTS = {"3gpp": 38412, "non-3gpp": 38413}
TAMPER_N1_OFFSET = 100
IFA_F_NODAD = 0x02
IFF_UP = 0x01
NODES = ("ue", "core", "upf", "dn")

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO = 0x17, 0x1F, 0x24, 0x2C


@dataclass(frozen=True, slots=True)
class AccessAddresses:
    """Addresses of access number k (1, 2, ...)."""

    number: int

    @property
    def ue(self) -> str:
        return f"10.{self.number}.0.2"

    @property
    def upf(self) -> str:
        return f"10.{self.number}.0.1"

    @property
    def ue6(self) -> str:
        return f"fd{self.number:02x}::2"

    @property
    def upf6(self) -> str:
        return f"fd{self.number:02x}::1"

    @property
    def device(self) -> str:
        return f"acc{self.number}"


def offloads_off(name: str) -> None:
    """In the calling thread's namespace: every frame that the wire sees is a frame of the line."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for command in (ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO):
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))  # struct ethtool_value
            request = struct.pack("16sP16x", name.encode(), ctypes.addressof(value))  # struct ifreq
            with contextlib.suppress(OSError):  # a veth without this offload has nothing to turn off
                fcntl.ioctl(sock, SIOCETHTOOL, request)


def _index(netns: Netns, name: str) -> int:
    found: list[int] = netns.ipr.link_lookup(ifname=name)
    if not found:
        raise NetnsError(f"no interface {name}")
    return found[0]


def _sysctl(name: str, value: str) -> None:
    path = Path("/proc/sys") / name
    if path.exists():
        path.write_text(value)


@dataclass(slots=True)
class Topology:
    """Namespaces by name, and what is plugged into which access."""

    named_prefix: str | None = None
    netns: dict[str, Netns] = field(default_factory=dict)
    access: dict[str, Netns] = field(default_factory=dict)

    def build(self) -> None:
        for name in (*NODES, "wires"):
            shown = None if self.named_prefix is None else f"{self.named_prefix}-{name}"
            self.netns[name] = Netns(shown)
        for name in NODES:
            self.netns[name].call_sync(_sysctl, "net/ipv6/conf/default/accept_dad", "0")
            self.netns[name].call_sync(_sysctl, "net/ipv6/conf/all/accept_dad", "0")
            # each phase for itself: a connection does not begin with what the last one learnt of the way
            self.netns[name].call_sync(_sysctl, "net/ipv4/tcp_no_metrics_save", "1")
        self._veth("core", "n4", "upf", "n4")
        self._veth("upf", "n6link", "dn", "eth0")
        self.address("core", "n4", AMF, 24)
        self.address("core", "n4", SMF, 24)
        self.address("core", "n4", TAMPER_N4, 24)
        self.address("upf", "n4", UPF_N4, 24)
        self.address("upf", "n6link", DN_GATEWAY, 24)
        self.address("upf", "n6link", DN_GATEWAY6, 64)
        self.address("dn", "eth0", DN, 24)
        self.address("dn", "eth0", DN6, 64)
        self.route("dn", "0.0.0.0/0", gateway=DN_GATEWAY)
        self.route("dn", "::/0", gateway=DN_GATEWAY6)
        self.netns["core"].call_sync(_sysctl, "net/ipv4/ip_forward", "1")

    def ue_access_plug(self, number: int) -> tuple[int, int]:
        """The UE's end of access `number`. Returns (namespace fd, interface index) of the wire's end of it."""
        addresses = AccessAddresses(number)
        self._veth("ue", addresses.device, "wires", f"u{number}")
        self._quiet("wires", f"u{number}")
        self.netns["ue"].call_sync(offloads_off, addresses.device)
        self.ue_access_route(number)
        for source in (f"{addresses.ue}/32", f"{addresses.ue6}/128"):
            # A socket picks its access by source address and device.
            self._rule("ue", source, 100 + number)
        return self.netns["wires"].fd, self._in("wires", f"u{number}")

    def ue_access_route(self, number: int) -> None:
        """Addresses and default routes of the UE's access; again after its link was down, which took them away."""
        addresses = AccessAddresses(number)
        self.address("ue", addresses.device, addresses.ue, 24)
        self.address("ue", addresses.device, addresses.ue6, 64)
        for default, gateway in (("0.0.0.0/0", addresses.upf), ("::/0", addresses.upf6)):
            self._default("ue", 100 + number, default, gateway, addresses.device)

    def access_plug(self, name: str, number: int, fd: int) -> tuple[int, int]:
        """The UPF's end of the access whose namespace is `fd`; again after a restart of the UPF."""
        addresses = AccessAddresses(number)
        old = self.access.pop(name, None)
        if old is not None:
            old.close()
        space = self.access[name] = Netns.open(fd)
        self.netns[f"access:{name}"] = space
        self._remove("wires", f"n{number}")
        self._remove("core", f"n1-{number}")
        self._veth("wires", f"n{number}", f"access:{name}", "wire")
        self._quiet("wires", f"n{number}")
        space.call_sync(offloads_off, "wire")
        self._veth(f"access:{name}", "n1", "core", f"n1-{number}")
        self.address(f"access:{name}", "n1", f"10.91.{number}.1", 24)
        self.address("core", f"n1-{number}", f"10.91.{number}.2", 24)
        self.address(f"access:{name}", "wire", addresses.upf, 24)
        self.address(f"access:{name}", "wire", addresses.upf6, 64)
        self.route(f"access:{name}", "10.90.0.0/24", gateway=f"10.91.{number}.2")
        self.route("core", f"10.{number}.0.0/24", gateway=f"10.91.{number}.1")
        return self.netns["wires"].fd, self._in("wires", f"n{number}")

    def link(self, netns: str, name: str, up: bool) -> None:
        space = self.netns[netns]
        space.call_sync(lambda: space.ipr.link("set", index=_index(space, name), state="up" if up else "down"))

    def index(self, netns: str, name: str) -> int:
        return self._in(netns, name)

    def devices(self, netns: str) -> list[tuple[str, int]]:
        """Name and index of every interface that is up."""
        space = self.netns[netns]
        links = space.call_sync(lambda: list(space.ipr.get_links()))
        return [(str(link.get_attr("IFLA_IFNAME")), int(link["index"])) for link in links if link["flags"] & IFF_UP]

    def _in(self, netns: str, name: str) -> int:
        space = self.netns[netns]
        return space.call_sync(_index, space, name)

    def _veth(self, netns_a: str, a: str, netns_b: str, b: str) -> None:
        space_a, space_b = self.netns[netns_a], self.netns[netns_b]

        def make() -> None:
            space_a.ipr.link("add", ifname=a, kind="veth", peer={"ifname": b, "net_ns_fd": space_b.fd})
            space_a.ipr.link("set", index=_index(space_a, a), state="up")

        space_a.call_sync(make)
        space_b.call_sync(lambda: space_b.ipr.link("set", index=_index(space_b, b), state="up"))

    def _remove(self, netns: str, name: str) -> None:
        space = self.netns[netns]

        def remove() -> None:
            for index in space.ipr.link_lookup(ifname=name):
                space.ipr.link("del", index=index)

        space.call_sync(remove)

    def _quiet(self, netns: str, name: str) -> None:
        """A port of the wire: no IPv6 of its own on it, no offloads."""
        space = self.netns[netns]
        space.call_sync(_sysctl, f"net/ipv6/conf/{name}/disable_ipv6", "1")
        space.call_sync(offloads_off, name)

    def address(self, netns: str, link: str, address: str, prefix: int) -> None:
        space = self.netns[netns]
        extra: dict[str, Any] = {"flags": IFA_F_NODAD} if ":" in address else {}
        space.call_sync(
            lambda: space.ipr.addr("replace", index=_index(space, link), address=address, prefixlen=prefix, **extra)
        )

    def route(self, netns: str, destination: str, *, gateway: str) -> None:
        space = self.netns[netns]
        space.call_sync(lambda: space.ipr.route("replace", dst=destination, gateway=gateway))

    def _default(self, netns: str, table: int, default: str, gateway: str, device: str) -> None:
        space = self.netns[netns]
        family = socket.AF_INET6 if ":" in default else socket.AF_INET
        space.call_sync(
            lambda: space.ipr.route("replace", dst=default, gateway=gateway, oif=_index(space, device), table=table, family=family)
        )

    def _rule(self, netns: str, source: str, table: int) -> None:
        space = self.netns[netns]
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        space.call_sync(lambda: space.ipr.rule("add", src=source, table=table, priority=table, family=family))

    def close(self) -> None:
        for space in {id(s): s for s in [*self.access.values(), *self.netns.values()]}.values():
            space.close()
        self.netns.clear()
        self.access.clear()

