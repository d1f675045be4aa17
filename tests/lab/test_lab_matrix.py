"""Many scenarios in one file: each choice is one scenario, and a refusal still names its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import ScenarioError
from lab.scenario import families, find, load, parse, shipped

FILE = """\
accesses: [{name: 3gpp, type: 3gpp}, {name: wifi, type: non-3gpp, wire: {rate_mbps: 5}}]
key: {bind: session}
matrix:
  control: {bbr: {congestion_control: bbr}, cubic: {congestion_control: cubic}}
  more:
    none: {}
    key:
      key:
        mode: derived
      steps: [{phase: a, traffic: none}]
"""


def test_each_choice_is_a_scenario() -> None:
    one = parse(FILE.encode(), "f.yaml", "f", "bbr-key")
    assert (one.name, one.congestion_control, len(one.steps)) == ("f-bbr-key", "bbr", 1)
    assert one.key == {"bind": "session", "mode": "derived"}
    other = parse(FILE.encode(), "f.yaml", "f", "cubic-none")
    assert (other.name, other.congestion_control, other.steps) == ("f-cubic-none", "cubic", ())
    assert other.key == {"bind": "session"}


def test_a_file_and_a_name_in_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    assert load(find(f"{path}:bbr-none")).name == "mine-bbr-none"
    with pytest.raises(ScenarioError, match=r"matrix: a scenario must be one of bbr-none, bbr-key, cubic-none, cubic-key"):
        load(find(str(path)))
    with pytest.raises(ScenarioError, match="matrix: reno-none must be one of"):
        load(find(f"{path}:reno-none"))
    path.write_text("accesses: []\n")
    with pytest.raises(ScenarioError, match="has no matrix, and so no bbr-none"):
        load(find(f"{path}:bbr-none"))


WRONG = {
    "a value of a choice": ("mode: derived", "mode: stolen", 9, "key.mode: must be one of delivered, derived"),
    "no axes": (FILE[FILE.index("matrix:"):], "matrix: [1]\n", 3, "must be axes"),
    "no choices": ("{bbr: {congestion_control: bbr}, cubic: {congestion_control: cubic}}", "5", 4, "control: must be names"),
    "a choice that says nothing": ("none: {}", "none: 3", 6, "none: must be keys and values"),
    "a name with a slash": ("none: {}", "../x: {}", 6, "must look like active-standby"),
    "the same name twice": ("    none: {}\n", "    key-x: {}\n    x: {}\n  third:\n    x: {}\n    key-x: {}\n", 3, ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_matrix_cannot_be(case: str) -> None:
    old, new, line, words = WRONG[case]
    assert old in FILE
    with pytest.raises(ScenarioError) as caught:
        parse(FILE.replace(old, new, 1).encode(), "f.yaml", "f", "bbr-key")
    assert words in str(caught.value) and (not words or str(caught.value).startswith(f"f.yaml:{line}:"))


def test_too_many() -> None:
    axes = "".join(f"  a{i}: {{{', '.join(f'n{j}: {{}}' for j in range(9))}}}\n" for i in range(3))
    with pytest.raises(ScenarioError, match="more than 200 scenarios in all"):
        parse(f"matrix:\n{axes}".encode(), "f.yaml", "f", "n0-n0-n0")


def test_every_mode_is_shipped_over_every_kind_of_paths_and_both_kinds_of_cut() -> None:
    modes = {"active-standby", "load-balancing", "per-packet", "smallest-delay", "priority", "redundant"}
    kinds = {"equal", "unequal", "lossy", "flapping", "cut", "down"}
    assert set(families()["steering"]) == {f"{m}-{k}" for m in modes for k in kinds}
    assert len(set(shipped())) == len(shipped()) >= 30
    for mode in modes:
        cuts = [a.kind for k in ("cut", "down") for p in load(find(f"steering-{mode}-{k}")).steps for a in p.actions]
        assert {"cut", "down", "restore"} == set(cuts)
