"""`mpq top`: rates, shares and reasons from two looks at a lab."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lab.top import CUT, NO_PATH, drop_names, lines, view


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
    "by rule": (after(ue=[path(0, "3gpp"), path(1, "wifi", state="standby", reason="standby by rule")]), "standby by rule"),
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


def test_a_new_connection_gives_no_negative_rate() -> None:
    """After a re-key the paths are others', and begin at 0."""
    old = look(10.0, [path(0, "3gpp", 9_000_000), path(1, "wifi", 9_000_000)], [path(0, "3gpp", 5), path(1, "wifi", 5)])
    assert all(row.down_mbps == row.up_mbps == 0 for row in view(old, after(upf=[path(0, "3gpp")])).rows)


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
