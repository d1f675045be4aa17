"""Our vendor IEs for MPQUIC keys (enterprise 32473). All start with a version octet, 1; values that we do not know are
refused. Layouts: docs of this project, "Our own code points"."""

from dataclasses import dataclass, field
from typing import Self

from fiveg.pfcp.codec import U32, Enumeration, Uint
from fiveg.pfcp.codes import KeyCapabilityFlags, KeyEvent, KeyFlags, KeyReason, UeIdType
from fiveg.pfcp.errors import IeIncorrect, InvalidLength
from fiveg.pfcp.values import Reader

VERSION = 1
WRAPPED_LENGTH = 40
"""AES-KW of a 32-octet key (RFC 3394: eight octets more)."""
LIFETIME = Uint(4, 60, 86400)
GENERATION = Uint(4, 1)
REASON, EVENT, UE_ID_TYPE = Enumeration(KeyReason), Enumeration(KeyEvent), Enumeration(UeIdType)
NO_FLAGS = KeyFlags(0)


def _reader(data: bytes) -> Reader:
    """Of what stands behind the version"""
    reader = Reader(data)
    version = reader.uint(1)
    if version != VERSION:
        raise IeIncorrect(f"version {version} of our IE is unknown, {VERSION} is known")
    return reader


@dataclass(frozen=True, slots=True)
class MpquicKeyRequest:
    """version ‖ reason (1) ‖ held generation (4; 0 none)"""

    reason: KeyReason
    held_generation: int = 0

    def encode(self) -> bytes:
        return bytes((VERSION, self.reason)) + U32.encode(self.held_generation)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = _reader(data)
        return cls(REASON.decode(reader.take(1)), reader.uint(4))


@dataclass(frozen=True, slots=True)
class MpquicKey:
    """version ‖ flags (1) ‖ generation (4) ‖ lifetime (4, s) ‖ UE id type (1) ‖ length (1) ‖ UE id ‖
    length (1) ‖ wrapped key. With REVOKE the wrapped key may be empty: the generation named is wiped."""

    generation: int
    lifetime: int
    ue_id: bytes
    wrapped: bytes = field(repr=False)
    ue_id_type: UeIdType = UeIdType.OPAQUE
    flags: KeyFlags = NO_FLAGS

    def encode(self) -> bytes:
        self._check()
        out = bytes((VERSION, self.flags)) + GENERATION.encode(self.generation) + LIFETIME.encode(self.lifetime)
        out += bytes((self.ue_id_type, len(self.ue_id))) + self.ue_id
        return out + bytes((len(self.wrapped),)) + self.wrapped

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = _reader(data)
        flags = reader.uint(1)
        if flags & ~0b11:
            raise IeIncorrect(f"key flags {flags:#04x} are unknown")
        generation, lifetime = GENERATION.decode(reader.take(4)), LIFETIME.decode(reader.take(4))
        kind = UE_ID_TYPE.decode(reader.take(1))
        ue_id = reader.take(reader.uint(1))
        wrapped = reader.take(reader.uint(1))
        value = cls(generation, lifetime, ue_id, wrapped, kind, KeyFlags(flags))
        value._check()
        return value

    def _check(self) -> None:
        if self.ue_id_type is UeIdType.OPAQUE and len(self.ue_id) != 8:
            raise InvalidLength(f"opaque UE id of {len(self.ue_id)} octets, 8 are due")
        if not 1 <= len(self.ue_id) <= 255:
            raise InvalidLength(f"UE id of {len(self.ue_id)} octets")
        if len(self.wrapped) != WRAPPED_LENGTH and not (self.flags & KeyFlags.REVOKE and not self.wrapped):
            raise InvalidLength(f"wrapped key of {len(self.wrapped)} octets, {WRAPPED_LENGTH} are due")


@dataclass(frozen=True, slots=True)
class MpquicKeyReport:
    """version ‖ event (1) ‖ generation (4) ‖ detail (4)"""

    event: KeyEvent
    generation: int
    detail: int = 0

    def encode(self) -> bytes:
        return bytes((VERSION, self.event)) + U32.encode(self.generation) + U32.encode(self.detail)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = _reader(data)
        return cls(EVENT.decode(reader.take(1)), reader.uint(4), reader.uint(4))


@dataclass(frozen=True, slots=True)
class MpquicKeyCapability:
    """version ‖ flags (2; b1 keys supported, b2 AES-KW-256)"""

    flags: KeyCapabilityFlags = KeyCapabilityFlags.KEYS | KeyCapabilityFlags.AES_KW_256

    def encode(self) -> bytes:
        return bytes((VERSION,)) + int(self.flags).to_bytes(2, "big")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        return cls(KeyCapabilityFlags(_reader(data).uint(2) & 3))
