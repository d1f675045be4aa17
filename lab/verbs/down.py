"""`mpq down`"""

from __future__ import annotations

import argparse

from lab import client
from lab.errors import LabError
from lab.state import StateDir, stale_remove
from lab.verbs.common import lab_argument, show

PATIENCE_S = 15.0


def configure(parser: argparse.ArgumentParser) -> None:
    lab_argument(parser)


def run(options: argparse.Namespace) -> int:
    state = StateDir(options.lab)
    removed = stale_remove()
    was_up = state.running()
    if was_up:
        try:
            client.ask(options.lab, "down", limit=PATIENCE_S)
        except LabError:
            state.kill()  # it does not answer: its namespaces, links and processes end with it
        else:
            state.wait_end(PATIENCE_S)
        state.remove()
    found = was_up or options.lab in removed
    text = f"lab {options.lab} is down" if found else f"lab {options.lab} was not up"
    show(options, {"lab": options.lab, "was_up": was_up, "stale_removed": removed}, text)
    return 0
