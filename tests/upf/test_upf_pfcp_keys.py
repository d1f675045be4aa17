"""Keys over N4: delivered once, used once, asked for in measure (R-137, R-141)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from upf_rig import (
    CP_SEID,
    KEY,
    SMF,
    UP_RECOVERY,
    Rig,
    downlink,
    establishment,
    key_ie,
)

from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp import values as v
from fiveg.pfcp.codes import (
    Cause,
    IeType,
    KeyEvent,
    KeyFlags,
    KeyReason,
)
from fiveg.pfcp.keywrap import N4KeyWrap
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyReport, MpquicKeyRequest
from upf.key_request import BACKOFF_LONGEST, KEY_WAIT
from upf.pfcp_keys import LIFETIME_LEAD
from upf.session import Session


def test_key_is_installed_and_reported() -> None:
    rig = Rig()
    session = rig.establish()
    answer = rig.modify(session, key=key_ie(session))
    assert answer.key_report == MpquicKeyReport(KeyEvent.INSTALLED, 1)
    assert session.keys.next is not None and session.keys.next.key.reveal() == KEY
    (event,) = rig.events.of("key_installed")
    assert event["generation"] == 1 and len(event["fingerprint"]) == 8
    assert KEY.hex() not in str(rig.events.items)


def test_flipped_bit_in_the_wrapped_key_is_refused_and_the_key_in_force_stays() -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session))
    held = session.keys.next
    good = key_ie(session, 2, bytes(32))
    for bit in range(0, 320, 7):
        changed = bytearray(good.wrapped)
        changed[bit // 8] ^= 1 << bit % 8
        answer = rig.modify(session, key=replace(good, wrapped=bytes(changed)))
        assert (answer.cause, answer.offending_ie) == (Cause.MANDATORY_IE_INCORRECT, IeType.MPQUIC_KEY)
        assert answer.key_report == MpquicKeyReport(KeyEvent.UNWRAP_FAILED, 2)
    assert session.keys.next is held and session.keys.highest == 1
    assert rig.counters.get("key.refused.unwrap_failed") == 46
    assert rig.modify(session, key=good).cause is Cause.ACCEPTED


def test_key_wrapped_for_another_association_session_or_generation_is_refused() -> None:
    rig = Rig()
    session = rig.establish()
    ours = N4KeyWrap(b"\x11" * 32, 0xE9A1B2C3, UP_RECOVERY, session.seid)
    for wrap, generation in (
        (replace(ours, k_n4=bytes(32)), 1),
        (replace(ours, cp_recovery=1), 1),
        (replace(ours, up_recovery=1), 1),
        (replace(ours, up_seid=session.seid + 1), 1),
        (ours, 2),
    ):
        answer = rig.modify(session, key=MpquicKey(1, 3600, bytes(8), wrap.wrap(KEY, generation)))
        assert answer.cause is Cause.MANDATORY_IE_INCORRECT
    assert session.keys.next is None and rig.datapath.installed == []


def test_replayed_and_older_deliveries_are_refused() -> None:
    rig = Rig()
    session = rig.establish()
    first = key_ie(session, 1)
    rig.modify(session, key=first)
    rig.modify(session, key=key_ie(session, 5, bytes(32)))
    for old in (first, key_ie(session, 5, bytes(32)), key_ie(session, 4)):
        answer = rig.modify(session, key=old)
        assert (answer.cause, answer.offending_ie) == (Cause.MANDATORY_IE_INCORRECT, IeType.MPQUIC_KEY)
    assert session.keys.next is not None and session.keys.next.generation == 5
    assert rig.counters.get("key.refused.stale_generation") == 3


def test_retransmitted_delivery_is_answered_from_the_cache_and_done_once() -> None:
    rig = Rig()
    session = rig.establish()
    data = m.encode(m.SessionModificationRequest(key=key_ie(session)), 4242, session.seid)
    first = rig.raw(data)
    assert rig.raw(data) == first and len(first) == 1
    assert rig.datapath.installed == [1]


def test_key_with_a_wrong_rule_is_not_taken() -> None:
    rig = Rig()
    session = rig.establish()
    answer = rig.modify(session, key=key_ie(session), remove_pdrs=(r.RemovePdr(pdr_id=99),))
    assert answer.cause is Cause.RULE_FAILURE
    assert session.keys.next is None and rig.datapath.installed == []


def test_wrong_key_with_good_rules_applies_neither() -> None:
    rig = Rig()
    session = rig.establish()
    before = session.rules
    wrong = replace(key_ie(session), wrapped=bytes(40))
    answer = rig.modify(session, key=wrong, update_pdrs=(r.UpdatePdr(pdr_id=3, precedence=7),))
    assert answer.cause is Cause.MANDATORY_IE_INCORRECT and session.rules is before


def use(rig: Rig, session: Session) -> list[m.Message]:
    """A connection is made from the waiting key; what the UPF reports of it."""
    assert session.keys.next is not None
    slot = session.keys.spend(session.keys.next.identity)
    assert slot is not None
    rig.agent.keys.used(session, slot, rig.now)
    return rig.settle()


def reports(sent: list[tuple[m.Header, m.Message]]) -> list[m.SessionReportRequest]:
    return [message for _, message in sent if isinstance(message, m.SessionReportRequest)]


def test_used_key_is_wiped_and_reported() -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session))
    (report,) = use(rig, session)
    assert isinstance(report, m.SessionReportRequest)
    assert [k.event for k in report.key_reports] == [KeyEvent.IN_USE, KeyEvent.SPENT]
    assert session.keys.current is not None and len(session.keys.current.key) == 0


def test_revocation_and_immediate_end_close_the_connection() -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session))
    use(rig, session)
    rig.modify(session, key=key_ie(session, 2, bytes(32), flags=KeyFlags.END_OLD_NOW))
    assert rig.datapath.ended == [1]
    rig.modify(session, key=MpquicKey(2, 60, bytes(8), b"", flags=KeyFlags.REVOKE))
    assert session.keys.next is None
    assert rig.modify(session, key=key_ie(session, 2, bytes(32))).cause is Cause.MANDATORY_IE_INCORRECT


def test_silent_smf_is_asked_again_ever_more_slowly() -> None:
    rig = Rig()
    rig.silent = True
    rig.establish()
    asked: list[float] = []
    for _ in range(4000):
        rig.now += 0.25
        if rig.agent.deadline() is not None:
            rig.agent.advance(rig.now)
        asked += [rig.now for e in rig.events.items if e[0] == "key_requested"][:1]
        rig.events.items.clear()
        rig.take()
    gaps = [b - a for a, b in pairwise(asked)]
    assert gaps == sorted(gaps) and len(asked) < 25
    assert gaps[-1] >= BACKOFF_LONGEST


def test_accepted_request_without_a_key_is_repeated_after_the_wait() -> None:
    rig = Rig()
    rig.associate()
    sent = rig.raw(m.encode(establishment(), 9, 0))
    (header,) = [h for h, message in sent if isinstance(message, m.SessionReportRequest)]
    rig.raw(m.encode(m.SessionReportResponse(cause=Cause.ACCEPTED), header.sequence, next(iter(rig.agent.sessions))))
    assert reports(rig.advance(KEY_WAIT - 0.1)) == []
    rig.advance(0.2)
    assert len(reports(rig.advance(2.0))) == 1


@pytest.mark.parametrize("cause", ["lifetime", "packets"])
def test_limit_near_asks_for_the_next_key_once(cause: str) -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session, lifetime=600))
    use(rig, session)
    if cause == "lifetime":
        rig.now += 600 - LIFETIME_LEAD
    else:
        rig.datapath.carried = 5000
    rig.now += 1.0
    rig.agent.advance(rig.now)
    sent = [s for s in rig.settle() if isinstance(s, m.SessionReportRequest)]
    assert [s.key_request.reason for s in sent if s.key_request] == [
        KeyReason.LIFETIME if cause == "lifetime" else KeyReason.PACKET_LIMIT
    ]
    assert [k.event for s in sent for k in s.key_reports] == [
        KeyEvent.LIFETIME_NEAR if cause == "lifetime" else KeyEvent.PACKET_LIMIT_NEAR
    ]
    rig.modify(session, key=key_ie(session, 2, bytes(32)))
    assert [s for s in reports(rig.advance(1.5)) if s.key_request] == []


def test_unused_key_expires_and_connection_without_successor_asks_for_one() -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session, lifetime=60))
    slot = session.keys.next
    assert slot is not None
    rig.advance(61)
    assert session.keys.next is None and len(slot.key) == 0
    rig.modify(session, key=key_ie(session, 2, bytes(32)))
    use(rig, session)
    rig.now += 2
    rig.agent.keys.connection_ended(session, 2, rig.now)
    asked = [s.key_request for s in reports(rig.take()) if s.key_request]
    assert asked == [MpquicKeyRequest(KeyReason.RESTART, 2)]
    assert session.keys.current is None


@pytest.mark.parametrize("whose", ["its own, unused", "its own, spent", "another session's"])
def test_a_key_that_was_here_before_is_refused(whose: str) -> None:
    """One key, one connection: the same octets under another generation, or in another session, are no new key."""
    rig = Rig()
    first = rig.establish()
    rig.modify(first, key=key_ie(first))
    if whose == "its own, spent":
        slot = first.keys.next
        assert slot is not None
        first.keys.spend(slot.identity)
    target, generation = first, 2
    if whose == "another session's":
        address = v.UeIpAddress(IPv4Address("10.45.0.3"), destination=True)
        pdr = downlink(3, 1)
        other = establishment(
            cp_f_seid=v.FSeid(CP_SEID + 1, IPv4Address(SMF[0])),
            create_pdrs=(*establishment().create_pdrs[:2], replace(pdr, pdi=replace(pdr.pdi, ue_ip_address=address))),
        )
        target, generation = rig.establish(other), 1
    answer = rig.modify(target, key=key_ie(target, generation))
    assert answer.cause is Cause.MANDATORY_IE_INCORRECT
    assert rig.counters.get("key.refused.key_reused") == 1
    assert rig.events.of("key_refused")[0]["reason"] == "key_reused"
    assert target.keys.highest == (1 if target is first else 0)


def test_revocation_reaches_the_connection_that_drains_and_immediate_end_both() -> None:
    rig = Rig()
    session = rig.establish()
    for generation in (1, 2):
        rig.modify(session, key=key_ie(session, generation, bytes([generation]) * 32))
        slot = session.keys.next
        assert slot is not None
        session.keys.spend(slot.identity)
    rig.modify(session, key=replace(key_ie(session, 1), flags=KeyFlags.REVOKE))
    assert rig.datapath.ended == [1]
    rig.datapath.ended.clear()
    rig.modify(session, key=replace(key_ie(session, 3, b"\x03" * 32), flags=KeyFlags.END_OLD_NOW))
    assert rig.datapath.ended == [2, 1]


def test_a_session_without_a_steered_rule_asks_for_no_key() -> None:
    """A MAR that no downlink rule names steers nothing: there is no address that a key could be for."""
    rig = Rig()
    rig.establish(establishment(create_pdrs=establishment().create_pdrs[:2]))
    assert rig.events.of("key_requested") == []


def test_a_node_that_ends_leaves_no_key() -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session))
    slot = session.keys.next
    assert slot is not None and len(slot.key) == 32
    rig.agent.wipe()
    assert len(slot.key) == 0
