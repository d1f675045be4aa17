"""How NAS messages are written down: a message is a dataclass whose fields say how they stand on the wire (TS 24.007
§11.2.1). Mandatory fields come in order; those with a tag are optional, come in table order and are read in any.

    identity: Identity = mandatory(LVE, IDENTITY)
    dnn: str | None = optional(TLV, 0x25, DNN)

Unknown optional IEs are skipped by the rules of TS 24.007 §11.2.4, unless their tag says that they must be understood
(high half 0); of a repeated IE the first counts (TS 24.501 §7.6.3). Input cannot nest what a class does not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, ClassVar, Protocol, Self, TypeVar

from fiveg.nas.errors import NasError, NasMandatoryIncorrect, NasOptionalIncorrect, NasTooShort, NasValueError

E = TypeVar("E", bound=IntEnum)


class ValueCodec(Protocol):
    """Writes and reads the value of one IE. In half octets the value is one octet below 16."""

    def encode(self, value: Any, /) -> bytes: ...

    def decode(self, data: bytes, /) -> Any: ...


class Format(Enum):
    """Name → octets of length; half octets pair up, the low one first."""

    LOW = "low half octet"
    HIGH = "high half octet"
    V = "value"
    LV = "length, value"
    LVE = "length of 2 octets, value"
    TV1 = "tag and value in one octet"
    TV = "tag, value"
    TLV = "tag, length, value"
    TLVE = "tag, length of 2 octets, value"


LOW, HIGH, V, LV, LVE = Format.LOW, Format.HIGH, Format.V, Format.LV, Format.LVE
TV1, TV, TLV, TLVE = Format.TV1, Format.TV, Format.TLV, Format.TLVE
LENGTH_OCTETS = {LV: 1, TLV: 1, LVE: 2, TLVE: 2}


@dataclass(frozen=True, slots=True)
class Ie:
    """`size`: of a value without a length; `tag`: of an optional IE (for TV1 the high half octet)."""

    format: Format
    codec: ValueCodec
    size: int = 1
    tag: int | None = None


def mandatory(format: Format, codec: ValueCodec, size: int = 1, **default: Any) -> Any:
    return field(metadata={"ie": Ie(format, codec, size)}, **default)


def optional(format: Format, tag: int, codec: ValueCodec, size: int = 1) -> Any:
    return field(default=None, metadata={"ie": Ie(format, codec, size, tag)})


# ---- values


@dataclass(frozen=True, slots=True)
class Octets:
    low: int = 0
    high: int = 65535

    def encode(self, value: bytes) -> bytes:
        if not self.low <= len(value) <= self.high:
            raise NasValueError(f"a value of {len(value)} octets, allowed are {self.low} to {self.high}")
        return value

    def decode(self, data: bytes) -> bytes:
        if not self.low <= len(data) <= self.high:
            raise NasError(f"a value of {len(data)} octets, allowed are {self.low} to {self.high}")
        return data


@dataclass(frozen=True, slots=True)
class Number:
    """One octet or more; in half octets one of 4 bits."""

    low: int = 0
    high: int = 255
    size: int = 1

    def encode(self, value: int) -> bytes:
        if not self.low <= value <= self.high:
            raise NasValueError(f"{value} is not in {self.low} to {self.high}")
        return value.to_bytes(self.size, "big")

    def decode(self, data: bytes) -> int:
        if len(data) != self.size:
            raise NasError(f"a number of {len(data)} octets, it has {self.size}")
        value = int.from_bytes(data, "big")
        if not self.low <= value <= self.high:
            raise NasError(f"{value} is not in {self.low} to {self.high}")
        return value


@dataclass(frozen=True, slots=True)
class Code:
    """An enumerated octet. Values that we do not know stay numbers, as later releases may send them."""

    kind: type[IntEnum]
    high: int = 255

    def encode(self, value: int) -> bytes:
        return Number(0, self.high).encode(value)

    def decode(self, data: bytes) -> int:
        value = Number(0, self.high).decode(data)
        try:
            return self.kind(value)
        except ValueError:
            return value


class Dnn:
    """A DNN as length-prefixed labels (TS 24.501 §9.11.2.1B)"""

    LONGEST = 100

    def encode(self, value: str) -> bytes:
        out = b""
        for label in value.split("."):
            octets = label.encode("ascii", "replace")
            if not 1 <= len(octets) <= 63 or b"?" in octets:
                raise NasValueError("a DNN has ASCII labels of 1 to 63 characters")
            out += bytes((len(octets),)) + octets
        return out

    def decode(self, data: bytes) -> str:
        if not 1 <= len(data) <= self.LONGEST:
            raise NasError(f"a DNN of {len(data)} octets, allowed are 1 to {self.LONGEST}")
        labels, at = [], 0
        while at < len(data):
            end = at + 1 + data[at]
            label = data[at + 1 : end]
            if not label or end > len(data) or not all(c in _LABEL for c in label):
                raise NasError("a DNN that is not made of labels")
            labels.append(label.decode("ascii"))
            at = end
        return ".".join(labels)


_LABEL = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
OCTETS = Octets()
HALF = Number(0, 15)
NGKSI = Number(0, 7)
"""Key set identifier, native context; 7: none (§9.11.3.32)"""
DNN = Dnn()
PDU_SESSION_ID = Number()
"""Any octet: what is no session of a UE is the receiver's to say, with a cause of its own."""


# ---- messages


@dataclass(frozen=True, slots=True, kw_only=True)
class NasMessage:
    """Fields of a subclass with an `ie` are the message's; others (5GSM's header) are the family's."""

    TYPE: ClassVar[int]

    def encode_body(self) -> bytes:
        out = bytearray()
        half = None
        for name, ie in _ies(type(self)):
            value = getattr(self, name)
            if ie.tag is not None and value is None:
                continue
            if half is not None and ie.format is not HIGH:
                out.append(half)
                half = None
            try:
                data = ie.codec.encode(value)
            except NasError as e:
                raise NasValueError(f"{type(self).__name__}.{name}: {e}") from None
            if ie.format is LOW:
                half = data[0]
            elif ie.format is HIGH:
                out.append((half or 0) | data[0] << 4)
                half = None
            else:
                out += _write(ie, data)
        if half is not None:
            out.append(half)
        return bytes(out)

    @classmethod
    def decode_body(cls, data: bytes, **header: Any) -> Self:
        values: dict[str, Any] = dict(header)
        at = 0
        half: int | None = None
        optionals: dict[int, tuple[str, Ie]] = {}
        for name, ie in _ies(cls):
            if ie.tag is not None:
                optionals[ie.tag << 4 if ie.format is TV1 else ie.tag] = (name, ie)
                continue
            if ie.format is HIGH and half is not None:
                value, half = bytes((half >> 4,)), None
            else:
                value, at = _read_mandatory(cls, name, ie, data, at)
                half = value[0] if ie.format is LOW else None
                if ie.format is LOW:
                    value = bytes((value[0] & 15,))
            values[name] = _value(cls, name, ie, value, NasMandatoryIncorrect)
        while at < len(data):
            tag = data[at] & 0xF0 if data[at] & 0x80 else data[at]
            known = optionals.get(tag)
            if known is None:
                if not tag & 0xF0:
                    raise NasMandatoryIncorrect(f"{cls.__name__}: IE {tag:#04x} is unknown and must be understood")
                at = _skip(cls, data, at)
                continue
            name, ie = known
            value, at = _read_optional(cls, name, ie, data, at)
            if name not in values:
                values[name] = _value(cls, name, ie, value, NasOptionalIncorrect)
        return cls(**values)


def _ies(cls: type[NasMessage]) -> list[tuple[str, Ie]]:
    found = _CACHE.get(cls)
    if found is None:
        found = [(f.name, f.metadata["ie"]) for f in dataclasses.fields(cls) if "ie" in f.metadata]
        _CACHE[cls] = found
    return found


_CACHE: dict[type[NasMessage], list[tuple[str, Ie]]] = {}


def _value(cls: type[NasMessage], name: str, ie: Ie, data: bytes, error: type[NasError]) -> Any:
    try:
        return ie.codec.decode(data)
    except NasError as e:
        raise error(f"{cls.__name__}.{name}: {e}") from None


def _write(ie: Ie, data: bytes) -> bytes:
    if ie.format is TV1:
        assert ie.tag is not None
        return bytes((ie.tag << 4 | data[0],))
    head = b"" if ie.tag is None else bytes((ie.tag,))
    length = LENGTH_OCTETS.get(ie.format)
    if length is not None:
        if len(data) >= 1 << 8 * length:
            raise NasValueError(f"a value of {len(data)} octets does not fit its length field")
        head += len(data).to_bytes(length, "big")
    return head + data


def _take(cls: type[NasMessage], name: str, data: bytes, at: int, length: int) -> tuple[bytes, int]:
    if at + length > len(data):
        raise NasTooShort(f"{cls.__name__}.{name}: {length} octets are announced, {max(len(data) - at, 0)} are there")
    return data[at : at + length], at + length


def _read_mandatory(cls: type[NasMessage], name: str, ie: Ie, data: bytes, at: int) -> tuple[bytes, int]:
    size = LENGTH_OCTETS.get(ie.format)
    if size is None:
        return _take(cls, name, data, at, ie.size)
    length, at = _take(cls, name, data, at, size)
    return _take(cls, name, data, at, int.from_bytes(length, "big"))


def _read_optional(cls: type[NasMessage], name: str, ie: Ie, data: bytes, at: int) -> tuple[bytes, int]:
    if ie.format is TV1:
        return bytes((data[at] & 15,)), at + 1
    return _read_mandatory(cls, name, ie, data, at + 1)


def _skip(cls: type[NasMessage], data: bytes, at: int) -> int:
    """TS 24.007 §11.2.4: tags 8x-Fx are one octet; 7x have a length of 2 octets, all others of 1."""
    tag = data[at]
    if tag & 0x80:
        return at + 1
    size = 2 if tag & 0xF0 == 0x70 else 1
    length, at = _take(cls, f"IE {tag:#04x}", data, at + 1, size)
    return _take(cls, f"IE {tag:#04x}", data, at, int.from_bytes(length, "big"))[1]
