"""Two namespaces with a veth pair, a TUN at each end, and something between TUN and veth: our engine with fixed secrets, or the
forwarder without cryptography. For the benchmark and for tests of the I/O thread; keyed sessions are `mpq run`'s."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from native._engine import ffi, lib
from node.netns import Netns

TUN_MTU = 1400
PAYLOAD, PAYLOAD6 = 1472, 1452  # UDP payload in the veth's 1500 octets
CLIENT, SERVER = 0, 1
IFA_F_NODAD = 0x02
OUTER = (("192.0.2.1", "192.0.2.2"), ("198.51.100.1", "198.51.100.2"))  # by link, by side
OUTER6 = (("fd0a::1", "fd0a::2"), ("fd0b::1", "fd0b::2"))
INNER = ("10.99.0.1", "10.99.0.2")
INNER6 = ("fd99::1", "fd99:1::2")
SESSIONS_NETWORK = "10.98.0.0/16"  # inner addresses of further sessions
PORT = 4433
ACCESSES = (lib.ACCESS_3GPP, lib.ACCESS_NON_3GPP)
EVENT_DATA = 2048


class BenchError(Exception):
    """The measurement cannot be made; the text says why."""


def check(result: int, what: str) -> int:
    """The result of a native call, or an error that names the call."""
    if result < 0:
        raise BenchError(f"{what}: error {-result} ({os.strerror(ffi.errno)})")
    return result


class Line:
    """Two namespaces with a veth pair for each link and a TUN on each side; `with Line() as line`."""

    def __init__(self, links: int = 1, ipv6: Sequence[int] = ()) -> None:
        """`ipv6`: the links whose outer packets are IPv6."""
        self.links, self.ipv6 = links, frozenset(ipv6)
        self.spaces: list[Netns] = []
        self.tuns: list[int] = []
        self.sockets: list[list[socket.socket]] = []  # by side, by link

    def __enter__(self) -> Self:
        try:
            self.spaces = [Netns(), Netns()]
            self._join()
            for side, space in enumerate(self.spaces):
                space.call_sync(self._address, side)
                self.tuns.append(space.call_sync(self._tun, side))
                self.sockets.append([space.call_sync(self._socket, side, link) for link in range(self.links)])
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for s in (s for side in self.sockets for s in side):
            s.close()
        for fd in self.tuns:
            os.close(fd)
        for space in self.spaces:
            space.close()
        self.spaces, self.tuns, self.sockets = [], [], []

    def _join(self) -> None:
        """The interface line0, line1, ... of each link in both namespaces."""
        a, b = self.spaces

        def make() -> None:
            for link in range(self.links):
                a.ipr.link("add", ifname=f"line{link}", kind="veth", peer={"ifname": f"line{link}", "net_ns_fd": b.fd})

        a.call_sync(make)

    def _address(self, side: int) -> None:
        ipr = self.spaces[side].ipr
        for link in range(self.links):
            index = ipr.link_lookup(ifname=f"line{link}")[0]
            ipr.addr("add", index=index, address=OUTER[link][side], prefixlen=24)
            if link in self.ipv6:
                ipr.addr("add", index=index, address=OUTER6[link][side], prefixlen=64, flags=IFA_F_NODAD)
            ipr.link("set", index=index, state="up")

    def _tun(self, side: int) -> int:
        ipr = self.spaces[side].ipr
        fd = check(lib.tun_open(b"tun0"), "tun_open")
        index = ipr.link_lookup(ifname="tun0")[0]
        ipr.link("set", index=index, mtu=TUN_MTU, state="up", txqlen=1000)
        ipr.addr("add", index=index, address=INNER[side], prefixlen=32)
        ipr.addr("add", index=index, address=INNER6[side], prefixlen=128)
        ipr.route("add", dst=f"{INNER[1 - side]}/32", oif=index)
        ipr.route("add", dst=f"{INNER6[1 - side]}/128", oif=index)
        if side == SERVER:
            ipr.route("add", dst=SESSIONS_NETWORK, oif=index)
        return fd

    def addresses(self, count: int) -> list[str]:
        """Inner addresses of `count` sessions, given to the client's TUN."""
        wanted = [session_address(i) for i in range(count)]

        def give() -> None:
            ipr = self.spaces[CLIENT].ipr
            index = ipr.link_lookup(ifname="tun0")[0]
            for address in wanted[1:]:
                ipr.addr("replace", index=index, address=address, prefixlen=32)

        self.spaces[CLIENT].call_sync(give)
        return wanted

    def _socket(self, side: int, link: int) -> socket.socket:
        s = socket.socket(socket.AF_INET6 if link in self.ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
        s.setblocking(False)
        s.bind((self.outer(side, link), PORT))
        return s

    def outer(self, side: int, link: int) -> str:
        return (OUTER6 if link in self.ipv6 else OUTER)[link][side]

    def connected(self, side: int) -> socket.socket:
        """A UDP socket to the other side's, for the forwarder; the caller closes it."""

        def make() -> socket.socket:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((OUTER[0][side], PORT + 1))
            s.connect((OUTER[0][1 - side], PORT + 1))
            return s

        return self.spaces[side].call_sync(make)


def session_address(number: int) -> str:
    """The inner address of session 0, 1, ..."""
    return INNER[CLIENT] if number == 0 else f"10.98.{number // 250}.{number % 250 + 1}"


class EngineSide:
    """One endpoint with its I/O thread."""

    def __init__(self, role: int, sockets: Sequence[socket.socket], tun: int) -> None:
        payload = PAYLOAD6 if any(s.family == socket.AF_INET6 for s in sockets) else PAYLOAD
        config = ffi.new(
            "struct endpoint_config *",
            {
                "role": role,
                "max_connections": 256,
                "max_half_open": 8,
                "reset_key": bytes(range(32)),
                "max_idle_timeout_ns": 600_000_000_000,
                "max_ack_delay_ns": 25_000_000,
                "ack_delay_exponent": 3,
                "active_connection_id_limit": 4,
                "initial_max_path_id": 4,
                "max_datagram_frame_size": 65535,
                "max_udp_payload": payload,
                "validation_size": payload,
            },
        )
        self.role = role
        self.io = ffi.NULL
        self.endpoint = lib.endpoint_new(config)
        if self.endpoint == ffi.NULL:
            raise BenchError("endpoint_new failed")
        for link in range(len(sockets)):
            check(lib.endpoint_link_set(self.endpoint, link, ACCESSES[link]), "endpoint_link_set")
        if role == SERVER:
            check(lib.endpoint_accept(self.endpoint, 1), "endpoint_accept")
        self.io = lib.io_new(self.endpoint)
        if self.io == ffi.NULL:
            raise BenchError("io_new failed")
        for link, sock in enumerate(sockets):
            check(lib.io_socket_add(self.io, sock.fileno(), link), "io_socket_add")
        self.tun = check(lib.io_tun_add(self.io, tun), "io_tun_add")
        self.conn = 0
        self.tunnel = 0

    def start(self) -> None:
        check(lib.io_start(self.io), "io_start")

    def close(self) -> None:
        if self.io != ffi.NULL:
            lib.io_free(self.io)
        lib.endpoint_free(self.endpoint)
        self.io = self.endpoint = ffi.NULL

    def wait(self, what: str, done: Callable[[Any, bytes], bool], seconds: float = 10) -> None:
        """Take events until one satisfies `done`."""
        event, data = ffi.new("struct event *"), ffi.new("uint8_t[]", EVENT_DATA)
        end = time.monotonic() + seconds
        fd = lib.io_event_fd(self.io)
        while True:
            while lib.endpoint_event_next(self.endpoint, event, data, EVENT_DATA) == 1:
                if done(event, bytes(ffi.buffer(data, event.length))):
                    return
            left = end - time.monotonic()
            if left <= 0:
                raise BenchError(f"no {what} within {seconds} s")
            select.select([fd], [], [], left)

    def crypto(self, level: int, data: bytes) -> None:
        frame = bytes([0x06, 0x00, len(data)]) + data
        check(
            lib.conn_frame_send(self.endpoint, self.conn, level, lib.ENGINE_PATH_ANY, frame, len(frame), 0, lib.FRAME_ONCE),
            "conn_frame_send",
        )

    def keys(self, level: int, suite: int) -> None:
        size = 48 if suite == lib.SUITE_AES_256_GCM_SHA384 else 32
        for direction in (lib.DIRECTION_SEND, lib.DIRECTION_RECEIVE):
            sender = self.role ^ (direction == lib.DIRECTION_RECEIVE)
            secret = bytes([0x5A, level, sender]).ljust(size, b"\x11")
            check(
                lib.conn_keys_install(self.endpoint, self.conn, level, direction, suite, secret, size),
                "conn_keys_install",
            )

    def params(self) -> None:
        check(
            lib.conn_peer_params(
                self.endpoint,
                self.conn,
                ffi.new(
                    "struct peer_params *",
                    {
                        "max_idle_timeout_ns": 600_000_000_000,
                        "max_ack_delay_ns": 25_000_000,
                        "ack_delay_exponent": 3,
                        "multipath": 1,
                        "initial_max_path_id": 4,
                        "active_connection_id_limit": 4,
                        "max_udp_payload_size": 65527,
                        "max_datagram_frame_size": 65535,
                    },
                ),
            ),
            "conn_peer_params",
        )

    def open(self, link: int, remote: Any) -> None:
        """A further path of the client's, validated."""
        end = time.monotonic() + 5
        while (path := lib.path_open(self.endpoint, self.conn, link, remote)) == -lib.ENGINE_E_LIMIT and time.monotonic() < end:
            time.sleep(0.01)  # the server's connection IDs for it are under way
        check(path, "path_open")
        self.wait("validated path", lambda event, _: bool(event.type == lib.EVENT_PATH_VALIDATED and event.path == path))

    def carry(self, session: int, rule: dict[str, Any]) -> None:
        """Bind a tunnel of the session's addresses to the connection, steered by this rule."""
        config = ffi.new(
            "struct tunnel_config *",
            {
                "tun": self.tun,
                "has_ipv4": 1,
                "ipv4": socket.inet_aton(session_address(session)),
                "has_ipv6": int(session == 0),
                "ipv6": socket.inet_pton(socket.AF_INET6, INNER6[CLIENT]),
                "ipv6_prefix": 64,
                "hold_packets": 64,
                "hold_ns": 1_000_000_000,
                "mtu": TUN_MTU,
            },
        )
        self.tunnel = check(lib.tunnel_new(self.endpoint, config), "tunnel_new")
        rules = ffi.new("struct steering_rule[1]", [{"rule_id": 1, "precedence": 1, **rule}])
        check(lib.tunnel_steering_set(self.endpoint, self.tunnel, rules, 1), "tunnel_steering_set")
        check(lib.tunnel_bind(self.endpoint, self.tunnel, self.conn, 0), "tunnel_bind")

    def counters(self) -> dict[str, int]:
        n = lib.counter_count()
        values = ffi.new("uint64_t[]", n)
        lib.endpoint_counters(self.endpoint, values, n)
        return {ffi.string(lib.counter_name(i)).decode(): values[i] for i in range(n) if values[i]}

    def stats(self) -> Any:
        stats = ffi.new("struct io_stats *")
        check(lib.io_stats(self.io, stats), "io_stats")
        return stats

    def cpu_ns(self) -> int:
        return int(self.stats().cpu_ns)


def _address(text: str) -> Any:
    family = 6 if ":" in text else 4
    octets = socket.inet_pton(socket.AF_INET6 if family == 6 else socket.AF_INET, text)
    return ffi.new("struct address *", {"family": family, "ip": octets, "port": PORT})


def only(link: int) -> dict[str, Any]:
    """A steering rule: everything over this link."""
    return {"mode": lib.STEER_ACTIVE_STANDBY, "active_access": ACCESSES[link]}


def balanced(*percent: int) -> dict[str, Any]:
    """A steering rule: flows by these weights of the links."""
    return {"mode": lib.STEER_LOAD_BALANCING, "weight": list(percent)}


class EnginePair:
    """Client and server on a line, connected with fixed secrets, a tunnel bound; as many sessions as wanted. `rule`: how flows
    are steered; without one, half of them over each link. `before_start` is called with each end before its I/O thread runs."""

    def __init__(
        self, line: Line, suite: int, sessions: int = 1, rule: dict[str, Any] | None = None,
        before_start: Callable[[EngineSide], None] | None = None,
    ) -> None:
        self.sides: list[EngineSide] = []
        self.rule = rule or (only(0) if line.links == 1 else balanced(50, 50))
        try:
            for role in (CLIENT, SERVER):
                self.sides.append(EngineSide(role, line.sockets[role], line.tuns[role]))
            self.links = line.links
            self.remotes = [_address(line.outer(SERVER, link)) for link in range(line.links)]
            for side in self.sides:
                if before_start is not None:
                    before_start(side)
                side.start()
            for session in range(sessions):
                self._connect(suite, session)
        except BaseException:
            self.close()
            raise

    def _connect(self, suite: int, session: int) -> None:
        client, server = self.sides
        client.conn = check(
            lib.conn_connect(client.endpoint, 0, self.remotes[0], time.clock_gettime_ns(time.CLOCK_MONOTONIC)), "conn_connect"
        )
        client.crypto(lib.LEVEL_INITIAL, b"client")

        def new(event: Any, _: bytes) -> bool:
            server.conn = event.conn
            return bool(event.type == lib.EVENT_CONN_NEW)

        def frame(level: int, text: bytes) -> Callable[[Any, bytes], bool]:
            return lambda event, data: bool(event.type == lib.EVENT_FRAME and event.level == level and text in data)

        server.wait("connection", new)
        server.wait("client's Initial", frame(lib.LEVEL_INITIAL, b"client"))
        server.crypto(lib.LEVEL_INITIAL, b"server")
        server.keys(lib.LEVEL_HANDSHAKE, suite)
        client.wait("server's Initial", frame(lib.LEVEL_INITIAL, b"server"))
        client.keys(lib.LEVEL_HANDSHAKE, suite)
        client.crypto(lib.LEVEL_HANDSHAKE, b"finished")
        server.wait("client's Handshake", frame(lib.LEVEL_HANDSHAKE, b"finished"))
        for side in self.sides:
            side.params()
            side.keys(lib.LEVEL_1RTT, suite)
        for side in (client, server):
            check(lib.conn_handshake_complete(side.endpoint, side.conn), "conn_handshake_complete")
        client.wait("HANDSHAKE_DONE", lambda event, _: bool(event.type == lib.EVENT_HANDSHAKE_DONE))
        for link in range(1, self.links):
            client.open(link, self.remotes[link])
        for side in self.sides:
            side.carry(session, self.rule)

    def cpu_ns(self) -> int:
        return sum(side.cpu_ns() for side in self.sides)

    def close(self) -> None:
        for side in self.sides:
            side.close()
        self.sides = []


class ForwarderPair:
    """The limit: the same line and offloads, no QUIC and no cryptography."""

    def __init__(self, line: Line) -> None:
        self.forwarders: list[Any] = []
        self.sockets = [line.connected(side) for side in (CLIENT, SERVER)]
        for side, sock in enumerate(self.sockets):
            forwarder = lib.forwarder_new(line.tuns[side], sock.fileno())
            if forwarder == ffi.NULL:
                self.close()
                raise BenchError("forwarder_new failed")
            self.forwarders.append(forwarder)
            check(lib.forwarder_start(forwarder), "forwarder_start")

    def cpu_ns(self) -> int:
        return sum(int(lib.forwarder_cpu_ns(f)) for f in self.forwarders)

    def close(self) -> None:
        for forwarder in self.forwarders:
            lib.forwarder_free(forwarder)
        for sock in self.sockets:
            sock.close()
        self.forwarders, self.sockets = [], []
