"""ECN of inner packets: what our own queue marks, and what comes marked over the path (RFC 6040 §4.2, RFC 9484 §10.3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from native.sim import BALANCED, MS, SECOND, Simulator

NOT_ECT, ECT1, ECT0, CE = range(4)
ALL_CE = (NOT_ECT, CE, CE, CE)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(51) as s:
        s.tunnel(*s.connect(), [BALANCED])
        s.run(SECOND)
        yield s


def packet(version: int, ecn: int, size: int = 100, dscp: int = 46) -> bytes:
    of_service = dscp << 2 | ecn
    head: Packet = IP(src="10.45.0.2", dst="10.99.0.2", tos=of_service)
    if version == 6:
        head = IPv6(src="fd45:0:0:1::2", dst="fd99::2", tc=of_service)
    return bytes(head / UDP(sport=20000, dport=5201) / Raw(bytes(size - len(head) - 8)))


def ecn_of(raw: bytes) -> int:
    return (IP(raw).tos if raw[0] >> 4 == 4 else IPv6(raw).tc) & 3


def marked(raw: bytes) -> bytes:
    """As scapy marks it CE, with its checksum made anew."""
    parsed = IP(raw) if raw[0] >> 4 == 4 else IPv6(raw)
    if raw[0] >> 4 == 4:
        parsed.tos |= CE
        del parsed.chksum
    else:
        parsed.tc |= CE
    return bytes(parsed)


def arrived(sim: Simulator) -> list[bytes]:
    return [p for _, _, p in sim.server.inner]


@pytest.mark.parametrize("ecn", [NOT_ECT, ECT1, ECT0, CE])
@pytest.mark.parametrize("version", [4, 6])
def test_ce_of_the_datagram_is_copied_to_what_does_ecn(sim: Simulator, version: int, ecn: int) -> None:
    """Never to what does not: nor is that dropped, for our own congestion control has taken the mark."""
    sent = packet(version, ecn)
    sim.inner(sim.client, sent)
    sim.run(100 * MS)
    assert arrived(sim) == [sent]  # canary: not without a mark
    sim.server.inner.clear()
    sim.wires[0, 0].ecn = ALL_CE
    sim.inner(sim.client, sent)
    sim.run(100 * MS)
    assert arrived(sim) == [marked(sent) if ecn else sent]
    assert sim.server.counters().get("inner_ce", 0) == (1 if ecn else 0)
    assert not sim.server.drops()


def test_our_own_congestion_control_reacts_as_well(sim: Simulator) -> None:
    conn = next(iter(sim.client.connections()))
    before = sim.client.paths(conn)[0].congestion_events
    sim.wires[0, 0].ecn = ALL_CE
    for _ in range(20):
        sim.inner(sim.client, packet(4, ECT0, 1000))
    sim.run(200 * MS)
    assert {ecn_of(p) for p in arrived(sim)} == {CE}
    assert sim.client.paths(conn)[0].congestion_events > before


@pytest.mark.parametrize("ecn", [NOT_ECT, ECT1, ECT0])
@pytest.mark.parametrize("version", [4, 6])
def test_a_standing_queue_marks_what_does_ecn_and_drops_the_rest(sim: Simulator, version: int, ecn: int) -> None:
    """Half as much again as the line carries: the queue of the path stands."""
    sim.shape(0, rate=5e6, queue=20 * MS)
    count = 0

    def send() -> None:
        nonlocal count
        sim.inner(sim.client, packet(version, ecn, 1200))
        count += 1

    sim.every(1_300_000, sim.now + 2 * SECOND, send)
    sim.run(3 * SECOND)
    counters = sim.client.counters()
    marks, drops = counters.get("path_queue_ce", 0), counters.get("path_queue_codel", 0)
    assert (marks > 20 and drops == 0) if ecn else (drops > 20 and marks == 0)
    seen = [ecn_of(p) for p in arrived(sim)]
    assert set(seen) <= {ecn, CE} and (CE in seen) == (ecn != NOT_ECT)
    assert all(p in (packet(version, ecn, 1200), marked(packet(version, ecn, 1200))) for p in set(arrived(sim)))
    if ecn:
        assert seen.count(CE) > len(seen) // 100
