"""What the AMF knows of a registered UE: its security context, its accesses, its PDU sessions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control.amf.budget import Budget
from control.amf.config import Subscriber
from control.amf.n1_server import N1Connection
from fiveg.nas_security import NasSecurityContext
from node.secrets import Secret

if TYPE_CHECKING:
    from control.amf.mpquic_keys import SessionKey

MOST_SESSIONS = 15
"""PDU session IDs are 1 to 15 (TS 24.501 §9.4)."""
KEYS_BURST, KEYS_PER_S = 30, 0.5
REQUESTS_BURST, REQUESTS_PER_S = 10, 0.2


@dataclass(slots=True)
class SmSession:
    """A PDU session as the AMF sees it: whose it is, and its newest MPQUIC key."""

    pdu_session_id: int
    access: str
    multi_access: bool
    status_token: str
    key_budget: Budget
    request_budget: Budget
    ref: str | None = None
    """SM context at the SMF; None while it is being made"""
    smf_instance: uuid.UUID | None = None
    generation: int = 0
    transaction: int = 0
    key: SessionKey | None = None
    notif_path: str = ""
    refusal: int = 0

    @classmethod
    def new(cls, psi: int, access: str, multi_access: bool, token: str, now: float) -> SmSession:
        keys = Budget(KEYS_BURST, KEYS_PER_S, now)
        return cls(psi, access, multi_access, token, keys, Budget(REQUESTS_BURST, REQUESTS_PER_S, now))


@dataclass(slots=True)
class UeContext:
    """One UE. `security` is common to both accesses, with COUNTs of their own (TS 33.501 §6.3.2.2)."""

    subscriber: Subscriber
    security: NasSecurityContext
    k_amf: Secret
    guti_tmsi: bytes
    capability: bytes
    connections: dict[str, N1Connection] = field(default_factory=dict)
    sessions: dict[int, SmSession] = field(default_factory=dict)
    generations: dict[int, int] = field(default_factory=dict)
    """Newest key generation per PDU session ID: outlives the session, since no generation comes twice under a K_AMF"""
    registering: bool = False
    """a new authentication of this UE has succeeded and its security mode is under way"""
    used_p0: set[bytes] = field(default_factory=set, repr=False)

    @property
    def supi(self) -> str:
        return self.subscriber.supi

    def live(self, avoid: str | None = None, prefer: str | None = None) -> N1Connection | None:
        """The access to send on: open, if possible another than `avoid`, `prefer` first, else where the UE was last heard."""
        found = [c for c in self.connections.values() if c.open]
        found.sort(key=lambda c: (c.access == avoid, c.access != prefer, -c.heard_at))
        return found[0] if found else None
