"""N1 session management: what the UE asks in 5GSM, and what it is told (TS 24.501 §6.4, §8.3)."""

from __future__ import annotations

from dataclasses import dataclass

from control.smf.atsss_rules import container
from control.smf.config import SmfConfig
from control.smf.pool import SessionAddress
from fiveg.nas.causes import GsmCause
from fiveg.nas.errors import NasError
from fiveg.nas.gsm import (
    EstablishmentAccept,
    EstablishmentReject,
    EstablishmentRequest,
    PduAddress,
    ReleaseCommand,
    ReleaseComplete,
    ReleaseRequest,
    SessionAmbr,
    SessionType,
    decode,
)
from fiveg.pfcp.values import MpquicAddress

AMBR = SessionAmbr.mbps(1000, 1000)
"""The session's bit rate is not enforced here: a value that is none's limit."""
FIRST_PTI, LAST_PTI = 1, 254
FAMILIES = {
    SessionType.IPV4: (True, False),
    SessionType.IPV6: (False, True),
    SessionType.IPV4V6: (True, True),
}


class RefusedRequest(Exception):
    """A request of the UE that is refused with a 5GSM cause."""

    def __init__(self, cause: GsmCause, pti: int, text: str) -> None:
        super().__init__(text)
        self.cause, self.pti = cause, pti


@dataclass(frozen=True, slots=True)
class SmRequest:
    """PDU SESSION ESTABLISHMENT REQUEST, as far as it matters here."""

    pti: int
    ipv4: bool
    ipv6: bool
    mpquic_ip: bool


@dataclass(frozen=True, slots=True)
class SmRelease:
    pti: int


@dataclass(frozen=True, slots=True)
class SmReleaseComplete:
    pti: int


@dataclass(frozen=True, slots=True)
class SmOther:
    """5GSM STATUS and what else asks nothing of us."""


def read(octets: bytes, pdu_session_id: int) -> SmRequest | SmRelease | SmReleaseComplete | SmOther:
    """A message of the UE for this session. RefusedRequest for everything that cannot be."""
    pti = octets[2] if len(octets) > 2 else 0
    try:
        message = decode(octets)
    except NasError as e:
        raise RefusedRequest(_gsm_cause(e.cause), pti, str(e)) from None
    if message.pdu_session_id != pdu_session_id:  # ids crossed between two requests
        raise RefusedRequest(GsmCause.INVALID_PDU_SESSION_IDENTITY, pti, "another session's message")
    match message:
        case ReleaseComplete():
            return SmReleaseComplete(message.pti)
        case EstablishmentRequest() | ReleaseRequest() if not FIRST_PTI <= message.pti <= LAST_PTI:
            raise RefusedRequest(GsmCause.INVALID_PTI, pti, f"PTI {message.pti}")
        case EstablishmentRequest():
            return _request(message)
        case ReleaseRequest():
            return SmRelease(message.pti)
    return SmOther()


def _request(message: EstablishmentRequest) -> SmRequest:
    kind = SessionType.IPV4V6 if message.session_type is None else message.session_type
    families = next((f for known, f in FAMILIES.items() if known == kind), None)
    if families is None:
        raise RefusedRequest(GsmCause.UNKNOWN_SESSION_TYPE, message.pti, f"session type {kind}")
    capable = message.capability is not None and message.capability.mpquic_ip
    return SmRequest(message.pti, *families, capable)


def _gsm_cause(number: int) -> GsmCause:
    """5GMM and 5GSM share the causes of protocol errors."""
    return next((c for c in GsmCause if c == number), GsmCause.PROTOCOL_ERROR)


def accept(config: SmfConfig, request: SmRequest, psi: int, pti: int, address: SessionAddress, proxy: MpquicAddress) -> bytes:
    kind = next(k for k, families in FAMILIES.items() if families == (request.ipv4, request.ipv6))
    return EstablishmentAccept(
        pdu_session_id=psi,
        pti=pti,
        session_type=kind,
        ambr=AMBR,
        address=PduAddress(address.ipv4, address.interface_id),
        dnn=config.dnn,
        atsss=container(config, proxy),
    ).encode()


def reject(psi: int, pti: int, cause: GsmCause) -> bytes:
    return EstablishmentReject(pdu_session_id=psi, pti=pti, cause=cause).encode()


def release_command(psi: int, pti: int, cause: GsmCause) -> bytes:
    return ReleaseCommand(pdu_session_id=psi, pti=pti, cause=cause).encode()
