"""`mpq`: the laboratory's command. Each verb is a module of `lab.verbs`; exit codes 0 done, 1 failed, 2 misused."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import sys
from types import ModuleType

from lab.errors import LabError
from lab.verbs.common import Parser
from node.errors import NodeError

VERBS = {
    "up": "bring a lab up and leave it running",
    "down": "end a lab and whatever it left",
    "run": "run a scenario: up, traffic and steps, down, figures and verdict",
    "status": "what a running lab is doing",
    "top": "watch the paths of a running lab: rate, RTT, loss, share, and why one is not used",
    "exec": "run a command in a namespace of a lab",
    "path": "cut, restore, rebind or shape an access path while traffic runs",
    "rekey": "have a new key made, by the core or by the UE",
    "capture": "write what a running lab sends and gets into pcapng files, until Ctrl-C or a limit",
    "craft": "make a packet from the run's keys, wrong on purpose, and put it into a running lab",
    "compare": "set the figures of runs side by side, with spread and ratio",
    "sweep": "run a scenario over a grid of values, and tabulate and plot what comes of it",
    "report": "make a run's report.html again, and say where it is",
    "inspect": "show a run's packets in clear, on every path",
    "bench": "measure the tunnel and its cryptography against their limits",
    "doctor": "say what is missing on this machine, and the remedy",
}
PASSED_ON = {"inspect"}
"""Verbs with a parser of their own."""

JSON_HELP = "one JSON document on stdout"
EPILOG = """exit codes: 0 done, 1 failed, 2 misused. Every verb has --help, and --json for programs.
environment: MPQ_RUNS (directory of runs, default ./runs), MPQ_STATE (directory of labs),
MPQ_ROOTLESS=1 (as an ordinary user would)"""


def _verb(name: str) -> ModuleType:
    return importlib.import_module(f"lab.verbs.{name}")


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Modules of verbs are loaded when asked for: `mpq status` pays for nothing else."""
    top = Parser(
        prog="mpq", description="A laboratory for multipath QUIC keyed from the 5G core.", epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, about in VERBS.items():
        sub = verbs.add_parser(name, help=about, add_help=name not in PASSED_ON, description=about[0].upper() + about[1:] + ".")
        if name == only and name not in PASSED_ON:
            _verb(name).configure(sub)
            if not any(a.dest == "json" for a in sub._actions):
                sub.add_argument("--json", action="store_true", help=JSON_HELP)
            for leaf in _leaves(sub):  # `mpq path --json cut wifi` and `mpq path cut wifi --json`
                leaf.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=JSON_HELP)
    return top


def _leaves(sub: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    for action in sub._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return []


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    name = next((a for a in arguments if not a.startswith("-")), None)
    as_json = "--json" in arguments
    try:
        if name in PASSED_ON and arguments[0] == name:
            return int(_verb(name).main(arguments[1:]))
        options = parser(name).parse_args(arguments)
        as_json = getattr(options, "json", False)  # `mpq exec NODE COMMAND --json` is the command's
        return int(_verb(options.verb).run(options))
    except SystemExit as end:  # --help
        return end.code if isinstance(end.code, int) else 2
    except (LabError, NodeError) as error:
        return _failed(name, as_json, str(error), getattr(error, "exit_code", 1))
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _failed(name, as_json, f"{error.filename or 'system'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _failed(name, as_json, "interrupted", 1)


def _failed(verb: str | None, as_json: bool, text: str, code: int) -> int:
    """A sentence on stderr; with --json one document on stdout."""
    print(f"mpq {verb}: {text}" if verb else f"mpq: {text}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": text, "exit": code}))
    return code
