"""The state directory of a lab: who owns it, when it is stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cli import main
from lab.errors import LabError, Misuse
from lab.state import MARK, PROCESS, StateDir, mark, private_directory, stale_remove, start_time


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MPQ_STATE", str(tmp_path / "labs"))
    return tmp_path / "labs"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_a_running_lab_is_not_claimed_twice(root: Path) -> None:
    state = StateDir("one")
    state.claim()
    assert state.running() and (root / "one").stat().st_mode & 0o777 == 0o700
    with pytest.raises(LabError, match="up already"):
        StateDir("one").claim()
    StateDir("two").claim()
    assert stale_remove() == []


def test_a_killed_supervisor_leaves_a_stale_directory(sleeper: subprocess.Popen[bytes], root: Path) -> None:
    state = StateDir("one")
    state.claim(sleeper.pid)
    assert stale_remove() == []
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert not state.running() and stale_remove() == ["one"] and not (root / "one").exists()


def test_a_pid_that_was_given_to_another_process_is_not_ours(sleeper: subprocess.Popen[bytes]) -> None:
    state = StateDir("one")
    state.claim(sleeper.pid)
    started = start_time(sleeper.pid)
    assert started is not None
    (state.path / PROCESS).write_text(json.dumps({"pid": sleeper.pid, "start": started - 1}))
    assert not state.running()
    state.kill(0.1)
    assert sleeper.poll() is None  # whoever has our old pid is left alone


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "start": 1}', '{"pid": 1}', '{"pid": -1, "start": null}'])
def test_a_spoilt_process_file_is_no_process(text: str) -> None:
    state = StateDir("one")
    state.claim()
    (state.path / PROCESS).write_text(text)
    assert state.process() is None


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", "a..b", "x" * 42, "-x", "a\nb"])
def test_names_that_could_lead_elsewhere_are_misuse(name: str) -> None:
    with pytest.raises(Misuse):
        StateDir(name)


def test_a_directory_that_others_can_enter_is_refused(root: Path) -> None:
    root.mkdir(mode=0o755)
    os.chmod(root, 0o755)
    with pytest.raises(LabError, match="0700"):
        StateDir("one").claim()


def test_a_directory_that_is_no_lab_is_left_alone(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MPQ_STATE may be somebody's home directory."""
    (root / "Documents").mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    (root / "Documents" / "thesis").write_text("years of work")
    with pytest.raises(LabError, match="in the way"):
        StateDir("Documents").claim()
    assert main(["down", "--lab", "Documents"]) == 0
    assert stale_remove() == []
    StateDir("Documents").remove()
    assert (root / "Documents" / "thesis").read_text() == "years of work"


def test_a_lab_killed_before_it_wrote_its_process_is_no_obstacle(root: Path) -> None:
    private_directory(root)
    (root / "one").mkdir(mode=0o700)
    StateDir("one").claim()
    assert StateDir("one").running()


def test_of_many_that_claim_a_name_at_once_one_has_it(root: Path) -> None:
    script = "from lab.state import StateDir\nimport sys\ntry: StateDir('one').claim()\nexcept Exception as e: sys.exit(str(e))\n" \
        "print('mine', flush=True); sys.stdin.read()"
    racers = [subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True) for _ in range(6)]
    try:
        for _ in range(30):
            stale_remove()  # and whoever tidies up meanwhile takes it from nobody
        winners = [p for p in racers if p.stdout is not None and p.stdout.readline() == "mine\n"]
        assert len(winners) == 1 and StateDir("one").process() == winners[0].pid
        assert all("up already" in p.communicate()[1] for p in racers if p not in winners)
    finally:
        for p in racers:
            p.kill()
            p.wait()


def test_what_a_command_left_in_the_background_ends_with_its_lab_and_nothing_else(
    sleeper: subprocess.Popen[bytes], root: Path
) -> None:
    state = StateDir("one")
    state.claim(sleeper.pid)
    started = start_time(sleeper.pid)
    ours = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark(sleeper.pid, started)}, start_new_session=True)
    other = subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark(sleeper.pid, (started or 0) + 1)})
    try:
        sleeper.kill()
        sleeper.wait()
        assert stale_remove() == ["one"]
        assert ours.wait(10) == -signal.SIGKILL and other.poll() is None
    finally:
        for process in (ours, other):
            process.kill()
            process.wait()


def test_a_link_in_its_place_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabError, match="0700"):
        StateDir("one").claim()
