"""The engine's trace: every record valid, time never back, the books of packets balanced, nothing in it that must stay secret."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from typing import Any

import pytest
from qlog_schema import InvalidQlog, check_event, check_events, records_of

from native import ffi, lib
from native.sim import BALANCED, MS, SECOND, Node, Simulator, address, check, udp4

RING = 1 << 22
TEXT = ffi.new("char[]", 1 << 19)
COUNTERS = [ffi.string(lib.counter_name(i)).decode() for i in range(lib.counter_count())]
Book = dict[str, dict[int, dict[str, Any]]]


def traced(sim: Simulator, octets: int = RING) -> None:
    for node in (sim.client, sim.server):
        assert lib.endpoint_trace(node.endpoint, octets) == 0


def text_of(node: Node) -> bytes:
    out = b""
    while (n := lib.endpoint_trace_read(node.endpoint, TEXT, len(TEXT))) > 0:
        out += bytes(ffi.buffer(TEXT, n))
    assert n == 0
    return out


def lost_records(node: Node) -> int:
    stats = ffi.new("struct trace_stats *")
    assert lib.endpoint_trace_stats(node.endpoint, stats) == 0
    return int(stats.lost)


def books(records: list[dict[str, Any]]) -> dict[int, Book]:
    """By path: 1-RTT packet numbers sent, acknowledged and lost."""
    result: dict[int, Book] = defaultdict(lambda: {"sent": {}, "acked": {}, "lost": {}})
    for record in records:
        data = record["data"]
        header = data.get("header", {})
        if header.get("packet_type") == "1RTT" and record["name"] in ("quic:packet_sent", "quic:packet_lost"):
            book = result[header.get("path_id", 0)]["sent" if record["name"] == "quic:packet_sent" else "lost"]
            assert header["packet_number"] not in book, "twice"
            book[header["packet_number"]] = data
        elif record["name"] == "quic:packets_acked" and "packet_number_space" not in data:
            for pn in data["packet_numbers"]:
                assert pn not in result[data["path_id"]]["acked"], "twice"
                result[data["path_id"]]["acked"][pn] = data
    return result


def in_flight(data: dict[str, Any]) -> bool:
    return any(f["frame_type"] not in ("ack", "path_ack", "connection_close") for f in data["frames"])


def balance(node: Node, conn: int, records: list[dict[str, Any]]) -> None:
    """Sent = acknowledged + lost + in flight, octet by octet, on every path that lives."""
    paths = node.paths(conn)
    for path, book in books(records).items():
        sent, acked, lost = book["sent"], book["acked"], book["lost"]
        assert acked.keys() <= sent.keys() and lost.keys() <= sent.keys()
        left_out = set(range(max(sent) + 1)) - sent.keys()  # on purpose, now and then (RFC 9000 §21.4)
        assert list(sent) == sorted(sent) and len(left_out) <= 1 + len(sent) / 60, "packet numbers in order, next to none missing"
        open_octets = sum(d["raw"]["length"] for pn, d in sent.items() if pn not in acked and pn not in lost and in_flight(d))
        if path in paths and paths[path].state not in (lib.PATH_UNUSED, lib.PATH_ABANDONED):
            assert open_octets == paths[path].bytes_in_flight
            assert len(sent) == paths[path].packets_sent - (early(records) if path == 0 else 0)
            assert len(lost) == paths[path].packets_lost


def early(records: list[dict[str, Any]]) -> int:
    return sum(r["name"] == "quic:packet_sent" and r["data"]["header"]["packet_type"] in ("initial", "handshake") for r in records)


@pytest.mark.parametrize("seed", range(6))
def test_any_run_gives_a_valid_trace_whose_books_balance(seed: int) -> None:
    rng = random.Random(seed)
    with Simulator(seed + 1, client={"congestion_control": seed % 4, "key_update_packets": 300 if seed % 2 else 0}) as sim:
        traced(sim)
        for link in range(2):
            sim.shape(
                link,
                delay=rng.randrange(1, 40) * MS,
                rate=rng.choice([2e6, 10e6, 50e6]),
                queue=50 * MS,
                loss=rng.choice([0, 0.01, 0.1]),
                reorder=rng.choice([0, 0.05]),
                reorder_by=5 * MS,
                duplicate=0.02,
                corrupt=0.01,
            )
        conn, peer = sim.connect()
        path = sim.open_path(conn, 1)
        sim.tunnel(conn, peer, [BALANCED])
        serial = iter(range(1 << 20))

        def send() -> None:
            n = next(serial)
            sim.inner(sim.client, udp4(rng.randrange(60, 1280), serial=n, flow=n % 5))
            sim.inner(sim.server, udp4(rng.randrange(60, 1280), serial=n, flow=n % 5, up=False))

        sim.every(4 * MS, sim.now + 3 * SECOND, send)
        sim.run(SECOND)
        sim.client_address[0] = address("10.1.0.77", 50000)  # NAT rebinding
        sim.run(SECOND)
        for direction in range(2):
            sim.wires[1, direction].cut = 1
        sim.run(SECOND)
        written = {node: text_of(node) for node in (sim.client, sim.server)}
        for node, handle in ((sim.client, conn), (sim.server, peer)):
            records = records_of(written[node])
            check_events(records)
            balance(node, handle, records)
            assert lost_records(node) == 0
        assert lib.path_abandon(sim.client.endpoint, conn, path, 0x3E) == 0
        sim.run(2 * SECOND)
        lib.conn_close(sim.client.endpoint, conn, 1, 0x100, 0, b"bye", 3)
        sim.run(10 * SECOND)
        for node in (sim.client, sim.server):
            more = records_of(text_of(node))
            check_events(more)
            for book in books(records_of(written[node]) + more).values():
                assert book["acked"].keys() <= book["sent"].keys() and book["lost"].keys() <= book["sent"].keys()
        names = {r["name"] for r in records_of(written[sim.server])}
        assert {"quic:packet_sent", "quic:packet_received", "quic:tuple_assigned", "quic:key_updated"} <= names
        assert "quic:key_discarded" in names
        assert {"quic:recovery_metrics_updated", "quic:migration_state_updated", "quic:packet_dropped", "quic:mtu_updated"} <= names


def burst(sim: Simulator, conn: int, sizes: list[int]) -> None:
    """These inner packets, all of one moment, out of the client."""
    for i, size in enumerate(sizes):
        sim.inner(sim.client, udp4(size, serial=i))
    sim.run(SECOND)


def test_packets_of_a_batch_are_one_record_and_told_one_by_one() -> None:
    """Numbers through every length of decimals; sizes that change; both ends. What a batch takes of the ring is next to nothing: in
    64 KiB, 1,638 records have room."""
    with Simulator(31) as sim:
        traced(sim, 1 << 16)
        sim.shape(0, rate=1e10, delay=MS)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        sizes: list[int] = []
        seen: list[dict[str, Any]] = []
        got: list[dict[str, Any]] = []
        for turn in range(60):
            some = [300 + turn] * 120 + [100] + [500] * 9
            sizes += some
            burst(sim, conn, some)
            got += records_of(text_of(sim.server))      # which gets datagram by datagram here
            if turn % 20 == 19:
                seen += records_of(text_of(sim.client))
                assert lost_records(sim.client) == 0, "the ring had no room: packets of a batch take a record each"
        for records in (seen, got):
            check_events(records)
        data = {"frames": [{"frame_type": "datagram"}]}
        for name, records in (("quic:packet_sent", seen), ("quic:packet_received", got)):
            told = [r["data"] for r in records if r["name"] == name and r["data"].items() >= data.items()]
            lengths = [d["raw"]["length"] for d in told]
            overhead = lengths[0] - sizes[0]
            assert [n - overhead for n in lengths] == sizes
            numbers = [d["header"]["packet_number"] for d in told]
            assert numbers == sorted(numbers) and len(set(numbers)) == len(sizes) and numbers[-1] >= len(sizes)
        balance(sim.client, conn, seen)


def test_a_run_of_packets_that_found_no_room_counts_each_of_them() -> None:
    with Simulator(31) as sim:
        traced(sim, 1 << 16)
        sim.shape(0, rate=1e10, delay=MS)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        for turn in range(1200):
            burst(sim, conn, [200] * (1 + turn % 7))
        stats = ffi.new("struct trace_stats *")
        assert lib.endpoint_trace_stats(sim.client.endpoint, stats) == 0
        records = records_of(text_of(sim.client))
        check_events(records)
        assert stats.lost > 1000 and [r["data"]["count"] for r in records if r["name"] == "mpquic:records_lost"] == [stats.lost]
        assert stats.records == len(records) - 1 + 1, "what was told, and the connection's name, which is no event"


def test_the_search_for_the_mtu_says_when_it_is_over() -> None:
    for mtu in (1500, 1400):
        with Simulator(13, client={"max_udp_payload": 1472}, server={"max_udp_payload": 1472}) as sim:
            traced(sim)
            sim.shape(0, mtu=mtu)
            sim.connect()
            sim.run(20 * SECOND)
            records = records_of(text_of(sim.client))
            check_events(records)
            told = [r["data"] for r in records if r["name"] == "quic:mtu_updated"]
            assert not any(d.get("done") for d in told[:-1]) and told[-1]["done"] is True, told
            assert (told[-1]["new"] == 1472) == (mtu == 1500) and told[-1]["new"] <= mtu
            assert len(told) > 1 or mtu == 1500


def test_a_datagram_without_a_packet_is_one_that_was_dropped() -> None:
    """The draft's udp_datagram_dropped: what holds a packet is packet_dropped, whatever is wrong with that."""
    with Simulator(5) as sim:
        traced(sim)
        sim.connect()
        text_of(sim.server)
        none = [b"\x40" + bytes(10), bytes(40), b"\xc0\0\0\0\1\xff" + bytes(40), b"\xc0\0\0"]
        for data in none:
            sim.deliver(sim.server, 0, sim.client_address[0], data)
        sim.deliver(sim.server, 0, sim.client_address[0], b"\x40" + bytes(60))       # a packet, of nobody
        records = records_of(text_of(sim.server))
        check_events(records)
        told = [(r["data"]["counter"], r["data"]["raw"]["length"]) for r in records if r["name"] == "quic:udp_datagram_dropped"]
        assert told == [("datagram_short", 11), ("fixed_bit", 40), ("header_malformed", 46), ("datagram_short", 3)]
        assert [r["data"]["counter"] for r in records if r["name"] == "quic:packet_dropped"] == ["cid_unknown"]


def test_multipath_frames_are_told_by_name() -> None:
    with Simulator(9) as sim:
        traced(sim)
        conn, _ = sim.connect()
        path = sim.open_path(conn, 1)
        for available in (0, 1):
            assert lib.path_status_set(sim.client.endpoint, conn, path, available) == 0
        sim.run(SECOND)
        assert lib.path_abandon(sim.client.endpoint, conn, path, 0x3E) == 0
        sim.run(5 * SECOND)
        records = records_of(text_of(sim.server))
        check_events(records)
        frames = {f["frame_type"]: f for r in records for f in r["data"].get("frames", [])}
        assert {"path_ack", "path_new_connection_id", "path_status_backup", "path_status_available"} <= frames.keys()
        assert frames["path_abandon"]["path_id"] == path and frames["path_abandon"]["error_code"] == 0x3E
        assert "max_path_id" in frames


def test_nothing_that_must_stay_secret_is_in_it() -> None:
    """R-154 for the engine's part: contents of CRYPTO, STREAM and DATAGRAM, reset tokens, secrets."""
    with Simulator(4) as sim:
        traced(sim)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        canary = bytes(range(160, 200))
        sim.inner(sim.client, udp4(400, serial=int.from_bytes(canary[:8], "big")))
        stream = b"\x0a\x00" + bytes([len(canary)]) + canary
        assert lib.conn_frame_send(sim.client.endpoint, conn, 2, 0xFFFFFFFF, stream, len(stream), 1, 0) == 0
        sim.run(SECOND)
        info = ffi.new("struct conn_info *")
        lib.conn_info(sim.server.endpoint, peer, info)
        for node in (sim.client, sim.server):
            text = text_of(node)
            assert b'"frame_type":"stream"' in text and b'"frame_type":"crypto"' in text and b'"frame_type":"datagram"' in text
            for secret in (canary[:8], b"hello" * 2, bytes(info.reset_token), sim.client_handshake.secret("client 2")):
                assert secret.hex().encode() not in text and secret not in text


def test_what_is_dropped_says_why() -> None:
    with Simulator(5) as sim:
        traced(sim)
        conn, peer = sim.connect()
        caught: list[bytes] = []

        def tap(direction: int, _link: int, data: bytes) -> bytes:
            caught.extend([data] if direction == 0 else [])
            return data

        sim.tap = tap
        sim.run(10 * MS)
        sim.tunnel(conn, peer, [BALANCED])
        sim.inner(sim.client, udp4(200, serial=1))
        sim.run(100 * MS)
        sim.tap = None
        good = caught[0]
        text_of(sim.server)
        sim.deliver(sim.server, 0, sim.client_address[0], good)  # a duplicate
        sim.deliver(sim.server, 0, sim.client_address[0], good[:-1] + bytes([good[-1] ^ 1]))
        sim.deliver(sim.server, 0, sim.client_address[0], bytes([0x40]) + bytes(60))  # of nobody
        sim.deliver(sim.server, 0, sim.client_address[0], b"\xc0\x0a\x0a\x0a\x0a\x08" + bytes(100))  # another version
        sim.inner(sim.server, udp4(200, dn="10.45.0.99", up=False)[:-1])
        records = records_of(text_of(sim.server))
        check_events(records)
        dropped = [r["data"] for r in records if r["name"] == "quic:packet_dropped"]
        assert [(d["counter"], d["trigger"]) for d in dropped[:1]] == [("packet_duplicate", "duplicate")]
        assert ("cid_unknown", "connection_unknown") in [(d["counter"], d["trigger"]) for d in dropped]
        assert ("version_unknown", "unsupported") in [(d["counter"], d["trigger"]) for d in dropped]
        assert [r["data"]["counter"] for r in records if r["name"] == "mpquic:inner_dropped"] == ["inner_malformed"]
        first = next(r for r in records if r["name"] == "quic:packet_dropped")
        assert first["group_id"] and first["data"]["header"]["packet_type"] == "1RTT"


def test_every_drop_of_a_received_packet_has_a_trigger() -> None:
    """A new drop counter must be sorted: a received packet's, or not."""
    elsewhere = ("inner_", "tunnel_", "steering_", "reorder_", "path_queue_", "tun_", "udp_", "datagram_no", "datagram_c")
    inner = {name for name in COUNTERS if name.startswith(elsewhere)}
    inner |= {"ingress_filter", "packet_pool_empty", "redundant_dropped"}
    for i, name in enumerate(COUNTERS):
        if lib.counter_is_drop(i):
            assert (lib.trace_drop_trigger(i) == ffi.NULL) == (name in inner), name
        else:
            assert name in ("token_useless",) or lib.trace_drop_trigger(i) == ffi.NULL or name in inner, name


def bare(records: list[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    """Packets without a number: the event, the packet's type, all of it."""
    kinds = ("retry", "version_negotiation", "stateless_reset")
    found = [(r["name"], r["data"].get("header", {}).get("packet_type"), r) for r in records]
    return [one for one in found if one[1] in kinds]


def test_a_retry_is_told_at_both_ends() -> None:
    with Simulator(7, server={"retry_half_open": 1}) as sim:
        traced(sim)
        sim.connect()
        sent, received = ([*bare(records_of(text_of(node)))] for node in (sim.server, sim.client))
        check_events([r for _, _, r in sent + received])
        assert [(name, kind) for name, kind, _ in sent] == [("quic:packet_sent", "retry")]
        assert [(name, kind) for name, kind, _ in received] == [("quic:packet_received", "retry")]
        assert "group_id" not in sent[0][2] and received[0][2]["group_id"], "the server keeps no state for it"
        tokens = [r["data"]["header"]["token"] for _, _, r in sent + received]
        assert tokens[0] == tokens[1] and tokens[0]["type"] == "retry" and 0 < tokens[0]["raw"]["length"] < 200
        assert sent[0][2]["data"]["raw"] == received[0][2]["data"]["raw"]


def test_version_negotiation_is_told_at_both_ends() -> None:
    with Simulator(5) as sim:
        traced(sim)
        conn = check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
        sim.client_handshake.start(conn)
        sim.tap = lambda _direction, _link, data: data[:1] + b"\x1a\x2a\x3a\x4a" + data[5:] if data[0] & 0x80 else data
        sim.run(100 * MS)
        (told,) = bare(records_of(text_of(sim.server)))[:1]
        check_event(told[2])
        assert told[:2] == ("quic:packet_sent", "version_negotiation")
        versions = told[2]["data"]["supported_versions"]
        assert versions[0] == "00000001" and len(versions) == 2
        info = ffi.new("struct conn_info *")
        check(lib.conn_info(sim.client.endpoint, conn, info))
        local, odcid = bytes(info.local_cid[0:8]), bytes(info.original_dcid[0:8])
        head = b"\xc0" + bytes(4) + b"\x08" + local + b"\x08" + odcid
        text_of(sim.client)
        sim.deliver(sim.client, 0, sim.server_address, head + bytes.fromhex("0a0a0a0a"))
        (told,) = bare(records_of(text_of(sim.client)))
        check_event(told[2])
        assert told[:2] == ("quic:packet_received", "version_negotiation") and told[2]["data"]["supported_versions"] == ["0a0a0a0a"]


def test_a_stateless_reset_is_told_without_its_token() -> None:
    with Simulator(3) as sim:
        sim.server_handshake.tells_reset_token = True
        traced(sim)
        conn, peer = sim.connect()
        sim.run(SECOND)
        info = ffi.new("struct conn_info *")
        check(lib.conn_info(sim.server.endpoint, peer, info))
        token = bytes(info.reset_token[0:16])
        sim.restart(1, 99)
        assert lib.endpoint_trace(sim.server.endpoint, RING) == 0
        check(lib.conn_datagram_send(sim.client.endpoint, conn, b"\x07" + bytes(100), 101))
        sim.run(5 * SECOND)
        texts = [text_of(node) for node in (sim.server, sim.client)]
        sent, received = (bare(records_of(text)) for text in texts)
        check_events([r for _, _, r in sent])
        assert {(name, kind) for name, kind, _ in sent} == {("quic:packet_sent", "stateless_reset")}
        assert [(name, kind) for name, kind, _ in received] == [("quic:packet_received", "stateless_reset")]
        assert received[0][2]["group_id"] and sent[0][2]["data"]["raw"]["length"] == received[0][2]["data"]["raw"]["length"]
        assert all(token.hex().encode() not in text for text in texts)


def test_what_1rtt_packets_are_sent_to_is_told_when_it_changes() -> None:
    """So that no packet need say its connection ID: it is the last that its path was told of."""
    with Simulator(12) as sim:
        traced(sim)
        conn, _ = sim.connect()
        path = sim.open_path(conn, 1)
        seen: dict[int, list[str]] = {0: [], 1: []}

        def tap(direction: int, link: int, data: bytes) -> bytes:
            if direction == 0 and not data[0] & 0x80:
                seen[link].append(data[1:9].hex())
            return data

        sim.tap = tap
        used: dict[int, list[str]] = {0: [], 1: []}
        for _ in range(3):
            for where in (0, path):
                assert lib.path_status_set(sim.client.endpoint, conn, path, where) == 0  # something to be sent
            lib.conn_datagram_send(sim.client.endpoint, conn, b"\x07hello", 6)
            sim.run(SECOND)
            for link, where in ((0, 0), (1, path)):
                used[where] += dict.fromkeys(seen[link])
                seen[link].clear()
                assert lib.path_cid_rotate(sim.client.endpoint, conn, where) == 0
        told: dict[int, list[str]] = {0: [], path: []}
        records = records_of(text_of(sim.client))
        check_events(records)
        for record in records:
            if record["name"] == "quic:connection_id_updated":
                assert record["data"]["initiator"] == "remote"
                told[record["data"]["path_id"]].append(record["data"]["new"])
        assert len(used[0]) == 3 and told[0][:3] == used[0]
        assert used[path] and [one for one in told[path] if one in used[path]] == used[path]


def test_why_ecn_failed_is_told() -> None:
    with Simulator(92) as sim:
        traced(sim)
        sim.wires[0, 0].ecn = (0, 0, 0, 0)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        for i in range(200):
            sim.inner(sim.client, udp4(300, serial=i))
            sim.run(2 * MS)
        records = records_of(text_of(sim.client))
        check_events(records)
        told = [r["data"] for r in records if r["name"] == "quic:ecn_state_updated" and r["data"]["new"] == "failed"]
        assert [(one["path_id"], one["failure"]) for one in told] == [(0, "missing")]


@pytest.mark.parametrize("detail", [lib.TRACE_DETAIL_EVENTS, lib.TRACE_DETAIL_HEADERS, lib.TRACE_DETAIL_PACKETS])
def test_how_much_is_told_is_chosen(detail: int) -> None:
    with Simulator(4) as sim:
        traced(sim)
        for node in (sim.client, sim.server):
            assert lib.endpoint_trace_detail(node.endpoint, detail) == 0
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        for i in range(50):
            sim.inner(sim.client, udp4(300, serial=i))
            sim.run(MS)
        sim.run(SECOND)
        records = records_of(text_of(sim.client))
        check_events(records)
        kinds = {r["name"] for r in records}
        sent = [r["data"] for r in records if r["name"] == "quic:packet_sent"]
        assert "quic:key_updated" in kinds
        assert bool(sent) == ("quic:packets_acked" in kinds) == (detail > lib.TRACE_DETAIL_EVENTS)
        assert all(("frames" in one) == (detail == lib.TRACE_DETAIL_PACKETS) for one in sent)
        assert lib.endpoint_trace_detail(sim.client.endpoint, 3) == lib.endpoint_trace_detail(sim.client.endpoint, -1) == -1


def test_each_connection_has_its_own_name_also_in_a_slot_that_was_used_before() -> None:
    """The text of data packets is kept by connection: not that of the one before."""
    with Simulator(6) as sim:
        traced(sim)
        names = []
        for turn in range(3):
            conn, peer = sim.connect()
            tunnels = sim.tunnel(conn, peer, [BALANCED])
            info = ffi.new("struct conn_info *")
            check(lib.conn_info(sim.client.endpoint, conn, info))
            names.append(bytes(info.original_dcid[0:8]).hex())
            for i in range(20):
                sim.inner(sim.client, udp4(300, serial=100 * turn + i))
            sim.run(SECOND)
            for node in (sim.client, sim.server):
                data = [r for r in records_of(text_of(node)) if {"frame_type": "datagram"} in r["data"].get("frames", ())]
                assert len(data) >= 20 and {r["group_id"] for r in data} == {names[-1]}, f"turn {turn}"
            lib.conn_close(sim.client.endpoint, conn, 1, 0x100, 0, b"", 0)
            sim.run(5 * SECOND)
            for node, handle in zip((sim.client, sim.server), tunnels, strict=True):
                check(lib.tunnel_free(node.endpoint, handle))
        assert len(set(names)) == 3


def test_a_flood_of_rubbish_is_counted_not_told() -> None:
    with Simulator(6) as sim:
        traced(sim)
        sim.connect()
        text_of(sim.server)
        for i in range(3000):
            sim.deliver(sim.server, 0, sim.client_address[0], bytes([0x40]) + i.to_bytes(8, "big") + bytes(20))
        first = records_of(text_of(sim.server))
        dropped = sum(r["name"] == "quic:packet_dropped" for r in first)
        assert dropped + len(bare(first)) == 1000 and len(bare(first)) == 64, "resets have a bound of their own, too"
        sim.run(2 * SECOND)
        sim.deliver(sim.server, 0, sim.client_address[0], bytes([0x40]) + bytes(30))
        last = [r for r in records_of(text_of(sim.server)) if r["name"] == "quic:packet_dropped"]
        assert [r["data"]["untold_before"] for r in last] == [3000 - dropped]


def test_a_full_ring_loses_records_and_says_how_many() -> None:
    with Simulator(7) as sim:
        traced(sim, 1 << 16)
        conn, peer = sim.connect()
        sim.tunnel(conn, peer, [BALANCED])
        for i in range(2000):
            sim.inner(sim.client, udp4(100, serial=i))
            sim.run(MS)
        records = records_of(text_of(sim.client))
        check_events(records)
        lost = [r["data"]["count"] for r in records if r["name"] == "mpquic:records_lost"]
        assert lost == [lost_records(sim.client)] and lost[0] > 100
        sim.inner(sim.client, udp4(100, serial=1))
        sim.run(SECOND)
        again = records_of(text_of(sim.client))
        assert any(r["name"] == "quic:packet_sent" for r in again) and not any(r["name"] == "mpquic:records_lost" for r in again)


def test_the_trace_changes_nothing_of_what_happens() -> None:
    def hash_of(on: bool) -> int:
        with Simulator(8) as sim:
            if on:
                traced(sim)
            sim.shape(0, loss=0.05, delay=10 * MS)
            conn, peer = sim.connect()
            sim.tunnel(conn, peer, [BALANCED])
            for i in range(200):
                sim.inner(sim.client, udp4(500, serial=i))
                sim.run(MS)
            sim.run(SECOND)
            return sim.trace

    assert hash_of(False) == hash_of(True)


def test_notes_stand_in_order_and_misuse_is_refused() -> None:
    with Simulator(1) as sim:
        e = sim.client.endpoint
        note = b'"name":"mpquic:goaway","data":{"identifier":4}'
        assert lib.endpoint_trace_read(e, TEXT, len(TEXT)) == -lib.ENGINE_E_STATE
        assert lib.endpoint_trace_note(e, b"12345678", 8, note, len(note)) == -lib.ENGINE_E_STATE
        for wrong in (0, 1, 1 << 15, (1 << 20) + 8, 1 << 29):
            assert lib.endpoint_trace(e, wrong) == -lib.ENGINE_E_ARGUMENT
        traced(sim)
        assert lib.endpoint_trace(e, RING) == -lib.ENGINE_E_STATE
        assert lib.endpoint_trace_read(e, TEXT, 1000) == -lib.ENGINE_E_ARGUMENT
        assert lib.endpoint_trace_note(e, b"", 21, note, len(note)) == -lib.ENGINE_E_ARGUMENT
        assert lib.endpoint_trace_note(e, b"", 0, note, 16385) == -lib.ENGINE_E_ARGUMENT
        sim.connect()
        assert lib.endpoint_trace_note(e, b"12345678", 8, note, len(note)) == 0
        records = records_of(text_of(sim.client))
        check_events(records)
        assert records[-1]["name"] == "mpquic:goaway" and records[-1]["group_id"] == b"12345678".hex()


def test_the_schema_finds_what_is_wrong() -> None:
    """Canary: a check that can fail."""
    good = {"time": 1.0, "name": "quic:mtu_updated", "data": {"new": 1331, "path_id": 0}}
    check_event(good)
    bad: list[dict[str, Any]] = [
        good | {"name": "quic:mtu_update"},
        good | {"data": {"new": "1331"}},
        good | {"data": {"new": 1331, "pathid": 0}},
        good | {"data": {}},
        good | {"group_id": "xyz"},
        good | {"time": -1},
        {"time": 1, "name": "quic:packet_sent", "data": {"header": {"packet_type": "2RTT"}}},
        {"time": 1, "name": "quic:packet_sent", "data": {"header": {"packet_type": "1RTT"}, "frames": [{"frame_type": "pong"}]}},
        {"time": 1, "name": "quic:packet_sent", "data": {"header": {"packet_type": "1RTT"}, "frames": [{"frame_type": "crypto"}]}},
    ]
    for record in bad:
        with pytest.raises(InvalidQlog):
            check_event(json.loads(json.dumps(record)))
    with pytest.raises(InvalidQlog):
        check_events([good, good | {"time": 0.5}])
