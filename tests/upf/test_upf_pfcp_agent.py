"""The UPF's PFCP agent: what it refuses leaves no trace, and a session belongs to who made it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest
from upf_rig import (
    CP_RECOVERY,
    CP_SEID,
    OTHER_SMF,
    SMF,
    STRANGER,
    UP_RECOVERY,
    Rig,
    downlink,
    establishment,
    key_ie,
    standby,
    uplink,
)

from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp import values as v
from fiveg.pfcp.codes import (
    ApplyAction,
    Cause,
    IeType,
    InterfaceType,
    KeyReason,
    MpquicControl,
    ReportType,
)
from fiveg.pfcp.mpquic_ies import MpquicKeyRequest
from fiveg.pfcp.transaction import Peer
from upf import pfcp_agent

UPLINKS = (uplink(1, "3gpp", InterfaceType.N3_3GPP), uplink(2, "wifi", InterfaceType.N3_UNTRUSTED_NON_3GPP))


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


def test_address_of_another_session_is_refused() -> None:
    rig = Rig()
    rig.establish()
    answer = rig.ask(establishment(cp_f_seid=v.FSeid(2, IPv4Address(SMF[0]))), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert (answer.cause, answer.offending_ie) == (Cause.RULE_FAILURE, IeType.UE_IP_ADDRESS)
    assert len(rig.agent.sessions) == 1


@pytest.mark.parametrize(
    ("ipv4", "ipv6"),
    [("10.1.0.2", "fd45::"), ("10.2.0.1", "fd45::"), ("10.45.0.2", "fd02::"), ("10.100.0.1", "fd45::"), ("10.90.0.12", "fd45::")],
)
def test_an_address_outside_of_the_tunnel_is_no_session_s(ipv4: str, ipv6: str) -> None:
    """R-39: its route would lead the tunnel's own packets, or the control plane's, into the tunnel."""
    rig = Rig()
    rig.associate()
    down = downlink(3, 1)
    pdi = replace(down.pdi, ue_ip_address=v.UeIpAddress(IPv4Address(ipv4), IPv6Address(ipv6), destination=True))
    answer = rig.ask(establishment(create_pdrs=(*UPLINKS, replace(down, pdi=pdi))), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert (answer.cause, answer.offending_ie) == (Cause.RULE_FAILURE, IeType.UE_IP_ADDRESS)
    assert rig.agent.sessions == {} and rig.datapath.sessions == {}


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


# ---- whose session it is


def test_without_association_nothing_is_established() -> None:
    rig = Rig()
    answer = rig.ask(establishment(), 0)
    assert isinstance(answer, m.SessionEstablishmentResponse)
    assert answer.cause is Cause.NO_ESTABLISHED_ASSOCIATION and rig.agent.sessions == {}


@pytest.mark.parametrize("peer", [STRANGER, OTHER_SMF])
def test_stranger_cannot_touch_a_session(peer: Peer) -> None:
    """Nor can an SMF with an association of its own."""
    rig = Rig()
    session = rig.establish()
    if peer is OTHER_SMF:
        rig.associate(peer=peer)
    before = session.rules
    modified = rig.modify(session, peer, remove_pdrs=(r.RemovePdr(pdr_id=1),), key=key_ie(session))
    deleted = rig.ask(m.SessionDeletionRequest(), session.seid, peer)
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


def test_a_repeated_set_up_tells_anew_whether_the_peer_has_keys() -> None:
    rig = Rig()
    rig.associate(keys=False)
    rig.associate()
    assert rig.establish().association.keys


def test_only_smfs_of_the_configuration_associate() -> None:
    rig = Rig()
    answer = rig.associate(peer=STRANGER)
    assert isinstance(answer, m.AssociationSetupResponse) and answer.cause is Cause.REQUEST_REJECTED
    assert rig.counters.get("pfcp.refused.request_rejected") == 1 and rig.agent.associations == {}
    assert rig.events.of("pfcp_refused")[0]["detail"] == "not an SMF of this UPF"
    for peer in (SMF, OTHER_SMF):
        taken = rig.associate(peer=peer)
        assert isinstance(taken, m.AssociationSetupResponse) and taken.cause is Cause.ACCEPTED


def heartbeat(sequence: int) -> bytes:
    return m.encode(m.HeartbeatRequest(recovery_time_stamp=CP_RECOVERY), sequence)


def test_strangers_share_a_rate_and_the_smf_does_not_wait_for_them() -> None:
    """R-139: 50,000 heartbeats and set-ups from everywhere in 10 s; what is answered stays small enough for any socket's buffer."""
    rig = Rig()
    session = rig.establish()
    answered = 0
    setup = m.AssociationSetupRequest(node_id=v.NodeId(IPv4Address(STRANGER[0])), recovery_time_stamp=1)
    for number in range(50_000):
        data = m.encode(setup, number) if number % 10 == 0 else heartbeat(number)
        answered += len(rig.raw(data, (f"10.{number % 200}.0.{number % 250 + 1}", 8805)))
        rig.now += 0.0002
        if number % 5000 == 0:  # the SMF, meanwhile
            assert rig.raw(heartbeat(number))
            assert rig.modify(session).cause is Cause.ACCEPTED
    refused = rig.counters.get("n4.stranger_limited")
    most = pfcp_agent.STRANGERS_BURST + pfcp_agent.STRANGERS_PER_S * 10
    assert pfcp_agent.STRANGERS_BURST <= answered <= most + 1 and answered + refused == 50_000
    assert len(rig.transactions._peers) <= 64 and SMF[0] in rig.agent.associations


def test_an_smf_can_associate_during_a_flood() -> None:
    rig = Rig()
    for number in range(200):
        rig.raw(heartbeat(number), STRANGER)
    assert rig.counters.get("n4.stranger_limited") == 200 - pfcp_agent.STRANGERS_BURST
    taken = rig.associate()
    assert isinstance(taken, m.AssociationSetupResponse) and taken.cause is Cause.ACCEPTED


@pytest.mark.parametrize(
    ("stamp", "lost"),
    [(CP_RECOVERY + 5, True), (CP_RECOVERY - 5, False), (CP_RECOVERY, False), ((CP_RECOVERY + (1 << 30)) % (1 << 32), True)],
)
def test_only_a_later_recovery_time_stamp_is_a_restart(stamp: int, lost: bool) -> None:
    """A heartbeat from before the restart that comes late ends nothing; after 2036 stamps begin at 0 again."""
    rig = Rig()
    rig.establish()
    rig.ask(m.HeartbeatRequest(recovery_time_stamp=stamp))
    assert (rig.agent.sessions == {}) is lost


def test_f_seid_at_another_address_is_refused() -> None:
    """Reports go to who set the association up; what the F-SEID says of that would be ignored."""
    rig = Rig()
    rig.associate()
    for address in (v.FSeid(CP_SEID, IPv4Address("10.90.0.66")), v.FSeid(CP_SEID, None, IPv6Address("fd00::1"))):
        answer = rig.ask(establishment(cp_f_seid=address), 0)
        assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.MANDATORY_IE_INCORRECT
    assert rig.agent.sessions == {}


def test_sessions_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pfcp_agent, "MAX_SESSIONS", 1)
    rig = Rig()
    first = rig.establish()
    other = establishment(cp_f_seid=v.FSeid(CP_SEID + 1, IPv4Address(SMF[0])))
    answer = rig.ask(other, 0)
    assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.NO_RESOURCES
    assert list(rig.agent.sessions) == [first.seid]
    rig.ask(m.SessionDeletionRequest(), first.seid)
    assert rig.establish(other).cp_seid == CP_SEID + 1


def test_a_modification_cannot_want_what_an_establishment_cannot() -> None:
    rig = Rig()
    session = rig.establish()
    answer = rig.modify(session, provide_atsss=r.ProvideAtsssControl(mpquic=MpquicControl.CONNECT_UDP))
    assert answer.cause is Cause.SERVICE_NOT_SUPPORTED


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
