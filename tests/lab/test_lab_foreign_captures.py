"""Captures as other tools write them: link types, VLAN tags, classic pcap, packets that the kernel did not cut apart yet, keys."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import PROXY, UE, Capture, Talk, ethernet, http_datagram, records_of, two_paths, udp4
from test_lab_clear_reader import same

from lab import decrypt, inspect
from lab.capture_files import one_file
from lab.capture_scan import CaptureDecryptor
from lab.decrypt import ClearPacket
from lab.decrypt_keys import KeyLog
from lab.decrypt_routes import segment_size
from lab.packets import frames as f
from lab.pcapng import PcapngWriter, Record

HEADS: dict[str, tuple[int, bytes]] = {
    "Linux cooked": (113, struct.pack("!HHH8xH", 0, 1, 6, 0x0800)),
    "Linux cooked 2": (276, struct.pack("!HHIHBB8x", 0x0800, 0, 3, 1, 0, 6)),
    "BSD loopback": (0, struct.pack("<I", 2)), "OpenBSD loopback": (108, struct.pack("!I", 2)),
    "IPv4": (228, b""), "raw": (101, b""),
    "one VLAN tag": (1, bytes(12) + struct.pack("!HHH", 0x8100, 7, 0x0800)),
    "two VLAN tags": (1, bytes(12) + struct.pack("!HHHHH", 0x88A8, 7, 0x8100, 8, 0x0800)),
}


def opened(capture: bytes | Path, keylog: bytes) -> list[ClearPacket]:
    log = KeyLog()
    log.add(keylog)
    source = one_file(capture) if isinstance(capture, Path) else io.BytesIO(capture)
    reader = CaptureDecryptor(source, log)
    packets = list(reader.packets())
    assert reader.problem == ""
    return packets


def told(packets: list[ClearPacket]) -> list[Any]:
    return [(p.record, p.time_ns, p.up, p.kind, p.connection, p.path, p.number, p.payload, p.reason) for p in packets]


# ---- link types


@pytest.mark.parametrize("link", HEADS)
def test_every_link_type_is_read_alike(link: str) -> None:
    capture, keylog = two_paths(12)
    linktype, head = HEADS[link]
    out = io.BytesIO()
    writer = PcapngWriter(out)
    writer.interface(linktype, "")
    for record in records_of(capture):
        writer.packet(0, record.time_ns, head + record.data[14:])
    reader = same(out.getvalue(), keylog)           # the engine and the readers in Python
    assert reader.by_clear_reader > 20 and reader.unreadable == 0
    assert told(opened(out.getvalue(), keylog)) == told(opened(capture, keylog))


@pytest.mark.parametrize("link", [*HEADS, "unknown"])
def test_headers_that_are_cut_or_none(link: str) -> None:
    linktype, head = HEADS.get(link, (147, b""))
    out = io.BytesIO()
    writer = PcapngWriter(out)
    writer.interface(linktype, "")
    whole = head + records_of(two_paths(1)[0])[0].data[14:]
    for size in range(len(head) + 60):
        writer.packet(0, size, whole[:size])
        writer.packet(0, size, head[:size] + b"\xff" * 50)
        writer.packet(0, size, b"\x81\x00" * size)
    same(out.getvalue(), b"")


# ---- classic pcap


def classic(records: list[Record], magic: bytes = b"\xd4\xc3\xb2\xa1", linktype: int = 1) -> bytes:
    order, unit = ("<" if magic[3] == 0xA1 else ">"), (1 if b"\x3c" in magic else 1000)
    out = magic + struct.pack(order + "HHiIII", 2, 4, 0, 0, 262144, linktype)
    for r in records:
        out += struct.pack(order + "IIII", r.time_ns // 10**9, r.time_ns % 10**9 // unit, len(r.data), len(r.data)) + r.data
    return out


@pytest.mark.parametrize("magic", ["d4c3b2a1", "a1b2c3d4", "4d3cb2a1", "a1b23c4d"])
def test_a_classic_pcap_is_read(tmp_path: Path, magic: str, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = two_paths(40)
    path = tmp_path / "classic.pcap"
    path.write_bytes(classic(records_of(capture), bytes.fromhex(magic)))
    assert told(opened(path, keylog)) == told(opened(capture, keylog))
    (tmp_path / "keys.log").write_bytes(keylog)
    for view in (["--stats"], ["--dropped"], ["--packet", "9"], ["--follow", "udp"], []):
        assert inspect.main([str(path), *view]) == 0 and capsys.readouterr().err == ""


def test_a_classic_pcap_cut_anywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = two_paths(3)
    whole = classic(records_of(capture))
    path = tmp_path / "classic.pcap"
    (tmp_path / "keys.log").write_bytes(keylog)
    for size in [*range(4, 60), *range(60, len(whole), 211), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert inspect.main([str(path), "--stats", "--json"]) in (0, 1)
        output = capsys.readouterr()
        document = json.loads(output.out)
        assert document["packets"] == document["decrypted"]
        assert "the file ends" in output.err or output.err == ""        # between two packets nothing is missing
    path.write_bytes(whole + struct.pack("<IIII", 1, 1, 0xFFFFFFF0, 1))
    assert inspect.main([str(path), "--stats"]) == 0 and "block length" in capsys.readouterr().err


# ---- packets in one piece


def joined(talk: Talk, count: int, size: int, path: int = 0) -> list[bytes]:
    """Packets of one size, and a last one that is smaller."""
    one = [talk.short(True, path, [http_datagram(udp4("10.45.0.2", 1, "10.99.0.2", 2, bytes((i,)) * size))]) for i in range(count)]
    return [*one, talk.short(True, path, [f.Ping(), f.Padding(30)])]


@pytest.mark.parametrize(("count", "size"), [(40, 1200), (2, 300), (1, 900), (20, 60)])
@pytest.mark.parametrize("lengths", [(8, 8), (8, 20), (8, 5)])
def test_packets_that_were_not_cut_apart_yet_are(count: int, size: int, lengths: tuple[int, int]) -> None:
    """UDP GSO: what tcpdump sees on a veth. One frame, many packets; also before their connection ID is known."""
    capture = Capture()
    talk = Talk(capture, cid_lengths=lengths)
    talk.handshake()
    talk.announce()
    pieces = joined(talk, count, size) + joined(talk, count, size, 1)
    talk.send(True, "3gpp", b"".join(pieces[:count + 1]))
    talk.send(True, "wifi", b"".join(pieces[count + 1:]))
    found = [p for p in opened(capture.bytes(), talk.keylog()) if p.kind == "1rtt"][-len(pieces):]
    assert [p.reason for p in found] == [""] * len(pieces) and [p.size for p in found] == [len(piece) for piece in pieces]
    assert [p.path for p in found] == [0] * (count + 1) + [1] * (count + 1)
    assert len({p.record for p in found}) == 2 and sum(p.inner_count for p in found) == 2 * count


def test_pieces_that_wait_for_the_handshake() -> None:
    capture = Capture()
    talk = Talk(capture)
    capture.hold()
    talk.handshake()
    handshake, capture.held = capture.held or [], []
    talk.send(True, "3gpp", b"".join(joined(talk, 20, 1200)))
    capture.held = (capture.held or []) + handshake
    capture.release()
    packets = opened(capture.bytes(), talk.keylog())
    assert sum(p.kind == "1rtt" and not p.reason for p in packets) >= 21


def test_a_frame_that_is_cut_loses_its_last_piece_only() -> None:
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    pieces = joined(talk, 10, 1000)
    frame = udp4(UE["3gpp"], 40000, PROXY, 4433, b"".join(pieces))
    capture.frame("3gpp", frame[:28 + 4 * len(pieces[0]) + 100])
    found = opened(capture.bytes(), talk.keylog())[-5:]
    assert [p.reason for p in found] == ["", "", "", "", decrypt.CUT]


def test_where_one_packet_ends_is_not_guessed() -> None:
    """Canary: without the connection ID at even distances it stays one, and says why."""
    dcid = b"ABCDEFGH"
    piece = b"\x40" + dcid + bytes(100)
    assert segment_size(piece * 3, [8]) == len(piece) and segment_size(piece * 3 + piece[:5], [8]) == len(piece)
    assert segment_size(piece, [8]) == 0 and segment_size(piece + b"\x00" + dcid + bytes(100), [8]) == 0
    assert segment_size(piece + b"x" + piece[1:] + bytes(7) + piece, [8]) == 0
    assert segment_size(b"\x40" + b"AB" + bytes(100) + b"\x40" + b"AB" + bytes(100), [2, 0]) == 0
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.send(True, "3gpp", talk.short(True, 0, [f.Padding(3000)]))
    assert opened(capture.bytes(), talk.keylog())[-1].reason == decrypt.OVERSIZE


def test_ethernet_of_the_tests_is_ethernet() -> None:
    assert ethernet(b"\x45")[12:14] == b"\x08\x00" and len(ethernet(b"\x45")) == 15


# ---- key logs


@pytest.mark.parametrize("change", [
    lambda log: log.replace(b"\n", b"\r\n"), lambda log: b"\xef\xbb\xbf" + log, lambda log: b"# of wireshark\n\n  \n" + log,
    lambda log: log.rstrip(b"\n"), lambda log: log + log, lambda log: b"\n".join(
        b" ".join((label, random.upper(), secret.upper())) for label, random, secret in map(bytes.split, log.splitlines()))],
    ids=["crlf", "bom", "comments", "no end", "twice", "upper case"])
def test_key_logs_of_any_editor(change: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, keylog = two_paths(3)
    (tmp_path / "capture.pcapng").write_bytes(capture)
    (tmp_path / "keys.txt").write_bytes(change(keylog))
    assert inspect.main([str(tmp_path), "--keys", str(tmp_path / "keys.txt"), "--stats", "--json"]) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["decrypted"] == document["packets"] > 0 and output.err == ""


def test_the_key_log_of_another_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture, _ = two_paths(3)
    (tmp_path / "capture.pcapng").write_bytes(capture)
    (tmp_path / "keys.log").write_bytes(Talk(Capture(), 5).keylog())
    assert inspect.main([str(tmp_path), "--stats", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["decrypted"] == 0 and {one["reason"] for one in document["not_decrypted"]} == {
        decrypt.NO_SECRETS, decrypt.NO_CID}
