"""Why a connection is over, and what that means to who still waits for its handshake."""

from __future__ import annotations

from dataclasses import dataclass

from mpquic.errors import HandshakeFailed, HandshakeRefused, HandshakeTimeout

SOURCES = ("local", "peer", "idle", "reset", "error", "version")  # in the engine's order (CLOSE_LOCAL ...)


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection is over. `source`: local, peer, idle, reset, error or version."""

    source: str
    code: int
    application: bool
    reason: str

    def __str__(self) -> str:
        kind = "application error" if self.application else "error"
        return f"{self.source}: {kind} 0x{self.code:x}" + (f" ({self.reason})" if self.reason else "")

    @classmethod
    def told(cls, source: int, code: int, application: bool, text: bytes) -> CloseReason:
        """As the engine's EVENT_CLOSED has it."""
        return cls(SOURCES[source] if source < len(SOURCES) else "error", code, application, text.decode("utf-8", "replace"))

    def handshake_error(self) -> HandshakeFailed:
        """What an end before the handshake was confirmed means to who waits for it."""
        if self.source == "peer":
            return HandshakeRefused(self.code, str(self))
        if self.source == "idle":
            return HandshakeTimeout(str(self))
        return HandshakeFailed(str(self))
