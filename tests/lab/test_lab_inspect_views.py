"""`mpq inspect` --follow, --dropped, --stats, --export and --flow-graph, over captures whose every packet is known."""

from __future__ import annotations

import io
import json
import random
import shutil
import stat
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from synthetic_capture import Capture, Talk, http_datagram, stats_paths, tcp4, two_paths, udp4
from test_lab_inspect import run_directory

from lab import inspect, inspect_track
from lab.inspect_paths import Distribution
from lab.packets import frames as f
from lab.pcapng import PcapngReader

START_NS = 1_790_000_000_000_000_000


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert inspect.main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def text(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert inspect.main([*argv]) == 0
    return capsys.readouterr().out


class Scene:
    """A connection on two paths, and a run's records beside its capture."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.capture = Capture()
        self.talk = Talk(self.capture)
        self.talk.handshake()
        self.talk.announce()
        self.talk.validate()
        self.events: list[dict] = [{"t": 0.0, "node": "lab", "event": "capture_started", "unix_ns": START_NS}]
        self.samples: list[dict] = []
        self.result: dict = {}
        self.acknowledge(1, (0, 1))

    @property
    def t(self) -> float:
        return (self.capture.time - START_NS) / 1e9

    def wait(self, seconds: float) -> None:
        self.capture.time += round(seconds * 1e9)

    def up(self, path: int, inner: bytes) -> int:
        self.talk.send(True, ("3gpp", "wifi")[path], self.talk.short(True, path, [http_datagram(inner)]))
        return self.talk.sides[True].numbers["1rtt", path] - 1

    def acknowledge(self, path: int, *ranges: tuple[int, int]) -> None:
        self.talk.send(False, "3gpp", self.talk.short(False, 0, [f.PathAck(list(ranges), 125, None, path)]))

    def down(self, path: int, inner: bytes, captured: bool = True) -> None:
        packet = self.talk.short(False, path, [http_datagram(inner)])
        if captured:
            self.talk.send(False, ("3gpp", "wifi")[path], packet)

    def event(self, name: str, **fields: object) -> None:
        self.events.append({"t": self.t, "node": "lab", "event": name, **fields})

    def sample(self, **wifi: list[int]) -> None:
        self.samples.append({"t": self.t, "wires": {"wifi": {"up": [0, 0, 0], "down": [0, 0, 0], **wifi}}})

    def write(self) -> str:
        (self.directory / "capture.pcapng").write_bytes(self.capture.bytes())
        (self.directory / "keys.log").write_bytes(self.talk.keylog())
        for name, lines in (("events.jsonl", self.events), ("metrics.jsonl", self.samples)):
            (self.directory / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
        (self.directory / "result.json").write_text(json.dumps(self.result))
        return str(self.directory)


def segment(sequence: int, size: int = 100, mark: int = 0) -> bytes:
    return tcp4("10.45.0.2", 40000, "10.99.0.2", 5201, sequence, bytes((mark,)) * size)


# ---- why a packet was dropped ---------------------------------------------------------------------------------------


@pytest.fixture
def losses(tmp_path: Path) -> str:
    """On wifi: one in a full queue, one by chance, two in a cut, two (down) in the same cut, one that nobody explains."""
    scene = Scene(tmp_path)
    scene.sample()
    for turn in range(5):
        numbers = [scene.up(1, segment(1000 + turn * 1000 + i * 100)) for i in range(10)]
        if turn == 0:
            lost = numbers[3:4]
            after = {"up": [1, 0, 0]}
        elif turn == 1:
            lost = numbers[4:5]
            after = {"up": [1, 1, 0]}
        elif turn == 2:
            scene.event("cut", access="wifi", link_down=False)
            lost = [scene.up(1, segment(9000)), scene.up(1, segment(9100))]
            scene.down(1, udp4("10.99.0.2", 9, "10.45.0.2", 9, b"before"))
            for _ in range(2):
                scene.down(1, udp4("10.99.0.2", 9, "10.45.0.2", 9, b"never"), captured=False)
            scene.wait(0.3)
            scene.event("restore", access="wifi")
            scene.down(1, udp4("10.99.0.2", 9, "10.45.0.2", 9, b"after"))
            numbers += lost + [scene.up(1, segment(9200 + 100 * i)) for i in range(5)]
            after = {"up": [1, 1, 2], "down": [0, 0, 2]}
        elif turn == 3:
            lost = numbers[5:6]
            after = {"up": [1, 1, 2], "down": [0, 0, 2]}
        else:
            lost = []
        scene.wait(0.1)
        low, ranges = numbers[0], []
        for absent in lost:
            ranges.insert(0, (low, absent - 1))
            low = absent + 1
        ranges.insert(0, (low, numbers[-1]))
        scene.acknowledge(1, *[r for r in ranges if r[0] <= r[1]])
        scene.wait(0.5)
        scene.sample(**after)
        scene.wait(0.5)
    return scene.write()


def test_each_lost_packet_has_its_reason(losses: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, losses, "--dropped")
    assert told["lost"] == 7
    reasons = {r.split(" from")[0]: n for r, n in told["reasons"].items()}
    assert reasons == {"wire: its queue was full": 1, "wire: lost by chance": 1, "wire: cut of wifi": 4, "not explained": 1}
    assert all(p["access"] == "wifi" and p["path"] == 1 for p in told["packets"])
    assert [p["record"] is None for p in told["packets"]].count(True) == 2          # the downlink ones were never seen
    assert "not explained" in text(capsys, losses, "--dropped", "--path", "1")
    assert document(capsys, losses, "--dropped", "--path", "0")["lost"] == 0
    cut = document(capsys, losses, "--dropped", "--between", "step:cut", "step:restore")
    assert set(cut["reasons"]) == {r for r in told["reasons"] if "cut" in r}


def test_a_counter_explains_no_more_than_it_counted(losses: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Canary: without the wires' counts nothing but the unexplained remains."""
    path = Path(losses) / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line["wires"]["wifi"] = {"up": [0, 0, 0], "down": [0, 0, 0]}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (Path(losses) / "result.json").write_text(json.dumps({"drops": {"upf.auth_failed": 1}, "capture": {"dropped_kernel": 1}}))
    assert document(capsys, losses, "--dropped")["reasons"] == {
        "not explained": 5, "engine: counter upf.auth_failed": 1, "capture: its own counter dropped_kernel": 1}


def test_what_the_windows_leave_out_is_no_loss(losses: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(losses) / "result.json").write_text(json.dumps({"capture": {"windows": [[0.0, 0.05]]}}))
    assert document(capsys, losses, "--dropped")["lost"] == 0
    stats = document(capsys, losses, "--stats")
    assert stats_paths(stats)["1"]["up"]["fate_unknown"] == 5


def test_a_capture_without_a_run_says_so(losses: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("events.jsonl", "metrics.jsonl", "result.json"):
        (Path(losses) / name).unlink()
    (reason,) = document(capsys, losses, "--dropped")["reasons"].items()
    assert reason == ("not explained: the capture has no run with counters beside it", 7)


@pytest.mark.parametrize("damage", [b"[]", b"{", b"\xff\xfe", b'{"wires": 3, "drops": [], "capture": {"windows": [[1], "x"]}}',
                                    b'{"t": 1, "wires": {"wifi": {"up": "no", "down": [1]}, "x": 7}, "event": 5, "node": []}'])
def test_records_that_do_not_read_take_nothing_down(losses: str, capsys: pytest.CaptureFixture[str], damage: bytes) -> None:
    for name in ("events.jsonl", "metrics.jsonl", "result.json"):
        (Path(losses) / name).write_bytes(damage + b"\n")
    for view in (["--dropped"], ["--stats"], ["--flow-graph"], ["--follow", "tcp"]):
        assert inspect.main([losses, *view, "--json"]) == 0
        json.loads(capsys.readouterr().out)


def test_a_single_number_that_nothing_dropped_was_left_out_by_its_sender(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path)
    scene.sample()
    for i in range(20):
        scene.down(1, segment(i), captured=i not in (5, 11, 12))
    scene.sample()
    told = document(capsys, scene.write(), "--dropped")
    assert [(p["pn"], p["reason"].split(":")[0]) for p in told["packets"]] == [
        (6, "likely no loss"), (12, "not explained"), (13, "not explained")]


def test_losses_beyond_the_limit_are_counted(
        losses: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_track, "LOSSES_MAX", 3)
    told = document(capsys, losses, "--dropped")
    assert (told["lost"], told["not_told"]) == (3, 4)
    assert "4 more" in text(capsys, losses, "--dropped")


# ---- figures per path -------------------------------------------------------------------------------------------------


def test_figures_of_a_path(losses: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = stats_paths(document(capsys, losses, "--stats"))["1"]
    assert path["up"]["lost"] == 5 and path["down"]["lost"] == 2 and path["up"]["packets"] == 2 + 57
    assert path["access"] == ["wifi"] and path["up"]["duplicates"] == 0
    assert path["ack_delay_ms"]["upf"]["p50"] == pytest.approx(1.0, rel=0.02)       # 125 << 3 microseconds
    assert 90 < path["rtt_ms"]["p50"] < 110                                         # 0.1 s, less the delay
    (row,) = [line.split() for line in text(capsys, losses, "--stats").splitlines() if " wifi " in line and " up " in line]
    assert row[:5] == ["0", "-", "1", "wifi", "up"] and row[7:11] == ["59", str(path["up"]["octets"]), "5", "8.47"]


def test_duplicates_and_reordering(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path)
    packets = [scene.talk.short(False, 1, [http_datagram(segment(i))]) for i in range(8)]
    for index in (0, 1, 4, 2, 3, 5, 5, 7):
        scene.talk.send(False, "wifi", packets[index])
    again = scene.talk.short(True, 0, [f.Stream(4, b"0123456789", 0)])
    scene.talk.send(True, "3gpp", again)
    scene.talk.send(True, "3gpp", scene.talk.short(True, 0, [f.Stream(4, b"56789abc", 5)]))
    paths = stats_paths(document(capsys, scene.write(), "--stats"))
    assert {k: paths["1"]["down"][k] for k in ("duplicates", "reordered", "reordered_most", "lost")} == {
        "duplicates": 1, "reordered": 2, "reordered_most": 2, "lost": 1}
    assert paths["0"]["stream_octets_again"] == 5


def test_a_distribution_is_right_to_a_few_percent() -> None:
    dice, figures, values = random.Random(2), Distribution(), []
    for _ in range(5000):
        values.append(dice.expovariate(0.05))
        figures.add(values[-1])
    values.sort()
    told = figures.document()
    assert told is not None
    assert told["p50"] == pytest.approx(values[2499], rel=0.02) and told["p99"] == pytest.approx(values[4949], rel=0.02)
    assert Distribution().document() is None


def test_a_packet_says_when_where_and_how_long_its_acknowledgement_waited(
        losses: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = document(capsys, losses, "--frame", "PATH_ACK", "--limit", "40")["packets"][-1]
    shown = text(capsys, losses, "--packet", str(row["record"]))
    assert shown.startswith(f"packet {row['record']}: {row['t']:.6f} s on {row['interface']}, ")
    assert "PATH_ACK: its delay 125 is 1.000 ms, in units of 8 us (ack_delay_exponent 3)" in shown
    assert f"connection 0 path 0 packet number {row['pn']} " in shown
    other = document(capsys, losses, "--frame", "DATAGRAM", "--limit", "1")["packets"][0]["record"]
    assert "its delay" not in text(capsys, losses, "--packet", str(other))


# ---- one flow ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def flow(tmp_path: Path) -> str:
    """TCP up: in order on both paths, one ahead and the late one that fills its hole, one again, one packet twice, one lost."""
    scene = Scene(tmp_path)
    scene.up(0, segment(1000))
    scene.up(1, segment(1100))
    scene.up(1, segment(1300))
    scene.up(0, segment(1200))
    scene.up(0, segment(1100, mark=1))
    scene.up(0, segment(1300))
    lost = scene.up(1, segment(1400))
    for i in range(4):
        last = scene.up(1, segment(1500 + 100 * i))
    scene.up(0, udp4("10.45.0.2", 7, "10.99.0.2", 7, b"another flow"))
    scene.wait(0.02)
    zero = scene.talk.sides[True].numbers["1rtt", 0] - 1
    scene.acknowledge(1, (lost + 1, last), (0, lost - 1))
    scene.acknowledge(0, (0, zero))
    scene.down(1, tcp4("10.99.0.2", 5201, "10.45.0.2", 40000, 5, b"x"))
    return scene.write()


def test_follow_one_flow(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, flow, "--follow", "tcp port 5201")
    packets = told["packets"]
    assert [(p["direction"], p["path"]) for p in packets] == [
        ("up", 0), ("up", 1), ("up", 1), ("up", 0), ("up", 0), ("up", 0), *[("up", 1)] * 5, ("down", 1)]
    assert [(p["order"] or "").split(",")[0] for p in packets] == [
        "", "", "ahead of its turn", "late", "sent again by TCP", "duplicate", *[""] * 6]
    fates = [p["fate"].split(" after")[0] for p in packets]
    assert fates == ["acknowledged"] * 6 + ["lost"] + ["acknowledged"] * 4 + ["arrived"]
    assert packets[5]["order"] == f"duplicate, of No. {packets[2]['record']}"
    assert 20 < packets[0]["acknowledged_ms"] < 25
    assert told["flow"] == "tcp 10.45.0.2:40000 10.99.0.2:5201" and told["path_switches"] == 3
    assert told["lost"] == {"not explained": 1}
    named = document(capsys, flow, "--follow", "tcp 10.99.0.2:5201 10.45.0.2:40000")
    assert named["packets"] == packets
    assert "late, it fills a hole" in text(capsys, flow, "--follow", "tcp")
    assert len(document(capsys, flow, "--follow", "tcp", "--path", "1")["packets"]) == 8
    assert len(document(capsys, flow, "--follow", "tcp", "--limit", "2")["packets"]) == 2


def test_several_flows_are_named(flow: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect.main([flow, "--follow", "ip"]) == 2
    said = capsys.readouterr().err
    assert "2 flows" in said and "udp 10.45.0.2:7 10.99.0.2:7" in said
    assert inspect.main([flow, "--follow", "tcp port 1"]) == 1 and "no inner packet" in capsys.readouterr().err


# ---- export -----------------------------------------------------------------------------------------------------------


def test_export(flow: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "clear.pcapng"
    told = document(capsys, flow, "--export", str(target))
    assert told["packets"] == {"path 0 3gpp": 5, "path 1 wifi": 8}
    reader = PcapngReader(io.BytesIO(target.read_bytes()))
    found = list(reader)
    assert [(i.name, i.linktype) for i in reader.interfaces] == [("path 0 3gpp", 101), ("path 1 wifi", 101)]
    assert found[0].data == segment(1000) and found[0].flags == 2 and found[-1].flags == 1
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert document(capsys, flow, "--export", str(target), "--inner", "udp")["packets"] == {"path 0 3gpp": 1}
    assert inspect.main([flow, "--export", str(Path(flow) / "capture.pcapng")]) == 2
    assert "the capture itself" in capsys.readouterr().err
    assert inspect.main([flow, "--export", str(tmp_path / "none" / "x")]) == 1
    assert not list(tmp_path.glob(".*part"))


def test_tshark_reads_the_export(flow: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "clear.pcapng"
    document(capsys, flow, "--export", str(target))
    program = shutil.which("tshark")
    assert program is not None
    done = subprocess.run([program, "-n", "-r", str(target), "-Y", "tcp.analysis.retransmission || tcp.analysis.out_of_order",
                           "-T", "fields", "-e", "frame.interface_name"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.count("path 0 3gpp") >= 2


# ---- ladder -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def procedure(tmp_path: Path) -> str:
    run = run_directory(tmp_path / "run")
    t = 0.0005
    events = [{"t": 0.0, "node": "lab", "event": "capture_started", "unix_ns": START_NS},
              {"t": t, "node": "smf", "event": "key_request_forwarded", "reason": "initial"},
              {"t": t, "node": "amf", "event": "key_derived", "generation": 1, "fingerprint": "9c99b2bf"},
              {"t": 0.9, "node": "lab", "event": "cut", "access": "wifi"}]
    (run / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    return str(run)


def test_ladder(procedure: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, procedure, "--flow-graph")
    steps = [(m["from"], m["to"], m["text"]) for m in told["messages"]]
    for step in (
            ("UE", "AMF", "REGISTRATION REQUEST"), ("AMF", "UE", "REGISTRATION ACCEPT"),
            ("SMF", "AMF", "POST MPQUIC key request, initial"),
            ("AMF", None, "derives K_MPQUIC generation 1 from K_AMF, fingerprint 9c99b2bf"),
            ("UE", "UPF", "Initial: ClientHello"), ("UPF", "UE", "Initial: ServerHello"),
            ("UPF", "UE", "Handshake: EncryptedExtensions; Finished"), ("UE", "UPF", "Handshake: Finished"),
            ("UPF", "UE", "path 0: HANDSHAKE_DONE"), ("UE", "UPF", "path 1: PATH_CHALLENGE"),
            ("UE", "UPF", "path 1: first IP packet on this path"), (None, None, "the lab cuts wifi")):
        assert step in steps, step
    assert [m["t"] for m in told["messages"]] == sorted(m["t"] for m in told["messages"])
    ladder = text(capsys, procedure, "--flow-graph")
    assert "│───────────>│            │            │  N1 3gpp: REGISTRATION REQUEST" in ladder
    assert "<═════════════════════════════════════│  QUIC 3gpp: Initial: ServerHello" in ladder
    assert len(document(capsys, procedure, "--flow-graph", "--between", "0.8", "1")["messages"]) == 1


def test_ladder_as_svg(procedure: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "ladder.svg"
    assert inspect.main([procedure, "--flow-graph", "--svg", str(target)]) == 0
    root = ET.fromstring(target.read_text())
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"UE", "AMF", "SMF", "UPF"} <= set(words) and any("KEY PROVISION" in (w or "") for w in words)
    assert inspect.main([procedure, "--svg", str(target)]) == 2


def test_views_of_spoilt_captures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, keylog = two_paths(6)
    (tmp_path / "keys.log").write_bytes(keylog)
    dice = random.Random(9)
    for _ in range(12):
        spoilt = bytearray(whole)
        for _ in range(dice.randrange(1, 12)):
            spoilt[dice.randrange(len(spoilt))] = dice.randrange(256)
        (tmp_path / "capture.pcapng").write_bytes(spoilt)
        for view in (["--dropped"], ["--stats"], ["--flow-graph"], ["--follow", "udp"], ["--export", str(tmp_path / "x")]):
            assert inspect.main([str(tmp_path), *view, "--json"]) in (0, 1, 2)
            json.loads(capsys.readouterr().out)
