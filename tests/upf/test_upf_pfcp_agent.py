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
    KeyReason,
    MpquicControl,
    Priority,
    ReportType,
    RuleKind,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    SteeringModeIndicator,
    TransportMode,
)
from fiveg.pfcp.mpquic_ies import MpquicKeyRequest
from fiveg.pfcp.transaction import Peer
from upf import pfcp_agent


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


def prioritised(near: Priority, far_: Priority) -> r.CreateMar:
    return mar(
        mode=SteeringMode.PRIORITY_BASED,
        access_3gpp=r.AccessForwarding(far_id=2, priority=near),
        access_non_3gpp=r.AccessForwarding(far_id=3, priority=far_),
    )


def test_modes_thresholds_and_indicators_reach_the_data_path() -> None:
    limits = v.Thresholds(80, 5)
    for rule, field, value in (
        (mar(mode=SteeringMode.SMALLEST_DELAY), "smallest_delay", True),
        (prioritised(Priority.LOW, Priority.HIGH), "priority", "non-3gpp"),
        (prioritised(Priority.HIGH, Priority.LOW), "priority", "3gpp"),
        (replace(prioritised(Priority.HIGH, Priority.LOW), thresholds=limits), "max_rtt_ms", 80),
        (mar(thresholds=limits), "max_loss_percent", 5),
        (mar(thresholds=v.Thresholds(None, 0)), "max_loss_percent", 0),
        (mar(indicator=SteeringModeIndicator.ALBI), "autonomous", True),
        (
            mar(
                access_3gpp=r.AccessForwarding(far_id=2),
                access_non_3gpp=r.AccessForwarding(far_id=3),
                indicator=SteeringModeIndicator.ALBI,
            ),
            "weights",
            {"3gpp": 50, "non-3gpp": 50},
        ),
    ):
        rig = Rig()
        session = rig.establish(establishment(create_mars=(rule,)))
        assert getattr(rig.datapath.sessions[session.seid][0], field) == value


def test_thresholds_go_with_the_mode_that_they_came_with() -> None:
    rig = Rig()
    session = rig.establish(establishment(create_mars=(mar(thresholds=v.Thresholds(80)),)))
    to = r.UpdateMar(mar_id=1, mode=SteeringMode.SMALLEST_DELAY)
    assert rig.modify(session, update_mars=(to,)).cause is Cause.ACCEPTED
    assert rig.datapath.sessions[session.seid][0].max_rtt_ms is None
    bad = r.UpdateMar(mar_id=1, thresholds=v.Thresholds(80))
    assert rig.modify(session, update_mars=(bad,)).cause is not Cause.ACCEPTED
    assert rig.datapath.sessions[session.seid][0].smallest_delay


UPLINKS = (uplink(1, "3gpp", InterfaceType.N3_3GPP), uplink(2, "wifi", InterfaceType.N3_UNTRUSTED_NON_3GPP))
PDI = downlink(3, 1).pdi

WRONG = {
    "weights do not sum to 100": ({"create_mars": (balancing(1, 30, 71),)}, (RuleKind.MAR, 1)),
    "redundant": ({"create_mars": (mar(mode=SteeringMode.REDUNDANT),)}, (RuleKind.MAR, 1)),
    "MPTCP": ({"create_mars": (mar(functionality=SteeringFunctionality.MPTCP),)}, (RuleKind.MAR, 1)),
    "stream mode": ({"create_mars": (mar(transport_mode=TransportMode.STREAM),)}, (RuleKind.MAR, 1)),
    "a threshold of 0 ms": ({"create_mars": (mar(thresholds=v.Thresholds(0)),)}, (RuleKind.MAR, 1)),
    "thresholds of smallest delay": (
        {"create_mars": (mar(mode=SteeringMode.SMALLEST_DELAY, thresholds=v.Thresholds(100)),)},
        (RuleKind.MAR, 1),
    ),
    "thresholds of active-standby": ({"create_mars": (replace(standby(1), thresholds=v.Thresholds(100)),)}, (RuleKind.MAR, 1)),
    "thresholds of autonomous load balance": (
        {"create_mars": (mar(thresholds=v.Thresholds(None, 1), indicator=SteeringModeIndicator.ALBI),)},
        (RuleKind.MAR, 1),
    ),
    "UE assistance": ({"create_mars": (mar(indicator=SteeringModeIndicator.UEAI),)}, (RuleKind.MAR, 1)),
    "autonomous smallest delay": (
        {"create_mars": (mar(mode=SteeringMode.SMALLEST_DELAY, indicator=SteeringModeIndicator.ALBI),)},
        (RuleKind.MAR, 1),
    ),
    "autonomous with one weight": (
        {"create_mars": (mar(access_3gpp=r.AccessForwarding(far_id=2), indicator=SteeringModeIndicator.ALBI),)},
        (RuleKind.MAR, 1),
    ),
    "two accesses of high priority": ({"create_mars": (prioritised(Priority.HIGH, Priority.HIGH),)}, (RuleKind.MAR, 1)),
    "two accesses of low priority": ({"create_mars": (prioritised(Priority.LOW, Priority.LOW),)}, (RuleKind.MAR, 1)),
    "priority of active-standby": ({"create_mars": (prioritised(Priority.HIGH, Priority.STANDBY),)}, (RuleKind.MAR, 1)),
    "priority-based without priorities": ({"create_mars": (mar(mode=SteeringMode.PRIORITY_BASED),)}, (RuleKind.MAR, 1)),
    "FAR of a MAR is missing": (
        {"create_mars": (mar(access_3gpp=r.AccessForwarding(far_id=9, weight=30)),)},
        (RuleKind.MAR, 1),
    ),
    "MAR leads to the other access": (
        {"create_mars": (mar(access_3gpp=r.AccessForwarding(far_id=3, weight=30)),)},
        (RuleKind.MAR, 1),
    ),
    "two active accesses": (
        {"create_mars": (replace(standby(1), access_3gpp=r.AccessForwarding(far_id=2, priority=Priority.ACTIVE)),)},
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
        {"create_pdrs": (replace(downlink(3, 1), pdi=replace(PDI, ue_ip_address=v.UeIpAddress(IPv4Address("10.45.0.2")))),)},
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
    "an access without an uplink rule": ({"create_pdrs": (UPLINKS[0], downlink(3, 1))}, None),
    "uplink that drops": (
        {
            "create_fars": (
                replace(far(1, DestinationInterface.N6_LAN), apply_action=ApplyAction.DROP),
                *establishment().create_fars[1:],
            )
        },
        (RuleKind.PDR, 1),
    ),
    "uplink that leads back": ({"create_pdrs": (replace(UPLINKS[0], far_id=2), UPLINKS[1], downlink(3, 1))}, (RuleKind.PDR, 1)),
    "uplink of another address": (
        {
            "create_pdrs": (
                replace(UPLINKS[0], pdi=replace(UPLINKS[0].pdi, ue_ip_address=v.UeIpAddress(IPv4Address("10.45.0.9")))),
                UPLINKS[1],
                downlink(3, 1),
            )
        },
        (RuleKind.PDR, 1),
    ),
    "QFI in a packet": (
        {"create_pdrs": (replace(UPLINKS[0], pdi=replace(UPLINKS[0].pdi, qfi=1)), UPLINKS[1], downlink(3, 1))},
        (RuleKind.PDR, 1),
    ),
    **{
        f"UE address {text}": (
            {
                "create_pdrs": (
                    *UPLINKS,
                    replace(
                        downlink(3, 1),
                        pdi=replace(PDI, ue_ip_address=v.UeIpAddress(IPv4Address(text), destination=True)),
                    ),
                )
            },
            rule,
        )
        for text, rule in (
            ("0.0.0.0", (RuleKind.PDR, 3)),
            ("127.0.0.1", (RuleKind.PDR, 3)),
            ("224.0.0.5", (RuleKind.PDR, 3)),
            ("169.254.0.1", (RuleKind.PDR, 3)),
            ("255.255.255.255", (RuleKind.PDR, 3)),
            ("10.90.0.20", None),  # our own on N4
            ("10.90.0.11", None),  # the SMF's: its answers would go to a UE
            ("10.100.0.1", None),  # the proxy's
        )
    },
    "a rule that drops beside one that forwards": (
        {
            "create_fars": (
                *establishment().create_fars,
                *(
                    replace(far(n, DestinationInterface.ACCESS, name), apply_action=ApplyAction.DROP)
                    for n, name in ((5, "3gpp"), (6, "wifi"))
                ),
            ),
            "create_mars": (
                balancing(1),
                mar(
                    mar_id=2,
                    access_3gpp=r.AccessForwarding(far_id=5, weight=30),
                    access_non_3gpp=r.AccessForwarding(far_id=6, weight=70),
                ),
            ),
            "create_pdrs": (
                *UPLINKS,
                downlink(3, 2, "permit out 6 from any 22 to assigned", precedence=1),
                downlink(4, 1, precedence=9),
            ),
        },
        (RuleKind.PDR, 3),
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
    assert answer.failed_rule == (None if rule is None else v.FailedRule(*rule))
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
def test_unknown_enumeration_or_bad_length_is_refused_at_set_up(path: tuple[IeType, ...], value: bytes, cause: Cause) -> None:
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


# ---- whose session it is (R-136)


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
