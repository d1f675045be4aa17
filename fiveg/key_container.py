"""The key container of step 5b, ours: in UL and DL NAS TRANSPORT as payload type D, with the PDU session ID beside it.

    version 1 │ type 1 │ transaction 1 │ generation 4 │ TLVs: tag 1, length 2, value

Which TLVs a type has stands in one table; what is more, less, twice or of another length is refused.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from enum import IntEnum

from fiveg.errors import FivegError

VERSION = 1
HEADER = 7
SHORTEST_LIFETIME, LONGEST_LIFETIME = 60, 86400
"""s, as on N4 and the SBI"""


class KeyContainerError(FivegError):
    """A key container that is refused. The text never holds a value."""


class KeyContainerType(IntEnum):
    PROVISION = 1
    """network to UE: a key, or P0"""
    ACK = 2
    REQUEST = 3
    """UE to network: a new key is wanted"""
    REJECT = 4
    REVOKE = 5


class KeyCause(IntEnum):
    UNKNOWN_SESSION = 1
    UNSUPPORTED = 2
    STALE_GENERATION = 3
    NO_RESOURCES = 4
    NO_SECURITY_CONTEXT = 5
    FINGERPRINT_MISMATCH = 6


TLVS = {
    "p0": (1, 32),
    "key": (2, 32),
    "lifetime": (3, 4),
    "cause": (4, 1),
    "drain": (5, 2),
    "fingerprint": (6, 4),
}
"""Name: tag, length"""
NAMES = {tag: name for name, (tag, _) in TLVS.items()}
NUMBERS = frozenset(("lifetime", "cause", "drain"))
Type = KeyContainerType
REQUIRED = {
    Type.PROVISION: {"lifetime"},
    Type.ACK: {"fingerprint"},
    Type.REQUEST: set(),
    Type.REJECT: {"cause"},
    Type.REVOKE: set(),
}
ALLOWED = {
    Type.PROVISION: {"p0", "key", "lifetime", "drain"},
    Type.ACK: {"fingerprint"},
    Type.REQUEST: {"cause"},
    Type.REJECT: {"cause"},
    Type.REVOKE: {"cause"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyContainer:
    """A PROVISION has exactly one of `key` (mode delivered) and `p0` (mode derived)."""

    type: KeyContainerType
    transaction: int
    generation: int
    p0: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    lifetime: int | None = None
    """s"""
    cause: int | None = None
    drain: int | None = None
    """how long the old connection may still be used, s"""
    fingerprint: bytes | None = None

    def encode(self) -> bytes:
        self._check()
        out = bytearray((VERSION, self.type, self.transaction)) + self.generation.to_bytes(4, "big")
        for name, (tag, length) in TLVS.items():
            value = getattr(self, name)
            if value is None:
                continue
            octets = value.to_bytes(length, "big") if name in NUMBERS else value
            out += bytes((tag,)) + length.to_bytes(2, "big") + octets
        return bytes(out)

    def _check(self) -> None:
        if not 0 <= self.transaction <= 255 or not 0 <= self.generation <= 0xFFFFFFFF:
            raise KeyContainerError("a transaction has one octet and a generation four")
        present = set()
        for name, (_, length) in TLVS.items():
            value = getattr(self, name)
            if value is None:
                continue
            present.add(name)
            fits = 0 <= value < 1 << 8 * length if name in NUMBERS else len(value) == length
            if not fits:
                raise KeyContainerError(f"{name} does not fit its {length} octets")
        _check_tlvs(self.type, present)
        self._check_provision()

    def _check_provision(self) -> None:
        """What would be taken in and be of no use: no generation, or a key that is over before it can be used"""
        if self.type is not KeyContainerType.PROVISION:
            return
        if not self.generation:
            raise KeyContainerError("PROVISION: generation 0 names no key, the first is 1")
        if self.lifetime is None or not SHORTEST_LIFETIME <= self.lifetime <= LONGEST_LIFETIME:
            raise KeyContainerError(f"PROVISION: lifetime {self.lifetime} is not in {SHORTEST_LIFETIME}..{LONGEST_LIFETIME} s")

    @classmethod
    def decode(cls, data: bytes) -> KeyContainer:
        """Raises KeyContainerError and nothing else."""
        if len(data) < HEADER:
            raise KeyContainerError(f"a key container has at least {HEADER} octets, this one {len(data)}")
        if data[0] != VERSION:
            raise KeyContainerError(f"version {data[0]} of the key container is unknown")
        try:
            kind = KeyContainerType(data[1])
        except ValueError:
            raise KeyContainerError(f"type {data[1]} of a key container is unknown") from None
        values: dict[str, bytes | int] = {}
        at = HEADER
        while at < len(data):
            if at + 3 > len(data):
                raise KeyContainerError("a TLV of the key container is cut off")
            tag, length = data[at], int.from_bytes(data[at + 1 : at + 3], "big")
            value, at = data[at + 3 : at + 3 + length], at + 3 + length
            name = NAMES.get(tag)
            if name is None or length != TLVS[name][1] or len(value) != length:
                raise KeyContainerError(f"TLV {tag} with {length} octets is unknown, cut off or of a wrong length")
            if name in values:
                raise KeyContainerError(f"TLV {tag} stands twice")
            values[name] = int.from_bytes(value, "big") if name in NUMBERS else value
        _check_tlvs(kind, set(values))
        container = cls(type=kind, transaction=data[2], generation=int.from_bytes(data[3:7], "big"))
        container = dataclasses.replace(container, **values)  # type: ignore[arg-type]
        container._check_provision()
        return container


@dataclass(frozen=True, slots=True)
class ProvisionHead:
    """What a PROVISION that does not decode is refused by."""

    transaction: int
    generation: int

    @classmethod
    def of(cls, data: bytes) -> ProvisionHead | None:
        """None: the octets are no PROVISION of this version, or its head is cut off."""
        if len(data) < HEADER or data[0] != VERSION or data[1] != KeyContainerType.PROVISION:
            return None
        return cls(data[2], int.from_bytes(data[3:7], "big"))


def _check_tlvs(kind: KeyContainerType, present: set[str]) -> None:
    missing, extra = REQUIRED[kind] - present, present - ALLOWED[kind]
    if missing or extra:
        raise KeyContainerError(f"{kind.name}: missing {sorted(missing)}, not allowed {sorted(extra)}")
    if kind is KeyContainerType.PROVISION and len(present & {"p0", "key"}) != 1:
        raise KeyContainerError("PROVISION: exactly one of p0 and key")
