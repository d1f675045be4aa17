"""One pass over a capture: a row for every QUIC packet, NAS PDU and PFCP message, filtered, as a line or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.capture_compose import NAS_KEYS_NAME, nas_comment
from lab.capture_files import CaptureFiles
from lab.capture_scan import INNER_INTERFACE, NAS_INTERFACE, SERVER_PORT, CaptureDecryptor, Step
from lab.clear_scan import PlainRun
from lab.decrypt import ClearPacket
from lab.decrypt_connection import Connection
from lab.decrypt_nas import PORTS, NasReader, load_nas_keys
from lab.inspect_paths import PathStats, access_of
from lab.inspect_run import read_run
from lab.inspect_stats import Stats, find_keylog
from lab.packets.link import TCP, UDP, ip_words
from lab.packets.pfcp_plain import PFCP_PORT, pfcp_words
from lab.pcapng import Interface, Statistics

FRAMES_SHOWN = 12


@dataclass(slots=True)
class Row:
    """One line of the table: a QUIC packet, a NAS PDU, or a PFCP message."""

    record: int
    time_ns: int
    interface: str
    kind: str
    up: bool | None = None
    connection: int | None = None
    path: int | None = None
    number: int | None = None
    size: int = 0
    key_phase: int = 0
    frames: list[tuple[str, str]] = field(default_factory=list)     # name, words
    inner: list[str] = field(default_factory=list)
    reason: str = ""
    text: str = ""


def packet_row(packet: ClearPacket, interface: str) -> Row:
    return Row(packet.record, packet.time_ns, interface, packet.kind, packet.up, packet.connection, packet.path,
               packet.number, packet.size, packet.generation, [(frame.name, frame.words()) for frame in packet.frames],
               [ip_words(inner) for inner in packet.inner_packets()], packet.reason)


@dataclass(slots=True)
class Filter:
    """Which rows are wanted; None is no condition. between: capture clock, ns, both inclusive."""

    path: int | None = None
    frame: str | None = None
    inner: Callable[[bytes], bool] | None = None
    between: tuple[int, int] | None = None

    @property
    def quic_only(self) -> bool:
        return self.path is not None or self.frame is not None or self.inner is not None

    def time(self, time_ns: int) -> bool:
        return self.between is None or self.between[0] <= time_ns <= self.between[1]

    def packet(self, packet: ClearPacket) -> bool:
        if not self.time(packet.time_ns) or (self.path is not None and packet.path != self.path):
            return False
        if self.frame is not None and all(frame.name != self.frame for frame in packet.frames):
            return False
        return self.inner is None or any(map(self.inner, packet.inner_packets()))


class Inspection:
    """One pass over a capture: rows of every protocol that we know; figures on the way."""

    def __init__(self, files: CaptureFiles, keys: str | None, port: int = SERVER_PORT) -> None:
        self.files = files
        self.path = files.first                 # beside which everything else lies
        self.port = port                        # of the server
        self.keylog = find_keylog(files, keys)
        nas_keys = self.path.with_name(NAS_KEYS_NAME)
        self._nas = NasReader(load_nas_keys(nas_keys) if nas_keys.is_file() else [])
        self.stats = Stats()
        self.problem = ""
        self.notices: list[str] = []
        self.unreadable = 0
        self.interfaces: list[Interface] = []
        self.statistics: dict[int, Statistics] = {}     # what the files say of interfaces, after the pass
        self.run = read_run(self.path)
        self.start_ns = self.run.start_ns       # second 0 of what is shown: the run's; else the first packet's
        self.connections: list[Connection] = []
        self.progress: Callable[[int], None] | None = None

    def open(self) -> CaptureDecryptor:
        """For one pass; close_pass() when it is over."""
        capture = CaptureDecryptor(self.files, self.keylog, self.port, lean=True, progress=self.progress)
        self.connections, self.interfaces = capture.decryptor.connections, capture.interfaces
        self.statistics, self.run.holes, self.notices = capture.statistics, capture.holes, capture.notices
        return capture

    def close_pass(self, capture: CaptureDecryptor) -> None:
        self.problem, self.unreadable = capture.problem, capture.unreadable

    def _begin(self, time_ns: int) -> None:
        """What is read first is second 0, when no run says what is."""
        if self.start_ns is None:
            self.start_ns = time_ns

    def _count(self, packet: ClearPacket) -> None:
        self._begin(packet.time_ns)
        self.stats.add(packet)

    def count_run(self, run: PlainRun) -> None:
        self._begin(run.time_ns(run.rows[0]))
        self.stats.add_run(run)

    def rows(self, wanted: Filter) -> Iterator[Row]:
        capture = self.open()
        for step in capture.steps():
            yield from self.rows_of(step, wanted)
        self.close_pass(capture)

    def rows_of(self, step: Step, wanted: Filter) -> Iterator[Row]:
        if step.record is not None and not step.quic:
            for row in self._other(step, self.interfaces[step.record.interface].name):
                self._begin(row.time_ns)
                if not wanted.quic_only and wanted.time(row.time_ns):
                    yield row
        for packet in step.packets:
            self._count(packet)
            if wanted.packet(packet):
                yield packet_row(packet, self.interfaces[packet.interface].name)

    def packets(self) -> Iterator[tuple[ClearPacket, str]]:
        """Every QUIC packet, and the access it was captured on."""
        capture = self.open()
        names: dict[int, str] = {}
        for packet in capture.packets():
            name = names.get(packet.interface)
            if name is None:
                name = names[packet.interface] = access_of(capture.interfaces[packet.interface].name)
            self._count(packet)
            yield packet, name
        self.close_pass(capture)

    def figures(self) -> PathStats:
        """Of all packets; `stats` with it."""
        capture = self.open()
        figures = PathStats(self.run, capture)
        for chunk in capture.chunks():
            if isinstance(chunk, PlainRun):
                self.count_run(chunk)
                figures.add_run(chunk)
                continue
            for packet in chunk:
                self._count(packet)
                figures.add(packet)
        self.close_pass(capture)
        return figures

    @property
    def several(self) -> bool:
        """More than one connection carried something: to say which is worth a column."""
        return len({connection for connection, _ in self.stats.per_path if connection is not None}) > 1

    def _other(self, step: Step, interface: str) -> Iterator[Row]:
        record, flow = step.record, step.flow
        assert record is not None
        if flow is None or interface in (INNER_INTERFACE, NAS_INTERFACE):
            return
        if flow.protocol == UDP and PFCP_PORT in (flow.source_port, flow.destination_port):
            yield Row(record.number, record.time_ns, interface, "n4", size=len(flow.payload),
                      text=pfcp_words(flow.payload))
        elif flow.protocol == TCP and (flow.destination_port in PORTS or flow.source_port in PORTS):
            for pdu in self._nas.feed(record.number, record.time_ns, flow):
                yield Row(record.number, record.time_ns, interface, "n1", pdu.uplink, size=len(pdu.data),
                          text=nas_comment(pdu)[1])


def row_document(row: Row, start_ns: int) -> dict[str, Any]:
    direction = None if row.up is None else "up" if row.up else "down"
    document: dict[str, Any] = {"record": row.record, "t": round((row.time_ns - start_ns) / 1e9, 9),
                                "interface": row.interface, "kind": row.kind, "direction": direction, "size": row.size}
    if row.kind in ("n1", "n4"):
        document["text"] = row.text
    else:
        document |= {"connection": row.connection, "path": row.path, "pn": row.number, "key_phase": row.key_phase,
                     "frames": [{"name": name, "text": words} for name, words in row.frames], "inner": row.inner}
    document["reason"] = row.reason or None
    return document


HEADING = (f"{'No.':>7} {'time/s':>11} {'interface':<12} {'dir':<4} {'packet':<10} {'conn':>4} {'path':>4} {'pn':>8} {'octets':>6}"
           "  content")


def row_line(row: Row, start_ns: int) -> str:
    arrow = {None: "", True: "up", False: "down"}[row.up]
    if row.kind in ("n1", "n4"):
        content = row.text
    elif row.reason:
        content = f"[{row.reason}]"
    else:
        content = "; ".join(words for _, words in row.frames[:FRAMES_SHOWN])
        if len(row.frames) > FRAMES_SHOWN:
            content += f"; and {len(row.frames) - FRAMES_SHOWN} more"
        content += "".join(f"  ‹{inner}›" for inner in row.inner)
    connection, path, number = ("-" if v is None else str(v) for v in (row.connection, row.path, row.number))
    return (f"{row.record:>7} {(row.time_ns - start_ns) / 1e9:>11.6f} {row.interface:<12} {arrow:<4} {row.kind:<10} "
            f"{connection:>4} {path:>4} {number:>8} {row.size:>6}  {content}")
