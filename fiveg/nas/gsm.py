# ruff: noqa: RUF009  (fields are made by functions of codec.py)
"""5GSM messages (TS 24.501 §8.3). They ride in UL and DL NAS TRANSPORT and are never protected themselves.

2E │ PDU session ID │ PTI │ type │ mandatory fields in order │ optional IEs
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address
from types import MappingProxyType

from fiveg.nas.causes import GsmCause
from fiveg.nas.codec import (
    DNN,
    HALF,
    HIGH,
    LOW,
    LV,
    LVE,
    OCTETS,
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

EPD = 0x2E
CAUSE = Code(GsmCause)
FULL_RATE = b"\xff\xff"
"""Integrity protection maximum data rate: full, both ways (§9.11.4.7)"""
QOS_RULE_MATCH_ALL = bytes.fromhex("01000631310101ff01")
"""Rule 1, create, default, one filter: bidirectional, match-all; precedence 255, QFI 1 (§9.11.4.13)"""
SSC_MODE_1 = 1


class SessionType(IntEnum):
    """PDU session type (§9.11.4.11)"""

    IPV4 = 1
    IPV6 = 2
    IPV4V6 = 3
    UNSTRUCTURED = 4
    ETHERNET = 5


@dataclass(frozen=True, slots=True)
class GsmCapability:
    """5GSM capability (§9.11.4.1), the bits of a MA PDU session. `atsss_ll`: 0 none, 1 active-standby, 2 any mode."""

    atsss_st: int = 1
    mpquic_ip: bool = True
    mpquic_udp: bool = True
    mpquic_e: bool = False
    mptcp: bool = False
    atsss_ll: int = 2

    def encode(self) -> bytes:
        self._check(NasValueError)
        if not 0 <= self.atsss_st <= 15 or not 0 <= self.atsss_ll <= 3:
            raise NasValueError(f"ATSSS-ST {self.atsss_st} has 4 bits, ATSSS-LL {self.atsss_ll} 2")
        first = self.atsss_st << 3
        second = self.mpquic_ip << 7 | self.mpquic_udp << 6 | self.mptcp << 5 | self.atsss_ll << 3
        return bytes((first, second)) + (b"\x01" if self.mpquic_e else b"")

    @classmethod
    def decode(cls, data: bytes) -> GsmCapability:
        """Octets that an older UE does not send are 0."""
        if not 1 <= len(data) <= 13:
            raise NasError(f"a 5GSM capability of {len(data)} octets")
        first, second, third = (data + b"\x00\x00")[:3]
        capability = cls(
            atsss_st=first >> 3 & 15,
            mpquic_ip=bool(second & 0x80),
            mpquic_udp=bool(second & 0x40),
            mpquic_e=bool(third & 0x01),
            mptcp=bool(second & 0x20),
            atsss_ll=second >> 3 & 3,
        )
        capability._check(NasError)
        return capability

    def _check(self, error: type[NasError]) -> None:
        if not self.atsss_ll and (self.mptcp or self.mpquic_udp or self.mpquic_e):
            raise error("without ATSSS-LL there is no MPTCP, MPQUIC-UDP or MPQUIC-E (§9.11.4.1 NOTE 3)")


@dataclass(frozen=True, slots=True)
class PduAddress:
    """PDU address (§9.11.4.10). For IPv6 it has the interface identifier; the prefix comes over the session itself."""

    ipv4: IPv4Address | None = None
    interface_id: bytes | None = None

    def encode(self) -> bytes:
        if self.interface_id is None:
            if self.ipv4 is None:
                raise NasValueError("a PDU address has an IPv4 address, an interface identifier, or both")
            return bytes((SessionType.IPV4,)) + self.ipv4.packed
        if len(self.interface_id) != 8:
            raise NasValueError("an interface identifier has 8 octets")
        if self.ipv4 is None:
            return bytes((SessionType.IPV6,)) + self.interface_id
        return bytes((SessionType.IPV4V6,)) + self.interface_id + self.ipv4.packed

    @classmethod
    def decode(cls, data: bytes) -> PduAddress:
        match (data[0] & 7 if data else 0), len(data):
            case SessionType.IPV4, 5:
                return cls(IPv4Address(data[1:5]))
            case SessionType.IPV6, 9:
                return cls(None, data[1:9])
            case SessionType.IPV4V6, 13:
                return cls(IPv4Address(data[9:13]), data[1:9])
        raise NasError(f"a PDU address of {len(data)} octets that is none")


def _kbps(unit: int, value: int) -> int:
    """Unit 1 is 1 kbit/s, each further one 4 times that, and every fifth is 1000 times (§9.11.4.14): 6 is 1 Mbit/s."""
    thousands, fours = divmod(max(unit, 1) - 1, 5)
    return value * int(1000**thousands) * int(4**fours)


@dataclass(frozen=True, slots=True)
class SessionAmbr:
    """Session AMBR (§9.11.4.14)"""

    downlink_kbps: int
    uplink_kbps: int

    @classmethod
    def mbps(cls, downlink: int, uplink: int) -> SessionAmbr:
        return cls(downlink * 1000, uplink * 1000)

    def encode(self) -> bytes:
        return self._direction(self.downlink_kbps) + self._direction(self.uplink_kbps)

    @staticmethod
    def _direction(kbps: int) -> bytes:
        for unit in range(1, 26):
            value, rest = divmod(kbps, _kbps(unit, 1))
            if not rest and 0 < value < 65536:
                return bytes((unit,)) + value.to_bytes(2, "big")
        raise NasValueError(f"a session AMBR of {kbps} kbit/s has no encoding")

    @classmethod
    def decode(cls, data: bytes) -> SessionAmbr:
        if len(data) != 6 or data[0] > 25 or data[3] > 25:
            raise NasError(f"a session AMBR has 6 octets and units up to 25, not {data[:6].hex()} of {len(data)} octets")
        ambr = cls(_kbps(data[0], int.from_bytes(data[1:3], "big")), _kbps(data[3], int.from_bytes(data[4:6], "big")))
        if not ambr.downlink_kbps or not ambr.uplink_kbps:
            raise NasError("a session AMBR of 0: nothing could be sent")
        return ambr


@dataclass(frozen=True, slots=True, kw_only=True)
class GsmMessage(NasMessage):
    """Any 5GSM message. PTI 0: none assigned (a procedure of the network)."""

    pdu_session_id: int
    pti: int

    def encode(self) -> bytes:
        if not 0 <= self.pti <= 255 or not 0 <= self.pdu_session_id <= 255:
            raise NasValueError("PDU session ID and PTI are one octet each")
        return bytes((EPD, self.pdu_session_id, self.pti, self.TYPE)) + self.encode_body()


@dataclass(frozen=True, slots=True, kw_only=True)
class EstablishmentRequest(GsmMessage):
    """PDU SESSION ESTABLISHMENT REQUEST (§8.3.1)"""

    TYPE = 0xC1
    PASSED_OVER = MappingProxyType({0x55: 2})  # maximum number of supported packet filters
    integrity_rate: bytes = mandatory(V, Octets(2, 2), 2, default=FULL_RATE)
    session_type: int | None = optional(TV1, 0x9, Code(SessionType, 15))
    ssc_mode: int | None = optional(TV1, 0xA, HALF)
    capability: GsmCapability | None = optional(TLV, 0x28, GsmCapability)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstablishmentAccept(GsmMessage):
    """PDU SESSION ESTABLISHMENT ACCEPT (§8.3.2)"""

    TYPE = 0xC2
    PASSED_OVER = MappingProxyType({0x56: 1})  # RQ timer value
    session_type: int = mandatory(LOW, Code(SessionType, 15))
    ssc_mode: int = mandatory(HIGH, HALF, default=SSC_MODE_1)
    qos_rules: bytes = mandatory(LVE, Octets(4), default=QOS_RULE_MATCH_ALL)
    ambr: SessionAmbr = mandatory(LV, SessionAmbr)
    cause: int | None = optional(TV, 0x59, CAUSE)
    address: PduAddress | None = optional(TLV, 0x29, PduAddress)
    dnn: str | None = optional(TLV, 0x25, DNN)
    atsss: bytes | None = optional(TLVE, 0x77, OCTETS)
    """ATSSS container (fiveg/atsss.py)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class EstablishmentReject(GsmMessage):
    """PDU SESSION ESTABLISHMENT REJECT (§8.3.3)"""

    TYPE = 0xC3
    cause: int = mandatory(V, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModificationCommand(GsmMessage):
    """PDU SESSION MODIFICATION COMMAND (§8.3.9): new rules in its ATSSS container"""

    TYPE = 0xCB
    PASSED_OVER = MappingProxyType({0x56: 1})  # RQ timer value
    cause: int | None = optional(TV, 0x59, CAUSE)
    atsss: bytes | None = optional(TLVE, 0x77, OCTETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModificationComplete(GsmMessage):
    """PDU SESSION MODIFICATION COMPLETE (§8.3.10)"""

    TYPE = 0xCC


@dataclass(frozen=True, slots=True, kw_only=True)
class ModificationCommandReject(GsmMessage):
    """PDU SESSION MODIFICATION COMMAND REJECT (§8.3.11)"""

    TYPE = 0xCD
    cause: int = mandatory(V, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest(GsmMessage):
    """PDU SESSION RELEASE REQUEST (§8.3.12)"""

    TYPE = 0xD1
    cause: int | None = optional(TV, 0x59, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseReject(GsmMessage):
    """PDU SESSION RELEASE REJECT (§8.3.13)"""

    TYPE = 0xD2
    cause: int = mandatory(V, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCommand(GsmMessage):
    """PDU SESSION RELEASE COMMAND (§8.3.14); an access type releases that access only"""

    TYPE = 0xD3
    cause: int = mandatory(V, CAUSE)
    access: int | None = optional(TV1, 0xD, HALF)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseComplete(GsmMessage):
    """PDU SESSION RELEASE COMPLETE (§8.3.15)"""

    TYPE = 0xD4
    cause: int | None = optional(TV, 0x59, CAUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GsmStatus(GsmMessage):
    """5GSM STATUS (§8.3.16)"""

    TYPE = 0xD6
    cause: int = mandatory(V, CAUSE)


MESSAGES: dict[int, type[GsmMessage]] = {cls.TYPE: cls for cls in GsmMessage.__subclasses__()}


def decode(data: bytes) -> GsmMessage:
    """A 5GSM message. Raises NasError and nothing else; PTI and PDU session ID are the receiver's to judge."""
    if len(data) < 4:
        raise NasTooShort(f"a 5GSM message has at least 4 octets, this one {len(data)}")
    if data[0] != EPD:
        raise NasUnknownType(f"protocol {data[0]:#04x} is not 5GSM")
    cls = MESSAGES.get(data[3])
    if cls is None:
        raise NasUnknownType(f"5GSM message type {data[3]:#04x} is unknown")
    return cls.decode_body(data[4:], pdu_session_id=data[1], pti=data[2])
