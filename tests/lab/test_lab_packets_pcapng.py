"""pcapng: what we write reads back, both byte orders read, and a file that ends anywhere says where."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.pcapng import PcapngError, PcapngReader, PcapngWriter

packets = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2**63), st.binary(max_size=70), st.text(max_size=10),
                             st.integers(0, 2)), max_size=8)


def written(entries, secrets=b""):
    stream = io.BytesIO()
    with PcapngWriter(stream) as writer:
        writer.interface(1, "ue/3gpp")
        writer.interface(101, "tunnel-inner")
        if secrets:
            writer.secrets(secrets)
        for interface, time, data, comment, flags in entries:
            writer.packet(interface, time, data, comment, flags)
    return stream.getvalue()


@given(packets, st.binary(max_size=30))
def test_round_trip(entries, secrets):
    reader = PcapngReader(io.BytesIO(written(entries, secrets)))
    out = [(r.interface, r.time_ns, r.data, r.comment, r.flags) for r in reader]
    assert out == entries
    assert [(i.linktype, i.name) for i in reader.interfaces] == [(1, "ue/3gpp"), (101, "tunnel-inner")]
    assert reader.secrets == ([secrets] if secrets else [])
    assert reader.problem == ""


@settings(max_examples=60)
@given(st.data())
def test_a_file_cut_anywhere_gives_the_whole_packets_and_says_so(data):
    entries = [(0, i, bytes([i]) * 20, "", 0) for i in range(5)]
    whole = written(entries)
    cut = data.draw(st.integers(1, len(whole) - 1))
    reader = PcapngReader(io.BytesIO(whole[:cut]))
    out = [r.data for r in reader]
    assert out == [entry[2] for entry in entries][:len(out)]
    boundaries = {0}
    offset = 0
    while offset < len(whole):
        offset += struct.unpack_from("<I", whole, offset + 4)[0]
        boundaries.add(offset)
    assert (reader.problem == "") == (cut in boundaries)


def big_endian_file():
    def block(kind, body):
        size = 12 + len(body)
        return struct.pack(">II", kind, size) + body + struct.pack(">I", size)

    shb = struct.pack(">II", 0x0A0D0D0A, 28) + struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1) + struct.pack(">I", 28)
    idb = block(1, struct.pack(">HHI", 1, 0, 0) + struct.pack(">HH", 9, 1) + b"\x06\0\0\0" + bytes(4))
    epb = block(6, struct.pack(">IIIII", 0, 0, 5_000_000, 3, 3) + b"abc\0" + struct.pack(">HH", 1, 2) + b"hi\0\0" + bytes(4))
    return shb + idb + epb


def test_the_other_byte_order_and_microseconds():
    reader = PcapngReader(io.BytesIO(big_endian_file()))
    record, = reader
    assert (record.time_ns, record.data, record.comment) == (5_000_000_000, b"abc", "hi")


def test_sections_of_both_byte_orders_in_one_file():
    reader = PcapngReader(io.BytesIO(written([(1, 7, b"x", "", 0)]) + big_endian_file()))
    assert [(r.number, r.interface, r.data) for r in reader] == [(1, 1, b"x"), (2, 2, b"abc")]


@pytest.mark.parametrize("data", [b"\xd4\xc3\xb2\xa1" + bytes(20), b"hello, this is text\n"])
def test_what_is_not_pcapng_is_named(data):
    reader = PcapngReader(io.BytesIO(data))
    assert list(reader) == []
    assert "not pcapng" in reader.problem


def test_an_empty_file_is_named():
    reader = PcapngReader(io.BytesIO(b""))
    assert list(reader) == []
    assert "the file is empty" in reader.problem


@given(st.binary(max_size=200))
def test_hostile_blocks_never_fall_over(data):
    reader = PcapngReader(io.BytesIO(written([]) + data))
    list(reader)


def test_scan_finds_secrets_behind_packets():
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    writer.interface(1, "a")
    writer.packet(0, 0, b"x" * 1000)
    writer.secrets(b"LINE\n")
    stream.seek(0)
    reader = PcapngReader(stream)
    reader.scan()
    assert reader.secrets == [b"LINE\n"]


def test_a_packet_of_no_interface_is_refused_and_skipped():
    stream = io.BytesIO()
    writer = PcapngWriter(stream)
    with pytest.raises(PcapngError):
        writer.packet(0, 0, b"x")
    writer.interface(1, "a")
    writer.packet(0, 0, b"x")
    data = bytearray(stream.getvalue())
    data[-32 - 4 + 8:-32 - 4 + 12] = struct.pack("<I", 9)       # the block has 36 octets; interface 9 is not there
    reader = PcapngReader(io.BytesIO(bytes(data)))
    assert list(reader) == [] and reader.skipped == 1
