"""The UPF's PFCP agent: what it refuses leaves no trace, and a session belongs to who made it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise

import pytest
from upf_rig import (
    CP_SEID,
    KEY,
    SMF,
    STRANGER,
    UP_RECOVERY,
    Rig,
    balancing,
    downlink,
    establishment,
    far,
    key_ie,
    standby,
    uplink,
)

from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp import values as v
from fiveg.pfcp.codec import ie_encode, ies_split
from fiveg.pfcp.codes import (
    ApplyAction,
    Cause,
    DestinationInterface,
    IeType,
    InterfaceType,
    KeyEvent,
    KeyFlags,
    KeyReason,
    MpquicControl,
    Priority,
    ReportType,
    RuleKind,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    TransportMode,
)
from fiveg.pfcp.keywrap import N4KeyWrap
from fiveg.pfcp.mpquic_ies import MpquicKey, MpquicKeyReport, MpquicKeyRequest
from upf.key_request import BACKOFF_LONGEST, KEY_WAIT
from upf.pfcp_agent import LIFETIME_LEAD, MAX_ASSOCIATIONS
from upf.session import Session


def test_association_tells_features_and_capability() -> None:
    rig = Rig()
    answer = rig.associate()
    assert isinstance(answer, m.AssociationSetupResponse)
    assert answer.cause is Cause.ACCEPTED and answer.recovery_time_stamp == UP_RECOVERY
    assert answer.key_capability is not None and answer.up_features
    assert rig.events.names() == ["association_up"]


def test_session_is_made_with_proxy_address_and_a_key_is_asked_for() -> None:
    rig = Rig()
    rig.associate()
    answer = rig.ask(establishment(), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert answer.atsss_parameters is not None and answer.atsss_parameters.mpquic is not None
    (proxy,) = answer.atsss_parameters.mpquic.addresses
    assert (proxy.ipv4, proxy.port) == (IPv4Address("10.100.0.1"), 4433)
    assert answer.atsss_parameters.mpquic.link_specific.ipv4_non_3gpp == IPv4Address("10.2.0.2")
    (report,) = rig.requests
    assert isinstance(report, m.SessionReportRequest)
    assert report.key_request == MpquicKeyRequest(KeyReason.INITIAL, 0)
    (steering,) = next(iter(rig.datapath.sessions.values()))
    assert steering.weights == {"3gpp": 30, "non-3gpp": 70}


def test_weights_and_standby_order_reach_the_data_path() -> None:
    rig = Rig()
    session = rig.establish()
    near = r.UpdateAccessForwarding(weight=60)
    other = r.UpdateAccessForwarding(weight=40)
    change = r.UpdateMar(mar_id=1, update_access_3gpp=near, update_access_non_3gpp=other)
    assert rig.modify(session, update_mars=(change,)).cause is Cause.ACCEPTED
    assert rig.datapath.sessions[session.seid][0].weights == {"3gpp": 60, "non-3gpp": 40}
    answer = rig.modify(
        session,
        create_mars=(standby(2),),
        create_pdrs=(downlink(4, 2, "permit out 6 from 10.99.0.0/16 80 to assigned", precedence=10),),
    )
    assert answer.cause is Cause.ACCEPTED
    first, second = rig.datapath.sessions[session.seid]
    assert (first.rule_id, first.active, first.standby, first.match.port) == (4, "non-3gpp", "3gpp", (80, 80))
    assert second.rule_id == 3


def test_access_that_drops_leaves_the_steering() -> None:
    rig = Rig()
    session = rig.establish()
    drop = r.UpdateFar(far_id=3, apply_action=ApplyAction.DROP)
    assert rig.modify(session, update_fars=(drop,)).cause is Cause.ACCEPTED
    (steering,) = rig.datapath.sessions[session.seid]
    assert (steering.active, steering.standby, steering.weights) == ("3gpp", None, None)


# ---- half-wrong rules (R-132, R-133, R-135)


def mar(**change: object) -> r.CreateMar:
    return replace(balancing(1), **change)  # type: ignore[arg-type]


UPLINKS = (uplink(1, "3gpp", InterfaceType.N3_3GPP), uplink(2, "wifi", InterfaceType.N3_UNTRUSTED_NON_3GPP))
PDI = downlink(3, 1).pdi

WRONG = {
    "weights do not sum to 100": ({"create_mars": (balancing(1, 30, 71),)}, (RuleKind.MAR, 1)),
    "smallest delay": ({"create_mars": (mar(mode=SteeringMode.SMALLEST_DELAY),)}, (RuleKind.MAR, 1)),
    "redundant": ({"create_mars": (mar(mode=SteeringMode.REDUNDANT),)}, (RuleKind.MAR, 1)),
    "MPTCP": ({"create_mars": (mar(functionality=SteeringFunctionality.MPTCP),)}, (RuleKind.MAR, 1)),
    "stream mode": ({"create_mars": (mar(transport_mode=TransportMode.STREAM),)}, (RuleKind.MAR, 1)),
    "thresholds": ({"create_mars": (mar(thresholds=v.Thresholds(100)),)}, (RuleKind.MAR, 1)),
    "FAR of a MAR is missing": (
        {"create_mars": (mar(access_3gpp=r.AccessForwarding(far_id=9, weight=30)),)},
        (RuleKind.MAR, 1),
    ),
    "MAR leads to the other access": (
        {"create_mars": (mar(access_3gpp=r.AccessForwarding(far_id=3, weight=30)),)},
        (RuleKind.MAR, 1),
    ),
    "two active accesses": (
        {
            "create_mars": (
                replace(standby(1), access_3gpp=r.AccessForwarding(far_id=2, priority=Priority.ACTIVE)),
            )
        },
        (RuleKind.MAR, 1),
    ),
    "MAR of a PDR is missing": ({"create_pdrs": (*UPLINKS, downlink(3, 9))}, (RuleKind.PDR, 3)),
    "FAR of a PDR is missing": (
        {"create_pdrs": (replace(UPLINKS[0], far_id=9), UPLINKS[1], downlink(3, 1))},
        (RuleKind.PDR, 1),
    ),
    "QER of a PDR is missing": (
        {"create_pdrs": (replace(UPLINKS[0], qer_ids=(1,)), downlink(3, 1))},
        (RuleKind.PDR, 1),
    ),
    "unknown access": (
        {"create_pdrs": (uplink(1, "lte", InterfaceType.N3_3GPP), downlink(3, 1))},
        (RuleKind.PDR, 1),
    ),
    "interface type of the other access": (
        {"create_pdrs": (uplink(1, "3gpp", InterfaceType.N3_UNTRUSTED_NON_3GPP), downlink(3, 1))},
        (RuleKind.PDR, 1),
    ),
    "unparsable SDF": ({"create_pdrs": (*UPLINKS, downlink(3, 1, "permit everything"))}, (RuleKind.PDR, 3)),
    "SDF on flow label": (
        {"create_pdrs": (replace(downlink(3, 1), pdi=replace(PDI, sdf_filters=(v.SdfFilter(flow_label=1),))),)},
        (RuleKind.PDR, 3),
    ),
    "source interface CP": (
        {"create_pdrs": (replace(UPLINKS[0], pdi=r.Pdi(source_interface=SourceInterface.CP_FUNCTION)),)},
        (RuleKind.PDR, 1),
    ),
    "UE address as source": (
        {
            "create_pdrs": (
                replace(downlink(3, 1), pdi=replace(PDI, ue_ip_address=v.UeIpAddress(IPv4Address("10.45.0.2")))),
            )
        },
        (RuleKind.PDR, 3),
    ),
    "same PDR twice": ({"create_pdrs": (*UPLINKS, downlink(3, 1), downlink(3, 1))}, (RuleKind.PDR, 3)),
    "buffering": (
        {
            "create_fars": (
                *establishment().create_fars,
                replace(far(7, DestinationInterface.N6_LAN), apply_action=ApplyAction.BUFF),
            )
        },
        (RuleKind.FAR, 7),
    ),
    "destination CP": (
        {"create_fars": (*establishment().create_fars, far(7, DestinationInterface.CP_FUNCTION))},
        (RuleKind.FAR, 7),
    ),
    "closed gate": (
        {"create_qers": (r.CreateQer(qer_id=5, gate_status=v.GateStatus(True, False)),)},
        (RuleKind.QER, 5),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rule_is_refused_at_set_up_and_leaves_no_trace(name: str) -> None:
    change, rule = WRONG[name]
    rig = Rig()
    rig.associate()
    answer = rig.ask(establishment(**change), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert answer.cause is Cause.RULE_FAILURE and answer.up_f_seid is None
    assert answer.failed_rule == v.FailedRule(*rule)
    assert rig.agent.sessions == {} and rig.datapath.sessions == {} and rig.requests == []


def change_ie(octets: bytes, path: tuple[IeType, ...], value: bytes) -> bytes:
    """A message body with the first IE at this path given another value."""
    out, done = b"", False
    for raw in ies_split(octets):
        new = raw.value
        if raw.type == path[0] and not done:
            new = value if len(path) == 1 else change_ie(raw.value, path[1:], value)
            done = True
        out += ie_encode(raw.type, new)
    return out


@pytest.mark.parametrize(
    ("path", "value", "cause"),
    [
        ((IeType.CREATE_MAR, IeType.STEERING_MODE), b"\x0f", Cause.MANDATORY_IE_INCORRECT),
        ((IeType.CREATE_MAR, IeType.STEERING_FUNCTIONALITY), b"\x09", Cause.MANDATORY_IE_INCORRECT),
        ((IeType.CREATE_MAR, IeType.ACCESS_3GPP, IeType.WEIGHT), b"\x65", Cause.MANDATORY_IE_INCORRECT),
        ((IeType.CREATE_MAR, IeType.ACCESS_3GPP, IeType.WEIGHT), b"", Cause.INVALID_LENGTH),
        ((IeType.CREATE_PDR, IeType.PDI, IeType.SOURCE_INTERFACE), b"\x99", Cause.MANDATORY_IE_INCORRECT),
        ((IeType.CREATE_FAR, IeType.APPLY_ACTION), b"\x03", Cause.MANDATORY_IE_INCORRECT),
        ((IeType.CREATE_MAR,), b"", Cause.MANDATORY_IE_MISSING),
    ],
)
def test_unknown_enumeration_or_bad_length_is_refused_at_set_up(
    path: tuple[IeType, ...], value: bytes, cause: Cause
) -> None:
    rig = Rig()
    rig.associate()
    data = m.encode(establishment(), 77, 0)
    body = change_ie(data[16:], path, value)
    data = data[:2] + (12 + len(body)).to_bytes(2, "big") + data[4:16] + body
    ((_, answer),) = rig.raw(data)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert answer.cause is cause
    assert rig.agent.sessions == {} and rig.datapath.sessions == {}


MODIFICATIONS: dict[str, tuple[dict[str, object], tuple[RuleKind, int]]] = {
    "remove unknown PDR": ({"remove_pdrs": (r.RemovePdr(pdr_id=9),)}, (RuleKind.PDR, 9)),
    "remove unknown FAR": ({"remove_fars": (r.RemoveFar(far_id=9),)}, (RuleKind.FAR, 9)),
    "remove unknown QER": ({"remove_qers": (r.RemoveQer(qer_id=9),)}, (RuleKind.QER, 9)),
    "remove unknown MAR": ({"remove_mars": (r.RemoveMar(mar_id=9),)}, (RuleKind.MAR, 9)),
    "update unknown PDR": ({"update_pdrs": (r.UpdatePdr(pdr_id=9),)}, (RuleKind.PDR, 9)),
    "update unknown FAR": ({"update_fars": (r.UpdateFar(far_id=9),)}, (RuleKind.FAR, 9)),
    "update unknown MAR": ({"update_mars": (r.UpdateMar(mar_id=9),)}, (RuleKind.MAR, 9)),
    "create MAR that exists": ({"create_mars": (balancing(1),)}, (RuleKind.MAR, 1)),
    "remove MAR in use": ({"remove_mars": (r.RemoveMar(mar_id=1),)}, (RuleKind.PDR, 3)),
    "remove FAR in use": ({"remove_fars": (r.RemoveFar(far_id=3),)}, (RuleKind.MAR, 1)),
    "weights 30 and 60": (
        {"update_mars": (r.UpdateMar(mar_id=1, update_access_non_3gpp=r.UpdateAccessForwarding(weight=60)),)},
        (RuleKind.MAR, 1),
    ),
    "good update, then bad one": (
        {
            "update_pdrs": (r.UpdatePdr(pdr_id=3, precedence=7),),
            "create_pdrs": (downlink(8, 1), downlink(9, 5)),
        },
        (RuleKind.PDR, 9),
    ),
}


@pytest.mark.parametrize("name", MODIFICATIONS)
def test_wrong_modification_changes_nothing(name: str) -> None:
    change, rule = MODIFICATIONS[name]
    rig = Rig()
    session = rig.establish()
    rules, steering = session.rules, list(rig.datapath.sessions[session.seid])
    answer = rig.modify(session, **change)
    assert answer.cause is Cause.RULE_FAILURE and answer.failed_rule == v.FailedRule(*rule)
    assert session.rules is rules and rig.datapath.sessions[session.seid] == steering


def test_failing_data_path_rolls_back_establishment_and_modification() -> None:
    rig = Rig()
    rig.associate()
    rig.datapath.fail = True
    answer = rig.ask(establishment(), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.SYSTEM_FAILURE
    assert rig.agent.sessions == {} and rig.requests == []
    rig.datapath.fail = False
    session = rig.establish()
    rules = session.rules
    rig.datapath.fail = True
    refused = rig.modify(session, update_pdrs=(r.UpdatePdr(pdr_id=3, precedence=7),), key=key_ie(session))
    assert refused.cause is Cause.SYSTEM_FAILURE
    assert session.rules is rules and session.keys.next is None and rig.datapath.installed == []


def test_rules_beyond_the_pools_are_refused() -> None:
    rig = Rig()
    rig.associate()
    many = tuple(far(n, DestinationInterface.N6_LAN) for n in range(1, 40))
    answer = rig.ask(establishment(create_fars=many), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.NO_RESOURCES
    flows = tuple(f"permit out 6 from any {port} to assigned" for port in range(1, 40))
    answer = rig.ask(establishment(create_pdrs=(*UPLINKS, downlink(3, 1, *flows))), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.NO_RESOURCES
    assert rig.agent.sessions == {}


def test_address_of_another_session_is_refused() -> None:
    rig = Rig()
    rig.establish()
    answer = rig.ask(establishment(cp_f_seid=v.FSeid(2, IPv4Address(SMF[0]))), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert (answer.cause, answer.offending_ie) == (Cause.RULE_FAILURE, IeType.UE_IP_ADDRESS)
    assert len(rig.agent.sessions) == 1


def test_only_connect_ip_is_provided_and_only_to_a_peer_that_has_keys() -> None:
    rig = Rig()
    rig.associate()
    wanted = r.ProvideAtsssControl(mpquic=MpquicControl.CONNECT_UDP)
    answer = rig.ask(establishment(provide_atsss=wanted), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.SERVICE_NOT_SUPPORTED
    other = Rig()
    other.associate(keys=False)
    answer = other.ask(establishment(), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.SERVICE_NOT_SUPPORTED


# ---- whose session it is (R-136)


def test_without_association_nothing_is_established() -> None:
    rig = Rig()
    answer = rig.ask(establishment(), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert answer.cause is Cause.NO_ESTABLISHED_ASSOCIATION and rig.agent.sessions == {}


@pytest.mark.parametrize("associated", [False, True])
def test_stranger_cannot_touch_a_session(associated: bool) -> None:
    rig = Rig()
    session = rig.establish()
    if associated:
        rig.associate(peer=STRANGER)
    before = session.rules
    modified = rig.modify(session, STRANGER, remove_pdrs=(r.RemovePdr(pdr_id=1),), key=key_ie(session))
    deleted = rig.ask(m.SessionDeletionRequest(), session.seid, STRANGER)
    assert isinstance(deleted, m.SessionDeletionResponse)
    assert modified.cause is deleted.cause is Cause.SESSION_CONTEXT_NOT_FOUND
    assert rig.agent.sessions == {session.seid: session}
    assert session.rules is before and session.keys.next is None


@pytest.mark.parametrize("seid", [0, 2**64 - 1, CP_SEID])
def test_other_seids_are_no_session_and_the_answer_carries_seid_0(seid: int) -> None:
    rig = Rig()
    rig.establish()
    ((header, answer),) = rig.raw(m.encode(m.SessionDeletionRequest(), 5, seid))
    assert isinstance(answer, m.SessionDeletionResponse)
    assert (answer.cause, header.seid) == (Cause.SESSION_CONTEXT_NOT_FOUND, 0)
    assert len(rig.agent.sessions) == 1


def test_deletion_ends_all_and_a_second_one_finds_nothing() -> None:
    rig = Rig()
    session = rig.establish()
    rig.modify(session, key=key_ie(session))
    slot = session.keys.next
    assert slot is not None and len(slot.key) == 32
    for cause in (Cause.ACCEPTED, Cause.SESSION_CONTEXT_NOT_FOUND):
        answer = rig.ask(m.SessionDeletionRequest(), session.seid)
        assert isinstance(answer, m.SessionDeletionResponse) and answer.cause is cause
    assert rig.datapath.sessions == {} and len(slot.key) == 0


def test_restarted_smf_loses_its_sessions_and_a_repeated_set_up_does_not() -> None:
    rig = Rig()
    rig.establish()
    rig.associate()
    assert len(rig.agent.sessions) == 1
    rig.ask(m.HeartbeatRequest(recovery_time_stamp=1))
    assert rig.agent.sessions == {} and rig.agent.associations == {}
    rig.establish()
    rig.associate(recovery=5)
    assert rig.agent.sessions == {} and len(rig.agent.associations) == 1


def test_associations_are_limited() -> None:
    rig = Rig()
    for n in range(MAX_ASSOCIATIONS):
        rig.associate(peer=(f"10.0.0.{n}", 8805))
    answer = rig.associate(peer=STRANGER)
    assert isinstance(answer, m.AssociationSetupResponse) and answer.cause is Cause.NO_RESOURCES


# ---- keys (R-137, R-141)


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
    rig.agent.key_used(session, slot, rig.now)
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
    rig.agent.connection_ended(session, 2, rig.now)
    asked = [s.key_request for s in reports(rig.take()) if s.key_request]
    assert asked == [MpquicKeyRequest(KeyReason.RESTART, 2)]
    assert session.keys.current is None


def test_heartbeats_go_both_ways_and_silence_keeps_the_sessions() -> None:
    rig = Rig()
    rig.establish()
    answer = rig.ask(m.HeartbeatRequest(recovery_time_stamp=0xE9A1B2C3))
    assert answer == m.HeartbeatResponse(recovery_time_stamp=UP_RECOVERY)
    beats = [x for _, x in rig.advance(11) if isinstance(x, m.HeartbeatRequest)]
    assert beats == [m.HeartbeatRequest(recovery_time_stamp=UP_RECOVERY)]
    for _ in range(6):
        rig.advance(1.0)
    assert "association_unreachable" in rig.events.names() and len(rig.agent.sessions) == 1


def test_messages_for_a_control_plane_are_refused() -> None:
    rig = Rig()
    session = rig.establish()
    answer = rig.ask(m.SessionReportRequest(report_type=ReportType.UISR), session.seid)
    assert isinstance(answer, m.SessionReportResponse) and answer.cause is Cause.SERVICE_NOT_SUPPORTED

