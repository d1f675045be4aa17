"""The key derivation function of 3GPP (TS 33.220 B.2).

    S = FC ‖ P0 ‖ L0 ‖ P1 ‖ L1 ‖ …      key = HMAC-SHA-256(Key, S), 32 octets

Each length stands *behind* its parameter, in two octets. A 128-bit key is the *last* 16 octets of the output.
"""

from __future__ import annotations

import hashlib
import hmac

from fiveg.errors import FivegError

LONGEST_PARAMETER = 0xFFFF


class KdfError(FivegError, ValueError):
    """An input that the KDF does not have. The text names the input, never its value."""


def kdf(key: bytes, fc: bytes, *parameters: bytes) -> bytes:
    """32 octets. `fc`: one octet, or FF and a second one; FF alone is no FC (TS 33.220 B.2.0)."""
    if not ((len(fc) == 1 and fc != b"\xff") or (len(fc) == 2 and fc[0] == 0xFF)):
        raise KdfError("FC must be one octet but not ff, or ff and one more octet")
    s = bytearray(fc)
    for number, parameter in enumerate(parameters):
        if len(parameter) > LONGEST_PARAMETER:
            raise KdfError(f"P{number} has {len(parameter)} octets, at most {LONGEST_PARAMETER} can be")
        s += parameter + len(parameter).to_bytes(2, "big")
    return hmac.new(key, s, hashlib.sha256).digest()
