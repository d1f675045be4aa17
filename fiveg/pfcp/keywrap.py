"""The key inside our key IE: AES-KW (RFC 3394) under a KEK bound to the pair, both restarts, session and generation, so
that a recorded key opens nowhere else.

    KEK = KDF(K_N4, FC=F2, "n4 key wrap", CP recovery time stamp (4), UP recovery time stamp (4), UP SEID (8),
              generation (4))
"""

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from fiveg.kdf import kdf
from fiveg.pfcp.errors import IeIncorrect

FC_N4_KEY_WRAP = b"\xf2"
KEY_LENGTH = 32


class UnwrapFailed(IeIncorrect):
    """The wrapped key is not for this pair, session and generation, or was changed on the way."""


@dataclass(frozen=True, slots=True)
class N4KeyWrap:
    """K_N4 and what the KEK is bound to, but for the generation."""

    k_n4: bytes = field(repr=False)
    cp_recovery: int
    up_recovery: int
    up_seid: int

    def _kek(self, generation: int) -> bytes:
        return kdf(
            self.k_n4,
            FC_N4_KEY_WRAP,
            b"n4 key wrap",
            self.cp_recovery.to_bytes(4, "big"),
            self.up_recovery.to_bytes(4, "big"),
            self.up_seid.to_bytes(8, "big"),
            generation.to_bytes(4, "big"),
        )

    def wrap(self, key: bytes, generation: int) -> bytes:
        """40 octets for the key IE."""
        if len(key) != KEY_LENGTH:
            raise IeIncorrect(f"a key has {KEY_LENGTH} octets, not {len(key)}")
        return aes_key_wrap(self._kek(generation), key)

    def unwrap(self, wrapped: bytes, generation: int) -> bytes:
        """The key; UnwrapFailed for whatever is not the wrapped key of this generation."""
        try:
            key = aes_key_unwrap(self._kek(generation), wrapped)
        except (InvalidUnwrap, ValueError):
            raise UnwrapFailed(f"the wrapped key of generation {generation} does not open") from None
        if len(key) != KEY_LENGTH:
            raise UnwrapFailed(f"the wrapped key of generation {generation} has {len(key)} octets")
        return key
