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

from fiveg.pfcp.codes import (
    PORT,
    Cause,
    IeType,
    KeyCapabilityFlags,
    KeyEvent,
    KeyReason,
    MessageType,
    MpquicControl,
    ProxyType,
    UpFeature,
)
from fiveg.pfcp.errors import (
    IeIncorrect,
    NoAssociation,
    NoResources,
    NotAllowed,
    PfcpError,
    RuleFailure,
    ServiceNotSupported,
    SessionNotFound,
    SystemFailure,
)
from fiveg.pfcp.keywrap import UnwrapFailed
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
    SessionReportResponse,
    rejection,
)
from fiveg.pfcp.mpquic_ies import MpquicKeyCapability, MpquicKeyReport
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
from node.budget import Budget
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from upf.config import UpfConfig
from upf.errors import DatapathError
from upf.pfcp_keys import KeyAsked, SessionKeys
from upf.rules import RuleSet
from upf.session import Association, Datapath, Session
from upf.steering import steering_of

MAX_SESSIONS = 1024
HEARTBEAT_INTERVAL = 10.0
STRANGERS_BURST = 40
STRANGERS_PER_S = 20.0
"""Datagrams of all peers together that are no SMF of ours and are read at all (R-139). What they make us answer to addresses that
nobody has waits in the socket's buffer until ARP gives up, 3 s: so much of it leaves room for the SMF's."""


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
        self._recovery = recovery
        self._transactions = transactions
        self._datapath = datapath
        self._events = events
        self._counters = counters
        self._random = random
        self._node_id = NodeId(IPv4Address(config.n4.address))
        self._accesses = {a.name: a.type for a in config.accesses}
        self._smfs = frozenset(config.n4.smf)
        self._strangers: Budget | None = None  # made with the first one, since it needs the time
        self.associations: dict[str, Association] = {}
        self.sessions: dict[int, Session] = {}
        self.keys = SessionKeys(k_n4, recovery, config.rekey.packets, self.sessions, datapath, events, counters, self._send)

    # ---- driving

    def receive(self, data: bytes, peer: Peer, now: float) -> None:
        if peer[0] not in self._smfs and not self._stranger_may(now):
            self._counters.inc("n4.stranger_limited")
            return
        for event in self._transactions.receive(data, peer, now):
            self._event(event, now)

    def _stranger_may(self, now: float) -> bool:
        """Strangers are answered as TS 29.244 wants (heartbeats, refusals with a cause), within a rate that they share."""
        if self._strangers is None:
            self._strangers = Budget(STRANGERS_BURST, STRANGERS_PER_S, now)
        return self._strangers.take(now)

    def advance(self, now: float) -> None:
        for event in self._transactions.advance(now):
            self._event(event, now)
        for association in self.associations.values():
            if association.heartbeat_due <= now:
                association.heartbeat_due = now + HEARTBEAT_INTERVAL
                beat = HeartbeatRequest(recovery_time_stamp=self._recovery)
                self._send(association, beat, None, now, _Heartbeat(association.host))
        self.keys.advance(now)

    def deadline(self) -> float | None:
        due = [d for d in (self._transactions.deadline(), self.keys.deadline()) if d is not None]
        due += [a.heartbeat_due for a in self.associations.values()]
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
            self.keys.need(self.sessions[answer.up_f_seid.seid], KeyReason.INITIAL, now)

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
        self._events.emit("pfcp_refused", message=transaction.type.name.lower(), cause=error.cause.name.lower(), detail=error.text)
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
        if host not in self._smfs:
            raise NotAllowed("not an SMF of this UPF")
        old = self.associations.get(host)
        if old is not None and (old.recovery != request.recovery_time_stamp or old.node_id != request.node_id):
            self._association_drop(old, "restarted")  # §6.2.6.2.2: what belonged to the old one is gone at the peer
            old = None
        keys = request.key_capability is not None and bool(request.key_capability.flags & KeyCapabilityFlags.AES_KW_256)
        if old is None:
            association = Association(host, request.node_id, request.recovery_time_stamp, keys)
            association.heartbeat_due = now  # at once: is anybody there, at the port that heartbeats go to?
            self.associations[host] = association
            self._events.emit("association_up", peer=host, keys=keys)
        else:
            old.keys = keys
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
        """A later recovery time stamp: the peer started again and knows nothing of its sessions (TS 23.527 §4.3). An earlier
        one is a heartbeat from before that came late."""
        association = self.associations.get(host)
        if association is not None and 0 < (recovery - association.recovery) % (1 << 32) < 1 << 31:
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
        if str(request.cp_f_seid.ipv4) != host:
            raise IeIncorrect("the CP F-SEID is at another address: reports go to the association's", ie=IeType.F_SEID)
        if any(s.cp_seid == cp_seid and s.association is association for s in self.sessions.values()):
            raise IeIncorrect("a session with this CP F-SEID exists", ie=IeType.F_SEID)
        if request.key is not None:
            # The KEK is bound to our SEID, which the peer cannot know yet.
            raise IeIncorrect("a key cannot come before the session has a SEID", ie=IeType.MPQUIC_KEY)
        rules = RuleSet(self._accesses).established(request)
        wanted = _mpquic_wanted(request)
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
        wanted = _mpquic_wanted(request)
        if request.cp_f_seid is not None and request.cp_f_seid.seid != session.cp_seid:
            raise IeIncorrect("the CP F-SEID of a session does not change here", ie=IeType.F_SEID)
        rules = session.rules.modified(request)
        slot = None if request.key is None else self.keys.check(session, request.key, now)
        if rules != session.rules:
            self._address_check(rules, session)
            if rules.ue_address != session.rules.ue_address:
                raise RuleFailure("the address of a session does not change")
            self._apply(lambda: self._datapath.session_change(session, rules, steering_of(rules)))
            session.rules = rules
        report = None if request.key is None else self.keys.take(session, request.key, slot, now)
        return SessionModificationResponse(
            cause=Cause.ACCEPTED,
            key_report=report,
            atsss_parameters=self._atsss_parameters() if wanted else None,
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
        """No two sessions have the same address: the address says whose a packet is. And none has an address that we need:
        the route to the session would take it away."""
        address = rules.ue_address
        if address is None:
            return
        both = [a for a in (address.ipv4, address.ipv6) if a is not None]
        if any(a in network for network in self._config.outside() for a in both):
            raise RuleFailure("the UE address is an access's, the proxy's or the control plane's", ie=IeType.UE_IP_ADDRESS)
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

    # ---- responses

    def _response(self, event: ResponseReceived, now: float) -> None:
        match event.message, event.token:
            case SessionReportResponse(), KeyAsked() as asked:
                self.keys.answered(asked, event.message.cause, now)
            case HeartbeatResponse(), _Heartbeat(host):
                association = self.associations.get(host)
                if association is not None:
                    association.reachable = True
                    self._recovery_seen(host, event.message.recovery_time_stamp)

    def _failed(self, token: Any, peer: Peer, now: float) -> None:
        """A request of ours got no proper response."""
        self._counters.inc("pfcp.request_failed")
        match token:
            case KeyAsked():
                self.keys.unanswered(token, now)
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

    def wipe(self) -> None:
        """The node ends: no key stays behind."""
        for session in self.sessions.values():
            session.keys.wipe()

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


def _mpquic_wanted(request: SessionEstablishmentRequest | SessionModificationRequest) -> bool:
    wanted = request.provide_atsss.mpquic if request.provide_atsss else None
    if wanted is not None and wanted & ~MpquicControl.CONNECT_IP:
        raise ServiceNotSupported("of MPQUIC only connect-ip is supported", ie=IeType.MPQUIC_CONTROL)
    return wanted is not None


def _prefix(address: IPv6Address) -> bytes:
    return address.packed[:8]
