"""What many sessions send in turns is written to the TUN session by session: else batches stay as small as they once were."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from needs import needs_tun
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw
from tun_writes import joined_writes

from lab.bench.pair import CLIENT, INNER, SERVER, EnginePair, Line, check
from native import lib

FLOWS, ROUNDS, SIZE = 100, 4, 200
RUNS = 128  # JOINER_RUNS
SESSIONS, PORT = 40, 6000
PAYLOAD, PIECES = 1200, 5  # octets, and datagrams that a sender gives the kernel as one
UDP_SEGMENT = 103


def segment(version: int, protocol: int, flow: int, part: int) -> bytes:
    """Part 0, 1, ... of what a flow sends; its payload names both."""
    ip: Packet = IPv6(src="fd99::2", dst="fd45::2")
    if version == 4:
        ip = IP(src="10.99.0.2", dst="10.45.0.2", id=part, flags="DF")
    l4: Packet = UDP(sport=1000 + flow, dport=2)
    if protocol == 6:
        l4 = TCP(sport=1000 + flow, dport=2, seq=SIZE * part, ack=5, flags="A")
    return bytes(ip / l4 / Raw(bytes([flow % 256, part]) * (SIZE // 2)))


def written(packets: list[bytes]) -> list[list[tuple[int, int]]]:
    """Of each write: flows and parts of the payloads in it."""
    found = []
    for raw in joined_writes(packets):
        l4 = 20 if raw[0] >> 4 == 4 else 40
        protocol = raw[9] if l4 == 20 else raw[6]
        payload = raw[l4 + (20 if protocol == 6 else 8):]
        found.append([(payload[at], payload[at + 1]) for at in range(0, len(payload), SIZE)])
    return found


@pytest.mark.parametrize(("version", "protocol"), [(4, 6), (6, 17)])
def test_a_hundred_flows_in_turns_are_joined_flow_by_flow(version: int, protocol: int) -> None:
    turns = [segment(version, protocol, flow, part) for part in range(ROUNDS) for flow in range(FLOWS)]
    assert written(turns) == [[(flow, part) for part in range(ROUNDS)] for flow in range(FLOWS)]


def test_more_flows_than_there_are_runs_keep_their_order() -> None:
    many = RUNS + 50
    turns = [segment(4, 6, flow, part) for part in range(2) for flow in range(many)]
    parts: dict[int, list[int]] = {}
    writes = written(turns)
    for flow, part in itertools.chain.from_iterable(writes):
        parts.setdefault(flow, []).append(part)
    assert parts == {flow: [0, 1] for flow in range(many)}
    assert len(writes) > many  # canary: not all had a run until their second packet came


def test_a_flow_whose_run_was_written_begins_it_anew() -> None:
    """A gap ends a run; what follows it is joined again, behind what came before and never with another flow's."""
    parts = (0, 1, 3, 4)
    turns = [segment(4, 6, flow, part) for part in parts for flow in range(2)]
    assert sorted(written(turns)) == [[(0, 0), (0, 1)], [(0, 3), (0, 4)], [(1, 0), (1, 1)], [(1, 3), (1, 4)]]


# ---- the I/O thread


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with Line() as made:
        yield made


def wait(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def flows(line: Line, stack: ExitStack) -> list[tuple[socket.socket, socket.socket]]:
    """Of each session, a socket that sends and the one that receives from it: nobody's datagrams are in another's way."""
    made = []
    for address in line.addresses(SESSIONS):
        sender, receiver = (stack.enter_context(line.spaces[side].call_sync(udp_socket)) for side in (CLIENT, SERVER))
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sender.bind((address, 0))
        receiver.bind((INNER[SERVER], PORT))
        sender.connect((INNER[SERVER], PORT))
        receiver.connect(sender.getsockname())
        receiver.settimeout(10)
        made.append((sender, receiver))
    return made


def udp_socket() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def backlog(line: Line, rounds: list[bytes], segment: int) -> tuple[int, int, list[bytes]]:
    """Each of these from each of the sessions, in turns, as datagrams of `segment` octets, while neither thread runs; then the
    client's runs, and the server's when all waits for it. Packets and writes of the server's TUN, and what came of each session."""
    with ExitStack() as stack:
        pairs = flows(line, stack)
        pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256, SESSIONS)
        stack.callback(pair.close)
        for side in pair.sides:
            check(lib.io_stop(side.io), "io_stop")
        before = [side.stats() for side in pair.sides]
        for data in rounds:
            for sender, _ in pairs:
                sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, segment)
                sender.send(data)
        each = sum((len(data) + segment - 1) // segment for data in rounds)
        client, server = pair.sides
        check(lib.io_start(client.io), "io_start")
        wait("all sent", lambda: client.stats().udp_send_datagrams - before[CLIENT].udp_send_datagrams >= each * SESSIONS)
        check(lib.io_start(server.io), "io_start")
        wait("all arrived", lambda: server.stats().tun_packets_out - before[SERVER].tun_packets_out >= each * SESSIONS)
        after = server.stats()
        came = [b"".join(receiver.recv(2048) for _ in range(each)) for _, receiver in pairs]
        return after.tun_packets_out - before[SERVER].tun_packets_out, after.tun_writes - before[SERVER].tun_writes, came


@needs_tun
def test_a_backlog_of_many_sessions_is_written_session_by_session(line: Line) -> None:
    """Half a megabyte, of which a session's second part comes behind more than is kept for a few long runs."""
    rounds = [b"".join(bytes([PIECES * at + i]) * PAYLOAD for i in range(PIECES)) for at in range(2)]
    packets, writes, came = backlog(line, rounds, PAYLOAD)
    assert came == [b"".join(rounds)] * SESSIONS
    assert packets == SESSIONS * PIECES * 2 and writes == SESSIONS


@needs_tun
def test_what_cannot_be_joined_is_written_as_it_came(line: Line) -> None:
    """The canary of the test above: of datagrams that grow, none can be a segment behind the one before."""
    rounds = [bytes([at]) * (1000 + 20 * at) for at in range(3)]
    packets, writes, came = backlog(line, rounds, PAYLOAD)
    assert came == [b"".join(rounds)] * SESSIONS
    assert packets == writes == SESSIONS * 3
