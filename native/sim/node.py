"""An endpoint of the engine for the simulator, and what came out of it as Python values."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from native import ffi, lib

MS = 1_000_000
SECOND = 1_000_000_000
NEVER = (1 << 64) - 1
ANY = 0xFFFFFFFF
COUNTERS = [ffi.string(lib.counter_name(i)).decode() for i in range(lib.counter_count())]
DROPS = {COUNTERS[i] for i in range(lib.counter_count()) if lib.counter_is_drop(i)}


def check(result: int) -> int:
    """The result of an engine's call that must not fail."""
    if result < 0:
        raise ValueError(f"engine error {-result}")
    return result


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
        return {COUNTERS[i]: value for i, value in enumerate(values) if value}

    def drops(self) -> dict[str, int]:
        return {name: value for name, value in self.counters().items() if name in DROPS}

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
            packet = bytes(ffi.buffer(self._buffer, n))
            if self.on_inner:
                self.on_inner(self._tun[0], packet)
            else:
                self.inner.append((now, self._tun[0], packet))
