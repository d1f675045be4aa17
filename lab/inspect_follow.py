"""`mpq inspect --follow FLOW`: one inner flow over all paths. Which packet took which path, when, in which order, what of it
was lost, late, or there twice."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.decrypt import ClearPacket
from lab.errors import Misuse
from lab.inspect_expression import Match, compile_expression
from lab.inspect_fates import Fate
from lab.inspect_qlog import fate_document
from lab.inspect_track import Sent
from lab.packets.errors import PacketError
from lab.packets.link import TCP, Flow, address_text, ip_words, read_ip

NAMED = re.compile(r"(tcp|udp) +(\S+):([0-9]{1,5}) +(\S+):([0-9]{1,5})")
PENDING_MAX = 65536             # lines held back until their packet's fate is known
SEEN_MAX = 65536                # inner packets that are remembered, to see one twice
FLOWS_MAX = 4096
MODULUS = 1 << 32               # of TCP's sequence numbers

Ends = tuple[int, bytes, int, bytes, int]


def ends_of(flow: Flow) -> Ends:
    """The same for both directions."""
    one, two = (flow.source, flow.source_port), (flow.destination, flow.destination_port)
    low, high = (one, two) if one <= two else (two, one)
    return (flow.protocol, *low, *high)


def ends_words(ends: Ends) -> str:
    """As --follow takes it."""
    protocol, one, one_port, two, two_port = ends
    return f"{'tcp' if protocol == TCP else 'udp'} {address_text(one)}:{one_port} {address_text(two)}:{two_port}"


def flow_filter(text: str) -> Match:
    """`tcp A:PORT B:PORT`, or an expression as of --inner."""
    named = NAMED.fullmatch(text.strip())
    if named is None:
        return compile_expression(text)
    protocol, one, one_port, two, two_port = (part.strip("[]") for part in named.groups())
    there = f"src host {one} and {protocol} src port {one_port} and dst host {two} and {protocol} dst port {two_port}"
    back = f"src host {two} and {protocol} src port {two_port} and dst host {one} and {protocol} dst port {one_port}"
    return compile_expression(f"({there}) or ({back})")


@dataclass(slots=True)
class Line:
    """One inner packet of the flow, as it was seen at the UE's end."""

    time_ns: int
    up: bool
    path: int
    access: str
    connection: int
    number: int
    record: int
    words: str
    order: str                  # "", or what is remarkable of its place in the flow
    sent: Sent | None           # of an uplink packet: its fate comes later
    end: Fate | None = None     # what the ends' qlogs say of its packet, if they are there

    def fate(self) -> str:
        if self.end is not None and self.end.received is not None and self.end.sent is not None:
            far = f"{'arrived at the UPF' if self.up else 'arrived'} after {(self.end.received - self.end.sent) / 1e6:.1f} ms"
            return far + (f", acknowledged after {self._acknowledged:.1f} ms" if self._acknowledged is not None else "")
        if not self.up:
            return "arrived"
        if self.sent is None:
            return "the packet twice"
        if self._acknowledged is not None:
            return f"acknowledged after {self._acknowledged:.1f} ms"
        return "lost" if self.lost else "not told by what was captured"

    @property
    def lost(self) -> bool:
        """Its packet, on the way up: by the ends' qlogs, or as far as the capture tells."""
        if self.sent is None:
            return False
        by_logs = self.end is not None and self.end.sent is not None and self.end.received is None
        return by_logs or self.sent.lost is not None

    @property
    def _acknowledged(self) -> float | None:
        """Milliseconds, as the capture shows it."""
        at = self.sent.acknowledged_ns if self.sent is not None else None
        return None if at is None else (at - self.time_ns) / 1e6


@dataclass(slots=True)
class _Direction:
    next: int | None = None                     # TCP: sequence number behind what has been seen
    holes: list[tuple[int, int]] = field(default_factory=list)
    last: tuple[int, int, str] | None = None    # connection, path and access of the last packet


class Follower:
    """Feed it the packets that match; lines() gives those whose fate is known, in order."""

    def __init__(self, test: Match) -> None:
        self.test = test
        self.flows: Counter[Ends] = Counter()
        self.per_path: Counter[tuple[str, int, int, str]] = Counter()   # direction, connection, path, access
        self.remarks: Counter[str] = Counter()
        self.switches = 0
        self._pending: deque[Line] = deque()
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self._ways: dict[bool, _Direction] = {True: _Direction(), False: _Direction()}

    def matching(self, packet: ClearPacket) -> list[bytes]:
        """Inner packets of the flow."""
        if packet.path is None or packet.number is None or packet.connection is None:
            return []
        return [inner for inner in packet.inner_packets() if self.test(inner)]

    def add(self, packet: ClearPacket, inners: list[bytes], access: str, sent: Sent | None, end: Fate | None = None) -> None:
        """inners: as `matching` gave them."""
        assert packet.path is not None and packet.number is not None and packet.connection is not None
        for inner in inners:
            try:
                flow = read_ip(inner, 0)
            except PacketError:
                flow = None
            if flow is not None and (len(self.flows) < FLOWS_MAX or ends_of(flow) in self.flows):
                self.flows[ends_of(flow)] += 1
            self._place(packet.connection, packet.path, packet.up, access)
            order = self._order(packet, inner, flow)
            if order:
                self.remarks[f"{'up' if packet.up else 'down'}: {order.split(',')[0]}"] += 1
            self.per_path["up" if packet.up else "down", packet.connection, packet.path, access] += 1
            self._pending.append(Line(packet.time_ns, packet.up, packet.path, access, packet.connection, packet.number,
                                      packet.record, ip_words(inner), order, sent, end))

    def _place(self, connection: int, path: int, up: bool, access: str) -> None:
        """Path ids are a connection's own: from one connection to the next, only another access is another way."""
        way = self._ways[up]
        if way.last is not None and (access != way.last[2] or (connection == way.last[0] and path != way.last[1])):
            self.switches += 1
        way.last = connection, path, access

    def _order(self, packet: ClearPacket, inner: bytes, flow: Flow | None) -> str:
        way = self._ways[packet.up]
        mark = hashlib.blake2b(inner, digest_size=12).digest()
        before = self._seen.get(mark)
        self._seen[mark] = packet.record
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        # the same octets twice: a copy, unless the protocol has nothing that would tell two packets apart
        if before is not None and (len(inner) > 28 + 12 or inner[4:6] != b"\0\0"):
            return f"duplicate, of No. {before}"
        if flow is None or flow.protocol != TCP or not flow.payload:
            return ""
        start, size = flow.sequence, len(flow.payload)
        if way.next is None:
            way.next = (start + size) % MODULUS
            return ""
        ahead = (start - way.next) % MODULUS
        if ahead == 0:
            way.next = (start + size) % MODULUS
            return ""
        if ahead < MODULUS // 2:
            way.holes = [*way.holes[-255:], (way.next, start)]
            way.next = (start + size) % MODULUS
            return f"ahead of its turn, {ahead} octets before it are missing"
        for index, (low, high) in enumerate(way.holes):
            if (start - low) % MODULUS < (high - low) % MODULUS:
                rest = [(low, start)] if start != low else []
                end = (start + size) % MODULUS
                if (end - low) % MODULUS < (high - low) % MODULUS:
                    rest.append((end, high))
                way.holes[index:index + 1] = rest
                return "late, it fills a hole"
        if (start + size - way.next) % MODULUS < MODULUS // 2:
            way.next = (start + size) % MODULUS
        return "sent again by TCP"

    def lines(self, all_of_them: bool = False) -> Iterator[Line]:
        pending = self._pending
        while pending and (all_of_them or pending[0].sent is None or pending[0].sent.settled or len(pending) > PENDING_MAX):
            yield pending.popleft()

    def one_flow(self) -> None:
        """Misuse when the filter took in several: they are named, so that one can be chosen."""
        if len(self.flows) > 1:
            known = "".join(f"\n  {ends_words(ends)}   ({count} packets)" for ends, count in self.flows.most_common(20))
            raise Misuse(f"--follow: {len(self.flows)} flows are of this filter; name one:{known}")


def follow_heading(several: bool) -> str:
    """several: connections, so that it is said which."""
    return (f"{'No.':>7} {'time/s':>11} {'dir':<4} {'conn ' if several else ''}{'path':>4} {'access':<8} {'pn':>8}  "
            "packet, its place in the flow, its fate")


def line_text(line: Line, start_ns: int, several: bool) -> str:
    order = f" [{line.order}]" if line.order else ""
    whose = f"{line.connection:>4} " if several else ""
    return (f"{line.record:>7} {(line.time_ns - start_ns) / 1e9:>11.6f} {'up' if line.up else 'down':<4} {whose}{line.path:>4} "
            f"{line.access:<8} {line.number:>8}  {line.words}{order}  {line.fate()}")


def line_document(line: Line, start_ns: int) -> dict[str, Any]:
    acknowledged = line.sent.acknowledged_ns if line.sent is not None else None
    return {"record": line.record, "t": round((line.time_ns - start_ns) / 1e9, 9), "direction": "up" if line.up else "down",
            "connection": line.connection, "path": line.path, "access": line.access, "pn": line.number, "inner": line.words,
            "order": line.order or None, "fate": line.fate(),
            "ends": fate_document(line.end, start_ns),
            "acknowledged_ms": None if acknowledged is None else round((acknowledged - line.time_ns) / 1e6, 3)}


def follow_summary(follower: Follower, lost: dict[str, int]) -> dict[str, Any]:
    return {"flow": ends_words(next(iter(follower.flows))) if follower.flows else None,
            "per_path": [{"direction": way, "connection": connection, "path": path, "access": access, "packets": count}
                         for (way, connection, path, access), count in sorted(follower.per_path.items())],
            "path_switches": follower.switches, "order": dict(follower.remarks.most_common()), "lost": lost}
