"""`mpq report [RUN]`"""

from __future__ import annotations

import argparse
from pathlib import Path

from lab.verbs.common import runs_root, show


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run directory (default: the newest run)")


def run(options: argparse.Namespace) -> int:
    from lab.report import write_report

    directory = Path(options.run) if options.run else runs_root() / "last"
    path = write_report(directory)
    show(options, {"report": str(path)}, str(path))
    return 0
