"""scapy layers of HTTP/3 (RFC 9114 §7), capsules (RFC 9297 §3, RFC 9484 §4.7) and HTTP datagrams with an IP packet inside."""

# ruff: noqa: RUF012  (fields_desc is scapy's way)

from __future__ import annotations

from typing import Any

from scapy.fields import ByteField, ConditionalField, IntField, IP6Field, IPField, MultipleTypeField, PacketListField
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from lab.packets.errors import PacketError
from lab.packets.fields import (
    VARINT,
    BytesField,
    CountedBytesField,
    CountedPacketListField,
    Layer,
    Leaf,
    OneField,
    VarIntEnumField,
    VarIntField,
)
from lab.packets.masque import CAPSULES, H3_FRAMES, H3_SETTINGS, H3_STREAMS, SEQUENCED_CONTEXT
from lab.packets.varint import read_varint, write_varint


class H3Setting(Leaf):
    name = "setting"
    fields_desc = [VarIntEnumField("id", 0x33, H3_SETTINGS), VarIntField("value", 1)]


class H3Settings(Leaf):
    """SETTINGS (RFC 9114 §7.2.4)"""

    name = "HTTP/3 SETTINGS"
    fields_desc = [VarIntEnumField("type", 0x04, H3_FRAMES), CountedPacketListField("settings", [], H3Setting)]


class _Identifier(Leaf):
    """A frame whose value is one varint. Its length is computed when left at None; `more` is what a wrong length takes in."""

    @staticmethod
    def fields(kind: int, name: str) -> list[Any]:
        def rest(packet: Any) -> int:
            return max(0, int(packet.length or 0) - len(write_varint(getattr(packet, name) or 0)))

        return [VarIntEnumField("type", kind, H3_FRAMES), ValueLengthField("length", name), VarIntField(name, 0),
                BytesField("more", b"", rest)]


class ValueLengthField(VarIntField):
    """The length of one varint field, as a varint."""

    __slots__ = ("_of",)

    def __init__(self, name: str, of: str) -> None:
        VarIntField.__init__(self, name, None)
        self._of = of

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return s + write_varint(len(write_varint(pkt.getfieldval(self._of) or 0) + pkt.more) if val is None else int(val))

    def i2repr(self, pkt: Any, x: Any) -> str:
        return "computed" if x is None else str(x)


class H3Goaway(_Identifier):
    """GOAWAY (RFC 9114 §7.2.6)"""

    name = "HTTP/3 GOAWAY"
    fields_desc = _Identifier.fields(0x07, "id")


class H3CancelPush(_Identifier):
    """CANCEL_PUSH (RFC 9114 §7.2.3)"""

    name = "HTTP/3 CANCEL_PUSH"
    fields_desc = _Identifier.fields(0x03, "push_id")


class H3MaxPushId(_Identifier):
    """MAX_PUSH_ID (RFC 9114 §7.2.7)"""

    name = "HTTP/3 MAX_PUSH_ID"
    fields_desc = _Identifier.fields(0x0D, "push_id")


class H3Data(Leaf):
    """DATA (RFC 9114 §7.2.1); on a CONNECT-IP stream its content is capsules"""

    name = "HTTP/3 DATA"
    fields_desc = [VarIntEnumField("type", 0x00, H3_FRAMES), CountedBytesField("data", b"")]


class H3Headers(Leaf):
    """HEADERS (RFC 9114 §7.2.2): a field section in QPACK"""

    name = "HTTP/3 HEADERS"
    fields_desc = [VarIntEnumField("type", 0x01, H3_FRAMES), CountedBytesField("section", b"")]


class H3PushPromise(Leaf):
    """PUSH_PROMISE (RFC 9114 §7.2.5): push ID, then a field section"""

    name = "HTTP/3 PUSH_PROMISE"
    fields_desc = [VarIntEnumField("type", 0x05, H3_FRAMES), CountedBytesField("value", b"\0")]


class H3Frame(Leaf):
    """Any other frame: type, length, value."""

    name = "HTTP/3 frame"
    fields_desc = [VarIntEnumField("type", 0x21, H3_FRAMES), CountedBytesField("value", b"")]


H3_LAYERS = {0x00: H3Data, 0x01: H3Headers, 0x03: H3CancelPush, 0x04: H3Settings, 0x05: H3PushPromise, 0x07: H3Goaway,
             0x0D: H3MaxPushId}


def _by_type(layers: dict[int, Any], other: Any, data: bytes) -> Any:
    """The layer that the type of the first element says."""
    try:
        kind, _ = read_varint(data, 0)
    except PacketError:
        return Raw(data)
    return layers.get(kind, other)(data)


class H3Frames(Layer):
    """Frames of a request or control stream."""

    name = "HTTP/3 frames"
    fields_desc = [PacketListField("frames", [], lambda data, **_: _by_type(H3_LAYERS, H3Frame, data))]


class H3UniStream(Layer):
    """The beginning of a unidirectional stream: its type, then frames or QPACK instructions."""

    name = "HTTP/3 unidirectional stream"
    fields_desc = [VarIntEnumField("type", 0x00, H3_STREAMS)]

    def guess_payload_class(self, payload: bytes) -> Any:
        return {0x00: H3Frames, 0x02: QpackInstructions, 0x03: QpackInstructions}.get(self.type, Raw)


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


class CapsuleDatagram(Leaf):
    """DATAGRAM (RFC 9297 §3.5): an HTTP datagram's payload, which begins with a Context ID here (RFC 9484 §6)."""

    name = "DATAGRAM capsule"
    fields_desc = [VarIntEnumField("type", 0x00, CAPSULES), OneField("datagram", lambda *_: HttpDatagramPayload, VARINT)]


class Capsule(Leaf):
    """A capsule of any other type."""

    name = "capsule"
    fields_desc = [VarIntEnumField("type", 0x17, CAPSULES), CountedBytesField("value", b"")]


CAPSULE_LAYERS = {0: CapsuleDatagram, 1: CapsuleAddressAssign, 2: CapsuleAddressRequest, 3: CapsuleRouteAdvertisement}


class Capsules(Layer):
    """The content of the DATA frames of a CONNECT-IP stream."""

    name = "capsules"
    fields_desc = [PacketListField("capsules", [],
                                   lambda data, **_: _by_type(CAPSULE_LAYERS, Capsule, data))]


def _sequence() -> ConditionalField:
    return ConditionalField(IntField("sequence", 0), lambda layer: layer.context_id == SEQUENCED_CONTEXT)


class HttpDatagramPayload(Layer):
    """Context ID, and for context 0 an IP packet (RFC 9484 §6); for context 2 one behind its sequence number."""

    name = "HTTP datagram payload"
    fields_desc = [VarIntField("context_id", 0), _sequence()]

    def guess_payload_class(self, payload: bytes) -> Any:
        version = payload[0] >> 4 if payload and self.context_id in (0, SEQUENCED_CONTEXT) else 0
        return {4: IP, 6: IPv6}.get(version, Raw)


class HttpDatagram(HttpDatagramPayload):
    """The content of a DATAGRAM frame: Quarter Stream ID (RFC 9297 §2.1), Context ID, payload."""

    name = "HTTP datagram"
    fields_desc = [VarIntField("quarter_stream_id", 0), VarIntField("context_id", 0), _sequence()]


class QpackInstructions(Layer):
    name = "QPACK instructions"
    fields_desc = [BytesField("octets", b"")]
