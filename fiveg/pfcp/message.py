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
from typing import ClassVar

from fiveg.pfcp import ies as ie
from fiveg.pfcp import rules as r
from fiveg.pfcp.codec import Group, slots_of
from fiveg.pfcp.codes import VERSION, IeType, MessageType, RuleKind
from fiveg.pfcp.errors import (
    ConditionalIeMissing,
    HeaderError,
    IeIncorrect,
    InvalidLength,
    PfcpError,
    UnknownMessage,
    VersionNotSupported,
)
from fiveg.pfcp.values import FailedRule, NodeId

SEQUENCE_MODULUS = 1 << 24


class Message(Group):
    """A message body: its type, and whether its header has a SEID."""

    __slots__ = ()
    TYPE: ClassVar[MessageType]
    SESSION: ClassVar[bool]


class NodeMessage(Message):
    """Of a node (§7.4): no SEID in the header."""

    __slots__ = ()
    SESSION = False


class SessionMessage(Message):
    """Of a session (§7.5): the header has the receiver's SEID."""

    __slots__ = ()
    SESSION = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatRequest(NodeMessage):
    """§7.4.2.1"""

    TYPE = MessageType.HEARTBEAT_REQUEST
    recovery_time_stamp: ie.RecoveryTimeStamp


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatResponse(NodeMessage):
    """§7.4.2.2"""

    TYPE = MessageType.HEARTBEAT_RESPONSE
    recovery_time_stamp: ie.RecoveryTimeStamp


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSetupRequest(NodeMessage):
    """§7.4.4.1"""

    TYPE = MessageType.ASSOCIATION_SETUP_REQUEST
    node_id: ie.NodeId
    recovery_time_stamp: ie.RecoveryTimeStamp
    up_features: ie.UpFunctionFeatures | None = None
    cp_features: ie.CpFunctionFeatures | None = None
    key_capability: ie.MpquicKeyCapability | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationSetupResponse(NodeMessage):
    """§7.4.4.2"""

    TYPE = MessageType.ASSOCIATION_SETUP_RESPONSE
    node_id: ie.NodeId
    cause: ie.Cause
    recovery_time_stamp: ie.RecoveryTimeStamp
    up_features: ie.UpFunctionFeatures | None = None
    cp_features: ie.CpFunctionFeatures | None = None
    offending_ie: ie.OffendingIe | None = None
    key_capability: ie.MpquicKeyCapability | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationUpdateRequest(NodeMessage):
    """§7.4.4.3"""

    TYPE = MessageType.ASSOCIATION_UPDATE_REQUEST
    node_id: ie.NodeId
    up_features: ie.UpFunctionFeatures | None = None
    release_request: ie.AssociationRelease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationUpdateResponse(NodeMessage):
    """§7.4.4.4"""

    TYPE = MessageType.ASSOCIATION_UPDATE_RESPONSE
    node_id: ie.NodeId
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationReleaseRequest(NodeMessage):
    """§7.4.4.5"""

    TYPE = MessageType.ASSOCIATION_RELEASE_REQUEST
    node_id: ie.NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationReleaseResponse(NodeMessage):
    """§7.4.4.6"""

    TYPE = MessageType.ASSOCIATION_RELEASE_RESPONSE
    node_id: ie.NodeId
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionNotSupportedResponse(NodeMessage):
    """§7.4.4.7"""

    TYPE = MessageType.VERSION_NOT_SUPPORTED_RESPONSE


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReportRequest(NodeMessage):
    """§7.4.5.1"""

    TYPE = MessageType.NODE_REPORT_REQUEST
    node_id: ie.NodeId
    report_type: ie.NodeReportType


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReportResponse(NodeMessage):
    """§7.4.5.2"""

    TYPE = MessageType.NODE_REPORT_RESPONSE
    node_id: ie.NodeId
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEstablishmentRequest(SessionMessage):
    """§7.5.2; goes out with SEID 0 in the header"""

    TYPE = MessageType.SESSION_ESTABLISHMENT_REQUEST
    node_id: ie.NodeId
    cp_f_seid: ie.FSeid
    create_pdrs: tuple[r.CreatePdr, ...]
    create_fars: tuple[r.CreateFar, ...]
    create_qers: tuple[r.CreateQer, ...] = ()
    create_mars: tuple[r.CreateMar, ...] = ()
    create_srrs: tuple[r.CreateSrr, ...] = ()
    pdn_type: ie.PdnType | None = None
    dnn: ie.ApnDnn | None = None
    s_nssai: ie.SNssai | None = None
    user_id: ie.UserId | None = None
    provide_atsss: r.ProvideAtsssControl | None = None
    key: ie.MpquicKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEstablishmentResponse(SessionMessage):
    """§7.5.3; UP F-SEID is there when the cause is success"""

    TYPE = MessageType.SESSION_ESTABLISHMENT_RESPONSE
    node_id: ie.NodeId
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None
    up_f_seid: ie.FSeid | None = None
    created_pdrs: tuple[r.CreatedPdr, ...] = ()
    failed_rule: ie.FailedRuleId | None = None
    atsss_parameters: r.AtsssControlParameters | None = None

    def check(self) -> None:
        if self.cause.accepted and self.up_f_seid is None:
            raise ConditionalIeMissing("accepted establishment without UP F-SEID", ie=IeType.F_SEID)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionModificationRequest(SessionMessage):
    """§7.5.4"""

    TYPE = MessageType.SESSION_MODIFICATION_REQUEST
    cp_f_seid: ie.FSeid | None = None
    remove_pdrs: tuple[r.RemovePdr, ...] = ()
    remove_fars: tuple[r.RemoveFar, ...] = ()
    remove_qers: tuple[r.RemoveQer, ...] = ()
    remove_mars: tuple[r.RemoveMar, ...] = ()
    remove_srrs: tuple[r.RemoveSrr, ...] = ()
    create_pdrs: tuple[r.CreatePdr, ...] = ()
    create_fars: tuple[r.CreateFar, ...] = ()
    create_qers: tuple[r.CreateQer, ...] = ()
    create_mars: tuple[r.CreateMar, ...] = ()
    create_srrs: tuple[r.CreateSrr, ...] = ()
    update_pdrs: tuple[r.UpdatePdr, ...] = ()
    update_fars: tuple[r.UpdateFar, ...] = ()
    update_qers: tuple[r.UpdateQer, ...] = ()
    update_mars: tuple[r.UpdateMar, ...] = ()
    provide_atsss: r.ProvideAtsssControl | None = None
    key: ie.MpquicKey | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionModificationResponse(SessionMessage):
    """§7.5.5"""

    TYPE = MessageType.SESSION_MODIFICATION_RESPONSE
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None
    created_pdrs: tuple[r.CreatedPdr, ...] = ()
    failed_rule: ie.FailedRuleId | None = None
    atsss_parameters: r.AtsssControlParameters | None = None
    key_report: ie.MpquicKeyReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDeletionRequest(SessionMessage):
    """§7.5.6"""

    TYPE = MessageType.SESSION_DELETION_REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDeletionResponse(SessionMessage):
    """§7.5.7"""

    TYPE = MessageType.SESSION_DELETION_RESPONSE
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReportRequest(SessionMessage):
    """§7.5.8; our key IEs come with Report Type UISR"""

    TYPE = MessageType.SESSION_REPORT_REQUEST
    report_type: ie.ReportType
    session_reports: tuple[r.SessionReport, ...] = ()
    flags: ie.ReportFlags | None = None
    key_request: ie.MpquicKeyRequest | None = None
    key_reports: tuple[ie.MpquicKeyReport, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReportResponse(SessionMessage):
    """§7.5.9"""

    TYPE = MessageType.SESSION_REPORT_RESPONSE
    cause: ie.Cause
    offending_ie: ie.OffendingIe | None = None
    ue_ip_addresses: tuple[ie.UeIpAddress, ...] = ()


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
    """The response to a request of this type that was refused: of what a refusal can say, what that response has."""
    if kind not in REQUESTS:
        raise UnknownMessage(f"{kind.name} is no request")
    said = {
        "node_id": node_id,
        "cause": error.cause,
        "recovery_time_stamp": recovery_time_stamp,
        "offending_ie": error.ie,
        "failed_rule": FailedRule(RuleKind(error.rule[0]), error.rule[1]) if error.rule else None,
    }
    response = MESSAGES[MessageType(kind + 1)]
    names = {slot.name for slot in slots_of(response).values()}
    return response(**{name: value for name, value in said.items() if name in names})
