"""The catalogue of rules is complete, honest and current: docs/rules.toml, the code, the tests and docs/conformance.md agree."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from rule_catalogue import EXPECTED, ROOT, Rule, load, places
from rule_page import PAGE, render
from rule_sabotage import load as sabotage

RULES = load()


def missing(wanted: list[str], collected: list[str]) -> list[str]:
    """Node ids that stand for no collected test."""
    known = set(collected) | {node.partition("[")[0] for node in collected}
    return [node for node in wanted if node not in known]


def test_every_rule_has_one_row_in_order() -> None:
    ids = [rule.id for rule in RULES]
    assert [i for i in ids if i in EXPECTED] == EXPECTED
    assert len(ids) == len(set(ids))


def test_every_test_of_a_rule_is_collected() -> None:
    wanted = sorted({node for rule in RULES for node in rule.tests})
    files = sorted({node.partition("::")[0] for node in wanted})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    collected = [line for line in done.stdout.splitlines() if "::" in line]
    assert missing(wanted, collected) == [], done.stdout[-2000:] + done.stderr[-2000:]


def test_a_test_that_is_not_there_is_seen() -> None:
    assert missing(["a.py::x", "a.py::y[1]", "a.py::z"], ["a.py::x[1]", "a.py::y[2]", "a.py::z"]) == ["a.py::y[1]"]


def switch_faults(rules: list[Rule], engine: set[str], python: set[str]) -> list[str]:
    """Rows without their switch, and switches without their row."""
    out = [f"{r.id}: no RULE({r.switch}, ...) in native/src" for r in rules if r.canary == "engine" and r.switch not in engine]
    out += [f"{r.id}: in no module of rule_sabotage.FAMILIES" for r in rules if r.canary == "python" and r.switch not in python]
    known = {r.switch for r in RULES}
    return out + [f"{switch}: no such rule" for switch in sorted((engine | python) - known)]


def test_every_switch_is_there_and_belongs_to_a_rule() -> None:
    assert switch_faults(RULES, set(places()), set(sabotage())) == []


def test_a_missing_and_a_foreign_switch_are_seen() -> None:
    rule = replace(RULES[0], canary="engine", id="MP-01")
    assert len(switch_faults([rule], set(), set())) == 1
    assert len(switch_faults([rule], {"MP_01", "MP_99"}, set())) == 1
    assert len(switch_faults([replace(rule, canary="python")], {"MP_01"}, set())) == 1


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == render(RULES), "docs/conformance.md is stale: make conformance"


def test_the_page_says_why_nothing_can_be_removed() -> None:
    page = render([Rule("MP-01", "M", "§2", "both", "a | b", ("tests/a.py::test_x[a|b]",), "it cannot be")])
    assert "| it cannot be |" in page and "a \\| b" in page and "[test_x[a\\|b]](../tests/a.py)" in page


@pytest.mark.parametrize(
    "row",
    [
        'level = "Q"\ntest = "a.py::t"\ncanary = "engine"',
        'level = "M"\ncanary = "engine"',
        'level = "M"\ntest = "scenario:demo"\ncanary = "engine"',
        'level = "M"\ntest = "a.py::t"',
        'level = "M"\ntest = "a.py::t"\ncanary = "enigne"',
        'level = "M"\ntest = "a.py::t"\ncanary = "engine"\nnote = "n"',
        'level = "M"\ntest = "a.py::t"\ncanary = "engine"\nend = "middle"',
    ],
)
def test_a_row_that_says_too_little_is_refused(row: str, tmp_path: object) -> None:
    path = ROOT.__class__(str(tmp_path)) / "rules.toml"
    path.write_text(f'[[rule]]\nid = "X-1"\nsection = "s"\nrule = "r"\n{row}\n')
    with pytest.raises(ValueError, match="X-1"):
        load(path)
