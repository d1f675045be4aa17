"""`mpq craft [ATTACK]`"""

from __future__ import annotations

import argparse

from lab import client
from lab.errors import Misuse
from lab.verbs.common import lab_argument, show


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("attack", nargs="?", metavar="ATTACK", help="which one; without it they are listed")
    parser.add_argument("--canary", action="store_true",
                        help="the same with nothing wrong in it: it must be accepted, and the check must fail")
    lab_argument(parser)


def run(options: argparse.Namespace) -> int:
    if options.attack is None:
        from lab.attack import ATTACKS

        rows = [{"attack": a.name, "rows": list(a.rows), "about": a.about, "counters": a.counters} for a in ATTACKS.values()]
        show(options, rows, "\n".join(f"{a.name:24} {' '.join(a.rows):14} {a.about}" for a in ATTACKS.values()))
        return 0
    if options.attack.startswith("-"):
        raise Misuse(f"{options.attack}: there is no such attack")
    outcome = client.ask(options.lab, "craft", {"attack": options.attack, "canary": options.canary})
    words = ", ".join(f"{name} +{count}" for name, count in outcome["counted"].items())
    verdict = "as it must be" if outcome["ok"] else outcome["why"]
    show(options, outcome, f"{options.attack}: {outcome['sent']} sent; {words}; {verdict}")
    return 0 if outcome["ok"] else 1
