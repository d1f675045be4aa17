"""Runs of plain 1-RTT packets of a capture, opened by the engine's clear reader (native/src/clear_reader.c), hundreds in a call."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import NamedTuple

from lab.decrypt import ClearPacket, Decryptor
from lab.decrypt_connection import Connection, Space
from lab.packets import link
from lab.packets.headers import CID_LENGTH
from lab.pcapng import NANOSECONDS, Interface, PcapngReader
from native import ffi, lib

ROWS = 4096                     # packets that one call gives
ROW = struct.Struct("=8Q15I4x")
NUMBER, TYPES, INTERFACE, SPACE, BLOCK, BLOCK_SIZE, START, HEADER = 1, 2, 8, 9, 10, 11, 12, 14        # places in it
DATAGRAMS, INNER, INNER_AT, INNER_SIZE = 16, 17, 18, 19
SLACK = 64                      # behind the last packet: vector code may look there
KINDS = {link.LINK_ETHERNET: lib.CLEAR_ETHERNET, link.LINK_SLL: lib.CLEAR_SLL, link.LINK_SLL2: lib.CLEAR_SLL2,
         link.LINK_RAW: lib.CLEAR_RAW, link.LINK_IPV4: lib.CLEAR_RAW, link.LINK_IPV6: lib.CLEAR_RAW,
         link.LINK_NULL: lib.CLEAR_NULL, link.LINK_LOOP: lib.CLEAR_NULL}
INNER_INTERFACE, NAS_INTERFACE = "tunnel-inner", "n1-deciphered"        # of a composed capture: no outer packets


def seen_elsewhere(names: Iterable[str]) -> set[str]:
    """Of a lab's capture (lab/capturing.py): which of these interfaces show packets that another one of them shows at the UE's end,
    or packets that went through the tunnel. QUIC, N1 and N4 are read once."""
    there = set(names)
    at_the_ue = any(name.startswith("ue/") for name in there)
    found = set()
    for name in there:
        place, colon, device = name.partition(":")
        if not colon:
            continue
        if device == "n4":
            twice = "upf/n4" in there
        elif device == "wire":
            twice = f"ue/{place}" in there
        else:
            twice = at_the_ue and (place in ("ue", "core", "upf", "dn", "wires") or f"ue/{place}" in there)
        if twice:
            found.add(name)
    return found


def passed_over(interfaces: list[Interface], section: list[int]) -> set[int]:
    """Numbers of those of a section (PcapngReader.section) that have no outer packets, or only such as another of them shows."""
    names = {number: interfaces[number].name for number in section if number >= 0}
    over = seen_elsewhere(names.values()) | {INNER_INTERFACE, NAS_INTERFACE}
    return {number for number, name in names.items() if name in over}


class PlainSpace(NamedTuple):
    """One direction of a path of a connection, by its number in the engine."""

    connection: Connection
    up: bool
    path: int
    space: Space


class Carried(NamedTuple):
    """Of a run, by connection and path: 1-RTT packets, and IP packets in them."""

    connection: int
    path: int
    packets: int
    inner: int


Row = tuple[int, ...]           # as ROW has it


@dataclass(slots=True)
class PlainRun:
    """1-RTT packets in a row that the engine opened. Who needs no more than figures takes `rows`, which are many times cheaper than
    packets."""

    rows: list[Row]
    spaces: list[PlainSpace]            # by number; more than these rows are of
    carried: list[Carried]
    generations: dict[int, int]         # by space: key updates so far
    section: list[int]                  # of the file's interfaces -> of the capture's
    rates: list[int]                    # of the capture's interfaces: ticks per second
    text: bytes                         # in clear, as it stood in the window

    def packets(self) -> Iterator[ClearPacket]:
        """What is the same for many packets is looked up once: half of the time of a table goes here."""
        spaces, generations, section, rates, text = self.spaces, self.generations, self.section, self.rates, self.text
        for (ticks, packet_number, bits, record_number, ack_path, largest, delay, span, interface, space, _, _, at, size, header,
             length, _, inner_count, inner_offset, inner_length, acks, ack_offset, ranges) in self.rows:
            connection, up, path, _ = spaces[space]
            interface = section[interface]
            rate = rates[interface]
            body = at + header
            ack = [(ack_path, [(largest - span, largest)], delay)] if acks == 1 and not ranges else None
            yield ClearPacket(
                record_number, ticks if rate == NANOSECONDS else ticks * NANOSECONDS // rate, interface, up, "1rtt", size,
                text[at + 1:at + 9], b"", connection.index, path, packet_number, generations[space],
                text[at:body], text[body:body + length], "", (inner_count, inner_offset, inner_length), bits,
                ack_offset if acks == 1 else -1, None, ack)

    def time_ns(self, row: Row) -> int:
        return row[0] * NANOSECONDS // self.rates[self.section[row[INTERFACE]]]

    def packet(self, row: Row) -> ClearPacket:
        """One of them."""
        return next(replace(self, rows=[row]).packets())


class ClearReader:
    """The engine's clear reader, and what the decryptor has taught it."""

    def __init__(self, port: int, decryptor: Decryptor) -> None:
        self.spaces: list[PlainSpace] = []
        self.text = bytearray(0)
        self._reader = ffi.gc(lib.clear_reader_new(port), lib.clear_reader_free)
        self._decryptor = decryptor
        self._rows = ffi.new("struct clear_row[]", ROWS)
        self._consumed, self._records = ffi.new("size_t *"), ffi.new("uint64_t *")
        self._streams: dict[tuple[int, bool], list[int]] = {}       # -> its number in the engine, generation of its keys
        self._described: tuple[PcapngReader, int, int] | None = None

    def interfaces(self, reader: PcapngReader, lean: bool) -> None:
        now = (reader, reader.sections, len(reader.section))
        if now == self._described:
            return
        self._described = now
        kinds = bytearray()
        over = passed_over(reader.interfaces, reader.section)
        for number in reader.section:
            if number in over:
                kinds.append(lib.CLEAR_SKIP if lean else lib.CLEAR_LEAVE)
            else:
                kinds.append(lib.CLEAR_LEAVE if number < 0 else KINDS.get(reader.interfaces[number].linktype, lib.CLEAR_LEAVE))
        lib.clear_reader_interfaces(self._reader, ffi.from_buffer(kinds) if kinds else ffi.NULL, len(kinds))

    def run(self, rows: list[Row], octets: int, reader: PcapngReader) -> PlainRun:
        """Rows that scan() gave, of so many octets; they are counted."""
        section, rates = reader.section, [one.ticks_per_second for one in reader.interfaces]
        last_ns = rows[-1][0] * NANOSECONDS // rates[section[rows[-1][INTERFACE]]]
        by_space: dict[int, list[Row]] = {}
        for row in rows:
            by_space.setdefault(row[SPACE], []).append(row)
        carried = [self._count(number, some, last_ns) for number, some in by_space.items()]
        generations = {space: self._streams[self.spaces[space].connection.index, self.spaces[space].up][1] for space in by_space}
        return PlainRun(rows, self.spaces, carried, generations, section, rates, bytes(memoryview(self.text)[:octets]))

    def _count(self, number: int, rows: list[Row], last_ns: int) -> Carried:
        """What these rows of one space teach."""
        connection, up, path, space = self.spaces[number]
        space.largest = max(space.largest, *map(itemgetter(NUMBER), rows))
        datagrams, inner = sum(map(itemgetter(DATAGRAMS), rows)), sum(map(itemgetter(INNER), rows))
        self._decryptor.count_clear(connection, up, path, rows[0][NUMBER], last_ns, len(rows), datagrams)
        return Carried(connection.index, path, len(rows), inner)

    def scan(self, data: bytearray, start: int, end: int, number: int) -> tuple[list[Row], int, int]:
        """Of these octets of data: rows, octets done, packets so far."""
        if len(self.text) < len(data):
            self.text = bytearray(len(data) + SLACK)
        if start == end:
            return [], 0, number
        self._records[0] = number
        source = ffi.from_buffer("uint8_t[]", data)
        got = lib.clear_reader_scan(self._reader, source + start, end - start, ffi.from_buffer("uint8_t[]", self.text), self._rows,
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
                lib.clear_reader_largest(self._reader, number, self.spaces[number].space.largest)

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
            self.spaces.append(PlainSpace(connection, up, path, space))
        return space.native
