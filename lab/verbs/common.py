"""What several verbs share."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from lab.errors import Misuse

DEFAULT_LAB = "default"
PACKAGES = {"iperf3": "iperf3", "setpriv": "util-linux"}


class Parser(argparse.ArgumentParser):
    """Misuse is an exception here, not an exit: with `--json` it has its document, too."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise Misuse(message)


def number(low: float, high: float, above: bool = False) -> Callable[[str], float]:
    """A type of argparse: from `low` (or above it) to `high`."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (low < value or (value == low and not above)) or not value <= high:
            raise argparse.ArgumentTypeError(f"must be a number {'above' if above else 'from'} {low:g} to {high:g}, not {text}")
        return value

    return convert


def repeats(most: int) -> Callable[[str], int]:
    """A type of argparse: how often something is run."""

    def convert(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from 1 to {most}, not {text[:40]}")
        return int(text)

    return convert


def require_programs(names: Iterable[str]) -> None:
    """Before anything is made."""
    for name in names:
        if shutil.which(name) is None:
            raise Misuse(f"{name} is not installed: apt-get install {PACKAGES[name]} (`mpq doctor` says what else is missing)")


def lab_argument(parser: argparse.ArgumentParser, *, first: bool = False) -> None:
    """`first`: of verbs about nothing but a lab, which may be named without --lab, too (`chosen_lab`)."""
    parser.add_argument("--lab", default=None if first else DEFAULT_LAB, metavar="NAME", help=f"which lab (default: {DEFAULT_LAB})")
    if first:
        parser.add_argument("named", nargs="?", metavar="LAB", help="the same, without --lab")


def chosen_lab(options: argparse.Namespace) -> str:
    """The lab's name, of a verb with `lab_argument(first=True)`. Misuse when two are named."""
    if options.named is not None and options.lab not in (None, options.named):
        raise Misuse(f"one lab at a time: {options.named} or --lab {options.lab}")
    return next((str(name) for name in (options.named, options.lab) if name is not None), DEFAULT_LAB)


def runs_root() -> Path:
    return Path(os.environ.get("MPQ_RUNS") or "runs").absolute()


def show(options: argparse.Namespace, document: Any, text: str) -> None:
    """One JSON document, or words for people."""
    print(json.dumps(document) if options.json else text)
