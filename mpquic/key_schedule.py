"""The TLS 1.3 key schedule with a PSK (RFC 8446 §7.1) and the RFC 9258 importer's functions."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache

_LABEL_MAX = 255


def hkdf_extract(hash_name: str, salt: bytes, ikm: bytes | bytearray) -> bytes:
    """RFC 5869 §2.2; an empty salt is a string of zeros."""
    return hmac.digest(salt or bytes(hashlib.new(hash_name).digest_size), ikm, hash_name)


def hkdf_expand(hash_name: str, secret: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 §2.3."""
    out = block = b""
    counter = 1
    while len(out) < length:
        block = hmac.digest(secret, block + info + bytes([counter]), hash_name)
        out += block
        counter += 1
    return out[:length]


def hkdf_expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 §7.1."""
    full = b"tls13 " + label.encode("ascii")
    if len(full) > _LABEL_MAX or len(context) > _LABEL_MAX:
        raise ValueError("label or context longer than 255 octets")
    info = length.to_bytes(2, "big") + bytes([len(full)]) + full + bytes([len(context)]) + context
    return hkdf_expand(hash_name, secret, info, length)


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
        self.hash_length = hashlib.new(hash_name).digest_size
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
        key = hkdf_expand_label(self.hash_name, base, "finished", b"", self.hash_length)
        return hmac.digest(key, self.transcript() if context is None else context, self.hash_name)

    def binder(self, label: str, truncated_client_hello: bytes) -> bytes:
        """PSK binder over Truncate(ClientHello) (RFC 8446 §4.2.11.2)."""
        base = self.derive(label, self.empty_hash())
        return self.finished(base, hashlib.new(self.hash_name, truncated_client_hello).digest())
