"""scapy layers of HTTP/3 (RFC 9114 §7), capsules (RFC 9297 §3, RFC 9484 §4.7) and HTTP datagrams with an IP packet inside."""

# ruff: noqa: RUF012  (fields_desc is scapy's way)

from __future__ import annotations

from typing import Any

from scapy.fields import ByteField, IP6Field, IPField, MultipleTypeField, PacketListField
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from lab.packets.fields import (
    BytesField,
    CountedBytesField,
    CountedPacketListField,
    Layer,
    Leaf,
    VarIntEnumField,
    VarIntField,
)
from lab.packets.masque import CAPSULES, H3_FRAMES, H3_SETTINGS, H3_STREAMS


class H3Setting(Leaf):
    name = "setting"
    fields_desc = [VarIntEnumField("id", 0x33, H3_SETTINGS), VarIntField("value", 1)]


class H3Settings(Leaf):
    name = "HTTP/3 SETTINGS"
    fields_desc = [VarIntEnumField("type", 0x04, H3_FRAMES), CountedPacketListField("settings", [], H3Setting)]


class H3Goaway(Leaf):
    name = "HTTP/3 GOAWAY"
    fields_desc = [VarIntEnumField("type", 0x07, H3_FRAMES), CountedBytesField("id", b"\0")]


class H3Frame(Leaf):
    """DATA, HEADERS and every other frame: type, length, value."""

    name = "HTTP/3 frame"
    fields_desc = [VarIntEnumField("type", 0x00, H3_FRAMES), CountedBytesField("value", b"")]


class H3Frames(Layer):
    """Frames of a request or control stream."""

    name = "HTTP/3 frames"
    fields_desc = [PacketListField("frames", [], lambda data, **_: _h3_frame(data))]


def _h3_frame(data: bytes) -> Any:
    layer = {0x04: H3Settings, 0x07: H3Goaway}.get(data[0] if data else -1, H3Frame)
    return layer(data)


class H3UniStream(Layer):
    """The beginning of a unidirectional stream: its type, then frames or QPACK instructions."""

    name = "HTTP/3 unidirectional stream"
    fields_desc = [VarIntEnumField("type", 0x00, H3_STREAMS)]

    def guess_payload_class(self, payload: bytes) -> Any:
        return H3Frames if self.type == 0 else Raw


def _address_field(name: str) -> MultipleTypeField:
    return MultipleTypeField([(IP6Field(name, "::"), lambda packet: packet.version == 6)], IPField(name, "0.0.0.0"))


class CapsuleAddress(Leaf):
    name = "address"
    fields_desc = [VarIntField("request_id", 0), ByteField("version", 4), _address_field("address"),
                   ByteField("prefix", 32)]


class CapsuleRoute(Leaf):
    name = "route"
    fields_desc = [ByteField("version", 4), _address_field("start"), _address_field("end"), ByteField("protocol", 0)]


class CapsuleAddressAssign(Leaf):
    name = "ADDRESS_ASSIGN"
    fields_desc = [VarIntEnumField("type", 0x01, CAPSULES), CountedPacketListField("addresses", [], CapsuleAddress)]


class CapsuleAddressRequest(Leaf):
    name = "ADDRESS_REQUEST"
    fields_desc = [VarIntEnumField("type", 0x02, CAPSULES), CountedPacketListField("addresses", [], CapsuleAddress)]


class CapsuleRouteAdvertisement(Leaf):
    name = "ROUTE_ADVERTISEMENT"
    fields_desc = [VarIntEnumField("type", 0x03, CAPSULES), CountedPacketListField("routes", [], CapsuleRoute)]


class Capsule(Leaf):
    """A capsule of any type; DATAGRAM is 0x00."""

    name = "capsule"
    fields_desc = [VarIntEnumField("type", 0x00, CAPSULES), CountedBytesField("value", b"")]


CAPSULE_LAYERS = {1: CapsuleAddressAssign, 2: CapsuleAddressRequest, 3: CapsuleRouteAdvertisement}


class Capsules(Layer):
    """The content of the DATA frames of a CONNECT-IP stream."""

    name = "capsules"
    fields_desc = [PacketListField("capsules", [],
                                   lambda data, **_: CAPSULE_LAYERS.get(data[0] if data else -1, Capsule)(data))]


class HttpDatagram(Layer):
    """The content of a DATAGRAM frame: Quarter Stream ID, Context ID, and for context 0 an IP packet (RFC 9484 §6)."""

    name = "HTTP datagram"
    fields_desc = [VarIntField("quarter_stream_id", 0), VarIntField("context_id", 0)]

    def guess_payload_class(self, payload: bytes) -> Any:
        version = payload[0] >> 4 if payload and self.context_id == 0 else 0
        return {4: IP, 6: IPv6}.get(version, Raw)


class QpackInstructions(Layer):
    name = "QPACK instructions"
    fields_desc = [BytesField("octets", b"")]
