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


def capture_of(path: Path, snaplen: int = 0, max_bytes: int = 0) -> Any:
    c = lib.capture_new(os.fsencode(path), snaplen, max_bytes)
    assert c != ffi.NULL
    return ffi.gc(c, lib.capture_free)


def stats_of(c: Any) -> Any:
    stats = ffi.new("struct capture_stats *")
    assert lib.capture_stats(c, stats) == 0
    return stats


def test_blocks_comments_and_secrets_in_front(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    c = capture_of(path, snaplen=8)
    assert lib.capture_virtual_add(c, b"tunnel-inner", 101) == 0
    assert lib.capture_write(c, 0, 1_700_000_000_123_456_789, b"0123456789", 10, b"ten") == 0
    assert lib.capture_virtual_add(c, b"n1-deciphered", 252) == 1
    assert lib.capture_write(c, 1, 5, b"abc", 3, ffi.NULL) == 0
    assert lib.capture_write(c, 2, 5, b"abc", 3, ffi.NULL) == -lib.ENGINE_E_ARGUMENT
    assert lib.capture_secrets(c, KEYLOG, len(KEYLOG)) == 0
    assert lib.capture_write(c, 1, 6, b"abcd", 4, ffi.NULL) == 0
    assert lib.capture_secrets(c, KEYLOG, len(KEYLOG)) == 0
    ffi.release(c)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a.pcapng"]
    found = blocks(path)
    assert [kind for kind, _ in found] == [0x0A0D0D0A, 10, 1, 6, 1, 6, 6]
    assert struct.unpack_from("<II", found[1][1]) == (0x544C534B, 2 * len(KEYLOG))
    assert found[1][1][8 : 8 + 2 * len(KEYLOG)] == KEYLOG * 2
    assert b"tunnel-inner" in found[2][1] and b"n1-deciphered" in found[4][1]
    first, second, third = packets(path)
    assert first[:4] == (0, 1_700_000_000_123_456_789, b"01234567", 10) and b"ten" in first[4]
    assert second == (1, 5, b"abc", 3, b"")
    assert third == (1, 6, b"abcd", 4, b"")


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
    assert lib.capture_new(os.fsencode(tmp_path / "no" / "such"), 0, 0) == ffi.NULL
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
        c = capture_of(path)
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
        a.close(), b.close()
        ffi.release(c)
    assert [kind for kind, _ in blocks(path)][:4] == [0x0A0D0D0A, 10, 1, 1]
    ours = [p for p in packets(path) if p[2][23:24] == b"\x11" and p[2][12:14] == b"\x08\x00"]
    for interface, flag in ((0, 2), (1, 1)):
        out = [p for p in ours if p[0] == interface and len(p[2]) > 100]
        assert [len(p[2]) for p in out] == [1042] * 4 + [542]
        assert b"".join(p[2][42:] for p in out) == data
        assert all(udp_checksum_is_right(p[2]) for p in out)
        assert all(p[4][:8] == struct.pack("<HHI", 2, 4, flag) for p in out)
    assert sum(p[2][42:46] == b"last" for p in ours) == 2
    assert stats.outside_windows >= 10 and stats.packets == len(packets(path)) and stats.dropped_kernel == 0
