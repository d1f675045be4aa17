"""`mpq inspect --stats` against figures counted another way: from the script that the capture was made of, not from the capture."""

from __future__ import annotations

import io
import json
import math
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import Capture, Talk, http_datagram, stats_paths
from test_lab_clear_reader import events
from test_lab_inspect_views import START_NS, Scene, document, segment, text

from lab.capture_scan import CaptureDecryptor
from lab.clear_scan import PlainRun
from lab.decrypt_keys import KeyLog
from lab.inspect_paths import PathStats
from lab.inspect_run import RunRecord
from lab.inspect_stats import Stats
from lab.packets import frames as f

EXPONENT = 3            # of ack_delay, where the transport parameter is not sent (RFC 9000 §18.2)


def bounds(values: list[float], share: float) -> tuple[float, float]:
    """Of the quantile, give or take two values: the handshake's acknowledgements are figures, too."""
    ordered, at = sorted(values), math.ceil(share * len(values)) - 1
    return ordered[max(at - 2, 0)], ordered[min(at + 2, len(ordered) - 1)]


class Script:
    """Random traffic on two paths, and beside it what a reader with a pencil would count."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.scene = Scene(directory)
        self.scene.acknowledge(0, (0, self.scene.up(0, segment(1))))     # path 1 has begun with such a one, too
        self.count: dict[tuple[int, str], dict[str, int]] = {
            (path, way): dict.fromkeys(("packets", "lost", "duplicates", "reordered", "reordered_most"), 0)
            for path in (0, 1) for way in ("up", "down")}
        self.rtt: dict[int, list[float]] = {0: [], 1: []}
        self.delays: dict[int, list[float]] = {0: [(125 << EXPONENT) / 1000], 1: [(125 << EXPONENT) / 1000]}

    def uplink(self, path: int) -> None:
        """Twenty packets leave; some are lost; the rest is acknowledged in one PATH_ACK after a time, with an ACK delay."""
        scene, dice, figures = self.scene, self.dice, self.count[path, "up"]
        sent: list[tuple[int, int]] = []
        for i in range(20):
            sent.append((scene.up(path, segment(dice.randrange(1 << 30), mark=i)), scene.capture.time))
            figures["packets"] += 1
            scene.wait(dice.uniform(0.0001, 0.002))
        gone = set(dice.sample([number for number, _ in sent[:-4]], dice.randrange(4)))
        arrived = [number for number, _ in sent if number not in gone]
        scene.wait(dice.uniform(0.02, 0.08))
        raw = dice.randrange(1, 2000)
        ranges: list[tuple[int, int]] = []
        for number in sorted(arrived, reverse=True):
            if ranges and ranges[-1][0] == number + 1:
                ranges[-1] = (number, ranges[-1][1])
            else:
                ranges.append((number, number))
        ack = scene.talk.short(False, 0, [f.PathAck(ranges, raw, None, path)])
        scene.talk.send(False, "3gpp", ack)
        self.count[0, "down"]["packets"] += 1
        delay_ms = (raw << EXPONENT) / 1000
        self.delays[path].append(delay_ms)
        newest = max(sent)
        assert newest[0] in arrived
        rtt = (scene.capture.time - newest[1]) / 1e6 - delay_ms
        if rtt > 0:
            self.rtt[path].append(rtt)
        figures["lost"] += len(gone)

    def downlink(self, path: int) -> None:
        """Twelve numbers are made; some never come, some come late, some twice."""
        scene, dice, figures = self.scene, self.dice, self.count[path, "down"]
        first = scene.talk.sides[False].numbers.get(("1rtt", path), 0)
        packets = {first + i: scene.talk.short(False, path, [http_datagram(segment(i, mark=i))]) for i in range(12)}
        order = list(packets)
        gone = dice.sample(order[1:-1], dice.randrange(3))
        order = [number for number in order if number not in gone]
        for _ in range(dice.randrange(3)):
            at = dice.randrange(1, len(order) - 1)
            order.insert(min(at + dice.randrange(1, 4), len(order) - 2), order.pop(at))
        order += dice.sample(order, dice.randrange(3))
        seen: set[int] = set()
        for number in order:
            scene.talk.send(False, ("3gpp", "wifi")[path], packets[number])
            scene.wait(0.0005)
            figures["packets"] += 1
            if number in seen:
                figures["duplicates"] += 1
            elif seen and number < max(seen):
                figures["reordered"] += 1
                figures["reordered_most"] = max(figures["reordered_most"], max(seen) - number)
            seen.add(number)
        figures["lost"] += len(gone)


@pytest.mark.parametrize("seed", range(8))
def test_figures_are_those_of_the_script(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = Script(tmp_path, seed)
    base = stats_paths(document(capsys, script.scene.write(), "--stats"))
    for path in (0, 1):
        if base[str(path)]["rtt_ms"] is not None:       # of the handshake
            script.rtt[path].append(base[str(path)]["rtt_ms"]["max"])
    for _ in range(30):
        script.dice.choice((script.uplink, script.downlink))(script.dice.randrange(2))
    told = stats_paths(document(capsys, script.scene.write(), "--stats"))

    def less(path: int, way: str, name: str) -> int:
        was = base.get(str(path), {}).get(way, {}).get(name, 0)
        now: int = told[str(path)][way][name]
        return now if name == "reordered_most" else now - was

    for (path, way), figures in script.count.items():
        assert {name: less(path, way, name) for name in figures} == figures, f"path {path} {way}"
    for path in (0, 1):
        judged(told[str(path)]["ack_delay_ms"]["upf"], script.delays[path])
        judged(told[str(path)]["rtt_ms"], script.rtt[path])


def judged(told: dict[str, Any] | None, values: list[float]) -> None:
    if not values:
        assert told is None
        return
    assert told is not None and told["max"] == pytest.approx(max(values), abs=0.002)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        low, high = bounds(values, share)
        assert low * 0.98 <= told[name] <= high * 1.02


# ---- runs of plain packets against the same one by one


def counted(capture: bytes, keylog: bytes, native: bool) -> tuple[dict[str, Any], int]:
    """The figures, and how many packets came in runs."""
    log = KeyLog()
    log.add(keylog)
    reader = CaptureDecryptor(io.BytesIO(capture), log, lean=True, native=native)
    stats, figures, in_runs = Stats(), PathStats(RunRecord(), reader), 0
    for chunk in reader.chunks():
        if isinstance(chunk, PlainRun):
            stats.add_run(chunk)
            figures.add_run(chunk)
            in_runs += len(chunk.rows)
            continue
        for packet in chunk:
            stats.add(packet)
            figures.add(packet)
    return stats.document(reader.problem) | figures.document(stats.per_path, {}, START_NS), in_runs


@pytest.mark.parametrize("seed", range(4))
def test_a_run_is_counted_as_its_packets_are(seed: int, tmp_path: Path) -> None:
    script = Script(tmp_path, seed)
    for _ in range(30):
        script.dice.choice((script.uplink, script.downlink))(script.dice.randrange(2))
    script.scene.write()
    captures = [((tmp_path / "capture.pcapng").read_bytes(), script.scene.talk.keylog()),
                events(seed=seed, linktype=(1, 101)[seed % 2])]
    for capture, keylog in captures:
        (fast, in_runs), (slow, none) = counted(capture, keylog, True), counted(capture, keylog, False)
        assert fast == slow and fast["connections"]
        assert in_runs > 60 and none == 0                # canary: two ways it was


# ---- connections


def two_connections(directory: Path) -> str:
    """A re-key: path 0 is on 3GPP at first, then on Wi-Fi; the second connection loses a packet on the way down."""
    capture, keylog = Capture(), b""
    for seed, accesses in enumerate((("3gpp", "wifi"), ("wifi", "3gpp"))):
        talk = Talk(capture, seed)
        talk.handshake(accesses[0])
        talk.announce(access=accesses[0])
        talk.validate(access=accesses[1])
        talk.data(6 - 3 * seed, dict(enumerate(accesses)))
        if seed:
            talk.short(False, 0, [f.Ping()])
            talk.send(False, accesses[0], talk.short(False, 0, [f.Ping()]))
            talk.send(False, accesses[0], talk.short(False, 0, [f.Ping()]))
        keylog += talk.keylog()
    told = [{"t": 0.0, "node": "lab", "event": "capture_started", "unix_ns": START_NS},
            {"t": 0.1, "node": "upf", "event": "connection_ready", "generation": 7, "client_random": talk.random.hex()},
            {"t": 0.1, "node": "upf", "event": "connection_ready", "generation": "7", "client_random": 5}]
    (directory / "capture.pcapng").write_bytes(capture.bytes())
    (directory / "keys.log").write_bytes(keylog)
    (directory / "events.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    return str(directory)


def test_each_connection_has_its_own_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = document(capsys, two_connections(tmp_path), "--stats")
    first, second = told["connections"]
    assert (first["original_dcid"], second["original_dcid"]) == tuple(Talk(Capture(), seed).odcid.hex() for seed in (0, 1))
    assert (first["connection"], first["generation"], second["connection"], second["generation"]) == (0, None, 1, 7)
    assert [path["access"] for one in (first, second) for path in one["paths"]] == [["3gpp"], ["wifi"], ["wifi"], ["3gpp"]]
    assert [path["down"]["lost"] for one in (first, second) for path in one["paths"]] == [0, 0, 1, 0]
    assert first["paths"][0]["down"]["to_s"] < second["paths"][0]["up"]["from_s"]
    sums = {one["access"]: one for one in told["accesses"]}
    for way in ("up", "down"):
        for name in ("packets", "octets", "lost"):
            assert sums["3gpp"][way][name] == first["paths"][0][way][name] + second["paths"][1][way][name]
            assert sums["wifi"][way][name] == first["paths"][1][way][name] + second["paths"][0][way][name]
    assert sums["3gpp"]["up"]["from_s"] == first["paths"][0]["up"]["from_s"]
    assert sums["3gpp"]["up"]["to_s"] == second["paths"][1]["up"]["to_s"]
    for path in ("0", "1"):
        both = first["paths"][int(path)]["packets"], second["paths"][int(path)]["packets"]
        assert told["paths"][path]["packets"] == sum(both) and all(both)


def test_the_table_tells_connections_and_accesses_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split() for line in text(capsys, two_connections(tmp_path), "--stats").splitlines()]
    assert [row[:5] for row in rows if row[4:5] == ["up"]] == [
        ["0", "-", "0", "3gpp", "up"], ["0", "-", "1", "wifi", "up"], ["1", "7", "0", "wifi", "up"], ["1", "7", "1", "3gpp", "up"]]
    assert [row[:3] for row in rows if row[0] == "all"] == [["all", "3gpp", "up"], ["all", "3gpp", "down"], ["all", "wifi", "up"],
                                                            ["all", "wifi", "down"]]
    (down,) = [row for row in rows if row[:5] == ["1", "7", "0", "wifi", "down"]]
    assert down[9] == "1" and float(down[10]) == pytest.approx(100 / (int(down[7]) + 1), abs=0.01)


def test_losses_and_flows_say_whose_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = two_connections(tmp_path)
    heading, row = text(capsys, place, "--dropped").splitlines()[-2:]
    assert heading.split()[:5] == ["time/s", "dir", "conn", "path", "pn"] and row.split()[1:4] == ["down", "1", "0"]
    told = document(capsys, place, "--follow", "udp port 5201")
    # path 0 moves from 3GPP to Wi-Fi with the connection, and path 1 the other way: what changes is the access
    accesses = {way: [one["access"] for one in told["packets"] if one["direction"] == way] for way in ("up", "down")}
    assert told["path_switches"] == sum(one != other for way in accesses.values() for one, other in pairwise(way)) == 16 - 2
    assert {(one["connection"], one["path"], one["access"]) for one in told["per_path"]} == {
        (0, 0, "3gpp"), (0, 1, "wifi"), (1, 0, "wifi"), (1, 1, "3gpp")}
    lines = text(capsys, place, "--follow", "udp port 5201").splitlines()
    assert lines[0].split()[:5] == ["No.", "time/s", "dir", "conn", "path"]
    assert [line.split()[3:6] for line in lines[1:19]] == [
        [str(one["connection"]), str(one["path"]), one["access"]] for one in told["packets"]]
    assert "  down connection 1 path 0 wifi: 2 packets" in lines


def test_with_one_connection_there_is_no_column_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = Scene(tmp_path)
    for i in range(6):
        scene.down(1, segment(i), captured=i != 3)
    place = scene.write()
    assert "conn" not in text(capsys, place, "--dropped") + text(capsys, place, "--follow", "tcp")
