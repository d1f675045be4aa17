"""Registration of the UE over one access: what the table's actions do (registration_table.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fiveg import keys
from fiveg.aka import AkaError, SynchFailure, Usim
from fiveg.nas.causes import GmmCause
from fiveg.nas.gmm import (
    ACCESS_BITS,
    NO_KSI,
    SWITCH_OFF,
    AuthenticationFailure,
    AuthenticationRequest,
    AuthenticationResponse,
    DeregistrationRequest,
    GmmMessage,
    GmmStatus,
    IdentityResponse,
    RegistrationAccept,
    RegistrationComplete,
    RegistrationRequest,
    SecurityModeCommand,
    SecurityModeComplete,
    SecurityModeReject,
)
from fiveg.nas.identity import Guti, Suci
from fiveg.nas_security import NasSecurityContext, NasSecurityError, Role, Sht
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from ue.n1_link import N1Link
from ue.registration_table import Action, Event, State, step

CAPABILITY = b"\xa0\x20"
"""5G-EA0, 5G-EA2; 5G-IA2. 5G-IA0 is never offered."""
T3510 = 15.0
PATIENCE = 3.0
"""Instead of T3510 while another access could authenticate: a dead access gives way."""
REFUSAL_PAUSE = 10.0
"""Seconds on this access after the network refused."""


class Timer(Protocol):
    def cancel(self) -> None: ...


After = Callable[[float, Callable[[], None]], Timer]


@dataclass(slots=True)
class Challenge:
    """The last one, and our answer: a repetition is answered alike (TS 24.501 §5.4.1.3.2)."""

    rand: bytes
    autn: bytes
    ngksi: int
    res_star: bytes = field(repr=False)
    k_amf: Secret = field(repr=False)


class RegistrationHost(Protocol):
    """What is common to all accesses."""

    security: NasSecurityContext | None
    guti: Guti | None
    usim: Usim
    supi: str
    snn: str
    suci: Suci

    def turn(self, registration: Registration) -> None: ...
    def turn_over(self, registration: Registration) -> None: ...
    def may_authenticate(self, registration: Registration) -> bool: ...
    def others_wait(self, registration: Registration) -> bool: ...
    def adopt(self, registration: Registration, security: NasSecurityContext, k_amf: Secret) -> None: ...
    def accepted(self, registration: Registration, guti: Guti | None) -> None: ...


class Registration:
    def __init__(self, link: N1Link, host: RegistrationHost, events: Events, counters: Counters, after: After) -> None:
        self.link, self._host, self._events, self._counters, self._after = link, host, events, counters, after
        self.state = State.OFFLINE
        self.heard_at = 0.0
        self.context: NasSecurityContext | None = None
        """what this access was registered with"""
        self._request: RegistrationRequest | None = None
        self._challenge: Challenge | None = None
        self._timer: Timer | None = None

    # ---- events

    def connected(self) -> None:
        self._do(Event.CONNECTED)

    def lost(self) -> None:
        self._do(Event.LOST)

    def turn(self) -> None:
        self._do(Event.TURN)

    def common_context(self) -> None:
        self._do(Event.CONTEXT)

    def identity_asked(self) -> None:
        if self._free_to_authenticate():
            self._do(Event.IDENTITY_ASKED)

    def challenged(self, message: AuthenticationRequest) -> None:
        if self._free_to_authenticate():
            self._do(Event.CHALLENGE, message)

    def commanded(self, pdu: bytes, message: SecurityModeCommand) -> None:
        self._do(Event.COMMAND, pdu, message)

    def accepted(self, message: RegistrationAccept) -> None:
        self._do(Event.ACCEPTED, message)

    def rejected(self, cause: int) -> None:
        self._events.emit("registration_rejected", access=self.link.name, cause=cause)
        self.link.pause = REFUSAL_PAUSE
        self._do(Event.REJECTED)

    def deregistered(self) -> None:
        self._events.emit("deregistered", access=self.link.name)
        self._do(Event.DEREGISTERED)

    def _free_to_authenticate(self) -> bool:
        """While another access authenticates, this one gives its connection up and asks again with the new context."""
        if self._host.may_authenticate(self):
            return True
        self._counters.inc("n1.gave_way")
        self.link.abort()
        return False

    # ---- actions

    def _do(self, event: Event, *arguments: object) -> None:
        self.state, action = step(self.state, event)
        match action:
            case Action.IGNORE:
                self._counters.inc(f"n1.ignored.{event.name.lower()}")
            case Action.ASK_TURN:
                self._host.turn(self)
            case Action.REQUEST_WITH_SUCI:
                self._start()
                self._register(RegistrationRequest(ngksi=NO_KSI, identity=self._host.suci, capability=CAPABILITY), None)
            case Action.REQUEST_WITH_GUTI:
                self._start()
                security, guti = self._host.security, self._host.guti
                assert security is not None and guti is not None
                self.context = security
                request = RegistrationRequest(ngksi=security.ngksi, identity=guti, capability=CAPABILITY)
                self._register(request, security)
            case Action.SEND_IDENTITY:
                self.send_plain(IdentityResponse(identity=self._host.suci))
            case Action.ANSWER_CHALLENGE:
                (message,) = arguments
                assert isinstance(message, AuthenticationRequest)
                self._answer(message)
            case Action.COMPLETE_SECURITY:
                pdu, command = arguments
                assert isinstance(pdu, bytes) and isinstance(command, SecurityModeCommand)
                self._complete_security(pdu, command)
            case Action.COMPLETE:
                (accept,) = arguments
                assert isinstance(accept, RegistrationAccept)
                self._stop()
                self.send_secure(RegistrationComplete())
                self._events.emit("registered", access=self.link.name)
                self._host.turn_over(self)
                self._host.accepted(self, accept.guti)
            case Action.DROP:
                self._stop()
                self.link.abort()
            case Action.END:
                self._stop()
                self._forget()
                self._host.turn_over(self)

    def _register(self, request: RegistrationRequest, security: NasSecurityContext | None) -> None:
        self._request = request
        if security is None:
            self.send_plain(request)
        else:
            self.link.send(security.protect(request.encode(), self.link.access, Sht.INTEGRITY))

    def _answer(self, message: AuthenticationRequest) -> None:
        """TS 24.501 §5.4.1.3.3, .7"""
        if message.rand is None or message.autn is None:
            self.send_plain(GmmStatus(cause=GmmCause.INVALID_MANDATORY_INFORMATION))
            return
        last = self._challenge
        if last is not None and (last.rand, last.autn, last.ngksi) == (message.rand, message.autn, message.ngksi):
            self.send_plain(AuthenticationResponse(res_star=last.res_star))
            return
        try:
            answer = self._host.usim.answer(message.rand, message.autn, self._host.snn)
        except SynchFailure as e:
            self._counters.inc("nas.sqn_not_fresh")
            self.send_plain(AuthenticationFailure(cause=e.cause, auts=e.auts))
            return
        except AkaError as e:
            self._counters.inc("nas.network_not_authentic")
            self._events.emit("authentication_failed", access=self.link.name, cause=e.cause)
            self.link.pause = REFUSAL_PAUSE
            self.send_plain(AuthenticationFailure(cause=e.cause))
            return
        self._forget()
        k_amf = self._events.register_secret(Secret(keys.k_amf(answer.k_seaf, self._host.supi, message.abba)))
        self._challenge = Challenge(message.rand, message.autn, message.ngksi, answer.res_star, k_amf)
        self.send_plain(AuthenticationResponse(res_star=answer.res_star))

    def _complete_security(self, pdu: bytes, command: SecurityModeCommand) -> None:
        """TS 24.501 §5.4.2.3: MAC under the new keys, then that our capabilities came back as we sent them."""
        challenge, name = self._challenge, self.link.access
        if challenge is not None:
            try:
                if command.ngksi != challenge.ngksi:
                    raise NasSecurityError("ngKSI of another context")
                security = NasSecurityContext(
                    challenge.k_amf.reveal(), command.ngksi, Role.UE, ciphering=command.ciphering, integrity=command.integrity
                )
                security.unprotect(pdu, name)
            except NasSecurityError as e:
                self._counters.inc(f"nas.{e.name}")
                self._refuse_security(GmmCause.SECURITY_MODE_REJECTED)
                return
            if command.capability != CAPABILITY:
                self._counters.inc("nas.capability_changed")
                self._refuse_security(GmmCause.UE_SECURITY_CAPABILITIES_MISMATCH)
                return
            self._challenge = None
            self.context = security
            self._host.adopt(self, security, challenge.k_amf)
        elif self._host.security is not None:
            self._host.security.unprotect(pdu, name)  # a repetition: our answer was lost
        current = self._host.security
        if current is None:
            self._counters.inc("nas.no_context")
            return
        complete = SecurityModeComplete(nas_message=self._request)
        self.link.send(current.protect(complete.encode(), name, Sht.CIPHERED_NEW))

    def _refuse_security(self, cause: GmmCause) -> None:
        """The command changes nothing: the challenge stands, a right one may follow (§5.4.2.5)."""
        self._events.emit("security_mode_refused", access=self.link.name, cause=int(cause))
        self.state = State.CHALLENGED
        self.send_plain(SecurityModeReject(cause=cause))

    # ---- sending

    def send_plain(self, message: GmmMessage) -> None:
        self.link.send(message.encode())

    def send_secure(self, message: GmmMessage) -> bool:
        """False: not sent."""
        security = self._host.security
        if security is None:
            return False
        try:
            pdu = security.protect(message.encode(), self.link.access)
        except NasSecurityError as e:  # no COUNT is left: only a new authentication helps
            self._counters.inc(f"nas.{e.name}")
            self.link.abort()
            return False
        return self.link.send(pdu)

    def deregister(self) -> None:
        """Switched off: nobody waits for an answer (§5.5.2.2)."""
        security, guti = self._host.security, self._host.guti
        if self.state is State.REGISTERED and security is not None and guti is not None:
            kind = SWITCH_OFF | ACCESS_BITS[self.link.access]
            self.send_secure(DeregistrationRequest(deregistration_type=kind, ngksi=security.ngksi, identity=guti))

    # ---- the attempt's timer

    def _start(self) -> None:
        self._stop()
        limit = PATIENCE if self._host.others_wait(self) else T3510
        self._timer = self._after(limit, self._expired)

    def another_waits(self) -> None:
        """Another access could do it meanwhile: less patience with this one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._after(PATIENCE, self._expired)

    def _expired(self) -> None:
        self._timer = None
        self._counters.inc("n1.registration_timeout")
        self._do(Event.TIMER)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _forget(self) -> None:
        if self._challenge is not None:
            self._challenge.k_amf.wipe()
            self._challenge = None
