"""`mpq inspect [RUN|CAPTURE]`: the packets of every path in clear, as a table, as JSON, as figures, or one as a full tree."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.capture_compose import NAS_INTERFACE, NAS_KEYS_NAME, nas_comment
from lab.decrypt import INNER_INTERFACE, CaptureDecryptor, ClearPacket, Step
from lab.decrypt_nas import PORTS, NasKeysError, NasReader, load_nas_keys
from lab.errors import Misuse
from lab.inspect_stats import InspectError, Stats, find_capture, find_keylog, inspect_stats, verify_capture
from lab.packets.frames import FRAME_NAMES
from lab.packets.link import TCP, UDP, ip_words
from lab.packets.pfcp_plain import PFCP_PORT, pfcp_words
from lab.verbs.common import Parser

__all__ = ["inspect_stats", "main", "verify_capture"]
FRAMES_SHOWN = 12


@dataclass(slots=True)
class Row:
    """One line of the table: a QUIC packet, a NAS PDU, or a PFCP message."""

    record: int
    time_ns: int
    interface: str
    kind: str
    up: bool | None = None
    connection: int | None = None
    path: int | None = None
    number: int | None = None
    size: int = 0
    key_phase: int = 0
    frames: list[tuple[str, str]] = field(default_factory=list)     # name, words
    inner: list[str] = field(default_factory=list)
    reason: str = ""
    text: str = ""


def packet_row(packet: ClearPacket, interface: str) -> Row:
    return Row(packet.record, packet.time_ns, interface, packet.kind, packet.up, packet.connection, packet.path,
               packet.number, packet.size, packet.generation, [(frame.name, frame.words()) for frame in packet.frames],
               [ip_words(inner) for inner in packet.inner_packets()], packet.reason)


class Inspection:
    """One pass over a capture: rows of every protocol that we know; figures on the way."""

    def __init__(self, path: Path, keys: str | None) -> None:
        self.path = path
        self.keylog = find_keylog(path, keys)
        nas_keys = path.with_name(NAS_KEYS_NAME)
        self._nas = NasReader(load_nas_keys(nas_keys) if nas_keys.is_file() else [])
        self.stats = Stats()
        self.problem = ""
        self.unreadable = 0

    def rows(self, others: bool) -> Iterator[Row]:
        with self.path.open("rb") as stream:
            capture = CaptureDecryptor(stream, self.keylog)
            interfaces = capture.reader.interfaces
            for step in capture.steps():
                if others and step.record is not None and not step.quic:
                    yield from self._other(step, interfaces[step.record.interface].name)
                for packet in step.packets:
                    self.stats.add(packet)
                    yield packet_row(packet, interfaces[packet.interface].name)
            self.problem = capture.reader.problem
            self.unreadable = capture.unreadable

    def _other(self, step: Step, interface: str) -> Iterator[Row]:
        record, flow = step.record, step.flow
        assert record is not None
        if flow is None or interface in (INNER_INTERFACE, NAS_INTERFACE):
            return
        if flow.protocol == UDP and PFCP_PORT in (flow.source_port, flow.destination_port):
            yield Row(record.number, record.time_ns, interface, "n4", size=len(flow.payload),
                      text=pfcp_words(flow.payload))
        elif flow.protocol == TCP and (flow.destination_port in PORTS or flow.source_port in PORTS):
            for pdu in self._nas.feed(record.number, record.time_ns, flow):
                yield Row(record.number, record.time_ns, interface, "n1", pdu.uplink, size=len(pdu.data),
                          text=nas_comment(pdu)[1])


def wanted(row: Row, path: int | None, frame: str | None) -> bool:
    if path is not None and row.path != path:
        return False
    return frame is None or any(name == frame for name, _ in row.frames)


def row_document(row: Row, start_ns: int) -> dict[str, Any]:
    direction = None if row.up is None else "up" if row.up else "down"
    document: dict[str, Any] = {"record": row.record, "t": round((row.time_ns - start_ns) / 1e9, 9),
                                "interface": row.interface, "kind": row.kind, "direction": direction, "size": row.size}
    if row.kind in ("n1", "n4"):
        document["text"] = row.text
    else:
        document |= {"connection": row.connection, "path": row.path, "pn": row.number, "key_phase": row.key_phase,
                     "frames": [{"name": name, "text": words} for name, words in row.frames], "inner": row.inner}
    document["reason"] = row.reason or None
    return document


HEADING = f"{'No.':>7} {'time/s':>11} {'interface':<12} {'dir':<4} {'packet':<10} {'path':>4} {'pn':>8} {'octets':>6}  content"


def row_line(row: Row, start_ns: int) -> str:
    arrow = {None: "", True: "up", False: "down"}[row.up]
    if row.kind in ("n1", "n4"):
        content = row.text
    elif row.reason:
        content = f"[{row.reason}]"
    else:
        content = "; ".join(words for _, words in row.frames[:FRAMES_SHOWN])
        if len(row.frames) > FRAMES_SHOWN:
            content += f"; and {len(row.frames) - FRAMES_SHOWN} more"
        content += "".join(f"  ‹{inner}›" for inner in row.inner)
    path, number = ("-" if v is None else str(v) for v in (row.path, row.number))
    return (f"{row.record:>7} {(row.time_ns - start_ns) / 1e9:>11.6f} {row.interface:<12} {arrow:<4} {row.kind:<10} "
            f"{path:>4} {number:>8} {row.size:>6}  {content}")


def parser() -> argparse.ArgumentParser:
    out = Parser(
        prog="mpq inspect", description="Show the packets of a run in clear, on every path.",
        epilog="Without a target the newest run is shown. Numbers of packets are those of Wireshark.")
    out.add_argument("target", nargs="?", metavar="RUN|CAPTURE", help="a run directory or a pcapng file")
    out.add_argument("--keys", metavar="FILE", help="key log, beside the secrets inside the capture")
    out.add_argument("--path", type=int, metavar="ID", help="only packets of this path")
    out.add_argument("--frame", metavar="NAME", help="only packets with this frame, e.g. PATH_ACK")
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
    return _print_rows(inspection, arguments)


def _print_stats(inspection: Inspection, as_json: bool) -> int:
    for _ in inspection.rows(others=False):
        pass
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


def _print_rows(inspection: Inspection, arguments: argparse.Namespace) -> int:
    filtered = arguments.path is not None or arguments.frame is not None
    start_ns, shown = -1, 0
    if arguments.json:
        sys.stdout.write('{"packets": [')
    else:
        print(HEADING)
    for row in inspection.rows(others=not filtered):
        if start_ns < 0:
            start_ns = row.time_ns
        if not wanted(row, arguments.path, arguments.frame):
            continue
        if arguments.json:
            sys.stdout.write((", " if shown else "") + json.dumps(row_document(row, start_ns)))
        else:
            print(row_line(row, start_ns))
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
