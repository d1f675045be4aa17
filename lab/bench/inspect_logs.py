"""How long `mpq inspect --dropped` takes, and `--follow`, of a run whose windowed capture has one in eight of the packets that the
qlogs of both ends tell of, as a full demonstration's has."""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from lab.bench.figure import Figure
from lab.bench.inspect import record
from lab.bench.pair import BenchError
from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import KeyLog

TOLD_FOR_ONE = 8                # packets in the logs for one in the capture
LOST_EVERY = 500
ACKED_TOGETHER = 25
WAY_NS = 5_000_000
HEAD = ('\x1e{{"file_schema":"urn:ietf:params:qlog:file:sequential","serialization_format":"application/qlog+json-seq","trace":'
        '{{"vantage_point":{{"name":"{end}","type":"{role}"}},"event_schemas":[]}}}}\n')


@dataclass(slots=True)
class _Log:
    """One end's log, as the engine writes it."""

    out: TextIO
    group: str

    def tell(self, name: str, time_ns: int, path: int, data: str) -> None:
        at, tuple_ = f"{time_ns // 1_000_000}.{time_ns // 1000 % 1000:03}", f'"tuple":"{path}",' if path else ""
        self.out.write(f'\x1e{{"time":{at},"group_id":"{self.group}",{tuple_}"name":"quic:{name}","data":{{{data}}}}}\n')

    def packet(self, name: str, time_ns: int, path: int, number: int, size: int) -> None:
        where = f',"path_id":{path}' if path else ""
        header = f'"header":{{"packet_type":"1RTT"{where},"packet_number":{number}}}'
        self.tell(name, time_ns, path, f'{header},"raw":{{"length":{size}}},"frames":[{{"frame_type":"datagram"}}]')

    def acknowledged(self, time_ns: int, path: int, numbers: list[int]) -> None:
        self.tell("packets_acked", time_ns, path, f'"path_id":{path},"packet_numbers":[{",".join(map(str, numbers))}]')


def write_run(directory: Path, packets: int) -> tuple[int, int]:
    """A capture with its key log and the logs of both ends beside it. How many packets the logs tell of, and how many were lost."""
    capture, keylog, _ = asyncio.run(record(packets))
    (directory / "capture.pcapng").write_bytes(capture)
    (directory / "keys.log").write_bytes(keylog)
    keys = KeyLog()
    keys.add(keylog)
    reader = CaptureDecryptor(io.BytesIO(capture), keys, lean=True)
    seen = [(one.path or 0, one.up, one.number or 0, one.time_ns, one.size) for one in reader.packets() if one.kind == "1rtt"]
    group = reader.decryptor.connections[0].original_dcid.hex()
    next_number: dict[tuple[int, bool], int] = {}
    for path, up, number, *_ in seen:
        next_number[path, up] = max(next_number.get((path, up), 0), number + 1)
    more = seen[:]
    for _ in range(TOLD_FOR_ONE - 1):           # outside the capture's windows
        later = more[-1][3] - seen[0][3] + 1000
        for path, up, _number, time_ns, size in seen:
            more.append((path, up, next_number[path, up], time_ns + later, size))
            next_number[path, up] += 1
    with (directory / "ue.sqlog").open("w") as ue, (directory / "upf.sqlog").open("w") as upf:
        ue.write(HEAD.format(end="ue", role="client"))
        upf.write(HEAD.format(end="upf", role="server"))
        lost = _tell(more, len(seen), {True: _Log(ue, group), False: _Log(upf, group)})
    return len(more), lost


def _tell(packets: list[tuple[int, bool, int, int, int]], captured: int, logs: dict[bool, _Log]) -> int:
    """packets: path, up, number, time and size; of those that were not captured some are lost: how many."""
    arrived: dict[tuple[int, bool], list[int]] = {}
    lost = 0
    for i, (path, up, number, time_ns, size) in enumerate(packets):
        sent = time_ns - (0 if up else WAY_NS)
        logs[up].packet("packet_sent", sent, path, number, size)
        if i >= captured and i % LOST_EVERY == 0:
            lost += 1
            continue
        logs[not up].packet("packet_received", sent + WAY_NS, path, number, size)
        numbers = arrived.setdefault((path, up), [])
        numbers.append(number)
        if len(numbers) == ACKED_TOGETHER:
            logs[up].acknowledged(sent + 2 * WAY_NS, path, numbers)
            numbers.clear()
    return lost


def measure_logs(runs: int, packets: int) -> list[Figure]:
    """Seconds of CPU. BenchError: they did not say what was lost."""
    from lab.inspect import main

    figures = {"--dropped": Figure("inspect.dropped", "s"), "--follow": Figure("inspect.follow", "s")}
    with tempfile.TemporaryDirectory(prefix="mpq-bench-") as place:
        directory = Path(place)
        _, lost = write_run(directory, packets)
        for _ in range(runs):
            for view, figure in figures.items():
                arguments = [view] if view == "--dropped" else [view, "udp port 40000"]
                start = time.process_time()
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    code = main([place, *arguments, "--json"])
                wanted = f'{{"lost": {lost}, "not_told": 0, "by": "qlog"' if view == "--dropped" else '{"packets": [{'
                if code or not out.getvalue().startswith(wanted):
                    raise BenchError(f"mpq inspect {view} did not find the {lost} packets that were lost: {out.getvalue()[:200]}")
                figure.add(time.process_time() - start)
    return list(figures.values())
