"""pcapng, reading and writing: what the lab needs of draft-ietf-opsawg-pcapng, in one pass and in bounded memory.

The reader takes both byte orders and several sections, and a file that ends anywhere: what is whole is given, `problem`
says what is not. The writer makes one file of many interfaces with different link types, names, comments, direction
flags and the key log inside (Decryption Secrets Block).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import BinaryIO

SHB, IDB, SPB, ISB, EPB, DSB = 0x0A0D0D0A, 1, 3, 5, 6, 10
MAGIC = 0x1A2B3C4D
TLS_KEY_LOG = 0x544C534B
INBOUND, OUTBOUND = 1, 2
BLOCK_MAX = 16 << 20
INTERFACES_MAX = 4096
SECRETS_MAX = 64 << 20             # octets of key logs, of all Decryption Secrets Blocks
OPT_COMMENT, OPT_IF_NAME, OPT_TSRESOL, OPT_EPB_FLAGS, OPT_USERAPPL = 1, 2, 9, 2, 4
OPT_ISB_IFRECV, OPT_ISB_IFDROP, OPT_ISB_USRDELIV = 4, 5, 8
NANOSECONDS = 1_000_000_000


class PcapngError(Exception):
    """Not a pcapng file, or an argument that does not fit into one."""


@dataclass(slots=True)
class Interface:
    linktype: int
    name: str = ""
    ticks_per_second: int = 1_000_000
    snaplen: int = 0


@dataclass(slots=True)
class Record:
    """One captured packet. number counts from 1 through the whole file, as Wireshark does."""

    number: int
    interface: int              # index into PcapngReader.interfaces (all sections)
    time_ns: int
    data: bytes
    length: int                 # on the wire
    comment: str = ""
    flags: int = 0


@dataclass(slots=True)
class Statistics:
    """Of an interface, in packets, until time_ns: what it had, what was lost before the capture read it, what the file has."""

    time_ns: int
    received: int | None = None
    dropped: int | None = None
    written: int | None = None

    def after(self, earlier: Statistics) -> Statistics:
        """Of this section and those before it."""
        both = {name: one if other is None else other if one is None else one + other
                for name in ("received", "dropped", "written") for one, other in [(getattr(self, name), getattr(earlier, name))]}
        return Statistics(max(self.time_ns, earlier.time_ns), **both)


@dataclass(slots=True)
class Interfaces:
    """Those of all sections, and of all files that are read as one capture: the n-th in a section with this description is one with
    the n-th of another, so that a ring has as many as one of its files."""

    every: list[Interface] = field(default_factory=list)
    statistics: dict[int, Statistics] = field(default_factory=dict)     # by interface: its last of each section, summed up
    _known: dict[tuple[int, str, int, int], list[int]] = field(default_factory=dict)

    def place(self, found: Interface, before: Counter[tuple[int, str, int, int]]) -> int:
        """Its number; -1 when there are too many. before: descriptions of the section so far."""
        key = (found.linktype, found.name, found.ticks_per_second, found.snaplen)
        alike, nth = self._known.setdefault(key, []), before[key]
        before[key] += 1
        if nth < len(alike):
            return alike[nth]
        if len(self.every) >= INTERFACES_MAX:
            return -1
        alike.append(len(self.every))
        self.every.append(found)
        return alike[-1]


class PcapngReader:
    """Iterate over it for the records; interfaces, statistics, secrets and problem fill while it reads."""

    def __init__(self, stream: BinaryIO, known: Interfaces | None = None, number: int = 0) -> None:
        """known, number: interfaces and packets of the files before this one."""
        self._stream = stream
        self._order = "<"
        self._number = number
        self._offset = 0
        self._known = known or Interfaces()
        self._alike: Counter[tuple[int, str, int, int]] = Counter()
        self._earlier: dict[int, tuple[int, Statistics | None]] = {}    # interface -> its last section, statistics before that
        self.section: list[int] = []            # its interfaces: what a block says -> what is told here
        self.sections = 0
        self.interfaces = self._known.every
        self.statistics = self._known.statistics
        self.secrets: list[bytes] = []          # key logs of Decryption Secrets Blocks
        self.problem = ""                       # why reading ended early; empty when it did not
        self.skipped = 0                        # packets of interfaces that no block describes

    def __iter__(self) -> Iterator[Record]:
        for kind, body in self._blocks(packets=True):
            if kind == EPB:
                record = self._read_packet(body)
                if record is not None:
                    yield record
            elif kind == SPB:
                record = self._read_simple(body)
                if record is not None:
                    yield record
            else:
                self._read_other(kind, body)

    def scan(self) -> None:
        """Interfaces and secrets only, seeking over the packets; the stream must be seekable."""
        for kind, body in self._blocks(packets=False):
            self._read_other(kind, body)

    # ---- for a reader that takes turns with this one over the same stream (lab/capture_scan.py)

    @property
    def little_endian(self) -> bool:
        """False also before the first section."""
        return self._order == "<" and self._offset > 0 and not self.problem

    @property
    def number(self) -> int:
        """Packets so far."""
        return self._number

    def advance(self, octets: int, number: int) -> None:
        self._offset += octets
        self._number = number

    def packet(self, body: bytes, number: int) -> Record | None:
        """The record of an Enhanced Packet Block that the other reader took: what is between its lengths."""
        record = self._read_packet(body)
        self._number -= 1
        if record is not None:
            record.number = number
        return record

    def others(self) -> Iterator[int]:
        """As scan(), one block at a time: its type."""
        for kind, body in self._blocks(packets=True):
            if kind in (EPB, SPB):
                self._number += 1
            else:
                self._read_other(kind, body)
            yield kind

    def _blocks(self, packets: bool) -> Iterator[tuple[int, bytes]]:
        while not self.problem:
            head = self._stream.read(8)
            if not head:
                if self._offset == 0:
                    self._bad("the file is empty")
                return
            if len(head) < 8:
                self._cut("in a block header")
                return
            if head[:4] == b"\x0a\x0d\x0d\x0a":
                magic = self._stream.read(4)
                if magic not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                    self._bad("a section header without its byte-order magic")
                    return
                self._order = "<" if magic[0] == 0x4D else ">"
                self.section, self._alike = [], Counter()
                self.sections += 1
                body_read = 4
            elif self._offset == 0:
                self._bad("not pcapng: no section header")
                return
            else:
                magic, body_read = b"", 0
            kind, length = struct.unpack(self._order + "II", head)
            if length < 12 or length % 4 or length > BLOCK_MAX:
                self._bad(f"block length {length}")
                return
            rest = length - 8 - body_read
            if not packets and kind in (EPB, SPB):
                self._stream.seek(rest, 1)
                self._offset += length
                continue
            body = self._stream.read(rest)
            if len(body) < rest:
                self._cut("inside a block")
                return
            if struct.unpack(self._order + "I", body[-4:])[0] != length:
                self._bad("the two lengths of a block differ")
                return
            self._offset += length
            yield kind, magic + body[:-4]

    def _cut(self, where: str) -> None:
        self.problem = f"the file ends {where} after octet {self._offset}"

    def _bad(self, what: str) -> None:
        self.problem = f"{what} at octet {self._offset}"

    def _options(self, body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
        while offset + 4 <= len(body):
            code, length = struct.unpack_from(self._order + "HH", body, offset)
            if code == 0:
                return
            yield code, body[offset + 4:offset + 4 + length]
            offset += 4 + (length + 3) // 4 * 4

    def _read_other(self, kind: int, body: bytes) -> None:
        if kind == IDB and len(body) >= 8 and len(self.section) < INTERFACES_MAX:
            linktype, _, snaplen = struct.unpack_from(self._order + "HHI", body)
            interface = Interface(linktype, snaplen=snaplen)
            for code, value in self._options(body, 8):
                if code == OPT_IF_NAME:
                    interface.name = value.decode("utf-8", "replace")
                elif code == OPT_TSRESOL and value:
                    exponent = value[0] & 0x7F
                    if exponent < 64:
                        interface.ticks_per_second = 2**exponent if value[0] & 0x80 else 10**exponent
            self.section.append(self._known.place(interface, self._alike))
        elif kind == ISB and len(body) >= 12:
            self._read_statistics(body)
        elif kind == DSB and len(body) >= 8:
            secrets_type, length = struct.unpack_from(self._order + "II", body)
            if sum(map(len, self.secrets)) + length > SECRETS_MAX:
                self._bad(f"more than {SECRETS_MAX >> 20} MiB of secrets")
            elif secrets_type == TLS_KEY_LOG:
                self.secrets.append(body[8:8 + length])

    def _read_statistics(self, body: bytes) -> None:
        index, high, low = struct.unpack_from(self._order + "III", body)
        index = self._interface(index)
        if index < 0:
            return
        found = Statistics((high << 32 | low) * NANOSECONDS // self.interfaces[index].ticks_per_second)
        for code, value in self._options(body, 12):
            if len(value) == 8:
                number = struct.unpack(self._order + "Q", value)[0]
                if code == OPT_ISB_IFRECV:
                    found.received = number
                elif code == OPT_ISB_IFDROP:
                    found.dropped = number
                elif code == OPT_ISB_USRDELIV:
                    found.written = number
        if self._earlier.get(index, (0, None))[0] != self.sections:
            self._earlier[index] = self.sections, self.statistics.get(index)
        earlier = self._earlier[index][1]
        self.statistics[index] = found if earlier is None else found.after(earlier)

    def _interface(self, index: int) -> int:
        """What a block of this section calls so; -1: nothing."""
        return self.section[index] if index < len(self.section) else -1

    def _read_packet(self, body: bytes) -> Record | None:
        self._number += 1
        if len(body) < 20:
            self.skipped += 1
            return None
        index, high, low, captured, length = struct.unpack_from(self._order + "IIIII", body)
        index = self._interface(index)
        if index < 0 or captured > len(body) - 20:
            self.skipped += 1
            return None
        ticks = high << 32 | low
        rate = self.interfaces[index].ticks_per_second
        time_ns = ticks if rate == NANOSECONDS else ticks * NANOSECONDS // rate
        record = Record(self._number, index, time_ns, body[20:20 + captured], length)
        offset = 20 + (captured + 3) // 4 * 4
        if offset < len(body):
            for code, value in self._options(body, offset):
                if code == OPT_COMMENT:
                    record.comment = value.decode("utf-8", "replace")
                elif code == OPT_EPB_FLAGS and len(value) == 4:
                    record.flags = struct.unpack(self._order + "I", value)[0]
        return record

    def _read_simple(self, body: bytes) -> Record | None:
        self._number += 1
        first = self._interface(0)
        if len(body) < 4 or first < 0:
            self.skipped += 1
            return None
        length = struct.unpack_from(self._order + "I", body)[0]
        snaplen = self.interfaces[first].snaplen or length
        return Record(self._number, first, 0, body[4:4 + min(length, snaplen)], length)


def block(kind: int, body: bytes) -> bytes:
    """Little-endian; body: a multiple of four octets."""
    length = 12 + len(body)
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


class PcapngWriter:
    """Little-endian, nanoseconds. Interfaces and secrets may be added at any time, before packets that need them."""

    def __init__(self, stream: BinaryIO, application: str = "mpquic-upf") -> None:
        self._stream = stream
        self._interfaces = 0
        self.packets = 0
        self._block(SHB, struct.pack("<IHHq", MAGIC, 1, 0, -1) + _option(OPT_USERAPPL, application.encode()) + bytes(4))

    def __enter__(self) -> PcapngWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stream.flush()

    def _block(self, kind: int, body: bytes) -> None:
        self._stream.write(block(kind, body))

    def interface(self, linktype: int, name: str, snaplen: int = 0) -> int:
        if not 0 <= linktype <= 0xFFFF:
            raise PcapngError(f"linktype {linktype} does not fit into 16 bits")
        options = _option(OPT_IF_NAME, name.encode()) + _option(OPT_TSRESOL, b"\x09") + bytes(4)
        self._block(IDB, struct.pack("<HHI", linktype, 0, snaplen) + options)
        self._interfaces += 1
        return self._interfaces - 1

    def secrets(self, keylog: bytes) -> None:
        self._block(DSB, struct.pack("<II", TLS_KEY_LOG, len(keylog)) + _padded(keylog))

    def statistics(self, interface: int, figures: Statistics) -> None:
        if interface >= self._interfaces:
            raise PcapngError(f"interface {interface} was not described")
        body = struct.pack("<III", interface, figures.time_ns >> 32, figures.time_ns & 0xFFFFFFFF)
        known = (OPT_ISB_IFRECV, figures.received), (OPT_ISB_IFDROP, figures.dropped), (OPT_ISB_USRDELIV, figures.written)
        for code, value in known:
            if value is not None:
                body += _option(code, struct.pack("<Q", value))
        self._block(ISB, body + bytes(4))

    def packet(self, interface: int, time_ns: int, data: bytes, comment: str = "", flags: int = 0,
               length: int | None = None) -> None:
        if interface >= self._interfaces:
            raise PcapngError(f"interface {interface} was not described")
        size = len(data)
        out = struct.pack("<IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, size,
                          size if length is None else length) + _padded(data)
        if comment or flags:
            if comment:
                out += _option(OPT_COMMENT, comment.encode()[:0xFFF0])
            if flags:
                out += _option(OPT_EPB_FLAGS, struct.pack("<I", flags))
            out += bytes(4)
        self._block(EPB, out)
        self.packets += 1


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)
