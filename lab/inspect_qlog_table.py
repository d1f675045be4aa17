"""`mpq inspect FILE.sqlog`: one end's qlog by itself, as a table; and the records of both ends of a captured packet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.decrypt import ClearPacket
from lab.decrypt_connection import Connection
from lab.inspect_qlog import Logs
from lab.qlog_file import QlogError, QlogFile, Record, beside

FRAMES_SHOWN = 12
WORDS_MAX = 200
KINDS = {"initial": "initial", "handshake": "handshake", "1rtt": "1RTT"}     # of ClearPacket -> of qlog
RECORDS_MAX = 16                # of one packet at both ends; more would be a hostile log
PACKET_EVENTS = ("quic:packet_sent", "quic:packet_received", "quic:packet_lost", "quic:packets_acked")


@dataclass(slots=True)
class QlogFilter:
    """path, frame (as qlog names it), seconds since the first record, both inclusive; None is no condition."""

    path: int | None = None
    frame: str | None = None
    between: tuple[float, float] | None = None

    def record(self, record: Record, t: float) -> bool:
        if self.between is not None and not self.between[0] <= t <= self.between[1]:
            return False
        if self.path is not None and path_of(record) != self.path:
            return False
        return self.frame is None or self.frame in frame_names(record)


def path_of(record: Record) -> int | None:
    header = record.data.get("header")
    for place in (record.data, header if isinstance(header, dict) else {}):
        for name in ("path_id", "path"):
            value = place.get(name)
            if isinstance(value, int):
                return value
    numbered = isinstance(header, dict) and header.get("packet_type") == "1RTT" and "packet_number" in header
    return 0 if numbered else None      # path 0 is not said with each packet


def number_of(record: Record) -> int | None:
    header = record.data.get("header")
    number = header.get("packet_number") if isinstance(header, dict) else None
    return number if isinstance(number, int) else None


def frame_names(record: Record) -> list[str]:
    """In capitals, as the RFCs and --frame name them."""
    frames = record.data.get("frames")
    return [str(one["frame_type"]).upper() for one in frames if isinstance(one, dict) and "frame_type" in one] \
        if isinstance(frames, list) else []


def _words(record: Record) -> str:
    """What is left of the data when time, name, path and number are told."""
    data = dict(record.data)
    header = data.pop("header", None)
    words = [str(header.get("packet_type"))] if isinstance(header, dict) else []
    frames = frame_names(record)
    if frames:
        data.pop("frames")
        more = f" and {len(frames) - FRAMES_SHOWN} more" if len(frames) > FRAMES_SHOWN else ""
        words.append(" ".join(frames[:FRAMES_SHOWN]) + more)
    raw = data.pop("raw", None)
    if isinstance(raw, dict) and isinstance(raw.get("length"), int):
        words.append(f"{raw['length']} octets")
    for name in ("path_id", "path"):
        data.pop(name, None)
    words += [f"{name} {value if isinstance(value, str) else json.dumps(value)}" for name, value in data.items()]
    text = "  ".join(words)
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= WORDS_MAX else text[:WORDS_MAX - 1] + "…"


HEADING = f"{'time/s':>11} {'connection':<16} {'event':<32} {'path':>4} {'pn':>8}  content"


def record_line(record: Record, t: float) -> str:
    path, number = ("-" if v is None else str(v) for v in (path_of(record), number_of(record)))
    name = "".join(c if c.isprintable() else "?" for c in record.name[:32])
    return f"{t:>11.6f} {record.group[:16]:<16} {name:<32} {path:>4} {number:>8}  {_words(record)}"


def record_document(record: Record, t: float) -> dict[str, Any]:
    return {"t": round(t, 9), "connection": record.group or None, "event": record.name, "path": path_of(record),
            "pn": number_of(record), "data": record.data}


def rows(file: QlogFile, wanted: QlogFilter) -> Iterator[tuple[Record, float]]:
    """Seconds count from the first record."""
    opening = next(iter(file), None)
    if opening is None:
        return
    first = opening.time_ns
    for record in file if wanted.frame is None else file.with_mark(wanted.frame.lower().encode()):
        t = (record.time_ns - first) / 1e9
        if wanted.record(record, t):
            yield record, t


# ---- one captured packet


def _is_of(record: Record, packet: ClearPacket, group: str, sender: bool) -> bool:
    """Is this record of that packet? sender: of the log of the end that sent it."""
    if record.name not in PACKET_EVENTS or record.group != group or (record.name == "quic:packet_received") == sender:
        return False
    if record.name == "quic:packets_acked":
        space = {"1rtt": "application_data"}.get(packet.kind, packet.kind)
        numbers = record.data.get("packet_numbers")
        return (record.data.get("packet_number_space", "application_data") == space and isinstance(numbers, list)
                and packet.number in numbers and (packet.kind != "1rtt" or record.data.get("path_id", 0) == packet.path))
    header = record.data.get("header")
    return (isinstance(header, dict) and header.get("packet_type") == KINDS.get(packet.kind)
            and header.get("packet_number") == packet.number and (packet.kind != "1rtt" or header.get("path_id", 0) == packet.path))


def records_of_packet(capture: Path, packet: ClearPacket, connections: list[Connection]) -> list[tuple[str, Record]]:
    """(end, record) of both ends' logs beside the capture: what each tells of this packet."""
    if packet.number is None or packet.connection is None or packet.kind not in KINDS:
        return []
    group = connections[packet.connection].original_dcid.hex()
    found: list[tuple[str, Record]] = []
    for end, path in beside(capture):
        try:
            file = QlogFile(path)
        except (QlogError, OSError):
            continue
        sender = (file.role == "client") == packet.up
        number = str(packet.number).encode()
        marks = [b'"packet_number":' + number, b'"packet_number": ' + number] + [b"quic:packets_acked"] * sender
        for record in file.about(*marks):
            if _is_of(record, packet, group, sender) and len(found) < RECORDS_MAX:
                found.append((end, record))
    return found


def packet_words(found: list[tuple[str, Record]], logs: Logs, start_ns: int) -> list[str]:
    """As text, with times of the capture's clock."""
    lines = []
    for end, record in found:
        offset = logs.offsets.get("client" if end == "ue" else "server")
        at = "time unknown" if offset is None else f"{(record.time_ns + offset - start_ns) / 1e9:.6f} s"
        numbers = record.data.get("packet_numbers")
        data = {**record.data, "packet_numbers": f"{len(numbers)} numbers"} if isinstance(numbers, list) else record.data
        lines.append(f"{end}: {record.name} at {at}\n{json.dumps(data, indent=2)}")
    return lines
