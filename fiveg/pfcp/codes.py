"""Code points of PFCP (TS 29.244 v19.5.0), each in this one place. Bit numbers are 3GPP's: bit 1 is the lowest."""

from enum import Enum, IntEnum, IntFlag

PORT = 8805
VERSION = 1
ENTERPRISE = 32473
"""Enterprise number of our vendor IEs: the one for documentation (RFC 5612); a product needs its own."""
NTP_EPOCH = 2208988800
"""Seconds from 1900 to 1970: recovery time stamps count from 1900 (TS 29.244 §8.2.65)."""


class MessageType(IntEnum):
    """TS 29.244 §7.3. A response is its request plus one."""

    HEARTBEAT_REQUEST = 1
    HEARTBEAT_RESPONSE = 2
    ASSOCIATION_SETUP_REQUEST = 5
    ASSOCIATION_SETUP_RESPONSE = 6
    ASSOCIATION_UPDATE_REQUEST = 7
    ASSOCIATION_UPDATE_RESPONSE = 8
    ASSOCIATION_RELEASE_REQUEST = 9
    ASSOCIATION_RELEASE_RESPONSE = 10
    VERSION_NOT_SUPPORTED_RESPONSE = 11
    NODE_REPORT_REQUEST = 12
    NODE_REPORT_RESPONSE = 13
    SESSION_ESTABLISHMENT_REQUEST = 50
    SESSION_ESTABLISHMENT_RESPONSE = 51
    SESSION_MODIFICATION_REQUEST = 52
    SESSION_MODIFICATION_RESPONSE = 53
    SESSION_DELETION_REQUEST = 54
    SESSION_DELETION_RESPONSE = 55
    SESSION_REPORT_REQUEST = 56
    SESSION_REPORT_RESPONSE = 57


class IeType(IntEnum):
    """TS 29.244 §8.1.2; from 0x8000 on ours, under ENTERPRISE."""

    CREATE_PDR = 1
    PDI = 2
    CREATE_FAR = 3
    FORWARDING_PARAMETERS = 4
    CREATE_QER = 7
    CREATED_PDR = 8
    UPDATE_PDR = 9
    UPDATE_FAR = 10
    UPDATE_FORWARDING_PARAMETERS = 11
    UPDATE_QER = 14
    REMOVE_PDR = 15
    REMOVE_FAR = 16
    REMOVE_QER = 18
    CAUSE = 19
    SOURCE_INTERFACE = 20
    F_TEID = 21
    NETWORK_INSTANCE = 22
    SDF_FILTER = 23
    GATE_STATUS = 25
    MBR = 26
    GBR = 27
    PRECEDENCE = 29
    REPORT_TYPE = 39
    OFFENDING_IE = 40
    DESTINATION_INTERFACE = 42
    UP_FUNCTION_FEATURES = 43
    APPLY_ACTION = 44
    PDR_ID = 56
    F_SEID = 57
    NODE_ID = 60
    OUTER_HEADER_CREATION = 84
    CP_FUNCTION_FEATURES = 89
    UE_IP_ADDRESS = 93
    OUTER_HEADER_REMOVAL = 95
    RECOVERY_TIME_STAMP = 96
    NODE_REPORT_TYPE = 101
    FAR_ID = 108
    QER_ID = 109
    ASSOCIATION_RELEASE_REQUEST = 111
    PDN_TYPE = 113
    FAILED_RULE_ID = 114
    QFI = 124
    USER_ID = 141
    APN_DNN = 159
    INTERFACE_TYPE = 160
    SRREQ_FLAGS = 161
    CREATE_MAR = 165
    ACCESS_3GPP = 166
    ACCESS_NON_3GPP = 167
    REMOVE_MAR = 168
    UPDATE_MAR = 169
    MAR_ID = 170
    STEERING_FUNCTIONALITY = 171
    STEERING_MODE = 172
    WEIGHT = 173
    PRIORITY = 174
    UPDATE_ACCESS_3GPP = 175
    UPDATE_ACCESS_NON_3GPP = 176
    REMOVE_SRR = 211
    CREATE_SRR = 212
    UPDATE_SRR = 213
    SESSION_REPORT = 214
    SRR_ID = 215
    ACCESS_AVAILABILITY_CONTROL = 216
    REQUESTED_ACCESS_AVAILABILITY = 217
    ACCESS_AVAILABILITY_REPORT = 218
    ACCESS_AVAILABILITY = 219
    PROVIDE_ATSSS_CONTROL = 220
    ATSSS_CONTROL_PARAMETERS = 221
    MPTCP_CONTROL = 222
    ATSSS_LL_CONTROL = 223
    PMF_CONTROL = 224
    LINK_SPECIFIC_ADDRESS = 229
    S_NSSAI = 257
    MULTIPATH_APPLICABLE = 265
    THRESHOLDS = 288
    STEERING_MODE_INDICATOR = 289
    MPQUIC_CONTROL = 330
    MPQUIC_PARAMETERS = 331
    MPQUIC_ADDRESS = 332
    TRANSPORT_MODE = 333
    MPQUIC_KEY_REQUEST = 0x8001
    MPQUIC_KEY = 0x8002
    MPQUIC_KEY_REPORT = 0x8003
    MPQUIC_KEY_CAPABILITY = 0x8004


class Cause(IntEnum):
    """TS 29.244 §8.2.1; below 64: accepted."""

    ACCEPTED = 1
    MORE_USAGE_REPORTS = 2
    PARTIALLY_ACCEPTED = 3
    REQUEST_REJECTED = 64
    SESSION_CONTEXT_NOT_FOUND = 65
    MANDATORY_IE_MISSING = 66
    CONDITIONAL_IE_MISSING = 67
    INVALID_LENGTH = 68
    MANDATORY_IE_INCORRECT = 69
    INVALID_FORWARDING_POLICY = 70
    INVALID_F_TEID_ALLOCATION = 71
    NO_ESTABLISHED_ASSOCIATION = 72
    RULE_FAILURE = 73
    CONGESTION = 74
    NO_RESOURCES = 75
    SERVICE_NOT_SUPPORTED = 76
    SYSTEM_FAILURE = 77
    REDIRECTION_REQUESTED = 78
    ADDRESSES_OCCUPIED = 79

    @property
    def accepted(self) -> bool:
        return self < Cause.REQUEST_REJECTED


class SourceInterface(IntEnum):
    """TS 29.244 §8.2.2"""

    ACCESS = 0
    CORE = 1
    N6_LAN = 2
    CP_FUNCTION = 3


class DestinationInterface(IntEnum):
    """TS 29.244 §8.2.24"""

    ACCESS = 0
    CORE = 1
    N6_LAN = 2
    CP_FUNCTION = 3
    LI_FUNCTION = 4


class InterfaceType(IntEnum):
    """3GPP Interface Type, TS 29.244 §8.2.118: those that a MA PDU session has."""

    N3_3GPP = 11
    N3_TRUSTED_NON_3GPP = 12
    N3_UNTRUSTED_NON_3GPP = 13
    N6 = 17


class PdnType(IntEnum):
    """TS 29.244 §8.2.79"""

    IPV4 = 1
    IPV6 = 2
    IPV4V6 = 3
    NON_IP = 4
    ETHERNET = 5


class ApplyAction(IntFlag):
    """TS 29.244 §8.2.26; exactly one of DROP, FORW, BUFF."""

    DROP = 1
    FORW = 2
    BUFF = 4
    NOCP = 8
    DUPL = 16


class ReportType(IntFlag):
    """TS 29.244 §8.2.21"""

    DLDR = 1
    USAR = 2
    ERIR = 4
    UPIR = 8
    TMIR = 16
    SESR = 32
    UISR = 64


class ReportFlags(IntFlag):
    """PFCPSRReq-Flags, TS 29.244 §8.2.119"""

    PSDBU = 1
    PPPCP = 2


class NodeReportType(IntFlag):
    """TS 29.244 §8.2.69"""

    UPFR = 1
    UPRR = 2
    CKDR = 4
    GPQR = 8
    PURR = 16


class RuleKind(IntEnum):
    """Rule ID Type of Failed Rule ID, TS 29.244 §8.2.80"""

    PDR = 0
    FAR = 1
    QER = 2
    URR = 3
    BAR = 4
    MAR = 5
    SRR = 6


class SteeringFunctionality(IntEnum):
    """TS 29.244 §8.2.124 (0-based; the NAS codes of TS 24.193 are not)"""

    ATSSS_LL = 0
    MPTCP = 1
    MPQUIC_UDP = 2
    MPQUIC_IP = 3
    MPQUIC_E = 4

    @property
    def mpquic(self) -> bool:
        return self >= SteeringFunctionality.MPQUIC_UDP


class SteeringMode(IntEnum):
    """TS 29.244 §8.2.125"""

    ACTIVE_STANDBY = 0
    SMALLEST_DELAY = 1
    LOAD_BALANCING = 2
    PRIORITY_BASED = 3
    REDUNDANT = 4


class Priority(IntEnum):
    """TS 29.244 §8.2.127"""

    ACTIVE = 0
    STANDBY = 1
    NO_STANDBY = 2
    HIGH = 3
    LOW = 4
    PRIMARY = 5
    SECONDARY = 6


class TransportMode(IntEnum):
    """TS 29.244 §8.2.227"""

    DATAGRAM_1 = 0
    DATAGRAM_2 = 1
    STREAM = 2


class SteeringModeIndicator(IntFlag):
    """ALBI: autonomous load balance; UEAI: UE assistance; never both (TS 29.244 §8.2.197)"""

    ALBI = 1
    UEAI = 2


class MpquicControl(IntFlag):
    """MPQUIC Control Information, TS 29.244 §8.2.225; at least one"""

    CONNECT_UDP = 1
    CONNECT_IP = 2
    CONNECT_ETHERNET = 4


class MultipathApplicable(IntFlag):
    """TS 29.244 §8.2.181"""

    MPTCP = 1
    MPQUIC = 2


class ProxyType(IntEnum):
    """MPQUIC proxy type of TS 24.193 §6.1.4 as PFCP IE 332 takes it over; the codes are UNVERIFIED, ours."""

    CONNECT_UDP = 1
    CONNECT_IP = 2
    CONNECT_ETHERNET = 3
    CONNECT_IP_UDP = 4


class AccessType(IntEnum):
    """Access of the availability IEs, TS 29.244 §8.2.153"""

    ACCESS_3GPP = 0
    NON_3GPP = 1


class UpFeature(Enum):
    """UP Function Features that matter here: (octet of the IE counted from 5, bit), TS 29.244 §8.2.25"""

    FTUP = (5, 5)
    UEIP = (7, 3)
    MPTCP = (8, 8)
    ATSSS_LL = (9, 1)
    RTTWP = (10, 1)
    MPQUIC_UDP = (11, 8)
    REDSM = (12, 1)
    MPQUIC_IP = (14, 5)
    MPQUIC_E = (14, 6)


class KeyReason(IntEnum):
    """Why the UPF asks for a key (our IE 0x8001)"""

    INITIAL = 1
    PACKET_LIMIT = 2
    LIFETIME = 3
    BINDER_FAILURES = 4
    RESTART = 5


class KeyEvent(IntEnum):
    """What became of a key (our IE 0x8003)"""

    INSTALLED = 1
    IN_USE = 2
    BINDER_FAILURE = 3
    PACKET_LIMIT_NEAR = 4
    LIFETIME_NEAR = 5
    CONNECTION_ENDED = 6
    SPENT = 7
    UNWRAP_FAILED = 8


class KeyFlags(IntFlag):
    """Flags of our IE 0x8002"""

    END_OLD_NOW = 1
    REVOKE = 2


class KeyCapabilityFlags(IntFlag):
    """Flags of our IE 0x8004"""

    KEYS = 1
    AES_KW_256 = 2


class UeIdType(IntEnum):
    """Type of the UE identifier in our IE 0x8002"""

    OPAQUE = 1
    SUPI = 2
    GPSI = 3
