"""Registration of one UE over one N1 connection: what the table's actions do (registration_table.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from control.amf.n1_server import N1Connection
from control.amf.registration_table import Action, Event, State, step
from control.amf.ue_context import UeContext
from fiveg import keys
from fiveg.aka import AuthenticationVector, AutsRefused, authentication_vector, resynchronise
from fiveg.milenage import Milenage
from fiveg.nas.causes import GmmCause
from fiveg.nas.gmm import (
    AuthenticationFailure,
    AuthenticationReject,
    AuthenticationRequest,
    AuthenticationResponse,
    IdentityRequest,
    RegistrationAccept,
    RegistrationReject,
    RegistrationRequest,
    SecurityModeCommand,
    SecurityModeComplete,
)
from fiveg.nas.identity import Guti, Suci
from fiveg.nas_security import NasSecurityContext, Role, Sht
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from node.subscriber import Plmn, Subscriber

T_N1 = 6.0
"""T3560, T3570, T3550: identity, authentication, security mode, accept."""
REPETITIONS = 4
T_SILENT = 30.0
"""s that a connection may be open without a registration under way; then it is only a place in the pool"""
SQN_STEP = 32
"""SEQ counts above the five bits of IND (TS 33.102 C.1.1.1)."""
SQN_LIMIT = 1 << 48
RESYNCHRONISATIONS = 1
"""per procedure: a UE that is out of step twice is not in step with this K"""
NEA2, NIA2 = 2, 2
AMF_REGION, AMF_SET, AMF_POINTER = 1, 1, 0
NO_KSI = 7


@dataclass(slots=True)
class Candidate:
    """A registration that is not through yet."""

    subscriber: Subscriber
    request: RegistrationRequest
    vector: AuthenticationVector
    ksi: int
    security: NasSecurityContext | None = None
    secret: Secret | None = None
    resynchronisations: int = 0


class RegistrationHost(Protocol):
    """The AMF around a registration."""

    def subscriber(self, supi: str) -> Subscriber | None: ...
    def ue(self, supi: str) -> UeContext | None: ...
    def adopt(self, connection: N1Connection, candidate: Candidate) -> UeContext: ...
    def attach(self, connection: N1Connection, ue: UeContext) -> None: ...
    def detach(self, connection: N1Connection, ue: UeContext) -> None: ...
    def release(self, connection: N1Connection, ue: UeContext) -> None: ...


class Registration:
    def __init__(
        self,
        connection: N1Connection,
        host: RegistrationHost,
        plmn: Plmn,
        events: Events,
        counters: Counters,
        random: Callable[[int], bytes],
    ) -> None:
        self.connection, self._host, self._plmn = connection, host, plmn
        self._events, self._counters, self._random = events, counters, random
        self.state = State.DEREGISTERED
        self.ue: UeContext | None = None
        self.candidate: Candidate | None = None
        self._request: RegistrationRequest | None = None
        self._repeat: Callable[[], None] | None = None
        self._left = 0
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(T_SILENT, self._expired)

    # ---- events

    def requested(self, request: RegistrationRequest, verified: UeContext | None) -> None:
        """`verified`: the context whose keys protect this request; None: plain, or no MAC of ours."""
        self._request = request
        self._forget_candidate()
        if verified is not None:
            if self.ue is not None and self.ue is not verified:
                self._host.detach(self.connection, self.ue)
            self.ue = verified
            self._do(Event.REQUEST_WITH_CONTEXT)
            return
        identity = request.identity
        if isinstance(identity, Suci):
            self._identified(identity, Event.REQUEST_WITH_SUCI)
        else:
            self._counters.inc("n1.unknown_guti")
            self._do(Event.REQUEST_UNKNOWN)

    def identity(self, identity: object) -> None:
        if self.state is not State.IDENTIFYING or not isinstance(identity, Suci):
            self._counters.inc("n1.unexpected_identity")
            return
        self._identified(identity, Event.IDENTITY)

    def _identified(self, suci: Suci, event: Event) -> None:
        request = self._request
        assert request is not None
        supi = f"imsi-{suci.mcc}{suci.mnc}{suci.msin}"
        subscriber = self._host.subscriber(supi)
        if (suci.mcc, suci.mnc) != (self._plmn.mcc, self._plmn.mnc) or suci.scheme != 0 or subscriber is None:
            self._counters.inc("n1.unknown_subscriber")
            self._refuse(GmmCause.ILLEGAL_UE)
            return
        if not request.offers(NEA2, NIA2):
            self._counters.inc("n1.no_algorithms")  # nothing weaker is ever agreed
            self._refuse(GmmCause.UE_SECURITY_CAPABILITIES_MISMATCH)
            return
        ksi = self._new_ksi(request.ngksi)
        self.candidate = Candidate(subscriber, request, self._vector(subscriber), ksi)
        self._do(event)

    def authentication_response(self, message: AuthenticationResponse) -> None:
        candidate = self.candidate
        if self.state is not State.AUTHENTICATING or candidate is None:
            self._do(Event.RES_WRONG if self.state is State.AUTHENTICATING else Event.RES_RIGHT)
            return
        right = message.res_star is not None and candidate.vector.matches(message.res_star)
        self._do(Event.RES_RIGHT if right else Event.RES_WRONG)

    def authentication_failure(self, message: AuthenticationFailure) -> None:
        candidate = self.candidate
        if self.state is not State.AUTHENTICATING or candidate is None:
            self._do(Event.SYNC_FAILURE)  # ignored by the table: unsolicited
            return
        if message.cause != GmmCause.SYNCH_FAILURE or message.auts is None:
            self._do(Event.OTHER_FAILURE)
            return
        subscriber = candidate.subscriber
        try:
            sqn = resynchronise(_milenage(subscriber), candidate.vector.rand, message.auts)
        except AutsRefused:
            self._counters.inc("n1.auts_wrong")
            self._do(Event.OTHER_FAILURE)
            return
        if candidate.resynchronisations >= RESYNCHRONISATIONS:
            self._do(Event.OTHER_FAILURE)
            return
        subscriber.sqn = sqn
        candidate.resynchronisations += 1
        self._do(Event.SYNC_FAILURE)

    def security_mode_complete(self, message: SecurityModeComplete) -> None:
        """Its MAC has verified under the new context."""
        candidate = self.candidate
        if self.state is not State.SECURING or candidate is None:
            self._do(Event.SECURED)
            return
        inner = message.nas_message
        if isinstance(inner, RegistrationRequest) and inner.capability != candidate.request.capability:
            # The first request was changed on the way: what it claimed is not what the UE said (bidding down).
            self._counters.inc("n1.capability_changed")
            self._refuse(GmmCause.UE_SECURITY_CAPABILITIES_MISMATCH)
            return
        self._events.emit("security_mode_done", access=self.connection.access)
        self.ue = self._host.adopt(self.connection, candidate)
        self.candidate = None
        self._do(Event.SECURED)

    def security_mode_reject(self) -> None:
        self._counters.inc("n1.security_mode_rejected")
        self._do(Event.SECURITY_REFUSED)

    def completed(self) -> None:
        self._do(Event.COMPLETED)

    def deregistered(self) -> None:
        self._do(Event.DEREGISTERED)

    def closed(self) -> None:
        """The connection is gone: so is what was under way on it."""
        self._stop_timer()
        self._forget_candidate()
        self.state = State.CLOSED

    # ---- actions

    def _do(self, event: Event) -> None:
        self.state, action = step(self.state, event)
        if action is Action.IGNORE:
            self._counters.inc(f"n1.ignored.{event.name.lower()}")
            return
        if action is not Action.REPEAT:
            self._stop_timer()
        match action:
            case Action.CHALLENGE:
                self._send_repeatedly(self._challenge)
            case Action.RESYNCHRONISE:
                assert self.candidate is not None
                self._counters.inc("n1.resynchronised")
                self.candidate.vector = self._vector(self.candidate.subscriber)
                self._send_repeatedly(self._challenge)
            case Action.ASK_IDENTITY:
                self._send_repeatedly(lambda: self._plain(IdentityRequest.suci().encode()))
            case Action.COMMAND_SECURITY:
                self._make_security()
                self._send_repeatedly(self._command_security)
            case Action.ACCEPT:
                self._accept()
            case Action.FINISH:
                self._events.emit("registered", access=self.connection.access)
            case Action.REJECT_AUTHENTICATION:
                self._counters.inc("n1.authentication_failed")
                self._events.emit("authentication_failed", access=self.connection.access)
                self._plain(AuthenticationReject().encode())
                self._forget_candidate()
                self.connection.close()
            case Action.REPEAT:
                assert self._repeat is not None
                self._counters.inc("n1.repeated")
                self._repeat()
            case Action.ABORT:
                self._counters.inc("n1.registration_aborted")
                self._forget_candidate()
                self.connection.close()
            case Action.RELEASE:
                if self.ue is not None:
                    self._host.release(self.connection, self.ue)
                    self.ue = None

    def _vector(self, subscriber: Subscriber) -> AuthenticationVector:
        subscriber.sqn = (subscriber.sqn + SQN_STEP) % SQN_LIMIT
        name = keys.snn(self._plmn.mcc, self._plmn.mnc)
        return authentication_vector(_milenage(subscriber), subscriber.sqn, self._random(16), name)

    def _challenge(self) -> None:
        candidate = self.candidate
        assert candidate is not None
        request = AuthenticationRequest(ngksi=candidate.ksi, abba=keys.ABBA, rand=candidate.vector.rand, autn=candidate.vector.autn)
        self._plain(request.encode())

    def _make_security(self) -> None:
        candidate = self.candidate
        assert candidate is not None
        k_amf = keys.k_amf(candidate.vector.k_seaf, candidate.subscriber.supi, keys.ABBA)
        candidate.secret = self._events.register_secret(Secret(k_amf))
        candidate.security = NasSecurityContext(k_amf, candidate.ksi, Role.AMF)
        ue = self._host.ue(candidate.subscriber.supi)
        if ue is not None:
            ue.registering = True

    def _command_security(self) -> None:
        candidate = self.candidate
        assert candidate is not None and candidate.security is not None
        capability = candidate.request.capability
        assert capability is not None  # `offers` was true
        command = SecurityModeCommand(ciphering=NEA2, integrity=NIA2, ngksi=candidate.ksi, capability=capability, rinmr=True)
        self.connection.send(candidate.security.protect(command.encode(), self.connection.access, Sht.INTEGRITY_NEW))

    def _accept(self) -> None:
        ue = self.ue
        assert ue is not None
        self._host.attach(self.connection, ue)

        def send() -> None:
            accept = RegistrationAccept(
                accesses=frozenset(access for access, c in ue.connections.items() if c.open),
                guti=Guti(self._plmn.mcc, self._plmn.mnc, AMF_REGION, AMF_SET, AMF_POINTER, ue.guti_tmsi),
            )
            self.connection.send(ue.security.protect(accept.encode(), self.connection.access))

        self._send_repeatedly(send)

    def _refuse(self, cause: GmmCause) -> None:
        self._stop_timer()
        self._forget_candidate()
        self._events.emit("registration_rejected", access=self.connection.access, cause=cause.name.lower())
        self._plain(RegistrationReject(cause=cause).encode())
        self.state = State.CLOSED
        self.connection.close()

    def _plain(self, octets: bytes) -> None:
        self.connection.send(octets)

    def _forget_candidate(self) -> None:
        candidate, self.candidate = self.candidate, None
        if candidate is None or candidate.secret is None:
            return  # nobody has authenticated: nothing was marked
        candidate.secret.wipe()
        ue = self._host.ue(candidate.subscriber.supi)
        if ue is not None:
            ue.registering = False

    def _new_ksi(self, held: int) -> int:
        """Another than the UE holds, so that the two contexts cannot be mistaken for each other."""
        return 0 if held == NO_KSI else (held + 1) % NO_KSI

    # ---- the timer of whatever was sent last

    def _send_repeatedly(self, send: Callable[[], None]) -> None:
        self._repeat, self._left = send, REPETITIONS
        send()
        self._start_timer()

    def _start_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(T_N1, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if self._left == 0:
            self._do(Event.GAVE_UP)
            return
        self._left -= 1
        self._do(Event.TIMER)
        if self.state is not State.CLOSED:
            self._start_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _milenage(subscriber: Subscriber) -> Milenage:
    return Milenage(subscriber.k.reveal(), subscriber.opc.reveal())
