"""SETTINGS of HTTP/3 (RFC 9114 §7.2.4, RFC 9204 §5, RFC 9220 §3, RFC 9297 §2.1.1): {Identifier (i), Value (i)} *."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpquic.errors import H3Error
from mpquic.h3_codes import Code
from mpquic.reader import Reader, ReadError, varint

MAX_TABLE_CAPACITY = 0x01
MAX_FIELD_SECTION_SIZE = 0x06
BLOCKED_STREAMS = 0x07
ENABLE_CONNECT_PROTOCOL = 0x08
H3_DATAGRAM = 0x33
_RESERVED_SETTINGS = (0x00, 0x02, 0x03, 0x04, 0x05)

SETTINGS_MOST = 64


def encode_settings(values: Sequence[tuple[int, int]]) -> bytes:
    return b"".join(varint(identifier) + varint(value) for identifier, value in values)


@dataclass(frozen=True, slots=True)
class Settings:
    max_field_section_size: int | None = None
    enable_connect_protocol: bool = False
    datagram: bool = False


def decode_settings(payload: bytes) -> Settings:
    reader = Reader(payload)
    values: dict[int, int] = {}
    try:
        while reader.left:
            identifier, value = reader.varint(), reader.varint()
            if identifier in values:
                raise H3Error(Code.SETTINGS_ERROR, f"setting 0x{identifier:x} twice")
            if identifier in _RESERVED_SETTINGS:
                raise H3Error(Code.SETTINGS_ERROR, f"setting 0x{identifier:x} is of HTTP/2")
            if identifier in (ENABLE_CONNECT_PROTOCOL, H3_DATAGRAM) and value > 1:
                raise H3Error(Code.SETTINGS_ERROR, f"setting 0x{identifier:x} is {value}, neither 0 nor 1")
            if len(values) == SETTINGS_MOST:
                raise H3Error(Code.EXCESSIVE_LOAD, f"more than {SETTINGS_MOST} settings")
            values[identifier] = value
    except ReadError as error:
        raise H3Error(Code.FRAME_ERROR, f"SETTINGS: {error}") from None
    return Settings(values.get(MAX_FIELD_SECTION_SIZE), bool(values.get(ENABLE_CONNECT_PROTOCOL)), bool(values.get(H3_DATAGRAM)))
