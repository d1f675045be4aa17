"""The wire's own figures, briefly: that each is there and is what it says, not how large it is."""

from __future__ import annotations

from needs import needs_tun

from lab.bench.wire import measure_wire


@needs_tun
def test_a_wire_is_measured() -> None:
    figures = {f.id: f for f in measure_wire(1, 0.3)}
    assert {name: f.unit for name, f in figures.items()} == {
        "wire.rate.error": "%", "wire.delay.error": "ms", "wire.delay.p99": "ms", "wire.cpu": "us/packet"}
    assert all(len(f.values) == 1 and f.values[0] >= 0 for f in figures.values())
