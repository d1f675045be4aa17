"""What several verbs share."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

DEFAULT_LAB = "default"


def lab_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--lab", default=DEFAULT_LAB, metavar="NAME", help=f"which lab (default: {DEFAULT_LAB})")


def runs_root() -> Path:
    return Path(os.environ.get("MPQ_RUNS") or "runs").absolute()


def show(options: argparse.Namespace, document: Any, text: str) -> None:
    """One JSON document, or words for people."""
    print(json.dumps(document) if options.json else text)
