"""`mpq path cut|restore|rebind|shape ACCESS`"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab import client
from lab.errors import Misuse
from lab.shape import NO_TRACE, PRESETS
from lab.verbs.common import lab_argument, number, show
from lab.wire_trace import find_trace, shipped_traces

VALUES = {
    "rate-mbps": (number(0, 100_000, above=True), "rate in Mbit/s"),
    "delay-ms": (number(0, 5000), "one-way delay"),
    "jitter-ms": (number(0, 5000), "delay varies by this much"),
    "loss-percent": (number(0, 100), "packets lost at random"),
    "reorder-percent": (number(0, 100), "packets that overtake"),
    "duplicate-percent": (number(0, 100), "packets sent twice"),
    "corrupt-percent": (number(0, 100), "packets with one bit of their UDP payload turned over"),
    "queue-ms": (number(0, 5000, above=True), "limit of the queue, in time at the rate"),
}


def configure(parser: argparse.ArgumentParser) -> None:
    doing = parser.add_subparsers(dest="doing", metavar="cut|restore|rebind|shape", required=True)
    cut = doing.add_parser("cut", help="drop everything, silently")
    cut.add_argument("--link-down", action="store_true", help="the other kind: the UE's link goes down and it is told")
    restore = doing.add_parser("restore", help="end a cut")
    rebind = doing.add_parser("rebind", help="have a NAT at the UE's end take another port: the UE is not told")
    shape = doing.add_parser("shape", help="change rate, delay, loss … of the wire")
    for name, (kind, text) in VALUES.items():
        shape.add_argument(f"--{name}", type=kind, metavar="N", help=text)
    shape.add_argument("--preset", choices=sorted(PRESETS), help="a kind of access; the other options go over it")
    shape.add_argument("--trace", metavar="FILE",
                       help=f"follow a trace from now on: {', '.join(shipped_traces())}, or ./FILE; none ends it")
    shape.add_argument("--direction", choices=("up", "down"), help="only this one (default: both)")
    for one in (cut, restore, rebind, shape):
        one.add_argument("access", metavar="ACCESS", help="name of the access, e.g. wifi")
        lab_argument(one)


def run(options: argparse.Namespace) -> int:
    args: dict[str, Any] = {"access": options.access}
    if options.doing == "cut":
        args["link_down"] = options.link_down
    elif options.doing == "shape":
        keys = [name.replace("-", "_") for name in VALUES]
        values = {k: getattr(options, k) for k in keys if getattr(options, k) is not None}
        for name in ("preset", "trace"):
            if (value := getattr(options, name)) is not None:
                values[name] = value
        if options.preset and options.direction:
            raise Misuse("--preset is of both directions")
        if options.trace not in (None, NO_TRACE):
            values["trace"] = str(find_trace(options.trace, Path()))
        if not values:
            raise Misuse(f"nothing to change; give one of {', '.join('--' + n for n in (*VALUES, 'preset', 'trace'))}")
        args["change"] = {options.direction: values} if options.direction else values
    document = client.ask(options.lab, options.doing, args)
    show(options, document, f"{options.access}: {document.get('state', 'shaped')}")
    return 0
