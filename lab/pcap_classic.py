"""A classic pcap file as if it were pcapng: what tcpdump writes is read by the same readers.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html: a file header with the byte order, the unit of time and the one link
type, then a header of 16 octets before each packet. Link types above 16 bits are none.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from lab.pcapng import BLOCK_MAX, EPB, IDB, MAGIC, NANOSECONDS, OPT_TSRESOL, SHB, block

MAGICS = {b"\xd4\xc3\xb2\xa1": ("<", 1000), b"\xa1\xb2\xc3\xd4": (">", 1000),          # microseconds
          b"\x4d\x3c\xb2\xa1": ("<", 1), b"\xa1\xb2\x3c\x4d": (">", 1)}                 # nanoseconds
HEADER = 24
AT_ONCE = 64                    # packets that are turned into blocks in one go


class ClassicStream(io.RawIOBase):
    """pcapng blocks, nanoseconds, little-endian; a file that is cut gives a block that is cut."""

    def __init__(self, stream: BinaryIO, head: bytes) -> None:
        """head: the octets of the file header that were read already."""
        self._stream = stream
        head += stream.read(HEADER - len(head))
        self._order, self._unit = MAGICS[head[:4]]
        self._left = memoryview(b"")
        if len(head) < HEADER:
            self._left = memoryview(struct.pack("<I", SHB))          # the file ends in a block header
            self._stream = io.BytesIO()
            return
        snaplen, linktype = struct.unpack_from(self._order + "II", head, 16)
        section = struct.pack("<IHHq", MAGIC, 1, 0, -1)
        interface = struct.pack("<HHI", linktype & 0xFFFF, 0, snaplen) + struct.pack("<HHB3xI", OPT_TSRESOL, 1, 9, 0)
        self._left = memoryview(block(SHB, section) + block(IDB, interface))

    def readable(self) -> bool:
        return True

    def readinto(self, into: memoryview) -> int:    # type: ignore[override]
        while not self._left:
            self._left = memoryview(b"".join(self._next() for _ in range(AT_ONCE)))
            if not self._left:
                return 0
        size = min(len(into), len(self._left))
        into[:size] = self._left[:size]
        self._left = self._left[size:]
        return size

    def _next(self) -> bytes:
        """The next packet as an Enhanced Packet Block."""
        head = self._stream.read(16)
        if len(head) < 16:
            return struct.pack("<II", EPB, 32)[:len(head)]          # the file ends in a block header
        seconds, parts, captured, length = struct.unpack(self._order + "IIII", head)
        if captured > BLOCK_MAX - 64:
            self._stream = io.BytesIO()
            return struct.pack("<III", EPB, captured | 3, 0)        # a block length that cannot be
        data = self._stream.read(captured)
        time_ns = seconds * NANOSECONDS + parts * self._unit
        body = struct.pack("<IIIII", 0, time_ns >> 32, time_ns & 0xFFFFFFFF, captured, length) + data
        if len(data) < captured:
            return struct.pack("<II", EPB, 12 + 20 + (captured + 3) // 4 * 4) + body        # it ends inside of it
        return block(EPB, body + bytes(-captured % 4))


def is_classic(stream: BinaryIO) -> bool:
    """Of what as_pcapng gave: it has no secrets inside."""
    return isinstance(stream, io.BufferedReader) and isinstance(stream.raw, ClassicStream)


def as_pcapng(stream: BinaryIO) -> BinaryIO:
    """The stream itself, or what a classic pcap file says as pcapng."""
    head = stream.read(4)
    if head in MAGICS:
        return io.BufferedReader(ClassicStream(stream, head))
    stream.seek(-len(head), io.SEEK_CUR)
    return stream
