"""The page of one run. No script, nothing from outside: a policy in its head forbids both, whatever a name in the run may say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lab.report import tables
from lab.report.files import RunFiles
from lab.report.markup import Markup, el, figure, join, number, plain, told
from lab.report.phases import bars, distributions
from lab.report.plots import Band, Line, Times, gauges, stacked, strip
from lab.report.samples import POINTS_MOST, SENDER, finite
from lab.report.style import STYLE
from lab.report.topology import topology

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LINKS = "Downlink", "Uplink"
WAY_NAMES = {"down": "Downlink, from the UPF to the UE", "up": "Uplink, from the UE to the UPF"}
PANELS = (
    ("rtt", "Smoothed round-trip time", "ms"),
    ("cwnd", "Congestion window", "kB"),
    ("queue", "Waiting in front of the path at its sender", "kB"),
    ("wire", "Waiting in the wire's queue", "kB"),
)


def page(run: RunFiles) -> str:
    result = run.result
    title = f"{told(result.get('scenario'))}: {told(result.get('verdict'))}"
    sections = [
        ("checks", "Verdict", _verdict(result)),
        ("topology", "Where it went", _topology(run)),
        ("phases", "Goodput", _goodput(run)),
        ("time", "Over time", _time(run)),
        ("delay", "One-way delay", _delay(run)),
        ("tables", "Figures", _figures(run)),
        ("drops", "Dropped, by name", _drops(result)),
        ("environment", "Environment", _environment(run)),
    ]
    body = [
        _header(run),
        el("nav", *(join(el("a", name, href=f"#{key}"), " ") for key, name, _ in sections)),
        *(el("section", el("h2", name), content, id=key) for key, name, content in sections),
    ]
    return document(title, *body)


def document(title: str, *body: object) -> str:
    """A page that stands alone."""
    return "<!DOCTYPE html>\n" + el("html", _head(title), "\n", el("body", *body), lang="en") + "\n"


def _head(title: str) -> Markup:
    return el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name_="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(STYLE)),
    )


def empty(words: str) -> Markup:
    return el("p", words, class_="empty")


def _figure(caption: object, drawing: Markup, legend: Sequence[str] = ()) -> Markup:
    keys = join(*(join(el("span", class_=f"key a{i}"), plain(name)) for i, name in enumerate(legend)))
    return el("figure", el("figcaption", caption, keys), el("div", drawing, class_="plot"))


def _header(run: RunFiles) -> Markup:
    result = run.result
    verdict = str(result.get("verdict"))
    about = str(run.scenario.get("about") or "")
    error = str(result.get("error") or "")
    fatal = [c for c in result["checks"] if c.get("fatal", True)]
    failed = sum(c.get("ok") is not True for c in fatal)
    count = f"{len(fatal) - failed} of {len(fatal)} checks hold" if fatal else "no checks asked for"
    facts = join(figure(result, "duration_s"), " s, ", count, ", ", run.directory.resolve().name)
    return join(
        el(
            "h1",
            figure(result, "scenario"),
            " ",
            el("span", figure(result, "verdict"), class_=f"verdict {'pass' if verdict == 'pass' else 'fail'}"),
        ),
        el("p", about) if about else "",
        el("p", facts, class_="soft"),
        el("p", el("strong", "The run did not reach its end: "), figure(result, "error"), class_="alert") if error else "",
    )


def _verdict(result: dict[str, Any]) -> Markup:
    checks, aims = tables.checks(result, fatal=True), tables.checks(result, fatal=False)
    return join(
        checks or empty("This scenario asks for no checks."),
        join(el("h3", "Aims"), el("p", "Told with what they ask for; no run fails for them.", class_="soft"), aims) if aims else "",
    )


def _topology(run: RunFiles) -> Markup:
    if not any(isinstance(run.result["wires"].get(name), dict) for name in run.names):
        return empty("No wire was plugged in: the lab ended before its accesses were there.")
    caption = "Frames on each access's wire over the whole run, signalling and headers included; a line is as thick as its octets."
    return _figure(caption, topology(run.result, run.names))


def _goodput(run: RunFiles) -> Markup:
    drawing = bars(run.result["phases"], run.names)
    if drawing is None:
        return empty("No phase has goodput.")
    caption = (
        "Bars: inner packets by path, over the length of the phase. Tick: goodput at the receiving application, over the time "
        "it got anything. Frame: the wires' rates together."
    )
    return _figure(caption, drawing, run.names)


def times(run: RunFiles) -> Times:
    """To the end of the samples and the last phase: what taking the lab down and reading its capture took is not in it."""
    end = max([run.samples.end, *(finite(phase.get("to_s")) or 0.0 for phase in run.result["phases"])])
    known = {str(p.get("id")): n for n, p in reversed(list(enumerate(run.result["phases"], 1)))}
    lengths = {str(p.get("id")): (finite(p.get("to_s")) or 0.0) - (finite(p.get("from_s")) or 0.0) for p in run.result["phases"]}
    found = []
    for position, (begin, name) in enumerate(run.phases_began):
        following = run.phases_began[position + 1][0] if position + 1 < len(run.phases_began) else end
        length = lengths.get(name)
        until = following if length is None else min(begin + max(0.0, length), following)
        found.append(Band(known.get(name, position + 1), name, begin, min(until, end)))
    return Times(end, tuple(found), tuple(mark for mark in run.marks if mark.t <= end))


def _time(run: RunFiles) -> Markup:
    samples = run.samples
    if len(samples.kept) < 2:
        return empty(
            "No samples: the run ended before both ends had been asked twice."
            + (f" ({samples.errors} times one of them did not answer.)" if samples.errors else "")
        )
    when = times(run)
    lines = {way: [Line(name, f"a{i}", [samples.rates(way, name)]) for i, name in enumerate(run.names)] for way in SENDER}
    note = f"{number(samples.count)} samples, one every 100 ms or so"
    if samples.count > len(samples.kept):
        note += f"; {len(samples.kept)} points are drawn (at most {2 * POINTS_MOST}): means of rates, the largest of all else"
    note += f"; {samples.errors} times an end did not answer" if samples.errors else ""
    note += f"; {run.marks_left_out} more steps are not marked" if run.marks_left_out else ""
    note += (
        ". Grounds and names above the plots are phases, by number where the name is too long. A cross is a cut, a triangle the "
        "restoring, a diamond a re-key, a square another step."
    )
    parts: list[object] = [el("p", note, class_="soft")]
    parts.append(_figure(join(el("b", "State of each path, at both ends. "), *_state_keys()), strip(samples, when)))
    parts.append(tables.reasons(samples) or "")
    for way in ("down", "up"):
        parts.append(el("h3", WAY_NAMES[way]))
        caption = join(el("b", "Goodput by path, stacked. "), "Inner packets that came out of the tunnel.")
        parts.append(_figure(caption, stacked(f"goodput.{way}", f"Goodput by path, {way}link", lines[way], when), run.names))
        for name, words, unit in PANELS:
            drawn = _panel(run, when, name, words, unit, way)
            parts.append(drawn if drawn is not None else "")
    return join(*parts)


def _state_keys() -> list[Markup]:
    words = (
        ("active", "carries"),
        ("idle", "could, without traffic"),
        ("standby", "standby"),
        ("suspect", "suspect"),
        ("failed", "failed"),
        ("none", "no path"),
    )
    return [join(el("span", class_=f"key state-{style}"), word) for style, word in words]


def _panel(run: RunFiles, when: Times, name: str, words: str, unit: str, way: str) -> Markup | None:
    of = way if name == "wire" else SENDER[way]
    lines = [Line(access, f"a{i}", run.samples.gauge(name, of, access)) for i, access in enumerate(run.names)]
    if name == "queue" and any(v for piece in run.samples.gauge("shared", of, "") for _, v in piece):
        lines.append(Line("shared", "a2", run.samples.gauge("shared", of, "")))
    if not any(line.points for line in lines):
        return None
    measured = "" if name == "wire" else f" As the {'UE' if of == 'ue' else 'UPF'} has it."
    return _figure(join(el("b", f"{words}. "), measured), gauges(f"{name}.{way}", f"{words}, {way}link", unit, lines, when))


def _delay(run: RunFiles) -> Markup:
    plots = distributions(run.delays)
    if not plots:
        return empty("No phase had a probe whose delays are told.")
    caption = (
        "What share of the probe's packets had arrived within so many milliseconds from when they were due; packets that were "
        "lost are not in it. One line for each turn."
    )
    return el("figure", el("figcaption", caption), el("div", *plots, class_="small"))


def _figures(run: RunFiles) -> Markup:
    result = run.result
    found = [
        *tables.phases(result, run.names),
        ("Outages", tables.outages(result)),
        ("Keys, by fingerprint", tables.keys(result)),
        ("Paths of the last connection", tables.paths(result)),
        ("Wires", tables.wires(result, run.names)),
        ("Put back into order", tables.reorder(result)),
    ]
    told_of = [join(el("h3", name), drawn) for name, drawn in found if drawn is not None]
    if not told_of:
        return empty("Nothing was measured.")
    return join(el("p", "As in result.json; docs/figures.md says how each is measured.", class_="soft"), *told_of)


def _drops(result: dict[str, Any]) -> Markup:
    found = tables.drops(result)
    if found is None:
        return empty("Neither end dropped a packet." if result["drops"] else "No counters were read.")
    return found


def _environment(run: RunFiles) -> Markup:
    result = run.result
    rows: list[object] = []

    def row(name: str, *value: object) -> None:
        rows.extend((el("dt", name), el("dd", *value)))

    for name in result["versions"]:
        row(name, figure(result, "versions", name))
    for name in result["machine"]:
        row(name, figure(result, "machine", name))
    row("wires in real time", figure(result, "wire_realtime"))
    row("lab was up after", figure(result, "up_s"), " s")
    row("turns", figure(result, "repeat"))
    for key, name in (("seed", "seed"), ("congestion_control", "congestion control"), ("qlog", "qlog")):
        if key in run.scenario:
            row(name, told(run.scenario[key]))
    scenario = {key: value for key, value in run.scenario.items() if key not in ("document", "about")}
    source = el("details", el("summary", "The scenario, as it ran"), el("pre", json.dumps(scenario, indent=1))) if scenario else ""
    return join(el("dl", *rows), source)
