"""ATSSS rules from the network: what they come to, and that what cannot be honoured is refused by name."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_network

import pytest

from fiveg.atsss import AtsssContainer, AtsssRule, Operation, ProxyEntry, SteeringInformation
from fiveg.pfcp.codes import ProxyType, SteeringFunctionality, SteeringMode, TransportMode
from fiveg.pfcp.sdf import FlowDescription
from native import lib
from ue.atsss_rules import setting
from ue.errors import RuleRefused

PROXY = SteeringInformation((ProxyEntry(IPv4Address("10.100.0.1"), None, 4433, ProxyType.CONNECT_IP),))
BALANCED = AtsssRule(1, 20, load_3gpp=30)
STANDBY = AtsssRule(
    2,
    10,
    FlowDescription(17, ip_network("10.99.0.0/24"), (53, 60)),
    mode=SteeringMode.ACTIVE_STANDBY,
    active="3gpp",
    standby=True,
)

TWICE = AtsssRule(1, 1, mode=SteeringMode.REDUNDANT, transport=TransportMode.DATAGRAM_1)


def of(*rules, information=PROXY, before=None):
    return setting(AtsssContainer(rules, information).encode(), before)


def test_rules_in_order_of_precedence():
    made = of(BALANCED, STANDBY)
    first, second = made.steering
    assert (first.rule_id, first.active, first.standby, first.protocol) == (2, "3gpp", "non-3gpp", 17)
    assert (str(first.remote), first.ports) == ("10.99.0.0/24", (53, 60))
    assert second.weights == {"3gpp": 30, "non-3gpp": 70}
    assert (str(made.proxy.ipv4), made.proxy.port) == ("10.100.0.1", 4433)
    assert made.standby_only == frozenset()  # the balanced rule uses both


def test_an_access_that_every_rule_keeps_in_reserve():
    assert of(STANDBY).standby_only == {"non-3gpp"}


def test_the_network_may_leave_the_functionality_to_the_ue():
    assert of(AtsssRule(1, 1, functionality=None, load_3gpp=100)).steering[0].weights == {"3gpp": 100, "non-3gpp": 0}


@pytest.mark.parametrize(
    ("reason", "rule"),
    [
        ("functionality_mptcp", AtsssRule(1, 1, functionality=SteeringFunctionality.MPTCP, load_3gpp=50)),
        ("functionality_mpquic_udp", AtsssRule(1, 1, functionality=SteeringFunctionality.MPQUIC_UDP, load_3gpp=50)),
        ("redundant_without_numbers", AtsssRule(1, 1, mode=SteeringMode.REDUNDANT)),
        ("redundant_without_numbers", AtsssRule(1, 1, mode=SteeringMode.REDUNDANT, transport=TransportMode.DATAGRAM_2)),
        ("redundant_without_primary", replace(TWICE, max_rtt_ms=9)),
        ("indicator_redundant", replace(TWICE, autonomous=True)),
        ("indicator_ue_assistance", AtsssRule(1, 1, load_3gpp=50, ue_assistance=True)),
        ("indicator_smallest_delay", AtsssRule(1, 1, mode=SteeringMode.SMALLEST_DELAY, autonomous=True)),
        ("thresholds_autonomous", AtsssRule(1, 1, load_3gpp=50, autonomous=True, max_rtt_ms=9)),
        ("thresholds_smallest_delay", AtsssRule(1, 1, mode=SteeringMode.SMALLEST_DELAY, max_loss_percent=0)),
        ("thresholds_active_standby", AtsssRule(1, 1, mode=SteeringMode.ACTIVE_STANDBY, active="3gpp", max_rtt_ms=9)),
        ("threshold_zero", AtsssRule(1, 1, load_3gpp=50, max_rtt_ms=0)),
        ("transport_stream", AtsssRule(1, 1, load_3gpp=50, transport=TransportMode.STREAM)),
    ],
)
def test_a_rule_that_cannot_be_honoured_refuses_all(reason, rule):
    with pytest.raises(RuleRefused) as refused:
        of(AtsssRule(9, 9, load_3gpp=50), rule)
    assert refused.value.reason == reason


def test_redundant_with_a_primary_access_or_none():
    made = of(TWICE, AtsssRule(2, 2, mode=SteeringMode.REDUNDANT, active="3gpp", transport=TransportMode.DATAGRAM_1, max_rtt_ms=80))
    first, second = made.steering
    assert first.redundant and first.primary is None and first.sequenced
    assert (second.primary, second.active, second.max_rtt_ms) == ("3gpp", None, 80)
    assert made.standby_only == frozenset()


def test_modes_that_measure():
    made = of(
        AtsssRule(1, 1, mode=SteeringMode.PRIORITY_BASED, active="non-3gpp", max_rtt_ms=80, max_loss_percent=0),
        AtsssRule(2, 2, mode=SteeringMode.SMALLEST_DELAY),
        AtsssRule(3, 3, load_3gpp=100, autonomous=True),
    )
    first, second, third = made.steering
    assert (first.priority, first.active, first.max_rtt_ms, first.max_loss_percent) == ("non-3gpp", None, 80, 0)
    assert second.smallest_delay and (second.priority, second.weights) == (None, None)
    assert third.autonomous and third.weights == {"3gpp": 100, "non-3gpp": 0}


@pytest.mark.parametrize(
    "rule",
    [
        AtsssRule(1, 1, mode=SteeringMode.PRIORITY_BASED, active="3gpp"),
        AtsssRule(1, 1, mode=SteeringMode.SMALLEST_DELAY),
        AtsssRule(1, 1, load_3gpp=100, autonomous=True),
    ],
)
def test_an_access_that_may_be_needed_any_time_is_no_backup(rule):
    """PATH_STATUS_BACKUP would keep the UPF from what the rule tells it."""
    standby = AtsssRule(2, 2, mode=SteeringMode.ACTIVE_STANDBY, active="3gpp", standby=True)
    assert of(standby).standby_only == {"non-3gpp"}
    assert of(rule, standby).standby_only == frozenset()


@pytest.mark.parametrize(
    ("reason", "octets"),
    [
        ("no_atsss_container", None),
        ("malformed", b"\x01\x00\x05abc"),
        ("no_rules", AtsssContainer((), PROXY).encode()),
        ("no_proxy", AtsssContainer((BALANCED,)).encode()),
        ("no_proxy", AtsssContainer((BALANCED,), SteeringInformation()).encode()),
    ],
)
def test_a_container_that_says_too_little(reason, octets):
    with pytest.raises(RuleRefused) as refused:
        setting(octets)
    assert refused.value.reason == reason


def test_a_change_adds_replaces_and_deletes_and_keeps_the_proxy():
    before = of(BALANCED, STANDBY)
    after = of(AtsssRule(2, operation=Operation.DELETE), AtsssRule(1, 5, load_3gpp=60), information=None, before=before)
    assert [(r.rule_id, r.precedence, r.weights) for r in after.steering] == [(1, 5, {"3gpp": 60, "non-3gpp": 40})]
    assert after.proxy == before.proxy


def test_rules_of_several_containers_stay_within_what_the_engine_takes():
    """Each container may be full; together they would be refused only when the tunnel is set, after they were accepted."""
    before = of(*(AtsssRule(n, n, load_3gpp=50) for n in range(1, 33)))
    assert len(before.steering) == lib.ENGINE_MAX_RULES
    with pytest.raises(RuleRefused) as refused:
        of(AtsssRule(40, 40, load_3gpp=50), information=None, before=before)
    assert refused.value.reason == "too_many_rules"
    swap = (AtsssRule(1, operation=Operation.DELETE), AtsssRule(40, 40, load_3gpp=50))
    assert len(of(*swap, information=None, before=before).steering) == 32


@pytest.mark.parametrize("ipv4", ["0.0.0.0", "224.0.0.9", "255.255.255.255"])
def test_a_proxy_that_nobody_can_be_is_refused(ipv4):
    information = SteeringInformation((ProxyEntry(IPv4Address(ipv4), None, 4433, ProxyType.CONNECT_IP),))
    with pytest.raises(RuleRefused) as refused:
        of(BALANCED, information=information)
    assert refused.value.reason == "bad_proxy"


def test_a_change_of_what_is_not_there():
    with pytest.raises(RuleRefused) as refused:
        of(AtsssRule(7, operation=Operation.DELETE), information=None, before=of(BALANCED))
    assert refused.value.reason == "delete_unknown"


def test_one_octet_in_a_rule_changes_what_happens():
    octets = AtsssContainer((BALANCED,), PROXY).encode()
    base, differing = setting(octets), 0
    for at in range(len(octets)):
        changed = bytearray(octets)
        changed[at] ^= 1
        try:
            differing += setting(bytes(changed)) != base
        except RuleRefused:
            differing += 1
    # Everything but the types of the link-specific addresses and the MPTCP list, which MPQUIC-IP has no use for.
    assert differing >= len(octets) - 3
