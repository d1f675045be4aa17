"""`mpq compare RUN RUN...`"""

from __future__ import annotations

import argparse
from pathlib import Path

from lab.compare import columns, document, names_of, table
from lab.errors import Misuse
from lab.verbs.common import show


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]RUN",
        help="run directories, or result.json files. Runs of one NAME (without one: of one scenario) are repetitions: their "
        "figures are shown as median with spread. Ratios are to the first name",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="also as a page, with each figure's spread drawn")
    parser.add_argument("--only", default="", metavar="TEXT", help="figures with TEXT in their names")


def run(options: argparse.Namespace) -> int:
    sides = columns(options.runs)
    if not names_of(sides, options.only):
        raise Misuse(f"no figure of these runs has {options.only!r} in its name" if options.only else "these runs have no figures")
    if options.output is not None:
        from lab.report import keep
        from lab.report.comparison import page

        keep(page(sides, options.only), options.output)
    show(options, document(sides, options.only), table(sides, options.only))
    return 0
