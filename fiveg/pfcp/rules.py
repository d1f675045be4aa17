"""Rules of a session as grouped IEs (TS 29.244 §7.5.2 to §7.5.8): PDR, FAR, QER, MAR, SRR and what stands in them."""

from dataclasses import dataclass
from typing import Annotated

from fiveg.pfcp import ies as ie
from fiveg.pfcp.codec import Group, Ie
from fiveg.pfcp.codes import ApplyAction, IeType
from fiveg.pfcp.errors import ConditionalIeMissing, IeIncorrect


def action_check(action: ApplyAction | None) -> None:
    """Exactly one of DROP, FORW and BUFF (§8.2.26)."""
    if action is not None and bin(action & 7).count("1") != 1:
        text = f"apply action {int(action):#x} has not exactly one of DROP, FORW, BUFF"
        raise IeIncorrect(text, ie=IeType.APPLY_ACTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pdi(Group):
    """Packet Detection Information (§7.5.2.2): what a packet must be for its rule."""

    IE = IeType.PDI
    source_interface: ie.SourceInterface
    f_teid: ie.FTeid | None = None
    network_instance: ie.NetworkInstance | None = None
    ue_ip_address: ie.UeIpAddress | None = None
    sdf_filters: tuple[ie.SdfFilter, ...] = ()
    qfi: ie.Qfi | None = None
    interface_type: ie.InterfaceType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePdr(Group):
    """Packet Detection Rule (§7.5.2.2). A MAR ID stands in place of a FAR ID in the downlink rule of a MA session (§5.20.1)."""

    IE = IeType.CREATE_PDR
    pdr_id: ie.PdrId
    precedence: ie.Precedence
    pdi: Pdi
    outer_header_removal: ie.OuterHeaderRemoval | None = None
    far_id: ie.FarId | None = None
    qer_ids: tuple[ie.QerId, ...] = ()
    mar_id: ie.MarId | None = None
    multipath_applicable: ie.MultipathApplicable | None = None

    def check(self) -> None:
        if self.far_id is None and self.mar_id is None:
            raise ConditionalIeMissing(f"PDR {self.pdr_id} names neither FAR nor MAR", ie=IeType.FAR_ID)
        if self.far_id is not None and self.mar_id is not None:
            raise IeIncorrect(f"PDR {self.pdr_id} names FAR and MAR", ie=IeType.MAR_ID)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePdr(Group):
    """§7.5.4.2"""

    IE = IeType.UPDATE_PDR
    pdr_id: ie.PdrId
    precedence: ie.Precedence | None = None
    pdi: Pdi | None = None
    far_id: ie.FarId | None = None
    qer_ids: tuple[ie.QerId, ...] = ()
    mar_id: ie.MarId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedPdr(Group):
    """§7.5.3.2; addresses that the UPF chose"""

    IE = IeType.CREATED_PDR
    pdr_id: ie.PdrId
    f_teid: ie.FTeid | None = None
    ue_ip_address: ie.UeIpAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePdr(Group):
    """§7.5.4.6"""

    IE = IeType.REMOVE_PDR
    pdr_id: ie.PdrId


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardingParameters(Group):
    """§7.5.2.3"""

    IE = IeType.FORWARDING_PARAMETERS
    destination_interface: ie.DestinationInterface
    network_instance: ie.NetworkInstance | None = None
    outer_header_creation: ie.OuterHeaderCreation | None = None
    interface_type: ie.InterfaceType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateForwardingParameters(Group):
    """§7.5.4.3; what is not there stays"""

    IE = IeType.UPDATE_FORWARDING_PARAMETERS
    destination_interface: ie.DestinationInterface | None = None
    network_instance: ie.NetworkInstance | None = None
    outer_header_creation: ie.OuterHeaderCreation | None = None
    interface_type: ie.InterfaceType | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateFar(Group):
    """Forwarding Action Rule (§7.5.2.3)"""

    IE = IeType.CREATE_FAR
    far_id: ie.FarId
    apply_action: ie.ApplyAction
    forwarding: ForwardingParameters | None = None

    def check(self) -> None:
        action_check(self.apply_action)
        if self.apply_action & ApplyAction.FORW and self.forwarding is None:
            raise ConditionalIeMissing(f"FAR {self.far_id} forwards without forwarding parameters", ie=IeType.FORWARDING_PARAMETERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFar(Group):
    """§7.5.4.3"""

    IE = IeType.UPDATE_FAR
    far_id: ie.FarId
    apply_action: ie.ApplyAction | None = None
    forwarding: UpdateForwardingParameters | None = None

    def check(self) -> None:
        action_check(self.apply_action)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveFar(Group):
    """§7.5.4.7"""

    IE = IeType.REMOVE_FAR
    far_id: ie.FarId


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateQer(Group):
    """QoS Enforcement Rule (§7.5.2.5)"""

    IE = IeType.CREATE_QER
    qer_id: ie.QerId
    gate_status: ie.GateStatus
    mbr: ie.Mbr | None = None
    gbr: ie.Gbr | None = None
    qfi: ie.Qfi | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateQer(Group):
    """§7.5.4.5"""

    IE = IeType.UPDATE_QER
    qer_id: ie.QerId
    gate_status: ie.GateStatus | None = None
    mbr: ie.Mbr | None = None
    gbr: ie.Gbr | None = None
    qfi: ie.Qfi | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveQer(Group):
    """§7.5.4.9"""

    IE = IeType.REMOVE_QER
    qer_id: ie.QerId


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessForwarding(Group):
    """(Non-)3GPP Access Forwarding Action Information (§7.5.2.8)"""

    far_id: ie.FarId
    weight: ie.Weight | None = None
    priority: ie.Priority | None = None


Access3gpp = Annotated[AccessForwarding, Ie(IeType.ACCESS_3GPP, AccessForwarding)]
AccessNon3gpp = Annotated[AccessForwarding, Ie(IeType.ACCESS_NON_3GPP, AccessForwarding)]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAccessForwarding(Group):
    """Update of it (§7.5.4.16); with nothing in it the access leaves the rule."""

    far_id: ie.FarId | None = None
    weight: ie.Weight | None = None
    priority: ie.Priority | None = None

    @property
    def removes(self) -> bool:
        return self.far_id is None and self.weight is None and self.priority is None


UpdateAccess3gpp = Annotated[UpdateAccessForwarding, Ie(IeType.UPDATE_ACCESS_3GPP, UpdateAccessForwarding)]
UpdateAccessNon3gpp = Annotated[UpdateAccessForwarding, Ie(IeType.UPDATE_ACCESS_NON_3GPP, UpdateAccessForwarding)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMar(Group):
    """Multi-Access Rule (§7.5.2.8): how the downlink is split over the accesses."""

    IE = IeType.CREATE_MAR
    mar_id: ie.MarId
    functionality: ie.SteeringFunctionality
    mode: ie.SteeringMode
    access_3gpp: Access3gpp | None = None
    access_non_3gpp: AccessNon3gpp | None = None
    thresholds: ie.Thresholds | None = None
    indicator: ie.SteeringModeIndicator | None = None
    transport_mode: ie.TransportMode | None = None

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
    """§7.5.4.16; `access_…` adds an access, `update_access_…` changes or removes one"""

    IE = IeType.UPDATE_MAR
    mar_id: ie.MarId
    functionality: ie.SteeringFunctionality | None = None
    mode: ie.SteeringMode | None = None
    update_access_3gpp: UpdateAccess3gpp | None = None
    update_access_non_3gpp: UpdateAccessNon3gpp | None = None
    access_3gpp: Access3gpp | None = None
    access_non_3gpp: AccessNon3gpp | None = None
    thresholds: ie.Thresholds | None = None
    indicator: ie.SteeringModeIndicator | None = None
    transport_mode: ie.TransportMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMar(Group):
    """§7.5.4.15"""

    IE = IeType.REMOVE_MAR
    mar_id: ie.MarId


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAvailabilityControl(Group):
    """Access Availability Control Information: RAAI b1 (§7.5.2.9)"""

    IE = IeType.ACCESS_AVAILABILITY_CONTROL
    requested: ie.RequestedAccessAvailability


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSrr(Group):
    """Session Reporting Rule (§7.5.2.9)"""

    IE = IeType.CREATE_SRR
    srr_id: ie.SrrId
    access_availability: AccessAvailabilityControl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveSrr(Group):
    """§7.5.4.19"""

    IE = IeType.REMOVE_SRR
    srr_id: ie.SrrId


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessAvailabilityReport(Group):
    """§7.5.8.6"""

    IE = IeType.ACCESS_AVAILABILITY_REPORT
    accesses: tuple[ie.AccessAvailability, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport(Group):
    """Session Report IE (§7.5.8.6)"""

    IE = IeType.SESSION_REPORT
    srr_id: ie.SrrId
    access_availability: AccessAvailabilityReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvideAtsssControl(Group):
    """Provide ATSSS Control Information (§7.5.2.10): what the session wants of the UPF."""

    IE = IeType.PROVIDE_ATSSS_CONTROL
    mptcp: ie.MptcpControl | None = None
    atsss_ll: ie.AtsssLlControl | None = None
    pmf: ie.PmfControl | None = None
    mpquic: ie.MpquicControl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MpquicParameters(Group):
    """Where the proxy is, and the UE's link-specific addresses (§7.5.3.7)"""

    IE = IeType.MPQUIC_PARAMETERS
    addresses: tuple[ie.MpquicAddress, ...]
    link_specific: ie.LinkSpecificAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class AtsssControlParameters(Group):
    """ATSSS Control Parameters (§7.5.3.7): the UPF's answer."""

    IE = IeType.ATSSS_CONTROL_PARAMETERS
    mpquic: MpquicParameters | None = None
