"""Scenario `renewal`: two paths, NAT rebindings, key updates and two re-keys under traffic, every packet captured.

    ue ── acc1 ═ NAT ═ wire ═ [3gpp] ── upf      what is captured stands left of the NAT: the UE's end
       ── acc2 ═ NAT ═ wire ═ [wifi] ──┘
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mpq_kit import Mpq

from lab.capture_scan import CaptureDecryptor, load_keylog
from lab.decrypt import ClearPacket
from lab.inspect_run import read_run

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def renewal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    mpq = Mpq(tmp_path_factory.mktemp("renewal"))
    try:
        done = mpq("run", "renewal", "--json", "--quiet")
        assert done.code == 0, done.out + done.err
        yield done.document
    finally:
        mpq.end()


@pytest.fixture(scope="module")
def capture(renewal: dict[str, Any]) -> Path:
    files = sorted(Path(renewal["run"]).glob("capture_*.pcapng"))
    assert len(files) == 1, "all of the run is in the ring's first file"
    return files[0]


@pytest.fixture(scope="module")
def packets(capture: Path) -> list[ClearPacket]:
    """With the secrets inside the file and no others."""
    with capture.open("rb") as stream:
        decryptor = CaptureDecryptor(stream, load_keylog(capture), lean=True)
        found = list(decryptor.packets())
        assert decryptor.reader.problem == "" and decryptor.unreadable == 0
        assert all(figures.dropped == 0 for figures in decryptor.reader.statistics.values())
    return found


def events(renewal: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(renewal["run"]) / "events.jsonl").read_text().splitlines()]


def test_rebindings_key_updates_and_rekeys_happened(renewal: dict[str, Any], packets: list[ClearPacket]) -> None:
    """Told by the wire's far end, by the packets, and by the nodes: not by the lab that asked for them."""
    found = events(renewal)
    moved = [(e.get("access"), e["t"]) for e in found if (e["node"], e["event"]) == ("upf", "path_remote_changed")]
    rebound = {e["access"]: e["t"] for e in found if (e["node"], e["event"]) == ("lab", "rebind")}
    assert set(rebound) == {"3gpp", "wifi"} and len(moved) >= 2
    for when in rebound.values():
        assert any(when < t < when + 3 for _, t in moved), (rebound, moved)
    carrying = {p.connection for p in packets if p.kind == "1rtt" and p.inner_count}
    updated = {p.connection for p in packets if p.generation}
    assert len(carrying) == 3 and len(updated) == 2 and updated <= carrying
    for connection in updated:  # both ends changed their keys, on both paths
        assert {(p.up, p.path) for p in packets if p.connection == connection and p.generation} == {
            (up, path) for up in (True, False) for path in (0, 1)}


def test_every_quic_packet_is_in_clear_and_has_its_path_and_session(packets: list[ClearPacket]) -> None:
    left = Counter((p.kind, p.reason) for p in packets if p.reason or p.connection is None)
    left -= Counter({key: n for key, n in left.items() if key[0] == "stateless-reset"})  # no packet (RFC 9000 §10.3)
    assert left == Counter()
    short = [p for p in packets if p.kind == "1rtt"]
    assert len(short) > 2000 and all(p.path is not None and p.number is not None for p in short)
    assert {p.path for p in short} >= {0, 1}


def test_inner_packets_are_those_of_the_tun(renewal: dict[str, Any], capture: Path, packets: list[ClearPacket]) -> None:
    """At the UE's end each datagram is captured once: sent, or arrived."""
    counters = next(e for e in events(renewal) if e["event"] == "tunnel_counters" and e["of"] == "ue")
    run = read_run(capture)
    seen = {True: 0, False: 0}
    for p in packets:
        t = run.seconds(p.time_ns)
        assert t is not None
        if t <= counters["t"]:
            seen[p.up] += p.inner_count
    assert seen[True] == counters["packets_out"] > 1000
    assert seen[False] == counters["packets_in"] > 1000
