"""`mpq bench`"""

from __future__ import annotations

import argparse
import json
import os
import sys

from lab import rootless


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for a first look, not for a verdict")


def run(options: argparse.Namespace) -> int:
    if rootless.needed():
        arguments = ["bench", *(["--quick"] if options.quick else []), *(["--json"] if options.json else [])]
        rootless.reexecute(arguments)
    from lab.bench import markdown, run_bench
    from lab.bench.pair import BenchError
    from lab.errors import LabError

    try:
        document = run_bench(options.quick, lambda text: print(text, file=sys.stderr, flush=True))
    except BenchError as error:
        raise LabError(str(error)) from None
    print(json.dumps(document) if options.json else markdown(document))
    return 1 if document["problems"] else os.EX_OK
