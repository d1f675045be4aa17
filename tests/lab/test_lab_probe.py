"""The probe: silences are seen where an application would feel them, also when nothing comes back."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.probe import FORMAT, MAGIC, Tally


def packet(flow: int, sequence: int, flows: int = 2, total: int = 500, end: float = 11.0, due: float = 9.99) -> bytes:
    return FORMAT.pack(MAGIC, flow, flows, sequence, total, end, due)


def run(arrivals: list[tuple[int, int, float]]) -> dict[str, dict[str, object]]:
    tally = Tally()
    for flow, sequence, at in arrivals:
        tally.packet(packet(flow, sequence), at)
    document = tally.document()
    assert document["malformed"] == 0
    return document["flows"]  # type: ignore[return-value]


def steady(flow: int, first: int, last: int) -> list[tuple[int, int, float]]:
    return [(flow, n, 10.0 + n * 0.002) for n in range(first, last)]


def test_a_silence_in_one_flow_is_not_hidden_by_another() -> None:
    flows = run(sorted([*steady(0, 0, 500), *steady(1, 0, 100), *steady(1, 300, 500)], key=lambda a: a[2]))
    assert flows["0"]["gaps"] == [] and flows["0"]["lost"] == 0
    assert flows["1"]["lost"] == 200
    assert flows["1"]["gaps"] == [[pytest.approx(10.198), pytest.approx(10.6)]]


def test_flows_that_die_together_are_silent_to_the_end_of_sending() -> None:
    flows = run(sorted([*steady(0, 0, 100), *steady(1, 0, 100)], key=lambda a: a[2]))
    for flow in flows.values():
        assert flow["gaps"] == [[pytest.approx(10.198), 11.0]] and flow["lost"] == 400


def test_a_flow_that_never_came_is_reported() -> None:
    flows = run(steady(0, 0, 500))
    assert flows["1"]["received"] == 0 and flows["1"]["lost"] == 500


def test_nothing_at_all_is_a_flow_that_received_nothing() -> None:
    assert run([])["0"]["received"] == 0


def test_late_and_double_packets() -> None:
    flows = run([(0, 0, 10.0), (0, 2, 10.01), (0, 1, 10.011), (0, 1, 10.012)])
    assert (flows["0"]["received"], flows["0"]["reordered"], flows["0"]["duplicates"]) == (3, 1, 1)


@given(st.binary(max_size=64))
def test_foreign_packets_are_counted_and_change_nothing(data: bytes) -> None:
    tally = Tally()
    tally.packet(data, 10.0)
    assert tally.malformed == (0 if tally.flows else 1)


def test_both_programs_over_loopback() -> None:
    receiver = subprocess.Popen(
        [sys.executable, "-m", "lab.probe", "receive", "--listen", "127.0.0.1:0", "--duration", "3"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert receiver.stdout is not None
    port = json.loads(receiver.stdout.readline())["port"]
    command = [sys.executable, "-m", "lab.probe", "send", "--to", f"127.0.0.1:{port}", "--flows", "3", "--duration", "0.5"]
    begun, sent = map(json.loads, subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())
    out, _ = receiver.communicate()
    flows = json.loads(out)["flows"]
    assert begun == {"sending": True}
    assert sent == {"sent": 250, "failed": 0} and sorted(flows) == ["0", "1", "2"]
    assert [f["received"] for f in flows.values()] == [250, 250, 250]
    delays = json.loads(out)["delay_ms"]
    assert 0 <= delays["p50"] <= delays["p95"] <= delays["p99"] <= delays["max"]
