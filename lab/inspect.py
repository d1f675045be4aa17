"""`mpq inspect [RUN|CAPTURE]`: the packets of every path in clear, as a table, as JSON, as figures, or one as a full tree."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lab.decrypt_nas import NasKeysError
from lab.errors import Misuse
from lab.inspect_expression import compile_expression
from lab.inspect_rows import HEADING, Filter, Inspection, row_document, row_line
from lab.inspect_run import read_run
from lab.inspect_stats import InspectError, find_capture, inspect_stats, verify_capture
from lab.packets.frames import FRAME_NAMES
from lab.verbs.common import Parser

__all__ = ["inspect_stats", "main", "verify_capture"]


def parser() -> argparse.ArgumentParser:
    out = Parser(
        prog="mpq inspect", description="Show the packets of a run in clear, on every path.",
        epilog="Without a target the newest run is shown. Numbers of packets are those of Wireshark.")
    out.add_argument("target", nargs="?", metavar="RUN|CAPTURE", help="a run directory or a pcapng file")
    out.add_argument("--keys", metavar="FILE", help="key log, beside the secrets inside the capture")
    out.add_argument("--path", type=int, metavar="ID", help="only packets of this path")
    out.add_argument("--frame", metavar="NAME", help="only packets with this frame, e.g. PATH_ACK")
    out.add_argument("--inner", metavar="FILTER", help="only packets that carry such an inner packet, e.g. 'tcp port 5201'")
    out.add_argument("--between", nargs=2, metavar=("FROM", "TO"),
                     help="only packets from one moment of the run to another: step:cut-wifi, step:restore (the next one), "
                          "phase:tcp8.up, event:upf.key_installed, each with #N for the N-th and +0.5s; or seconds of the run")
    out.add_argument("--limit", type=int, metavar="N", help="stop after N lines")
    out.add_argument("--stats", action="store_true", help="figures only: packets, decrypted, per path, and why not")
    out.add_argument("--packet", type=int, metavar="N", help="everything about captured packet N, layer by layer")
    out.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return out


def main(argv: list[str]) -> int:
    """0 done, 1 the capture does not read, 2 misused."""
    try:
        arguments = parser().parse_args(argv)
        if arguments.frame is not None:
            arguments.frame = arguments.frame.upper()
            if arguments.frame not in FRAME_NAMES:
                raise Misuse(f"no frame is named {arguments.frame}; there are {', '.join(FRAME_NAMES)}")
        if arguments.limit is not None and arguments.limit < 1:
            raise Misuse("--limit takes a number from 1")
        return _run(arguments)
    except SystemExit as end:                       # --help
        return int(end.code or 0)
    except BrokenPipeError:                         # `mpq inspect | head`
        sys.stderr.close()
        return 0
    except (InspectError, NasKeysError, Misuse, OSError) as error:
        code = 2 if isinstance(error, Misuse) else 1
        print(f"mpq inspect: {error}", file=sys.stderr)
        if "--json" in argv:
            print(json.dumps({"error": str(error), "exit": code}))
        return code


def _run(arguments: argparse.Namespace) -> int:
    inspection = Inspection(find_capture(arguments.target), arguments.keys)
    if arguments.packet is not None:
        from lab.inspect_tree import packet_trees  # scapy loads here only: it takes most of a second

        trees = packet_trees(inspection.path, inspection.keylog, arguments.packet)
        if not trees:
            raise InspectError(f"there is no packet {arguments.packet} in {inspection.path}")
        print(json.dumps({"record": arguments.packet, "layers": trees}) if arguments.json else "\n".join(trees))
        return 0
    if arguments.stats:
        return _print_stats(inspection, arguments.json)
    return _print_rows(inspection, filter_of(arguments, inspection.path), arguments)


def _print_stats(inspection: Inspection, as_json: bool) -> int:
    inspection.count()
    document = inspection.stats.document(inspection.problem)
    if as_json:
        print(json.dumps(document))
    else:
        print(f"1-RTT packets {document['packets']}, decrypted {document['decrypted']}, "
              f"inner packets {document['inner_packets']}")
        for path, counts in document["paths"].items():
            print(f"  path {path}: {counts['packets']} packets, {counts['decrypted']} decrypted")
        for entry in document["not_decrypted"]:
            print(f"  not decrypted: {entry['count']} ({entry['reason']})")
    return _end(inspection)


def filter_of(arguments: argparse.Namespace, path: Path) -> Filter:
    """What the options ask for. Misuse names what they got wrong."""
    wanted = Filter(arguments.path, arguments.frame)
    if arguments.inner is not None:
        wanted.inner = compile_expression(arguments.inner)
    if arguments.between is not None:
        run = read_run(path)
        if not run.events:
            raise Misuse(f"--between needs the events of a run beside {path}: there is no events.jsonl")
        if run.start_ns is None:
            raise Misuse("--between: the run does not tell when its capture began (event capture_started): it is from an older mpq")
        first = run.moment(arguments.between[0])
        last = run.moment(arguments.between[1], after=first)
        wanted.between = (run.start_ns + round(first * 1e9), run.start_ns + round(last * 1e9))
        if last < first:
            raise Misuse(f"--between: {arguments.between[1]} is before {arguments.between[0]}")
    return wanted


def _print_rows(inspection: Inspection, wanted: Filter, arguments: argparse.Namespace) -> int:
    shown = 0
    if arguments.json:
        sys.stdout.write('{"packets": [')
    else:
        print(HEADING)
    for row in inspection.rows(wanted):
        assert inspection.start_ns is not None
        if arguments.json:
            sys.stdout.write((", " if shown else "") + json.dumps(row_document(row, inspection.start_ns)))
        else:
            print(row_line(row, inspection.start_ns))
        shown += 1
        if shown == arguments.limit:
            break
    if arguments.json:
        print('], "shown": ' + json.dumps(shown) + ', "problem": ' + json.dumps(inspection.problem or None) + "}")
    return _end(inspection)


def _end(inspection: Inspection) -> int:
    log = inspection.keylog
    if log.malformed:
        print(f"mpq inspect: {log.malformed} lines of the key log do not read", file=sys.stderr)
    if log.conflicts:
        print(f"mpq inspect: {log.conflicts} lines of the key log contradict earlier ones", file=sys.stderr)
    if inspection.problem:
        print(f"mpq inspect: {inspection.path}: {inspection.problem}", file=sys.stderr)
        return 1 if not inspection.stats.packets else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
