"""scapy layers of the 5GMM and 5GSM messages, made from one table each (TS 24.501 §8.2, §8.3).

A message is its header, its mandatory fields in order, and `ies`: the optional ones, each under its name. The layers are named
Nas plus the message's name: NasRegistrationRequest, NasPduSessionEstablishmentAccept, ... A tag that a table lacks is read by
TS 24.007 §11.2.4 and stays without a name.
"""

from __future__ import annotations

from typing import Any

from scapy.fields import BitEnumField, BitField, ByteEnumField, ByteField, PacketListField, XByteField
from scapy.packet import Raw

from lab.packets.fields import BytesField, CountedBytesField, Layer, OneField
from lab.packets.nas_ies import (
    IDENTITY_TYPES,
    SESSION_TYPES,
    NasAmbr,
    NasIe,
    NasIeDnn,
    NasIeExtended,
    NasIeGuti,
    NasIeHalf,
    NasIeNasMessage,
    NasIePduAddress,
    NasIeSessionAmbr,
    NasIeSessionCapability,
    NasIeSnssai,
    NasIeTv,
    NasIeUeSecurityCapability,
    Table,
    identity_layer,
    read_ie,
)
from lab.packets.nas_plain import EPD_5GMM, EPD_5GSM, MM_NAMES, SECURITY_HEADERS, SM_NAMES

REGISTRATION_TYPES = {1: "initial", 2: "mobility", 3: "periodic", 4: "emergency", 9: "initial, follow-on",
                      10: "mobility, follow-on", 11: "periodic, follow-on", 12: "emergency, follow-on"}


class IesField(PacketListField):  # type: ignore[misc]
    """Optional IEs to the end of the message; one that is cut off stays Raw, with everything behind it."""

    __slots__ = ("_table",)

    def __init__(self, name: str, table: Table) -> None:
        PacketListField.__init__(self, name, [], None)
        self._table = table

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, list[Any]]:
        out: list[Any] = []
        while s:
            found = read_ie(s, self._table)
            if found is None:
                out.append(Raw(s))
                break
            out.append(found[0])
            s = s[found[1]:]
        return b"", out


class NasMessage(Layer):
    """Base of all of them."""

    def ie(self, name: str) -> Any:
        """The first IE of this name, or None."""
        return next((ie for ie in self.ies if ie.name == name), None)

    @property
    def ie_names(self) -> list[str]:
        return [ie.name for ie in self.ies]


# ---- the tables ----------------------------------------------------------------------------------------------------------


def _tlv(name: str, layer: Any = NasIe) -> tuple[str, Any, int]:
    return name, layer, 0


def _tlve(name: str, layer: Any = NasIeExtended) -> tuple[str, Any, int]:
    return name, layer, 0


def _tv(name: str, size: int = 1) -> tuple[str, Any, int]:
    return name, NasIeTv, size


def _half(name: str) -> tuple[str, Any, int]:
    return name, NasIeHalf, 0


def _pair(high: Any, low: Any) -> list[Any]:
    """Two half octets; the standard names the low one first, the wire has the high one first."""
    return [high, low]


def _spare() -> Any:
    return BitField("spare_half", 0, 4)


def _ngksi() -> Any:
    return BitField("ngksi", 7, 4)


def _cause() -> list[Any]:
    return [ByteField("cause", 111)]


def _identity() -> list[Any]:
    return [OneField("identity", identity_layer, 2)]


EAP, CAUSE_TV = _tlve("EAP message"), _tv("cause")
STATUS = {0x50: _tlv("PDU session status")}
EPCO = {0x7B: _tlve("extended protocol configuration options")}
DNN, SNSSAI = _tlv("DNN", NasIeDnn), _tlv("S-NSSAI", NasIeSnssai)
GUTI = _tlve("5G-GUTI", NasIeGuti)
CAPABILITY = _tlv("UE security capability", NasIeUeSecurityCapability)
CONTAINER = _tlve("NAS message container", NasIeNasMessage)
ATSSS = _tlve("ATSSS container")
QOS = {0x7A: _tlve("QoS rules"), 0x79: _tlve("QoS flow descriptions"), 0x75: _tlve("mapped EPS bearer contexts")}

Message = tuple[str, list[Any], Table]      # name of the layer, mandatory fields, optional IEs

MM: dict[int, Message] = {
    0x41: ("RegistrationRequest",
           [*_pair(_ngksi(), BitEnumField("registration_type", 9, 4, REGISTRATION_TYPES)), *_identity()],
           {0xC: _half("non-current native ngKSI"), 0x10: _tlv("5GMM capability"), 0x2E: CAPABILITY,
            0x2F: _tlv("requested NSSAI"), 0x52: _tv("last visited registered TAI", 6), 0x17: _tlv("S1 UE network capability"),
            0x40: _tlv("uplink data status"), **STATUS, 0xB: _half("MICO indication"), 0x2B: _tlv("UE status"),
            0x77: ("additional GUTI", NasIeGuti, 0), 0x25: _tlv("allowed PDU session status"), 0x18: _tlv("UE's usage setting"),
            0x51: _tlv("requested DRX parameters"), 0x70: _tlve("EPS NAS message container"), 0x74: _tlve("LADN indication"),
            0x8: _half("payload container type"), 0x7B: _tlve("payload container"), 0x9: _half("network slicing indication"),
            0x53: _tlv("5GS update type"), 0x71: CONTAINER, 0x60: _tlv("EPS bearer context status")}),
    0x42: ("RegistrationAccept", [CountedBytesField("result", b"\1", 1)],
           {0x77: GUTI, 0x4A: _tlv("equivalent PLMNs"), 0x54: _tlv("TAI list"), 0x15: _tlv("allowed NSSAI"),
            0x11: _tlv("rejected NSSAI"), 0x31: _tlv("configured NSSAI"), 0x21: _tlv("5GS network feature support"), **STATUS,
            0x26: _tlv("PDU session reactivation result"), 0x72: _tlve("PDU session reactivation result error cause"),
            0x79: _tlve("LADN information"), 0xB: _half("MICO indication"), 0x9: _half("network slicing indication"),
            0x27: _tlv("service area list"), 0x5E: _tlv("T3512"), 0x5D: _tlv("non-3GPP de-registration timer"),
            0x16: _tlv("T3502"), 0x34: _tlv("emergency number list"), 0x7A: _tlve("extended emergency number list"),
            0x73: _tlve("SOR transparent container"), 0x78: EAP, 0xA: _half("NSSAI inclusion mode"),
            0x76: _tlve("operator-defined access categories"), 0x51: _tlv("negotiated DRX parameters")}),
    0x43: ("RegistrationComplete", [], {0x73: _tlve("SOR transparent container")}),
    0x44: ("RegistrationReject", _cause(), {0x5F: _tlv("T3346"), 0x16: _tlv("T3502"), 0x78: EAP}),
    0x45: ("DeregistrationRequestUe", [*_pair(_ngksi(), BitField("deregistration_type", 1, 4)), *_identity()], {}),
    0x46: ("DeregistrationAcceptUe", [], {}),
    0x47: ("DeregistrationRequestNetwork", _pair(_spare(), BitField("deregistration_type", 1, 4)),
           {0x58: CAUSE_TV, 0x5F: _tlv("T3346")}),
    0x48: ("DeregistrationAcceptNetwork", [], {}),
    0x4C: ("ServiceRequest", [*_pair(BitField("service_type", 0, 4), _ngksi()), *_identity()],
           {0x40: _tlv("uplink data status"), **STATUS, 0x25: _tlv("allowed PDU session status"), 0x71: CONTAINER}),
    0x4D: ("ServiceReject", _cause(), {**STATUS, 0x5F: _tlv("T3346"), 0x78: EAP}),
    0x4E: ("ServiceAccept", [],
           {**STATUS, 0x26: _tlv("PDU session reactivation result"), 0x78: EAP,
            0x72: _tlve("PDU session reactivation result error cause")}),
    0x54: ("ConfigurationUpdateCommand", [],
           {0xD: _half("configuration update indication"), 0x77: GUTI, 0x54: _tlv("TAI list"), 0x15: _tlv("allowed NSSAI"),
            0x27: _tlv("service area list"), 0x43: _tlv("full name for network"), 0x45: _tlv("short name for network"),
            0x46: _tv("local time zone"), 0x47: _tv("universal time and local time zone", 7),
            0x49: _tlv("network daylight saving time"), 0x79: _tlve("LADN information"), 0xB: _half("MICO indication"),
            0x9: _half("network slicing indication"), 0x31: _tlv("configured NSSAI"), 0x11: _tlv("rejected NSSAI"),
            0x76: _tlve("operator-defined access categories"), 0xF: _half("SMS indication")}),
    0x55: ("ConfigurationUpdateComplete", [], {}),
    0x56: ("AuthenticationRequest", [*_pair(_spare(), _ngksi()), CountedBytesField("abba", bytes(2), 1)],
           {0x21: _tv("RAND", 16), 0x20: _tlv("AUTN"), 0x78: EAP}),
    0x57: ("AuthenticationResponse", [], {0x2D: _tlv("RES*"), 0x78: EAP}),
    0x58: ("AuthenticationReject", [], {0x78: EAP}),
    0x59: ("AuthenticationFailure", _cause(), {0x30: _tlv("AUTS")}),
    0x5A: ("AuthenticationResult", [*_pair(_spare(), _ngksi()), CountedBytesField("eap", b"", 2)], {0x38: _tlv("ABBA")}),
    0x5B: ("IdentityRequest", _pair(_spare(), BitEnumField("identity_type", 1, 4, IDENTITY_TYPES)), {}),
    0x5C: ("IdentityResponse", _identity(), {}),
    0x5D: ("SecurityModeCommand",
           [*_pair(BitField("ciphering", 2, 4), BitField("integrity", 2, 4)), *_pair(_spare(), _ngksi()),
            CountedBytesField("capability", b"\xa0\x20", 1)],
           {0xE: _half("IMEISV request"), 0x57: _tv("selected EPS NAS security algorithms"),
            0x36: _tlv("additional 5G security information"), 0x78: EAP, 0x38: _tlv("ABBA"),
            0x19: _tlv("replayed S1 UE security capabilities")}),
    0x5E: ("SecurityModeComplete", [], {0x77: _tlve("IMEISV"), 0x71: CONTAINER, 0x78: _tlve("non-IMEISV PEI")}),
    0x5F: ("SecurityModeReject", _cause(), {}),
    0x64: ("MobilityStatus", _cause(), {}),
    0x65: ("Notification", _pair(_spare(), BitField("access_type", 1, 4)), {}),
    0x66: ("NotificationResponse", [], STATUS),
}
TRANSPORT: Table = {
    0x12: _tv("PDU session ID"), 0x59: _tv("old PDU session ID"), 0x8: _half("request type"), 0x22: SNSSAI, 0x25: DNN,
    0x24: _tlv("additional information"), 0xA: _half("MA PDU session information"), 0xF: _half("release assistance indication"),
    0x58: CAUSE_TV, 0x37: _tlv("back-off timer"),
}
SM: dict[int, Message] = {
    0xC1: ("PduSessionEstablishmentRequest", [BytesField("integrity_rate", b"\xff\xff", 2)],
           {0x9: _half("PDU session type"), 0xA: _half("SSC mode"), 0x28: _tlv("5GSM capability", NasIeSessionCapability),
            0x55: _tv("maximum number of supported packet filters", 2), 0xB: _half("always-on PDU session requested"),
            0x39: _tlv("SM PDU DN request container"), **EPCO, 0x66: _tlv("header compression configuration")}),
    0xC2: ("PduSessionEstablishmentAccept",
           [*_pair(BitField("ssc_mode", 1, 4), BitEnumField("session_type", 1, 4, SESSION_TYPES)),
            CountedBytesField("qos_rules", bytes.fromhex("01000631310101ff01"), 2), OneField("ambr", lambda *_: NasAmbr, 1)],
           {0x59: CAUSE_TV, 0x29: _tlv("PDU address", NasIePduAddress), 0x56: _tv("RQ timer"), 0x22: SNSSAI,
            0x8: _half("always-on PDU session indication"), 0x75: QOS[0x75], 0x78: EAP, 0x79: QOS[0x79], **EPCO, 0x25: DNN,
            0x17: _tlv("5GSM network feature support"), 0x18: _tlv("serving PLMN rate control"), 0x77: ATSSS,
            0xC: _half("control plane only indication"), 0x66: _tlv("header compression configuration")}),
    0xC3: ("PduSessionEstablishmentReject", _cause(),
           {0x37: _tlv("back-off timer"), 0xF: _half("allowed SSC mode"), 0x78: EAP, 0x61: _tlv("congestion re-attempt indicator"),
            **EPCO}),
    0xC9: ("PduSessionModificationRequest", [],
           {0x28: _tlv("5GSM capability", NasIeSessionCapability), 0x59: CAUSE_TV,
            0x55: _tv("maximum number of supported packet filters", 2), 0xB: _half("always-on PDU session requested"),
            0x13: _tv("integrity protection maximum data rate", 2), **QOS, **EPCO}),
    0xCA: ("PduSessionModificationReject", _cause(),
           {0x37: _tlv("back-off timer"), 0x61: _tlv("congestion re-attempt indicator"), **EPCO}),
    0xCB: ("PduSessionModificationCommand", [],
           {0x59: CAUSE_TV, 0x2A: _tlv("session AMBR", NasIeSessionAmbr), 0x56: _tv("RQ timer"),
            0x8: _half("always-on PDU session indication"), **QOS, **EPCO, 0x77: ATSSS}),
    0xCC: ("PduSessionModificationComplete", [], EPCO),
    0xCD: ("PduSessionModificationCommandReject", _cause(), EPCO),
    0xD1: ("PduSessionReleaseRequest", [], {0x59: CAUSE_TV, **EPCO}),
    0xD2: ("PduSessionReleaseReject", _cause(), EPCO),
    0xD3: ("PduSessionReleaseCommand", _cause(),
           {0x37: _tlv("back-off timer"), 0x78: EAP, 0x61: _tlv("congestion re-attempt indicator"), 0xD: _half("access type"),
            **EPCO}),
    0xD4: ("PduSessionReleaseComplete", [], {0x59: CAUSE_TV, **EPCO}),
    0xD6: ("SessionStatus", _cause(), {}),
}


# ---- the layers ----------------------------------------------------------------------------------------------------------


def mobility_header(kind: int) -> list[Any]:
    return [XByteField("epd", EPD_5GMM), BitField("spare", 0, 4), BitEnumField("security", 0, 4, SECURITY_HEADERS),
            ByteEnumField("message_type", kind, MM_NAMES)]


def session_header(kind: int) -> list[Any]:
    return [XByteField("epd", EPD_5GSM), ByteField("pdu_session_id", 5), ByteField("pti", 0),
            ByteEnumField("message_type", kind, SM_NAMES)]


def _layer(name: str, words: str, fields: list[Any], table: Table) -> Any:
    make: Any = type(Layer)
    return make(f"Nas{name}", (NasMessage,), {"name": words, "fields_desc": [*fields, IesField("ies", table)],
                                              "__module__": __name__, "__doc__": words})


MOBILITY_LAYERS = {kind: _layer(name, MM_NAMES[kind], mobility_header(kind) + fields, table)
                   for kind, (name, fields, table) in MM.items()}
SESSION_LAYERS = {kind: _layer(name, SM_NAMES[kind], session_header(kind) + fields, table)
                  for kind, (name, fields, table) in SM.items()}
MESSAGE_LAYER_NAMES = sorted(layer.__name__ for layer in (*MOBILITY_LAYERS.values(), *SESSION_LAYERS.values()))
globals().update({layer.__name__: layer for layer in (*MOBILITY_LAYERS.values(), *SESSION_LAYERS.values())})
