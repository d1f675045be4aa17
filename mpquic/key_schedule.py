"""The TLS 1.3 key schedule with a PSK (RFC 8446 §7.1) and the RFC 9258 importer's functions; HKDF is the engine's."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from native import ffi, lib

_LENGTHS = {"sha256": 32, "sha384": 48}
_OCTETS = ffi.typeof("uint8_t[]")


def hkdf_extract(hash_name: str, salt: bytes, ikm: bytes | bytearray) -> bytes:
    """RFC 5869 §2.2; an empty salt is a string of zeros."""
    length = _LENGTHS[hash_name]
    out = ffi.new(_OCTETS, length)
    return _taken(out, lib.kdf_extract(length, salt, len(salt), ffi.from_buffer(ikm), len(ikm), out))


def hkdf_expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 §7.1."""
    hash_length = _LENGTHS[hash_name]
    if len(secret) != hash_length:
        raise ValueError(f"a secret of {len(secret)} octets: {hash_name} has {hash_length}")
    out = ffi.new(_OCTETS, length)
    return _taken(out, lib.kdf_expand_label(hash_length, secret, label.encode(), context, len(context), out, length))


def _taken(out: Any, result: int) -> bytes:
    if result < 0:
        raise ValueError("a label or context is longer than 255 octets, or the output than 255 hashes")
    octets: bytes = ffi.buffer(out)[:]
    return octets


@lru_cache
def _empty_hash(hash_name: str) -> bytes:
    return hashlib.new(hash_name).digest()


class KeySchedule:
    """One handshake's schedule: transcript hash and the secret of the present stage.

    early = Extract(0, PSK); handshake = Extract(Derive(early, "derived"), DHE); master = Extract(Derive(.), 0).
    """

    __slots__ = ("_transcript", "hash_length", "hash_name", "secret")

    def __init__(self, hash_name: str, psk: bytes | bytearray) -> None:
        self.hash_name = hash_name
        self.hash_length = _LENGTHS[hash_name]
        self._transcript = hashlib.new(hash_name)
        self.secret = hkdf_extract(hash_name, b"", psk)

    def update(self, message: bytes) -> None:
        """A handshake message of either side, in order."""
        self._transcript.update(message)

    def transcript(self) -> bytes:
        """Hash of all messages so far."""
        return self._transcript.digest()

    def empty_hash(self) -> bytes:
        """Hash of nothing: the transcript of `derived` and of the binder keys."""
        return _empty_hash(self.hash_name)

    def derive(self, label: str, context: bytes | None = None) -> bytes:
        """Derive-Secret of the present stage over the present transcript (or a given hash)."""
        context = self.transcript() if context is None else context
        return hkdf_expand_label(self.hash_name, self.secret, label, context, self.hash_length)

    def advance(self, ikm: bytes | None) -> None:
        """Next stage; None: no input (the master secret)."""
        salt = self.derive("derived", self.empty_hash())
        self.secret = hkdf_extract(self.hash_name, salt, bytes(self.hash_length) if ikm is None else ikm)

    def finished(self, base: bytes, context: bytes | None = None) -> bytes:
        """verify_data of Finished, or a binder: HMAC under the *finished* key of `base` (RFC 8446 §4.4.4)."""
        context = self.transcript() if context is None else context
        if not len(base) == len(context) == self.hash_length:
            raise ValueError(f"a secret of {len(base)} octets, a hash of {len(context)}: {self.hash_name} has {self.hash_length}")
        out = ffi.new(_OCTETS, self.hash_length)
        return _taken(out, lib.kdf_finished(self.hash_length, base, context, out))

    def binder(self, label: str, truncated_client_hello: bytes) -> bytes:
        """PSK binder over Truncate(ClientHello) (RFC 8446 §4.2.11.2)."""
        base = self.derive(label, self.empty_hash())
        return self.finished(base, hashlib.new(self.hash_name, truncated_client_hello).digest())
