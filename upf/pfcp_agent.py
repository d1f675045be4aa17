"""The UPF's end of N4, without I/O: associations, sessions, keys. Every request is checked whole before anything of it is
applied; what fails on the way is rolled back. Time, randomness and the data path are given.

Who may do what: a session belongs to the association whose address made it; from any other address, or with any other
SEID, it does not exist. SEIDs are random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from fiveg.keys import fingerprint, psk_identity
from fiveg.pfcp.codes import (
    PORT,
    Cause,
    IeType,
    KeyCapabilityFlags,
    KeyEvent,
    KeyFlags,
    KeyReason,
    MessageType,
    MpquicControl,
    ProxyType,
    ReportFlags,
    ReportType,
    UpFeature,
)
from fiveg.pfcp.errors import (
    IeIncorrect,
    NoAssociation,
    NoResources,
    PfcpError,
    RuleFailure,
    ServiceNotSupported,
    SessionNotFound,
    SystemFailure,
)
from fiveg.pfcp.keywrap import N4KeyWrap, UnwrapFailed
from fiveg.pfcp.message import (
    AssociationReleaseRequest,
    AssociationReleaseResponse,
    AssociationSetupRequest,
    AssociationSetupResponse,
    AssociationUpdateRequest,
    AssociationUpdateResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    SessionDeletionResponse,
    SessionEstablishmentRequest,
    SessionEstablishmentResponse,
    SessionModificationRequest,
    SessionModificationResponse,
    SessionReportRequest,
    SessionReportResponse,
    rejection,
)
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyCapability, MpquicKeyReport, MpquicKeyRequest
from fiveg.pfcp.rules import AtsssControlParameters, MpquicParameters
from fiveg.pfcp.transaction import (
    Event,
    Peer,
    RequestFaulty,
    RequestReceived,
    RequestTimedOut,
    ResponseFaulty,
    ResponseReceived,
    Transaction,
    Transactions,
    VersionRefused,
)
from fiveg.pfcp.values import FSeid, LinkSpecificAddress, MpquicAddress, NodeId
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from upf.config import UpfConfig
from upf.errors import DatapathError, KeyRefused
from upf.key_request import Event as RequestEvent
from upf.key_slots import KeySlot
from upf.rules import RuleSet
from upf.session import Association, Datapath, Session
from upf.steering import steering_of

MAX_ASSOCIATIONS = 4
MAX_SESSIONS = 1024
HEARTBEAT_INTERVAL = 10.0
LIMITS_INTERVAL = 1.0
"""How often lifetimes and packet counts are looked at."""
LIFETIME_LEAD = 30.0
"""Seconds before the end of a key's lifetime at which the next one is asked for."""


@dataclass(frozen=True, slots=True)
class _KeyAsked:
    """Token of a session report that asks for a key."""

    seid: int


@dataclass(frozen=True, slots=True)
class _Heartbeat:
    host: str


class PfcpAgent:
    def __init__(
        self,
        config: UpfConfig,
        k_n4: Secret,
        recovery: int,
        transactions: Transactions,
        datapath: Datapath,
        events: Events,
        counters: Counters,
        random: Callable[[int], bytes],
    ) -> None:
        self._config = config
        self._k_n4 = k_n4
        self._recovery = recovery
        self._transactions = transactions
        self._datapath = datapath
        self._events = events
        self._counters = counters
        self._random = random
        self._node_id = NodeId(IPv4Address(config.n4.address))
        self._accesses = {a.name: a.type for a in config.accesses}
        self._limits_due = 0.0
        self.associations: dict[str, Association] = {}
        self.sessions: dict[int, Session] = {}

    # ---- driving

    def receive(self, data: bytes, peer: Peer, now: float) -> None:
        for event in self._transactions.receive(data, peer, now):
            self._event(event, now)

    def advance(self, now: float) -> None:
        for event in self._transactions.advance(now):
            self._event(event, now)
        for session in list(self.sessions.values()):
            if session.request.due is not None and session.request.due <= now and session.request.step(RequestEvent.TIMER, now):
                self._key_ask(session, now)
        for association in self.associations.values():
            if association.heartbeat_due <= now:
                association.heartbeat_due = now + HEARTBEAT_INTERVAL
                beat = HeartbeatRequest(recovery_time_stamp=self._recovery)
                self._send(association, beat, None, now, _Heartbeat(association.host))
        if self._limits_due <= now:
            self._limits_due = now + LIMITS_INTERVAL
            for session in self.sessions.values():
                self._limits_check(session, now)

    def deadline(self) -> float | None:
        due = [d for d in (self._transactions.deadline(),) if d is not None]
        due += [s.request.due for s in self.sessions.values() if s.request.due is not None]
        due += [a.heartbeat_due for a in self.associations.values()]
        if self.sessions:
            due.append(self._limits_due)
        return min(due, default=None)

    def _event(self, event: Event, now: float) -> None:
        match event:
            case RequestReceived():
                self._request(event, now)
            case RequestFaulty():
                self._refuse(event.transaction, event.header.seid, event.error, now)
            case ResponseReceived():
                self._response(event, now)
            case ResponseFaulty() | VersionRefused() | RequestTimedOut():
                self._failed(event.token, event.peer, now)

    # ---- requests

    def _request(self, event: RequestReceived, now: float) -> None:
        host = event.transaction.peer[0]
        seid = event.header.seid
        try:
            answer, answer_seid = self._handle(event.message, host, seid or 0, now)
        except PfcpError as error:
            self._refuse(event.transaction, seid, error, now, event.message)
            return
        self._transactions.respond(event.transaction, answer, answer_seid, now)
        if isinstance(event.message, SessionEstablishmentRequest) and isinstance(answer, SessionEstablishmentResponse):
            assert answer.up_f_seid is not None
            self._key_need(self.sessions[answer.up_f_seid.seid], KeyReason.INITIAL, now)

    def _handle(self, message: Message, host: str, seid: int, now: float) -> tuple[Message, int | None]:
        match message:
            case HeartbeatRequest():
                self._recovery_seen(host, message.recovery_time_stamp)
                return HeartbeatResponse(recovery_time_stamp=self._recovery), None
            case AssociationSetupRequest():
                return self._association_setup(message, host, now), None
            case AssociationUpdateRequest():
                self._association(host, message.node_id)
                return AssociationUpdateResponse(node_id=self._node_id, cause=Cause.ACCEPTED), None
            case AssociationReleaseRequest():
                self._association_drop(self._association(host, message.node_id), "released")
                return AssociationReleaseResponse(node_id=self._node_id, cause=Cause.ACCEPTED), None
            case SessionEstablishmentRequest():
                return self._establish(message, host, now), message.cp_f_seid.seid
            case SessionModificationRequest():
                session = self._session(host, seid)
                return self._modify(session, message, now), session.cp_seid
        if message.TYPE is MessageType.SESSION_DELETION_REQUEST:
            session = self._session(host, seid)
            self._session_drop(session, "deleted")
            return SessionDeletionResponse(cause=Cause.ACCEPTED), session.cp_seid
        raise ServiceNotSupported(f"{message.TYPE.name} is not for a UPF")

    def _refuse(
        self, transaction: Transaction, seid: int | None, error: PfcpError, now: float, request: Message | None = None
    ) -> None:
        self._counters.inc(f"pfcp.refused.{error.cause.name.lower()}")
        self._events.emit(
            "pfcp_refused", message=transaction.type.name.lower(), cause=error.cause.name.lower(), detail=error.text
        )
        answer = rejection(transaction.type, error, self._node_id, self._recovery)
        if isinstance(request, SessionModificationRequest) and request.key is not None and isinstance(error, UnwrapFailed):
            assert isinstance(answer, SessionModificationResponse)
            answer = replace(answer, key_report=MpquicKeyReport(KeyEvent.UNWRAP_FAILED, request.key.generation))
        answer_seid = None
        if answer.SESSION:
            answer_seid = 0
            session = self.sessions.get(seid or 0)
            if session is not None and session.association.host == transaction.peer[0]:
                answer_seid = session.cp_seid
            elif isinstance(request, SessionEstablishmentRequest):
                answer_seid = request.cp_f_seid.seid
        self._transactions.respond(transaction, answer, answer_seid, now)

    # ---- associations

    def _association_setup(self, request: AssociationSetupRequest, host: str, now: float) -> Message:
        old = self.associations.get(host)
        if old is not None and (old.recovery != request.recovery_time_stamp or old.node_id != request.node_id):
            self._association_drop(old, "restarted")  # §6.2.6.2.2: what belonged to the old one is gone at the peer
            old = None
        if old is None and len(self.associations) >= MAX_ASSOCIATIONS:
            raise NoResources(f"{MAX_ASSOCIATIONS} associations are possible")
        keys = request.key_capability is not None and bool(request.key_capability.flags & KeyCapabilityFlags.AES_KW_256)
        if old is None:
            association = Association(host, request.node_id, request.recovery_time_stamp, keys)
            association.heartbeat_due = now + HEARTBEAT_INTERVAL
            self.associations[host] = association
            self._events.emit("association_up", peer=host, keys=keys)
        return AssociationSetupResponse(
            node_id=self._node_id,
            cause=Cause.ACCEPTED,
            recovery_time_stamp=self._recovery,
            up_features=frozenset({UpFeature.MPQUIC_IP}),
            key_capability=MpquicKeyCapability(),
        )

    def _association(self, host: str, node_id: NodeId | None = None) -> Association:
        association = self.associations.get(host)
        if association is None or (node_id is not None and association.node_id != node_id):
            raise NoAssociation("no association with this address and node ID")
        return association

    def _association_drop(self, association: Association, reason: str) -> None:
        for session in [s for s in self.sessions.values() if s.association is association]:
            self._session_drop(session, f"association {reason}")
        self.associations.pop(association.host, None)
        self._transactions.forget(association.host)
        self._events.emit("association_down", peer=association.host, reason=reason)

    def _recovery_seen(self, host: str, recovery: int) -> None:
        """A later recovery time stamp: the peer started again and knows nothing of its sessions (TS 23.527 §4.3)."""
        association = self.associations.get(host)
        if association is not None and association.recovery != recovery:
            self._association_drop(association, "restarted")

    # ---- sessions

    def _session(self, host: str, seid: int) -> Session:
        session = self.sessions.get(seid)
        if session is None or session.association.host != host:
            raise SessionNotFound("no such session of this association")
        return session

    def _establish(self, request: SessionEstablishmentRequest, host: str, now: float) -> Message:
        association = self._association(host, request.node_id)
        if len(self.sessions) >= MAX_SESSIONS:
            raise NoResources(f"{MAX_SESSIONS} sessions are possible")
        cp_seid = request.cp_f_seid.seid
        if any(s.cp_seid == cp_seid and s.association is association for s in self.sessions.values()):
            raise IeIncorrect("a session with this CP F-SEID exists", ie=IeType.F_SEID)
        if request.key is not None:
            # The KEK is bound to our SEID, which the peer cannot know yet.
            raise IeIncorrect("a key cannot come before the session has a SEID", ie=IeType.MPQUIC_KEY)
        rules = RuleSet(self._accesses).established(request)
        wanted = request.provide_atsss.mpquic if request.provide_atsss else None
        if wanted is not None and wanted & ~MpquicControl.CONNECT_IP:
            raise ServiceNotSupported("of MPQUIC only connect-ip is supported", ie=IeType.MPQUIC_CONTROL)
        if rules.steered_by_mpquic and not association.keys:
            raise ServiceNotSupported("MPQUIC without keys: the peer announced no key capability")
        self._address_check(rules, None)
        session = Session(self._new_seid(), cp_seid, association, rules)
        self._apply(lambda: self._datapath.session_open(session, rules, steering_of(rules)))
        self.sessions[session.seid] = session
        self._events.emit("session_established", seid=session.name)
        return SessionEstablishmentResponse(
            node_id=self._node_id,
            cause=Cause.ACCEPTED,
            up_f_seid=FSeid(session.seid, IPv4Address(self._config.n4.address)),
            atsss_parameters=self._atsss_parameters() if wanted or rules.steered_by_mpquic else None,
        )

    def _modify(self, session: Session, request: SessionModificationRequest, now: float) -> Message:
        if request.cp_f_seid is not None and request.cp_f_seid.seid != session.cp_seid:
            raise IeIncorrect("the CP F-SEID of a session does not change here", ie=IeType.F_SEID)
        rules = session.rules.modified(request)
        slot = None if request.key is None else self._key_check(session, request.key, now)
        if rules != session.rules:
            self._address_check(rules, session)
            if rules.ue_address != session.rules.ue_address:
                raise RuleFailure("the address of a session does not change")
            self._apply(lambda: self._datapath.session_change(session, rules, steering_of(rules)))
            session.rules = rules
        report = None if request.key is None else self._key_take(session, request.key, slot, now)
        return SessionModificationResponse(
            cause=Cause.ACCEPTED,
            key_report=report,
            atsss_parameters=self._atsss_parameters() if request.provide_atsss else None,
        )

    def _session_drop(self, session: Session, reason: str) -> None:
        del self.sessions[session.seid]
        session.keys.wipe()
        self._datapath.session_close(session)
        self._events.emit("session_released", seid=session.name, reason=reason)

    def _apply(self, change: Callable[[], None]) -> None:
        try:
            change()
        except DatapathError as error:
            raise SystemFailure(str(error)) from error

    def _address_check(self, rules: RuleSet, own: Session | None) -> None:
        """No two sessions have the same address: the address says whose a packet is."""
        address = rules.ue_address
        if address is None:
            return
        for other in self.sessions.values():
            theirs = other.rules.ue_address
            if other is own or theirs is None:
                continue
            if (address.ipv4 is not None and address.ipv4 == theirs.ipv4) or (
                address.ipv6 is not None and theirs.ipv6 is not None and _prefix(address.ipv6) == _prefix(theirs.ipv6)
            ):
                raise RuleFailure("the UE address is another session's", ie=IeType.UE_IP_ADDRESS)

    def _new_seid(self) -> int:
        while True:
            seid = int.from_bytes(self._random(8), "big")
            if seid != 0 and seid not in self.sessions:
                return seid

    def _atsss_parameters(self) -> AtsssControlParameters:
        proxy = self._config.proxy
        ipv6 = None if proxy.ipv6 is None else IPv6Address(proxy.ipv6)
        first = {kind: next((a for a in self._config.accesses if a.type == kind), None) for kind in ("3gpp", "non-3gpp")}
        near, far = first["3gpp"], first["non-3gpp"]
        return AtsssControlParameters(
            mpquic=MpquicParameters(
                addresses=(MpquicAddress(ProxyType.CONNECT_IP, proxy.port, IPv4Address(proxy.ipv4), ipv6),),
                link_specific=LinkSpecificAddress(
                    near.ue_address if near else None,
                    near.ue_address6 if near else None,
                    far.ue_address if far else None,
                    far.ue_address6 if far else None,
                ),
            )
        )

    # ---- keys

    def _key_check(self, session: Session, ie: MpquicKey, now: float) -> KeySlot | None:
        """The key of a delivery, ready to be installed; nothing of the session changes here."""
        if ie.flags & KeyFlags.REVOKE:
            return None
        wrap = N4KeyWrap(self._k_n4.reveal(), session.association.recovery, self._recovery, session.seid)
        try:
            session.keys.check(ie.generation)
            key = wrap.unwrap(ie.wrapped, ie.generation)
        except KeyRefused as error:
            self._key_refused(session, ie.generation, error.reason)
            raise IeIncorrect(str(error), ie=IeType.MPQUIC_KEY) from None
        except UnwrapFailed as error:
            self._key_refused(session, ie.generation, "unwrap_failed")
            raise error.within(IeType.MPQUIC_KEY) from None
        return KeySlot(
            ie.generation, self._events.register_secret(Secret(key)), psk_identity(key), fingerprint(key), ie.lifetime, now
        )

    def _key_refused(self, session: Session, generation: int, reason: str) -> None:
        self._counters.inc(f"key.refused.{reason}")
        self._events.emit("key_refused", seid=session.name, generation=generation, reason=reason)

    def _key_take(self, session: Session, ie: MpquicKey, slot: KeySlot | None, now: float) -> MpquicKeyReport:
        current = session.keys.current
        if slot is None:
            session.keys.revoke(ie.generation)
            if current is not None and current.generation == ie.generation:
                self._datapath.connection_end(session, ie.generation)
            self._events.emit("key_revoked", seid=session.name, generation=ie.generation)
            return MpquicKeyReport(KeyEvent.SPENT, ie.generation)
        session.keys.install(slot)
        session.request.step(RequestEvent.KEY, now)
        self._datapath.key_installed(session, slot)
        self._events.emit(
            "key_installed", seid=session.name, generation=slot.generation, fingerprint=slot.fingerprint
        )
        if ie.flags & KeyFlags.END_OLD_NOW and current is not None:
            self._datapath.connection_end(session, current.generation)
        return MpquicKeyReport(KeyEvent.INSTALLED, slot.generation)

    def _key_need(self, session: Session, reason: KeyReason, now: float) -> None:
        if session.rules.steered_by_mpquic and session.request.need(reason, now):
            self._key_ask(session, now)

    def _key_ask(self, session: Session, now: float) -> None:
        reason = session.request.reason
        held = session.keys.highest
        report = SessionReportRequest(
            report_type=ReportType.UISR, flags=ReportFlags(0), key_request=MpquicKeyRequest(reason, held)
        )
        self._events.emit("key_requested", seid=session.name, reason=reason.name.lower())
        self._send(session.association, report, session.cp_seid, now, _KeyAsked(session.seid))

    def _key_report(self, session: Session, now: float, *reports: MpquicKeyReport) -> None:
        request = SessionReportRequest(report_type=ReportType.UISR, flags=ReportFlags(0), key_reports=reports)
        self._send(session.association, request, session.cp_seid, now, None)

    def key_used(self, session: Session, slot: KeySlot, now: float) -> None:
        """A connection was made from this key: it is spent (the slots have wiped it)."""
        self._events.emit("key_spent", seid=session.name, generation=slot.generation, fingerprint=slot.fingerprint)
        self._key_report(
            session,
            now,
            MpquicKeyReport(KeyEvent.IN_USE, slot.generation),
            MpquicKeyReport(KeyEvent.SPENT, slot.generation),
        )

    def connection_ended(self, session: Session, generation: int, now: float) -> None:
        """A connection is over. With no other one, and no key for one, the session needs a key to go on."""
        session.keys.ended(generation)
        if session.seid not in self.sessions:
            return
        self._key_report(session, now, MpquicKeyReport(KeyEvent.CONNECTION_ENDED, generation))
        if session.keys.current is None and session.keys.next is None:
            self._key_need(session, KeyReason.RESTART, now)

    def _limits_check(self, session: Session, now: float) -> None:
        expired = session.keys.expire(now)
        if expired is not None:
            self._events.emit("key_expired", seid=session.name, generation=expired)
            self._key_report(session, now, MpquicKeyReport(KeyEvent.SPENT, expired))
            if session.keys.current is None:
                self._key_need(session, KeyReason.LIFETIME, now)
        current = session.keys.current
        if current is None or session.keys.next is not None or session.lifetime_asked == current.generation:
            return
        if now >= current.expires_at - min(LIFETIME_LEAD, current.lifetime / 2):
            self._limit_near(session, current, KeyReason.LIFETIME, KeyEvent.LIFETIME_NEAR, now)
        elif self._datapath.packets(session) >= self._config.rekey.packets:
            self._limit_near(session, current, KeyReason.PACKET_LIMIT, KeyEvent.PACKET_LIMIT_NEAR, now)

    def _limit_near(self, session: Session, slot: KeySlot, reason: KeyReason, event: KeyEvent, now: float) -> None:
        session.lifetime_asked = slot.generation
        self._key_report(session, now, MpquicKeyReport(event, slot.generation))
        self._key_need(session, reason, now)

    # ---- responses

    def _response(self, event: ResponseReceived, now: float) -> None:
        match event.message, event.token:
            case SessionReportResponse(), _KeyAsked(seid):
                session = self.sessions.get(seid)
                if session is not None:
                    accepted = event.message.cause.accepted
                    if not accepted:
                        self._counters.inc(f"key.request_refused.{event.message.cause.name.lower()}")
                    session.request.step(RequestEvent.ACCEPTED if accepted else RequestEvent.REFUSED, now)
            case HeartbeatResponse(), _Heartbeat(host):
                association = self.associations.get(host)
                if association is not None:
                    association.reachable = True
                    self._recovery_seen(host, event.message.recovery_time_stamp)

    def _failed(self, token: Any, peer: Peer, now: float) -> None:
        """A request of ours got no proper response."""
        self._counters.inc("pfcp.request_failed")
        match token:
            case _KeyAsked(seid):
                session = self.sessions.get(seid)
                if session is not None:
                    session.request.step(RequestEvent.REFUSED, now)
            case _Heartbeat(host):
                association = self.associations.get(host)
                if association is not None and association.reachable:
                    association.reachable = False  # sessions stay: the peer may be behind a path that is down
                    self._events.emit("association_unreachable", peer=host)

    def _send(self, association: Association, message: Message, seid: int | None, now: float, token: Any) -> None:
        try:
            self._transactions.request((association.host, PORT), message, seid, now, token)
        except NoResources:
            self._failed(token, (association.host, PORT), now)

    def status(self) -> dict[str, Any]:
        return {
            "associations": [{"peer": a.host, "reachable": a.reachable, "keys": a.keys} for a in self.associations.values()],
            "sessions": [
                {
                    "seid": s.name,
                    "ipv4": str(s.rules.ue_address.ipv4) if s.rules.ue_address and s.rules.ue_address.ipv4 else None,
                    "ipv6": str(s.rules.ue_address.ipv6) if s.rules.ue_address and s.rules.ue_address.ipv6 else None,
                    "key_request": s.request.state.name.lower(),
                    "keys": {
                        name: {"generation": slot.generation, "fingerprint": slot.fingerprint}
                        for name, slot in (
                            ("next", s.keys.next),
                            ("current", s.keys.current),
                            ("previous", s.keys.previous),
                        )
                        if slot is not None
                    },
                }
                for s in self.sessions.values()
            ],
        }


def _prefix(address: IPv6Address) -> bytes:
    return address.packed[:8]
