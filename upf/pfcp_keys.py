"""The keys of the sessions over N4: asked for (step 2), delivered (step 6), used, ended. A delivery is checked whole before
anything of its message is applied; a key that has ever been here, in whatever session, is never taken again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fiveg.keys import fingerprint, psk_identity
from fiveg.pfcp.codes import Cause, IeType, KeyEvent, KeyFlags, KeyReason, ReportFlags, ReportType
from fiveg.pfcp.errors import IeIncorrect
from fiveg.pfcp.keywrap import N4KeyWrap, UnwrapFailed
from fiveg.pfcp.message import SessionReportRequest
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyReport, MpquicKeyRequest
from node.counters import Counters
from node.events import Events
from node.secrets import Secret
from upf.errors import KeyRefused
from upf.key_request import Event
from upf.key_slots import KeySlot
from upf.session import Association, Datapath, Session

LIMITS_INTERVAL = 1.0
"""How often lifetimes and packet counts are looked at."""
LIFETIME_LEAD = 30.0
"""Seconds before the end of a key's lifetime at which the next one is asked for."""


@dataclass(frozen=True, slots=True)
class KeyAsked:
    """Token of a session report that asks for a key."""

    seid: int


Send = Callable[[Association, SessionReportRequest, int, float, KeyAsked | None], None]
"""Association, report, the peer's SEID, now, and a token that comes back with the answer."""


class SessionKeys:
    """Of all sessions in `sessions`, which is the agent's. `packets`: after so many a new key is asked for."""

    def __init__(
        self,
        k_n4: Secret,
        recovery: int,
        packets: int,
        sessions: Mapping[int, Session],
        datapath: Datapath,
        events: Events,
        counters: Counters,
        send: Send,
    ) -> None:
        self._k_n4, self._recovery, self._packets = k_n4, recovery, packets
        self._sessions, self._datapath = sessions, datapath
        self._events, self._counters, self._send = events, counters, send
        self._limits_due = 0.0

    # ---- time

    def advance(self, now: float) -> None:
        for session in self._sessions.values():
            if session.request.due is not None and session.request.due <= now and session.request.step(Event.TIMER, now):
                self._ask(session, now)
        if self._limits_due <= now:
            self._limits_due = now + LIMITS_INTERVAL
            for session in self._sessions.values():
                self._limits_check(session, now)

    def deadline(self) -> float | None:
        due = [s.request.due for s in self._sessions.values() if s.request.due is not None]
        return min([*due, self._limits_due]) if self._sessions else None

    # ---- delivery

    def check(self, session: Session, ie: MpquicKey, now: float) -> KeySlot | None:
        """The key of a delivery, ready to be taken, or None for a revocation; nothing of the session changes here."""
        if ie.flags & KeyFlags.REVOKE:
            return None
        wrap = N4KeyWrap(self._k_n4.reveal(), session.association.recovery, self._recovery, session.seid)
        try:
            session.keys.check(ie.generation)
            key = wrap.unwrap(ie.wrapped, ie.generation)
            identity = psk_identity(key)
            if any(s.keys.is_known(identity) for s in self._sessions.values()):
                raise KeyRefused("key_reused", f"the key of generation {ie.generation} has been here before")
        except KeyRefused as error:
            self._refused(session, ie.generation, error.reason)
            raise IeIncorrect(str(error), ie=IeType.MPQUIC_KEY) from None
        except UnwrapFailed as error:
            self._refused(session, ie.generation, "unwrap_failed")
            raise error.within(IeType.MPQUIC_KEY) from None
        secret = self._events.register_secret(Secret(key))
        return KeySlot(ie.generation, secret, identity, fingerprint(key), ie.lifetime, now)

    def _refused(self, session: Session, generation: int, reason: str) -> None:
        self._counters.inc(f"key.refused.{reason}")
        self._events.emit("key_refused", seid=session.name, generation=generation, reason=reason)

    def take(self, session: Session, ie: MpquicKey, slot: KeySlot | None, now: float) -> MpquicKeyReport:
        """What `check` has let through."""
        if slot is None:
            session.keys.revoke(ie.generation)
            self._datapath.keys_changed(session)
            self._datapath.connection_end(session, ie.generation)
            self._events.emit("key_revoked", seid=session.name, generation=ie.generation)
            return MpquicKeyReport(KeyEvent.SPENT, ie.generation)
        session.keys.install(slot)
        session.request.step(Event.KEY, now)
        self._datapath.keys_changed(session)
        self._events.emit("key_installed", seid=session.name, generation=slot.generation, fingerprint=slot.fingerprint)
        if ie.flags & KeyFlags.END_OLD_NOW:
            for old in (session.keys.current, session.keys.previous):
                if old is not None:
                    self._datapath.connection_end(session, old.generation)
        return MpquicKeyReport(KeyEvent.INSTALLED, slot.generation)

    # ---- asking

    def need(self, session: Session, reason: KeyReason, now: float) -> None:
        if session.rules.steered_by_mpquic and session.request.need(reason, now):
            self._ask(session, now)

    def _ask(self, session: Session, now: float) -> None:
        reason = session.request.reason
        report = SessionReportRequest(
            report_type=ReportType.UISR,
            flags=ReportFlags(0),
            key_request=MpquicKeyRequest(reason, session.keys.highest),
        )
        self._events.emit("key_requested", seid=session.name, reason=reason.name.lower())
        self._send(session.association, report, session.cp_seid, now, KeyAsked(session.seid))

    def answered(self, asked: KeyAsked, cause: Cause, now: float) -> None:
        if not cause.accepted:
            self._counters.inc(f"key.request_refused.{cause.name.lower()}")
        self._answer(asked, Event.ACCEPTED if cause.accepted else Event.REFUSED, now)

    def unanswered(self, asked: KeyAsked, now: float) -> None:
        self._answer(asked, Event.REFUSED, now)

    def _answer(self, asked: KeyAsked, event: Event, now: float) -> None:
        session = self._sessions.get(asked.seid)
        if session is not None:
            session.request.step(event, now)

    # ---- what the data path tells

    def used(self, session: Session, slot: KeySlot, now: float) -> None:
        """A connection was made from this key: it is spent (the slots have wiped it)."""
        self._events.emit("key_spent", seid=session.name, generation=slot.generation, fingerprint=slot.fingerprint)
        self._report(
            session,
            now,
            MpquicKeyReport(KeyEvent.IN_USE, slot.generation),
            MpquicKeyReport(KeyEvent.SPENT, slot.generation),
        )

    def connection_ended(self, session: Session, generation: int, now: float) -> None:
        """A connection is over. With no other one, and no key for one, the session needs a key to go on."""
        session.keys.ended(generation)
        if self._sessions.get(session.seid) is not session:
            return
        self._report(session, now, MpquicKeyReport(KeyEvent.CONNECTION_ENDED, generation))
        if session.keys.current is None and session.keys.next is None:
            self.need(session, KeyReason.RESTART, now)

    def _report(self, session: Session, now: float, *reports: MpquicKeyReport) -> None:
        request = SessionReportRequest(report_type=ReportType.UISR, flags=ReportFlags(0), key_reports=reports)
        self._send(session.association, request, session.cp_seid, now, None)

    # ---- limits

    def _limits_check(self, session: Session, now: float) -> None:
        expired = session.keys.expire(now)
        if expired is not None:
            self._datapath.keys_changed(session)
            self._events.emit("key_expired", seid=session.name, generation=expired)
            self._report(session, now, MpquicKeyReport(KeyEvent.SPENT, expired))
            if session.keys.current is None:
                self.need(session, KeyReason.LIFETIME, now)
        current = session.keys.current
        if current is None or session.keys.next is not None or session.lifetime_asked == current.generation:
            return
        if now >= current.expires_at - min(LIFETIME_LEAD, current.lifetime / 2):
            self._limit_near(session, current, KeyReason.LIFETIME, KeyEvent.LIFETIME_NEAR, now)
        elif self._datapath.packets(session) >= self._packets:
            self._limit_near(session, current, KeyReason.PACKET_LIMIT, KeyEvent.PACKET_LIMIT_NEAR, now)

    def _limit_near(self, session: Session, slot: KeySlot, reason: KeyReason, event: KeyEvent, now: float) -> None:
        session.lifetime_asked = slot.generation
        self._report(session, now, MpquicKeyReport(event, slot.generation))
        self.need(session, reason, now)
