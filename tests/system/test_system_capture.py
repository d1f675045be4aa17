"""`mpq capture` of a running lab.

    ue ── acc1 ═ wire ═ [3gpp] ── core ── n4 ── upf ── n6link ── dn        every interface of it, into one file or a ring of files
       ── acc2 ═ wire ═ [wifi] ──┘
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mpq_kit import Mpq

from lab.inspect_stats import verify_ring
from lab.pcapng import PcapngReader

pytestmark = pytest.mark.system

PATIENCE_S = 20.0

# `count` datagrams of `size` octets from the UE to a closed port of `dn`.
SEND = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[1])):
    s.sendto(bytes(int(sys.argv[2])), ("10.99.0.2", 9))
"""


@pytest.fixture(scope="module", params=["root", "rootless"])
def keyed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mpq]:
    """A lab that is up and logs its keys, but captures nothing by itself."""
    one = Mpq(tmp_path_factory.mktemp(request.param), rootless=request.param == "rootless")
    try:
        done = one("up", "--keys", "--json")
        assert done.code == 0, done.err
        yield one
    finally:
        one.end()


def started(mpq: Mpq, *arguments: str) -> subprocess.Popen[str]:
    """A capture that runs: its line says so."""
    process = mpq.start("capture", *arguments)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("capturing into "), line + process.stderr.read()
    return process


def send(mpq: Mpq, count: int, size: int) -> None:
    done = mpq("exec", "ue", os.environ.get("PYTHON", "python3"), "-c", SEND, str(count), str(size))
    assert done.code == 0, done.err


def read(path: Path) -> PcapngReader:
    with path.open("rb") as stream:
        reader = PcapngReader(stream)
        for _ in reader:
            pass
    assert reader.problem == ""
    return reader


def tshark(path: Path, display_filter: str, *fields: str) -> list[list[str]]:
    program = shutil.which("tshark")
    assert program is not None, "tshark is installed by lab/provision.sh"
    command = [program, "-r", str(path), "-Y", display_filter, "-T", "fields", *(x for f in fields for x in ("-e", f))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_the_lab_goes_on(keyed: Mpq, tmp_path: Path, number: int) -> None:
    path = tmp_path / "all.pcapng"
    process = started(keyed, "--json", "-o", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    send(keyed, 20, 900)
    assert [one["path"] for one in keyed("status", "--json").document["captures"]] == [str(path)]
    rekeyed = keyed("rekey", "--by", "core", "--json")
    assert rekeyed.code == 0, rekeyed.err
    assert keyed.round_trip().code == 0
    process.send_signal(number)
    done = keyed.finish(process)
    assert done.code == 0, done.err
    figures = done.document
    assert figures["ended"] == "told to" and figures["written"] == [str(path)] and figures["keys"]
    assert figures["dropped_kernel"] == figures["dropped_limit"] == 0
    reader = read(path)
    names = [interface.name for interface in reader.interfaces]
    further = {"ue:mpq0", "upf:n6", "dn:eth0", "3gpp:wire", "wifi:wire", "core:n4"}
    assert {"ue/3gpp", "ue/wifi", "upf/n4", "core/sbi"} | further <= set(names)
    assert not [name for name in names if name.startswith("wires:")]
    statistics = {names[n]: s for n, s in reader.statistics.items()}
    assert statistics.keys() == set(names)
    assert sum(s.written or 0 for s in statistics.values()) == figures["packets"] == reader.number
    assert {name: s.received for name, s in statistics.items()} == {n: f["received"] for n, f in figures["interfaces"].items()}
    # the connection of the re-key is in it from its first packet: all of it opens, by the file alone
    (keyed.place / "elsewhere").mkdir(exist_ok=True)
    alone = keyed.place / "elsewhere" / f"{number}.pcapng"
    shutil.copy(path, alone)
    stats = keyed("inspect", "--stats", "--json", str(alone)).document
    assert stats["packets"] == stats["decrypted"] > 30 and stats["not_decrypted"] == []
    assert all(way["duplicates"] == 0 for conn in stats["connections"] for one in conn["paths"] for way in (one["up"], one["down"]))
    assert keyed.round_trip().code == 0
    assert keyed("status", "--json").document["captures"] == []


def test_wireshark_opens_it_as_it_is(keyed: Mpq, tmp_path: Path) -> None:
    path = tmp_path / "w.pcapng"
    process = started(keyed, "--interface", "ue/*", "--interface", "core/sbi", "-o", str(path))
    assert keyed("rekey", "--by", "ue", "--json").code == 0
    process.send_signal(signal.SIGINT)
    assert keyed.finish(process).code == 0
    rows = tshark(path, "http3", "http3.settings.id", "frame.interface_name", "frame.packet_flags_direction")
    assert any("51" in row[0].split(",") for row in rows)  # SETTINGS_H3_DATAGRAM
    assert {row[1] for row in rows} <= {"ue/3gpp", "ue/wifi"} and {int(row[2], 0) for row in rows} == {1, 2}


def test_limits_end_it(keyed: Mpq, tmp_path: Path) -> None:
    path = tmp_path / "l.pcapng"
    done = keyed("capture", "--json", "--seconds", "0.5", "-o", str(path))
    assert done.code == 0 and done.document["ended"] == "time" and done.document["seconds"] >= 0.5
    process = started(keyed, "--json", "--packets", "25", "--interface", "ue/*", "-o", str(path))
    send(keyed, 60, 500)
    figures = keyed.finish(process).document
    assert figures["ended"] == "packets" and figures["packets"] == 25 == read(path).number
    process = started(keyed, "--json", "--megabytes", "1", "-o", str(path))
    send(keyed, 800, 1000)
    figures = keyed.finish(process).document
    assert figures["ended"] == "size" and 900_000 < path.stat().st_size <= 1_000_000


def test_a_ring_keeps_the_newest_and_each_file_opens_alone(keyed: Mpq, tmp_path: Path) -> None:
    ring = ("--ring", "3", "--file-size", "1")
    process = started(keyed, "--json", *ring, "--interface", "ue/*", "-o", str(tmp_path / "r.pcapng"))
    assert keyed("rekey", "--by", "core", "--json").code == 0
    for _ in range(12):
        send(keyed, 600, 900)
        there = list(tmp_path.iterdir())
        assert len(there) <= 3 and sum(p.stat().st_size for p in there) <= 3_000_000
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    figures = keyed.finish(process).document
    files = sorted(tmp_path.iterdir())
    assert [str(p) for p in files] == figures["written"] and len(files) == 3 < figures["files"]
    assert all(p.suffix == ".pcapng" for p in files)
    for path in files:
        verdict = verify_ring([path])
        assert verdict["ok"] and verdict["packets"] > 5, verdict
        assert tshark(path, "quic and tls.handshake.type == 1", "frame.number")  # it is repeated in each


def test_a_killed_asker_leaves_a_whole_file(keyed: Mpq, tmp_path: Path) -> None:
    path = tmp_path / "k.pcapng"
    process = started(keyed, "-o", str(path))
    send(keyed, 5, 100)
    process.kill()
    process.wait()
    assert process.stderr is not None and process.stdout is not None
    process.stderr.close(), process.stdout.close()
    deadline = time.monotonic() + PATIENCE_S
    while keyed("status", "--json").document["captures"] and time.monotonic() < deadline:
        time.sleep(0.1)
    reader = read(path)
    assert reader.number > 10 and reader.statistics


@pytest.mark.parametrize(("arguments", "code", "text"), [
    (["--ring", "3", "--megabytes", "5"], 2, "a ring is limited by its files"),
    (["--file-size", "3"], 2, "goes with --ring"),
    (["--interface", "nowhere*"], 1, "no interface is named so"),
    (["-o", "/dev/null"], 1, "no file"),
    (["-o", "/no/such/place.pcapng"], 1, "No such file"),
    (["--keys", "--no-keys"], 2, "not allowed with"),
])
def test_misuse_is_named(keyed: Mpq, arguments: list[str], code: int, text: str) -> None:
    done = keyed("capture", "--json", *arguments)
    assert done.code == code and text in done.document["error"], done.err


def test_it_ends_with_the_lab(mpq: Mpq, tmp_path: Path) -> None:
    """And without keys: a lab that was not asked to log any keeps them to itself until it is."""
    assert mpq("up", "--json").code == 0
    run = Path(mpq("status", "--json").document["run"])
    path = tmp_path / "n.pcapng"
    process = started(mpq, "--json", "-o", str(path))
    assert mpq("rekey", "--by", "core", "--json").code == 0
    process.send_signal(signal.SIGINT)
    figures = mpq.finish(process).document
    assert not figures["keys"] and read(path).secrets == [] and not (run / "keys.log").exists()
    assert tshark(path, "http2", "frame.number") == []
    process = started(mpq, "--json", "--keys", "-o", str(path))
    assert mpq("rekey", "--by", "core", "--json").code == 0
    assert mpq("down").code == 0
    done = mpq.finish(process)
    assert done.code == 0 and done.document["ended"] == "the lab ended", done.err
    assert not done.document["keys_from_the_start"] and (run / "keys.log").stat().st_mode & 0o777 == 0o600
    labels = {line.split()[0] for line in b"".join(read(path).secrets).decode().splitlines() if line}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= labels
    assert mpq.nothing_left()


def test_a_run_with_a_ring_is_decrypted_file_by_file_and_another_capture_does_not_disturb_it(mpq: Mpq, tmp_path: Path) -> None:
    scenario = tmp_path / "ring.yaml"
    scenario.write_text("""
capture: {ring: 3, file_mb: 2}
accesses:
  - {name: 3gpp, type: 3gpp, wire: {rate_mbps: 20, delay_ms: 10}}
  - {name: wifi, type: non-3gpp, wire: {rate_mbps: 20, delay_ms: 5}}
rules:
  - {id: 1, precedence: 10, mode: {steerModeValue: LOAD_BALANCING, 3gLoad: 50}}
steps:
  - {phase: much.down, traffic: tcp, direction: down, flows: 4, seconds: 4, actions: [{at: 2, rekey: core}]}
checks: [capture.decrypted]
""")
    process = mpq.start("run", str(scenario), "--json", "--lab", "ringed")
    beside = tmp_path / "beside.pcapng"
    deadline = time.monotonic() + PATIENCE_S
    command = ("capture", "--lab", "ringed", "--json", "--seconds", "2", "-o", str(beside))
    while (other := mpq(*command)).code and time.monotonic() < deadline:
        time.sleep(0.2)
    done = mpq.finish(process)
    assert done.code == 0, done.err
    document = done.document
    assert other.code == 0 and other.document["packets"] > 0 and read(beside).number == other.document["packets"]
    files = sorted(Path(document["run"]).glob("capture_*.pcapng"))
    assert len(files) == 3 and sum(p.stat().st_size for p in files) <= 6_000_000
    assert document["capture"]["files"] > 3 and document["capture"]["dropped_kernel"] == 0
    (check,) = document["checks"]
    assert check["ok"], check
    assert json.loads((Path(document["run"]) / "result.json").read_text()) == document
    shown = mpq("inspect", "--stats", "--json", document["run"])  # all of the ring
    assert shown.code == 0 and shown.document["packets"] == shown.document["decrypted"] > 100
    assert [part["file"] for part in shown.document["files"]] == [str(path) for path in files] and "the ring begins at" in shown.err
    alone = mpq("inspect", "--stats", "--json", str(files[1])).document
    assert 0 < alone["packets"] < shown.document["packets"]
    assert all(way["duplicates"] == 0 for conn in shown.document["connections"] for one in conn["paths"]
               for way in (one["up"], one["down"]))
