"""Floods of strangers at a server's endpoint (bars R-02, R-03): Initials from everywhere, rubbish behind a good packet.

Sans-IO, under a virtual clock. `initials_from_everywhere` and `rubbish_behind_initials` are run larger by tests/soak."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from typing import Any

from heap import heap_in_use

from mpquic.key_schedule import hkdf_expand_label, hkdf_extract
from native import ffi, lib
from native.sim import MS, SECOND, SUITE, FixedHandshake, Node, address, check

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
HELLO = b"\x06\x00\x40\xc8" + b"hello" * 40  # CRYPTO, as FixedHandshake says it
SPARE = 64 << 10
"""octets that come and go with what happens to be under way"""
HALF_OPEN, RETRY_FROM = 16, 8


def initial(dcid: bytes, size: int = 1200, number: int = 0) -> bytes:
    """A client's first Initial, rightly protected: everything that it takes is in it."""
    secret = hkdf_expand_label("sha256", hkdf_extract("sha256", SALT, dcid), "client in", b"", 32)
    key, iv, hp = (hkdf_expand_label("sha256", secret, f"quic {what}", b"", n) for what, n in (("key", 16), ("iv", 12), ("hp", 16)))
    made = ffi.gc(lib.aead_key_new_raw(b"openssl", SUITE, key, iv, hp), lib.aead_key_free)
    head = b"\xc3\0\0\0\1" + bytes([len(dcid)]) + dcid + b"\x08stranger" + b"\0"
    body = HELLO.ljust(size - len(head) - 2 - 4 - 16, b"\0")
    header = head + (0x4000 | (4 + len(body) + 16)).to_bytes(2, "big") + number.to_bytes(4, "big")
    buffer = ffi.new("uint8_t[]", header + body + bytes(16))
    n = check(lib.packet_seal(made, buffer, len(header), 4, len(body), 0, number))
    return bytes(buffer[0:n])


class Server:
    """A server and the internet around it: what came from an address, and what went there."""

    def __init__(self, **config: int) -> None:
        self.now = SECOND
        self.node = Node(1, 2, max_half_open=HALF_OPEN, max_connections=64, **config)
        self.node.on_event = FixedHandshake(self.node)
        check(lib.endpoint_link_set(self.node.endpoint, 0, lib.ACCESS_3GPP))
        check(lib.endpoint_accept(self.node.endpoint, 1))
        self.came: Counter[tuple[bytes, int]] = Counter()
        self.went: Counter[tuple[bytes, int]] = Counter()
        self.answers: list[bytes] = []  # to the UE
        self._out, self._buffer = ffi.new("struct datagram *"), ffi.new("uint8_t[2048]")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.node.close()

    def deliver(self, source: Any, data: bytes) -> None:
        d = ffi.new("struct datagram *")
        keep = ffi.from_buffer(data)
        d.link, d.remote, d.length, d.data = 0, source[0], len(data), ffi.cast("uint8_t *", keep)
        self.came[bytes(source.ip[0:4]), source.port] += len(data)
        check(lib.endpoint_input(self.node.endpoint, d, self.now))

    def turn(self, ue: Any = None) -> None:
        """Timers, then everything that goes out; what goes to the UE is kept for it."""
        check(lib.endpoint_advance(self.node.endpoint, self.now))
        self.node.pump(self.now)
        d = self._out
        while True:
            d.data, d.length = self._buffer, 2048
            if lib.endpoint_output(self.node.endpoint, d, self.now) != 1:
                break
            self.went[bytes(d.remote.ip[0:4]), d.remote.port] += d.length
            if ue is not None and d.remote.port == ue.port:
                self.answers.append(bytes(self._buffer[0 : d.length]))

    def half_open(self) -> int:
        found = [self.node.stats(conn) for conn in self.node.connections()]
        return sum(not stats.handshake_confirmed and not stats.closing for stats in found)


class Ue:
    """A true client at one address, in the same time as the server."""

    def __init__(self, server: Server) -> None:
        self.server, self.address, self.proxy = server, address("10.1.0.2", 4711), address("10.100.0.1", 4433)
        self.node = Node(0, 1)
        self.node.on_event = self.handshake = FixedHandshake(self.node)
        check(lib.endpoint_link_set(self.node.endpoint, 0, lib.ACCESS_3GPP))
        self._out, self._buffer = ffi.new("struct datagram *"), ffi.new("uint8_t[2048]")

    def start(self) -> int:
        conn = check(lib.conn_connect(self.node.endpoint, 0, self.proxy, self.server.now))
        self.handshake.start(conn)
        return conn

    def turn(self) -> None:
        now = self.server.now
        d = self._out
        for answer in self.server.answers:
            keep = ffi.from_buffer(answer)
            d.link, d.remote, d.length, d.data = 0, self.proxy[0], len(answer), ffi.cast("uint8_t *", keep)
            check(lib.endpoint_input(self.node.endpoint, d, now))
        self.server.answers.clear()
        check(lib.endpoint_advance(self.node.endpoint, now))
        self.node.pump(now)
        while True:
            d.data, d.length = self._buffer, 2048
            if lib.endpoint_output(self.node.endpoint, d, now) != 1:
                break
            self.server.deliver(self.address, bytes(self._buffer[0 : d.length]))


def initials_from_everywhere(count: int, retry_from: int, seconds: int = 10) -> tuple[Server, Ue, int]:
    """`count` Initials in virtual `seconds`, each from an address of its own to a DCID of its own; a UE connects in the middle.
    Server and UE as they are then, and how many half-open connections there were at most."""
    rng = random.Random(2)
    server = Server(retry_half_open=retry_from)
    ue, most = Ue(server), 0
    for number in range(count):
        server.now += seconds * SECOND // count
        source = address(f"192.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 1024 + number % 60000)
        server.deliver(source, initial(rng.randbytes(8)))
        if number == count // 2:
            ue.start()
        server.turn(ue.address)
        if number >= count // 2:
            ue.turn()
            server.turn(ue.address)
        if number % 50 == 0:
            most = max(most, server.half_open())
            server.node.events.clear()
    return server, ue, most


def test_ten_thousand_initials_from_ten_thousand_addresses() -> None:
    """R-02: nobody is sent more than three times what came from there, few handshakes are open at a time, each of the others is
    answered by a Retry and counted, and a UE connects meanwhile, within the round trip that the Retry costs."""
    server, ue, _ = initials_from_everywhere(200, RETRY_FROM)  # what Python and libraries take once
    server.node.close(), ue.node.close()
    del server, ue
    gc.collect()
    before = heap_in_use()
    server, ue, most = initials_from_everywhere(10_000, RETRY_FROM)
    with server:
        (conn,) = ue.handshake.done
        assert ue.node.stats(conn).handshake_confirmed and ue.node.counters()["retry_accepted"] == 1
        assert len(server.came) == 10_001
        over = {source: n for source, n in server.went.items() if n > 3 * server.came[source]}
        assert not over and len(server.went) > 9_000
        counters = server.node.counters()
        assert 0 < most <= RETRY_FROM < HALF_OPEN and "half_open_limit" not in counters
        opened = 10_001 - counters["retry_sent"]
        assert 0 < opened <= 2 * RETRY_FROM  # a half-open connection lives ten seconds
        for _ in range(300):  # and all of it is given back
            server.now += 100 * MS
            server.turn()
        assert server.half_open() == 0
        ue.node.close()
    del server, ue, counters, over
    gc.collect()
    assert heap_in_use() < before + SPARE


def test_beyond_the_cap_initials_are_dropped_by_name() -> None:
    """R-02, and the canary of the test above: without Retry the cap alone holds, and it holds the UE off, too."""
    server, ue, most = initials_from_everywhere(1_000, 0, 5)
    with server:
        assert most == HALF_OPEN and not ue.handshake.done
        counters = server.node.counters()
        assert counters["half_open_limit"] >= 1_000 - HALF_OPEN and "retry_sent" not in counters
        assert all(n <= 3 * server.came[source] for source, n in server.went.items()) and len(server.went) == HALF_OPEN
    ue.node.close()


def rubbish(rng: random.Random, dcid: bytes) -> bytes:
    """What stands behind a good packet: packets of other connections, of types and versions that nobody knows, octets."""
    other = rng.randbytes(8)
    size = rng.randrange(40, 120)
    long = b"\0\0\0\1" + b"\x08" + other + b"\x08stranger"
    kind = rng.randrange(6)
    if kind == 0:  # Initial, Handshake or 0-RTT of another connection
        token = rng.choice((b"\xc3", b"\xe3", b"\xd3"))
        return token + long + (b"\0" if token == b"\xc3" else b"") + (0x4000 | size).to_bytes(2, "big") + rng.randbytes(size)
    if kind == 1:
        return b"\x43" + other + rng.randbytes(size)
    if kind == 2:  # a version that is not, and one that negotiates
        return b"\xc3" + rng.choice((bytes(4), b"\x1a\x2a\x3a\x4a")) + long[4:] + rng.randbytes(size)
    if kind == 3:  # Retry
        return b"\xf0" + long + rng.randbytes(size)
    if kind == 4:  # this connection's, cut
        return b"\xe3\0\0\0\1" + bytes([len(dcid)]) + dcid + b"\x08stranger" + (0x4000 | size).to_bytes(2, "big") + rng.randbytes(9)
    return rng.randbytes(size)


def rubbish_behind_initials(count: int) -> tuple[int, Counter[str]]:
    """By how much the heap grew at most over `count` datagrams, an Initial that is good and rubbish behind it, after the first
    tenth; and what was counted for them."""
    rng = random.Random(3)
    dcid = rng.randbytes(8)
    source = address("192.0.2.1", 5000)
    grown, base = 0, 0
    with Server() as server:
        good = [initial(dcid, 1100, number) for number in range(32)]
        for number in range(count):
            server.now += MS // 10
            parts = b"".join(rubbish(rng, dcid) for _ in range(rng.randrange(1, 4)))
            server.deliver(source, (good[number % 32] + parts).ljust(1200, b"\0"))
            server.turn()
            server.node.events.clear()
            if number == count // 10:
                gc.collect()
                base = heap_in_use()
            elif number > count // 10 and number % 256 == 0:
                grown = max(grown, heap_in_use() - base)
        assert len(server.node.connections()) <= 1
        return grown, Counter(server.node.counters())


def test_rubbish_behind_a_good_packet_is_dropped_at_once() -> None:
    """R-03."""
    started = time.process_time()
    grown, counters = rubbish_behind_initials(5_000)
    assert grown < SPARE, f"{grown} octets in {time.process_time() - started:.1f} s"
    assert counters["coalesced_foreign"] > 2_000 and counters["version_unknown"] and counters["retry_ignored"]
    assert counters["header_malformed"] and counters["udp_received"] == 5_000
    assert counters.get("cid_unknown", 0) == 0 and counters.get("reset_sent", 0) == 0  # nobody is answered for it
