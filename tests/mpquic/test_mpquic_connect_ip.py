"""CONNECT-IP: the bytes of RFC 9484's capsules, their rules, the path."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpquic.connect_ip import (
    DEFAULT_PATH,
    Assigned,
    Route,
    Target,
    address_assign,
    address_request,
    decode_assign,
    decode_request,
    decode_routes,
    route_advertisement,
)
from mpquic.errors import H3StreamError
from mpquic.tunnel_request import ConnectIp, ConnectIpReply, request_headers

ALL4 = bytes.fromhex("04 00000000 ffffffff")
NETWORKS = st.one_of(
    st.builds(lambda a, p: ip_network((a, p), strict=False), st.integers(0, (1 << 32) - 1), st.integers(0, 32)),
    st.builds(
        lambda a, p: ip_network((a | 1 << 127, p), strict=False), st.integers(0, (1 << 127) - 1), st.integers(0, 128)
    ),
)


def test_bytes_of_the_three_capsules() -> None:
    assigned = Assigned(1, IPv4Network("10.45.0.2/32"))
    assert address_assign([assigned]).encode() == bytes.fromhex("01 07 01 04 0a2d0002 20")
    assert address_request([Assigned(1, IPv4Network("0.0.0.0/32"))]).encode() == bytes.fromhex(
        "02 07 01 04 00000000 20"
    )
    assert route_advertisement([Route.of(IPv4Network("0.0.0.0/0"))]).encode() == bytes.fromhex(
        "03 0a 04 00000000 ffffffff 00"
    )


@given(st.lists(st.builds(Assigned, st.integers(1, (1 << 62) - 1), NETWORKS), max_size=20))
def test_addresses_survive_the_wire(entries: list[Assigned]) -> None:
    assert decode_assign(address_assign(entries).value) == entries


@given(st.lists(st.integers(0, (1 << 32) - 1), max_size=40, unique=True), st.integers(0, 255))
def test_sorted_ranges_survive_the_wire(bounds: list[int], protocol: int) -> None:
    bounds.sort()
    routes = [Route(IPv4Address(a), IPv4Address(b), protocol) for a, b in zip(bounds[::2], bounds[1::2], strict=False)]
    assert decode_routes(route_advertisement(list(reversed(routes))).value) == routes


@pytest.mark.parametrize(
    "value",
    [
        bytes.fromhex("04 0a000002 0a000001 00"),
        bytes.fromhex("04 0a000002 0a000003 00 04 0a000000 0a000001 00"),
        bytes.fromhex("04 0a000000 0a000003 00 04 0a000003 0a000004 00"),
        bytes.fromhex("04 0a000000 0a000003 06 04 0a000004 0a000005 00"),
        ALL4 + b"\x00" + ALL4 + b"\x06",
        b"\x05" + ALL4[1:] + b"\x00",
        ALL4,
    ],
)
def test_ranges_out_of_order_overlapping_or_cut_are_malformed(value: bytes) -> None:
    with pytest.raises(H3StreamError) as caught:
        decode_routes(value)
    assert caught.value.code == 0x10E


@pytest.mark.parametrize(
    "value", ["", "00 04 00000000 20", "01 04 00000000 20 01 04 00000000 20", "01 04 0a000001 18", "01 04 00000000 21"]
)
def test_broken_requests_are_malformed(value: str) -> None:
    with pytest.raises(H3StreamError) as caught:
        decode_request(bytes.fromhex(value))
    assert caught.value.code == 0x10E


def test_a_flood_of_addresses_is_refused() -> None:
    with pytest.raises(H3StreamError):
        decode_assign(bytes.fromhex("00 04 0a000001 20") * 1000)


@given(st.sampled_from((decode_assign, decode_request, decode_routes)), st.binary(max_size=80))
def test_garbage_raises_only_stream_errors(decode, value: bytes) -> None:
    try:
        decode(value)
    except H3StreamError as error:
        assert error.code == 0x10E


def test_the_path_names_target_and_protocol() -> None:
    assert Target.parse(DEFAULT_PATH) == Target(None, None)
    assert Target.parse("/.well-known/masque/ip/10.0.0.0%2F8/17/") == Target("10.0.0.0/8", 17)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/.well-known/masque/udp/*/*/",
        DEFAULT_PATH[:-1],
        "/.well-known/masque/ip/*/256/",
        "/.well-known/masque/ip//*/",
        "/.well-known/masque/ip/10.0.0.1%2F8/*/",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError):
        Target.parse(path)


# ---- the tunnel's side of the capsules


def tunnel(*addresses: str) -> ConnectIp:
    made = ConnectIp(0, client=False)
    made.offer(ConnectIpReply(200, tuple(IPv4Network(a) for a in addresses)))
    return made


def requested(*ids: int) -> bytes:
    return address_request([Assigned(i, IPv4Network("0.0.0.0/32")) for i in ids]).encode()


def test_requests_are_answered_with_their_ids() -> None:
    made = tunnel("10.45.0.2/32")
    ask = [Assigned(7, IPv4Network("0.0.0.0/32")), Assigned(8, IPv4Network("10.45.0.9/32")), Assigned(9, IPv6Network("::/128"))]
    answer = made.feed(address_request(ask).encode())
    assert answer[0] == 1
    entries = {entry.request_id: entry.network for entry in decode_assign(answer[2:])}
    assert entries == {
        0: IPv4Network("10.45.0.2/32"),
        7: IPv4Network("10.45.0.2/32"),
        8: IPv4Network("0.0.0.0/32"),  # refused
        9: IPv6Network("::/128"),
    }


def test_a_request_id_is_used_once() -> None:
    """RFC 9484 §4.7.2, in another capsule, too."""
    made = tunnel("10.45.0.2/32")
    made.feed(requested(1, 2))
    with pytest.raises(H3StreamError) as caught:
        made.feed(requested(3, 2))
    assert caught.value.code == 0x10E


def test_requests_without_end_are_refused() -> None:
    """Each is answered: a peer must not make us write for ever, nor remember for ever."""
    made = tunnel("10.45.0.2/32")
    with pytest.raises(H3StreamError) as caught:
        for number in range(1, 10000):
            made.feed(requested(number))
    assert caught.value.code == 0x107


def test_a_refusal_is_no_address() -> None:
    made = ConnectIp(0)
    made.feed(address_assign([Assigned(0, IPv4Network("10.45.0.2/32")), Assigned(1, IPv4Network("0.0.0.0/32"))]).encode())
    assert made.addresses == (IPv4Network("10.45.0.2/32"),)
    made.feed(address_assign([]).encode())
    assert made.addresses == ()  # all withdrawn


def test_a_capsule_replaces_the_whole_list() -> None:
    """RFC 9484 §4.7.1, §4.7.3."""
    made = ConnectIp(0)
    for text in ("10.45.0.2/32", "10.45.0.3/32"):
        made.feed(address_assign([Assigned(0, IPv4Network(text))]).encode())
        assert made.addresses == (IPv4Network(text),)
    for text in ("10.0.0.0/8", "11.0.0.0/8"):
        made.feed(route_advertisement([Route.of(IPv4Network(text))]).encode())
        assert made.routes == (IPv4Network(text),)


def test_both_ends_say_that_capsules_are_spoken() -> None:
    """RFC 9297 §3.4, RFC 9484 §4.2."""
    assert (b"capsule-protocol", b"?1") in request_headers("proxy")


def test_ranges_that_make_too_many_prefixes_are_refused() -> None:
    """Some 8 kB of ranges were 61,000 prefixes and half a second of work, as often as the peer liked."""
    ranges = [Route(IPv6Address((i << 120) + 1), IPv6Address(((i + 1) << 120) - 2)) for i in range(32, 250)]
    wire = route_advertisement(ranges).encode()
    start = time.process_time()
    with pytest.raises(H3StreamError) as caught:
        ConnectIp(0).feed(wire)
    assert caught.value.code == 0x107
    made = tunnel()
    for _ in range(10):
        made.feed(wire)  # a server has no use for them
    assert made.routes == () and made.routed
    assert time.process_time() - start < 1.0


def test_a_target_has_no_zone() -> None:
    with pytest.raises(ValueError):
        Target.parse("/.well-known/masque/ip/fe80%3A%3A1%25eth0/*/")
