"""`mpq inspect` and the composed capture: figures, one JSON document, filters, trees; and what stock tshark makes of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from synthetic_capture import UE, Capture, Talk, stats_paths, tcp4, two_paths, udp4

from lab import inspect
from lab.capture_compose import ComposeError, compose
from lab.decrypt_nas import NasKeysError, nea2, nia2
from lab.pcapng import PcapngReader

SCHEMA = json.loads((Path(inspect.__file__).parent / "inspect_stats.schema.json").read_text())
K_ENC, K_INT = bytes(range(16)), bytes(range(16, 32))
KEY = bytes.fromhex("b6af50be041c41bfff74a45cb190fe497d2c29575874cb11a78ebf7fa0ba6b5e")
PROVISION = bytes.fromhex("7e00680d003101012100000001020020") + KEY + bytes.fromhex("03000400000e101205")
REGISTRATION = bytes.fromhex("7e004179000d0100f110f0ff000000000000102e02a0a0")
ACCEPT = bytes.fromhex("7e0042010177000bf200f110010041deadbeef")
PFCP_REPORT = bytes.fromhex("21380022010203040506070800000500002700014000a1000100800100087ed9010100000000")
AMF = "10.90.0.10"


def protect(message, count, uplink, access="3gpp", security=2):
    bearer = 1 if access == "3gpp" else 2
    inner = nea2(K_ENC, count, bearer, uplink, message) if security in (2, 4) else message
    body = bytes((count & 0xFF,)) + inner
    return bytes((0x7E, security)) + nia2(K_INT, count, bearer, uplink, body) + body


def n1(capture, access, sequence, uplink, pdus, flags=0x18, split=None):
    """PDUs in their envelopes over TCP, in one segment or two. Returns the next sequence number."""
    data = b"".join(len(p).to_bytes(2, "big") + p for p in pdus)
    port = 38412 if access == "3gpp" else 38413
    cuts = [data[:split], data[split:]] if split else [data]
    for piece in cuts:
        ends = (UE[access], 50000, AMF, port) if uplink else (AMF, port, UE[access], 50000)
        capture.frame(access, tcp4(*ends, sequence, piece, flags))
        sequence += len(piece) + (flags & 2) // 2
    return sequence


def run_directory(path, packets=10, nas_keys=True, keys=True):
    """A run as the lab leaves it: raw capture, key log, NAS keys; N1 on both accesses and N4."""
    capture = Capture()
    talk = Talk(capture)
    sequence = n1(capture, "3gpp", 100, True, [], flags=2)
    n1(capture, "3gpp", sequence, True, [REGISTRATION], split=7)
    n1(capture, "3gpp", 500, False, [protect(ACCEPT, 0, False), protect(PROVISION, 1, False)])
    n1(capture, "wifi", 900, True, [protect(REGISTRATION, 300, True, "wifi", 1)])
    capture.frame("3gpp", udp4("10.90.0.20", 8805, "10.90.0.11", 8805, PFCP_REPORT))
    talk.handshake()
    talk.announce()
    talk.validate()
    talk.data(packets, {0: "3gpp", 1: "wifi"})
    path.mkdir(exist_ok=True)
    (path / "capture.raw.pcapng").write_bytes(capture.bytes())
    if keys:
        (path / "keys.log").write_bytes(talk.keylog())
    if nas_keys:
        old = {"ue": "ue1", "k_nas_enc": "00" * 16, "k_nas_int": "11" * 16}
        line = {"ue": "ue1", "k_nas_enc": K_ENC.hex(), "k_nas_int": K_INT.hex()}
        (path / "nas.keys").write_text(json.dumps(line) + "\n" + json.dumps(old) + "\n")
    return path


def records(path):
    reader = PcapngReader(io.BytesIO(path.read_bytes()))
    out = list(reader)
    assert reader.problem == ""
    return [(reader.interfaces[r.interface].name, r) for r in out], reader


@pytest.fixture
def run(tmp_path):
    path = run_directory(tmp_path / "run")
    compose(path)
    return path


def output(capsys, *argv):
    code = inspect.main([str(a) for a in argv])
    out, err = capsys.readouterr()
    return code, out, err


# ---- figures ------------------------------------------------------------------------------------------------


def test_stats_document_is_that_of_the_design_and_more_per_path(run, capsys):
    code, out, _ = output(capsys, run, "--stats", "--json")
    assert code == 0
    document = json.loads(out)
    assert list(document) == [
        "packets", "decrypted", "paths", "inner_packets", "not_decrypted", "connections", "accesses", "capture", "qlog",
        "files"]
    jsonschema.validate(document, SCHEMA)
    del document["capture"], document["qlog"], document["files"]  # what was not recorded
    for number, path in stats_paths(document).items():
        assert path["access"] == ["3gpp" if number == "0" else "wifi"] and path["down"]["lost"] == 0
        assert path["up"]["packets"] + path["down"]["packets"] == 13 == path["packets"] == path["decrypted"]
    del document["connections"], document["accesses"]
    assert document == {"packets": 26, "decrypted": 26, "inner_packets": 20, "not_decrypted": [],
                        "paths": {"0": {"packets": 13, "decrypted": 13}, "1": {"packets": 13, "decrypted": 13}}}
    assert {name: inspect.inspect_stats(run)[name] for name in document} == document


def test_verify_capture_for_the_demo(run):
    result = inspect.verify_capture(run)
    assert result["ok"] is True and result["client_randoms"] == 1
    assert result["connections"][0]["datagrams"] == {"0": 10, "1": 10}


def test_verify_fails_when_one_packet_is_not_authentic(tmp_path):
    capture, keylog = two_paths(5)
    damaged = bytearray(capture)
    damaged[-10] ^= 0x40
    path = tmp_path / "c.pcapng"
    path.write_bytes(damaged)
    (tmp_path / "keys.log").write_bytes(keylog)
    result = inspect.verify_capture(path)
    assert result["ok"] is False and result["packets"] - result["decrypted"] == 1
    assert result["not_decrypted"] == [{"reason": "not authentic under the keys of this path", "count": 1}]


def test_verify_fails_on_an_empty_capture_and_on_a_cut_one(tmp_path):
    path = tmp_path / "c.pcapng"
    path.write_bytes(Capture().bytes())
    assert inspect.verify_capture(path)["ok"] is False
    capture, keylog = two_paths(5)
    path.write_bytes(capture[:-9])
    (tmp_path / "keys.log").write_bytes(keylog)
    result = inspect.verify_capture(path)
    assert result["ok"] is False and result["packets"] == result["decrypted"] > 0
    assert result["not_decrypted"][0]["count"] == 0 and "the file ends" in result["not_decrypted"][0]["reason"]


def test_without_keys_every_packet_says_so(tmp_path, capsys):
    path = run_directory(tmp_path / "run", keys=False, nas_keys=False)
    code, out, _ = output(capsys, path, "--stats", "--json")
    document = json.loads(out)
    assert code == 0 and document["decrypted"] == 0 and document["packets"] == 26
    assert sum(entry["count"] for entry in document["not_decrypted"]) == 26


# ---- table --------------------------------------------------------------------------------------------------


def test_table_shows_every_protocol(run, capsys):
    code, out, err = output(capsys, run)
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert "DATAGRAM 1030  ‹IPv4 10.45.0.2:5000 > 10.99.0.2:5201 UDP 1000›" in out
    assert sum(" n1 " in line for line in lines) == 4 and sum(" n4 " in line for line in lines) == 1
    assert "3gpp downlink: DL NAS TRANSPORT: KEY PROVISION generation 1, key of fingerprint 9c99b2bf" in out
    assert "Session Report Request seq 5 SEID 0x102030405060708 [MPQUIC Key Request]" in out
    assert KEY.hex() not in out


def test_filters_limit_and_json(run, capsys):
    code, out, _ = output(capsys, run, "--json", "--path", 1, "--frame", "datagram", "--limit", 3)
    document = json.loads(out)
    assert code == 0 and document["shown"] == len(document["packets"]) == 3
    for packet in document["packets"]:
        assert packet["path"] == 1 and packet["frames"][0]["name"] == "DATAGRAM" and len(packet["inner"]) == 1
    code, out, _ = output(capsys, run, "--json")
    whole = json.loads(out)
    assert whole["shown"] == 26 + 4 + 5 and whole["problem"] is None
    code, out, _ = output(capsys, run, "--frame", "PATH_CHALLENGE")
    assert len(out.splitlines()) == 3


def test_packet_tree(run, capsys):
    found, _ = records(run / "capture.pcapng")
    number = next(r.number for name, r in found if name == "ue/wifi" and "DATAGRAM" in r.comment)
    code, out, _ = output(capsys, run, "--packet", number)
    assert code == 0
    for part in ("QUIC short header, protected", "QUIC short header ]", "DATAGRAM", "HTTP datagram", "10.99.0.2"):
        assert part in out
    dump = "".join(line[8:56] for line in out.partition("octets of the frames")[2].splitlines() if line.startswith("  0"))
    assert b"\x45" in bytes.fromhex(dump) and len(bytes.fromhex(dump)) == int(out.partition("octets of the frames: ")[2].split()[0])
    code, out, _ = output(capsys, run, "--packet", number, "--json")
    assert json.loads(out)["record"] == number
    code, out, err = output(capsys, run, "--packet", 99999)
    assert code == 1 and "there is no packet 99999" in err


def test_trees_of_every_packet_of_a_run(run, capsys):
    found, _ = records(run / "capture.pcapng")
    shown = ""
    for name, record in found[:24]:
        code, out, _ = output(capsys, run, "--packet", record.number)
        assert code == 0 and out.startswith(f"packet {record.number}:"), name
        shown += out
    for part in ("transport parameters", "MPQUIC key container", "IE MPQUIC Key Request", "NAS security header"):
        assert part in shown, part
    assert KEY.hex() not in shown


@pytest.mark.parametrize(("argv", "code", "text"), [
    (["--frame", "NOPE"], 2, "no frame is named NOPE"),
    (["--limit", "0"], 2, "--limit takes a number from 1"),
    (["--path", "x"], 2, "invalid int value"),
    (["nowhere"], 1, "there is no such run or capture"),
    (["--keys", "nowhere"], 1, "there is no such key log"),
])
def test_misuse_is_a_sentence(run, capsys, argv, code, text):
    target = [] if argv == ["nowhere"] else [run]
    got, out, err = output(capsys, *target, *argv)
    assert (got, out) == (code, "") and text in err and "Traceback" not in err


def test_not_a_capture(tmp_path, capsys):
    path = tmp_path / "x.pcapng"
    path.write_bytes(b"GIF89a and so on")
    code, _, err = output(capsys, path, "--stats")
    assert code == 1 and "not pcapng" in err
    (tmp_path / "empty").mkdir()
    code, _, err = output(capsys, tmp_path / "empty")
    assert code == 1 and "has no capture.pcapng" in err


def test_newest_run_is_the_default(run, capsys, monkeypatch):
    monkeypatch.setenv("MPQ_RUNS", str(run.parent))
    code, _, err = output(capsys, "--stats")
    assert code == 1 and "there is no run yet" in err
    (run.parent / "last").symlink_to(run)
    assert output(capsys, "--stats")[0] == 0


def test_a_reader_that_leaves_early_is_no_error(run):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-u", "-m", "lab.inspect", str(run)], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert b"Traceback" not in done.stderr


# ---- composition --------------------------------------------------------------------------------------------


def test_composed_capture(run):
    found, reader = records(run / "capture.pcapng")
    assert [i.name for i in reader.interfaces] == ["ue/3gpp", "ue/wifi", "tunnel-inner", "n1-deciphered"]
    assert [i.linktype for i in reader.interfaces] == [1, 1, 101, 252]
    assert reader.secrets == [(run / "keys.log").read_bytes()]
    assert stat.S_IMODE((run / "capture.pcapng").stat().st_mode) == 0o600
    inner = [r for name, r in found if name == "tunnel-inner"]
    assert len(inner) == 20 and all(r.data[0] == 0x45 for r in inner)
    assert {r.comment.split(" pn")[0] for r in inner} == {"path 0", "path 1"}
    assert [name for name, r in found if "carries the key container: generation" in r.comment] == ["ue/3gpp"]
    outer = [r for name, r in found if name.startswith("ue/") and "pn" in r.comment]
    assert outer[0].comment == "initial connection 0 path 0 pn 0: CRYPTO 0+223; PADDING 929" and outer[0].flags == 2
    assert [r.time_ns for _, r in found] == sorted(r.time_ns for _, r in found)
    raw, _ = records(run / "capture.raw.pcapng")
    assert [r.data for _, r in raw] == [r.data for name, r in found if name.startswith("ue/")]


def test_nas_is_deciphered_and_a_delivered_key_is_not_written(run):
    found, _ = records(run / "capture.pcapng")
    nas = [r for name, r in found if name == "n1-deciphered"]
    assert [r.comment.split(",")[0] for r in nas] == [
        "3gpp uplink: REGISTRATION REQUEST", "3gpp downlink: REGISTRATION ACCEPT",
        "3gpp downlink: DL NAS TRANSPORT: KEY PROVISION generation 1", "non-3gpp uplink: REGISTRATION REQUEST"]
    assert nas[0].data.endswith(REGISTRATION) and nas[1].data.endswith(ACCEPT) and nas[3].data.endswith(REGISTRATION)
    whole = (run / "capture.pcapng").read_bytes()
    assert KEY not in whole and KEY.hex().encode() not in whole
    assert PROVISION.replace(KEY, bytes(32)) in nas[2].data


def test_without_nas_keys_protected_nas_says_so(tmp_path):
    path = run_directory(tmp_path / "run", nas_keys=False)
    result = compose(path)
    assert (result.nas, result.nas_plain) == (4, 2)       # the plain one, and the one that is only integrity protected
    found, _ = records(path / "capture.pcapng")
    nas = [r.comment for name, r in found if name == "n1-deciphered"]
    assert "not deciphered: no NAS keys" in nas[1]


def test_missing_and_bad_files_are_named(tmp_path):
    with pytest.raises(ComposeError, match=r"capture\.raw\.pcapng is not in"):
        compose(tmp_path)
    path = run_directory(tmp_path / "run")
    (path / "nas.keys").write_text('{"ue": "x", "k_nas_enc": "00"}\n')
    with pytest.raises(NasKeysError, match=r"nas\.keys: line 1"):
        compose(path)
    assert not (path / "capture.pcapng").exists() and not list(path.glob("*.part"))


def test_composing_a_cut_raw_capture_keeps_what_is_whole(tmp_path):
    path = run_directory(tmp_path / "run")
    raw = path / "capture.raw.pcapng"
    raw.write_bytes(raw.read_bytes()[:-50])
    result = compose(path)
    assert "the file ends" in result.problem and result.decrypted == result.quic > 20


# ---- stock tools --------------------------------------------------------------------------------------------


def tshark(path, *arguments):
    program = shutil.which("tshark")
    assert program is not None, "tshark is one of the packages that lab/provision.sh installs"
    done = subprocess.run([program, "-n", "-r", str(path), *arguments], capture_output=True, text=True, timeout=60, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_tshark_reads_path_0_with_nothing_but_the_capture(run):
    capture = run / "capture.pcapng"
    fields = ("-T", "fields", "-e", "frame.interface_name", "-e", "quic.packet_number", "-e", "quic.dg.length",
              "-e", "frame.comment")
    path_0 = tshark(capture, "-Y", 'quic && frame.interface_name == "ue/3gpp"', *fields)
    datagrams = [row for row in path_0 if "1rtt connection 0 path 0" in row[3] and "DATAGRAM" in row[3]]
    assert len(datagrams) == 10
    assert all(row[1] for row in datagrams)                             # the packet number is seen only when decrypted
    assert not tshark(capture, "-Y", 'quic.decryption_failed && frame.interface_name == "ue/3gpp"', *fields)
    assert tshark(capture, "-Y", "tls.handshake.type == 20", "-T", "fields", "-e", "frame.number")      # Finished


def test_tshark_dissects_nas_inner_packets_and_n4(run):
    capture = run / "capture.pcapng"
    nas = tshark(capture, "-Y", 'frame.interface_name == "n1-deciphered"', "-T", "fields", "-e", "nas_5gs.mm.message_type",
                 "-e", "ip.src", "-e", "_ws.malformed")
    assert [row[0] for row in nas] == ["0x41", "0x42", "0x68", "0x41"]
    assert [row[2] for row in nas] == [""] * 4
    inner = tshark(capture, "-Y", 'frame.interface_name == "tunnel-inner"', "-T", "fields", "-e", "ip.src", "-e", "udp.length")
    assert sorted({tuple(row) for row in inner}) == [("10.45.0.2", "1008"), ("10.99.0.2", "1008")]
    n4 = tshark(capture, "-Y", "pfcp", "-T", "fields", "-e", "pfcp.msg_type", "-e", "_ws.malformed", "-e", "pfcp.enterprise_id")
    assert n4 == [["56", "", "32473"]]
