"""The key container: its vectors, what each type may hold, and hostile octets (R-101, R-109)."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiveg.key_container import (
    ALLOWED,
    LONGEST_LIFETIME,
    NUMBERS,
    REQUIRED,
    SHORTEST_LIFETIME,
    TLVS,
    KeyCause,
    KeyContainer,
    KeyContainerError,
)
from fiveg.key_container import KeyContainerType as Type

P0 = bytes(range(32))
KEY = bytes.fromhex("b6af50be041c41bfff74a45cb190fe497d2c29575874cb11a78ebf7fa0ba6b5e")
DERIVED = KeyContainer(type=Type.PROVISION, transaction=0x21, generation=1, p0=P0, lifetime=3600)
DELIVERED = KeyContainer(type=Type.PROVISION, transaction=0x21, generation=1, key=KEY, lifetime=3600)
ACK = KeyContainer(type=Type.ACK, transaction=0x21, generation=1, fingerprint=bytes.fromhex("9c99b2bf"))


def test_vectors() -> None:
    assert DERIVED.encode().hex() == "01012100000001010020" + P0.hex() + "03000400000e10"
    assert DELIVERED.encode().hex() == "01012100000001020020" + KEY.hex() + "03000400000e10"
    assert ACK.encode().hex() == "010221000000010600049c99b2bf"
    for container in (DERIVED, DELIVERED, ACK):
        assert KeyContainer.decode(container.encode()) == container


def test_nothing_shows_the_key() -> None:
    for container in (DERIVED, DELIVERED):
        assert KEY.hex() not in repr(container) and "b6af" not in repr(container) and repr(P0) not in repr(container)


NUMBER_OF = {name: st.integers(0, (1 << 8 * TLVS[name][1]) - 1) for name in NUMBERS}
OCTETS_OF = {name: st.binary(min_size=n, max_size=n) for name, (_, n) in TLVS.items() if name not in NUMBERS}
VALUES = {**NUMBER_OF, **OCTETS_OF, "lifetime": st.integers(SHORTEST_LIFETIME, LONGEST_LIFETIME)}


@st.composite
def containers(draw: st.DrawFn) -> KeyContainer:
    kind = draw(st.sampled_from(list(Type)))
    names = set(REQUIRED[kind]) | {n for n in sorted(ALLOWED[kind]) if draw(st.booleans())}
    if kind is Type.PROVISION:
        names = names - {"p0", "key"} | {draw(st.sampled_from(("p0", "key")))}
    values = {name: draw(VALUES[name]) for name in sorted(names)}
    return KeyContainer(type=kind, transaction=draw(st.integers(0, 255)), generation=draw(st.integers(1, 0xFFFFFFFF)), **values)


@given(containers())
def test_round_trip(container: KeyContainer) -> None:
    assert KeyContainer.decode(container.encode()) == container


@given(containers(), st.data())
def test_cut_or_longer(container: KeyContainer, data: st.DataObject) -> None:
    octets = container.encode()
    cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
    try:
        read = KeyContainer.decode(cut)
    except KeyContainerError:
        read = None
    assert read is None or read.encode() == cut  # only a cut between TLVs that are not required can be whole
    with pytest.raises(KeyContainerError):
        KeyContainer.decode(octets + b"\x07")


@given(st.binary(max_size=120))
def test_garbage(body: bytes) -> None:
    for data in (body, b"\x01" + body, b"\x01\x01\x00\x00\x00\x00\x01" + body):
        try:
            container = KeyContainer.decode(data)
        except KeyContainerError:
            continue
        assert KeyContainer.decode(container.encode()) == container


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "010121000000",
        "02012100000001",
        "01002100000001",
        "01062100000001",
        "01012100000001" + "03000400000e10",
        DERIVED.encode().hex() + "020020" + KEY.hex(),
        DERIVED.encode().hex() + "03000400000e10",
        DELIVERED.encode().hex()[:-2],
        "01022100000001",
        "01022100000001" + "0600039c99b2",
        "01042100000001",
        "01022100000001" + "0600049c99b2bf" + "04000101",
        "01032100000001" + "ff0000",
        "01012100000000010020" + P0.hex() + "03000400000e10",
        "01012100000001010020" + P0.hex() + "03000400000000",
        "01012100000001010020" + P0.hex() + "0300040000003b",
        "01012100000001010020" + P0.hex() + "03000400015181",
    ],
)
def test_malformed(octets: str) -> None:
    with pytest.raises(KeyContainerError) as e:
        KeyContainer.decode(bytes.fromhex(octets))
    assert KEY.hex()[:8] not in str(e.value)


def test_what_cannot_be_written() -> None:
    for change in (
        {"key": KEY},
        {"p0": None},
        {"p0": P0[:31]},
        {"lifetime": None},
        {"lifetime": 1 << 32},
        {"lifetime": 59},
        {"generation": 0},
        {"cause": KeyCause.UNSUPPORTED},
        {"transaction": 256},
        {"generation": -1},
        {"type": Type.ACK},
    ):
        with pytest.raises(KeyContainerError):
            dataclasses.replace(DERIVED, **change).encode()
