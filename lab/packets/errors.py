"""The one error of this package: bytes that do not read as what they should be."""

from __future__ import annotations


class PacketError(ValueError):
    """What was read, where it went wrong, and why; never carries the bytes themselves (they may be a key)."""

    def __init__(self, what: str, reason: str, offset: int = 0) -> None:
        super().__init__(f"{what}: {reason} (at octet {offset})")
        self.what = what
        self.reason = reason
        self.offset = offset
