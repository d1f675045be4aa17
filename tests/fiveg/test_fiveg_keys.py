"""Known answers of the key chain: TS 35.208, TS 33.401 annex C, RFC 5448, and the chains of both test sets."""

from __future__ import annotations

import pytest

from fiveg import keys
from fiveg.aka import (
    AkaError,
    AutsRefused,
    MacFailure,
    SeparationBitZero,
    SynchFailure,
    Usim,
    authentication_vector,
    resynchronise,
)
from fiveg.kdf import KdfError, kdf
from fiveg.milenage import Milenage, MilenageError, opc_from_op

H = bytes.fromhex
P0 = bytes(range(32))
SET_1 = {
    "k": "465b5ce8b199b49faa5f0a2ee238a6bc",
    "rand": "23553cbe9637a89d218ae64dae47bf35",
    "sqn": "ff9bb4d0b607",
    "amf": "b9b9",
    "op": "cdc202d5123e20f62b6d676ac72cb318",
    "opc": "cd63cb71954a9f4e48a5994e37a02baf",
    "f1": "4a9ffac354dfafb3",
    "f1_star": "01cfaf9ec4e871e9",
    "f2": "a54211d5e3ba50bf",
    "f3": "b40ba9a3c58b2a05bbf0d987b21bf8cb",
    "f4": "f769bcd751044604127672711c6d3441",
    "f5": "aa689c648370",
    "f5_star": "451e8beca43b",
}
SET_2 = {
    "k": "0396eb317b6d1c36f19c1c84cd6ffd16", "rand": "c00d603103dcee52c4478119494202e8", "sqn": "fd8eef40df7d", "amf": "af17",
    "op": "ff53bade17df5d4e793073ce9d7579fa", "opc": "53c15671c60a4b731c55b4a441c0bde2", "f1": "5df5b31807e258b0",
    "f1_star": "a8c016e51ef4a343", "f2": "d3a628ed988620f0", "f3": "58c433ff7a7082acd424220f2b67c556",
    "f4": "21a8c1f929702adb3e738488b9f5c5da", "f5": "c47783995f72", "f5_star": "30f1197061c1",
}  # fmt: skip
SETS = {"1": SET_1, "2": SET_2} | {
    number: dict(zip(("k", "rand", "sqn", "amf", "op", "opc", "f1", "f1_star", "f2", "f5", "f3", "f4", "f5_star"),
                     values.split(), strict=True))
    for number, values in {
        "3": """fec86ba6eb707ed08905757b1bb44b8f 9f7c8d021accf4db213ccff0c7f71a6a 9d0277595ffc 725c
                dbc59adcb6f9a0ef735477b7fadf8374 1006020f0a478bf6b699f15c062e42b3 9cabc3e99baf7281 95814ba2b3044324
                8011c48c0c214ed2 33484dc2136b 5dbdbb2954e8f3cde665b046179a5098 59a92d3b476a0443487055cf88b2307b deacdd848cc6""",
        "4": """9e5944aea94b81165c82fbf9f32db751 ce83dbc54ac0274a157c17f80d017bd6 0b604a81eca8 9e09
                223014c5806694c007ca1eeef57f004f a64a507ae1a2a98bb88eb4210135dc87 74a58220cba84c49 ac2cc74a96871837
                f365cd683cd92e96 f0b9c08ad02e e203edb3971574f5a94b0d61b816345d 0c4524adeac041c4dd830d20854fc46b 6085a86c6f63""",
        "5": """4ab1deb05ca6ceb051fc98e77d026a84 74b0cd6031a1c8339b2b6ce2b8c4a186 e880a1b580b6 9f07
                2d16c5cd1fdf6b22383584e3bef2a8d8 dcf07cbd51855290b92a07a9891e523e 49e785dd12626ef2 9e85790336bb3fa2
                5860fc1bce351e7e 31e11a609118 7657766b373d1c2138f307e3de9242f9 1c42e960d89b8fa99f2744e0708ccb53 fe2555e54aa9""",
        "6": """6c38a116ac280c454f59332ee35c8c4f ee6466bc96202c5a557abbeff8babf63 414b98222181 4464
                1ba00a1a7c6700ac8c3ff3e96ad08725 3803ef5363b947c6aaa225e58fae3934 078adfb488241a57 80246b8d0186bcf1
                16c8233f05a0ac28 45b0f69ab06c 3f8c7587fe8e4b233af676aede30ba3b a7466cc1e6b2a1337d49d3b66e95d7b4 1f53cd2b1113""",
    }.items()
}  # fmt: skip
CHAIN_A = {
    "set": SET_1, "snn": ("001", "01"), "supi": "001010000000001", "autn": "55f328b43577800059bcea576837152b",
    "k_ausf": "474698caf02cc715db2ec0726510cfee6caa5bb1a649cb01224f2e23af94de1b",
    "res_star": "f236a7417272bfb2d66d4d670733b527", "hres_star": "20a71900b01776bfd773e8c15a825446",
    "k_seaf": "8dff166c02edd5b177950d50cdd3fe93756cc53951856a95cb5ee9aabd35e220",
    "k_amf": "daae216bc3dc9c6e0db9e56d2b744ea247d67eed51fdf2411847d056ec45a666",
    "enc": "d4c73a6303aa6b0cae734c0518134f1e", "int": "06c661bdcb505f1690bea90685d939f5",
    "k_mpquic": "b6af50be041c41bfff74a45cb190fe497d2c29575874cb11a78ebf7fa0ba6b5e",
    "identity": "252f07df777784aad2d4aaf1f48108e3",
}  # fmt: skip
CHAIN_B = {
    "set": SET_2, "snn": ("310", "260"), "supi": "imsi-310260123456789", "autn": "39f96cd9800f8000e168b510e0af4840",
    "k_ausf": "e592b2987ea1a53c52d2486d7463dc3a53bc624283d7f26144fededbed210ea2",
    "res_star": "008dc823b6b82c1a8ab59cdfe787c721", "hres_star": "f4f1eefeb87dd983601a026f281ed265",
    "k_seaf": "99a5f797e4838d4e7372f93a008b83a87457f740428385cce1fde2cbe1764131",
    "k_amf": "d97a14bf2ae499e60b50e86a59aba63834478838de54327a60e54a81d83a4e23",
    "enc": "672603877e96fe1683a667f66e5f640e", "int": "56c07d0397a5e5bd7a905754b48a20b0",
    "k_mpquic": "d8ab6b74eb0904e4dfe87e7ca62bd83c4af2ac841bdc6b5ef0a95fe57517667f",
    "identity": "6bc535ad5b350948ee0ff71547fa0dbe",
}  # fmt: skip


def milenage_of(s: dict[str, str]) -> Milenage:
    return Milenage(H(s["k"]), H(s["opc"]))


@pytest.mark.parametrize("s", SETS.values(), ids=SETS)
def test_milenage(s: dict[str, str]) -> None:
    """TS 35.208 §4.3, all six sets"""
    m, rand, sqn, amf = milenage_of(s), H(s["rand"]), H(s["sqn"]), H(s["amf"])
    assert opc_from_op(H(s["k"]), H(s["op"])).hex() == s["opc"]
    assert m.f1(rand, sqn, amf).hex() == s["f1"]
    assert m.f1_star(rand, sqn, amf).hex() == s["f1_star"]
    for name in ("f2", "f3", "f4", "f5", "f5_star"):
        assert getattr(m, name)(rand).hex() == s[name], name


def test_kdf_alone() -> None:
    """RFC 5448 appendix C, case 1"""
    key = H("5349fbe098649f948f5d2e973a81c00f9744871ad32bf9bbd1dd5ce54e3e2e5a")
    out = kdf(key, b"\x20", b"WLAN", H("bb52e91c747a"))
    assert out.hex() == "0093962d0dd84aa5684b045c9edffa04ccfc230ca74fcc96c0a5d61164f5a76c"


@pytest.mark.parametrize("chain", [CHAIN_A, CHAIN_B], ids=["A", "B"])
def test_chain(chain: dict) -> None:
    s = chain["set"]
    snn = keys.snn(*chain["snn"])
    vector = authentication_vector(milenage_of(s), int(s["sqn"], 16), H(s["rand"]), snn)
    assert vector.autn.hex() == chain["autn"]
    assert vector.k_ausf.hex() == chain["k_ausf"]
    assert vector.xres_star.hex() == chain["res_star"]
    assert vector.hxres_star.hex() == chain["hres_star"]
    assert vector.k_seaf.hex() == chain["k_seaf"]
    k_amf = keys.k_amf(vector.k_seaf, chain["supi"])
    assert k_amf.hex() == chain["k_amf"]
    assert keys.nas_key(k_amf, keys.NAS_ENCRYPTION, 2).hex() == chain["enc"]
    assert keys.nas_key(k_amf, keys.NAS_INTEGRITY, 2).hex() == chain["int"]
    key = keys.k_mpquic(k_amf, P0)
    assert key.hex() == chain["k_mpquic"]
    assert keys.psk_identity(key).hex() == chain["identity"]
    usim = Usim(milenage_of(s), int(s["sqn"], 16) - 1)
    answer = usim.answer(vector.rand, vector.autn, snn)
    assert (answer.res_star, answer.k_seaf) == (vector.xres_star, vector.k_seaf)
    assert vector.matches(answer.res_star) and not vector.matches(bytes(16))


def test_variants_of_chain_a() -> None:
    k_amf = H(CHAIN_A["k_amf"])
    assert keys.snn("001", "01") == "5G:mnc001.mcc001.3gppnetwork.org"
    assert keys.fingerprint(H(CHAIN_A["k_mpquic"])) == "9c99b2bf"
    bound = "94303187a5287895089ca7979e6ba07b17ea68142ca40c2a095dc982ae91a467"
    for supi in ("001010000000001", "imsi-001010000000001"):
        assert keys.k_mpquic(k_amf, P0, session=(5, supi)).hex() == bound
    assert keys.k_amf_horizontal(k_amf, 1, 0).hex() == "2c799c7eb1646b2839d34fda1018a6a08bb988794a508f1e9dd6d1fa14ffde90"
    assert keys.k_amf_horizontal(k_amf, 0, 0).hex() == "98f98dcb827d79e676495a2c7aca81c29acc3ff0f425a16bb22981720b143101"
    assert keys.k_mpquic(k_amf, P0, fc=b"\xff\x01") != keys.k_mpquic(k_amf, P0)


def test_a_supi_is_bare_in_the_derivations() -> None:
    for prefix, bare in (("imsi-", "001010000000001"), ("nai-", "user@example.org")):
        assert keys.k_amf(bytes(32), prefix + bare) == keys.k_amf(bytes(32), bare)
        assert keys.supi_octets(prefix + bare) == bare.encode()


@pytest.mark.parametrize("fc", [b"", b"\xff", b"\xf0\x01", b"\xff\x01\x02"])
def test_fc_refused(fc: bytes) -> None:
    with pytest.raises(KdfError):
        kdf(bytes(32), fc, b"x")


def test_inputs_refused() -> None:
    with pytest.raises(KdfError):
        kdf(bytes(32), b"\x01", bytes(65536))
    for size in (0, 31, 33):
        with pytest.raises(KdfError):
            keys.k_mpquic(bytes(32), bytes(size))
    for psi in (0, 16, 255, 256):
        with pytest.raises(KdfError):
            keys.k_mpquic(bytes(32), P0, session=(psi, "001010000000001"))
    for plmn in (("1", "01"), ("001", "1"), ("0x1", "01"), ("٠٠١", "01")):
        with pytest.raises(KdfError):
            keys.snn(*plmn)
    with pytest.raises(MilenageError):
        Milenage(bytes(15), bytes(16))
    with pytest.raises(MilenageError):
        Milenage(bytes(16), bytes(16)).f2(bytes(15))


SNN = keys.snn("001", "01")
RAND = H(SET_1["rand"])


def test_wrong_autn() -> None:
    m = milenage_of(SET_1)
    autn = authentication_vector(m, 100, RAND, SNN).autn
    usim = Usim(m, 99)
    for octet in range(16):
        changed = bytearray(autn)
        changed[octet] ^= 1
        with pytest.raises(MacFailure) as e:
            usim.answer(RAND, bytes(changed), SNN)
        assert e.value.cause == 20
    for size in (0, 15, 17):
        with pytest.raises(MacFailure):
            usim.answer(RAND, autn[:size].ljust(size, b"\0"), SNN)
    assert usim.sqn == 99
    usim.answer(RAND, autn, SNN)
    assert usim.sqn == 100


def test_separation_bit() -> None:
    m = milenage_of(SET_1)
    sqn = (100).to_bytes(6, "big")
    autn = bytes(a ^ b for a, b in zip(sqn, m.f5(RAND), strict=True)) + b"\0\0" + m.f1(RAND, sqn, b"\0\0")
    with pytest.raises(SeparationBitZero) as e:
        Usim(m, 99).answer(RAND, autn, SNN)
    assert e.value.cause == 26


@pytest.mark.parametrize("sqn", [1, 99, 100, 101 + (1 << 28)])
def test_resynchronisation(sqn: int) -> None:
    m = milenage_of(SET_1)
    usim = Usim(m, 100)
    with pytest.raises(SynchFailure) as e:
        usim.answer(RAND, authentication_vector(m, sqn, RAND, SNN).autn, SNN)
    assert e.value.cause == 21 and usim.sqn == 100
    assert resynchronise(m, RAND, e.value.auts) == 100
    usim.answer(RAND, authentication_vector(m, 101, RAND, SNN).autn, SNN)
    for octet in range(14):
        changed = bytearray(e.value.auts)
        changed[octet] ^= 0x80
        with pytest.raises(AutsRefused):
            resynchronise(m, RAND, bytes(changed))
    with pytest.raises(AutsRefused):
        resynchronise(m, RAND, e.value.auts[:13])
    with pytest.raises(AutsRefused):
        resynchronise(m, bytes(16), e.value.auts)


def test_auts_known_answer() -> None:
    m = milenage_of(SET_1)
    with pytest.raises(SynchFailure) as e:
        Usim(m, int(SET_1["sqn"], 16)).answer(RAND, authentication_vector(m, 5, RAND, SNN).autn, SNN)
    assert e.value.auts.hex() == "ba853f3c123ccf44e93596e355c6"


def test_no_sqn_left() -> None:
    for sqn in (0, 1 << 48):
        with pytest.raises(AkaError):
            authentication_vector(milenage_of(SET_1), sqn, RAND, SNN)


def test_nothing_shows_keys() -> None:
    m = milenage_of(SET_1)
    vector = authentication_vector(m, 100, RAND, SNN)
    answer = Usim(m, 99).answer(RAND, vector.autn, SNN)
    text = repr((m, vector, answer, Usim(m, 99)))
    for secret in (m.k, m.opc, vector.k_ausf, vector.k_seaf, vector.xres_star):
        assert secret.hex() not in text and repr(secret)[2:-1] not in text
