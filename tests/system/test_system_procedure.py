"""`mpq run demo`, as root and as an ordinary user: the whole procedure, its result, and what others read in its capture.

    register · MA PDU session · key · two paths · TCP, UDP, HTTP · cut and restore · re-key by core and UE · the old key is refused
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mpq_kit import ROOT, Mpq

from lab.pcapng import PcapngReader

pytestmark = pytest.mark.system

REQUIRED = [
    "tcp8.up.share", "tcp8.down.share", "http.sha256", "cut.longest_gap", "cut.path_back", "rekey.core.gap", "rekey.ue.gap",
    "keys.equal", "keys.fresh", "oldkey.refused", "paths.both_carry", "capture.decrypted",
]
PHASES = {"tcp1.up", "tcp1.down", "tcp8.up", "tcp8.down", "udp.up", "udp.down", "http.down"}
TRIES = 2
"""The aims are figures of a machine that others use, too: a run that misses one of them may be made once more."""


@pytest.fixture(scope="module", params=["root", "rootless"])
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    mpq = Mpq(tmp_path_factory.mktemp(request.param), rootless=request.param == "rootless")
    try:
        for _ in range(TRIES):
            done = mpq("run", "demo", "--json", "--quiet")
            assert done.out, done.err
            result: dict[str, Any] = done.document
            assert done.code == (0 if result["verdict"] == "pass" else 1)
            if done.code == 0:
                break
        yield result
        assert mpq.nothing_left()
    finally:
        mpq.end()


def test_every_check_is_made_and_passes(demo: dict[str, Any]) -> None:
    assert {c["id"]: c for c in demo["checks"] if not c["ok"]} == {}
    assert [c["id"] for c in demo["checks"]] == REQUIRED
    assert demo["verdict"] == "pass" and {p["id"] for p in demo["phases"]} >= PHASES


def test_the_result_keeps_its_schema_and_stands_in_the_run(demo: dict[str, Any]) -> None:
    jsonschema.validate(demo, json.loads((ROOT / "lab" / "result.schema.json").read_text()))
    assert json.loads((Path(demo["run"]) / "result.json").read_text()) == demo
    assert "capture.decrypted" in (Path(demo["run"]) / "report.html").read_text()


def test_steps_of_the_solution_are_events_in_order(demo: dict[str, Any]) -> None:
    lines = (Path(demo["run"]) / "events.jsonl").read_text().splitlines()
    events = [(e["node"], e["event"]) for e in map(json.loads, lines)]
    steps = [
        ("amf", "registered"), ("upf", "key_requested"), ("smf", "key_request_forwarded"), ("amf", "key_derived"),
        ("amf", "key_sent_ue"), ("upf", "connection_ready"),
    ]
    places = [events.index(step) for step in steps]
    assert places == sorted(places)
    assert {("amf", "key_sent_smf"), ("upf", "key_installed"), ("ue", "key_received"), ("ue", "connection_ready")} <= set(events)


def test_no_secret_is_in_the_run_but_where_it_was_asked_for(demo: dict[str, Any]) -> None:
    """The key log and the NAS keys were asked for: nothing of them is in events, figures or node output."""
    run = Path(demo["run"])
    secrets = [line.split()[2] for line in (run / "keys.log").read_text().splitlines() if not line.startswith("#")]
    nas = [json.loads(line) for line in (run / "nas.keys").read_text().splitlines()]
    secrets += [keys[name] for keys in nas for name in ("k_nas_enc", "k_nas_int")]
    assert len(secrets) > 10
    open_files = [p for p in run.iterdir() if p.suffix in (".json", ".jsonl", ".yaml", ".stderr", ".sqlog")]
    assert len(open_files) >= 6
    text = "".join(p.read_text(errors="replace") for p in open_files)
    assert [s for s in secrets if s in text] == []
    assert "client_random" in text  # the search would see what is there


def test_packets_that_a_step_concerns_are_marked(demo: dict[str, Any]) -> None:
    with (Path(demo["run"]) / "capture.pcapng").open("rb") as stream:
        text = "\n".join(record.comment for record in PcapngReader(stream) if record.comment.startswith("mark: "))
    for mark in ("first packet after step cut-wifi", "first packet after step restore-wifi", "first packet after step rekey-core",
                 "first packet after step rekey-ue", "first IP packet on the key of connection"):
        assert mark in text, text
    assert text.count("carries the key container: generation") == 3


def test_an_independent_decryptor_agrees(demo: dict[str, Any]) -> None:
    capture = Path(demo["run"]) / "capture.pcapng"
    program = [sys.executable, str(ROOT / "tests" / "independent_decryptor.py"), str(capture)]
    theirs = json.loads(subprocess.run(program, capture_output=True, text=True, check=True, timeout=120).stdout)
    program = [sys.executable, "-m", "lab", "inspect", "--stats", "--json", demo["run"]]
    ours = json.loads(subprocess.run(program, capture_output=True, text=True, check=True, timeout=120, cwd=ROOT).stdout)
    assert ours["packets"] == ours["decrypted"] == theirs["packets"] == theirs["decrypted"] > 1000
    assert {k: v["decrypted"] for k, v in ours["paths"].items()} == theirs["paths"]
    assert ours["not_decrypted"] == []


def tshark(capture: Path, display_filter: str, *fields: str) -> list[list[str]]:
    """Packets by the filter, with nothing but the capture file."""
    program = shutil.which("tshark")
    assert program is not None, "tshark is installed by lab/provision.sh"
    command = [program, "-r", str(capture), "-Y", display_filter, "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_tshark_reads_path_0_n4_and_nas(demo: dict[str, Any]) -> None:
    capture = Path(demo["run"]) / "capture.pcapng"
    rows = tshark(capture, "(quic and tls.handshake) or http3 or pfcp or nas-5gs", "tls.handshake.type", "http3.settings.id",
                  "pfcp.msg_type", "nas_5gs.mm.message_type", "_ws.malformed")
    hellos = [row[0] for row in rows if row[0]]
    assert any(types.startswith("1") for types in hellos) and any("2" in types.split(",") for types in hellos)
    assert not any("11" in types.split(",") for types in hellos)  # no certificate
    assert any("51" in row[1].split(",") for row in rows)  # SETTINGS_H3_DATAGRAM, in 1-RTT packets of path 0
    n4 = [row for row in rows if row[2]]
    assert {"50", "51", "52", "53", "56", "57"} <= {row[2] for row in n4}
    assert not [row for row in n4 if row[4]]
    sbi = tshark(capture, "http2.headers.path", "http2.headers.path", "frame.interface_name")
    assert any("mpquic-key" in row[0] for row in sbi) and {row[1] for row in sbi} == {"core/sbi"}
    nas = {message for row in rows for message in row[3].split(",") if message}
    assert {"0x41", "0x42", "0x56", "0x57", "0x5d", "0x5e", "0x67", "0x68"} <= nas
