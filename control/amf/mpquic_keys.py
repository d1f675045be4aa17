"""Step 4 and 5: the AMF's service for MPQUIC keys, `namf-mpquickey/v1`, and what the UE says about them.

A key is made once and for one asker: the SMF that owns the session, known by its certificate. While its delivery is
pending the same question gets the same answer (R-127). P0 is fresh for every key and never repeats under one K_AMF.
Neither key nor P0 leaves this file but into the answer (5a) and the container (5b).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from control.amf.config import KeyConfig
from control.amf.delivery import Delivery, Outcome
from control.amf.ue_context import SmSession, UeContext
from control.errors import ProcedureFailed, SbiUnreachable
from control.sbi.server import Request, Response
from control.sbi.tls import PeerIdentity
from fiveg.key_container import KeyCause, KeyContainer, KeyContainerError, KeyContainerType
from fiveg.keys import fingerprint, k_mpquic
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import (
    KeyEvent,
    KeyReason,
    MpquicKeyCreateData,
    MpquicKeyCreatedData,
    MpquicKeyNotification,
    N1Delivery,
    collection,
    resource,
    resource_parse,
)
from node.counters import Counters
from node.errors import VerbError
from node.events import Events
from node.secrets import Secret

P0_SIZE = 32
P0_DRAWS = 4
"""Tries until the random source counts as broken."""
SAME_ANSWER_S = 60.0
"""How long after a key was made the same question is taken for a repetition."""
MOST_KEYS_PER_KAMF = 4096
REKEY_TIMEOUT = 25.0
COLLECTION = re.compile(collection("([^/]{1,128})"), re.ASCII)
REASON_BY_VERB = {"POLICY": KeyEvent.REKEY_POLICY}


class KeyState(Enum):
    DELIVERING = auto()
    HELD_BY_UE = auto()
    REFUSED_BY_UE = auto()
    UNREACHABLE = auto()
    REVOKED = auto()


@dataclass(slots=True)
class SessionKey:
    """The newest key of a session. The octets are wiped when nobody can ask for them again."""

    generation: int
    key: Secret
    p0: Secret
    fingerprint: str
    lifetime: int
    reason: KeyReason
    held: int | None
    made_at: float
    notif_path: str
    transaction: int
    state: KeyState = KeyState.DELIVERING
    delivery: Delivery | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    def wipe(self) -> None:
        self.key.wipe()
        self.p0.wipe()


class KeyHost(Protocol):
    """What the service needs of the AMF around it."""

    def ue(self, supi: str) -> UeContext | None: ...
    def send_container(self, ue: UeContext, pdu_session_id: int, container: bytes, avoid: str | None) -> str | None: ...
    async def notify_smf(self, path: str, body: bytes, *, idempotent: bool) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None: ...


class MpquicKeys:
    def __init__(
        self,
        host: KeyHost,
        config: KeyConfig,
        events: Events,
        counters: Counters,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        schedule: tuple[float, ...] | None = None,
    ) -> None:
        self._host, self._config, self._events, self._counters = host, config, events, counters
        self._random, self._clock, self._schedule = random, clock, schedule

    # ---- the service (steps 3, 4, 5a)

    async def handle(self, request: Request) -> Response | None:
        """None: not a path of this service."""
        match = COLLECTION.fullmatch(request.path)
        if match is not None and request.method == "POST":
            return self._create(match[1], MpquicKeyCreateData.parse(request.body), request.peer)
        target = resource_parse(request.path)
        if target is not None and request.method == "DELETE":
            return self._delete(*target, request.peer)
        return None

    def _create(self, supi: str, data: MpquicKeyCreateData, peer: PeerIdentity) -> Response:
        ue, session = self._authorised(supi, data.pdu_session_id, peer, data.nf_id)
        if ue.registering:
            raise SbiError(409, "TEMPORARY_REJECT_REGISTRATION_ONGOING", "the UE is registering")
        self._reject_mismatch(session, data)
        path = _path_of(data.notif_uri)
        key = session.key
        if key is None or not self._repetition(key, data):
            key = self._make(ue, session, data, path)
        else:
            self._counters.inc("mpquic_key.repeated")
        created = MpquicKeyCreatedData(
            generation=key.generation,
            key=key.key.reveal(),
            lifetime=key.lifetime,
            n1_delivery=N1Delivery.INITIATED if key.delivery and key.delivery.attempts else N1Delivery.PENDING,
        )
        self._events.emit("key_sent_smf", generation=key.generation, fingerprint=key.fingerprint)
        location = resource(supi, data.pdu_session_id, key.generation)
        return Response(201, created.text(), location=location, no_store=True)

    def _authorised(self, supi: str, psi: int, peer: PeerIdentity, nf_id: uuid.UUID | None) -> tuple[UeContext, SmSession]:
        """Who asks is what the certificate says, whose key it is what this AMF knows (R-121)."""
        if peer.nf_type != "smf" or (nf_id is not None and nf_id != peer.nf_instance_id):
            raise self._not_allowed(peer, psi, "only an SMF, for itself, gets keys")
        ue = self._host.ue(supi)
        if ue is None:
            raise SbiError(404, "CONTEXT_NOT_FOUND", "no such UE here")
        session = ue.sessions.get(psi)
        if session is None or not session.owned_by(peer):
            raise self._not_allowed(peer, psi, "not a session of this SMF")
        if not session.multi_access:
            raise self._not_allowed(peer, psi, "not a multi-access session")
        return ue, session

    def _not_allowed(self, peer: PeerIdentity, psi: int, why: str) -> SbiError:
        self._counters.inc("mpquic_key.not_allowed")
        self._events.emit("key_request_refused", asker=peer.host, pdu_session_id=psi, reason=why)
        return SbiError(403, "MPQUIC_KEY_NOT_ALLOWED", why)

    def _reject_mismatch(self, session: SmSession, data: MpquicKeyCreateData) -> None:
        if data.held_generation is not None and data.held_generation > session.generation:
            raise SbiError(409, "GENERATION_MISMATCH", "no key of that generation was ever made")

    def _repetition(self, key: SessionKey, data: MpquicKeyCreateData) -> bool:
        """The same question again: a retry after a lost answer, or two that crossed."""
        return (
            key.state in (KeyState.DELIVERING, KeyState.HELD_BY_UE)
            and bool(key.key)
            and data.reason is key.reason
            and data.reason is not KeyReason.REPAIR
            and data.held_generation == key.held
            and self._clock() - key.made_at < SAME_ANSWER_S
        )

    def _make(self, ue: UeContext, session: SmSession, data: MpquicKeyCreateData, path: str) -> SessionKey:
        now = self._clock()
        if not session.key_budget.take(now):
            self._counters.inc("mpquic_key.too_many")
            raise SbiError(429, "TOO_MANY_KEYS", "keys are asked for too often")
        p0 = self._fresh_p0(ue)
        key = Secret(
            k_mpquic(
                ue.k_amf.reveal(),
                p0.reveal(),
                fc=self._config.fc_octets,
                session=(session.pdu_session_id, ue.supi) if self._config.bind == "session" else None,
            )
        )
        self._events.register_secret(key)
        self._drop(session)
        session.generation += 1
        ue.generations[session.pdu_session_id] = session.generation
        session.transaction = session.transaction % 255 + 1
        lifetime = min(self._config.lifetime_s, data.requested_lifetime or self._config.lifetime_s)
        made = SessionKey(
            session.generation,
            key,
            p0,
            fingerprint(key.reveal()),
            lifetime,
            data.reason,
            data.held_generation,
            now,
            path,
            session.transaction,
        )
        session.key = made
        session.notif_path = path
        self._events.emit(
            "key_derived",
            generation=made.generation,
            fingerprint=made.fingerprint,
            reason=made.reason.value.lower(),
        )
        self._deliver(ue, session, made)
        return made

    def _fresh_p0(self, ue: UeContext) -> Secret:
        if len(ue.used_p0) >= MOST_KEYS_PER_KAMF:
            raise SbiError(409, "NO_SECURITY_CONTEXT", "this K_AMF has made enough keys: authenticate first")
        for _ in range(P0_DRAWS):
            p0 = self._random(P0_SIZE)
            digest = hashlib.sha256(p0).digest()
            if len(p0) == P0_SIZE and digest not in ue.used_p0:
                ue.used_p0.add(digest)
                return self._events.register_secret(Secret(p0))
            self._counters.inc("mpquic_key.p0_repeated")
        raise SbiError(500, "SYSTEM_FAILURE", "the random source repeats itself")

    def _delete(self, supi: str, psi: int, generation: int, peer: PeerIdentity) -> Response:
        ue, session = self._authorised(supi, psi, peer, None)
        key = session.key
        if key is None or key.generation != generation or key.state is KeyState.REVOKED:
            raise SbiError(404, "CONTEXT_NOT_FOUND", "no such key here")
        self._drop(session)
        key.state = KeyState.REVOKED
        key.settled.set()
        self._events.emit("key_revoked", generation=generation, fingerprint=key.fingerprint)
        self._revoke(ue, session, key)
        return Response(204)

    def _revoke(self, ue: UeContext, session: SmSession, key: SessionKey) -> None:
        revoke = KeyContainer(type=KeyContainerType.REVOKE, transaction=key.transaction, generation=key.generation)
        self._host.send_container(ue, session.pdu_session_id, revoke.encode(), None)

    # ---- delivery to the UE (5b)

    def _deliver(self, ue: UeContext, session: SmSession, key: SessionKey) -> None:
        provision = KeyContainer(
            type=KeyContainerType.PROVISION,
            transaction=key.transaction,
            generation=key.generation,
            key=key.key.reveal() if self._config.mode == "delivered" else None,
            p0=key.p0.reveal() if self._config.mode == "derived" else None,
            lifetime=key.lifetime,
        ).encode()

        def send(previous: str | None) -> str | None:
            access = self._host.send_container(ue, session.pdu_session_id, provision, previous)
            if access is not None:
                self._events.emit("key_sent_ue", generation=key.generation, fingerprint=key.fingerprint, access=access)
            return access

        key.delivery = Delivery(send) if self._schedule is None else Delivery(send, self._schedule)
        key.delivery.first()
        self._host.spawn(self._watch(session, key, key.delivery), f"key {key.generation}")

    async def _watch(self, session: SmSession, key: SessionKey, delivery: Delivery) -> None:
        outcome = await delivery.run()
        if key.state is not KeyState.DELIVERING:
            return  # revoked or superseded meanwhile
        match outcome:
            case Outcome.ACKNOWLEDGED:
                key.state = KeyState.HELD_BY_UE
                await self._notify(session, key.generation, KeyEvent.UE_ACK, 0, key.notif_path)
            case Outcome.REFUSED:
                key.state = KeyState.REFUSED_BY_UE
                await self._notify(session, key.generation, KeyEvent.UE_REJECT, session.refusal, key.notif_path)
            case Outcome.NOT_REACHABLE:
                key.state = KeyState.UNREACHABLE
                self._counters.inc("mpquic_key.ue_not_reachable")
                await self._notify(session, key.generation, KeyEvent.UE_NOT_REACHABLE, 0, key.notif_path)
        key.settled.set()
        # From here on the octets serve only a repeated question.
        asyncio.get_running_loop().call_later(SAME_ANSWER_S, key.wipe)

    async def _notify(self, session: SmSession, generation: int, event: KeyEvent, cause: int, path: str) -> bool:
        body = MpquicKeyNotification(pdu_session_id=session.pdu_session_id, generation=generation, event=event, cause=cause)
        try:
            # What the UE said of a generation may be said twice; a wish for a new key, said twice, may make two.
            await self._host.notify_smf(path, body.text(), idempotent=event is not KeyEvent.UE_REKEY_REQUEST)
        except (SbiError, SbiUnreachable):
            self._counters.inc("mpquic_key.notification_failed")
            return False
        return True

    # ---- what the UE says

    def from_ue(self, ue: UeContext, psi: int, octets: bytes) -> None:
        """A container of UL NAS TRANSPORT, deciphered and its MAC verified. Nothing in it is believed further than that."""
        try:
            container = KeyContainer.decode(octets)
        except KeyContainerError:
            self._counters.inc("mpquic_key.malformed_container")
            return
        session = ue.sessions.get(psi)
        if session is None:
            self._counters.inc("mpquic_key.unknown_session")
            self._refuse(ue, psi, container, KeyCause.UNKNOWN_SESSION)
            return
        match container.type:
            case KeyContainerType.ACK:
                self._acknowledged(ue, session, container)
            case KeyContainerType.REJECT:
                self._rejected(session, container)
            case KeyContainerType.REQUEST:
                self._requested(ue, session, container)
            case _:
                self._counters.inc("mpquic_key.unexpected_container")

    def _acknowledged(self, ue: UeContext, session: SmSession, container: KeyContainer) -> None:
        key = self._answered(session, container)
        if key is None or key.delivery is None:
            return
        if key.state in (KeyState.REVOKED, KeyState.REFUSED_BY_UE, KeyState.UNREACHABLE):
            # Too late: the SMF has taken the key back, or is about to. The UE must not switch alone.
            self._counters.inc("mpquic_key.late_ack")
            self._revoke(ue, session, key)
            return
        if key.state is KeyState.HELD_BY_UE:
            self._counters.inc("mpquic_key.repeated_ack")
            return
        if container.fingerprint is None or container.fingerprint.hex() != key.fingerprint:
            self._counters.inc("mpquic_key.wrong_fingerprint")
            self._events.emit("key_refused", generation=key.generation, by="amf", reason="fingerprint")
            session.refusal = int(KeyCause.FINGERPRINT_MISMATCH)
            key.delivery.answered(Outcome.REFUSED)
            return
        self._events.emit("key_acknowledged", generation=key.generation, fingerprint=key.fingerprint)
        key.delivery.answered(Outcome.ACKNOWLEDGED)

    def _rejected(self, session: SmSession, container: KeyContainer) -> None:
        key = self._answered(session, container)
        if key is None or key.delivery is None:
            return
        session.refusal = int(container.cause or 0)
        self._events.emit("key_refused", generation=key.generation, by="ue", cause=session.refusal)
        if key.state is KeyState.HELD_BY_UE:
            # It had the key, and the proxy did not take it (design §3): the SMF must know that this key opens nothing.
            key.state = KeyState.REFUSED_BY_UE
            note = self._notify(session, key.generation, KeyEvent.UE_REJECT, session.refusal, key.notif_path)
            self._host.spawn(_done(note), "key refused by the proxy")
            return
        key.delivery.answered(Outcome.REFUSED)

    def _answered(self, session: SmSession, container: KeyContainer) -> SessionKey | None:
        """The key that an answer is about; answers to older transactions are late repetitions."""
        key = session.key
        if key is None or (container.transaction, container.generation) != (key.transaction, key.generation):
            self._counters.inc("mpquic_key.stale_answer")
            return None
        return key

    def _requested(self, ue: UeContext, session: SmSession, container: KeyContainer) -> None:
        if not session.request_budget.take(self._clock()) or not session.notif_path:
            self._counters.inc("mpquic_key.request_refused")
            self._refuse(ue, session.pdu_session_id, container, KeyCause.NO_RESOURCES)
            return
        self._events.emit("rekey_requested", by="ue", generation=session.generation)
        path, psi = session.notif_path, session.pdu_session_id

        async def ask() -> None:
            if not await self._notify(session, session.generation, KeyEvent.UE_REKEY_REQUEST, 0, path):
                self._refuse(ue, psi, container, KeyCause.NO_RESOURCES)

        self._host.spawn(ask(), "rekey asked by the UE")

    def _refuse(self, ue: UeContext, psi: int, container: KeyContainer, cause: KeyCause) -> None:
        if container.type in (KeyContainerType.REQUEST, KeyContainerType.ACK):
            answer = KeyContainer(
                type=KeyContainerType.REJECT,
                transaction=container.transaction,
                generation=container.generation,
                cause=cause,
            )
            self._host.send_container(ue, psi, answer.encode(), None)

    # ---- re-key by command or policy

    async def rekey(self, supi: str, psi: int, reason: str) -> dict[str, Any]:
        """The verb: told to the SMF, which asks for a key as always; done when UPF and UE have it."""
        ue = self._host.ue(supi)
        session = None if ue is None else ue.sessions.get(psi)
        if session is None or not session.notif_path:
            raise VerbError("no_session", f"{supi} has no PDU session {psi} with an MPQUIC key")
        event = REASON_BY_VERB.get(reason)
        if event is None:
            raise VerbError("misused", f"reason must be one of {', '.join(REASON_BY_VERB)}")
        before = session.generation
        self._events.emit("rekey_requested", by="core", generation=before)
        try:
            async with asyncio.timeout(REKEY_TIMEOUT):
                # The SMF answers when the UPF has the new key (step 6); the UE's answer comes to us.
                body = MpquicKeyNotification(pdu_session_id=psi, generation=before, event=event)
                await self._host.notify_smf(session.notif_path, body.text(), idempotent=False)
                key = session.key
                if key is None or key.generation <= before:
                    raise ProcedureFailed("the SMF asked for no key")
                await key.settled.wait()
        except TimeoutError:
            raise VerbError("timeout", "the new key was not delivered in time") from None
        except (SbiError, SbiUnreachable, ProcedureFailed) as e:
            raise VerbError("failed", f"no new key: {e}") from None
        if key.state is not KeyState.HELD_BY_UE:
            raise VerbError("failed", f"the UE has not taken the key: {key.state.name.lower()}")
        return {"generation": key.generation, "fingerprint": key.fingerprint}

    # ---- ends

    def _drop(self, session: SmSession) -> None:
        """The key before: nobody may ask for it any more."""
        key = session.key
        if key is not None:
            if key.state is KeyState.DELIVERING:
                key.state = KeyState.REVOKED
                if key.delivery is not None:
                    key.delivery.answered(Outcome.NOT_REACHABLE)
                key.settled.set()
            key.wipe()

    def forget(self, session: SmSession) -> None:
        """The session is over."""
        self._drop(session)
        session.key = None

    def came_back(self, ue: UeContext) -> None:
        """The UE is heard on an access again: what waits for it goes out."""
        for session in ue.sessions.values():
            if isinstance(session.key, SessionKey) and session.key.delivery is not None:
                session.key.delivery.came_back()


async def _done(work: Coroutine[Any, Any, bool]) -> None:
    await work


def _path_of(uri: str) -> str:
    """Only the path of a notifUri is used: notifications go to the SMF that we know, wherever the URI points."""
    match = re.fullmatch(r"https://[^/]+(/[A-Za-z0-9._~/\-]{1,200})", uri, re.ASCII)
    if match is None:
        raise SbiError(400, "MANDATORY_IE_INCORRECT", "notifUri must be https://HOST/PATH")
    return match[1]
