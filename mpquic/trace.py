"""The engine's trace as Python has it (native/src/trace.h): records in, JSON-SEQ text out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mpquic.engine import check
from native import ffi, lib

RING = 1 << 22  # octets: at 40 a packet a fifth of a second at 500,000 packets a second
TEXT = 1 << 19  # octets of one read: large writes cost the file system a third less than small ones
READS = 4096  # of one turn: what comes meanwhile is for the next
DETAILS = ("events", "headers", "packets")  # enum trace_detail


class Trace:
    """Of one endpoint, from now on. Before its I/O thread starts. EngineError: there is one already, or no memory."""

    def __init__(self, endpoint: Any, octets: int = RING) -> None:
        check("endpoint_trace", lib.endpoint_trace(endpoint, octets))
        self._endpoint = endpoint
        self._text = ffi.new("char[]", TEXT)

    def note(self, odcid: bytes, text: bytes) -> None:
        """An event of ours among the engine's: `"name":...,"data":{...}`. EngineError: the ring is full."""
        check("endpoint_trace_note", lib.endpoint_trace_note(self._endpoint, odcid, len(odcid), text, len(text)))

    def detail(self, detail: str) -> None:
        """`events`: what happens to connections, paths and keys; `headers`: also recovery and each packet; `packets`: also their
        frames."""
        check("endpoint_trace_detail", lib.endpoint_trace_detail(self._endpoint, DETAILS.index(detail)))

    def read(self) -> Iterator[memoryview]:
        """JSON-SEQ text of all that was traced, in whole records; each piece is good until the next is taken. In one thread at a
        time, which need not be that of other calls."""
        for _ in range(READS):
            n = check("endpoint_trace_read", lib.endpoint_trace_read(self._endpoint, self._text, TEXT))
            if n == 0:
                return
            yield memoryview(ffi.buffer(self._text, n))

    def lost(self) -> int:
        """Records for which the ring had no room, so far."""
        stats = ffi.new("struct trace_stats *")
        check("endpoint_trace_stats", lib.endpoint_trace_stats(self._endpoint, stats))
        return int(stats.lost)
