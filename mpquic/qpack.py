"""QPACK (RFC 9204) without a dynamic table, in both directions: pylsqpack codes, the instruction streams are checked here."""

from __future__ import annotations

import pylsqpack

from mpquic.errors import H3Error, H3StreamError
from mpquic.h3_codes import Code
from mpquic.h3_message import Headers, section_size

FIELD_SECTION_MOST = 16384  # octets encoded, and decoded as RFC 9114 §4.2.2 counts


class Qpack:
    """Both codecs of one connection."""

    def __init__(self) -> None:
        self._encoder = pylsqpack.Encoder()
        self._decoder = pylsqpack.Decoder(0, 0)
        self._cancel = 0  # octets of an integer on the decoder stream

    def encode(self, stream_id: int, headers: Headers) -> bytes:
        _, block = self._encoder.encode(stream_id, headers)
        return bytes(block)

    def decode(self, stream_id: int, block: bytes) -> Headers:
        try:
            _, headers = self._decoder.feed_header(stream_id, block)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked, ValueError) as error:
            raise H3Error(Code.QPACK_DECOMPRESSION_FAILED, f"QPACK: {type(error).__name__}") from None
        out: Headers = list(headers)
        if (size := section_size(out)) > FIELD_SECTION_MOST:
            raise H3StreamError(Code.EXCESSIVE_LOAD, f"header of {size} octets: at most {FIELD_SECTION_MOST}")
        return out

    def receive_encoder(self, data: bytes) -> None:
        """Our table has no room: only Set Dynamic Table Capacity 0 makes sense (RFC 9204 §4.3.1)."""
        if data.strip(b"\x20"):
            raise H3Error(Code.QPACK_ENCODER_STREAM_ERROR, "instruction for a dynamic table of capacity 0")

    def receive_decoder(self, data: bytes) -> None:
        """We insert nothing, so only Stream Cancellation can be right (RFC 9204 §4.4.2)."""
        for octet in data:
            if self._cancel:
                self._cancel = self._cancel + 1 if octet & 0x80 else 0
                if self._cancel > 10:
                    raise H3Error(Code.QPACK_DECODER_STREAM_ERROR, "stream cancellation with an integer too long")
            elif octet & 0xC0 != 0x40:
                raise H3Error(Code.QPACK_DECODER_STREAM_ERROR, "acknowledgment of insertions that were never made")
            elif octet & 0x3F == 0x3F:
                self._cancel = 1
