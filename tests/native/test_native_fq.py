"""A path's queue on a virtual clock, against a model of FQ-CoDel made from the texts of RFC 8289 §5 and RFC 8290 §4 alone."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from native import ffi, lib
from native.sim import MS, SECOND

Arrival = tuple[int, int, int]  # ns, flow, octets
MTU = 1500


@dataclass
class Left:
    at: int
    order: int
    fate: int


def queue(arrivals: Sequence[Arrival], rate: int, rtt: int = 0, limit: int = 0, ect: int = 0) -> list[Left]:
    """What becomes of each packet when a line takes `rate` octets a second."""
    rows = ffi.new("struct fq_arrival[]", [(at, flow, octets, ect) for at, flow, octets in arrivals])
    out = ffi.new("struct fq_departure[]", len(arrivals))
    result = lib.fq_preview(rate, rtt, limit, rows, len(arrivals), out)
    if result < 0:
        raise ValueError(-result)
    return [Left(x.at_ns, x.order, x.fate) for x in out]


# ---- the model


@dataclass(eq=False)
class Codel:
    """RFC 8289 §5.3 to §5.6, its names and its loop."""

    target: int
    interval: int
    packets: deque[tuple[int, int, int]] = field(default_factory=deque)  # number, octets, tstamp
    first_above_time: int = 0
    drop_next: int = 0
    count: int = 0
    lastcount: int = 0
    dropping: bool = False
    deficit: int = 0

    def control_law(self, t: int, count: int) -> int:
        return t + int(self.interval / math.sqrt(count))

    def dodequeue(self, now: int) -> tuple[tuple[int, int, int] | None, bool]:
        if not self.packets:
            self.first_above_time = 0
            return None, False
        p = self.packets.popleft()
        if now - p[2] < self.target or sum(x[1] for x in self.packets) <= MTU:
            self.first_above_time = 0
        elif self.first_above_time == 0:
            self.first_above_time = now + self.interval
        elif now >= self.first_above_time:
            return p, True
        return p, False

    def dequeue(self, now: int, drop: list[int]) -> tuple[int, int, int] | None:
        p, ok = self.dodequeue(now)
        if self.dropping:
            if not ok:
                self.dropping = False
            while now >= self.drop_next and self.dropping:
                assert p
                drop.append(p[0])
                self.count += 1
                p, ok = self.dodequeue(now)
                if not ok:
                    self.dropping = False
                else:
                    self.drop_next = self.control_law(self.drop_next, self.count)
        elif ok:
            assert p
            drop.append(p[0])
            p, ok = self.dodequeue(now)
            self.dropping = True
            delta = self.count - self.lastcount
            self.count = 1
            if delta > 1 and now - self.drop_next < 16 * self.interval:
                self.count = delta
            self.drop_next = self.control_law(now, self.count)
            self.lastcount = self.count
        return p


class Model:
    """RFC 8290 §4: as many queues as flows, of which no two fall together."""

    def __init__(self, rate: int, rtt: int) -> None:
        burst = 2 * MTU * SECOND // rate
        interval = max(100 * MS, rtt * 3 // 2)
        self.target = max(interval // 20, burst)
        self.interval = max(interval, 2 * self.target)
        self.quantum = min(max(rate // 1000, MTU), 65000)
        self.rate, self.free = rate, 0
        self.flows: dict[int, Codel] = {}
        self.new: deque[Codel] = deque()
        self.old: deque[Codel] = deque()
        self.left: dict[int, Left] = {}

    def waiting(self) -> int:
        return sum(len(f.packets) for f in self.flows.values())

    def enqueue(self, number: int, at: int, flow: int, octets: int) -> None:
        f = self.flows.setdefault(flow, Codel(self.target, self.interval))
        f.packets.append((number, octets, at))
        if f not in self.new and f not in self.old:
            f.deficit = self.quantum
            self.new.append(f)

    def leave(self, number: int, at: int, fate: int) -> None:
        self.left[number] = Left(at, len(self.left), fate)

    def dequeue(self, now: int) -> None:
        while self.new or self.old:
            lists = self.new or self.old
            f = lists[0]
            if f.packets and f.deficit <= 0:
                f.deficit += self.quantum
                self.old.append(lists.popleft())
                continue
            dropped: list[int] = []
            p = f.dequeue(now, dropped)
            for number in dropped:
                self.leave(number, now, lib.FQ_LATE)
            if p is None:
                lists.popleft()
                if lists is self.new:
                    self.old.append(f)
                continue
            f.deficit -= p[1]
            self.leave(p[0], now, lib.FQ_SENT)
            self.free = now + p[1] * SECOND // self.rate
            return

    def run(self, arrivals: Sequence[Arrival], limit: int) -> list[Left]:
        for number, (at, flow, octets) in enumerate(arrivals):
            while self.waiting() and self.free < at:
                self.dequeue(self.free)
            self.enqueue(number, at, flow, octets)
            if self.waiting() == 1:
                self.free = max(self.free, at)
            if limit and self.waiting() > limit:
                octets_of = {f: sum(x[1] for x in f.packets) for f in self.flows.values()}
                fat = [f for f, n in octets_of.items() if n == max(octets_of.values())]
                assume(len(fat) == 1)  # of flows that are equally fat either may lose
                self.leave(fat[0].packets.popleft()[0], at, lib.FQ_SHED)
        while self.waiting():
            self.dequeue(self.free)
        return [self.left[i] for i in range(len(arrivals))]


bursts = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 5), st.integers(1, 70), st.sampled_from([60, 576, 1500])), min_size=1, max_size=30
)


@settings(max_examples=150, deadline=None)
@given(
    bursts,
    st.sampled_from([50_000, 250_000, 2_500_000, 40_000_000]),
    st.sampled_from([0, 30 * MS, 600 * MS]),
    st.sampled_from([0, 300]),
)
def test_it_does_what_the_model_does(steps: list[tuple[int, int, int, int]], rate: int, rtt: int, limit: int) -> None:
    """Every packet: when it leaves, in which order, sent or dropped by whom. Bursts of several flows, with pauses."""
    at, arrivals = 0, []
    for pause, flow, count, octets in steps:
        at += pause * MS
        arrivals += [(at, flow, octets - flow)] * count
    model = Model(rate, rtt)
    assert queue(arrivals, rate, rtt, limit) == model.run(arrivals, limit)


def steady(rate: int, seconds: float, flow: int = 0, octets: int = MTU, start: int = 0) -> list[Arrival]:
    """A flow of this many octets a second."""
    step = octets * SECOND // rate
    return [(start + i * step, flow, octets) for i in range(int(seconds * rate / octets))]


def merged(*flows: list[Arrival]) -> list[Arrival]:
    return sorted((a for flow in flows for a in flow), key=lambda a: a[0])


def test_the_model_drops_by_the_square_root() -> None:
    """Canary of the property above, and the known answer: a queue that stands loses its first packet an interval after it went
    above the target, the next ones after interval / sqrt(n)."""
    arrivals = steady(4_000_000, 3)
    left = queue(arrivals, 2_500_000)
    times = [x.at for x in left if x.fate == lib.FQ_LATE]
    assert len(times) > 20
    gaps = [b - a for a, b in itertools.pairwise(times)]
    line = MTU * SECOND // 2_500_000  # it drops when a packet leaves
    elapsed = 0
    for n in range(1, 21):
        elapsed += int(100 * MS / math.sqrt(n))
        assert elapsed <= sum(gaps[:n]) <= elapsed + line, n
    above = next(x.at for (at, _, _), x in zip(arrivals, left, strict=True) if x.at - at >= 5 * MS)
    assert above + 100 * MS <= times[0] <= above + 100 * MS + line


def test_a_queue_that_empties_within_an_interval_loses_nothing() -> None:
    """64 KB at once, as a TUN gives them, and bursts of a window: no standing queue."""
    burst = [(i * 60 * MS, 0, MTU) for i in range(20) for _ in range(44)]
    assert {x.fate for x in queue(burst, 2_500_000)} == {lib.FQ_SENT}
    standing = queue([(0, 0, MTU)] * 400, 2_500_000)  # canary: 240 ms of it
    assert any(x.fate == lib.FQ_LATE for x in standing)


@pytest.mark.parametrize("rate", [12_500, 62_500, 250_000])
def test_a_slow_line_keeps_a_packet_in_hand(rate: int) -> None:
    """100 kbit/s: a packet takes 120 ms. What comes at just its rate in pairs, as the pacer lets them go, is not dropped."""
    pair = 2 * MTU * SECOND // rate
    left = queue([(i * pair, 0, MTU) for i in range(100) for _ in range(2)], rate)
    assert {x.fate for x in left} == {lib.FQ_SENT}


def test_the_way_sets_the_interval() -> None:
    """Over a satellite the sender cannot react in 100 ms: what empties within its round trip is no standing queue."""
    burst = [(0, 0, MTU)] * 400
    assert any(x.fate == lib.FQ_LATE for x in queue(burst, 2_500_000, 30 * MS))
    assert all(x.fate == lib.FQ_SENT for x in queue(burst, 2_500_000, 600 * MS))


def test_flows_that_want_all_of_it_get_the_same() -> None:
    flows = [steady(2_500_000, 2, flow, octets) for flow, octets in enumerate([1500, 1500, 1200, 300])]
    arrivals = merged(*flows)
    left = queue(arrivals, 2_500_000, limit=2000)
    got = [0] * 4
    for (_, flow, octets), x in zip(arrivals, left, strict=True):
        got[flow] += octets if x.fate == lib.FQ_SENT and x.at < 2 * SECOND else 0
    assert max(got) < 1.03 * min(got)


def test_a_thin_flow_does_not_wait_behind_a_fat_one() -> None:
    """A probe of 2 ms beside a flow of twice the rate: a turn of the other's at most. Within one flow it waits: canary."""
    fat = [*[(0, 0, MTU)] * 200, *steady(5_000_000, 1, 0)]
    probe = steady(50_000, 1, 1, 100, start=1)
    arrivals = merged(fat, probe)
    left = queue(arrivals, 2_500_000, limit=1000)
    alone = queue([(at, 0, octets) for at, _, octets in arrivals], 2_500_000, limit=1000)
    mine = [i for i, (_, flow, _) in enumerate(arrivals) if flow == 1]
    turn = 2500 * SECOND // 2_500_000
    assert {left[i].fate for i in mine} == {lib.FQ_SENT}
    assert max(left[i].at - arrivals[i][0] for i in mine) <= turn + MTU * SECOND // 2_500_000
    assert statistics.median(alone[i].at - arrivals[i][0] for i in mine if alone[i].fate == lib.FQ_SENT) > 20 * turn


def test_a_turn_is_a_millisecond_of_the_line() -> None:
    """So much of a flow leaves in one piece, which is one batch of the sender: equal packets are sealed and sent together."""
    for rate, run in ((2_500_000, 2), (25_000_000, 17), (500_000_000, 44)):  # quanta of 2500, 25,000 and 65,000 octets
        both = [(0, flow, MTU) for flow in (0, 1) for _ in range(200)]
        left = queue(both, rate, 600 * MS)
        order = [flow for _, flow in sorted((x.order, flow) for (_, flow, _), x in zip(both, left, strict=True))]
        runs = [len(piece) for piece in "".join(map(str, order)).replace("01", "0 1").replace("10", "1 0").split()]
        assert set(runs[:4]) <= {run - 1, run}, rate


def test_at_the_limit_the_fattest_flow_loses_its_oldest() -> None:
    arrivals = [(0, 0, MTU)] * 50 + [(0, 1, 200)] * 5 + [(0, 0, MTU)] * 10
    left = queue(arrivals, 2_500_000, limit=50)
    assert [i for i, x in enumerate(left) if x.fate == lib.FQ_SHED] == list(range(15))
    assert all(x.fate == lib.FQ_SENT for x in left[50:55])


def test_what_does_ecn_is_marked_and_arrives() -> None:
    arrivals = steady(4_000_000, 2)
    dropped, marked = queue(arrivals, 2_500_000), queue(arrivals, 2_500_000, ect=1)
    assert {x.fate for x in marked} == {lib.FQ_SENT, lib.FQ_MARKED}
    first = [next(x.at for x in left if x.fate != lib.FQ_SENT) for left in (dropped, marked)]
    assert first[0] == first[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(65, 400), st.integers(1, 2**32 - 1))
def test_more_flows_than_queues_share_them_and_nothing_is_lost(count: int, spread: int) -> None:
    """Each flow stays in order, and everybody gets a turn."""
    arrivals = [(i * MS, flow * spread % 2**32, 400 + flow % 7) for i in range(8) for flow in range(count)]
    left = queue(arrivals, 40_000_000)
    assert sorted(x.order for x in left) == list(range(len(arrivals)))
    last: dict[int, int] = {}
    for (_, flow, _), x in zip(arrivals, left, strict=True):
        assert x.order > last.get(flow, -1)
        last[flow] = x.order


def test_arguments() -> None:
    for arrivals, rate in (([(0, 0, 100)], 0), ([(0, 0, 0)], 1000), ([(0, 0, 1501)], 1000), ([(5, 0, 9), (4, 0, 9)], 1000)):
        with pytest.raises(ValueError, match="1"):
            queue(arrivals, rate)
    assert queue([], 1000) == []
