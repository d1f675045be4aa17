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
from scapy.layers.inet import TCP
from scapy.packet import Packet, Raw, bind_layers

from lab.packets.fields import BytesField, Layer, Leaf, OneField
from lab.packets.nas_messages import (
    MOBILITY_LAYERS,
    SESSION_LAYERS,
    TRANSPORT,
    IesField,
    NasMessage,
    mobility_header,
    session_header,
)
from lab.packets.nas_plain import EPD_5GMM, EPD_5GSM, KEY_TYPES, PAYLOAD_KEY, PAYLOAD_N1_SM, SECURITY_HEADERS

N1_PORTS = (38412, 38413)               # over 3GPP, over non-3GPP access
KEY_TLVS = {1: "P0", 2: "key", 3: "lifetime", 4: "cause", 5: "drain time", 6: "fingerprint"}


class Nas(Packet):  # type: ignore[misc]
    """Chooses the layer of a NAS PDU."""

    name = "NAS"

    @classmethod
    def dispatch_hook(cls, _pkt: bytes = b"", *args: Any, **kargs: Any) -> Any:
        if len(_pkt) >= 4 and _pkt[0] == EPD_5GSM:
            return SESSION_LAYERS.get(_pkt[3], NasSession)
        if len(_pkt) >= 3 and _pkt[0] == EPD_5GMM:
            if _pkt[1] & 15:
                return NasSecured
            return NasTransport if _pkt[2] in (0x67, 0x68) else MOBILITY_LAYERS.get(_pkt[2], NasMobility)
        return Raw


class NasEnvelope(Layer):
    """Two octets of length before each NAS PDU on TCP (TS 24.502 §9.4)."""

    name = "NAS envelope"
    fields_desc = [LenField("length", None, "H")]

    def guess_payload_class(self, payload: bytes) -> Any:
        return Nas

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return (s, b"") if self.length is None else (s[:self.length], s[self.length:])


class EnvelopesField(PacketListField):  # type: ignore[misc]
    """Whole envelopes; the beginning of one whose rest is in the next segment stays Raw."""

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, list[Any]]:
        out: list[Any] = []
        while s:
            end = 2 + int.from_bytes(s[:2], "big")
            out.append(NasEnvelope(s[:end]) if 2 < end <= len(s) else Raw(s))
            s = s[end:] if 2 < end <= len(s) else b""
        return b"", out


class NasEnvelopes(Layer):
    """What a TCP segment of N1 carries: usually one PDU, sometimes several."""

    name = "NAS envelopes"
    fields_desc = [EnvelopesField("pdus", [], None)]


for _port in N1_PORTS:
    bind_layers(TCP, NasEnvelopes, dport=_port)
    bind_layers(TCP, NasEnvelopes, sport=_port)


class NasSecured(Layer):
    """7E, security header type, MAC, SQN; then a NAS message, ciphered or not (TS 24.501 §9.1.1)."""

    name = "NAS security header"
    fields_desc = [XByteField("epd", EPD_5GMM), BitField("spare", 0, 4),
                   BitEnumField("security", 2, 4, SECURITY_HEADERS), BytesField("mac", bytes(4), 4), ByteField("sqn", 0)]

    def guess_payload_class(self, payload: bytes) -> Any:
        return Nas if self.security in (1, 3) else Raw


class NasMobility(Layer):
    """A plain 5GMM message of any type, with its IEs as octets; nas_messages has a layer for each that is known."""

    name = "5GMM message"
    fields_desc = [*mobility_header(0x41), BytesField("ies", b"")]


class NasSession(Layer):
    """A plain 5GSM message of any type, with its IEs as octets."""

    name = "5GSM message"
    fields_desc = [*session_header(0xC1), BytesField("ies", b"")]


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


def _container_layer(packet: Any, _data: bytes) -> Any:
    return {PAYLOAD_N1_SM: Nas, PAYLOAD_KEY: NasKeyContainer}.get(packet.container_type, Raw)


class NasTransport(NasMessage):
    """UL or DL NAS TRANSPORT (TS 24.501 §8.2.10, §8.2.11), with a 5GSM message or our key container inside."""

    name = "NAS TRANSPORT"
    fields_desc = [
        *mobility_header(0x68), BitField("spare_half", 0, 4), BitField("container_type", PAYLOAD_KEY, 4),
        OneField("container", _container_layer, 2), IesField("ies", TRANSPORT),
    ]
