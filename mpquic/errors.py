"""The errors of mpquic: one small family. What goes to the peer is `code` and `frame`; the rest is for us."""

from __future__ import annotations

from enum import IntEnum

from mpquic.h3_codes import Code
from mpquic.transport_codes import TransportCode


def _counter(family: str, names: type[IntEnum], code: int) -> str:
    try:
        return f"{family}_{names(code).name.lower()}"
    except ValueError:
        return f"{family}_error"


class MpquicError(Exception):
    """Base of every error that this package raises on purpose."""


class TransportError(MpquicError):
    """A rule of QUIC or TLS was broken: the connection closes with CONNECTION_CLOSE 0x1c (RFC 9000 §20.1)."""

    counter: str = ""  # a subclass has its own, else it is the name of the code

    def __init__(self, code: int, frame: int, reason: str) -> None:
        super().__init__(f"{reason} (code 0x{code:x}, frame 0x{frame:x})")
        self.code = code
        self.counter = self.counter or _counter("transport", TransportCode, code)
        self.frame = frame
        self.reason = reason


class H3Error(MpquicError):
    """A rule of HTTP/3 was broken: the connection closes with CONNECTION_CLOSE 0x1d (RFC 9114 §8.1)."""

    counter: str = ""  # a subclass has its own, else it is the name of the code

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (HTTP/3 code 0x{code:x})")
        self.code = code
        self.counter = self.counter or _counter("h3", Code, code)
        self.reason = reason


class H3StreamError(MpquicError):
    """A rule was broken on one request stream: that stream is aborted, the connection lives."""

    counter: str = ""  # a subclass has its own, else it is the name of the code

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (HTTP/3 code 0x{code:x})")
        self.code = code
        self.counter = self.counter or _counter("h3_stream", Code, code)
        self.reason = reason


class StreamsExhausted(MpquicError):
    """The peer allows no further stream of this kind."""


class PskSpent(MpquicError):
    """Raised by a psk_lookup: the key has made its connection already."""


class PskWiped(MpquicError):
    """A key was used after wipe()."""


class PskRole(MpquicError):
    """A key that this node uses as a server was to be used as a client (RFC 9257 §4.1)."""


class HandshakeFailed(MpquicError):
    """The handshake did not complete."""


class HandshakeRefused(HandshakeFailed):
    """The peer refused the key, or closed during the handshake."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} (code 0x{code:x})")
        self.code = code
        self.reason = reason

    @property
    def key_refused(self) -> bool:
        """Stacks differ in the alert for one fault: handshake_failure, illegal_parameter, decrypt_error and
        unknown_psk_identity mean the same to a client with a PSK."""
        return self.code in (0x128, 0x12F, 0x133, 0x173)


class HandshakeTimeout(HandshakeFailed):
    """Nobody answered in time."""


class PathFailed(MpquicError):
    """A further path was not validated."""


class ConnectRefused(MpquicError):
    """The proxy answered the extended CONNECT with something else than 2xx, or aborted the stream."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{reason} (status {status})")
        self.status = status


class ConnectionClosed(MpquicError):
    """The connection is over, so the operation cannot be done."""


class EngineError(MpquicError):
    """The C engine refused a call; `code` is its enum engine_error."""

    def __init__(self, call: str, code: int, name: str) -> None:
        super().__init__(f"{call}: {name}")
        self.call = call
        self.code = code
        self.name = name
