"""The line is real: one octet flipped in transit changes what happens. (A lab without the flip comes up: test_system_lab.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mpq_kit import Mpq

pytestmark = pytest.mark.system

SCENARIO = """\
tamper: ["{tamper}"]
accesses: [{{name: 3gpp, type: 3gpp, wire: {{delay_ms: 2}}}}, {{name: wifi, type: non-3gpp, wire: {{delay_ms: 2}}}}]
rules: [{{id: 1, precedence: 10, mode: {{steerModeValue: LOAD_BALANCING, 3gLoad: 30}}}}]
"""

# What is flipped, and what can then not happen at which node.
CASES = {
    "the wrapped key on N4": ("n4:mpquic-key", "upf", "key_installed"),
    "a weight of the MAR on N4": ("n4:weight", "ue", "connection_ready"),
    "the session accept with the ATSSS rules on N1": ("n1:3", "ue", "pdu_session_established"),
    "the key container on N1": ("n1:4", "ue", "key_received"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_octet_matters(mpq: Mpq, tmp_path: Path, case: str) -> None:
    tamper, node, event = CASES[case]
    scenario = tmp_path / "tampered.yaml"
    scenario.write_text(SCENARIO.format(tamper=tamper))
    done = mpq("run", str(scenario), "--json")
    assert done.code == 1, done.err
    result = done.document
    assert result["verdict"] == "fail" and result["error"]
    events = read_events(Path(result["run"]))
    seen = {(e["node"], e["event"]) for e in events}
    assert ("amf", "registered") in seen  # it is not the lab that is broken
    assert (node, event) not in seen
    assert ("ue", "connection_ready") not in seen and ("upf", "connection_ready") not in seen


def read_events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
