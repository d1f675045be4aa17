"""Inner packets and steering rules that most tests use."""

from __future__ import annotations

BALANCED = {"mode": 2, "weight": [30, 70]}
REDUNDANT = {"mode": 4, "active_access": -1, "transport": 1}
SPLIT = {"mode": 2, "weight": [50, 50], "transport": 1}
ACTIVE_3GPP = {"mode": 0, "active_access": 0, "has_standby": 1}
ACTIVE_NON_3GPP = {"mode": 0, "active_access": 1, "has_standby": 1}


def udp4(size: int, *, up: bool = True, flow: int = 0, serial: int = 0, ue: str = "10.45.0.2", dn: str = "10.99.0.2") -> bytes:
    """An inner UDP packet of `size` octets: from the UE (up) or to it."""
    ends = [bytes(int(x) for x in ue.split(".")), bytes(int(x) for x in dn.split("."))]
    ports = [(20000 + flow).to_bytes(2, "big"), (5201).to_bytes(2, "big")]
    if not up:
        ends.reverse()
        ports.reverse()
    header = bytes([0x45, 0]) + size.to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, 17, 0, 0]) + ends[0] + ends[1]
    body = ports[0] + ports[1] + (size - 20).to_bytes(2, "big") + b"\0\0" + serial.to_bytes(8, "big")
    return header + body + bytes(size - len(header) - len(body))


def tcp4(flags: int, data: bytes = b"", *, ue: str = "10.45.0.2", dn: str = "10.99.0.2") -> bytes:
    """An inner TCP segment from the UE: 0x10 ACK, 0x11 with FIN."""
    ends = [bytes(int(x) for x in address.split(".")) for address in (ue, dn)]
    header = bytes([0x45, 0]) + (40 + len(data)).to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, 6, 0, 0]) + ends[0] + ends[1]
    return header + (20000).to_bytes(2, "big") + (5201).to_bytes(2, "big") + bytes(8) + bytes([0x50, flags]) + bytes(6) + data


def serial_of(packet: bytes) -> int:
    """The serial number that `udp4` put in."""
    return int.from_bytes(packet[28:36], "big")
