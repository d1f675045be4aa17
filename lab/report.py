"""`report.html` of a run: one page without anything from outside. What was carried over which access and when, the steps that were
taken, and the figures and checks of `result.json`."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.sampler import ACCESS_TYPES

WIDTH, HEIGHT, LEFT, TOP = 960, 240, 56, 16
COLOURS = ("#1f6feb", "#d1730a")
STEPS = ("cut", "restore", "rekey", "shape")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; } th, td { padding: .15rem .7rem; text-align: right; }
th { border-bottom: 1px solid #8c959f; } td:first-child, th:first-child { text-align: left; }
.pass { color: #116329; } .fail { color: #b3261e; font-weight: 600; } svg { width: 100%; height: auto; } text { font-size: 12px; }
"""


@dataclass(frozen=True, slots=True)
class Series:
    """Mbit/s over seconds, of one access."""

    name: str
    points: tuple[tuple[float, float], ...]


def objects(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Of a file of JSON lines, whose last one a kill may have cut."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def series(lines: Iterable[str], direction: str, names: tuple[str, ...]) -> list[Series]:
    """From metrics.jsonl: octets that came out of the tunnel so far, per access, at each sample."""
    times: list[float] = []
    octets: list[list[int]] = []
    for sample in objects(lines):
        if direction in sample:
            times.append(float(sample["t"]))
            octets.append([int(v) for v in sample[direction]])
    found = []
    for number, name in enumerate(names):
        points = [
            (t, (now[number] - before[number]) * 8 / (t - earlier) / 1e6)
            for earlier, t, before, now in zip(times, times[1:], octets, octets[1:], strict=False)
            if t > earlier
        ]
        found.append(Series(name, tuple(points)))
    return found


def plot(title: str, lines: list[Series], marks: list[tuple[float, str]]) -> str:
    """An SVG of goodput per access, with a line where a step was taken."""
    end = max((p[0] for s in lines for p in s.points), default=1.0)
    top = max((p[1] for s in lines for p in s.points), default=1.0) * 1.1 or 1.0

    def x(t: float) -> float:
        return round(LEFT + t / end * (WIDTH - LEFT - 8), 1)

    def y(value: float) -> float:
        return round(TOP + (1 - value / top) * (HEIGHT - TOP - 24), 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for quarter in range(5):
        value = top * quarter / 4
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 8}" y1="{y(value)}" y2="{y(value)}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4}" text-anchor="end">{value:.0f}</text>')
    for second in range(0, int(end) + 1, 5):
        parts.append(f'<text x="{x(second)}" y="{HEIGHT - 6}" text-anchor="middle">{second} s</text>')
    for at, text in marks:
        parts.append(f'<line x1="{x(at)}" x2="{x(at)}" y1="{TOP}" y2="{HEIGHT - 24}" stroke="#8c959f" stroke-dasharray="3 3"/>')
        parts.append(f'<text x="{x(at) + 3}" y="{TOP + 10}">{html.escape(text)}</text>')
    for number, line in enumerate(lines):
        path = " ".join(f"{x(t)},{y(v)}" for t, v in line.points)
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(f'<text x="{LEFT + 8 + 90 * number}" y="{TOP + 26}" fill="{colour}">{html.escape(line.name)}</text>')
    return "".join(parts) + "</svg>"


def table(head: list[str], rows: list[list[Any]]) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, float):
            value = f"{value:g}"
        return html.escape("-" if value is None else str(value))

    body = "".join("<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + "</tr>" for row in rows)
    return "<table><tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + f"</tr>{body}</table>"


def marks_of(events: Iterable[str]) -> list[tuple[float, str]]:
    found = []
    for event in objects(events):
        if event.get("node") == "lab" and event.get("event") in STEPS:
            found.append((float(event["t"]), f"{event['event']} {event.get('access') or event.get('by') or ''}".strip()))
    return found


def page(result: dict[str, Any], metrics: list[str], events: list[str], names: tuple[str, ...]) -> str:
    marks = marks_of(events)
    checks = "".join(
        f'<tr><td class="{"pass" if c["ok"] else "fail"}">{"ok" if c["ok"] else "FAILED"}</td><td>{html.escape(c["id"])}</td>'
        f'<td>{html.escape(str(c["value"]))} {html.escape(c["unit"])}</td><td>{html.escape(c["aim"])}</td>'
        f"<td>{html.escape(c['why'])}</td></tr>"
        for c in result["checks"]
    )
    phases = [
        [p["id"], p["goodput_mbps"], *(p["per_path_mbps"].get(n) for n in names),
         p["share_of_wires"], p["lost"], p["longest_gap_ms"]]
        for p in result["phases"]
    ]
    keys = [[k["generation"], k["reason"], k["ue"], k["amf"], k["upf"], k["delivered_ms"]] for k in result["keys"]]
    drops = [[name, count] for name, count in result["drops"].items() if count]
    verdict = result["verdict"]
    return "\n".join([
        '<!doctype html><html lang="en"><meta charset="utf-8">',
        f"<title>{html.escape(result['scenario'])}: {verdict}</title><style>{STYLE}</style>",
        f'<h1>{html.escape(result["scenario"])}: <span class="{verdict}">{verdict}</span></h1>',
        f"<p>{result['duration_s']:g} s, {html.escape(json.dumps(result['machine']))}</p>",
        "<h2>Downlink, Mbit/s at the UE</h2>", plot("downlink", series(metrics, "down", names), marks),
        "<h2>Uplink, Mbit/s at the UPF</h2>", plot("uplink", series(metrics, "up", names), marks),
        f"<h2>Checks</h2><table>{checks}</table>",
        "<h2>Phases</h2>", table(["phase", "Mbit/s", *names, "of the wires", "lost", "longest gap ms"], phases),
        "<h2>Keys (fingerprints)</h2>", table(["generation", "reason", "UE", "AMF", "UPF", "delivered ms"], keys),
        "<h2>Dropped, by name</h2>", table(["counter", "packets"], drops), "</html>", "",
    ])


def access_names(run_dir: Path) -> tuple[str, ...]:
    """3GPP first, as the samples have them; from the scenario that stands in the run."""
    accesses = json.loads((run_dir / "scenario.yaml").read_text())["scenario"]["accesses"]
    return tuple(a["name"] for a in sorted(accesses, key=lambda a: ACCESS_TYPES.index(a["type"])))


def write_report(run_dir: Path) -> Path:
    """LabError when the run has no result."""
    try:
        names = access_names(run_dir)
        result = json.loads((run_dir / "result.json").read_text())
        events = (run_dir / "events.jsonl").read_text(errors="replace").splitlines()
        metrics = run_dir / "metrics.jsonl"
        lines = metrics.read_text(errors="replace").splitlines() if metrics.exists() else []
        text = page(result, lines, events, names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{run_dir}: no result to report: {type(error).__name__}: {error}") from None
    path = run_dir / "report.html"
    path.write_text(text)
    return path
