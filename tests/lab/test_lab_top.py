"""`mpq top`: rates, shares and reasons from two looks at a lab."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

import lab
from lab.reasons import CUT, MEANINGS, NO_PATH, meaning, without_rule
from lab.top import drop_names, lines, view
from mpquic.path_reasons import PATH_REASONS, path_reason
from native import lib


def path(number: int, access: str, octets: int = 0, **more: Any) -> dict[str, Any]:
    known = {
        "path": number, "access": access, "state": "active", "reason": "", "datagram_bytes_received": octets, "packets_sent": 100,
        "packets_lost": 0, "rtt_smoothed": 20_000_000, "rtt_min": 10_000_000, "cwnd": 50_000, "queue_bytes": 1000,
    }
    return known | more


def look(t: float, ue: Any, upf: Any, **more: Any) -> dict[str, Any]:
    return {
        "t": t, "lab": "default", "scenario": "demo", "accesses": ["3gpp", "wifi"], "cut": [], "paths": {"ue": ue, "upf": upf},
        "key": {"generation": 2, "fingerprint": "9b7d731d"}, "counters": {"ue": {}, "upf": {}},
    } | more


BEFORE = look(10.0, [path(0, "3gpp"), path(1, "wifi")], [path(0, "3gpp"), path(1, "wifi")])


def after(ue: Any = None, upf: Any = None, **more: Any) -> dict[str, Any]:
    ue = ue if ue is not None else [path(0, "3gpp", 250_000), path(1, "wifi", 750_000, packets_sent=200, packets_lost=5)]
    upf = upf if upf is not None else [path(0, "3gpp"), path(1, "wifi", 1_000_000, packets_sent=300)]
    return look(12.0, ue, upf, **more)


def test_rates_and_shares_are_what_came_out_of_the_tunnel() -> None:
    shown = view(BEFORE, after())
    first, second = shown.rows
    assert (first.down_mbps, first.up_mbps, first.share) == (1.0, 0.0, 0.125)
    assert (second.down_mbps, second.up_mbps, second.share) == (3.0, 4.0, 0.875)
    assert (second.rtt_ms, second.rtt_min_ms, second.loss_percent, second.queue) == (20.0, 10.0, 1.67, 2000)
    assert (shown.generation, shown.fingerprint) == (2, "9b7d731d")
    idle = view(BEFORE, BEFORE | {"t": 12.0})
    assert [row.share for row in idle.rows] == [None, None] and idle.rows[0].loss_percent is None


REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "used": (after(), ""),
    "by rule": (after(ue=[path(0, "3gpp"), path(1, "wifi", state="standby", reason="standby by rule 2")]), "standby by rule 2"),
    "of two connections the new one": (
        after(ue=[path(1, "wifi", reason="no answer", state="failed"), path(0, "wifi", generation=2, state="suspect")]), ""
    ),
    "the other end knows": (
        after(upf=[path(0, "3gpp"), path(1, "wifi", state="suspect", reason="no answer")]), "no answer (says the UPF)"
    ),
    "cut": (after(cut=["wifi"]), CUT),
    "cut, and no path left": (after(ue=[path(0, "3gpp")], cut=["wifi"]), CUT),
    "no path": (after(ue=[path(0, "3gpp")]), NO_PATH),
    "idle here, used by the other": (after(ue=[path(0, "3gpp"), path(1, "wifi", reason="no flow")]), ""),
    "idle": (after(ue=[path(1, "wifi", reason="no flow")], upf=[path(1, "wifi", reason="no flow")]), "no flow"),
}


@pytest.mark.parametrize("name", REASONS)
def test_why_a_path_is_not_used(name: str) -> None:
    now, why = REASONS[name]
    assert {row.access: row.why for row in view(BEFORE, now).rows}["wifi"] == why


def test_after_a_rekey_each_connection_counts_by_itself() -> None:
    """The new one begins at 0, the old one's counters go with it: neither a negative rate nor what the old one had carried."""
    old = look(10.0, [path(0, "3gpp", 9_000_000, generation=1), path(1, "wifi", 9_000_000, generation=1)],
               [path(1, "wifi", 5_000_000, generation=1)])
    new = after(
        ue=[path(0, "wifi", 250_000, generation=2), path(1, "3gpp", 0, generation=2)],
        upf=[path(1, "wifi", 5_500_000, generation=1), path(0, "wifi", 250_000, generation=2)],
    )
    rows = {row.access: row for row in view(old, new).rows}
    assert (rows["wifi"].down_mbps, rows["wifi"].up_mbps) == (1.0, 3.0)  # 250 kB; 500 kB of the old one and 250 kB of the new
    assert (rows["3gpp"].down_mbps, rows["3gpp"].up_mbps) == (0.0, 0.0)


def test_an_end_that_comes_back_is_no_burst() -> None:
    """What it counted while it did not answer is not of this interval."""
    silent = look(10.0, {"error": "no answer"}, [path(0, "3gpp"), path(1, "wifi", 500_000)])
    shown = view(silent, after())
    assert [row.down_mbps for row in shown.rows] == [None, None] and shown.rows[1].up_mbps == 2.0
    assert " - " in lines(shown, 200)[3]


def test_only_drops_that_grew_are_told() -> None:
    before, now = copy.deepcopy(BEFORE), after()
    before["counters"] = {"ue": {"path_queue_full": 5, "packets_sent": 1, "mss_clamped": 0}, "upf": {"auth_failed": 3}}
    now["counters"] = {"ue": {"path_queue_full": 9, "packets_sent": 800, "mss_clamped": 7}, "upf": {"auth_failed": 3}}
    assert view(before, now).drops == {"ue path_queue_full": 4}
    now["counters"]["upf"] |= {name: 1 for name in sorted(drop_names())[:9] if name != "auth_failed"}
    assert len(view(before, now).drops) == 6


@pytest.mark.parametrize("columns", [1, 80, 200])
def test_lines_fit_and_show_nothing_that_moves_a_cursor(columns: int) -> None:
    now = after(lab="x\x1b[2Jy", ue=[path(0, "3gpp", reason="a\nb"), path(1, "wifi", state="\x07")])
    found = lines(view(BEFORE, now), columns)
    assert all(len(line) <= max(columns, 20) and line.isprintable() for line in found)
    if columns == 200:
        assert "key 2 (9b7d731d)" in found[0] and [line.split()[0] for line in found[3:5]] == ["3gpp", "wifi"]


@pytest.mark.parametrize("broken", [{"paths": {"ue": {"error": "x"}, "upf": []}}, {"key": None}, {"paths": {}},
                                     {"counters": {"ue": {"error": "x"}, "upf": {}}}])
def test_an_end_that_does_not_answer_is_no_fault(broken: dict[str, Any]) -> None:
    assert lines(view(BEFORE, after() | broken), 120)


def test_codes_words_and_docs_are_one_table() -> None:
    """Each code of the engine has its words, and docs/seeing.md each of the words, with what is meant."""
    codes = {getattr(lib, name): name for name in dir(lib) if name.startswith("REASON_")}
    assert {reason.code for reason in PATH_REASONS} == set(codes) and len({r.words for r in PATH_REASONS}) == len(codes)
    text = (Path(lab.__file__).parent.parent / "docs" / "seeing.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.*) \|$", text.split("## Why a path")[1].split("\n## ")[0], re.M))
    assert {words.removesuffix(" N"): told for words, told in rows.items()} == MEANINGS
    assert {words.removesuffix(" N") for words in rows if words.endswith(" N")} == {r.words for r in PATH_REASONS if r.by_rule}


def test_a_rule_is_named_by_its_number() -> None:
    assert path_reason(lib.REASON_STANDBY_BY_RULE, 2) == "standby by rule 2"
    assert meaning("standby by rule 2") == meaning("standby by rule") != ""
    assert path_reason(lib.REASON_STANDBY_BY_RULE) == "standby by rule" and path_reason(lib.REASON_NO_FLOW, 2) == "no flow"
    assert [without_rule(w) for w in ("standby by rule 2", "no flow", "of my 2")] == ["standby by rule", "no flow", "of my 2"]
    assert path_reason(99) == "reason 99" and meaning("reason 99") == meaning("of my own") == ""


def test_what_waits_for_any_path_is_told_once_an_end() -> None:
    paths = [path(0, "3gpp", shared_queue_bytes=3000), path(1, "wifi", shared_queue_bytes=3000)]
    shown = view(BEFORE, after(ue=paths, upf=paths))
    assert shown.shared_queue == 6000 and lines(shown, 200)[-1].startswith("waiting for any path: 6 kB; dropped: nothing")
