"""QUIC in clear by our layers and by tshark, field by field (oracle_tables.py): path 0 of a run, and packets of any frames.

tshark 4.0 knows neither the nonce nor the frames of RFC 10069: what it cannot read is counted as left out, by its reason. And
when a new connection begins on the addresses of one that still sends (a re-key), it takes the old one's packets for the new
one's, and then reads nothing of what the client sends there.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from drawn_layers import drawn
from hypothesis import strategies as st
from needs import needs_tun
from oracle_compare import Mismatch, Tally, Values, assert_flips_are_caught, compare, ours
from oracle_recorded import Recorded
from oracle_tables import FRAMES, QUIC_FRAMES, QUIC_HEADER, TRANSPORT_PARAMETERS
from oracle_tshark import tshark
from synthetic_capture import CLIENT_HELLO, Capture, Talk
from test_lab_packets_frames import ranges

from lab.clear import clear_packets
from lab.decrypt_keys import RETRY_KEY, RETRY_NONCE
from lab.packets import frames as f
from lab.packets import quic
from lab.packets.tls import read_hello, write_transport_parameters
from lab.packets.varint import VARINT_MAX
from lab.pcapng import PcapngReader, PcapngWriter
from mpquic.tls_messages import ClientHello

QUIC = QUIC_HEADER + QUIC_FRAMES
KNOWN = {f"Quic{name}" for name in FRAMES}


def with_secrets(capture: Capture, talks: list[Talk], path: Path) -> Path:
    """The capture with the key logs inside."""
    source = PcapngReader(io.BytesIO(capture.bytes()))
    with path.open("wb") as stream, PcapngWriter(stream) as writer:
        for number, name in enumerate(capture.interfaces):
            assert writer.interface(capture.linktype, f"ue/{name}") == number
        writer.secrets(b"".join(talk.keylog() for talk in talks))
        for record in source:
            writer.packet(record.interface, record.time_ns, record.data)
    return path


def held_together(path: Path, clear: dict[int, list[Any]], tally: Tally) -> list[tuple[str, Values, Values]]:
    """Frame by frame; what tshark cannot know is left out."""
    pairs = []
    failed = tshark(path, "quic.decryption_failed", ())
    for frame, theirs in tshark(path, "quic", QUIC).items():
        packets = clear[frame]
        names = {type(one).__name__ for packet in packets if hasattr(packet.layer, "frames") for one in packet.layer.frames}
        if any(packet.told.path for packet in packets):
            tally.left_out["a path that is not 0"] += 1
        elif any(packet.told.reason for packet in packets):
            tally.left_out["closed"] += 1
        elif frame in failed:
            tally.left_out["not decrypted by tshark"] += 1
        elif not names <= KNOWN:
            tally.left_out["frames of RFC 10069"] += 1
        else:
            mine = ours([packet.layer for packet in packets], QUIC)
            compare(f"frame {frame}", mine, theirs, tally)
            pairs.append((f"frame {frame}", mine, theirs))
    return pairs


@needs_tun
def test_path_0_of_a_run(recorded: Recorded) -> None:
    tally = Tally()
    pairs = held_together(recorded.capture, recorded.clear, tally)
    tally.require(30, [
        "quic.frame_type", "quic.long.packet_type", "quic.version", "quic.length", "quic.packet_number_length", "quic.key_phase",
        "quic.crypto.offset", "quic.crypto.length", "quic.ack.largest_acknowledged", "quic.stream.stream_id", "quic.stream_data",
        "quic.dg", "quic.padding_length", "quic.cc.error_code"])
    assert not tally.left_out["closed"]
    assert assert_flips_are_caught(pairs) > 20


@needs_tun
def test_the_comments_tell_the_connections_apart(recorded: Recorded) -> None:
    """Also where tshark takes two of them for one: the filter of docs/debugging.md shows the packets of one, and no other."""
    frames: dict[int, set[int]] = {}
    for frame, packets in recorded.clear.items():
        for packet in packets:
            if packet.told.connection is not None and not packet.told.reason:
                frames.setdefault(packet.told.connection, set()).add(frame)
    assert len(frames) >= 2
    old, new = (set(tshark(recorded.capture, f'frame.comment contains "connection {n} "', ())) for n in sorted(frames)[-2:])
    assert [old, new] == [frames[n] for n in sorted(frames)[-2:]]
    assert not old & new, "no packet is of two"


# ---- generated -------------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(0, 63), st.integers(0, 16383), st.integers(0, VARINT_MAX))
streams = st.integers(0, 1 << 60)       # aioquic reads no larger count, which is an error (RFC 9000 §19.11, §19.14)
some = st.binary(min_size=1, max_size=30)
ecn = st.none() | st.tuples(numbers, numbers, numbers)
ANY_FRAME = st.one_of(
    st.builds(f.Ping), st.builds(f.Ack, ranges(), numbers, ecn), st.builds(f.ResetStream, numbers, numbers, numbers),
    st.builds(f.StopSending, numbers, numbers), st.builds(f.NewToken, some), st.builds(f.MaxData, numbers),
    st.builds(f.MaxStreamData, numbers, numbers), st.builds(f.MaxStreamsBidi, streams), st.builds(f.MaxStreamsUni, streams),
    st.builds(f.DataBlocked, numbers), st.builds(f.StreamDataBlocked, numbers, numbers), st.builds(f.StreamsBlockedBidi, streams),
    st.builds(f.StreamsBlockedUni, streams),
    st.builds(f.NewConnectionId, numbers, st.just(0), st.binary(min_size=8, max_size=8), st.binary(min_size=16, max_size=16)),
    st.builds(f.RetireConnectionId, numbers), st.builds(f.PathChallenge, st.binary(min_size=8, max_size=8)),
    st.builds(f.PathResponse, st.binary(min_size=8, max_size=8)), st.builds(f.HandshakeDone),
    st.builds(f.AckFrequency, numbers, numbers, numbers, st.integers(0, 63)), st.builds(f.Datagram, some, st.just(True)),
    # a stream of neither side's HTTP/3: tshark takes others apart, in whatever order they come
    st.builds(f.Stream, st.just(0x3001), some, st.integers(0, 2**20), st.just(False), st.just(True)),
)
LAST = st.one_of(st.builds(f.Datagram, some, st.just(False)), st.builds(f.Padding, st.integers(1, 40)),
                 st.builds(f.ConnectionClose, numbers, numbers, st.just(b"why")),
                 st.builds(f.ApplicationClose, numbers, st.just(b"")))
EACH: list[f.Frame] = [           # so that each is there, whatever is drawn
    f.Ping(), f.Ack([(7, 9), (2, 4), (0, 0)], 5, (1, 2, 3)), f.ResetStream(4, 5, 6), f.StopSending(7, 8), f.NewToken(b"token"),
    f.MaxData(9), f.MaxStreamData(10, 11), f.MaxStreamsBidi(12), f.MaxStreamsUni(13), f.DataBlocked(14),
    f.StreamDataBlocked(15, 16), f.StreamsBlockedBidi(17), f.StreamsBlockedUni(18),
    f.NewConnectionId(19, 0, b"8 octets", bytes(range(16))), f.RetireConnectionId(20), f.PathChallenge(b"question"),
    f.PathResponse(b"response"), f.HandshakeDone(), f.AckFrequency(21, 22, 23, 24), f.Datagram(b"datagram", True),
    f.Stream(0x3001, b"stream", 25, False, True)]
HANDSHAKE_FRAME = st.one_of(st.builds(f.Ping), st.builds(f.Ack, ranges(), numbers, ecn), st.builds(f.Padding, st.integers(1, 40)),
                            st.builds(f.ConnectionClose, numbers, numbers, st.just(b"")))


def retry(talk: Talk, token: bytes) -> bytes:
    body = b"\xf0\0\0\0\1\x08" + talk.client_cid + b"\x08" + talk.server_cid + token
    return body + AESGCM(RETRY_KEY).encrypt(RETRY_NONCE, b"", b"\x08" + talk.odcid + body)


def test_packets_of_any_frames(tmp_path: Path) -> None:
    capture = Capture()
    talk, other = Talk(capture), Talk(capture, seed=5)
    talk.handshake()
    some = drawn(st.tuples(st.booleans(), st.lists(ANY_FRAME, min_size=1, max_size=4), LAST), 90)
    for up, frames, last in [*some, *((True, [frame], f.Padding(3)) for frame in EACH)]:
        talk.send(up, "3gpp", talk.short(up, 0, [*frames, last]))
    other.send(True, "3gpp", other.long("initial", True, [f.Crypto(0, CLIENT_HELLO[:100]), f.Crypto(300, b"far")], 1200))
    other.send(False, "3gpp", retry(other, b"a token"))
    other.token = b"a token"
    for frames in drawn(st.lists(HANDSHAKE_FRAME, min_size=1, max_size=3), 12):
        for up in (True, False):
            talk.send(up, "3gpp", talk.long("initial", up, frames, 1200))
            talk.send(up, "3gpp", talk.long("handshake", up, [*frames, f.Ping(), f.Ping()]))     # a sample's worth of octets
    path = with_secrets(capture, [talk], tmp_path / "any.pcapng")
    clear: dict[int, list[Any]] = {}
    for one in clear_packets(path):
        clear.setdefault(one.told.record, []).append(one)
    tally = Tally()
    pairs = held_together(path, clear, tally)
    rare = ("quic.token", "quic.retry_token", "quic.retry_integrity_tag")
    tally.require(120, [row.theirs for row in QUIC if row.theirs not in rare])
    assert not tally.left_out
    assert assert_flips_are_caught(pairs) >= len(QUIC) - 3
    with pytest.raises(Mismatch, match=r"quic\.frame_type"):
        compare("one frame less", {**pairs[-1][1], "quic.frame_type": pairs[-1][1]["quic.frame_type"][:-1]}, pairs[-1][2], Tally())


# ---- transport parameters --------------------------------------------------------------------------------------------------

tokens = st.binary(min_size=16, max_size=16)
PARAMETERS = st.fixed_dictionaries({}, optional={
    **{key: st.builds(lambda value, key=key: quic.TransportParameterInteger(id=key, value=value), numbers)
       for key in (0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0E, 0x20)},
    **{key: st.builds(lambda value, key=key: quic.TransportParameter(id=key, value=value), value)
       for key, value in ((0x00, some), (0x02, tokens), (0x0F, some), (0x10, some))},
    0x0D: st.builds(lambda cid, token, port: quic.TransportParameterPreferredAddress(value=[quic.PreferredAddress(
        ipv4="10.1.2.3", ipv4_port=port, ipv6="fd01::9", ipv6_port=port ^ 1, cid=cid, token=token)]),
        st.binary(min_size=1, max_size=20), tokens, st.integers(0, 65535)),
})


def test_transport_parameters(tmp_path: Path) -> None:
    capture = Capture()
    wanted: dict[int, quic.TransportParameters] = {}
    for frame, parameters in enumerate(drawn(PARAMETERS, 20), 1):
        talk = Talk(capture, seed=100 + frame)
        layer = quic.TransportParameters(parameters=list(parameters.values()))
        hello = ClientHello.decode(CLIENT_HELLO[4:])
        hello.transport_parameters = bytes(layer)
        hello.random = talk.random
        talk.send(True, "3gpp", talk.long("initial", True, [f.Crypto(0, hello.encode())], 1300))
        read = read_hello(hello.encode())
        assert read is not None and write_transport_parameters(read.parameters) == bytes(layer)
        wanted[frame] = quic.TransportParameters(bytes(layer))
    path = with_secrets(capture, [], tmp_path / "parameters.pcapng")
    tally, pairs = Tally(), []
    for frame, theirs in tshark(path, "quic", TRANSPORT_PARAMETERS).items():
        mine = ours([wanted[frame]], TRANSPORT_PARAMETERS)
        compare(f"frame {frame}", mine, theirs, tally)
        pairs.append((f"frame {frame}", mine, theirs))
    rows = [row.theirs for row in TRANSPORT_PARAMETERS if "vi." not in row.theirs]
    tally.require(20, rows)
    assert assert_flips_are_caught(pairs) == len(rows)
