"""Connection IDs of other lengths than ours, as far as no other stack makes them so: in disorder, alike, on every path, hostile."""

from __future__ import annotations

import io
import json
import os
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_capture import Capture, Talk, http_datagram, udp4

from lab import decrypt as d
from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.inspect import main
from lab.packets import frames as f
from lab.packets.headers import read_header
from lab.packets.quic import QuicProtectedShort, QuicShort
from lab.packets.tls import preferred_address_cid

PAIRS = [(8, 8), (0, 4), (4, 0), (0, 0), (1, 20), (20, 1), (18, 4)]
INNER = udp4("10.45.0.2", 5000, "10.99.0.2", 5201, b"x" * 100)


def opened(capture: Capture, *talks: Talk, **options):
    log = KeyLog()
    for talk in talks:
        log.add(talk.keylog())
    reader = CaptureDecryptor(io.BytesIO(capture.bytes()), log, **options)
    return list(reader.packets()), reader


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("lengths", [pair for pair in PAIRS if 0 not in pair], ids=str)
def test_every_path_whatever_the_length(lengths, native):
    """Multipath needs connection IDs (RFC 10069 §2.1): of any length."""
    capture = Capture()
    talk = Talk(capture, cid_lengths=lengths)
    talk.handshake()
    talk.announce((1, 2))
    talk.validate()
    talk.data(20, {0: "3gpp", 1: "wifi", 2: "wifi"})
    packets, _ = opened(capture, talk, native=native)
    assert not [p.words() for p in packets if p.reason]
    assert Counter(p.path for p in packets if p.kind == "1rtt" and p.inner_count) == {0: 14, 1: 14, 2: 12}
    assert {len(p.dcid) for p in packets if p.kind == "1rtt" and p.up} == {lengths[1]}


@pytest.mark.parametrize("lengths", PAIRS, ids=str)
def test_packets_before_what_tells_their_length(lengths):
    """The whole capture backwards: nothing is known when the first packets come."""
    capture = Capture()
    talk = Talk(capture, cid_lengths=lengths)
    capture.hold()
    talk.handshake()
    talk.data(20, {0: "3gpp"})
    capture.release(reverse=True)
    packets, _ = opened(capture, talk)
    assert not [p.words() for p in packets if p.reason]
    assert sum(p.inner_count for p in packets) == 40


def test_connection_ids_of_several_lengths_in_one_connection():
    """An endpoint may change its mind; and a packet to such an ID may come before the frame that announces it."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    cids = [os.urandom(n) for n in range(2, 21)]
    capture.hold()
    for at, cid in enumerate(cids, 1):
        talk.send(False, "3gpp", talk.short(False, 0, [f.NewConnectionId(at, 0, cid, os.urandom(16))]))
        talk.send(True, "3gpp", talk.short(True, 0, [http_datagram(INNER)], dcid=cid))
    capture.release(reverse=True)
    packets, _ = opened(capture, talk)
    assert not [p.words() for p in packets if p.reason]
    assert [p.dcid for p in packets if p.inner_count] == cids[::-1]


def test_one_connection_id_begins_like_another():
    """Two connections; one's is the beginning of the other's: which it is, the keys tell."""
    capture = Capture()
    short, long = Talk(capture, 0, cid_lengths=(8, 4)), Talk(capture, 1, cid_lengths=(8, 20))
    long.server_cid = long.sides[True].cids[0] = short.server_cid + bytes(16)
    for talk in (short, long):
        talk.handshake()
    for _ in range(10):
        for talk in (short, long):
            talk.send(True, "3gpp", talk.short(True, 0, [http_datagram(INNER)]))
    packets, _ = opened(capture, short, long)
    assert not [p.words() for p in packets if p.reason]
    assert Counter(p.connection for p in packets if p.inner_count) == {0: 10, 1: 10}


def test_a_client_without_connection_ids_moves():
    """What comes to it bears nothing but its addresses, and it has new ones."""
    capture = Capture()
    talk = Talk(capture, cid_lengths=(0, 8))
    talk.handshake()
    for access in ("3gpp", "wifi", "3gpp"):
        talk.send(True, access, talk.short(True, 0, [f.Ping(), f.Padding(20)]))
        talk.send(False, access, talk.short(False, 0, [http_datagram(INNER)]))
    for native in (True, False):
        packets, _ = opened(capture, talk, native=native)
        assert not [p.words() for p in packets if p.reason]
        assert sum(p.inner_count for p in packets) == 3


def test_addresses_used_by_one_connection_behind_another():
    capture = Capture()
    talks = [Talk(capture, seed, cid_lengths=(0, 0)) for seed in range(6)]
    for talk in talks:
        talk.handshake()
        talk.data(5, {0: "3gpp"})
    talks[3].send(False, "3gpp", talks[3].short(False, 0, [http_datagram(INNER)]))        # it was under way for long
    packets, _ = opened(capture, *talks)
    assert not [p.words() for p in packets if p.reason]
    assert [p.connection for p in packets if p.inner_count][::10] == [0, 1, 2, 3, 4, 5, 3]


def test_without_addresses_nothing_is_guessed():
    """For a reader that has UDP payloads alone: what goes to an end without connection IDs stays closed, with its reason."""
    capture = Capture()
    talk = Talk(capture, cid_lengths=(0, 8))
    log = KeyLog()
    log.add(talk.keylog())
    sent = []
    talk.send = lambda up, access, payload: sent.append((up, payload))
    talk.handshake()
    decryptor = d.Decryptor(log)
    packets = [p for up, payload in sent for p in decryptor.feed(1, 0, 0, up, payload)] + decryptor.flush()
    assert Counter((p.up, p.reason) for p in packets) == {(True, ""): 3, (False, d.NO_CID): 2}


def test_the_connection_id_of_a_preferred_address():
    """RFC 9000 §9.6: the server tells it in a parameter, not in a frame."""
    cid = bytes(range(1, 13))
    value = bytes(24) + bytes((12,)) + cid + bytes(16)
    assert preferred_address_cid({0x0D: value}) == cid
    assert preferred_address_cid({}) == b""
    for broken in (b"", bytes(24), bytes(24) + b"\x0c" + cid, bytes(24) + b"\x15" + bytes(21 + 16), value + b"x"):
        assert preferred_address_cid({0x0D: broken}) == b""


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20), st.binary(max_size=60))
def test_layers_take_any_length(length, rest):
    packet = QuicShort(dcid=bytes(range(length)), pn_length=1, pn=b"\0\1", frames=[]).build() + b"\x01"
    again = QuicShort(packet, dcid_length=length)
    assert (again.dcid, again.pn, [frame.name for frame in again.frames]) == (bytes(range(length)), b"\0\1", ["PING"])
    assert again.copy().dcid_length == length and bytes(again) == packet
    wire = QuicProtectedShort(b"\x40" + bytes(length) + rest, dcid_length=length)
    assert (wire.dcid, wire.protected) == (bytes(length), rest)
    assert read_header(b"\x40" + bytes(length) + rest, 0, length).pn_offset == 1 + length
    assert len(QuicShort(b"\x40" + bytes(30)).dcid) == 8, "ours, where nothing is said"


def test_mpq_inspect_takes_a_capture_from_elsewhere(tmp_path, capsys):
    """Any port, connection IDs of any length, a key log of any name."""
    capture = Capture(port=443)
    talk = Talk(capture, cid_lengths=(0, 18))
    talk.handshake()
    talk.data(10, {0: "3gpp"})
    (tmp_path / "theirs.pcapng").write_bytes(capture.bytes())
    (tmp_path / "sslkeys.txt").write_bytes(talk.keylog())
    command = [str(tmp_path / "theirs.pcapng"), "--keys", str(tmp_path / "sslkeys.txt")]
    counts = {}
    for port in ("443", "4433"):
        assert main([*command, "--stats", "--json", "--port", port]) == 0
        document = json.loads(capsys.readouterr().out)
        counts[port] = (document["packets"], document["decrypted"], document["inner_packets"])
    assert counts == {"443": (21, 21, 20), "4433": (0, 0, 0)}
    assert main([*command, "--packet", "4", "--port", "443"]) == 0
    assert capsys.readouterr().out.count(f"dcid      = {talk.server_cid.hex()}\n") == 2, "on the wire and in clear"
    for nonsense in ("0", "65536", "https"):
        assert main([*command, "--port", nonsense]) == 2


# ---- hostile ------------------------------------------------------------------------------------------------------------------


def test_every_length_announced_and_packets_to_nobody():
    """The dearest capture that is easy to make: IDs of every length, many of one octet, and short headers that never open."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    for at in range(1, 256):
        talk.send(False, "3gpp", talk.short(False, 0, [f.NewConnectionId(at, 0, bytes((at,)), os.urandom(16))]))
    for length in range(2, 21):
        talk.send(False, "3gpp", talk.short(False, 0, [f.NewConnectionId(300 + length, 0, os.urandom(length), os.urandom(16))]))
    for _ in range(3000):
        talk.send(True, "3gpp", b"\x41" + os.urandom(60))
    began = time.process_time()
    packets, reader = opened(capture, talk)
    assert time.process_time() - began < 60
    closed = Counter(p.reason for p in packets if p.reason)
    assert sum(closed.values()) == 3000 and set(closed) <= {d.NOT_AUTHENTIC, d.NO_CID}
    assert not reader.decryptor._waiting and not reader.decryptor._order


def test_what_waits_is_forgotten_under_every_length():
    """The memory of packets that nothing ever opens is bounded, and given back."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.send(False, "3gpp", talk.short(False, 0, [f.NewConnectionId(1, 0, b"four", os.urandom(16))]))
    for _ in range(400):
        talk.send(True, "3gpp", b"\x41" + os.urandom(60))
    log = KeyLog()
    log.add(talk.keylog())
    reader = CaptureDecryptor(io.BytesIO(capture.bytes()), log, waiting_max=50)
    most = 0
    for _ in reader.packets():
        most = max(most, sum(map(len, reader.decryptor._waiting.values())))
    assert most <= 3 * 51       # under 8 octets, under 4, under the addresses
    assert not reader.decryptor._waiting
