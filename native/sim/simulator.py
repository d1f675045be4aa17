"""The simulator: client, server and the network between them, driven from Python by what comes out of the ends."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

from native import ffi, lib
from native.sim.handshake import FixedHandshake
from native.sim.node import MS, SECOND, Node, address, check


class SimulatorError(AssertionError):
    """A rule that holds for every datagram was broken; the text is the network's."""


class _ClientAddresses(MutableMapping[int, Any]):
    """Where the client is on each link; a new one is a NAT rebinding."""

    def __init__(self, net: Any) -> None:
        self._net = net
        self._known: dict[int, Any] = {}

    def __getitem__(self, link: int) -> Any:
        return self._known[link]

    def __setitem__(self, link: int, where: Any) -> None:
        check(lib.simnet_client_set(self._net, link, where))
        self._known[link] = where

    def __delitem__(self, link: int) -> None:
        raise TypeError("a link keeps its address")

    def __iter__(self) -> Iterator[int]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Simulator:
    """Client and server with accesses 0 (3GPP) and 1 (non-3GPP) between them, and more links on demand (alternating).

    `wires[link, direction]` (0: to the server) are `struct simnet_wire` of engine.cdef: every field may be read and set at any
    time.
    `tap(direction, link, datagram)` sees every datagram before it meets the wire and returns what goes on, or None.
    """

    def __init__(
        self, seed: int = 1, *, client: dict[str, int] | None = None, server: dict[str, int] | None = None, links: int = 2
    ) -> None:
        self.rng = random.Random(seed)
        self.client = Node(0, seed * 2 + 1, **(client or {}))
        self.server = Node(1, seed * 2 + 2, **(server or {}))
        self.net = lib.simnet_new(self.client.endpoint, self.server.endpoint, seed, SECOND)
        if self.net == ffi.NULL:
            raise MemoryError("simnet_new")
        self.state = lib.simnet_state(self.net)
        self.wires = {(link, d): lib.simnet_wire(self.net, link, d) for link in range(links) for d in range(2)}
        self.client_address = _ClientAddresses(self.net)
        self.server_address = address("10.100.0.1", 4433)
        check(lib.simnet_server_set(self.net, self.server_address))
        self.tap: Callable[[int, int, bytes], bytes | None] | None = None
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._stats = ffi.new("struct conn_stats *")
        for node in (self.client, self.server):
            self._links(node)
        for link in range(links):
            self.client_address[link] = address(f"10.{link + 1}.0.2", 40000 + link)
        check(lib.endpoint_accept(self.server.endpoint, 1))
        self.client_handshake = FixedHandshake(self.client)
        self.server_handshake = FixedHandshake(self.server)
        self.client.on_event = self.client_handshake
        self.server.on_event = self.server_handshake

    def close(self) -> None:
        lib.simnet_free(self.net)
        self.net = ffi.NULL
        self.client.close()
        self.server.close()

    def _links(self, node: Node) -> None:
        for link, _ in self.wires:
            check(lib.endpoint_link_set(node.endpoint, link, (lib.ACCESS_3GPP, lib.ACCESS_NON_3GPP)[link % 2]))

    def restart(self, side: int, seed: int, **options: int) -> Node:
        """The process of one end (1: the server's) ends and another one takes its place: the same address and keys, no state."""
        old, node = (self.server if side else self.client), Node(side, seed, **options)
        self._links(node)
        handshake = FixedHandshake(node)
        if side:
            check(lib.endpoint_accept(node.endpoint, 1))
            handshake.tells_reset_token = self.server_handshake.tells_reset_token
            self.server, self.server_handshake = node, handshake
        else:
            self.client, self.client_handshake = node, handshake
        node.on_event = handshake
        check(lib.simnet_end_set(self.net, side, node.endpoint))
        old.close()
        return node

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- time

    @property
    def now(self) -> int:
        return int(self.state.now)

    @property
    def trace(self) -> int:
        """A hash over everything that was sent: equal for equal runs."""
        return int(self.state.trace)

    def at(self, time: int, action: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._agenda, (time, self._serial, action))

    def after(self, delay: int, action: Callable[[], None]) -> None:
        self.at(self.now + delay, action)

    def every(self, interval: int, until: int, action: Callable[[], None]) -> None:
        def again() -> None:
            action()
            if self.now + interval < until:
                self.after(interval, again)

        self.after(0, again)

    def shape(self, link: int, **changes: Any) -> None:
        for direction in range(2):
            for name, value in changes.items():
                setattr(self.wires[link, direction], name, value)

    def share(self, number: int, links: list[int], direction: int, **line: Any) -> Any:
        """One line (rate, queue, mark) that these links have in common in a direction, behind their own."""
        common = lib.simnet_common(self.net, number)
        for name, value in line.items():
            setattr(common, name, value)
        for link in links:
            self.wires[link, direction].shared = common
        return common

    def deliver(self, node: Node, link: int, source: Any, data: bytes, ecn: int = 0) -> None:
        """A datagram out of nowhere."""
        check_failed = lib.simnet_inject(self.net, int(node is self.client), link, source, data, len(data), ecn)
        self._raise()
        check(check_failed)

    def pump(self) -> None:
        self.client.pump(self.now)
        self.server.pump(self.now)

    def check(self) -> None:
        """The white-box rules of both ends (native/src/invariant.c)."""
        why = ffi.new("char[200]")
        for node, name in ((self.client, "client"), (self.server, "server")):
            if lib.endpoint_check(node.endpoint, why, 200):
                raise SimulatorError(f"{name}: {ffi.string(why).decode()}")

    def _raise(self) -> None:
        failure = ffi.string(self.state.failure).decode()
        if failure:
            raise SimulatorError(f"{failure} (at {self.now / SECOND:.6f} s)")

    def _tapped(self) -> None:
        t = lib.simnet_tapped(self.net)
        data = bytes(t.data[0 : t.length])
        changed = self.tap(t.direction, t.link, data) if self.tap else data
        if changed is not None and changed is not data:
            t.length = len(changed)
            t.data[0 : len(changed)] = changed
        check(lib.simnet_pass(self.net, changed is not None))

    def _pass_time(self, until: int, step: bool) -> bool:
        """To this time at most; True when it is reached, False after a step."""
        while True:
            lib.simnet_tap(self.net, self.tap is not None)
            stop = lib.simnet_run(self.net, until, step)
            if stop == lib.SIMNET_OUTPUT:
                self.pump()
            elif stop == lib.SIMNET_TAP:
                self._tapped()
            elif stop == lib.SIMNET_FAILED:
                self._raise()
            else:
                return bool(stop == lib.SIMNET_TIME)

    def flush(self) -> None:
        """Everything that can happen at this instant."""
        self._pass_time(self.now, True)
        self.pump()

    def run(self, duration: int, until: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass; True when `until` came true (or there is none)."""
        end = self.now + duration
        self.pump()
        while True:
            target = min(end, self._agenda[0][0]) if self._agenda else end
            while True:
                reached = self._pass_time(max(target, self.now), until is not None)
                if until and until():
                    return True
                if reached:
                    break
            if self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            elif self.now >= end:
                return until is None

    # ---- what most tests need

    def connect(self, link: int = 0) -> tuple[int, int]:
        """A connection with a complete handshake: the client's and the server's handle."""
        conn = check(lib.conn_connect(self.client.endpoint, link, self.server_address, self.now))
        known = set(self.server_handshake.done)
        self.client_handshake.start(conn)
        done = self.run(10 * SECOND, lambda: self._confirmed(conn) and bool(set(self.server_handshake.done) - known))
        if not done:
            raise TimeoutError(f"no handshake: client {self.client.counters()}, server {self.server.counters()}")
        return conn, next(iter(set(self.server_handshake.done) - known))

    def _confirmed(self, conn: int) -> bool:
        return lib.conn_stats(self.client.endpoint, conn, self._stats) == 0 and bool(self._stats.handshake_confirmed)

    def open_path(self, conn: int, link: int) -> int:
        """A further path of the client's, validated at both ends."""
        self.run(SECOND)
        path = check(lib.path_open(self.client.endpoint, conn, link, self.server_address))
        if not self.run(5 * SECOND, lambda: self.client.paths(conn)[path].validated == 1):
            raise TimeoutError("the path was not validated")
        self.run(200 * MS)
        return path

    def tunnel(self, client: int, server: int, rules: list[dict[str, int]], **options: int) -> tuple[int, int]:
        """A tunnel with the address 10.45.0.2 at both ends, bound, with these rules."""
        return (
            self.tunnel_end(self.client, client, rules, **options),
            self.tunnel_end(self.server, server, rules, **options),
        )

    def tunnel_end(self, node: Node, conn: int, rules: list[dict[str, int]], **options: int) -> int:
        """One end of it; conn 0: bound to none yet."""
        config = ffi.new("struct tunnel_config *")
        config.tun = 0
        config.has_ipv4 = 1
        config.ipv4 = bytes([10, 45, 0, 2])
        config.has_ipv6 = 1
        config.ipv6 = bytes.fromhex("fd450000000000010000000000000000")
        config.ipv6_prefix = 64
        config.mtu = 1280
        config.hold_packets = 256
        config.hold_ns = 2 * SECOND
        for name, value in options.items():
            setattr(config, name, value)
        tunnel = check(lib.tunnel_new(node.endpoint, config))
        self.rules(node, tunnel, rules)
        if conn:
            check(lib.tunnel_bind(node.endpoint, tunnel, conn, 0))
        return tunnel

    def sequence(self, node: Node, tunnel: int, conn: int, contexts: int = 3) -> None:
        """The context with sequence numbers: what came may have it (1), what is sent may (2)."""
        check(lib.tunnel_contexts_set(node.endpoint, tunnel, conn, contexts))

    def rules(self, node: Node, tunnel: int, rules: list[dict[str, Any]]) -> None:
        array = ffi.new("struct steering_rule[]", max(1, len(rules)))
        for i, rule in enumerate(rules):
            array[i].rule_id = i + 1
            array[i].precedence = i
            for name, value in rule.items():
                setattr(array[i], name, value)
        check(lib.tunnel_steering_set(node.endpoint, tunnel, array, len(rules)))

    def inner(self, node: Node, packet: bytes, *followers: bytes) -> None:
        """Give an inner packet of TUN 0 to a node, and those that were cut from the same large packet."""
        packets = (packet, *followers)
        check(lib.tunnel_input_cut(node.endpoint, 0, b"".join(packets), [len(p) for p in packets], len(packets), self.now))
