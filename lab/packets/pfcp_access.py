"""scapy layers of the PFCP IEs of a session over several accesses (TS 29.244 Release 19: MAR, SRR, ATSSS control, MPQUIC).

scapy's PFCP ends with IE 160; importing this module adds these to it, so that they are shown wherever a message lists IEs, and
replaces three that it reads by an older release.
"""



from __future__ import annotations

from typing import Any

from scapy.contrib.pfcp import IE_Base, IE_Compound, ietypecls
from scapy.fields import (
    BitEnumField,
    BitField,
    ByteEnumField,
    ByteField,
    ConditionalField,
    FlagsField,
    IP6Field,
    IPField,
    ShortField,
)

from lab.packets.fields import BytesField, CutOff, SizedIntegerField

FUNCTIONALITIES = {0: "ATSSS-LL", 1: "MPTCP", 2: "MPQUIC-UDP", 3: "MPQUIC-IP", 4: "MPQUIC-E"}
MODES = {0: "active-standby", 1: "smallest delay", 2: "load balancing", 3: "priority-based", 4: "redundant"}
PRIORITIES = {0: "active", 1: "standby", 2: "no standby", 3: "high", 4: "low", 5: "primary", 6: "secondary"}
PROXY_TYPES = {1: "CONNECT-UDP", 2: "CONNECT-IP", 3: "CONNECT-Ethernet", 4: "CONNECT-IP and -UDP"}
TRANSPORT_MODES = {0: "datagram 1", 1: "datagram 2", 2: "stream"}
ACCESSES = {0: "3GPP", 1: "non-3GPP"}

GROUPED = {
    165: ("CreateMAR", "Create MAR"), 166: ("AccessAction3GPP", "3GPP Access Forwarding Action Information"),
    167: ("AccessActionNon3GPP", "Non-3GPP Access Forwarding Action Information"), 168: ("RemoveMAR", "Remove MAR"),
    169: ("UpdateMAR", "Update MAR"), 175: ("UpdateAccessAction3GPP", "Update 3GPP Access Forwarding Action Information"),
    176: ("UpdateAccessActionNon3GPP", "Update Non-3GPP Access Forwarding Action Information"), 211: ("RemoveSRR", "Remove SRR"),
    212: ("CreateSRR", "Create SRR"), 213: ("UpdateSRR", "Update SRR"), 214: ("SessionReport", "Session Report"),
    216: ("AccessAvailabilityControl", "Access Availability Control Information"),
    218: ("AccessAvailabilityReport", "Access Availability Report"),
    220: ("ProvideATSSSControl", "Provide ATSSS Control Information"), 221: ("ATSSSControlParameters", "ATSSS Control Parameters"),
    331: ("MPQUICParameters", "MPQUIC Parameters"),
}


def _bits(name: str, names: dict[int, str]) -> list[Any]:
    return [BitField("spare", 0, 4), BitEnumField(name, 0, 4, names)]


def _flags(*names: str) -> list[Any]:
    """Bit 1 is the first name."""
    return [FlagsField("flags", 0, 8, [*names, *(f"bit{n + 1}" for n in range(len(names), 8))])]


def _if(bit: int, field: Any) -> Any:
    return ConditionalField(field, lambda packet: bool(int(packet.flags) & bit))


RULES = {0: "PDR", 1: "FAR", 2: "QER", 3: "URR", 4: "BAR", 5: "MAR", 6: "SRR"}
RULE_ID_SIZES = {0: 2, 4: 1, 5: 2, 6: 1}                # octets of a rule's ID where they are not 4 (§8.2.80)

# 22, 39 and 114 replace scapy's: a Network Instance may be plain text (§8.2.4), and newer rules and reports are known here.
SINGLE: dict[int, tuple[str, str, list[Any]]] = {
    22: ("NetworkInstanceText", "Network Instance", [BytesField("instance", b"", lambda packet: packet.length)]),
    39: ("ReportTypeRelease19", "Report Type", _flags("DLDR", "USAR", "ERIR", "UPIR", "TMIR", "SESR", "UISR")),
    114: ("FailedRule", "Failed Rule ID",
          [BitField("spare", 0, 3), BitEnumField("rule", 0, 5, RULES),
           SizedIntegerField("id", 0, lambda packet: RULE_ID_SIZES.get(packet.rule, 4))]),
    170: ("MAR_Id", "MAR ID", [ShortField("id", 0)]),
    171: ("SteeringFunctionality", "Steering Functionality", _bits("functionality", FUNCTIONALITIES)),
    172: ("SteeringMode", "Steering Mode", _bits("mode", MODES)),
    173: ("Weight", "Weight", [ByteField("weight", 0)]),
    174: ("Priority", "Priority", _bits("priority", PRIORITIES)),
    215: ("SRR_Id", "SRR ID", [ByteField("id", 0)]),
    217: ("RequestedAccessAvailability", "Requested Access Availability Information", _flags("RRCA")),
    219: ("AccessAvailability", "Access Availability Information",
          [BitField("spare", 0, 4), BitField("status", 0, 2), BitEnumField("access", 0, 2, ACCESSES)]),
    222: ("MPTCPControl", "MPTCP Control Information", _flags("TCI")),
    223: ("ATSSSLLControl", "ATSSS-LL Control Information", _flags("LLI")),
    224: ("PMFControl", "PMF Control Information", _flags("PMFI", "DRTTI", "PQPM")),
    229: ("LinkSpecificAddress", "UE Link-Specific IP Address",
          [*_flags("V4", "V6", "NV4", "NV6"), _if(1, IPField("ipv4_3gpp", "0.0.0.0")), _if(2, IP6Field("ipv6_3gpp", "::")),
           _if(4, IPField("ipv4_non_3gpp", "0.0.0.0")), _if(8, IP6Field("ipv6_non_3gpp", "::"))]),
    257: ("SNSSAI", "S-NSSAI", [ByteField("sst", 1), BytesField("sd", b"\xff\xff\xff", 3)]),
    265: ("MultipathApplicable", "MPTCP Applicable Indication", _flags("MAI", "MQAI")),
    288: ("Thresholds", "Thresholds", [*_flags("RTT", "PLR"), _if(1, ShortField("rtt_ms", 0)), _if(2, ByteField("loss", 0))]),
    289: ("SteeringModeIndicator", "Steering Mode Indicator", _flags("ALBI", "UEAI")),
    330: ("MPQUICControl", "MPQUIC Control Information", _flags("UDP", "IP", "ETH")),
    332: ("MPQUICAddress", "MPQUIC Address Information",
          [*_flags("V4", "V6"), ByteEnumField("proxy_type", 2, PROXY_TYPES), ShortField("port", 4433),
           _if(1, IPField("ipv4", "0.0.0.0")), _if(2, IP6Field("ipv6", "::"))]),
    333: ("TransportMode", "Transport Mode", _bits("mode", TRANSPORT_MODES)),
}


def _size_of_more(packet: Any) -> int:
    """What is left of the IE's length behind the fields that this release knows."""
    spent = sum(len(field.addfield(packet, b"", packet.getfieldval(field.name)))
                for field in packet.fields_desc[2:-1] if not _in_bits(field))
    return max(0, int(packet.length or 0) - spent - _bit_octets(packet))


def _in_bits(field: Any) -> bool:
    return isinstance(field, BitField | BitEnumField | FlagsField)


def _bit_octets(packet: Any) -> int:
    return int(sum(field.size for field in packet.fields_desc if _in_bits(field))) // 8


def _layer(kind: int, name: str, words: str, base: Any, fields: list[Any]) -> Any:
    more = [*fields, BytesField("more", b"", _size_of_more)] if fields else []
    make: Any = type(IE_Base)
    return make(f"IE_{name}", (CutOff, base), {"name": f"IE {words}", "ie_type": kind, "fields_desc": base.fields_desc + more,
                                        "__module__": __name__, "__doc__": words})


ACCESS_LAYERS = {kind: _layer(kind, name, words, IE_Compound, []) for kind, (name, words) in GROUPED.items()}
ACCESS_LAYERS |= {kind: _layer(kind, name, words, IE_Base, fields) for kind, (name, words, fields) in SINGLE.items()}
ACCESS_LAYER_NAMES = sorted(layer.__name__ for layer in ACCESS_LAYERS.values())
globals().update({layer.__name__: layer for layer in ACCESS_LAYERS.values()})
ietypecls.update(ACCESS_LAYERS)
