"""A UDP probe with sequence numbers: `python -m lab.probe`. A gap is the longest silence at its receiver.

    send     --to ADDRESS:PORT --flows N --interval-ms 2 --duration S     N flows from N source ports; a line when it begins
    receive  --listen ADDRESS:PORT --duration S    prints one JSON document: per flow what came, and every silence >= 20 ms

Every packet says how many flows there are, how many packets each will have, when the sender ends and when this one was due
(CLOCK_MONOTONIC is the same in every namespace): a flow that died, or never came, is seen as that and not as one that ended
well, and a delay counts from when the packet should have left, so that a sender that is late does not hide it.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass, field

from lab.numbers import percentile

FORMAT = struct.Struct("!4sHHQQdd")  # magic, flow, flows, sequence number, packets per flow, end of sending, when due
MAGIC = b"MPQ3"
REPORTED_GAP_S = 0.020
MAX_FLOWS = 64
MAX_PACKETS = 1 << 26
LONGEST_S = 100_000.0
DELAYS_NAME = "delays.jsonl"
"""Of a run: one object for each turn of a phase with a probe, and direction: `phase`, `turn`, `direction`, `count` of packets, and
`ms`, pairs of (share of the packets, delay in ms that so many kept to), rising."""
SHARES = (0.0, 0.001, 0.005, *(p / 100 for p in range(1, 100)), 0.995, 0.999, 0.9999, 1.0)
MOST_DELAYS = 1 << 22  # that are kept; later ones are not in the percentiles


@dataclass(slots=True)
class Flow:
    received: int = 0
    highest: int = -1
    reordered: int = 0
    depth: int = 0  # how many numbers behind the highest one a packet came, at most
    duplicates: int = 0
    last: float = 0.0
    seen: set[int] = field(default_factory=set)
    gaps: list[tuple[float, float]] = field(default_factory=list)

    def arrived(self, sequence: int, now: float) -> None:
        if sequence in self.seen:
            self.duplicates += 1
            return
        self.seen.add(sequence)
        if self.received and now - self.last >= REPORTED_GAP_S:
            self.gaps.append((self.last, now))
        self.received += 1
        self.last = now
        if sequence < self.highest:
            self.reordered += 1
            self.depth = max(self.depth, self.highest - sequence)
        self.highest = max(self.highest, sequence)

    def ended(self, end: float) -> None:
        """A flow that never came back is silent until its sender ended."""
        if self.received and end - self.last >= REPORTED_GAP_S:
            self.gaps.append((self.last, end))

    def document(self, total: int) -> dict[str, object]:
        return {
            "received": self.received,
            "lost": total - self.received,
            "reordered": self.reordered,
            "depth": self.depth,
            "duplicates": self.duplicates,
            "gaps": [[a, b] for a, b in self.gaps],
        }


def percentiles(ordered: list[float]) -> dict[str, float] | None:
    """Of delays in seconds, sorted; in ms, by nearest rank; None of none."""
    if not ordered:
        return None
    found = {f"p{p}": percentile(ordered, p) for p in (50, 95, 99)} | {"max": ordered[-1]}
    return {name: round(value * 1000, 3) for name, value in found.items()}


def distribution(ordered: list[float]) -> list[tuple[float, float]]:
    """Of delays in seconds, sorted: (share of them, ms that so many are no longer than), at SHARES; empty of none."""
    if not ordered:
        return []
    last = len(ordered) - 1
    return [(share, round(ordered[min(last, int(len(ordered) * share))] * 1000, 3)) for share in SHARES]


@dataclass(slots=True)
class Tally:
    """What one receiver knows. Nothing came at all: one flow that received nothing."""

    flows: dict[int, Flow] = field(default_factory=dict)
    malformed: int = 0
    expected: int = 1
    total: int = 0
    end: float = 0.0
    delays: list[float] = field(default_factory=list)  # s, of all flows

    def packet(self, data: bytes, now: float) -> None:
        if len(data) < FORMAT.size:
            self.malformed += 1
            return
        magic, number, flows, sequence, total, end, due = FORMAT.unpack_from(data)
        in_range = number < flows <= MAX_FLOWS and sequence < total <= MAX_PACKETS
        in_range = in_range and 0 <= end < now + LONGEST_S and 0 <= due < now + LONGEST_S
        if magic != MAGIC or not in_range:
            self.malformed += 1
            return
        self.expected, self.total, self.end = flows, total, end
        flow = self.flows.setdefault(number, Flow())
        if sequence not in flow.seen and len(self.delays) < MOST_DELAYS:
            self.delays.append(max(0.0, now - due))
        flow.arrived(sequence, now)

    def document(self) -> dict[str, object]:
        for flow in self.flows.values():
            flow.ended(self.end)
        numbers, delays = sorted({*range(self.expected), *self.flows}), sorted(self.delays)
        return {
            "flows": {str(n): self.flows.get(n, Flow()).document(self.total) for n in numbers},
            "malformed": self.malformed,
            "delay_ms": percentiles(delays),
            "delays": {"count": len(delays), "ms": distribution(delays)},
        }


def receive(listen: tuple[str, int], duration: float) -> dict[str, object]:
    tally = Tally()
    with socket.socket(socket.AF_INET6 if ":" in listen[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(listen)
        sock.setblocking(False)
        print(json.dumps({"ready": True, "port": sock.getsockname()[1]}), flush=True)
        end = time.monotonic() + duration
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0:
                if not selector.select(left):
                    continue
                try:
                    data = sock.recv(2048)
                except BlockingIOError:
                    continue
                tally.packet(data, time.monotonic())
    return tally.document()


def send(to: tuple[str, int], flows: int, interval_s: float, duration: float, octets: int) -> dict[str, object]:
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(flows)]
    padding = bytes(max(0, octets - FORMAT.size))
    failed = 0
    print(json.dumps({"sending": True}), flush=True)
    start, total = time.monotonic(), max(1, round(duration / interval_s))
    end = start + total * interval_s
    for sequence in range(total):
        due = start + sequence * interval_s
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        for number, sock in enumerate(sockets):
            try:
                sock.sendto(FORMAT.pack(MAGIC, number, flows, sequence, total, end, due) + padding, to)
            except OSError:
                failed += 1
    for sock in sockets:
        sock.close()
    return {"sent": total, "failed": failed}


def endpoint(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.probe", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=["send", "receive"])
    parser.add_argument("--to", type=endpoint)
    parser.add_argument("--listen", type=endpoint)
    parser.add_argument("--flows", type=int, default=1, choices=range(1, MAX_FLOWS + 1), metavar="N")
    parser.add_argument("--interval-ms", type=float, default=2.0)
    parser.add_argument("--duration", type=float, required=True)
    parser.add_argument("--octets", type=int, default=64)
    arguments = parser.parse_args(argv)
    if arguments.role == "receive":
        result = receive(arguments.listen, arguments.duration)
    else:
        result = send(arguments.to, arguments.flows, arguments.interval_ms / 1000, arguments.duration, arguments.octets)
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
