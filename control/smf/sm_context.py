"""One SM context: a multi-access PDU session from the UE's request to its release, with N4, N1 and its keys.

What is set up in steps is taken down in the opposite order when a step fails: nothing stays half made.
"""

from __future__ import annotations

import asyncio
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
from fiveg.nas.causes import GsmCause
from fiveg.pfcp.codes import KeyFlags, ProxyType
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
        self.address: SessionAddress | None = None
        self.proxy: MpquicAddress | None = None
        self.ue_id = services.random(8)
        """opaque to the UPF, which need not learn the SUPI"""
        self.active = asyncio.Event()
        self.repairs = 0
        self.keys = KeyProcedure(self, services.events, services.counters)
        self._secret: Secret | None = None
        """the newest key, held so that no event can ever name it"""

    # ---- establishment

    async def establish(self) -> None:
        """From CreateSMContext's answer to the accept on N1, or all of it undone and a reject."""
        try:
            await self._set_up_n4()
            await self._to_ue(self._accept(self.request.pti))
        except (PfcpRefused, PfcpUnreachable, PfcpError) as e:
            await self._undo(GsmCause.NETWORK_FAILURE, str(e))
        except (ProcedureFailed, SbiError, ControlPlaneError) as e:
            await self._undo(GsmCause.INSUFFICIENT_RESOURCES, str(e))
        else:
            if self._step(Event.SET_UP) is Action.REPORT_ACTIVE:
                self._services.events.emit(
                    "pdu_session_established",
                    pdu_session_id=self.owner.pdu_session_id,
                    ipv4=str(self.address.ipv4) if self.address and self.address.ipv4 else None,
                    ipv6=str(self.address.ipv6) if self.address and self.address.ipv6 else None,
                )
                self.active.set()

    async def _set_up_n4(self) -> None:
        services = self._services
        try:
            async with asyncio.timeout(ASSOCIATION_WAIT):
                association = await services.n4.associated()
        except TimeoutError:
            raise PfcpUnreachable("no association with the UPF") from None
        if not association.carries_mpquic:
            raise ProcedureFailed("the UPF has no MPQUIC-IP with keys")
        if self.address is None:
            self.address = services.pool.take(self.request.ipv4, self.request.ipv6)
        n4 = services.n4
        message = establishment(services.config, self.address, n4.node_id, n4.f_seid(self.cp_seid))
        answer = await n4.request(message, 0, SessionEstablishmentResponse)
        if not answer.cause.accepted or answer.up_f_seid is None:
            raise PfcpRefused(f"the UPF refused the session: {answer.cause.name}", int(answer.cause))
        self.up_seid = answer.up_f_seid.seid
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
        async with asyncio.timeout(ACCEPT_WAIT):
            await self.active.wait()
        if self._step(Event.UE_ASKS_AGAIN) is Action.ACCEPT_AGAIN:
            self.access = access
            try:
                await self._to_ue(self._accept(request.pti))
            except (SbiError, ControlPlaneError):
                self._services.counters.inc("sm.accept_not_delivered")

    def ue_releases(self, pti: int) -> bytes | None:
        """RELEASE REQUEST: the answer for the UE; None: there is nothing to release."""
        if self._step(Event.UE_RELEASES) is not Action.COMMAND_RELEASE:
            return None
        return release_command(self.owner.pdu_session_id, pti, GsmCause.REGULAR_DEACTIVATION)

    async def ue_completes(self) -> None:
        if self._step(Event.UE_COMPLETES) is Action.REMOVE:
            await self._take_down()
            await self._tell_status("REL_DUE_TO_UE")

    async def amf_releases(self) -> None:
        if self._step(Event.AMF_RELEASES) is Action.REMOVE:
            await self._take_down()

    # ---- the end

    async def _take_down(self) -> None:
        services = self._services
        self.keys.close()
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

    async def _tell_status(self, cause: str) -> None:
        body = SmContextStatusNotification(status=StatusInfo(resource_status="RELEASED", cause=cause))
        try:
            await self._services.amf.call("POST", self.owner.status_path, body.text(), idempotent=True)
        except (SbiError, ControlPlaneError):
            self._services.counters.inc("sm.status_not_delivered")

    async def restore(self) -> None:
        """The UPF started again: the same session with the same address there, and a key that was never used."""
        if self._step(Event.UPF_LOST) is not Action.RESTORE:
            return
        self.active.clear()
        self.up_seid = None
        try:
            await self._set_up_n4()
        except (ControlPlaneError, PfcpError) as e:
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
        self._secret = services.events.register_secret(Secret(created.key))
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
        answer = await self._services.n4.request(request, self.up_seid, SessionModificationResponse)
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
