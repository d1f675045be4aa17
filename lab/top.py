"""What `mpq top` shows: each access's rates, RTT, loss and share between two looks at a lab, and why a path carries nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from lab.paths import shared_queue, shown
from lab.reasons import why
from native import ffi, lib

ENDS = ("ue", "upf")
DROPS_MOST = 6  # that are named; the largest first
HEAD = ("access", "path", "state", "down", "up", "share", "rtt", "least", "loss", "window", "queue", "why not used")
WORDS = ("access", "state", "why not used")


@dataclass(frozen=True, slots=True)
class Row:
    """Of one access, over the time between two looks. Mbit/s, ms, per cent, octets; None: not known."""

    access: str
    path: int | None
    state: str
    why: str
    down_mbps: float | None = None
    up_mbps: float | None = None
    share: float | None = None
    rtt_ms: float | None = None
    rtt_min_ms: float | None = None
    loss_percent: float | None = None
    cwnd: int | None = None
    queue: int = 0


@dataclass(frozen=True, slots=True)
class View:
    t: float
    lab: str
    scenario: str
    generation: int | None
    fingerprint: str
    rows: tuple[Row, ...]
    drops: dict[str, int]
    shared_queue: int = 0
    """octets at both ends that wait for whichever path may carry them first"""

    def document(self) -> dict[str, Any]:
        return asdict(self)


def _paths(look: dict[str, Any], end: str, access: str) -> list[dict[str, Any]]:
    paths = look["paths"].get(end)
    return [p for p in paths if p.get("access") == access] if isinstance(paths, list) else []


def _counts(look: dict[str, Any], end: str, access: str, name: str) -> dict[tuple[Any, ...], int] | None:
    """By connection and path; None when the end did not answer."""
    if not isinstance(look["paths"].get(end), list):
        return None
    return {tuple(p.get(key) for key in ("seid", "generation", "path")): int(p.get(name, 0)) for p in _paths(look, end, access)}


def _sum(paths: Iterable[dict[str, Any]], name: str) -> int:
    return sum(int(p.get(name, 0)) for p in paths)


def _grown(before: dict[str, Any], now: dict[str, Any], end: str, access: str, name: str) -> int | None:
    """Of each connection by itself: what a new one (after a re-key) has counted is all of this time, what an old one had is over.
    None when the end did not answer both times."""
    old, new = _counts(before, end, access, name), _counts(now, end, access, name)
    return None if old is None or new is None else sum(max(0, count - old.get(of, 0)) for of, count in new.items())


def _together(*counts: int | None) -> int:
    return sum(count for count in counts if count is not None)


def _rate(octets: int | None, seconds: float) -> float | None:
    return None if octets is None else round(octets * 8 / seconds / 1e6, 3)


def view(before: dict[str, Any], now: dict[str, Any]) -> View:
    """Of two answers to the lab's verb `top`."""
    seconds = max(1e-3, float(now["t"]) - float(before["t"]))
    carried = {
        access: (_grown(before, now, "ue", access, "datagram_bytes_received"),
                 _grown(before, now, "upf", access, "datagram_bytes_received"))
        for access in now["accesses"]
    }
    total = sum(_together(*both) for both in carried.values())
    rows = []
    for access, (down, up) in carried.items():
        path, upf_path = (shown(_paths(now, end, access)) for end in ENDS)
        sent = _together(*(_grown(before, now, end, access, "packets_sent") for end in ENDS))
        lost = _together(*(_grown(before, now, end, access, "packets_lost") for end in ENDS))
        known = path is not None and int(path.get("rtt_smoothed", 0)) > 0
        rows.append(Row(
            access=access,
            path=None if path is None else int(path["path"]),
            state="" if path is None else str(path.get("state", "")),
            why=why(path, upf_path, cut=access in now["cut"]),
            down_mbps=_rate(down, seconds),
            up_mbps=_rate(up, seconds),
            share=round(_together(down, up) / total, 4) if total else None,
            rtt_ms=round(path["rtt_smoothed"] / 1e6, 2) if path is not None and known else None,
            rtt_min_ms=round(path["rtt_min"] / 1e6, 2) if path is not None and known else None,
            loss_percent=round(100 * min(lost, sent) / sent, 2) if sent else None,
            cwnd=None if path is None else int(path.get("cwnd", 0)),
            queue=sum(_sum(_paths(now, end, access), "queue_bytes") for end in ENDS),
        ))
    key = now.get("key") or {}  # none, or the UE did not answer
    return View(
        float(now["t"]), str(now["lab"]), str(now["scenario"]), key.get("generation"), str(key.get("fingerprint", "")), tuple(rows),
        _drops(before, now), sum(shared_queue(told) for end in ENDS if isinstance(told := now["paths"].get(end), list)),
    )


def _drops(before: dict[str, Any], now: dict[str, Any]) -> dict[str, int]:
    """The engines' own counters of drops that grew since."""
    known = drop_names()
    found: dict[str, int] = {}
    for end in ENDS:
        old = before["counters"].get(end, {})
        for name, value in now["counters"].get(end, {}).items():
            grown = value - old.get(name, 0) if isinstance(value, int) else 0
            if grown > 0 and name in known:
                found[f"{end} {name}"] = grown
    return dict(sorted(found.items(), key=lambda item: -item[1])[:DROPS_MOST])


@cache
def drop_names() -> frozenset[str]:
    names = (ffi.string(lib.counter_name(i)).decode() for i in range(lib.counter_count()) if lib.counter_is_drop(i))
    return frozenset(names)


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}{unit}"


def lines(seen: View, columns: int) -> list[str]:
    """For a terminal so wide; what does not fit is cut off."""
    key = "no key" if seen.generation is None else f"key {seen.generation} ({seen.fingerprint})"
    rows = [list(HEAD)]
    for row in seen.rows:
        rows.append([
            row.access, "-" if row.path is None else str(row.path), row.state or "-", _number(row.down_mbps, ""),
            _number(row.up_mbps, ""), "-" if row.share is None else f"{100 * row.share:.0f} %", _number(row.rtt_ms, " ms"),
            _number(row.rtt_min_ms, " ms"), _number(row.loss_percent, " %"),
            "-" if row.cwnd is None else f"{row.cwnd / 1000:.0f} kB", f"{row.queue / 1000:.0f} kB", row.why,
        ])
    widths = [max(len(texts[i]) for texts in rows) for i in range(len(HEAD))]
    table = []
    for texts in rows:
        cells = [text.ljust(widths[i]) if HEAD[i] in WORDS else text.rjust(widths[i]) for i, text in enumerate(texts)]
        table.append("  ".join(cells).rstrip())
    drops = ", ".join(f"{name} {count}" for name, count in seen.drops.items()) or "nothing"
    waiting = f"waiting for any path: {seen.shared_queue / 1000:.0f} kB; dropped: {drops}"
    whole = [f"{seen.lab}: {seen.scenario}, {seen.t:.1f} s, {key}; rates in Mbit/s", "", *table, "", waiting]
    return ["".join(c if c.isprintable() else "?" for c in line)[: max(columns, 20)] for line in whole]
