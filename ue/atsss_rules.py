"""The network's ATSSS rules (TS 24.193) as what the engine steers by. They alone decide that MPQUIC is used, and how: a rule
that this UE cannot honour refuses the whole container by name, since half of a rule set would steer wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from fiveg.atsss import MOST_RULES, AtsssContainer, AtsssError, AtsssRule, Operation
from fiveg.pfcp.codes import ProxyType, SteeringFunctionality, SteeringMode, TransportMode
from mpquic.steering import ACCESS_3GPP, ACCESS_NON_3GPP, SteeringRule
from ue.errors import RuleRefused

IP_PROXIES = (ProxyType.CONNECT_IP, ProxyType.CONNECT_IP_UDP)
FUNCTIONALITIES = (None, SteeringFunctionality.MPQUIC_IP)
"""None: the UE's choice, which is MPQUIC-IP."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the MPQUIC proxy is."""

    ipv4: IPv4Address
    ipv6: IPv6Address | None
    port: int


@dataclass(frozen=True, slots=True)
class AtsssSetting:
    """What a container comes to."""

    rules: tuple[AtsssRule, ...]
    steering: tuple[SteeringRule, ...]
    proxy: Proxy

    @property
    def standby_only(self) -> frozenset[str]:
        """Accesses that no rule sends anything over while the other one is there: kept free by PATH_STATUS_BACKUP."""
        used: set[str] = set()
        standby: set[str] = set()
        for rule in self.steering:
            used |= {a for a, w in (rule.weights or {}).items() if w} | ({rule.active} if rule.active else set())
            if rule.priority is not None or rule.smallest_delay or rule.autonomous or rule.redundant:
                used |= {ACCESS_3GPP, ACCESS_NON_3GPP}
            standby |= {rule.standby} if rule.standby else set()
        return frozenset(standby - used)


def setting(octets: bytes | None, before: AtsssSetting | None = None) -> AtsssSetting:
    """Of an ATSSS container; `before`: what the session has, when the container changes it."""
    if octets is None:
        raise RuleRefused("no_atsss_container", "the network gives no ATSSS rules")
    try:
        container = AtsssContainer.decode(octets)
    except AtsssError as e:
        raise RuleRefused("malformed", str(e)) from None
    rules = _merged(container.rules, before.rules if before is not None else ())
    if not rules:
        raise RuleRefused("no_rules", "the network gives no ATSSS rules")
    if len(rules) > MOST_RULES:  # of several containers together
        raise RuleRefused("too_many_rules", f"{len(rules)} ATSSS rules, {MOST_RULES} are possible")
    steering = tuple(_steering(r) for r in sorted(rules, key=lambda r: r.precedence))
    return AtsssSetting(rules, steering, _proxy(container, before))


def _merged(rules: Iterable[AtsssRule], before: Iterable[AtsssRule]) -> tuple[AtsssRule, ...]:
    found = {r.rule_id: r for r in before}
    for rule in rules:
        if rule.operation is Operation.DELETE:
            if found.pop(rule.rule_id, None) is None:
                raise RuleRefused("delete_unknown", f"rule {rule.rule_id} is to be deleted and does not exist")
        else:
            found[rule.rule_id] = rule
    if len({r.precedence for r in found.values()}) != len(found):
        raise RuleRefused("same_precedence", "two rules would have the same precedence")
    return tuple(found.values())


def _steering(rule: AtsssRule) -> SteeringRule:
    if rule.functionality not in FUNCTIONALITIES:
        name = rule.functionality.name.lower() if rule.functionality is not None else "any"
        raise RuleRefused(f"functionality_{name}", f"rule {rule.rule_id} wants {name}: this UE has MPQUIC-IP only")
    if rule.transport is TransportMode.STREAM:
        raise RuleRefused("transport_stream", f"rule {rule.rule_id} wants stream mode: IP packets travel in datagram mode")
    _check_limits(rule)
    weights: Mapping[str, int] | None = None
    active: str | None = None
    standby: str | None = None
    priority: str | None = None
    redundant = rule.mode is SteeringMode.REDUNDANT
    if rule.mode is SteeringMode.LOAD_BALANCING and rule.load_3gpp is not None:
        weights = {ACCESS_3GPP: rule.load_3gpp, ACCESS_NON_3GPP: 100 - rule.load_3gpp}
    elif rule.mode is SteeringMode.ACTIVE_STANDBY and rule.active is not None:
        active = rule.active
        if rule.standby:
            standby = ACCESS_NON_3GPP if active == ACCESS_3GPP else ACCESS_3GPP
    elif rule.mode is SteeringMode.PRIORITY_BASED and rule.active is not None:
        priority = rule.active
    elif redundant:
        _check_redundant(rule)
    elif rule.mode is not SteeringMode.SMALLEST_DELAY:
        name = rule.mode.name.lower()
        raise RuleRefused(f"mode_{name}", f"rule {rule.rule_id} wants steering mode {name}, which this UE does not have")
    return SteeringRule(
        rule.rule_id,
        rule.precedence,
        rule.flow.remote,
        rule.flow.protocol,
        rule.flow.port,
        weights,
        active,
        standby,
        sequenced=rule.transport is TransportMode.DATAGRAM_1,
        priority=priority,
        smallest_delay=rule.mode is SteeringMode.SMALLEST_DELAY,
        autonomous=rule.autonomous,
        max_rtt_ms=rule.max_rtt_ms,
        max_loss_percent=rule.max_loss_percent,
        redundant=redundant,
        primary=rule.active if redundant else None,
    )


def _check_redundant(rule: AtsssRule) -> None:
    where = f"rule {rule.rule_id}"
    if rule.transport is not TransportMode.DATAGRAM_1:
        text = f"{where} is redundant without sequence numbers: each packet would come twice"
        raise RuleRefused("redundant_without_numbers", text)
    if rule.active is None and (rule.max_rtt_ms is not None or rule.max_loss_percent is not None):
        raise RuleRefused("redundant_without_primary", f"{where} has thresholds without the primary access that they are for")


def _check_limits(rule: AtsssRule) -> None:
    """Which modes have thresholds, and which indicators (TS 23.501 §5.32.8)."""
    where, mode = f"rule {rule.rule_id}", rule.mode.name.lower()
    if rule.ue_assistance:
        raise RuleRefused("indicator_ue_assistance", f"{where} wants UE assistance, which this UE does not give")
    if rule.autonomous and rule.mode is not SteeringMode.LOAD_BALANCING:
        raise RuleRefused(f"indicator_{mode}", f"{where} wants autonomous load balance in mode {mode}")
    if rule.max_rtt_ms is None and rule.max_loss_percent is None:
        return
    if rule.autonomous:
        raise RuleRefused("thresholds_autonomous", f"{where} has thresholds with autonomous load balance")
    if rule.mode not in (SteeringMode.LOAD_BALANCING, SteeringMode.PRIORITY_BASED, SteeringMode.REDUNDANT):
        raise RuleRefused(f"thresholds_{mode}", f"{where} has thresholds in mode {mode}")
    if rule.max_rtt_ms == 0:
        raise RuleRefused("threshold_zero", f"{where} has a threshold of 0 ms, which no path can keep")


def _proxy(container: AtsssContainer, before: AtsssSetting | None) -> Proxy:
    if container.information is None and before is not None:
        return before.proxy
    for entry in container.information.proxies if container.information is not None else ():
        if entry.proxy_type in IP_PROXIES and entry.ipv4 is not None:
            if entry.ipv4.is_multicast or entry.ipv4.is_unspecified or entry.ipv4.is_reserved:
                raise RuleRefused("bad_proxy", f"the network names {entry.ipv4} as MPQUIC proxy")
            return Proxy(entry.ipv4, entry.ipv6, entry.port)
    raise RuleRefused("no_proxy", "the network names no MPQUIC-IP proxy with an IPv4 address")
