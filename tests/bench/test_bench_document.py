"""`mpq bench`: the document, and that its loads really run."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lab.bench import markdown
from lab.bench.aead import SUITES, measure_aead
from lab.bench.aims import AIMS, judge
from lab.bench.engine import measure_engine
from lab.bench.figure import Figure
from lab.bench.handshake import measure_handshakes
from lab.bench.pair import BenchError, check
from lab.bench.sessions import measure_active, measure_idle, measure_memory
from lab.bench.tunnel import LOADS, measure_multipath, measure_tunnel

needs_tunnel = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK) or shutil.which("iperf3") is None,
    reason="needs root, a usable /dev/net/tun and iperf3",
)


def test_figure_is_medians_of_values_and_of_ratios() -> None:
    figure = Figure("x", "ns")
    for value, peer in ((1.0, 2.0), (3.0, 4.0), (2.0, 10.0)):
        figure.add(value, openssl=peer, absent=0.0)
    assert figure.document() == {
        "id": "x",
        "value": 2.0,
        "unit": "ns",
        "spread": [1.0, 3.0],
        "runs": 3,
        "ratios": {"openssl": 0.5},
    }


def test_aead_figures() -> None:
    documents = [figure.document() for figure in measure_aead(1, 320)]
    suffixes = ("", ".open", ".openssl", ".openssl.open")
    assert {d["id"] for d in documents} == {name + suffix for name in SUITES for suffix in suffixes}
    assert all(d["value"] > 0 and d["ratios"]["openssl"] > 0 and d["unit"] == "ns/packet" for d in documents)
    table = markdown(
        {
            "machine": {"cpu": "c", "cores": 2, "kernel": "k", "aead_backends": ["openssl"]},
            "figures": documents,
            "problems": ["slow"],
        }
    )
    assert table.count("\n| aead.") == 12 and table.endswith("slow")


def test_an_aim_is_met_or_missed_by_its_ratio_or_its_value() -> None:
    figure = Figure("handshake.psk", "1/s")
    figure.add(500.0, aioquic=250.0)
    assert judge(figure.document())["aims"] == [{"aim": "1/s >= 400", "met": True}, {"aim": "aioquic >= 3", "met": False}]
    alone = Figure("tunnel.cpu", "CPU-s/Gbit")
    alone.add(1.0)
    assert "aims" not in judge(alone.document())
    assert all(aims for aims in AIMS.values())


def test_figures_in_memory() -> None:
    documents = {d["id"]: d for d in (figure.document() for figure in measure_engine(1, 3_200))}
    assert documents["engine.memory.send"]["value"] > documents["engine.own.send"]["value"] > 0
    handshakes = measure_handshakes(1, 3).document()
    assert handshakes["value"] > 0 and handshakes["ratios"]["aioquic"] > 0
    assert measure_memory(20).values[0] >= 0
    assert measure_idle(5).values[0] > 0


def test_errors_name_the_call() -> None:
    assert check(3, "x") == 3
    with pytest.raises(BenchError, match="io_new: error 7"):
        check(-7, "io_new")


@needs_tunnel
def test_tunnel_figures() -> None:
    told: list[str] = []
    documents = {d["id"]: d for d in (figure.document() for figure in measure_tunnel(1, 1, told.append))}
    assert set(documents) == {load.id for load in LOADS} | {"tunnel.cpu", "forwarder.cpu"}
    assert all(documents[load.id]["value"] > 0 and documents[load.id]["ratios"]["forwarder"] > 0 for load in LOADS)
    assert documents["tunnel.cpu"]["value"] > 0 and documents["tunnel.cpu"]["runs"] == 2
    assert len(told) == 1
    json.dumps(documents)


@needs_tunnel
def test_many_sessions_and_two_paths() -> None:
    active = measure_active(1, 0.5, lambda _: None).document()
    assert active["value"] > 0 and active["ratios"]["one"] > 0
    two = measure_multipath(1, 1, lambda _: None)[0].document()
    assert two["value"] > 0 and two["ratios"]["single"] > 0
