"""Keys of one session, by generation (design, "Keys"): `next` is delivered and not used yet, `current` made the connection
in use, `previous` the one before, which is ending. A key exists as octets in `next` only: when the client's Finished is
verified it is spent and wiped, so what made a connection can make no other.

    delivered ──► next ──used──► current ──next one used──► previous ──closed──► gone
                    └── superseded, expired, revoked: wiped
"""

from __future__ import annotations

import hmac
from collections import deque
from dataclasses import dataclass

from node.secrets import Secret
from upf.errors import KeyRefused

REMEMBERED = 16
"""Identities of spent keys that a session remembers, to tell `spent` from `unknown` in the counters."""


@dataclass(slots=True)
class KeySlot:
    """A key with what is known of it; `key` is empty once wiped."""

    generation: int
    key: Secret
    identity: bytes
    fingerprint: str
    lifetime: int
    installed_at: float

    @property
    def expires_at(self) -> float:
        return self.installed_at + self.lifetime


class KeySlots:
    """The three slots. Generations only rise: what was delivered once is refused for ever."""

    def __init__(self) -> None:
        self.next: KeySlot | None = None
        self.current: KeySlot | None = None
        self.previous: KeySlot | None = None
        self.highest = 0
        self._spent: deque[bytes] = deque(maxlen=REMEMBERED)

    def check(self, generation: int) -> None:
        """Whether a key of this generation may come; raises KeyRefused."""
        if generation <= self.highest:
            raise KeyRefused("stale_generation", f"generation {generation} is not above {self.highest}")

    def install(self, slot: KeySlot) -> None:
        """Take a delivered key; one that waited unused is wiped."""
        self.check(slot.generation)
        self._drop_next()
        self.next = slot
        self.highest = slot.generation

    def lookup(self, identity: bytes, now: float) -> KeySlot | None:
        """The key that this identity names, if it can still make a connection."""
        slot = self.next
        if slot is None or not hmac.compare_digest(slot.identity, identity):
            return None
        return None if now >= slot.expires_at else slot  # `expire` wipes it, and its caller tells everybody

    def is_spent(self, identity: bytes) -> bool:
        return any(hmac.compare_digest(identity, spent) for spent in self._spent)

    def is_known(self, identity: bytes) -> bool:
        """Whether this identity still means something here: waiting, or remembered as spent."""
        return (self.next is not None and self.next.identity == identity) or self.is_spent(identity)

    def spend(self, identity: bytes) -> KeySlot | None:
        """The client's Finished is verified: the key is wiped, its slot becomes the current one. None: not held (any
        more), so the connection must not live."""
        slot = self.next
        if slot is None or not hmac.compare_digest(slot.identity, identity):
            return None
        self.next, self.current, self.previous = None, slot, self.current
        slot.key.wipe()
        self._spent.append(slot.identity)
        return slot

    def ended(self, generation: int) -> None:
        """The connection of this generation is over."""
        if self.previous is not None and self.previous.generation == generation:
            self.previous = None
        if self.current is not None and self.current.generation == generation:
            self.current = None

    def revoke(self, generation: int) -> None:
        if self.next is not None and self.next.generation == generation:
            self._drop_next()
        self.highest = max(self.highest, generation)

    def expire(self, now: float) -> int | None:
        """Wipe an unused key past its lifetime; its generation."""
        if self.next is None or now < self.next.expires_at:
            return None
        generation = self.next.generation
        self._drop_next()
        return generation

    def wipe(self) -> None:
        self._drop_next()
        self.current = self.previous = None

    def _drop_next(self) -> None:
        if self.next is not None:
            self.next.key.wipe()
            self._spent.append(self.next.identity)
            self.next = None
