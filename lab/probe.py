"""A UDP probe with sequence numbers: `python -m lab.probe`. A gap is the longest silence at its receiver.

    send     --to ADDRESS:PORT --flows N --interval-ms 2 --duration S     N flows from N source ports
    receive  --listen ADDRESS:PORT --duration S    prints one JSON document: per flow what came, and every silence >= 20 ms
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

FORMAT = struct.Struct("!4sHQ")  # magic, flow, sequence number
MAGIC = b"MPQ1"
REPORTED_GAP_S = 0.020
MAX_FLOWS = 64


@dataclass(slots=True)
class Flow:
    received: int = 0
    highest: int = -1
    reordered: int = 0
    duplicates: int = 0
    last: float = 0.0
    first: float = 0.0
    seen: set[int] = field(default_factory=set)
    gaps: list[tuple[float, float]] = field(default_factory=list)

    def arrived(self, sequence: int, now: float) -> None:
        if sequence in self.seen:
            self.duplicates += 1
            return
        self.seen.add(sequence)
        if self.received == 0:
            self.first = now
        elif now - self.last >= REPORTED_GAP_S:
            self.gaps.append((self.last, now))
        self.received += 1
        self.last = now
        if sequence < self.highest:
            self.reordered += 1
        self.highest = max(self.highest, sequence)

    def ended(self, now: float) -> None:
        """A flow that never came back is silent to the end."""
        if self.received and now - self.last >= REPORTED_GAP_S:
            self.gaps.append((self.last, now))

    def document(self) -> dict[str, object]:
        return {
            "received": self.received,
            "lost": self.highest + 1 - self.received,
            "reordered": self.reordered,
            "duplicates": self.duplicates,
            "gaps": [[a, b] for a, b in self.gaps],
        }


def receive(listen: tuple[str, int], duration: float) -> dict[str, object]:
    flows: dict[int, Flow] = {}
    malformed = 0
    with socket.socket(socket.AF_INET6 if ":" in listen[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.bind(listen)
        sock.setblocking(False)
        print(json.dumps({"ready": True}), flush=True)
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
                now = time.monotonic()
                if len(data) < FORMAT.size:
                    malformed += 1
                    continue
                magic, number, sequence = FORMAT.unpack_from(data)
                if magic != MAGIC or number >= MAX_FLOWS:
                    malformed += 1
                    continue
                flows.setdefault(number, Flow()).arrived(sequence, now)
    sending_ended = max((f.last for f in flows.values()), default=0.0)
    for flow in flows.values():
        flow.ended(sending_ended)
    return {"flows": {str(n): f.document() for n, f in sorted(flows.items())}, "malformed": malformed}


def send(to: tuple[str, int], flows: int, interval_s: float, duration: float, octets: int) -> dict[str, object]:
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(flows)]
    padding = bytes(max(0, octets - FORMAT.size))
    failed = 0
    start = time.monotonic()
    sequence = 0
    while (due := start + sequence * interval_s) < start + duration:
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        for number, sock in enumerate(sockets):
            try:
                sock.sendto(FORMAT.pack(MAGIC, number, sequence) + padding, to)
            except OSError:
                failed += 1
        sequence += 1
    for sock in sockets:
        sock.close()
    return {"sent": sequence, "failed": failed}


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
