"""scapy fields that QUIC needs: varints and what is measured by them. Built on plain readers of this package."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from scapy.fields import Field, PacketListField, StrField
from scapy.packet import Packet, Raw

from lab.packets.errors import PacketError
from lab.packets.varint import read_varint, write_varint

VARINT = 0                      # as the width of a length


class CutOff(Packet):  # type: ignore[misc]
    """A layer that may end inside a field: what was whole stays, and nothing falls over."""

    def do_dissect(self, s: bytes) -> bytes:
        try:
            return bytes(Packet.do_dissect(self, s))
        except struct.error:  # it ends inside a field
            return self._cut_off(s)

    def _cut_off(self, s: bytes) -> bytes:
        """The fields that are whole stay; the octets from the first that is not are what follows this layer."""
        rest: Any = s
        whole = s
        for field in self.fields_desc:
            try:
                rest, _ = field.getfield(self, rest)
            except struct.error:
                break
            if isinstance(rest, bytes):         # else: inside an octet
                whole = rest
        self.raw_packet_cache = s[:len(s) - len(whole)]
        self.explicit = 1
        return whole


class Layer(CutOff):
    """Base of our layers: what is not understood stays visible as Raw, and nothing is taken for padding."""

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return s, b""


class Leaf(Layer):
    """A layer without payload, for lists: what follows belongs to the next element."""

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return b"", s


class VarIntField(Field):  # type: ignore[misc]
    """A varint. Written in its shortest form."""

    __slots__ = ()

    def __init__(self, name: str, default: int | None) -> None:
        Field.__init__(self, name, default, "B")

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return s + write_varint(int(val or 0))

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, int]:
        try:
            value, offset = read_varint(s, 0)
        except PacketError:
            return b"", 0
        return s[offset:], value

    def i2repr(self, pkt: Any, x: Any) -> str:
        return str(x)


class CountedVarIntField(VarIntField):
    """A varint behind its own length."""

    __slots__ = ()

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        value = write_varint(int(val or 0))
        return s + write_varint(len(value)) + value

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, int]:
        size = counted(s, VARINT)
        return (b"", 0) if size is None else (s[size[1]:], VarIntField.getfield(self, pkt, s[size[0]:size[1]])[1])


class VarIntEnumField(VarIntField):
    """A varint that has names."""

    __slots__ = ("_names",)
    def __init__(self, name: str, default: int | None, names: dict[int, str]) -> None:
        VarIntField.__init__(self, name, default)
        self._names = names

    def i2repr(self, pkt: Any, x: Any) -> str:
        return f"0x{x:x} {self._names[x]}" if x in self._names else f"0x{int(x or 0):x}"


class BytesField(StrField):  # type: ignore[misc]
    """Octets shown in hex. size: a fixed length, a function of the packet, or None for the rest."""

    __slots__ = ("_size",)

    def __init__(self, name: str, default: bytes, size: int | Callable[[Any], int] | None = None) -> None:
        StrField.__init__(self, name, default)
        self._size = size

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, bytes]:
        size = len(s) if self._size is None else self._size if isinstance(self._size, int) else self._size(pkt)
        return s[size:], s[:size]

    def i2repr(self, pkt: Any, x: Any) -> str:
        octets = bytes(x or b"")
        return octets[:64].hex() + (f"… ({len(octets)} octets)" if len(octets) > 64 else "")


class SizedIntegerField(Field):  # type: ignore[misc]
    """A number of as many octets as other fields of the packet say."""

    __slots__ = ("_size",)

    def __init__(self, name: str, default: int, size: Callable[[Any], int]) -> None:
        Field.__init__(self, name, default, "B")
        self._size = size

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return s + int(val or 0).to_bytes(self._size(pkt), "big")

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, int]:
        size = self._size(pkt)
        return s[size:], int.from_bytes(s[:size], "big")


class CountedBytesField(BytesField):
    """Octets with their length in front of them: a varint, or that many octets."""

    __slots__ = ("_width",)

    def __init__(self, name: str, default: bytes, width: int = VARINT) -> None:
        BytesField.__init__(self, name, default)
        self._width = width

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        value = bytes(val or b"")
        return s + (len(value).to_bytes(self._width, "big") if self._width else write_varint(len(value))) + value

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, bytes]:
        size = counted(s, self._width)
        return (b"", b"") if size is None else (s[size[1]:], s[size[0]:size[1]])


def counted(data: bytes, width: int) -> tuple[int, int] | None:
    """Where a value begins and ends whose length stands first; None when it ends inside the length."""
    if width == VARINT:
        try:
            length, start = read_varint(data, 0)
        except PacketError:
            return None
        return start, start + length
    if len(data) < width:
        return None
    return width, width + int.from_bytes(data[:width], "big")


class OneField(PacketListField):  # type: ignore[misc]
    """A value that is a layer of its own, as a list of one, so that scapy shows it in place. `layer`: of the packet (chosen by
    fields before it) and the octets. With `width` its length stands in front of it."""

    __slots__ = ("_layer", "_width")

    def __init__(self, name: str, layer: Callable[[Any, bytes], Any], width: int | None = None) -> None:
        PacketListField.__init__(self, name, [], None)
        self._layer = layer
        self._width = width

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        body = b"".join(bytes(element) for element in val)
        if self._width is None:
            return s + body
        return s + (write_varint(len(body)) if self._width == VARINT else len(body).to_bytes(self._width, "big")) + body

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, list[Any]]:
        size = (0, len(s)) if self._width is None else counted(s, self._width)
        if size is None:
            return b"", [Raw(s)]
        body = s[size[0]:size[1]]
        return s[size[1]:], [self._layer(pkt, body)(body)] if body else []


def rest_of(packet: Any) -> bytes:
    """The octets of a packet that no layer of ours took."""
    raw = packet.getlayer(Raw)
    return bytes(raw.load) if raw is not None else b""


class VarIntCountField(VarIntField):
    """How many elements a list field has; computed when left at None."""

    __slots__ = ("_count_of",)

    def __init__(self, name: str, count_of: str) -> None:
        VarIntField.__init__(self, name, None)
        self._count_of = count_of

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return s + write_varint(len(pkt.getfieldval(self._count_of)) if val is None else int(val))

    def i2repr(self, pkt: Any, x: Any) -> str:
        return "computed" if x is None else str(x)


class FlaggedBytesField(BytesField):
    """Octets that have a varint length in front of them only when a bit of the frame's type says so."""

    __slots__ = ("_counted", "_flag")

    def __init__(self, name: str, flag: int) -> None:
        BytesField.__init__(self, name, b"")
        self._flag = flag
        self._counted = CountedBytesField(name, b"")

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        return self._counted.addfield(pkt, s, val) if pkt.type & self._flag else s + bytes(val or b"")

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, bytes]:
        return self._counted.getfield(pkt, s) if pkt.type & self._flag else (b"", s)


class CountedPacketListField(PacketListField):  # type: ignore[misc]
    """A list of layers with its length in octets, as a varint, in front."""

    def addfield(self, pkt: Any, s: bytes, val: Any) -> bytes:
        body = b"".join(bytes(element) for element in val)
        return s + write_varint(len(body)) + body

    def getfield(self, pkt: Any, s: bytes) -> tuple[bytes, Any]:
        try:
            length, offset = read_varint(s, 0)
        except PacketError:
            return b"", []
        _, elements = PacketListField.getfield(self, pkt, s[offset:offset + length])
        return s[offset + length:], elements
