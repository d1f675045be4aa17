"""Handshakes per second and core: ours with the external PSK, and beside it aioquic's with a certificate, both in memory."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import subprocess
import sys
import time
from pathlib import Path

from lab.bench.figure import Figure
from lab.bench.memory_line import SERVER_ADDRESS, Line, psks
from mpquic.endpoint import Endpoint, EndpointConfig

# aioquic's own connections are used by tests only, so its half lives there: without a checkout there is no comparison
PEER = Path(__file__).parents[2] / "tests" / "bench" / "aioquic_handshakes.py"


async def _psk(count: int) -> float:
    """Seconds of CPU time that one end takes for a handshake; the connection is closed after it."""
    known = {p.identity: p for p in psks(count)}
    server = Endpoint(EndpointConfig(role="server", psk_lookup=known.get, retry_half_open=0))
    line = Line(Endpoint(EndpointConfig(role="client")), server)
    start = time.process_time()
    for psk in psks(count):
        connection = await line.do(line.client.connect(psk, 0, SERVER_ADDRESS))
        connection.abort()
    spent = time.process_time() - start
    for endpoint in (line.client, line.server):
        endpoint.engine.free()
    return spent / count / 2


def _aioquic(count: int) -> float:
    """The same of aioquic; 0 where the comparison is not at hand."""
    if not PEER.exists():
        return 0.0
    done = subprocess.run([sys.executable, str(PEER), str(count)], capture_output=True, text=True, timeout=120, check=False)
    return float(done.stdout) if done.returncode == 0 else 0.0


def measure_handshakes(runs: int, count: int) -> Figure:
    """Ratio `aioquic`: our rate to aioquic's."""
    figure = Figure("handshake.psk", "1/s")
    for _ in range(runs):
        ours = 1 / asyncio.run(_psk(count))
        theirs = _aioquic(count)
        figure.add(ours, aioquic=1 / theirs if theirs else 0.0)
    return figure


def handshake_profile(count: int = 50, most: int = 10) -> list[tuple[str, float]]:
    """(function, percent of our handshakes' time that it takes itself), largest first."""
    profile = cProfile.Profile()
    profile.enable()
    asyncio.run(_psk(count))
    profile.disable()
    own = [(own, Path(file).name, name) for (file, _, name), (_, _, own, _, _) in _entries(profile).items()]
    total = sum(entry[0] for entry in own) or 1.0
    most_first = sorted(own, reverse=True)[:most]
    return [(name if file == "~" else f"{file}:{name}", 100 * spent / total) for spent, file, name in most_first]


def _entries(profile: cProfile.Profile) -> dict[tuple[str, int, str], tuple[int, int, float, float, object]]:
    entries: dict[tuple[str, int, str], tuple[int, int, float, float, object]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return entries
