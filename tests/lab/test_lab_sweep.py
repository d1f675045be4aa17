"""Sweeps: what is refused before the first run, what is kept, and the table and plot that come of it. The runs here are a program
that answers as `mpq run` does."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError, Misuse, ScenarioError
from lab.sweep import SweepRun
from lab.sweep_file import Cell, load, put, shipped
from lab.sweep_plot import plot

SVG = "{http://www.w3.org/2000/svg}"
FILE = """\
scenario: two_paths
figure: multi.down.goodput_mbps
repeat: 2
with: {seed: 7}
grid:
  - {set: accesses/wifi/wire/delay_ms, to: [5, 20.5, 40], label: "delay <of wifi> & more"}
  - {set: accesses/3gpp/wire/rate_mbps, to: [10, 20]}
"""
# goodput is the sum of both values, by attempt a little more; what a delay of 40 ms gives is an error, and nothing is measured
PROGRAM = """\
import json, sys, pathlib
document = json.load(open(sys.argv[2]))
by_name = {a["name"]: a["wire"] for a in document["accesses"]}
delay, rate = by_name["wifi"]["delay_ms"], by_name["3gpp"]["rate_mbps"]
log = pathlib.Path(__file__).with_suffix(".log")
log.open("a").write(f"{delay} {rate} {document['seed']} {document['name']}\\n")
if delay == 40:
    print(json.dumps({"error": "the lab did not come up", "exit": 1}))
    sys.exit(1)
print(json.dumps({"scenario": document["name"], "run": f"/somewhere/{delay}-{rate}", "verdict": "pass", "error": "",
    "phases": [{"id": "multi.down", "goodput_mbps": delay + rate, "per_path_mbps": {"wifi": 1.5}, "lost": 0,
                "of_better": rate / 8}]}))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def sweep_file(tmp_path: Path, text: str = FILE) -> str:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return str(path)


def sweep_run(tmp_path: Path, program: Path, said: list[str]) -> SweepRun:
    made = SweepRun(load(sweep_file(tmp_path)), tmp_path / "out", said.append, (sys.executable, str(program)))
    made.open()
    return made


def test_every_combination_is_run_and_tabulated(tmp_path: Path, program: Path) -> None:
    said: list[str] = []
    document = sweep_run(tmp_path, program, said).run()
    log = [line.split() for line in program.with_suffix(".log").read_text().splitlines()]
    assert {(float(d), float(r)) for d, r, *_ in log} == {(d, r) for d in (5, 20.5, 40) for r in (10, 20)}
    assert {seed for _, _, seed, _ in log} == {"7"}
    assert len(log) == 2 * 4 + 2 * 2 * 2  # twice each; those that gave nothing were tried twice
    assert document["done"] == document["of"] == 12 and len(said) == 12
    assert said[1].startswith("[2/12] delay_ms 5, rate_mbps 20: 25, 2.50 times the better path alone (")
    found = {tuple(row["values"].values()): row for row in document["rows"]}
    assert found[20.5, 20]["figures"]["multi.down.goodput_mbps"] == {"median": 40.5, "least": 40.5, "most": 40.5, "runs": 2}
    assert found[40, 10]["figures"] == {} and found[40, 10]["errors"] == ["the lab did not come up"] * 2
    rows = list(csv.reader((tmp_path / "out" / "table.csv").read_text().splitlines()))
    assert rows[0][:3] == ["accesses/wifi/wire/delay_ms", "accesses/3gpp/wire/rate_mbps", "multi.down.goodput_mbps"]
    assert list(map(float, rows[1][:3])) == [5, 10, 15] and rows[-1][2] == ""
    assert json.loads((tmp_path / "out" / "table.json").read_text()) == document


def test_a_sweep_goes_on_where_it_was_ended(tmp_path: Path, program: Path) -> None:
    sweep_run(tmp_path, program, []).run()
    kept = tmp_path / "out" / "cells.jsonl"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(lines[:5]) + lines[5][:20])  # the sixth was cut off by a kill
    log = program.with_suffix(".log")
    log.unlink()
    said: list[str] = []
    again = sweep_run(tmp_path, program, said)
    assert len(again.done) == 5
    assert again.run()["done"] == 12
    assert said[0] == "5 of 12 runs are there already" and len(said) == 8
    assert len(again._read()) == 12


def test_ctrl_c_keeps_what_is_done(tmp_path: Path, program: Path) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(f"import os, sys, time\nif os.path.exists({str(tmp_path / 'go')!r}): time.sleep(600)\n" + PROGRAM.replace(
        'log = pathlib', f"pathlib.Path({str(tmp_path / 'go')!r}).touch()\nlog = pathlib"))
    code = (
        "import sys; from pathlib import Path; from lab.sweep import SweepRun; from lab.sweep_file import load\n"
        # as of a terminal: a shell's background jobs, of which the suite may be one, are born with SIGINT ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"run = SweepRun(load({sweep_file(tmp_path)!r}), Path({str(tmp_path / 'out')!r}), print, (sys.executable, {str(slow)!r}))\n"
        "run.open()\ntry:\n    run.run()\nexcept Exception as error:\n    print(error)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=Path(__file__).parents[2]
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "cells.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert "interrupted: 1 of 12 runs are kept, the same command goes on" in out
    assert (tmp_path / "out" / "table.csv").is_file()


def test_more_repetitions_go_into_the_same_directory(tmp_path: Path, program: Path) -> None:
    sweep_run(tmp_path, program, []).run()
    more = SweepRun(load(sweep_file(tmp_path), 3), tmp_path / "out", print, (sys.executable, str(program)))
    more.open()
    assert len(more.done) == 12
    document = more.run()
    assert document["of"] == 18 and document["rows"][0]["figures"]["multi.down.goodput_mbps"]["runs"] == 3


def test_another_sweep_does_not_go_into_the_directory_of_this_one(tmp_path: Path, program: Path) -> None:
    sweep_run(tmp_path, program, []).run()
    changed = load(sweep_file(tmp_path, FILE.replace("[10, 20]", "[10, 21]")))
    with pytest.raises(Misuse, match="of another sweep"):
        SweepRun(changed, tmp_path / "out", print).open()
    (tmp_path / "out" / "sweep.json").write_text("{")
    with pytest.raises(Misuse, match="of another sweep"):
        SweepRun(load(sweep_file(tmp_path)), tmp_path / "out", print).open()


def test_the_plot_is_svg_with_every_value(tmp_path: Path, program: Path) -> None:
    run = sweep_run(tmp_path, program, [])
    run.run()
    drawn = ET.fromstring((tmp_path / "out" / "plot.svg").read_text())
    texts = ["".join(t.itertext()) for t in drawn.iter(f"{SVG}text")]
    assert {"15.0", "25.0", "30.5", "40.5"} <= set(texts) and "delay <of wifi> & more" in texts
    assert len(list(drawn.iter(f"{SVG}rect"))) == 6  # those without a value, too
    line = load(sweep_file(tmp_path, FILE.replace("[10, 20]", "[10]")))
    by_delay = {values: spread for values, spread in run.spreads("multi.down.goodput_mbps").items() if values[1] == 10}
    assert len(list(ET.fromstring(plot(line, by_delay)).iter(f"{SVG}circle"))) == 2
    assert plot(line, {}) == ""


def test_the_plot_in_the_readme_is_that_of_the_shipped_sweep() -> None:
    """Every combination of today's file has its value, and both schemes their colours."""
    root = Path(__file__).parents[2]
    sweep, text = load("unequal_paths"), (root / "docs" / "unequal_paths.svg").read_text()
    drawn = ET.fromstring(text)
    told = ["".join(t.itertext()) for t in drawn.iter(f"{SVG}text")]
    values = [word for word in told if re.fullmatch(r"-?[0-9]+\.[0-9]{2}", word)]
    assert len(values) == len(sweep.cells()) and "prefers-color-scheme: dark" in text
    assert {sweep.title, *(axis.label for axis in sweep.axes), *(str(v) for axis in sweep.axes for v in axis.to)} <= set(told)
    assert "docs/unequal_paths.svg" in (root / "README.md").read_text()


BAD: dict[str, tuple[str, str]] = {
    "no such value": (FILE.replace("[5, 20.5, 40]", "[5, -1]"), "some.yaml:6: grid.*delay_ms = -1"),
    "no such access": (FILE.replace("accesses/wifi/wire", "accesses/wlan/wire"), "has no 'wlan' there"),
    "a word that leads nowhere": (FILE.replace("accesses/wifi/wire/delay_ms", "acceses/wifi/wire"), "unknown key"),
    "no such scenario": (FILE.replace("two_paths", "three_paths"), "there is no scenario 'three_paths'"),
    "no file": (FILE.replace("two_paths", "three.yaml"), "cannot be read"),
    "no grid": (FILE.split("grid:")[0], "grid is missing"),
    "unknown key": (FILE + "colour: red\n", "unknown key"),
    "set for all, to nowhere": (FILE.replace("{seed: 7}", "{accesses/lte/type: 3gpp}"), "has no 'lte' there"),
    "too many": (FILE.replace("[10, 20]", str(list(range(10, 60)))).replace("repeat: 2", "repeat: 20"), "1000 are allowed"),
    "nothing at all": ("", "scenario"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_before_the_first_run(tmp_path: Path, name: str) -> None:
    text, words = BAD[name]
    with pytest.raises(ScenarioError, match=words):
        load(sweep_file(tmp_path, text))


def test_shipped_sweeps_are_sound() -> None:
    for name in shipped():
        sweep = load(name)
        assert sweep.about and sweep.cells()
    with pytest.raises(ScenarioError, match="there is no sweep"):
        load("nothing")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a/b", {"a": {"b": 1}}), ("list/x/v", {"list": [{"name": "x", "v": 1}, {"id": 3}]}),
        ("list/3/v", {"list": [{"name": "x"}, {"id": 3, "v": 1}]}), ("list/0", {"list": [1, {"id": 3}]}),
    ],
)
def test_where_a_value_goes(path: str, found: dict[str, Any]) -> None:
    document = {"list": [{"name": "x"}, {"id": 3}]}
    put(document, path, 1)
    assert {key: document[key] for key in found} == found
    for nowhere in ("list/7/v", "list/y", "list/x/name/more", "list/²/v", "list/²"):
        with pytest.raises(KeyError):
            put(document, nowhere, 1)


def test_a_run_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.sweep.ENDS_S", -1e6)
    slow = tmp_path / "slow.py"
    slow.write_text("import time\ntime.sleep(600)\n")
    run = SweepRun(load(sweep_file(tmp_path)), tmp_path / "out", print, (sys.executable, str(slow)))
    run.open()
    outcome = run._cell(Cell((5, 10), 0))
    assert not outcome.figures and "not done after" in outcome.error


def test_a_sweep_of_nothing_measured_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabError):
        load(str(tmp_path))
