"""Figures of a capture in clear: `mpq inspect --stats` and the lab's check `capture.decrypted`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.capture_files import KEYLOG_NAME, CaptureFiles, InspectError, find_capture, one_file
from lab.capture_scan import CaptureDecryptor, load_keylog
from lab.clear_scan import PlainRun
from lab.decrypt import ClearPacket
from lab.decrypt_connection import ConnectionSummary
from lab.decrypt_keys import KeyLog

KEYLOG_MAX = 64 << 20


def find_keylog(files: CaptureFiles, keys: str | None) -> KeyLog:
    """Secrets inside the capture; and the file named by --keys, or else the key log beside it."""
    if keys is not None:
        path: Path | None = Path(keys)
        if not Path(keys).is_file():
            raise InspectError(f"{keys}: there is no such key log")
    else:
        beside = files.first.with_name(KEYLOG_NAME)
        path = beside if beside.is_file() else None
    if path is not None and path.stat().st_size > KEYLOG_MAX:
        raise InspectError(f"{path}: larger than {KEYLOG_MAX >> 20} MiB: no key log of a run is")
    return load_keylog(files, path)


Counted = dict[tuple[int | None, int], list[int]]       # by connection and path: 1-RTT packets, those of them that were opened


@dataclass(slots=True)
class Stats:
    """1-RTT packets: every one of all paths must be decrypted. Stateless resets are no packets (RFC 9000 §10.3)."""

    packets: int = 0
    decrypted: int = 0
    inner_packets: int = 0
    per_path: Counted = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    handshake_closed: int = 0           # Initial and Handshake packets that stayed closed

    def add(self, packet: ClearPacket) -> None:
        if packet.kind not in ("1rtt", "unreadable"):
            self.handshake_closed += bool(packet.reason) and packet.kind in ("initial", "handshake")
            return
        clear = packet.number is not None and not packet.reason
        self.packets += 1
        if packet.path is not None:
            key = packet.connection, packet.path
            counts = self.per_path.get(key) or self.per_path.setdefault(key, [0, 0])
            counts[0] += 1
            counts[1] += clear
        if clear:
            self.decrypted += 1
            self.inner_packets += packet.inner_count
        else:
            self.reasons[packet.reason] += 1

    def add_run(self, run: PlainRun) -> None:
        for connection, path, packets, inner in run.carried:
            self.packets += packets
            self.decrypted += packets
            self.inner_packets += inner
            counts = self.per_path.setdefault((connection, path), [0, 0])
            counts[0] += packets
            counts[1] += packets

    def read(self, capture: CaptureDecryptor) -> None:
        """All of it."""
        for chunk in capture.chunks():
            if isinstance(chunk, PlainRun):
                self.add_run(chunk)
            else:
                for packet in chunk:
                    self.add(packet)

    def merge(self, other: Stats) -> None:
        """Of another capture: its connections have numbers of their own."""
        self.packets += other.packets
        self.decrypted += other.decrypted
        self.inner_packets += other.inner_packets
        self.handshake_closed += other.handshake_closed
        self.reasons.update(other.reasons)
        for (_, path), counts in other.per_path.items():
            mine = self.per_path.setdefault((None, path), [0, 0])
            for i, count in enumerate(counts):
                mine[i] += count

    def document(self, problem: str = "") -> dict[str, Any]:
        """The document of `mpq inspect --stats --json`; a capture that ends early is named there with count 0."""
        closed = [{"reason": reason, "count": count} for reason, count in self.reasons.most_common()]
        if problem:
            closed.append({"reason": f"capture: {problem}", "count": 0})
        paths: dict[int, list[int]] = {}
        for (_, path), counts in self.per_path.items():
            paths[path] = [one + more for one, more in zip(paths.get(path, (0, 0)), counts, strict=True)]
        return {
            "packets": self.packets,
            "decrypted": self.decrypted,
            "paths": {str(path): {"packets": counts[0], "decrypted": counts[1]}
                      for path, counts in sorted(paths.items())},
            "inner_packets": self.inner_packets,
            "not_decrypted": closed,
        }


def _read(files: CaptureFiles, keylog: KeyLog) -> tuple[Stats, CaptureDecryptor]:
    stats = Stats()
    capture = CaptureDecryptor(files, keylog, lean=True)
    stats.read(capture)
    return stats, capture


def inspect_stats(path: str | Path, keys: str | None = None) -> dict[str, Any]:
    """The --stats document of a run directory or capture."""
    files = find_capture(str(path))
    stats, capture = _read(files, find_keylog(files, keys))
    return stats.document(capture.problem)


def verify_capture(path: str | Path, keys: str | None = None) -> dict[str, Any]:
    """The lab's check: is every 1-RTT packet of every path in clear, and which connections carried what.

    `ok` is False also for an empty or truncated capture. `client_randoms` counts the connections that carried DATAGRAM
    frames: one per generation of the key."""
    files = find_capture(str(path))
    stats, capture = _read(files, find_keylog(files, keys))
    return _verdict(stats, capture.decryptor.summaries, capture.problem, capture.decryptor.keylog.conflicts)


def _verdict(stats: Stats, summaries: list[ConnectionSummary], problem: str, conflicts: int) -> dict[str, Any]:
    result = stats.document(problem)
    result["ok"] = stats.packets > 0 and stats.decrypted == stats.packets and not problem
    result["client_randoms"] = len({s.client_random for s in summaries if s.datagrams})
    result["connections"] = [
        {"client_random": s.client_random,
         "packets": {str(k): v for k, v in sorted(s.packets.items())},
         "datagrams": {str(k): v for k, v in sorted(s.datagrams.items())}}
        for s in summaries if s.packets]
    result["problem"] = problem
    result["keylog_conflicts"] = conflicts
    return result


def verify_ring(files: list[Path]) -> dict[str, Any]:
    """As verify_capture, of files that each open by themselves: with the secrets that are in them and no others."""
    if not files:
        raise InspectError("the ring has no files")
    stats, conflicts = Stats(), 0
    problems: list[str] = []
    connections: dict[str, ConnectionSummary] = {}
    for file in files:
        log = load_keylog(file)
        one, capture = _read(one_file(file), log)
        stats.merge(one)
        conflicts += log.conflicts
        if capture.problem:
            problems.append(f"{file.name}: {capture.problem}")
        for summary in capture.decryptor.summaries:
            if summary.packets:
                merged = connections.setdefault(summary.client_random, ConnectionSummary(-1, summary.client_random, ""))
                for of, to in ((summary.packets, merged.packets), (summary.datagrams, merged.datagrams)):
                    for path, count in of.items():
                        to[path] = to.get(path, 0) + count
    return _verdict(stats, list(connections.values()), "; ".join(problems), conflicts)
