"""Capsules: pieces of any size, unknown types, bounds, ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpquic.capsule import Capsule, CapsuleReader
from mpquic.errors import H3StreamError
from mpquic.reader import varint

KNOWN = frozenset((0, 1, 2, 3))
CAPSULES = st.builds(Capsule, st.integers(0, 6), st.binary(max_size=100))


@given(st.lists(CAPSULES, max_size=8), st.integers(1, 40))
def test_known_capsules_come_out_of_any_pieces(capsules: list[Capsule], size: int) -> None:
    wire = b"".join(capsule.encode() for capsule in capsules)
    reader = CapsuleReader(KNOWN)
    out = [capsule for at in range(0, len(wire), size) for capsule in reader.feed(wire[at : at + size])]
    reader.end()
    assert out == [capsule for capsule in capsules if capsule.type in KNOWN]


@pytest.mark.parametrize("wire", [b"\x01", b"\x01\x02a", b"\x29\x05ab"])
def test_an_end_inside_a_capsule_is_malformed(wire: bytes) -> None:
    reader = CapsuleReader(KNOWN)
    reader.feed(wire)
    with pytest.raises(H3StreamError) as caught:
        reader.end()
    assert caught.value.code == 0x10E


def test_a_length_beyond_the_bound_is_refused_before_its_value_comes() -> None:
    with pytest.raises(H3StreamError) as caught:
        CapsuleReader(KNOWN).feed(b"\x01" + varint(1 << 40))
    assert caught.value.code == 0x10E


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_garbage_raises_only_stream_errors(pieces: list[bytes]) -> None:
    reader = CapsuleReader(KNOWN)
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.end()
    except H3StreamError as error:
        assert error.code == 0x10E
