"""qlog of connections, JSON-SEQ (draft-ietf-quic-qlog-main-schema): what happens to a connection and its paths. Packets
are not in it: they are in the capture."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

SCHEMA = "urn:ietf:params:qlog:events:quic-13"
OWN_SCHEMA = "urn:mpquic-upf:qlog:multipath-1"  # path_id in events: the drafts have no field for it


class Qlog:
    """Records in order; `sink` takes whole records (0x1E, JSON, 0x0A; RFC 7464)."""

    def __init__(self, sink: Callable[[str], None], name: str, role: str, wall_clock: str) -> None:
        self._sink = sink
        self._record(
            {
                "file_schema": "urn:ietf:params:qlog:file:sequential",
                "serialization_format": "application/qlog+json-seq",
                "title": f"MPQUIC connections of {name}",
                "trace": {
                    "vantage_point": {"name": name, "type": role},
                    "common_fields": {
                        "time_format": "relative_to_epoch",
                        "reference_time": {
                            "clock_type": "monotonic",
                            "epoch": "unknown",
                            "wall_clock_time": wall_clock,
                        },
                    },
                    "event_schemas": [SCHEMA, OWN_SCHEMA],
                },
            }
        )

    def event(self, time_ns: int, group: str, name: str, data: dict[str, Any]) -> None:
        """`group` is the connection's original DCID in hex."""
        self._record({"time": time_ns / 1e6, "group_id": group, "name": name, "data": data})

    def _record(self, value: dict[str, Any]) -> None:
        self._sink("\x1e" + json.dumps(value, separators=(",", ":")) + "\n")
