"""How NAS messages are written down: a message is a dataclass whose fields say how they stand on the wire (TS 24.007
§11.2.1). Mandatory fields come in order; those with a tag are optional, come in table order and are read in any.

    identity: Identity = mandatory(LVE, IDENTITY)
    dnn: str | None = optional(TLV, 0x25, DNN)

Unknown optional IEs are skipped by the rules of TS 24.007 §11.2.4, unless their tag says that they must be understood
(high half 0; §11.2.5); of a repeated IE the first counts (TS 24.501 §7.6.3). Those rules say how long an IE of a later
release is, not one that a message always had: what of these has no length field and is not read here stands in the
message's PASSED_OVER. Input cannot nest what a class does not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, Self, TypeVar

from fiveg.labels import LabelError, labels_decode, labels_encode
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
        try:
            return labels_encode(value, self.LONGEST)
        except LabelError as e:
            raise NasValueError(f"DNN: {e}") from None

    def decode(self, data: bytes) -> str:
        try:
            return labels_decode(data, self.LONGEST)
        except LabelError as e:
            raise NasError(f"DNN: {e}") from None


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
    PASSED_OVER: ClassVar[Mapping[int, int]] = MappingProxyType({})
    """IEs of the format TV that the message has and we do not read: tag → octets behind it"""

    def encode_body(self) -> bytes:
        """Raises NasValueError for what has no encoding."""
        out = bytearray()
        for name, ie in _ies(type(self)):
            value = getattr(self, name)
            if ie.tag is not None and value is None:
                continue
            try:
                data = ie.codec.encode(value)
                if ie.format is LOW:
                    out += data  # alone in its octet, unless the next field is the high half
                elif ie.format is HIGH:
                    out[-1] |= data[0] << 4
                else:
                    out += _write(ie, data)
            except NasError as e:
                raise NasValueError(f"{type(self).__name__}.{name}: {e}") from None
        return bytes(out)

    @classmethod
    def decode_body(cls, data: bytes, **header: Any) -> Self:
        """`header`: the fields without an `ie`. Raises NasError and nothing else."""
        values: dict[str, Any] = dict(header)
        at = 0
        optionals: dict[int, tuple[str, Ie]] = {}
        for name, ie in _ies(cls):
            if ie.tag is not None:
                optionals[ie.tag << 4 if ie.format is TV1 else ie.tag] = (name, ie)
                continue
            if ie.format is HIGH:  # the other half of the octet just read
                value = bytes((data[at - 1] >> 4,))
            else:
                value, at = _read(cls, name, ie, data, at)
            if ie.format is LOW:
                value = bytes((value[0] & 15,))
            values[name] = _value(cls, name, ie, value, NasMandatoryIncorrect)
        while at < len(data):
            tag = data[at] & 0xF0 if data[at] & 0x80 else data[at]
            known = optionals.get(tag)
            if known is None:
                at = _skip(cls, data, at)
                continue
            name, ie = known
            if ie.format is TV1:
                value, at = bytes((data[at] & 15,)), at + 1
            else:
                value, at = _read(cls, name, ie, data, at + 1)
            if name not in values:
                values[name] = _value(cls, name, ie, value, NasOptionalIncorrect)
        return cls(**values)


_TABLES: dict[object, tuple[tuple[str, Ie], ...]] = {}


def _ies(cls: type[NasMessage]) -> tuple[tuple[str, Ie], ...]:
    """The IE table of a message, as its fields give it, in their order; found once per class"""
    if cls not in _TABLES:
        _TABLES[cls] = tuple((f.name, f.metadata["ie"]) for f in dataclasses.fields(cls) if "ie" in f.metadata)
    return _TABLES[cls]


def _value(cls: type[NasMessage], name: str, ie: Ie, data: bytes, error: type[NasError]) -> Any:
    try:
        return ie.codec.decode(data)
    except NasError as e:
        raise error(f"{cls.__name__}.{name}: {e}") from None


def _write(ie: Ie, data: bytes) -> bytes:
    if ie.format is TV1:
        return bytes(((ie.tag or 0) << 4 | data[0],))
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


def _read(cls: type[NasMessage], name: str, ie: Ie, data: bytes, at: int) -> tuple[bytes, int]:
    """The value of an IE, behind its tag"""
    size = LENGTH_OCTETS.get(ie.format)
    if size is None:
        return _take(cls, name, data, at, ie.size)
    length, at = _take(cls, name, data, at, size)
    return _take(cls, name, data, at, int.from_bytes(length, "big"))


def _skip(cls: type[NasMessage], data: bytes, at: int) -> int:
    """TS 24.007 §11.2.4: tags 8x-Fx are one octet; 7x have a length of 2 octets, all others of 1."""
    tag = data[at]
    where = f"IE {tag:#04x}"
    if tag & 0x80:
        return at + 1
    if not tag & 0xF0:
        raise NasMandatoryIncorrect(f"{cls.__name__}: {where} is unknown and must be understood")
    if tag in cls.PASSED_OVER:
        return _take(cls, where, data, at + 1, cls.PASSED_OVER[tag])[1]
    size = 2 if tag & 0xF0 == 0x70 else 1
    length, at = _take(cls, where, data, at + 1, size)
    return _take(cls, where, data, at, int.from_bytes(length, "big"))[1]
