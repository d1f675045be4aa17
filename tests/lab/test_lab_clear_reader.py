"""The engine's clear reader against the readers in Python: the same packets from any capture, also a spoilt one."""

from __future__ import annotations

import io
import random
import time

import pytest
from synthetic_capture import Capture, Talk, http_datagram, two_paths, udp4

from lab import capture_scan, clear_scan
from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.packets import frames as f
from lab.pcapng import PcapngReader, PcapngWriter


def everything(capture: bytes, keylog: bytes, **options):
    log = KeyLog()
    log.add(keylog)
    reader = CaptureDecryptor(io.BytesIO(capture), log, **options)
    steps = list(reader.steps())
    packets = [(p.record, p.time_ns, p.interface, p.up, p.kind, p.size, p.dcid, p.connection, p.path, p.number, p.generation,
                p.header, p.payload, p.frames, p.acks, p.reason, p.inner_count, p.inner_packets())
               for s in steps for p in s.packets]
    records = [(s.record, s.flow, s.quic) for s in steps]
    return packets, records, reader


def same(capture: bytes, keylog: bytes) -> CaptureDecryptor:
    fast, fast_records, reader = everything(capture, keylog)
    slow, slow_records, other = everything(capture, keylog, native=False)
    assert fast == slow and fast_records == slow_records
    assert reader.reader.problem == other.reader.problem and reader.unreadable == other.unreadable
    assert reader.decryptor.summaries == other.decryptor.summaries
    assert other.by_clear_reader == 0
    assert everything(capture, keylog, lean=True)[0] == slow
    return reader


def events(suite: int = 0x1301, seed: int = 0, linktype: int = 1) -> tuple[bytes, bytes]:
    """Key updates out of order, late packets of the old phase, duplicates, jumps of the packet number, several datagrams in a
    packet, path ids up to 9, a connection on raw IP, frames that teach and frames that do not read."""
    capture = Capture(linktype)
    talk = Talk(capture, seed=seed, suite=suite)
    talk.handshake()
    talk.announce(tuple(range(1, 10)))
    for path in range(1, 10):
        talk.validate(path)
    talk.data(20, {0: "3gpp", 1: "wifi", 9: "wifi"})
    old = talk.short(True, 1, [f.Ping(), f.Padding(30)])
    talk.key_update(True)
    talk.data(10, {0: "3gpp", 1: "wifi"})
    talk.send(True, "wifi", old)
    talk.send(True, "wifi", old)
    talk.key_update(False)
    talk.key_update(True)
    talk.data(10, {9: "3gpp"})
    inner = udp4("10.45.0.2", 1, "10.99.0.2", 2, b"12")
    talk.send(True, "3gpp", talk.short(True, 0, [http_datagram(inner, has_length=True), http_datagram(inner, 0, 4, True),
                                                 http_datagram(inner)]))
    for numbered in (b"\0\1\2\3" + inner, b"\0\1\2\3", b"\0\1"):
        talk.send(True, "3gpp", talk.short(True, 0, [http_datagram(numbered, 0, 2)]))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Stream(0, b"abc", 5, False, True), f.Stream(4, b"tail", 0, True, False)]))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Datagram(b"", True), f.Datagram(b"\xff", True), f.Datagram(b"\0\0", False)]))
    talk.send(True, "3gpp", talk.short(True, 0, [f.PathAck([(7, 9), (2, 3), (0, 0)], 3, (1, 2, 3), 1), f.Ack([(0, 1)])]))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Padding(20)], number=30_000))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Padding(20)], number=30_001, pn_size=1))
    talk.send(True, "3gpp", talk.short(True, 0, [f.MaxData(5), f.PathAbandon(3, 0), f.MaxPathId(20)]))
    for spoilt in (b"\x02\x01\x00\x00\x05", b"\x02\x09\x00\x01\x00\x0f\x00", b"\x31\x7f\x00", b"\x08", b"\x0e\x00\x01\x40",
                   b"\x3e\x01\x05\x00\xc0\xff", b"\x40\x40", b"\x02\x05\x00\x01\x00\x04\x02"):
        class Octets(f.Padding):
            def encode(self, octets: bytes = spoilt) -> bytes:
                return octets
        talk.send(True, "3gpp", talk.short(True, 0, [f.Padding(8), Octets()]))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Ping(), f.Padding(20)], dcid=b"nobody's"))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Ping(), f.Padding(20)], dcid=talk.client_cid))
    talk.send(True, "3gpp", b"\x40" + bytes(12))
    talk.send(True, "3gpp", b"")
    talk.data(5, {0: "3gpp", 9: "wifi"})
    return capture.bytes(), talk.keylog()


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
@pytest.mark.parametrize("linktype", [1, 101])
def test_same_packets_as_python(suite: int, linktype: int) -> None:
    reader = same(*events(suite, seed=1, linktype=linktype))
    assert reader.by_clear_reader > 60         # canary: most came the fast way


def test_same_packets_without_keys_and_with_another_connections() -> None:
    capture, keylog = two_paths(10)
    assert same(capture, b"").by_clear_reader == 0
    wrong = keylog.replace(b"8bd81", b"8bd82").replace(b"b8d2d183", b"b8d2d184")
    assert wrong != keylog
    same(capture, wrong)


def test_same_packets_when_small_windows_cut_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_scan, "WINDOW", 4096)
    monkeypatch.setattr(clear_scan, "ROWS", 3)
    reader = same(*events())
    assert reader.by_clear_reader > 60


def test_same_packets_when_the_file_is_spoilt() -> None:
    whole, keylog = events()
    dice = random.Random(11)
    for _ in range(15):  # each is tried with connection IDs of every length
        spoilt = bytearray(whole)
        for _ in range(dice.randrange(1, 30)):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        same(bytes(spoilt[:dice.randrange(len(spoilt))] if dice.random() < 0.3 else spoilt), keylog)


def test_same_packets_when_packets_are_missing_and_out_of_order() -> None:
    whole, keylog = events()
    source = PcapngReader(io.BytesIO(whole))
    records = list(source)
    dice = random.Random(12)
    for turn in range(30):
        kept = [r for r in records if dice.random() > 0.2]
        if turn % 2:
            for i in range(0, len(kept) - 8, 8):
                part = kept[i:i + 8]
                dice.shuffle(part)
                kept[i:i + 8] = part
        out = io.BytesIO()
        writer = PcapngWriter(out)
        for interface in source.interfaces:
            writer.interface(interface.linktype, interface.name)
        for record in kept:
            writer.packet(record.interface, record.time_ns, record.data, length=record.length)
        same(out.getvalue(), keylog)


def test_more_spaces_than_the_engine_keeps_are_read_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = clear_scan.lib.clear_reader_space

    class Few:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def clear_reader_space(self, reader: object) -> int:
            self.count = getattr(self, "count", 0) + 1
            return int(taken(reader)) if self.count <= 2 else -4

    real = clear_scan.lib
    capture, keylog = events()
    monkeypatch.setattr(clear_scan, "lib", Few())
    reader = same(capture, keylog)
    assert 0 < reader.by_clear_reader < 60


def test_two_sections_and_interfaces_that_come_late() -> None:
    first, keylog = two_paths(10)
    second, other = events(seed=3)
    reader = same(first + second, keylog + other)
    assert reader.by_clear_reader > 80 and len(reader.interfaces) == 2


def test_big_endian_sections_are_read_in_python() -> None:
    capture, keylog = two_paths(3)
    little = PcapngReader(io.BytesIO(capture))
    import struct
    blocks = struct.pack(">IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    records = list(little)
    for _ in little.interfaces:
        blocks += struct.pack(">IIHHIHHB3xI", 1, 28, 1, 0, 0, 9, 1, 9, 28)
    for r in records:
        padded = r.data + bytes(-len(r.data) % 4)
        size = 32 + len(padded)
        blocks += struct.pack(">IIIIIII", 6, size, r.interface, r.time_ns >> 32, r.time_ns & 0xFFFFFFFF, len(r.data), len(r.data))
        blocks += padded + struct.pack(">I", size)
    reader = same(blocks, keylog)
    assert reader.by_clear_reader == 0 and len(reader.decryptor.connections) == 1
    assert same(blocks + capture, keylog).by_clear_reader > 0


def measured(packets: int = 20_000) -> float:
    """Packets per CPU second of a capture of two paths (for `python -m` by hand; no test asserts a time)."""
    capture, keylog = two_paths(packets // 2)
    log = KeyLog()
    log.add(keylog)
    reader = CaptureDecryptor(io.BytesIO(capture), log, lean=True)
    start = time.process_time()
    count = sum(1 for _ in reader.packets())
    return count / (time.process_time() - start)


if __name__ == "__main__":
    print(f"{measured():.0f} packets/s")
