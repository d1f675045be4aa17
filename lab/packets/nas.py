"""scapy layers of N1 in this lab: the envelope on TCP, the 5GS NAS security header, transports, our key container."""

# ruff: noqa: RUF012  (fields_desc is scapy's way)

from __future__ import annotations

from typing import Any

from scapy.fields import (
    BitEnumField,
    BitField,
    ByteEnumField,
    ByteField,
    FieldLenField,
    IntField,
    LenField,
    PacketListField,
    XByteField,
)
from scapy.packet import Packet, Raw

from lab.packets.fields import BytesField, Layer, Leaf
from lab.packets.nas_plain import (
    EPD_5GMM,
    EPD_5GSM,
    KEY_TYPES,
    MM_NAMES,
    PAYLOAD_KEY,
    PAYLOAD_N1_SM,
    SECURITY_HEADERS,
    SM_NAMES,
)

KEY_TLVS = {1: "P0", 2: "key", 3: "lifetime", 4: "cause", 5: "drain time", 6: "fingerprint"}


class Nas(Packet):  # type: ignore[misc]
    """Chooses the layer of a NAS PDU."""

    name = "NAS"

    @classmethod
    def dispatch_hook(cls, _pkt: bytes = b"", *args: Any, **kargs: Any) -> Any:
        if len(_pkt) >= 4 and _pkt[0] == EPD_5GSM:
            return NasSession
        if len(_pkt) >= 3 and _pkt[0] == EPD_5GMM:
            if _pkt[1] & 15:
                return NasSecured
            return NasTransport if _pkt[2] in (0x67, 0x68) else NasMobility
        return Raw


class NasEnvelope(Layer):
    """Two octets of length before each NAS PDU on TCP (TS 24.502 §9.4)."""

    name = "NAS envelope"
    fields_desc = [LenField("length", None, "H")]

    def guess_payload_class(self, payload: bytes) -> Any:
        return Nas

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return s[:self.length], s[self.length:]


class NasSecured(Layer):
    """7E, security header type, MAC, SQN; then a NAS message, ciphered or not (TS 24.501 §9.1.1)."""

    name = "NAS security header"
    fields_desc = [XByteField("epd", EPD_5GMM), BitField("spare", 0, 4),
                   BitEnumField("security", 2, 4, SECURITY_HEADERS), BytesField("mac", bytes(4), 4), ByteField("sqn", 0)]

    def guess_payload_class(self, payload: bytes) -> Any:
        return Nas if self.security in (1, 3) else Raw


class NasMobility(Layer):
    """A plain 5GMM message; its IEs as octets."""

    name = "5GMM message"
    fields_desc = [XByteField("epd", EPD_5GMM), BitField("spare", 0, 4),
                   BitEnumField("security", 0, 4, SECURITY_HEADERS),
                   ByteEnumField("message_type", 0x41, MM_NAMES), BytesField("ies", b"")]


class NasSession(Layer):
    """A plain 5GSM message; its IEs as octets."""

    name = "5GSM message"
    fields_desc = [XByteField("epd", EPD_5GSM), ByteField("pdu_session_id", 5), ByteField("pti", 0),
                   ByteEnumField("message_type", 0xC1, SM_NAMES), BytesField("ies", b"")]


class NasKeyTlv(Leaf):
    """tag 1, length 2, value."""

    name = "key TLV"
    fields_desc = [ByteEnumField("tag", 1, KEY_TLVS), FieldLenField("length", None, "value", "H"),
                   BytesField("value", b"", lambda packet: packet.length)]


class NasKeyContainer(Layer):
    """Payload container type D: our key container."""

    name = "MPQUIC key container"
    fields_desc = [ByteField("version", 1), ByteEnumField("type", 1, KEY_TYPES), ByteField("transaction", 0),
                   IntField("generation", 1), PacketListField("tlvs", [], NasKeyTlv)]


class ContainerField(PacketListField):  # type: ignore[misc]
    """The payload container (LV-E) as the layer that its type says: a list of one, so that scapy shows it in place."""

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, list[Any]]:
        body, rest = s[:pkt.container_length], s[pkt.container_length:]
        if not body:
            return rest, []
        layer = {PAYLOAD_N1_SM: Nas, PAYLOAD_KEY: NasKeyContainer}.get(pkt.container_type, Raw)
        return rest, [layer(body)]


class NasTransport(Layer):
    """UL or DL NAS TRANSPORT (TS 24.501 §8.2.10, §8.2.11)."""

    name = "NAS TRANSPORT"
    fields_desc = [
        XByteField("epd", EPD_5GMM), BitField("spare", 0, 4), BitEnumField("security", 0, 4, SECURITY_HEADERS),
        ByteEnumField("message_type", 0x68, MM_NAMES), BitField("spare_half", 0, 4),
        BitField("container_type", PAYLOAD_KEY, 4),
        FieldLenField("container_length", None, fmt="H", length_of="container"),
        ContainerField("container", [], None), BytesField("ies", b""),
    ]
