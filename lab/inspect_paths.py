"""Per path and direction, for `mpq inspect --stats`: ACK delay, round trip, loss, retransmission, reordering."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lab.decrypt import ACK_BITS, ClearPacket
from lab.decrypt_connection import Connection
from lab.inspect_run import RunRecord
from lab.inspect_track import Tracker, lost_by_space
from lab.packets.errors import PacketError
from lab.packets.frames import Stream
from lab.packets.varint import read_varint

STEP = 1.03                     # a figure of a distribution is right to 1.5 %
STREAM_BITS = sum(1 << kind for kind in range(0x08, 0x10))
TOLD_BITS = ACK_BITS | STREAM_BITS
ACK_DELAY_EXPONENT = 0x0A       # transport parameter (RFC 9000 §18.2); 3 where it is not sent
STREAMS_MAX = 4096


class Distribution:
    """Milliseconds, in bounded memory."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.most = 0.0

    def add(self, ms: float) -> None:
        self._buckets[round(math.log(max(ms, 0.001), STEP))] += 1
        self.count += 1
        self.most = max(self.most, ms)

    def quantile(self, share: float) -> float:
        left = math.ceil(share * self.count)
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return min(STEP ** bucket, self.most)
        return self.most

    def document(self) -> dict[str, float] | None:
        if not self.count:
            return None
        return {"p50": round(self.quantile(0.5), 3), "p99": round(self.quantile(0.99), 3), "max": round(self.most, 3)}


@dataclass(slots=True)
class PathFigures:
    ack_delay: dict[bool, Distribution] = field(default_factory=lambda: {True: Distribution(), False: Distribution()})
    round_trip: Distribution = field(default_factory=Distribution)
    stream_again: int = 0               # octets of STREAM frames that were sent before


class PathStats:
    """Fed with every ClearPacket in capture order."""

    def __init__(self, run: RunRecord, connections: list[Connection]) -> None:
        self.tracker = Tracker(run)
        self.paths: dict[int, PathFigures] = {}
        self._connections = connections
        self._exponents: dict[tuple[int, bool], int] = {}
        self._streams: dict[tuple[int, bool, int], int] = {}    # highest offset seen

    def add(self, packet: ClearPacket, access: str) -> None:
        if packet.kind != "1rtt" or packet.number is None or packet.path is None or packet.connection is None:
            return
        self.tracker.add(packet, access)
        bits = packet.frame_bits
        if bits and not bits & TOLD_BITS:
            return
        for sent, path, delay in self.tracker.newly:
            held_ns = (delay << self._exponent(packet.connection, packet.up)) * 1000
            rtt = (packet.time_ns - sent.time_ns - held_ns) / 1e6
            if rtt > 0:
                self._path(path).round_trip.add(rtt)
        for path, _, delay in packet.acks:
            self._path(path).ack_delay[packet.up].add((delay << self._exponent(packet.connection, packet.up)) / 1e3)
        if not bits or bits & STREAM_BITS:
            for frame in packet.frames:
                if isinstance(frame, Stream):
                    self._stream(packet, frame)

    def _path(self, path: int) -> PathFigures:
        return self.paths.get(path) or self.paths.setdefault(path, PathFigures())

    def _exponent(self, connection: int, up: bool) -> int:
        """Of the end that sends the acknowledgement."""
        known = self._exponents.get((connection, up))
        if known is None:
            raw = self._connections[connection].parameters.get(up, {}).get(ACK_DELAY_EXPONENT, b"\x03")
            try:
                known = min(read_varint(raw, 0)[0], 20)
            except PacketError:
                known = 3
            self._exponents[connection, up] = known
        return known

    def _stream(self, packet: ClearPacket, frame: Stream) -> None:
        assert packet.connection is not None and packet.path is not None
        key, end = (packet.connection, packet.up, frame.stream), frame.offset + len(frame.data)
        before = self._streams.get(key, 0)
        again = min(end, before) - frame.offset
        if again > 0:
            self._path(packet.path).stream_again += again
        if len(self._streams) < STREAMS_MAX or key in self._streams:
            self._streams[key] = max(before, end)

    def documents(self) -> dict[int, dict[str, Any]]:
        """Per path, over all connections; call it once, at the end."""
        self.tracker.finish()
        lost = lost_by_space(self.tracker.losses)
        out: dict[int, dict[str, Any]] = {}
        for (_, path, up), space in sorted(self.tracker.spaces.items()):
            figures = self._path(path)
            entry = out.setdefault(path, {
                "access": [], "up": _empty(), "down": _empty(), "rtt_ms": figures.round_trip.document(),
                "ack_delay_ms": {"ue": figures.ack_delay[True].document(), "upf": figures.ack_delay[False].document()},
                "stream_octets_again": figures.stream_again})
            if space.access and space.access not in entry["access"]:
                entry["access"].append(space.access)
            way = entry["up" if up else "down"]
            way["packets"] += space.packets
            way["octets"] += space.octets
            way["lost"] += lost.get((space.connection, path, up), 0)
            way["duplicates"] += space.duplicates
            way["reordered"] += space.reordered
            way["reordered_most"] = max(way["reordered_most"], space.reordered_most)
            way["fate_unknown"] += space.unknown
        return out


def _empty() -> dict[str, int]:
    return dict.fromkeys(("packets", "octets", "lost", "duplicates", "reordered", "reordered_most", "fate_unknown"), 0)


def path_lines(entry: dict[str, Any]) -> list[str]:
    def words(figures: dict[str, float] | None) -> str:
        return "-" if figures is None else f"p50 {figures['p50']:.1f}, p99 {figures['p99']:.1f}, max {figures['max']:.1f} ms"

    lines = [f"    {'/'.join(entry['access']) or 'access unknown'}; round trip {words(entry['rtt_ms'])}",
             f"    ACK delay at the UE {words(entry['ack_delay_ms']['ue'])}; at the UPF {words(entry['ack_delay_ms']['upf'])}"]
    for way in ("up", "down"):
        one = entry[way]
        lines.append(f"    {way:<4} {one['packets']} packets, {one['octets']} octets, {one['lost']} lost, "
                     f"{one['duplicates']} twice, {one['reordered']} out of order (by {one['reordered_most']} at most)"
                     + (f", fate of {one['fate_unknown']} not told" if one["fate_unknown"] else ""))
    if entry["stream_octets_again"]:
        lines.append(f"    {entry['stream_octets_again']} octets of streams were sent again")
    return lines
