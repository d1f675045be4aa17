"""CRYPTO octets of one encryption level: reassembly within a bound (RFC 9000 §7.5, §19.6), and the end of the level."""

from __future__ import annotations

from mpquic.reassembly import Reassembly
from mpquic.tls_errors import CryptoBufferExceeded, TlsProtocolViolation

BUFFER_MOST = 16384  # octets beyond the next expected one that are kept; RFC 9000 §7.5 wants 4096


class CryptoReceiver:
    """Puts CRYPTO frames in order. Gaps cost at most twice BUFFER_MOST octets, however many pieces there are and however
    far their offsets."""

    __slots__ = ("_closed", "_octets")

    def __init__(self) -> None:
        self._octets = Reassembly()
        self._closed = False

    @property
    def offset(self) -> int:
        """The next octet to deliver."""
        return self._octets.offset

    def receive(self, offset: int, data: bytes) -> bytes:
        """Octets that are now in order."""
        end = offset + len(data)
        if end <= self._octets.offset:
            return b""
        if self._closed:
            raise TlsProtocolViolation("new CRYPTO octets of a level that is over (RFC 9001 §4.1.3)")
        if end > self._octets.offset + BUFFER_MOST:
            reason = f"CRYPTO up to {end}, read up to {self._octets.offset}: {BUFFER_MOST} octets are kept"
            raise CryptoBufferExceeded(reason)
        return self._octets.put(offset, data)

    def close(self) -> None:
        """TLS reads at a higher level from now on: nothing may wait behind a gap, and nothing new may come."""
        self._closed = True
        if self._octets.window:
            raise TlsProtocolViolation("CRYPTO octets behind a gap at a key change (RFC 9001 §4.1.3)")
