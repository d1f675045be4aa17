"""Packets with sequence numbers: who gives them, who takes them, at a re-key, and beside context 0."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from native import ffi, lib
from native.sim import ACTIVE_3GPP, BALANCED, MS, SECOND, SPLIT, Simulator, check, serial_of, udp4

PLAIN_3GPP, NUMBERED_3GPP = ACTIVE_3GPP, {**ACTIVE_3GPP, "transport": 1}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(61) as s:
        yield s


def stats(node: Any, tunnel: int) -> Any:
    out = ffi.new("struct tunnel_stats *")
    check(lib.tunnel_stats(node.endpoint, tunnel, out))
    return out


def numbered(number: int, packet: bytes, context: int = 2) -> bytes:
    return b"\0" + bytes([context]) + number.to_bytes(4, "big") + packet


def serials(node: Any) -> list[int]:
    return [serial_of(packet) for _, _, packet in node.inner]


def disorder(sim: Simulator, late: int = 2) -> None:
    """Every third datagram of 3GPP is late by so many milliseconds."""
    sim.wires[0, 0].reorder, sim.wires[0, 0].reorder_by = 0.33, late * MS


def traffic(sim: Simulator, count: int = 300, first: int = 0) -> None:
    for serial in range(first, first + count):
        sim.inner(sim.client, udp4(200, serial=serial))
        sim.run(1 * MS)
    sim.run(SECOND)


@pytest.mark.parametrize(("rule", "out", "in_order"), [(NUMBERED_3GPP, 3, True), (PLAIN_3GPP, 3, False), (NUMBERED_3GPP, 1, False)])
def test_order_is_kept_where_a_rule_asks_for_it_and_the_peer_takes_it(sim: Simulator, rule: Any, out: int, in_order: bool) -> None:
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [rule])
    sim.sequence(sim.client, client, conn, out)
    sim.sequence(sim.server, server, peer)
    sim.run(SECOND)
    disorder(sim)
    traffic(sim)
    got = serials(sim.server)
    assert sorted(got) == list(range(300)) and (got == sorted(got)) == in_order
    assert (stats(sim.server, server).reorder_waited > 0) == in_order
    assert set(sim.server.drops()) <= {"reorder_duplicate"}  # one or two were taken for lost, and sent again


def test_disorder_of_a_path_needs_not_be_learnt_by_losses(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [NUMBERED_3GPP])
    sim.sequence(sim.client, client, conn)
    sim.sequence(sim.server, server, peer)
    sim.run(SECOND)
    disorder(sim, 20)
    traffic(sim, 500)
    got = serials(sim.server)
    assert got == list(range(500)) and stats(sim.server, server).reorder_waited > 50


def test_a_context_that_was_not_offered_is_dropped(sim: Simulator) -> None:
    conn, peer = sim.connect()
    _, server = sim.tunnel(conn, peer, [BALANCED])
    for contexts, context, count in ((0, 2, 1), (2, 2, 2), (1, 4, 3), (1, 1, 4)):
        sim.sequence(sim.server, server, peer, contexts)
        datagram = numbered(1, udp4(100), context)
        check(lib.conn_datagram_send(sim.client.endpoint, conn, datagram, len(datagram)))
        sim.run(100 * MS)
        assert sim.server.drops() == {"datagram_context": count}
    sim.sequence(sim.server, server, peer, 1)
    datagram = numbered(1, udp4(100))
    check(lib.conn_datagram_send(sim.client.endpoint, conn, datagram, len(datagram)))
    sim.run(100 * MS)
    assert len(sim.server.inner) == 1


def test_what_is_numbered_meets_the_same_filter(sim: Simulator) -> None:
    conn, peer = sim.connect()
    _, server = sim.tunnel(conn, peer, [BALANCED])
    sim.sequence(sim.server, server, peer)
    for datagram in (numbered(1, udp4(100, ue="10.45.0.9")), numbered(2, b"\x45junk"), b"\0\2\0\0\0", b"\0\2", numbered(3, b"")):
        check(lib.conn_datagram_send(sim.client.endpoint, conn, datagram, len(datagram)))
    sim.run(100 * MS)
    assert sim.server.drops() == {"ingress_filter": 1, "inner_malformed": 2, "datagram_context": 2} and not sim.server.inner


def test_a_number_that_comes_twice_is_one_packet(sim: Simulator) -> None:
    conn, peer = sim.connect()
    _, server = sim.tunnel(conn, peer, [BALANCED])
    sim.sequence(sim.server, server, peer)
    for _ in range(3):
        datagram = numbered(7, udp4(100))
        check(lib.conn_datagram_send(sim.client.endpoint, conn, datagram, len(datagram)))
    sim.run(100 * MS)
    assert len(sim.server.inner) == 1 and sim.server.drops() == {"reorder_duplicate": 2}
    assert stats(sim.server, server).reorder_duplicates == stats(sim.server, server).dropped == 2


def test_arguments(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, _ = sim.tunnel(conn, peer, [BALANCED])
    e = sim.client.endpoint
    assert lib.tunnel_contexts_set(e, client, conn, 4) == -lib.ENGINE_E_ARGUMENT
    assert lib.tunnel_contexts_set(e, client + 1, conn, 3) == -lib.ENGINE_E_HANDLE
    assert lib.tunnel_contexts_set(e, client, conn + 1, 3) == -lib.ENGINE_E_HANDLE
    with pytest.raises(ValueError):
        sim.rules(sim.client, client, [{**SPLIT, "transport": 2}])


def test_numbers_go_on_at_a_re_key(sim: Simulator) -> None:
    """Flows are the tunnel's: the receiver sees no jump, and what is under way on the old connection still has its place."""
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [NUMBERED_3GPP])
    for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)):
        sim.sequence(node, tunnel, c)
    traffic(sim, 50)
    sim.shape(0, delay=30 * MS)
    newer, newer_peer = sim.connect(1)
    for node, tunnel, c in ((sim.server, server, newer_peer), (sim.client, client, newer)):
        check(lib.tunnel_admit(node.endpoint, tunnel, c, 0))
        sim.sequence(node, tunnel, c)
    sim.inner(sim.client, udp4(200, serial=50))
    sim.run(100 * MS)
    before = sim.client.paths(conn)[0].datagrams_sent
    for serial in range(51, 60):
        sim.inner(sim.client, udp4(200, serial=serial))
    sim.run(1 * MS)
    assert sim.client.paths(conn)[0].datagrams_sent == before + 9
    check(lib.tunnel_bind(sim.client.endpoint, client, newer, 0))
    traffic(sim, 100, first=60)
    assert serials(sim.server) == list(range(160))
    assert stats(sim.server, server).reorder_jumps == 0 and stats(sim.server, server).reorder_waited > 10


def test_new_rules_begin_anew(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [NUMBERED_3GPP])
    for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)):
        sim.sequence(node, tunnel, c)
    traffic(sim, 20)
    sim.rules(sim.client, client, [NUMBERED_3GPP])
    traffic(sim, 20, first=20)
    assert serials(sim.server) == list(range(40)) and stats(sim.server, server).reorder_jumps == 1


def test_a_number_takes_its_octets_of_the_mtu(sim: Simulator) -> None:
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [NUMBERED_3GPP], mtu=1500)
    sim.run(2 * SECOND)
    before = sim.client.paths(conn)[0].inner_mtu
    sim.sequence(sim.client, client, conn)
    sim.sequence(sim.server, server, peer)
    assert sim.client.paths(conn)[0].inner_mtu == before - 4
    sim.inner(sim.client, udp4(before - 4, serial=1))
    sim.inner(sim.client, udp4(before - 3, serial=2))
    sim.run(SECOND)
    assert serials(sim.server) == [1] and sim.client.drops() == {"inner_path_mtu": 1}


def test_what_only_fits_without_its_number_goes_without() -> None:
    """IPv6 must have 1280 octets of whatever path there is (RFC 9484 §7.2)."""
    small = {"max_udp_payload": 1314, "validation_size": 1314}
    with Simulator(62, client=small, server=small) as sim:
        conn, peer = sim.connect()
        client, _ = sim.tunnel(conn, peer, [NUMBERED_3GPP], mtu=1400)
        sim.sequence(sim.client, client, conn)
        assert sim.client.paths(conn)[0].inner_mtu == 1282
        for serial, size in enumerate((1282, 1278, 1279)):
            sim.inner(sim.client, udp4(size, serial=serial))
        sim.run(SECOND)
        assert serials(sim.server) == [0, 2] and sim.server.drops() == {"datagram_context": 1}


def test_a_flow_that_lost_its_place_gives_no_numbers(sim: Simulator) -> None:
    """More flows than the table holds while packets wait: no packet gets the number of another flow."""
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [NUMBERED_3GPP])
    sim.sequence(sim.client, client, conn)
    sim.sequence(sim.server, server, peer)
    sim.run(SECOND)
    sim.shape(0, rate=50e6)
    for flow in range(9000):
        for serial in range(2):
            sim.inner(sim.client, udp4(60, flow=flow, serial=2 * flow + serial))
        if flow % 100 == 0:
            sim.run(20 * MS)
    sim.run(5 * SECOND)
    got = serials(sim.server)
    assert len(got) + sum(sim.client.drops().values()) == 18000
    assert len(set(got)) == len(got) and sim.client.counters()["flow_table_full"] > 0


def test_fragments_have_no_numbers_of_their_flow(sim: Simulator) -> None:
    """By their ports the receiver would put them in another flow: they come without, in the order of their path."""
    conn, peer = sim.connect()
    client, server = sim.tunnel(conn, peer, [SPLIT])
    for node, tunnel, c in ((sim.client, client, conn), (sim.server, server, peer)):
        sim.sequence(node, tunnel, c)
    sim.run(SECOND)
    sent = []
    for serial in range(0, 60, 3):
        whole, first, second = (udp4(212, serial=serial + i) for i in range(3))
        ident = (serial + 1).to_bytes(2, "big")
        sent += [whole, first[:4] + ident + b"\x20\0" + first[8:], second[:4] + ident + b"\0\x18" + second[8:]]
    for packet in sent:
        sim.inner(sim.client, packet)
    sim.run(SECOND)
    got = [packet for _, _, packet in sim.server.inner]
    assert sorted(got) == sorted(sent)
    own, others = [[p for p in got if (p[6] & 0x3F | p[7] != 0) == kind] for kind in (0, 1)]
    assert own == sent[0::3] and others == [p for p in sent if p not in sent[0::3]]
    assert stats(sim.server, server).reorder_jumps == 0 and not sim.server.drops()
