"""The peers of `mpq bench`: found, or named with the reason. That they carry is shown by tests/soak/test_soak_peers.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from needs import needs_tunnel

from lab.bench import packages
from lab.bench.packages import peers
from lab.bench.pair import BenchError, Line
from lab.bench.vpn import OpenVpnPair, WireguardGoPair


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


@needs_tunnel
def test_a_peer_that_does_not_come_up_says_why() -> None:
    with Line() as line:
        with pytest.raises(BenchError, match="openvpn did not come up"):
            OpenVpnPair(line, "/bin/false")
        with pytest.raises(BenchError, match="wireguard-go did not come up"):
            WireguardGoPair(line, "/bin/false")
