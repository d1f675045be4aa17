"""UL and DL NAS TRANSPORT: 5GSM between UE and SMF, key containers between UE and the key service (TS 24.501 §5.4.5)."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from control.amf.config import AmfConfig
from control.amf.mpquic_keys import MpquicKeys
from control.amf.n1_server import N1Connection
from control.amf.ue_context import SmSession, UeContext
from control.errors import ControlPlaneError
from control.sbi.client import Reply, SbiClient
from control.sbi.server import Request, Response
from fiveg.nas.causes import GmmCause
from fiveg.nas.gmm import DlNasTransport, PayloadType, RequestType, UlNasTransport
from fiveg.nas_security import CountExhausted
from fiveg.sbi import multipart
from fiveg.sbi.errors import SbiError
from fiveg.sbi.member import Wrong
from fiveg.sbi.types import (
    AccessType,
    N1N2Cause,
    N1N2MessageTransferReqData,
    N1N2MessageTransferRspData,
    PlmnId,
    RefToBinaryData,
    SmContextCreateData,
    SmContextCreateError,
    SmContextStatusNotification,
    SmContextUpdateData,
    SmContextUpdatedData,
    Snssai,
)
from fiveg.sbi.types import RequestType as SbiRequestType
from node.counters import Counters
from node.events import Events

N1_PART = "n1SmMsg"
CONTEXTS = "/nsmf-pdusession/v1/sm-contexts"
REFERENCE = re.compile(r"(?:https://[^/]+)?(" + CONTEXTS + r"/[A-Za-z0-9._\-]{1,64})", re.ASCII)
N1N2 = re.compile(r"/namf-comm/v1/ue-contexts/([^/]{1,128})/n1-n2-messages", re.ASCII)
STATUS = "/namf-callback/v1/sm-context-status/"
STATUS_PATH = re.compile(re.escape(STATUS) + r"([0-9a-f]{32})", re.ASCII)
MOST_TASKS_PER_UE = 16
"""Requests of one UE that are worked on at once: one UE does not fill the SMF."""
SST = 1
SBI_ACCESS = {"3gpp": AccessType.ACCESS_3GPP, "non-3gpp": AccessType.NON_3GPP}
NAS_ACCESS = {v: k for k, v in SBI_ACCESS.items()}


class TransportHost(Protocol):
    def ue(self, supi: str) -> UeContext | None: ...
    def ues(self) -> list[UeContext]: ...
    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None: ...


class Transport:
    def __init__(
        self,
        host: TransportHost,
        config: AmfConfig,
        smf: SbiClient,
        keys: MpquicKeys,
        events: Events,
        counters: Counters,
        random: Callable[[int], bytes],
        clock: Callable[[], float],
        sbi_port: Callable[[], int],
    ) -> None:
        self._host, self._config, self._smf, self._keys = host, config, smf, keys
        self._events, self._counters, self._random, self._clock = events, counters, random, clock
        self._sbi_port = sbi_port
        self._busy: dict[str, int] = {}

    # ---- uplink

    def uplink(self, ue: UeContext, access: str, message: UlNasTransport) -> None:
        """A message whose MAC was right and that was ciphered."""
        psi = message.pdu_session_id
        if psi is None or not 1 <= psi <= 15:
            self._counters.inc("n1.bad_pdu_session_id")
            self._return(ue, access, message)
            return
        if message.payload_type == PayloadType.MPQUIC_KEY:
            self._keys.from_ue(ue, psi, message.payload)
        elif message.payload_type == PayloadType.N1_SM:
            self._sm(ue, access, psi, message)
        else:
            self._counters.inc("n1.payload_type_unknown")
            self._return(ue, access, message)

    def _sm(self, ue: UeContext, access: str, psi: int, message: UlNasTransport) -> None:
        session = ue.sessions.get(psi)
        new = message.request_type in (RequestType.INITIAL, RequestType.MA_PDU)
        again = session is not None and session.multi_access and message.request_type == RequestType.MA_PDU
        if session is not None and session.ref is None:
            self._counters.inc("n1.session_under_way")
            self._return(ue, access, message)
            return
        if session is None and not new:
            self._counters.inc("n1.unknown_session")
            self._return(ue, access, message)
            return
        if self._busy.get(ue.supi, 0) >= MOST_TASKS_PER_UE:  # before anything is made or replaced
            self._counters.inc("n1.too_many_requests")
            self._return(ue, access, message)
            return
        if again and session is not None and session.access != access:
            work = self._update(ue, session, access, message)
        elif new:
            token = self._random(16).hex()
            multi = message.request_type == RequestType.MA_PDU
            made = SmSession.new(psi, access, multi, token, self._config.smf.host, self._clock())
            made.generation = ue.generations.get(psi, 0)
            try:
                request = self._creation(ue, made, message)
            except Wrong:  # a DNN that is one to NAS and none to the SBI; what had this ID keeps it
                self._counters.inc("n1.value_not_allowed")
                self._return(ue, access, message)
                return
            ue.sessions[psi] = made
            self._events.emit("pdu_session_requested", pdu_session_id=psi, access=access)
            work = self._create(ue, made, session, message, request)
        else:
            assert session is not None
            work = self._update(ue, session, access, message)
        self._start(ue, work)

    def _start(self, ue: UeContext, work: Coroutine[Any, Any, None]) -> None:
        self._busy[ue.supi] = self._busy.get(ue.supi, 0) + 1

        async def counted() -> None:
            try:
                await work
            finally:
                self._busy[ue.supi] -= 1
                if not self._busy[ue.supi]:
                    del self._busy[ue.supi]

        self._host.spawn(counted(), "5GSM to the SMF")

    def _creation(self, ue: UeContext, session: SmSession, message: UlNasTransport) -> tuple[str, bytes]:
        """Content type and body of CreateSMContext. `Wrong`: the UE sent a value that has no place in it."""
        access = session.access
        other = next((a for a, c in ue.connections.items() if a != access and c.open), None)
        data = SmContextCreateData(
            serving_nf_id=self._config.sbi.instance,
            serving_network=PlmnId(mcc=self._config.plmn.mcc, mnc=self._config.plmn.mnc),
            an_type=SBI_ACCESS[access],
            additional_an_type=None if other is None else SBI_ACCESS[other],
            sm_context_status_uri=f"https://amf.local:{self._sbi_port()}{STATUS}{session.status_token}",
            supi=ue.supi,
            pdu_session_id=session.pdu_session_id,
            dnn=message.dnn,
            s_nssai=Snssai(sst=SST),
            request_type=SbiRequestType.INITIAL_REQUEST,
            n1_sm_msg=RefToBinaryData(content_id=N1_PART),
            ma_request=True if session.multi_access else None,
        )
        return multipart.encode(data.text(), (multipart.Part(N1_PART, message.payload),))

    async def _create(
        self, ue: UeContext, session: SmSession, old: SmSession | None, message: UlNasTransport, request: tuple[str, bytes]
    ) -> None:
        if old is not None:  # §5.4.5.2.5: a new request for an ID in use releases what had it
            self._keys.forget(old)
            await self._release_at_smf(old)
        access = session.access
        kind, body = request
        try:
            reply = await self._smf.call("POST", CONTEXTS, body, kind)
            match = REFERENCE.fullmatch(reply.location or "")
            if reply.status != 201 or match is None or reply.peer is None:
                raise SbiError(502, "INVALID_MSG_FORMAT", "201 without a proper Location")
            session.smf_instance = reply.peer.nf_instance_id
            session.ref = match[1]
        except (SbiError, ControlPlaneError) as e:
            self._counters.inc("n1.session_not_created")
            self._drop(ue, session)
            n1 = self._n1_of_refusal(e)
            if n1 is not None:
                self.downlink(ue, session.pdu_session_id, n1, prefer=access)
            else:
                self._return(ue, access, message)
            return
        if ue.sessions.get(session.pdu_session_id) is not session:  # the UE left, or the SMF gave up, meanwhile
            self._counters.inc("n1.session_abandoned")
            await self._release_at_smf(session)

    def _n1_of_refusal(self, error: Exception) -> bytes | None:
        """A refusal of CreateSMContext brings the reject for the UE along."""
        reply: Reply | None = getattr(error, "reply", None)
        if reply is None:
            return None
        try:
            body = reply.body()
            return body.binary(SmContextCreateError.parse(body.json).n1_sm_msg)
        except SbiError:
            return None

    async def _update(self, ue: UeContext, session: SmSession, access: str, message: UlNasTransport) -> None:
        data = SmContextUpdateData(
            n1_sm_msg=RefToBinaryData(content_id=N1_PART),
            an_type=SBI_ACCESS[access],
            ma_request=True if message.request_type == RequestType.MA_PDU else None,
        )
        kind, body = multipart.encode(data.text(), (multipart.Part(N1_PART, message.payload),))
        try:
            reply = await self._smf.call("POST", f"{session.ref}/modify", body, kind)
            if reply.status == 200:
                answer = reply.body()
                ref = SmContextUpdatedData.parse(answer.json).n1_sm_msg
                if ref is not None:
                    self.downlink(ue, session.pdu_session_id, answer.binary(ref), prefer=access)
        except (SbiError, ControlPlaneError) as e:
            self._counters.inc("n1.session_not_updated")
            if isinstance(e, SbiError) and e.status == 404:
                self._drop(ue, session)
            self._return(ue, access, message)

    def _return(self, ue: UeContext, access: str, message: UlNasTransport) -> None:
        """The payload could not be forwarded (§5.4.5.3.1 case l)."""
        answer = DlNasTransport(
            payload_type=message.payload_type,
            payload=message.payload,
            pdu_session_id=message.pdu_session_id,
            cause=GmmCause.PAYLOAD_WAS_NOT_FORWARDED,
        )
        connection = ue.connections.get(access)
        if connection is not None:
            self._send(ue, connection, answer)

    # ---- downlink

    def downlink(
        self,
        ue: UeContext,
        psi: int,
        payload: bytes,
        *,
        kind: PayloadType = PayloadType.N1_SM,
        avoid: str | None = None,
        prefer: str | None = None,
    ) -> str | None:
        """Send on a live access, ciphered; which one. None: there is none."""
        connection = ue.live(avoid, prefer)
        if connection is None:
            return None
        message = DlNasTransport(payload_type=kind, payload=payload, pdu_session_id=psi)
        return connection.access if self._send(ue, connection, message) else None

    def _send(self, ue: UeContext, connection: N1Connection, message: DlNasTransport) -> bool:
        try:
            return connection.send(ue.security.protect(message.encode(), connection.access))
        except CountExhausted:  # nothing can be said under these keys any more; the UE comes back and authenticates
            self._counters.inc("nas.count_exhausted")
            connection.close()
            return False

    # ---- what the SMF asks of us

    async def handle(self, request: Request) -> Response | None:
        match = N1N2.fullmatch(request.path)
        if match is not None and request.method == "POST":
            return self._n1n2(match[1], request)
        match = STATUS_PATH.fullmatch(request.path)
        if match is not None and request.method == "POST":
            return self._status(match[1], request)
        return None

    def _n1n2(self, supi: str, request: Request) -> Response:
        body = multipart.decode(request.content_type, request.body)
        data = N1N2MessageTransferReqData.parse(body.json)
        ue = self._host.ue(supi)
        if ue is None:
            raise SbiError(404, "CONTEXT_NOT_FOUND", "no such UE here")
        session = ue.sessions.get(data.pdu_session_id)
        if session is None or not session.owned_by(request.peer):
            self._counters.inc("n1n2.not_allowed")
            raise SbiError(403, "MODIFICATION_NOT_ALLOWED", "not a session of this SMF")
        prefer = NAS_ACCESS.get(data.target_access) if data.target_access else session.access
        sent = self.downlink(ue, data.pdu_session_id, body.binary(data.n1.content), prefer=prefer)
        if sent is None:
            raise SbiError(504, "UE_NOT_REACHABLE", "no access of this UE is connected")
        return Response(200, N1N2MessageTransferRspData(cause=N1N2Cause.INITIATED).text())

    def _status(self, token: str, request: Request) -> Response:
        note = SmContextStatusNotification.parse(request.body)
        for ue in self._host.ues():
            for session in list(ue.sessions.values()):
                if session.status_token == token and session.owned_by(request.peer):
                    if note.status.resource_status == "RELEASED":
                        self._drop(ue, session)
                    return Response(204)
        raise SbiError(404, "CONTEXT_NOT_FOUND", "no such SM context")

    # ---- ends

    def _drop(self, ue: UeContext, session: SmSession) -> None:
        self._keys.forget(session)
        if ue.sessions.get(session.pdu_session_id) is session:
            del ue.sessions[session.pdu_session_id]

    def release_all(self, ue: UeContext) -> None:
        """The UE is gone, or it is here anew."""
        for session in list(ue.sessions.values()):
            self._drop(ue, session)
            self._host.spawn(self._release_at_smf(session), "release at the SMF")

    async def _release_at_smf(self, session: SmSession) -> None:
        if session.ref is None:
            return
        try:
            await self._smf.call("POST", f"{session.ref}/release", idempotent=True)
        except (SbiError, ControlPlaneError):
            self._counters.inc("n1.session_not_released")
