"""5GS mobile identity (TS 24.501 §9.11.3.4)."""

from __future__ import annotations

from dataclasses import dataclass

from fiveg.nas.errors import NasError, NasValueError

NO_IDENTITY, SUCI, GUTI, IMEI, S_TMSI, IMEISV = 0, 1, 2, 3, 4, 5
NULL_SCHEME = 0


def plmn_octets(mcc: str, mnc: str) -> bytes:
    """MCC2 MCC1, MNC3 MCC3, MNC2 MNC1; MNC3 is F for two digits (§9.11.3.4)"""
    digits = mcc + mnc
    if not (digits.isascii() and digits.isdigit() and len(mcc) == 3 and len(mnc) in (2, 3)):
        raise NasValueError("a PLMN has an MCC of 3 digits and an MNC of 2 or 3")
    c, n = [int(d) for d in mcc], [int(d) for d in mnc]
    third = n[2] if len(n) == 3 else 15
    return bytes((c[1] << 4 | c[0], third << 4 | c[2], n[1] << 4 | n[0]))


def plmn_of(data: bytes) -> tuple[str, str]:
    c1, c2, c3 = data[0] & 15, data[0] >> 4, data[1] & 15
    n1, n2, n3 = data[2] & 15, data[2] >> 4, data[1] >> 4
    mnc = (n1, n2) if n3 == 15 else (n1, n2, n3)
    if any(d > 9 for d in (c1, c2, c3, *mnc)):
        raise NasError("a PLMN with digits above 9")
    return f"{c1}{c2}{c3}", "".join(map(str, mnc))


def _bcd(digits: str) -> bytes:
    """Two digits an octet, the first one low, F fills up"""
    if not (digits.isascii() and digits.isdigit()):
        raise NasValueError("digits are needed")
    numbers = [int(d) for d in digits] + [15] * (len(digits) % 2)
    return bytes(high << 4 | low for low, high in zip(numbers[::2], numbers[1::2], strict=True))


def _bcd_digits(data: bytes) -> str:
    """The digits up to the first F; behind it nothing but F may stand"""
    numbers = [n for octet in data for n in (octet & 15, octet >> 4)]
    while numbers and numbers[-1] == 15:
        numbers.pop()
    if any(n > 9 for n in numbers):
        raise NasError("BCD digits above 9")
    return "".join(map(str, numbers))


@dataclass(frozen=True, slots=True)
class Suci:
    """SUCI of an IMSI. `scheme` 0 is the null scheme; of others the output is kept as it is in `protected`."""

    mcc: str
    mnc: str
    msin: str
    routing: str = "0"
    scheme: int = NULL_SCHEME
    key_id: int = 0
    protected: bytes = b""

    def encode(self) -> bytes:
        if self.scheme == NULL_SCHEME:
            if not 1 <= len(self.msin) <= 15 - len(self.mcc + self.mnc):
                raise NasValueError("an IMSI has at most 15 digits")
            output = _bcd(self.msin)
        else:
            output = self.protected
        if not 1 <= len(self.routing) <= 4:
            raise NasValueError("a routing indicator has 1 to 4 digits")
        routing = _bcd(self.routing).ljust(2, b"\xff")
        return bytes((SUCI,)) + plmn_octets(self.mcc, self.mnc) + routing + bytes((self.scheme, self.key_id)) + output

    @classmethod
    def decode(cls, data: bytes) -> Suci:
        if len(data) < 9:
            raise NasError(f"a SUCI has at least 9 octets, this one {len(data)}")
        if data[0] >> 4 & 7:
            raise NasError(f"SUPI format {data[0] >> 4 & 7}: only IMSI is here")
        mcc, mnc = plmn_of(data[1:4])
        routing, scheme, key_id, output = _bcd_digits(data[4:6]), data[6] & 15, data[7], data[8:]
        if not routing:
            raise NasError("a SUCI without routing indicator")
        if scheme != NULL_SCHEME:
            return cls(mcc, mnc, "", routing, scheme, key_id, output)
        msin = _bcd_digits(output)
        if not 1 <= len(msin) <= 15 - len(mcc + mnc):
            raise NasError(f"an MSIN of {len(msin)} digits in a SUCI")
        return cls(mcc, mnc, msin, routing, scheme, key_id)

    @property
    def supi(self) -> str:
        """With the null scheme the SUPI stands in the SUCI; with another one only the home network can tell it."""
        if self.scheme != NULL_SCHEME:
            raise NasError(f"a SUCI of protection scheme {self.scheme} does not show its SUPI")
        return f"imsi-{self.mcc}{self.mnc}{self.msin}"

    @classmethod
    def of(cls, supi: str, mnc_length: int) -> Suci:
        digits = supi.removeprefix("imsi-")
        return cls(digits[:3], digits[3 : 3 + mnc_length], digits[3 + mnc_length :])


@dataclass(frozen=True, slots=True)
class Guti:
    """5G-GUTI: AMF region (8 bits), set (10), pointer (6), 5G-TMSI (4 octets)."""

    mcc: str
    mnc: str
    region: int
    set_id: int
    pointer: int
    tmsi: bytes

    def encode(self) -> bytes:
        if not (0 <= self.region < 256 and 0 <= self.set_id < 1024 and 0 <= self.pointer < 64 and len(self.tmsi) == 4):
            raise NasValueError("a 5G-GUTI has region below 256, set below 1024, pointer below 64, TMSI of 4 octets")
        amf = bytes((self.region,)) + (self.set_id << 6 | self.pointer).to_bytes(2, "big")
        return bytes((0xF0 | GUTI,)) + plmn_octets(self.mcc, self.mnc) + amf + self.tmsi

    @classmethod
    def decode(cls, data: bytes) -> Guti:
        if len(data) != 11 or data[0] & 7 != GUTI:
            raise NasError(f"a 5G-GUTI has type {GUTI} and 11 octets, not {data[:1].hex() or 'none'} and {len(data)}")
        mcc, mnc = plmn_of(data[1:4])
        rest = int.from_bytes(data[5:7], "big")
        return cls(mcc, mnc, data[4], rest >> 6, rest & 63, data[7:11])


@dataclass(frozen=True, slots=True)
class OtherIdentity:
    """IMEI, IMEISV, 5G-S-TMSI, or none: kept as octets, no procedure of ours uses it."""

    kind: int
    octets: bytes

    def encode(self) -> bytes:
        return self.octets


Identity = Suci | Guti | OtherIdentity


class IdentityCodec:
    def encode(self, value: Identity) -> bytes:
        return value.encode()

    def decode(self, data: bytes) -> Identity:
        if not data:
            raise NasError("an empty mobile identity")
        kind = data[0] & 7
        if kind == SUCI:
            return Suci.decode(data)
        if kind == GUTI:
            return Guti.decode(data)
        if kind not in (NO_IDENTITY, IMEI, S_TMSI, IMEISV):
            raise NasError(f"mobile identity of type {kind}")
        return OtherIdentity(kind, data)


IDENTITY = IdentityCodec()
