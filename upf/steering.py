"""From the rules of a session to what the engine steers by: one steering rule per downlink PDR and SDF filter, in the order
of precedence, with the weights or the standby order of its MAR (TS 29.244 §5.20.2, §7.5.2.7)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from fiveg.pfcp.codes import ApplyAction, Priority, SteeringMode
from fiveg.pfcp.rules import AccessForwarding, CreateMar
from fiveg.pfcp.sdf import FlowDescription
from upf.rules import RuleSet

Access = Literal["3gpp", "non-3gpp"]


@dataclass(frozen=True, slots=True)
class Steering:
    """One rule: what a flow must be, and where it goes. Weights are set for load balancing, `active` else."""

    rule_id: int
    precedence: int
    match: FlowDescription
    weights: dict[Access, int] | None = None
    active: Access | None = None
    standby: Access | None = None

    @property
    def remote(self) -> IPv4Network | IPv6Network | None:
        return self.match.remote


def steering_of(rules: RuleSet) -> list[Steering]:
    """A rule whose accesses all drop steers nothing: it is left out, and its packets meet a later rule or none."""
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
    usable: dict[Access, AccessForwarding] = {}
    if mar.access_3gpp is not None and _forwards(mar.access_3gpp, rules):
        usable["3gpp"] = mar.access_3gpp
    if mar.access_non_3gpp is not None and _forwards(mar.access_non_3gpp, rules):
        usable["non-3gpp"] = mar.access_non_3gpp
    if not usable:
        return None
    if len(usable) == 1:
        (only,) = usable
        if mar.mode is SteeringMode.ACTIVE_STANDBY and usable[only].priority is Priority.NO_STANDBY:
            return None
        return Steering(rule_id, precedence, flow, active=only)
    if mar.mode is SteeringMode.LOAD_BALANCING:
        weights: dict[Access, int] = {name: access.weight or 0 for name, access in usable.items()}
        return Steering(rule_id, precedence, flow, weights=weights)
    active: Access = "3gpp" if usable["3gpp"].priority is Priority.ACTIVE else "non-3gpp"
    other: Access = "non-3gpp" if active == "3gpp" else "3gpp"
    return Steering(
        rule_id, precedence, flow, active=active, standby=other if usable[other].priority is Priority.STANDBY else None
    )


def _forwards(access: AccessForwarding, rules: RuleSet) -> bool:
    return bool(rules.fars[access.far_id].apply_action & ApplyAction.FORW)
