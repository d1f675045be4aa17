"""Address validation: Retry, its tokens, the tokens of NEW_TOKEN (RFC 9000 §8.1, §17.2.5; RFC 9001 §5.8, A.4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from native import ffi, lib
from native.sim import MS, SECOND, Event, Node, Simulator, address, check

NEW_TOKEN = 0x07
INVALID_TOKEN = 0x0B
RETRY_CID = bytes(range(8))
RETRY_ALWAYS = {"retry_half_open": 1}


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(7, server=RETRY_ALWAYS) as s:
        yield s


def is_retry(data: bytes) -> bool:
    return data[0] & 0xF0 == 0xF0


def info(node: Node, conn: int) -> object:
    out = ffi.new("struct conn_info *")
    check(lib.conn_info(node.endpoint, conn, out))
    return out


def count(node: Node, name: str) -> int:
    return node.counters().get(name, 0)


def tokens(node: Node) -> list[bytes]:
    """Of the NEW_TOKEN frames received: type, length in 1 or 2 octets, token."""
    frames = [e.data for e in node.of_type(lib.EVENT_FRAME) if e.data[0] == NEW_TOKEN]
    return [f[2:] if f[1] < 0x40 else f[3:] for f in frames]


def start(sim: Simulator, token: bytes | None = None, link: int = 0) -> int:
    conn = check(lib.conn_connect(sim.client.endpoint, link, sim.server_address, sim.now))
    if token is not None:
        check(lib.conn_token_set(sim.client.endpoint, conn, token, len(token)))
    sim.client_handshake.start(conn)
    return conn


def confirmed(sim: Simulator, conn: int) -> bool:
    return bool(sim.client.stats(conn).handshake_confirmed)


def closed(node: Node, conn: int) -> Event | None:
    return next((e for e in node.of_type(lib.EVENT_CLOSED) if e.conn == conn), None)


def test_a_retry_costs_one_round_trip_and_both_ends_know_of_it(sim: Simulator) -> None:
    begun = sim.now
    conn, peer = sim.connect()
    assert sim.now - begun == 30 * MS  # 20 without
    client, server = info(sim.client, conn), info(sim.server, peer)
    retry_cid = bytes(client.retry_cid[0 : client.retry_cid_length])
    assert len(retry_cid) == 8 and retry_cid == bytes(server.retry_cid[0 : server.retry_cid_length])
    odcid = bytes(client.original_dcid[0 : client.original_dcid_length])
    assert odcid == bytes(server.original_dcid[0 : server.original_dcid_length]) and odcid != retry_cid
    assert count(sim.client, "retry_accepted") == 1 and count(sim.server, "retry_sent") == 1


def test_without_the_policy_no_retry_is_sent() -> None:
    with Simulator(7) as sim:
        sim.connect()
        assert count(sim.server, "retry_sent") == 0 and not tokens(sim.client)


def test_the_integrity_tag_is_that_of_rfc_9001(sim: Simulator) -> None:
    """Checked with another library; the same check holds for the packet of RFC 9001 A.4."""
    key, nonce = bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"), bytes.fromhex("461599d35d632bf2239825bb")

    def authentic(packet: bytes, odcid: bytes) -> bool:
        return AESGCM(key).encrypt(nonce, b"", bytes([len(odcid)]) + odcid + packet[:-16]) == packet[-16:]

    vector = "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba"
    assert authentic(bytes.fromhex(vector), bytes.fromhex("8394c8f03e515708"))
    seen: list[bytes] = []
    sim.tap = lambda _d, _link, data: (seen.append(data), data)[1]
    sim.connect()
    retries = [data for data in seen if is_retry(data)]
    assert len(retries) == 1 and authentic(retries[0], seen[0][6:14])


def test_no_state_is_kept_for_a_client_that_does_not_come_back(sim: Simulator) -> None:
    sim.tap = lambda direction, _link, data: None if direction == 1 else data
    start(sim)
    sim.run(SECOND)
    assert count(sim.server, "retry_sent") >= 2
    assert not sim.server.of_type(lib.EVENT_CONN_NEW)


def test_packet_numbers_go_on_after_a_retry_and_the_client_hello_is_the_same(sim: Simulator) -> None:
    initials: list[bytes] = []
    sim.tap = lambda d, _link, data: (initials.append(data) if d == 0 and data[0] & 0xF0 == 0xC0 else None, data)[1]
    conn, _ = sim.connect()
    assert sim.client.stats(conn).packets_sent > 2
    # DCID: 8 octets; the second Initial goes to the Retry's SCID and carries its token
    assert initials[0][6:14] != initials[1][6:14] and initials[0][23] == 0 and initials[1][23] != 0
    keys = ffi.new("struct conn_info *")
    check(lib.conn_info(sim.client.endpoint, conn, keys))
    assert initials[1][6:14] == bytes(keys.retry_cid[0:8])


@pytest.mark.parametrize("octet", [0, 1, 8, 16, 30, -17, -1])
def test_a_retry_that_was_changed_is_ignored(sim: Simulator, octet: int) -> None:
    """Any octet of it: the tag covers them all. Canary: untouched it is followed (above)."""

    def tap(_direction: int, _link: int, data: bytes) -> bytes:
        if not is_retry(data):
            return data
        changed = bytearray(data)
        changed[octet] ^= 0x01
        return bytes(changed)

    sim.tap = tap
    conn = start(sim)
    sim.run(300 * MS)
    assert count(sim.client, "retry_accepted") == 0 and not confirmed(sim, conn)


def test_a_second_retry_is_ignored(sim: Simulator) -> None:
    seen: list[bytes] = []

    def tap(direction: int, link: int, data: bytes) -> bytes:
        if is_retry(data):
            seen.append(data)
            sim.after(6 * MS, lambda: sim.deliver(sim.client, link, sim.server_address, data))
        return data

    sim.tap = tap
    conn, _ = sim.connect()
    sim.run(100 * MS)
    assert seen and count(sim.client, "retry_accepted") == 1 and count(sim.client, "retry_ignored") == len(seen)
    assert confirmed(sim, conn)


def retry_for(initial: bytes, token: bytes = b"made by somebody on the way") -> bytes:
    """An authentic Retry to this Initial: its key is public, so who sees the Initial can make it (RFC 9001 §5.8)."""
    key, nonce = bytes.fromhex("be0c690b9f66575a1d766b54e368c84e"), bytes.fromhex("461599d35d632bf2239825bb")
    odcid, scid = initial[5:14], initial[14:23]  # each behind its length, 8
    packet = b"\xf0" + initial[1:5] + scid + b"\x08" + RETRY_CID + token
    return packet + AESGCM(key).encrypt(nonce, b"", odcid + packet)


def initial_alone(datagram: bytes) -> bytes:
    """The first packet of a server's datagram; its token is empty."""
    at = 23 + 1
    return datagram[: at + 2 + (int.from_bytes(datagram[at : at + 2]) & 0x3FFF)]


@pytest.mark.parametrize("processed", ["nothing", "Initial", "everything"])
def test_a_retry_after_a_processed_packet_is_ignored(processed: str) -> None:
    """RFC 9000 §17.2.5.2. Canary: before any packet of the server the same Retry is followed, by the client alone."""
    sent: list[bytes] = []
    limited = processed != "everything"

    def tap(direction: int, _link: int, data: bytes) -> bytes | None:
        if direction == 0:
            sent.append(data)
        if direction == 0 or not limited:
            return data
        return initial_alone(data) if processed == "Initial" else None

    with Simulator(7) as sim:
        sim.tap = tap
        conn = start(sim)
        sim.run(100 * MS if processed == "everything" else 11 * MS)
        assert confirmed(sim, conn) == (processed == "everything")
        assert bool(sim.client.stats(conn).packets_received) == (processed != "nothing")
        retry, first = retry_for(sent[0]), len(sent)
        sim.deliver(sim.client, 0, sim.server_address, retry)
        sim.deliver(sim.server, 0, sim.client_address[0], retry)
        followed = processed == "nothing"
        assert (count(sim.client, "retry_accepted"), count(sim.client, "retry_ignored")) == (followed, not followed)
        assert (info(sim.client, conn).retry_cid_length == 8) == followed and count(sim.server, "retry_ignored") == 1
        limited = False
        sim.run(SECOND)
        assert any(RETRY_CID in data[:14] for data in sent[first:]) == followed
        assert followed or (confirmed(sim, conn) and closed(sim.client, conn) is None)


def test_a_retry_token_from_another_address_is_refused_at_once(sim: Simulator) -> None:
    """NAT rebinding between Retry and second Initial looks like this: the client is told, it does not wait."""

    def tap(direction: int, _link: int, data: bytes) -> bytes:
        if direction == 0 and data[0] & 0xF0 == 0xC0 and data[23]:
            sim.client_address[0] = address("10.1.0.2", 40009)
        return data

    sim.tap = tap
    conn = start(sim)
    sim.run(SECOND)
    assert count(sim.server, "token_invalid") >= 1 and not sim.server.of_type(lib.EVENT_CONN_NEW)
    over = closed(sim.client, conn)
    assert over is not None and over.a == INVALID_TOKEN and over.token == lib.CLOSE_PEER


def test_a_retry_token_lives_ten_seconds(sim: Simulator) -> None:
    kept: list[bytes] = []

    def tap(direction: int, _link: int, data: bytes) -> bytes | None:
        if direction == 0 and data[0] & 0xF0 == 0xC0 and data[23]:
            kept.append(data)
            return None
        return data

    sim.tap = tap
    start(sim)
    sim.run(20 * MS)
    sim.deliver(sim.server, 0, sim.client_address[0], kept[0])
    sim.flush()
    assert len(sim.server.of_type(lib.EVENT_CONN_NEW)) == 1  # canary: fresh it is good
    with Simulator(8, server=RETRY_ALWAYS) as late:
        late.tap = tap
        kept.clear()
        start(late)
        late.run(11 * SECOND)
        late.deliver(late.server, 0, late.client_address[0], kept[0])
        late.flush()
        assert not late.server.of_type(lib.EVENT_CONN_NEW) and count(late.server, "token_invalid") == 1


def test_new_token_saves_the_next_connection_the_retry(sim: Simulator) -> None:
    sim.connect()
    sim.run(100 * MS)
    token = tokens(sim.client)[-1]
    begun = sim.now
    second = start(sim, token)
    assert sim.run(SECOND, lambda: confirmed(sim, second))
    assert sim.now - begun == 20 * MS and count(sim.server, "retry_sent") == 1
    assert info(sim.client, second).retry_cid_length == 0


def test_a_token_of_new_token_is_good_once(sim: Simulator) -> None:
    sim.connect()
    sim.run(100 * MS)
    token = tokens(sim.client)[-1]
    for used in range(2):
        conn = start(sim, token)
        assert sim.run(SECOND, lambda conn=conn: confirmed(sim, conn))
        assert count(sim.server, "token_useless") == used and count(sim.server, "retry_sent") == 1 + used


def test_a_token_is_good_from_every_address_validated_on_the_connection(sim: Simulator) -> None:
    """RFC 10069 §3.1.3 (MP-37): of path 0 and of path 1; not from a third."""
    conn, _ = sim.connect()
    sim.run(100 * MS)
    first = tokens(sim.client)[-1]
    sim.open_path(conn, 1)
    both = tokens(sim.client)[-1]
    assert both != first
    retries = count(sim.server, "retry_sent")
    other = start(sim, first, link=1)
    assert sim.run(SECOND, lambda: confirmed(sim, other)) and count(sim.server, "retry_sent") == retries + 1  # canary
    other = start(sim, both, link=1)
    assert sim.run(SECOND, lambda: confirmed(sim, other)) and count(sim.server, "retry_sent") == retries + 1


@pytest.mark.parametrize("token", [b"\x00", b"A" * 60, b"A", bytes(200), b"A" + bytes(127)])
def test_a_token_of_nobody_is_as_if_absent(sim: Simulator, token: bytes) -> None:
    conn = start(sim, token)
    assert sim.run(2 * SECOND, lambda: confirmed(sim, conn))
    assert count(sim.server, "token_useless") == 1 and count(sim.server, "retry_sent") == 1


def test_what_cannot_be_a_retry_token_is_answered_with_invalid_token(sim: Simulator) -> None:
    conn = start(sim, b"R" * 60)
    sim.run(SECOND)
    over = closed(sim.client, conn)
    assert over is not None and over.a == INVALID_TOKEN


def test_retry_begins_at_the_threshold() -> None:
    with Simulator(9, server={"retry_half_open": 3}) as sim:
        sim.tap = lambda direction, _link, data: None if direction == 1 and not is_retry(data) else data
        for _ in range(4):
            start(sim)
        sim.run(30 * MS)
        assert len(sim.server.of_type(lib.EVENT_CONN_NEW)) == 4  # the third and fourth came back with a token
        assert count(sim.server, "retry_sent") == 2


def test_a_token_is_set_before_the_first_packet_only(sim: Simulator) -> None:
    conn, _ = sim.connect()
    assert lib.conn_token_set(sim.client.endpoint, conn, b"x" * 20, 20) == -lib.ENGINE_E_STATE
    assert lib.conn_token_set(sim.client.endpoint, conn, b"", 0) == -lib.ENGINE_E_ARGUMENT


def test_nothing_is_sent_between_connect_and_the_client_hello() -> None:
    """A client's anti-deadlock timer counts from the connection's start, not from the beginning of time."""
    with Simulator(7) as sim:
        check(lib.conn_connect(sim.client.endpoint, 0, sim.server_address, sim.now))
        sim.run(50 * MS)
        assert count(sim.client, "packets_sent") == 0
