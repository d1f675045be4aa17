"""However a lab ends, nothing of it stays: Ctrl-C, kill -9, a failure while it comes up; and labs do not see each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
from mpq_kit import PATIENCE_S, ROOT, Host, Mpq

pytestmark = pytest.mark.system

LONG = """\
accesses: [{name: 3gpp, type: 3gpp, wire: {rate_mbps: 20}}, {name: wifi, type: non-3gpp, wire: {rate_mbps: 20}}]
steps: [{phase: long, traffic: tcp, seconds: 600}]
"""


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_killed_supervisor_leaves_nothing_that_the_next_mpq_does_not_remove(tmp_path: Path, rootless: bool) -> None:
    host = Host.look()
    mpq = Mpq(tmp_path, rootless)
    try:
        up = mpq("up")
        assert up.code == 0, up.err
        os.kill(mpq.supervisor(), signal.SIGKILL)
        assert mpq.nothing_left() and Host.look() == host
        assert mpq.labs() == ["default"]
        assert mpq("status").code == 1
        down = mpq("down", "--json")
        assert down.code == 0 and down.document == {"lab": "default", "was_up": False, "stale_removed": ["default"]}
        assert mpq.labs() == []
    finally:
        mpq.end()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["int", "term", "kill"])
@pytest.mark.parametrize("mark", ["bringing the lab up", "long:"])
@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_a_run_that_is_ended_leaves_nothing(tmp_path: Path, number: int, mark: str, rootless: bool) -> None:
    host = Host.look()
    mpq = Mpq(tmp_path, rootless)
    scenario = tmp_path / "long.yaml"
    scenario.write_text(LONG)
    process = mpq.start("run", str(scenario), "--lab", "one")
    try:
        assert process.stderr is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if mark in line:
                break
        else:
            pytest.fail(f"never {mark!r}:\n{seen}")
        # To the whole group, as a terminal does; SIGKILL and SIGTERM to the process alone, as a person does.
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        if number == signal.SIGTERM and rootless:
            os.kill(process.pid, signal.SIGKILL)  # unshare(1) holds SIGTERM back while its child runs
        done = mpq.finish(process, 60)
        assert done.code != 0 and "Traceback" not in done.err
        assert mpq.nothing_left() and Host.look() == host
        assert mpq("down", "--lab", "one").code == 0
        assert mpq.labs() == []
    finally:
        mpq.end()


def test_two_labs_at_once_do_not_see_each_other(mpq: Mpq) -> None:
    first, second = mpq.start("up", "--lab", "one"), mpq.start("up", "--lab", "two")
    for process in (first, second):
        done = mpq.finish(process)
        assert done.code == 0, done.err
    assert mpq.round_trip("one").code == 0 and mpq.round_trip("two").code == 0
    assert mpq("path", "cut", "wifi", "--lab", "one").code == 0
    assert mpq("path", "cut", "3gpp", "--lab", "one").code == 0
    assert mpq.round_trip("one").code == 1  # both of its accesses are gone
    assert mpq.round_trip("two").code == 0
    assert mpq("down", "--lab", "one").code == 0
    assert mpq.labs() == ["two"] and mpq.round_trip("two").code == 0
    assert mpq("down", "--lab", "two").code == 0
    assert mpq.nothing_left()


def test_a_lab_that_cannot_come_up_says_why_and_leaves_nothing(mpq: Mpq, tmp_path: Path) -> None:
    """Both wires lose everything: registration cannot succeed."""
    host = Host.look()
    scenario = tmp_path / "deaf.yaml"
    scenario.write_text(
        "accesses:\n  - {name: 3gpp, type: 3gpp, wire: {loss_percent: 100}}\n"
        "  - {name: wifi, type: non-3gpp, wire: {loss_percent: 100}}\n"
    )
    done = mpq("up", str(scenario))
    assert done.code == 1 and "mpq up: ue" in done.err and "Traceback" not in done.err
    assert mpq.nothing_left() and mpq.labs() == [] and Host.look() == host


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_up_that_is_interrupted_leaves_nothing(tmp_path: Path, rootless: bool) -> None:
    host = Host.look()
    mpq = Mpq(tmp_path, rootless)
    process = mpq.start("up")
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not list(tmp_path.glob("runs/*/events.jsonl")):  # the supervisor is at work
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        done = mpq.finish(process, 60)
        assert done.code == 1 and "interrupted" in done.err and "Traceback" not in done.err
        assert mpq.nothing_left() and mpq.labs() == [] and Host.look() == host
    finally:
        mpq.end()


def test_named_namespaces_are_shown_and_taken_away(mpq: Mpq) -> None:
    host = Host.look()
    done = mpq("up", "--named", "--lab", "shown")
    assert done.code == 0, done.err
    new = Host.look().named - host.named
    assert {n for n in ("ue", "core", "upf", "dn") if any(name.endswith(n) for name in new)} == {"ue", "core", "upf", "dn"}
    assert mpq("down", "--lab", "shown").code == 0
    assert Host.look() == host


def test_names_of_a_killed_lab_are_taken_away_by_the_next_mpq_and_no_others(mpq: Mpq) -> None:
    host = Host.look()
    foreign = Path("/run/netns/shown-foreign")
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.touch()
    try:
        assert mpq("up", "--named", "--lab", "shown").code == 0
        os.kill(mpq.supervisor("shown"), signal.SIGKILL)
        assert mpq.nothing_left() and Host.look() != host
        assert mpq("down", "--lab", "shown").code == 0
        assert foreign.exists()
    finally:
        foreign.unlink(missing_ok=True)
    assert Host.look() == host


def test_a_rootless_lab_cannot_be_named(tmp_path: Path) -> None:
    mpq = Mpq(tmp_path, rootless=True)
    done = mpq("up", "--named")
    assert done.code == 2 and "--named needs root" in done.err and mpq.labs() == []


def test_what_a_command_left_in_the_background_ends_with_the_lab(mpq: Mpq) -> None:
    """It would hold its namespace, and with it the links, for ever."""
    for end in (lambda: mpq("down"), lambda: os.kill(mpq.supervisor(), signal.SIGKILL)):
        assert mpq("up").code == 0
        done = mpq("exec", "ue", "sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo started")
        assert done.out == "started\n"
        end()
        assert mpq("down").code == 0
        assert mpq.nothing_left() and mpq.labs() == []


def test_a_full_disk_fails_the_run_and_leaves_a_clean_lab(tmp_path: Path) -> None:
    """The runs lie on a file system of 300 KiB: the capture does not fit."""
    host = Host.look()
    mpq = Mpq(tmp_path)
    (tmp_path / "runs").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(tmp_path / "runs")]
    scenario = tmp_path / "full.yaml"
    scenario.write_text("capture: true\n" + LONG.replace("600", "3"))
    command = [sys.executable, "-m", "lab", "run", str(scenario), "--json", "--lab", "one"]
    script = " ".join(mount) + " && exec " + " ".join(command)
    try:
        done = subprocess.run(["unshare", "--mount", "sh", "-c", script], env=mpq.environment(), capture_output=True, text=True,
                              timeout=120, check=False)
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "No space left on device" in json.loads(done.stdout)["error"]
        assert mpq.nothing_left() and mpq.labs() == [] and Host.look() == host
    finally:
        mpq.end()


def test_an_interrupted_run_keeps_its_result(mpq: Mpq, tmp_path: Path) -> None:
    scenario = tmp_path / "long.yaml"
    scenario.write_text(LONG)
    process = mpq.start("run", str(scenario), "--lab", "one", "--json")
    assert process.stderr is not None
    for line in process.stderr:
        if "long:" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    done = mpq.finish(process, 60)
    assert done.code == 1 and "interrupted" in done.document["error"]
    result = json.loads((tmp_path / "runs" / "last" / "result.json").read_text())
    jsonschema.validate(result, json.loads((ROOT / "lab" / "result.schema.json").read_text()))
    assert result["verdict"] == "fail" and result["error"] == "interrupted"
