"""`qlog.cost`: the log that is measured is the one that a node writes."""

from __future__ import annotations

from needs import needs_tunnel

from lab.bench.qlog import measure_qlog


@needs_tunnel
def test_both_details_are_measured_beside_no_log_and_lose_nothing() -> None:
    said: list[str] = []
    packets, events = measure_qlog(1, 1, said.append, rate_mbps=20, details=("packets", "events"))
    assert (packets.id, events.id) == ("qlog.cost", "qlog.cost.events")
    for figure in (packets, events):
        document = figure.document()
        assert document["unit"] == "CPU-s/Gbit" and document["value"] > 0 and document["ratios"]["off"] > 0
    assert len(said) == 2 and all("0 records lost" in line for line in said)
