"""qlog of an endpoint, JSON-SEQ (draft-ietf-quic-qlog-main-schema, -quic-events, -h3-events): packets, recovery, paths and keys
from the engine's trace, connections and HTTP/3 from Python, in the order in which they happened.

The text is made and written by a thread of its own, so that neither the I/O thread nor the event loop waits for a disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from mpquic.errors import EngineError
from mpquic.trace import DETAILS, Trace

SCHEMAS = ("urn:ietf:params:qlog:events:quic-13", "urn:ietf:params:qlog:events:http3-13")
OWN_SCHEMA = "urn:mpquic-upf:qlog:multipath-2"  # path_id, multipath frames, counters, `mpquic:` events: the drafts have none
OCTETS_MOST = 128 << 20  # of a log; then packets are told no more, only what happens to connections and paths
REST = 8  # an eighth more for those
INTERVAL_S = 0.2  # half of what the ring holds at the rates that we know; seldom, because waking costs more than a few records
NICENESS = 10


class Qlog:
    """`sink` takes whole records (0x1E, JSON, 0x0A; RFC 7464), many at a time, in one thread at a time; what it gets is good for
    the call. `detail`: as of Trace.detail."""

    def __init__(
        self,
        trace: Trace,
        sink: Callable[[bytes | memoryview], object],
        name: str,
        role: str,
        wall_clock: str,
        octets_most: int = OCTETS_MOST,
        detail: str = DETAILS[-1],
    ) -> None:
        self._trace = trace
        self._sink = sink
        self._most = self._left = octets_most
        self._full = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        trace.detail(detail)
        self._write(_record(_first(name, role, wall_clock)))

    def event(self, group: bytes, name: str, data: dict[str, Any]) -> None:
        """Now. `group` is the connection's original DCID. What the ring has no room for is counted in the log."""
        text = f'"name":{json.dumps(name)},"data":{json.dumps(data, separators=(",", ":"))}'
        with contextlib.suppress(EngineError):
            self._trace.note(group, text.encode())

    def start(self) -> None:
        """The writing thread, until `stop`; without it, `pump` is the caller's to call."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="qlog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Everything that happened so far is written. Before the engine is freed."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self.pump()

    @property
    def threaded(self) -> bool:
        return self._thread is not None

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)  # of this thread alone
        while not self._stop.wait(INTERVAL_S):
            self.pump()

    def pump(self) -> None:
        for text in self._trace.read():
            self._write(text)

    def _write(self, text: bytes | memoryview) -> None:
        """R-187: a log never fills a disk, and the run never dies of it."""
        if len(text) > self._left:
            if self._full:
                return  # what is left was for rare events, and somebody makes them often
            self._full = True
            self._left += self._most // REST
            self._trace.detail("events")
            self.event(b"", "mpquic:log_full", {"octets": self._most})
            if len(text) > self._left:
                return
        self._left -= len(text)
        try:
            self._sink(text)
        except OSError:
            self._left = 0
            self._full = True


def _first(name: str, role: str, wall_clock: str) -> dict[str, Any]:
    return {
        "file_schema": "urn:ietf:params:qlog:file:sequential",
        "serialization_format": "application/qlog+json-seq",
        "title": f"MPQUIC connections of {name}",
        "trace": {
            "vantage_point": {"name": name, "type": role},
            "common_fields": {
                "time_format": "relative_to_epoch",
                "reference_time": {"clock_type": "monotonic", "epoch": "unknown", "wall_clock_time": wall_clock},
            },
            "event_schemas": [*SCHEMAS, OWN_SCHEMA],
        },
    }


def _record(value: dict[str, Any]) -> bytes:
    return b"\x1e" + json.dumps(value, separators=(",", ":")).encode() + b"\n"
