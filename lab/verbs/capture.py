"""`mpq capture`"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import client
from lab.errors import LabError, Misuse
from lab.verbs.common import lab_argument, number, show

PROGRESS_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write every packet of a running lab, on all interfaces of all its namespaces, into one pcapng. It ends at Ctrl-C, at a "
        "limit, or with the lab; the lab and what its scenario captures go on. Keys are in it when the lab keeps a key log "
        "(`capture:` in its scenario, `mpq up --keys`, or --keys here): such a file opens everything, keep it to yourself."
    )
    lab_argument(parser)
    parser.add_argument("--output", "-o", metavar="FILE", help="pcapng file; with --ring what the names of the files begin with "
                        "(default: in the lab's run directory)")
    parser.add_argument("--seconds", type=number(0.1, 365 * 86_400), metavar="N", help="end after so long")
    parser.add_argument("--packets", type=number(1, 1e12), metavar="N", help="end after so many packets")
    parser.add_argument("--megabytes", type=number(1, 1e6), metavar="N", help="end when the file has so many (not with --ring)")
    parser.add_argument("--ring", type=number(2, 10_000), metavar="N", help="keep the newest N files, for as long as it takes; "
                        "each opens by itself")
    parser.add_argument("--file-size", type=number(1, 100_000), metavar="MB", help="of a file of the ring (default: 100)")
    parser.add_argument("--interface", action="append", default=[], metavar="NAME", help="only this one, or those of a pattern "
                        "('ue/*', '*:lo'); may be given again (default: all but the wires' own ends)")
    parser.add_argument("--snaplen", type=number(64, 262144), metavar="N", help="keep so many octets of a packet (default: all)")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--keys", action="store_const", const="yes", default="auto", help="have the nodes log the keys of "
                      "connections that are made from now on (a re-key makes one); they go on with it afterwards")
    keys.add_argument("--no-keys", dest="keys", action="store_const", const="no", help="leave out the keys that the lab logs")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")


def arguments_of(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """What the lab is asked for."""
    if options.file_size is not None and options.ring is None:
        raise Misuse("--file-size goes with --ring")
    output = options.output
    if output is not None and options.ring is not None:
        output = output.removesuffix(".pcapng")
    asked = {
        "name": name, "output": None if output is None else str(Path(output).absolute()), "seconds": options.seconds,
        "packets": options.packets, "megabytes": options.megabytes, "ring": options.ring,
        "file_mb": None if options.ring is None else options.file_size or 100.0, "interfaces": options.interface,
        "keys": options.keys, "snaplen": options.snaplen,
    }
    return {k: v for k, v in asked.items() if v is not None}


def run(options: argparse.Namespace) -> int:
    name = f"mpq capture {os.getpid()}"
    with _ended_by_signals(options.lab, name), _progress(options, name):
        figures = client.ask(options.lab, "capture", arguments_of(options, name), limit=None)
    show(options, figures, "\n".join(report(figures)))
    if not options.json:
        for line in warnings(figures):
            print(f"mpq capture: {line}", file=sys.stderr)
    return 1 if "error" in figures else 0


@contextlib.contextmanager
def _ended_by_signals(lab: str, name: str) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the capture, and its figures are still told; a second one does not wait for them."""

    def end(number_: int, frame: Any) -> None:
        for one, handler in before.items():
            signal.signal(one, handler)
        with contextlib.suppress(LabError):  # it is over already
            client.ask(lab, "capture_end", {"name": name}, limit=10.0)

    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    for one in before:
        signal.signal(one, end)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _progress(options: argparse.Namespace, name: str) -> Iterator[None]:
    over = threading.Event()

    def tell() -> None:
        shown = False
        while not over.wait(PROGRESS_S if shown else 0.1):
            with contextlib.suppress(LabError):
                for one in client.ask(options.lab, "captures", limit=5.0):
                    if one["name"] != name:
                        continue
                    if not shown:
                        print(f"capturing into {one['path']}; Ctrl-C ends it", file=sys.stderr, flush=True)
                        shown = True
                    if sys.stderr.isatty():
                        print(f"\r\x1b[K{one['seconds']:.0f} s, {one['packets']} packets, {one['bytes'] / 1e6:.1f} MB, "
                              f"{one['dropped_kernel']} dropped", end="", file=sys.stderr, flush=True)
        if shown and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    if not options.quiet:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if not options.quiet:
            thread.join(PROGRESS_S)


def report(figures: dict[str, Any]) -> list[str]:
    written = figures["written"]
    octets = f"{figures['bytes'] / 1e6:.1f} MB in {figures['seconds']:.1f} s"
    lines = [f"{figures['packets']} packets, {octets}; ended: {figures['ended']}"]
    if figures["files"] > len(written):
        lines[0] += f"; the newest {len(written)} of {figures['files']} files are kept"
    return lines + [f"  {file}" for file in written]


def warnings(figures: dict[str, Any]) -> list[str]:
    found = [str(figures["error"])] if "error" in figures else []
    for name, one in figures["interfaces"].items():
        if lost := one["dropped"]:
            share = f"{lost} of {lost + one['received']}"
            found.append(f"{name}: the capture lost {share} packets: they came faster than it wrote (--interface, --snaplen)")
    if figures["dropped_limit"]:
        found.append(f"{figures['dropped_limit']} packets could not be written")
    if not figures["keys"]:
        found.append("no keys are in it: the lab keeps no key log (--keys, or `mpq up --keys`)")
    elif not figures["keys_from_the_start"]:
        found.append("connections made before it stay closed: `mpq rekey` makes a new one")
    return found
