"""Octets of a stream put in order (RFC 9000 §2.2): what comes early waits in a window, whatever the order and the sizes."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Reassembly:
    """`window` and `have` begin at `offset`; one flag octet per octet, so the cost of pieces in any order and size is twice
    the window, never something per piece. The caller bounds how far a piece may reach."""

    offset: int = 0  # next octet to deliver
    window: bytearray = field(default_factory=bytearray)
    have: bytearray = field(default_factory=bytearray)

    def put(self, offset: int, data: bytes) -> bytes:
        """The octets that are in order now."""
        if offset < self.offset:
            data = data[self.offset - offset :]
            offset = self.offset
        if not data:
            return b""
        start = offset - self.offset
        if not start and not self.window:
            self.offset += len(data)
            return data
        end = start + len(data)
        if end > len(self.window):
            grow = bytes(end - len(self.window))
            self.window += grow
            self.have += grow
        self.window[start:end] = data
        self.have[start:end] = b"\x01" * len(data)
        ready = self.have.find(0)
        if ready < 0:
            ready = len(self.have)
        if not ready:
            return b""
        out = bytes(self.window[:ready])
        del self.window[:ready]
        del self.have[:ready]
        self.offset += ready
        return out

    def drop(self) -> None:
        """Forget what waits."""
        self.window = bytearray()
        self.have = bytearray()
