"""IEs on the wire (TS 29.244 §8.1): type (2) ‖ length (2) ‖ value; from type 0x8000 on the value starts with the
enterprise number. A message or grouped IE is a dataclass whose fields say which IE they are:

    far_id: ie.FarId                          mandatory
    dnn: ie.ApnDnn | None = None              optional
    pdrs: tuple[CreatePdr, ...] = ()          any number; without the default at least one

A single value is a name of ies.py, which is its type with an Ie beside it; a group is its class, which has its IE type.

Unknown IEs are skipped, of a repeated IE that may stand once the first counts (§7.6.8), octets after a value that we
know are ignored (§5.7). Nothing is ever read beyond the value that an IE's length gives, and groups nest as deep as the
classes do: input cannot make it deeper.
"""

import dataclasses
import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from types import UnionType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from fiveg.labels import LabelError, labels_decode, labels_encode
from fiveg.pfcp.codes import ENTERPRISE, IeType
from fiveg.pfcp.errors import IeIncorrect, InvalidLength, MandatoryIeMissing, PfcpError

E = TypeVar("E", bound=IntEnum)
F = TypeVar("F", bound=IntFlag)


class Codec(Protocol):
    """What writes and reads the value of one IE: an object like U16, or a class of values.py or rules.py."""

    def encode(self, value: Any, /) -> bytes: ...

    def decode(self, data: bytes, /) -> Any: ...


def need(data: bytes, length: int) -> None:
    if len(data) < length:
        raise InvalidLength(f"value of {len(data)} octets where {length} are due")


@dataclasses.dataclass(frozen=True, slots=True)
class Uint:
    """Unsigned integer of a fixed size; `low` and `high` bound the values allowed."""

    size: int
    low: int = 0
    high: int | None = None

    def encode(self, value: int) -> bytes:
        self._check(value)
        return value.to_bytes(self.size, "big")

    def decode(self, data: bytes) -> int:
        need(data, self.size)
        value = int.from_bytes(data[: self.size], "big")
        self._check(value)
        return value

    def _check(self, value: int) -> None:
        high = (1 << 8 * self.size) - 1 if self.high is None else self.high
        if not self.low <= value <= high:
            raise IeIncorrect(f"{value} is not in {self.low}..{high}")


U8 = Uint(1)
U16 = Uint(2)
U32 = Uint(4)


@dataclasses.dataclass(frozen=True, slots=True)
class Enumeration(Generic[E]):
    """One octet, its low bits an enumeration; a value that we do not know is refused when it comes, not when used."""

    enum: type[E]
    mask: int = 0xFF

    def encode(self, value: E) -> bytes:
        return bytes((self.enum(value),))

    def decode(self, data: bytes) -> E:
        need(data, 1)
        try:
            return self.enum(data[0] & self.mask)
        except ValueError:
            raise IeIncorrect(f"{self.enum.__name__} {data[0] & self.mask} is unknown") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Flags(Generic[F]):
    """Flags, first octet = bits 1 to 8, a second one above them; unknown bits are spare and ignored."""

    flags: type[F]
    size: int = 1
    least_one: bool = False

    def encode(self, value: F) -> bytes:
        self._check(int(value))
        return int(value).to_bytes(self.size, "little")

    def decode(self, data: bytes) -> F:
        need(data, 1)
        known = 0
        for flag in self.flags:
            known |= int(flag)
        value = int.from_bytes(data[: self.size], "little") & known
        self._check(value)
        return self.flags(value)

    def _check(self, value: int) -> None:
        if self.least_one and not value:
            raise IeIncorrect(f"{self.flags.__name__} without any flag")


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 text without terminator."""

    longest: int = 255

    def encode(self, value: str) -> bytes:
        data = value.encode()
        self._check(data)
        return data

    def decode(self, data: bytes) -> str:
        self._check(data)
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise IeIncorrect("not UTF-8") from None

    def _check(self, data: bytes) -> None:
        if not 1 <= len(data) <= self.longest:
            raise InvalidLength(f"text of {len(data)} octets, 1..{self.longest} are allowed")


@dataclasses.dataclass(frozen=True, slots=True)
class Octets:
    """A value that is carried and not looked into."""

    least: int = 0

    def encode(self, value: bytes) -> bytes:
        need(value, self.least)
        return value

    def decode(self, data: bytes) -> bytes:
        need(data, self.least)
        return data


class Labels:
    """A DNN or FQDN as DNS labels (§8.2.117, §8.2.38)."""

    LONGEST = 255

    def encode(self, value: str) -> bytes:
        try:
            return labels_encode(value, self.LONGEST)
        except LabelError as error:
            raise IeIncorrect(str(error)) from None

    def decode(self, data: bytes) -> str:
        need(data, 1)
        try:
            return labels_decode(data, self.LONGEST)
        except LabelError as error:
            raise IeIncorrect(str(error)) from None


LABELS = Labels()


@dataclasses.dataclass(frozen=True, slots=True)
class RawIe:
    """One IE as it stands in a message; vendor IEs without their enterprise number."""

    type: int
    value: bytes = dataclasses.field(repr=False)


def ie_encode(kind: int, value: bytes) -> bytes:
    if kind >= 0x8000:
        value = struct.pack("!H", ENTERPRISE) + value
    if len(value) > 0xFFFF:
        raise InvalidLength(f"IE {kind} of {len(value)} octets", ie=kind)
    return struct.pack("!HH", kind, len(value)) + value


def ies_split(data: bytes) -> Iterator[RawIe]:
    """The IEs of a message or group; vendor IEs of other enterprises are left out, ours come without the enterprise."""
    at = 0
    while at < len(data):
        if len(data) - at < 4:
            raise InvalidLength(f"{len(data) - at} octets are left where an IE needs 4")
        kind, length = struct.unpack_from("!HH", data, at)
        at += 4
        if length > len(data) - at:
            raise InvalidLength(f"IE {kind} says {length} octets, {len(data) - at} are there", ie=kind)
        value = data[at : at + length]
        at += length
        if kind >= 0x8000:
            if length < 2:
                raise InvalidLength(f"vendor IE {kind} without enterprise number", ie=kind)
            if int.from_bytes(value[:2], "big") != ENTERPRISE:
                continue
            value = value[2:]
        yield RawIe(kind, value)


@dataclasses.dataclass(frozen=True, slots=True)
class Ie:
    """Beside a type: the IE that it is on the wire."""

    kind: int
    codec: Codec


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """A field of a group, as found in its class."""

    name: str
    type: int
    codec: Codec
    many: bool
    mandatory: bool


_SLOTS: dict[object, dict[int, Slot]] = {}


def slots_of(group: type["Group"]) -> dict[int, Slot]:
    """The IEs of a group by type, in the order of the fields; found once per class."""
    if group not in _SLOTS:
        _SLOTS[group] = _slots_find(group)
    return _SLOTS[group]


def _slots_find(group: type["Group"]) -> dict[int, Slot]:
    hints = get_type_hints(group, include_extras=True)
    found: dict[int, Slot] = {}
    for field in dataclasses.fields(group):  # type: ignore[arg-type]
        hint = hints[field.name]
        many = get_origin(hint) is tuple
        if many or get_origin(hint) in (Union, UnionType):  # tuple[X, ...] or X | None
            hint = get_args(hint)[0]
        ie = _ie_of(hint)
        found[ie.kind] = Slot(field.name, ie.kind, ie.codec, many, field.default is dataclasses.MISSING)
    return found


def _ie_of(hint: Any) -> Ie:
    if isinstance(hint, type) and issubclass(hint, Group):
        return Ie(hint.IE, hint)
    (ie,) = (mark for mark in hint.__metadata__ if isinstance(mark, Ie))
    return ie


class Group:
    """Base of grouped IEs and messages."""

    __slots__ = ()
    IE: ClassVar[IeType]
    """Of a grouped IE that stands for one type only"""

    def check(self) -> None:
        """Conditions between the IEs (which conditional ones must be there); raises PfcpError."""

    def encode(self) -> bytes:
        out = bytearray()
        for slot in slots_of(type(self)).values():
            value = getattr(self, slot.name)
            if value is None:
                continue
            try:
                for item in value if slot.many else (value,):
                    out += ie_encode(slot.type, slot.codec.encode(item))
            except PfcpError as error:
                raise error.within(slot.type) from None
            except (OverflowError, ValueError):  # a number too large for its octets; its text may show the value
                raise IeIncorrect(f"{type(self).__name__}.{slot.name} has no encoding", ie=slot.type) from None
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises PfcpError and nothing else."""
        slots = slots_of(cls)
        found: dict[str, list[Any]] = {}
        for raw in ies_split(data):
            slot = slots.get(raw.type)
            if slot is None or (slot.name in found and not slot.many):
                continue
            try:
                found.setdefault(slot.name, []).append(slot.codec.decode(raw.value))
            except PfcpError as error:
                raise error.within(raw.type) from None
        values: dict[str, Any] = {}
        for slot in slots.values():
            if slot.name in found:
                values[slot.name] = tuple(found[slot.name]) if slot.many else found[slot.name][0]
            elif slot.mandatory:
                raise MandatoryIeMissing(f"{cls.__name__} without {slot.name}", ie=slot.type)
        group = cls(**values)
        group.check()
        return group
