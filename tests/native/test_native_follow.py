"""Packets without ports of their own go the way of the flow that they belong to: later fragments, ICMP errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6PacketTooBig, ICMPv6TimeExceeded, IPv6, IPv6ExtHdrFragment, fragment6
from scapy.packet import Packet, Raw

from native import lib
from native.sim import MS, SECOND, Simulator

UE4, DN4, UE6, DN6 = "10.45.0.2", "10.99.0.2", "fd45:0:0:1::2", "fd99::2"
PORT = 5201
HERE = {"match_port": 1, "port_low": PORT, "port_high": PORT, "mode": lib.STEER_ACTIVE_STANDBY, "active_access": 1}
ELSE = {"mode": lib.STEER_ACTIVE_STANDBY, "active_access": 0}


@pytest.fixture
def line() -> Iterator[tuple[Simulator, int]]:
    """What goes to port 5201 takes path 1, everything else path 0; and the client's tunnel."""
    with Simulator(61) as s:
        conn, peer = s.connect()
        s.open_path(conn, 1)
        client, _ = s.tunnel(conn, peer, [HERE, ELSE])
        s.run(SECOND)
        yield s, client


@pytest.fixture
def sim(line: tuple[Simulator, int]) -> Simulator:
    return line[0]


def head(version: int, up: bool = True, **fields: Any) -> Packet:
    ends = (UE4, DN4) if version == 4 else (UE6, DN6)
    source, target = ends if up else reversed(ends)
    return (IP if version == 4 else IPv6)(src=source, dst=target, **fields)


def ways(sim: Simulator, packets: list[bytes], up: bool = True) -> list[int]:
    """The path that each takes; all arrive as they are."""
    sender, receiver = (sim.client, sim.server) if up else (sim.server, sim.client)
    (conn,) = sender.connections()
    taken = []
    for packet in packets:
        receiver.inner.clear()
        before = [sender.paths(conn)[i].datagrams_sent for i in (0, 1)]
        sim.inner(sender, packet)
        sim.run(20 * MS)
        after = [sender.paths(conn)[i].datagrams_sent for i in (0, 1)]
        assert sorted(a - b for a, b in zip(after, before, strict=True)) == [0, 1]
        assert [p for _, _, p in receiver.inner] == [packet]
        taken.append(int(after[1] > before[1]))
    return taken


def fragments(version: int, up: bool = True, ident: int = 7, payload: bytes = bytes(3000), port: int = PORT) -> list[bytes]:
    ports = {"sport": 20000, "dport": port} if up else {"sport": port, "dport": 20000}
    if version == 4:
        whole = IP(bytes(head(4, up, id=ident) / UDP(**ports) / Raw(payload)))
        return [bytes(x) for x in fragment(whole, 1200)]
    whole6 = head(6, up) / IPv6ExtHdrFragment(id=ident) / UDP(**ports) / Raw(payload)
    return [bytes(x) for x in fragment6(IPv6(bytes(whole6)), 1240)]


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("version", [4, 6])
def test_later_fragments_follow_the_first(sim: Simulator, version: int, up: bool) -> None:
    packets = fragments(version, up)
    assert len(packets) == 3
    assert ways(sim, packets, up) == [1, 1, 1]
    assert ways(sim, packets[1:], up) == [1, 1]  # again: what is sent twice finds it, too
    assert ways(sim, fragments(version, up, ident=8)[1:], up) == [0, 0]  # canary: of another packet
    assert ways(sim, fragments(version, up, ident=9, port=80), up) == [0, 0, 0]


@pytest.mark.parametrize("version", [4, 6])
def test_nobody_reads_ports_in_the_middle_of_a_packet(sim: Simulator, version: int) -> None:
    """Payload that looks like ports of the other rule."""
    forged = (20000).to_bytes(2, "big") + PORT.to_bytes(2, "big")
    packets = fragments(version, payload=forged * 750, port=80)
    assert ways(sim, packets) == [0, 0, 0]


def test_a_first_fragment_is_remembered_for_two_seconds_and_so_many_packets(sim: Simulator) -> None:
    packets = fragments(4)
    ways(sim, packets[:1])
    sim.run(3 * SECOND)
    assert ways(sim, packets[1:]) == [0, 0]
    ways(sim, packets[:1])
    for ident in range(100, 115):
        ways(sim, fragments(4, ident=ident, port=80)[:1])
    assert ways(sim, packets[1:]) == [1, 1]
    ways(sim, fragments(4, ident=115, port=80)[:1])
    assert ways(sim, packets[1:]) == [0, 0]


def test_fragments_of_a_flow_that_was_judged_anew_do_not_follow_the_old_one(line: tuple[Simulator, int]) -> None:
    sim, tunnel = line
    packets = fragments(4)
    ways(sim, packets[:1])
    sim.rules(sim.client, tunnel, [ELSE])
    assert ways(sim, packets[1:]) == [0, 0]


def flow(version: int, up: bool, port: int = PORT, protocol: type[Packet] = UDP) -> Packet:
    """A packet of it, in the direction of up."""
    return head(version, up) / protocol(sport=20000 if up else port, dport=port if up else 20000) / Raw(bytes(64))


ERRORS: dict[str, tuple[int, Packet]] = {
    "unreachable": (4, ICMP(type=3, code=3)),
    "too big": (4, ICMP(type=3, code=4, nexthopmtu=1000)),
    "time exceeded": (4, ICMP(type=11)),
    "parameter problem": (4, ICMP(type=12)),
    "too big, IPv6": (6, ICMPv6PacketTooBig(mtu=1280)),
    "time exceeded, IPv6": (6, ICMPv6TimeExceeded()),
}


@pytest.mark.parametrize("protocol", [UDP, TCP])
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize(("version", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_goes_the_way_of_what_it_is_about(
    sim: Simulator, version: int, error: Packet, up: bool, protocol: type[Packet]
) -> None:
    about = bytes(flow(version, not up, protocol=protocol))
    packet = bytes(head(version, up) / error / Raw(about))
    assert ways(sim, [packet], up) == [0]  # canary: of a flow that nobody knows
    assert ways(sim, [bytes(flow(version, up, protocol=protocol))], up) == [1]
    assert ways(sim, [packet], up) == [1]
    other = bytes(head(version, up) / error / Raw(bytes(flow(version, not up, 80, protocol))))
    assert ways(sim, [other], up) == [0]


SHORT = [b"", b"\x45", b"\x45" + bytes(19), bytes(28), b"\x4f" + bytes(27), b"\x40" + bytes(27), b"\x65" * 60]


@pytest.mark.parametrize("quote", SHORT, ids=range(len(SHORT)))
def test_an_error_that_quotes_little_or_nonsense_is_a_packet_like_others(sim: Simulator, quote: bytes) -> None:
    for version, error in ((4, ICMP(type=3, code=1)), (6, ICMPv6TimeExceeded())):
        assert ways(sim, [bytes(head(version) / error / Raw(quote))]) == [0]


def test_an_echo_is_no_error(sim: Simulator) -> None:
    ways(sim, [bytes(flow(4, True)), bytes(flow(6, True))])
    about4, about6 = bytes(flow(4, False)), bytes(flow(6, False))
    assert ways(sim, [bytes(head(4) / ICMP() / Raw(about4)), bytes(head(6) / ICMPv6EchoRequest() / Raw(about6))]) == [0, 0]


def test_what_follows_a_flow_has_no_number_of_it(sim: Simulator) -> None:
    """The receiver knows flows by what stands in their packets: a number that a fragment took would be a gap in its flow."""
    (conn,), (peer,) = sim.client.connections(), sim.server.connections()
    rules = [{"mode": lib.STEER_LOAD_BALANCING, "weight": [50, 50], "transport": lib.TRANSPORT_SEQUENCED}]
    client = sim.tunnel_end(sim.client, conn, rules, ipv4=bytes([10, 45, 0, 3]), has_ipv6=0)
    server = sim.tunnel_end(sim.server, peer, rules, ipv4=bytes([10, 45, 0, 3]), has_ipv6=0)
    sim.sequence(sim.client, client, conn)
    sim.sequence(sim.server, server, peer)
    udp = IP(src="10.45.0.3", dst=DN4, id=5) / UDP(sport=20000, dport=PORT)
    quoted = IP(src=DN4, dst="10.45.0.3") / UDP(sport=PORT, dport=20000) / Raw(bytes(8))
    error = IP(src="10.45.0.3", dst=DN4) / ICMP(type=3, code=1) / quoted
    packets = [bytes(udp / Raw(bytes(64 + n))) for n in range(3)]
    more = [bytes(x) for x in fragment(IP(bytes(udp / Raw(bytes(3000)))), 1200)]
    sent = [packets[0], *more, packets[1], bytes(error), packets[2]]
    sim.server.inner.clear()
    for count, packet in enumerate(sent, 1):
        sim.inner(sim.client, packet)
        sim.run(5 * MS)
        assert len(sim.server.inner) == count  # nobody waited for a number
    assert sorted(p for _, _, p in sim.server.inner) == sorted(sent)
