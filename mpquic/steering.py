"""Steering rules as a tunnel takes them (struct steering_rule of engine.cdef)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

ACCESS_3GPP = "3gpp"
ACCESS_NON_3GPP = "non-3gpp"
ACCESSES = (ACCESS_3GPP, ACCESS_NON_3GPP)  # index = enum engine_access


@dataclass(frozen=True, slots=True)
class SteeringRule:
    """All given components must match (TS 24.193). Load balancing has `weights` in percent per access, sum 100;
    active-standby has `active`, and `standby` unless traffic stops when the active access is down. In ascending
    precedence the first rule that matches decides."""

    rule_id: int
    precedence: int
    remote: IPv4Network | IPv6Network | None = None  # the far end (dn), in both roles
    protocol: int | None = None
    ports: tuple[int, int] | None = None  # of the far end
    weights: Mapping[str, int] | None = None
    active: str | None = None
    standby: str | None = None
    sequenced: bool = False  # packets with sequence numbers, where the peer takes them; with weights: packet by packet

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.active is None):
            raise ValueError(f"rule {self.rule_id}: either weights or an active access")
        names = {*(self.weights or ()), *(a for a in (self.active, self.standby) if a is not None)}
        if unknown := names - set(ACCESSES):
            raise ValueError(f"rule {self.rule_id}: unknown access {sorted(unknown)[0]!r}: allowed are {ACCESSES}")
        if self.weights is not None and sum(self.weights.values()) != 100:
            raise ValueError(f"rule {self.rule_id}: weights sum to {sum(self.weights.values())}, not 100")
        if self.active is not None and self.active == self.standby:
            raise ValueError(f"rule {self.rule_id}: active and standby are one access")
        if not 0 <= self.precedence <= 255:
            raise ValueError(f"rule {self.rule_id}: precedence {self.precedence}: 0 to 255 allowed")
