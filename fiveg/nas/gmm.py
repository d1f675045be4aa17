# ruff: noqa: RUF009  (fields are made by functions of codec.py)
"""5GMM messages (TS 24.501 §8.2): dataclasses with their layout, `encode()`, and `decode(octets)` for all of them.

7E │ 00 │ type │ mandatory fields in order │ optional IEs
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from fiveg.nas.causes import GmmCause
from fiveg.nas.codec import (
    DNN,
    HALF,
    HIGH,
    LOW,
    LV,
    LVE,
    NGKSI,
    OCTETS,
    PDU_SESSION_ID,
    TLV,
    TLVE,
    TV,
    TV1,
    Code,
    NasMessage,
    Octets,
    V,
    mandatory,
    optional,
)
from fiveg.nas.errors import NasError, NasTooShort, NasUnknownType, NasValueError
from fiveg.nas.identity import IDENTITY, SUCI, Guti, Identity

EPD = 0x7E
NO_KSI = 7
CAUSE = Code(GmmCause)


class RegistrationType(IntEnum):
    """§9.11.3.7"""

    INITIAL = 1
    MOBILITY = 2
    PERIODIC = 3
    EMERGENCY = 4


class PayloadType(IntEnum):
    """Payload container type (§9.11.3.40); D is reserved there and ours: the key container."""

    N1_SM = 1
    SMS = 2
    LPP = 3
    SOR = 4
    UE_POLICY = 5
    MPQUIC_KEY = 0xD


class RequestType(IntEnum):
    """§9.11.3.47"""

    INITIAL = 1
    EXISTING = 2
    MODIFICATION = 5
    MA_PDU = 6


FOLLOW_ON = 8
SWITCH_OFF = 8
ACCESS_BITS = {"3gpp": 1, "non-3gpp": 2}
CAPABILITY = Octets(2, 8)


class GmmMessage(NasMessage):
    """Any 5GMM message."""

    __slots__ = ()

    def encode(self) -> bytes:
        return bytes((EPD, 0, self.TYPE)) + self.encode_body()


class _Accesses:
    """Registration result (§9.11.3.6): bits 3-1"""

    def encode(self, value: frozenset[str]) -> bytes:
        if not value or not value <= ACCESS_BITS.keys():
            raise NasValueError(f"a registration result names {' or '.join(ACCESS_BITS)}, not {sorted(value)}")
        return bytes((sum(ACCESS_BITS[a] for a in value),))

    def decode(self, data: bytes) -> frozenset[str]:
        if not data or not data[0] & 3 or data[0] & 4:
            raise NasError("a registration result that names no access")
        return frozenset(name for name, bit in ACCESS_BITS.items() if data[0] & bit)


class _Snssai:
    """S-NSSAI with SST alone, or SST and SD (§9.11.2.8)"""

    def encode(self, value: tuple[int, bytes]) -> bytes:
        sst, sd = value
        if not 0 <= sst <= 255 or len(sd) not in (0, 3):
            raise NasValueError(f"an S-NSSAI has an SST of one octet and an SD of 3 or none, not {sst} and {len(sd)} octets")
        return bytes((sst,)) + sd

    def decode(self, data: bytes) -> tuple[int, bytes]:
        if len(data) not in (1, 2, 4, 5, 8):
            raise NasError(f"an S-NSSAI of {len(data)} octets")
        return data[0], data[1:4] if len(data) >= 4 else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRequest(GmmMessage):
    """§8.2.6; all IEs here are in the cleartext set (§4.4.6)."""

    TYPE = 0x41
    PASSED_OVER = MappingProxyType({0x52: 6})  # last visited registered TAI
    registration_type: int = mandatory(LOW, HALF, default=FOLLOW_ON | RegistrationType.INITIAL)
    ngksi: int = mandatory(HIGH, NGKSI, default=NO_KSI)
    identity: Identity = mandatory(LVE, IDENTITY)
    capability: bytes | None = optional(TLV, 0x2E, CAPABILITY)
    """UE security capability: EA0 to EA7, IA0 to IA7 from bit 8 down"""
    container: bytes | None = optional(TLVE, 0x71, OCTETS)

    def offers(self, ciphering: int, integrity: int) -> bool:
        """Whether the UE has these algorithms (5G-EAx, 5G-IAx)."""
        octets = self.capability
        return octets is not None and bool(octets[0] & 0x80 >> ciphering and octets[1] & 0x80 >> integrity)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationAccept(GmmMessage):
    """§8.2.7"""

    TYPE = 0x42
    accesses: frozenset[str] = mandatory(LV, _Accesses())
    guti: Guti | None = optional(TLVE, 0x77, Guti)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationComplete(GmmMessage):
    """§8.2.8"""

    TYPE = 0x43


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationReject(GmmMessage):
    """§8.2.9"""

    TYPE = 0x44
    cause: int = mandatory(V, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeregistrationRequest(GmmMessage):
    """UE originating (§8.2.12); `deregistration_type`: bit 4 switch off, bits 2-1 the access"""

    TYPE = 0x45
    deregistration_type: int = mandatory(LOW, HALF)
    ngksi: int = mandatory(HIGH, NGKSI, default=NO_KSI)
    identity: Identity = mandatory(LVE, IDENTITY)

    @property
    def switch_off(self) -> bool:
        return bool(self.deregistration_type & SWITCH_OFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeregistrationAccept(GmmMessage):
    """UE originating (§8.2.13)"""

    TYPE = 0x46


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDeregistrationRequest(GmmMessage):
    """UE terminated (§8.2.14)"""

    TYPE = 0x47
    deregistration_type: int = mandatory(LOW, HALF)
    cause: int | None = optional(TV, 0x58, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDeregistrationAccept(GmmMessage):
    """UE terminated (§8.2.15)"""

    TYPE = 0x48


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationRequest(GmmMessage):
    """§8.2.1"""

    TYPE = 0x56
    ngksi: int = mandatory(LOW, NGKSI)
    abba: bytes = mandatory(LV, Octets(2, 255))
    rand: bytes | None = optional(TV, 0x21, Octets(16, 16), 16)
    autn: bytes | None = optional(TLV, 0x20, Octets(16, 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationResponse(GmmMessage):
    """§8.2.2"""

    TYPE = 0x57
    res_star: bytes | None = optional(TLV, 0x2D, Octets(16, 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationReject(GmmMessage):
    """§8.2.5"""

    TYPE = 0x58


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthenticationFailure(GmmMessage):
    """§8.2.4; AUTS only with cause 21"""

    TYPE = 0x59
    cause: int = mandatory(V, CAUSE)
    auts: bytes | None = optional(TLV, 0x30, Octets(14, 14))


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRequest(GmmMessage):
    """§8.2.21"""

    TYPE = 0x5B
    kind: int = mandatory(LOW, HALF)

    @classmethod
    def suci(cls) -> IdentityRequest:
        return cls(kind=SUCI)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityResponse(GmmMessage):
    """§8.2.22"""

    TYPE = 0x5C
    identity: Identity = mandatory(LVE, IDENTITY)


class _Rinmr:
    """Additional 5G security information (§9.11.3.12): bit 2 RINMR asks for the whole initial message again."""

    def encode(self, value: bool) -> bytes:
        return b"\x02" if value else b"\x00"

    def decode(self, data: bytes) -> bool:
        if len(data) != 1:
            raise NasError(f"additional 5G security information of {len(data)} octets")
        return bool(data[0] & 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityModeCommand(GmmMessage):
    """§8.2.25; the octet of the algorithms has the ciphering one high (§9.11.3.34)"""

    TYPE = 0x5D
    PASSED_OVER = MappingProxyType({0x57: 1})  # selected EPS NAS security algorithms
    integrity: int = mandatory(LOW, HALF)
    ciphering: int = mandatory(HIGH, HALF)
    ngksi: int = mandatory(LOW, NGKSI)
    capability: bytes = mandatory(LV, CAPABILITY)
    rinmr: bool | None = optional(TLV, 0x36, _Rinmr())
    abba: bytes | None = optional(TLV, 0x38, Octets(2, 255))


class _InitialMessage:
    """NAS message container (§9.11.3.33): a REGISTRATION REQUEST, in clear, and no container in it again."""

    def encode(self, value: RegistrationRequest) -> bytes:
        return value.encode()

    def decode(self, data: bytes) -> RegistrationRequest:
        if len(data) < 3 or data[0] != EPD or data[1] or data[2] != RegistrationRequest.TYPE:
            raise NasError("a NAS message container without a REGISTRATION REQUEST")
        message = RegistrationRequest.decode_body(data[3:])
        if message.container is not None:
            raise NasError("a NAS message container in a NAS message container")
        return message


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityModeComplete(GmmMessage):
    """§8.2.26"""

    TYPE = 0x5E
    nas_message: RegistrationRequest | None = optional(TLVE, 0x71, _InitialMessage())


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityModeReject(GmmMessage):
    """§8.2.27"""

    TYPE = 0x5F
    cause: int = mandatory(V, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GmmStatus(GmmMessage):
    """§8.2.29"""

    TYPE = 0x64
    cause: int = mandatory(V, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UlNasTransport(GmmMessage):
    """§8.2.10. The payload is shown nowhere: in mode `delivered` a key container holds the key itself."""

    TYPE = 0x67
    PASSED_OVER = MappingProxyType({0x59: 1})  # old PDU session ID
    payload_type: int = mandatory(LOW, Code(PayloadType, 15))
    payload: bytes = mandatory(LVE, OCTETS, repr=False)
    pdu_session_id: int | None = optional(TV, 0x12, PDU_SESSION_ID)
    request_type: int | None = optional(TV1, 0x8, Code(RequestType, 15))
    snssai: tuple[int, bytes] | None = optional(TLV, 0x22, _Snssai())
    dnn: str | None = optional(TLV, 0x25, DNN)
    ma_information: int | None = optional(TV1, 0xA, HALF)


@dataclass(frozen=True, slots=True, kw_only=True)
class DlNasTransport(GmmMessage):
    """§8.2.11; payload as above"""

    TYPE = 0x68
    payload_type: int = mandatory(LOW, Code(PayloadType, 15))
    payload: bytes = mandatory(LVE, OCTETS, repr=False)
    pdu_session_id: int | None = optional(TV, 0x12, PDU_SESSION_ID)
    cause: int | None = optional(TV, 0x58, CAUSE)


MESSAGES: dict[int, type[GmmMessage]] = {cls.TYPE: cls for cls in GmmMessage.__subclasses__()}


def decode(data: bytes) -> GmmMessage:
    """A plain 5GMM message. Raises NasError and nothing else."""
    if len(data) < 3:
        raise NasTooShort(f"a 5GMM message has at least 3 octets, this one {len(data)}")
    if data[0] != EPD or data[1]:
        raise NasUnknownType(f"octets {data[:2].hex()} do not begin a plain 5GMM message")
    cls = MESSAGES.get(data[2])
    if cls is None:
        raise NasUnknownType(f"5GMM message type {data[2]:#04x} is unknown")
    return cls.decode_body(data[3:])
