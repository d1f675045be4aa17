"""5G-AKA (TS 33.501 §6.1.3.2), both ends: the home network's authentication vectors, the USIM's answer, resynchronisation.

AUTN = (SQN ⊕ AK) ‖ AMF ‖ MAC-A          AUTS = (SQN_MS ⊕ AK*) ‖ MAC-S
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field

from fiveg import keys
from fiveg.errors import FivegError
from fiveg.milenage import Milenage, xor

AMF_FIELD = b"\x80\x00"
"""Authentication management field: the separation bit is 1 for 5G (TS 33.501 §6.1.3)."""
SEPARATION_BIT = 0x80
AUTS_AMF = b"\x00\x00"
"""The AMF field of MAC-S (TS 33.102 §6.3.3)."""
AUTN_LENGTH = 16
AUTS_LENGTH = 14
SQN_LIMIT = 1 << 48
SQN_WINDOW = 1 << 28
"""How far SQN may jump ahead: a USIM cannot be driven to its last SQN by one vector (TS 33.102 C.2.1)."""


class AkaError(FivegError):
    """Authentication did not succeed. `cause`: the 5GMM cause that says why."""

    cause = 0


class MacFailure(AkaError):
    """AUTN is not from the home network."""

    cause = 20


class SynchFailure(AkaError):
    """SQN is not fresh; `auts` tells the home network where the USIM is."""

    cause = 21

    def __init__(self, text: str, auts: bytes) -> None:
        super().__init__(text)
        self.auts = auts


class SeparationBitZero(AkaError):
    """The vector was made for another generation of networks."""

    cause = 26


class AutsRefused(AkaError):
    """An AUTS that this subscriber's USIM has not made for this RAND."""

    cause = 21


@dataclass(frozen=True, slots=True)
class AuthenticationVector:
    """What the serving network gets for one challenge; `k_seaf` is used only after RES* was right."""

    rand: bytes
    autn: bytes
    xres_star: bytes = field(repr=False)
    hxres_star: bytes = field(repr=False)
    k_ausf: bytes = field(repr=False)
    k_seaf: bytes = field(repr=False)

    def matches(self, res_star: bytes) -> bool:
        """HRES* first, as the SEAF does (A.5), then RES*, as the AUSF does."""
        hres = keys.hres_star(self.rand, res_star)
        return hmac.compare_digest(hres, self.hxres_star) and hmac.compare_digest(res_star, self.xres_star)


def authentication_vector(milenage: Milenage, sqn: int, rand: bytes, snn: str) -> AuthenticationVector:
    """Home side. `sqn`: greater than every one used before for this subscriber."""
    if not 0 < sqn < SQN_LIMIT:
        raise AkaError(f"SQN must be 1 to 2^48-1, it is {sqn}: the subscriber needs new values")
    octets = sqn.to_bytes(6, "big")
    concealed = xor(octets, milenage.f5(rand))
    autn = concealed + AMF_FIELD + milenage.f1(rand, octets, AMF_FIELD)
    ck, ik = milenage.f3(rand), milenage.f4(rand)
    xres = keys.res_star(ck, ik, snn, rand, milenage.f2(rand))
    ausf = keys.k_ausf(ck, ik, snn, concealed)
    return AuthenticationVector(rand, autn, xres, keys.hres_star(rand, xres), ausf, keys.k_seaf(ausf, snn))


def resynchronise(milenage: Milenage, rand: bytes, auts: bytes) -> int:
    """Home side: SQN_MS out of an AUTS that answers the challenge `rand` (TS 33.102 §6.3.5)."""
    if len(auts) != AUTS_LENGTH:
        raise AutsRefused(f"AUTS must have {AUTS_LENGTH} octets, it has {len(auts)}")
    octets = xor(auts[:6], milenage.f5_star(rand))
    if not hmac.compare_digest(auts[6:], milenage.f1_star(rand, octets, AUTS_AMF)):
        raise AutsRefused("MAC-S of the AUTS is wrong")
    return int.from_bytes(octets, "big")


@dataclass(frozen=True, slots=True)
class UsimAnswer:
    """RES* for the network and K_SEAF for ourselves."""

    res_star: bytes = field(repr=False)
    k_seaf: bytes = field(repr=False)


@dataclass(slots=True)
class Usim:
    """UE side. `sqn` is the highest one accepted (SQN_MS); it moves only when the whole AUTN was right."""

    milenage: Milenage = field(repr=False)
    sqn: int

    def answer(self, rand: bytes, autn: bytes, snn: str) -> UsimAnswer:
        """The checks in the order of TS 24.501 §5.4.1.3.7: MAC, separation bit, SQN."""
        if len(autn) != AUTN_LENGTH:
            raise MacFailure(f"AUTN must have {AUTN_LENGTH} octets, it has {len(autn)}")
        concealed, amf, mac = autn[:6], autn[6:8], autn[8:]
        octets = xor(concealed, self.milenage.f5(rand))
        if not hmac.compare_digest(mac, self.milenage.f1(rand, octets, amf)):
            raise MacFailure("MAC-A of the AUTN is wrong")
        if not amf[0] & SEPARATION_BIT:
            raise SeparationBitZero("the separation bit of the AUTN is 0: not a challenge for 5G")
        sqn = int.from_bytes(octets, "big")
        if not self.sqn < sqn <= self.sqn + SQN_WINDOW:
            raise SynchFailure("SQN of the AUTN is not fresh", self._auts(rand))
        self.sqn = sqn
        ck, ik = self.milenage.f3(rand), self.milenage.f4(rand)
        res_star = keys.res_star(ck, ik, snn, rand, self.milenage.f2(rand))
        return UsimAnswer(res_star, keys.k_seaf(keys.k_ausf(ck, ik, snn, concealed), snn))

    def _auts(self, rand: bytes) -> bytes:
        octets = self.sqn.to_bytes(6, "big")
        return xor(octets, self.milenage.f5_star(rand)) + self.milenage.f1_star(rand, octets, AUTS_AMF)
