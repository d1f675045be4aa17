"""`mpq down`"""

from __future__ import annotations

import argparse

from lab import client
from lab.errors import LabError
from lab.state import StateDir, stale_remove
from lab.verbs.common import chosen_lab, lab_argument, show

PATIENCE_S = 15.0


def configure(parser: argparse.ArgumentParser) -> None:
    lab_argument(parser, first=True)


def run(options: argparse.Namespace) -> int:
    lab = chosen_lab(options)
    state = StateDir(lab)
    removed = stale_remove()
    was_up = state.running()
    if was_up:
        try:
            client.ask(lab, "down", limit=PATIENCE_S)
        except LabError:
            state.kill()  # it does not answer: its namespaces, links and processes end with it
        else:
            state.wait_end(PATIENCE_S)
        state.remove()
    found = was_up or lab in removed
    text = f"lab {lab} is down" if found else f"lab {lab} was not up"
    show(options, {"lab": lab, "was_up": was_up, "stale_removed": removed}, text)
    return 0
