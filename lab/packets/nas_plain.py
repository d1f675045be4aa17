"""NAS PDUs as the captures show them: names, security header, our key container (TS 24.501 §9; code points of ours)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lab.packets.errors import PacketError
from lab.packets.varint import take

EPD_5GMM, EPD_5GSM = 0x7E, 0x2E
PAYLOAD_N1_SM, PAYLOAD_KEY = 0x1, 0xD
UL_NAS_TRANSPORT, DL_NAS_TRANSPORT = 0x67, 0x68
TLV_P0, TLV_KEY, TLV_LIFETIME, TLV_CAUSE, TLV_DRAIN, TLV_FINGERPRINT = 1, 2, 3, 4, 5, 6
SECURITY_HEADERS = {0: "plain", 1: "integrity", 2: "integrity, ciphered", 3: "integrity, new context",
                    4: "integrity, ciphered, new context"}
MM_NAMES = {
    0x41: "REGISTRATION REQUEST", 0x42: "REGISTRATION ACCEPT", 0x43: "REGISTRATION COMPLETE",
    0x44: "REGISTRATION REJECT", 0x45: "DEREGISTRATION REQUEST (UE)", 0x46: "DEREGISTRATION ACCEPT (UE)",
    0x47: "DEREGISTRATION REQUEST (network)",
    0x48: "DEREGISTRATION ACCEPT (network)", 0x4C: "SERVICE REQUEST", 0x4D: "SERVICE REJECT", 0x4E: "SERVICE ACCEPT",
    0x54: "CONFIGURATION UPDATE COMMAND", 0x55: "CONFIGURATION UPDATE COMPLETE", 0x56: "AUTHENTICATION REQUEST",
    0x57: "AUTHENTICATION RESPONSE", 0x58: "AUTHENTICATION REJECT", 0x59: "AUTHENTICATION FAILURE",
    0x5A: "AUTHENTICATION RESULT", 0x5B: "IDENTITY REQUEST", 0x5C: "IDENTITY RESPONSE", 0x5D: "SECURITY MODE COMMAND",
    0x5E: "SECURITY MODE COMPLETE", 0x5F: "SECURITY MODE REJECT", 0x64: "5GMM STATUS", 0x65: "NOTIFICATION",
    0x66: "NOTIFICATION RESPONSE", 0x67: "UL NAS TRANSPORT", 0x68: "DL NAS TRANSPORT",
}
SM_NAMES = {
    0xC1: "PDU SESSION ESTABLISHMENT REQUEST", 0xC2: "PDU SESSION ESTABLISHMENT ACCEPT",
    0xC3: "PDU SESSION ESTABLISHMENT REJECT", 0xC9: "PDU SESSION MODIFICATION REQUEST",
    0xCA: "PDU SESSION MODIFICATION REJECT", 0xCB: "PDU SESSION MODIFICATION COMMAND",
    0xCC: "PDU SESSION MODIFICATION COMPLETE", 0xCD: "PDU SESSION MODIFICATION COMMAND REJECT",
    0xD1: "PDU SESSION RELEASE REQUEST", 0xD2: "PDU SESSION RELEASE REJECT", 0xD3: "PDU SESSION RELEASE COMMAND",
    0xD4: "PDU SESSION RELEASE COMPLETE", 0xD6: "5GSM STATUS",
}
KEY_TYPES = {1: "KEY PROVISION", 2: "KEY ACK", 3: "KEY REQUEST", 4: "KEY REJECT", 5: "KEY REVOKE"}


@dataclass(frozen=True, slots=True)
class KeyContainer:
    """version 1 ‖ type 1 ‖ transaction 1 ‖ generation 4 ‖ TLVs (tag 1, length 2)."""

    version: int
    type: int
    transaction: int
    generation: int
    tlvs: tuple[tuple[int, int, int], ...]          # tag, offset of the value in the container, its length


def read_key_container(data: bytes) -> KeyContainer:
    head, offset = take(data, 0, 7, "key container")
    tlvs = []
    while offset < len(data):
        start, offset = take(data, offset, 3, "key container TLV")
        length = int.from_bytes(start[1:], "big")
        tlvs.append((start[0], offset, length))
        _, offset = take(data, offset, length, "key container TLV")
    return KeyContainer(head[0], head[1], head[2], int.from_bytes(head[3:7], "big"), tuple(tlvs))


def payload_container(message: bytes) -> tuple[int, int, int] | None:
    """(type, offset, length) of the container in a plain UL or DL NAS TRANSPORT; None for another message."""
    if len(message) < 6 or message[0] != EPD_5GMM or message[1] & 15 or message[2] not in (
            UL_NAS_TRANSPORT, DL_NAS_TRANSPORT):
        return None
    length = int.from_bytes(message[4:6], "big")
    if 6 + length > len(message):
        raise PacketError("NAS TRANSPORT", "its payload container is cut off", 4)
    return message[3] & 15, 6, length


def without_key(message: bytes) -> tuple[bytes, str]:
    """A plain NAS message with the octets of a delivered key zeroed (a capture holds no K_MPQUIC), and what was found:
    the key container in words, with the key's fingerprint."""
    place = payload_container(message)
    if place is None or place[0] != PAYLOAD_KEY:
        return message, ""
    _, offset, length = place
    body = message[offset:offset + length]
    container = read_key_container(body)
    words = f"{KEY_TYPES.get(container.type, f'type {container.type}')} generation {container.generation}"
    out = bytearray(message)
    for tag, start, size in container.tlvs:
        value = body[start:start + size]
        if tag == TLV_KEY:
            out[offset + start:offset + start + size] = bytes(size)
            mark = hashlib.sha256(b"mpquic key fingerprint" + value).digest()[:4]
            words += f", key of fingerprint {mark.hex()} (its octets are zeroed here)"
        elif tag == TLV_FINGERPRINT:
            words += f", fingerprint {value.hex()}"
        elif tag == TLV_CAUSE:
            words += f", cause {int.from_bytes(value, 'big')}"
        elif tag == TLV_LIFETIME:
            words += f", lifetime {int.from_bytes(value, 'big')} s"
    return bytes(out), words


def nas_words(message: bytes) -> str:
    """The name of a NAS message, and of the message inside a transport."""
    if len(message) < 3:
        return "NAS, shorter than a header"
    if message[0] == EPD_5GSM:
        return SM_NAMES.get(message[3], f"5GSM 0x{message[3]:02x}") if len(message) > 3 else "5GSM, cut off"
    if message[0] != EPD_5GMM:
        return f"not NAS (discriminator 0x{message[0]:02x})"
    security = message[1] & 15
    if security:
        inner = message[7:]
        clear = security in (1, 3) and inner[:2] == b"\x7e\x00"
        return f"protected ({SECURITY_HEADERS.get(security, '?')})" + (f": {nas_words(inner)}" if clear else "")
    name = MM_NAMES.get(message[2], f"5GMM 0x{message[2]:02x}")
    try:
        place = payload_container(message)
        if place is None:
            return name
        kind, offset, length = place
        body = message[offset:offset + length]
        if kind == PAYLOAD_N1_SM:
            return f"{name}: {nas_words(body)}"
        if kind == PAYLOAD_KEY:
            return f"{name}: {without_key(message)[1]}"
        return f"{name}: payload container type {kind}"
    except PacketError as error:
        return f"{name}, malformed: {error}"
