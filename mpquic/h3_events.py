"""What an HTTP/3 connection tells its user, in order."""

from __future__ import annotations

from dataclasses import dataclass

from mpquic.errors import H3StreamError
from mpquic.h3_message import Headers
from mpquic.h3_settings import Settings


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    settings: Settings


@dataclass(frozen=True, slots=True)
class RequestReceived:
    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """The final response; interim ones are not told."""

    stream_id: int
    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class DataReceived:
    stream_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    """The client gets a stream id: requests from there on were not processed."""

    identifier: int


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer's part of a request is over; code is None after a clean end, else that of its RESET_STREAM."""

    stream_id: int
    code: int | None = None


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """The peer broke a rule on a request: reset and stop the stream with error.code."""

    stream_id: int
    error: H3StreamError


H3Event = SettingsReceived | RequestReceived | ResponseReceived | DataReceived | GoawayReceived | StreamEnded | StreamFailed
