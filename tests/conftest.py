"""`make soak` (MPQ_SOAK=1) runs tests/soak, which takes longer than `make test` may; `make test-report` (MPQ_BROWSER=1) runs
tests/browser, which needs a browser. A test that shows a rule of docs/rules.toml
is not skipped: that counts as a failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "rules"))
sys.path.insert(0, str(Path(__file__).parent / "support"))
from rule_catalogue import load

# Nothing here depends on how fast the machine is: four processes share its cores.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

APART = {"soak": "MPQ_SOAK", "browser": "MPQ_BROWSER"}
collect_ignore_glob = [f"{folder}/*" for folder, switch in APART.items() if os.environ.get(switch) != "1"]
SHOWS = {node: rule.id for rule in load() for node in rule.tests}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    rule = SHOWS.get(item.nodeid) or SHOWS.get(item.nodeid.partition("[")[0])
    if report.skipped and rule:
        report.outcome = "failed"
        report.longrepr = f"{rule} is shown by this test: it must run ({report.longrepr})"
    return report
