"""Inner packets whose inside does not hold together (R-37): chains of extension headers, lengths of 0, fragments over fragments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from native import lib
from native.sim import BALANCED, SECOND, Simulator, check

UE4, DN4 = bytes([10, 45, 0, 2]), bytes([10, 99, 0, 2])
UE6, DN6 = bytes.fromhex("fd450000000000010000000000000002"), bytes.fromhex("fd990000000000000000000000000002")
HOP_BY_HOP, TCP, UDP, ROUTING, FRAGMENT, NONE, DESTINATION = 0, 6, 17, 43, 44, 59, 60
MOST = 8  # extension headers in a chain
UDP_BODY = (20000).to_bytes(2, "big") + (5201).to_bytes(2, "big") + (24).to_bytes(2, "big") + bytes(18)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(37) as s:
        s.tunnel(*s.connect(), [BALANCED])
        yield s


def ip6(first: int, body: bytes = b"", *, length: int | None = None, up: bool = True) -> bytes:
    size = (len(body) if length is None else length).to_bytes(2, "big")
    return b"\x60\0\0\0" + size + bytes([first, 64]) + (UE6 + DN6 if up else DN6 + UE6) + body


def ip4(body: bytes, protocol: int = UDP, offset: int = 0, more: bool = False) -> bytes:
    field = (offset | more << 13).to_bytes(2, "big")
    return b"\x45\0" + (20 + len(body)).to_bytes(2, "big") + b"\0\1" + field + bytes([64, protocol, 0, 0]) + UE4 + DN4 + body


def extension(following: int, eights: int = 0, present: int | None = None) -> bytes:
    """An extension header that says it has `eights` units of 8 octets more, and has `present`."""
    return bytes([following, eights]) + bytes(6 + 8 * (eights if present is None else present))


def chain(count: int, last: int = UDP, kind: int = DESTINATION) -> bytes:
    return extension(kind) * (count - 1) + extension(last)


def fragment6(body: bytes, protocol: int = UDP, offset: int = 0, more: bool = False) -> bytes:
    return ip6(FRAGMENT, bytes([protocol, 0]) + (offset << 3 | more).to_bytes(2, "big") + bytes(4) + body)


REFUSED = {
    "IPv6 of payload length 0 that announces UDP": ip6(UDP),
    "IPv6 of payload length 0 that announces TCP": ip6(TCP),
    "IPv6 of payload length 0 that announces hop-by-hop options": ip6(HOP_BY_HOP),
    "a jumbogram: payload length 0 before a payload": ip6(HOP_BY_HOP, bytes([UDP, 0, 0xC2, 4, 0, 1, 0, 0]) + UDP_BODY, length=0),
    "a chain without end": ip6(DESTINATION, extension(DESTINATION) * 100),
    "a chain of hop-by-hop headers": ip6(HOP_BY_HOP, extension(HOP_BY_HOP) * 120),
    "a chain that is one too long": ip6(DESTINATION, chain(MOST + 1) + UDP_BODY),
    "a chain cut in a header": ip6(DESTINATION, extension(DESTINATION) + bytes([UDP, 0, 0])),
    "an extension header of one octet": ip6(ROUTING, b"\x11"),
    "an extension header that ends behind the packet": ip6(DESTINATION, extension(UDP, 255, 1)),
    "an extension header one unit too long": ip6(DESTINATION, extension(UDP, 2, 1)),
    "a fragment header that is cut": ip6(FRAGMENT, bytes([UDP, 0, 0, 1])),
    "a chain that a first fragment does not hold": fragment6(extension(UDP, 9, 1), DESTINATION, 0, True),
    "an IPv6 fragment of nothing": fragment6(b"", UDP, 4, True),
    "an IPv6 fragment that ends behind every packet": fragment6(bytes(64), UDP, 8191 - 4),
    "an IPv6 fragment of half a unit": fragment6(bytes(20), UDP, 0, True),
    "an IPv6 fragment over the TCP header": fragment6(bytes(24), TCP, 1),
    "an IPv6 first fragment without TCP's flags": fragment6(bytes(8), TCP, 0, True),
    "an IPv4 fragment of nothing": ip4(b"", UDP, 4),
    "an IPv4 fragment that ends behind every packet": ip4(bytes(64), 1, 8191),
    "an IPv4 fragment of half a unit": ip4(bytes(20), UDP, 0, True),
    "an IPv4 fragment over the TCP header": ip4(bytes(24), TCP, 1),
    "an IPv4 first fragment without TCP's flags": ip4(bytes(8), TCP, 0, True),
}

TAKEN = {
    "nothing, and it says so": ip6(NONE),
    "no next header before octets": ip6(NONE, bytes(9)),
    "the longest chain": ip6(DESTINATION, chain(MOST) + UDP_BODY),
    "a chain of every kind": ip6(HOP_BY_HOP, extension(ROUTING) + extension(DESTINATION, 3) + extension(UDP) + UDP_BODY),
    "a whole packet with a fragment header": fragment6(UDP_BODY),
    "first fragment": fragment6(UDP_BODY, UDP, 0, True),
    "a later one": fragment6(bytes(40), UDP, 3, True),
    "one that overlaps it behind the ports": fragment6(b"\1" * 40, UDP, 4, True),
    "the last": fragment6(b"x", UDP, 8),
    "a later one of what began with an extension header": fragment6(b"\xff" * 8, DESTINATION, 3, True),
    "TCP's first": ip4(bytes(16), TCP, 0, True),
    "TCP's second": ip4(bytes(17), TCP, 2),
    "the last octets of the largest packet": ip4(bytes(65515 - 8189 * 8), UDP, 8189),
    "IPv4 fragments, one over the other": ip4(bytes(32), UDP, 5, True),
}


def from_the_peer(sim: Simulator, packet: bytes) -> None:
    """In a DATAGRAM of another engine's: that of the UE would not send it."""
    check(lib.conn_datagram_send(sim.client.endpoint, sim.client.connections()[0], b"\0\0" + packet, len(packet) + 2))


@pytest.mark.parametrize("name", REFUSED)
def test_an_inner_packet_that_does_not_hold_together_is_dropped(sim: Simulator, name: str) -> None:
    """By the UPF; what comes behind it is served."""
    from_the_peer(sim, REFUSED[name])
    from_the_peer(sim, TAKEN["the longest chain"])
    sim.run(SECOND)
    assert sim.server.drops() == {"inner_malformed": 1}
    assert [packet for _, _, packet in sim.server.inner] == [TAKEN["the longest chain"]]


@pytest.mark.parametrize("name", REFUSED)
def test_a_ue_does_not_send_it(sim: Simulator, name: str) -> None:
    sim.inner(sim.client, REFUSED[name])
    sim.run(SECOND)
    assert sim.client.drops() == {"inner_malformed": 1} and not sim.server.inner


def test_what_holds_together_goes_unchanged(sim: Simulator) -> None:
    """The canary: fragments are put together by nobody here, overlapping ones neither."""
    for packet in TAKEN.values():
        sim.inner(sim.client, packet)
        from_the_peer(sim, packet)
    sim.run(SECOND)
    assert not sim.client.drops() and not sim.server.drops()
    assert sorted(packet for _, _, packet in sim.server.inner) == sorted(2 * list(TAKEN.values()))


def test_nobody_is_told_the_mtu_for_an_error_or_a_later_fragment(sim: Simulator) -> None:
    """RFC 1122 §3.2.2, RFC 4443 §2.4; an ICMPv6 error hides behind an extension header. Canary: an echo request is answered."""
    error, echo = bytes([1, 0]) + bytes(1400), bytes([128, 0]) + bytes(1400)
    for packet in (ip4(bytes(1400), UDP, 100), ip6(DESTINATION, extension(58) + error), ip6(58, error)):
        sim.inner(sim.client, packet)
        sim.run(SECOND)
        assert sim.client.inner == []
    for packet in (ip4(bytes(1400), UDP, 0, True), ip6(DESTINATION, extension(58) + echo)):
        sim.inner(sim.client, packet)
    sim.run(SECOND)
    assert sim.client.drops() == {"inner_mtu": 5} and len(sim.client.inner) == 2
