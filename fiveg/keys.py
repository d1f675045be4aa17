"""Every key of the chain K → … → K_MPQUIC, one function each (TS 33.501 annex A; ours: FC F0 and F1).

SUPI may be given with or without `imsi-` or `nai-`: in the derivations it is the bare identity (TS 33.501 A.7.0).
"""

from __future__ import annotations

import hashlib

from fiveg.kdf import KdfError, kdf

FC_K_AUSF = b"\x6a"
FC_RES_STAR = b"\x6b"
FC_K_SEAF = b"\x6c"
FC_K_AMF = b"\x6d"
FC_NAS = b"\x69"
FC_HORIZONTAL = b"\x72"
FC_MPQUIC = b"\xf0"
"""Ours and configurable: TR 33.778 has allocated none; F0 is above all allocations that are known."""
FC_PSK_IDENTITY = b"\xf1"
ABBA = b"\x00\x00"
NAS_ENCRYPTION, NAS_INTEGRITY = 1, 2
"""Algorithm type distinguishers (TS 33.501 A.8)"""
P0_LENGTH = 32
MOST_PDU_SESSION_ID = 15


def snn(mcc: str, mnc: str) -> str:
    """Serving network name; the MNC is filled to 3 digits on the left (TS 24.501 §9.12.1)."""
    if not (mcc.isascii() and mcc.isdigit() and len(mcc) == 3):
        raise KdfError(f"MCC {mcc[:8]!r} must be 3 digits")
    if not (mnc.isascii() and mnc.isdigit() and len(mnc) in (2, 3)):
        raise KdfError(f"MNC {mnc[:8]!r} must be 2 or 3 digits")
    return f"5G:mnc{mnc:0>3}.mcc{mcc}.3gppnetwork.org"


def supi_octets(supi: str) -> bytes:
    """What stands for a SUPI in a derivation (TS 33.501 A.7.0): the IMSI's digits or the NAI, without the prefix of the SBI"""
    return supi.removeprefix("imsi-").removeprefix("nai-").encode()


def k_ausf(ck: bytes, ik: bytes, name: str, sqn_xor_ak: bytes) -> bytes:
    """TS 33.501 A.2"""
    return kdf(ck + ik, FC_K_AUSF, name.encode(), sqn_xor_ak)


def res_star(ck: bytes, ik: bytes, name: str, rand: bytes, res: bytes) -> bytes:
    """TS 33.501 A.4"""
    return kdf(ck + ik, FC_RES_STAR, name.encode(), rand, res)[-16:]


def hres_star(rand: bytes, xres_star: bytes) -> bytes:
    """TS 33.501 A.5: a bare hash, without lengths"""
    return hashlib.sha256(rand + xres_star).digest()[-16:]


def k_seaf(ausf_key: bytes, name: str) -> bytes:
    """TS 33.501 A.6"""
    return kdf(ausf_key, FC_K_SEAF, name.encode())


def k_amf(seaf_key: bytes, supi: str, abba: bytes = ABBA) -> bytes:
    """TS 33.501 A.7. `abba`: at the UE, what the network sent."""
    return kdf(seaf_key, FC_K_AMF, supi_octets(supi), abba)


def nas_key(amf_key: bytes, algorithm_type: int, algorithm: int) -> bytes:
    """TS 33.501 A.8"""
    return kdf(amf_key, FC_NAS, bytes((algorithm_type,)), bytes((algorithm,)))[-16:]


def k_amf_horizontal(amf_key: bytes, direction: int, count: int) -> bytes:
    """TS 33.501 A.13"""
    return kdf(amf_key, FC_HORIZONTAL, bytes((direction,)), count.to_bytes(4, "big"))


def k_mpquic(amf_key: bytes, p0: bytes, *, fc: bytes = FC_MPQUIC, session: tuple[int, str] | None = None) -> bytes:
    """The external PSK: KDF(K_AMF; FC, P0, L0). `session` = (PDU session ID, SUPI) adds P1 and P2, which binds the key
    to them (TR 33.778, Solution #2)."""
    if len(p0) != P0_LENGTH:
        raise KdfError(f"P0 must have {P0_LENGTH} octets, it has {len(p0)}")
    if session is None:
        return kdf(amf_key, fc, p0)
    pdu_session_id, supi = session
    if not 1 <= pdu_session_id <= MOST_PDU_SESSION_ID:
        raise KdfError(f"PDU session ID {pdu_session_id} must be 1 to {MOST_PDU_SESSION_ID}")
    return kdf(amf_key, fc, p0, bytes((pdu_session_id,)), supi_octets(supi))


def psk_identity(key: bytes) -> bytes:
    """What the ClientHello shows: it follows from the key, is fresh with it and says nothing of SUPI or session."""
    return kdf(key, FC_PSK_IDENTITY, b"mpquic psk identity")[:16]


def fingerprint(key: bytes) -> str:
    """8 hex digits that stand for a key in logs, events and reports."""
    return fingerprint_octets(key).hex()


def fingerprint_octets(key: bytes) -> bytes:
    return hashlib.sha256(b"mpquic key fingerprint" + key).digest()[:4]
