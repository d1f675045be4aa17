"""Which NAS message is accepted when: security first, then the message, then whose it is (TS 24.501 §4.4.4.3).

Before security is on, a connection can only register; afterwards every plain message on it is dropped. What is refused
is counted by its reason and changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from control.amf.n1_server import N1Connection
from control.amf.registration import Registration
from control.amf.registration_table import State
from control.amf.ue_context import UeContext
from fiveg.nas.errors import NasError
from fiveg.nas.gmm import (
    AuthenticationFailure,
    AuthenticationResponse,
    DeregistrationAccept,
    DeregistrationRequest,
    GmmMessage,
    GmmStatus,
    IdentityResponse,
    RegistrationComplete,
    RegistrationRequest,
    SecurityModeComplete,
    SecurityModeReject,
    UlNasTransport,
    decode,
)
from fiveg.nas.identity import Guti
from fiveg.nas_security import NasSecurityContext, NasSecurityError, Sht, WrongMac, header_type, peek

if TYPE_CHECKING:
    from control.amf.amf import Amf

BOTH_ACCESSES = 3
"""in the access type of a de-registration (TS 24.501 §9.11.3.20)"""
SECURE = (State.ACCEPTING, State.REGISTERED)


class N1Messages:
    """Handler of the N1 server; a connection's state is its Registration."""

    def __init__(self, amf: Amf) -> None:
        self._amf = amf
        self._counters = amf.counters

    def connected(self, connection: N1Connection) -> None:
        amf = self._amf
        connection.state = Registration(connection, amf, amf.config.plmn, amf.events, amf.counters, amf.random)

    def lost(self, connection: N1Connection) -> None:
        registration: Registration = connection.state
        registration.closed()
        if registration.ue is not None:
            self._amf.lost(registration.ue)

    def received(self, connection: N1Connection, pdu: bytes) -> None:
        registration: Registration = connection.state
        try:
            sht = header_type(pdu)
            _BY_HEADER[sht](self, connection, registration, pdu)
        except NasSecurityError as e:
            self._counters.inc(f"nas.{e.name}")
        except NasError as e:
            self._counters.inc("nas.malformed")
            with contextlib.suppress(NasSecurityError):  # no COUNT is left to say it with
                self._status(connection, registration, e)

    def _status(self, connection: N1Connection, registration: Registration, error: NasError) -> None:
        """5GMM STATUS says what was wrong (§5.4.6); protected once there is security."""
        octets = GmmStatus(cause=error.cause).encode()
        if registration.state in SECURE and registration.ue is not None:
            octets = registration.ue.security.protect(octets, connection.access)
        connection.send(octets)

    # ---- by security header type

    def _plain(self, connection: N1Connection, registration: Registration, pdu: bytes) -> None:
        if registration.state in SECURE:
            self._counters.inc("nas.plain_after_security")
            return
        match decode(pdu):
            case RegistrationRequest() as message:
                registration.requested(message, None)
            case IdentityResponse() as message:
                registration.identity(message.identity)
            case AuthenticationResponse() as message:
                registration.authentication_response(message)
            case AuthenticationFailure() as message:
                registration.authentication_failure(message)
            case SecurityModeReject():
                registration.security_mode_reject()
            case _:
                self._counters.inc("nas.plain_not_allowed")

    def _integrity(self, connection: N1Connection, registration: Registration, pdu: bytes) -> None:
        """An initial message with an existing context: which one, its 5G-GUTI says (§4.4.6)."""
        message = decode(peek(pdu))
        if not isinstance(message, RegistrationRequest):
            self._counters.inc("nas.unexpected_initial_message")
            return
        ue = self._amf.by_tmsi(message.identity.tmsi) if isinstance(message.identity, Guti) else None
        if ue is not None:
            try:
                ue.security.unprotect(pdu, connection.access)
            except WrongMac:
                self._counters.inc("nas.wrong_mac")
                ue = None
        if ue is None and registration.state in SECURE:
            return  # somebody else's words on a connection that is secure
        if ue is not None and ue.security.exhausting:  # not with these keys any more
            self._counters.inc("nas.count_exhausted")
            ue = None
        if ue is not None:
            self._amf.heard(connection, ue)
        registration.requested(message, ue)

    def _new_context(self, connection: N1Connection, registration: Registration, pdu: bytes) -> None:
        """SECURITY MODE COMPLETE: under the candidate's keys (or the UE's, when it is a repetition)."""
        security: NasSecurityContext | None = None
        if registration.candidate is not None and registration.candidate.security is not None:
            security = registration.candidate.security
        elif registration.ue is not None:
            security = registration.ue.security
        if security is None:
            self._counters.inc("nas.no_context")
            return
        message = decode(security.unprotect(pdu, connection.access).plain)
        if isinstance(message, SecurityModeComplete):
            connection.heard_at = self._amf.clock()
            registration.security_mode_complete(message)

    def _ciphered(self, connection: N1Connection, registration: Registration, pdu: bytes) -> None:
        ue = registration.ue
        if ue is None or registration.state not in SECURE:
            self._counters.inc("nas.no_context")
            return
        opened = ue.security.unprotect(pdu, connection.access)
        if ue.security.exhausting:  # the UE comes back with its 5G-GUTI, and is authenticated anew
            self._counters.inc("nas.count_exhausted")
            connection.close()
            return
        self._amf.heard(connection, ue)
        self._secured(connection, registration, ue, decode(opened.plain))

    def _never(self, connection: N1Connection, registration: Registration, pdu: bytes) -> None:
        self._counters.inc("nas.unexpected_header_type")

    # ---- by message, once it is verified and deciphered

    def _secured(self, connection: N1Connection, registration: Registration, ue: UeContext, message: GmmMessage) -> None:
        match message:
            case RegistrationComplete():
                registration.completed()
            case UlNasTransport():
                if registration.state is not State.REGISTERED:
                    self._counters.inc("nas.not_registered")
                    return
                self._amf.transport.uplink(ue, connection.access, message)
            case RegistrationRequest():
                registration.requested(message, ue)
            case DeregistrationRequest():
                if not message.switch_off:
                    connection.send(ue.security.protect(DeregistrationAccept().encode(), connection.access))
                if message.deregistration_type & BOTH_ACCESSES == BOTH_ACCESSES:
                    self._amf.leave_elsewhere(connection, ue)
                registration.deregistered()
            case GmmStatus():
                self._counters.inc("nas.status_received")
            case _:
                self._counters.inc("nas.unexpected_message")


_BY_HEADER: dict[Sht, Callable[[N1Messages, N1Connection, Registration, bytes], None]] = {
    Sht.PLAIN: N1Messages._plain,
    Sht.INTEGRITY: N1Messages._integrity,
    Sht.CIPHERED: N1Messages._ciphered,
    Sht.INTEGRITY_NEW: N1Messages._never,
    Sht.CIPHERED_NEW: N1Messages._new_context,
}
