"""NAS security (TS 24.501 §4.4, §9.1.1; TS 33.501 §6.4, annex D): 128-NIA2 and 128-NEA2 over whole NAS messages.

    7E │ 0,SHT │ MAC (4) │ SQN (1) │ inner          inner = a complete plain 5GMM message, its own 7E 00 first

Ciphered first (inner only), then the MAC over SQN ‖ inner as sent. One context serves both accesses: the keys are the
same, BEARER (1 3GPP, 2 non-3GPP) and a COUNT pair per access keep the keystreams apart (TS 33.501 §6.4.3.1).

The security header type stands outside the MAC: whoever is on the path can change it. So what it lets a message be is
checked after the MAC and before COUNT moves; a message with a changed one is refused and the true one still gets through.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from fiveg.errors import FivegError
from fiveg.keys import NAS_ENCRYPTION, NAS_INTEGRITY, nas_key
from fiveg.nas.gmm import (
    EPD,
    DeregistrationRequest,
    RegistrationRequest,
    SecurityModeCommand,
    SecurityModeComplete,
)

HEADER = 7
COUNT_LIMIT = 1 << 24
COUNT_RESERVE = 1 << 10
"""A new authentication is due when so few COUNTs are left (TS 33.501 §6.4.3.1)."""
BEARERS: Final = {"3gpp": 1, "non-3gpp": 2}
UPLINK, DOWNLINK = 0, 1
NEA0, NEA2, NIA2 = 0, 2, 2
INITIAL_MESSAGES = frozenset((RegistrationRequest.TYPE, DeregistrationRequest.TYPE))
"""What a UE with a context sends integrity protected and not ciphered (TS 24.501 §4.4.6). SERVICE REQUEST is not here."""


class NasSecurityError(FivegError):
    """A protected message that is refused, or one that cannot be sent. `name` is for counters."""

    name = "security"


class NotProtected(NasSecurityError):
    """Too short, another protocol, or a security header type that says `plain` or nothing known."""

    name = "not_protected"


class WrongMac(NasSecurityError):
    """Not from the peer, not for this access or direction, or changed on the way. The context is as before."""

    name = "wrong_mac"


class Replayed(NasSecurityError):
    """A COUNT that was accepted before, or an older one, with a right MAC."""

    name = "replayed"


class CountExhausted(NasSecurityError):
    """No COUNT is left under these keys: authenticate anew (TS 33.501 §6.4.3.1)."""

    name = "count_exhausted"


class UnexpectedHeaderType(NasSecurityError):
    """A security header type that this message, or this direction, does not have (TS 24.501 §9.3)."""

    name = "unexpected_header_type"


class Sht(IntEnum):
    """Security header type (TS 24.501 §9.3.1)"""

    PLAIN = 0
    INTEGRITY = 1
    CIPHERED = 2
    INTEGRITY_NEW = 3
    CIPHERED_NEW = 4


CIPHERS = frozenset((Sht.CIPHERED, Sht.CIPHERED_NEW))


class Role(Enum):
    """Which end: it says what direction protects and what direction is opened."""

    UE = UPLINK
    AMF = DOWNLINK


def nia2(key: bytes, count: int, bearer: int, direction: int, message: bytes) -> bytes:
    """128-NIA2 (TS 33.501 D.3.1.2): 4 octets"""
    mac = CMAC(algorithms.AES(key))
    mac.update(count.to_bytes(4, "big") + bytes((bearer << 3 | direction << 2, 0, 0, 0)) + message)
    return mac.finalize()[:4]


def nea2(key: bytes, count: int, bearer: int, direction: int, data: bytes) -> bytes:
    """128-NEA2 (TS 33.501 D.2.1.2): enciphers and deciphers"""
    block = count.to_bytes(4, "big") + bytes((bearer << 3 | direction << 2,)) + bytes(11)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(block)).encryptor()
    return encryptor.update(data) + encryptor.finalize()


@dataclass(frozen=True, slots=True)
class Opened:
    """A message whose MAC was right: `plain` is the whole plain 5GMM message."""

    plain: bytes = field(repr=False)
    """hidden: a key may stand in it"""
    sht: Sht
    count: int


@dataclass(slots=True)
class _Counts:
    """Of one access: the next COUNT to send with, the highest accepted (-1: none yet)."""

    send: int = 0
    received: int = -1


def header_type(pdu: bytes) -> Sht:
    """Security header type of a 5GMM message; nothing is verified."""
    if len(pdu) < 3 or pdu[0] != EPD:
        raise NotProtected("not a 5GMM message")
    try:
        sht = Sht(pdu[1])
    except ValueError:
        raise NotProtected(f"security header type {pdu[1]:#x} is unknown") from None
    if sht is not Sht.PLAIN and len(pdu) < HEADER + 3:
        raise NotProtected(f"a protected message has at least {HEADER + 3} octets, this one {len(pdu)}")
    return sht


def peek(pdu: bytes) -> bytes:
    """The inner message of a PDU that is not ciphered (SHT 1, 3), before it is verified: to find out with which context
    or with which algorithms it can be."""
    if header_type(pdu) not in (Sht.INTEGRITY, Sht.INTEGRITY_NEW):
        raise NotProtected("only a message that is integrity protected without ciphering can be read beforehand")
    return pdu[HEADER:]


class NasSecurityContext:
    """K_AMF, the NAS keys from it, and a COUNT pair per access. Nothing of it is shown."""

    def __init__(self, k_amf: bytes, ngksi: int, role: Role, *, ciphering: int = NEA2, integrity: int = NIA2) -> None:
        if integrity != NIA2 or ciphering not in (NEA0, NEA2):
            raise NasSecurityError(f"algorithms NEA{ciphering}, NIA{integrity}: only NEA0 or NEA2 with NIA2 are here")
        self.k_amf, self.ngksi, self.role = k_amf, ngksi, role
        self.ciphering, self.integrity = ciphering, integrity
        self._enc = nas_key(k_amf, NAS_ENCRYPTION, ciphering)
        self._int = nas_key(k_amf, NAS_INTEGRITY, integrity)
        self._counts = {bearer: _Counts() for bearer in BEARERS.values()}

    def __repr__(self) -> str:
        return f"<NAS security context ngKSI {self.ngksi}, NEA{self.ciphering}, NIA{self.integrity}>"

    def protect(self, plain: bytes, access: str, sht: Sht = Sht.CIPHERED) -> bytes:
        """Each call takes a COUNT of its own: no keystream is ever used twice, repetitions included."""
        if sht is Sht.PLAIN:
            raise NasSecurityError("a protected message has a security header type")
        bearer, direction = BEARERS[access], self.role.value
        counts = self._counts[bearer]
        count = counts.send
        if count >= COUNT_LIMIT:
            raise CountExhausted(f"all COUNTs of {access} are used")
        counts.send += 1
        body = self._cipher(plain, count, bearer, direction) if sht in CIPHERS else plain
        body = bytes((count & 0xFF,)) + body
        return bytes((EPD, sht)) + nia2(self._int, count, bearer, direction, body) + body

    def unprotect(self, pdu: bytes, access: str) -> Opened:
        """Verify, then decipher. COUNT moves only after the MAC was right; whatever is refused changes nothing. Raises
        NasSecurityError and nothing else."""
        sht = header_type(pdu)
        if sht is Sht.PLAIN:
            raise NotProtected("a plain message where a protected one is required")
        bearer, direction = BEARERS[access], 1 - self.role.value
        counts = self._counts[bearer]
        mac, body = pdu[2:6], pdu[6:]
        count = self._estimate(counts.received, body[0])
        if count >= COUNT_LIMIT or not self._verified(mac, count, bearer, direction, body):
            older = max(counts.received, 0) & ~0xFF | body[0]
            for past in (older, older - 0x100):
                if 0 <= past <= counts.received and self._verified(mac, past, bearer, direction, body):
                    raise Replayed(f"COUNT {past} over {access} was used already, the last was {counts.received}")
            raise WrongMac(f"the MAC of a message over {access} is wrong")
        plain = body[1:]
        if sht in CIPHERS:
            plain = self._cipher(plain, count, bearer, direction)
        self._check_use(sht, plain)
        counts.received = count
        return Opened(plain, sht, count)

    @staticmethod
    def _estimate(last: int, sqn: int) -> int:
        """The COUNT that a sequence number means: the next one above the last (TS 24.501 §4.4.3.1)."""
        if last < 0:
            return sqn
        count = last & ~0xFF | sqn
        return count if count > last else count + 0x100

    def _verified(self, mac: bytes, count: int, bearer: int, direction: int, body: bytes) -> bool:
        return hmac.compare_digest(mac, nia2(self._int, count, bearer, direction, body))

    def _cipher(self, data: bytes, count: int, bearer: int, direction: int) -> bytes:
        return data if self.ciphering == NEA0 else nea2(self._enc, count, bearer, direction, data)

    def _check_use(self, sht: Sht, plain: bytes) -> None:
        """Which type is for which message (TS 24.501 §9.3.1, §4.4.6). Deciphered under a changed type, what is inside is
        most likely no message at all."""
        if len(plain) < 3 or plain[0] != EPD or plain[1] != Sht.PLAIN:
            raise NotProtected("inside is no plain 5GMM message")
        kind = plain[2]
        allowed = {
            Sht.INTEGRITY: self.role is Role.AMF and kind in INITIAL_MESSAGES,
            Sht.CIPHERED: kind not in (SecurityModeCommand.TYPE, SecurityModeComplete.TYPE),
            Sht.INTEGRITY_NEW: self.role is Role.UE and kind == SecurityModeCommand.TYPE,
            Sht.CIPHERED_NEW: self.role is Role.AMF and kind == SecurityModeComplete.TYPE,
        }
        if not allowed[sht]:
            raise UnexpectedHeaderType(f"message {kind:#04x} with security header type {sht.value}")

    @property
    def exhausting(self) -> bool:
        """A COUNT comes near its end: authenticate anew."""
        return any(max(c.send, c.received) >= COUNT_LIMIT - COUNT_RESERVE for c in self._counts.values())

    @property
    def key_delivery_allowed(self) -> bool:
        """A key itself may be in a NAS message only when that is really ciphered."""
        return self.ciphering != NEA0
