"""Flows over one bottleneck for the tests of congestion control: seeded, on the simulator's virtual clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from native import ffi, lib
from native.sim import BALANCED, MS, SECOND, Simulator, check, udp4

SIZE = 1280
OUTER = SIZE + 32 + 28  # short header, frame head, tag; UDP and IPv4


@dataclass
class Flow:
    """A connection of its own with a tunnel of its own; `paths` of them, over accesses that may share their bottleneck."""

    sim: Simulator
    number: int
    control: int
    paths: int = 1
    conn: int = 0
    sent: int = 0

    def __post_init__(self) -> None:
        self.conn, peer = self.sim.connect()
        for node, conn in ((self.sim.client, self.conn), (self.sim.server, peer)):
            check(lib.conn_congestion_control_set(node.endpoint, conn, self.control))
        for link in range(1, self.paths):
            self.sim.open_path(self.conn, link)
        weight = [50, 50] if self.paths == 2 else [100, 0]
        rules = [BALANCED | {"weight": weight}]
        options = {"tun": self.number, "ipv4": bytes([10, 45, 0, 2 + self.number]), "has_ipv6": 0}
        self.sim.tunnel(self.conn, peer, rules, **options)

    def send(self, count: int, flows: int = 16) -> None:
        """Give `count` inner packets to the client's tunnel, spread over some inner flows."""
        for _ in range(count):
            self.sent += 1
            packet = udp4(SIZE, flow=self.sent % flows, serial=self.sent, ue=f"10.45.0.{2 + self.number}")
            check(lib.tunnel_input(self.sim.client.endpoint, self.number, packet, len(packet), self.sim.now))


@dataclass
class Bottleneck:
    """A simulator whose accesses lead through one queue in each direction."""

    rate: float
    delay: int  # one way
    seed: int = 1
    loss: float = 0.0
    queue: int = 50 * MS
    sim: Simulator = field(init=False)
    flows: list[Flow] = field(default_factory=list)
    arrived: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.sim = Simulator(self.seed)
        for direction in range(2):
            self.sim.share(direction, [0, 1], direction, rate=self.rate, queue=self.queue)
        for link in range(2):
            self.sim.shape(link, delay=self.delay)
        self.sim.server.on_inner = self._inner

    def _inner(self, tun: int, packet: bytes) -> None:
        self.arrived[tun] += len(packet)

    def add(self, control: int, paths: int = 1) -> Flow:
        flow = Flow(self.sim, len(self.flows), control, paths)
        self.flows.append(flow)
        return flow

    def run(self, settle: int, measure: int, share: float = 1.2) -> list[float]:
        """Load every flow with `share` of the rate; goodput of each in bit/s over `measure` ns after `settle` ns."""
        for link in range(2):
            self.sim.shape(link, loss=self.loss)
        per_tick = self.rate * share / 8 / SIZE / 500
        credit = 0.0

        def tick() -> None:
            nonlocal credit
            credit += per_tick
            for flow in self.flows:
                flow.send(int(credit))
            credit -= int(credit)

        self.sim.every(2 * MS, self.sim.now + settle + measure, tick)
        self.sim.run(settle)
        before = Counter(self.arrived)
        self.sim.run(measure)
        return [(self.arrived[f.number] - before[f.number]) * 8 * SECOND / measure for f in self.flows]

    def close(self) -> None:
        self.sim.close()


def jain(shares: list[float]) -> float:
    """Jain's fairness index: 1 = all equal, 1/n = one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(x * x for x in shares))


CONTROLLERS = {ffi.string(lib.congestion_control_name(i)).decode(): i for i in range(lib.CC_COUNT)}
