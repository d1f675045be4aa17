"""report.html: one page, nothing from outside, and what the files of the run say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lab.errors import LabError
from lab.report import series, write_report

RESULT: dict[str, Any] = {
    "scenario": "demo<script>", "verdict": "fail", "duration_s": 9.0, "machine": {"cpus": 2},
    "checks": [{"id": "http.sha256", "ok": False, "value": "", "unit": "", "aim": "equal", "why": "no <download>"}],
    "phases": [{"id": "tcp8.up", "goodput_mbps": 90.0, "per_path_mbps": {"3gpp": 30.0, "wifi": 60.0}, "share_of_wires": 0.6,
                "lost": 0, "longest_gap_ms": None}],
    "keys": [{"generation": 1, "reason": "initial", "ue": "aa", "amf": "aa", "upf": "aa", "delivered_ms": 1.0}],
    "drops": {"upf.ingress_filter": 3, "ue.auth_failed": 0},
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    accesses = [{"name": "wifi", "type": "non-3gpp"}, {"name": "3gpp", "type": "3gpp"}]
    (tmp_path / "scenario.yaml").write_text(json.dumps({"scenario": {"accesses": accesses}}))
    (tmp_path / "result.json").write_text(json.dumps(RESULT))
    events = [{"t": 2.0, "node": "lab", "event": "cut", "access": "wifi"}, {"t": 1.0, "node": "ue", "event": "registered"}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    samples = [{"t": t, "up": [t * 1_000_000, 0], "down": [0, t * 2_000_000]} for t in range(1, 5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
    return tmp_path


def test_rates_are_differences_of_what_arrived(run_dir: Path) -> None:
    first, second = series((run_dir / "metrics.jsonl").read_text().splitlines(), "up", ("3gpp", "wifi"))
    assert [round(v) for _, v in first.points] == [8, 8, 8] and [v for _, v in second.points] == [0, 0, 0]


def test_the_page_says_what_the_files_say(run_dir: Path) -> None:
    text = write_report(run_dir).read_text()
    assert "cut wifi" in text and "registered" not in text
    assert "FAILED" in text and "upf.ingress_filter" in text and "ue.auth_failed" not in text
    assert "<script>" not in text and "no &lt;download&gt;" in text
    assert "http://" not in text and "https://" not in text and "src=" not in text


def test_a_run_without_a_result_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no result to report"):
        write_report(tmp_path)
