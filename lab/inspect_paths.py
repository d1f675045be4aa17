"""Per path and direction, for `mpq inspect --stats`: ACK delay, round trip, loss, retransmission, reordering."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lab.capture_scan import CaptureDecryptor
from lab.clear_scan import PlainRun
from lab.decrypt import ACK_BITS, STREAM_BITS, ClearPacket
from lab.inspect_run import RunRecord
from lab.inspect_stats import Counted
from lab.inspect_track import Space, Tracker, lost_by_space
from lab.packets.frames import Stream
from lab.pcapng import NANOSECONDS

STEP = 1.03                     # a figure of a distribution is right to 1.5 %
PER_STEP = 1 / math.log(STEP)
TOLD_BITS = ACK_BITS | STREAM_BITS
STREAMS_MAX = 4096
SUMMED = ("packets", "octets", "lost", "duplicates", "reordered", "fate_unknown")      # of a direction


class Distribution:
    """Milliseconds, in bounded memory."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.most = 0.0

    def add(self, ms: float) -> None:
        bucket = round(math.log(ms if ms > 0.001 else 0.001) * PER_STEP)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1
        if ms > self.most:
            self.most = ms

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


def access_of(interface: str) -> str:
    """Of a lab's capture the access: the last part of the interface's name."""
    return interface.rpartition("/")[2]


@dataclass(slots=True)
class PathFigures:
    ack_delay: dict[bool, Distribution] = field(default_factory=lambda: {True: Distribution(), False: Distribution()})
    round_trip: Distribution = field(default_factory=Distribution)
    stream_again: int = 0               # octets of STREAM frames that were sent before


class PathStats:
    """Fed with every ClearPacket in capture order, or with runs of them, which is many times faster."""

    def __init__(self, run: RunRecord, capture: CaptureDecryptor) -> None:
        self.tracker = Tracker(run)
        self.paths: dict[tuple[int, int], PathFigures] = {}     # by connection and path
        self._capture = capture
        self._connections = capture.decryptor.connections
        self._accesses: dict[int, str] = {}
        self._exponents: dict[tuple[int, bool], int] = {}
        self._streams: dict[tuple[int, bool, int], int] = {}    # highest offset seen

    def add(self, packet: ClearPacket) -> None:
        if packet.kind != "1rtt" or packet.number is None or packet.path is None or packet.connection is None:
            return
        tracker = self.tracker
        tracker.add(packet, self._access(packet.interface))
        bits = packet.frame_bits
        if bits and not bits & TOLD_BITS:
            return
        self._acknowledged(packet.connection, packet.time_ns)
        for path, _, delay in packet.acks:
            self._delayed(packet.connection, packet.up, path, delay)
        if not bits or bits & STREAM_BITS:
            for frame in packet.frames:
                if isinstance(frame, Stream):
                    self._stream(packet, frame)

    def add_run(self, run: PlainRun) -> None:
        """As add() of each of its packets."""
        tracker, section, rates = self.tracker, run.section, run.rates
        note, newly = tracker.note, tracker.newly
        spaces: dict[int, Space] = {}
        seen: dict[int, int] = {}               # space -> the interface of its last packet
        for row in run.rows:
            (ticks, number, bits, record, ack_path, largest, delay, span, interface, at, _, _, _, size, _, _, _, _, _, _, acks, _,
             ranges) = row
            rate = rates[section[interface]]
            time_ns = ticks if rate == NANOSECONDS else ticks * NANOSECONDS // rate
            space = spaces.get(at)
            if space is None:
                connection, up, path, _ = run.spaces[at]
                space = spaces[at] = tracker.space(connection.index, path, up)
            if seen.get(at) != interface:
                seen[at] = interface
                if (access := self._access(section[interface])) != space.access:
                    space.seen_on(access)
            if bits & TOLD_BITS:
                if acks > 1 or ranges or bits & STREAM_BITS:
                    self.add(run.packet(row))
                    continue
                if not space.up:
                    newly.clear()
                    tracker.acknowledge(space.connection, time_ns, ack_path, [(largest - span, largest)], delay)
                    self._acknowledged(space.connection, time_ns)
                self._delayed(space.connection, space.up, ack_path, delay)
            note(space, record, time_ns, number, size)

    def _access(self, interface: int) -> str:
        """The last part of the interface's name."""
        known = self._accesses.get(interface)
        if known is None:
            known = self._accesses[interface] = access_of(self._capture.interfaces[interface].name)
        return known

    def _acknowledged(self, connection: int, time_ns: int) -> None:
        """What the last packet acknowledged: a client's packets, by the server (Tracker.acknowledge)."""
        for sent, path, delay in self.tracker.newly:
            rtt = (time_ns - sent.time_ns - (delay << self._exponent(connection, False)) * 1000) / 1e6
            if rtt > 0:
                self._path(connection, path).round_trip.add(rtt)

    def _delayed(self, connection: int, up: bool, path: int, delay: int) -> None:
        self._path(connection, path).ack_delay[up].add((delay << self._exponent(connection, up)) / 1e3)

    def _path(self, connection: int, path: int) -> PathFigures:
        return self.paths.get((connection, path)) or self.paths.setdefault((connection, path), PathFigures())

    def _exponent(self, connection: int, up: bool) -> int:
        """Of the end that sends the acknowledgement."""
        known = self._exponents.get((connection, up))
        if known is None:
            known = self._exponents[connection, up] = self._connections[connection].ack_delay_exponent(up)
        return known

    def _stream(self, packet: ClearPacket, frame: Stream) -> None:
        assert packet.connection is not None and packet.path is not None
        key, end = (packet.connection, packet.up, frame.stream), frame.offset + len(frame.data)
        before = self._streams.get(key, 0)
        again = min(end, before) - frame.offset
        if again > 0:
            self._path(packet.connection, packet.path).stream_again += again
        if len(self._streams) < STREAMS_MAX or key in self._streams:
            self._streams[key] = max(before, end)

    def document(self, counted: Counted, generations: dict[str, int], start_ns: int) -> dict[str, Any]:
        """`connections`, each with its paths, and `accesses`, sums of both directions; call it once, at the end. counted: 1-RTT
        packets by connection and path, also of paths of which nothing was opened. generations: of the key, by client random."""
        self.tracker.finish()
        lost = lost_by_space(self.tracker.losses)
        known = sorted((key[0], key[1], counts) for key, counts in counted.items() if key[0] is not None)
        paths = {(connection, path): self._path_document(connection, path, counts, lost, start_ns)
                 for connection, path, counts in known}
        found: list[dict[str, Any]] = []
        for (number, _), path in paths.items():
            if not found or found[-1]["connection"] != number:
                random = self._connections[number].client_random.hex()
                found.append({"connection": number, "client_random": random or None, "generation": generations.get(random),
                              "original_dcid": self._connections[number].original_dcid.hex() or None, "paths": []})
            found[-1]["paths"].append(path)
        accesses: dict[str, dict[str, Any]] = {}
        for path in paths.values():
            for way in ("up", "down"):
                name = "/".join(path[way].pop("on")) or "unknown"
                if path[way]["packets"] or path[way]["lost"]:
                    _sum(accesses.setdefault(name, {"access": name, "up": _empty(), "down": _empty()})[way], path[way])
        return {"connections": found, "accesses": [accesses[name] for name in sorted(accesses)]}

    def _path_document(self, connection: int, path: int, counts: list[int], lost: dict[tuple[int, int, bool], int],
                       start_ns: int) -> dict[str, Any]:
        figures = self._path(connection, path)
        ways: dict[str, dict[str, Any]] = {}
        accesses: list[str] = []
        for up in (True, False):
            space = self.tracker.spaces.get((connection, path, up)) or Space(connection, path, up)
            on = [access for access in space.accesses if access]
            accesses += [access for access in on if access not in accesses]
            ways["up" if up else "down"] = {
                "packets": space.packets, "octets": space.octets, "lost": lost.get((connection, path, up), 0),
                "duplicates": space.duplicates, "reordered": space.reordered, "reordered_most": space.reordered_most,
                "fate_unknown": space.unknown, "from_s": _seconds(space.first_ns, start_ns),
                "to_s": _seconds(space.last_ns, start_ns), "on": on}
        return {"path": path, "packets": counts[0], "decrypted": counts[1], "access": accesses, **ways,
                "rtt_ms": figures.round_trip.document(), "ack_delay_ms": {
                    "ue": figures.ack_delay[True].document(), "upf": figures.ack_delay[False].document()},
                "stream_octets_again": figures.stream_again}


def _seconds(time_ns: int, start_ns: int) -> float | None:
    return round((time_ns - start_ns) / 1e9, 6) if time_ns else None


def _empty() -> dict[str, Any]:
    return dict.fromkeys(SUMMED, 0) | {"reordered_most": 0, "from_s": None, "to_s": None}


def _sum(into: dict[str, Any], way: dict[str, Any]) -> None:
    for name in SUMMED:
        into[name] += way[name]
    into["reordered_most"] = max(into["reordered_most"], way["reordered_most"])
    for name, one in (("from_s", min), ("to_s", max)):
        times = [t for t in (into[name], way[name]) if t is not None]
        into[name] = one(times) if times else None


# ---- as text

WHERE = f"{'conn':>4} {'key':>4} {'path':>4} {'access':<10} "
HEADING = WHERE + (f"{'dir':<4} {'from/s':>10} {'to/s':>10} {'packets':>9} {'octets':>12} {'lost':>7} {'lost/%':>6} {'twice':>6} "
                   f"{'late':>6} {'by':>5} {'not told':>8}")
TIMES_HEADING = (f"{'':>{len(WHERE)}}{'round trip/ms':>24}  {'ACK delay of the UE/ms':>24}  {'of the UPF/ms':>24}\n"
                 f"{WHERE}" + "  ".join([f"{'p50':>8}{'p99':>8}{'max':>8}"] * 3))


def path_lines(document: dict[str, Any]) -> list[str]:
    """A row for each direction of each path of each connection; with several connections, the sum of each access; then times."""
    ways, times = [HEADING], [TIMES_HEADING]
    for connection in document["connections"]:
        generation = connection["generation"]
        for path in connection["paths"]:
            where = (f"{connection['connection']:>4} {'-' if generation is None else generation:>4} {path['path']:>4} "
                     f"{'/'.join(path['access']) or 'unknown':<10} ")
            ways += [where + _way_text(way, path[way]) for way in ("up", "down")]
            measured = (path["rtt_ms"], path["ack_delay_ms"]["ue"], path["ack_delay_ms"]["upf"])
            again = f"  {path['stream_octets_again']} octets of streams sent again" if path["stream_octets_again"] else ""
            times.append(where + "  ".join(map(_times_text, measured)) + again)
    if len(document["connections"]) > 1:
        for one in document["accesses"]:
            ways += [f"{'all':>4} {'':>4} {'':>4} {one['access']:<10} " + _way_text(way, one[way]) for way in ("up", "down")]
    names = [f"conn {one['connection']}: client random {one['client_random'] or 'not captured'}, in the ends' qlogs "
             f"{one['original_dcid'] or 'not known'}" for one in document["connections"]]
    return ways + times + names


def _way_text(way: str, one: dict[str, Any]) -> str:
    sent = one["packets"] + (one["lost"] if way == "down" else 0)       # captured at the UE: up when they leave
    share = f"{100 * one['lost'] / sent:.2f}" if sent else "-"
    first, last = ("-" if t is None else f"{t:.3f}" for t in (one["from_s"], one["to_s"]))
    return (f"{way:<4} {first:>10} {last:>10} {one['packets']:>9} {one['octets']:>12} {one['lost']:>7} {share:>6} "
            f"{one['duplicates']:>6} {one['reordered']:>6} {one['reordered_most']:>5} {one['fate_unknown']:>8}")


def _times_text(figures: dict[str, float] | None) -> str:
    if figures is None:
        return f"{'-':>8}" * 3
    return "".join(f"{figures[name]:>8.1f}" for name in ("p50", "p99", "max"))
