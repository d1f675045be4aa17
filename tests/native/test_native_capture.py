"""The pcapng writer and the readers of packet sockets."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from wire_line import ADDRESS, ends, privileged

from native._engine import ffi, lib
from node.netns import Netns

UDP_SEGMENT = 103
KEYLOG = b"CLIENT_TRAFFIC_SECRET_0 " + b"00" * 32 + b" " + b"11" * 32 + b"\n"
needs_root = pytest.mark.skipif(not privileged(), reason="makes network namespaces: needs root or unshare --map-root-user")


def blocks(path: Path) -> list[tuple[int, bytes]]:
    """Type and body of every block; both lengths of each agree."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and struct.unpack_from("<I", data, at + length - 4)[0] == length
        found.append((kind, data[at + 8 : at + length - 4]))
        at += length
    return found


def packets(path: Path) -> list[tuple[int, int, bytes, int, bytes]]:
    """interface, time, data, length, options"""
    out = []
    for kind, body in blocks(path):
        if kind == 6:
            interface, high, low, captured, length = struct.unpack_from("<5I", body)
            padded = (captured + 3) & ~3
            out.append((interface, high << 32 | low, body[20 : 20 + captured], length, body[20 + padded :]))
    return out


def capture_of(path: Path, **options: int) -> Any:
    name = ffi.new("char[]", os.fsencode(path))
    c = lib.capture_new(ffi.new("struct capture_options *", {"path": name, **options}))
    return ffi.gc(c, lib.capture_free) if c != ffi.NULL else c


def stats_of(c: Any) -> Any:
    stats = ffi.new("struct capture_stats *")
    assert lib.capture_stats(c, stats) == 0
    return stats


def test_blocks_comments_and_secrets_in_front(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    room = 3 * len(KEYLOG) - 1
    c = capture_of(path, snaplen=8, secrets_room=room)
    assert lib.capture_virtual_add(c, b"tunnel-inner", 101) == 0
    assert lib.capture_write(c, 0, 1_700_000_000_123_456_789, b"0123456789", 10, b"ten") == 0
    assert lib.capture_virtual_add(c, b"n1-deciphered", 252) == 1
    assert lib.capture_write(c, 1, 5, b"abc", 3, ffi.NULL) == 0
    assert lib.capture_write(c, 2, 5, b"abc", 3, ffi.NULL) == -lib.ENGINE_E_ARGUMENT
    assert lib.capture_secrets(c, KEYLOG, len(KEYLOG)) == 0
    assert path.read_bytes().count(KEYLOG) == 1  # at once: what a killed process leaves opens
    assert lib.capture_write(c, 1, 6, b"abcd", 4, ffi.NULL) == 0
    for _ in range(2):
        assert lib.capture_secrets(c, KEYLOG, len(KEYLOG)) == 0
    assert lib.capture_write(c, 1, 7, b"", 0, ffi.NULL) == 0
    ffi.release(c)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.pcapng"]
    found = blocks(path)
    assert [kind for kind, _ in found] == [0x0A0D0D0A, 10, 1, 6, 1, 6, 6, 10, 6, 5, 5]
    size = (room + 3) & ~3
    assert struct.unpack_from("<II", found[1][1]) == (0x544C534B, size)
    assert found[1][1][8 : 8 + size] == (KEYLOG * 2).ljust(size, b"\n")
    assert found[7][1][8:].rstrip(b"\n") + b"\n" == KEYLOG  # no room in front: before the packets that came later
    assert b"tunnel-inner" in found[2][1] and b"n1-deciphered" in found[4][1]
    first, second, third, _ = packets(path)
    assert first[:4] == (0, 1_700_000_000_123_456_789, b"01234567", 10) and b"ten" in first[4]
    assert second == (1, 5, b"abc", 3, b"")
    assert third == (1, 6, b"abcd", 4, b"")
    assert [statistics(body) for kind, body in found if kind == 5] == [(0, 1, 0, 1), (1, 3, 0, 3)]


def statistics(body: bytes) -> tuple[int, int, int, int]:
    """Interface; packets received, dropped and written."""
    interface, _, _ = struct.unpack_from("<III", body)
    values = [struct.unpack_from("<HHQ", body, 12 + 12 * i) for i in range(3)]
    assert [(code, size) for code, size, _ in values] == [(4, 8), (5, 8), (8, 8)] and body[48:] == bytes(4)
    received, dropped, written = (value for _, _, value in values)
    return interface, received, dropped, written


def quic(first: int, mark: int) -> bytes:
    """An Ethernet frame with a UDP datagram to port 4433."""
    udp = struct.pack("!HHHH", 50000, 4433, 28, 0) + bytes([first]) + struct.pack("!I", mark) + bytes(15)
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 48, 0, 0, 64, 17, 0, bytes([10, 1, 0, 2]), bytes([10, 100, 0, 1]))
    return bytes(12) + b"\x08\x00" + ip + udp


def test_a_ring_is_bounded_and_each_file_opens_by_itself(tmp_path: Path) -> None:
    size = 256 << 10
    c = capture_of(tmp_path / "r", max_bytes=size, files=3, secrets_room=4096, handshake_port=4433)
    lib.capture_virtual_add(c, b"ue/3gpp", 1)
    assert lib.capture_secrets(c, KEYLOG, len(KEYLOG)) == 0
    hello, frame = quic(0xC0, 1), quic(0x40, 2) + bytes(1400)
    lib.capture_write(c, 0, 1, hello, len(hello), ffi.NULL)
    for i in range(2000):
        lib.capture_write(c, 0, 10 + i, frame, len(frame), ffi.NULL)
        if i % 100 == 0:
            there = list(tmp_path.iterdir())
            assert len(there) <= 3 and sum(p.suffix == ".part" for p in there) == 1
            assert all(p.stat().st_size <= size for p in there)
    later = KEYLOG.replace(b"00", b"22")
    assert lib.capture_secrets(c, later, len(later)) == 0
    stats = stats_of(c)
    assert stats.packets == 2001 and stats.dropped_limit == 0 and stats.files > 5
    ffi.release(c)
    whole = sorted(tmp_path.iterdir())
    assert len(whole) == 3 and all(p.suffix == ".pcapng" and p.stat().st_mode & 0o777 == 0o600 for p in whole)
    assert [int(p.name.split("_")[1]) for p in whole] == [stats.files - 2, stats.files - 1, stats.files]
    for path in whole:
        assert [kind for kind, _ in blocks(path)][:4] == [0x0A0D0D0A, 10, 1, 6]
        assert KEYLOG in path.read_bytes() and (later in path.read_bytes()) == (path == whole[-1])
        found = packets(path)
        assert found[0][2] == hello and b"repeated" in found[0][4]
        assert [statistics(body) for kind, body in blocks(path) if kind == 5] == [(0, len(found), 0, len(found))]
    times = [time for path in whole for _, time, *_ in packets(path)[1:]]
    assert times == list(range(2010 - len(times), 2010))


def test_what_a_killed_writer_leaves_of_a_ring_reads(tmp_path: Path) -> None:
    c = capture_of(tmp_path / "r", max_bytes=256 << 10, files=2, secrets_room=4096)
    lib.capture_virtual_add(c, b"x", 101)
    lib.capture_write(c, 0, 1, bytes(100), 100, ffi.NULL)
    assert lib.capture_flush(c) == 0
    (part,) = tmp_path.iterdir()
    assert part.name.endswith(".pcapng.part")
    assert [kind for kind, _ in blocks(part)] == [0x0A0D0D0A, 10, 1, 6]
    ffi.release(c)
    (whole,) = tmp_path.iterdir()
    assert part.name == whole.name + ".part"


def test_a_ring_whose_directory_is_gone_counts_and_says_so(tmp_path: Path) -> None:
    place = tmp_path / "d"
    place.mkdir()
    c = capture_of(place / "r", max_bytes=256 << 10, files=2)
    lib.capture_virtual_add(c, b"x", 101)
    assert lib.capture_start(c) == 0
    for path in place.iterdir():
        path.unlink()
    place.rmdir()
    for i in range(400):
        lib.capture_write(c, 0, i, bytes(1400), 1400, ffi.NULL)
    stats = stats_of(c)
    assert stats.dropped_limit > 100 and stats.packets + stats.dropped_limit == 400
    assert lib.capture_stop(c) == -lib.ENGINE_E_SYSTEM and ffi.errno == 2


def test_the_newest_secrets_stay_when_there_are_too_many_for_a_file(tmp_path: Path) -> None:
    c = capture_of(tmp_path / "r", max_bytes=256 << 10, files=2, secrets_room=4096)
    lib.capture_virtual_add(c, b"x", 101)
    lines = [b"CLIENT_TRAFFIC_SECRET_0 %064x %064x\n" % (i, i) for i in range(1000)]
    for line in lines:
        assert lib.capture_secrets(c, line, len(line)) == 0
    for i in range(400):
        lib.capture_write(c, 0, i, bytes(1400), 1400, ffi.NULL)
    ffi.release(c)
    newest = max(tmp_path.iterdir())
    kept = next(body for kind, body in blocks(newest) if kind == 10)[8:].strip(b"\n").split(b"\n")
    assert 100 < len(kept) < 1000 and [k + b"\n" for k in kept] == lines[-len(kept) :]
    assert packets(newest)


def test_packets_are_limited(tmp_path: Path) -> None:
    c = capture_of(tmp_path / "p.pcapng", max_packets=3)
    lib.capture_virtual_add(c, b"x", 101)
    for i in range(5):
        lib.capture_write(c, 0, i, b"abcd", 4, ffi.NULL)
    stats = stats_of(c)
    assert (stats.packets, stats.dropped_limit) == (3, 2)
    ffi.release(c)
    assert [p[1] for p in packets(tmp_path / "p.pcapng")] == [0, 1, 2]


def test_limit_counts_what_it_drops(tmp_path: Path) -> None:
    path = tmp_path / "b.pcapng"
    c = capture_of(path, max_bytes=4096)
    lib.capture_virtual_add(c, b"x", 101)
    for i in range(100):
        lib.capture_write(c, 0, i, bytes(100), 100, ffi.NULL)
    stats = stats_of(c)
    assert stats.packets + stats.dropped_limit == 100 and stats.dropped_limit > 50
    ffi.release(c)
    assert path.stat().st_size <= 4096
    assert len(packets(path)) == stats.packets


def test_refusals(tmp_path: Path) -> None:
    assert capture_of(tmp_path / "no" / "such") == ffi.NULL
    assert capture_of(tmp_path / "r", files=2, max_bytes=1000) == ffi.NULL
    assert capture_of(tmp_path / "r", files=1, max_bytes=1 << 20) == ffi.NULL
    assert list(tmp_path.iterdir()) == []
    c = capture_of(tmp_path / "c.pcapng")
    assert lib.capture_interface_add(c, -1, 0x7FFFFFFF, b"none") == -lib.ENGINE_E_SYSTEM
    assert lib.capture_virtual_add(c, b"n" * 200, 1) == -lib.ENGINE_E_ARGUMENT
    assert lib.capture_stop(c) == -lib.ENGINE_E_STATE


def udp_checksum_is_right(frame: bytes) -> bool:
    ip, udp = frame[14:34], frame[34:]
    data = ip[12:20] + struct.pack("!HH", 17, len(udp)) + udp
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@needs_root
def test_interfaces_of_two_namespaces_windows_and_gso(tmp_path: Path) -> None:
    path = tmp_path / "d.pcapng"
    with Netns() as left, Netns() as right:
        index = ends(left, right, 0)
        right.call_sync(right.ipr.addr, "add", index=index, address=ADDRESS[1], prefixlen=24)
        left_index = left.call_sync(left.ipr.link_lookup, ifname="port0")[0]

        def bound(side: int) -> socket.socket:
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.bind((ADDRESS[side], 5000))
            s.settimeout(10)
            return s

        a, b = left.call_sync(bound, 0), right.call_sync(bound, 1)
        a.sendto(b"warm", (ADDRESS[1], 5000))
        b.recv(100)
        c = capture_of(path, secrets_room=4096)
        assert lib.capture_interface_add(c, left.fd, left_index, b"ue/3gpp") == 0
        assert lib.capture_interface_add(c, right.fd, index, b"upf/3gpp") == 1
        assert lib.capture_start(c) == 0
        a.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        data = os.urandom(4500)
        a.sendto(data, (ADDRESS[1], 5000))
        assert b"".join(b.recv(4096) for _ in range(5)) == data
        assert lib.capture_window(c, 0) == 0
        a.sendto(data, (ADDRESS[1], 5000))
        for _ in range(5):
            b.recv(4096)
        assert lib.capture_window(c, 1) == 0
        b.sendto(b"last", (ADDRESS[0], 5000))
        a.recv(100)
        assert lib.capture_secrets(c, KEYLOG, len(KEYLOG)) == 0
        assert lib.capture_stop(c) == 0
        stats = stats_of(c)
        figures = ffi.new("struct capture_interface_stats *")
        assert lib.capture_interface_stats(c, 1, figures) == 0 and lib.capture_interface_stats(c, 2, figures) < 0
        a.close(), b.close()
        ffi.release(c)
    assert [kind for kind, _ in blocks(path)][:4] == [0x0A0D0D0A, 10, 1, 1]
    received = [statistics(body) for kind, body in blocks(path) if kind == 5]
    assert [r[2] for r in received] == [0, 0] and received[1][1] == figures.received > received[1][3]
    assert sum(r[1] for r in received) == stats.packets + stats.outside_windows
    ours = [p for p in packets(path) if p[2][23:24] == b"\x11" and p[2][12:14] == b"\x08\x00"]
    for interface, flag in ((0, 2), (1, 1)):
        out = [p for p in ours if p[0] == interface and len(p[2]) > 100]
        assert [len(p[2]) for p in out] == [1042] * 4 + [542]
        assert b"".join(p[2][42:] for p in out) == data
        assert all(udp_checksum_is_right(p[2]) for p in out)
        assert all(p[4][:8] == struct.pack("<HHI", 2, 4, flag) for p in out)
    assert sum(p[2][42:46] == b"last" for p in ours) == 2
    assert stats.outside_windows >= 10 and stats.packets == len(packets(path)) and stats.dropped_kernel == 0


@needs_root
def test_packets_of_a_loopback_are_there_once(tmp_path: Path) -> None:
    path = tmp_path / "lo.pcapng"
    with Netns() as space:

        def talk() -> None:
            index = space.ipr.link_lookup(ifname="lo")[0]
            space.ipr.link("set", index=index, state="up")
            c = capture_of(path)
            assert lib.capture_interface_add(c, space.fd, index, b"core/sbi") == 0
            assert lib.capture_start(c) == 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                s.bind(("127.0.0.1", 0))
                for mark in range(3):
                    s.sendto(b"mark%d" % mark, s.getsockname())
                    s.recv(10)
            assert lib.capture_stop(c) == 0
            ffi.release(c)

        space.call_sync(talk)
    assert [p[2][42:47] for p in packets(path) if p[2][42:46] == b"mark"] == [b"mark0", b"mark1", b"mark2"]
