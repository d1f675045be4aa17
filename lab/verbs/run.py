"""`mpq run SCENARIO`"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import rootless
from lab.errors import LabError, Misuse
from lab.scenario import Scenario, families, find, load
from lab.state import StateDir, stale_remove
from lab.verbs.common import repeats, require_programs, runs_root

MOST_REPEATS = 100  # as lab/scenario.schema.json


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help=f"one of {named()}, FILE.yaml, or FILE.yaml:NAME")
    parser.add_argument(
        "--repeat", metavar="N", type=repeats(MOST_REPEATS), help="the phases N times in one lab: medians with their spread"
    )
    parser.add_argument("--lab", metavar="NAME", help="name of the lab while it runs (default: run-PID)")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def named() -> str:
    """The shipped scenarios in few words: of a file with a matrix one for all."""
    return ", ".join(stem if not variants else f"{stem}-... ({len(variants)})" for stem, variants in families().items())


def run(options: argparse.Namespace) -> int:
    scenario = load(find(options.scenario))
    if options.repeat is not None:
        scenario = replace(scenario, repeat=options.repeat)
    require_programs({"setpriv", *("iperf3" for phase in scenario.steps if phase.traffic in ("tcp", "udp"))})
    if not rootless.inside():  # in a PID namespace no lab's supervisor can be seen: each would look dead
        stale_remove()
    name = options.lab or f"run-{os.getpid()}"
    state = StateDir(name)
    if not rootless.inside():
        state.claim()
        if rootless.needed():
            arguments = ["run", options.scenario, "--lab", name]
            arguments += [] if options.repeat is None else ["--repeat", str(options.repeat)]
            arguments += ["--quiet"] * options.quiet + ["--json"] * options.json
            try:
                rootless.reexecute(arguments)
            finally:  # only when it could not
                state.remove()
    try:
        document = asyncio.run(_main(name, scenario, state, options))
    finally:
        state.remove()
    from lab.progress import table

    if options.json:
        print(json.dumps(document))
    else:
        print(table(document))
    if document["error"]:
        print(f"mpq run: {document['error']}", file=sys.stderr)
    return 0 if document["verdict"] == "pass" else 1


async def _main(name: str, scenario: Scenario, state: StateDir, options: argparse.Namespace) -> dict[str, Any]:
    from lab.lab import Lab
    from lab.progress import Progress
    from lab.result import CHECKS, Judge, machine, versions
    from lab.run import Runner, make_run_dir, write_scenario
    from lab.server import LabServer

    if unknown := [c for c in (*scenario.checks, *scenario.aims) if c not in CHECKS]:
        raise Misuse(f"{options.scenario}: checks: no check {unknown[0]!r}; there are {', '.join(CHECKS)}")
    run_dir = make_run_dir(scenario.name, runs_root())
    write_scenario(scenario, run_dir, versions(), machine())
    lab = Lab(name, scenario, state.path, run_dir)
    server = LabServer(lab, state.socket)
    await server.start()
    run = Runner(lab, Progress(quiet=options.quiet))
    runner = asyncio.create_task(run.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.cancel)
    stopper = asyncio.create_task(server.stopping.wait())
    stopper.add_done_callback(lambda task: None if task.cancelled() else runner.cancel())
    try:
        record = await runner
    except asyncio.CancelledError:
        _save(run_dir, Judge(run.record).document())
        raise LabError(f"interrupted; the lab is down, what was measured is in {run_dir}") from None
    finally:
        stopper.cancel()
        with contextlib.suppress(OSError):
            await server.finish()
    return _save(run_dir, Judge(record).document())


def _save(run_dir: Path, document: dict[str, Any]) -> dict[str, Any]:
    """result.json and report.html; a result that cannot be kept is no pass."""
    from lab.report import write_report
    from lab.run import words

    try:
        (run_dir / "result.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        write_report(run_dir)
    except (LabError, OSError) as error:
        document = {**document, "verdict": "fail", "error": document["error"] or words(error)}
    return document
