"""The maximum segment size in inner SYNs is lowered to what the paths carry; scapy makes the packets and judges them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
from scapy.packet import Packet, Raw

from native import lib
from native.sim import BALANCED, SECOND, Simulator, check

UE4, DN4, UE6, DN6 = "10.45.0.2", "10.99.0.2", "fd45:0:0:1::2", "fd99::2"
MTU = 1280  # of the simulator's tunnels, and less than its paths take
LARGE = ("MSS", 1460)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(41) as s:
        s.tunnel(*s.connect(), [BALANCED])
        s.run(SECOND)
        yield s


def ip(version: int, up: bool = True) -> Packet:
    ue, dn = (UE4, DN4) if version == 4 else (UE6, DN6)
    return (IP if version == 4 else IPv6)(src=ue if up else dn, dst=dn if up else ue)


def tcp(*options: tuple[str, object], flags: str = "S", **fields: object) -> Packet:
    return TCP(sport=20000, dport=5201, flags=flags, seq=7, options=list(options), **fields)


def through(sim: Simulator, packet: bytes, up: bool = True) -> bytes:
    sender, receiver = (sim.client, sim.server) if up else (sim.server, sim.client)
    receiver.inner.clear()
    sim.inner(sender, packet)
    sim.run(SECOND)
    ((_, _, arrived),) = receiver.inner
    return bytes(arrived)


def counted(sim: Simulator, name: str) -> tuple[int, int]:
    return sim.client.counters().get(name, 0), sim.server.counters().get(name, 0)


def mss_of(packet: Packet) -> int:
    return int(dict(packet[TCP].options)["MSS"])


def with_right_sums(packet: bytes) -> bytes:
    """The same packet with checksums made anew."""
    parsed = (IP if packet[0] >> 4 == 4 else IPv6)(packet)
    del parsed[TCP].chksum
    if packet[0] >> 4 == 4:
        del parsed[IP].chksum
    return bytes(parsed)


SYNS = {
    "alone": [LARGE],
    "as Linux has it": [LARGE, ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)],
    "behind another": [("WScale", 7), ("NOP", None), LARGE],
    "across two words": [("NOP", None), LARGE, ("NOP", None), ("NOP", None), ("NOP", None)],
}


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("flags", ["S", "SA", "SEC"])
@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("options", SYNS.values(), ids=SYNS.keys())
def test_a_syn_asks_for_what_fits(sim: Simulator, options: list[tuple[str, object]], version: int, flags: str, up: bool) -> None:
    sent = bytes(ip(version, up) / tcp(*options, flags=flags))
    arrived = through(sim, sent, up)
    parsed = type(ip(version))(arrived)
    assert mss_of(parsed) == MTU - (40 if version == 4 else 60)
    assert arrived == with_right_sums(arrived) and len(arrived) == len(sent)
    assert [o for o in parsed[TCP].options if o[0] != "MSS"] == [o for o in type(parsed)(sent)[TCP].options if o[0] != "MSS"]
    assert counted(sim, "mss_clamped") == ((1, 0) if up else (0, 1))  # the other end has nothing left to lower


@pytest.mark.parametrize("header", [IPv6ExtHdrHopByHop(), IPv6ExtHdrDestOpt() / IPv6ExtHdrDestOpt()], ids=["hop by hop", "two"])
def test_it_is_found_behind_extension_headers(sim: Simulator, header: Packet) -> None:
    arrived = through(sim, bytes(ip(6) / header / tcp(LARGE)))
    assert mss_of(IPv6(arrived)) == MTU - 60 and arrived == with_right_sums(arrived)


def raw_options(octets: bytes, version: int = 4) -> bytes:
    """A SYN whose options are these octets, whatever they mean."""
    body = bytearray(bytes(tcp()) + octets)
    body[12] = (20 + len(octets)) // 4 << 4
    return bytes(ip(version) / Raw(bytes(body)))  # scapy fills in no protocol for these octets


def syn_of(octets: bytes) -> bytes:
    packet = bytearray(raw_options(octets))
    packet[9] = 6
    return bytes(packet)


UNTOUCHED = {
    "a small one": ip(4) / tcp(("MSS", 1200)),
    "just what fits": ip(4) / tcp(("MSS", MTU - 40)),
    "none": ip(4) / tcp(("WScale", 7)),
    "behind the end of the options": syn_of(b"\0\0\2\4\x05\xb4\0\0"),
    "no SYN": ip(4) / tcp(LARGE, flags="A"),
    "UDP that looks like it": ip(4) / UDP(sport=1, dport=2) / Raw(bytes(tcp(LARGE))[8:]),
    "the middle of something": IP(src=UE4, dst=DN4, proto=6, frag=100) / Raw(bytes(tcp(LARGE))),
    "the middle of something, IPv6": ip(6) / IPv6ExtHdrFragment(nh=6, offset=100) / Raw(bytes(tcp(LARGE))),
}
MALFORMED = {
    "an option of length 0": syn_of(b"\3\0\2\4\x05\xb4\1\1"),
    "an option of length 1": syn_of(b"\3\1\2\4\x05\xb4\1\1"),
    "an option that ends behind the header": syn_of(b"\3\x20\2\4\x05\xb4\1\1"),
    "an MSS that ends behind the header": syn_of(b"\1\1\1\1\1\2\4\x05"),
    "an option without length": syn_of(b"\1\1\1\2"),
    "an MSS of three octets": syn_of(b"\2\3\x05\1"),
    "an MSS of five octets": syn_of(b"\2\5\x05\xb4\0\1\1\1"),
    "a header shorter than a header": IP(src=UE4, dst=DN4) / tcp(dataofs=4),
    "a header longer than the packet": IP(src=UE4, dst=DN4) / tcp(dataofs=15),
}


@pytest.mark.parametrize("packet", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_what_is_no_large_mss_stays(sim: Simulator, packet: Packet | bytes) -> None:
    assert through(sim, bytes(packet)) == bytes(packet)
    assert counted(sim, "mss_clamped") == counted(sim, "mss_malformed") == (0, 0)


@pytest.mark.parametrize("packet", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_options_stay_and_are_counted(sim: Simulator, packet: Packet | bytes) -> None:
    assert through(sim, bytes(packet)) == bytes(packet)
    assert counted(sim, "mss_malformed") == (1, 1) and counted(sim, "mss_clamped") == (0, 0)


def test_a_wrong_checksum_does_not_become_right(sim: Simulator) -> None:
    packet = IP(bytes(ip(4) / tcp(LARGE)))
    packet[TCP].chksum ^= 0x1234
    arrived = through(sim, bytes(packet))
    assert mss_of(IP(arrived)) == MTU - 40
    assert IP(arrived)[TCP].chksum != IP(with_right_sums(arrived))[TCP].chksum


def test_the_narrowest_path_that_carries_data_decides() -> None:
    """A tunnel of 1400 octets over paths of which one carries less."""
    with Simulator(42) as sim:
        conn, peer = sim.connect()
        sim.open_path(conn, 1)
        for node, handle in ((sim.client, conn), (sim.server, peer)):
            tunnel = sim.tunnel_end(node, handle, [BALANCED], mtu=1400)
            assert tunnel
        sim.run(SECOND)
        inner = min(info.inner_mtu for info in sim.client.paths(conn).values() if info.validated)
        assert inner > 1400  # canary: both carry it
        assert mss_of(IP(through(sim, bytes(ip(4) / tcp(LARGE))))) == 1360
        sim.wires[1, 0].mtu = 1400
        sim.open_path(conn, 1)
        sim.run(10 * SECOND)
        inner = min(info.inner_mtu for info in sim.client.paths(conn).values() if info.validated and info.state == lib.PATH_ACTIVE)
        assert inner < 1400
        assert mss_of(IP(through(sim, bytes(ip(4) / tcp(LARGE))))) == inner - 40


def test_it_can_be_switched_off() -> None:
    off = {"mss_clamp_off": 1}
    with Simulator(43, client=off, server=off) as sim:
        sim.tunnel(*sim.connect(), [BALANCED])
        sent = bytes(ip(4) / tcp(LARGE))
        assert through(sim, sent) == sent and counted(sim, "mss_clamped") == (0, 0)


def test_a_syn_that_waits_for_a_connection_is_clamped_to_the_tunnel(sim: Simulator) -> None:
    tunnel = sim.tunnel_end(sim.client, 0, [BALANCED], ipv4=bytes([10, 45, 0, 3]), has_ipv6=0)
    check(0 if tunnel else -1)
    sim.inner(sim.client, bytes(IP(src="10.45.0.3", dst=DN4) / tcp(LARGE)))
    assert counted(sim, "mss_clamped") == (1, 0)
