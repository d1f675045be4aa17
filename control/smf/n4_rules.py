"""The configured steering rules as PFCP rules of one MA session (TS 29.244 §5.20.1, §5.20.2A).

FAR 1  uplink to N6        FAR 2  downlink over 3GPP        FAR 3  downlink over non-3GPP
PDR 1, 2        one uplink rule per access, Network Instance = the access path, MQAI
PDR 10 + n      downlink rule n: UE address as destination, SDF filter of the rule, MAR n
MAR n           steering of rule n, with the two downlink FARs
"""

from __future__ import annotations

from control.smf.config import RuleConfig, SmfConfig
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
from fiveg.pfcp.values import FSeid, NodeId, SdfFilter, UeIpAddress

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
    near, far = _accesses(rule)
    return CreateMar(
        mar_id=number,
        functionality=SteeringFunctionality.MPQUIC_IP,
        mode=SteeringMode.LOAD_BALANCING if rule.mode.value == "LOAD_BALANCING" else SteeringMode.ACTIVE_STANDBY,
        access_3gpp=near,
        access_non_3gpp=far,
        transport_mode=TransportMode[rule.transport],
    )


def _accesses(rule: RuleConfig) -> tuple[AccessForwarding | None, AccessForwarding | None]:
    mode = rule.mode
    if mode.value == "LOAD_BALANCING":
        assert mode.load_3gpp is not None  # ModeConfig
        return (
            AccessForwarding(far_id=FAR_3GPP, weight=mode.load_3gpp),
            AccessForwarding(far_id=FAR_NON_3GPP, weight=100 - mode.load_3gpp),
        )
    other = Priority.STANDBY if mode.standby is not None else Priority.NO_STANDBY
    near, far = (Priority.ACTIVE, other) if mode.active == ACTIVE_3GPP else (other, Priority.ACTIVE)
    return (
        AccessForwarding(far_id=FAR_3GPP, priority=near),
        AccessForwarding(far_id=FAR_NON_3GPP, priority=far),
    )
