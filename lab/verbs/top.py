"""`mpq top`"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time

from lab import client
from lab.errors import LabError
from lab.state import StateDir
from lab.top import lines, view
from lab.verbs.common import chosen_lab, lab_argument, number

HOME_AND_CLEAR = "\x1b[H\x1b[J"


def configure(parser: argparse.ArgumentParser) -> None:
    lab_argument(parser, first=True)
    parser.add_argument("--interval", type=number(0.1, 60), default=1.0, metavar="S", help="seconds between two looks (default: 1)")
    parser.add_argument(
        "--count", type=number(0, 1e9), default=0, metavar="N", help="end after N views (default: at Ctrl-C, or with the lab)"
    )


def run(options: argparse.Namespace) -> int:
    """With --json a line of JSON each time; where there is no terminal, or a dumb one, the views one below the other."""
    terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    lab = chosen_lab(options)
    shown, before = 0, client.ask(lab, "top")
    try:
        while not options.count or shown < options.count:
            time.sleep(options.interval)
            try:
                now = client.ask(lab, "top")
            except LabError:
                if shown and not StateDir(lab).running():
                    break  # the lab has ended, and with it what is to be seen
                raise
            found = view(before, now)
            if options.json:
                text = json.dumps(found.document())
            else:
                text = "\n".join(lines(found, shutil.get_terminal_size().columns if terminal else 200))
                text = HOME_AND_CLEAR + text if terminal else text + "\n"
            print(text, flush=True)
            before, shown = now, shown + 1
    except KeyboardInterrupt:
        pass
    return 0
