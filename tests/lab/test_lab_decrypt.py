"""The decryptor against written vectors, a second decryptor, and captures that lack what a reader would like to have."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_capture import CLIENT_HELLO, PROXY, UE, Capture, Talk, http_datagram, two_paths, udp4

from lab import decrypt as d
from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import (
    RETRY_KEY,
    RETRY_NONCE,
    KeyLog,
    PacketKeys,
    hkdf_expand_label,
    initial_keys,
    keylog_lines,
)
from lab.packets import frames as f
from lab.packets.headers import decode_packet_number, read_header
from lab.packets.varint import write_varint
from lab.pcapng import PcapngReader, PcapngWriter

C_AP = bytes.fromhex("b8d2d183025987685c3cef9c4340e7c6cc67466e4e63d364f8d5a7ef754e95db")
CHACHA = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")


def independent():
    path = Path(__file__).parents[1] / "independent_decryptor.py"
    spec = importlib.util.spec_from_file_location("independent_decryptor", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(capture: bytes, keylog: bytes = b"", **options):
    log = KeyLog()
    log.add(keylog)
    reader = CaptureDecryptor(io.BytesIO(capture), log, **options)
    return list(reader.packets()), reader


def with_secrets(capture: bytes, keylog: bytes) -> bytes:
    """The same capture with the key log inside, as compose writes it."""
    source, out = PcapngReader(io.BytesIO(capture)), io.BytesIO()
    writer = PcapngWriter(out)
    scan = PcapngReader(io.BytesIO(capture))
    scan.scan()
    for interface in scan.interfaces:
        writer.interface(interface.linktype, interface.name)
    writer.secrets(keylog)
    for record in source:
        writer.packet(record.interface, record.time_ns, record.data)
    return out.getvalue()


def short_packets(packets):
    return [p for p in packets if p.kind == "1rtt"]


# ---- vectors ------------------------------------------------------------------------------------------------


def test_keys_of_rfc9001_appendix_a():
    client, server = initial_keys(bytes.fromhex("8394c8f03e515708"))
    packet = bytes.fromhex("cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5"
                           "a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d"
                           "06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee")
    header = read_header(packet, 0)
    assert (header.kind, header.scid.hex(), header.pn_offset, header.end) == ("initial", "f067a5502a4262b5", 18, len(packet))
    first, number, octets = server.unmask(packet, 18)
    assert (first, number, len(octets)) == (0xC1, 1, 2)
    clear = server.open(0, 1, bytes.fromhex("c1000000010008f067a5502a4262b500407500") + b"\x01", packet[20:])
    assert clear is not None and clear.startswith(bytes.fromhex("02000000000600405a020000560303eefce7f7"))
    assert client.open(0, 1, packet[:20], packet[20:]) is None


@pytest.mark.parametrize(("suite", "secret", "updates", "path", "number", "largest", "header", "payload", "packet"), [
    (0x1301, C_AP, 0, 0, 0, -1, "40f067a5502a4262b500", "1a0102030405060708",
     "40f067a5502a4262b5a92f06b1e5bbe026f9777e0cf6f4de984b518f5bac0a1de14eae"),
    (0x1301, C_AP, 0, 3, 54321, 54320, "41f067a5502a4262b5d431", "3e0340640000101a0102030405060708",
     "58f067a5502a4262b5ce7a9c2e5e29fb13a97781b5f420203e22f6c75bc96093e40ea585b6b3b6cd7fb1d7"),
    (0x1301, C_AP, 1, 3, 54322, 54321, "45f067a5502a4262b5d432", "30000045",
     "52f067a5502a4262b5b342ca64790fa241973c69f908bebb0ee8590ef91ab1"),
    (0x1303, CHACHA, 0, 3, 654360564, 654360563, "42f067a5502a4262b500bff4", "01",
     "53f067a5502a4262b5ecb725ccf5cdc885f3c7ede54c2b25fc913a7ec8"),
])
def test_multipath_vectors(suite, secret, updates, path, number, largest, header, payload, packet):
    keys = PacketKeys(suite, secret)
    for _ in range(updates):
        keys = keys.updated()
    wire, clear_header = bytes.fromhex(packet), bytes.fromhex(header)
    first, truncated, octets = keys.unmask(wire, 9)
    assert bytes((first,)) + wire[1:9] + octets == clear_header
    assert decode_packet_number(truncated, 8 * len(octets), largest) == number
    assert keys.open(path, number, clear_header, wire[len(clear_header):]) == bytes.fromhex(payload)
    assert keys.open(path + 1, number, clear_header, wire[len(clear_header):]) is None
    assert keys.seal(path, number, clear_header, 9, bytes.fromhex(payload)) == wire


def test_nonce_vector_of_rfc10069():
    """§2.4: IV 6b26114b9cba2b63a9e8dd4f, path 3, packet number 54321 give nonce 6b2611489cba2b63a9e8097e."""
    keys = PacketKeys(0x1301, C_AP)
    keys._iv = int("6b26114b9cba2b63a9e8dd4f", 16)
    sealed = AESGCM(hkdf_expand_label(C_AP, "quic key", 16)).encrypt(bytes.fromhex("6b2611489cba2b63a9e8097e"), b"x", b"h")
    assert keys.open(3, 54321, b"h", sealed) == b"x"


def test_secrets_are_not_in_a_repr():
    talk = Talk(Capture())
    log = KeyLog()
    log.add(talk.keylog())
    text = repr(log) + repr(log.connections[talk.random]) + repr(PacketKeys(0x1301, C_AP))
    assert not any(secret.hex() in text or repr(secret) in text for secret in (*talk.secrets.values(), C_AP))


# ---- whole captures -----------------------------------------------------------------------------------------


def test_both_paths_are_decrypted_in_order():
    capture, keylog = two_paths(30)
    packets, reader = read(capture, keylog)
    assert [p.reason for p in packets] == [""] * len(packets)
    assert [p.record for p in packets] == sorted(p.record for p in packets)
    summary, = reader.decryptor.summaries
    assert summary.client_random == CLIENT_HELLO[6:38].hex()
    assert summary.datagrams == {0: 30, 1: 30}
    inner = [inner for p in packets for inner in p.inner_packets()]
    assert len(inner) == 60 and {packet[:1] for packet in inner} == {b"\x45"}
    assert packets[0].words() == "initial connection 0 path 0 pn 0: CRYPTO 0+223; PADDING 929"


def test_the_independent_decryptor_agrees():
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce((1, 2))
    talk.validate(1)
    talk.data(10, {0: "3gpp", 1: "wifi"})
    talk.key_update(True)
    talk.data(10, {0: "3gpp", 1: "wifi"})
    talk.key_update(False)
    talk.data(10, {0: "3gpp", 2: "wifi"})
    packets, _ = read(capture.bytes(), talk.keylog())
    whole = with_secrets(capture.bytes(), talk.keylog())
    figures, clear = independent().decrypt(whole)
    ours = short_packets(packets)
    assert not any(p.reason for p in ours)
    assert clear == [p.payload for p in ours]
    assert figures["packets"] == figures["decrypted"] == len(ours)
    assert figures["paths"] == {str(path): sum(p.path == path for p in ours) for path in (0, 1, 2)}


def test_the_independent_decryptor_refuses_what_is_not_authentic():
    capture, keylog = two_paths(4)
    whole = bytearray(with_secrets(capture, keylog))
    whole[-20] ^= 1                                                 # in the tag of the last packet
    figures, _ = independent().decrypt(bytes(whole))
    assert figures["packets"] - figures["decrypted"] == 1
    packets, _ = read(bytes(whole))
    assert [p.reason for p in packets if p.reason] == [d.NOT_AUTHENTIC]


@pytest.mark.parametrize("suite", [0x1301, 0x1302, 0x1303])
def test_every_suite(suite):
    capture = Capture()
    talk = Talk(capture, seed=3, suite=suite)
    talk.handshake()
    talk.announce()
    talk.data(4, {0: "3gpp", 1: "wifi"})
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)


def test_key_phase_is_of_all_paths_and_late_packets_of_the_old_one_open():
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.data(2, {0: "3gpp", 1: "wifi"})
    late = talk.short(True, 1, [f.Ping()])
    for _ in range(3):
        talk.key_update(True)
        talk.key_update(False)
        talk.data(4, {0: "3gpp", 1: "wifi"})
        talk.send(True, "wifi", late)
        late = talk.short(True, 1, [f.Ping()])
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)
    assert {p.generation for p in packets if p.kind == "1rtt"} == {0, 1, 2, 3}


def test_several_connections_of_a_rekey_interleaved():
    capture = Capture()
    old, new = Talk(capture), Talk(capture, seed=1)
    old.handshake()
    old.announce()
    old.data(4, {0: "3gpp", 1: "wifi"})
    new.handshake("wifi")
    for _ in range(3):
        old.data(1, {0: "3gpp"})
        new.announce() if 1 not in new.sides[True].cids else new.data(2, {0: "wifi", 1: "3gpp"})
    packets, reader = read(capture.bytes(), old.keylog() + new.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)
    assert [s.client_random for s in reader.decryptor.summaries] == [old.random.hex(), new.random.hex()]
    assert reader.decryptor.summaries[1].datagrams == {0: 4, 1: 4}


def test_rotated_connection_ids_and_ipv6_and_raw_ip():
    capture = Capture(linktype=101)
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    rotated = talk.cid(False, 0, 1)                                 # announced by NEW_CONNECTION_ID seq 1
    talk.send(True, "3gpp", talk.short(True, 0, [f.RetireConnectionId(0)], dcid=rotated))
    packets, _ = read(capture.bytes(), talk.keylog())
    assert packets[-1].frames == [f.RetireConnectionId(0)] and packets[-1].path == 0


def test_retry_changes_the_initial_keys():
    capture = Capture()
    talk = Talk(capture)
    first = talk.long("initial", True, [f.Crypto(0, CLIENT_HELLO)], 1200)
    talk.send(True, "3gpp", first)
    retry_scid = hashlib.sha256(b"retry").digest()[:8]
    body = b"\xf0\0\0\0\1\x08" + talk.client_cid + b"\x08" + retry_scid + b"token"
    tag = AESGCM(RETRY_KEY).encrypt(RETRY_NONCE, b"", b"\x08" + talk.odcid + body)
    forged = body + bytes(16)
    talk.send(False, "3gpp", forged)
    talk.send(False, "3gpp", body + tag)
    talk.odcid, talk.token, talk.initial = retry_scid, b"token", initial_keys(retry_scid)
    talk.handshake()
    talk.announce()
    packets, reader = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets if p.reason] == ["Retry with a wrong integrity tag"]
    assert len(reader.decryptor.summaries) == 1


# ---- what captures lack -------------------------------------------------------------------------------------


def test_packets_before_their_mapping_wait_and_come_out_in_order():
    """Two sockets, one file: a packet of path 1 may stand before the one that announced its connection ID."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    capture.hold()
    talk.announce()
    talk.validate()
    talk.data(3, {0: "3gpp", 1: "wifi"})
    capture.release(reverse=True)
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)
    assert [p.record for p in packets] == sorted(p.record for p in packets)


def test_a_handshake_behind_its_data_is_found():
    capture = Capture()
    talk = Talk(capture)
    capture.hold()
    talk.handshake()
    talk.data(2, {0: "3gpp"})
    capture.release(reverse=True)
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)


def test_foreign_key_log_says_which_secret_is_missing():
    capture, _ = two_paths(3)
    packets, _ = read(capture, Talk(Capture(), seed=9).keylog())
    assert {p.reason for p in short_packets(packets)} == {d.NO_SECRETS, d.NO_CID}
    assert all(not p.reason for p in packets if p.kind == "initial")


def behind_its_handshake(packets: int) -> tuple[Capture, Talk]:
    """A capture that begins in the middle of a connection: neither ClientHello nor announcements."""
    capture = Capture()
    talk = Talk(capture)
    capture.hold()
    talk.handshake()
    talk.announce()
    capture.held = None
    for side in talk.sides.values():
        side.numbers |= {("1rtt", 0): 70_000, ("1rtt", 1): 900}
    talk.data(packets, {0: "3gpp", 1: "wifi"})
    return capture, talk


def test_a_handshake_that_nobody_captured_is_not_waited_for(monkeypatch):
    """Thousands of packets were held back, and then opened one by one."""
    capture, talk = behind_its_handshake(300)

    def held_at_most(early: int) -> int:
        monkeypatch.setattr(d, "EARLY_TRIAL", early)
        log = KeyLog()
        log.add(talk.keylog())
        reader = CaptureDecryptor(io.BytesIO(capture.bytes()), log)
        steps = [(step.record.number if step.record else 0, packet) for step in reader.steps() for packet in step.packets]
        assert [packet.reason for _, packet in steps] == [""] * 600
        return max(record - packet.record if record else 600 for record, packet in steps)

    assert held_at_most(64) < 80
    assert held_at_most(1 << 30) == 600, "canary"


def test_capture_that_starts_behind_the_handshake():
    """The key log and the nonce tell connection, path and packet number."""
    capture, talk = behind_its_handshake(20)
    packets, reader = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * 40
    assert {(p.path, p.number) for p in packets if p.up} == (
        {(0, n) for n in range(70_000, 70_010)} | {(1, n) for n in range(900, 910)})
    summary, = reader.decryptor.summaries
    assert summary.client_random == talk.random.hex()
    assert summary.packets == summary.datagrams == {0: 20, 1: 20}


def test_announcement_outside_the_window_of_the_capture():
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    capture.hold()
    talk.announce((1, 2, 3))
    capture.held = None
    talk.data(6, {0: "3gpp", 3: "wifi"})
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)
    assert {p.path for p in short_packets(packets)} == {0, 3}


@pytest.mark.parametrize("gap", [200, 40_000, 5_000_000])
def test_gap_between_windows_of_the_capture(gap):
    """What a window left out is jumped over: packet numbers and key updates are found again (2-octet numbers)."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.data(4, {0: "3gpp", 1: "wifi"})
    for up, side in talk.sides.items():
        for path in (0, 1):
            side.numbers["1rtt", path] += gap
        talk.key_update(up)
        talk.key_update(up)
    talk.data(4, {0: "3gpp", 1: "wifi"})
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets] == [""] * len(packets)
    assert packets[-1].number > gap and packets[-1].generation == 2


def test_what_never_opens_is_bounded_and_named():
    """Short headers of nobody: held back up to the limit, then given up in order, and the real ones still open."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    for i in range(50):
        capture.udp(True, "3gpp", b"\x40" + hashlib.sha256(b"%d" % i).digest()[:8] + bytes(60))
    talk.announce()
    packets, reader = read(capture.bytes(), talk.keylog(), waiting_max=8)
    closed = [p for p in packets if p.reason]
    assert {p.reason for p in closed} == {d.NO_CID} and len(closed) == 50
    assert all(not p.reason for p in packets[-2:])
    assert reader.decryptor.oldest_waiting() is None
    assert reader.decryptor._waiting == {}              # nothing of them is kept


def test_stateless_reset_is_told_from_a_packet():
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    token = hashlib.sha256(talk.cid(False, 1, 0)).digest()[:16]       # of the server's connection ID for path 1
    talk.send(False, "wifi", b"\x41" + bytes(range(30)) + token)
    packets, _ = read(capture.bytes(), talk.keylog())
    assert (packets[-1].kind, packets[-1].reason) == ("stateless-reset", d.RESET)


def test_cut_oversized_and_foreign_datagrams_are_named():
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    frame = udp4(UE["3gpp"], 40000, PROXY, 4433, talk.short(True, 0, [http_datagram(bytes(500))]))
    capture.frame("3gpp", frame[:200])
    talk.send(True, "3gpp", talk.short(True, 0, [f.Padding(3000)]))
    talk.send(True, "3gpp", b"\x00" * 40)
    talk.send(True, "3gpp", b"\xc0\x6b\x33\x43\xcf" + bytes(40))
    talk.send(True, "3gpp", b"\x40" + bytes(10))
    packets, _ = read(capture.bytes(), talk.keylog())
    assert [p.reason for p in packets[-5:]] == [
        d.CUT, d.OVERSIZE, "QUIC packet: the fixed bit is 0 (at octet 0)",
        "QUIC packet: version 0x6b3343cf is not 1 (at octet 1)", "shorter than a protected packet"]


def test_frames_that_do_not_read_are_named_and_the_packet_stays_in_clear():
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()

    class Unknown(f.Frame):
        def encode(self):
            return write_varint(0x21) + b"rest"

    talk.send(True, "3gpp", talk.short(True, 0, [f.Ping(), Unknown()]))
    packets, _ = read(capture.bytes(), talk.keylog())
    assert packets[-1].reason.startswith("in clear, but its frames do not read: frame: unknown type 0x21")
    assert packets[-1].frames == [f.Ping()] and packets[-1].number == 1


def test_truncated_capture_gives_what_is_whole():
    capture, keylog = two_paths(10)
    packets, reader = read(capture[:-100], keylog)
    assert reader.reader.problem.startswith("the file ends inside a block")
    assert all(not p.reason for p in packets)


def test_key_log_lines_that_do_not_read_are_counted():
    log = KeyLog()
    log.add(b"# comment\nCLIENT_TRAFFIC_SECRET_0 12 34\nnonsense\n\xff\xfe\nEXPORTER_SECRET " + b"00" * 32 + b" " + b"11" * 32)
    assert log.malformed == 3 and log.connections == {}
    talk = Talk(Capture())
    log.add(talk.keylog() * 2)
    assert log.conflicts == 0 and len(log.connections) == 1
    log.add(talk.keylog().replace(b"b8d2", b"b8d3"))
    assert log.conflicts == 1


def test_key_log_of_both_roles_is_written_once():
    keylog = Talk(Capture()).keylog()
    mixed = keylog + b"junk\n" + keylog.upper().replace(b"\r", b"") + b"UNKNOWN_LABEL " + b"00" * 32 + b" " + b"11" * 32 + b"\n"
    assert keylog_lines(mixed) == keylog


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=120)), max_size=12), st.integers(0, 6))
def test_hostile_datagrams_never_fall_over(datagrams, keep):
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    for up, data in datagrams:
        capture.udp(up, "wifi", data)
        capture.udp(up, "wifi", b"\x40" + talk.server_cid + data)
        capture.udp(up, "wifi", b"\xc1\0\0\0\1\x08" + talk.odcid + b"\x08" + talk.client_cid + data)
    packets, _ = read(capture.bytes(), talk.keylog(), waiting_max=keep)
    assert all(p.reason for p in packets[5:])
    assert json.dumps([p.words() for p in packets])
