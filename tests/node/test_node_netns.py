import asyncio
import os
import socket

import pytest

from node.errors import NetnsError
from node.netns import NAMED, Netns


def inode(fd: int) -> int:
    return os.fstat(fd).st_ino


def own() -> int:
    return os.stat("/proc/self/ns/net").st_ino


def test_two_namespaces_and_a_wire_between_them():
    with Netns() as a, Netns() as b:
        assert len({inode(a.fd), inode(b.fd), own()}) == 3

        def plug() -> None:
            a.ipr.link("add", ifname="wire0", kind="veth", peer={"ifname": "wire1", "net_ns_fd": b.fd})

        def up(ns: Netns, name: str, address: str) -> None:
            index = ns.ipr.link_lookup(ifname=name)[0]
            ns.ipr.addr("add", index=index, address=address, prefixlen=24)
            ns.ipr.link("set", index=index, state="up")

        def bound(address: str) -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((address, 0))
            sock.settimeout(5)
            return sock

        a.call_sync(plug)
        a.call_sync(up, a, "wire0", "192.0.2.1")
        b.call_sync(up, b, "wire1", "192.0.2.2")
        with a.call_sync(bound, "192.0.2.1") as left, b.call_sync(bound, "192.0.2.2") as right:
            left.sendto(b"hello", right.getsockname())
            assert right.recvfrom(10) == (b"hello", left.getsockname())
    assert own() == os.stat("/proc/self/ns/net").st_ino


def test_adopting_by_descriptor_and_asking_from_asyncio():
    with Netns() as made, Netns.open(made.fd) as adopted:
        assert inode(made.fd) == inode(adopted.fd) and made.fd != adopted.fd

        async def links() -> list[str]:
            return [x.get_attr("IFLA_IFNAME") for x in await adopted.call(lambda: list(adopted.ipr.get_links()))]

        assert asyncio.run(links()) == ["lo"]


def test_current_is_ours():
    with Netns.current() as ns:
        assert inode(ns.fd) == own()


def test_descriptors_come_back():
    Netns().close()  # imports and caches
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        ns = Netns()
        ns.close()
        ns.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_named_appears_and_goes():
    name = f"mpq-test-{os.getpid()}"
    with Netns(name) as ns:
        assert (NAMED / name).stat().st_ino == inode(ns.fd)
        with pytest.raises(NetnsError, match="another namespace has this name"):
            Netns(name)
        assert (NAMED / name).stat().st_ino == inode(ns.fd)
    assert not (NAMED / name).exists()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "x" * 64])
def test_names_that_are_no_names(name):
    with pytest.raises(NetnsError, match="cannot be the name"):
        Netns(name)


def test_a_descriptor_that_is_no_namespace(tmp_path):
    with open(tmp_path / "f", "w") as f, pytest.raises(NetnsError, match="cannot enter"):
        Netns.open(f.fileno())
