"""What a wire makes of frames, on a virtual clock: rate, delay, chance and traces, to the nanosecond or by statistics."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native._engine import ffi, lib

MS, S = 1_000_000, 1_000_000_000
LOST = 2**64 - 1
Point = tuple[int, int, int, int]


@dataclass
class Preview:
    release: list[int]
    stats: Any

    @property
    def arrived(self) -> list[int]:
        return [r for r in self.release if r != LOST]


def preview(
    arrivals: Sequence[int], octets: int | Sequence[int] = 1500, *, seed: int = 1, points: Sequence[Point] = (), length: int = 0,
    deliveries: Sequence[int] = (), **shape: int,
) -> Preview:
    n = len(arrivals)
    sizes = [octets] * n if isinstance(octets, int) else list(octets)
    release, stats = ffi.new("uint64_t[]", n), ffi.new("struct wire_stats *")
    result = lib.wire_preview(
        seed, ffi.new("struct wire_shape *", shape),
        ffi.new("struct wire_point[]", list(points)) if points else ffi.NULL, len(points), length,
        ffi.new("uint32_t[]", list(deliveries)) if deliveries else ffi.NULL, len(deliveries),
        ffi.new("uint64_t[]", list(arrivals)), ffi.new("uint32_t[]", sizes), n, release, stats)
    if result < 0:
        raise ValueError(-result)
    return Preview(list(release), stats)


def every(step: int, n: int) -> list[int]:
    return [i * step for i in range(n)]


def test_a_frame_takes_its_length_at_the_rate_and_the_delay() -> None:
    got = preview([0, 0, 20 * MS], rate_bps=12_000_000, delay_ns=30 * MS)
    assert got.release == [31 * MS, 32 * MS, 51 * MS]  # 1500 octets take 1 ms at 12 Mbit/s


@pytest.mark.parametrize("rate", [1_000_000, 100_000_000, 1_000_000_000])
def test_a_full_line_carries_its_rate(rate: int) -> None:
    n = 2000
    step = 1500 * 8 * S // rate // 2  # offered: twice the rate
    got = preview(every(step, n), rate_bps=rate, queue_bytes=30_000)
    carried = len(got.arrived) * 1500 * 8 * S / got.arrived[-1]
    assert carried == pytest.approx(rate, rel=0.002)
    assert got.stats.dropped_queue == n - len(got.arrived) > 0


def test_the_queue_is_limited_in_time_and_in_octets() -> None:
    in_time = preview([0] * 100, rate_bps=12_000_000, queue_ns=20 * MS)
    assert 20 <= len(in_time.arrived) <= 23  # 20 ms, what is on the line, and what the line takes ahead
    in_octets = preview([0] * 100, rate_bps=12_000_000, queue_ns=20 * MS, queue_bytes=7500)
    assert 5 <= len(in_octets.arrived) <= 8
    assert in_octets.stats.queued_max_bytes <= 7500 and in_octets.stats.queued_bytes == 0


def test_a_trace_changes_the_rate_under_way() -> None:
    # 12 Mbit/s for 10 ms, nothing for 5 ms, then 1.2 Mbit/s for 20 ms; then again
    points = [(0, 12_000_000, 0, 0), (10 * MS, 0, 0, 0), (15 * MS, 1_200_000, 0, 0)]
    got = preview([0] * 13, points=points, length=35 * MS, queue_ns=S)
    assert got.release[:10] == every(MS, 11)[1:]
    assert got.release[10:12] == [25 * MS, 35 * MS]
    assert got.release[12] == 36 * MS
    half = preview([9 * MS + MS // 2], points=points, length=35 * MS)
    assert half.release == [20 * MS]  # half of it before the stop, half of it at a tenth of the rate


def test_a_trace_brings_its_delay_and_its_loss() -> None:
    points = [(0, 10**9, 5 * MS, 0), (S, 10**9, 50 * MS, 1_000_000), (2 * S, 10**9, 5 * MS, 0)]
    got = preview(every(10 * MS, 300), points=points, length=3 * S)
    assert all(r == LOST for r in got.release[100:200]) and got.stats.dropped_loss == 100
    assert all(5 * MS <= r - i * 10 * MS < 6 * MS for i, r in enumerate(got.release) if r != LOST)


def test_deliveries_are_mahimahis() -> None:
    # opportunities at 10, 10 and 20 ms, again every 20 ms; each carries 1504 octets
    got = preview([0] * 5, 1504, deliveries=[10, 10, 20], queue_ns=S)
    assert got.release == [10 * MS, 10 * MS, 20 * MS, 30 * MS, 30 * MS]
    small = preview([0] * 4, 752, deliveries=[10, 10, 20], queue_ns=S)
    assert small.release == [10 * MS] * 4  # two share one
    late = preview([11 * MS, 55 * MS], 1504, deliveries=[10, 10, 20])
    assert late.release == [20 * MS, 60 * MS]  # what nobody used is gone


@settings(max_examples=200, deadline=None)
@given(
    times=st.lists(st.integers(0, 50), min_size=1, max_size=30).map(sorted).filter(lambda t: t[-1] > 0),
    arrivals=st.lists(st.integers(0, 200), max_size=40).map(sorted),
)
def test_deliveries_agree_with_a_model(times: list[int], arrivals: list[int]) -> None:
    """The model walks opportunity by opportunity, as Mahimahi's link does."""
    opportunities = (rounds * times[-1] + t for rounds in itertools.count() for t in times)
    now, room, expected = next(opportunities), 1504, []
    for at in arrivals:
        left = 1000
        while now < at:
            now, room = next(opportunities), 1504
        while left > room:
            left -= room
            now, room = next(opportunities), 1504
        room -= left
        expected.append(now * MS)
    got = preview([a * MS for a in arrivals], 1000, deliveries=times, queue_ns=1000 * S)
    assert got.release == expected


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=8).filter(
        lambda steps: sum(length * rate for length, rate in steps) > 20),
    arrivals=st.lists(st.integers(0, 100), max_size=30).map(sorted),
)
def test_a_trace_agrees_with_an_integral(steps: list[tuple[int, int]], arrivals: list[int]) -> None:
    """The model counts octets millisecond by millisecond: rates are such that a millisecond carries whole octets."""
    points, at = [], 0
    for length, rate in steps:
        points.append((at * MS, rate * 8_000_000, 0, 0))  # `rate` kB a millisecond
        at += length
    per_ms = [rate for length, rate in steps for _ in range(length)]
    got = preview([a * MS for a in arrivals], 1000, points=points, length=at * MS, queue_ns=10_000 * S)
    position = 0.0  # in ms
    for arrival, release in zip(arrivals, got.release, strict=True):
        position = max(position, float(arrival))
        left = 1.0  # kB
        while left > 1e-9:
            rate = per_ms[int(position + 1e-9) % at]
            end = math.floor(position + 1e-9) + 1
            if rate * (end - position) >= left - 1e-12:
                position += left / rate
                left = 0.0
            else:
                left -= rate * (end - position)
                position = float(end)
        assert release == pytest.approx(position * MS, abs=20)


def test_burst_loss_has_the_share_and_the_length_of_gilbert_elliott() -> None:
    n, enter, leave, bad = 200_000, 0.01, 0.20, 0.5
    got = preview(every(1000, n), 100, burst_enter_ppm=10_000, burst_leave_ppm=200_000, burst_loss_ppm=500_000)
    share = enter / (enter + leave) * bad
    assert got.stats.dropped_loss / n == pytest.approx(share, rel=0.1)
    whole = preview(every(1000, n), 100, burst_enter_ppm=10_000, burst_leave_ppm=200_000, burst_loss_ppm=1_000_000)
    runs = [len(list(g)) for lost, g in itertools.groupby(r == LOST for r in whole.release) if lost]
    assert statistics.mean(runs) == pytest.approx(1 / leave, rel=0.1)


JITTER_MEAN = {"UNIFORM": 0.5, "NORMAL": 1.0, "EXPONENTIAL": 1.0, "PARETO": 1.0}
JITTER_P99 = {"UNIFORM": 0.99, "NORMAL": 1 + 2.326 / 3, "EXPONENTIAL": math.log(100), "PARETO": 2 / 3 * 100 ** (1 / 3)}


@pytest.mark.parametrize("kind", JITTER_MEAN)
def test_jitter_has_its_distribution(kind: str) -> None:
    """Frames are far apart here, so that keeping the order changes nothing."""
    n, jitter = 20_000, 10 * MS
    got = preview(every(S, n), jitter_ns=jitter, jitter=getattr(lib, f"WIRE_JITTER_{kind}"), delay_ns=MS)
    late = sorted((r - i * S - MS) / jitter for i, r in enumerate(got.release))
    assert late[0] >= 0 and late[-1] <= 20
    assert statistics.mean(late) == pytest.approx(JITTER_MEAN[kind], rel=0.05)
    assert late[n * 99 // 100] == pytest.approx(JITTER_P99[kind], rel=0.1)


def test_jitter_is_smooth_in_time_and_keeps_the_order() -> None:
    """At 10,000 packets/s a value for each packet would, with the order kept, be the largest of many: no jitter any more."""
    step, n = 100_000, 20_000
    smooth = preview(every(step, n), jitter_ns=10 * MS, jitter_every_ns=20 * MS)
    rough = preview(every(step, n), jitter_ns=10 * MS)
    for got in (smooth, rough):
        assert got.release == sorted(got.release)
    delays = {name: [r - i * step for i, r in enumerate(got.release)] for name, got in (("smooth", smooth), ("rough", rough))}
    assert statistics.stdev(delays["smooth"]) > 1.5 * statistics.stdev(delays["rough"])
    assert statistics.mean(delays["smooth"]) / MS == pytest.approx(5, rel=0.1)


def test_the_seed_makes_it_one_run() -> None:
    chances = {"loss_ppm": 50_000, "duplicate_ppm": 50_000, "reorder_ppm": 50_000, "corrupt_ppm": 50_000, "jitter_ns": 5 * MS,
               "jitter_every_ns": MS, "rate_bps": 100_000_000, "delay_ns": MS, "queue_ns": 10 * MS}
    one, two, other = (preview(every(50_000, 3000), seed=seed, **chances).release for seed in (7, 7, 8))
    assert one == two != other


@settings(max_examples=150, deadline=None)
@given(
    arrivals=st.lists(st.integers(0, 200 * MS), max_size=120).map(sorted),
    octets=st.integers(60, 1514),
    shape=st.fixed_dictionaries({
        "rate_bps": st.sampled_from([0, 100_000, 10_000_000, 10**9]), "delay_ns": st.integers(0, 50 * MS),
        "jitter_ns": st.sampled_from([0, 5 * MS]), "jitter_every_ns": st.sampled_from([0, MS]), "jitter": st.integers(0, 3),
        "loss_ppm": st.sampled_from([0, 200_000]), "burst_enter_ppm": st.sampled_from([0, 100_000]),
        "burst_leave_ppm": st.just(300_000), "burst_loss_ppm": st.just(800_000), "duplicate_ppm": st.sampled_from([0, 200_000]),
        "corrupt_ppm": st.sampled_from([0, 200_000]), "queue_ns": st.sampled_from([0, 5 * MS]),
        "queue_bytes": st.sampled_from([0, 9000]),
    }),
)
def test_every_frame_is_accounted_for(arrivals: list[int], octets: int, shape: dict[str, int]) -> None:
    got = preview(arrivals, octets, **shape)
    stats = got.stats
    assert stats.packets == len(arrivals) + stats.duplicated - stats.dropped_loss - stats.dropped_queue
    assert stats.bytes == stats.packets * octets
    assert all(r == LOST or r >= a + shape["delay_ns"] for a, r in zip(arrivals, got.release, strict=True))
    assert got.arrived == sorted(got.arrived)


@pytest.mark.parametrize(
    ("points", "length"),
    [
        ([(5, 10**6, 0, 0)], S),  # does not begin at 0
        ([(0, 10**6, 0, 0), (0, 10**6, 0, 0)], S),  # does not rise
        ([(0, 10**6, 0, 0), (2 * S, 10**6, 0, 0)], S),  # ends before its last point
        ([(0, 0, 0, 0)], S),  # carries nothing
        ([(0, 1000, 0, 0)], S),  # less than a frame in a round
        ([(0, 10**6, 0, 1_000_001)], S),
    ],
)
def test_a_trace_that_cannot_be_is_refused(points: list[Point], length: int) -> None:
    with pytest.raises(ValueError, match=str(lib.ENGINE_E_ARGUMENT)):
        preview([0], points=points, length=length)


@pytest.mark.parametrize("deliveries", [[0], [0, 0], [5, 4]])
def test_deliveries_that_cannot_be_are_refused(deliveries: list[int]) -> None:
    with pytest.raises(ValueError, match=str(lib.ENGINE_E_ARGUMENT)):
        preview([0], deliveries=deliveries)


def shared(arrivals: Sequence[tuple[int, int]], *shapes: dict[str, int], octets: int = 1500) -> tuple[list[list[int]], list[Any]]:
    """Of (time, way): when the frames of each way are there, and the stats of each."""
    n, ways = len(arrivals), len(shapes)
    release, stats = ffi.new("uint64_t[]", n), ffi.new("struct wire_stats[]", ways)
    result = lib.wire_preview_shared(
        1, ffi.new("struct wire_shape[]", list(shapes)), ways, ffi.new("uint32_t[]", [way for _, way in arrivals]),
        ffi.new("uint64_t[]", [at for at, _ in arrivals]), ffi.new("uint32_t[]", [octets] * n), n, release, stats)
    if result < 0:
        raise ValueError(-result)
    return [[release[i] for i in range(n) if arrivals[i][1] == way] for way in range(ways)], [stats[i] for i in range(ways)]


def test_a_shared_line_is_one_rate_and_one_queue_and_each_delay_its_own() -> None:
    line = {"rate_bps": 12_000_000, "queue_ns": 20 * MS}  # 1500 octets take 1 ms
    (near, far), _ = shared([(0, 0), (0, 1), (0, 0), (40 * MS, 1)], line | {"delay_ns": 5 * MS}, line | {"delay_ns": 30 * MS})
    assert near == [6 * MS, 8 * MS] and far == [32 * MS, 71 * MS]  # the second frame waited for the first, the third for both


@pytest.mark.parametrize("share", [True, False])
def test_two_full_wires_get_one_rate_together_or_two(share: bool) -> None:
    n, rate = 4000, 20_000_000
    arrivals = [(i * 400_000, i % 2) for i in range(n)]  # 15 Mbit/s each
    line = {"rate_bps": rate, "queue_ns": 50 * MS}
    if share:
        came, stats = shared(arrivals, line, line)
        assert all(s.dropped_queue > 0 == s.queued_bytes for s in stats)
    else:
        came = [preview([at for at, way in arrivals if way == w], **line).release for w in range(2)]
    arrived = [[r for r in way if r != LOST] for way in came]
    total = sum(map(len, arrived)) * 1500 * 8 * S / max(max(way) for way in arrived)
    assert total == pytest.approx(rate if share else 30_000_000, rel=0.01)
    assert 0.4 <= len(arrived[0]) / sum(map(len, arrived)) <= 0.6  # neither is shut out


def test_a_cut_of_one_wire_leaves_what_the_other_has_in_the_queue() -> None:
    """And the chance of one is not the other's."""
    line = {"rate_bps": 1_200_000, "queue_ns": S}
    (cut, other), stats = shared([(0, 0), (0, 1), (0, 0), (0, 1)], line | {"cut": 1}, line)
    assert cut == [LOST, LOST] and other == [10 * MS, 20 * MS]
    assert [s.dropped_cut for s in stats] == [2, 0]
    (lossy, clean), stats = shared([(i * 20 * MS, i % 2) for i in range(400)], line | {"loss_ppm": 500_000}, line)
    assert LOST not in clean and 60 < lossy.count(LOST) == stats[0].dropped_loss < 140 and stats[1].dropped_loss == 0


@given(st.lists(st.tuples(st.integers(0, 3 * MS), st.integers(0, 2)), max_size=60), st.integers(100, 1500))
@settings(deadline=None, max_examples=60)
def test_frames_of_a_shared_line_are_accounted_for(steps: list[tuple[int, int]], octets: int) -> None:
    arrivals = list(zip(itertools.accumulate(step for step, _ in steps), (way for _, way in steps), strict=True))
    line = {"rate_bps": 5_000_000, "queue_ns": 4 * MS}
    came, stats = shared(arrivals, line, line | {"loss_ppm": 200_000}, line | {"delay_ns": MS}, octets=octets)
    for way, s in zip(came, stats, strict=True):
        assert len(way) == s.packets + s.dropped_queue + s.dropped_loss and s.queued_bytes == 0
        assert s.packets == len(way) - way.count(LOST)
        assert [r for r in way if r != LOST] == sorted(r for r in way if r != LOST)
