"""The SMF: SM contexts asked for by the AMF, sessions at the UPF, keys from the one to the other."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from control.errors import ControlPlaneError, ProcedureFailed
from control.sbi.client import SbiClient
from control.sbi.server import Request, Response, SbiServer
from control.sbi.tls import PeerIdentity
from control.smf.config import SmfConfig
from control.smf.n1_sm import RefusedRequest, SmRelease, SmReleaseComplete, SmRequest, read, reject
from control.smf.n4 import N4
from control.smf.pool import AddressPool
from control.smf.rehearsal import rehearse
from control.smf.session_table import State
from control.smf.sm_context import CALLBACK, N1_PART, Owner, SmContext, SmfServices
from fiveg.nas.causes import GsmCause
from fiveg.pfcp.codes import Cause
from fiveg.pfcp.codes import KeyEvent as UpfKeyEvent
from fiveg.pfcp.errors import SessionNotFound
from fiveg.pfcp.message import SessionReportRequest, SessionReportResponse
from fiveg.sbi import multipart
from fiveg.sbi.errors import SbiError
from fiveg.sbi.mpquickey import KeyEvent, KeyReason, MpquicKeyNotification
from fiveg.sbi.types import (
    AccessType,
    ProblemDetails,
    RefToBinaryData,
    SmContextCreateData,
    SmContextCreatedData,
    SmContextCreateError,
    SmContextUpdateData,
    SmContextUpdatedData,
    UpCnxState,
)
from node.keylog import keylog_verb
from node.main import NodeContext
from node.secrets import read_secret

CONTEXTS = "/nsmf-pdusession/v1/sm-contexts"
CONTEXT = re.compile(CONTEXTS + r"/([0-9a-f]{16})/(modify|release)", re.ASCII)
NOTIFICATION = re.compile(re.escape(CALLBACK) + r"([0-9a-f]{16})", re.ASCII)
STATUS_PATH = re.compile(r"https://[^/]+(/[A-Za-z0-9._~/\-]{1,200})", re.ASCII)
MOST_CONTEXTS = 1024
K_N4_SIZE = 32
REPORT_ANSWER = 3.0
"""Seconds that a key request of the UPF may wait for the AMF's answer; its T1 repeats it meanwhile."""
MOST_REPAIRS = 2
"""Keys in a row that the proxy did not take; a key that is used starts the count anew."""
INSTALL_WAIT = 7.0
"""Seconds that the AMF may wait for the UPF to have a key that policy asked for."""


class Smf:
    """Session Management Function: PDU sessions, their rules at the UPF, their keys."""

    def __init__(self, config: SmfConfig, context: NodeContext, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        rehearse(config)
        self.config, self.context, self._random = config, context, random
        self.counters, self.events = context.counters, context.events
        self.contexts: dict[str, SmContext] = {}
        self._by_seid: dict[int, SmContext] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.pool = AddressPool(config.ue_pool)
        self.k_n4 = self.events.register_secret(read_secret(config.n4.key, K_N4_SIZE))
        self.amf = SbiClient(config.sbi, config.amf, self.counters)
        self.sbi = SbiServer(config.sbi, self._handle, self.counters)
        self.n4 = N4(config.n4, self.k_n4, self.counters, self.events, self._report, self._upf_restarted, random)
        self._services = SmfServices(
            config, self.n4, self.amf, self.pool, self.events, self.counters, random,
            self._spawn, self._removed, lambda: self.sbi.port,
        )  # fmt: skip
        keylog_verb(context.channel, self.amf.log_keys, self.sbi.log_keys, already=config.sbi.keylog)

    # ---- life

    async def start(self) -> None:
        await self.sbi.start()
        await self.n4.open()
        self.context.spawn(self.n4.run(), "n4 association")

    async def stop(self) -> None:
        await self.sbi.stop()
        for context in list(self.contexts.values()):
            context.keys.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.n4.close()
        await self.amf.close()
        self.k_n4.wipe()

    def status(self) -> dict[str, Any]:
        return {
            "associated": self.n4.association is not None,
            "sessions": [
                {
                    "supi": c.owner.supi,
                    "pdu_session_id": c.owner.pdu_session_id,
                    "state": c.state.name.lower(),
                    "ipv4": str(c.address.ipv4) if c.address and c.address.ipv4 else None,
                    "ipv6": str(c.address.ipv6) if c.address and c.address.ipv6 else None,
                    "key": {
                        "state": c.keys.state.name.lower(),
                        "generation": c.keys.held,
                        "fingerprint": c.keys.fingerprint,
                    },
                }
                for c in self.contexts.values()
            ],
        }

    def metrics(self) -> dict[str, Any]:
        return {"n4": self.n4.metrics(), "addresses_free": self.pool.free}

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._guarded(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as e:  # one session's fault is not the others'
            self.counters.inc(f"sm.fault.{type(e).__name__}")

    # ---- SBI

    async def _handle(self, request: Request) -> Response:
        if request.peer.host != self.config.amf.host:  # the one AMF whose UEs these are; no other NF, no other AMF
            self.counters.inc("sbi.wrong_nf")
            raise SbiError(403, "MODIFICATION_NOT_ALLOWED", "only the AMF of these sessions is served")
        if request.path == CONTEXTS and request.method == "POST":
            return self._create(request)
        match = CONTEXT.fullmatch(request.path)
        if match is not None and request.method == "POST":
            context = self._context(match[1], request.peer)
            return await (self._modify(context, request) if match[2] == "modify" else self._release(context))
        match = NOTIFICATION.fullmatch(request.path)
        if match is not None and request.method == "POST":
            return await self._notified(self._context(match[1], request.peer), MpquicKeyNotification.parse(request.body))
        raise SbiError(404, "RESOURCE_URI_STRUCTURE_NOT_FOUND", "no such resource")

    def _context(self, ref: str, peer: PeerIdentity) -> SmContext:
        context = self.contexts.get(ref)
        if context is None:
            raise SbiError(404, "CONTEXT_NOT_FOUND", "no such SM context")
        if context.owner.amf_instance != peer.nf_instance_id:
            self.counters.inc("sbi.wrong_nf")
            raise SbiError(403, "MODIFICATION_NOT_ALLOWED", "not a context of this AMF")
        return context

    def _create(self, request: Request) -> Response:
        body = multipart.decode(request.content_type, request.body)
        data = SmContextCreateData.parse(body.json)
        status = STATUS_PATH.fullmatch(data.sm_context_status_uri)
        if data.serving_nf_id != request.peer.nf_instance_id:
            raise SbiError(403, "MODIFICATION_NOT_ALLOWED", "servingNfId is not who asks")
        if data.supi is None or data.pdu_session_id is None or status is None:
            raise SbiError(400, "MANDATORY_IE_MISSING", "supi, pduSessionId and smContextStatusUri are needed")
        n1 = body.binary(data.n1_sm_msg)
        psi = data.pdu_session_id
        try:
            message = read(n1, psi)
            if not isinstance(message, SmRequest):
                raise RefusedRequest(GsmCause.MESSAGE_TYPE_NOT_COMPATIBLE, 0, "not an establishment request")
            if data.ma_request is not True or not message.mpquic_ip:
                raise RefusedRequest(GsmCause.REQUEST_REJECTED, message.pti, "only MA PDU sessions with MPQUIC-IP")
            if data.dnn != self.config.dnn:
                raise RefusedRequest(GsmCause.UNKNOWN_DNN, message.pti, "no such DNN")
            if len(self.contexts) >= MOST_CONTEXTS:
                raise RefusedRequest(GsmCause.INSUFFICIENT_RESOURCES, message.pti, "too many sessions")
        except RefusedRequest as e:
            return self._refuse(psi, e)
        owner = Owner(data.supi, psi, status[1], request.peer.nf_instance_id)
        for old in [c for c in self.contexts.values() if (c.owner.supi, c.owner.pdu_session_id) == (owner.supi, psi)]:
            # The AMF has no such session or it would not create it (TS 29.502 §5.2.2.2.1): ours is a leftover.
            self.counters.inc("sm.replaced")
            self._spawn(old.amf_releases(), "release a leftover")
        context = SmContext(self._services, self._random(8).hex(), owner, message, data.an_type)
        self.contexts[context.ref] = context
        self._by_seid[context.cp_seid] = context
        self._spawn(context.establish(), f"establish {psi}")
        created = SmContextCreatedData(pdu_session_id=psi, up_cnx_state=UpCnxState.ACTIVATING)
        return Response(201, created.text(), location=f"{CONTEXTS}/{context.ref}")

    def _refuse(self, psi: int, refused: RefusedRequest) -> Response:
        self.counters.inc(f"sm.refused.{refused.cause.name.lower()}")
        problem = ProblemDetails(status=403, cause="N1_SM_ERROR", detail=str(refused))
        error = SmContextCreateError(error=problem, n1_sm_msg=RefToBinaryData(content_id=N1_PART))
        kind, body = multipart.encode(error.text(), (multipart.Part(N1_PART, reject(psi, refused.pti, refused.cause)),))
        return Response(403, body, kind)

    async def _modify(self, context: SmContext, request: Request) -> Response:
        body = multipart.decode(request.content_type, request.body)
        data = SmContextUpdateData.parse(body.json)
        if data.n1_sm_msg is None:
            return Response(204)
        try:
            message = read(body.binary(data.n1_sm_msg), context.owner.pdu_session_id)
        except RefusedRequest as e:
            self.counters.inc(f"sm.refused.{e.cause.name.lower()}")
            raise SbiError(403, "N1_SM_ERROR", str(e)) from None
        match message:
            case SmRequest():
                access = data.an_type or AccessType.ACCESS_3GPP
                self._spawn(context.asked_again(message, access), "accept again")
                updated = SmContextUpdatedData(ma_accepted=True)
                return Response(200, updated.text())
            case SmRelease():
                command = context.ue_releases(message.pti)
                if command is None:
                    raise SbiError(403, "N1_SM_ERROR", "nothing to release")
                updated = SmContextUpdatedData(n1_sm_msg=RefToBinaryData(content_id=N1_PART))
                kind, octets = multipart.encode(updated.text(), (multipart.Part(N1_PART, command),))
                return Response(200, octets, kind)
            case SmReleaseComplete():
                self._spawn(context.ue_completes(), "release")
                return Response(204)
        self.counters.inc("sm.other_message")
        return Response(204)

    async def _release(self, context: SmContext) -> Response:
        # In a task of its own: an AMF that resets the stream, or is gone, does not stop it half-way.
        await asyncio.shield(self._spawn(context.amf_releases(), "release"))
        return Response(204)

    async def _notified(self, context: SmContext, note: MpquicKeyNotification) -> Response:
        if note.pdu_session_id != context.owner.pdu_session_id:
            raise SbiError(400, "MANDATORY_IE_INCORRECT", "not the session of this callback")
        match note.event:
            case KeyEvent.UE_ACK:
                context.keys.ue_verdict(note.generation, True)
            case KeyEvent.UE_REJECT if note.generation == context.keys.in_force:
                self._repair(context)
            case KeyEvent.UE_REJECT | KeyEvent.UE_NOT_REACHABLE:
                context.keys.ue_verdict(note.generation, False)
            case KeyEvent.UE_REKEY_REQUEST:
                self._rekey(context, KeyReason.UE_REQUEST)
            case KeyEvent.KAMF_CHANGED:
                self._rekey(context, KeyReason.REAUTHENTICATION)
            case KeyEvent.REKEY_POLICY:
                await self._rekey_installed(context)
        return Response(204)

    def _repair(self, context: SmContext) -> None:
        """UPF and UE have a key, and yet it opens nothing: another one, but not for ever."""
        if context.repairs >= MOST_REPAIRS:
            self.counters.inc("key.repairs_exhausted")
            return
        context.repairs += 1
        self.counters.inc("key.repair")
        self._rekey(context, KeyReason.REPAIR)

    def _rekey(self, context: SmContext, reason: KeyReason) -> None:
        try:
            context.keys.start(reason)
        except ProcedureFailed as e:
            raise SbiError(409, "CONTEXT_NOT_FOUND", str(e)) from None

    async def _rekey_installed(self, context: SmContext) -> None:
        """Answered when step 6 is done, so that who commanded it knows."""
        try:
            run = context.keys.start(KeyReason.POLICY)
            async with asyncio.timeout(INSTALL_WAIT):
                await asyncio.shield(run.installed)
        except ProcedureFailed as e:
            raise SbiError(502, "TARGET_NF_NOT_REACHABLE", str(e)) from None
        except TimeoutError:
            raise SbiError(504, "TIMED_OUT_REQUEST", "the UPF has not installed the key in time") from None

    # ---- N4

    async def _report(self, seid: int, report: SessionReportRequest) -> tuple[SessionReportResponse, int]:
        context = self._by_seid.get(seid)
        if context is None or context.state is State.RELEASED:
            raise SessionNotFound("no such session")
        for item in report.key_reports:
            self.counters.inc(f"key.report.{item.event.name.lower()}")
            if item.event is UpfKeyEvent.IN_USE:
                context.repairs = 0
                context.keys.in_use(item.generation)
            if item.event is UpfKeyEvent.BINDER_FAILURE:
                self.events.emit("binder_failures", generation=item.generation, count=item.detail)
        cause = Cause.ACCEPTED
        if report.key_request is not None:
            cause = await self._key_requested(context, int(report.key_request.reason))
        return SessionReportResponse(cause=cause), context.up_seid or 0

    async def _key_requested(self, context: SmContext, reason: int) -> Cause:
        """Step 2. The UPF is told whether the AMF gave a key; without one its old key stays in force."""
        try:
            wanted = context.key_reason(reason)
            if wanted is KeyReason.UPF_LIMIT:
                self.events.emit("rekey_requested", by="upf", generation=context.keys.held)
            run = context.keys.start(wanted)
            async with asyncio.timeout(REPORT_ANSWER):
                await asyncio.shield(run.answered)
        except TimeoutError:
            self.counters.inc("key.amf_slow")
            return Cause.ACCEPTED  # the procedure goes on
        except (ControlPlaneError, SbiError):
            return Cause.REQUEST_REJECTED
        return Cause.ACCEPTED

    def _upf_restarted(self) -> None:
        for context in list(self.contexts.values()):
            self._spawn(context.restore(), "restore")

    def _removed(self, context: SmContext) -> None:
        self.contexts.pop(context.ref, None)
        self._by_seid.pop(context.cp_seid, None)
