"""The state directory of a lab: who owns it, when it is stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import LabError, Misuse
from lab.state import PROCESS, StateDir, stale_remove, start_time


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


def test_a_link_in_its_place_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    root.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabError, match="0700"):
        StateDir("one").claim()
