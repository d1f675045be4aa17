"""ATSSS containers: exact octets, round trips, and what a malformed one does: it is refused whole (R-110)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiveg.atsss import (
    FUNCTIONALITIES,
    MODES,
    AtsssContainer,
    AtsssError,
    AtsssRule,
    Operation,
    ProxyEntry,
    SteeringInformation,
)
from fiveg.pfcp.codes import ProxyType, SteeringFunctionality, SteeringMode, TransportMode
from fiveg.pfcp.sdf import FlowDescription

PROXY = ProxyEntry(IPv4Address("10.100.0.1"), None, 4433, ProxyType.CONNECT_IP)
BALANCED = AtsssRule(1, 10, load_3gpp=30, transport=TransportMode.DATAGRAM_1)
STANDBY = AtsssRule(
    2,
    5,
    FlowDescription(6, IPv4Network("10.99.0.0/16"), (80, 90)),
    mode=SteeringMode.ACTIVE_STANDBY,
    active="non-3gpp",
    standby=True,
)
CONTAINER = AtsssContainer((BALANCED, STANDBY), SteeringInformation((PROXY,)))


def test_exact_octets() -> None:
    assert BALANCED.encode().hex() == "000b" + "01010a" + "000101" + "04" + "05030800"
    assert STANDBY.encode().hex() == "0019" + "020105" + "0010" + "100a630000ffff0000" + "3006" + "510050005a" + "03" + "050104"
    assert PROXY.encode().hex() == "010a640001" + "1151" + "02"
    assert CONTAINER.information is not None
    assert CONTAINER.information.encode().hex() == "00000008" + PROXY.encode().hex()
    assert CONTAINER.encode().hex().startswith("010028000b0101")
    assert AtsssContainer.decode(CONTAINER.encode()) == CONTAINER


def test_exact_octets_of_indicators_and_thresholds() -> None:
    many = {
        "000c01010a000101" + "05" + "050308" + "8100": AtsssRule(1, 10, load_3gpp=30, autonomous=True, transport=TransportMode(0)),
        "000b01010a000101" + "04" + "050308" + "82": AtsssRule(1, 10, load_3gpp=30, ue_assistance=True),
        "000e01010a000101" + "07" + "050308" + "8c00501e": AtsssRule(1, 10, load_3gpp=30, max_rtt_ms=80, max_loss_percent=30),
        "000a01010a000101" + "03" + "050402": AtsssRule(1, 10, mode=SteeringMode.PRIORITY_BASED, active="non-3gpp"),
        "000a01010a000101" + "03" + "050501": AtsssRule(1, 10, mode=SteeringMode.REDUNDANT),
        "000e01010a000101" + "07" + "050503" + "84005000": AtsssRule(
            1, 10, mode=SteeringMode.REDUNDANT, active="non-3gpp", max_rtt_ms=80, transport=TransportMode(0)),
        "000901010a000101" + "02" + "0502": AtsssRule(1, 10, mode=SteeringMode.SMALLEST_DELAY),
    }
    for octets, rule_ in many.items():
        assert rule_.encode().hex() == octets and AtsssRule.decode(bytes.fromhex(octets)[2:]) == rule_


def test_nas_codes_are_pfcps_plus_one() -> None:
    """Trap 6: modes start at 0 in PFCP and at 1 in NAS; the functionalities do not even keep the order."""
    assert all(MODES[mode] == mode + 1 for mode in SteeringMode)
    assert [FUNCTIONALITIES[f] for f in SteeringFunctionality] == [3, 2, 4, 5, 6]
    assert len(set(FUNCTIONALITIES.values())) == len(FUNCTIONALITIES)


ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda p: (min(p), max(p)))
networks = st.builds(lambda a, n: IPv4Network((a, n), strict=False), st.ip_addresses(v=4).map(str), st.integers(1, 32))
networks6 = st.builds(lambda a, n: IPv6Network((a, n), strict=False), st.ip_addresses(v=6).map(str), st.integers(0, 128))
flows = st.builds(FlowDescription, st.none() | st.integers(0, 255), st.none() | networks | networks6, st.none() | ports)
functionalities = st.sampled_from([None, *SteeringFunctionality])
transports = st.none() | st.sampled_from(list(TransportMode))


@st.composite
def rules(draw: st.DrawFn, rule_id: int, precedence: int) -> AtsssRule:
    mode = draw(st.sampled_from(list(SteeringMode)))
    indicator = draw(st.sampled_from((None, "autonomous", "ue_assistance")))
    return AtsssRule(
        rule_id,
        precedence,
        draw(flows),
        draw(functionalities),
        mode,
        load_3gpp=draw(st.integers(0, 10)) * 10 if mode is SteeringMode.LOAD_BALANCING else None,
        active=draw(st.sampled_from(("3gpp", "non-3gpp")))
        if mode in (SteeringMode.ACTIVE_STANDBY, SteeringMode.PRIORITY_BASED)
        or (mode is SteeringMode.REDUNDANT and draw(st.booleans()))
        else None,
        standby=mode is SteeringMode.ACTIVE_STANDBY and draw(st.booleans()),
        transport=draw(transports),
        autonomous=indicator == "autonomous",
        ue_assistance=indicator == "ue_assistance",
        max_rtt_ms=draw(st.none() | st.integers(0, 65535)),
        max_loss_percent=draw(st.none() | st.integers(0, 100)),
    )


@st.composite
def containers(draw: st.DrawFn) -> AtsssContainer:
    ids = draw(st.lists(st.integers(1, 255), max_size=5, unique=True))
    many = tuple(draw(rules(i, p)) for p, i in enumerate(ids))
    if many and draw(st.booleans()):
        many = (*many[1:], AtsssRule(many[0].rule_id, operation=Operation.DELETE, mode=SteeringMode.LOAD_BALANCING))
    proxies = draw(st.lists(st.builds(
        lambda four, six, port, kind: ProxyEntry(four, six, port, kind),
        st.ip_addresses(v=4), st.none() | st.ip_addresses(v=6), st.integers(1, 65535), st.sampled_from(list(ProxyType)),
    ), max_size=4))  # fmt: skip
    return AtsssContainer(many, SteeringInformation(tuple(proxies)) if draw(st.booleans()) else None)


@given(containers())
@settings(max_examples=150)
def test_round_trip(container: AtsssContainer) -> None:
    assert AtsssContainer.decode(container.encode()) == container


@given(containers(), st.data())
@settings(max_examples=300)
def test_mutated(container: AtsssContainer, data: st.DataObject) -> None:
    octets = bytearray(container.encode())
    if octets:
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        del octets[data.draw(st.integers(0, len(octets))) :]
    try:
        read = AtsssContainer.decode(bytes(octets))
    except AtsssError as e:
        assert str(e)
        return
    assert AtsssContainer.decode(read.encode()) == read


@given(st.binary(max_size=100))
def test_garbage(body: bytes) -> None:
    for head in ("", "01", "02"):
        data = bytes.fromhex(head) + (len(body).to_bytes(2, "big") if head else b"") + body
        try:
            AtsssContainer.decode(data)
        except AtsssError:
            continue


def rule(body: str) -> bytes:
    octets = bytes.fromhex(body)
    return b"\x01" + (len(octets) + 2).to_bytes(2, "big") + len(octets).to_bytes(2, "big") + octets


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("01010a" + "0000" + "03050308", "no component"),
        ("01010a" + "000101" + "03050908", "mode 9"),
        ("01010a" + "000101" + "03000308", "functionality 0"),
        ("01010a" + "000101" + "0305030c", "load above 100 %"),
        ("01010a" + "000101" + "03050300", "load 0"),
        ("01010a" + "000101" + "03050105", "standby information 5"),
        ("01010a" + "000101" + "020503", "no information"),
        ("01010a" + "000101" + "0505030800ff", "one octet too many"),
        ("01010a" + "000101" + "0405030803", "transport mode 3"),
        ("01010a" + "000101" + "06050308", "a length beyond the rule"),
        ("01010a" + "000101" + "0405030883", "both indicators"),
        ("01010a" + "000101" + "0405030890", "an unknown indicator"),
        ("01010a" + "000101" + "04050308" + "84", "no round-trip time"),
        ("01010a" + "000101" + "05050308" + "8400", "half a round-trip time"),
        ("01010a" + "000101" + "06050308" + "8c0040", "no loss"),
        ("01010a" + "000101" + "05050308" + "8865", "loss of 101 %"),
        ("01010a" + "000101" + "08050308" + "8c00400a0000", "one octet too many behind the thresholds"),
        ("00010a" + "000101" + "03050308", "rule 0"),
        ("01030a" + "000101" + "03050308", "operation 3"),
        ("01020a" + "000101" + "03050308", "a deletion with a body"),
        ("01010a" + "00020101" + "03050308", "match-all twice"),
        ("01010a" + "0003013006" + "03050308", "match-all and more"),
        ("01010a" + "00013f" + "03050308", "unknown component"),
        ("01010a" + "0009100a630001ffff0000" + "03050308", "host bits"),
        ("01010a" + "0009100a630000ff00ff00" + "03050308", "not a netmask"),
        ("01010a" + "0009100a63000000ffff00"[:22] + "03050308", "host mask"),
        ("01010a" + "0005510050004f" + "03050308", "ports backwards"),
        ("01010a" + "0004300630" + "06" + "03050308", "protocol twice"),
        ("01010a" + "00ff01" + "03050308", "a descriptor beyond the rule"),
    ],
)
def test_malformed_rules(body: str, why: str) -> None:
    with pytest.raises(AtsssError):
        AtsssContainer.decode(rule(body))


def test_access_selection_length_either_reading() -> None:
    """Whether the length counts itself is read both ways."""
    read = [AtsssContainer.decode(rule("01010a000101" + n + "050308")).rules for n in ("03", "04")]
    assert read[0] == read[1] == (AtsssRule(1, 10, load_3gpp=30),)


def test_rules_that_contradict() -> None:
    def container(*many: AtsssRule) -> bytes:
        body = b"".join(r.encode() for r in many)
        return b"\x01" + len(body).to_bytes(2, "big") + body

    for many in (
        [AtsssRule(1, 10, load_3gpp=30), AtsssRule(2, 10, load_3gpp=40)],
        [AtsssRule(1, 10, load_3gpp=30), AtsssRule(1, 11, load_3gpp=40)],
        [AtsssRule(n, n, load_3gpp=30) for n in range(1, 34)],
    ):
        with pytest.raises(AtsssError):
            AtsssContainer.decode(container(*many))
        with pytest.raises(AtsssError):
            AtsssContainer(tuple(many)).encode()


def test_containers_that_contradict() -> None:
    one = CONTAINER.encode()
    with pytest.raises(AtsssError):
        AtsssContainer.decode(one + one)
    assert AtsssContainer.decode(one + b"\x09\0\x01x" + b"\x03\0\0") == CONTAINER  # others are skipped
    for data in (one[:-1], one + b"\x01", one + b"\x09\x00\x05x"):
        with pytest.raises(AtsssError):
            AtsssContainer.decode(data)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "00",
        "04",
        "00" + "010a",  # an address that is cut off was once taken for the end of an older network's information
        "00" + "02" + "fd" * 15,
        "0000" + "00" + "07" + "010a640001" + "1151",
        "0000" + "00" + "08" + "010a640001" + "0000" + "02",
        "0000" + "00" + "08" + "010a640001" + "1151" + "09",
        "0000" + "00" + "04" + "00" + "1151" + "02",
        "0000" + "00" + "07" + "01",
        "0000" + "00" + "ff",
        "0000" + "ff",
    ],
)
def test_malformed_information(body: str) -> None:
    octets = bytes.fromhex(body)
    with pytest.raises(AtsssError):
        AtsssContainer.decode(b"\x02" + len(octets).to_bytes(2, "big") + octets)


def test_information_of_an_older_network() -> None:
    """Rel-16 ends before the MPQUIC list; entries of MPTCP proxies are passed over."""
    assert SteeringInformation.decode(bytes.fromhex("0000" + "00")) == SteeringInformation()
    mptcp = "08" + "010a640001" + "1f90" + "01"
    assert SteeringInformation.decode(bytes.fromhex("010a010002" + "010a020002" + mptcp)) == SteeringInformation()
    both = SteeringInformation.decode(bytes.fromhex("010a010002" + "030a020002" + "fd" * 16 + mptcp + "08" + PROXY.encode().hex()))
    assert both.proxies == (PROXY,)
    six = ProxyEntry(None, IPv6Address("fd64::1"), 4433, ProxyType.CONNECT_IP_UDP)
    assert SteeringInformation.decode(SteeringInformation((PROXY, six)).encode()).proxies == (PROXY, six)


def test_what_has_no_encoding() -> None:
    for bad in (
        AtsssRule(0, 1, load_3gpp=30),
        AtsssRule(256, 1, load_3gpp=30),
        AtsssRule(1, 256, load_3gpp=30),
        AtsssRule(1, 1, load_3gpp=35),
        AtsssRule(1, 1, load_3gpp=None),
        AtsssRule(1, 1, load_3gpp=110),
        AtsssRule(1, 1, mode=SteeringMode.ACTIVE_STANDBY),
        AtsssRule(1, 1, mode=SteeringMode.PRIORITY_BASED),
        AtsssRule(1, 1, load_3gpp=30, autonomous=True, ue_assistance=True),
        AtsssRule(1, 1, load_3gpp=30, max_rtt_ms=65536),
        AtsssRule(1, 1, load_3gpp=30, max_loss_percent=101),
    ):
        with pytest.raises(AtsssError):
            AtsssContainer((bad,)).encode()
    with pytest.raises(AtsssError):
        SteeringInformation((PROXY,) * 9).encode()
    with pytest.raises(AtsssError):
        ProxyEntry(None, None, 1, ProxyType.CONNECT_IP).encode()
    for port in (0, -1, 65536):
        with pytest.raises(AtsssError):
            ProxyEntry(IPv4Address("10.100.0.1"), None, port, ProxyType.CONNECT_IP).encode()
