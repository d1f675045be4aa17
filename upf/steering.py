"""From the rules of a session to what the engine steers by: one steering rule per downlink PDR and SDF filter, in the order
of precedence, with the weights or the order of the accesses and the thresholds of its MAR (TS 29.244 §5.20.2, §7.5.2.8)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from fiveg.pfcp.codes import Priority, SteeringMode, SteeringModeIndicator, TransportMode
from fiveg.pfcp.rules import CreateMar
from fiveg.pfcp.sdf import FlowDescription
from upf.rules import Access, RuleSet

EVEN = 50


@dataclass(frozen=True, slots=True)
class Steering:
    """One rule: what a flow must be, and where it goes. One of `weights`, `active`, `priority` (the access of high priority),
    `smallest_delay` and `redundant` (with a `primary` access or none) is set."""

    rule_id: int
    precedence: int
    match: FlowDescription
    weights: dict[Access, int] | None = None
    active: Access | None = None
    standby: Access | None = None
    sequenced: bool = False
    priority: Access | None = None
    smallest_delay: bool = False
    autonomous: bool = False
    max_rtt_ms: int | None = None
    max_loss_percent: int | None = None
    redundant: bool = False
    primary: Access | None = None

    @property
    def remote(self) -> IPv4Network | IPv6Network | None:
        return self.match.remote


def steering_of(rules: RuleSet) -> list[Steering]:
    """While all rules drop there is none here, and every packet is dropped by name."""
    out: list[Steering] = []
    for pdr in rules.downlink:
        mar = rules.mars[pdr.mar_id or 0]
        flows = [FlowDescription.parse(f.flow or "") for f in pdr.pdi.sdf_filters] or [FlowDescription()]
        for flow in flows:
            rule = _steering(pdr.pdr_id, len(out), flow, mar, rules)
            if rule is not None:
                out.append(rule)
    return out


def _steering(rule_id: int, precedence: int, flow: FlowDescription, mar: CreateMar, rules: RuleSet) -> Steering | None:
    usable = rules.usable(mar)
    if not usable:
        return None
    sequenced = mar.transport_mode is TransportMode.DATAGRAM_1
    made = Steering(rule_id, precedence, flow, sequenced=sequenced)
    if len(usable) == 1:
        (only,) = usable
        return replace(made, active=only)
    if mar.thresholds is not None:
        made = replace(made, max_rtt_ms=mar.thresholds.rtt_ms, max_loss_percent=mar.thresholds.loss_percent)
    if mar.mode is SteeringMode.LOAD_BALANCING:
        autonomous = bool(mar.indicator and mar.indicator & SteeringModeIndicator.ALBI)
        weights: dict[Access, int] = {name: EVEN if a.weight is None else a.weight for name, a in usable.items()}
        return replace(made, weights=weights, autonomous=autonomous)
    if mar.mode is SteeringMode.SMALLEST_DELAY:
        return replace(made, smallest_delay=True)
    if mar.mode is SteeringMode.REDUNDANT:
        primary = next((name for name, a in usable.items() if a.priority is Priority.PRIMARY), None)
        return replace(made, redundant=True, primary=primary)
    first = Priority.HIGH if mar.mode is SteeringMode.PRIORITY_BASED else Priority.ACTIVE
    near: Access = "3gpp" if usable["3gpp"].priority is first else "non-3gpp"
    if mar.mode is SteeringMode.PRIORITY_BASED:
        return replace(made, priority=near)
    far: Access = "non-3gpp" if near == "3gpp" else "3gpp"
    return replace(made, active=near, standby=far if usable[far].priority is Priority.STANDBY else None)
