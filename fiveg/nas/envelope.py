"""NAS over TCP: each message behind its length in two octets (TS 24.502 §9.4). Without I/O: octets in, messages out."""

from __future__ import annotations

from collections.abc import Iterator

from fiveg.nas.errors import NasError

HEADER = 2
LONGEST = 16384


class EnvelopeBroken(NasError):
    """A length that cannot be: where the next message starts is not known any more, the connection has to end."""


def envelope(message: bytes) -> bytes:
    if not 1 <= len(message) <= LONGEST:
        raise EnvelopeBroken(f"a NAS message of {len(message)} octets, allowed are 1 to {LONGEST}")
    return len(message).to_bytes(HEADER, "big") + message


class Deframer:
    """Holds at most one incomplete message."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are whole now, one by one; then EnvelopeBroken where the octets make no sense."""
        self._buffer += data
        while len(self._buffer) >= HEADER:
            length = int.from_bytes(self._buffer[:HEADER], "big")
            if not 1 <= length <= self._longest:
                raise EnvelopeBroken(f"a NAS message of {length} octets is announced, allowed are 1 to {self._longest}")
            end = HEADER + length
            if len(self._buffer) < end:
                break
            message = bytes(self._buffer[HEADER:end])
            del self._buffer[:end]
            yield message

    def clear(self) -> None:
        """A new connection begins with a new message."""
        self._buffer.clear()
