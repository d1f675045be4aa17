"""One line about a PFCP message (TS 29.244 §7.2.2): name, SEID, sequence number, and our vendor IEs by name."""

from __future__ import annotations

PFCP_PORT = 8805
MESSAGES = {
    1: "Heartbeat Request", 2: "Heartbeat Response", 5: "Association Setup Request", 6: "Association Setup Response",
    7: "Association Update Request", 8: "Association Update Response", 9: "Association Release Request",
    10: "Association Release Response", 11: "Version Not Supported Response", 12: "Node Report Request",
    13: "Node Report Response", 50: "Session Establishment Request", 51: "Session Establishment Response",
    52: "Session Modification Request", 53: "Session Modification Response", 54: "Session Deletion Request",
    55: "Session Deletion Response", 56: "Session Report Request", 57: "Session Report Response",
}
ENTERPRISE_ID = 32473           # RFC 5612
VENDOR_IES = {0x8001: "MPQUIC Key Request", 0x8002: "MPQUIC Key", 0x8003: "MPQUIC Key Report",
              0x8004: "MPQUIC Key Capability"}


def vendor_ies(body: bytes) -> list[tuple[int, bytes]]:
    """Our IEs at the top level: (type, value behind the Enterprise ID). Reading stops where lengths do not fit."""
    out: list[tuple[int, bytes]] = []
    offset = 0
    while offset + 4 <= len(body):
        kind = int.from_bytes(body[offset:offset + 2], "big")
        length = int.from_bytes(body[offset + 2:offset + 4], "big")
        value = body[offset + 4:offset + 4 + length]
        if len(value) < length:
            break
        if kind in VENDOR_IES and value[:2] == ENTERPRISE_ID.to_bytes(2, "big"):
            out.append((kind, value[2:]))
        offset += 4 + length
    return out


def pfcp_words(message: bytes) -> str:
    if len(message) < 8 or message[0] >> 5 != 1:
        return "not PFCP version 1"
    name = MESSAGES.get(message[1], f"message {message[1]}")
    session = bool(message[0] & 1)
    if session and len(message) < 16:
        return f"{name}, cut off"
    sequence = int.from_bytes(message[12:15] if session else message[4:7], "big")
    words = f"{name} seq {sequence}"
    if session:
        words += f" SEID 0x{int.from_bytes(message[4:12], 'big'):x}"
    names = [VENDOR_IES[kind] for kind, _ in vendor_ies(message[16 if session else 8:])]
    return words + (f" [{', '.join(names)}]" if names else "")
