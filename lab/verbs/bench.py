"""`mpq bench`"""

from __future__ import annotations

import argparse
import json
import os
import sys

from lab import rootless

# lab.bench's own, which is not imported before it is used: it takes a while
PARTS = (
    "aead", "engine", "tunnel", "ciphers", "multipath", "sum", "qlog", "handshake", "session", "sessions", "capture", "inspect",
    "wire",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peers",
        action="store_true",
        help="install OpenVPN, wireguard-go and mptcpize from Debian where they are missing; what is there is measured anyway",
    )
    parser.add_argument(
        "--only", metavar="PART", choices=PARTS, action="append", default=[],
        help=f"measure this part only (may be given several times): {', '.join(PARTS)}",
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: for a first look, not for a verdict")


def run(options: argparse.Namespace) -> int:
    from lab.bench.packages import install, peers

    trouble = install() if options.peers and not rootless.inside() else ""
    if trouble:
        print(f"peers: {trouble}", file=sys.stderr, flush=True)
    if rootless.needed():
        chosen = [f"--only={part}" for part in options.only]
        rootless.reexecute(["bench", *(f"--{name}" for name in ("peers", "quick", "json") if getattr(options, name)), *chosen])
    from lab.bench import FULL, QUICK, markdown, run_bench
    from lab.bench.pair import BenchError
    from lab.errors import LabError

    try:
        with peers(options.peers, trouble) as found:
            document = run_bench(
                QUICK if options.quick else FULL,
                lambda text: print(text, file=sys.stderr, flush=True),
                found,
                options.only or tuple(PARTS),
            )
    except BenchError as error:
        raise LabError(str(error)) from None
    print(json.dumps(document) if options.json else markdown(document))
    return 1 if document["problems"] else os.EX_OK
