"""Two endpoints of the engine in one process, with a virtual clock and seeded wires between them.

The same C core as under the I/O thread, driven sans-IO: what happens here happens again with the same seed. A handshake with
fixed secrets stands for TLS, so that the engine is tested without it.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from native import ffi, lib

MS = 1_000_000
SECOND = 1_000_000_000
NEVER = (1 << 64) - 1
ANY = 0xFFFFFFFF
SUITE = 0x1301


@dataclass(slots=True)
class Wire:
    """One direction of an access."""

    rate: float = 0.0  # bits per second; 0 = no limit
    delay: int = 5 * MS
    queue: int = 50 * MS
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # share of datagrams that are 3 ms late
    cut: bool = False
    ecn: tuple[int, int, int, int] = (0, 1, 2, 3)  # what becomes of each codepoint (Not-ECT, ECT(1), ECT(0), CE)
    mark: int = NEVER  # queueing time above which an ECN-capable datagram is marked CE
    busy_until: int = 0
    passed: int = 0
    dropped: int = 0

    def ecn_after(self, now: int, ecn: int) -> int:
        """The codepoint with which a datagram sent now arrives: bleached, mangled, or marked by the queue (RFC 3168)."""
        ecn = self.ecn[ecn]
        return 3 if ecn and self.busy_until - now > self.mark else ecn

    def arrivals(self, now: int, size: int, rng: random.Random) -> list[int]:
        """When a datagram sent now arrives: never, once, or twice."""
        if self.cut or rng.random() < self.loss:
            self.dropped += 1
            return []
        start = max(now, self.busy_until)
        if self.rate:
            if start - now > self.queue:
                self.dropped += 1
                return []
            self.busy_until = start + int((size + 28) * 8 / self.rate * SECOND)
            start = self.busy_until
        self.passed += 1
        times = [start + self.delay + (3 * MS if rng.random() < self.reorder else 0)]
        if rng.random() < self.duplicate:
            times.append(times[0] + MS)
        return times


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the engine, as Python values."""

    type: int
    conn: int
    path: int
    level: int
    a: int
    b: int
    token: int
    time: int
    data: bytes


def address(text: str, port: int) -> Any:
    """`struct address` of an IPv4 address in dotted form."""
    result = ffi.new("struct address *")
    result.family = 4
    result.port = port
    for i, octet in enumerate(text.split(".")):
        result.ip[i] = int(octet)
    return result


class Node:
    """An endpoint and what came out of it."""

    def __init__(self, role: int, seed: int, **options: int) -> None:
        config = ffi.new("struct endpoint_config *")
        config.role = role
        config.max_connections = 64
        config.max_half_open = 16
        config.reset_key = hashlib.sha256(b"reset" + bytes([role])).digest()
        config.random_seed = seed
        config.max_idle_timeout_ns = 30 * SECOND
        config.max_ack_delay_ns = 25 * MS
        config.ack_delay_exponent = 3
        config.active_connection_id_limit = 4
        config.initial_max_path_id = 3
        config.max_datagram_frame_size = 65535
        config.max_udp_payload = 1452
        config.validation_size = 1331
        for name, value in options.items():
            setattr(config, name, value)
        self.role = role
        self.config = config
        self.endpoint = lib.endpoint_new(config)
        if self.endpoint == ffi.NULL:
            raise ValueError("endpoint_new refused the configuration")
        self.events: list[Event] = []
        self.inner: list[tuple[int, int, bytes]] = []  # time, tun, packet
        self.on_event: Callable[[Event], None] | None = None
        self.on_inner: Callable[[int, bytes], None] | None = None
        self._buffer = ffi.new("uint8_t[]", 65536)
        self._tun = ffi.new("uint32_t *")
        self._event = ffi.new("struct event *")

    def close(self) -> None:
        if self.endpoint != ffi.NULL:
            lib.endpoint_free(self.endpoint)
            self.endpoint = ffi.NULL

    def counters(self) -> dict[str, int]:
        n = lib.counter_count()
        values = ffi.new("uint64_t[]", n)
        lib.endpoint_counters(self.endpoint, values, n)
        return {ffi.string(lib.counter_name(i)).decode(): values[i] for i in range(n) if values[i]}

    def drops(self) -> dict[str, int]:
        names = {ffi.string(lib.counter_name(i)).decode() for i in range(lib.counter_count()) if lib.counter_is_drop(i)}
        return {name: value for name, value in self.counters().items() if name in names}

    def paths(self, conn: int) -> dict[int, Any]:
        out = ffi.new("struct path_info[32]")
        n = lib.conn_paths(self.endpoint, conn, out, 32)
        if n < 0:
            return {}
        result = {}
        for i in range(n):
            copy = ffi.new("struct path_info *", out[i])
            result[copy.path] = copy
        return result

    def stats(self, conn: int) -> Any:
        out = ffi.new("struct conn_stats *")
        if lib.conn_stats(self.endpoint, conn, out) < 0:
            raise LookupError(f"no connection {conn:#x}")
        return out

    def connections(self) -> list[int]:
        out = ffi.new("uint32_t[64]")
        return list(out[0 : lib.endpoint_connections(self.endpoint, out, 64)])

    def of_type(self, kind: int) -> list[Event]:
        return [event for event in self.events if event.type == kind]

    def pump(self, now: int) -> None:
        """Take events and inner packets out."""
        while lib.endpoint_event_next(self.endpoint, self._event, self._buffer, 65536) == 1:
            e = self._event
            event = Event(e.type, e.conn, e.path, e.level, e.a, e.b, e.token, e.time, bytes(self._buffer[0 : e.length]))
            self.events.append(event)
            if self.on_event:
                self.on_event(event)
        while (n := lib.tunnel_output(self.endpoint, self._tun, self._buffer, 65536)) > 0:
            packet = bytes(self._buffer[0:n])
            if self.on_inner:
                self.on_inner(self._tun[0], packet)
            else:
                self.inner.append((now, self._tun[0], packet))


@dataclass(slots=True)
class FixedHandshake:
    """Both roles of a handshake whose secrets are fixed: one CRYPTO frame per flight, as TLS with a PSK has."""

    node: Node
    peer_params: dict[str, int] = field(default_factory=dict)
    key: bytes = b"same key"
    suite: int = SUITE
    done: list[int] = field(default_factory=list)
    stages: dict[int, int] = field(default_factory=dict)
    hello: bytes = b"hello" * 40

    def secret(self, label: str) -> bytes:
        digest = hashlib.sha384 if self.suite == 0x1302 else hashlib.sha256
        return digest(self.key + label.encode()).digest()

    def keys(self, conn: int, level: int, direction: int) -> None:
        sender = "client" if (self.node.role == 0) == (direction == 0) else "server"
        secret = self.secret(f"{sender} {level}")
        check(lib.conn_keys_install(self.node.endpoint, conn, level, direction, self.suite, secret, len(secret)))

    def crypto(self, conn: int, level: int, data: bytes) -> None:
        frame = b"\x06\x00" + (0x4000 | len(data)).to_bytes(2, "big") + data
        check(lib.conn_frame_send(self.node.endpoint, conn, level, ANY, frame, len(frame), level, 0))

    def params(self, conn: int) -> None:
        p = ffi.new("struct peer_params *")
        p.max_idle_timeout_ns = 30 * SECOND
        p.max_ack_delay_ns = 25 * MS
        p.ack_delay_exponent = 3
        p.multipath = 1
        p.initial_max_path_id = 3
        p.active_connection_id_limit = 4
        p.max_udp_payload_size = 1500
        p.max_datagram_frame_size = 65535
        for name, value in self.peer_params.items():
            setattr(p, name, value)
        check(lib.conn_peer_params(self.node.endpoint, conn, p))

    def start(self, conn: int) -> None:
        self.stages[conn] = 0
        self.crypto(conn, 0, self.hello)

    def __call__(self, event: Event) -> None:
        conn, stage = event.conn, self.stages.get(event.conn, 0)
        if event.type != lib.EVENT_FRAME or event.data[0] != 6 or lib.conn_stats(self.node.endpoint, conn, _stats) < 0:
            return
        if _stats.closing:
            return
        if self.node.role == 0 and event.level == 0 and stage == 0:
            self.keys(conn, 1, 0)
            self.keys(conn, 1, 1)
            self.stages[conn] = 1
        elif self.node.role == 0 and event.level == 1 and stage == 1:
            self.params(conn)
            self.crypto(conn, 1, b"client finished")
            self.keys(conn, 2, 0)
            self.keys(conn, 2, 1)
            self.stages[conn] = 2
            check(lib.conn_handshake_complete(self.node.endpoint, conn))
            self.done.append(conn)
        elif self.node.role == 1 and event.level == 0 and stage == 0:
            self.params(conn)
            self.crypto(conn, 0, b"server hello")
            self.keys(conn, 1, 0)
            self.keys(conn, 1, 1)
            self.crypto(conn, 1, b"server finished")
            self.keys(conn, 2, 0)
            self.stages[conn] = 1
        elif self.node.role == 1 and event.level == 1 and stage == 1:
            self.keys(conn, 2, 1)
            self.stages[conn] = 2
            check(lib.conn_handshake_complete(self.node.endpoint, conn))
            self.done.append(conn)


_stats = ffi.new("struct conn_stats *")


def check(result: int) -> int:
    if result < 0:
        raise ValueError(f"engine error {-result}")
    return result


class Simulator:
    """Client and server with accesses 0 (3GPP) and 1 (non-3GPP) between them."""

    def __init__(self, seed: int = 1, *, client: dict[str, int] | None = None, server: dict[str, int] | None = None) -> None:
        self.now = SECOND
        self.rng = random.Random(seed)
        self.client = Node(0, seed * 2 + 1, **(client or {}))
        self.server = Node(1, seed * 2 + 2, **(server or {}))
        self.wires: dict[tuple[int, int], Wire] = {(link, d): Wire() for link in range(2) for d in range(2)}
        self.client_address = {0: address("10.1.0.2", 40000), 1: address("10.2.0.2", 40001)}
        self.server_address = address("10.100.0.1", 4433)
        self.tap: Callable[[int, int, bytes], bytes | None] | None = None  # direction, link, datagram -> what goes on
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._serial = 0
        self._datagram = ffi.new("struct datagram *")
        self._buffer = ffi.new("uint8_t[]", 2048)
        for node in (self.client, self.server):
            for link, access in ((0, lib.ACCESS_3GPP), (1, lib.ACCESS_NON_3GPP)):
                check(lib.endpoint_link_set(node.endpoint, link, access))
        check(lib.endpoint_accept(self.server.endpoint, 1))
        self.client_handshake = FixedHandshake(self.client)
        self.server_handshake = FixedHandshake(self.server)
        self.client.on_event = self.client_handshake
        self.server.on_event = self.server_handshake

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- time

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

    def _send(self, node: Node, direction: int) -> bool:
        d = self._datagram
        d.data = self._buffer
        d.length = 2048
        if lib.endpoint_output(node.endpoint, d, self.now) != 1:
            return False
        data = bytes(self._buffer[0 : d.length])
        link, remote = d.link, ffi.new("struct address *", d.remote)
        if self.tap:
            changed = self.tap(direction, link, data)
            if changed is None:
                return True
            data = changed
        ecn = self.wires[link, direction].ecn_after(self.now, d.ecn)
        for time in self.wires[link, direction].arrivals(self.now, len(data), self.rng):
            self.at(time, lambda: self._arrive(direction, link, remote, data, ecn))
        return True

    def _arrive(self, direction: int, link: int, target: Any, data: bytes, ecn: int) -> None:
        if direction == 0:
            self.deliver(self.server, link, self.client_address[link], data, ecn)
        elif target.port == self.client_address[link].port:  # else the address changed meanwhile: nobody is there
            self.deliver(self.client, link, self.server_address, data, ecn)

    def deliver(self, node: Node, link: int, source: Any, data: bytes, ecn: int = 0) -> None:
        d = ffi.new("struct datagram *")
        keep = ffi.from_buffer(data)
        d.link, d.remote, d.ecn, d.length, d.data = link, source[0], ecn, len(data), ffi.cast("uint8_t *", keep)
        check(lib.endpoint_input(node.endpoint, d, self.now))

    def flush(self) -> None:
        """Everything that can happen at this instant."""
        while True:
            self.client.pump(self.now)
            self.server.pump(self.now)
            moved = False
            while self._send(self.client, 0):
                moved = True
            while self._send(self.server, 1):
                moved = True
            self.client.pump(self.now)
            self.server.pump(self.now)
            if not moved:
                return

    def run(self, duration: int, until: Callable[[], bool] | None = None) -> bool:
        """Let virtual time pass; True when `until` came true (or there is none)."""
        end = self.now + duration
        self.flush()
        while True:
            if until and until():
                return True
            times = [lib.endpoint_deadline(self.client.endpoint), lib.endpoint_deadline(self.server.endpoint)]
            if self._agenda:
                times.append(self._agenda[0][0])
            when = max(min(times), self.now)
            if when > end:
                self.now = end
                for node in (self.client, self.server):
                    check(lib.endpoint_advance(node.endpoint, self.now))
                return until is None
            self.now = when
            while self._agenda and self._agenda[0][0] <= self.now:
                heapq.heappop(self._agenda)[2]()
            for node in (self.client, self.server):
                check(lib.endpoint_advance(node.endpoint, self.now))
            self.flush()

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
        return lib.conn_stats(self.client.endpoint, conn, _stats) == 0 and bool(_stats.handshake_confirmed)

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
        handles = []
        for node, conn in ((self.client, client), (self.server, server)):
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
            handles.append(tunnel)
        return handles[0], handles[1]

    def rules(self, node: Node, tunnel: int, rules: list[dict[str, Any]]) -> None:
        array = ffi.new("struct steering_rule[]", max(1, len(rules)))
        for i, rule in enumerate(rules):
            array[i].rule_id = i + 1
            array[i].precedence = i
            for name, value in rule.items():
                setattr(array[i], name, value)
        check(lib.tunnel_steering_set(node.endpoint, tunnel, array, len(rules)))

    def inner(self, node: Node, packet: bytes) -> None:
        """Give an inner packet of TUN 0 to a node."""
        check(lib.tunnel_input(node.endpoint, 0, packet, len(packet), self.now))


BALANCED = {"mode": 2, "weight": [30, 70]}
ACTIVE_3GPP = {"mode": 0, "active_access": 0, "has_standby": 1}
ACTIVE_NON_3GPP = {"mode": 0, "active_access": 1, "has_standby": 1}


def udp4(size: int, *, up: bool = True, flow: int = 0, serial: int = 0, ue: str = "10.45.0.2", dn: str = "10.99.0.2") -> bytes:
    """An inner UDP packet of `size` octets: from the UE (up) or to it."""
    ends = [bytes(int(x) for x in ue.split(".")), bytes(int(x) for x in dn.split("."))]
    ports = [(20000 + flow).to_bytes(2, "big"), (5201).to_bytes(2, "big")]
    if not up:
        ends.reverse()
        ports.reverse()
    header = bytes([0x45, 0]) + size.to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, 17, 0, 0]) + ends[0] + ends[1]
    body = ports[0] + ports[1] + (size - 20).to_bytes(2, "big") + b"\0\0" + serial.to_bytes(8, "big")
    return header + body + bytes(size - len(header) - len(body))


def serial_of(packet: bytes) -> int:
    """The serial number that `udp4` put in."""
    return int.from_bytes(packet[28:36], "big")
