"""ECN on real sockets: TOS and traffic class are set and read, for IPv4, IPv6, and IPv4 on a dual-stack socket. Loopback only."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address
from typing import Any

import pytest

from native import ffi, lib
from native.sim import SECOND, FixedHandshake, Node, check

IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3


class Threaded:
    """A node with its I/O thread on a UDP socket."""

    def __init__(self, role: int, family: int, host: str, **config: int) -> None:
        self.node = Node(role, role + 1, **config)
        self.node.on_event = self.handshake = FixedHandshake(self.node)
        self.io = lib.io_new(self.node.endpoint)
        check(lib.endpoint_link_set(self.node.endpoint, 0, lib.ACCESS_3GPP))
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            if host == "::":
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            s.bind((host, 0))
            self.port = s.getsockname()[1]
            check(lib.io_socket_add(self.io, s.fileno(), 0))
        check(lib.io_start(self.io))

    def close(self) -> None:
        lib.io_free(self.io)
        self.node.close()


def address_of(host: str, port: int) -> Any:
    ip = ip_address(host)
    out = ffi.new("struct address *")
    out.family, out.port, out.ip = ip.version, port, list(ip.packed.ljust(16, b"\0"))
    return out


def test_datagrams_are_never_fragmented() -> None:
    """RFC 9000 §14: the kernel sets DF, takes no word of the network for the MTU, and refuses what the interface cannot carry."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        node = Node(1, 1)
        io = lib.io_new(node.endpoint)
        try:
            check(lib.endpoint_link_set(node.endpoint, 0, lib.ACCESS_3GPP))
            check(lib.io_socket_add(io, s.fileno(), 0))
            assert s.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == IP_PMTUDISC_PROBE
        finally:
            lib.io_free(io)
            node.close()


@pytest.mark.parametrize(
    "bound,target,family",
    [("127.0.0.1", "127.0.0.1", socket.AF_INET), ("::1", "::1", socket.AF_INET6), ("::", "127.0.0.1", socket.AF_INET)],
    ids=["ipv4", "ipv6", "ipv4 on a dual-stack socket"],
)
@pytest.mark.parametrize("off", [0, 1])
def test_marks_are_set_and_read(bound: str, target: str, family: int, off: int) -> None:
    if family == socket.AF_INET6 or bound == "::":
        try:
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).bind((bound, 0))
        except OSError as error:
            pytest.skip(f"no IPv6 on this machine's loopback: {error}")
    server = Threaded(1, socket.AF_INET6 if ":" in bound else socket.AF_INET, bound)
    client = Threaded(0, family, target, ecn_off=off)
    try:
        check(lib.endpoint_accept(server.node.endpoint, 1))
        conn = check(lib.conn_connect(client.node.endpoint, 0, address_of(target, server.port), time.monotonic_ns()))
        client.handshake.start(conn)
        end = time.monotonic_ns() + 10 * SECOND
        wanted = (lib.ECN_FAILED if off else lib.ECN_CAPABLE, lib.ECN_CAPABLE)
        seen: tuple[int, int] | None = None
        ping = b"\x01"
        while seen != wanted and time.monotonic_ns() < end:
            for one in (client, server):
                one.node.pump(time.monotonic_ns())
                for handle in one.node.connections():
                    if one.node.stats(handle).handshake_confirmed:
                        lib.conn_frame_send(one.node.endpoint, handle, 2, 0, ping, 1, 0, lib.FRAME_ONCE)
            peers = server.node.connections()
            if peers and client.node.paths(conn):
                seen = client.node.paths(conn)[0].ecn_state, server.node.paths(peers[0])[0].ecn_state
            time.sleep(0.01)
        assert seen == wanted
        assert bool(client.node.paths(conn)[0].ecn_marked) != bool(off)
        for one in (client, server):
            assert not [name for name in one.node.counters() if name.startswith("ecn_")]
    finally:
        client.close()
        server.close()
