"""Key containers over NAS (step 5b): PROVISION and its answer, REVOKE, and our own KEY REQUEST.

What comes in was deciphered and its MAC was right; nothing in it is believed further than that. A key itself (TLV 02) is
taken only out of a message that was really ciphered; P0 alone (TLV 01) lets the UE derive the key from its own K_AMF.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fiveg.kdf import KdfError
from fiveg.key_container import KeyCause, KeyContainer, KeyContainerError, KeyContainerType, ProvisionHead
from fiveg.keys import k_mpquic
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from ue.config import KeyConfig
from ue.key_store import Action, KeyStore, Slot
from ue.registration import After, Timer

REQUEST_REPEATS = (2.0, 6.0, 6.0)
"""Seconds until a KEY REQUEST is sent again, over another access if there is one."""
DEFAULT_LIFETIME = 3600


class KeyHost(Protocol):
    """What the procedure needs of the UE around it."""

    @property
    def k_amf(self) -> Secret | None: ...

    @property
    def supi(self) -> str: ...

    def session_known(self, psi: int) -> bool: ...

    def send_container(self, psi: int, octets: bytes, *, prefer: str | None, avoid: str | None) -> str | None: ...

    def key_installed(self, slot: Slot) -> None: ...

    def key_revoked(self, generation: int) -> None: ...

    def request_refused(self, cause: int) -> None: ...


class KeyClient:
    """Of the one PDU session `psi`."""

    def __init__(
        self, psi: int, config: KeyConfig, store: KeyStore, host: KeyHost, events: Events, counters: Counters, after: After
    ) -> None:
        self._psi, self._config, self._store, self._host = psi, config, store, host
        self._events, self._counters, self._after = events, counters, after
        self._transactions: dict[int, int] = {}
        """of PROVISION, by generation: for an answer that comes later"""
        self._transaction = 0
        self._timer: Timer | None = None
        self._asked_over: str | None = None

    # ---- what comes

    def received(self, access: str, psi: int, octets: bytes, *, key_allowed: bool) -> None:
        try:
            container = KeyContainer.decode(octets)
        except KeyContainerError:
            self._counters.inc("key.malformed_container")
            head = ProvisionHead.of(octets)
            if head is not None:  # the AMF need not wait; anything else that is broken has no answer
                self._reject(access, psi, head, KeyCause.UNSUPPORTED)
            return
        match container.type:
            case KeyContainerType.PROVISION:
                self._provision(access, psi, container, key_allowed)
            case KeyContainerType.REVOKE if psi == self._psi:
                self._revoke(container)
            case KeyContainerType.REJECT if psi == self._psi:
                self._refused(container)
            case _:
                self._counters.inc("key.unexpected_container")

    def _provision(self, access: str, psi: int, container: KeyContainer, key_allowed: bool) -> None:
        if psi != self._psi or not self._host.session_known(psi):
            self._counters.inc("key.unknown_session")
            self._reject(access, psi, container, KeyCause.UNKNOWN_SESSION)
            return
        if container.key is not None and not key_allowed:
            self._counters.inc("key.not_ciphered")
            self._reject(access, psi, container, KeyCause.NO_SECURITY_CONTEXT)
            return
        key = self._key(container)
        if key is None:
            self._counters.inc("key.cannot_derive")
            self._reject(access, psi, container, KeyCause.NO_SECURITY_CONTEXT)
            return
        action = self._store.provision(container.generation, key, container.lifetime or DEFAULT_LIFETIME)
        match action:
            case Action.INSTALL:
                self._installed(access, container)
            case Action.ACKNOWLEDGE:
                self._counters.inc("key.repeated")
                self._acknowledge(access, container)
            case Action.REJECT_STALE:
                self._counters.inc("key.stale_generation")
                self._reject(access, psi, container, KeyCause.STALE_GENERATION)
            case _:
                self._counters.inc("key.other_key_same_generation")
                self._reject(access, psi, container, KeyCause.FINGERPRINT_MISMATCH)

    def _key(self, container: KeyContainer) -> bytes | None:
        if container.key is not None:
            return container.key
        k_amf = self._host.k_amf
        if container.p0 is None or k_amf is None or not k_amf:
            return None
        session = (self._psi, self._host.supi) if self._config.bind == "session" else None
        try:
            return k_mpquic(k_amf.reveal(), container.p0, fc=self._config.fc_octets, session=session)
        except KdfError:
            return None

    def _installed(self, access: str, container: KeyContainer) -> None:
        slot = self._store.slot
        assert slot is not None
        self._events.register_secret(slot.key)
        self._transactions = {container.generation: container.transaction}
        self._stop()
        self._events.emit("key_received", generation=slot.generation, fingerprint=slot.fingerprint)
        self._acknowledge(access, container)
        self._host.key_installed(slot)

    def _acknowledge(self, access: str, container: KeyContainer) -> None:
        slot = self._store.slot
        assert slot is not None
        answer = KeyContainer(
            type=KeyContainerType.ACK,
            transaction=container.transaction,
            generation=container.generation,
            fingerprint=bytes.fromhex(slot.fingerprint),
        )
        self._host.send_container(self._psi, answer.encode(), prefer=access, avoid=None)

    def _reject(self, access: str, psi: int, container: KeyContainer | ProvisionHead, cause: KeyCause) -> None:
        answer = KeyContainer(
            type=KeyContainerType.REJECT, transaction=container.transaction, generation=container.generation, cause=cause
        )
        self._host.send_container(psi, answer.encode(), prefer=access, avoid=None)

    def _revoke(self, container: KeyContainer) -> None:
        action = self._store.revoke(container.generation)
        if action is Action.IGNORE:
            self._counters.inc("key.stale_revoke")
            return
        self._events.emit("key_revoked", generation=container.generation)
        if action is Action.WIPE_AND_END:
            self._host.key_revoked(container.generation)

    def _refused(self, container: KeyContainer) -> None:
        if self._timer is None or container.transaction != self._transaction:
            self._counters.inc("key.stale_reject")
            return
        self._stop()
        self._counters.inc("key.request_refused")
        self._host.request_refused(int(container.cause or 0))

    # ---- what goes

    def refused_by_proxy(self, slot: Slot) -> None:
        """The proxy does not take this key, however often we asked: say so to the AMF (design §3)."""
        transaction = self._transactions.get(slot.generation)
        if transaction is None:
            return
        answer = KeyContainer(
            type=KeyContainerType.REJECT,
            transaction=transaction,
            generation=slot.generation,
            cause=KeyCause.FINGERPRINT_MISMATCH,
        )
        self._host.send_container(self._psi, answer.encode(), prefer=None, avoid=None)

    def request(self) -> bool:
        """Ask for a new key. False: one is asked for already, or nobody can be asked now."""
        if self._timer is not None:
            return False
        self._transaction = self._transaction % 255 + 1
        self._events.emit("rekey_requested", by="ue", generation=self._store.generation)
        return self._ask(0)

    def _ask(self, number: int) -> bool:
        self._timer = None
        message = KeyContainer(
            type=KeyContainerType.REQUEST, transaction=self._transaction, generation=self._store.generation
        )
        self._asked_over = self._host.send_container(self._psi, message.encode(), prefer=None, avoid=self._asked_over)
        if number < len(REQUEST_REPEATS):
            self._timer = self._after(REQUEST_REPEATS[number], make_repeat(self._repeat, number + 1))
        else:
            self._host.request_refused(0)
        return self._asked_over is not None

    def _repeat(self, number: int) -> None:
        self._counters.inc("key.request_repeated")
        self._ask(number)

    def _stop(self) -> None:
        self._asked_over = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        self._stop()


def make_repeat(repeat: Callable[[int], None], number: int) -> Callable[[], None]:
    return lambda: repeat(number)
