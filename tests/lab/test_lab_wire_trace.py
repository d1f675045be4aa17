"""Traces that a wire follows, and the shapes of `wire:`: what is right arrives, what is wrong is one line that says where."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lab.errors import LabError, ScenarioError
from lab.scenario import check_wire, parse
from lab.shape import PRESETS, BurstLoss, Shape, both_ways
from lab.wire_trace import SHIPPED, SIZE_LIMIT, find_trace, load_trace, parse_trace, shipped_traces
from lab.wires import DOWN, UP, Wires, late, points, values
from native import lib

CSV = b"""# made by hand
time_s, rate_mbps, loss_percent
0, 10, 0
1.5, 0, 100   # a tunnel
2, 20, 0.5
"""
SCENARIO = """\
accesses:
  - {{name: 3gpp, type: 3gpp, wire: {wire}}}
  - {{name: wifi, type: non-3gpp}}
"""


def test_csv() -> None:
    trace = parse_trace(CSV, "t.csv")
    assert [(p.time_s, p.rate_mbps, p.delay_ms, p.loss_percent) for p in trace.points] == [
        (0, 10, None, 0), (1.5, 0, None, 100), (2, 20, None, 0.5)]
    assert trace.length_s == 2.5
    assert trace.mean_mbps() == pytest.approx((10 * 1.5 + 20 * 0.5) / 2.5)
    second = points(trace, Shape(delay_ms=7))[1]
    assert second == {"at_ns": 1_500_000_000, "rate_bps": 0, "delay_ns": 7_000_000, "loss_ppm": 1_000_000}


def test_mahimahi() -> None:
    trace = parse_trace(b"0\n0\n3\n10\n", "t")
    assert trace.deliveries_ms == array("I", [0, 0, 3, 10]) and trace.length_s == 0.01
    assert trace.mean_mbps() == pytest.approx(4 * 1504 * 8 / 0.01 / 1e6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"\xff\n", "t:1: must be plain text"),
        (b"1\n-2\n", "t:2: must be whole milliseconds"),
        (b"5\n4\n", "t:2: 4 is before the line above it (5)"),
        (b"0\n0\n", "all times are 0"),
        (b"1\n" + b"9" * 10 + b"\n", "t:2: must be whole milliseconds"),
        (b"time_s\n0\n", "t:1: must be time_s, then any of rate_mbps, delay_ms, loss_percent, each once"),
        (b"time_s,rate\n0,1\n", "t:1: must be time_s, then any of"),
        (b"time_s,rate_mbps,rate_mbps\n0,1,1\n", "t:1: must be time_s, then any of"),
        (b"time_s,rate_mbps\n", "has no line of values"),
        (b"time_s,rate_mbps\n1,1\n", "t:2: time_s: must begin with 0"),
        (b"time_s,rate_mbps\n0,1\n0,1\n", "t:3: time_s: must be later than the line above it"),
        (b"time_s,rate_mbps\n0,1,2\n", "t:2: must have 2 values, it has 3"),
        (b"time_s,rate_mbps\n0,fast\n", "t:2: rate_mbps: must be a number, not 'fast'"),
        (b"time_s,rate_mbps\n0,-1\n", "t:2: rate_mbps: must be between 0 and 100000"),
        (b"time_s,rate_mbps\n0,nan\n", "t:2: rate_mbps: must be between 0 and 100000"),
        (b"time_s,loss_percent\n0,101\n", "t:2: loss_percent: must be between 0 and 100"),
        (b"time_s,rate_mbps\n0,0\n1,0\n", "nothing would ever pass"),
    ],
)
def test_what_is_wrong_is_named(text: bytes, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        parse_trace(text, "t")
    assert says in str(caught.value) and "\n" not in str(caught.value)


@given(st.one_of(st.binary(max_size=200), st.text("time_s,rate_mbps0123456789.\n#-", max_size=200).map(str.encode)))
@example(b"time_s,delay_ms\n0,0")
def test_any_file_is_a_trace_or_a_scenario_error(data: bytes) -> None:
    try:
        trace = parse_trace(data, "t")
    except ScenarioError:
        return
    assert trace.length_s > 0 and bool(trace.points) != (trace.deliveries_ms is not None)


def test_a_large_file_is_refused() -> None:
    with pytest.raises(ScenarioError, match="larger than 32 MiB"):
        parse_trace(b"1\n" * (SIZE_LIMIT // 2 + 1), "t")


def test_shipped_traces_are_followed(tmp_path: Path) -> None:
    assert {"drive-lte", "leo-15s", "wifi-walk"} <= set(shipped_traces())
    for name in shipped_traces():
        trace = load_trace(find_trace(name, tmp_path))
        mean = trace.mean_mbps()
        assert mean is not None and 5 < mean < 200 and trace.length_s >= 30
        assert (SHIPPED / f"{name}.csv").read_text().startswith("# Made, not recorded:")


def test_a_scenario_finds_its_trace_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(CSV)
    scenario = parse(SCENARIO.format(wire="{trace: ./mine.csv, delay_ms: 3}").encode(), str(tmp_path / "s.yaml"), "s")
    up = scenario.accesses[0].up
    assert up.trace == str(tmp_path / "mine.csv") and up.delay_ms == 3
    assert scenario.wire_sum_mbps("up") is None  # the other wire has no rate


@pytest.mark.parametrize(
    ("wire", "says"),
    [
        ("{trace: nowhere}", "accesses[0].wire.trace: there is no trace 'nowhere'; shipped are drive-lte, leo-15s, wifi-walk"),
        ("{trace: ./nowhere.csv}", "nowhere.csv: cannot be read: No such file"),
        ("{up: {trace: ./bad.csv}}", "s.yaml:2: accesses[0].wire.up.trace: "),
        ("{trace: ./delays.csv}", "accesses[0].wire.trace: "),
        ("{preset: 6g}", "accesses[0].wire.preset: must be one of lte, nr, satellite, satellite-geo, wifi, wifi-edge"),
        ("{burst_loss: {enter: 1}}", "unknown key; allowed: enter_percent, leave_percent, loss_percent"),
        ("{jitter: gauss}", "must be one of uniform, normal, exponential, pareto"),
        ("{corrupt_percent: 101}", "must be at most 100"),
    ],
)
def test_what_a_scenario_says_wrong_of_a_wire(wire: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("time_s,rate_mbps\n0,fast\n")
    (tmp_path / "delays.csv").write_text("time_s,delay_ms\n0,5\n")
    with pytest.raises(ScenarioError) as caught:
        parse(SCENARIO.format(wire=wire).encode(), str(tmp_path / "s.yaml"), "s")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_preset_is_a_start_for_ones_own_values() -> None:
    up, down = both_ways({"preset": "nr", "queue_ms": 20, "down": {"rate_mbps": 90}})
    assert (up.rate_mbps, up.queue_ms, down.rate_mbps, down.queue_ms) == (PRESETS["nr"][0].rate_mbps, 20, 90, 20)
    assert down.jitter == "exponential"
    changed, _ = both_ways({"burst_loss": {"loss_percent": 9}}, Shape(burst_loss=BurstLoss(1, 2, 3)))
    assert changed.burst_loss == BurstLoss(1, 2, 9)


def test_a_running_wire_takes_presets_traces_and_their_end(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(CSV)
    wires = Wires(1)
    ends = (-1, 1)  # the loopback of this namespace: a wire that nobody starts
    wires.add("wifi", ends, ends, Shape(rate_mbps=5), Shape())
    try:
        wires.change("wifi", {"preset": "lte"})
        assert (wires.shape_of("wifi", UP), wires.shape_of("wifi", DOWN)) == PRESETS["lte"]
        wires.change("wifi", check_wire({"down": {"trace": str(tmp_path / "t.csv")}}))
        assert wires.shape_of("wifi", DOWN).trace == str(tmp_path / "t.csv") and wires.shape_of("wifi", UP).trace is None
        wires.change("wifi", {"trace": "none", "delay_ms": 1})
        assert wires.shape_of("wifi", DOWN).trace is None
        assert wires.stats()["wifi"]["down"]["corrupted"] == 0
    finally:
        wires.close()


def test_a_change_of_a_shared_line_is_a_change_for_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(CSV)
    wires = Wires(1)
    try:
        for name in ("3gpp", "wifi"):
            wires.add(name, (-1, 1), (-1, 1), Shape(5, 10, shares="home"), Shape(20, 30, shares="home"))
        wires.add("other", (-1, 1), (-1, 1), Shape(5), Shape(20))
        wires.change("wifi", {"rate_mbps": 7, "delay_ms": 1})
        wires.change("wifi", {"preset": "lte", "down": {"rate_mbps": 9}})
        for direction, rate in ((UP, PRESETS["lte"][0].rate_mbps), (DOWN, 9)):
            assert wires.shape_of("3gpp", direction).rate_mbps == rate and wires.shape_of("3gpp", direction).shares == "home"
            assert wires.shape_of("wifi", direction).shares == "home"
        assert [wires.shape_of("3gpp", d).delay_ms for d in (UP, DOWN)] == [10, 30]
        assert [wires.shape_of("other", d).rate_mbps for d in (UP, DOWN)] == [5, 20]
        with pytest.raises(LabError, match="follows no trace"):
            wires.change("3gpp", check_wire({"trace": str(tmp_path / "t.csv")}))
    finally:
        wires.close()


def test_every_value_of_a_shape_reaches_the_wire() -> None:
    shape = Shape(1, 2, 3, "pareto", 4, 5, BurstLoss(6, 7, 8), 9, 10, 11, 12, 13_000)
    assert values(shape, cut=True) == {
        "rate_bps": 1_000_000, "delay_ns": 2_000_000, "jitter_ns": 3_000_000, "jitter_every_ns": 4_000_000,
        "jitter": lib.WIRE_JITTER_PARETO, "loss_ppm": 50_000, "burst_enter_ppm": 60_000, "burst_leave_ppm": 70_000,
        "burst_loss_ppm": 80_000, "reorder_ppm": 90_000, "duplicate_ppm": 100_000, "corrupt_ppm": 110_000,
        "queue_ns": 12_000_000, "queue_bytes": 13_000, "cut": 1,
    }


def test_lateness_is_told_by_the_bucket() -> None:
    assert late([0] * 16, 0.5) == 0
    assert late([98, 0, 0, 1, 1, *[0] * 11], 0.5) == 1
    assert late([98, 0, 0, 1, 1, *[0] * 11], 0.99) == 8
    assert late([98, 0, 0, 1, 1, *[0] * 11], 1.0) == 16
