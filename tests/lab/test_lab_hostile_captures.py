"""`mpq inspect` on files that somebody else made, or that a kill -9 left: a named word, no crash, bounded memory."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import struct
import time
from pathlib import Path

import pytest
from synthetic_capture import Capture, Talk, two_paths, udp6

from lab import inspect
from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.packets import frames as f
from lab.pcapng import BLOCK_MAX, DSB, EPB, SECRETS_MAX, SHB, PcapngReader, PcapngWriter

WAYS = [["--stats", "--json"], ["--json"], ["--packet", "3", "--json"], ["--stats"], []]


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, object]]:
    code = inspect.main(list(arguments))
    return code, json.loads(capsys.readouterr().out)


def block(kind: int, body: bytes) -> bytes:
    return struct.pack("<II", kind, 12 + len(body)) + body + struct.pack("<I", 12 + len(body))


def section() -> bytes:
    return block(SHB, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    capture, keylog = two_paths(6)
    (tmp_path / "capture.pcapng").write_bytes(capture)
    (tmp_path / "keys.log").write_bytes(keylog)
    return tmp_path


@pytest.mark.parametrize("arguments", WAYS, ids=" ".join)
def test_cut_at_any_octet(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    whole = (run / "capture.pcapng").read_bytes()
    for size in [0, 1, 7, 8, 11, 12, 27, 28, *range(60, len(whole), 397), len(whole) - 1]:
        (run / "capture.pcapng").write_bytes(whole[:size])
        assert inspect.main([str(run), *arguments]) in (0, 1)
        output = capsys.readouterr()
        assert "Traceback" not in output.err
        if "--json" in arguments:
            json.loads(output.out)


@pytest.mark.parametrize("arguments", WAYS, ids=" ".join)
def test_any_octet_flipped(run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    whole = (run / "capture.pcapng").read_bytes()
    dice = random.Random(7)
    for _ in range(25):
        spoilt = bytearray(whole)
        for _ in range(dice.randrange(1, 12)):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        (run / "capture.pcapng").write_bytes(spoilt)
        assert inspect.main([str(run), *arguments]) in (0, 1)
        output = capsys.readouterr()
        if "--json" in arguments:
            json.loads(output.out)


def test_a_capture_that_a_killed_run_left(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """kill -9: only the raw file, cut in a block, and half a line in the key log."""
    whole = (run / "capture.pcapng").read_bytes()
    (run / "capture.pcapng").unlink()
    (run / "capture.raw.pcapng").write_bytes(whole[:-5])
    with (run / "keys.log").open("ab") as file:
        file.write(b"CLIENT_TRAFFIC_SECRET_0 0123")
    code, stats = document(capsys, str(run), "--stats", "--json")
    assert code == 0 and stats["decrypted"] == stats["packets"] != 0
    assert any("the file ends" in str(entry) for entry in stats["not_decrypted"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [0, 8, 13, BLOCK_MAX + 4, 0xFFFFFFFC])
def test_a_block_length_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str], length: int) -> None:
    path = tmp_path / "huge.pcapng"
    path.write_bytes(section() + struct.pack("<II", EPB, length) + bytes(64))
    assert inspect.main([str(path), "--stats"]) == 1
    assert f"block length {length}" in capsys.readouterr().err


def test_interfaces_between_packets_take_time_by_their_number_not_by_its_cube() -> None:
    """A thousand interfaces of a lab, each described when packets of those before it were there: some 0.3 s of CPU, once 45."""
    out = io.BytesIO()
    writer = PcapngWriter(out)
    for number in range(1000):
        writer.packet(writer.interface(1, f"core:{number}"), number, bytes(60))
    out.seek(0)
    start = time.process_time()
    reader = CaptureDecryptor(out, KeyLog(), lean=True)
    assert list(reader.packets()) == [] and len(reader.interfaces) == 1000 == reader.reader.number
    assert time.process_time() - start < 15


def test_secrets_without_end_take_bounded_memory() -> None:
    """A thousand blocks of secrets: they are read and forgotten."""
    line = b"CLIENT_TRAFFIC_SECRET_0 %064x " + b"11" * 32 + b"\n"
    blocks = (block(DSB, struct.pack("<II", 0x544C534B, 1 << 20) + (line % n).ljust(1 << 20, b"#")) for n in range(200))
    reader = PcapngReader(io.BytesIO(section() + b"".join(blocks)))
    reader.scan()
    assert sum(map(len, reader.secrets)) <= SECRETS_MAX and "secrets" in reader.problem


def test_a_key_log_of_garbage(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "keys.log").write_bytes(os.urandom(1 << 16) + b"\n" + b"A" * 100_000 + b"\nCLIENT_TRAFFIC_SECRET_0 xx yy\n")
    code, stats = document(capsys, str(run), "--stats", "--json")
    assert code == 0 and stats["decrypted"] == 0 and stats["not_decrypted"]


def test_a_key_log_without_end(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "endless").touch()
    os.truncate(run / "endless", 8 << 30)  # sparse
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert inspect.main([str(run), "--keys", str(run / "endless"), "--stats", "--json"]) == 1
    assert "larger than" in capsys.readouterr().err
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


@pytest.mark.parametrize("content", [b"\xff\xfe\n", b"{", b'{"ue": 1}', b"[" * 100_000])
def test_nas_keys_that_do_not_read(run: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (run / "nas.keys").write_bytes(content)
    code, answer = document(capsys, str(run), "--json")
    assert code == 1 and "nas.keys" in str(answer["error"]) and "line 1" in str(answer["error"])


def test_a_path_id_that_no_nonce_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 10069 §2.4: 32 bits. A lying peer may announce more; its packets stay closed, and nothing falls over."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    cid = bytes(range(40, 48))
    frame = f.PathNewConnectionId(1 << 40, 0, 0, cid, bytes(16))
    talk.send(False, "3gpp", talk.short(False, 0, [frame]))
    talk.send(True, "3gpp", talk.short(True, 0, [f.Ping()], dcid=cid))
    (tmp_path / "capture.pcapng").write_bytes(capture.bytes())
    (tmp_path / "keys.log").write_bytes(talk.keylog())
    code, stats = document(capsys, str(tmp_path), "--stats", "--json")
    assert code == 0 and stats["packets"]


@pytest.mark.parametrize("linktype", [1, 101, 252, 147])
@pytest.mark.parametrize("data", [b"", b"\x60", b"\x45", bytes(13), b"\x00\x0c\x00\xff", os.urandom(40)], ids=len)
def test_the_tree_of_a_frame_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], linktype: int, data: bytes
) -> None:
    path = tmp_path / "one.pcapng"
    with path.open("wb") as stream, PcapngWriter(stream) as writer:
        writer.packet(writer.interface(linktype, "x"), 0, data)
    code, answer = document(capsys, str(path), "--packet", "1", "--json")
    assert code == 0 and answer["layers"]


def test_quic_over_raw_ipv6_has_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.pcapng"
    with path.open("wb") as stream, PcapngWriter(stream) as writer:
        writer.packet(writer.interface(101, "x"), 0, udp6("fd01::2", 40000, "fd64::1", 4433, b"\x40" + bytes(40)))
    code, answer = document(capsys, str(path), "--packet", "1", "--json")
    assert code == 0 and "fd64::1" in str(answer["layers"])


@pytest.mark.parametrize("arguments", [["/no/such"], ["--limit", "0"], ["--frame", "X"], ["--keys", "/no", "."], ["--colour"]])
def test_json_is_one_document_when_it_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, answer = document(capsys, "--json", *arguments)
    assert code == answer["exit"] != 0 and answer["error"]


def test_a_key_log_keeps_no_more_than_it_says() -> None:
    log = KeyLog()
    log.add(b"CLIENT_TRAFFIC_SECRET_0 " + b"00" * 32 + b" " + b"11" * 40 + b"\n")
    assert log.connections[bytes(32)].suites()  # an odd length is tried, and opens nothing
