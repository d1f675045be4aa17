"""Builds docs/conformance.md from docs/rules.toml: `make conformance`."""

from __future__ import annotations

from rule_catalogue import LEVELS, ROOT, Rule, load, places
from rule_sabotage import load as sabotage

PAGE = ROOT / "docs" / "conformance.md"
TITLES = {
    "MP": "Multipath QUIC (RFC 10069)",
    "Q": "QUIC, its loss recovery, DATAGRAM, HTTP datagrams and CONNECT-IP (RFC 9000, 9001, 9002, 8899, 9221, 9297, 9484)",
    "R": "Attacks and faults",
    "PSK": "Failures of the handshake with an external PSK (RFC 9846, RFC 9001)",
}
HEAD = """# Conformance

<!-- Built from rules.toml by `make conformance`; edit that. -->

Every rule of the protocol that this implementation answers for, as client, as server or as both: the rule in our words, where it
comes from, the test that shows it, and the place whose removal makes it fail. `make test` fails on a rule without a test that runs;
`make canaries` removes each protection in turn and fails if its test still passes. Sections of RFC 10069 are numbered as in
draft-ietf-quic-multipath-21.
"""


def _place(rule: Rule, found: dict[str, list[tuple[str, int]]]) -> str:
    if rule.canary == "engine":
        return ", ".join(f"[{name}](../native/src/{name})" for name in dict.fromkeys(n for n, _ in found.get(rule.switch, [])))
    if rule.canary == "python":
        module = sabotage()[rule.switch].__module__
        return f"[{rule.switch.lower()}](../tests/rules/{module}.py)"
    return rule.canary


def _test(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[{name.replace('|', chr(92) + '|')}](../{path})"


def render(rules: list[Rule]) -> str:
    found = places()
    out = [HEAD]
    families = list(dict.fromkeys(rule.id.partition("-")[0] for rule in rules))
    for family in families:
        mine = [rule for rule in rules if rule.id.startswith(f"{family}-")]
        out.append(f"\n## {TITLES.get(family, family)}\n\n{len(mine)} rules.\n")
        out.append("| Rule | | Binds | Source | What is required | Shown by | Removed at |\n|---|---|---|---|---|---|---|")
        for rule in mine:
            text = rule.text.replace("|", "\\|")
            tests = "<br>".join(map(_test, rule.tests))
            place = _place(rule, found)
            out.append(f"| {rule.id} | {LEVELS[rule.level]} | {rule.end} | {rule.section} | {text} | {tests} | {place} |")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(load()))
