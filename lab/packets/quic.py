"""scapy layers of QUIC: packets in clear with every frame, packets as on the wire, transport parameters.

The frames' layers are made from the layouts in lab.packets.frames, so that there is one table of fields; each is named
Quic plus the name there: QuicPing, QuicPathNewConnectionId, ... In clear means: header protection and AEAD removed, no tag.
"""

# ruff: noqa: RUF012  (fields_desc is scapy's way)

from __future__ import annotations

from typing import Any

from scapy.fields import (
    BitField,
    ConditionalField,
    FieldListField,
    IntField,
    IP6Field,
    IPField,
    PacketListField,
    ShortField,
    XIntField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet, Raw, bind_layers

from lab.packets import frames as plain
from lab.packets.errors import PacketError
from lab.packets.fields import (
    VARINT,
    BytesField,
    CountedBytesField,
    CountedVarIntField,
    FlaggedBytesField,
    Layer,
    Leaf,
    OneField,
    VarIntCountField,
    VarIntEnumField,
    VarIntField,
)
from lab.packets.headers import CID_LENGTH
from lab.packets.tls import TRANSPORT_PARAMETERS
from lab.packets.varint import read_varint, write_varint

QUIC_PORT = 4433
TAG = 16
LONG_TYPES = {0: "Initial", 1: "0-RTT", 2: "Handshake", 3: "Retry"}
FRAME_TYPES: dict[int, str] = {cls.type: cls.name for cls in plain.ALL_FRAMES} | {
    0x03: "ACK (ECN)", 0x31: "DATAGRAM (length)", 0x3F: "PATH_ACK (ECN)"} | dict.fromkeys(range(0x08, 0x10), "STREAM")


def _type_field(value: int) -> VarIntEnumField:
    return VarIntEnumField("type", value, FRAME_TYPES)


def _layer(cls: type[plain.Frame]) -> Any:
    """The scapy layer of a frame whose fields stand in its layout."""
    fields: list[Any] = [_type_field(cls.type)]
    for name, kind in cls.layout:
        if kind == "i":
            fields.append(VarIntField(name, 0))
        elif kind in "LV":
            fields.append(CountedBytesField(name, b"", VARINT if kind == "V" else 1))
        else:
            fields.append(BytesField(name, bytes(int(kind)), int(kind)))
    make: Any = type(Leaf)
    return make(f"Quic{cls.__name__}", (Leaf,), {"name": cls.name, "fields_desc": fields, "__module__": __name__,
                                                 "__doc__": f"{cls.name} frame"})


class PaddingField(BytesField):
    """The zeros behind the first one of a run of PADDING frames."""

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, bytes]:
        rest = s.lstrip(b"\0")
        return rest, s[:len(s) - len(rest)]


class QuicPadding(Leaf):
    name = "PADDING"
    fields_desc = [_type_field(0), PaddingField("more", b"")]


class QuicAckRange(Leaf):
    name = "ACK range"
    fields_desc = [VarIntField("gap", 0), VarIntField("length", 0)]


def _ack_fields(ecn_type: int) -> list[Any]:
    def ecn(packet: Any) -> bool:
        return bool(packet.type == ecn_type)

    return [
        VarIntField("largest", 0), VarIntField("delay", 0), VarIntCountField("range_count", "ranges"),
        VarIntField("first_range", 0),
        PacketListField("ranges", [], QuicAckRange, count_from=lambda packet: packet.range_count),
        *(ConditionalField(VarIntField(name, 0), ecn) for name in ("ect0", "ect1", "ce")),
    ]


class QuicAck(Leaf):
    """ACK 0x02, with ECN counts 0x03 (RFC 9000 §19.3)."""

    name = "ACK"
    fields_desc = [_type_field(0x02), *_ack_fields(0x03)]


class QuicPathAck(Leaf):
    """PATH_ACK 0x3e, with ECN counts 0x3f (RFC 10069 §4.1)."""

    name = "PATH_ACK"
    fields_desc = [_type_field(0x3E), VarIntField("path", 0), *_ack_fields(0x3F)]


class QuicStream(Leaf):
    """STREAM 0x08..0x0f: OFF 0x04, LEN 0x02, FIN 0x01 (RFC 9000 §19.8)."""

    name = "STREAM"
    fields_desc = [
        _type_field(0x0A), VarIntField("stream", 0),
        ConditionalField(VarIntField("offset", 0), lambda packet: bool(packet.type & 0x04)),
        FlaggedBytesField("data", 0x02),
    ]


class QuicDatagram(Leaf):
    """DATAGRAM 0x30, with a length 0x31 (RFC 9221 §4)."""

    name = "DATAGRAM"
    fields_desc = [_type_field(0x31), FlaggedBytesField("data", 0x01)]


FRAME_LAYERS: dict[int, Any] = {cls.type: _layer(cls) for cls in plain.PLAIN_FRAMES}
FRAME_LAYERS |= {0x00: QuicPadding, 0x02: QuicAck, 0x03: QuicAck, 0x3E: QuicPathAck, 0x3F: QuicPathAck,
                 0x30: QuicDatagram, 0x31: QuicDatagram}
FRAME_LAYERS |= dict.fromkeys(range(0x08, 0x10), QuicStream)
FRAME_LAYER_NAMES = sorted({layer.__name__ for layer in FRAME_LAYERS.values()})
globals().update({layer.__name__: layer for layer in FRAME_LAYERS.values()})


class FrameListField(PacketListField):  # type: ignore[misc]
    """Frames to the end of the packet."""

    def __init__(self, name: str) -> None:
        PacketListField.__init__(self, name, [], None)

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, list[Any]]:
        out: list[Any] = []
        while s:
            try:
                kind, _ = read_varint(s, 0)
                layer = FRAME_LAYERS[kind]
                _, end = plain.read_frame(s, 0)
            except (PacketError, KeyError):
                out.append(Raw(s))
                break
            out.append(layer(s[:end]))
            s = s[end:]
        return b"", out


class LengthField(VarIntField):
    """Length of packet number, payload and tag; computed when left at None."""

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        if val is None:
            val = len(pkt.pn) + sum(len(bytes(frame)) for frame in pkt.frames) + TAG
        return s + write_varint(val)

    def i2repr(self, pkt: Any, x: Any) -> str:
        return "computed" if x is None else str(x)


class QuicLong(Layer):
    """Initial, 0-RTT or Handshake in clear. pn_length is one less than the octets of pn (RFC 9000 §17.2)."""

    name = "QUIC long header"
    fields_desc = [
        BitField("form", 1, 1), BitField("fixed", 1, 1), BitField("long_type", 0, 2), BitField("reserved", 0, 2),
        BitField("pn_length", 3, 2), IntField("version", 1), CountedBytesField("dcid", b"", 1),
        CountedBytesField("scid", b"", 1),
        ConditionalField(CountedBytesField("token", b""), lambda packet: packet.long_type == 0),
        LengthField("length", None), BytesField("pn", bytes(4), lambda packet: packet.pn_length + 1),
        FrameListField("frames"),
    ]

    def mysummary(self) -> str:
        return f"QUIC {LONG_TYPES[self.long_type]} pn {int.from_bytes(self.pn, 'big')}"


class ShortHeader(Layer):
    """A short header does not say how long its connection ID is (RFC 9000 §17.3.1): `dcid_length` does, when it is dissected."""

    __slots__ = ("dcid_length",)

    def __init__(self, *args: Any, dcid_length: int = CID_LENGTH, **fields: Any) -> None:
        self.dcid_length = dcid_length
        super().__init__(*args, **fields)

    def copy(self) -> Any:
        clone = super().copy()
        clone.dcid_length = self.dcid_length
        return clone


def _dcid_length(packet: Any) -> int:
    return int(packet.dcid_length)


class QuicShort(ShortHeader):
    """1-RTT in clear."""

    name = "QUIC short header"
    fields_desc = [
        BitField("form", 0, 1), BitField("fixed", 1, 1), BitField("spin", 0, 1), BitField("reserved", 0, 2),
        BitField("key_phase", 0, 1), BitField("pn_length", 1, 2), BytesField("dcid", bytes(CID_LENGTH), _dcid_length),
        BytesField("pn", bytes(2), lambda packet: packet.pn_length + 1), FrameListField("frames"),
    ]


class RetryTokenField(BytesField):
    """Everything but the integrity tag at the end."""

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, bytes]:
        end = max(0, len(s) - TAG)
        return s[end:], s[:end]


class QuicRetry(Layer):
    """Retry (RFC 9000 §17.2.5): a token, and the tag of RFC 9001 §5.8."""

    name = "QUIC Retry"
    fields_desc = [
        BitField("form", 1, 1), BitField("fixed", 1, 1), BitField("long_type", 3, 2), BitField("unused", 0, 4),
        IntField("version", 1), CountedBytesField("dcid", b"", 1), CountedBytesField("scid", b"", 1),
        RetryTokenField("token", b""), BytesField("tag", bytes(TAG), TAG),
    ]


class QuicVersionNegotiation(Layer):
    """Version Negotiation (RFC 9000 §17.2.1)."""

    name = "QUIC Version Negotiation"
    fields_desc = [
        BitField("form", 1, 1), BitField("unused", 0, 7), IntField("version", 0),
        CountedBytesField("dcid", b"", 1), CountedBytesField("scid", b"", 1),
        FieldListField("versions", [], XIntField("", 1)),
    ]


class QuicProtectedLong(Layer):
    """Initial, 0-RTT or Handshake on the wire; its payload is the packet coalesced behind it, if any."""

    name = "QUIC long header, protected"
    fields_desc = [
        BitField("form", 1, 1), BitField("fixed", 1, 1), BitField("long_type", 0, 2), BitField("protected_bits", 0, 4),
        IntField("version", 1), CountedBytesField("dcid", b"", 1), CountedBytesField("scid", b"", 1),
        ConditionalField(CountedBytesField("token", b""), lambda packet: packet.long_type == 0),
        CountedBytesField("protected", b""),
    ]

    def guess_payload_class(self, payload: bytes) -> Any:
        return QuicWire


class QuicProtectedShort(ShortHeader):
    """1-RTT on the wire."""

    name = "QUIC short header, protected"
    fields_desc = [
        BitField("form", 0, 1), BitField("fixed", 1, 1), BitField("spin", 0, 1), BitField("protected_bits", 0, 5),
        BytesField("dcid", bytes(CID_LENGTH), _dcid_length), BytesField("protected", b""),
    ]


class QuicWire(Packet):  # type: ignore[misc]
    """What stands in a UDP datagram: chooses the layer by the first octets."""

    name = "QUIC"

    @classmethod
    def dispatch_hook(cls, _pkt: bytes = b"", *args: Any, **kargs: Any) -> Any:
        if len(_pkt) >= 5 and _pkt[0] & 0x80:
            if _pkt[1:5] == bytes(4):
                return QuicVersionNegotiation
            return QuicRetry if (_pkt[0] >> 4) & 3 == 3 else QuicProtectedLong
        return QuicProtectedShort if _pkt and _pkt[0] & 0x40 else Raw


class TransportParameter(Leaf):
    """Any transport parameter: id, length, value (RFC 9000 §18). Those with a value of their own kind have layers too."""

    name = "transport parameter"
    fields_desc = [VarIntEnumField("id", 0, TRANSPORT_PARAMETERS), CountedBytesField("value", b"")]


class TransportParameterInteger(Leaf):
    """One whose value is a varint. `value` is read from what its length says; None when that holds no varint alone."""

    name = "transport parameter"
    fields_desc = [VarIntEnumField("id", 0x01, TRANSPORT_PARAMETERS), CountedVarIntField("value", 0)]


class PreferredAddress(Layer):
    """The value of preferred_address (RFC 9000 §18.2)."""

    name = "preferred address"
    fields_desc = [IPField("ipv4", "0.0.0.0"), ShortField("ipv4_port", 0), IP6Field("ipv6", "::"), ShortField("ipv6_port", 0),
                   CountedBytesField("cid", bytes(CID_LENGTH), 1), BytesField("token", bytes(16), 16)]


class VersionInformation(Layer):
    """The value of version_information (RFC 9368 §3)."""

    name = "version information"
    fields_desc = [XIntField("chosen", 1), FieldListField("available", [], XIntField("", 1))]


class TransportParameterPreferredAddress(Leaf):
    name = "transport parameter"
    fields_desc = [VarIntEnumField("id", 0x0D, TRANSPORT_PARAMETERS), OneField("value", lambda *_: PreferredAddress, VARINT)]


class TransportParameterVersions(Leaf):
    name = "transport parameter"
    fields_desc = [VarIntEnumField("id", 0x11, TRANSPORT_PARAMETERS), OneField("value", lambda *_: VersionInformation, VARINT)]


PARAMETER_LAYERS: dict[int, Any] = dict.fromkeys(
    (0x01, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0E, 0x20, 0x3E, 0xFF04DE1B), TransportParameterInteger)
PARAMETER_LAYERS |= {0x0D: TransportParameterPreferredAddress, 0x11: TransportParameterVersions}
PREFERRED_ADDRESS_MIN = 41                  # with a connection ID of no octets


def _parameter(data: bytes, **_: Any) -> Any:
    """The layer of the first parameter; one whose value is not what its id says is shown as octets."""
    plain_one = TransportParameter(data)
    value = bytes(plain_one.value)
    layer = PARAMETER_LAYERS.get(plain_one.id, TransportParameter)
    fits = True
    if layer is TransportParameterInteger:
        fits = value == (write_varint(read_varint(value, 0)[0]) if value and 1 << (value[0] >> 6) == len(value) else None)
    elif layer is TransportParameterPreferredAddress:
        fits = len(value) >= PREFERRED_ADDRESS_MIN and len(value) == PREFERRED_ADDRESS_MIN + value[24]
    elif layer is TransportParameterVersions:
        fits = bool(value) and len(value) % 4 == 0
    return layer(data) if fits else plain_one


class TransportParameters(Layer):
    """The quic_transport_parameters extension (RFC 9000 §18)."""

    name = "transport parameters"
    fields_desc = [PacketListField("parameters", [], _parameter)]

    def parameter(self, key: int) -> Any:
        """The value of the first parameter with this id; None when it is not there."""
        return next((p.value for p in self.parameters if p.id == key), None)


bind_layers(UDP, QuicWire, dport=QUIC_PORT)
bind_layers(UDP, QuicWire, sport=QUIC_PORT)


def clear_layer(kind: str, header: bytes, payload: bytes) -> Any:
    """The layer of a packet in clear, as the decryptor gives it."""
    if kind == "1rtt":
        return QuicShort(header + payload, dcid_length=len(header) - 2 - (header[0] & 3))
    return QuicLong(header + payload)
