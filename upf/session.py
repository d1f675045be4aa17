"""One PFCP session of the UPF: whose it is, its rules, its keys, and the request for the next key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from fiveg.pfcp.values import NodeId
from upf.key_request import KeyRequester
from upf.key_slots import KeySlots
from upf.rules import RuleSet
from upf.steering import Steering


@dataclass(slots=True)
class Association:
    """A control plane function that we are associated with, known by its address."""

    host: str
    node_id: NodeId
    recovery: int
    keys: bool
    reachable: bool = True
    heartbeat_due: float = 0.0


@dataclass(slots=True)
class Session:
    seid: int
    cp_seid: int
    association: Association
    rules: RuleSet
    keys: KeySlots = field(default_factory=KeySlots)
    request: KeyRequester = field(default_factory=KeyRequester)
    lifetime_asked: int = 0
    """Generation for which a successor was asked for because its lifetime ends."""

    @property
    def name(self) -> str:
        return f"{self.seid:016x}"


class Datapath(Protocol):
    """What the PFCP agent needs done with packets. Each either does all of it or raises DatapathError having done none."""

    def session_open(self, session: Session, rules: RuleSet, steering: list[Steering]) -> None: ...

    def session_change(self, session: Session, rules: RuleSet, steering: list[Steering]) -> None: ...

    def session_close(self, session: Session) -> None: ...

    def keys_changed(self, session: Session) -> None:
        """Which key waits for its connection, if one does, has changed: `session.keys.next`. No other one is kept."""

    def connection_end(self, session: Session, generation: int) -> None:
        """Close the session's connection of this generation now."""

    def packets(self, session: Session) -> int:
        """Packets that the current connection has carried, all paths, both directions."""
