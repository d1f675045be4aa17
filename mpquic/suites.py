"""TLS 1.3 cipher suites that QUIC may use here (RFC 8446 §B.4, RFC 9001 §5.3)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite: what the handshake needs to know of it."""

    name: str
    code: int
    hash_name: str
    hash_length: int
    kdf: int  # RFC 9258 §5: KDF identifier of the target
    nonce_length: int = 12


AES_128_GCM = Suite("TLS_AES_128_GCM_SHA256", 0x1301, "sha256", 32, 0x0001)
AES_256_GCM = Suite("TLS_AES_256_GCM_SHA384", 0x1302, "sha384", 48, 0x0002)
CHACHA20_POLY1305 = Suite("TLS_CHACHA20_POLY1305_SHA256", 0x1303, "sha256", 32, 0x0001)

SUITES: dict[int, Suite] = {s.code: s for s in (AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305)}
_BY_NAME = {s.name: s for s in SUITES.values()}


def suite_named(name: str) -> Suite:
    """The suite of this name; ValueError says which are allowed."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise ValueError(f"unknown cipher suite {name!r}: allowed are {', '.join(_BY_NAME)}") from None
