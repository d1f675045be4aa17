"""The shipped scenarios beside the demo: the other steering mode, the other suites, the other ways of the key."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mpq_kit import Mpq

pytestmark = pytest.mark.system


def run(mpq: Mpq, name: str) -> dict[str, Any]:
    done = mpq("run", name, "--json", "--quiet")
    assert done.out, done.err
    result: dict[str, Any] = done.document
    assert done.code == 0, (result["checks"], result["error"])
    return result


def phase(result: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(p for p in result["phases"] if p["id"] == name)
    return found


def suites_of(result: dict[str, Any]) -> set[str]:
    """What the ServerHellos in the capture chose, by tshark."""
    capture = str(Path(result["run"]) / "capture.pcapng")
    command = ["tshark", "-r", capture, "-Y", "quic and tls.handshake.type == 2", "-T", "fields", "-e", "tls.handshake.ciphersuite"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_active_standby_uses_one_access_and_falls_back(mpq: Mpq) -> None:
    result = run(mpq, "active_standby")
    for name in ("before", "after"):
        per_path = phase(result, name)["per_path_mbps"]
        assert per_path["wifi"] > 10 and per_path["3gpp"] < 1
    assert phase(result, "cut")["per_path_mbps"]["3gpp"] > 1  # it took over
    assert result["paths"]["3gpp"]["reason"] == "standby by rule 1"


def test_smallest_delay_follows_the_shorter_path_at_both_ends(mpq: Mpq) -> None:
    result = run(mpq, "smallest_delay")
    before, longer, after = (phase(result, name)["per_path_mbps"] for name in ("before", "longer", "after"))
    assert before["wifi"] > 5 and before["3gpp"] < 1
    assert longer["3gpp"] > longer["wifi"]
    assert after["3gpp"] > 5 and after["wifi"] < 1  # uplink: the UE measured by itself
    assert result["paths"]["wifi"]["reason"] == "the other path is shorter"


def test_priority_shares_what_overflows_and_leaves_a_path_above_its_threshold(mpq: Mpq) -> None:
    result = run(mpq, "priority")
    room, overflow, above = (phase(result, name)["per_path_mbps"] for name in ("room", "overflow", "above"))
    assert room["wifi"] > 4 and room["3gpp"] < 1
    assert overflow["wifi"] > 8 and overflow["3gpp"] > 4
    assert above["3gpp"] > above["wifi"]


@pytest.fixture(scope="module")
def derived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The result of `aes_256`, in which the key is derived at both ends, bound to the session, and imported."""
    one = Mpq(tmp_path_factory.mktemp("derived"))
    try:
        yield run(one, "aes_256")
    finally:
        one.end()


def test_imported_key_of_a_session_with_aes_256(derived: dict[str, Any]) -> None:
    assert suites_of(derived) == {"0x1302"}
    assert len(derived["keys"]) == 2 and len({k["amf"] for k in derived["keys"]}) == 2
    assert all(k["ue"] == k["amf"] == k["upf"] for k in derived["keys"])


def test_chacha20_and_rules_by_protocol(mpq: Mpq) -> None:
    result = run(mpq, "chacha20")
    assert suites_of(result) == {"0x1303"}
    balanced = phase(result, "tcp8.up")["per_path_mbps"]
    assert balanced["3gpp"] > 5 and balanced["wifi"] > 5
    only = phase(result, "udp.down")["per_path_mbps"]
    assert only["3gpp"] > 5 and only["wifi"] < 1


def test_the_key_never_crosses_the_air_in_derived_mode(derived: dict[str, Any]) -> None:
    """The container that the capture shows holds P0 and no key."""
    capture = Path(derived["run"]) / "capture.pcapng"
    listing = subprocess.run(["tshark", "-r", str(capture), "-Y", "nas-5gs", "-T", "json", "-x"], capture_output=True, text=True,
                             check=True, timeout=120)
    payloads = "".join(json.dumps(packet) for packet in json.loads(listing.stdout))
    assert "010020" in payloads  # TLV 01, P0, 32 octets
    assert "020020" not in payloads  # TLV 02 would be the key


@pytest.mark.parametrize("name", ["attack_quic", "attack_n1", "attack_n4"])
def test_attacks_under_a_probe_are_seen_and_cost_nothing(mpq: Mpq, name: str) -> None:
    """Every attack that leaves the connection alone, as it ships: each is counted by name, the probe sees no gap."""
    result = run(mpq, name)
    checks = {c["id"]: c["ok"] for c in result["checks"]}
    assert checks["attacks.seen"] and checks["attacks.gap"]
