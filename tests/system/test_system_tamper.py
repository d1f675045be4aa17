"""The line is real: one octet flipped in transit changes what happens; a relay that flips none changes nothing.

SMF ── relay (10.90.0.30) ── UPF        n4: the wrapped key, a weight of the MAR
UE ── relay (ports + 100) ── AMF        n1: the session accept, the key container
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from mpq_kit import ROOT, Host, Mpq

pytestmark = pytest.mark.system

SCENARIO = """\
tamper: ["{tamper}"]
accesses: [{{name: 3gpp, type: 3gpp, wire: {{delay_ms: 2}}}}, {{name: wifi, type: non-3gpp, wire: {{delay_ms: 2}}}}]
rules: [{{id: 1, precedence: 10, mode: {{steerModeValue: LOAD_BALANCING, 3gLoad: 30}}}}]
"""
FEW_SECONDS = 12.0

Event = dict[str, Any]


def named(node: str, event: str, **fields: Any) -> Callable[[Event], bool]:
    return lambda e: e["node"] == node and e["event"] == event and all(e.get(k) == v for k, v in fields.items())


# What is flipped; what can then not happen at which node; and what shows that the flip is why.
CASES = {
    "the wrapped key on N4": ("n4:mpquic-key", ("upf", "key_installed"), named("upf", "key_refused", reason="unwrap_failed")),
    "a weight of the MAR on N4": ("n4:weight", ("upf", "session_established"), named("upf", "pfcp_refused")),
    "the session accept with the ATSSS rules on N1": (
        "n1:3",
        ("ue", "pdu_session_established"),
        named("smf", "pdu_session_established"),
    ),
    "the key container on N1": ("n1:4", ("ue", "key_received"), named("amf", "key_sent_ue")),
}


@pytest.mark.parametrize("case", CASES)
def test_one_octet_matters(mpq: Mpq, tmp_path: Path, case: str) -> None:
    tamper, impossible, reason = CASES[case]
    scenario = tmp_path / "tampered.yaml"
    scenario.write_text(SCENARIO.format(tamper=tamper))
    done = mpq("run", str(scenario), "--json")
    assert done.code == 1, done.err
    result = done.document
    assert result["verdict"] == "fail" and result["error"]
    events = read_events(Path(result["run"]))
    seen = {(e["node"], e["event"]) for e in events}
    assert ("amf", "registered") in seen  # it is not the lab that is broken
    assert ("tamper", "flipped") in seen  # and the octet was hit
    assert any(map(reason, events)), events
    assert impossible not in seen
    assert ("ue", "connection_ready") not in seen and ("upf", "connection_ready") not in seen


@pytest.mark.parametrize("tamper", ["n4:none", "n1:900"])
def test_a_relay_that_flips_nothing_is_not_noticed(mpq: Mpq, tmp_path: Path, tamper: str) -> None:
    """The canary of the test above: it fails for the octet, not for the relay."""
    scenario = tmp_path / "relayed.yaml"
    scenario.write_text(SCENARIO.format(tamper=tamper))
    done = mpq("up", str(scenario), "--json")
    assert done.code == 0, done.err
    assert mpq.round_trip().code == 0
    assert ("tamper", "flipped") not in {(e["node"], e["event"]) for e in read_events(Path(done.document["run"]))}
    assert mpq("down").code == 0


def demo_with(tmp_path: Path, tamper: list[str]) -> Path:
    """The demo's own scenario: its session, its rules, its traffic, its checks."""
    document = yaml.safe_load((ROOT / "lab" / "scenarios" / "demo.yaml").read_text())
    assert "tamper" not in document and len(document["checks"]) >= 12
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump({**document, "tamper": tamper}))
    return path


def test_with_a_corrupted_key_at_the_upf_the_demo_fails(mpq: Mpq, tmp_path: Path) -> None:
    host = Host.look()
    done = mpq("run", str(demo_with(tmp_path, ["n4:mpquic-key"])), "--json")
    assert done.code == 1 and "Traceback" not in done.err
    result = done.document
    jsonschema.validate(result, json.loads((ROOT / "lab" / "result.schema.json").read_text()))
    assert json.loads((Path(result["run"]) / "result.json").read_text()) == result
    assert result["verdict"] == "fail" and "key refused" in result["error"] and "upf" in result["error"]
    assert result["checks"][0]["id"] == "run" and result["checks"][0]["why"] == result["error"]
    required = yaml.safe_load((ROOT / "lab" / "scenarios" / "demo.yaml").read_text())["checks"]
    assert [c["id"] for c in result["checks"][1:]] == required
    # The core may have tried again with a fresh key before the lab gave up: that alone holds.
    assert {c["id"] for c in result["checks"] if c["ok"]} <= {"keys.fresh"}
    assert result["duration_s"] < FEW_SECONDS and result["phases"] == []  # it gave up at once: no traffic was tried
    keys = result["keys"][0]
    assert keys["amf"] and keys["ue"] == keys["amf"] and keys["upf"] == ""  # the UPF never had it
    assert mpq.nothing_left() and mpq.labs() == [] and Host.look() == host


@pytest.mark.parametrize("tamper", [[], ["n4:none"]], ids=["no relay", "a relay that flips nothing"])
def test_without_the_corruption_the_same_comes_up(mpq: Mpq, tmp_path: Path, tamper: list[str]) -> None:
    done = mpq("up", str(demo_with(tmp_path, tamper)), "--json")
    assert done.code == 0, done.err
    assert mpq.round_trip().code == 0
    assert mpq("down").code == 0


def read_events(run: Path) -> list[Event]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
