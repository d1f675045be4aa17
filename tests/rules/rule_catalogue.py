"""docs/rules.toml as values: every rule of the protocol, the test that shows it, and the switch that removes it.

A row says how its protection can be removed (`canary`):

- `engine`: the C code reads `RULE(MP_27, condition)` where the rule is enforced; the canary build makes that condition 0;
- `python`: `rule_sabotage.py` has a function for the id that replaces the code in question;
- a sentence: there is nothing to remove, and why.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docs" / "rules.toml"
ENGINE = ROOT / "native" / "src"

# Every id that must have a row. A family is added here, its rows in docs/rules.toml.
FAMILIES: dict[str, int] = {"MP": 92, "PSK": 16, "Q": 164}
EXPECTED = [f"{family}-{number:02d}" for family, most in FAMILIES.items() for number in range(1, most + 1)]

LEVELS = {"M": "MUST", "S": "SHOULD", "Y": "MAY", "I": "stated"}
ENDS = ("both", "client", "server")
SWITCHES = ("engine", "python")
# Attacks and faults stand behind the rules of multipath: the first and last number of each run of rows that are there.
ATTACKS = ((1, 41), (50, 72), (100, 112), (120, 128), (130, 141), (172, 172))
PLACE = EXPECTED.index("PSK-01")
EXPECTED[PLACE:PLACE] = [f"R-{number:02d}" for first, last in ATTACKS for number in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `tests`: pytest node ids, with or without parameters."""

    id: str
    level: str
    section: str
    end: str
    text: str
    tests: tuple[str, ...]
    canary: str

    @property
    def switch(self) -> str:
        """The id as it stands in C and Python: MP_27."""
        return self.id.replace("-", "_")


def load(path: Path = RULES) -> list[Rule]:
    """The rows in their order; ValueError names what is wrong with one."""
    rules = []
    for row in tomllib.loads(path.read_text())["rule"]:
        name = row.get("id", "a row without id")
        unknown = set(row) - {"id", "level", "section", "end", "rule", "test", "canary"}
        if unknown:
            raise ValueError(f"{name}: unknown key {', '.join(sorted(unknown))}")
        tests = row.get("test", [])
        rule = Rule(
            id=row["id"],
            level=row["level"],
            section=row["section"],
            end=row.get("end", "both"),
            text=" ".join(row["rule"].split()),
            tests=(tests,) if isinstance(tests, str) else tuple(tests),
            canary=row.get("canary", ""),
        )
        if rule.level not in LEVELS:
            raise ValueError(f"{name}: level {rule.level!r} is none of {', '.join(LEVELS)}")
        if rule.end not in ENDS:
            raise ValueError(f"{name}: end {rule.end!r} is none of {', '.join(ENDS)}")
        if not rule.tests or not all("::" in test for test in rule.tests):
            raise ValueError(f"{name}: no test shows it, or what shows it is none that pytest runs")
        if rule.canary not in SWITCHES and " " not in rule.canary:
            raise ValueError(f"{name}: canary is none of {', '.join(SWITCHES)}, and no sentence that says why not")
        rules.append(rule)
    return rules


def places() -> dict[str, list[tuple[str, int]]]:
    """Where the engine enforces each rule: switch -> C sources and lines."""
    found: dict[str, list[tuple[str, int]]] = {}
    for source in sorted(ENGINE.glob("*.[ch]")):
        if source.name == "rules.h":
            continue
        for number, line in enumerate(source.read_text().splitlines(), 1):
            for switch in dict.fromkeys(re.findall(r"\bRULE\((\w+),", line)):
                found.setdefault(switch, []).append((source.name, number))
    return found
