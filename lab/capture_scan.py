"""A capture file and its key log, in one pass and in bounded memory: packets of QUIC in clear, every other frame as it is.

Two readers take turns over one window of the file. The engine's clear reader (native/src/clear_reader.c) takes runs of
plain 1-RTT packets, hundreds in a call; whatever it leaves, the readers in Python take, one captured frame at a time,
and then teach it what they learnt: connection IDs, keys, the largest packet numbers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from lab.decrypt import WAITING_MAX, ClearPacket, Decryptor
from lab.decrypt_connection import Connection, Space
from lab.decrypt_keys import KeyLog
from lab.packets.errors import PacketError
from lab.packets.headers import CID_LENGTH
from lab.packets.link import LINK_ETHERNET, LINK_RAW, UDP, Flow, read_link
from lab.pcapng import NANOSECONDS, Interface, PcapngReader, Record
from native import ffi, lib

SERVER_PORT = 4433
INNER_INTERFACE, NAS_INTERFACE = "tunnel-inner", "n1-deciphered"        # of a composed capture: no outer packets
WINDOW = 1 << 20                # octets of the file that are looked at at once; grows to one block where that is larger
ROWS = 4096                     # packets that one call gives
ROW = struct.Struct("=8Q15I4x")
INTERFACE, SPACE, DATAGRAMS = 8, 9, 16          # places in it
SLACK = 64                      # behind the last packet: vector code may look there
PROGRESS_OCTETS = 32 << 20


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


def seen_elsewhere(name: str, names: Iterable[str]) -> bool:
    """Of a lab's capture (lab/capturing.py): this interface shows packets that another one of these shows at the UE's end, or
    packets that went through the tunnel. QUIC, N1 and N4 are read once."""
    place, colon, device = name.partition(":")
    if not colon:
        return False
    there = set(names)
    if device == "n4":
        return "upf/n4" in there
    if device == "wire":
        return f"ue/{place}" in there
    of_a_lab = place in ("ue", "core", "upf", "dn", "wires") or f"ue/{place}" in there
    return of_a_lab and any(other.startswith("ue/") for other in there)


class CaptureDecryptor:
    """A pcapng file and its key log; packets of QUIC come in the order of the capture.

    lean: what a composed capture adds (inner packets, deciphered NAS) is passed over, and a packet that the clear reader
    opened comes without its captured frame. progress is told the octets read so far, now and then."""

    def __init__(self, stream: BinaryIO, keylog: KeyLog, port: int = SERVER_PORT, waiting_max: int = WAITING_MAX, *,
                 lean: bool = False, native: bool = True, progress: Callable[[int], None] | None = None) -> None:
        self._window = Window(stream)
        self.reader = PcapngReader(cast(BinaryIO, self._window))
        self.decryptor = Decryptor(keylog, waiting_max)
        self.unreadable = 0             # frames whose IP, UDP or TCP header does not read
        self.by_clear_reader = 0        # packets that the engine opened
        self._port = port
        self._lean = lean
        self._seen_secrets = 0
        self._progress = progress
        self._told = 0
        self._passed_over: dict[int, bool] = {}
        self._clear = _ClearReader(port, self.decryptor) if native else None

    def packets(self) -> Iterator[ClearPacket]:
        """As steps(), without what was captured."""
        if self._lean and self._clear is not None:
            yield from self._packets(self._clear)
            return
        for step in self.steps():
            yield from step.packets

    def _packets(self, clear: _ClearReader) -> Iterator[ClearPacket]:
        records, decryptor = iter(self.reader), self.decryptor
        while True:
            if self.reader.little_endian:
                for packet, _, _ in self._opened(clear):
                    if decryptor.waits:
                        yield from decryptor.feed_clear(packet)
                    else:
                        yield packet
            record = next(records, None)
            if record is None:
                break
            yield from self._step(record).packets
        yield from decryptor.flush()

    def steps(self) -> Iterator[Step]:
        records = iter(self.reader)
        while True:
            if self._clear is not None and self.reader.little_endian:
                yield from self._run(self._clear)
            record = next(records, None)
            if record is None:
                break
            yield self._step(record)
        yield Step(None, None, False, self.decryptor.flush())

    def _step(self, record: Record) -> Step:
        """One captured frame by the readers in Python."""
        port = self._port
        while self._seen_secrets < len(self.reader.secrets):
            self.decryptor.keylog.add(self.reader.secrets[self._seen_secrets])
            self._seen_secrets += 1
        interface = self.reader.interfaces[record.interface]
        try:
            flow = read_link(interface.linktype, record.data)
        except PacketError:
            self.unreadable += 1
            flow = None
        if flow is None or flow.protocol != UDP or port not in (flow.source_port, flow.destination_port) \
                or self._is_passed_over(record.interface):
            return Step(record, flow, False, [])
        up = flow.destination_port == port
        client, server = (flow.source, flow.source_port), (flow.destination, flow.destination_port)
        packets = self.decryptor.feed(record.number, record.time_ns, record.interface, up, flow.payload, flow.cut,
                                      client + server if up else server + client)
        if self._clear is not None:
            self._clear.learn()
        return Step(record, flow, True, packets)

    def _is_passed_over(self, number: int) -> bool:
        known = self._passed_over.get(number)
        if known is None:
            interfaces = self.reader.interfaces
            known = interfaces[number].name == INNER_INTERFACE or seen_elsewhere(
                interfaces[number].name, [one.name for one in interfaces[self.reader.section:]])
            self._passed_over[number] = known
        return known

    def _run(self, clear: _ClearReader) -> Iterator[Step]:
        """As many plain packets as there are in a row."""
        reader = self.reader
        for packet, first, last in self._opened(clear):
            packets = self.decryptor.feed_clear(packet)
            record: Record | None = None
            flow: Flow | None = None
            if not self._lean:
                record = reader.packet(bytes(memoryview(self._window.data)[first:last]), packet.record)
                flow = read_link(reader.interfaces[packet.interface].linktype, record.data) if record is not None else None
            yield Step(record, flow, True, packets)

    def _opened(self, clear: _ClearReader) -> Iterator[tuple[ClearPacket, int, int]]:
        """As many plain packets as there are in a row, each with the bounds of its block's body in the window. This is where
        most of the time goes: what is the same for many packets is looked up once."""
        reader, window = self.reader, self._window
        while True:
            window.fill(WINDOW // 4)
            if self._progress is not None and window.read_octets - self._told >= PROGRESS_OCTETS:
                self._told = window.read_octets
                self._progress(self._told)
            clear.interfaces(reader, self._lean)
            start = window.start
            rows, octets, number = clear.scan(window, reader.number)
            if not octets:
                return
            reader.advance(octets, number)
            window.start += octets
            section, rates = reader.section, [one.ticks_per_second for one in reader.interfaces]
            if rows:
                ticks, interface = rows[-1][0], rows[-1][INTERFACE] + section
                clear.count(rows, ticks * NANOSECONDS // rates[interface])
            self.by_clear_reader += len(rows)
            text, spaces = bytes(memoryview(clear.text)[:octets]), clear.spaces
            generations = {space: clear.generation(*spaces[space][:2]) for space in {row[SPACE] for row in rows}}
            for (ticks, packet_number, bits, record_number, ack_path, largest, delay, span, interface, space, block, block_size, at,
                 size, header, length, _, inner_count, inner_offset, inner_length, acks, ack_offset, ranges) in rows:
                connection, up, path, _ = spaces[space]
                interface += section
                rate = rates[interface]
                body = at + header
                ack = [(ack_path, [(largest - span, largest)], delay)] if acks == 1 and not ranges else None
                yield ClearPacket(
                    record_number, ticks if rate == NANOSECONDS else ticks * NANOSECONDS // rate, interface, up, "1rtt", size,
                    text[at + 1:at + 9], b"", connection.index, path, packet_number, generations[space],
                    text[at:body], text[body:body + length], "", (inner_count, inner_offset, inner_length), bits,
                    ack_offset if acks == 1 else -1, None, ack), start + block + 8, start + block + block_size - 4


class _ClearReader:
    """The engine's clear reader, and what the decryptor has taught it."""

    def __init__(self, port: int, decryptor: Decryptor) -> None:
        self.spaces: list[tuple[Connection, bool, int, Space]] = []
        self.text = bytearray(0)
        self._reader = ffi.gc(lib.clear_reader_new(port), lib.clear_reader_free)
        self._decryptor = decryptor
        self._rows = ffi.new("struct clear_row[]", ROWS)
        self._consumed, self._records = ffi.new("size_t *"), ffi.new("uint64_t *")
        self._streams: dict[tuple[int, bool], list[int]] = {}       # -> its number in the engine, generation of its keys
        self._described = (-1, -1)

    def interfaces(self, reader: PcapngReader, lean: bool) -> None:
        now = (reader.section, len(reader.interfaces))
        if now == self._described:
            return
        self._described = now
        kinds = bytearray()
        names = [interface.name for interface in reader.interfaces[reader.section:]]
        for interface in reader.interfaces[reader.section:]:
            if interface.name in (INNER_INTERFACE, NAS_INTERFACE) or seen_elsewhere(interface.name, names):
                kinds.append(lib.CLEAR_SKIP if lean else lib.CLEAR_LEAVE)
            else:
                kinds.append({LINK_ETHERNET: lib.CLEAR_ETHERNET, LINK_RAW: lib.CLEAR_RAW}.get(interface.linktype, lib.CLEAR_LEAVE))
        lib.clear_reader_interfaces(self._reader, ffi.from_buffer(kinds) if kinds else ffi.NULL, len(kinds))

    def generation(self, connection: Connection, up: bool) -> int:
        return self._streams[connection.index, up][1]

    def count(self, rows: list[Any], last_ns: int) -> None:
        """What these rows teach: how many packets of each space, the largest number of each."""
        spaces: dict[int, list[int]] = {}
        for row in rows:
            known = spaces.get(row[SPACE])
            if known is None:
                spaces[row[SPACE]] = [row[1], row[1], 1, row[DATAGRAMS]]
                continue
            if row[1] > known[1]:
                known[1] = row[1]
            known[2] += 1
            known[3] += row[DATAGRAMS]
        for number, (first, largest, packets, datagrams) in spaces.items():
            connection, up, path, space = self.spaces[number]
            space.largest = max(space.largest, largest)
            self._decryptor.count_clear(connection, up, path, first, last_ns, packets, datagrams)

    def scan(self, window: Window, number: int) -> tuple[list[Any], int, int]:
        """Rows, octets done, packets so far."""
        if len(self.text) < len(window.data):
            self.text = bytearray(len(window.data) + SLACK)
        size = window.end - window.start
        if not size:
            return [], 0, number
        self._records[0] = number
        source = ffi.from_buffer("uint8_t[]", window.data)
        got = lib.clear_reader_scan(self._reader, source + window.start, size, ffi.from_buffer("uint8_t[]", self.text), self._rows,
                                    ROWS, self._consumed, self._records)
        return list(ROW.iter_unpack(ffi.buffer(self._rows, got * ROW.size))), self._consumed[0], self._records[0]

    def learn(self) -> None:
        """After a packet that Python opened."""
        decryptor = self._decryptor
        while decryptor.announced:
            connection, cid = decryptor.announced.pop()
            if len(cid) != CID_LENGTH or connection.without_cid:   # without: Python must see where it sends from
                continue
            by_client, path = connection.cids[cid]
            stream, space = self._stream(connection, not by_client), self._space(connection, not by_client, path)
            if space >= 0:
                lib.clear_reader_cid(self._reader, cid, stream[0], space, path)
        while decryptor.opened:
            index, up, path = decryptor.opened.pop()
            connection = decryptor.connections[index]
            stream = self._stream(connection, up)
            in_force = connection.keys_in_force(up)
            if in_force is not None and in_force[0] != stream[1]:
                generation, keys = in_force
                lib.clear_reader_keys(self._reader, stream[0], keys.suite, *keys.raw(), generation & 1)
                stream[1] = generation
            number = self._space(connection, up, path)
            if number >= 0:
                lib.clear_reader_largest(self._reader, number, self.spaces[number][3].largest)

    def _stream(self, connection: Connection, up: bool) -> list[int]:
        stream = self._streams.get((connection.index, up))
        if stream is None:
            stream = self._streams[connection.index, up] = [lib.clear_reader_stream(self._reader, up), -1]
        return stream

    def _space(self, connection: Connection, up: bool, path: int) -> int:
        """Its number in the engine; -1 when there are too many: Python goes on with that one."""
        space = connection.space("1rtt", up, path)
        if space.native < 0:
            number = lib.clear_reader_space(self._reader)
            if number < 0:
                return -1
            space.native = number
            self.spaces.append((connection, up, path, space))
        return space.native


def read_secrets(capture: Path) -> tuple[list[Interface], list[bytes]]:
    """Interfaces and key logs of the whole file, wherever they stand in it; packets are passed over."""
    with capture.open("rb") as stream:
        window = Window(stream)
        reader = PcapngReader(cast(BinaryIO, window))
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
                return reader.interfaces, reader.secrets


def load_keylog(capture: Path, keylog: Path | None = None) -> KeyLog:
    """Secrets of the capture's Decryption Secrets Blocks (wherever they stand in it) and of a file."""
    log = KeyLog()
    for secrets in read_secrets(capture)[1]:
        log.add(secrets)
    if keylog is not None:
        log.add(keylog.read_bytes())
    return log
