"""The I/O thread on real sockets and TUN devices: two engines over a veth pair, with fixed secrets."""

from __future__ import annotations

import hashlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from needs import needs_tun

from lab.bench.pair import CLIENT, INNER, INNER6, SERVER, EnginePair, Line, only
from native._engine import ffi, lib

UDP_SEGMENT = 103
SO_NO_CHECK = 11
pytestmark = needs_tun


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with Line() as made:
        yield made


@pytest.fixture
def pair(line: Line) -> Iterator[EnginePair]:
    made = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256)
    yield made
    made.close()


def inner_socket(line: Line, side: int, kind: int, v6: bool = False, port: int = 6000) -> socket.socket:
    def make() -> socket.socket:
        s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.settimeout(15)
        s.bind(((INNER6 if v6 else INNER)[side], port))
        return s

    return line.spaces[side].call_sync(make)


def transfer(line: Line, sender: int, v6: bool, data: bytes) -> bytes:
    """SHA-256 of what arrives at the other side over TCP."""
    a = inner_socket(line, sender, socket.SOCK_STREAM, v6, 0)
    b = inner_socket(line, 1 - sender, socket.SOCK_STREAM, v6)
    digest = hashlib.sha256()
    b.listen()

    def serve() -> None:
        peer, _ = b.accept()
        with peer:
            peer.settimeout(15)
            while piece := peer.recv(1 << 16):
                digest.update(piece)

    thread = threading.Thread(target=serve)
    thread.start()
    with a:
        a.connect(b.getsockname())
        a.sendall(data)
    thread.join()
    b.close()
    return digest.digest()


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("sender", [CLIENT, SERVER])
def test_tcp_arrives_unchanged_in_large_pieces(line: Line, pair: EnginePair, sender: int, v6: bool) -> None:
    data = os.urandom(4 << 20)
    assert transfer(line, sender, v6, data) == hashlib.sha256(data).digest()
    out, into = pair.sides[sender].stats(), pair.sides[1 - sender].stats()
    assert out.tun_packets_in > 2 * out.tun_reads  # TSO from the TUN,
    assert out.udp_send_datagrams > 2 * out.udp_sends  # GSO on the line,
    assert into.udp_receive_datagrams > 2 * into.udp_receives  # GRO from it,
    assert into.tun_packets_out > 2 * into.tun_writes  # and joined again
    counters = pair.sides[1 - sender].counters()
    assert not counters.get("auth_failed") and not counters.get("tun_write_failed")


def test_no_round_trip_takes_no_time(line: Line, pair: EnginePair) -> None:
    """A packet sent late in a turn of the thread, whose ACK is read in the same turn, had an RTT of 1 ns: the minimum for good."""
    data = os.urandom(1 << 20)
    for sender in (CLIENT, SERVER) * 8:
        assert transfer(line, sender, False, data) == hashlib.sha256(data).digest()
    for side in pair.sides:
        info = ffi.new("struct path_info *")
        assert lib.path_info(side.endpoint, side.conn, 0, info) == 0
        assert 1_000 < info.rtt_min < 1_000_000_000


def test_udp_keeps_its_boundaries(line: Line, pair: EnginePair) -> None:
    a, b = (inner_socket(line, side, socket.SOCK_DGRAM) for side in (CLIENT, SERVER))
    sizes = [1, 17, 500, 1000, 1000, 1000, 999, 1372, 3]
    texts = [os.urandom(n) for n in sizes]
    for text in texts:
        a.sendto(text, b.getsockname())
    assert [b.recv(4096) for _ in sizes] == texts
    a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1100)  # USO where the kernel has it
    data = os.urandom(30_300)
    a.sendto(data, b.getsockname())
    got = [b.recv(4096) for _ in range(28)]
    assert [len(g) for g in got] == [1100] * 27 + [600] and b"".join(got) == data
    a.close(), b.close()


def udp_packet(port: int, text: bytes, wrong: bool) -> bytes:
    source, target = (socket.inet_aton(INNER[side]) for side in (CLIENT, SERVER))
    udp = struct.pack("!HHHH", 6001, port, 8 + len(text), 0) + text
    data = source + target + struct.pack("!HH", 17, len(udp)) + udp + b"\0" * (len(udp) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    udp = udp[:6] + struct.pack("!H", total ^ 0x1234 if wrong else total or 0xFFFF) + udp[8:]
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0) + source + target + udp


def test_wrong_inner_checksum_stays_wrong(line: Line, pair: EnginePair) -> None:
    raw = line.spaces[CLIENT].call_sync(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    b = inner_socket(line, SERVER, socket.SOCK_DGRAM)
    texts = [bytes([i]) * 800 for i in range(61)]
    wrong = {i for i in range(61) if i % 7 == 3}
    for i, text in enumerate(texts):
        raw.sendto(udp_packet(6000, text, i in wrong), (INNER[SERVER], 0))
    assert [b.recv(4096)[0] for _ in range(61 - len(wrong))] == [i for i in range(61) if i not in wrong]
    b.setblocking(False)
    with pytest.raises(BlockingIOError):
        b.recv(4096)
    raw.close(), b.close()


def test_without_gso_datagrams_go_one_by_one(line: Line) -> None:
    line.sockets[CLIENT][0].setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)  # the kernel refuses GSO then
    try:
        pair = EnginePair(line, lib.SUITE_CHACHA20_POLY1305_SHA256)
        try:
            data = os.urandom(1 << 20)
            assert transfer(line, CLIENT, False, data) == hashlib.sha256(data).digest()
            assert pair.sides[CLIENT].stats().gso == 0
            assert "udp_send_failed" not in pair.sides[CLIENT].counters()
        finally:
            pair.close()
    finally:
        line.sockets[CLIENT][0].setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)


def test_stop_start_and_refusals(line: Line, pair: EnginePair) -> None:
    side = pair.sides[CLIENT]
    datagram, event = ffi.new("struct datagram *"), ffi.new("uint8_t[2048]")
    datagram.data, datagram.length = event, 2048
    assert lib.io_start(side.io) == -lib.ENGINE_E_STATE
    assert lib.endpoint_output(side.endpoint, datagram, 0) == -lib.ENGINE_E_BUSY
    assert lib.io_socket_add(side.io, line.sockets[CLIENT][0].fileno(), 0) == -lib.ENGINE_E_STATE
    assert lib.io_socket_add(side.io, line.sockets[CLIENT][0].fileno(), lib.ENGINE_MAX_LINKS) == -lib.ENGINE_E_ARGUMENT
    assert lib.io_tun_add(side.io, line.sockets[CLIENT][0].fileno()) < 0
    assert lib.io_socket_remove(side.io, 3) == -lib.ENGINE_E_HANDLE
    assert lib.io_stop(side.io) == 0
    assert lib.io_stop(side.io) == -lib.ENGINE_E_STATE
    side.start()
    data = os.urandom(1 << 18)
    assert transfer(line, SERVER, False, data) == hashlib.sha256(data).digest()


def test_a_removed_socket_sends_nothing(line: Line, pair: EnginePair) -> None:
    side = pair.sides[CLIENT]
    assert lib.io_socket_remove(side.io, 0) == 0
    a = inner_socket(line, CLIENT, socket.SOCK_DGRAM)
    a.sendto(b"lost", (INNER[SERVER], 6000))

    failures = 0
    while not failures:
        lib.io_kick(side.io)
        failures = side.counters().get("udp_send_failed", 0)
    assert lib.io_socket_add(side.io, line.sockets[CLIENT][0].fileno(), 0) == 0
    a.close()


def test_empty_datagrams_are_counted_and_hold_nothing_up(line: Line, pair: EnginePair) -> None:
    """R-18. An empty datagram is a read of 0 octets, which is no end of what there is to read."""
    side = pair.sides[SERVER]
    stranger = line.spaces[CLIENT].call_sync(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    target = line.sockets[SERVER][0].getsockname()
    before = side.counters().get("datagram_short", 0)
    for i in range(200):
        stranger.sendto(b"" if i % 2 else b"@", target)
    data = os.urandom(1 << 16)
    assert transfer(line, CLIENT, False, data) == hashlib.sha256(data).digest()
    assert side.counters()["datagram_short"] - before == 200
    stranger.close()


def test_tun_names() -> None:
    assert lib.tun_open(b"") == -lib.ENGINE_E_ARGUMENT
    assert lib.tun_open(b"a-name-that-is-too-long") == -lib.ENGINE_E_ARGUMENT
    assert lib.tun_open(b"a/b") == -lib.ENGINE_E_SYSTEM


def test_a_tun_that_goes_away_does_not_keep_the_thread_busy() -> None:
    with Line() as line:
        pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256)
        try:
            space, side = line.spaces[CLIENT], pair.sides[CLIENT]
            os.close(line.tuns[CLIENT])
            line.tuns[CLIENT] = os.open("/dev/null", os.O_RDONLY)  # the line closes what it holds
            index = space.call_sync(lambda: space.ipr.link_lookup(ifname="tun0")[0])
            space.call_sync(lambda: space.ipr.link("del", index=index))
            for _ in range(20):
                turns = side.stats().turns
                lib.io_kick(side.io)
                while side.stats().turns == turns:  # the kick makes one
                    pass
            before = side.stats().turns
            select.select([], [], [], 0.3)
            assert side.stats().turns - before < 1000  # else it would turn hundreds of thousands of times
        finally:
            pair.close()


def test_packets_that_waited_for_others_come_out_unchanged(line: Line, pair: EnginePair) -> None:
    """Their buffers are the TUN's until they are written. Some come out because the one before them comes, in a call; some by the
    thread's timer."""
    b = inner_socket(line, SERVER, socket.SOCK_DGRAM)
    side = pair.sides[SERVER]
    texts = [bytes([i]) * 800 for i in range(200)]

    def put(number: int) -> None:
        packet = udp_packet(6000, texts[number], False)
        total = sum(struct.unpack("!10H", packet[:20]))
        packet = packet[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + packet[12:]
        assert lib.tunnel_sequenced_input(side.endpoint, side.tunnel, 1, number % 2, number, packet, len(packet), 0) == 1

    put(0)
    assert b.recv(4096) == texts[0]
    for first in range(1, 161, 40):
        for start in range(first, first + 40, 4):
            for number in (start + 1, start + 2, start + 3, start):  # three wait for one
                put(number)
        assert [b.recv(4096) for _ in range(40)] == texts[first : first + 40]
    texts.extend(bytes([i]) * 700 for i in range(200, 240))
    for number in range(200, 240, 2):  # those between never come
        put(number)
    assert [b.recv(4096) for _ in range(20)] == texts[200:240:2]
    b.close()


@pytest.mark.parametrize("ipv6", [(0, 1), (1,)], ids=["both", "second"])
def test_accesses_of_either_family_carry_both(ipv6: tuple[int, ...]) -> None:
    """R-69: outer IPv6, and accesses of which one has IPv4 only and the other IPv6 only; inner IPv4 and IPv6 over each."""
    with Line(2, ipv6) as line:
        for link in range(2):
            made = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256, rule=only(link))
            try:
                for v6 in (False, True):
                    data = os.urandom(1 << 18)
                    assert transfer(line, CLIENT, v6, data) == hashlib.sha256(data).digest()
                for side in made.sides:
                    stats = ffi.new("struct tunnel_stats *")
                    assert lib.tunnel_stats(side.endpoint, side.tunnel, stats) == 0
                    assert stats.access_packets_out[link] > 0 == stats.access_packets_out[1 - link]
            finally:
                made.close()
