"""scapy layers of the information elements of 5GS NAS (TS 24.501 §9.11): those whose inside matters here have fields, every
other one is octets under its name.

How an IE stands on the wire follows from its class: NasIeHalf (tag and value in one octet), NasIeTv (tag, value), NasIe (tag,
length, value), NasIeExtended (a length of two octets). TS 24.007 §11.2.4 tells which an unknown tag has.
"""

# ruff: noqa: RUF012  (fields_desc is scapy's way)

from __future__ import annotations

import struct
from typing import Any

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    ConditionalField,
    FlagsField,
    IPField,
    ShortField,
    StrField,
    XByteField,
)

from lab.packets.fields import BytesField, Layer, Leaf, OneField

IDENTITY_TYPES = {0: "none", 1: "SUCI", 2: "5G-GUTI", 3: "IMEI", 4: "5G-S-TMSI", 5: "IMEISV", 6: "MAC address", 7: "EUI-64"}
SESSION_TYPES = {1: "IPv4", 2: "IPv6", 3: "IPv4v6", 4: "Unstructured", 5: "Ethernet"}
ALGORITHMS = 8              # EA0 to EA7 and IA0 to IA7, from bit 8 down


# ---- mobile identities (§9.11.3.4) ---------------------------------------------------------------------------------------


class PlmnField(BytesField):
    """MCC and MNC in three octets (§9.11.3.4); shown as digits."""

    def __init__(self, name: str) -> None:
        BytesField.__init__(self, name, bytes.fromhex("00f110"), 3)

    def i2repr(self, pkt: Any, x: Any) -> str:
        digits = [n for octet in bytes(x or b"") for n in (octet & 15, octet >> 4)]
        if len(digits) < 6:
            return BytesField.i2repr(self, pkt, x)
        c1, c2, c3, n3, n1, n2 = digits
        return f"{c1:x}{c2:x}{c3:x}-{n1:x}{n2:x}" + ("" if n3 == 15 else f"{n3:x}")


class NasIdentity(Layer):
    """Any mobile identity: its type, and octets. NasSuci and NasGuti have fields."""

    name = "mobile identity"
    fields_desc = [BitField("digit", 0, 4), BitField("odd", 0, 1), BitEnumField("identity", 0, 3, IDENTITY_TYPES),
                   BytesField("octets", b"")]


class NasSuci(Layer):
    """SUCI of an IMSI; with scheme 0 (null) `output` is the MSIN in BCD."""

    name = "SUCI"
    fields_desc = [
        BitField("spare", 0, 1), BitField("supi_format", 0, 3), BitField("spare_2", 0, 1),
        BitEnumField("identity", 1, 3, IDENTITY_TYPES), PlmnField("plmn"), BytesField("routing", bytes.fromhex("f0ff"), 2),
        BitField("spare_3", 0, 4), BitField("scheme", 0, 4), ByteField("key_id", 0), BytesField("output", b""),
    ]


class NasGuti(Layer):
    """5G-GUTI: AMF region, set, pointer, 5G-TMSI."""

    name = "5G-GUTI"
    fields_desc = [
        BitField("ones", 15, 4), BitField("spare", 0, 1), BitEnumField("identity", 2, 3, IDENTITY_TYPES), PlmnField("plmn"),
        ByteField("amf_region", 0), BitField("amf_set", 0, 10), BitField("amf_pointer", 0, 6), BytesField("tmsi", bytes(4), 4),
    ]


def identity_layer(_packet: Any, data: bytes) -> Any:
    kind = data[0] & 7
    if kind == 1 and not data[0] >> 4 & 7 and len(data) >= 8:
        return NasSuci
    return NasGuti if kind == 2 and len(data) == 11 else NasIdentity


# ---- the four formats ----------------------------------------------------------------------------------------------------


class _Counted(Leaf):
    """tag, length, value. The length is computed when left at None; it may be set, to lie."""

    width = 1

    def post_build(self, p: bytes, pay: bytes) -> bytes:
        if self.length is None:
            rest = len(p) - 1 - self.width
            p = p[:1] + rest.to_bytes(self.width, "big") + p[1 + self.width:]
        return p + pay


def _tlv(tag: int, *fields: Any) -> list[Any]:
    return [XByteField("tag", tag), ByteField("length", None), *(fields or (BytesField("value", b""),))]


def _tlve(tag: int, *fields: Any) -> list[Any]:
    return [XByteField("tag", tag), ShortField("length", None), *(fields or (BytesField("value", b""),))]


class NasIe(_Counted):
    """tag, length, value."""

    name = "IE"
    fields_desc = _tlv(0x25)


class NasIeExtended(_Counted):
    """tag, length of two octets, value (tags 7x)."""

    name = "IE"
    width = 2
    fields_desc = _tlve(0x71)


class NasIeTv(Leaf):
    """tag, value: how long it is, the message's table tells."""

    name = "IE"
    fields_desc = [XByteField("tag", 0x12), BytesField("value", b"\5")]


class NasIeHalf(Leaf):
    """Tag and value in one octet."""

    name = "IE"
    fields_desc = [BitField("tag", 8, 4), BitField("value", 0, 4)]


# ---- elements with fields ------------------------------------------------------------------------------------------------


class LabelsField(StrField):  # type: ignore[misc]
    """A DNN: labels behind their lengths (§9.11.2.1B), as text with dots."""

    def i2m(self, pkt: Any, x: Any) -> bytes:
        text = x if isinstance(x, bytes) else str(x or "").encode()
        return b"".join(bytes((len(label) & 0xFF,)) + label for label in text.split(b".")) if text else b""

    def m2i(self, pkt: Any, x: bytes) -> bytes:
        labels, at = [], 0
        while at < len(x):
            labels.append(x[at + 1:at + 1 + x[at]])
            at += 1 + x[at]
        return b".".join(labels)

    def i2repr(self, pkt: Any, x: Any) -> str:
        return repr(bytes(x or b"") if not isinstance(x, str) else x.encode())[1:]


class NasIeDnn(NasIe):
    """DNN (§9.11.2.1B)"""

    name = "DNN"
    fields_desc = _tlv(0x25, LabelsField("dnn", b""))


class NasIeSnssai(NasIe):
    """S-NSSAI: SST, SD (§9.11.2.8)"""

    name = "S-NSSAI"
    fields_desc = _tlv(0x22, ByteField("sst", 1), BytesField("sd", b""))


class NasIeUeSecurityCapability(NasIe):
    """UE security capability (§9.11.3.54)"""

    name = "UE security capability"
    fields_desc = _tlv(0x2E, FlagsField("ea", 0, 8, [f"EA{n}" for n in range(7, -1, -1)]),
                       FlagsField("ia", 0, 8, [f"IA{n}" for n in range(7, -1, -1)]), BytesField("more", b""))


class NasIeGuti(NasIeExtended):
    """5G-GUTI (§9.11.3.4)"""

    name = "5G-GUTI"
    fields_desc = _tlve(0x77, OneField("identity", identity_layer))


class NasIePduAddress(NasIe):
    """PDU address: an IPv4 address, an interface identifier, or both (§9.11.4.10)"""

    name = "PDU address"
    fields_desc = _tlv(
        0x29, BitField("spare", 0, 5), BitEnumField("type", 1, 3, SESSION_TYPES),
        ConditionalField(BytesField("interface_id", bytes(8), 8), lambda packet: packet.type in (2, 3)),
        ConditionalField(IPField("ipv4", "0.0.0.0"), lambda packet: packet.type in (1, 3)), BytesField("more", b""))


class NasIeSessionCapability(NasIe):
    """5GSM capability (§9.11.4.1): the bits of ATSSS"""

    name = "5GSM capability"
    fields_desc = _tlv(
        0x28, BitField("tpmic", 0, 1), BitField("atsss_st", 0, 4), BitField("ept_s1", 0, 1), BitField("mh6_pdu", 0, 1),
        BitField("rqos", 0, 1), BytesField("more", b""))


class NasIeNasMessage(NasIeExtended):
    """NAS message container (§9.11.3.33): a whole message in clear"""

    name = "NAS message container"

    @staticmethod
    def _layer(_packet: Any, _data: bytes) -> Any:
        from lab.packets.nas import Nas

        return Nas

    fields_desc = _tlve(0x71, OneField("message", _layer))


class NasIeSessionAmbr(NasIe):
    """Session AMBR (§9.11.4.14)"""

    name = "session AMBR"
    fields_desc = _tlv(0x2A, ByteField("down_unit", 6), ShortField("down", 0), ByteField("up_unit", 6), ShortField("up", 0))


class NasAmbr(Layer):
    """Session AMBR where it is mandatory: unit 1 is 1 kbit/s, each further one 4 times that, every fifth 1000 times."""

    name = "session AMBR"
    fields_desc = [ByteField("down_unit", 6), ShortField("down", 1000), ByteField("up_unit", 6), ShortField("up", 1000)]


# ---- reading the optional part of a message --------------------------------------------------------------------------------

Element = tuple[str, Any, int]      # name, layer, octets of the value (TV only)
Table = dict[int, Element]          # by tag (a half octet's: 8 to F)


def read_ie(data: bytes, table: Table) -> tuple[Any, int] | None:
    """The first IE as a layer, and its octets; None where it is cut off."""
    tag = data[0] >> 4 if data[0] & 0x80 else data[0]
    name, layer, size = table.get(tag, ("", None, 0))
    if layer is None:
        layer = NasIeHalf if data[0] & 0x80 else NasIeExtended if tag >> 4 == 7 else NasIe
    if issubclass(layer, NasIeHalf):
        end = 1
    elif issubclass(layer, NasIeTv):
        end = 1 + size
    else:
        width = layer.width
        if len(data) < 1 + width:
            return None
        end = 1 + width + int.from_bytes(data[1:1 + width], "big")
    if end > len(data):
        return None
    try:
        found = layer(data[:end])
    except (struct.error, OSError, ValueError):             # shorter than its fields: under its name, as octets
        found = (NasIeExtended if issubclass(layer, NasIeExtended) else NasIe)(data[:end])
    if name:
        found.name = name
    return found, end
