"""What the AMF knows of a registered UE: its security context, its accesses, its PDU sessions."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control.amf.n1_server import N1Connection
from control.sbi.tls import PeerIdentity
from fiveg.nas_security import NasSecurityContext
from node.budget import Budget
from node.secrets import Secret
from node.subscriber import Subscriber

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
    smf_host: str
    """the SMF that CreateSMContext went to, as its certificate names it"""
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
    def new(cls, psi: int, access: str, multi_access: bool, token: str, smf_host: str, now: float) -> SmSession:
        keys = Budget(KEYS_BURST, KEYS_PER_S, now)
        return cls(psi, access, multi_access, token, smf_host, keys, Budget(REQUESTS_BURST, REQUESTS_PER_S, now))

    def owned_by(self, peer: PeerIdentity) -> bool:
        """Whether the asker is this session's own SMF. What the SMF sends may overtake its answer to CreateSMContext:
        until that answer only the host name in the certificate is known, afterwards the NF instance, too."""
        return peer.host == self.smf_host and self.smf_instance in (None, peer.nf_instance_id)


@dataclass(slots=True)
class UeContext:
    """One UE. `security` is common to both accesses, with COUNTs of their own (TS 33.501 §6.3.2.2)."""

    subscriber: Subscriber
    security: NasSecurityContext
    k_amf: Secret
    guti_tmsi: bytes
    connections: dict[str, N1Connection] = field(default_factory=dict)
    sessions: dict[int, SmSession] = field(default_factory=dict)
    generations: dict[int, int] = field(default_factory=dict)
    """Newest key generation per PDU session ID: outlives the session, since no generation comes twice under a K_AMF"""
    registering: bool = False
    """a new authentication of this UE has succeeded and its security mode is under way"""
    used_p0: set[bytes] = field(default_factory=set, repr=False)
    """SHA-256 of each P0 under this K_AMF: enough to notice a repetition, useless to whoever reads this memory"""

    @property
    def supi(self) -> str:
        return self.subscriber.supi

    def wipe(self) -> None:
        """This security context is over: K_AMF goes; what was derived from it has its own end."""
        self.k_amf.wipe()

    def live(self, avoid: str | None = None, prefer: str | None = None) -> N1Connection | None:
        """The access to send on: open, if possible another than `avoid`, `prefer` first, else where the UE was last heard."""
        found = [c for c in self.connections.values() if c.open]
        found.sort(key=lambda c: (c.access == avoid, c.access != prefer, -c.heard_at))
        return found[0] if found else None
