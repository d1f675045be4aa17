"""AEAD and header protection against published and own known answers, every backend."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from pathlib import Path
from typing import Any

import aead_vectors as kat
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from native._engine import ffi, lib

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
AES128, AES256, CHACHA = 0x1301, 0x1302, 0x1303
BACKENDS = [ffi.string(lib.aead_backend_name(i)) for i in range(lib.aead_backend_count())]
NONE = 2**64 - 1


def has(backend: bytes, suite: int) -> bool:
    """The vaes backends are AES-GCM only."""
    return not backend.startswith(b"vaes") or suite != CHACHA


AES_KEY = ("c208c1a9799a5661d762c45ebd2b4afa", "034ee762e72c516cae653e91", "1a0fd81cacab21e360a570b6206d5449")
NEXT_KEY = ("b02c075e549523afed227340f5695a5e", "e0869970e03aea294c6029bd", AES_KEY[2])
CHACHA_KEY = (
    "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8",
    "e0459b3474bdd0e44a41c144",
    "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4",
)


def key_raw(backend: bytes, suite: int, key: bytes, iv: bytes, hp: bytes) -> object:
    k = lib.aead_key_new_raw(backend, suite, key, iv, hp)
    assert k != ffi.NULL
    return ffi.gc(k, lib.aead_key_free)


def key_of(backend: bytes, suite: int, secret: bytes) -> object:
    k = lib.aead_key_new(backend, suite, secret, len(secret))
    assert k != ffi.NULL
    return ffi.gc(k, lib.aead_key_free)


def seal(key: object, header: bytes, payload: bytes, pn: int, path: int = 0) -> bytes:
    buffer = ffi.new("uint8_t[]", header + payload + bytes(16))
    n = lib.packet_seal(key, buffer, len(header), (header[0] & 3) + 1, len(payload), path, pn)
    assert n == len(header) + len(payload) + 16
    return bytes(ffi.buffer(buffer, n))


def open_(key: object, packet: bytes, pn_offset: int, path: int = 0, largest: int = NONE) -> tuple[bytes, bytes, int] | int:
    buffer, pn, header = ffi.new("uint8_t[]", packet), ffi.new("uint64_t *"), ffi.new("size_t *")
    n = lib.packet_open(key, buffer, len(packet), pn_offset, path, largest, pn, header)
    if n < 0:
        assert bytes(buffer[0:pn_offset]) == packet[:pn_offset]
        return n
    return bytes(buffer[0 : header[0]]), bytes(buffer[header[0] : header[0] + n]), pn[0]


PACKETS = [
    pytest.param(AES128, kat.CLIENT_SECRET, kat.A2_HEADER, kat.A2_CRYPTO + bytes(917), 2, 0, kat.A2_PACKET, id="rfc9001-a2"),
    pytest.param(AES128, kat.SERVER_SECRET, kat.A3_HEADER, kat.A3_PAYLOAD, 1, 0, kat.A3_PACKET, id="rfc9001-a3"),
    pytest.param(
        CHACHA,
        kat.A5_SECRET,
        bytes.fromhex("4200bff4"),
        b"\x01",
        654360564,
        0,
        bytes.fromhex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb"),
        id="rfc9001-a5",
    ),
    pytest.param(
        AES128,
        AES_KEY,
        bytes.fromhex("40f067a5502a4262b500"),
        bytes.fromhex("1a0102030405060708"),
        0,
        0,
        bytes.fromhex("40f067a5502a4262b5a92f06b1e5bbe026f9777e0cf6f4de984b518f5bac0a1de14eae"),
        id="path0",
    ),
    pytest.param(
        AES128,
        AES_KEY,
        bytes.fromhex("41f067a5502a4262b5d431"),
        bytes.fromhex("3e0340640000101a0102030405060708"),
        54321,
        3,
        bytes.fromhex("58f067a5502a4262b5ce7a9c2e5e29fb13a97781b5f420203e22f6c75bc96093e40ea585b6b3b6cd7fb1d7"),
        id="path3",
    ),
    pytest.param(
        AES128,
        NEXT_KEY,
        bytes.fromhex("45f067a5502a4262b5d432"),
        bytes.fromhex("30000045"),
        54322,
        3,
        bytes.fromhex("52f067a5502a4262b5b342ca64790fa241973c69f908bebb0ee8590ef91ab1"),
        id="path3-phase1",
    ),
    pytest.param(
        CHACHA,
        CHACHA_KEY,
        bytes.fromhex("42f067a5502a4262b500bff4"),
        b"\x01",
        654360564,
        3,
        bytes.fromhex("53f067a5502a4262b5ecb725ccf5cdc885f3c7ede54c2b25fc913a7ec8"),
        id="path3-chacha",
    ),
]


@pytest.mark.parametrize(
    ("backend", "suite", "keys", "header", "payload", "pn", "path", "packet"),
    [pytest.param(b, *p.values, id=f"{b.decode()}-{p.id}") for b in BACKENDS for p in PACKETS if has(b, p.values[0])],
)
def test_packet_vectors(
    backend: bytes, suite: int, keys: Any, header: bytes, payload: bytes, pn: int, path: int, packet: bytes
) -> None:
    key = key_of(backend, suite, keys) if isinstance(keys, bytes) else key_raw(backend, suite, *map(bytes.fromhex, keys))
    assert seal(key, header, payload, pn, path) == packet
    pn_offset = len(header) - (header[0] & 3) - 1
    assert open_(key, packet, pn_offset, path, pn - 1 if pn else NONE) == (header, payload, pn)
    # another path is another nonce (RFC 10069 §2.4); one bit anywhere is another packet
    assert open_(key, packet, pn_offset, path + 1, pn - 1 if pn else NONE) == -lib.ENGINE_E_CRYPTO
    for at in {0, pn_offset, len(header), len(packet) - 1}:
        changed = bytearray(packet)
        changed[at] ^= 0x01 if at == 0 else 0x80
        result = open_(key, bytes(changed), pn_offset, path, pn - 1 if pn else NONE)
        assert isinstance(result, int) and result < 0


@pytest.mark.parametrize(
    ("backend", "name"),
    [(b, "aes_gcm") for b in BACKENDS] + [(b, "chacha20_poly1305") for b in BACKENDS if has(b, CHACHA)],
)
def test_wycheproof(backend: bytes, name: str) -> None:
    ran = 0
    for group in json.loads((VECTORS / f"wycheproof_{name}.json").read_text())["testGroups"]:
        if group["ivSize"] != 96 or group["tagSize"] != 128 or group["keySize"] == 192:
            continue
        suite = CHACHA if name.startswith("chacha") else AES128 if group["keySize"] == 128 else AES256
        for case in group["tests"]:
            raw, iv, aad, msg, ct, tag = (bytes.fromhex(case[k]) for k in ("key", "iv", "aad", "msg", "ct", "tag"))
            key = key_raw(backend, suite, raw, bytes(12), bytes(32))
            out = ffi.new("uint8_t[]", b"\xaa" * (len(ct) + 16))
            n = lib.aead_open_raw(key, iv, aad, len(aad), ct + tag, len(ct) + 16, out)
            if case["result"] == "valid":
                assert bytes(out[0:n]) == msg, case["tcId"]
                n = lib.aead_seal_raw(key, iv, aad, len(aad), msg, len(msg), out)
                assert bytes(out[0:n]) == ct + tag, case["tcId"]
            else:
                assert n == -lib.ENGINE_E_CRYPTO, case["tcId"]
                assert bytes(out[0 : len(ct)]) == bytes(len(ct)), "plaintext of a forged text was kept"
            ran += 1
    # all of 96-bit nonces and QUIC's key sizes; the file's others are of sizes that no suite of ours has
    assert ran == {"aes_gcm": 133, "chacha20_poly1305": 316}[name]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_nonce_example_of_rfc_10069(backend: bytes) -> None:
    """§2.4: IV 6b26114b9cba2b63a9e8dd4f, path 3, packet number 54321 give nonce 6b2611489cba2b63a9e8097e."""
    secret, header = bytes(range(16)), bytes.fromhex("41f067a5502a4262b5d431")
    key = key_raw(backend, AES128, secret, bytes.fromhex("6b26114b9cba2b63a9e8dd4f"), secret)
    packet = seal(key, header, b"sixteen octets, at least", 54321, 3)
    expected = AESGCM(secret).encrypt(bytes.fromhex("6b2611489cba2b63a9e8097e"), b"sixteen octets, at least", header)
    assert packet[len(header) :] == expected


@pytest.mark.parametrize(("backend", "suite"), [(b, s) for b in BACKENDS for s in (AES128, AES256, CHACHA) if has(b, s)])
def test_all_lengths_equal_another_implementation(backend: bytes, suite: int) -> None:
    raw = os.urandom(16 if suite == AES128 else 32)
    key = key_raw(backend, suite, raw, bytes(12), raw)
    other = ChaCha20Poly1305(raw) if suite == CHACHA else AESGCM(raw)
    text = os.urandom(9000)
    out = ffi.new("uint8_t[]", 9100)
    ffi.memmove(out, b"\xa5" * 9100, 9100)
    for n in sorted([*range(560), *range(560, 1700, 13), 1314, 1350, 1424, 1500, 4096, 9000]):  # what is behind was never written
        nonce, aad = os.urandom(12), os.urandom(n % 41)
        expected = other.encrypt(nonce, text[:n], aad)
        assert lib.aead_seal_raw(key, nonce, aad, len(aad), text, n, out) == n + 16
        assert bytes(out[0 : n + 16]) == expected, n
        assert lib.aead_open_raw(key, nonce, aad, len(aad), expected, n + 16, out) == n
        assert bytes(out[0:n]) == text[:n], n
        assert bytes(out[n + 16 : 9100]) == b"\xa5" * (9084 - n), n


@pytest.mark.parametrize(("backend", "suite"), [(b, s) for b in BACKENDS for s in (AES128, AES256, CHACHA) if has(b, s)])
def test_nothing_is_read_or_written_beyond_the_packet(backend: bytes, suite: int) -> None:
    """In place, in front of a page that may not be touched, and behind octets that must stay."""
    raw = bytes(range(16 if suite == AES128 else 32))
    key = key_raw(backend, suite, raw, bytes(12), raw)
    room = mmap.mmap(-1, 3 * mmap.PAGESIZE)
    memory = ffi.from_buffer("uint8_t[]", room)
    end = 2 * mmap.PAGESIZE
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(int(ffi.cast("uintptr_t", memory + end))), mmap.PAGESIZE, 0) == 0  # PROT_NONE
    for n in [*range(1, 300), 1350, 1404]:
        at = end - n - 16
        room[at - 8 : at] = b"in front"
        room[at : at + n] = bytes(i & 0xFF for i in range(n))
        text = memory + at
        assert lib.aead_seal_raw(key, bytes(12), b"", 0, text, n, text) == n + 16
        assert room[at - 8 : at] == b"in front"
        assert lib.aead_open_raw(key, bytes(12), b"", 0, text, n + 16, text) == n
        assert room[at - 8 : at + n] == b"in front" + bytes(i & 0xFF for i in range(n))


@given(
    suite=st.sampled_from([AES128, AES256, CHACHA]),
    header=st.integers(5, 60),
    payload=st.binary(min_size=4, max_size=1500),
    pn=st.integers(0, 2**62 - 1),
    path=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_round_trip_between_backends(suite: int, header: int, payload: bytes, pn: int, path: int) -> None:
    raw = bytes(range(32))
    first = bytes([0x43, *(i & 0xFF for i in range(header - 5)), *(pn & 0xFFFFFFFF).to_bytes(4, "big")])
    packets = set()
    keys = [lib.aead_key_new_raw(b, suite, raw, raw[:12], raw) for b in BACKENDS]
    keys = [ffi.gc(k, lib.aead_key_free) for k in keys if k != ffi.NULL]
    for key in keys:
        packets.add(seal(key, first, payload, pn, path))
    assert len(packets) == 1
    for key in keys:
        assert open_(key, next(iter(packets)), header - 4, path, max(pn - 1, 0)) == (first, payload, pn)


@pytest.mark.parametrize("backend", BACKENDS)
def test_refusals(backend: bytes) -> None:
    key = key_of(backend, AES128, bytes(32))
    buffer, pn, size = ffi.new("uint8_t[]", 100), ffi.new("uint64_t *"), ffi.new("size_t *")
    assert lib.packet_open(key, buffer, 28, 9, 0, NONE, pn, size) == -lib.ENGINE_E_ARGUMENT  # no room for the sample
    assert lib.packet_seal(key, buffer, 10, 5, 20, 0, 0) == -lib.ENGINE_E_ARGUMENT
    assert lib.packet_seal(key, buffer, 10, 1, 20, 0, 2**62) == -lib.ENGINE_E_ARGUMENT
    assert lib.aead_open_raw(key, bytes(12), b"", 0, bytes(15), 15, buffer) == -lib.ENGINE_E_ARGUMENT
    assert lib.aead_key_new(backend, AES256, bytes(32), 32) == ffi.NULL  # SHA-384 has secrets of 48 octets
    assert lib.aead_key_new(backend, 0x1304, bytes(32), 32) == ffi.NULL
    assert lib.aead_key_new(b"none", AES128, bytes(32), 32) == ffi.NULL


def test_force_backend() -> None:
    assert lib.aead_backend_force(b"no such") == -lib.ENGINE_E_ARGUMENT
    assert lib.aead_backend_force(b"openssl") == 0
    assert lib.aead_backend_force(ffi.NULL) == 0
    assert b"openssl" in BACKENDS
