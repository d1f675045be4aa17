"""NAS as captured, deciphered with the keys of the run's file: written by the UE's and the AMF's own security contexts, cut into
TCP segments in any way."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiveg.keys import NAS_ENCRYPTION, NAS_INTEGRITY, nas_key
from fiveg.nas.envelope import envelope
from fiveg.nas_security import NEA0, NEA2, NIA2, NasSecurityContext, Role, Sht
from lab.decrypt_nas import NasPdu, NasReader, load_nas_keys
from lab.packets.link import TCP, Flow

K_AMF = bytes(range(32))
PORTS = {"3gpp": 38412, "non-3gpp": 38413}
STATUS, REQUEST = bytes.fromhex("7e00646f"), bytes.fromhex("7e004179000d0100f110f0ff000000000000102e02a020")
UE, AMF = b"\x0a\x01\0\x02", b"\x0a\x5a\0\x0a"


def key_file(place: Path, *contexts: tuple[bytes, int]) -> Path:
    path = place / "nas.keys"
    path.write_text("".join(json.dumps({"ue": "ue", "k_nas_enc": nas_key(k, NAS_ENCRYPTION, cipher).hex(),
                                        "k_nas_int": nas_key(k, NAS_INTEGRITY, NIA2).hex()}) + "\n" for k, cipher in contexts))
    return path


def flow(up: bool, access: str, sequence: int, payload: bytes, flags: int = 0x18) -> Flow:
    ends = (UE, AMF, TCP, 40000, PORTS[access]) if up else (AMF, UE, TCP, PORTS[access], 40000)
    return Flow(*ends, payload, False, sequence & 0xFFFFFFFF, flags)


def read(reader: NasReader, up: bool, access: str, pdus: list[bytes]) -> list[NasPdu]:
    """Each in a segment of its own."""
    out, at = [], 1000
    for number, pdu in enumerate(pdus):
        out += reader.feed(number, 0, flow(up, access, at, envelope(pdu)))
        at += len(envelope(pdu))
    return out


@pytest.mark.parametrize("access", PORTS)
@pytest.mark.parametrize("role", Role)
def test_both_ends_over_both_accesses(tmp_path: Path, access: str, role: Role) -> None:
    context = NasSecurityContext(K_AMF, 0, role)
    pdus = [context.protect(STATUS, access) for _ in range(3)]
    reader = NasReader(load_nas_keys(key_file(tmp_path, (K_AMF, NEA2))))
    found = read(reader, role is Role.UE, access, pdus)
    assert [(one.plain, one.reason, one.access, one.uplink) for one in found] == [(STATUS, "", access, role is Role.UE)] * 3
    assert not any(STATUS in pdu for pdu in pdus)           # canary: they were ciphered
    wrong = NasReader(load_nas_keys(key_file(tmp_path, (bytes(32), NEA2))))
    closed = read(wrong, role is Role.UE, access, pdus)
    assert {(one.plain, one.reason) for one in closed} == {(None, "its MAC verifies under no NAS keys of this run")}
    other = NasReader(load_nas_keys(tmp_path / "nas.keys"))
    assert {one.plain for one in read(other, role is not Role.UE, access, pdus)} == {None}      # the direction is in the MAC


def test_counts_beyond_an_octet_and_over_gaps(tmp_path: Path) -> None:
    """The sequence number is one octet of COUNT; what the capture swallowed moves the others on."""
    context = NasSecurityContext(K_AMF, 0, Role.UE)
    pdus = [context.protect(STATUS, "3gpp") for _ in range(900)]
    reader = NasReader(load_nas_keys(key_file(tmp_path, (K_AMF, NEA2))))
    kept = [*pdus[:3], *pdus[250:262], *pdus[700:705], pdus[899]]
    assert [one.plain for one in read(reader, True, "3gpp", kept)] == [STATUS] * len(kept)
    late = NasReader(load_nas_keys(tmp_path / "nas.keys"))
    assert [one.plain for one in read(late, True, "3gpp", pdus[800:])] == [STATUS] * 100      # a capture that starts late


def test_a_new_context_and_the_one_before_it(tmp_path: Path) -> None:
    """After a re-authentication messages under both keys may be on their way."""
    old, new = NasSecurityContext(K_AMF, 0, Role.AMF), NasSecurityContext(bytes(reversed(K_AMF)), 1, Role.AMF)
    pdus = [old.protect(STATUS, "3gpp"), new.protect(STATUS, "3gpp"), old.protect(STATUS, "non-3gpp"), new.protect(STATUS, "3gpp")]
    reader = NasReader(load_nas_keys(key_file(tmp_path, (K_AMF, NEA2), (bytes(reversed(K_AMF)), NEA2))))
    for access, some in (("3gpp", [pdus[0], pdus[1], pdus[3]]), ("non-3gpp", [pdus[2]])):
        assert [one.plain for one in read(reader, False, access, some)] == [STATUS] * len(some)
    only = NasReader(load_nas_keys(key_file(tmp_path, (K_AMF, NEA2))))
    assert [one.plain for one in read(only, False, "3gpp", [pdus[0], pdus[1]])] == [STATUS, None]


def test_the_null_cipher_is_not_deciphered(tmp_path: Path) -> None:
    """NEA0: the header type says ciphered, and what is inside stands there as it is."""
    context = NasSecurityContext(K_AMF, 0, Role.AMF, ciphering=NEA0)
    pdu = context.protect(STATUS, "3gpp")
    assert pdu[1] == Sht.CIPHERED and pdu.endswith(STATUS)
    reader = NasReader(load_nas_keys(key_file(tmp_path, (K_AMF, NEA0))))
    assert [one.plain for one in read(reader, False, "3gpp", [pdu])] == [STATUS]


def test_what_is_not_ciphered_needs_no_keys() -> None:
    context = NasSecurityContext(K_AMF, 0, Role.UE)
    plain, integrity = read(NasReader([]), True, "3gpp", [REQUEST, context.protect(REQUEST, "3gpp", Sht.INTEGRITY)])
    assert plain.plain == integrity.plain == REQUEST
    assert (plain.reason, integrity.reason) == ("", "no NAS keys")


BODIES = st.lists(st.binary(min_size=3, max_size=60), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(BODIES, st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_segments_of_any_size_in_any_order(bodies: list[bytes], start: int, dice: random.Random) -> None:
    """TCP may cut anywhere, send twice, and be captured out of order; sequence numbers wrap."""
    messages = [b"\x7e\0" + body for body in bodies]
    stream = b"".join(map(envelope, messages))
    cuts = sorted({0, len(stream), *(dice.randrange(len(stream)) for _ in range(5))})
    segments = [flow(True, "3gpp", start + 1 + a, stream[a:b]) for a, b in pairwise(cuts)]
    segments += dice.sample(segments, min(2, len(segments)))
    dice.shuffle(segments)
    reader = NasReader([])
    reader.feed(0, 0, flow(True, "3gpp", start, b"", flags=2))
    found = [one.plain for number, segment in enumerate(segments) for one in reader.feed(number, 0, segment)]
    assert found == messages and reader.problems == {}
