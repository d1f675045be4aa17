"""Segments that are joined for the TUN: a mark stays on the packets that have it."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw
from tun_writes import joined_writes

NOT_ECT, ECT1, ECT0, CE = range(4)
SIZE = 500


def segments(version: int, protocol: int, marks: list[int], cwr: frozenset[int] = frozenset()) -> list[bytes]:
    made = []
    for i, ecn in enumerate(marks):
        ip: Packet = IPv6(src="fd99::2", dst="fd45::2", tc=ecn)
        if version == 4:
            ip = IP(src="10.99.0.2", dst="10.45.0.2", tos=ecn, id=i, flags="DF")
        l4: Packet = UDP(sport=1, dport=2)
        if protocol == 6:
            l4 = TCP(sport=1, dport=2, seq=1000 + SIZE * i, ack=5, flags="AC" if i in cwr else "A")
        made.append(bytes(ip / l4 / Raw(bytes([i]) * SIZE)))
    return made


def joined(packets: list[bytes]) -> list[tuple[int, int, list[int]]]:
    """Of each write: its ECN, its TCP flags (0: UDP), and whose payloads are in it."""
    found = []
    for raw in joined_writes(packets):
        parsed = IP(raw) if raw[0] >> 4 == 4 else IPv6(raw)
        tcp = TCP in parsed
        payload = bytes(parsed[TCP if tcp else UDP].payload)
        ecn = (parsed.tos if parsed.version == 4 else parsed.tc) & 3
        found.append((ecn, int(parsed[TCP].flags) if tcp else 0, [payload[at] for at in range(0, len(payload), SIZE)]))
    return found


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("protocol", [6, 17])
def test_a_run_has_one_mark(version: int, protocol: int) -> None:
    flags = 16 if protocol == 6 else 0
    plain = segments(version, protocol, [ECT0] * 5)
    assert joined(plain) == [(ECT0, flags, [0, 1, 2, 3, 4])]  # canary: they are joined
    mixed = segments(version, protocol, [ECT0, ECT0, CE, CE, ECT0, NOT_ECT])
    assert joined(mixed) == [(ECT0, flags, [0, 1]), (CE, flags, [2, 3]), (ECT0, flags, [4]), (NOT_ECT, flags, [5])]


@pytest.mark.parametrize("version", [4, 6])
def test_a_window_that_was_reduced_is_told_once(version: int) -> None:
    """CWR (RFC 3168 §6.1.2) on one segment does not spread over those behind it, nor get lost."""
    assert [(flags & 0x80, whose) for _, flags, whose in joined(segments(version, 6, [ECT0] * 4, frozenset([1])))] == [
        (0, [0]), (0x80, [1]), (0, [2, 3]),
    ]
