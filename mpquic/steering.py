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
    """All given components must match (TS 24.193); in ascending precedence the first rule that matches decides. One of five
    modes (docs/steering.md): load balancing has `weights` in percent per access, sum 100; active-standby has `active`, and
    `standby` unless traffic stops when the active access is down; priority has the access of high priority, smallest delay
    nothing; redundant is `sequenced`, and may have a `primary` access. Thresholds, above which an access is not used while the
    other is within, go with priority and with weights that are not `autonomous`; with redundant and a primary access packets go
    twice while that one is above (TS 23.501 §5.32.8)."""

    rule_id: int
    precedence: int
    remote: IPv4Network | IPv6Network | None = None  # the far end (dn), in both roles
    protocol: int | None = None
    ports: tuple[int, int] | None = None  # of the far end
    weights: Mapping[str, int] | None = None
    active: str | None = None
    standby: str | None = None
    sequenced: bool = False  # packets with sequence numbers, where the peer takes them; with weights: packet by packet
    priority: str | None = None
    smallest_delay: bool = False
    autonomous: bool = False  # the weights are where it starts; then what the paths carry
    max_rtt_ms: int | None = None
    max_loss_percent: int | None = None
    redundant: bool = False
    primary: str | None = None

    def __post_init__(self) -> None:
        modes = (self.weights is not None, self.active is not None, self.priority is not None, self.smallest_delay, self.redundant)
        if modes.count(True) != 1:
            raise ValueError(f"rule {self.rule_id}: one of weights, an active access, priority, smallest delay and redundant")
        if self.redundant and not self.sequenced:
            raise ValueError(f"rule {self.rule_id}: redundant without sequence numbers")
        if self.primary is not None and not self.redundant:
            raise ValueError(f"rule {self.rule_id}: a primary access goes with redundant only")
        if self.autonomous and self.weights is None:
            raise ValueError(f"rule {self.rule_id}: autonomous without weights")
        may = (self.weights is not None and not self.autonomous) or self.priority is not None or self.primary is not None
        if self.has_threshold and not may:
            raise ValueError(f"rule {self.rule_id}: thresholds go with fixed weights, with priority and with a primary access only")
        if self.max_rtt_ms is not None and not 1 <= self.max_rtt_ms <= 0xFFFF:
            raise ValueError(f"rule {self.rule_id}: a round-trip time of {self.max_rtt_ms} ms: 1 to 65535 allowed")
        if self.max_loss_percent is not None and not 0 <= self.max_loss_percent <= 100:
            raise ValueError(f"rule {self.rule_id}: a loss of {self.max_loss_percent} %: 0 to 100 allowed")
        given = (self.active, self.standby, self.priority, self.primary)
        names = {*(self.weights or ()), *(a for a in given if a is not None)}
        if unknown := names - set(ACCESSES):
            raise ValueError(f"rule {self.rule_id}: unknown access {sorted(unknown)[0]!r}: allowed are {ACCESSES}")
        if self.weights is not None and sum(self.weights.values()) != 100:
            raise ValueError(f"rule {self.rule_id}: weights sum to {sum(self.weights.values())}, not 100")
        if self.active is not None and self.active == self.standby:
            raise ValueError(f"rule {self.rule_id}: active and standby are one access")
        if not 0 <= self.precedence <= 255:
            raise ValueError(f"rule {self.rule_id}: precedence {self.precedence}: 0 to 255 allowed")

    @property
    def has_threshold(self) -> bool:
        return self.max_rtt_ms is not None or self.max_loss_percent is not None
