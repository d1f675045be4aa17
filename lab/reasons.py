"""Why an access carries nothing, from what both ends and the wires say: one answer for `mpq status`, `mpq top` and the report."""

from __future__ import annotations

from typing import Any

from mpquic.path_reasons import PATH_REASONS

CUT = "cut: its wire is silent"
NO_PATH = "no path"
NO_FLOW = "no flow"
MEANINGS = {
    **{reason.words: reason.meaning for reason in PATH_REASONS if reason.words},
    CUT: "`mpq path cut` or a step of the scenario did that; the ends have to find out",
    NO_PATH: "the connection has no path over this access: it was refused, abandoned, or is not open yet",
}
"""By words; in docs/seeing.md as they stand here."""


def without_rule(words: str) -> str:
    """`standby by rule 2`: standby by rule."""
    kind, _, rule = words.rpartition(" ")
    return kind if rule.isdigit() and kind in MEANINGS else words


def meaning(words: str) -> str:
    """Of a reason, also one with the number of its rule; empty of what is none."""
    return MEANINGS.get(without_rule(words), "")


def why(ue: dict[str, Any] | None, upf: dict[str, Any] | None, *, cut: bool) -> str:
    """Of an access, by the path that each end shows (None: it has none). The UE's reason comes first; that it has no flow for a
    path says something only when the UPF has none, either."""
    if cut:
        return CUT
    if ue is None:
        return NO_PATH
    told = [str(path.get("reason") or "") if path is not None else "" for path in (ue, upf)]
    for reason, whose in zip(told, ("", " (says the UPF)"), strict=True):
        if reason and reason != NO_FLOW:
            return reason + whose
    return NO_FLOW if told == [NO_FLOW, NO_FLOW] else ""
