"""`mpq rekey`"""

from __future__ import annotations

import argparse

from lab import client
from lab.verbs.common import lab_argument, show


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--by", choices=("core", "ue"), default="core", help="who asks for the new key (default: core)")
    lab_argument(parser)


def run(options: argparse.Namespace) -> int:
    document = client.ask(options.lab, "rekey", {"by": options.by})
    show(options, document, f"key generation {document.get('generation')}")
    return 0
