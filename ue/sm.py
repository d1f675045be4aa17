"""5GSM: the MA PDU session that the UE asks for, and what the network makes of it (TS 24.501 §6.4; TS 24.193 §5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol

from fiveg.nas.causes import GsmCause
from fiveg.nas.errors import NasError
from fiveg.nas.gmm import PayloadType, RequestType, UlNasTransport
from fiveg.nas.gsm import (
    EstablishmentAccept,
    EstablishmentReject,
    EstablishmentRequest,
    GsmCapability,
    GsmMessage,
    GsmStatus,
    ModificationCommand,
    ModificationCommandReject,
    ModificationComplete,
    ReleaseCommand,
    ReleaseComplete,
    SessionType,
    decode,
)
from node.counters import Counters
from node.events import Events
from ue.atsss_rules import AtsssSetting, setting
from ue.config import SessionConfig
from ue.errors import RuleRefused, SessionRefused
from ue.registration import After, Timer
from ue.sm_table import Action, Event, State, step

T3580 = 16.0
FIRST_REPEAT = 3.0
"""The first look is earlier: an access may have died without a word, then the other one is tried."""
SCHEDULE = (FIRST_REPEAT, T3580, T3580, T3580, T3580)
SECOND_ACCESS_WAIT = 1.0
"""The request waits so long for the other access to register: then one request gives user plane over both."""
TRY_LATER = 2.0
LAST_PTI = 254
SST = 1
SESSION_TYPES = {"IPv4": SessionType.IPV4, "IPv6": SessionType.IPV6, "IPv4v6": SessionType.IPV4V6}


@dataclass(frozen=True, slots=True)
class Session:
    """What the network gave. The IPv6 prefix comes over the session itself (CONNECT-IP)."""

    psi: int
    ipv4: IPv4Address | None
    interface_id: bytes | None
    atsss: AtsssSetting


def usable(address: IPv4Address | IPv6Address) -> bool:
    """Whether it can be a UE's: the TUN takes no other."""
    reserved = isinstance(address, IPv4Address) and address.is_reserved
    special = address.is_multicast or address.is_loopback or address.is_unspecified or address.is_link_local
    return not (reserved or special)


class SmHost(Protocol):
    def send_transport(self, message: UlNasTransport, *, prefer: str | None = None, avoid: str | None = None) -> str | None: ...
    def accesses(self) -> list[str]: ...
    def session_changed(self, session: Session | None) -> None: ...


class SmClient:
    def __init__(
        self, config: SessionConfig, access_count: int, host: SmHost, events: Events, counters: Counters, after: After
    ) -> None:
        self._config, self._access_count, self._host = config, access_count, host
        self._events, self._counters, self._after = events, counters, after
        self.state = State.INACTIVE
        self.session: Session | None = None
        self._pti = 0
        self._last_pti = 0
        self._second_pti: int | None = None
        self._asked_over: set[str] = set()
        self._last_access: str | None = None
        self._timer: Timer | None = None
        self._sent = 0

    @property
    def known(self) -> bool:
        """Asked for or there: a key may overtake the accept on the other access."""
        return self.state is not State.INACTIVE

    # ---- events

    def registered(self, access: str) -> None:
        """Over an access: ask, or ask for its user plane too (TS 24.193 §5.2.1)."""
        if self.state is State.ACTIVE and self.session is not None and access not in self._asked_over:
            self._second_pti = self._next_pti()
            self._send(self._second_pti, prefer=access, avoid=None)
        elif self.state is State.INACTIVE:
            if len(self._host.accesses()) >= self._access_count:
                self._want()
            elif self._timer is None:
                self._timer = self._after(SECOND_ACCESS_WAIT, self._want)

    def context_lost(self) -> None:
        self._asked_over.clear()
        self._do(Event.CONTEXT_LOST)

    def not_forwarded(self, psi: int) -> None:
        """For a session that is there, only the request over the second access has failed."""
        if psi == self._config.id:
            self._do(Event.NOT_FORWARDED)

    def received(self, access: str, psi: int, octets: bytes) -> None:
        try:
            message = decode(octets)
        except NasError as e:
            self._counters.inc("sm.malformed")
            pti = octets[2] if len(octets) > 2 else 0
            cause = next((c for c in GsmCause if c == e.cause), GsmCause.PROTOCOL_ERROR)
            self._answer(access, GsmStatus(pdu_session_id=psi, pti=pti, cause=cause))
            return
        if psi != self._config.id or message.pdu_session_id != psi:
            self._counters.inc("sm.other_session")
            return
        match message:
            case EstablishmentAccept():
                self._accept(access, message)
            case EstablishmentReject():
                self._reject(message)
            case ModificationCommand():
                self._do(Event.MODIFIED, access, message)
            case ReleaseCommand():
                self._answer(access, ReleaseComplete(pdu_session_id=psi, pti=message.pti))
                self._events.emit("pdu_session_released", pdu_session_id=psi, cause=int(message.cause))
                self._do(Event.RELEASED)
            case GsmStatus():
                self._counters.inc("sm.status_received")
            case _:
                self._counters.inc("sm.unexpected_message")

    def _accept(self, access: str, message: EstablishmentAccept) -> None:
        if message.pti != (self._pti if self.state is State.REQUESTED else self._second_pti):
            self._counters.inc("sm.unknown_pti")
            return
        try:
            made = self._session(message)
        except (RuleRefused, SessionRefused) as e:
            self._counters.inc(f"sm.refused.{e.reason}")
            self._events.emit("pdu_session_refused", pdu_session_id=self._config.id, reason=e.reason, text=str(e))
            self._answer(access, GsmStatus(pdu_session_id=message.pdu_session_id, pti=message.pti, cause=GsmCause.PROTOCOL_ERROR))
            if self.state is State.REQUESTED:
                self._do(Event.REJECTED)
            return
        self._do(Event.ACCEPTED, made)

    def _session(self, message: EstablishmentAccept) -> Session:
        address = message.address
        if address is None or (address.ipv4 is None and address.interface_id is None):
            raise SessionRefused("no_address", "the network accepts the session without an address")
        if address.ipv4 is not None and not usable(address.ipv4):
            raise SessionRefused("bad_address", f"the network gives the session {address.ipv4}")
        made = Session(self._config.id, address.ipv4, address.interface_id, setting(message.atsss))
        session = self.session
        if session is not None and (session.ipv4, session.interface_id) != (made.ipv4, made.interface_id):
            # Over the second access the session is the same one (TS 24.193 §5.2.1).
            raise SessionRefused("address_changed", "the network gives another address over the second access")
        return made

    def _reject(self, message: EstablishmentReject) -> None:
        if message.pti == self._second_pti:
            self._second_pti = None
            self._counters.inc("sm.second_access_refused")
        elif message.pti != self._pti:
            self._counters.inc("sm.unknown_pti")
        else:
            self._events.emit("pdu_session_refused", pdu_session_id=self._config.id, reason="network", cause=int(message.cause))
            self._do(Event.REJECTED)

    # ---- actions

    def _want(self) -> None:
        self._stop()
        self._do(Event.WANTED)

    def _do(self, event: Event, *arguments: object) -> None:
        self.state, action = step(self.state, event)
        match action:
            case Action.IGNORE:
                self._counters.inc(f"sm.ignored.{event.name.lower()}")
            case Action.REQUEST:
                self._pti, self._sent = self._next_pti(), 0
                self._last_access = None
                self._events.emit("pdu_session_requested", pdu_session_id=self._config.id)
                self._request()
            case Action.REPEAT:
                self._counters.inc("sm.repeated")
                self._request()
            case Action.ACCEPT:
                (made,) = arguments
                assert isinstance(made, Session)
                self._stop()
                # User plane comes over every access that was registered when the request went out.
                self._asked_over |= set(self._host.accesses())
                self._established(made)
            case Action.ACCEPT_AGAIN:
                (made,) = arguments
                assert isinstance(made, Session)
                self._second_pti = None
                if made != self.session:
                    self._established(made)
            case Action.TRY_LATER:
                self._stop()
                self._timer = self._after(TRY_LATER, self._want)
            case Action.MODIFY:
                access, command = arguments
                assert isinstance(access, str) and isinstance(command, ModificationCommand)
                self._modify(access, command)
            case Action.RELEASE:
                self._stop()
                self.session = None
                self._asked_over.clear()
                self._host.session_changed(None)
                self._timer = self._after(TRY_LATER, self._want)

    def _established(self, made: Session) -> None:
        self.session = made
        self._events.emit(
            "pdu_session_established",
            pdu_session_id=made.psi,
            ipv4=None if made.ipv4 is None else str(made.ipv4),
            rules=[rule.rule_id for rule in made.atsss.steering],
            proxy=f"{made.atsss.proxy.ipv4}:{made.atsss.proxy.port}",
        )
        self._host.session_changed(made)

    def _modify(self, access: str, command: ModificationCommand) -> None:
        """New rules, whole or not at all (TS 24.501 §6.3.2.3, .4)."""
        psi, session = self._config.id, self.session
        assert session is not None
        try:
            changed = session.atsss if command.atsss is None else setting(command.atsss, session.atsss)
        except RuleRefused as e:
            self._counters.inc(f"sm.refused.{e.reason}")
            self._events.emit("rules_refused", pdu_session_id=psi, reason=e.reason, text=str(e))
            cause = GsmCause.REQUEST_REJECTED
            self._answer(access, ModificationCommandReject(pdu_session_id=psi, pti=command.pti, cause=cause))
            return
        self._answer(access, ModificationComplete(pdu_session_id=psi, pti=command.pti))
        if changed is not session.atsss:
            self.session = Session(psi, session.ipv4, session.interface_id, changed)
            self._host.session_changed(self.session)

    def _request(self) -> None:
        self._last_access = self._send(self._pti, prefer=None, avoid=self._last_access)
        self._timer = self._after(SCHEDULE[self._sent], self._expired)
        self._sent += 1

    def _expired(self) -> None:
        self._timer = None
        self._do(Event.TIMER if self._sent < len(SCHEDULE) else Event.GAVE_UP)

    def _send(self, pti: int, *, prefer: str | None, avoid: str | None) -> str | None:
        request = EstablishmentRequest(
            pdu_session_id=self._config.id,
            pti=pti,
            session_type=SESSION_TYPES[self._config.type],
            ssc_mode=1,
            capability=GsmCapability(),
        )
        message = UlNasTransport(
            payload_type=PayloadType.N1_SM,
            payload=request.encode(),
            pdu_session_id=self._config.id,
            request_type=RequestType.MA_PDU,
            snssai=(SST, b""),
            dnn=self._config.dnn,
        )
        access = self._host.send_transport(message, prefer=prefer, avoid=avoid)
        if access is not None:
            self._asked_over.add(access)
        return access

    def _answer(self, access: str, message: GsmMessage) -> None:
        octets = UlNasTransport(payload_type=PayloadType.N1_SM, payload=message.encode(), pdu_session_id=message.pdu_session_id)
        self._host.send_transport(octets, prefer=access)

    def _next_pti(self) -> int:
        self._last_pti = self._last_pti % LAST_PTI + 1
        return self._last_pti

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        self._stop()
