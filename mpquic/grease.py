"""GREASE: reserved identifiers with random values, which a peer must ignore. What nobody ever sends, nobody ignores rightly
for long, and the protocol cannot grow there (RFC 8701; RFC 9000 §18.1; RFC 9114 §7.2.4.1, §7.2.8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpquic.reader import varint

_STEP = 31
_TRANSPORT_PARAMETER, _HTTP3 = 27, 0x21  # 31 * N + this
_VALUE_MOST = 16  # octets


@dataclass(frozen=True, slots=True)
class Grease:
    """The reserved things that one connection sends."""

    random: Callable[[int], bytes]

    def _number(self) -> int:
        return int.from_bytes(self.random(4), "big")

    def _value(self) -> bytes:
        return self.random(self.random(1)[0] % (_VALUE_MOST + 1))

    def transport_parameter(self) -> bytes:
        """One whole parameter (RFC 9000 §18.1)."""
        value = self._value()
        return varint(_STEP * self._number() + _TRANSPORT_PARAMETER) + varint(len(value)) + value

    def setting(self) -> tuple[int, int]:
        """Identifier and value (RFC 9114 §7.2.4.1)."""
        return _STEP * self._number() + _HTTP3, self._number()

    def frame(self) -> tuple[int, bytes]:
        """Type and payload (RFC 9114 §7.2.8)."""
        return _STEP * self._number() + _HTTP3, self._value()

    def tls(self) -> int:
        """A suite, group, version or extension type: 0x0a0a, 0x1a1a .. 0xfafa (RFC 8701 §2)."""
        return (self.random(1)[0] & 0xF0 | 0x0A) * 0x0101
