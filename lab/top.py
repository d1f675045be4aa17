"""What `mpq top` shows: each access's rates, RTT, loss and share between two looks at a lab, and why a path carries nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from native import ffi, lib

ENDS = ("ue", "upf")
CUT = "cut: its wire is silent"
NO_PATH = "no path"
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
    down_mbps: float = 0.0
    up_mbps: float = 0.0
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

    def document(self) -> dict[str, Any]:
        return asdict(self)


def _paths(look: dict[str, Any], end: str, access: str) -> list[dict[str, Any]]:
    paths = look["paths"].get(end)
    return [p for p in paths if p.get("access") == access] if isinstance(paths, list) else []


def _sum(paths: Iterable[dict[str, Any]], name: str) -> int:
    return sum(int(p.get(name, 0)) for p in paths)


def _grown(before: dict[str, Any], now: dict[str, Any], end: str, access: str, name: str) -> int:
    """0 when it fell: the paths are another connection's, after a re-key."""
    return max(0, _sum(_paths(now, end, access), name) - _sum(_paths(before, end, access), name))


def _shown(paths: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The path that is told of an access: the one that carries, else the newest."""
    carrying = [p for p in paths if p.get("state") == "active"]
    return max(carrying or paths, key=lambda p: int(p.get("path", 0)), default=None)


def _why(look: dict[str, Any], access: str) -> tuple[str, str]:
    """State of the access's path as the UE has it, and why it carries nothing, as the end says that knows it."""
    if access in look["cut"]:
        mine = _shown(_paths(look, "ue", access))
        return (str(mine.get("state", "")) if mine else "", CUT)
    told = [(end, _shown(_paths(look, end, access))) for end in ENDS]
    here = told[0][1]
    if here is None:
        return "", NO_PATH
    for end, path in told:
        reason = str(path.get("reason") or "") if path is not None else ""
        if reason and reason != "no flow":
            return str(here.get("state", "")), reason if end == "ue" else f"{reason} (says the UPF)"
    both_idle = all(path is not None and path.get("reason") == "no flow" for _, path in told)
    return str(here.get("state", "")), "no flow" if both_idle else ""


def view(before: dict[str, Any], now: dict[str, Any]) -> View:
    """Of two answers to the lab's verb `top`."""
    seconds = max(1e-3, float(now["t"]) - float(before["t"]))
    carried = {
        access: (_grown(before, now, "ue", access, "datagram_bytes_received"),
                 _grown(before, now, "upf", access, "datagram_bytes_received"))
        for access in now["accesses"]
    }
    total = sum(map(sum, carried.values()))
    rows = []
    for access, (down, up) in carried.items():
        state, why = _why(now, access)
        path = _shown(_paths(now, "ue", access))
        sent = sum(_grown(before, now, end, access, "packets_sent") for end in ENDS)
        lost = sum(_grown(before, now, end, access, "packets_lost") for end in ENDS)
        known = path is not None and int(path.get("rtt_smoothed", 0)) > 0
        rows.append(Row(
            access=access,
            path=None if path is None else int(path["path"]),
            state=state,
            why=why,
            down_mbps=round(down * 8 / seconds / 1e6, 3),
            up_mbps=round(up * 8 / seconds / 1e6, 3),
            share=round((down + up) / total, 4) if total else None,
            rtt_ms=round(path["rtt_smoothed"] / 1e6, 2) if path is not None and known else None,
            rtt_min_ms=round(path["rtt_min"] / 1e6, 2) if path is not None and known else None,
            loss_percent=round(100 * min(lost, sent) / sent, 2) if sent else None,
            cwnd=None if path is None else int(path.get("cwnd", 0)),
            queue=sum(_sum(_paths(now, end, access), "queue_bytes") for end in ENDS),
        ))
    key = now.get("key") or {}  # none, or the UE did not answer
    return View(
        float(now["t"]), str(now["lab"]), str(now["scenario"]), key.get("generation"), str(key.get("fingerprint", "")), tuple(rows),
        _drops(before, now),
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


def lines(shown: View, columns: int) -> list[str]:
    """For a terminal so wide; what does not fit is cut off."""
    key = "no key" if shown.generation is None else f"key {shown.generation} ({shown.fingerprint})"
    rows = [list(HEAD)]
    for row in shown.rows:
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
    drops = ", ".join(f"{name} {count}" for name, count in shown.drops.items()) or "nothing"
    whole = [f"{shown.lab}: {shown.scenario}, {shown.t:.1f} s, {key}; rates in Mbit/s", "", *table, "", f"dropped: {drops}"]
    return ["".join(c if c.isprintable() else "?" for c in line)[: max(columns, 20)] for line in whole]
