"""Types of Nsmf_PDUSession, Namf_Communication and CommonData (3GPP OpenAPI Rel-19) that the procedure needs, with the
attributes that it needs; others are ignored."""

import uuid
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any

from fiveg.sbi.errors import InvalidParam, SbiError
from fiveg.sbi.member import Boolean, Choice, Integer, JsonObject, Member, String, Uri, Uuid, Wrong

SUPI = String(r"imsi-[0-9]{5,15}|nai-[A-Za-z0-9.@_\-]+", 128)
PDU_SESSION_ID = Integer(1, 15)
DNN = String(r"[A-Za-z0-9.\-]+", 100)
REFERENCE = String(r"[A-Za-z0-9._\-]+", 64)
BOOLEAN = Boolean()


class AccessType(Enum):
    ACCESS_3GPP = "3GPP_ACCESS"
    NON_3GPP = "NON_3GPP_ACCESS"


class RequestType(Enum):
    """There is no MA value here: INITIAL_REQUEST with maRequestInd."""

    INITIAL_REQUEST = "INITIAL_REQUEST"
    EXISTING_PDU_SESSION = "EXISTING_PDU_SESSION"


class UpCnxState(Enum):
    ACTIVATED = "ACTIVATED"
    DEACTIVATED = "DEACTIVATED"
    ACTIVATING = "ACTIVATING"


class N1MessageClass(Enum):
    SM = "SM"


class MaReleaseInd(Enum):
    OVER_3GPP = "REL_MAPDU_OVER_3GPP"
    OVER_NON_3GPP = "REL_MAPDU_OVER_N3GPP"


class N1N2Cause(Enum):
    ATTEMPTING_TO_REACH_UE = "ATTEMPTING_TO_REACH_UE"
    INITIATED = "N1_N2_TRANSFER_INITIATED"
    WAITING = "WAITING_FOR_ASYNCHRONOUS_TRANSFER"
    UE_NOT_RESPONDING = "UE_NOT_RESPONDING"
    NOT_TRANSFERRED = "N1_MSG_NOT_TRANSFERRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlmnId(JsonObject):
    mcc: Annotated[str, Member("mcc", String(r"\d{3}"))]
    mnc: Annotated[str, Member("mnc", String(r"\d{2,3}"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guami(JsonObject):
    plmn: Annotated[PlmnId, Member("plmnId", PlmnId)]
    amf_id: Annotated[str, Member("amfId", String(r"[0-9a-fA-F]{6}"))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snssai(JsonObject):
    sst: Annotated[int, Member("sst", Integer(0, 255))]
    sd: Annotated[str | None, Member("sd", String(r"[0-9a-fA-F]{6}"))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefToBinaryData(JsonObject):
    content_id: Annotated[str, Member("contentId", REFERENCE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SmContextCreateData(JsonObject):
    serving_nf_id: Annotated[uuid.UUID, Member("servingNfId", Uuid())]
    serving_network: Annotated[PlmnId, Member("servingNetwork", PlmnId)]
    an_type: Annotated[AccessType, Member("anType", Choice(AccessType))]
    sm_context_status_uri: Annotated[str, Member("smContextStatusUri", Uri())]
    supi: Annotated[str | None, Member("supi", SUPI)] = None
    pdu_session_id: Annotated[int | None, Member("pduSessionId", PDU_SESSION_ID)] = None
    dnn: Annotated[str | None, Member("dnn", DNN)] = None
    s_nssai: Annotated[Snssai | None, Member("sNssai", Snssai)] = None
    guami: Annotated[Guami | None, Member("guami", Guami)] = None
    request_type: Annotated[RequestType | None, Member("requestType", Choice(RequestType))] = None
    n1_sm_msg: Annotated[RefToBinaryData | None, Member("n1SmMsg", RefToBinaryData)] = None
    ma_request: Annotated[bool | None, Member("maRequestInd", BOOLEAN)] = None
    additional_an_type: Annotated[AccessType | None, Member("additionalAnType", Choice(AccessType))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmContextCreatedData(JsonObject):
    pdu_session_id: Annotated[int | None, Member("pduSessionId", PDU_SESSION_ID)] = None
    s_nssai: Annotated[Snssai | None, Member("sNssai", Snssai)] = None
    up_cnx_state: Annotated[UpCnxState | None, Member("upCnxState", Choice(UpCnxState))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmContextUpdateData(JsonObject):
    n1_sm_msg: Annotated[RefToBinaryData | None, Member("n1SmMsg", RefToBinaryData)] = None
    an_type: Annotated[AccessType | None, Member("anType", Choice(AccessType))] = None
    additional_an_type: Annotated[AccessType | None, Member("additionalAnType", Choice(AccessType))] = None
    up_cnx_state: Annotated[UpCnxState | None, Member("upCnxState", Choice(UpCnxState))] = None
    ma_request: Annotated[bool | None, Member("maRequestInd", BOOLEAN)] = None
    ma_release: Annotated[MaReleaseInd | None, Member("maReleaseInd", Choice(MaReleaseInd))] = None
    release: Annotated[bool | None, Member("release", BOOLEAN)] = None
    cause: Annotated[str | None, Member("cause", String())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmContextUpdatedData(JsonObject):
    n1_sm_msg: Annotated[RefToBinaryData | None, Member("n1SmMsg", RefToBinaryData)] = None
    up_cnx_state: Annotated[UpCnxState | None, Member("upCnxState", Choice(UpCnxState))] = None
    ma_accepted: Annotated[bool | None, Member("maAcceptedInd", BOOLEAN)] = None
    cause: Annotated[str | None, Member("cause", String())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusInfo(JsonObject):
    resource_status: Annotated[str, Member("resourceStatus", String(r"RELEASED|UPDATED"))]
    cause: Annotated[str | None, Member("cause", String())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SmContextStatusNotification(JsonObject):
    status: Annotated[StatusInfo, Member("statusInfo", StatusInfo)]


@dataclass(frozen=True, slots=True, kw_only=True)
class N1MessageContainer(JsonObject):
    message_class: Annotated[N1MessageClass, Member("n1MessageClass", Choice(N1MessageClass))]
    content: Annotated[RefToBinaryData, Member("n1MessageContent", RefToBinaryData)]
    nf_id: Annotated[uuid.UUID | None, Member("nfId", Uuid())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class N1N2MessageTransferReqData(JsonObject):
    n1: Annotated[N1MessageContainer, Member("n1MessageContainer", N1MessageContainer)]
    pdu_session_id: Annotated[int, Member("pduSessionId", PDU_SESSION_ID)]
    skip: Annotated[bool | None, Member("skipInd", BOOLEAN)] = None
    ma_accepted: Annotated[bool | None, Member("maAcceptedInd", BOOLEAN)] = None
    target_access: Annotated[AccessType | None, Member("targetAccess", Choice(AccessType))] = None
    failure_uri: Annotated[str | None, Member("n1n2FailureTxfNotifURI", Uri())] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class N1N2MessageTransferRspData(JsonObject):
    cause: Annotated[N1N2Cause, Member("cause", Choice(N1N2Cause))]


class InvalidParams:
    """invalidParams of ProblemDetails."""

    def read(self, value: Any) -> tuple[InvalidParam, ...]:
        if not isinstance(value, list) or len(value) > 32:
            raise Wrong("array of at most 32")
        found = []
        for item in value:
            text = String()
            if not isinstance(item, dict):
                raise Wrong("array of objects")
            found.append(InvalidParam(text.read(item.get("param")), text.read(item.get("reason", ""))))
        return tuple(found)

    def write(self, value: tuple[InvalidParam, ...]) -> Any:
        return [{"param": p.param, "reason": p.reason} for p in value]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemDetails(JsonObject):
    """`application/problem+json`"""

    status: Annotated[int | None, Member("status", Integer(100, 599))] = None
    cause: Annotated[str | None, Member("cause", String())] = None
    title: Annotated[str | None, Member("title", String())] = None
    detail: Annotated[str | None, Member("detail", String(longest=1024))] = None
    invalid_params: Annotated[tuple[InvalidParam, ...] | None, Member("invalidParams", InvalidParams())] = None

    @classmethod
    def of_error(cls, error: SbiError) -> "ProblemDetails":
        return cls(
            status=error.status,
            cause=error.cause,
            detail=error.detail[:1024] or None,
            invalid_params=error.invalid_params or None,
        )

    def error(self, status: int) -> SbiError:
        """The peer's refusal as an error of ours; the HTTP status counts, not the one in the body."""
        return SbiError(status, self.cause or "UNSPECIFIED", self.detail or "", self.invalid_params or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class SmContextCreateError(JsonObject):
    error: Annotated[ProblemDetails, Member("error", ProblemDetails)]
    n1_sm_msg: Annotated[RefToBinaryData | None, Member("n1SmMsg", RefToBinaryData)] = None
