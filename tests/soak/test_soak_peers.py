"""The peers of `mpq bench --peers` carry and end with the bench. Their packages are installed only when asked: hence here."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.bench import packages
from lab.bench.iperf import Iperf, Load, measure
from lab.bench.mptcp import MptcpPair
from lab.bench.pair import OUTER, SERVER, Line
from lab.bench.vpn import PEER_INNER, OpenVpnPair, WireguardGoPair

LOAD = Load("peer", ("-C", "cubic"))
HOLD = """
import signal
from lab.bench.pair import Line
from lab.bench.vpn import OpenVpnPair, WireguardGoPair
with Line() as line:
    pair = {kind}(line, {program!r})
    print(*(p.pid for p in pair.processes), flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    assert packages.install() == ""


def program_of(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")
    assert found is not None
    return found


def test_openvpn_carries() -> None:
    with Line() as line:
        pair = OpenVpnPair(line, program_of("openvpn"))
        try:
            outcome = measure(pair, Iperf(line, PEER_INNER[SERVER]), LOAD, 1)
        finally:
            pair.close()
    assert outcome.bits_per_second > 1e6 and outcome.cpu_per_gbit > 0


def test_wireguard_go_carries() -> None:
    with Line() as line:
        pair = WireguardGoPair(line, program_of("wireguard-go"))
        try:
            outcome = measure(pair, Iperf(line, PEER_INNER[SERVER]), LOAD, 1)
        finally:
            pair.close()
    assert outcome.bits_per_second > 1e6 and outcome.cpu_per_gbit > 0
    assert not Path("/run/wireguard/wg0.sock").exists()


def test_mptcp_takes_both_links() -> None:
    def received(line: Line) -> list[int]:
        text = line.spaces[SERVER].call_sync(lambda: Path("/proc/thread-self/net/dev").read_text())
        return [int(row.split()[1]) for row in text.splitlines() if row.strip().startswith("line")]

    with Line(2) as line:
        pair = MptcpPair(line)
        try:
            measure(pair, Iperf(line, OUTER[0][SERVER], ("mptcpize", "run")), LOAD, 1)
            octets = received(line)
        finally:
            pair.close()
    assert len(octets) == 2 and min(octets) > 1_000_000


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("kind", "name"), [("OpenVpnPair", "openvpn"), ("WireguardGoPair", "wireguard-go")])
def test_the_peers_end_with_the_bench(kind: str, name: str, how: signal.Signals) -> None:
    argv = [sys.executable, "-c", HOLD.format(kind=kind, program=program_of(name))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as bench:
        assert bench.stdout is not None
        pids = [int(pid) for pid in bench.stdout.readline().split()]
        assert len(pids) == 2 and all(_alive(pid) for pid in pids)  # the canary: they do run
        bench.send_signal(how)
        bench.wait(15)
        end = time.monotonic() + 5
        while any(_alive(pid) for pid in pids) and time.monotonic() < end:
            time.sleep(0.02)
        assert not any(_alive(pid) for pid in pids)


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
