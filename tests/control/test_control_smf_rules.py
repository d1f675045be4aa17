"""Configured rules as PFCP rules, addresses of the pool, and what a configuration may not be."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from upf_script import PROXY

from control.errors import ProcedureFailed
from control.smf.atsss_rules import container
from control.smf.config import PoolConfig, RuleConfig, SmfConfig
from control.smf.n4_rules import establishment
from control.smf.pool import AddressPool
from control.smf.rehearsal import rehearse
from fiveg.atsss import AtsssContainer
from fiveg.pfcp.codes import Priority, SteeringFunctionality, SteeringMode, SteeringModeIndicator, TransportMode
from fiveg.pfcp.message import decode, encode
from fiveg.pfcp.values import FSeid, NodeId, Thresholds
from node.config import parse
from node.errors import ConfigError

SBI = {"address": "10.90.0.11", "port": 7777, "cert": "c", "key": "k", "ca": "a",
       "nf_instance_id": "7f3c9a52-57a3-4d0a-9f7e-000000000001"}  # fmt: skip
ALL = {"id": 1, "precedence": 20, "steering": "MPQUIC_IP", "mode": {"steerModeValue": "LOAD_BALANCING", "3gLoad": 30}}
WEB = {
    "id": 2, "precedence": 10, "steering": "MPQUIC_IP", "match": {"ip": "10.99.0.0/16", "protocol": 6, "port": [80, 90]},
    "mode": {"steerModeValue": "ACTIVE_STANDBY", "active": "NON_3GPP_ACCESS", "standby": "3GPP_ACCESS"},
}  # fmt: skip

PRIO = {"id": 3, "precedence": 30, "steering": "MPQUIC_IP", "mode": {
    "steerModeValue": "PRIORITY_BASED", "prioAcc": "NON_3GPP_ACCESS", "thresValue": {"rttThres": 80, "plrThres": 5}}}
AUTO = {"id": 4, "precedence": 40, "steering": "MPQUIC_IP", "mode": {
    "steerModeValue": "LOAD_BALANCING", "steerModeInd": "AUTO_LOAD_BALANCE"}}
REDUNDANT = {"id": 6, "precedence": 60, "steering": "MPQUIC_IP", "transport": "DATAGRAM_1", "mode": {"steerModeValue": "REDUNDANT"}}
SHORT = {"id": 5, "precedence": 50, "steering": "MPQUIC_IP", "mode": {"steerModeValue": "SMALLEST_DELAY"}}


def config(*rules, **more) -> SmfConfig:
    value = {
        "node": "smf", "sbi": SBI, "amf": {"address": "10.90.0.10", "port": 7777, "host": "amf.local"},
        "n4": {"address": "10.90.0.11", "port": 8805, "upf": "10.90.0.20", "upf_port": 8805, "key": "f"},
        "ue_pool": {"ipv4": "10.45.0.0/16", "ipv6": "fd45::/48"}, "dnn": "internet", "rules": list(rules), **more,
    }  # fmt: skip
    return parse(value, SmfConfig, "smf.json")


def built(*rules, ipv4=True, ipv6=True):
    c = config(*rules)
    address = AddressPool(c.ue_pool).take(ipv4, ipv6)
    node, seid = NodeId(IPv4Address("10.90.0.11")), FSeid(9, IPv4Address("10.90.0.11"))
    message = establishment(c, address, node, seid)
    _, again = decode(encode(message, 1, 0))
    assert again == message
    return message, address


def test_rules_of_a_session():
    message, address = built(WEB, ALL)
    assert (address.ipv4, address.ipv6) == (IPv4Address("10.45.0.2"), IPv6Address("fd45:0:0:2::1"))
    uplink = [p for p in message.create_pdrs if p.far_id]
    assert [p.pdi.network_instance for p in uplink] == ["3gpp", "wifi"]
    web, everything = (p for p in message.create_pdrs if p.mar_id)
    assert web.pdi.sdf_filters[0].flow == "permit out 6 from 10.99.0.0/16 80-90 to assigned"
    assert (web.precedence, everything.precedence) == (10, 20) and everything.pdi.sdf_filters == ()
    assert everything.pdi.ue_ip_address.destination and everything.pdi.ue_ip_address.prefix_length == 64
    first, second = message.create_mars
    assert first.mode is SteeringMode.ACTIVE_STANDBY and second.mode is SteeringMode.LOAD_BALANCING
    assert (first.access_3gpp.priority, first.access_non_3gpp.priority) == (Priority.STANDBY, Priority.ACTIVE)
    assert (second.access_3gpp.weight, second.access_non_3gpp.weight) == (30, 70)
    for mar in (first, second):
        assert mar.functionality is SteeringFunctionality.MPQUIC_IP and mar.transport_mode is TransportMode.DATAGRAM_2
    fars = {f.far_id: f.forwarding for f in message.create_fars}
    assert fars[first.access_3gpp.far_id].network_instance == "3gpp"
    assert fars[first.access_non_3gpp.far_id].network_instance == "wifi"


def test_sequence_numbers_are_asked_for_by_rule():
    message, _ = built({**WEB, "transport": "DATAGRAM_1"}, ALL)
    assert [m.transport_mode for m in message.create_mars] == [TransportMode.DATAGRAM_1, TransportMode.DATAGRAM_2]
    rules = AtsssContainer.decode(container(config({**WEB, "transport": "DATAGRAM_1"}, ALL), PROXY)).rules
    assert [r.transport for r in rules] == [TransportMode.DATAGRAM_1, TransportMode.DATAGRAM_2]
    with pytest.raises(ConfigError, match="transport"):
        config({**ALL, "transport": "STREAM"})


def test_modes_thresholds_and_indicators_of_both_ends_are_the_same():
    message, _ = built(PRIO, AUTO, SHORT)
    prio, auto, short = message.create_mars
    assert (prio.mode, prio.thresholds) == (SteeringMode.PRIORITY_BASED, Thresholds(80, 5))
    assert (prio.access_3gpp.priority, prio.access_non_3gpp.priority) == (Priority.LOW, Priority.HIGH)
    assert (auto.mode, auto.indicator) == (SteeringMode.LOAD_BALANCING, SteeringModeIndicator.ALBI)
    assert (auto.access_3gpp.weight, auto.thresholds) == (None, None)
    assert (short.mode, short.access_3gpp.priority, short.access_3gpp.weight) == (SteeringMode.SMALLEST_DELAY, None, None)
    prio, auto, short = AtsssContainer.decode(container(config(PRIO, AUTO, SHORT), PROXY)).rules
    assert (prio.mode, prio.active, prio.max_rtt_ms, prio.max_loss_percent) == (SteeringMode.PRIORITY_BASED, "non-3gpp", 80, 5)
    assert (auto.autonomous, auto.load_3gpp) == (True, 50)
    assert (short.mode, short.max_rtt_ms, short.autonomous) == (SteeringMode.SMALLEST_DELAY, None, False)


def test_redundant_rules_of_both_ends_are_the_same():
    first = {**REDUNDANT, "id": 7, "precedence": 70, "mode": {
        "steerModeValue": "REDUNDANT", "primary": "3GPP_ACCESS", "thresValue": {"plrThres": 1}}}  # fmt: skip
    both, one = built(REDUNDANT, first)[0].create_mars
    assert both.mode is one.mode is SteeringMode.REDUNDANT and both.transport_mode is TransportMode.DATAGRAM_1
    assert (both.access_3gpp.priority, both.access_non_3gpp.priority, both.thresholds) == (None, None, None)
    assert (one.access_3gpp.priority, one.access_non_3gpp.priority) == (Priority.PRIMARY, Priority.SECONDARY)
    assert one.thresholds == Thresholds(None, 1)
    both, one = AtsssContainer.decode(container(config(REDUNDANT, first), PROXY)).rules
    assert (both.mode, both.active, one.active, one.max_loss_percent) == (SteeringMode.REDUNDANT, None, "3gpp", 1)


def test_one_family_only():
    message, address = built(ALL, ipv6=False)
    assert address.ipv6 is None and message.create_pdrs[-1].pdi.ue_ip_address.prefix_length is None
    message, address = built(ALL, ipv4=False)
    assert address.ipv4 is None and message.create_pdrs[-1].pdi.ue_ip_address.ipv6 == IPv6Address("fd45:0:0:2::1")


def test_the_pool_runs_out_and_reuses_late():
    pool = AddressPool(PoolConfig("10.45.0.0/29", "fd45::/48"))
    taken = [pool.take(True, True) for _ in range(5)]
    assert len({a.ipv4 for a in taken}) == 5 and pool.free == 0
    assert {str(a.ipv4) for a in taken} == {f"10.45.0.{i}" for i in range(2, 7)}
    with pytest.raises(ProcedureFailed):
        pool.take(True, False)
    pool.give_back(taken[3])
    pool.give_back(taken[0])
    assert pool.take(True, True) == taken[3] and pool.take(True, True) == taken[0]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([], "rules: must be 1 to 16"),
        ([ALL, {**WEB, "id": 1}], "rules: two have the same id"),
        ([ALL, {**WEB, "precedence": 20}], "rules: two have the same precedence"),
        ([{**ALL, "mode": {"steerModeValue": "LOAD_BALANCING"}}], "3gLoad: is required"),
        ([{**ALL, "mode": {"steerModeValue": "PRIORITY_BASED"}}], "prioAcc: is required"),
        ([{**ALL, "mode": {"steerModeValue": "SMALLEST_DELAY", "3gLoad": 50}}], "3gLoad: not with SMALLEST_DELAY"),
        ([{**ALL, "mode": {"steerModeValue": "SMALLEST_DELAY", "thresValue": {"rttThres": 5}}}], "thresValue: not with"),
        ([{**ALL, "mode": {**PRIO["mode"], "steerModeInd": "AUTO_LOAD_BALANCE"}}], "steerModeInd: not with"),
        ([{**ALL, "mode": {**PRIO["mode"], "thresValue": {}}}], "must have rttThres or plrThres"),
        ([{**ALL, "mode": {**PRIO["mode"], "thresValue": {"rttThres": 0}}}], "rttThres: must be 1..65535"),
        ([{**ALL, "mode": {**PRIO["mode"], "thresValue": {"plrThres": 101}}}], "plrThres: must be 0..100"),
        ([{**ALL, "mode": {**ALL["mode"], "steerModeInd": "UE_ASSISTANCE"}}], "must be"),
        ([{**ALL, "mode": {**AUTO["mode"], "thresValue": {"rttThres": 5}}}], "thresValue: not with AUTO_LOAD_BALANCE"),
        ([{**ALL, "mode": {"steerModeValue": "LOAD_BALANCING", "3gLoad": 35}}], "3gLoad: must be"),
        ([{**ALL, "mode": {"steerModeValue": "ACTIVE_STANDBY"}}], "active: is required"),
        ([{**ALL, "mode": {"steerModeValue": "REDUNDANT"}}], "transport: must be DATAGRAM_1 with REDUNDANT"),
        ([{**REDUNDANT, "mode": {"steerModeValue": "REDUNDANT", "3gLoad": 50}}], "3gLoad: not with REDUNDANT"),
        ([{**REDUNDANT, "mode": {"steerModeValue": "REDUNDANT", "thresValue": {"plrThres": 5}}}], "primary: is required with"),
        ([{**ALL, "mode": {**ALL["mode"], "primary": "3GPP_ACCESS"}}], "primary: not with LOAD_BALANCING"),
        ([{**ALL, "steering": "MPTCP"}], "must be one of 'MPQUIC_IP'"),
        ([{**ALL, "match": {"ip": "10.99.0.1/16"}}], "has host bits set"),
        ([{**ALL, "match": {"port": [90, 80]}}], "match.port"),
        ([{**ALL, "match": {"protocol": 256}}], "match.protocol"),
        ([{**ALL, "match": {"protocol": 1, "port": 5}}], "match.port"),
        ([{**ALL, "match": {"tos": 1}}], "match: allowed are"),
        ([{**ALL, "id": 0}], "id: must be 1..255"),
    ],
)
def test_rules_that_are_refused(rules, text):
    with pytest.raises(ConfigError) as e:
        config(*rules)
    assert text in str(e.value)


TWICE = [{"name": "wifi", "type": "3gpp"}, {"name": "wifi", "type": "non-3gpp"}]


@pytest.mark.parametrize(
    "more",
    [
        {"dnn": ""}, {"dnn": "x" * 64}, {"dnn": "a..b"}, {"dnn": "ü"},
        {"accesses": [{"name": "", "type": "3gpp"}, {"name": "wifi", "type": "non-3gpp"}]},
        {"accesses": [{"name": "x" * 101, "type": "3gpp"}, {"name": "wifi", "type": "non-3gpp"}]},
    ],
)  # fmt: skip
def test_what_no_session_could_be_set_up_with_is_refused_at_start(more):
    """Never accepted, and fatal with the first session."""
    rehearse(config(WEB, ALL))
    with pytest.raises(ConfigError, match="no session could be set up"):
        rehearse(config(WEB, ALL, **more))


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"accesses": TWICE}, "accesses: two have the same name"),
        ({"ue_pool": {"ipv4": "10.45.0.0/16", "ipv6": "fd45::/63"}}, "at least four /64"),
        ({"ue_pool": {"ipv4": "10.45.0.0/31", "ipv6": "fd45::/48"}}, "at least 4 addresses"),
        ({"n4": {"address": "10.90.0.11", "port": 70000, "upf": "10.90.0.20", "upf_port": 8805, "key": "f"}}, "port"),
        ({"amf": {"address": "10.90.0.10", "port": 0, "host": "amf.local"}}, "port"),
        ({"amf": {"address": "amf", "port": 7777, "host": "amf.local"}}, "amf"),
        ({"amf": {"address": "10.90.0.10", "port": 7777, "host": "amf local"}}, "host"),
    ],
)
def test_other_configurations_that_are_refused(more, text):
    with pytest.raises(ConfigError, match=text):
        config(ALL, **more)


def test_rule_matches():
    rule = parse({**ALL, "match": {"port": 53}}, RuleConfig, "x")
    assert rule.ports == (53, 53) and rule.remote is None and rule.protocol is None
