"""HKDF and the key schedule against published vectors: RFC 5869 appendix A, RFC 8448 §3 and §4, RFC 9001 appendix A.

The packets of RFC 9001 appendix A are in tests/native; the whole PSK handshake is in test_mpquic_tls_vectors.py.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mpquic.key_schedule import KeySchedule, hkdf_expand_label, hkdf_extract
from mpquic.tls import x25519_public, x25519_shared
from mpquic.tls_messages import ClientHello, ServerHello

H = bytes.fromhex


def expand(hash_name: str, secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869 §2.3) on the standard library's HMAC: what the engine's is held against."""
    out = block = b""
    for counter in range(1, 256):
        if len(out) >= length:
            break
        block = hmac.digest(secret, block + info + bytes([counter]), hash_name)
        out += block
    return out[:length]


@pytest.mark.parametrize(
    ("ikm", "salt", "info", "length", "prk", "okm"),
    [
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            42,
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            82,
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
            "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            42,
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
    ids=["A.1", "A.2", "A.3"],
)
def test_rfc_5869(ikm: bytes, salt: bytes, info: bytes, length: int, prk: str, okm: str) -> None:
    assert hkdf_extract("sha256", salt, ikm) == H(prk)
    assert expand("sha256", H(prk), info, length) == H(okm)


@given(
    st.sampled_from(("sha256", "sha384")),
    st.binary(min_size=48, max_size=48),
    st.text("abc xyz", max_size=249),
    st.binary(max_size=255),
    st.integers(0, 700),
)
def test_labels_are_as_with_another_hmac(hash_name: str, octets: bytes, label: str, context: bytes, length: int) -> None:
    secret = octets[: hashlib.new(hash_name).digest_size]
    full = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + bytes([len(context)]) + context
    assert hkdf_expand_label(hash_name, secret, label, context, length) == expand(hash_name, secret, info, length)


@given(st.sampled_from(("sha256", "sha384")), st.binary(max_size=300), st.binary(max_size=300))
def test_extracts_are_as_with_another_hmac(hash_name: str, salt: bytes, ikm: bytes) -> None:
    assert hkdf_extract(hash_name, salt, ikm) == hmac.digest(salt, ikm, hash_name)
    assert hkdf_extract(hash_name, salt, bytearray(ikm)) == hmac.digest(salt, ikm, hash_name)


@pytest.mark.parametrize(
    ("secret", "label", "context", "length"),
    [
        (bytes(31), "key", b"", 16),
        (bytes(33), "key", b"", 16),
        (bytes(32), "k" * 250, b"", 16),
        (bytes(32), "key", bytes(256), 16),
        (bytes(32), "key", b"", 255 * 32 + 1),
    ],
)
def test_what_cannot_be_expanded(secret: bytes, label: str, context: bytes, length: int) -> None:
    with pytest.raises(ValueError, match="octets"):
        hkdf_expand_label("sha256", secret, label, context, length)


@pytest.mark.parametrize(("base", "context"), [(31, 32), (32, 31), (48, 48)])
def test_finished_reads_nothing_beyond_its_octets(base: int, context: int) -> None:
    """The engine takes both as long as the hash is."""
    schedule = KeySchedule("sha256", bytes(32))
    with pytest.raises(ValueError, match="octets"):
        schedule.finished(bytes(base), bytes(context))


# ---- RFC 8448 §3, without its certificate: what it covers is given as a hash

CLIENT_HELLO = H(
    "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113031302010000910000000b000900"
    "0006736572766572ff01000100000a00140012001d0017001800190100010101020103010400230000003300260024001d002099381de560e4bd"
    "43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c002b0003020304000d0020001e0403050306030203080408050806040105010601"
    "02010402050206020202002d00020101001c00024001"
)
SERVER_HELLO = H(
    "020000560303a6af06a4121860dc5e6e60249cd34c95930c8ac5cb1434dac155772ed3e2692800130100002e00330024001d0020c98288761120"
    "95fe66762bdbf7c672e156d6cc253b833df1dd69b1b04e751f0f002b00020304"
)
CLIENT_PRIVATE = H("49af42ba7f7994852d713ef2784bcbcaa7911de26adc5642cb634540e7ea5005")
SERVER_PRIVATE = H("b1580eeadf6dd589b8ef4f2d5652578cc810e9980191ec8d058308cea216a21e")
TO_SERVER_FINISHED = H("9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13")
TO_CLIENT_FINISHED = H("209145a96ee8e2a122ff810047cc952684658d6049e86429426db87c54ad143d")
RESUMPTION_PSK = H("4ecd0eb6ec3b4d87f5d6028f922ca4c5851a277fd41311c9e62d2c9492e1c4f3")


def test_rfc_8448_simple_handshake() -> None:
    """Key exchange, secrets of all stages, traffic keys, the client's Finished, the resumption PSK."""
    client, server = (X25519PrivateKey.from_private_bytes(octets) for octets in (CLIENT_PRIVATE, SERVER_PRIVATE))
    share = ServerHello.decode(SERVER_HELLO[4:]).key_share
    assert share == (0x1D, x25519_public(server))
    assert ClientHello.decode(CLIENT_HELLO[4:]).key_shares == [(0x1D, x25519_public(client))]
    shared = x25519_shared(client, share[1])
    assert shared == x25519_shared(server, x25519_public(client))
    assert shared == H("8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d")

    schedule = KeySchedule("sha256", bytes(32))
    assert schedule.secret == H("33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a")
    schedule.update(CLIENT_HELLO)
    schedule.update(SERVER_HELLO)
    assert schedule.transcript() == H("860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8")
    schedule.advance(shared)
    assert schedule.secret == H("1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac")
    ours, theirs = schedule.derive("c hs traffic"), schedule.derive("s hs traffic")
    assert ours == H("b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21")
    assert theirs == H("b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38")
    assert hkdf_expand_label("sha256", theirs, "key", b"", 16) == H("3fce516009c21727d0f2e4e86ee403bc")
    assert hkdf_expand_label("sha256", theirs, "iv", b"", 12) == H("5d313eb2671276ee13000b30")
    finished = schedule.finished(ours, TO_SERVER_FINISHED)
    assert finished == H("a8ec436d677634ae525ac1fcebe11a039ec17694fac6e98527b642f2edd5ce61")

    schedule.advance(None)
    assert schedule.secret == H("18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919")
    ours, theirs = (schedule.derive(label, TO_SERVER_FINISHED) for label in ("c ap traffic", "s ap traffic"))
    assert ours == H("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5")
    assert theirs == H("a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643")
    resumption = schedule.derive("res master", TO_CLIENT_FINISHED)
    assert resumption == H("7df235f2031d2a051287d02b0241b0bfdaf86cc856231f2d5aba46c434ec196c")
    assert hkdf_expand_label("sha256", resumption, "resumption", b"\0\0", 32) == RESUMPTION_PSK


# ---- RFC 8448 §4: a PSK

RESUMED_HELLO = H(
    "010001fc03031bc3ceb6bbe39cff938355b5a50adb6db21b7a6af649d7b4bc419d7876487d95000006130113031302010001cd0000000b000900"
    "0006736572766572ff01000100000a00140012001d00170018001901000101010201030104003300260024001d0020e4ffb68ac05f8d96c99da2"
    "6698346c6be16482badddafe051a66b4f18d668f0b002a0000002b0003020304000d0020001e0403050306030203080408050806040105010601"
    "02010402050206020202002d00020101001c0002400100150057" + "00" * 87 + "002900dd00b800b22c035d829359ee5ff7af4ec900000000"
    "262a6494dc486d2c8a34cb33fa90bf1b0070ad3c498883c9367c09a2be785abc55cd226097a3a982117283f82a03a143efd3ff5dd36d64e861be"
    "7fd61d2827db279cce145077d454a3664d4e6da4d29ee03725a6a4dafcd0fc67d2aea70529513e3da2677fa5906c5b3f7d8f92f228bda40dda72"
    "1470f9fbf297b5aea617646fac5c03272e970727c621a79141ef5f7de6505e5bfbc388e93343694093934ae4d357fad6aacb0021203add4fb2d8"
    "fdf822a0ca3cf7678ef5e88dae990141c5924d57bb6fa31b9e5f9d"
)


def test_rfc_8448_binder() -> None:
    """The binder as our server checks it: over its own parse of the message. Only the label is not ours."""
    schedule = KeySchedule("sha256", RESUMPTION_PSK)
    assert schedule.secret == H("9b2188e9b2fc6d64d71dc329900e20bb41915000f678aa839cbb797cb7d8332c")
    key = schedule.derive("res binder", schedule.empty_hash())
    assert key == H("69fe131a3bbad5d63c64eebcc30e395b9d8107726a13d074e389dbc8a4e47256")
    assert hkdf_expand_label("sha256", key, "finished", b"", 32) == H(
        "5588673e72cb59c87d220caffe94f2dea9a3b1609f7d50e90a48227db9ed7eaa"
    )
    hello = ClientHello.decode(RESUMED_HELLO[4:])
    assert hello.early_data and hello.psk_modes == [1] and hello.identities is not None
    truncated = RESUMED_HELLO[: -hello.binders_length]
    assert len(truncated) == 477
    assert hashlib.sha256(truncated).digest() == H("63224b2e4573f2d3454ca84b9d009a04f6be9e05711a8396473aefa01e924a14")
    assert [schedule.binder("res binder", truncated)] == hello.binders
    schedule.update(RESUMED_HELLO)
    assert schedule.derive("c e traffic") == H("3fbbe6a60deb66c30a32795aba0eff7eaa10105586e7be5c09678d63b6caab62")


# ---- RFC 9001 appendix A: QUIC's labels


def test_rfc_9001_initial_secrets() -> None:
    initial = hkdf_extract("sha256", H("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"), H("8394c8f03e515708"))
    assert initial == H("7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44")
    wanted = {
        "client in": (
            "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
            "9f50449e04a0e810283a1e9933adedd2",
        ),
        "server in": (
            "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b",
            "cf3a5331653c364c88f0f379b6067e37",
            "0ac1493ca1905853b0bba03e",
            "c206b8d9b9f0f37644430b490eeaa314",
        ),
    }
    for label, (secret, *keys) in wanted.items():
        derived = hkdf_expand_label("sha256", initial, label, b"", 32)
        assert derived == H(secret)
        for name, key in zip(("quic key", "quic iv", "quic hp"), keys, strict=True):
            assert hkdf_expand_label("sha256", derived, name, b"", len(key) // 2) == H(key)


def test_rfc_9001_key_update_secret() -> None:
    secret = H("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
    assert hkdf_expand_label("sha256", secret, "quic ku", b"", 32) == H(
        "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9"
    )
