"""The key in the key IE: our vector, and that it opens nowhere else."""

from dataclasses import replace

import pytest

from fiveg.errors import FivegError
from fiveg.pfcp.codes import Cause
from fiveg.pfcp.keywrap import N4KeyWrap, UnwrapFailed

WRAP = N4KeyWrap(b"\x11" * 32, 0xE9A1B2C3, 0xE9A1B2D4, 0x0102030405060708)
KEY = bytes.fromhex("b6af50be041c41bfff74a45cb190fe497d2c29575874cb11a78ebf7fa0ba6b5e")
WRAPPED = bytes.fromhex("577bf2df6985c586e1a64fddae5f711251b7d15fb226c1f1273ea3099c742af6c08971c981ee28cb")


def test_vector() -> None:
    assert WRAP.wrap(KEY, 1) == WRAPPED
    assert WRAP.unwrap(WRAPPED, 1) == KEY


def test_every_changed_bit_is_noticed() -> None:
    for bit in range(8 * len(WRAPPED)):
        changed = bytearray(WRAPPED)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnwrapFailed) as caught:
            WRAP.unwrap(bytes(changed), 1)
        assert caught.value.cause is Cause.MANDATORY_IE_INCORRECT


@pytest.mark.parametrize(
    "other",
    [
        replace(WRAP, k_n4=b"\x12" * 32),
        replace(WRAP, cp_recovery=1),
        replace(WRAP, up_recovery=1),
        replace(WRAP, up_seid=1),
    ],
    ids=["pair", "SMF restart", "UPF restart", "session"],
)
def test_opens_nowhere_else(other: N4KeyWrap) -> None:
    with pytest.raises(UnwrapFailed):
        other.unwrap(WRAPPED, 1)
    with pytest.raises(UnwrapFailed):
        WRAP.unwrap(WRAPPED, 2)


@pytest.mark.parametrize("length", [0, 7, 16, 24, 39, 41, 48])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(UnwrapFailed):
        WRAP.unwrap(bytes(length), 1)


def test_key_is_in_no_representation() -> None:
    assert "11" * 8 not in repr(WRAP) and "\\x11" not in repr(WRAP)


def test_key_wrap_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 3394 §4.6: 256 bits of key data with a 256-bit KEK"""
    monkeypatch.setattr(N4KeyWrap, "_kek", lambda *_: bytes(range(32)))
    key = bytes.fromhex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")
    wrapped = bytes.fromhex("28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21")
    assert WRAP.wrap(key, 1) == wrapped and WRAP.unwrap(wrapped, 1) == key


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_other_keys_are_not_wrapped(length: int) -> None:
    with pytest.raises(FivegError):
        WRAP.wrap(bytes(length), 1)
