"""The world as a hypothesis state machine: when a rule breaks, hypothesis shrinks the operations that led there."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from world import LINKS, World

from native import lib
from native.sim import MS

links = st.integers(0, LINKS - 1)
sides = st.integers(0, 1)
picks = st.integers(0, 7)
shares = st.sampled_from([0.0, 0.01, 0.05, 0.2])


class WorldMachine(RuleBasedStateMachine):
    """Each rule is one operation of the world; the invariant runs after each, `teardown` asks for recovery and a clean end."""

    world: World | None = None

    @initialize(seed=st.integers(0, 1 << 30))
    def begin(self, seed: int) -> None:
        self.world = World(seed)
        self.world.connect()

    @property
    def here(self) -> World:
        assert self.world
        return self.world

    @rule()
    @precondition(lambda self: self.world and not any(self.world.conns))
    def connect(self) -> None:
        self.here.connect()

    @rule(link=links)
    def open_path(self, link: int) -> None:
        self.here.open_path(link)

    @rule(side=sides, pick=picks, code=st.sampled_from([0, 0x3E, 0x3E76]))
    def abandon(self, side: int, pick: int, code: int) -> None:
        self.here.abandon(side, pick, code)

    @rule(side=sides, pick=picks, available=st.booleans())
    def status(self, side: int, pick: int, available: bool) -> None:
        self.here.status(side, pick, available)

    @rule(side=sides)
    def key_update(self, side: int) -> None:
        self.here.key_update(side)

    @rule(side=sides, pick=picks)
    def cid_rotate(self, side: int, pick: int) -> None:
        self.here.cid_rotate(side, pick)

    @rule(side=sides)
    def restart(self, side: int) -> None:
        self.here.restart(side)

    @rule(side=sides, code=st.integers(0, 1 << 20))
    def close_connection(self, side: int, code: int) -> None:
        self.here.close_connection(side, code)

    @rule(
        direction=sides, count=st.sampled_from([1, 10, 100]), size=st.sampled_from([40, 600, 1280, 1281]), flows=st.integers(1, 6)
    )
    def inner(self, direction: int, count: int, size: int, flows: int) -> None:
        self.here.inner(direction, count, size, flows)

    @rule(interval=st.integers(2, 20), duration=st.integers(20, 500))
    def traffic(self, interval: int, duration: int) -> None:
        self.here.traffic(interval * MS, duration * MS, 500)

    @rule(side=sides, size=st.integers(0, 1000))
    def datagram(self, side: int, size: int) -> None:
        self.here.datagram(side, size)

    @rule(side=sides, chunks=st.integers(1, 40))
    def stream(self, side: int, chunks: int) -> None:
        self.here.stream(side, chunks)

    @rule(link=links)
    def rebind(self, link: int) -> None:
        self.here.rebind(link)

    @rule(link=links, cut=st.booleans())
    def cut(self, link: int, cut: bool) -> None:
        self.here.shape(link, cut=cut)

    @rule(link=links, loss=shares, reorder=shares, duplicate=shares, corrupt=shares)
    def faults(self, link: int, loss: float, reorder: float, duplicate: float, corrupt: float) -> None:
        self.here.shape(link, loss=loss, reorder=reorder, duplicate=duplicate, corrupt=corrupt)

    @rule(link=links, rate=st.sampled_from([0.0, 2e6, 30e6]), delay=st.integers(0, 100), jitter=st.integers(0, 30))
    def line(self, link: int, rate: float, delay: int, jitter: int) -> None:
        self.here.shape(link, rate=rate, delay=delay * MS, jitter=jitter * MS)

    @rule(link=links, mtu=st.sampled_from([0, 1359, 1400, 1500]))
    def mtu(self, link: int, mtu: int) -> None:
        self.here.shape(link, mtu=mtu)

    @rule(
        link=links,
        ecn=st.sampled_from([(0, 1, 2, 3), (0, 0, 0, 0), (0, 1, 1, 3), (0, 3, 3, 3)]),
        mark=st.sampled_from([0, 1 << 63]),
    )
    def ecn(self, link: int, ecn: tuple[int, int, int, int], mark: int) -> None:
        self.here.shape(link, ecn=ecn, mark=mark)

    @rule(side=sides, which=st.integers(0, lib.CC_COUNT - 1))
    def control(self, side: int, which: int) -> None:
        self.here.control(side, which)

    @rule(on=st.booleans())
    def share(self, on: bool) -> None:
        self.here.share(on)

    @rule(time=st.sampled_from([1, 20, 200, 2000]))
    def wait(self, time: int) -> None:
        self.here.wait(time * MS)

    @invariant()
    @precondition(lambda self: self.world)
    def rules_hold(self) -> None:
        self.here.check()

    def teardown(self) -> None:
        if not self.world:
            return
        try:
            self.world.settle()
            self.world.finish()
        finally:
            self.world.close()


TestWorldMachine = WorldMachine.TestCase
TestWorldMachine.settings = settings(
    max_examples=150,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,  # `make simulate` looks for new ones, `make test` is the same each time
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
