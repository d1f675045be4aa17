"""What the streams of a connection tell their user, in order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StreamData:
    stream_id: int
    data: bytes
    fin: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class SendingStopped:
    """The peer reads no more: our side was reset with its code."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class TokenReceived:
    token: bytes


StreamEvent = StreamData | StreamReset | SendingStopped | TokenReceived
