"""What capturing costs the tunnel that is captured, and how fast `mpq inspect` reads what was captured."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.bench.capture_file import write_capture
from lab.bench.figure import Figure
from lab.bench.iperf import GBIT, Iperf, Load, measure
from lab.bench.pair import CLIENT, SERVER, BenchError, EnginePair, Line, balanced
from lab.bench.shaped import ShapedLine
from lab.capturing import Capture, Port
from lab.scenario import Ring
from lab.shape import Shape
from node.netns import Netns

SUITE = 0x1301
LAB = (Shape(rate_mbps=50, delay_ms=15), Shape(rate_mbps=100, delay_ms=5))      # wires of the demo
WEIGHTS = (30, 70)
RING = Ring(4, 50)              # bounded however fast it goes
SETTLE_S = 1


def _links(space: Netns) -> list[Any]:
    return list(space.ipr.get_links())


def _ports(line: Line, everything: bool) -> list[Port]:
    """The near ends, as a scenario's `capture: true` has them; or every link and TUN, as `mpq capture` has them."""
    found = []
    for side in (CLIENT, SERVER) if everything else (CLIENT,):
        space = line.spaces[side]
        for link in space.call_sync(_links, space):
            name = str(link.get_attr("IFLA_IFNAME"))
            if link["flags"] & 1 and name != "lo" and (everything or name.startswith("line")):
                found.append(Port(f"{side}:{name}", space.fd, int(link["index"])))
    return found


@contextlib.contextmanager
def _captured(line: Line, everything: bool, lost: list[float]) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="mpq-bench-") as place:
        capture = Capture(Path(place) / "bench", ring=RING)
        try:
            for port in _ports(line, everything):
                capture.add(port)
            capture.start()
            yield
            figures = capture.stop(0.0)
            if "error" in figures:
                raise BenchError(f"the capture: {figures['error']}")
            every = figures["packets"] + figures["dropped_kernel"] + figures["dropped_limit"]
            lost.append(100 * (every - figures["packets"]) / max(1, every))
        finally:
            capture.close()


def _turn(line: Line, load: Load, seconds: int, captured: contextlib.AbstractContextManager[None]) -> tuple[float, float]:
    """bit/s at the receiver, and CPU-seconds of this process per Gbit: both engines, wires and capture."""
    pair = EnginePair(line, SUITE, rule=balanced(*WEIGHTS) if line.links == 2 else None)
    try:
        with captured:
            before = time.process_time()
            rate = measure(pair, Iperf(line), load, seconds).bits_per_second
            spent = time.process_time() - before
    finally:
        pair.close()
    return rate, spent / (rate * (seconds + SETTLE_S) / GBIT)


def measure_capture(runs: int, seconds: int, progress: Callable[[str], None]) -> list[Figure]:
    """Ratio `without`: to the same without a capture, in turns. `capture.cost*`: the demo's wires; `capture.gbit*`: one link
    without a wire, as fast as it goes."""
    figures = []
    load = Load("capture", ("-C", "cubic", "-R", "-P", "4", "-O", str(SETTLE_S)))
    cases: tuple[tuple[str, bool, Callable[[], Line]], ...] = (
        ("capture.cost", False, lambda: ShapedLine(LAB)),
        ("capture.cost.all", True, lambda: ShapedLine(LAB)),
        ("capture.gbit", False, lambda: Line(1)),
        ("capture.gbit.all", True, lambda: Line(1)),
    )
    for name, everything, make in cases:
        unit, scale = ("Mbit/s", 1e6) if name.startswith("capture.cost") else ("Gbit/s", GBIT)
        goodput, cpu, lost = Figure(name, unit), Figure(f"{name}.cpu", "CPU-s/Gbit"), Figure(f"{name}.lost", "%")
        for turn in range(runs):
            with make() as line:
                plain, plain_cpu = _turn(line, load, seconds, contextlib.nullcontext())
            with make() as line:
                with_it, with_cpu = _turn(line, load, seconds, _captured(line, everything, lost.values))
            goodput.add(with_it / scale, without=plain / scale)
            cpu.add(with_cpu, without=plain_cpu)
            progress(f"{name}, turn {turn + 1} of {runs}: {with_it / scale:.2f} {unit}, without {plain / scale:.2f}; CPU "
                     f"{with_cpu:.3f} against {plain_cpu:.3f}; {lost.values[-1]:.2f} % of the packets not in the capture")
        figures += [goodput, cpu, lost]
    return figures


def measure_views(runs: int, packets: int) -> list[Figure]:
    """Packets that `mpq inspect --stats` reads in a second of CPU, and that the table writes to a file."""
    from lab.inspect import main

    stats, table = Figure("inspect.stats", "packet/s"), Figure("inspect.table", "packet/s")
    with tempfile.TemporaryDirectory(prefix="mpq-bench-") as place:
        path, written = Path(place) / "capture.pcapng", Path(place) / "table"
        write_capture(path, packets)
        for _ in range(runs):
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()) as out:
                code = main(["--stats", "--json", str(path)])
            if code or f'"decrypted": {packets},' not in out.getvalue():
                raise BenchError(f"mpq inspect did not read its capture: {out.getvalue()[:200]}")
            stats.add(packets / (time.process_time() - start))
            start = time.process_time()
            with written.open("w") as lines, contextlib.redirect_stdout(lines):
                code = main([str(path)])
            spent = time.process_time() - start
            shown = sum(1 for line in written.open() if "DATAGRAM" in line)
            if code or shown != packets:
                raise BenchError(f"mpq inspect showed {shown} of the {packets} packets of its capture")
            table.add(packets / spent)
    return [stats, table]
