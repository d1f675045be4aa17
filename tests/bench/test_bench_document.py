"""`mpq bench`: the document, and that its loads really run."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lab.bench import LOADS, SUITES, Figure, markdown, measure_aead, measure_tunnel
from lab.bench_pair import BenchError, check


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
    assert {d["id"] for d in documents} == {name + suffix for name in SUITES for suffix in ("", ".open")}
    assert all(d["value"] > 0 and d["ratios"]["openssl"] > 0 and d["unit"] == "ns/packet" for d in documents)
    table = markdown(
        {
            "machine": {"cpu": "c", "cores": 2, "kernel": "k", "aead_backends": ["openssl"]},
            "figures": documents,
            "problems": ["slow"],
        }
    )
    assert table.count("\n| aead.") == 6 and table.endswith("slow")


def test_errors_name_the_call() -> None:
    assert check(3, "x") == 3
    with pytest.raises(BenchError, match="io_new: error 7"):
        check(-7, "io_new")


@pytest.mark.system
@pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK) or shutil.which("iperf3") is None,
    reason="needs root, a usable /dev/net/tun and iperf3",
)
def test_tunnel_figures() -> None:
    told: list[str] = []
    documents = {d["id"]: d for d in (figure.document() for figure in measure_tunnel(1, 1, told.append))}
    assert set(documents) == {load.id for load in LOADS} | {"tunnel.cpu", "forwarder.cpu"}
    assert all(documents[load.id]["value"] > 0 and documents[load.id]["ratios"]["forwarder"] > 0 for load in LOADS)
    assert documents["tunnel.cpu"]["value"] > 0 and documents["tunnel.cpu"]["runs"] == 2
    assert len(told) == 1
    json.dumps(documents)
