"""PFCP messages (TS 29.244 §7.2 to §7.5).

    octet 1   version 001 ‖ spare 00 ‖ FO ‖ MP ‖ S
    octet 2   message type
    3 to 4    length of what follows octet 4
    S = 1     SEID (8): the receiver's
    then      sequence number (3) ‖ message priority (4 bits, if MP) and spare

The rules of §7.6 on faults: what a header cannot tell is dropped (HeaderError); a fault in the body becomes a response
with its cause (`rejection`), and nothing of the message is applied.
"""

import struct
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fiveg.pfcp.codec import LABELS, U16, U32, Enumeration, Flags, Group, Ie, Ies, Octets
from fiveg.pfcp.codes import (
    VERSION,
    Cause,
    IeType,
    MessageType,
    NodeReportType,
    PdnType,
    ReportFlags,
    ReportType,
    RuleKind,
    UpFeature,
)
from fiveg.pfcp.errors import HeaderError, IeIncorrect, InvalidLength, PfcpError, UnknownMessage, VersionNotSupported
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyCapability, MpquicKeyReport, MpquicKeyRequest
from fiveg.pfcp.rules import (
    AtsssControlParameters,
    CreatedPdr,
    CreateFar,
    CreateMar,
    CreatePdr,
    CreateQer,
    CreateSrr,
    ProvideAtsssControl,
    RemoveFar,
    RemoveMar,
    RemovePdr,
    RemoveQer,
    RemoveSrr,
    SessionReport,
    UpdateFar,
    UpdateMar,
    UpdatePdr,
    UpdateQer,
)
from fiveg.pfcp.values import FailedRule, FSeid, NodeId, SNssai, UeIpAddress, UpFeatures, UserId

SEQUENCE_MODULUS = 1 << 24


class Message(Group):
    """A message body; TYPE and whether its header has a SEID."""

    __slots__ = ()
    TYPE: ClassVar[MessageType]
    SESSION: ClassVar[bool] = True


CAUSE = Enumeration(Cause)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest(Message):
    TYPE: ClassVar[MessageType] = MessageType.HEARTBEAT_REQUEST
    SESSION: ClassVar[bool] = False
    recovery_time_stamp: Annotated[int, Ie(IeType.RECOVERY_TIME_STAMP, U32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.HEARTBEAT_RESPONSE
    SESSION: ClassVar[bool] = False
    recovery_time_stamp: Annotated[int, Ie(IeType.RECOVERY_TIME_STAMP, U32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSetupRequest(Message):
    """§7.4.4.1"""

    TYPE: ClassVar[MessageType] = MessageType.ASSOCIATION_SETUP_REQUEST
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    recovery_time_stamp: Annotated[int, Ie(IeType.RECOVERY_TIME_STAMP, U32)]
    up_features: Annotated[frozenset[UpFeature] | None, Ie(IeType.UP_FUNCTION_FEATURES, UpFeatures())] = None
    cp_features: Annotated[bytes | None, Ie(IeType.CP_FUNCTION_FEATURES, Octets(1))] = None
    key_capability: Annotated[MpquicKeyCapability | None, Ie(IeType.MPQUIC_KEY_CAPABILITY, MpquicKeyCapability)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSetupResponse(Message):
    """§7.4.4.2"""

    TYPE: ClassVar[MessageType] = MessageType.ASSOCIATION_SETUP_RESPONSE
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    recovery_time_stamp: Annotated[int, Ie(IeType.RECOVERY_TIME_STAMP, U32)]
    up_features: Annotated[frozenset[UpFeature] | None, Ie(IeType.UP_FUNCTION_FEATURES, UpFeatures())] = None
    cp_features: Annotated[bytes | None, Ie(IeType.CP_FUNCTION_FEATURES, Octets(1))] = None
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None
    key_capability: Annotated[MpquicKeyCapability | None, Ie(IeType.MPQUIC_KEY_CAPABILITY, MpquicKeyCapability)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationUpdateRequest(Message):
    TYPE: ClassVar[MessageType] = MessageType.ASSOCIATION_UPDATE_REQUEST
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    up_features: Annotated[frozenset[UpFeature] | None, Ie(IeType.UP_FUNCTION_FEATURES, UpFeatures())] = None
    release_request: Annotated[bytes | None, Ie(IeType.ASSOCIATION_RELEASE_REQUEST, Octets(1))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationUpdateResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.ASSOCIATION_UPDATE_RESPONSE
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationReleaseRequest(Message):
    TYPE: ClassVar[MessageType] = MessageType.ASSOCIATION_RELEASE_REQUEST
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationReleaseResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.ASSOCIATION_RELEASE_RESPONSE
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNotSupportedResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.VERSION_NOT_SUPPORTED_RESPONSE
    SESSION: ClassVar[bool] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReportRequest(Message):
    TYPE: ClassVar[MessageType] = MessageType.NODE_REPORT_REQUEST
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    report_type: Annotated[NodeReportType, Ie(IeType.NODE_REPORT_TYPE, Flags(NodeReportType, least_one=True))]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReportResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.NODE_REPORT_RESPONSE
    SESSION: ClassVar[bool] = False
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEstablishmentRequest(Message):
    """§7.5.2; goes out with SEID 0 in the header"""

    TYPE: ClassVar[MessageType] = MessageType.SESSION_ESTABLISHMENT_REQUEST
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    cp_f_seid: Annotated[FSeid, Ie(IeType.F_SEID, FSeid)]
    create_pdrs: Annotated[tuple[CreatePdr, ...], Ies(IeType.CREATE_PDR, CreatePdr)]
    create_fars: Annotated[tuple[CreateFar, ...], Ies(IeType.CREATE_FAR, CreateFar)]
    create_qers: Annotated[tuple[CreateQer, ...], Ies(IeType.CREATE_QER, CreateQer)] = ()
    create_mars: Annotated[tuple[CreateMar, ...], Ies(IeType.CREATE_MAR, CreateMar)] = ()
    create_srrs: Annotated[tuple[CreateSrr, ...], Ies(IeType.CREATE_SRR, CreateSrr)] = ()
    pdn_type: Annotated[PdnType | None, Ie(IeType.PDN_TYPE, Enumeration(PdnType, 7))] = None
    dnn: Annotated[str | None, Ie(IeType.APN_DNN, LABELS)] = None
    s_nssai: Annotated[SNssai | None, Ie(IeType.S_NSSAI, SNssai)] = None
    user_id: Annotated[UserId | None, Ie(IeType.USER_ID, UserId)] = None
    provide_atsss: Annotated[ProvideAtsssControl | None, Ie(IeType.PROVIDE_ATSSS_CONTROL, ProvideAtsssControl)] = None
    key: Annotated[MpquicKey | None, Ie(IeType.MPQUIC_KEY, MpquicKey)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEstablishmentResponse(Message):
    """§7.5.3; UP F-SEID is there when the cause is success"""

    TYPE: ClassVar[MessageType] = MessageType.SESSION_ESTABLISHMENT_RESPONSE
    node_id: Annotated[NodeId, Ie(IeType.NODE_ID, NodeId)]
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None
    up_f_seid: Annotated[FSeid | None, Ie(IeType.F_SEID, FSeid)] = None
    created_pdrs: Annotated[tuple[CreatedPdr, ...], Ies(IeType.CREATED_PDR, CreatedPdr)] = ()
    failed_rule: Annotated[FailedRule | None, Ie(IeType.FAILED_RULE_ID, FailedRule)] = None
    atsss_parameters: Annotated[AtsssControlParameters | None, Ie(IeType.ATSSS_CONTROL_PARAMETERS, AtsssControlParameters)] = None

    def check(self) -> None:
        if self.cause.accepted and self.up_f_seid is None:
            raise IeIncorrect("accepted establishment without UP F-SEID", ie=IeType.F_SEID)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionModificationRequest(Message):
    """§7.5.4"""

    TYPE: ClassVar[MessageType] = MessageType.SESSION_MODIFICATION_REQUEST
    cp_f_seid: Annotated[FSeid | None, Ie(IeType.F_SEID, FSeid)] = None
    remove_pdrs: Annotated[tuple[RemovePdr, ...], Ies(IeType.REMOVE_PDR, RemovePdr)] = ()
    remove_fars: Annotated[tuple[RemoveFar, ...], Ies(IeType.REMOVE_FAR, RemoveFar)] = ()
    remove_qers: Annotated[tuple[RemoveQer, ...], Ies(IeType.REMOVE_QER, RemoveQer)] = ()
    remove_mars: Annotated[tuple[RemoveMar, ...], Ies(IeType.REMOVE_MAR, RemoveMar)] = ()
    remove_srrs: Annotated[tuple[RemoveSrr, ...], Ies(IeType.REMOVE_SRR, RemoveSrr)] = ()
    create_pdrs: Annotated[tuple[CreatePdr, ...], Ies(IeType.CREATE_PDR, CreatePdr)] = ()
    create_fars: Annotated[tuple[CreateFar, ...], Ies(IeType.CREATE_FAR, CreateFar)] = ()
    create_qers: Annotated[tuple[CreateQer, ...], Ies(IeType.CREATE_QER, CreateQer)] = ()
    create_mars: Annotated[tuple[CreateMar, ...], Ies(IeType.CREATE_MAR, CreateMar)] = ()
    create_srrs: Annotated[tuple[CreateSrr, ...], Ies(IeType.CREATE_SRR, CreateSrr)] = ()
    update_pdrs: Annotated[tuple[UpdatePdr, ...], Ies(IeType.UPDATE_PDR, UpdatePdr)] = ()
    update_fars: Annotated[tuple[UpdateFar, ...], Ies(IeType.UPDATE_FAR, UpdateFar)] = ()
    update_qers: Annotated[tuple[UpdateQer, ...], Ies(IeType.UPDATE_QER, UpdateQer)] = ()
    update_mars: Annotated[tuple[UpdateMar, ...], Ies(IeType.UPDATE_MAR, UpdateMar)] = ()
    provide_atsss: Annotated[ProvideAtsssControl | None, Ie(IeType.PROVIDE_ATSSS_CONTROL, ProvideAtsssControl)] = None
    key: Annotated[MpquicKey | None, Ie(IeType.MPQUIC_KEY, MpquicKey)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionModificationResponse(Message):
    """§7.5.5"""

    TYPE: ClassVar[MessageType] = MessageType.SESSION_MODIFICATION_RESPONSE
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None
    created_pdrs: Annotated[tuple[CreatedPdr, ...], Ies(IeType.CREATED_PDR, CreatedPdr)] = ()
    failed_rule: Annotated[FailedRule | None, Ie(IeType.FAILED_RULE_ID, FailedRule)] = None
    atsss_parameters: Annotated[AtsssControlParameters | None, Ie(IeType.ATSSS_CONTROL_PARAMETERS, AtsssControlParameters)] = None
    key_report: Annotated[MpquicKeyReport | None, Ie(IeType.MPQUIC_KEY_REPORT, MpquicKeyReport)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDeletionRequest(Message):
    TYPE: ClassVar[MessageType] = MessageType.SESSION_DELETION_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDeletionResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.SESSION_DELETION_RESPONSE
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReportRequest(Message):
    """§7.5.8; our key IEs come with Report Type UISR"""

    TYPE: ClassVar[MessageType] = MessageType.SESSION_REPORT_REQUEST
    report_type: Annotated[ReportType, Ie(IeType.REPORT_TYPE, Flags(ReportType, least_one=True))]
    session_reports: Annotated[tuple[SessionReport, ...], Ies(IeType.SESSION_REPORT, SessionReport)] = ()
    flags: Annotated[ReportFlags | None, Ie(IeType.SRREQ_FLAGS, Flags(ReportFlags))] = None
    key_request: Annotated[MpquicKeyRequest | None, Ie(IeType.MPQUIC_KEY_REQUEST, MpquicKeyRequest)] = None
    key_reports: Annotated[tuple[MpquicKeyReport, ...], Ies(IeType.MPQUIC_KEY_REPORT, MpquicKeyReport)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReportResponse(Message):
    TYPE: ClassVar[MessageType] = MessageType.SESSION_REPORT_RESPONSE
    cause: Annotated[Cause, Ie(IeType.CAUSE, CAUSE)]
    offending_ie: Annotated[int | None, Ie(IeType.OFFENDING_IE, U16)] = None
    ue_ip_addresses: Annotated[tuple[UeIpAddress, ...], Ies(IeType.UE_IP_ADDRESS, UeIpAddress)] = ()


MESSAGES: dict[MessageType, type[Message]] = {
    message.TYPE: message
    for message in (
        HeartbeatRequest,
        HeartbeatResponse,
        AssociationSetupRequest,
        AssociationSetupResponse,
        AssociationUpdateRequest,
        AssociationUpdateResponse,
        AssociationReleaseRequest,
        AssociationReleaseResponse,
        VersionNotSupportedResponse,
        NodeReportRequest,
        NodeReportResponse,
        SessionEstablishmentRequest,
        SessionEstablishmentResponse,
        SessionModificationRequest,
        SessionModificationResponse,
        SessionDeletionRequest,
        SessionDeletionResponse,
        SessionReportRequest,
        SessionReportResponse,
    )
}

REQUESTS = frozenset(kind for kind in MessageType if kind.name.endswith("_REQUEST"))


@dataclass(frozen=True, slots=True)
class Header:
    """The header alone; `seid` is None in node messages."""

    type: MessageType
    sequence: int
    seid: int | None
    priority: int | None = None

    @property
    def request(self) -> bool:
        return self.type in REQUESTS


def header_decode(data: bytes) -> tuple[Header, bytes]:
    """Header and body of one PFCP message in a datagram. HeaderError: nothing that can be answered (version apart)."""
    if len(data) < 4:
        raise HeaderError(f"{len(data)} octets are no PFCP header")
    flags, kind, length = struct.unpack_from("!BBH", data)
    if flags >> 5 != VERSION:
        raise VersionNotSupported(f"version {flags >> 5}")
    if flags & 4:
        raise HeaderError("several messages in one datagram (FO) are not supported")
    if length != len(data) - 4:
        raise HeaderError(f"length says {length}, {len(data) - 4} octets follow")
    try:
        message = MESSAGES[MessageType(kind)]
    except (ValueError, KeyError):
        raise UnknownMessage(f"message type {kind}") from None
    if bool(flags & 1) != message.SESSION:
        raise HeaderError(f"message type {kind} with S={flags & 1}")
    size = 16 if flags & 1 else 8
    if len(data) < size:
        raise HeaderError(f"{len(data)} octets are no header of type {kind}")
    seid = int.from_bytes(data[4:12], "big") if flags & 1 else None
    sequence = int.from_bytes(data[size - 4 : size - 1], "big")
    priority = data[size - 1] >> 4 if flags & 2 else None
    return Header(message.TYPE, sequence, seid, priority), data[size:]


def body_decode(header: Header, body: bytes) -> Message:
    return MESSAGES[header.type].decode(body)


def decode(data: bytes) -> tuple[Header, Message]:
    header, body = header_decode(data)
    return header, body_decode(header, body)


def encode(message: Message, sequence: int, seid: int | None = None, priority: int | None = None) -> bytes:
    """A whole message. `seid` is the receiver's and stands in session messages only."""
    if not 0 <= sequence < SEQUENCE_MODULUS:
        raise IeIncorrect(f"sequence number {sequence}")
    if (seid is not None) != message.SESSION:
        raise IeIncorrect(f"{type(message).__name__} {'needs a' if message.SESSION else 'has no'} SEID")
    body = message.encode()
    head = b"" if seid is None else seid.to_bytes(8, "big")
    head += sequence.to_bytes(3, "big") + bytes(((priority or 0) << 4,))
    if len(head) + len(body) > 0xFFFF:
        raise InvalidLength(f"message of {len(body)} octets")
    flags = VERSION << 5 | (2 if priority is not None else 0) | message.SESSION
    return struct.pack("!BBH", flags, message.TYPE, len(head) + len(body)) + head + body


def rejection(kind: MessageType, error: PfcpError, node_id: NodeId, recovery_time_stamp: int) -> Message:
    """The response to a request of this type that was refused."""
    cause, ie = error.cause, error.ie
    rule = FailedRule(RuleKind(error.rule[0]), error.rule[1]) if error.rule else None
    match kind:
        case MessageType.HEARTBEAT_REQUEST:
            return HeartbeatResponse(recovery_time_stamp=recovery_time_stamp)
        case MessageType.ASSOCIATION_SETUP_REQUEST:
            return AssociationSetupResponse(node_id=node_id, cause=cause, recovery_time_stamp=recovery_time_stamp, offending_ie=ie)
        case MessageType.ASSOCIATION_UPDATE_REQUEST:
            return AssociationUpdateResponse(node_id=node_id, cause=cause, offending_ie=ie)
        case MessageType.ASSOCIATION_RELEASE_REQUEST:
            return AssociationReleaseResponse(node_id=node_id, cause=cause, offending_ie=ie)
        case MessageType.NODE_REPORT_REQUEST:
            return NodeReportResponse(node_id=node_id, cause=cause, offending_ie=ie)
        case MessageType.SESSION_ESTABLISHMENT_REQUEST:
            return SessionEstablishmentResponse(node_id=node_id, cause=cause, offending_ie=ie, failed_rule=rule)
        case MessageType.SESSION_MODIFICATION_REQUEST:
            return SessionModificationResponse(cause=cause, offending_ie=ie, failed_rule=rule)
        case MessageType.SESSION_DELETION_REQUEST:
            return SessionDeletionResponse(cause=cause, offending_ie=ie)
        case MessageType.SESSION_REPORT_REQUEST:
            return SessionReportResponse(cause=cause, offending_ie=ie)
    raise UnknownMessage(f"{kind.name} is no request")
