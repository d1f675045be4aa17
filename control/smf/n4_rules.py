"""The configured steering rules as PFCP rules of one MA session (TS 29.244 §5.20.1, §5.20.2A).

FAR 1  uplink to N6        FAR 2  downlink over 3GPP        FAR 3  downlink over non-3GPP
PDR 1, 2        one uplink rule per access, Network Instance = the access path, MQAI
PDR 10 + n      downlink rule n: UE address as destination, SDF filter of the rule, MAR n
MAR n           steering of rule n, with the two downlink FARs
"""

from __future__ import annotations

from control.smf.config import ModeConfig, RuleConfig, SmfConfig
from control.smf.pool import SessionAddress
from fiveg.pfcp.codes import (
    ApplyAction,
    DestinationInterface,
    InterfaceType,
    MpquicControl,
    MultipathApplicable,
    PdnType,
    Priority,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    SteeringModeIndicator,
    TransportMode,
)
from fiveg.pfcp.message import SessionEstablishmentRequest
from fiveg.pfcp.rules import (
    AccessForwarding,
    CreateFar,
    CreateMar,
    CreatePdr,
    ForwardingParameters,
    Pdi,
    ProvideAtsssControl,
)
from fiveg.pfcp.sdf import FlowDescription
from fiveg.pfcp.values import FSeid, NodeId, SdfFilter, Thresholds, UeIpAddress

FAR_UPLINK, FAR_3GPP, FAR_NON_3GPP = 1, 2, 3
PDR_DOWNLINK = 10
UPLINK_PRECEDENCE = 100
IPV6_PREFIX = 64
KINDS = (
    ("3gpp", FAR_3GPP, InterfaceType.N3_3GPP, 1),
    ("non-3gpp", FAR_NON_3GPP, InterfaceType.N3_UNTRUSTED_NON_3GPP, 2),
)
ACTIVE_3GPP = "3GPP_ACCESS"


def establishment(config: SmfConfig, address: SessionAddress, node_id: NodeId, f_seid: FSeid) -> SessionEstablishmentRequest:
    ue = UeIpAddress(
        ipv4=address.ipv4,
        ipv6=address.ipv6,
        destination=True,
        prefix_length=None if address.ipv6 is None else IPV6_PREFIX,
    )
    both = address.ipv4 is not None and address.ipv6 is not None
    return SessionEstablishmentRequest(
        node_id=node_id,
        cp_f_seid=f_seid,
        create_pdrs=(*_uplink(config), *(_downlink(n, rule, ue) for n, rule in enumerate(config.rules, 1))),
        create_fars=_fars(config),
        create_mars=tuple(_mar(n, rule) for n, rule in enumerate(config.rules, 1)),
        pdn_type=PdnType.IPV4V6 if both else PdnType.IPV4 if address.ipv4 is not None else PdnType.IPV6,
        dnn=config.dnn,
        provide_atsss=ProvideAtsssControl(mpquic=MpquicControl.CONNECT_IP),
    )


def _uplink(config: SmfConfig) -> tuple[CreatePdr, ...]:
    return tuple(
        CreatePdr(
            pdr_id=number,
            precedence=UPLINK_PRECEDENCE,
            pdi=Pdi(
                source_interface=SourceInterface.ACCESS,
                network_instance=config.access_name(kind),
                interface_type=interface,
            ),
            far_id=FAR_UPLINK,
            multipath_applicable=MultipathApplicable.MPQUIC,
        )
        for kind, _, interface, number in KINDS
    )


def _downlink(number: int, rule: RuleConfig, ue: UeIpAddress) -> CreatePdr:
    flow = FlowDescription(rule.protocol, rule.remote, rule.ports)
    filters = (SdfFilter(flow=flow.text()),) if rule.match else ()
    return CreatePdr(
        pdr_id=PDR_DOWNLINK + number,
        precedence=rule.precedence,
        pdi=Pdi(source_interface=SourceInterface.CORE, ue_ip_address=ue, sdf_filters=filters),
        mar_id=number,
    )


def _fars(config: SmfConfig) -> tuple[CreateFar, ...]:
    uplink = CreateFar(
        far_id=FAR_UPLINK,
        apply_action=ApplyAction.FORW,
        forwarding=ForwardingParameters(destination_interface=DestinationInterface.N6_LAN, interface_type=InterfaceType.N6),
    )
    downlink = (
        CreateFar(
            far_id=far,
            apply_action=ApplyAction.FORW,
            forwarding=ForwardingParameters(
                destination_interface=DestinationInterface.ACCESS,
                network_instance=config.access_name(kind),
                interface_type=interface,
            ),
        )
        for kind, far, interface, _ in KINDS
    )
    return (uplink, *downlink)


def _mar(number: int, rule: RuleConfig) -> CreateMar:
    near, far = _accesses(rule.mode)
    limits = rule.mode.thresholds
    return CreateMar(
        mar_id=number,
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode[rule.mode.value],
        access_3gpp=near,
        access_non_3gpp=far,
        thresholds=None if limits is None else Thresholds(limits.rtt_ms, limits.loss_percent),
        indicator=None if rule.mode.indicator is None else SteeringModeIndicator.ALBI,
        transport_mode=TransportMode[rule.transport],
    )


def _accesses(mode: ModeConfig) -> tuple[AccessForwarding, AccessForwarding]:
    if mode.value == "SMALLEST_DELAY":
        return AccessForwarding(far_id=FAR_3GPP), AccessForwarding(far_id=FAR_NON_3GPP)
    if mode.value == "LOAD_BALANCING":
        load = mode.load_3gpp  # None: left to the UPF (AUTO_LOAD_BALANCE)
        return (
            AccessForwarding(far_id=FAR_3GPP, weight=load),
            AccessForwarding(far_id=FAR_NON_3GPP, weight=None if load is None else 100 - load),
        )
    if mode.value == "REDUNDANT" and mode.primary is None:
        return AccessForwarding(far_id=FAR_3GPP), AccessForwarding(far_id=FAR_NON_3GPP)
    if mode.value == "REDUNDANT":
        first, other, access = Priority.PRIMARY, Priority.SECONDARY, mode.primary
    elif mode.value == "PRIORITY_BASED":
        first, other, access = Priority.HIGH, Priority.LOW, mode.priority
    else:
        other = Priority.STANDBY if mode.standby is not None else Priority.NO_STANDBY
        first, access = Priority.ACTIVE, mode.active
    near, far = (first, other) if access == ACTIVE_3GPP else (other, first)
    return (
        AccessForwarding(far_id=FAR_3GPP, priority=near),
        AccessForwarding(far_id=FAR_NON_3GPP, priority=far),
    )
