"""Our service Namf_MpquicKey, `namf-mpquickey/v1`: the SMF asks the AMF for a key (step 3), the AMF tells what became of it.
Bodies of this service hold keys: they are never logged, and `repr` shows none."""

import re
import uuid
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from fiveg.sbi.member import Base64, Choice, Integer, JsonObject, Member, Uri, Uuid
from fiveg.sbi.types import PDU_SESSION_ID

ROOT = "/namf-mpquickey/v1"
GENERATION = Integer(0, 2**32 - 1)
LIFETIME = Integer(60, 86400)
CAUSE = Integer(0, 255)


class KeyReason(Enum):
    INITIAL = "INITIAL"
    UE_REQUEST = "UE_REQUEST"
    UPF_LIMIT = "UPF_LIMIT"
    POLICY = "POLICY"
    REAUTHENTICATION = "REAUTHENTICATION"
    REPAIR = "REPAIR"


class N1Delivery(Enum):
    """PENDING: the UE cannot be reached now."""

    INITIATED = "INITIATED"
    PENDING = "PENDING"


class KeyEvent(Enum):
    UE_ACK = "UE_ACK"
    UE_REJECT = "UE_REJECT"
    UE_NOT_REACHABLE = "UE_NOT_REACHABLE"
    UE_REKEY_REQUEST = "UE_REKEY_REQUEST"
    KAMF_CHANGED = "KAMF_CHANGED"
    REKEY_POLICY = "REKEY_POLICY"
    """the AMF's policy, or a command, wants a new key; answered when the UPF has it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MpquicKeyCreateData(JsonObject):
    pdu_session_id: Annotated[int, Member("pduSessionId", PDU_SESSION_ID)]
    nf_id: Annotated[uuid.UUID, Member("nfId", Uuid())]
    reason: Annotated[KeyReason, Member("reason", Choice(KeyReason))]
    notif_uri: Annotated[str, Member("notifUri", Uri())]
    held_generation: Annotated[int | None, Member("heldGeneration", GENERATION)] = None
    requested_lifetime: Annotated[int | None, Member("requestedLifetime", LIFETIME)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MpquicKeyCreatedData(JsonObject):
    generation: Annotated[int, Member("generation", GENERATION)]
    key: Annotated[bytes, Member("key", Base64(32))] = field(repr=False)
    lifetime: Annotated[int, Member("lifetime", LIFETIME)]
    n1_delivery: Annotated[N1Delivery, Member("n1Delivery", Choice(N1Delivery))]


@dataclass(frozen=True, slots=True, kw_only=True)
class MpquicKeyNotification(JsonObject):
    pdu_session_id: Annotated[int, Member("pduSessionId", PDU_SESSION_ID)]
    generation: Annotated[int, Member("generation", GENERATION)]
    event: Annotated[KeyEvent, Member("event", Choice(KeyEvent))]
    cause: Annotated[int, Member("cause", CAUSE)] = 0


def collection(supi: str) -> str:
    """Path that a key is asked for at."""
    return f"{ROOT}/ue-contexts/{supi}/mpquic-keys"


def resource(supi: str, pdu_session_id: int, generation: int) -> str:
    """Path of one key: Location of the 201, target of DELETE."""
    return f"{collection(supi)}/{pdu_session_id}-{generation}"


def resource_parse(path: str) -> tuple[str, int, int] | None:
    """SUPI, PDU session ID and generation of a key's path; None: not one."""
    match = re.fullmatch(ROOT + r"/ue-contexts/([^/]{1,128})/mpquic-keys/(\d{1,2})-(\d{1,10})", path, re.ASCII)
    return None if match is None else (match[1], int(match[2]), int(match[3]))
