"""`mpq inspect [RUN|CAPTURE]`: the packets of every path in clear. This is its command line; every view is a module beside it."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lab.capture_files import InspectError, find_capture
from lab.capture_scan import SERVER_PORT
from lab.decrypt import ClearPacket
from lab.decrypt_connection import Connection
from lab.decrypt_nas import NasKeysError
from lab.errors import Misuse
from lab.inspect_expression import compile_expression
from lab.inspect_fates import Fate
from lab.inspect_follow import Follower, flow_filter, follow_heading, follow_summary, line_document, line_text
from lab.inspect_lacks import capture_lacks, files_lines, lacks_lines, qlog_lacks
from lab.inspect_paths import path_lines
from lab.inspect_qlog import Logs, aligned, fate_document, fate_words, key_of
from lab.inspect_rows import HEADING, Filter, Inspection, Row, row_document, row_line
from lab.inspect_run import RunRecord
from lab.inspect_stats import inspect_stats, verify_capture
from lab.inspect_table import table
from lab.inspect_track import Tracker
from lab.inspect_why import Explainer, find_losses, summary, why_document, why_lines
from lab.packets.frames import FRAME_NAMES
from lab.qlog_file import SUFFIX, QlogError, QlogFile
from lab.verbs.common import Parser

__all__ = ["inspect_stats", "main", "verify_capture"]
PROGRESS_FROM = 64 << 20        # octets of a capture from which progress is told

EPILOG = """Without a target the newest run is shown; of a qlog (FILE.sqlog) its records. Numbers of packets are those of
Wireshark; of several files, or a ring, they go on from one to the next. The filters --path, --frame, --inner and --between go
together, and with --export and --follow; --path and --between also with --dropped, --between with --flow-graph. The qlogs beside
a capture are read by --dropped, --packet and --follow, and by the table with --qlog.

FILTER is of tcpdump's language: ip, ip6, tcp, udp, icmp, icmp6; [src|dst] host ADDRESS; [src|dst] net ADDRESS/LENGTH;
[tcp|udp] [src|dst] port NUMBER; portrange FIRST-LAST; less N, greater N; joined by and, or, not and brackets.
FLOW is such a filter of one flow, or names it: 'tcp 10.45.0.2:40000 10.99.0.2:5201'.
A moment is step:KIND[-TARGET] (cut, restore, rebind, shape, rekey, key_update, kill), phase:NAME or event:NODE.NAME, each with #N
for the N-th and +0.5s or -0.5s; or seconds of the run. The second moment is looked for after the first."""


def parser() -> argparse.ArgumentParser:
    out = Parser(prog="mpq inspect", description="Show the packets of a run in clear, on every path.", epilog=EPILOG,
                 formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("targets", nargs="*", metavar="RUN|CAPTURE|QLOG", help="a run directory, pcapng files in their "
                     "order, what the names of a ring's files begin with, or a qlog")
    out.add_argument("--keys", metavar="FILE", help="key log, beside the secrets inside the capture")
    out.add_argument("--port", type=int, metavar="NUMBER", default=SERVER_PORT,
                     help=f"UDP port of the QUIC server, for a capture from elsewhere (default {SERVER_PORT})")
    out.add_argument("--path", type=int, metavar="ID", help="only packets of this path")
    out.add_argument("--frame", metavar="NAME", help="only packets with this frame, e.g. PATH_ACK")
    out.add_argument("--inner", metavar="FILTER", help="only packets that carry such an inner packet, e.g. 'tcp port 5201'")
    out.add_argument("--between", nargs=2, metavar=("FROM", "TO"), help="only packets from one moment of the run to another")
    out.add_argument("--qlog", action="store_true", help="with each packet, what both ends' qlogs say of it: sent, received, lost")
    out.add_argument("--limit", type=int, metavar="N", help="stop after N lines")
    view = out.add_mutually_exclusive_group()
    view.add_argument("--stats", action="store_true", help="figures only: packets, decrypted, and per path what became of them")
    view.add_argument("--packet", type=int, metavar="N", help="everything about captured packet N, layer by layer, with its octets")
    view.add_argument("--follow", metavar="FLOW", help="one inner flow across the paths: its way, its order, its fate")
    view.add_argument("--dropped", action="store_true", help="every lost packet, and why: wire, engine, not explained")
    view.add_argument("--flow-graph", action="store_true", help="the procedure as a ladder diagram")
    view.add_argument("--export", metavar="FILE", help="write the inner packets as pcapng, one interface per path")
    out.add_argument("--svg", metavar="FILE", help="with --flow-graph: write it as SVG")
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
        if not 1 <= arguments.port <= 65535:
            raise Misuse("--port takes a number from 1 to 65535")
        if arguments.svg is not None and not arguments.flow_graph:
            raise Misuse("--svg goes with --flow-graph")
        _check_filters(arguments)
        return _run(arguments)
    except SystemExit as end:                       # --help
        return int(end.code or 0)
    except BrokenPipeError:                         # `mpq inspect | head`
        sys.stderr.close()
        return 0
    except (InspectError, NasKeysError, QlogError, Misuse, OSError) as error:
        code = 2 if isinstance(error, Misuse) else 1
        print(f"mpq inspect: {error}", file=sys.stderr)
        if "--json" in argv:
            print(json.dumps({"error": str(error), "exit": code}))
        return code


# View -> the filters and limits that it knows; without a view, the table knows them all.
KNOWN: dict[str, tuple[str, ...]] = {
    "stats": (), "packet": (), "dropped": ("path", "between"), "flow_graph": ("between",),
    "export": ("path", "frame", "inner", "between"), "follow": ("path", "frame", "inner", "between", "limit"),
}
FILTERS = ("path", "frame", "inner", "between", "limit", "qlog")


def _check_filters(arguments: argparse.Namespace) -> None:
    """Misuse, where a filter would silently change nothing."""
    given = {name for name in (*KNOWN, *FILTERS) if (value := getattr(arguments, name)) is not None and value is not False}
    for view in KNOWN.keys() & given:
        for name in FILTERS:
            if name in given and name not in KNOWN[view]:
                goes = ", ".join(f"--{one}" for one in KNOWN[view]) or "no filter"
                raise Misuse(f"--{name} does not go with --{view.replace('_', '-')}, which takes {goes}")


def filter_of(arguments: argparse.Namespace, run: RunRecord) -> Filter:
    """What the options ask for. Misuse names what they got wrong."""
    wanted = Filter(arguments.path, arguments.frame)
    if arguments.inner is not None:
        wanted.inner = compile_expression(arguments.inner)
    if arguments.between is not None:
        if not run.events:
            raise Misuse("--between needs the events of a run: there is no events.jsonl beside the capture")
        if run.start_ns is None:
            raise Misuse("--between: the run does not tell when its capture began (event capture_started): it is from an older mpq")
        first = run.moment(arguments.between[0])
        last = run.moment(arguments.between[1], after=first)
        if last < first:
            raise Misuse(f"--between: {arguments.between[1]} is before {arguments.between[0]}")
        wanted.between = (run.start_ns + round(first * 1e9), run.start_ns + round(last * 1e9))
    return wanted


def _run(arguments: argparse.Namespace) -> int:
    logs = [target for target in arguments.targets if target.endswith(SUFFIX) and Path(target).is_file()]
    if logs and len(arguments.targets) > 1:
        raise Misuse(f"{logs[0]}: a qlog is shown by itself; those beside a capture are read by --qlog")
    if logs:
        return _print_qlog(QlogFile(Path(logs[0])), arguments)
    inspection = Inspection(find_capture(arguments.targets), arguments.keys, arguments.port)
    size = inspection.files.size
    if size >= PROGRESS_FROM and sys.stderr.isatty():
        inspection.progress = lambda done: print(f"\r{100 * done // size:>3} % of {size >> 20} MiB", end="", file=sys.stderr)
    if arguments.packet is not None:
        return _print_packet(inspection, arguments)
    if arguments.stats:
        return _print_stats(inspection, arguments.json)
    wanted = filter_of(arguments, inspection.run)
    if arguments.follow is not None:
        return _print_follow(inspection, wanted, arguments)
    if arguments.dropped:
        return _print_dropped(inspection, wanted, arguments.json)
    if arguments.flow_graph:
        return _print_graph(inspection, wanted, arguments)
    if arguments.export is not None:
        return _export(inspection, wanted, arguments)
    return _print_rows(inspection, wanted, arguments)


def _print_packet(inspection: Inspection, arguments: argparse.Namespace) -> int:
    from lab.inspect_qlog_table import packet_words, record_document, records_of_packet
    from lab.inspect_tree import packet_trees  # scapy loads here only: it takes most of a second

    wanted: list[ClearPacket] = []
    logs = aligned(inspection, lambda packet, _: wanted.append(packet) if packet.record == arguments.packet else None)
    trees = packet_trees(inspection.files, inspection.keylog, arguments.packet, arguments.port, inspection.start_ns)
    if not trees:
        raise InspectError(f"there is no packet {arguments.packet} in {inspection.files.words()}")
    found = [one for packet in wanted for one in records_of_packet(inspection.path, packet, inspection.connections)] \
        if logs.files else []
    start_ns = inspection.start_ns or 0
    if arguments.json:
        ends = [{"end": end} | record_document(record, (record.time_ns + logs.offsets.get(role(end), 0) - start_ns) / 1e9)
                for end, record in found]
        print(json.dumps({"record": arguments.packet, "layers": trees, "qlog": ends if logs.files else None}))
    else:
        print("\n".join(trees + (["--- in the ends' own qlogs"] if found else []) + packet_words(found, logs, start_ns)))
    return _end(inspection, logs)


def _print_qlog(file: QlogFile, arguments: argparse.Namespace) -> int:
    """A qlog by itself."""
    from lab.inspect_qlog_table import HEADING as QLOG_HEADING
    from lab.inspect_qlog_table import QlogFilter, record_document, record_line, rows

    views = ("stats", "packet", "follow", "dropped", "flow_graph", "export", "inner", "keys")
    for name in views:
        if getattr(arguments, name):
            raise Misuse(f"--{name.replace('_', '-')} needs a capture; of a qlog alone there is the table, "
                         "with --path, --frame, --between and --limit")
    wanted = QlogFilter(arguments.path, arguments.frame)
    if arguments.between is not None:
        try:
            first, last = (float(text) for text in arguments.between)
        except ValueError:
            raise Misuse("--between of a qlog alone takes seconds since its first record") from None
        wanted.between = (first, last)
    shown = 0
    sys.stdout.write('{"records": [' if arguments.json else QLOG_HEADING + "\n")
    for record, t in rows(file, wanted):
        if arguments.json:
            sys.stdout.write((", " if shown else "") + json.dumps(record_document(record, t)))
        else:
            print(record_line(record, t))
        shown += 1
        if shown == arguments.limit:
            break
    if arguments.json:
        print(f'], "shown": {shown}, "end": {json.dumps(file.name)}, "role": {json.dumps(file.role)}, "lost": {file.lost}, '
              f'"malformed": {file.malformed}, "full": {json.dumps(file.full_ns is not None)}}}')
    for text in file.words():
        print(f"mpq inspect: {text}", file=sys.stderr)
    return 0


def _print_stats(inspection: Inspection, as_json: bool) -> int:
    run = inspection.run
    figures = inspection.figures()
    document = inspection.stats.document(inspection.problem)
    document |= figures.document(inspection.stats.per_path, run.generations(), inspection.start_ns or 0)
    lacks, qlogs = capture_lacks(run, inspection.interfaces, inspection.statistics), qlog_lacks(inspection.path)
    if as_json:
        files = [part.document() for part in inspection.files.parts]
        print(json.dumps(document | {"capture": lacks, "qlog": qlogs, "files": files}))
    else:
        print(f"1-RTT packets {document['packets']}, decrypted {document['decrypted']}, "
              f"inner packets {document['inner_packets']}")
        if document["connections"]:
            print("\n".join(path_lines(document)))
        for entry in document["not_decrypted"]:
            print(f"not decrypted: {entry['count']} ({entry['reason']})")
        print("\n".join(lacks_lines(lacks, qlogs) + files_lines(inspection.files)))
    return _end(inspection)


def _print_rows(inspection: Inspection, wanted: Filter, arguments: argparse.Namespace) -> int:
    if arguments.qlog:
        return _print_rows_with_ends(inspection, wanted, arguments)
    shown, limit = 0, arguments.limit
    sys.stdout.write('{"packets": [' if arguments.json else HEADING + "\n")
    for lines in table(inspection, wanted, arguments.json):
        some = lines if limit is None else lines[:limit - shown]
        if some:
            sys.stdout.write((", " if shown else "") + ", ".join(some) if arguments.json else "".join(some))
            shown += len(some)
        if shown == limit:
            break
    if arguments.json:
        print(f'], "shown": {shown}, "problem": {json.dumps(inspection.problem or None)}}}')
    return _end(inspection)


def _print_rows_with_ends(inspection: Inspection, wanted: Filter, arguments: argparse.Namespace) -> int:
    """Two passes: the first for the clocks of the qlogs."""
    shown = 0
    logs = aligned(inspection)
    if not logs.files:
        raise Misuse(f"--qlog: there is no ue.sqlog or upf.sqlog that reads beside {inspection.path}: {logs.remarks or 'none'}")
    inspection = Inspection(inspection.files, arguments.keys, arguments.port)
    sys.stdout.write('{"packets": [' if arguments.json else HEADING + "\n")
    for row in inspection.rows(wanted):
        assert inspection.start_ns is not None
        known = row.kind == "1rtt" and row.number is not None
        fate = _fate(logs, inspection.connections, row) if known else None
        if arguments.json:
            document = row_document(row, inspection.start_ns) | {"ends": fate_document(fate, inspection.start_ns)}
            sys.stdout.write((", " if shown else "") + json.dumps(document))
        else:
            ends = f"  [{fate_words(fate, bool(row.up), inspection.start_ns)}]" if known else ""
            print(row_line(row, inspection.start_ns) + ends)
        shown += 1
        if shown == arguments.limit:
            break
    if arguments.json:
        print(f'], "shown": {shown}, "problem": {json.dumps(inspection.problem or None)}, '
              f'"clock": {json.dumps(logs.aligned or None)}}}')
    return _end(inspection, logs)


def _fate(logs: Logs, connections: list[Connection], one: ClearPacket | Row) -> Fate | None:
    if one.connection is None or one.path is None or one.number is None:
        return None
    return logs.fate(key_of(connections, one.connection, one.path, bool(one.up)), one.number)


def role(end: str) -> str:
    """In qlog's words."""
    return "client" if end == "ue" else "server"


def _print_follow(inspection: Inspection, wanted: Filter, arguments: argparse.Namespace) -> int:
    """Two passes: the first sees that the filter means one flow before anything is shown."""
    test = flow_filter(arguments.follow)
    chosen = Follower(test)

    def choose(packet: ClearPacket, access: str) -> None:
        inners = chosen.matching(packet) if wanted.packet(packet) else []
        if inners:
            chosen.add(packet, inners, access, None)
            for _ in chosen.lines(all_of_them=True):
                pass

    logs = aligned(inspection, choose)
    chosen.one_flow()
    if not chosen.flows:
        raise InspectError(f"no inner packet of {inspection.files.words()} is of {arguments.follow}")
    follower, run, shown = Follower(test), inspection.run, 0
    tracker = Tracker(run)
    start_ns = inspection.start_ns or 0
    gone: set[tuple[int, int, bool, int]] = set()
    several = inspection.several
    sys.stdout.write('{"packets": [' if arguments.json else follow_heading(several) + "\n")

    def show(last: bool = False) -> None:
        nonlocal shown
        for line in follower.lines(last):
            if line.lost:
                gone.add((line.connection, line.path, line.up, line.number))
            if arguments.limit is None or shown < arguments.limit:
                text = json.dumps(line_document(line, start_ns)) if arguments.json else line_text(line, start_ns, several) + "\n"
                sys.stdout.write((", " if shown and arguments.json else "") + text)
                shown += 1

    inspection = Inspection(inspection.files, arguments.keys, arguments.port)
    for packet, access in inspection.packets():
        sent = tracker.add(packet, access)
        inners = follower.matching(packet) if wanted.packet(packet) else []
        if inners:
            follower.add(packet, inners, access, sent, _fate(logs, inspection.connections, packet))
            show()
    tracker.finish()
    show(last=True)
    found = find_losses(list(tracker.losses), tracker.spaces, inspection.connections, logs)
    explained = Explainer(run, logs, inspection.connections).explain(found.losses)
    document = follow_summary(follower, summary([
        one for one in explained if (one.loss.connection, one.loss.path, one.loss.up, one.loss.number) in gone]))
    if arguments.json:
        print("], " + json.dumps(document)[1:])
    else:
        print("\n".join(_follow_words(document, several)))
    return _end(inspection, logs)


def _follow_words(document: dict[str, Any], several: bool) -> list[str]:
    changes = document["path_switches"]
    lines = [f"flow {document['flow']}, {changes} change{'' if changes == 1 else 's'} of path"]
    for one in document["per_path"]:
        whose = f"connection {one['connection']} " if several else ""
        lines.append(f"  {one['direction']:<4} {whose}path {one['path']} {one['access']}: {one['packets']} packets")
    lines += [f"  {remark}: {count}" for remark, count in document["order"].items()]
    return lines + [f"  lost on the way up: {count} ({reason})" for reason, count in document["lost"].items()]


def _print_dropped(inspection: Inspection, wanted: Filter, as_json: bool) -> int:
    run = inspection.run
    tracker = Tracker(run)
    logs = aligned(inspection, tracker.add)
    tracker.finish()
    found = find_losses(list(tracker.losses), tracker.spaces, inspection.connections, logs)
    explained = [one for one in Explainer(run, logs, inspection.connections).explain(found.losses)
                 if (wanted.path is None or one.loss.path == wanted.path) and wanted.time(one.loss.from_ns)]
    more = tracker.losses_more
    if as_json:
        print(json.dumps(why_document(explained, more, found)))
    else:
        print("\n".join(why_lines(explained, more, found, inspection.several)))
    return _end(inspection, logs)


def _print_graph(inspection: Inspection, wanted: Filter, arguments: argparse.Namespace) -> int:
    from lab.inspect_graph import graph_messages, graph_svg, graph_text

    messages, left_out = graph_messages(inspection.files, inspection.keylog, inspection.run, wanted, arguments.port)
    start_ns = inspection.start_ns or (messages[0].time_ns if messages else 0)
    if arguments.svg is not None:
        title = f"mpq inspect --flow-graph {inspection.path.resolve().parent.name}"
        Path(arguments.svg).write_text(graph_svg(messages, start_ns, title))
    if arguments.json:
        print(json.dumps({"messages": [
            {"t": round((m.time_ns - start_ns) / 1e9, 6), "from": m.source, "to": m.target, "channel": m.channel or None,
             "text": m.text} for m in messages], "left_out": left_out}))
    elif arguments.svg is None:
        print(graph_text(messages, start_ns, left_out))
    else:
        print(f"{arguments.svg}: {len(messages)} messages")
    return _end(inspection)


def _export(inspection: Inspection, wanted: Filter, arguments: argparse.Namespace) -> int:
    from lab.inspect_export import export

    target = Path(arguments.export)
    if target.exists() and any(target.samefile(part.path) for part in inspection.files.parts):
        raise Misuse(f"--export {target}: that is the capture itself")
    counts = export(inspection.files, inspection.keylog, target, wanted, arguments.port)
    if arguments.json:
        print(json.dumps({"file": str(target), "packets": counts}))
    else:
        print(f"{target}: {sum(counts.values())} packets")
        for name, count in sorted(counts.items()):
            print(f"  {name}: {count}")
    return _end(inspection)


def _end(inspection: Inspection, logs: Logs | None = None) -> int:
    for remark in logs.remarks if logs is not None else ():
        print(f"mpq inspect: {remark}", file=sys.stderr)
    if inspection.progress is not None:
        print("\r\x1b[K", end="", file=sys.stderr)
    log = inspection.keylog
    if log.malformed:
        print(f"mpq inspect: {log.malformed} lines of the key log do not read", file=sys.stderr)
    if log.conflicts:
        print(f"mpq inspect: {log.conflicts} lines of the key log contradict earlier ones", file=sys.stderr)
    for notice in [*inspection.files.notices, *inspection.notices]:
        print(f"mpq inspect: {notice}", file=sys.stderr)
    if inspection.problem:
        where = inspection.path if len(inspection.files.parts) == 1 else inspection.path.parent
        print(f"mpq inspect: {where}: {inspection.problem}", file=sys.stderr)
        return 1 if not inspection.stats.packets else 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
