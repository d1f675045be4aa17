"""A capture file and its key log, in one pass and in bounded memory: packets of QUIC in clear, every other frame as it is.

Two readers take turns over one window of the file. The engine's clear reader (native/src/clear_reader.c) takes runs of
plain 1-RTT packets, hundreds in a call; whatever it leaves, the readers in Python take, one captured frame at a time,
and then teach it what they learnt: connection IDs, keys, the largest packet numbers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from lab.capture_files import CaptureFiles, one_file
from lab.clear_scan import BLOCK, BLOCK_SIZE, INNER_INTERFACE, NAS_INTERFACE, ClearReader, PlainRun, passed_over
from lab.decrypt import WAITING_MAX, ClearPacket, Decryptor
from lab.decrypt_keys import KeyLog
from lab.packets.errors import PacketError
from lab.packets.link import UDP, Flow, read_link
from lab.pcap_classic import is_classic
from lab.pcapng import Interface, Interfaces, PcapngReader, Record, Statistics
from native import ffi, lib

__all__ = ["INNER_INTERFACE", "NAS_INTERFACE", "SERVER_PORT", "CaptureDecryptor", "Step", "load_keylog", "read_secrets"]
SERVER_PORT = 4433
WINDOW = 1 << 20                # octets of the file that are looked at at once; grows to one block where that is larger
PROGRESS_OCTETS = 32 << 20
REPEATED = "repeated from an earlier file: a handshake"         # comment in a file of a ring (native/src/capture_file.c)
OVERLAP_NS = 1_000_000_000      # by so much the files of a capture may overlap: interfaces are read in turn
HANDSHAKES_MAX = 65536          # packets with a long header that are remembered, to know one that is repeated


class Window:
    """A part of a file that grows forward: a stream for the readers in Python, octets for the engine."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.data = bytearray(WINDOW)
        self.start = self.end = 0
        self.read_octets = 0
        self.over = False

    def fill(self, octets: int) -> bool:
        """At least so many octets from start on; False when the file has no more."""
        if self.end - self.start >= octets:
            return True
        if self.over:
            return False
        rest = self.data[self.start:self.end]
        size = max(len(self.data), octets)
        if size > len(self.data):
            self.data = bytearray(size)
        self.data[:len(rest)] = rest
        self.start, self.end = 0, len(rest)
        while self.end < octets:
            got = self._stream.readinto(memoryview(self.data)[self.end:])  # type: ignore[attr-defined]
            if not got:
                self.over = True
                return False
            self.end += got
            self.read_octets += got
        return True

    def read(self, octets: int = -1) -> bytes:
        self.fill(octets)
        out = bytes(self.data[self.start:min(self.end, self.start + octets)])
        self.start += len(out)
        return out


@dataclass(slots=True)
class Step:
    """One captured frame as it was read, and the packets that became ready by it (of earlier frames too)."""

    record: Record | None           # None: the end of the capture
    flow: Flow | None               # None: neither UDP nor TCP, or not readable
    quic: bool
    packets: list[ClearPacket]


class CaptureDecryptor:
    """A pcapng file, or several as one capture, and its key log; packets of QUIC come in the order of the capture.

    lean: what a composed capture adds (inner packets, deciphered NAS) is passed over, and a packet that the clear reader
    opened comes without its captured frame. progress is told the octets read so far, now and then."""

    def __init__(self, source: BinaryIO | CaptureFiles, keylog: KeyLog, port: int = SERVER_PORT, waiting_max: int = WAITING_MAX, *,
                 lean: bool = False, native: bool = True, progress: Callable[[int], None] | None = None) -> None:
        self._source = source
        self._known = Interfaces()
        self._open(io.BytesIO() if isinstance(source, CaptureFiles) else source, 0)
        self.decryptor = Decryptor(keylog, waiting_max)
        self.unreadable = 0             # frames whose IP, UDP or TCP header does not read
        self.by_clear_reader = 0        # packets that the engine opened
        self.repeated = 0               # handshakes that stood in an earlier file of the ring already
        self.holes: list[tuple[int, int]] = []      # between files: time of the last packet before, of the first behind
        self.problem = ""               # what was not read, and why
        self.notices: list[str] = []
        self._port = port
        self._lean = lean
        self._progress = progress
        self._read_octets = 0           # of the files before this one
        self._told = 0
        self._newest_ns = 0
        self._hole_since: int | None = None
        self._begins = ""               # the file of which no packet was read yet
        self._run_start = 0             # where in the window the newest run's octets begin
        self._handshakes: dict[int, None] = {}
        self._clear = ClearReader(port, self.decryptor) if native else None

    @property
    def interfaces(self) -> list[Interface]:
        return self._known.every

    @property
    def statistics(self) -> dict[int, Statistics]:
        """By interface: what the files say that it had and lost."""
        return self._known.statistics

    # ---- the files

    def _open(self, stream: BinaryIO, number: int) -> None:
        """number: packets of the files before this one."""
        self._window = Window(stream)
        self.reader = PcapngReader(cast(BinaryIO, self._window), self._known, number)
        self._seen_secrets = 0
        self._described = (0, 0)
        self._passed_over: set[int] = set()

    def _files(self) -> Iterator[None]:
        """Each file in its turn is what self.reader reads."""
        if not isinstance(self._source, CaptureFiles):
            yield
            self.problem = self.reader.problem
            return
        several = len(self._source.parts) > 1
        problems = []
        for part, stream in self._source.streams():
            self._open(stream, self.reader.number)
            part.first, part.last = self.reader.number + 1, self.reader.number
            self._begins = part.path.name
            if part.missing and self._newest_ns:
                self._hole_since = self._newest_ns
            yield
            self._read_octets += self._window.read_octets
            part.last, part.problem = self.reader.number, part.problem or self.reader.problem
            if part.problem:
                problems.append(f"{part.path.name}: {part.problem}" if several else part.problem)
                self._hole_since = self._newest_ns or None
        self.problem = "; ".join(problems)

    def _at(self, time_ns: int) -> None:
        """A packet of this file that no earlier one had."""
        if self._hole_since is not None:
            self.holes.append((self._hole_since, max(self._hole_since, time_ns)))
            self._hole_since = None
        if self._begins:
            if time_ns < self._newest_ns - OVERLAP_NS:
                back = (self._newest_ns - time_ns) / 1e9
                self.notices.append(f"{self._begins} begins {back:.3f} s before the files ahead of it end: they are read one after "
                                    "the other, not by time")
            self._begins = ""
        self._newest_ns = max(self._newest_ns, time_ns)

    def _is_repeated(self, record: Record) -> bool:
        """A ring repeats the handshakes at the start of each file, so that it opens by itself."""
        mark = hash((record.interface, record.time_ns, record.data))
        if record.comment == REPEATED and mark in self._handshakes:
            self.repeated += 1
            return True
        self._handshakes[mark] = None
        if len(self._handshakes) > HANDSHAKES_MAX:
            del self._handshakes[next(iter(self._handshakes))]
        return False

    # ---- packets

    def packets(self) -> Iterator[ClearPacket]:
        """As steps(), without what was captured."""
        for chunk in self.chunks():
            yield from chunk.packets() if isinstance(chunk, PlainRun) else chunk

    def chunks(self) -> Iterator[PlainRun | list[ClearPacket]]:
        """As packets(), and runs of plain ones where no packet before them waits."""
        for part in self.parts():
            yield part if isinstance(part, PlainRun) else part.packets

    def parts(self) -> Iterator[PlainRun | Step]:
        """As steps(), and, of a lean capture, runs of plain packets where no packet before them waits."""
        decryptor = self.decryptor
        for _ in self._files():
            records = iter(self.reader)
            while True:
                if self._clear is not None and self.reader.little_endian:
                    for run in self._runs(self._clear):
                        if self._lean and not decryptor.waits:
                            yield run
                        else:
                            yield from self._steps_of(run)
                record = next(records, None)
                if record is None:
                    break
                yield self._step(record)
        yield Step(None, None, False, decryptor.flush())

    def steps(self) -> Iterator[Step]:
        for part in self.parts():
            if isinstance(part, PlainRun):
                yield from self._steps_of(part)
            else:
                yield part

    def _step(self, record: Record) -> Step:
        """One captured frame by the readers in Python."""
        port = self._port
        while self._seen_secrets < len(self.reader.secrets):
            self.decryptor.keylog.add(self.reader.secrets[self._seen_secrets])
            self._seen_secrets += 1
        interface = self.interfaces[record.interface]
        try:
            flow = read_link(interface.linktype, record.data)
        except PacketError:
            self.unreadable += 1
            flow = None
        if flow is None or flow.protocol != UDP or port not in (flow.source_port, flow.destination_port) \
                or self._is_passed_over(record.interface):
            return Step(record, flow, False, [])
        if flow.payload and flow.payload[0] & 0x80 and self._is_repeated(record):
            return Step(record, flow, False, [])
        if record.comment != REPEATED:
            self._at(record.time_ns)
        up = flow.destination_port == port
        client, server = (flow.source, flow.source_port), (flow.destination, flow.destination_port)
        packets = self.decryptor.feed(record.number, record.time_ns, record.interface, up, flow.payload, flow.cut,
                                      client + server if up else server + client)
        if self._clear is not None:
            self._clear.learn()
        return Step(record, flow, True, packets)

    def _is_passed_over(self, number: int) -> bool:
        """It has no outer packets, or only such as another interface of its section shows."""
        now = (self.reader.sections, len(self.reader.section))
        if now != self._described:
            self._described, self._passed_over = now, passed_over(self.interfaces, self.reader.section)
        return number in self._passed_over

    def _runs(self, clear: ClearReader) -> Iterator[PlainRun]:
        """As many plain packets as there are in a row, a few hundred at a time."""
        reader, window = self.reader, self._window
        while True:
            window.fill(WINDOW // 4)
            done = self._read_octets + window.read_octets
            if self._progress is not None and done - self._told >= PROGRESS_OCTETS:
                self._told = done
                self._progress(done)
            clear.interfaces(reader, self._lean)
            rows, octets, number = clear.scan(window.data, window.start, window.end, reader.number)
            if not octets:
                return
            self._run_start = window.start
            reader.advance(octets, number)
            window.start += octets
            self.by_clear_reader += len(rows)
            if rows:
                run = clear.run(rows, octets, reader)
                if self._begins or self._hole_since is not None:
                    self._at(run.time_ns(rows[0]))
                self._newest_ns = max(self._newest_ns, run.time_ns(rows[-1]))
                yield run

    def _steps_of(self, run: PlainRun) -> Iterator[Step]:
        """With the captured frames, unless they are not wanted."""
        start, reader = self._run_start, self.reader
        for packet, row in zip(run.packets(), run.rows, strict=True):
            packets = self.decryptor.feed_clear(packet)
            record: Record | None = None
            flow: Flow | None = None
            if not self._lean:
                first, last = start + row[BLOCK] + 8, start + row[BLOCK] + row[BLOCK_SIZE] - 4
                record = reader.packet(bytes(memoryview(self._window.data)[first:last]), packet.record)
                flow = read_link(self.interfaces[packet.interface].linktype, record.data) if record is not None else None
            yield Step(record, flow, True, packets)


def read_secrets(capture: Path) -> tuple[list[Interface], list[bytes]]:
    """Interfaces and key logs of the whole file, wherever they stand in it; packets are passed over."""
    known = Interfaces()
    with capture.open("rb") as stream:
        secrets = _secrets_of(stream, known)
    return known.every, secrets


def _secrets_of(stream: BinaryIO, known: Interfaces) -> list[bytes]:
    window = Window(stream)
    reader = PcapngReader(cast(BinaryIO, window), known)
    skipper = ffi.gc(lib.clear_reader_new(0), lib.clear_reader_free)
    kinds = ffi.new("uint8_t[]", [lib.CLEAR_SKIP] * lib.CLEAR_MAX_INTERFACES)
    lib.clear_reader_interfaces(skipper, kinds, lib.CLEAR_MAX_INTERFACES)
    consumed, records, row = ffi.new("size_t *"), ffi.new("uint64_t *"), ffi.new("struct clear_row *")
    blocks = reader.others()
    while True:
        while reader.little_endian and window.fill(WINDOW // 4) | (window.end > window.start):
            lib.clear_reader_scan(skipper, ffi.from_buffer("uint8_t[]", window.data) + window.start, window.end - window.start,
                                  ffi.NULL, row, 1, consumed, records)
            reader.advance(consumed[0], records[0])
            window.start += consumed[0]
            if not consumed[0]:
                break
        if next(blocks, None) is None:
            return reader.secrets


def load_keylog(capture: Path | CaptureFiles, keylog: Path | None = None) -> KeyLog:
    """Secrets of the capture's Decryption Secrets Blocks (wherever they stand in it) and of a file."""
    log = KeyLog()
    files = one_file(capture) if isinstance(capture, Path) else capture
    for _, stream in files.streams():
        for secrets in () if is_classic(stream) else _secrets_of(stream, Interfaces()):
            log.add(secrets)
    if keylog is not None:
        log.add(keylog.read_bytes())
    return log
