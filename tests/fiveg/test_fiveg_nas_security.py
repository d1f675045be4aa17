"""128-NIA2, 128-NEA2 and COUNT: known answers, whole messages, and what is refused (R-100 to R-102, R-112)."""

from __future__ import annotations

import pytest

from fiveg.nas import gmm
from fiveg.nas_security import (
    COUNT_LIMIT,
    CountExhausted,
    NasSecurityContext,
    NasSecurityError,
    NotProtected,
    Replayed,
    Role,
    Sht,
    UnexpectedHeaderType,
    WrongMac,
    nea2,
    nia2,
    peek,
)

H = bytes.fromhex
K_AMF = H("daae216bc3dc9c6e0db9e56d2b744ea247d67eed51fdf2411847d056ec45a666")
DL = H("7e00680d003101012100000001010020" + bytes(range(32)).hex() + "03000400000e101205")
STATUS = H("7e00646f")


def pair(**kw: int) -> tuple[NasSecurityContext, NasSecurityContext]:
    return NasSecurityContext(K_AMF, 0, Role.UE, **kw), NasSecurityContext(K_AMF, 0, Role.AMF, **kw)


def test_algorithms() -> None:
    key = H("d3c5d592327fb11c4035c6680af8c6d1")
    clear = H("981ba6824c1bfb1ab485472029b71d808ce33e2cc3c0b5fc1f3de8a6dc66b1f0")
    sealed = H("e9fed8a63d155304d71df20bf3e82214b20ed7dad2f233dc3c22d7bdeeed8e78")
    assert nea2(key, 0x398A59B4, 0x15, 1, clear) == sealed
    assert nia2(key, 0x398A59B4, 0x1A, 1, H("484583d5afe082ae")).hex() == "b93787e6"


def test_whole_messages() -> None:
    ue, amf = pair()
    for _ in range(3):
        ue.unprotect(amf.protect(STATUS, "3gpp"), "3gpp")
    over_3gpp = H(
        "7e02a7cac77a03d93815a6a2d682dbd530d7df8755cfe37f6657f6e4f7b36cf20b85fc458ff7b60a2196df744d5f2627607d535df09e7764a1797740d3b32a5b"
    )
    over_non_3gpp = H(
        "7e02ceb5e13900a0a6961697efb796a3e3eedebcd7b2ffc826b21831eecd666b881bec6e9ae973a8dc623b384014a5716ab82d96df799fa9eaa65f8c39cd1345"
    )
    assert amf.protect(DL, "3gpp") == over_3gpp and amf.protect(DL, "non-3gpp") == over_non_3gpp
    opened = ue.unprotect(over_3gpp, "3gpp")
    assert (opened.plain, opened.sht, opened.count) == (DL, Sht.CIPHERED, 3)
    assert ue.unprotect(over_non_3gpp, "non-3gpp").plain == DL
    request = H("7e004179000d0100f110f0ff000000000000102e02a0a0")
    assert ue.protect(request, "3gpp", Sht.INTEGRITY).hex() == "7e01c36affa200" + request.hex()
    assert peek(H("7e01c36affa200") + request) == request


def test_every_octet_counts() -> None:
    ue, amf = pair()
    ue.unprotect(amf.protect(STATUS, "3gpp"), "3gpp")
    good = amf.protect(DL, "3gpp")
    for octet in range(2, len(good)):
        changed = bytearray(good)
        changed[octet] ^= 0x40
        with pytest.raises(WrongMac):
            ue.unprotect(bytes(changed), "3gpp")
    assert ue.unprotect(good, "3gpp").count == 1


@pytest.mark.parametrize("sender", Role)
def test_changed_header_type(sender: Role) -> None:
    """The type is outside the MAC. Whatever it is changed to, the message is refused and the true one still counts."""
    plains = {Sht.CIPHERED: DL, Sht.INTEGRITY_NEW: H("7e005d220002a020")}
    if sender is Role.UE:
        plains = {Sht.CIPHERED: DL, Sht.CIPHERED_NEW: H("7e005e"), Sht.INTEGRITY: H("7e004179000d0100f110f0ff00000000000010")}
    for ciphering in (0, 2):
        ends = pair(ciphering=ciphering)
        out, into = ends if sender is Role.UE else ends[::-1]
        for true, plain in plains.items():
            good = out.protect(plain, "3gpp", true)
            for sht in range(256):
                if sht == true:
                    continue
                try:
                    opened = into.unprotect(bytes((good[0], sht)) + good[2:], "3gpp")
                except (NotProtected, UnexpectedHeaderType):
                    continue
                # Without ciphering, 1 and 2 differ in nothing but the type, for what may come either way.
                assert ciphering == 0 and {sht, true} == {Sht.INTEGRITY, Sht.CIPHERED} and opened.plain == plain
                break
            else:
                assert into.unprotect(good, "3gpp").plain == plain


def test_replay_and_older() -> None:
    ue, amf = pair()
    first, second, third = (amf.protect(STATUS, "3gpp") for _ in range(3))
    ue.unprotect(first, "3gpp")
    ue.unprotect(third, "3gpp")
    for old in (first, second, third):
        with pytest.raises(Replayed):
            ue.unprotect(old, "3gpp")
    assert ue.unprotect(amf.protect(STATUS, "3gpp"), "3gpp").count == 3


def test_wrong_direction_and_access() -> None:
    ue, amf = pair()
    with pytest.raises(WrongMac):
        amf.unprotect(amf.protect(STATUS, "3gpp"), "3gpp")
    with pytest.raises(WrongMac):
        ue.unprotect(amf.protect(STATUS, "3gpp"), "non-3gpp")
    assert ue.unprotect(amf.protect(STATUS, "non-3gpp"), "non-3gpp").count == 0


def test_sequence_number_overflow_with_losses() -> None:
    ue, amf = pair()
    for n in range(700):
        pdu = amf.protect(STATUS, "3gpp")
        if n % 200 == 0:  # up to 199 in a row are lost
            opened = ue.unprotect(pdu, "3gpp")
            assert opened.count == n and opened.plain == STATUS
    with pytest.raises(Replayed):
        ue.unprotect(_with_count(500), "3gpp")


def _with_count(count: int) -> bytes:
    amf = NasSecurityContext(K_AMF, 0, Role.AMF)
    for _ in range(count):
        amf.protect(STATUS, "3gpp")
    return amf.protect(STATUS, "3gpp")


def test_count_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fiveg.nas_security.COUNT_LIMIT", 0x500)
    monkeypatch.setattr("fiveg.nas_security.COUNT_RESERVE", 0x100)
    ue, amf = pair()
    sent = [amf.protect(STATUS, "3gpp") for _ in range(0x500)]
    assert len(set(sent)) == len(sent) and amf.exhausting and not ue.exhausting
    with pytest.raises(CountExhausted):
        amf.protect(STATUS, "3gpp")
    amf.protect(STATUS, "non-3gpp")
    for pdu in sent[::0x80]:
        ue.unprotect(pdu, "3gpp")
    ue.unprotect(sent[-1], "3gpp")
    assert ue.exhausting
    with pytest.raises(Replayed):  # the estimate beyond the limit is not even tried
        ue.unprotect(sent[0x490], "3gpp")
    assert COUNT_LIMIT == 1 << 24


@pytest.mark.parametrize(
    ("sender", "sht", "plain", "error"),
    [
        (Role.AMF, Sht.INTEGRITY, STATUS, UnexpectedHeaderType),
        (Role.AMF, Sht.INTEGRITY_NEW, STATUS, UnexpectedHeaderType),
        (Role.AMF, Sht.CIPHERED_NEW, STATUS, UnexpectedHeaderType),
        (Role.AMF, Sht.CIPHERED, H("7e005d2200"), UnexpectedHeaderType),
        (Role.UE, Sht.INTEGRITY, STATUS, UnexpectedHeaderType),
        (Role.UE, Sht.CIPHERED, H("7e005e"), UnexpectedHeaderType),
        (Role.UE, Sht.INTEGRITY_NEW, H("7e005d2200"), UnexpectedHeaderType),
        (Role.UE, Sht.CIPHERED, H("2e0501d6"), NotProtected),
        (Role.UE, Sht.CIPHERED, H("7e02646f"), NotProtected),
    ],
)
def test_header_types(sender: Role, sht: Sht, plain: bytes, error: type[Exception]) -> None:
    ue, amf = pair()
    out, into = (ue, amf) if sender is Role.UE else (amf, ue)
    with pytest.raises(error):
        into.unprotect(out.protect(plain, "3gpp", sht), "3gpp")
    assert into.unprotect(out.protect(STATUS, "3gpp"), "3gpp").plain == STATUS


@pytest.mark.parametrize("pdu", [b"", b"\x7e", b"\x7e\x02", H("7e0264"), H("7e05") + bytes(20), b"\x2e" + bytes(20), STATUS])
def test_not_protected(pdu: bytes) -> None:
    ue, _ = pair()
    with pytest.raises(NotProtected):
        ue.unprotect(pdu, "3gpp")


def test_security_mode_types() -> None:
    ue, amf = pair()
    command, complete = H("7e005d220002a020"), H("7e005e")
    pdu = amf.protect(command, "3gpp", Sht.INTEGRITY_NEW)
    assert peek(pdu) == command
    assert ue.unprotect(pdu, "3gpp").plain == command
    pdu = ue.protect(complete, "3gpp", Sht.CIPHERED_NEW)
    assert complete not in pdu
    assert amf.unprotect(pdu, "3gpp").plain == complete
    with pytest.raises(NotProtected):
        peek(pdu)


def test_null_ciphering_is_integrity_only() -> None:
    ue, amf = pair(ciphering=0)
    pdu = amf.protect(DL, "3gpp")
    assert pdu.endswith(DL) and ue.unprotect(pdu, "3gpp").plain == DL
    assert not ue.key_delivery_allowed and pair()[0].key_delivery_allowed
    for algorithms in ({"integrity": 0}, {"ciphering": 1}, {"integrity": 3}):
        with pytest.raises(NasSecurityError):
            pair(**algorithms)


def test_nothing_shows_keys() -> None:
    ue, _ = pair()
    assert K_AMF.hex() not in repr(ue) and "daae" not in repr(vars(ue).keys())


def test_nothing_shows_what_was_opened() -> None:
    """In mode `delivered` the message holds the key."""
    ue, amf = pair()
    delivered = H("7e00680d003101012100000001020020") + K_AMF + H("03000400000e101205")
    opened = ue.unprotect(amf.protect(delivered, "3gpp"), "3gpp")
    assert opened.plain == delivered  # the canary: it is there, and not shown
    message = gmm.decode(opened.plain)
    assert isinstance(message, gmm.DlNasTransport) and K_AMF in message.payload
    up = gmm.UlNasTransport(payload_type=13, payload=message.payload)
    for text in (repr(opened), repr(message), str(message), repr(up), f"{[message]}"):
        assert repr(K_AMF)[2:12] not in text and K_AMF.hex()[:8] not in text
