"""Rules of a session as grouped IEs (TS 29.244 §7.5.2 to §7.5.8): PDR, FAR, QER, MAR, SRR and what stands in them."""

from dataclasses import dataclass
from typing import Annotated

from fiveg.pfcp.codec import U8, U16, U32, Enumeration, Flags, Group, Ie, Ies, Text, Uint
from fiveg.pfcp.codes import (
    ApplyAction,
    DestinationInterface,
    IeType,
    InterfaceType,
    MpquicControl,
    MultipathApplicable,
    Priority,
    SourceInterface,
    SteeringFunctionality,
    SteeringMode,
    SteeringModeIndicator,
    TransportMode,
)
from fiveg.pfcp.errors import ConditionalIeMissing, IeIncorrect
from fiveg.pfcp.values import (
    AccessAvailability,
    BitRate,
    FTeid,
    GateStatus,
    LinkSpecificAddress,
    MpquicAddress,
    OuterHeaderCreation,
    SdfFilter,
    Thresholds,
    UeIpAddress,
)

NETWORK_INSTANCE = Text(100)
ACTION = Flags(ApplyAction, size=2)
WEIGHT = Uint(1, 0, 100)
FUNCTIONALITY = Enumeration(SteeringFunctionality, 0x0F)
MODE = Enumeration(SteeringMode, 0x0F)
TRANSPORT = Enumeration(TransportMode, 0x0F)
INTERFACE_TYPE = Enumeration(InterfaceType, 0x3F)
QFI = Uint(1, 0, 63)


def action_check(action: ApplyAction | None) -> None:
    """Exactly one of DROP, FORW and BUFF (§8.2.26)."""
    if action is not None and bin(action & 7).count("1") != 1:
        text = f"apply action {int(action):#x} has not exactly one of DROP, FORW, BUFF"
        raise IeIncorrect(text, ie=IeType.APPLY_ACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdi(Group):
    """Packet Detection Information: what a packet must be for its rule."""

    source_interface: Annotated[SourceInterface, Ie(IeType.SOURCE_INTERFACE, Enumeration(SourceInterface, 0x0F))]
    f_teid: Annotated[FTeid | None, Ie(IeType.F_TEID, FTeid)] = None
    network_instance: Annotated[str | None, Ie(IeType.NETWORK_INSTANCE, NETWORK_INSTANCE)] = None
    ue_ip_address: Annotated[UeIpAddress | None, Ie(IeType.UE_IP_ADDRESS, UeIpAddress)] = None
    sdf_filters: Annotated[tuple[SdfFilter, ...], Ies(IeType.SDF_FILTER, SdfFilter)] = ()
    qfi: Annotated[int | None, Ie(IeType.QFI, QFI)] = None
    interface_type: Annotated[InterfaceType | None, Ie(IeType.INTERFACE_TYPE, INTERFACE_TYPE)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePdr(Group):
    """A MAR ID stands in place of a FAR ID in the downlink rule of a MA session (§5.20.1)."""

    pdr_id: Annotated[int, Ie(IeType.PDR_ID, U16)]
    precedence: Annotated[int, Ie(IeType.PRECEDENCE, U32)]
    pdi: Annotated[Pdi, Ie(IeType.PDI, Pdi)]
    outer_header_removal: Annotated[int | None, Ie(IeType.OUTER_HEADER_REMOVAL, Uint(1, 0, 6))] = None
    far_id: Annotated[int | None, Ie(IeType.FAR_ID, U32)] = None
    qer_ids: Annotated[tuple[int, ...], Ies(IeType.QER_ID, U32)] = ()
    mar_id: Annotated[int | None, Ie(IeType.MAR_ID, U16)] = None
    multipath_applicable: Annotated[MultipathApplicable | None, Ie(IeType.MULTIPATH_APPLICABLE, Flags(MultipathApplicable))] = None

    def check(self) -> None:
        if self.far_id is None and self.mar_id is None:
            raise ConditionalIeMissing(f"PDR {self.pdr_id} names neither FAR nor MAR", ie=IeType.FAR_ID)
        if self.far_id is not None and self.mar_id is not None:
            raise IeIncorrect(f"PDR {self.pdr_id} names FAR and MAR", ie=IeType.MAR_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePdr(Group):
    pdr_id: Annotated[int, Ie(IeType.PDR_ID, U16)]
    precedence: Annotated[int | None, Ie(IeType.PRECEDENCE, U32)] = None
    pdi: Annotated[Pdi | None, Ie(IeType.PDI, Pdi)] = None
    far_id: Annotated[int | None, Ie(IeType.FAR_ID, U32)] = None
    qer_ids: Annotated[tuple[int, ...], Ies(IeType.QER_ID, U32)] = ()
    mar_id: Annotated[int | None, Ie(IeType.MAR_ID, U16)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedPdr(Group):
    pdr_id: Annotated[int, Ie(IeType.PDR_ID, U16)]
    f_teid: Annotated[FTeid | None, Ie(IeType.F_TEID, FTeid)] = None
    ue_ip_address: Annotated[UeIpAddress | None, Ie(IeType.UE_IP_ADDRESS, UeIpAddress)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePdr(Group):
    pdr_id: Annotated[int, Ie(IeType.PDR_ID, U16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingParameters(Group):
    destination_interface: Annotated[
        DestinationInterface, Ie(IeType.DESTINATION_INTERFACE, Enumeration(DestinationInterface, 0x0F))
    ]
    network_instance: Annotated[str | None, Ie(IeType.NETWORK_INSTANCE, NETWORK_INSTANCE)] = None
    outer_header_creation: Annotated[OuterHeaderCreation | None, Ie(IeType.OUTER_HEADER_CREATION, OuterHeaderCreation)] = None
    interface_type: Annotated[InterfaceType | None, Ie(IeType.INTERFACE_TYPE, INTERFACE_TYPE)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateForwardingParameters(Group):
    destination_interface: Annotated[
        DestinationInterface | None, Ie(IeType.DESTINATION_INTERFACE, Enumeration(DestinationInterface, 0x0F))
    ] = None
    network_instance: Annotated[str | None, Ie(IeType.NETWORK_INSTANCE, NETWORK_INSTANCE)] = None
    outer_header_creation: Annotated[OuterHeaderCreation | None, Ie(IeType.OUTER_HEADER_CREATION, OuterHeaderCreation)] = None
    interface_type: Annotated[InterfaceType | None, Ie(IeType.INTERFACE_TYPE, INTERFACE_TYPE)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFar(Group):
    far_id: Annotated[int, Ie(IeType.FAR_ID, U32)]
    apply_action: Annotated[ApplyAction, Ie(IeType.APPLY_ACTION, ACTION)]
    forwarding: Annotated[ForwardingParameters | None, Ie(IeType.FORWARDING_PARAMETERS, ForwardingParameters)] = None

    def check(self) -> None:
        action_check(self.apply_action)
        if self.apply_action & ApplyAction.FORW and self.forwarding is None:
            raise ConditionalIeMissing(f"FAR {self.far_id} forwards without forwarding parameters", ie=IeType.FORWARDING_PARAMETERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFar(Group):
    far_id: Annotated[int, Ie(IeType.FAR_ID, U32)]
    apply_action: Annotated[ApplyAction | None, Ie(IeType.APPLY_ACTION, ACTION)] = None
    forwarding: Annotated[
        UpdateForwardingParameters | None, Ie(IeType.UPDATE_FORWARDING_PARAMETERS, UpdateForwardingParameters)
    ] = None

    def check(self) -> None:
        action_check(self.apply_action)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFar(Group):
    far_id: Annotated[int, Ie(IeType.FAR_ID, U32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateQer(Group):
    qer_id: Annotated[int, Ie(IeType.QER_ID, U32)]
    gate_status: Annotated[GateStatus, Ie(IeType.GATE_STATUS, GateStatus)]
    mbr: Annotated[BitRate | None, Ie(IeType.MBR, BitRate)] = None
    gbr: Annotated[BitRate | None, Ie(IeType.GBR, BitRate)] = None
    qfi: Annotated[int | None, Ie(IeType.QFI, QFI)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateQer(Group):
    qer_id: Annotated[int, Ie(IeType.QER_ID, U32)]
    gate_status: Annotated[GateStatus | None, Ie(IeType.GATE_STATUS, GateStatus)] = None
    mbr: Annotated[BitRate | None, Ie(IeType.MBR, BitRate)] = None
    gbr: Annotated[BitRate | None, Ie(IeType.GBR, BitRate)] = None
    qfi: Annotated[int | None, Ie(IeType.QFI, QFI)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveQer(Group):
    qer_id: Annotated[int, Ie(IeType.QER_ID, U32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessForwarding(Group):
    """(Non-)3GPP Access Forwarding Action Information (§7.5.2.8)"""

    far_id: Annotated[int, Ie(IeType.FAR_ID, U32)]
    weight: Annotated[int | None, Ie(IeType.WEIGHT, WEIGHT)] = None
    priority: Annotated[Priority | None, Ie(IeType.PRIORITY, Enumeration(Priority))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAccessForwarding(Group):
    """Update of it (§7.5.4.16); with nothing in it the access leaves the rule."""

    far_id: Annotated[int | None, Ie(IeType.FAR_ID, U32)] = None
    weight: Annotated[int | None, Ie(IeType.WEIGHT, WEIGHT)] = None
    priority: Annotated[Priority | None, Ie(IeType.PRIORITY, Enumeration(Priority))] = None

    @property
    def removes(self) -> bool:
        return self.far_id is None and self.weight is None and self.priority is None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMar(Group):
    """Multi-Access Rule (§7.5.2.7): how the downlink is split over the accesses."""

    mar_id: Annotated[int, Ie(IeType.MAR_ID, U16)]
    functionality: Annotated[SteeringFunctionality, Ie(IeType.STEERING_FUNCTIONALITY, FUNCTIONALITY)]
    mode: Annotated[SteeringMode, Ie(IeType.STEERING_MODE, MODE)]
    access_3gpp: Annotated[AccessForwarding | None, Ie(IeType.ACCESS_3GPP, AccessForwarding)] = None
    access_non_3gpp: Annotated[AccessForwarding | None, Ie(IeType.ACCESS_NON_3GPP, AccessForwarding)] = None
    thresholds: Annotated[Thresholds | None, Ie(IeType.THRESHOLDS, Thresholds)] = None
    indicator: Annotated[SteeringModeIndicator | None, Ie(IeType.STEERING_MODE_INDICATOR, Flags(SteeringModeIndicator))] = None
    transport_mode: Annotated[TransportMode | None, Ie(IeType.TRANSPORT_MODE, TRANSPORT)] = None

    def check(self) -> None:
        if self.access_3gpp is None and self.access_non_3gpp is None:
            raise ConditionalIeMissing(f"MAR {self.mar_id} without an access", ie=IeType.ACCESS_3GPP)
        if self.functionality.mpquic and self.transport_mode is None:
            text = f"MAR {self.mar_id} steers by MPQUIC without transport mode"
            raise ConditionalIeMissing(text, ie=IeType.TRANSPORT_MODE)
        if self.indicator is not None and self.indicator & 3 == 3:
            raise IeIncorrect(f"MAR {self.mar_id} with both ALBI and UEAI", ie=IeType.STEERING_MODE_INDICATOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMar(Group):
    mar_id: Annotated[int, Ie(IeType.MAR_ID, U16)]
    functionality: Annotated[SteeringFunctionality | None, Ie(IeType.STEERING_FUNCTIONALITY, FUNCTIONALITY)] = None
    mode: Annotated[SteeringMode | None, Ie(IeType.STEERING_MODE, MODE)] = None
    update_access_3gpp: Annotated[UpdateAccessForwarding | None, Ie(IeType.UPDATE_ACCESS_3GPP, UpdateAccessForwarding)] = None
    update_access_non_3gpp: Annotated[UpdateAccessForwarding | None, Ie(IeType.UPDATE_ACCESS_NON_3GPP, UpdateAccessForwarding)] = (
        None
    )
    access_3gpp: Annotated[AccessForwarding | None, Ie(IeType.ACCESS_3GPP, AccessForwarding)] = None
    access_non_3gpp: Annotated[AccessForwarding | None, Ie(IeType.ACCESS_NON_3GPP, AccessForwarding)] = None
    thresholds: Annotated[Thresholds | None, Ie(IeType.THRESHOLDS, Thresholds)] = None
    indicator: Annotated[SteeringModeIndicator | None, Ie(IeType.STEERING_MODE_INDICATOR, Flags(SteeringModeIndicator))] = None
    transport_mode: Annotated[TransportMode | None, Ie(IeType.TRANSPORT_MODE, TRANSPORT)] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMar(Group):
    mar_id: Annotated[int, Ie(IeType.MAR_ID, U16)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAvailabilityControl(Group):
    """Access Availability Control Information: RAAI b1 (§7.5.2.10)"""

    requested: Annotated[int, Ie(IeType.REQUESTED_ACCESS_AVAILABILITY, U8)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSrr(Group):
    """Session Reporting Rule (§7.5.2.9)"""

    srr_id: Annotated[int, Ie(IeType.SRR_ID, U8)]
    access_availability: Annotated[
        AccessAvailabilityControl | None, Ie(IeType.ACCESS_AVAILABILITY_CONTROL, AccessAvailabilityControl)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveSrr(Group):
    srr_id: Annotated[int, Ie(IeType.SRR_ID, U8)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAvailabilityReport(Group):
    accesses: Annotated[tuple[AccessAvailability, ...], Ies(IeType.ACCESS_AVAILABILITY, AccessAvailability)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport(Group):
    """Session Report IE (§7.5.8.7)"""

    srr_id: Annotated[int, Ie(IeType.SRR_ID, U8)]
    access_availability: Annotated[
        AccessAvailabilityReport | None, Ie(IeType.ACCESS_AVAILABILITY_REPORT, AccessAvailabilityReport)
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvideAtsssControl(Group):
    """Provide ATSSS Control Information (§7.5.2.11): what the session wants of the UPF."""

    mptcp: Annotated[int | None, Ie(IeType.MPTCP_CONTROL, U8)] = None
    atsss_ll: Annotated[int | None, Ie(IeType.ATSSS_LL_CONTROL, U8)] = None
    pmf: Annotated[int | None, Ie(IeType.PMF_CONTROL, U8)] = None
    mpquic: Annotated[MpquicControl | None, Ie(IeType.MPQUIC_CONTROL, Flags(MpquicControl, least_one=True))] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MpquicParameters(Group):
    """Where the proxy is, and the UE's link-specific addresses"""

    addresses: Annotated[tuple[MpquicAddress, ...], Ies(IeType.MPQUIC_ADDRESS, MpquicAddress)]
    link_specific: Annotated[LinkSpecificAddress, Ie(IeType.LINK_SPECIFIC_ADDRESS, LinkSpecificAddress)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AtsssControlParameters(Group):
    """ATSSS Control Parameters (§7.5.3.7): the UPF's answer."""

    mpquic: Annotated[MpquicParameters | None, Ie(IeType.MPQUIC_PARAMETERS, MpquicParameters)] = None
