"""One SM context: a multi-access PDU session from the UE's request to its release, with N4, N1 and its keys.

What is set up in steps is taken down in the opposite order when a step fails: nothing stays half made.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from control.errors import ControlPlaneError, PfcpRefused, PfcpUnreachable, ProcedureFailed
from control.sbi.client import SbiClient
from control.smf.config import SmfConfig
from control.smf.key_procedure import KeyProcedure
from control.smf.n1_sm import SmRequest, accept, reject, release_command
from control.smf.n4 import N4
from control.smf.n4_rules import establishment
from control.smf.pool import AddressPool, SessionAddress
from control.smf.session_table import Action, Event, State, step
from fiveg.errors import FivegError
from fiveg.nas.causes import GsmCause
from fiveg.pfcp.codes import Cause, KeyFlags, ProxyType
from fiveg.pfcp.errors import PfcpError
from fiveg.pfcp.message import (
    SessionDeletionRequest,
    SessionDeletionResponse,
    SessionEstablishmentResponse,
    SessionModificationRequest,
    SessionModificationResponse,
)
from fiveg.pfcp.mpquic_ies import MpquicKey
from fiveg.pfcp.values import MpquicAddress
from fiveg.sbi import mpquickey, multipart
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import KeyReason, MpquicKeyCreateData, MpquicKeyCreatedData
from fiveg.sbi.types import (
    AccessType,
    N1MessageClass,
    N1MessageContainer,
    N1N2MessageTransferReqData,
    RefToBinaryData,
    SmContextStatusNotification,
    StatusInfo,
)
from node.counters import Counters
from node.events import Events
from node.secrets import Secret

ASSOCIATION_WAIT = 5.0
ACCEPT_WAIT = 15.0
N1_PART = "n1SmMsg"
T3592 = 16.0
"""s that RELEASE COMPLETE is waited for, each time (TS 24.501 §10.3)"""
T3592_REPETITIONS = 4
CALLBACK = "/nsmf-callback/v1/mpquic-keys/"
IP_PROXIES = (ProxyType.CONNECT_IP, ProxyType.CONNECT_IP_UDP)


@dataclass(slots=True)
class SmfServices:
    """What every context of one SMF shares."""

    config: SmfConfig
    n4: N4
    amf: SbiClient
    pool: AddressPool
    events: Events
    counters: Counters
    random: Callable[[int], bytes]
    spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
    removed: Callable[[SmContext], None]
    sbi_port: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose session it is, as the AMF said."""

    supi: str
    pdu_session_id: int
    status_path: str
    amf_instance: uuid.UUID
    """the AMF that created the context, by its certificate: nobody else may modify or release it"""


class SmContext:
    def __init__(self, services: SmfServices, ref: str, owner: Owner, request: SmRequest, access: AccessType) -> None:
        self._services = services
        self.ref, self.owner, self.request, self.access = ref, owner, request, access
        self.state = State.ESTABLISHING
        self.cp_seid = int.from_bytes(services.random(8), "big") or 1
        self.up_seid: int | None = None
        self._era = 0
        """of the association under which `up_seid` was given"""
        self._n4_turn = asyncio.Lock()
        """set-up, restoration and deletion at the UPF: one at a time, so that none works on what another undoes"""
        self.address: SessionAddress | None = None
        self.proxy: MpquicAddress | None = None
        self.ue_id = services.random(8)
        """opaque to the UPF, which need not learn the SUPI"""
        self.active = asyncio.Event()
        self._over = asyncio.Event()
        self.repairs = 0
        self.keys = KeyProcedure(self, services.events, services.counters)
        self._secret: Secret | None = None

    # ---- establishment

    async def establish(self) -> None:
        """From CreateSMContext's answer to the accept on N1, or all of it undone and a reject."""
        try:
            await self._set_up_n4()
            await self._to_ue(self._accept(self.request.pti))
        except (PfcpRefused, PfcpUnreachable, PfcpError) as e:
            await self._undo(GsmCause.NETWORK_FAILURE, str(e))
        except (FivegError, ControlPlaneError) as e:
            await self._undo(GsmCause.INSUFFICIENT_RESOURCES, str(e))
        except Exception:  # a fault of ours: the session is undone all the same, the fault is counted by who spawned us
            await self._undo(GsmCause.NETWORK_FAILURE, "a fault of the SMF")
            raise
        else:
            await self._set_active()

    async def _set_active(self) -> None:
        if self._step(Event.SET_UP) is not Action.REPORT_ACTIVE:
            return
        self._services.events.emit(
            "pdu_session_established",
            pdu_session_id=self.owner.pdu_session_id,
            ipv4=str(self.address.ipv4) if self.address and self.address.ipv4 else None,
            ipv6=str(self.address.ipv6) if self.address and self.address.ipv6 else None,
        )
        self.active.set()
        association = self._services.n4.association
        if association is not None and association.era != self._era:
            await self.restore()  # the UPF started again while the accept was on its way

    async def _set_up_n4(self) -> None:
        """The session at the UPF, unless it is there already. ProcedureFailed when it was released meanwhile: what was
        set up by then is taken down by who released it."""
        async with self._n4_turn:
            if self.state is not State.RELEASED:
                await self._establish_at_upf()
        if self.state is State.RELEASED:
            raise ProcedureFailed("released meanwhile")

    async def _establish_at_upf(self) -> None:
        services = self._services
        try:
            async with asyncio.timeout(ASSOCIATION_WAIT):
                association = await services.n4.associated()
        except TimeoutError:
            raise PfcpUnreachable("no association with the UPF") from None
        if not association.carries_mpquic:
            raise ProcedureFailed("the UPF has no MPQUIC-IP with keys")
        if self.up_seid is not None and self._era == association.era:
            return
        self.up_seid = None
        if self.address is None:
            self.address = services.pool.take(self.request.ipv4, self.request.ipv6)
        n4 = services.n4
        message = establishment(services.config, self.address, n4.node_id, n4.f_seid(self.cp_seid))
        answer = await n4.request(message, 0, SessionEstablishmentResponse)
        if not answer.cause.accepted or answer.up_f_seid is None:
            raise PfcpRefused(f"the UPF refused the session: {answer.cause.name}", int(answer.cause))
        self.up_seid = answer.up_f_seid.seid
        if n4.association is None:
            raise PfcpUnreachable("the association ended meanwhile")
        self._era = n4.association.era
        parameters = answer.atsss_parameters.mpquic if answer.atsss_parameters else None
        proxies = [a for a in parameters.addresses if a.proxy_type in IP_PROXIES] if parameters else []
        if not proxies:
            raise PfcpRefused("the UPF names no MPQUIC-IP proxy")
        self.proxy = proxies[0]
        services.events.emit("session_established", seid=f"{self.up_seid:016x}")

    def _accept(self, pti: int) -> bytes:
        assert self.address is not None and self.proxy is not None
        return accept(self._services.config, self.request, self.owner.pdu_session_id, pti, self.address, self.proxy)

    async def _undo(self, cause: GsmCause, why: str) -> None:
        if self._step(Event.FAILED) is not Action.UNDO:
            return  # released meanwhile: who released it takes it down
        self._services.counters.inc("sm.establishment_failed")
        self._services.events.emit("pdu_session_refused", pdu_session_id=self.owner.pdu_session_id, reason=why)
        try:
            await self._to_ue(reject(self.owner.pdu_session_id, self.request.pti, cause))
        except (SbiError, ControlPlaneError):
            self._services.counters.inc("sm.reject_not_delivered")
        await self._take_down()
        await self._tell_status("ESTABLISHMENT_FAILED")

    # ---- N1

    async def _to_ue(self, message: bytes) -> None:
        """Namf_Communication_N1N2MessageTransfer. SbiError or SbiUnreachable: it is not on its way."""
        data = N1N2MessageTransferReqData(
            n1=N1MessageContainer(
                message_class=N1MessageClass.SM,
                content=RefToBinaryData(content_id=N1_PART),
                nf_id=self._services.config.sbi.instance,
            ),
            pdu_session_id=self.owner.pdu_session_id,
            ma_accepted=True,
            target_access=self.access,
        )
        kind, body = multipart.encode(data.text(), (multipart.Part(N1_PART, message),))
        path = f"/namf-comm/v1/ue-contexts/{self.owner.supi}/n1-n2-messages"
        await self._services.amf.call("POST", path, body, kind)

    async def asked_again(self, request: SmRequest, access: AccessType) -> None:
        """The UE repeats its MA PDU request over another access: the session is there, the accept comes again."""
        try:
            async with asyncio.timeout(ACCEPT_WAIT):
                await self.active.wait()
            if self._step(Event.UE_ASKS_AGAIN) is Action.ACCEPT_AGAIN:
                self.access = access
                await self._to_ue(self._accept(request.pti))
        except (TimeoutError, FivegError, ControlPlaneError):
            self._services.counters.inc("sm.accept_not_delivered")

    def ue_releases(self, pti: int) -> bytes | None:
        """RELEASE REQUEST: the answer for the UE; None: there is nothing to release."""
        first = self.state is State.ACTIVE
        if self._step(Event.UE_RELEASES) is not Action.COMMAND_RELEASE:
            return None
        command = release_command(self.owner.pdu_session_id, pti, GsmCause.REGULAR_DEACTIVATION)
        if first:
            self._services.spawn(self._await_completion(command), "T3592")
        return command

    async def _await_completion(self, command: bytes) -> None:
        """T3592 (TS 24.501 §6.3.3.5): the command again, and at last the release without the UE."""
        for repetition in range(1 + T3592_REPETITIONS):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(T3592):
                    await self._over.wait()
            if self.state is not State.RELEASING:
                return
            if repetition < T3592_REPETITIONS:
                with contextlib.suppress(SbiError, ControlPlaneError):  # not reachable now: the next one may be
                    await self._to_ue(command)
        if self._step(Event.UE_IS_SILENT) is Action.REMOVE:
            self._services.counters.inc("sm.released_without_the_ue")
            await self._take_down()
            await self._tell_status("REL_DUE_TO_UE")

    async def ue_completes(self) -> None:
        if self._step(Event.UE_COMPLETES) is Action.REMOVE:
            await self._take_down()
            await self._tell_status("REL_DUE_TO_UE")

    async def amf_releases(self) -> None:
        if self._step(Event.AMF_RELEASES) is Action.REMOVE:
            await self._take_down()

    # ---- the end

    async def _take_down(self) -> None:
        """The state is RELEASED already. Runs in a task of the SMF's own: a caller that goes away does not stop it half-way."""
        services = self._services
        self._over.set()
        self.keys.close()
        self._hold(None)
        async with self._n4_turn:
            if self.up_seid is not None:
                try:
                    await services.n4.request(SessionDeletionRequest(), self.up_seid, SessionDeletionResponse)
                except (PfcpRefused, PfcpUnreachable):
                    services.counters.inc("sm.deletion_failed")
                self.up_seid = None
        if self.address is not None:
            services.pool.give_back(self.address)
            self.address = None
        services.removed(self)

    def _hold(self, key: Secret | None) -> None:
        """The newest key, registered so that no event can ever name it; the one before is wiped."""
        if self._secret is not None:
            self._secret.wipe()
        self._secret = None if key is None else self._services.events.register_secret(key)

    async def _tell_status(self, cause: str) -> None:
        body = SmContextStatusNotification(status=StatusInfo(resource_status="RELEASED", cause=cause))
        try:
            await self._services.amf.call("POST", self.owner.status_path, body.text(), idempotent=True)
        except (SbiError, ControlPlaneError):
            self._services.counters.inc("sm.status_not_delivered")

    async def restore(self) -> None:
        """The UPF has lost it: the same session with the same address there, and a key that was never used."""
        if self._step(Event.UPF_LOST) is not Action.RESTORE:
            return
        self.active.clear()
        try:
            await self._set_up_n4()
        except (ControlPlaneError, FivegError) as e:
            if self.state is State.RELEASED:
                return
            self._services.counters.inc("sm.restoration_failed")
            self._services.events.emit("session_lost", pdu_session_id=self.owner.pdu_session_id, reason=str(e))
            await self.amf_releases()
            await self._tell_status("UPF_LOST")
            return
        self.active.set()

    def _step(self, event: Event) -> Action:
        self.state, action = step(self.state, event)
        if action is Action.IGNORE:
            self._services.counters.inc(f"sm.ignored.{event.name.lower()}")
        return action

    # ---- keys: what KeyProcedure needs done

    async def ask_amf(self, reason: KeyReason, held: int) -> MpquicKeyCreatedData:
        await self.active.wait()  # the UE must know the session before its key comes
        services = self._services
        data = MpquicKeyCreateData(
            pdu_session_id=self.owner.pdu_session_id,
            nf_id=services.config.sbi.instance,
            reason=reason,
            held_generation=held,
            requested_lifetime=services.config.rekey.lifetime_s,
            notif_uri=f"https://smf.local:{services.sbi_port()}{CALLBACK}{self.ref}",
        )
        services.events.emit("key_request_forwarded", reason=reason.value.lower())
        reply = await services.amf.call("POST", mpquickey.collection(self.owner.supi), data.text(), idempotent=True)
        created = MpquicKeyCreatedData.parse(reply.body().json)
        self._hold(Secret(created.key))
        if created.generation <= held:
            raise ProcedureFailed(f"the AMF gave generation {created.generation}, {held} is held already")
        return created

    async def install_at_upf(self, generation: int, key: bytes, lifetime: int) -> None:
        if self.up_seid is None:
            raise PfcpUnreachable("the session is not at the UPF")
        wrapped = self._services.n4.key_wrap(self.up_seid).wrap(key, generation)
        await self._modify(MpquicKey(generation, lifetime, self.ue_id, wrapped))

    async def revoke_at_upf(self, generation: int) -> None:
        lifetime = self._services.config.rekey.lifetime_s
        await self._modify(MpquicKey(generation, lifetime, self.ue_id, b"", flags=KeyFlags.REVOKE))

    async def _modify(self, key: MpquicKey) -> None:
        if self.up_seid is None:
            raise PfcpUnreachable("the session is not at the UPF")
        request = SessionModificationRequest(key=key)
        seid = self.up_seid
        answer = await self._services.n4.request(request, seid, SessionModificationResponse)
        if answer.cause is Cause.SESSION_CONTEXT_NOT_FOUND and self.up_seid == seid:
            self._services.counters.inc("sm.unknown_to_the_upf")
            self.up_seid = None
            self._services.spawn(self.restore(), "restore")
        if not answer.cause.accepted:
            raise PfcpRefused(f"the UPF refused the key: {answer.cause.name}", int(answer.cause))

    async def revoke_at_amf(self, generation: int) -> None:
        path = mpquickey.resource(self.owner.supi, self.owner.pdu_session_id, generation)
        await self._services.amf.call("DELETE", path, idempotent=True)

    def key_reason(self, reason: int) -> KeyReason:
        """The UPF's reason in the AMF's words. A UPF that lost its keys asks for a repair, however it calls it."""
        if reason in (2, 3):
            return KeyReason.UPF_LIMIT
        if reason == 1 and self.keys.held == 0:
            return KeyReason.INITIAL
        return KeyReason.REPAIR
