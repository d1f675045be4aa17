"""`mpq bench`: the document, and that its loads really run."""

from __future__ import annotations

import asyncio
import copy
import json
import socket
from pathlib import Path
from typing import Any, Self

import jsonschema
import pytest
from needs import needs_tunnel

import lab
from lab.bench import PARTS, Plan, active, inspect_logs, markdown, run_bench
from lab.bench import inspect as bench_inspect
from lab.bench.aead import SUITES, measure_aead
from lab.bench.aims import AIMS, judge
from lab.bench.capture import measure_capture, measure_views
from lab.bench.capture_file import write_capture
from lab.bench.engine import measure_engine
from lab.bench.figure import Figure
from lab.bench.handshake import DERIVATION, ENGINE, PYTHON, X25519, handshake_parts, measure_handshakes
from lab.bench.packages import Peer
from lab.bench.pair import CLIENT, BenchError, check
from lab.bench.profile import AEAD, KERNEL, parse, parts
from lab.bench.profile import ENGINE as OUR_OWN
from lab.bench.sessions import measure_idle, measure_memory
from lab.bench.tunnel import LOADS
from lab.inspect_stats import inspect_stats
from lab.verbs import bench as verb

SCHEMA = json.loads((Path(lab.__file__).parent / "bench.schema.json").read_text())
DESIGN_IDS = {
    "aead.aes_128_gcm", "aead.aes_256_gcm", "aead.chacha20_poly1305", "engine.memory", "tunnel.tcp.up", "tunnel.tcp.down",
    "tunnel.udp64", "tunnel.cpu", "multipath.cpu", "multipath.sum", "multipath.sum.unequal", "sessions.100", "handshake.psk",
    "session.memory", "session.idle_cpu", "inspect.decrypt",
}
TINY = Plan(1, 1, 1, 320, 3, 20, 5, 1, 1, 300)



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
            "peers": [],
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
    idle, active = measure_memory(40)
    assert idle.values[0] >= 0 and active.values[0] >= 0  # of so few, the allocator may have had the room already
    assert measure_idle(5).values[0] > 0


def test_parts_can_be_measured_alone() -> None:
    assert tuple(PARTS) == verb.PARTS
    document = run_bench(TINY, lambda _: None, [], ("inspect", "aead"))
    assert [f["id"].split(".")[0] for f in document["figures"]] == 12 * ["aead"] + 5 * ["inspect"]
    jsonschema.validate(document, SCHEMA)


def test_a_capture_that_does_not_open_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = asyncio.run(bench_inspect.record(200))

    async def keyless(_packets: int) -> tuple[bytes, bytes, int]:
        return made[0], b"", made[2]

    async def emptied(_packets: int) -> tuple[bytes, bytes, int]:
        return made[0], made[1], made[2] + 1

    assert made[2] >= 200
    for instead in (keyless, emptied):
        monkeypatch.setattr(bench_inspect, "record", instead)
        with pytest.raises(BenchError, match="came in clear"):
            bench_inspect.measure_inspect(1, 200)


def test_the_losses_of_a_run_are_found_or_there_is_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dropped, follow = (figure.document() for figure in inspect_logs.measure_logs(1, 300))
    assert (dropped["id"], follow["id"], dropped["unit"]) == ("inspect.dropped", "inspect.follow", "s")
    told, lost = inspect_logs.write_run(tmp_path, 300)
    assert told > 2000 and lost > 3
    monkeypatch.setattr(inspect_logs, "_tell", lambda *_: 1)
    with pytest.raises(BenchError, match="did not find the 1 packets"):
        inspect_logs.measure_logs(1, 300)


def test_inspect_reads_the_capture_that_it_is_measured_with(tmp_path: Path) -> None:
    figures = [figure.document() for figure in measure_views(1, 1_500)]
    assert [figure["id"] for figure in figures] == ["inspect.stats", "inspect.table"]
    assert all(figure["value"] > 0 for figure in figures)
    assert write_capture(tmp_path / "c.pcapng", 300) == (tmp_path / "c.pcapng").stat().st_size
    stats = inspect_stats(tmp_path / "c.pcapng")
    assert stats["packets"] == stats["decrypted"] == stats["inner_packets"] == 300 and set(stats["paths"]) == {"0", "1"}


@needs_tunnel
def test_a_capture_is_measured_beside_none() -> None:
    documents = {d["id"]: d for d in (figure.document() for figure in measure_capture(1, 1, lambda text: None))}
    assert set(documents) == {name + part for name in ("capture.cost", "capture.cost.all", "capture.gbit", "capture.gbit.all")
                              for part in ("", ".cpu", ".lost")}
    assert all(d["ratios"]["without"] > 0 for name, d in documents.items() if not name.endswith(".lost"))


def test_errors_name_the_call() -> None:
    assert check(3, "x") == 3
    with pytest.raises(BenchError, match="io_new: error 7"):
        check(-7, "io_new")


def test_profiles_name_functions() -> None:
    lines = ["    12.50%  [.] gcm_128   -  -", "     3.00%  [k] _copy_to_iter", "# a comment", "", "    40.00%  [.] x"]
    assert parse(lines) == [("x", 40.0), ("gcm_128", 12.5), ("_copy_to_iter (kernel)", 3.0)]


def test_a_profile_is_the_kernels_the_ciphers_and_the_engines() -> None:
    found = parts([("_copy_to_iter (kernel)", 30.0), ("gcm_128", 12.0), ("aead_seal", 3.0), ("fq_push", 15.0)])
    assert found == {KERNEL: 0.5, AEAD: 0.25, OUR_OWN: 0.25}


@needs_tunnel
def test_the_flows_of_many_sessions_use_cubic_whatever_the_default_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a rate-based default, which holds so many short windows down, the figure once told of that."""

    def other_default() -> None:
        Path("/proc/sys/net/ipv4/tcp_congestion_control").write_text("reno")

    class Changed(active.Line):
        def __enter__(self) -> Self:
            line = super().__enter__()
            line.spaces[CLIENT].call_sync(other_default)
            return line

    def used(sessions: int) -> set[bytes]:
        one = active.Active(sessions, 2)
        try:
            assert one.bulk.turn(one.pair, 0.1).gbps > 0
            return {s.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") for s in one.bulk._senders}
        finally:
            one.close()

    monkeypatch.setattr(active, "SETTLE_S", 0.1)
    monkeypatch.setattr(active, "Line", Changed)
    assert used(2) == used(1) == {b"cubic"}
    monkeypatch.setattr(active, "CONGESTION", b"reno")  # the canary: what the default would have been
    assert used(2) == {b"reno"}


def test_parts_of_a_handshake_make_the_whole() -> None:
    parts, modules = handshake_parts(5, 4)
    assert set(parts) == {X25519, DERIVATION, ENGINE, PYTHON}
    assert all(us > 0 for us in parts.values())
    assert len(modules) == 4 and "connection.py" in modules and sum(modules.values()) < parts[PYTHON]


def test_the_schema_wants_a_reason_for_every_missed_aim() -> None:
    figure: dict[str, Any] = {
        "id": "tunnel.cpu", "value": 1.0, "unit": "CPU-s/Gbit", "spread": [1.0, 1.0], "runs": 1, "ratios": {"forwarder": 3.0},
        "aims": [{"aim": "forwarder <= 2.2", "met": False}], "why": "measured",
    }
    about = {"cpu": "", "cores": 1, "kernel": "", "python": "", "aead_backends": ["openssl"], "load_before": 0.1}
    peers = [{"name": "mptcp", "absent": "no kernel"}]
    document = {"schema": 1, "machine": about, "peers": peers, "figures": [figure], "problems": []}
    jsonschema.validate(document, SCHEMA)
    for change in ({"why": None}, {"unit": "furlong"}, {"ratios": {"nobody": 1.0}}, {"aims": [{"aim": "x", "met": True}]}):
        wrong = copy.deepcopy(document)
        wrong["figures"] = [{key: value for key, value in (figure | change).items() if value is not None}]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, SCHEMA)
    both = document | {"peers": [{"name": "mptcp", "absent": "no kernel", "version": "1"}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(both, SCHEMA)


@needs_tunnel
def test_the_whole_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, in the shortest form; a peer that cannot run is named and nothing else fails."""
    monkeypatch.setattr(active, "SETTLE_S", 0.3)
    found = [
        Peer("openvpn", "/bin/false", "0"),
        Peer("wireguard_go", absent="wireguard-go is not installed"),
        Peer("mptcp", absent="this kernel has no MPTCP"),
    ]
    document = run_bench(TINY, lambda _: None, found)
    jsonschema.validate(document, SCHEMA)
    figures = {f["id"]: f for f in document["figures"]}
    others = {"forwarder.cpu", "tunnel.chacha20_poly1305.cpu", "session.memory.active"}
    assert set(figures) >= DESIGN_IDS | {load.id for load in LOADS} | others
    assert all(figures[load.id]["value"] > 0 and figures[load.id]["ratios"]["forwarder"] > 0 for load in LOADS)
    assert figures["tunnel.cpu"]["runs"] == 2  # up and down
    beside = {"multipath.cpu": "single", "multipath.sum": "sum", "multipath.sum.unequal": "sum", "sessions.100": "one",
              "sessions.100.cpu": "one"}
    assert all(figures[name]["ratios"][ratio] > 0 for name, ratio in beside.items())
    by_name = {peer["name"]: peer for peer in document["peers"]}
    assert by_name["openvpn"]["absent"].startswith("it failed: openvpn did not come up")
    table = markdown(document)
    assert "openvpn not measured: it failed" in table and "| multipath.sum.unequal |" in table
