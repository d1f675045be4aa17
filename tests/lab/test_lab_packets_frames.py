"""Frames, plain and as scapy layers: what one writes the other reads, and nothing that a peer sends makes either fall over."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.packets import frames as f
from lab.packets.errors import PacketError
from lab.packets.headers import decode_packet_number, read_header
from lab.packets.quic import FRAME_LAYERS, QuicLong, QuicShort, TransportParameter, TransportParameters
from lab.packets.tls import CryptoStream, read_transport_parameters, write_transport_parameters
from lab.packets.varint import VARINT_MAX, read_varint, write_varint

varints = st.one_of(st.integers(0, 63), st.integers(0, 16383), st.integers(0, VARINT_MAX))
octets = st.binary(max_size=40)


@st.composite
def ranges(draw):
    low = draw(st.integers(0, 1000))
    out = []
    for _ in range(draw(st.integers(1, 5))):
        high = low + draw(st.integers(0, 50))
        out.insert(0, (low, high))
        low = high + 2 + draw(st.integers(0, 50))
    return out


def plain_frame(cls):
    values = [varints if kind == "i" else st.binary(max_size=20) if kind == "L" else octets if kind == "V"
              else st.binary(min_size=int(kind), max_size=int(kind)) for _, kind in cls.layout]
    return st.builds(cls, *values)


ecn = st.none() | st.tuples(varints, varints, varints)
any_frame = st.one_of(
    *(plain_frame(cls) for cls in f.PLAIN_FRAMES),
    st.builds(f.Ack, ranges(), varints, ecn),
    st.builds(f.PathAck, ranges(), varints, ecn, varints),
    st.builds(f.Stream, varints, octets, st.integers(0, VARINT_MAX), st.booleans(), st.just(True)),
    st.builds(f.Datagram, octets, st.just(True)),
    # a frame type of its own, whatever follows: two runs of PADDING side by side would read as one
)


@given(varints)
def test_varint_round_trip(value):
    data = write_varint(value)
    assert read_varint(data + b"x", 0) == (value, len(data))


@pytest.mark.parametrize("value", [-1, VARINT_MAX + 1])
def test_varint_out_of_range_is_refused(value):
    with pytest.raises(PacketError):
        write_varint(value)


@settings(max_examples=300)
@given(st.lists(any_frame, min_size=1, max_size=5), st.integers(0, 3), octets)
def test_frames_round_trip_plain_and_scapy(frames, padding, tail):
    """The scapy layers build exactly the octets that they read, and both readers see the same frames."""
    frames = frames + ([f.Padding(padding)] if padding else []) + [f.Datagram(tail, False)]
    data = f.encode_frames(frames)
    assert f.read_frames(data) == (frames, None)
    packet = QuicShort(bytes.fromhex("41f067a5502a4262b5d431") + data)
    assert [layer.name for layer in packet.frames] == [frame.name for frame in frames]
    packet.raw_packet_cache = None
    for layer in packet.frames:
        layer.raw_packet_cache = None
        for element in getattr(layer, "ranges", None) or []:
            element.raw_packet_cache = None
    assert bytes(packet) == bytes.fromhex("41f067a5502a4262b5d431") + data


@settings(max_examples=200)
@given(any_frame)
def test_scapy_frame_built_from_values_is_what_the_plain_reader_reads(frame):
    if not frame.layout:
        return
    values = {field.name: getattr(frame, field.name) for field in dataclasses.fields(frame)}
    layer = FRAME_LAYERS[frame.type](**values)
    assert f.read_frames(bytes(layer)) == ([frame], None)


def test_every_frame_of_the_table_has_a_layer():
    expected = {*range(0x20), 0x30, 0x31, 0x3E, 0x3F, 0xAF, *range(0x3E75, 0x3E7D)}
    assert set(FRAME_LAYERS) == expected == set(f.READERS)


@settings(max_examples=500)
@given(st.binary(max_size=80))
def test_hostile_octets_end_in_a_named_error_or_in_frames(data):
    frames, error = f.read_frames(data)
    assert error is None or error.reason
    for frame in frames:
        assert frame.words()
    QuicShort(b"\x41" + bytes(10) + data)
    QuicLong(b"\xc1" + bytes(4) + b"\x01\x00\x00\x00" + data)
    if data:
        try:
            read_header(data, 0)
        except PacketError as error:
            assert error.reason


def test_path_ack_vector():
    """quic.md §3.2: PATH_ACK(path 3, largest 100, delay 0, first range 16)."""
    frames, error = f.read_frames(bytes.fromhex("3e0340640000101a0102030405060708"))
    assert error is None
    assert frames == [f.PathAck([(84, 100)], 0, None, 3), f.PathChallenge(bytes(range(1, 9)))]


def test_ranges_below_zero_and_endless_counts_are_refused():
    assert f.read_frames(bytes.fromhex("0205000006"))[1].reason == "a range below packet number 0"
    count = b"\x02\x05\x00" + write_varint(VARINT_MAX) + b"\x00"
    assert "more ranges" in f.read_frames(count)[1].reason


def test_frames_before_a_bad_one_are_kept():
    frames, error = f.read_frames(b"\x01\x40\x21")
    assert frames == [f.Ping()]
    assert error is not None and error.reason == "unknown type 0x21" and error.offset == 1


@given(st.integers(0, 2**40), st.integers(-500, 500), st.integers(2, 4))
def test_packet_numbers_decode_within_half_a_window(largest, distance, size):
    number = max(0, largest + distance)
    assert decode_packet_number(number & (1 << 8 * size) - 1, 8 * size, largest) == number


def test_packet_number_example_of_rfc9000():
    assert decode_packet_number(0x9B32, 16, 0xA82F30EA) == 0xA82F9B32      # RFC 9000 Appendix A.3


@given(st.dictionaries(st.integers(0, VARINT_MAX), octets, max_size=8))
def test_transport_parameters_round_trip(parameters):
    data = write_transport_parameters(parameters)
    assert read_transport_parameters(data) == parameters
    layer = TransportParameters(data)
    assert {p.id: TransportParameter(bytes(p)).value for p in layer.parameters} == parameters
    assert bytes(TransportParameters(parameters=[TransportParameter(id=k, value=v) for k, v in parameters.items()])) == data


def test_a_transport_parameter_twice_is_refused():
    with pytest.raises(PacketError, match="twice"):
        read_transport_parameters(bytes.fromhex("010101010102"))


@given(st.binary(min_size=1, max_size=300), st.data())
def test_crypto_stream_puts_pieces_in_order(body, data):
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    cuts = sorted(data.draw(st.sets(st.integers(0, len(message)), max_size=5)) | {0, len(message)})
    pieces = [(a, message[a:b]) for a, b in pairwise(cuts)]
    stream = CryptoStream()
    out = []
    for offset, piece in data.draw(st.permutations(pieces)):
        out += stream.add(offset, piece)
    assert out == [message]


@given(st.binary(max_size=8), st.binary(max_size=20), octets, st.lists(any_frame, min_size=1, max_size=3))
def test_long_header_round_trip(dcid, scid, token, frames):
    payload = f.encode_frames(frames)
    built = bytes(QuicLong(long_type=0, pn_length=3, dcid=dcid, scid=scid, token=token, pn=b"\0\0\0\7",
                           frames=[FRAME_LAYERS[read_varint(payload, 0)[0]](payload)] if len(frames) == 1 else []))
    again = QuicLong(built)
    assert (again.dcid, again.scid, again.token, again.pn) == (dcid, scid, token, b"\0\0\0\7")
    if len(frames) == 1:
        assert built.endswith(payload)
        assert again.length == 4 + len(payload) + 16
