"""Tunnels under the simulator: addresses, MTU, holding, re-binding at a re-key, steering."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tunnel_ends import BothWays

from native import ffi, lib
from native.sim import ACTIVE_3GPP, BALANCED, MS, SECOND, Simulator, check, serial_of, udp4


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(31) as s:
        yield s


def stats(sim: Simulator, node: Any, tunnel: int) -> Any:
    out = ffi.new("struct tunnel_stats *")
    check(lib.tunnel_stats(node.endpoint, tunnel, out))
    return out


def udp6(source: str, target: str, size: int = 100) -> bytes:
    head = bytes([0x60, 0, 0, 0]) + (size - 40).to_bytes(2, "big") + bytes([17, 64]) + bytes.fromhex(source) + bytes.fromhex(target)
    return head + bytes(size - 40)


UE6, DN6 = "fd450000000000010000000000000002", "fd990000000000000000000000000002"


def test_ipv4_and_ipv6_arrive_unchanged_both_ways(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [BALANCED])
    up, down = [udp4(1280, serial=5), udp6(UE6, DN6)], [udp4(64, up=False), udp6(DN6, UE6, 1280)]
    for packet in up:
        sim.inner(sim.client, packet)
    for packet in down:
        sim.inner(sim.server, packet)
    sim.run(SECOND)
    assert [p for _, _, p in sim.server.inner] == up and [p for _, _, p in sim.client.inner] == down
    assert not sim.client.drops() and not sim.server.drops()


def test_foreign_source_is_dropped_at_both_ends(sim: Simulator) -> None:
    conn, peer = sim.connect()
    _client, server = sim.tunnel(conn, peer, [BALANCED])
    sim.inner(sim.client, udp4(100, ue="10.45.0.9"))  # the UE's own engine refuses it
    assert sim.client.drops() == {"ingress_filter": 1}
    # a UE with another engine: the same packet in a DATAGRAM of its own
    evil = b"\x00\x00" + udp4(100, ue="10.45.0.9")
    check(lib.conn_datagram_send(sim.client.endpoint, conn, evil, len(evil)))
    evil6 = b"\x00\x00" + udp6("fd450000000000020000000000000002", DN6)
    check(lib.conn_datagram_send(sim.client.endpoint, conn, evil6, len(evil6)))
    sim.run(SECOND)
    assert sim.server.inner == [] and sim.server.drops() == {"ingress_filter": 2}
    assert stats(sim, sim.server, server).dropped == 2
    # and the UE takes nothing that is not for it
    stray = b"\x00\x00" + udp4(100, up=False, ue="10.45.0.9")
    check(lib.conn_datagram_send(sim.server.endpoint, peer, stray, len(stray)))
    sim.run(SECOND)
    assert sim.client.drops() == {"ingress_filter": 1, "inner_destination": 1}


def test_nothing_goes_to_forbidden_addresses(sim: Simulator) -> None:
    """R-39: a server's own addresses outside of its tunnels; the neighbours of a prefix are none of it."""
    server = sim.server.endpoint
    check(lib.endpoint_forbid(server, 4, bytes([10, 90, 0, 0]), 24))
    check(lib.endpoint_forbid(server, 6, bytes.fromhex("fd64" + "0" * 27 + "1"), 128))
    conn, peer = sim.connect()
    _client, tunnel = sim.tunnel(conn, peer, [BALANCED])
    right = [udp4(100, dn="10.90.1.0"), udp4(100, dn="10.89.255.255"), udp6(UE6, "fd64" + "0" * 27 + "2")]
    for packet in (udp4(100, dn="10.90.0.0"), udp4(100, dn="10.90.0.255"), udp6(UE6, "fd64" + "0" * 27 + "1"), *right):
        sim.inner(sim.client, packet)
    sim.run(SECOND)
    assert [p for _, _, p in sim.server.inner] == right
    assert sim.server.drops() == {"inner_forbidden": 3} and stats(sim, sim.server, tunnel).dropped == 3
    for version, prefix in ((4, 33), (6, 129), (5, 0)):
        assert lib.endpoint_forbid(server, version, bytes(16), prefix) == -lib.ENGINE_E_ARGUMENT
    assert lib.endpoint_forbid(sim.client.endpoint, 4, bytes(4), 32) == -lib.ENGINE_E_ARGUMENT
    taken = [lib.endpoint_forbid(server, 4, bytes([10, 1, 1, n]), 32) for n in range(lib.ENGINE_MAX_FORBIDDEN)]
    assert taken[-3:] == [0, -lib.ENGINE_E_LIMIT, -lib.ENGINE_E_LIMIT]


def test_noise_of_the_tun_is_not_sent(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [BALANCED])
    sim.inner(sim.client, udp6("fe80" + "0" * 27 + "1", "ff02" + "0" * 27 + "2"))
    sim.inner(sim.client, udp6(UE6, "ff02" + "0" * 27 + "2"))
    sim.inner(sim.server, udp6("fe80" + "0" * 27 + "1", "ff02" + "0" * 27 + "2"))
    sim.inner(sim.server, udp4(100, up=False, ue="10.45.7.7"))
    sim.inner(sim.client, b"\x45junk")
    assert sim.client.drops() == {"ingress_filter": 1, "inner_destination": 1, "inner_malformed": 1}
    assert sim.server.drops() == {"inner_destination": 1, "tunnel_none": 1}


@pytest.mark.parametrize("body", [b"\x00\x00", b"\x00\x00\x45", b"\x00\x00" + bytes(40), b"\x00\x00\x46" + bytes(30),
                                  b"\x00\x00\x60" + bytes(60), b"\x00\x00" + udp4(100)[:-1], b"\x00\x00" + udp4(100) + b"x"])
def test_malformed_inner_packet_is_counted(sim: Simulator, body: bytes) -> None:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [BALANCED])
    check(lib.conn_datagram_send(sim.client.endpoint, conn, body, len(body)))
    sim.run(SECOND)
    assert sim.server.drops() == {"inner_malformed": 1} and sim.server.inner == []


def test_unknown_context_and_bad_quarter_stream_id(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [BALANCED])
    check(lib.conn_datagram_send(sim.client.endpoint, conn, b"\x00\x02abc", 5))
    sim.run(SECOND)
    assert sim.server.drops() == {"datagram_context": 1}
    check(lib.conn_datagram_send(sim.client.endpoint, conn, b"\xff", 1))
    sim.run(SECOND)
    event = sim.server.of_type(lib.EVENT_CLOSED)[0]
    assert (event.a, event.level) == (0x33, 1)  # H3_DATAGRAM_ERROR


def test_above_the_mtu_comes_back_as_icmp(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [BALANCED])
    sim.inner(sim.client, udp4(1281))
    sim.inner(sim.client, udp6(UE6, DN6, 1300))
    sim.run(SECOND)
    assert sim.client.drops() == {"inner_mtu": 2} and sim.server.inner == []
    v4, v6 = (packet for _, _, packet in sim.client.inner)
    assert v4[9] == 1 and v4[20:22] == b"\x03\x04" and v4[26:28] == (1280).to_bytes(2, "big")
    assert v4[16:20] == bytes([10, 45, 0, 2]) and v4[28:48] == udp4(1281)[:20]
    assert ones(v4[:20]) == 0xFFFF and ones(v4[20:]) == 0xFFFF
    assert v6[6] == 58 and v6[40] == 2 and v6[44:48] == (1280).to_bytes(4, "big") and len(v6) <= 1280
    assert ones(v6[8:40] + (len(v6) - 40).to_bytes(4, "big") + bytes([0, 0, 0, 58]) + v6[40:]) == 0xFFFF


def ones(data: bytes) -> int:
    total = sum(int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_packets_wait_for_a_connection_and_leave_in_order(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, server = sim.tunnel(0, 0, [BALANCED])
    for i in range(50):
        sim.inner(sim.client, udp4(100, serial=i))
    sim.run(SECOND)
    assert stats(sim, sim.client, client).held == 50
    check(lib.tunnel_bind(sim.server.endpoint, server, peer, 0))
    check(lib.tunnel_bind(sim.client.endpoint, client, conn, 0))
    sim.run(SECOND)
    assert [serial_of(p) for _, _, p in sim.server.inner] == list(range(50))


def test_hold_queue_has_two_named_limits(sim: Simulator) -> None:
    sim.connect()
    sim.tunnel(0, 0, [BALANCED], hold_packets=10)
    for i in range(15):
        sim.inner(sim.client, udp4(100, serial=i))
    assert sim.client.drops() == {"tunnel_hold_full": 5}
    sim.run(3 * SECOND)
    assert sim.client.drops() == {"tunnel_hold_full": 5, "tunnel_hold_expired": 10}


def test_rekey_moves_the_tunnel_without_loss(sim: Simulator) -> None:
    """A new connection takes the tunnel over; the old one delivers what is on its way (design §3, re-key)."""
    old, old_peer = sim.connect()
    client, server = sim.tunnel(old, old_peer, [BALANCED])
    BothWays(sim, 300, 3 * SECOND)
    sim.run(SECOND)
    new, new_peer = sim.connect()
    assert {new} != {old}
    check(lib.tunnel_bind(sim.server.endpoint, server, new_peer, 0))
    check(lib.tunnel_bind(sim.client.endpoint, client, new, 0))
    sim.run(100 * MS)
    check(lib.conn_close(sim.client.endpoint, old, 1, 0x100, 0, ffi.NULL, 0))
    sim.run(4 * SECOND)
    assert sorted(serial_of(p) for _, _, p in sim.server.inner) == list(range(3000))
    assert sorted(serial_of(p) for _, _, p in sim.client.inner) == list(range(3000))
    assert stats(sim, sim.client, client).conn == new


def test_admitted_connection_delivers_and_carries_nothing(sim: Simulator) -> None:
    old, old_peer = sim.connect()
    client, server = sim.tunnel(old, old_peer, [BALANCED])
    new, new_peer = sim.connect()
    datagram = b"\x00\x00" + udp4(100, serial=7)
    check(lib.conn_datagram_send(sim.client.endpoint, new, datagram, len(datagram)))
    sim.run(100 * MS)
    assert sim.server.inner == []  # canary: not admitted yet
    check(lib.tunnel_admit(sim.server.endpoint, server, new_peer, 0))
    check(lib.conn_datagram_send(sim.client.endpoint, new, datagram, len(datagram)))
    evil = b"\x00\x00" + udp4(100, ue="10.45.0.9")
    check(lib.conn_datagram_send(sim.client.endpoint, new, evil, len(evil)))
    sim.run(100 * MS)
    assert [serial_of(p) for _, _, p in sim.server.inner] == [7] and sim.server.drops() == {"ingress_filter": 1}
    assert stats(sim, sim.server, server).conn == old_peer
    sim.inner(sim.server, udp4(100, up=False, serial=8))
    sim.run(100 * MS)
    assert sim.client.stats(old).datagrams_received == 1 and sim.client.stats(new).datagrams_received == 0
    check(lib.tunnel_unbind(sim.server.endpoint, server, new_peer))
    check(lib.conn_datagram_send(sim.client.endpoint, new, datagram, len(datagram)))
    sim.run(100 * MS)
    assert len(sim.server.inner) == 1 and stats(sim, sim.server, server).conn == old_peer
    check(lib.conn_close(sim.server.endpoint, new_peer, 1, 0x100, 0, ffi.NULL, 0))
    assert lib.tunnel_admit(sim.server.endpoint, server, new_peer, 0) == -lib.ENGINE_E_STATE
    assert lib.tunnel_admit(sim.server.endpoint, server, old_peer, 1 << 60) == -lib.ENGINE_E_ARGUMENT
    assert lib.tunnel_admit(sim.server.endpoint, server ^ 0x10000, old_peer, 0) == -lib.ENGINE_E_HANDLE
    assert client


def test_what_waits_in_the_old_connection_moves_with_the_tunnel(sim: Simulator) -> None:
    old, old_peer = sim.connect()
    client, server = sim.tunnel(old, old_peer, [BALANCED])
    new, new_peer = sim.connect()
    for serial in range(200):  # more than a first window
        sim.inner(sim.client, udp4(1200, serial=serial))
    sim.flush()
    (path,) = sim.client.paths(old).values()
    waiting = path.queue_packets
    assert waiting > 50
    check(lib.tunnel_admit(sim.server.endpoint, server, new_peer, 0))
    check(lib.tunnel_bind(sim.client.endpoint, client, new, 0))
    assert sim.client.paths(old)[0].queue_packets == 0 and sim.client.paths(new)[0].queue_packets == waiting
    sim.run(2 * SECOND)
    assert sorted(serial_of(p) for _, _, p in sim.server.inner) == list(range(200))
    assert sim.server.stats(new_peer).datagrams_received >= waiting


def test_a_connection_carries_few_tunnels(sim: Simulator) -> None:
    """The table of bindings is full: named, and the tunnels that are in it stay."""
    conn, _ = sim.connect()
    results = []
    for number in range(lib.ENGINE_MAX_PATHS):
        config = ffi.new("struct tunnel_config *", {"tun": 0, "has_ipv4": 1, "ipv4": bytes([10, 46, 0, number]), "mtu": 1280})
        tunnel = check(lib.tunnel_new(sim.client.endpoint, config))
        results.append(lib.tunnel_admit(sim.client.endpoint, tunnel, conn, number))
        assert lib.tunnel_bind(sim.client.endpoint, tunnel, conn, number) == results[-1]
    assert results == [0] * 8 + [-lib.ENGINE_E_LIMIT] * 8


def test_closing_the_only_connection_holds_what_comes(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, _ = sim.tunnel(conn, peer, [BALANCED])
    check(lib.conn_close(sim.client.endpoint, conn, 1, 0x100, 0, ffi.NULL, 0))
    sim.inner(sim.client, udp4(100))
    assert stats(sim, sim.client, client).conn == 0 and stats(sim, sim.client, client).held == 1


def test_no_rule_no_traffic(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.tunnel(conn, peer, [])
    sim.inner(sim.client, udp4(100))
    assert sim.client.drops() == {"steering_no_rule": 1}


def test_rules_match_in_order_of_precedence(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    port = {"match_port": 1, "port_low": 5201, "port_high": 5201, "mode": 0, "active_access": 1, "precedence": 1}
    net = {"match_ip_version": 4, "remote": bytes([10, 99]) + bytes(14), "remote_prefix": 16, "mode": 0, "active_access": 0,
           "precedence": 2}
    client, _ = sim.tunnel(conn, peer, [net, port])
    sim.inner(sim.client, udp4(100))
    sim.run(100 * MS)
    assert list(stats(sim, sim.client, client).access_packets_out) == [0, 1]
    sim.rules(sim.client, client, [{**port, "precedence": 3}, net])
    sim.inner(sim.client, udp4(100))
    sim.run(100 * MS)
    assert list(stats(sim, sim.client, client).access_packets_out) == [1, 1]
    other = udp4(100, dn="10.98.0.2")
    sim.rules(sim.client, client, [net])
    sim.inner(sim.client, other)
    assert sim.client.drops() == {"steering_no_rule": 1}


@pytest.mark.parametrize("weights", [(30, 70), (70, 30), (50, 50), (90, 10)])
def test_flows_spread_by_weight_and_stay(sim: Simulator, weights: tuple[int, int]) -> None:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    client, _ = sim.tunnel(conn, peer, [{"mode": 2, "weight": list(weights)}])
    for link in range(2):
        sim.shape(link, rate=100e6)

    def send() -> None:
        for flow in range(40):
            sim.inner(sim.client, udp4(500, flow=flow))

    sim.every(10 * MS, sim.now + 2 * SECOND, send)
    sim.run(3 * SECOND)
    out = stats(sim, sim.client, client)
    share = out.access_bytes_out[0] * 100 / out.bytes_out
    assert abs(share - weights[0]) <= 5
    assert out.flows == 40
    packets = out.access_packets_out[0]
    assert packets % 200 == 0  # whole flows: none ever moved


def test_weight_zero_is_used_only_when_nothing_else_is(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    client, _ = sim.tunnel(conn, peer, [{"mode": 2, "weight": [0, 100]}])

    def send() -> None:
        for flow in range(4):
            sim.inner(sim.client, udp4(500, flow=flow))

    sim.every(5 * MS, sim.now + 5 * SECOND, send)
    sim.run(SECOND)
    assert stats(sim, sim.client, client).access_packets_out[0] == 0
    sim.shape(1, cut=True)
    sim.run(SECOND)
    assert stats(sim, sim.client, client).access_packets_out[0] > 500


def test_active_without_standby_stops_by_name(sim: Simulator) -> None:
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    client, _ = sim.tunnel(conn, peer, [{"mode": 0, "active_access": 1, "has_standby": 0}])
    sim.every(5 * MS, sim.now + 4 * SECOND, lambda: sim.inner(sim.client, udp4(500)))
    sim.run(SECOND)
    sim.shape(1, cut=True)
    sim.run(2 * SECOND)
    assert sim.client.drops()["steering_no_path"] > 100
    assert stats(sim, sim.client, client).access_packets_out[0] == 0


def test_tunnel_handles_and_limits(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, _ = sim.tunnel(conn, peer, [ACTIVE_3GPP])
    e = sim.client.endpoint
    config = ffi.new("struct tunnel_config *", {"tun": 0, "has_ipv4": 1, "ipv4": bytes([10, 45, 0, 2]), "mtu": 1280})
    assert lib.tunnel_new(e, config) == -lib.ENGINE_E_STATE  # the address is taken
    config.ipv4 = bytes([10, 45, 0, 3])
    config.mtu = 100
    assert lib.tunnel_new(e, config) == -lib.ENGINE_E_ARGUMENT
    assert lib.tunnel_bind(e, client, conn ^ 0x10000, 0) == -lib.ENGINE_E_HANDLE
    assert lib.tunnel_bind(e, client ^ 0x10000, conn, 0) == -lib.ENGINE_E_HANDLE
    check(lib.tunnel_free(e, client))
    assert lib.tunnel_free(e, client) == -lib.ENGINE_E_HANDLE
    sim.inner(sim.client, udp4(100))
    assert sim.client.drops() == {"tunnel_none": 1}
