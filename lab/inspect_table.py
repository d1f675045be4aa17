"""The table's lines of a run of plain packets, text or JSON, octet for octet as lab/inspect_rows.py makes them of one packet at a
time, without an object for each: what is the same for many packets is made once. A packet that is not of the common shape (DATAGRAM
frames with an inner packet each, an ACK or PATH_ACK behind them) goes the long way."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from lab.clear_scan import HEADER, INNER, INNER_AT, INNER_SIZE, SPACE, START, TYPES, PlainRun, Row
from lab.decrypt import ACK_BITS, DATAGRAM_BITS, PATH_ACK_BITS, STREAM_BITS
from lab.inspect_rows import FRAMES_SHOWN, Filter, Inspection, packet_row, row_document, row_line
from lab.inspect_rows import Row as TableRow
from lab.packets.frames import FRAME_NAMES, Ack, ranges_words, read_frame
from lab.packets.link import TCP, UDP, address_text, ip_words, tcp_flags_text
from lab.packets.masque import inner_packet
from lab.packets.varint import read_varint
from lab.pcapng import NANOSECONDS, Interface

# Up to TCP's flags: length, fragment (IPv4), protocol, both addresses and ports, TCP's sequence number, data offset, flags.
IPV4, IPV6 = struct.Struct("!2xH2xHxB2x12sI4xBB"), struct.Struct("!4xHBx36sI4xBB")
IPV4_LEAST, IPV6_LEAST = 40, 60                 # octets with a header of TCP
ENDS_MAX = 65_536                               # pairs of ends that are remembered
COMMON = DATAGRAM_BITS | ACK_BITS
# The frames of plain packets (frames_plain() of native/src/clear_reader.c), as row bits by name; all others have none.
BITS: dict[str, int] = dict.fromkeys(FRAME_NAMES, 0) | {
    "PADDING": 1 << 0x00, "PING": 1 << 0x01, "ACK": 1 << 0x02 | 1 << 0x03, "STREAM": STREAM_BITS, "DATAGRAM": DATAGRAM_BITS,
    "PATH_ACK": PATH_ACK_BITS}
FLAGS = [tcp_flags_text(flags) for flags in range(256)]


def picked(run: PlainRun, wanted: Filter) -> list[Row]:
    """Those rows of the run that Filter.packet() would take."""
    rows = run.rows
    if wanted.path is not None:
        numbers = {row[SPACE] for row in rows}
        spaces = {number for number in numbers if run.spaces[number].path == wanted.path}
        rows = rows if spaces == numbers else [row for row in rows if row[SPACE] in spaces]
    if wanted.between is not None:
        rows = [row for row in rows if wanted.time(run.time_ns(row))]
    if wanted.frame is not None:
        bits = BITS[wanted.frame]
        rows = [row for row in rows if row[TYPES] & bits]
    if wanted.inner is not None:
        rows = [row for row in rows if row[INNER] and _carries(run, row, wanted)]
    return rows


def _carries(run: PlainRun, row: Row, wanted: Filter) -> bool:
    assert wanted.inner is not None
    if row[INNER] > 1:
        return any(map(wanted.inner, run.packet(row).inner_packets()))
    at = row[START] + row[HEADER] + row[INNER_AT]
    return wanted.inner(run.text[at:at + row[INNER_SIZE]])


class Table:
    """Of one pass over a capture, as text or as JSON."""

    def __init__(self, interfaces: list[Interface], as_json: bool) -> None:
        self._interfaces, self._json = interfaces, as_json
        self._ends: dict[bytes, str] = {}                       # addresses and ports -> words
        self._datagram, self._ack, self._path_ack = ((
            '{"name": "DATAGRAM", "text": "DATAGRAM %d"}', '{"name": "ACK", "text": "ACK %s"}',
            '{"name": "PATH_ACK", "text": "PATH_ACK path %d %s"}') if as_json else ("DATAGRAM %d", "ACK %s", "PATH_ACK path %d %s"))
        self._between_frames, self._inner, self._between_inner = (", ", '"%s"', ", ") if as_json else ("; ", "  ‹%s›", "")

    def line(self, row: TableRow, start_ns: int) -> str:
        """start_ns: second 0, by the capture's clock."""
        return json.dumps(row_document(row, start_ns)) if self._json else row_line(row, start_ns) + "\n"

    def lines(self, run: PlainRun, rows: list[Row], start_ns: int) -> list[str]:
        """rows: of the run."""
        text, section, rates, as_json, out = run.text, run.section, run.rates, self._json, []
        where: dict[tuple[int, int], tuple[str, str, str]] = {}
        for row in rows:
            (ticks, number, bits, record, ack_path, largest, _, span, interface, space, _, _, at, size, header,
             length, datagrams, inner_count, inner_at, inner_size, acks, ack_at, ranges) = row
            body = at + header
            if bits & ~COMMON or acks > 1 or datagrams + acks > FRAMES_SHOWN:
                out.append(self._long(run, row, start_ns))
                continue
            frames = inner = ""
            # One of up to 16,383 octets is what most packets have: by _datagrams() the table takes a sixth longer.
            if datagrams == 1 and (text[body] == 0x30 or (text[body] == 0x31 and text[body + 1] < 0x80)):
                octets = length - 1
                if text[body] == 0x31:
                    octets = text[body + 1]
                    if octets >= 0x40:
                        octets = (octets & 0x3F) << 8 | text[body + 2]
                frames = self._datagram % octets
                if inner_count:
                    inner = self._inner % self._ip(text, body + inner_at, inner_size)
            elif datagrams:
                read = self._datagrams(text, body, body + length, datagrams)
                if read is None:
                    out.append(self._long(run, row, start_ns))
                    continue
                frames, inner = read
            if acks:
                if ranges:
                    told = ranges_words(read_ack(text, body + ack_at))
                else:
                    told = f"{largest - span}-{largest}" if span else str(largest)
                ack = self._path_ack % (ack_path, told) if bits & PATH_ACK_BITS else self._ack % told
                frames = frames + self._between_frames + ack if frames else ack
            key = space, interface
            pieces = where.get(key)
            if pieces is None:
                pieces = where[key] = self._where(run, space, section[interface])
            before, between, behind = pieces
            rate = rates[section[interface]]
            t = ((ticks if rate == NANOSECONDS else ticks * NANOSECONDS // rate) - start_ns) / 1e9
            if as_json:
                out.append(f'{{"record": {record}, "t": {round(t, 9)!r}{before}{size}{between}{number}{behind}{frames}], '
                           f'"inner": [{inner}], "reason": null}}')
            else:
                out.append(f"{record:>7} {t:>11.6f} {before} {number:>8} {size:>6}  {frames}{inner}\n")
        return out

    def _long(self, run: PlainRun, row: Row, start_ns: int) -> str:
        packet = run.packet(row)
        return self.line(packet_row(packet, self._interfaces[packet.interface].name), start_ns)

    def _where(self, run: PlainRun, space: int, interface: int) -> tuple[str, str, str]:
        """What the packets of a space of a run have in common, in the pieces that the line wants."""
        connection, up, path, _ = run.spaces[space]
        name, arrow, index = self._interfaces[interface].name, "up" if up else "down", connection.index
        if self._json:
            return (f', "interface": {json.dumps(name)}, "kind": "1rtt", "direction": "{arrow}", "size": ',
                    f', "connection": {index}, "path": {path}, "pn": ',
                    f', "key_phase": {run.generations[space]}, "frames": [')
        return f"{name:<12} {arrow:<4} {'1rtt':<10} {index:>4} {path:>4}", "", ""

    def _datagrams(self, text: bytes, at: int, end: int, count: int) -> tuple[str, str] | None:
        """Of so many DATAGRAM frames from `at` on: their words, and their inner packets. None: another frame stands before one."""
        frames, inner = [], []
        for _ in range(count):
            kind = text[at]
            if kind not in (0x30, 0x31):
                return None
            size, at = read_varint(text, at + 1) if kind == 0x31 else (end - at - 1, at + 1)
            frames.append(self._datagram % size)
            packet = inner_packet(text[at:at + size])
            if packet is not None:
                inner.append(self._inner % self._ip(packet, 0, len(packet)))
            at += size
        return self._between_frames.join(frames), self._between_inner.join(inner)

    def _ip(self, text: bytes, at: int, length: int) -> str:
        """ip_words() of the IP packet there."""
        if length >= IPV4_LEAST and text[at] == 0x45:
            total, fragment, protocol, key, sequence, offset, flags = IPV4.unpack_from(text, at)
            if fragment & 0x3FFF or total < 20:
                return ip_words(text[at:at + length])
            header = 20
        elif length >= IPV6_LEAST and text[at] >> 4 == 6:
            total, protocol, key, sequence, offset, flags = IPV6.unpack_from(text, at)
            total += 40
            header = 40
        else:
            return ip_words(text[at:at + length])
        ends = self._ends.get(key)
        if ends is None:
            if len(self._ends) >= ENDS_MAX:
                self._ends.clear()
            ends = self._ends[key] = _ends_words(key)
        end = total if total < length else length       # the packet may be cut
        if protocol == TCP:
            body = header + (offset >> 4) * 4
            return f"{ends} TCP {FLAGS[flags]} seq {sequence} len {end - body if end > body else 0}"
        if protocol != UDP:
            return ip_words(text[at:at + length])
        octets = sequence >> 16                         # UDP has its length where TCP has the sequence number
        if octets and header + octets < end:
            end = header + octets
        body = header + 8
        return f"{ends} UDP {end - body if end > body else 0}"


def read_ack(text: bytes, at: int) -> list[tuple[int, int]]:
    """The ranges of the ACK or PATH_ACK there, which the engine has found right."""
    frame = read_frame(text, at)[0]
    assert isinstance(frame, Ack)
    return frame.ranges


def table(inspection: Inspection, wanted: Filter, as_json: bool) -> Iterator[list[str]]:
    """One pass: the lines of Inspection.rows(), many at a time."""
    capture = inspection.open()
    made = Table(inspection.interfaces, as_json)
    for part in capture.parts():
        if isinstance(part, PlainRun):
            inspection.count_run(part)
            yield made.lines(part, picked(part, wanted), inspection.start_ns or 0)
        else:
            yield [made.line(row, inspection.start_ns or 0) for row in inspection.rows_of(part, wanted)]
    inspection.close_pass(capture)


def _ends_words(key: bytes) -> str:
    """Two addresses and two ports."""
    size = len(key) // 2 - 2
    source_port, port = struct.unpack_from("!HH", key, 2 * size)
    return (f"IPv{4 if size == 4 else 6} {address_text(key[:size])}:{source_port} > "
            f"{address_text(key[size:2 * size])}:{port}")
