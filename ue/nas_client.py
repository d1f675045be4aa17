"""The UE's NAS: registration over every access in one security context, and NAS transport over whichever access lives.

What the network sends is accepted over either access once it is registered there; security first, then the message, then
whose it is (TS 24.501 §4.4.4.2). What is refused is counted by its reason and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from fiveg import keys
from fiveg.aka import Usim
from fiveg.milenage import Milenage
from fiveg.nas.errors import NasError
from fiveg.nas.gmm import (
    AuthenticationReject,
    AuthenticationRequest,
    DeregistrationAccept,
    DlNasTransport,
    GmmMessage,
    GmmStatus,
    IdentityRequest,
    NetworkDeregistrationAccept,
    NetworkDeregistrationRequest,
    PayloadType,
    RegistrationAccept,
    RegistrationReject,
    SecurityModeCommand,
    UlNasTransport,
    decode,
)
from fiveg.nas.identity import SUCI, Guti, Suci
from fiveg.nas_security import NasSecurityContext, NasSecurityError, Sht, header_type, peek
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from node.subscriber import Subscriber
from ue.config import UeConfig
from ue.n1_link import N1Link
from ue.registration import After, Registration
from ue.registration_table import State

SECURE = (State.SECURED, State.REGISTERED)


class NasUser(Protocol):
    """Who gets what NAS transport brings. `access`: over which it came. Must not raise for what the network sends."""

    def registered(self, access: str) -> None: ...
    def context_changed(self) -> None: ...
    def sm(self, access: str, psi: int, payload: bytes) -> None: ...
    def key(self, access: str, psi: int, payload: bytes, *, key_allowed: bool) -> None: ...
    def not_forwarded(self, kind: int, psi: int) -> None: ...


def _after(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, call)


class NasClient:
    """Handler of the N1 links and host of the registrations."""

    def __init__(
        self,
        config: UeConfig,
        subscriber: Subscriber,
        user: NasUser,
        events: Events,
        counters: Counters,
        clock: Callable[[], float] = time.monotonic,
        after: After = _after,
    ) -> None:
        self._config, self._user, self._events, self._counters, self._clock = config, user, events, counters, clock
        self.supi = subscriber.supi
        self.suci = Suci.of(subscriber.supi, len(config.plmn.mnc))
        self.snn = keys.snn(config.plmn.mcc, config.plmn.mnc)
        self.usim = Usim(Milenage(subscriber.k.reveal(), subscriber.opc.reveal()), subscriber.sqn)
        self.security: NasSecurityContext | None = None
        self.guti: Guti | None = None
        self.k_amf: Secret | None = None
        self.links = [N1Link(access, self, counters) for access in config.accesses]
        self._registrations = {link: Registration(link, self, events, counters, after) for link in self.links}
        self._authenticating: Registration | None = None

    # ---- N1 handler

    def connected(self, link: N1Link) -> None:
        self._registrations[link].connected()

    def lost(self, link: N1Link) -> None:
        self._registrations[link].lost()

    def received(self, link: N1Link, pdu: bytes) -> None:
        registration = self._registrations[link]
        try:
            _BY_HEADER[header_type(pdu)](self, registration, pdu)
        except NasSecurityError as e:
            self._counters.inc(f"nas.{e.name}")
        except NasError as e:
            self._counters.inc("nas.malformed")
            status = GmmStatus(cause=e.cause)
            if registration.state in SECURE:
                registration.send_secure(status)
            else:
                registration.send_plain(status)

    # ---- by security header type

    def _plain(self, registration: Registration, pdu: bytes) -> None:
        if registration.state in SECURE:
            self._counters.inc("nas.plain_after_security")
            return
        match decode(pdu):
            case IdentityRequest(kind=kind) if kind == SUCI:  # nothing else is told to just anybody
                registration.identity_asked()
            case AuthenticationRequest() as message:
                registration.challenged(message)
            case AuthenticationReject():
                registration.rejected(0)
            case RegistrationReject() as message:
                registration.rejected(int(message.cause))
            case DeregistrationAccept() | GmmStatus():
                self._counters.inc("nas.status_received")
            case _:
                self._counters.inc("nas.plain_not_allowed")

    def _new_context(self, registration: Registration, pdu: bytes) -> None:
        message = decode(peek(pdu))
        if not isinstance(message, SecurityModeCommand):
            self._counters.inc("nas.unexpected_header_type")
            return
        registration.commanded(pdu, message)

    def _ciphered(self, registration: Registration, pdu: bytes) -> None:
        security = self.security
        if security is None:
            self._counters.inc("nas.no_context")
            return
        opened = security.unprotect(pdu, registration.link.access)
        registration.heard_at = self._clock()
        self._secured(registration, security, decode(opened.plain))

    def _never(self, registration: Registration, pdu: bytes) -> None:
        self._counters.inc("nas.unexpected_header_type")

    # ---- by message, once it is verified and deciphered

    def _secured(self, registration: Registration, security: NasSecurityContext, message: GmmMessage) -> None:
        match message:
            case RegistrationAccept():
                registration.accepted(message)
            case DlNasTransport():
                self._transport(registration, security, message)
            case NetworkDeregistrationRequest():
                registration.send_secure(NetworkDeregistrationAccept())
                registration.deregistered()
            case DeregistrationAccept() | GmmStatus():
                self._counters.inc("nas.status_received")
            case RegistrationReject():
                registration.rejected(int(message.cause))
            case _:
                self._counters.inc("nas.unexpected_message")

    def _transport(self, registration: Registration, security: NasSecurityContext, message: DlNasTransport) -> None:
        if registration.state is not State.REGISTERED:
            self._counters.inc("nas.not_registered")
            return
        access, psi = registration.link.access, message.pdu_session_id
        if psi is None:
            self._counters.inc("nas.bad_pdu_session_id")
        elif message.cause is not None:
            self._counters.inc("nas.payload_not_forwarded")
            self._user.not_forwarded(int(message.payload_type), psi)
        elif message.payload_type == PayloadType.N1_SM:
            self._user.sm(access, psi, message.payload)
        elif message.payload_type == PayloadType.MPQUIC_KEY:
            self._user.key(access, psi, message.payload, key_allowed=security.key_delivery_allowed)
        else:
            self._counters.inc("nas.payload_type_unknown")

    # ---- host of the registrations

    def turn(self, registration: Registration) -> None:
        """A connected access: it registers with the common context, or authenticates if nobody else does."""
        if self._authenticating not in (None, registration):
            assert self._authenticating is not None
            self._authenticating.another_waits()
        elif self.security is not None and self.guti is not None and not self.security.exhausting:
            registration.common_context()
        elif registration.state is not State.WAITING:
            registration.link.abort()  # registered with a context that is no more, and no GUTI to move with: anew
        else:
            self._authenticating = registration
            registration.turn()

    def turn_over(self, registration: Registration) -> None:
        if self._authenticating is not registration:
            return
        self._authenticating = None
        for other in self._registrations.values():
            if other is not registration and other.state is State.WAITING and registration.state is not State.REGISTERED:
                self.turn(other)

    def may_authenticate(self, registration: Registration) -> bool:
        if self._authenticating not in (None, registration):
            return False
        self._authenticating = registration
        return True

    def others_wait(self, registration: Registration) -> bool:
        return any(r is not registration and r.state is State.WAITING for r in self._registrations.values())

    def adopt(self, registration: Registration, security: NasSecurityContext, k_amf: Secret) -> None:
        """Security mode is on: the context before, and everything that hung on it at the AMF, is over."""
        self._events.emit("security_mode_done", access=registration.link.name)
        renewed = self.security is not None
        if self.k_amf is not None:
            self.k_amf.wipe()
        self.security, self.k_amf, self.guti = security, k_amf, None
        if self._config.nas_keys is not None:
            write_nas_keys(self._config.nas_keys, "ue", security)
        if renewed:
            self._user.context_changed()

    def accepted(self, registration: Registration, guti: Guti | None) -> None:
        if guti is not None:
            self.guti = guti
        self._user.registered(registration.link.access)
        for other in self._registrations.values():
            stale = other.state is State.REGISTERED and other.context is not self.security
            if other is not registration and (other.state is State.WAITING or stale):
                self.turn(other)

    # ---- use

    def accesses(self) -> list[str]:
        """Those registered and connected now, where the network was heard last first."""
        return [r.link.access for r in self._usable(None, None)]

    def send(self, message: UlNasTransport, *, prefer: str | None = None, avoid: str | None = None) -> str | None:
        """Ciphered, over an access that lives; which. None: there is none."""
        for registration in self._usable(prefer, avoid):
            if registration.send_secure(message):
                return registration.link.access
        return None

    def _usable(self, prefer: str | None, avoid: str | None) -> list[Registration]:
        found = [r for r in self._registrations.values() if r.state is State.REGISTERED and r.link.open]
        return sorted(found, key=lambda r: (r.link.access == avoid, r.link.access != prefer, -r.heard_at))

    def deregister(self) -> None:
        for registration in self._registrations.values():
            registration.deregister()

    def wipe(self) -> None:
        if self.k_amf is not None:
            self.k_amf.wipe()
        self.security = None

    def status(self) -> dict[str, str]:
        return {link.name: r.state.name.lower() for link, r in self._registrations.items()}


def write_nas_keys(path: Path, name: str, security: NasSecurityContext) -> None:
    """For captures: one JSON line per security context (docs/interfaces.md, captures)."""
    line = json.dumps(
        {
            "ue": name,
            "k_nas_enc": keys.nas_key(security.k_amf, keys.NAS_ENCRYPTION, security.ciphering).hex(),
            "k_nas_int": keys.nas_key(security.k_amf, keys.NAS_INTEGRITY, security.integrity).hex(),
        }
    )
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(line + "\n")


_BY_HEADER: dict[Sht, Callable[[NasClient, Registration, bytes], None]] = {
    Sht.PLAIN: NasClient._plain,
    Sht.INTEGRITY: NasClient._never,
    Sht.CIPHERED: NasClient._ciphered,
    Sht.INTEGRITY_NEW: NasClient._new_context,
    Sht.CIPHERED_NEW: NasClient._never,
}
