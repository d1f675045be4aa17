"""What paths of several connections carried together."""

from __future__ import annotations

from typing import Any

from lab.paths import COUNTED, PathTotals


def path(access: str, generation: int, number: int, count: int) -> dict[str, Any]:
    return {"access": access, "generation": generation, "path": number, **dict.fromkeys(COUNTED, count)}


def sums(totals: PathTotals) -> dict[str, int]:
    found = totals.sums()
    assert all(len(set(of.values())) == 1 for of in found.values())
    return {access: of["packets_sent"] for access, of in found.items()}


def test_a_rekey_begins_new_paths_and_forgets_none() -> None:
    totals = PathTotals()
    totals.see([path("3gpp", 1, 0, 10), path("wifi", 1, 1, 5)])
    totals.see([path("3gpp", 1, 0, 12), path("wifi", 1, 1, 6), path("wifi", 2, 0, 1)])  # the overlap: the race was won over wifi
    totals.see([path("wifi", 2, 0, 3), path("3gpp", 2, 1, 4)])
    assert sums(totals) == {"3gpp": 12 + 4, "wifi": 6 + 3}


def test_a_path_that_is_opened_anew_and_a_process_that_begins_anew() -> None:
    totals = PathTotals()
    totals.see([path("wifi", 1, 1, 5)])
    totals.see([path("wifi", 1, 2, 7)])  # path 1 was abandoned
    totals.see([path("wifi", 1, 2, 3)])  # another process, the same generation and path: it counts from 0
    assert sums(totals) == {"wifi": 5 + 7 + 3}


def test_what_is_no_number_counts_as_none() -> None:
    totals = PathTotals()
    totals.see([{"access": "wifi", "packets_sent": "many", "generation": None, "path": 0}])
    assert sums(totals) == {"wifi": 0}
