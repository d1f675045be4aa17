"""Handshakes per second and core: ours with the external PSK, and beside it aioquic's with a certificate, both in memory.

Both ends, HTTP/3's SETTINGS in both directions, and the close are in both figures. Turns are short and alternate: what else the
machine does meets both.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.memory_line import SERVER_ADDRESS, Line, psks
from lab.process import dying_with_us
from mpquic.endpoint import Endpoint, EndpointConfig

# aioquic's own connections are used by tests only, so its half lives there: without a checkout there is no comparison
PEER = Path(__file__).parents[2] / "tests" / "bench" / "aioquic_handshakes.py"
TURN = 25  # handshakes
AT_A_TIME = 5  # connections of ours that are made together: the event loop's turns are the bench's, more than the handshake's
CLOSING_MS = 50  # of virtual time, until both ends know


async def _psk(count: int) -> float:
    """Seconds of CPU time that one end takes for a handshake; the connection is closed after it."""
    known, keys = {p.identity: p for p in psks(count)}, psks(count)
    server = Endpoint(EndpointConfig(role="server", psk_lookup=known.get, retry_half_open=0))
    line = Line(Endpoint(EndpointConfig(role="client")), server)
    start = time.process_time()
    for first in range(0, count, AT_A_TIME):
        together = keys[first : first + AT_A_TIME]
        connections = await line.do(asyncio.gather(*(line.client.connect(psk, 0, SERVER_ADDRESS) for psk in together)))
        for connection in connections:
            connection.abort()
    await line.run(None, CLOSING_MS)
    spent = time.process_time() - start
    for endpoint in (line.client, line.server):
        endpoint.engine.free()
    return spent / count / 2


class _Aioquic:
    """The same of aioquic, in a process of its own; 0 where the comparison is not at hand."""

    def __init__(self, process: subprocess.Popen[str] | None) -> None:
        self._process = process

    def measure(self, count: int) -> float:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            return 0.0
        try:
            self._process.stdin.write(f"{count}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return 0.0
        return float(self._process.stdout.readline() or 0)


@contextmanager
def _aioquic() -> Iterator[_Aioquic]:
    if not PEER.exists():
        yield _Aioquic(None)
        return
    command = dying_with_us([sys.executable, str(PEER)])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield _Aioquic(process)
        finally:
            process.kill()


def measure_handshakes(runs: int, count: int) -> Figure:
    """Ratio `aioquic`: our rate to aioquic's, of each turn. `count` handshakes a run, in turns."""
    figure = Figure("handshake.psk", "1/s")
    with _aioquic() as peer:
        for _ in range(max(1, runs * count // TURN)):
            ours, theirs = asyncio.run(_psk(min(TURN, count))), peer.measure(min(TURN, count))
            figure.add(1 / ours, aioquic=1 / theirs if theirs else 0.0)
    return figure


# ---- where the time goes

X25519, DERIVATION, ENGINE, PYTHON = "X25519", "key derivation and transcript", "the C engine", "Python"


def _part(name: str) -> str | None:
    """Of a function that is not Python's: which part of a handshake it is."""
    if "x25519" in name.lower():
        return X25519
    if "_engine.kdf_" in name or "_hashlib" in name:
        return DERIVATION
    return ENGINE if "_engine." in name else None


def handshake_parts(count: int = 100, most: int = 6) -> tuple[dict[str, float], dict[str, float]]:
    """us of one end's handshake: by part, and of Python's part the `most` expensive modules. Functions of C are timed one by one;
    Python is the rest of what a handshake takes without a profile."""
    asyncio.run(_psk(AT_A_TIME))
    whole = statistics.median(asyncio.run(_psk(count)) for _ in range(3)) * 1e6
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    asyncio.run(_psk(count))
    profile.disable()
    timing = _timing()
    parts: dict[str, float] = defaultdict(float)
    modules: dict[str, float] = defaultdict(float)
    for (file, _, name), (calls, _, own, _, callers) in _entries(profile).items():
        if file != "~":
            modules[Path(file).name] += own
        elif part := _part(name):
            parts[part] += (own - calls * timing) / count / 2 * 1e6
        else:  # len, append, ...: whoever calls them
            for (caller, _, _), (_, _, share, _) in callers.items():
                modules[Path(caller).name if caller != "~" else "builtins"] += share
    parts[PYTHON] = whole - sum(parts.values())
    scale = parts[PYTHON] / sum(modules.values())
    largest = sorted(modules.items(), key=lambda item: -item[1])[:most]
    return dict(parts), {name: own * scale for name, own in largest}


def _timing(count: int = 10_000) -> float:
    """Seconds that the profile itself adds to a call of C."""
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for _ in range(count):
        abs(0)
    profile.disable()
    return next(own for (_, _, name), (_, _, own, _, _) in _entries(profile).items() if "abs" in name) / count


Function = tuple[str, int, str]  # file ("~": none), line, name
Times = tuple[int, int, float, float]  # calls, primitive calls, seconds of its own, seconds with what it calls


def _entries(profile: cProfile.Profile) -> dict[Function, tuple[int, int, float, float, dict[Function, Times]]]:
    entries: dict[Function, tuple[int, int, float, float, dict[Function, Times]]]
    entries = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return entries
