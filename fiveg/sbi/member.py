"""Objects with typed members. A type is a dataclass whose fields say which member they are:

    pdu_session_id: Annotated[int, Member("pduSessionId", Integer(1, 15))]       required: no default
    dnn: Annotated[str | None, Member("dnn", DNN)] = None                        optional

Unknown members are ignored (TS 29.501 §5.2.3); all wrong ones are reported together, as invalidParams with the path of each.
"""

import base64
import binascii
import dataclasses
import re
import uuid
from enum import Enum
from typing import Annotated, Any, Generic, Protocol, Self, TypeVar, get_origin, get_type_hints
from urllib.parse import urlsplit

from fiveg.errors import FivegError
from fiveg.sbi.errors import InvalidParam, SbiError
from fiveg.sbi.strict import Json, dump, parse

MAX_REPORTED = 8


class Wrong(FivegError, ValueError):
    """A value that is not allowed, and what is; `params` when it stands deeper. Never shows the value: it may be a key."""

    def __init__(self, reason: str, params: tuple[InvalidParam, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.params = params


class Kind(Protocol):
    def read(self, value: Any, /) -> Any: ...

    def write(self, value: Any, /) -> Any: ...


@dataclasses.dataclass(frozen=True, slots=True)
class String:
    pattern: str | None = None
    longest: int = 255

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > self.longest:
            raise Wrong(f"string of at most {self.longest} characters")
        if re.search("[\ud800-\udfff]", value):  # \udxxx alone is JSON, but no text: it could not be written to any log
            raise Wrong("string of Unicode characters")
        if self.pattern is not None and re.fullmatch(self.pattern, value, re.ASCII) is None:
            raise Wrong(f"string like {self.pattern}")
        return value

    def write(self, value: str) -> str:
        return self.read(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Integer:
    low: int
    high: int

    def read(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise Wrong(f"integer {self.low}..{self.high}")
        return value

    def write(self, value: int) -> int:
        return self.read(value)


class Boolean:
    def read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise Wrong("true or false")
        return value

    def write(self, value: bool) -> bool:
        return self.read(value)


En = TypeVar("En", bound=Enum)


@dataclasses.dataclass(frozen=True, slots=True)
class Choice(Generic[En]):
    enum: type[En]

    def read(self, value: Any) -> En:
        try:
            return self.enum(value)
        except ValueError:
            raise Wrong("one of " + ", ".join(str(e.value) for e in self.enum)) from None

    def write(self, value: En) -> Any:
        return value.value


class Uuid:
    def read(self, value: Any) -> uuid.UUID:
        if not isinstance(value, str) or re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value) is None:
            raise Wrong("UUID")
        return uuid.UUID(value)

    def write(self, value: uuid.UUID) -> str:
        return str(value)


class Uri:
    """An absolute https URI. Whether it may be called is the caller's to decide (it names a host)."""

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > 1024 or re.fullmatch(r"[!-~]+", value) is None:
            raise Wrong("absolute https URI of at most 1024 characters")
        try:
            parts = urlsplit(value)
            good = parts.scheme == "https" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good:
            raise Wrong("absolute https URI of at most 1024 characters")
        return value

    def write(self, value: str) -> str:
        return self.read(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Base64:
    """Exactly so many octets, in the one canonical form."""

    size: int

    def read(self, value: Any) -> bytes:
        try:
            data = base64.b64decode(value.encode("ascii"), validate=True) if isinstance(value, str) else b""
        except (binascii.Error, UnicodeEncodeError):
            data = b""
        if len(data) != self.size or base64.b64encode(data).decode() != value:
            raise Wrong(f"base64 of {self.size} octets")
        return data

    def write(self, value: bytes) -> str:
        if len(value) != self.size:
            raise Wrong(f"base64 of {self.size} octets")
        return base64.b64encode(value).decode()


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    name: str
    kind: Kind


class JsonObject:
    """Base of the types; `parse` and `text` are whole bodies, `read` and `write` make every type a Kind."""

    __slots__ = ()

    @classmethod
    def read(cls, value: Any) -> Self:
        if not isinstance(value, dict):
            raise Wrong("object")
        values: dict[str, Any] = {}
        wrong: list[InvalidParam] = []
        for field, member, required in _members(cls):
            if member.name not in value:
                if required:
                    wrong.append(InvalidParam(f"/{member.name}", "is required"))
                continue
            try:
                values[field] = member.kind.read(value[member.name])
            except Wrong as error:
                deeper = tuple(InvalidParam(f"/{member.name}{p.param}", p.reason) for p in error.params)
                wrong.extend(deeper or (InvalidParam(f"/{member.name}", error.reason),))
        if wrong:
            raise Wrong("object", tuple(wrong))
        return cls(**values)

    def write(self) -> Json:
        out: Json = {}
        for field, member, _ in _members(type(self)):
            value = getattr(self, field)
            if value is not None:
                out[member.name] = member.kind.write(value)
        return out

    @classmethod
    def of(cls, value: Json) -> Self:
        try:
            return cls.read(value)
        except Wrong as error:
            missing = all(p.reason == "is required" for p in error.params)
            cause = "MANDATORY_IE_MISSING" if missing else "MANDATORY_IE_INCORRECT"
            raise SbiError(400, cause, f"not a {cls.__name__}", error.params[:MAX_REPORTED]) from None

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls.of(parse(body))

    def text(self) -> bytes:
        return dump(self.write())


_MEMBERS: dict[object, tuple[tuple[str, Member, bool], ...]] = {}


def _members(cls: type[JsonObject]) -> tuple[tuple[str, Member, bool], ...]:
    if cls not in _MEMBERS:
        hints = get_type_hints(cls, include_extras=True)
        _MEMBERS[cls] = tuple(
            (field.name, mark, field.default is dataclasses.MISSING)
            for field in dataclasses.fields(cls)  # type: ignore[arg-type]
            if get_origin(hints[field.name]) is Annotated
            for mark in hints[field.name].__metadata__
            if isinstance(mark, Member)
        )
    return _MEMBERS[cls]
