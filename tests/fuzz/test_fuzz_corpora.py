"""The corpora of the fuzz targets with gcc's ASan and UBSan, and the I/O threads under ThreadSanitizer (tests/fuzz/Makefile)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
TARGETS = ["session", "packet", "frame", "inner", "offload", "reorder", "qlog"]


def make(build: str, sanitizers: str, goal: str) -> Path:
    """Builds a program (kept in build/, so that only what changed is compiled again); with switches where a rule is removed."""
    switches = ["DEFINES=-DENGINE_CANARIES"] if "MPQ_CANARY" in os.environ else []
    where = BUILD / (f"{build}-canary" if switches else build)
    command = ["make", "-s", "-j2", "-C", str(HERE), "CC=gcc", f"SAN={sanitizers}", f"BUILD={where}", *switches, str(where / goal)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return where / goal


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_is_survived(target: str) -> None:
    program = make("asan", "address,undefined", f"replay_{target}")
    corpus = HERE / "corpus" / target
    done = subprocess.run([program, corpus], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split()[0] == str(len(list(corpus.iterdir()))) != "0"


def initials(count: int, seed: int) -> list[int]:
    """Initials of random insides for a server: how many were dropped, refused, right."""
    program = make("asan", "address,undefined", "initials")
    done = subprocess.run([program, str(count), str(seed)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    return [int(word) for word in done.stdout.split() if word.isdigit()]


def test_initials_of_random_insides_have_a_named_error() -> None:
    """R-16; ten times as many in tests/soak."""
    dropped, refused, right = initials(100_000, 16)
    assert dropped + refused + right == 100_000 and refused > 50_000 and right > 1000


def test_a_fault_is_seen() -> None:
    program = make("asan", "address,undefined", "replay_canary")
    done = subprocess.run([program, HERE / "corpus/frame/seed-ping"], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr


def test_the_io_threads_have_no_races() -> None:
    program = make("tsan", "thread", "tsan_io")
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr[-4000:]


def test_a_race_is_seen() -> None:
    program = make("tsan", "thread", "tsan_io")
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, env=os.environ | {"MPQ_RACE": "1"})
    assert done.returncode != 0 and "data race" in done.stderr
