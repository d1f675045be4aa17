"""From the rules of a session to what the engine steers by: one steering rule per downlink PDR and SDF filter, in the order
of precedence, with the weights or the standby order of its MAR (TS 29.244 §5.20.2, §7.5.2.7)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from fiveg.pfcp.codes import Priority, SteeringMode, TransportMode
from fiveg.pfcp.rules import CreateMar
from fiveg.pfcp.sdf import FlowDescription
from upf.rules import Access, RuleSet


@dataclass(frozen=True, slots=True)
class Steering:
    """One rule: what a flow must be, and where it goes. Weights are set for load balancing, `active` else."""

    rule_id: int
    precedence: int
    match: FlowDescription
    weights: dict[Access, int] | None = None
    active: Access | None = None
    standby: Access | None = None
    sequenced: bool = False

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
    if len(usable) == 1:
        (only,) = usable
        return Steering(rule_id, precedence, flow, active=only, sequenced=sequenced)
    if mar.mode is SteeringMode.LOAD_BALANCING:
        weights: dict[Access, int] = {name: access.weight or 0 for name, access in usable.items()}
        return Steering(rule_id, precedence, flow, weights=weights, sequenced=sequenced)
    active: Access = "3gpp" if usable["3gpp"].priority is Priority.ACTIVE else "non-3gpp"
    other: Access = "non-3gpp" if active == "3gpp" else "3gpp"
    standby = other if usable[other].priority is Priority.STANDBY else None
    return Steering(rule_id, precedence, flow, active=active, standby=standby, sequenced=sequenced)
