"""Rules that come over PFCP: what of them reaches the data path, and that half-wrong ones leave no trace (R-132, R-133, R-135)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from upf_rig import (
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
    Priority,
    RuleKind,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    SteeringModeIndicator,
    TransportMode,
)


def mar(**change: object) -> r.CreateMar:
    return replace(balancing(1), **change)  # type: ignore[arg-type]


def prioritised(near: Priority, far_: Priority) -> r.CreateMar:
    return mar(
        mode=SteeringMode.PRIORITY_BASED,
        access_3gpp=r.AccessForwarding(far_id=2, priority=near),
        access_non_3gpp=r.AccessForwarding(far_id=3, priority=far_),
    )


def twice(near: Priority | None = None, far_: Priority | None = None, **change: object) -> r.CreateMar:
    """A MAR that is redundant."""
    made = mar(
        mode=SteeringMode.REDUNDANT,
        transport_mode=TransportMode.DATAGRAM_1,
        access_3gpp=r.AccessForwarding(far_id=2, priority=near),
        access_non_3gpp=r.AccessForwarding(far_id=3, priority=far_),
    )
    return replace(made, **change)  # type: ignore[arg-type]


def test_modes_thresholds_and_indicators_reach_the_data_path() -> None:
    limits = v.Thresholds(80, 5)
    for rule, field, value in (
        (mar(mode=SteeringMode.SMALLEST_DELAY), "smallest_delay", True),
        (prioritised(Priority.LOW, Priority.HIGH), "priority", "non-3gpp"),
        (prioritised(Priority.HIGH, Priority.LOW), "priority", "3gpp"),
        (replace(prioritised(Priority.HIGH, Priority.LOW), thresholds=limits), "max_rtt_ms", 80),
        (twice(), "redundant", True),
        (twice(), "primary", None),
        (twice(Priority.SECONDARY, Priority.PRIMARY), "primary", "non-3gpp"),
        (twice(Priority.PRIMARY, Priority.SECONDARY, thresholds=limits), "max_rtt_ms", 80),
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
    "redundant without numbers": (
        {"create_mars": (twice(transport_mode=TransportMode.DATAGRAM_2),)}, (RuleKind.MAR, 1)
    ),
    "redundant with one priority": ({"create_mars": (twice(Priority.PRIMARY, None),)}, (RuleKind.MAR, 1)),
    "redundant with two primary accesses": ({"create_mars": (twice(Priority.PRIMARY, Priority.PRIMARY),)}, (RuleKind.MAR, 1)),
    "redundant with an active access": ({"create_mars": (twice(Priority.ACTIVE, Priority.STANDBY),)}, (RuleKind.MAR, 1)),
    "redundant with thresholds for none": ({"create_mars": (twice(thresholds=v.Thresholds(50, None)),)}, (RuleKind.MAR, 1)),
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
