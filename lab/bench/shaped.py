"""Two shaped paths against each of them alone: four TCP flows through the same tunnel in the same run, and kernel MPTCP
beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from lab.bench.figure import Figure
from lab.bench.iperf import GBIT, Iperf, Load, Pair, measure
from lab.bench.mptcp import MptcpPair
from lab.bench.packages import Peer, turn_of
from lab.bench.pair import OUTER, SERVER, EnginePair, Line, balanced, only
from lab.shape import Shape
from lab.topology import offloads_off
from lab.wires import Wires
from node.netns import Netns

FLOWS = "4"
SETTLE_S = 2  # not counted: slow start, outside and inside
SECONDS = 6
SUITE = 0x1301


class ShapedLine(Line):
    """A line whose links go over wires of the lab: rate, delay and queue the same in both directions."""

    def __init__(self, shapes: tuple[Shape, ...]) -> None:
        super().__init__(len(shapes))
        self.shapes = shapes
        self.middle = Netns()
        self.wires = Wires(1)

    def _join(self) -> None:
        for link, shape in enumerate(self.shapes):
            ends = []
            for side, space in enumerate(self.spaces):
                port = f"port{link}{side}"
                space.call_sync(self._veth, space, f"line{link}", port)
                ends.append((self.middle.fd, self.middle.call_sync(self._port, port)))
            self.wires.add(f"line{link}", ends[0], ends[1], shape, shape)
        self.wires.start()

    def _veth(self, space: Netns, name: str, port: str) -> None:
        space.ipr.link("add", ifname=name, kind="veth", peer={"ifname": port, "net_ns_fd": self.middle.fd})
        offloads_off(name)

    def _port(self, name: str) -> int:
        offloads_off(name)
        index: int = self.middle.ipr.link_lookup(ifname=name)[0]
        self.middle.ipr.link("set", index=index, state="up")
        return index

    def close(self) -> None:
        self.wires.close()
        super().close()
        self.middle.close()


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    shapes: tuple[Shape, Shape]
    weights: tuple[int, int]


CASES = (
    Case("multipath.sum", (Shape(rate_mbps=100, delay_ms=10), Shape(rate_mbps=100, delay_ms=10)), (50, 50)),
    Case("multipath.sum.unequal", (Shape(rate_mbps=100, delay_ms=10), Shape(rate_mbps=50, delay_ms=40)), (67, 33)),
)


def measure_sum(
    runs: int, progress: Callable[[str], None], peers: list[Peer], seconds: int = SECONDS, settle: int = SETTLE_S
) -> list[Figure]:
    """Ratio `sum`: goodput over both paths to the sum of what each path gave alone; `mptcp`: to kernel MPTCP's over both, if it is
    among the peers and works."""
    figures = []
    for case in CASES:
        figure = Figure(case.id, "Mbit/s")
        load = Load(case.id, ("-C", "cubic", "-R", "-P", FLOWS, "-O", str(settle)))
        for turn in range(runs):
            alone = [_tunnel(case, load, only(link), seconds) for link in range(2)]
            both = _tunnel(case, load, balanced(*case.weights), seconds)
            theirs = turn_of(peers, "mptcp", partial(_mptcp, case, load, seconds)) or 0.0
            figure.add(both, sum=sum(alone), mptcp=theirs)
            said = f"{both:.1f} Mbit/s, alone {alone[0]:.1f} and {alone[1]:.1f}, MPTCP {theirs:.1f}"
            progress(f"{case.id}, turn {turn + 1} of {runs}: {said}")
        figures.append(figure)
    return figures


def _rate(pair: Pair, iperf: Iperf, load: Load, seconds: int) -> float:
    try:
        return measure(pair, iperf, load, seconds).bits_per_second / GBIT * 1000
    finally:
        pair.close()


def _tunnel(case: Case, load: Load, rule: dict[str, Any], seconds: int) -> float:
    with ShapedLine(case.shapes) as line:
        return _rate(EnginePair(line, SUITE, rule=rule), Iperf(line), load, seconds)


def _mptcp(case: Case, load: Load, seconds: int, peer: Peer) -> float:
    with ShapedLine(case.shapes) as line:
        return _rate(MptcpPair(line), Iperf(line, OUTER[0][SERVER], (peer.program, "run")), load, seconds)
