"""The link emulator on real veths: what it promises, to the frame."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time

import pytest
from wire_line import ADDRESS, privileged, wire

from native._engine import ffi, lib

pytestmark = pytest.mark.skipif(not privileged(), reason="makes network namespaces: needs root or unshare --map-root-user")
UDP_SEGMENT = 103
NUD_PERMANENT = 0x80
RECEIVE_BUFFER = 32 << 20  # native/src/packet_socket.c


def burst(sender: socket.socket, receiver: socket.socket, n: int) -> list[int]:
    """Sends n numbered datagrams and a mark that tells the end; the numbers in order of arrival."""
    for i in range(n):
        sender.sendto(i.to_bytes(4, "big") + bytes(96), (ADDRESS[1], 5000))
    got = []
    receiver.settimeout(1.5)
    try:
        while len(got) < 2 * n:
            got.append(int.from_bytes(receiver.recv(2048)[:4], "big"))
    except TimeoutError:
        pass
    return got


def test_no_shape_passes_everything_in_order() -> None:
    with wire() as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))  # resolves the address: the kernel queues few packets for that
        b.recv(10)
        for i in range(200):
            a.sendto(i.to_bytes(4, "big"), (ADDRESS[1], 5000))
        assert [int.from_bytes(b.recv(100), "big") for _ in range(200)] == list(range(200))
        b.sendto(b"back", (ADDRESS[0], 5000))
        assert a.recv(100) == b"back"
        assert w.stats(0).packets >= 200 and w.stats(1).packets >= 1
        a.close(), b.close()


def test_delay_is_at_least_what_was_asked() -> None:
    with wire() as w:
        w.shape(0, delay_ns=30_000_000)
        w.shape(1, delay_ns=20_000_000)
        a, b = w.sockets()
        a.sendto(b"x", (ADDRESS[1], 5000))  # resolves the address
        b.recv(10)
        b.sendto(b"x", (ADDRESS[0], 5000))
        a.recv(10)
        start = time.monotonic()
        a.sendto(b"x", (ADDRESS[1], 5000))
        b.recv(10)
        there = time.monotonic()
        b.sendto(b"x", (ADDRESS[0], 5000))
        a.recv(10)
        assert there - start >= 0.030
        assert time.monotonic() - there >= 0.020
        a.close(), b.close()


def test_loss_repeats_with_the_seed() -> None:
    lost = []
    for _ in range(2):
        with wire(seed=99) as w:
            a, b = w.sockets()
            a.sendto(b"warm", (ADDRESS[1], 5000))
            b.recv(10)
            w.shape(0, loss_ppm=200_000)
            got = burst(a, b, 400)
            lost.append(sorted(set(range(400)) - set(got)))
            assert w.stats(0).dropped_loss == len(lost[-1])
            a.close(), b.close()
    assert lost[0] == lost[1]
    assert 40 <= len(lost[0]) <= 120  # 80 expected; the seed makes it one number


def test_duplicates_reordering_and_cut() -> None:
    with wire(seed=5) as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(10)
        w.shape(0, duplicate_ppm=500_000)
        got = burst(a, b, 100)
        assert set(got) == set(range(100)) and len(got) == 100 + w.stats(0).duplicated > 100
        w.shape(0, reorder_ppm=100_000, delay_ns=2_000_000)
        got = burst(a, b, 200)
        assert sorted(got) == list(range(200)) and got != sorted(got)
        before = w.stats(0).dropped_cut
        w.shape(0, cut=1)
        assert burst(a, b, 10) == []
        assert w.stats(0).dropped_cut - before == 10
        w.shape(0)
        assert burst(a, b, 10) == list(range(10))
        a.close(), b.close()


def test_rate_and_queue_limit() -> None:
    with wire() as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(10)
        frame = 100 + 8 + 20 + 14
        w.shape(0, rate_bps=1_000_000, queue_ns=100_000_000)
        start = time.monotonic()
        got = burst(a, b, 300)
        # 100 ms at 1 Mbit/s are 12,500 octets in the queue, and the line goes on emptying it while we send
        kept = len(got)
        assert got == sorted(got) and kept == 300 - w.stats(0).dropped_queue
        assert kept >= 12_500 // frame
        assert time.monotonic() - start >= kept * frame * 8 / 1e6
        a.close(), b.close()


def test_a_corrupted_datagram_arrives_with_one_bit_turned() -> None:
    """Under a right checksum: else the kernel drops it, and the protocol under test never sees it."""
    with wire(seed=11) as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(10)
        w.shape(0, corrupt_ppm=1_000_000)
        for i in range(200):
            sent = os.urandom(1 + i)
            a.sendto(sent, (ADDRESS[1], 5000))
            got = b.recv(2048)
            assert len(got) == len(sent)
            assert sum((x ^ y).bit_count() for x, y in zip(sent, got, strict=True)) == 1
        assert w.stats(0).corrupted == 200
        a.close(), b.close()


def test_what_waits_goes_on_at_the_new_rate() -> None:
    with wire() as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(10)
        w.shape(0, rate_bps=100_000, queue_ns=60_000_000_000)
        for i in range(200):  # at this rate two frames a second
            a.sendto(i.to_bytes(4, "big") + bytes(1000), (ADDRESS[1], 5000))
        w.shape(0, rate_bps=100_000_000, queue_ns=60_000_000_000)
        assert [int.from_bytes(b.recv(2048)[:4], "big") for _ in range(200)] == list(range(200))
        a.close(), b.close()


def test_a_line_follows_its_trace_until_it_ends() -> None:
    with wire() as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(10)
        block = ffi.new("struct wire_point[]", [(0, 10**9, 1_000_000, 1_000_000)])
        assert lib.wire_trace_set(w.wires, w.number, 0, block, 1, 10**9) == 0
        assert burst(a, b, 20) == []
        assert w.stats(0).dropped_loss == 20
        assert lib.wire_deliveries_set(w.wires, w.number, 0, ffi.new("uint32_t[]", [1]), 1) == 0
        assert burst(a, b, 20) == list(range(20))
        assert lib.wire_trace_set(w.wires, w.number, 0, ffi.NULL, 0, 0) == 0
        assert burst(a, b, 20) == list(range(20))
        a.close(), b.close()


def test_gso_packets_are_cut_before_the_wire() -> None:
    with wire() as w:
        a, b = w.sockets()
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(10)
        before = w.stats(0).packets
        data = os.urandom(12_300)
        a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        a.sendto(data, (ADDRESS[1], 5000))
        got = [b.recv(4096) for _ in range(11)]
        assert [len(g) for g in got] == [1200] * 10 + [300]
        assert b"".join(got) == data
        assert w.stats(0).packets - before == 11
        a.close(), b.close()


def test_tcp_arrives_unchanged_through_loss() -> None:
    with wire(seed=3) as w:
        w.shape(0, loss_ppm=5_000, delay_ns=1_000_000, rate_bps=200_000_000, queue_ns=50_000_000)
        w.shape(1, delay_ns=1_000_000)
        a, b = w.sockets(socket.SOCK_STREAM)
        data = os.urandom(3 << 20)
        b.listen()
        digest = hashlib.sha256()

        def serve() -> None:
            peer, _ = b.accept()
            with peer:
                while piece := peer.recv(65536):
                    digest.update(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        a.connect((ADDRESS[1], 5000))
        a.sendall(data)
        a.close()
        thread.join()
        b.close()
        assert digest.digest() == hashlib.sha256(data).digest()
        assert w.stats(0).packets >= len(data) // 1460  # TSO was cut to what a line carries
        assert w.stats(0).bytes // w.stats(0).packets <= 1514


def test_refusals() -> None:
    wires = ffi.gc(lib.wires_new(1, 0), lib.wires_free)
    shape = ffi.new("struct wire_shape *")
    assert lib.wire_add(wires, -1, 0x7FFFFFFF, -1, 1) == -lib.ENGINE_E_SYSTEM
    assert lib.wire_shape_set(wires, 0, 0, shape) == -lib.ENGINE_E_HANDLE
    for name in ("loss_ppm", "reorder_ppm", "duplicate_ppm", "corrupt_ppm", "burst_enter_ppm", "burst_leave_ppm", "burst_loss_ppm"):
        shape = ffi.new("struct wire_shape *", {name: 1_000_001})
        assert lib.wire_shape_set(wires, 0, 0, shape) == -lib.ENGINE_E_ARGUMENT
    shape = ffi.new("struct wire_shape *", {"jitter": 4})
    assert lib.wire_shape_set(wires, 0, 0, shape) == -lib.ENGINE_E_ARGUMENT
    assert lib.wire_trace_set(wires, 0, 0, ffi.new("struct wire_point *", [0, 10**6, 0, 0]), 1, 10**9) == -lib.ENGINE_E_HANDLE
    assert lib.wire_deliveries_set(wires, 0, 0, ffi.new("uint32_t[]", [1]), 1) == -lib.ENGINE_E_HANDLE
    assert lib.wire_remove(wires, 3) == -lib.ENGINE_E_HANDLE
    assert lib.wires_start(wires) == 0
    assert lib.wires_start(wires) == -lib.ENGINE_E_STATE


def test_a_nat_rebinds_and_forgets_the_port_before() -> None:
    """Ports change in both directions, checksums follow, and nothing else is touched."""
    with wire() as w:
        a, b = w.sockets()

        def nat(outside: int) -> None:
            assert lib.wire_nat(w.wires, w.number, 5000, outside) == 0

        def there(text: bytes) -> int:
            """The port that the far end sees."""
            a.sendto(text, (ADDRESS[1], 5000))
            got, (_, port) = b.recvfrom(100)
            assert got == text
            return int(port)

        a.settimeout(5), b.settimeout(5)
        assert there(b"without") == 5000
        nat(20001)
        b.sendto(b"nobody has sent yet", (ADDRESS[0], 20001))
        for text in (b"x", b"odd", b"even", os.urandom(99)):
            assert there(text) == 20001
            b.sendto(text, (ADDRESS[0], 20001))
            assert a.recvfrom(100) == (text, (ADDRESS[1], 5000))  # the kernel has checked the checksum
        nat(20002)
        for port in (20001, 5000):
            b.sendto(b"to a port that is bound no more", (ADDRESS[0], port))
        assert there(b"again") == 20002
        b.sendto(b"back", (ADDRESS[0], 20002))
        assert a.recv(100) == b"back"
        assert w.stats(1).dropped_nat == 3 and w.stats(0).dropped_nat == 0
        nat(0)
        assert there(b"end") == 5000
        assert lib.wire_nat(w.wires, 9, 5000, 1) == -lib.ENGINE_E_HANDLE
        a.close(), b.close()


def test_a_nat_leaves_other_servers_alone() -> None:
    with wire() as w:
        assert lib.wire_nat(w.wires, w.number, 4433, 20001) == 0
        a, b = w.sockets()
        b.settimeout(5)
        a.sendto(b"x", (ADDRESS[1], 5000))
        assert b.recvfrom(10) == (b"x", (ADDRESS[0], 5000))
        a.close(), b.close()


def test_what_comes_while_nobody_takes_it_is_the_wires_loss() -> None:
    """R-72: the wire's process stands still; what its sockets' buffers do not hold the kernel drops, and it stands in its books."""
    with wire(start=False) as w:
        a, b = w.sockets()
        mac = w.right.call_sync(lambda: w.right.ipr.get_links(ifname="port0")[0].get_attr("IFLA_ADDRESS"))
        w.left.call_sync(lambda: w.left.ipr.neigh(
            "replace", dst=ADDRESS[1], lladdr=mac, ifindex=w.left.ipr.link_lookup(ifname="port0")[0], state=NUD_PERMANENT))
        sent, octets = 0, 0
        while octets < 1.5 * RECEIVE_BUFFER:  # which counts twice, as the kernel has it, and overhead of two thirds
            octets += a.sendto(bytes(1400), (ADDRESS[1], 5000))
            sent += 1
        assert lib.wires_start(w.wires) == 0
        end = time.monotonic() + 20
        while (stats := w.stats(0)).packets + stats.kernel_drops < sent and time.monotonic() < end:
            time.sleep(0.01)
        assert stats.packets + stats.kernel_drops == sent and stats.packets > 0 < stats.kernel_drops
        assert stats.dropped_queue == 0
        a.close(), b.close()
