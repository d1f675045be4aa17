"""A handshake with fixed secrets in place of TLS, so that the engine is tested without it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from native import ffi, lib
from native.sim.node import ANY, MS, SECOND, Event, Node, check

SUITE = 0x1301
SERVER_FINISHED = b"server finished"
_stats = ffi.new("struct conn_stats *")


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
    tells_reset_token: bool = False  # server: as its transport parameter does

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

    def finished(self, conn: int) -> bytes:
        """The server's last message, with the stateless reset token of its first connection ID if it is to be told."""
        if not self.tells_reset_token:
            return SERVER_FINISHED
        info = ffi.new("struct conn_info *")
        check(lib.conn_info(self.node.endpoint, conn, info))
        return SERVER_FINISHED + bytes(info.reset_token[0:16])

    def params(self, conn: int, reset_token: bytes = b"") -> None:
        p = ffi.new("struct peer_params *")
        p.max_idle_timeout_ns = 30 * SECOND
        p.max_ack_delay_ns = 25 * MS
        p.ack_delay_exponent = 3
        p.multipath = 1
        p.initial_max_path_id = 3
        p.active_connection_id_limit = 4
        p.max_udp_payload_size = 1500
        p.max_datagram_frame_size = 65535
        if reset_token:
            p.has_reset_token = 1
            p.reset_token = reset_token
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
            self.params(conn, event.data.partition(SERVER_FINISHED)[2])
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
            self.crypto(conn, 1, self.finished(conn))
            self.keys(conn, 2, 0)
            self.stages[conn] = 1
        elif self.node.role == 1 and event.level == 1 and stage == 1:
            self.keys(conn, 2, 1)
            self.stages[conn] = 2
            check(lib.conn_handshake_complete(self.node.endpoint, conn))
            self.done.append(conn)
