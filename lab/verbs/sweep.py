"""`mpq sweep FILE`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from lab.compare import aligned
from lab.sweep import SweepRun
from lab.sweep_file import load, shipped
from lab.verbs.common import repeats, runs_root, show

MOST_REPEATS = 20  # as lab/sweep.schema.json


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="SWEEP", help=f"one of {', '.join(shipped())}, or FILE.yaml (docs/sweeps.md)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it goes, and goes on (default: sweep-NAME among the runs)")
    parser.add_argument(
        "--repeat", metavar="N", type=repeats(MOST_REPEATS),
        help="every run N times, whatever the file says: medians with their spread; those that are there already count",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def run(options: argparse.Namespace) -> int:
    sweep = load(options.file, options.repeat)
    directory = (options.out or runs_root() / f"sweep-{sweep.name}").absolute()
    work = SweepRun(sweep, directory, _silent if options.quiet else _say)
    work.open()
    document = work.run()
    show(options, document, f"{_table(document)}\n\n{directory}: table.csv, table.json, plot.svg, runs/")
    return 0 if all(document["figure"] in row["figures"] for row in document["rows"]) else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    pass


def _table(document: dict[str, Any]) -> str:
    figure = document["figure"]
    rows = [[*(path.rpartition("/")[2] for path in document["rows"][0]["values"]), figure]]
    for row in document["rows"]:
        spread = row["figures"].get(figure)
        said = "-" if spread is None else f"{spread['median']:.4g}"
        if spread is not None and spread["runs"] > 1:
            said += f" ({spread['least']:.4g} - {spread['most']:.4g})"
        rows.append([*map(str, row["values"].values()), said])
    return aligned(rows)
