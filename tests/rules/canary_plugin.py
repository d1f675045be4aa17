"""A pytest plugin (`-p canary_plugin`): the engine is the build with switches, and the rule MPQ_CANARY names is removed.

It must come before anything imports `native`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter

import canary_build
import pytest
import rule_sabotage

outcomes: Counter[str] = Counter()


def _engine_replace() -> None:
    assert not any(name == "native" or name.startswith("native.") for name in sys.modules)
    spec = importlib.util.spec_from_file_location("native._engine", canary_build.library())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["native._engine"] = module


_engine_replace()
rule_sabotage.remove(os.environ["MPQ_CANARY"])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A rule may be one without which no connection can be made: then the test fails in its fixture, which is a failure, too."""
    if report.when == "call" or report.failed:
        outcomes[report.outcome] += 1
    elif report.outcome != "passed":
        outcomes["other"] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    passed, failed = outcomes["passed"], outcomes["failed"]
    terminalreporter.write_line(f"canary: passed {passed}, failed {failed}, other {sum(outcomes.values()) - passed - failed}")
