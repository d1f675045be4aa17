"""`mpq inspect --stats` against figures counted another way: from the script that the capture was made of, not from the capture."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from synthetic_capture import http_datagram
from test_lab_inspect_views import Scene, document, segment

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
    base = document(capsys, script.scene.write(), "--stats")["paths"]
    for path in (0, 1):
        if base[str(path)]["rtt_ms"] is not None:       # of the handshake
            script.rtt[path].append(base[str(path)]["rtt_ms"]["max"])
    for _ in range(30):
        script.dice.choice((script.uplink, script.downlink))(script.dice.randrange(2))
    told = document(capsys, script.scene.write(), "--stats")["paths"]

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
