"""`mpq up [SCENARIO]`"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from lab import rootless
from lab.errors import LabError, Misuse
from lab.run import make_run_dir
from lab.scenario import find, load, shipped
from lab.state import StateDir, stale_remove
from lab.verbs.common import lab_argument, require_programs, runs_root, show


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", nargs="?", default="two_paths", metavar="SCENARIO",
                        help=f"whose accesses, wires and rules: {', '.join(shipped())} or FILE.yaml (default: two_paths)")
    parser.add_argument("--named", action="store_true", help="show the namespaces under /run/netns, for `ip netns exec`")
    parser.add_argument("--keys", action="store_true", help="have the nodes log what opens their traffic, for `mpq capture`")
    lab_argument(parser)


def run(options: argparse.Namespace) -> int:
    if options.named and rootless.needed():
        raise Misuse("--named needs root: without it the namespaces are this lab's own and nobody else can enter them")
    require_programs(["setpriv"])
    stale_remove()
    path = find(options.scenario).absolute()
    scenario = load(path)
    state = StateDir(options.lab)
    state.claim()
    try:
        answer, run_dir = _start(options, state, scenario.name, str(path))
    except BaseException:
        state.remove()
        raise
    seconds = answer["seconds"]
    text = f"lab {options.lab} is up after {seconds:g} s: {len(scenario.accesses)} accesses; run directory {run_dir}"
    show(options, {"lab": options.lab, "up": True, "seconds": seconds, "run": run_dir}, text)
    return 0


def _start(options: argparse.Namespace, state: StateDir, scenario: str, path: str) -> tuple[dict[str, Any], str]:
    run_dir = str(make_run_dir(scenario, runs_root()))
    reader, writer = os.pipe()
    program = [sys.executable, "-m", "lab.supervisor", "--lab", options.lab, "--scenario", path, "--run-dir", run_dir,
               "--ready-fd", str(writer), *(["--named"] if options.named else []), *(["--keys"] if options.keys else [])]
    log = os.path.join(run_dir, "supervisor.log")
    try:
        with open(log, "ab") as output:
            process = subprocess.Popen(
                rootless.command(program), env=rootless.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                pass_fds=[writer], start_new_session=True,
            )
    finally:
        os.close(writer)
    state.write_process(process.pid)
    try:
        with os.fdopen(reader) as pipe:
            text = pipe.readline()  # the supervisor's word, or nothing when it ended; unshare(1) holds the other end, too
    except BaseException:
        state.kill()
        process.wait()
        raise
    answer = json.loads(text) if text else {"ok": False, "error": f"the supervisor ended; see {log}"}
    if answer.get("ok") is not True:
        process.wait()
        raise LabError(str(answer.get("error")))
    return answer, run_dir
