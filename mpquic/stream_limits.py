"""What one side allows the other in streams and octets (RFC 9000 §4)."""

from __future__ import annotations

from dataclasses import dataclass

from mpquic.transport_parameters import TransportParameters


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one side allows the other (RFC 9000 §18.2): "local" = streams opened by the side that announces this."""

    data: int = 0
    bidi_local: int = 0
    bidi_remote: int = 0
    uni: int = 0
    streams_bidi: int = 0
    streams_uni: int = 0

    @classmethod
    def of(cls, parameters: TransportParameters) -> StreamLimits:
        return cls(
            parameters.initial_max_data or 0,
            parameters.initial_max_stream_data_bidi_local or 0,
            parameters.initial_max_stream_data_bidi_remote or 0,
            parameters.initial_max_stream_data_uni or 0,
            parameters.initial_max_streams_bidi or 0,
            parameters.initial_max_streams_uni or 0,
        )
