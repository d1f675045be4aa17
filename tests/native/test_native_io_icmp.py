"""Forged ICMP errors and refused sends on real sockets (bars R-19): a path is not closed by them, and its MTU does not go down."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator

import pytest
from needs import needs_tun
from scapy.layers.inet import ICMP, IP, IPerror, UDPerror
from test_native_io import transfer

from lab.bench.pair import CLIENT, OUTER, PORT, SERVER, EnginePair, Line
from native._engine import ffi, lib

pytestmark = needs_tun
ERRORS = {
    "port unreachable": (3, 3, 0),
    "host unreachable": (3, 1, 0),
    "prohibited": (3, 13, 0),
    "too big for 576": (3, 4, 576),
    "too big, and no more": (3, 4, 0),
}
"""type, code, next-hop MTU (RFC 792, RFC 1191)"""
FORGED = 200


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    with Line() as made:
        yield made


@pytest.fixture
def pair(line: Line) -> Iterator[EnginePair]:
    made = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256)
    yield made
    made.close()


def forge(line: Line, victim: int, kind: int, code: int, mtu: int) -> None:
    """ICMP about the victim's own datagrams, as a router on its path would send it; the kernel finds its socket by them."""
    ours, theirs = OUTER[0][victim], OUTER[0][1 - victim]
    quoted = IPerror(src=ours, dst=theirs, flags="DF", len=1500) / UDPerror(sport=PORT, dport=PORT, len=1480)
    packet = bytes(IP(src=theirs, dst=ours) / ICMP(type=kind, code=code, nexthopmtu=mtu) / quoted)
    raw = line.spaces[1 - victim].call_sync(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for _ in range(FORGED):
            raw.sendto(packet, (ours, 0))


def path_of(pair: EnginePair, side: int) -> tuple[int, int]:
    info = ffi.new("struct path_info *")
    assert lib.path_info(pair.sides[side].endpoint, pair.sides[side].conn, 0, info) == 0
    return info.state, info.max_udp_payload


@pytest.mark.parametrize("victim", [CLIENT, SERVER])
def test_icmp_errors_close_no_path_and_shrink_none(line: Line, pair: EnginePair, victim: int) -> None:
    data = os.urandom(1 << 18)
    wanted = hashlib.sha256(data).digest()
    assert transfer(line, victim, False, data) == wanted
    before = path_of(pair, victim)
    for kind, code, mtu in ERRORS.values():
        forge(line, victim, kind, code, mtu)
        assert transfer(line, victim, False, data) == wanted
    assert path_of(pair, victim) == before == (lib.PATH_ACTIVE, before[1]) and before[1] >= 1200
    assert not pair.sides[victim].counters().get("udp_send_failed")


def test_a_refused_send_costs_its_datagrams_and_no_more() -> None:
    """A connected socket is told of the errors: ECONNREFUSED of its next call. What was refused is counted, and goes again."""
    with Line() as line:
        line.sockets[CLIENT][0].connect((OUTER[0][SERVER], PORT))
        pair = EnginePair(line, lib.SUITE_AES_128_GCM_SHA256)
        try:
            data = os.urandom(1 << 18)
            for _ in range(5):
                forge(line, CLIENT, *ERRORS["port unreachable"])
                assert transfer(line, CLIENT, False, data) == hashlib.sha256(data).digest()
            assert path_of(pair, CLIENT)[0] == lib.PATH_ACTIVE
        finally:
            pair.close()
