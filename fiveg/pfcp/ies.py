"""The IEs that are one value: name, what it is in Python, IE type, codec (TS 29.244 §8.1.2, §8.2). Grouped IEs are classes
(rules.py) and name their IE type themselves. A field of a message or group says `ie.Cause`, and nothing else is needed.
"""

from typing import Annotated

from fiveg.pfcp import codes as c
from fiveg.pfcp import mpquic_ies as k
from fiveg.pfcp import values as v
from fiveg.pfcp.codec import LABELS, U8, U16, U32, Enumeration, Flags, Ie, Octets, Text, Uint
from fiveg.pfcp.codes import IeType

# ---- nodes, messages

Cause = Annotated[c.Cause, Ie(IeType.CAUSE, Enumeration(c.Cause))]
OffendingIe = Annotated[int, Ie(IeType.OFFENDING_IE, U16)]
FailedRuleId = Annotated[v.FailedRule, Ie(IeType.FAILED_RULE_ID, v.FailedRule)]
NodeId = Annotated[v.NodeId, Ie(IeType.NODE_ID, v.NodeId)]
RecoveryTimeStamp = Annotated[int, Ie(IeType.RECOVERY_TIME_STAMP, U32)]
UpFunctionFeatures = Annotated[frozenset[c.UpFeature], Ie(IeType.UP_FUNCTION_FEATURES, v.UpFeatures())]
CpFunctionFeatures = Annotated[bytes, Ie(IeType.CP_FUNCTION_FEATURES, Octets(1))]
AssociationRelease = Annotated[bytes, Ie(IeType.ASSOCIATION_RELEASE_REQUEST, Octets(1))]
NodeReportType = Annotated[c.NodeReportType, Ie(IeType.NODE_REPORT_TYPE, Flags(c.NodeReportType, least_one=True))]
ReportType = Annotated[c.ReportType, Ie(IeType.REPORT_TYPE, Flags(c.ReportType, least_one=True))]
ReportFlags = Annotated[c.ReportFlags, Ie(IeType.SRREQ_FLAGS, Flags(c.ReportFlags))]

# ---- sessions

FSeid = Annotated[v.FSeid, Ie(IeType.F_SEID, v.FSeid)]
PdnType = Annotated[c.PdnType, Ie(IeType.PDN_TYPE, Enumeration(c.PdnType, 7))]
ApnDnn = Annotated[str, Ie(IeType.APN_DNN, LABELS)]
SNssai = Annotated[v.SNssai, Ie(IeType.S_NSSAI, v.SNssai)]
UserId = Annotated[v.UserId, Ie(IeType.USER_ID, v.UserId)]

# ---- rules

PdrId = Annotated[int, Ie(IeType.PDR_ID, U16)]
FarId = Annotated[int, Ie(IeType.FAR_ID, U32)]
QerId = Annotated[int, Ie(IeType.QER_ID, U32)]
MarId = Annotated[int, Ie(IeType.MAR_ID, U16)]
SrrId = Annotated[int, Ie(IeType.SRR_ID, U8)]
Precedence = Annotated[int, Ie(IeType.PRECEDENCE, U32)]
SourceInterface = Annotated[c.SourceInterface, Ie(IeType.SOURCE_INTERFACE, Enumeration(c.SourceInterface, 0x0F))]
DestinationInterface = Annotated[
    c.DestinationInterface, Ie(IeType.DESTINATION_INTERFACE, Enumeration(c.DestinationInterface, 0x0F))
]
InterfaceType = Annotated[c.InterfaceType, Ie(IeType.INTERFACE_TYPE, Enumeration(c.InterfaceType, 0x3F))]
NetworkInstance = Annotated[str, Ie(IeType.NETWORK_INSTANCE, Text(100))]
FTeid = Annotated[v.FTeid, Ie(IeType.F_TEID, v.FTeid)]
UeIpAddress = Annotated[v.UeIpAddress, Ie(IeType.UE_IP_ADDRESS, v.UeIpAddress)]
SdfFilter = Annotated[v.SdfFilter, Ie(IeType.SDF_FILTER, v.SdfFilter)]
Qfi = Annotated[int, Ie(IeType.QFI, Uint(1, 0, 63))]
OuterHeaderRemoval = Annotated[int, Ie(IeType.OUTER_HEADER_REMOVAL, Uint(1, 0, 6))]
OuterHeaderCreation = Annotated[v.OuterHeaderCreation, Ie(IeType.OUTER_HEADER_CREATION, v.OuterHeaderCreation)]
ApplyAction = Annotated[c.ApplyAction, Ie(IeType.APPLY_ACTION, Flags(c.ApplyAction, size=2))]
GateStatus = Annotated[v.GateStatus, Ie(IeType.GATE_STATUS, v.GateStatus)]
Mbr = Annotated[v.BitRate, Ie(IeType.MBR, v.BitRate)]
Gbr = Annotated[v.BitRate, Ie(IeType.GBR, v.BitRate)]

# ---- several accesses

MultipathApplicable = Annotated[c.MultipathApplicable, Ie(IeType.MULTIPATH_APPLICABLE, Flags(c.MultipathApplicable))]
SteeringFunctionality = Annotated[
    c.SteeringFunctionality, Ie(IeType.STEERING_FUNCTIONALITY, Enumeration(c.SteeringFunctionality, 0x0F))
]
SteeringMode = Annotated[c.SteeringMode, Ie(IeType.STEERING_MODE, Enumeration(c.SteeringMode, 0x0F))]
SteeringModeIndicator = Annotated[c.SteeringModeIndicator, Ie(IeType.STEERING_MODE_INDICATOR, Flags(c.SteeringModeIndicator))]
TransportMode = Annotated[c.TransportMode, Ie(IeType.TRANSPORT_MODE, Enumeration(c.TransportMode, 0x0F))]
Weight = Annotated[int, Ie(IeType.WEIGHT, Uint(1, 0, 100))]
Priority = Annotated[c.Priority, Ie(IeType.PRIORITY, Enumeration(c.Priority))]
Thresholds = Annotated[v.Thresholds, Ie(IeType.THRESHOLDS, v.Thresholds)]
RequestedAccessAvailability = Annotated[int, Ie(IeType.REQUESTED_ACCESS_AVAILABILITY, U8)]
AccessAvailability = Annotated[v.AccessAvailability, Ie(IeType.ACCESS_AVAILABILITY, v.AccessAvailability)]
MptcpControl = Annotated[int, Ie(IeType.MPTCP_CONTROL, U8)]
AtsssLlControl = Annotated[int, Ie(IeType.ATSSS_LL_CONTROL, U8)]
PmfControl = Annotated[int, Ie(IeType.PMF_CONTROL, U8)]
MpquicControl = Annotated[c.MpquicControl, Ie(IeType.MPQUIC_CONTROL, Flags(c.MpquicControl, least_one=True))]
MpquicAddress = Annotated[v.MpquicAddress, Ie(IeType.MPQUIC_ADDRESS, v.MpquicAddress)]
LinkSpecificAddress = Annotated[v.LinkSpecificAddress, Ie(IeType.LINK_SPECIFIC_ADDRESS, v.LinkSpecificAddress)]

# ---- ours

MpquicKeyRequest = Annotated[k.MpquicKeyRequest, Ie(IeType.MPQUIC_KEY_REQUEST, k.MpquicKeyRequest)]
MpquicKey = Annotated[k.MpquicKey, Ie(IeType.MPQUIC_KEY, k.MpquicKey)]
MpquicKeyReport = Annotated[k.MpquicKeyReport, Ie(IeType.MPQUIC_KEY_REPORT, k.MpquicKeyReport)]
MpquicKeyCapability = Annotated[k.MpquicKeyCapability, Ie(IeType.MPQUIC_KEY_CAPABILITY, k.MpquicKeyCapability)]
