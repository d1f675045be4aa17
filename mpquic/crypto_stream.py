"""CRYPTO octets of one encryption level: reassembly within a bound, and sending (RFC 9000 §7.5, §19.6)."""

from __future__ import annotations

from mpquic.tls_errors import CryptoBufferExceeded

BUFFER_MOST = 16384  # octets beyond the next expected one that are kept


class CryptoReceiver:
    """Puts CRYPTO frames in order. Gaps cost at most BUFFER_MOST octets, however far the offsets are."""

    __slots__ = ("_kept", "_parts", "offset")

    def __init__(self) -> None:
        self.offset = 0  # next octet to deliver
        self._parts: dict[int, bytes] = {}  # by offset; they may overlap
        self._kept = 0

    def receive(self, offset: int, data: bytes) -> bytes:
        """Octets that are now in order."""
        end = offset + len(data)
        if end <= self.offset:
            return b""
        if end > self.offset + BUFFER_MOST:
            raise CryptoBufferExceeded(f"CRYPTO up to {end}, read up to {self.offset}: {BUFFER_MOST} octets are kept")
        if offset > self.offset:
            before = len(self._parts.get(offset, b""))
            if before < len(data):
                self._kept += len(data) - before
                if self._kept > BUFFER_MOST:  # overlapping parts
                    raise CryptoBufferExceeded(f"more than {BUFFER_MOST} octets of CRYPTO out of order")
                self._parts[offset] = data
            return b""
        out = data[self.offset - offset :]
        self.offset = end
        while self._parts:
            start = min(self._parts)
            if start > self.offset:
                break
            part = self._parts.pop(start)
            self._kept -= len(part)
            if start + len(part) > self.offset:
                fresh = part[self.offset - start :]
                out += fresh
                self.offset += len(fresh)
        return out
