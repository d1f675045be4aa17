"""How true the lab's wire is: its rate, its delay at 10,000 packets a second, and the CPU time that it takes from the rest."""

from __future__ import annotations

import os
import socket
import statistics
import struct
import threading
import time
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.pair import CLIENT, OUTER, SERVER, BenchError
from lab.bench.shaped import ShapedLine
from lab.shape import Shape

RATE_MBPS = 100.0
DELAY_MS = 10.0
PACKETS_PER_SECOND = 10_000
PORT = 5001
OCTETS = 1200
FRAME = OCTETS + 8 + 20 + 14  # what the wire's rate counts
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
STAMP = struct.Struct("!Q")
BUFFER = 32 << 20
LAST = 1.0  # seconds after the last packet


def measure_wire(runs: int, seconds: float) -> list[Figure]:
    """`wire.rate.error`: of the goodput of a full line, in % of what it should be. `wire.delay.error`, `.p99`: by how much packets
    come later than their delay says, at 10,000 a second. `wire.cpu`: of the wire's thread for each of them."""
    rate, cpu = Figure("wire.rate.error", "%"), Figure("wire.cpu", "us/packet")
    late, late_99 = Figure("wire.delay.error", "ms"), Figure("wire.delay.p99", "ms")
    for _ in range(runs):
        arrivals, _ = _run(Shape(rate_mbps=RATE_MBPS, queue_ms=20), 1.3 * RATE_MBPS * 1e6 / 8 / FRAME, OCTETS, seconds)
        span = (arrivals[-1][1] - arrivals[0][1]) / 1e9
        rate.add(abs((len(arrivals) - 1) * FRAME * 8 / span / 1e6 / RATE_MBPS - 1) * 100)
        arrivals, spent = _run(Shape(delay_ms=DELAY_MS), PACKETS_PER_SECOND, 100, seconds)
        errors = sorted((got - sent) / 1e6 - DELAY_MS for sent, got in arrivals)
        late.add(abs(statistics.median(errors)))
        late_99.add(errors[len(errors) * 99 // 100])
        cpu.add(spent / 1e3 / len(arrivals))
    return [rate, late, late_99, cpu]


def _run(shape: Shape, packets_per_second: float, octets: int, seconds: float) -> tuple[list[tuple[int, int]], int]:
    """Datagrams at even times over a wire: when each that arrived was sent and came (ns of the wall clock, the kernel's stamp),
    and the CPU time of the wire's thread in ns."""
    with ShapedLine((shape,)) as line:
        sender, receiver = (line.spaces[side].call_sync(_socket, side) for side in (CLIENT, SERVER))
        with sender, receiver:
            sender.connect((OUTER[0][SERVER], PORT))
            sender.send(bytes(octets))  # resolves the address
            receiver.recv(2048)
            got: list[tuple[int, int]] = []
            thread = threading.Thread(target=_receive, args=(receiver, got))
            thread.start()
            before = _thread_cpu_ns()
            _send(sender, packets_per_second, octets, seconds)
            thread.join()
            spent = _thread_cpu_ns() - before
        if len(got) < seconds * packets_per_second / 2:
            raise BenchError(f"only {len(got)} packets came through the wire")
        return got, spent


def _socket(side: int) -> socket.socket:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for kind in (33, 32):  # SO_RCVBUFFORCE, SO_SNDBUFFORCE
        s.setsockopt(socket.SOL_SOCKET, kind, BUFFER)
    s.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    s.settimeout(LAST)
    s.bind((OUTER[0][side], PORT))
    return s


def _send(sender: socket.socket, packets_per_second: float, octets: int, seconds: float) -> None:
    padding = bytes(octets - STAMP.size)
    start = time.perf_counter_ns()
    for i in range(int(packets_per_second * seconds)):
        due = start + int(i * 1e9 / packets_per_second)
        while (left := due - time.perf_counter_ns()) > 0:
            time.sleep(left / 2e9 if left > 200_000 else 0)
        sender.send(STAMP.pack(time.time_ns()) + padding)


def _receive(receiver: socket.socket, got: list[tuple[int, int]]) -> None:
    while True:
        try:
            data, ancillary, _, _ = receiver.recvmsg(2048, socket.CMSG_SPACE(TIMESPEC.size))
        except TimeoutError:
            return
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS:
                at, ns = TIMESPEC.unpack(value[: TIMESPEC.size])
                got.append((STAMP.unpack_from(data)[0], at * 1_000_000_000 + ns))


def _thread_cpu_ns() -> int:
    """Of the wires' thread, which has a name (native/src/wire.c)."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == "mpq-wire":
            fields = (task / "stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    raise BenchError("the wires' thread is not there")
