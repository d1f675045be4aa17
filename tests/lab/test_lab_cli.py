"""`mpq`: exit codes, one JSON document, and never a traceback for a user's mistake."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.cli import PASSED_ON, VERBS, main


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MPQ_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("MPQ_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert "usage: mpq" in text and len(text) > 150
    if verb == "path":
        assert main([verb, "cut", "--help"]) == 0
        text = capsys.readouterr().out
    assert "--json" in text


MISUSE = [
    [], ["dance"], ["run"], ["run", "nope"], ["run", "./nope.yaml"], ["run", "demo", "--colour"], ["up", "nope"], ["exec"],
    ["exec", "ue"], ["path"], ["path", "cut"], ["path", "shape", "wifi"], ["path", "shape", "wifi", "--loss-percent", "101"],
    ["path", "shape", "wifi", "--rate-mbps", "0"], ["path", "shape", "wifi", "--rate-mbps", "nan"], ["rekey", "--by", "me"],
    ["down", "--lab", "../x"], ["down", "--lab", "a/b"], ["status", "--lab", ""], ["inspect", "--limit", "0"],
    ["inspect", "--frame", "NONSENSE"], ["bench", "--rounds"], ["doctor", "now"],
]


@pytest.mark.parametrize("arguments", MISUSE, ids=" ".join)
def test_misuse_is_2_with_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str], places: Path) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and "mpq" in output.err and "Traceback" not in output.err
    assert not (places / "runs").exists() and not list(places.glob("state/*"))  # nothing was made


@pytest.mark.parametrize("arguments", [["status"], ["rekey"], ["path", "cut", "wifi"], ["exec", "ue", "true"]], ids=" ".join)
def test_no_lab_is_1_and_says_what_to_do(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert "mpq up" in capsys.readouterr().err


def test_json_is_one_document_even_when_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["exit"] == 1 and "no lab" in document["error"]


@pytest.mark.parametrize(
    "arguments",
    [["run", "nope"], ["run"], ["dance"], ["up", "--colour"], ["exec", "ue"], ["path", "shape", "wifi", "--rate-mbps", "-1"],
     ["path", "shape", "wifi"], ["exec", "--timeout", "nan", "ue", "true"], ["exec", "--timeout", "-20", "ue", "true"],
     ["exec", "--timeout", "inf", "ue", "true"], ["down", "--lab", "../x"], ["inspect", "--limit", "0"], ["inspect", "/no/such"],
     ["report", "/no/such"], ["rekey", "--by", "me"], ["doctor", "now"]],
    ids=" ".join,
)
def test_json_is_one_document_for_every_mistake(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([arguments[0], "--json", *arguments[1:]])
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert document["exit"] == code in (1, 2) and document["error"] in output.err and "Traceback" not in output.err


@pytest.mark.parametrize(("verb", "program"), [("run", "iperf3"), ("up", "setpriv")])
def test_a_missing_program_is_named_before_anything_is_made(
    verb: str, program: str, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (places / "bin").mkdir()
    for other in {"setpriv", "unshare", "iperf3"} - {program}:
        (places / "bin" / other).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(places / "bin"))
    assert main([verb, "two_paths"]) == 2
    assert f"{program} is not installed: apt-get install" in capsys.readouterr().err
    assert not (places / "runs").exists() and not list(places.glob("state/*"))


def test_a_state_directory_too_deep_for_a_socket_is_misuse(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MPQ_STATE", str(places / ("x" * 100)))
    assert main(["up"]) == 2
    assert "MPQ_STATE" in capsys.readouterr().err


def test_interrupted_inspect_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.inspect.main", stop)
    assert main(["inspect"]) == 1
    assert capsys.readouterr().err == "mpq inspect: interrupted\n"


def test_a_report_of_a_run_that_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scenario.yaml").write_text('{"scenario": {"accesses": [{"name": "a", "type": "3gpp"}]}}')
    (tmp_path / "result.json").write_text('{"verdict": "fail"}')
    (tmp_path / "events.jsonl").write_text('{"t": 1, "node": "lab", "ev')
    assert main(["report", str(tmp_path)]) == 1
    assert "is not the result of a run" in capsys.readouterr().err


def test_down_without_a_lab_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["down", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"lab": "default", "was_up": False, "stale_removed": []}


def test_a_wrong_scenario_names_file_line_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("accesses:\n  - {name: a, type: 3gpp, wire: {rate_mbps: -1}}\n  - {name: b, type: non-3gpp}\n")
    for verb in ("run", "up"):
        assert main([verb, str(path)]) == 2
        assert f"{path}:2: accesses[0].wire.rate_mbps: must be more than 0" in capsys.readouterr().err


def test_an_unknown_check_is_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str], places: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("checks: [it.works]\naccesses: [{name: a, type: 3gpp}, {name: b, type: non-3gpp}]\n")
    assert main(["run", str(path)]) == 2
    assert "no check 'it.works'" in capsys.readouterr().err
    assert not list(places.glob("state/*"))


def test_doctor_reports_every_finding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert main(["doctor", "--json"]) == 1
    findings = {f["id"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert not findings["iperf3"]["ok"] and findings["iperf3"]["remedy"] == "apt-get install iperf3"
    assert findings["engine"]["ok"]


def test_passed_on_verbs_are_verbs() -> None:
    assert set(VERBS) >= PASSED_ON


@pytest.mark.parametrize("verb", ["run", "up"])
def test_a_run_directory_that_cannot_be_made_is_named(
    verb: str, places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (places / "file").write_text("in the way")
    monkeypatch.setenv("MPQ_RUNS", str(places / "file" / "runs"))
    assert main([verb, "two_paths"]) == 1
    output = capsys.readouterr()
    assert str(places / "file") in output.err and "Traceback" not in output.err
    assert not list(places.glob("state/*"))


def test_last_that_is_a_directory_of_the_user_is_left_alone(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (places / "runs" / "last").mkdir(parents=True)
    (places / "runs" / "last" / "mine").write_text("keep")
    assert main(["run", "two_paths", "--quiet"]) == 1
    assert "must be a link" in capsys.readouterr().err
    assert (places / "runs" / "last" / "mine").read_text() == "keep"
    assert not list(places.glob("state/*"))
