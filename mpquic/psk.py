"""External pre-shared keys, used directly or imported (RFC 8446 §4.2.11, RFC 9257, RFC 9258)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from mpquic.errors import PskWiped
from mpquic.key_schedule import hkdf_expand_label, hkdf_extract
from mpquic.suites import AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, SUITES, Suite, suite_named
from mpquic.tls_states import Role

_IMPORT_PROTOCOL = 0x0304  # QUIC v1 uses TLS 1.3's value (RFC 9258 §5.1)
_IMPORT_HASH = "sha256"  # hash of the external PSK: none is defined for it, so SHA-256
EXTERNAL_LABEL, IMPORTED_LABEL = "ext binder", "imp binder"
MINIMUM_KEY = 16  # RFC 9257 §6: at least 128 bits of entropy


class PskMode(Enum):
    """How a key is used. Never both for one key."""

    EXTERNAL = "external"
    IMPORTED = "imported"


_DEFAULT_SUITES = {
    PskMode.EXTERNAL: (AES_128_GCM, CHACHA20_POLY1305),
    PskMode.IMPORTED: (AES_128_GCM, CHACHA20_POLY1305, AES_256_GCM),
}


@dataclass(frozen=True, slots=True)
class ImportedIdentity:
    """ImportedIdentity of RFC 9258 §5.1; serialized it is the identity on the wire.

    opaque external_identity<1..2^16-1>; opaque context<0..2^16-1>; uint16 target_protocol; uint16 target_kdf
    """

    external_identity: bytes
    context: bytes
    target_protocol: int
    target_kdf: int

    def encode(self) -> bytes:
        return b"".join(
            (
                len(self.external_identity).to_bytes(2, "big"),
                self.external_identity,
                len(self.context).to_bytes(2, "big"),
                self.context,
                self.target_protocol.to_bytes(2, "big"),
                self.target_kdf.to_bytes(2, "big"),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> ImportedIdentity | None:
        """None when the octets are not one (then they are an external identity)."""
        external_length = int.from_bytes(data[:2], "big")
        context_at = 2 + external_length
        context_length = int.from_bytes(data[context_at : context_at + 2], "big")
        if external_length == 0 or len(data) != context_at + 2 + context_length + 4:
            return None
        tail = data[-4:]
        return cls(
            data[2:context_at],
            data[context_at + 2 : -4],
            int.from_bytes(tail[:2], "big"),
            int.from_bytes(tail[2:], "big"),
        )


@dataclass(frozen=True, slots=True, repr=False)
class Offer:
    """One identity with its key for the hash of some suites, as it stands in a ClientHello."""

    identity: bytes
    key: bytes | bytearray
    hash_name: str
    binder_label: str


class Psk:
    """One key between exactly one client and one server (RFC 9257 §4). Makes one connection."""

    __slots__ = ("_key", "context", "identity", "mode", "role", "suites")

    def __init__(
        self,
        key: bytes,
        identity: bytes,
        mode: PskMode = PskMode.EXTERNAL,
        suites: Sequence[Suite | str | int] | None = None,
        context: bytes = b"",
    ) -> None:
        if len(key) < MINIMUM_KEY:
            raise ValueError(f"a PSK has at least {MINIMUM_KEY} octets, this one has {len(key)}")
        if not 1 <= len(identity) <= 1024:
            raise ValueError(f"a PSK identity has 1 to 1024 octets, this one has {len(identity)}")
        chosen = _DEFAULT_SUITES[mode] if suites is None else tuple(_suite(s) for s in suites)
        if mode is PskMode.EXTERNAL and any(s.hash_name != _IMPORT_HASH for s in chosen):
            raise ValueError("an external PSK is bound to SHA-256: a SHA-384 suite needs mode imported (RFC 9258)")
        if not chosen:
            raise ValueError("no cipher suite")
        self._key = bytearray(key)
        self.identity = bytes(identity)
        self.mode = mode
        self.suites = chosen
        self.context = context
        self.role: Role | None = None  # of this node; fixed by the first use

    def __repr__(self) -> str:
        return f"<Psk {self.mode.value}>"

    def __reduce__(self) -> str:
        raise TypeError("a Psk is never pickled")

    @property
    def wiped(self) -> bool:
        return not self._key

    def wipe(self) -> None:
        """Overwrites the key. The object stays, and answers every use with PskWiped."""
        self._key[:] = bytes(len(self._key))
        self._key = bytearray()

    def claim(self, role: Role) -> bool:
        """This node's role with the key, for good. False: it has the other one (RFC 9257 §4.1)."""
        if self.role is None:
            self.role = role
        return self.role is role

    def offers(self) -> list[Offer]:
        """Identities for a ClientHello: one per hash, in the order of the suites."""
        hashes = dict.fromkeys(s.hash_name for s in self.suites)
        return [self.offer(next(s for s in self.suites if s.hash_name == h)) for h in hashes]

    def wire_identity(self, suite: Suite) -> bytes:
        """The identity as a ClientHello carries it for this suite."""
        if self.mode is PskMode.EXTERNAL:
            return self.identity
        return ImportedIdentity(self.identity, self.context, _IMPORT_PROTOCOL, suite.kdf).encode()

    def offer(self, suite: Suite) -> Offer:
        """The identity and key to use with this suite."""
        if self.wiped:
            raise PskWiped("the key was wiped")
        wire = self.wire_identity(suite)
        if self.mode is PskMode.EXTERNAL:
            return Offer(wire, self._key, _IMPORT_HASH, EXTERNAL_LABEL)
        return Offer(wire, import_key(self._key, wire, suite), suite.hash_name, IMPORTED_LABEL)


def import_key(key: bytes | bytearray, imported_identity: bytes, suite: Suite) -> bytes:
    """ipskx of RFC 9258 §5.1."""
    extracted = hkdf_extract(_IMPORT_HASH, b"", key)
    digest = hashlib.new(_IMPORT_HASH, imported_identity).digest()
    return hkdf_expand_label(_IMPORT_HASH, extracted, "derived psk", digest, suite.hash_length)


def _suite(value: Suite | str | int) -> Suite:
    if isinstance(value, Suite):
        return value
    if isinstance(value, str):
        return suite_named(value)
    try:
        return SUITES[value]
    except KeyError:
        raise ValueError(f"unknown cipher suite 0x{value:04x}") from None
