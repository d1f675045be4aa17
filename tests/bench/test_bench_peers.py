"""The peers of `mpq bench`: found or named with the reason, carried like ours, and gone with the bench."""

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
from lab.bench.packages import peers
from lab.bench.pair import OUTER, SERVER, BenchError, Line
from lab.bench.vpn import PEER_INNER, OpenVpnPair, WireguardGoPair

system = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK) or shutil.which("iperf3") is None,
    reason="needs root, a usable /dev/net/tun and iperf3",
)
LOAD = Load("peer", ("-C", "cubic"))
OPENVPN = shutil.which("openvpn", path=os.environ["PATH"] + ":/usr/sbin")
HOLD = """
import signal
from lab.bench.pair import Line
from lab.bench.vpn import OpenVpnPair, WireguardGoPair
with Line() as line:
    pair = {kind}(line, {program!r})
    print(*(p.pid for p in pair.processes), flush=True)
    signal.pause()
"""


def test_what_is_not_there_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "_which", lambda program: None)
    monkeypatch.setattr(packages, "MPTCP_ENABLED", tmp_path / "none")
    with peers(False) as found:
        documents = {peer.name: peer.document() for peer in found}
    assert set(documents) == {"openvpn", "wireguard_go", "wireguard_go_offload", "mptcp"}
    assert all("version" not in d for d in documents.values())
    assert documents["openvpn"]["absent"] == "openvpn is not installed (mpq bench --peers installs it)"
    assert documents["mptcp"]["absent"].startswith("this kernel has no MPTCP")
    with peers(False, "apt-get: no network") as found:
        assert found[0].absent == "openvpn is not installed (apt-get: no network)"


def test_a_wireguard_go_with_offloads_is_measured_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_which", lambda program: f"/usr/bin/{program}")
    for version, name in (("0.0.20231211-1+b9", "wireguard_go_offload"), ("0.0.20220316-1+b4", "wireguard_go")):
        monkeypatch.setattr(packages, "_version", lambda package, version=version: version)
        with peers(False) as found:
            there = {peer.name for peer in found if peer.name.startswith("wireguard") and not peer.absent}
        assert there == {name}


def test_installing_asks_for_root_and_reports_what_apt_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_which", lambda program: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert packages.install().startswith("that needs root: apt-get install")
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def refuse(argv: list[str], limit: float) -> str:
        raise OSError("apt-get: E: no network")

    monkeypatch.setattr(packages, "_run", refuse)
    assert packages.install() == "apt-get: E: no network"
    monkeypatch.setattr(packages, "_which", lambda program: program)
    assert packages.install() == ""


@system
def test_a_peer_that_does_not_come_up_says_why() -> None:
    with Line() as line:
        with pytest.raises(BenchError, match="openvpn did not come up"):
            OpenVpnPair(line, "/bin/false")
        with pytest.raises(BenchError, match="wireguard-go did not come up"):
            WireguardGoPair(line, "/bin/false")


@system
@pytest.mark.skipif(OPENVPN is None, reason="needs openvpn")
def test_openvpn_carries() -> None:
    assert OPENVPN is not None
    with Line() as line:
        pair = OpenVpnPair(line, OPENVPN)
        try:
            outcome = measure(pair, Iperf(line, PEER_INNER[SERVER]), LOAD, 1)
        finally:
            pair.close()
    assert outcome.bits_per_second > 1e6 and outcome.cpu_per_gbit > 0


@system
@pytest.mark.skipif(shutil.which("wireguard-go") is None, reason="needs wireguard-go")
def test_wireguard_go_carries() -> None:
    with Line() as line:
        pair = WireguardGoPair(line, shutil.which("wireguard-go") or "")
        try:
            outcome = measure(pair, Iperf(line, PEER_INNER[SERVER]), LOAD, 1)
        finally:
            pair.close()
    assert outcome.bits_per_second > 1e6 and outcome.cpu_per_gbit > 0
    assert not Path("/run/wireguard/wg0.sock").exists()


@system
@pytest.mark.skipif(shutil.which("mptcpize") is None, reason="needs mptcpize")
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


@system
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize(("kind", "program"), [("OpenVpnPair", OPENVPN), ("WireguardGoPair", shutil.which("wireguard-go"))])
def test_the_peers_end_with_the_bench(kind: str, program: str | None, how: signal.Signals) -> None:
    if program is None:
        pytest.skip("not installed")
    argv = [sys.executable, "-c", HOLD.format(kind=kind, program=program)]
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
