"""`make canaries`: runs each rule's tests with that rule's protection removed, and fails if one of them still passes.

    rule_canaries.py [--jobs N] [ID ...]

An ID may be a pattern: "MP-*", "Q-1[0-4]?".

Every rule runs in a process of its own, against a build of the engine that production never sees (canary_plugin.py). A rule that
the engine enforces at several places is removed at all of them, and then at one after the other, so that each place is shown.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import canary_build
from rule_catalogue import ROOT, SWITCHES, Rule, load, places

TIMEOUT_S = 240.0
HERE = Path(__file__).resolve().parent


def run(rule: Rule, switch: str, every: bool = True) -> tuple[str, str]:
    """What is wrong with this canary; empty if the rule's tests fail as they should: every one of them, or one at least."""
    paths = os.pathsep.join(map(str, (ROOT, HERE)))
    environment = os.environ | {"MPQ_CANARY": switch, "PYTHONPATH": paths}
    command = [sys.executable, "-m", "pytest", "-p", "canary_plugin", "-p", "no:cacheprovider", "--tb=line", *rule.tests]
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return switch, f"no end within {TIMEOUT_S:g} s"
    said = re.search(r"canary: passed (\d+), failed (\d+), other (\d+)", done.stdout)
    if not said:
        return switch, f"pytest ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
    passed, failed, other = map(int, said.groups())
    if failed and not (passed and every) and not other:
        return switch, ""
    more = f"\n{done.stdout[-2000:]}" if other else ""
    return switch, f"{passed} passed, {failed} failed, {other} neither{more}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID", help="only these rules; also patterns, as of a shell")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    able = [rule for rule in load() if rule.canary in SWITCHES]
    for wanted in arguments.ids:
        if not any(fnmatch.fnmatchcase(rule.id, wanted) for rule in able):
            parser.error(f"{wanted} is unknown or has no switch")
    rules = [r for r in able if not arguments.ids or any(fnmatch.fnmatchcase(r.id, wanted) for wanted in arguments.ids)]
    started = time.monotonic()
    canary_build.build()
    silent = 0
    work = [(rule, rule.switch, True) for rule in rules]
    found = places()
    several = [rule for rule in rules if len(found.get(rule.switch, [])) > 1]
    work += [(rule, f"{rule.switch}@{name}:{line}", False) for rule in several for name, line in found[rule.switch]]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for switch, wrong in pool.map(lambda w: run(*w), work):
            if wrong:
                silent += 1
                print(f"{switch}: {wrong}", flush=True)
    print(f"{len(work)} canaries, {silent} of them silent, {time.monotonic() - started:.0f} s")
    return 1 if silent or not work else 0


if __name__ == "__main__":
    sys.exit(main())
