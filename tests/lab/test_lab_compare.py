"""Figures of runs by name, side by side."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from lab.cli import main
from lab.errors import LabError, Misuse
from lab.figures import figures_of, read_result

SVG = "{http://www.w3.org/2000/svg}"


def result(goodput: float, scenario: str = "demo", **more: Any) -> dict[str, Any]:
    phase = {"id": "tcp.down", "goodput_mbps": goodput, "per_path_mbps": {"wifi": 3.0}, "lost": 2}
    phase |= {"longest_gap_ms": None, "share_of_wires": True}
    outage = {"cause": "cut wifi", "longest_gap_ms": 90.5, "back_in_use_ms": None}
    paths = {"wifi": {"rtt_ms": {"p50": 12.5}, "lost": 1}}
    return {"scenario": scenario, "phases": [phase], "outages": [outage], "paths": paths, **more}


def run_directory(root: Path, name: str, document: Any) -> str:
    (root / name).mkdir()
    (root / name / "result.json").write_text(json.dumps(document))
    return str(root / name)


def test_figures_have_names_and_only_numbers_are_figures() -> None:
    assert figures_of(result(40)) == {
        "tcp.down.goodput_mbps": 40, "tcp.down.lost": 2, "tcp.down.wifi.goodput_mbps": 3.0, "cut wifi.longest_gap_ms": 90.5,
        "path.wifi.lost": 1, "path.wifi.rtt_p50_ms": 12.5,
    }


@pytest.mark.parametrize("changed", [{"phases": [5, None]}, {"outages": 7, "paths": [1]}, {"paths": {"x": {"rtt_ms": 5}}}])
def test_what_makes_no_sense_is_no_figure(changed: dict[str, Any]) -> None:
    assert all(isinstance(value, int | float) for value in figures_of(result(1) | changed).values())


def test_runs_of_one_name_are_repetitions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = [run_directory(tmp_path, f"slow{i}", result(g)) for i, g in enumerate((40, 50, 44))]
    fast = [run_directory(tmp_path, f"fast{i}", result(g, "other")) for i, g in enumerate((88, 92))]
    assert main(["compare", *slow, *(f"new={run}" for run in fast), "--only", "goodput"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["figure", "demo", "(3)", "new", "(2)"]
    assert lines[1].split() == ["tcp.down.goodput_mbps", "44", "(40", "-", "50)", "90", "(88", "-", "92)", "x2.05"]
    assert main(["compare", *slow, *(f"new={run}" for run in fast), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [column["name"] for column in document["columns"]] == ["demo", "new"]
    first = document["figures"][0]
    assert first["columns"][0] == {"median": 44, "least": 40, "most": 50, "runs": 3, "ratio": None}
    assert first["columns"][1]["ratio"] == pytest.approx(90 / 44)


HOSTILE = "</td><script>x</script>"


def test_the_page_has_every_figure_with_its_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = [run_directory(tmp_path, f"slow{i}", result(g)) for i, g in enumerate((40, 50, 44))]
    fast = run_directory(tmp_path, "fast", result(88, HOSTILE, outages=[{"cause": HOSTILE, "longest_gap_ms": 5}]))
    odd = run_directory(tmp_path, "odd", {**result(1e400), "paths": {"wifi": {"lost": 10**400}}})
    page = tmp_path / "page.html"
    assert main(["compare", *slow, fast, f"odd={odd}", "--json", "-o", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    root = ET.fromstring(page.read_text().removeprefix("<!DOCTYPE html>"))
    assert not list(root.iter("script")) and HOSTILE in "".join(root.itertext())
    values = {str(e.get("data-of")): float(str(e.get("value"))) for e in root.iter("data")}
    names = [column["name"] for column in document["columns"]]
    told = {f"{name}/{f['id']}": c["median"] for f in document["figures"] for name, c in zip(names, f["columns"], strict=True) if c}
    assert values == told and values["demo/tcp.down.goodput_mbps"] == 44 and "odd/tcp.down.goodput_mbps" not in values
    plots = {str(s.get("data-plot")): s for s in root.iter(f"{SVG}svg")}
    assert list(plots) == [figure["id"] for figure in document["figures"]]
    for figure in document["figures"]:
        assert len(list(plots[figure["id"]].iter(f"{SVG}circle"))) == sum(c is not None for c in figure["columns"])
    assert main(["compare", *slow, "-o", str(tmp_path / "nowhere" / "page.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_figure_that_one_has_not_is_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run_directory(tmp_path, "a", result(1)), run_directory(tmp_path, "b", result(1, outages=[]))
    assert main(["compare", f"a={a}", f"b={b}", "--only", "cut"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["cut", "wifi.longest_gap_ms", "90.5", "-"]


@pytest.mark.parametrize(
    ("content", "words"), [("{", "is not JSON"), ("[]", "not the result"), ("{}", "not the result"), ("[" * 100_000, "is not JSON")]
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(LabError, match=words):
        read_result(tmp_path)
    with pytest.raises(LabError, match="cannot be read"):
        read_result(tmp_path / "nothing")


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path, "a", result(1))
    assert main(["compare", run, "--only", "colour"]) == 2 and "'colour'" in capsys.readouterr().err
    assert main(["compare", f"={run}"]) == 2
    assert issubclass(Misuse, LabError)
