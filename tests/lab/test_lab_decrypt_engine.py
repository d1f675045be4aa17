"""The decryptor on what the engine really sends: two simulated endpoints, lossy wires, key updates, paths that come and go."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest
from synthetic_capture import CLIENT_HELLO, LABELS, Capture

from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.packets import frames as f
from lab.pcapng import PcapngReader, PcapngWriter
from native import ffi, lib
from native.sim import BALANCED, MS, SECOND, Simulator, check, udp4

LEVELS = {"handshake": 1, "1rtt": 2}


def recorded(sim: Simulator, capture: Capture) -> None:
    names = {0: "3gpp", 1: "wifi"}

    def tap(direction: int, link: int, data: bytes) -> bytes:
        capture.time = sim.now
        capture.udp(direction == 0, names[link], data)
        return data

    sim.tap = tap
    sim.client_handshake.hello = CLIENT_HELLO


def keylog(sim: Simulator) -> bytes:
    random = CLIENT_HELLO[6:38].hex()
    lines = []
    for (level, client), label in LABELS.items():
        secret = sim.client_handshake.secret(f"{'client' if client else 'server'} {LEVELS[level]}")
        lines.append(f"{label} {random} {secret.hex()}\n")
    return "".join(lines).encode()


@pytest.fixture
def talk():
    """A connection with two paths, loss on both, inner packets in both directions and two key updates."""
    capture = Capture()
    with Simulator(77) as sim:
        recorded(sim, capture)
        sim.shape(0, rate=20e6, delay=15 * MS, loss=0.02, reorder=0.05)
        sim.shape(1, rate=30e6, delay=5 * MS, loss=0.02, duplicate=0.02)
        conn, peer = sim.connect()
        path = sim.open_path(conn, 1)
        sim.tunnel(conn, peer, [BALANCED])
        count = 0

        def send() -> None:
            nonlocal count
            for flow in range(4):
                sim.inner(sim.client, udp4(600, flow=flow, serial=count))
                sim.inner(sim.server, udp4(600, up=False, flow=flow, serial=count))
                count += 1

        sim.every(4 * MS, sim.now + 2 * SECOND, send)
        for node, handle in ((sim.client, conn), (sim.server, peer)):
            sim.run(900 * MS)
            check(lib.conn_key_update(node.endpoint, handle))
        sim.run(SECOND)
        check(lib.path_abandon(sim.client.endpoint, conn, path, 0x3E))
        sim.run(SECOND)
        yield sim, capture, count


def independent_figures(capture: bytes, secrets: bytes):
    module_path = Path(__file__).parents[1] / "independent_decryptor.py"
    spec = importlib.util.spec_from_file_location("independent_decryptor", module_path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = io.BytesIO()
    writer = PcapngWriter(out)
    for _ in range(2):
        writer.interface(1, "x")
    writer.secrets(secrets)
    for record in PcapngReader(io.BytesIO(capture)):
        writer.packet(record.interface, record.time_ns, record.data)
    return module.decrypt(out.getvalue())


def test_every_packet_of_the_engine_is_in_clear_and_a_second_decryptor_agrees(talk):
    sim, capture, count = talk
    log = KeyLog()
    log.add(keylog(sim))
    reader = CaptureDecryptor(io.BytesIO(capture.bytes()), log)
    packets = list(reader.packets())
    assert {p.reason for p in packets} == {""}
    short = [p for p in packets if p.kind == "1rtt"]
    assert {p.generation for p in short} == {0, 1, 2}
    sent = sum(node.counters().get("inner_sent", 0) for node in (sim.client, sim.server))
    assert sum(len(p.inner_packets()) for p in short) == sent > count
    summary, = reader.decryptor.summaries
    assert set(summary.datagrams) == {0, 1}
    figures, clear = independent_figures(capture.bytes(), keylog(sim))
    assert figures["packets"] == figures["decrypted"] == len(short)
    assert clear == [p.payload for p in short]


def test_frames_of_the_multipath_extension_are_there(talk):
    _sim, capture, _ = talk
    log = KeyLog()
    log.add(keylog(_sim))
    packets = list(CaptureDecryptor(io.BytesIO(capture.bytes()), log).packets())
    names = {frame.name for p in packets for frame in p.frames}
    assert {"PATH_ACK", "PATH_NEW_CONNECTION_ID", "PATH_CHALLENGE", "PATH_RESPONSE", "PATH_ABANDON", "DATAGRAM"} <= names
    for packet in packets:
        assert f.read_frames(f.encode_frames(packet.frames)) == (packet.frames, None), packet.words()


def test_packet_numbers_of_each_path_and_direction_are_without_repetition(talk):
    _sim, capture, _ = talk
    log = KeyLog()
    log.add(keylog(_sim))
    seen = [(p.up, p.path, p.number) for p in CaptureDecryptor(io.BytesIO(capture.bytes()), log).packets()
            if p.kind == "1rtt"]
    assert len(seen) == len(set(seen))
    for up in (True, False):
        for path in (0, 1):
            numbers = [number for u, p, number in seen if (u, p) == (up, path)]
            assert numbers and min(numbers) == 0 and numbers == sorted(numbers)


def test_the_file_of_the_capture_engine_reads(tmp_path):
    """Written by native/src/pcapng.c, read by lab.pcapng: names, link types, comment, wall clock and the key log in front."""
    path = tmp_path / "c.pcapng"
    name = ffi.new("char[]", str(path).encode())
    capture = lib.capture_new(ffi.new("struct capture_options *", {"path": name, "max_bytes": 1 << 20, "secrets_room": 8}))
    assert capture != ffi.NULL
    try:
        number = check(lib.capture_virtual_add(capture, b"tunnel-inner", 101))
        other = check(lib.capture_virtual_add(capture, b"n1-deciphered", 252))
        check(lib.capture_start(capture))
        check(lib.capture_write(capture, number, 1_790_000_000_123_456_789, b"\x45abc", 4, b"path 0 pn 1"))
        check(lib.capture_write(capture, other, 1_790_000_000_123_456_790, b"pdu", 3, ffi.NULL))
        check(lib.capture_secrets(capture, b"LINE\n", 5))
        check(lib.capture_stop(capture))
    finally:
        lib.capture_free(capture)
    reader = PcapngReader(io.BytesIO(path.read_bytes()))
    records = [(r.interface, r.time_ns, r.data, r.comment) for r in reader]
    assert reader.problem == "" and reader.secrets == [b"LINE\n\n\n\n"]
    assert {n: (s.received, s.dropped, s.written) for n, s in reader.statistics.items()} == {0: (1, 0, 1), 1: (1, 0, 1)}
    assert [(i.linktype, i.name) for i in reader.interfaces] == [(101, "tunnel-inner"), (252, "n1-deciphered")]
    assert records == [(0, 1_790_000_000_123_456_789, b"\x45abc", "path 0 pn 1"), (1, 1_790_000_000_123_456_790, b"pdu", "")]
