"""The tables of the page. Every cell of a figure is `markup.figure`: what stands in result.json, and where it stands there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lab.reasons import NO_PATH, meaning
from lab.report.markup import Markup, at, digits_of, el, figure, told
from lab.report.samples import Samples
from lab.report.topology import FLOW_HEAD, flows

ROWS_MOST = 300
Column = tuple[str, tuple[str | int, ...]]


def table(head: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1, words: Sequence[int] = ()) -> Markup:
    """`left`: so many columns are words; `words`: numbers of columns that may be long. At most ROWS_MOST rows."""

    def cell(tag: str, number: int, value: object) -> Markup:
        if isinstance(value, Markup) and value.startswith("<td"):
            return value
        style = "words" if number in words and tag == "td" else "left" if number < left or number in words else None
        return el(tag, value, class_=style)

    more = el("p", f"{len(rows) - ROWS_MOST} more in result.json", class_="soft") if len(rows) > ROWS_MOST else ""
    body = [el("tr", *(cell("td", i, value) for i, value in enumerate(row))) for row in rows[:ROWS_MOST]]
    return el(
        "div",
        el("table", el("thead", el("tr", *(cell("th", i, h) for i, h in enumerate(head)))), el("tbody", *body)),
        more,
        class_="wide",
    )


def checks(result: dict[str, Any], *, fatal: bool) -> Markup | None:
    rows: list[list[object]] = []
    for number, check in enumerate(result["checks"]):
        if bool(check.get("fatal", True)) is not fatal:
            continue
        ok = check.get("ok") is True
        word, style = ("ok", "pass") if ok else ("FAILED", "fail") if fatal else ("missed", "missed")
        value = el("span", figure(result, "checks", number, "value"), " ", told(check.get("unit")) if check.get("unit") else "")
        rows.append(
            [
                el("td", word, class_=f"left {style}", data_of=f"/checks/{number}/ok"),
                told(check.get("id")),
                value,
                told(check.get("aim")),
                str(check.get("why", "")),
            ]
        )
    if not rows:
        return None
    return table(["", "check" if fatal else "aim", "found", "asked for", "why"], rows, left=4, words=(2, 3, 4))


PHASE: tuple[Column, ...] = (
    ("from, s", ("from_s",)),
    ("to, s", ("to_s",)),
    ("goodput, Mbit/s", ("goodput_mbps",)),
    ("wires, Mbit/s", ("wire_sum_mbps",)),
    ("of the wires", ("share_of_wires",)),
    ("aggregation benefit", ("aggregation_benefit",)),
    ("lost", ("lost",)),
    ("reordered", ("reordered",)),
)
PROBE: tuple[Column, ...] = (
    ("longest gap, ms", ("longest_gap_ms",)),
    ("stalls", ("stalls",)),
    *((f"{way} {of}, ms", ("delay_ms", way, of)) for way in ("up", "down") for of in ("p50", "p95", "p99", "max")),
    ("reorder depth", ("reorder_depth",)),
    ("duplicates", ("duplicate_share",)),
)
COST: tuple[Column, ...] = (
    ("idlest wire, kbit/s", ("idle_path_kbps",)),
    ("UE, µs/packet", ("cpu_us_per_packet", "ue")),
    ("UPF, µs/packet", ("cpu_us_per_packet", "upf")),
    ("page p50, s", ("page_load_s", "p50")),
    ("page max, s", ("page_load_s", "max")),
    ("pages", ("page_load_s", "pages")),
    ("turns", ("turns",)),
)


def of_list(
    result: dict[str, Any],
    key: str,
    columns: Sequence[Column],
    name: Callable[[int, dict[str, Any]], list[object]],
    head: Sequence[str],
    *,
    bare: bool = False,
    why_not: Callable[[dict[str, Any]], str] = lambda _: "",
) -> Markup | None:
    """Rows of a list in result.json; columns that say nothing of any, and (not `bare`) rows that say nothing, are left out. All
    rows of a column have the same digits behind the point."""
    entries = result[key]
    used = [(word, way) for word, way in columns if any(at(entry, way) not in (None, "") for entry in entries)]
    digits = [digits_of(at(entry, way) for entry in entries) for _, way in used]
    whys = [why_not(entry) for entry in entries]
    rows = [
        [
            *name(number, entry),
            *(figure(result, key, number, *way, digits=d) for (_, way), d in zip(used, digits, strict=True)),
            *[whys[number]] * any(whys),
        ]
        for number, entry in enumerate(entries)
        if bare or any(at(entry, way) not in (None, "") for _, way in used)
    ]
    if not rows:
        return None
    heads = [*head, *(word for word, _ in used), *["why not"] * any(whys)]
    return table(heads, rows, left=len(head), words=(len(heads) - 1,) if any(whys) else ())


def _phase_name(number: int, phase: dict[str, Any]) -> list[object]:
    carrier = phase.get("carrier")
    return [f"{number + 1}", told(phase.get("id")) + (f" ({carrier})" if carrier not in (None, "tunnel") else "")]


def phases(result: dict[str, Any], names: Sequence[str]) -> list[tuple[str, Markup | None]]:
    """What they carried, what the probe saw, what they cost; each phase in those where it has anything."""
    per_path: list[Column] = [(f"{name}, Mbit/s", ("per_path_mbps", name)) for name in names]
    spreads: list[Column] = [(f"goodput {word}", ("spread", "goodput_mbps", i)) for i, word in enumerate(("least", "most"))]
    windows: list[Column] = [(f"window {name}, octets", ("cwnd_octets", name)) for name in names]
    head = ["#", "phase"]
    carried = [*PHASE[:3], *per_path, *PHASE[3:], *spreads]
    return [
        ("Carried", of_list(result, "phases", carried, _phase_name, head, bare=True, why_not=_why_not)),
        ("Seen by the probe", of_list(result, "phases", PROBE, _phase_name, head)),
        ("Cost", of_list(result, "phases", (*COST, *windows), _phase_name, head)),
    ]


def _why_not(phase: dict[str, Any]) -> str:
    return str(phase.get("error") or phase.get("skipped") or "")


OUTAGE: tuple[Column, ...] = (
    ("at, s", ("at_s",)),
    ("longest gap, ms", ("longest_gap_ms",)),
    ("fail over, ms", ("fail_over_ms",)),
    ("back in use, ms", ("back_in_use_ms",)),
    ("probes lost", ("lost",)),
    ("turn", ("turn",)),
)
KEYS: tuple[Column, ...] = (
    ("reason", ("reason",)),
    ("UE", ("ue",)),
    ("AMF", ("amf",)),
    ("UPF", ("upf",)),
    ("delivered, ms", ("delivered_ms",)),
)


def outages(result: dict[str, Any]) -> Markup | None:
    return of_list(
        result, "outages", OUTAGE, lambda _, o: [told(o.get("cause")), told(o.get("phase"))], ["cause", "phase"], bare=True
    )


def keys(result: dict[str, Any]) -> Markup | None:
    return of_list(result, "keys", KEYS, lambda n, _: [figure(result, "keys", n, "generation")], ["generation"], bare=True)


def paths(result: dict[str, Any]) -> Markup | None:
    """Of the last connection, as the UE had it at the end."""
    ways: tuple[Column, ...] = (
        ("packets", ("packets",)),
        ("octets", ("bytes",)),
        ("lost", ("lost",)),
        ("RTT p50, ms", ("rtt_ms", "p50")),
        ("RTT p99, ms", ("rtt_ms", "p99")),
    )
    rows = [
        [
            name,
            *(figure(result, "paths", name, word) for word in ("state", "reason")),
            *(figure(result, "paths", name, *w) for _, w in ways),
        ]
        for name in result["paths"]
    ]
    return table(["path", "state", "why not used", *(word for word, _ in ways)], rows, left=3) if rows else None


def reasons(samples: Samples) -> Markup | None:
    """Why paths carried nothing, for how long, as each end had it."""
    rows: list[list[object]] = []
    for (access, end, state, reason), seconds in sorted(samples.lengths().items(), key=lambda item: (item[0][:2], -item[1])):
        words = reason or ("" if state else NO_PATH)
        if words:
            rows.append([access, end.upper(), state or "–", words, f"{seconds:.1f}", meaning(words)])
    return table(["path", "end", "state", "why not used", "for s", "that is"], rows, left=4, words=(5,)) if rows else None


def drops(result: dict[str, Any]) -> Markup | None:
    """Those that counted anything, the most first."""
    counted = [(name, count) for name, count in result["drops"].items() if isinstance(count, int) and count]
    rows = [[name, figure(result, "drops", name)] for name, _ in sorted(counted, key=lambda pair: -pair[1])]
    return table(["counter", "packets"], rows) if rows else None


def wires(result: dict[str, Any], names: Sequence[str]) -> Markup | None:
    known = [name for name in names if isinstance(result["wires"].get(name), dict)]
    return table(FLOW_HEAD, flows(result, known)) if known else None


def reorder(result: dict[str, Any]) -> Markup | None:
    """What the receivers' reordering did, when any packet waited."""
    ends = [
        end
        for end, of in result["reorder"].items()
        if isinstance(of, dict) and any(of.get(word) for word in ("waited", "lost", "late"))
    ]
    words = list(dict.fromkeys(word for end in ends for word in result["reorder"][end]))
    rows = [[end, *(figure(result, "reorder", end, word) for word in words)] for end in ends]
    return table(["receiver", *(word.replace("_", " ") for word in words)], rows) if rows else None
