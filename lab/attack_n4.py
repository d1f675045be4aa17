"""Attacks on N4: forged, replayed and broken PFCP (bars.md E)."""

from __future__ import annotations

import secrets
from typing import Any

from scapy.contrib.pfcp import (
    PFCP,
    PFCPAssociationSetupRequest,
    PFCPHeartbeatRequest,
    PFCPSessionDeletionRequest,
    PFCPSessionModificationRequest,
    PFCPSessionModificationResponse,
)

import lab.packets.pfcp  # noqa: F401  (binds our vendor IEs)
from lab.attack import Attack, table
from lab.craft import Craft, Seen, Taken

HEARTBEAT, SETUP, MODIFICATION, MODIFICATION_ANSWER, DELETION = 1, 5, 52, 53, 54
KEY_IE = 0x8002
GENERATION_AT, LATER = 4, 1  # behind Enterprise ID, version and flags; a generation far beyond those in use
STRANGER = "10.90.0.66"
RECOVERY = b"\0\x60\0\4\xe8\0\0\0"
OTHERS, BEATS = 2500, 20  # 50,000 heartbeats
UNKNOWN_TYPE, OTHER_VERSION = b"\x20\xf0\0\4", b"\x40\1\0\4"
ACCEPTED = "upf:requests_received"


def sequence() -> int:
    return secrets.randbelow(1 << 24)


def session(kind: int, seid: int, body: Any, number: int | None = None) -> bytes:
    return bytes(PFCP(version=1, S=1, message_type=kind, seid=seid, seq=sequence() if number is None else number) / body)


def node(kind: int, body: Any, version: int = 1) -> bytes:
    return bytes(PFCP(version=version, S=0, message_type=kind, seq=sequence()) / body)


def sized(message: bytes) -> bytes:
    """With the length that it has."""
    return message[:2] + (len(message) - 4).to_bytes(2, "big") + message[4:]


def delivery(seen: Seen) -> Taken:
    """The first Session Modification that carried a key (step 6)."""
    return next(d for d in seen.pfcps(MODIFICATION) if _ends(d.flow.payload, KEY_IE))


def seid(taken: Taken) -> int:
    return int.from_bytes(taken.flow.payload[4:12], "big")


def renumbered(payload: bytes) -> bytes:
    """The same message as a new transaction."""
    return payload[:12] + sequence().to_bytes(3, "big") + payload[15:]


def _ends(payload: bytes, kind: int) -> tuple[int, int] | None:
    """Where the first IE of this type of a session message begins and ends."""
    at = 16
    while at + 4 <= len(payload):
        found, end = int.from_bytes(payload[at:at + 2], "big"), at + 4 + int.from_bytes(payload[at + 2:at + 4], "big")
        if found == kind:
            return at, end
        at = end
    return None


async def right(craft: Craft, seen: Seen) -> int:
    """The SMF's own: a modification of its session that changes nothing."""
    like = delivery(seen)
    return await craft.n4(like, [session(MODIFICATION, seid(like), PFCPSessionModificationRequest())])


async def right_answer(craft: Craft, seen: Seen) -> int:
    """To the SMF: a heartbeat of its UPF."""
    like = seen.pfcps(MODIFICATION_ANSWER)[0]
    return await craft.n4(like, [heartbeat(seen.pfcps(HEARTBEAT)[0])])


def heartbeat(like: Taken | None = None) -> bytes:
    if like is not None:  # with the Recovery Time Stamp that is true
        return like.flow.payload[:4] + sequence().to_bytes(3, "big") + like.flow.payload[7:]
    return sized(node(HEARTBEAT, PFCPHeartbeatRequest()) + RECOVERY)


async def stranger_deletes(craft: Craft, seen: Seen) -> int:
    like = delivery(seen)
    return await craft.n4(like, [session(DELETION, seid(like), PFCPSessionDeletionRequest()),
                                 session(MODIFICATION, seid(like), PFCPSessionModificationRequest())], source=STRANGER)


async def wrong_seid(craft: Craft, seen: Seen) -> int:
    like = delivery(seen)
    wrong = [0, (1 << 64) - 1, seid(like) ^ 1]
    return await craft.n4(like, [session(DELETION, s, PFCPSessionDeletionRequest()) for s in wrong])


async def other_association(craft: Craft, seen: Seen) -> int:
    """An SMF that the UPF was not told of: it asks for an association, and then after another's session."""
    like = delivery(seen)
    sent = await craft.n4(like, [association()], source=STRANGER)
    return sent + await craft.n4(like, [session(DELETION, seid(like), PFCPSessionDeletionRequest())], source=STRANGER)


async def stray_answer(craft: Craft, seen: Seen) -> int:
    """To the SMF, in the UPF's name: answers that nobody waits for."""
    like = seen.pfcps(MODIFICATION_ANSWER)[0]
    body = PFCPSessionModificationResponse()
    return await craft.n4(like, [session(MODIFICATION_ANSWER, seid(like), body, n) for n in (0, 0xFFFFFF, sequence())])


async def foreign_upf(craft: Craft, seen: Seen) -> int:
    like = seen.pfcps(MODIFICATION_ANSWER)[0]
    return await craft.n4(like, [heartbeat()], source=STRANGER)


async def replayed_key(craft: Craft, seen: Seen) -> int:
    """The recorded key delivery as a new transaction."""
    like = delivery(seen)
    return await craft.n4(like, [renumbered(like.flow.payload)])


async def flipped_key(craft: Craft, seen: Seen) -> int:
    """The recorded key delivery with one bit of the wrapped key changed, as the next generation."""
    like = delivery(seen)
    payload = bytearray(renumbered(like.flow.payload))
    found = _ends(bytes(payload), KEY_IE)
    assert found is not None  # that is how the delivery was found
    start, end = found
    payload[end - 1] ^= 1
    payload[start + 4 + GENERATION_AT] = LATER  # its highest octet
    return await craft.n4(like, [bytes(payload)])


async def broken_ies(craft: Craft, seen: Seen) -> int:
    """Lengths beyond the message and of nothing where a value is due."""
    like = delivery(seen)
    head = session(MODIFICATION, seid(like), PFCPSessionModificationRequest())
    bodies = [b"\0\x09\x00\x40\0\x38\0\2\0\1", b"\0\x09\0\4\0\x38\0\xff", b"\x80\x02\0\2\x7e\xd9", b"\0\x09\0\0"]
    made = []
    for body in bodies:
        made.append(sized(head[:12] + sequence().to_bytes(3, "big") + head[15:16] + body))
    return await craft.n4(like, made)


async def flood(craft: Craft, seen: Seen) -> int:
    """Heartbeats, set-ups, messages of no type and of another version, from an address that does not resolve."""
    like = delivery(seen)
    others = [first + secrets.token_bytes(3) + b"\0" for first in (UNKNOWN_TYPE, OTHER_VERSION)]
    return await craft.n4(like, [*(heartbeat() for _ in range(BEATS)), association(), *others] * OTHERS, source=STRANGER)


def association() -> bytes:
    node_id = b"\0\x3c\0\5\0" + bytes(map(int, STRANGER.split(".")))
    return sized(node(SETUP, PFCPAssociationSetupRequest()) + node_id + RECOVERY)


ATTACKS = table(
    Attack("n4-wrong-peer", ("R-136",), "deletion and modification of a live session by an address without an association",
           {"upf:pfcp.refused.session_context_not_found": 2}, stranger_deletes, right, ACCEPTED),
    Attack("n4-wrong-seid", ("R-136",), "SEID 0, 2^64-1 and the one beside it", {"upf:pfcp.refused.session_context_not_found": 3},
           wrong_seid, right, ACCEPTED),
    Attack("n4-other-association", ("R-136",), "an SMF that the UPF was not told of, and its deletion of another's session",
           {"upf:pfcp.refused.request_rejected": 1, "upf:pfcp.refused.session_context_not_found": 1}, other_association, right,
           ACCEPTED),
    Attack("n4-stray-answer", ("R-138",), "responses that match no request, to the SMF", {"smf:stray_response": 3}, stray_answer,
           right_answer, "smf:requests_received"),
    Attack("n4-foreign-upf", ("R-136",), "PFCP to the SMF from an address that is not its UPF's", {"smf:n4.foreign_peer": 1},
           foreign_upf, right_answer, "smf:requests_received"),
    Attack("n4-replayed-key", ("R-137",), "the recorded key delivery again", {"upf:key.refused.stale_generation": 1}, replayed_key,
           right, ACCEPTED),
    Attack("n4-flipped-key", ("R-137",), "a wrapped key with one bit changed", {"upf:key.refused.unwrap_failed": 1}, flipped_key,
           right, ACCEPTED),
    Attack("n4-broken-ies", ("R-130", "R-131"), "IE lengths beyond the message, and of nothing",
           {"upf:pfcp.refused.invalid_length": 3, "upf:pfcp.refused.mandatory_ie_missing": 1}, broken_ies, right, ACCEPTED),
    Attack("n4-flood", ("R-139",), f"{OTHERS * BEATS:,} heartbeats, set-ups, unknown messages, another version",
           {"upf:n4.stranger_limited": OTHERS}, flood, right, ACCEPTED),
)
