"""`mpq exec NODE COMMAND …`"""

from __future__ import annotations

import argparse
import json
import sys

from lab import client
from lab.errors import Misuse
from lab.verbs.common import lab_argument, number


def configure(parser: argparse.ArgumentParser) -> None:
    lab_argument(parser)
    seconds = number(0, client.LONGEST_S, above=True)
    parser.add_argument("--timeout", type=seconds, default=60.0, metavar="S", help="kill it after S seconds (default: 60)")
    parser.add_argument("node", metavar="NODE", help="ue, core, upf or dn")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help="with its arguments")
    parser.epilog = "Options of mpq stand before NODE. The exit code is the command's."


def run(options: argparse.Namespace) -> int:
    if not options.command:
        raise Misuse("a COMMAND is missing")
    args = {"node": options.node, "command": options.command, "limit": options.timeout}
    result = client.ask(options.lab, "exec", args, options.timeout + 10)
    if options.json:
        print(json.dumps(result))
    else:
        sys.stdout.write(result["stdout"])
        sys.stderr.write(result["stderr"])
    return int(result["code"]) if 0 <= result["code"] < 256 else 1
