"""Access paths in real namespaces:

ue ─ w0 ══ wire ─ access ─ lo 10.100.0.1, fd64::1        n6: TUN in a namespace of its own
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address

import pytest
from pyroute2 import NetlinkError
from upf_rig import config

from node.counters import Counters
from node.netns import Netns
from upf.access import WIRE, AccessError, AccessPath


@pytest.fixture
def access() -> Iterator[AccessPath]:
    path = AccessPath(config().accesses[0], config().proxy)
    path.prepare()
    yield path
    path.close()


@pytest.fixture
def ue(access: AccessPath) -> Iterator[Netns]:
    """A UE's namespace with a wire into the access."""
    with Netns() as netns:

        def plug() -> None:
            ipr = netns.ipr
            ipr.link("add", ifname="w0", kind="veth", peer={"ifname": WIRE, "net_ns_fd": access.netns.fd})
            index = ipr.link_lookup(ifname="w0")[0]
            ipr.link("set", index=index, state="up")
            ipr.addr("add", index=index, address="10.1.0.2", prefixlen=24)
            ipr.addr("add", index=index, address="fd01::2", prefixlen=64, flags=0x02)
            ipr.route("add", dst="10.100.0.1/32", gateway="10.1.0.1")
            ipr.route("add", dst="fd64::1/128", gateway="fd01::1")

        netns.call_sync(plug)
        yield netns


def ask(family: int, target: str) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.sendto(b"hello", (target, 4433))
    return sock


def test_sockets_answer_from_the_proxy_address_on_both_ip_versions(access: AccessPath, ue: Netns) -> None:
    sockets = access.ready()
    for sock, family, target in zip(sockets, (socket.AF_INET, socket.AF_INET6), ("10.100.0.1", "fd64::1"), strict=True):
        client = ue.call_sync(ask, family, target)
        sock.settimeout(5)
        data, peer = sock.recvfrom(100)
        assert data == b"hello" and peer[0] in ("10.1.0.2", "fd01::2")
        sock.sendto(b"answer", peer)
        data, origin = client.recvfrom(100)
        assert (data, origin[:2]) == (b"answer", (target, 4433))
        client.close()


def test_ready_again_after_a_new_wire_keeps_the_sockets(access: AccessPath, ue: Netns) -> None:
    first = list(access.ready())
    assert access.ready() == first


def test_what_becomes_of_the_wire_is_told_and_of_a_new_one(access: AccessPath, ue: Netns) -> None:
    def state(up: bool) -> None:
        ue.ipr.link("set", index=ue.ipr.link_lookup(ifname="w0")[0], state="up" if up else "down")

    def anew() -> None:
        ue.ipr.link("del", index=ue.ipr.link_lookup(ifname="w0")[0])
        ue.ipr.link("add", ifname="w0", kind="veth", peer={"ifname": WIRE, "net_ns_fd": access.netns.fd})
        state(True)

    async def main() -> None:
        news: asyncio.Queue[bool] = asyncio.Queue()
        counters = Counters()

        async def hear(up: bool) -> None:
            async with asyncio.timeout(20):
                while await news.get() is not up:
                    continue

        access.ready()
        access.watch(news.put_nowait, counters)
        await hear(True)
        ue.call_sync(state, False)
        await hear(False)
        ue.call_sync(state, True)
        await hear(True)
        ue.call_sync(anew)
        access.ready()
        access.watch(news.put_nowait, counters)
        await hear(True)
        ue.call_sync(state, False)
        await hear(False)
        access.netns.call_sync(lambda: access.netns.ipr.link("del", index=access.netns.ipr.link_lookup(ifname=WIRE)[0]))
        access.watch(news.put_nowait, counters)
        assert counters.get("link_watch.not_opened") == 1  # and the access stays as it is
        access._watch_end()

    asyncio.run(main())


def test_without_wire_it_says_so_and_opens_nothing(access: AccessPath) -> None:
    with pytest.raises(AccessError, match="no interface"):
        access.ready()
    assert access.sockets == []


def test_forwarding_is_on_in_the_access_only(access: AccessPath) -> None:
    def forwarding() -> str:
        with open("/proc/sys/net/ipv4/ip_forward") as f:
            return f.read().strip()

    with Netns() as other:
        assert (access.netns.call_sync(forwarding), other.call_sync(forwarding)) == ("1", "0")


def test_routes_of_a_session_come_and_go_in_n6() -> None:
    from upf.n6 import N6

    with Netns() as netns:

        def work() -> list[list[str]]:
            netns.ipr.link("add", ifname="n6", kind="tuntap", mode="tun")
            n6 = N6("n6", 1280)  # adopts the namespace of the calling thread
            n6.up()
            seen = []
            ipv4, ipv6 = IPv4Address("10.45.0.2"), IPv6Address("fd45::1")
            for change in (n6.route_add, n6.route_remove):
                change(ipv4, ipv6)
                found = [(r.get_attr("RTA_DST"), r["dst_len"]) for r in netns.ipr.get_routes(table=254)]
                seen.append(sorted(f"{d}/{n}" for d, n in found if d in ("10.45.0.2", "fd45::")))
            n6.close()
            return seen

        assert netns.call_sync(work) == [["10.45.0.2/32", "fd45::/64"], []]


@pytest.mark.parametrize("what", ["addr", "link"])
def test_what_netlink_refuses_is_named_and_may_be_tried_again(
    access: AccessPath, ue: Netns, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NetlinkError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(access.netns.ipr, what, refuse)
        with pytest.raises(AccessError, match=r"access 3gpp: .*not permitted"):
            access.ready()
        assert access.sockets == []
    assert len(access.ready()) == 2
