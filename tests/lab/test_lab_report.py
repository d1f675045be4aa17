"""report.html: well formed, nothing from outside, every plot with its points, every figure as result.json has it, names as text."""

from __future__ import annotations

import copy
import json
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_kit import SVG, Page, at, path, points, result, sample, write

from lab.errors import LabError
from lab.report import write_report
from lab.report.chart import LINE, Scale, rising_scale, round_step, spread_labels
from lab.report.markup import el, escape, number
from lab.report.samples import POINTS_MOST, Samples
from lab.report.style import DARK, LIGHT

RESULT = result()
TIMES = [2.0 + n / 10 for n in range(300)]
OVER_TIME = {"states", *(f"{name}.{way}" for name in ("goodput", "rtt", "cwnd", "queue", "wire") for way in ("up", "down"))}
LINES = {f"{name}.{way}" for name in ("rtt", "cwnd", "queue", "wire") for way in ("up", "down")}


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Page(write_report(write(tmp_path, RESULT, [sample(t) for t in TIMES])))


def names_in(plot: Any) -> dict[str, Any]:
    return {str(e.get("data-series")): e for e in plot.iter(f"{SVG}path") if e.get("data-series")}


def test_every_plot_is_there_with_as_many_points_as_samples(page: Page) -> None:
    plots = page.plots()
    assert set(plots) == {"topology", "phases", "delay.cut"} | OVER_TIME
    for name in LINES:
        series = names_in(plots[name])
        assert {"3gpp", "wifi"} <= set(series), name
        for line in series.values():
            assert len(points(line)) == int(line.get("data-points")) == len(TIMES), name
    for name in ("goodput.up", "goodput.down"):  # a rate lies between two samples
        assert {len(points(line)) for line in names_in(plots[name]).values()} == {len(TIMES) - 1}
    assert int(plots["states"].get("data-points", 0)) == len(TIMES)
    assert len(points(names_in(plots["delay.cut"])["cut.up.1"])) > 100


def test_rates_are_differences_of_what_arrived(page: Page) -> None:
    found = Samples.of([sample(t) for t in TIMES], ("3gpp", "wifi"))
    assert {round(v, 6) for _, v in found.rates("up", "3gpp")} == {8.0}
    assert {round(v, 6) for _, v in found.rates("down", "wifi")} == {16.0}
    assert {v for _, v in found.rates("up", "wifi")} == {0.0}
    upper = {y for _, y in points(names_in(page.plots()["goodput.down"])["wifi"])}
    assert len(upper) == 1  # a flat line


def test_every_figure_is_that_of_the_result(page: Page) -> None:
    seen = {}
    for pointer, value, shown in page.figures():
        assert value == at(RESULT, pointer), pointer
        seen[pointer] = shown
        plain = shown.replace("\N{NARROW NO-BREAK SPACE}", "")
        if isinstance(value, int | float) and not isinstance(value, bool):
            half_a_digit = 0.501 * 10 ** -len(plain.partition(".")[2])
            assert abs(float(plain) - value) <= half_a_digit, (pointer, shown)
        else:
            assert plain == {None: "–", True: "yes", False: "no", "": "–"}.get(value, value), pointer
    for n, phase in enumerate(RESULT["phases"]):
        wanted = {"from_s", "to_s", "goodput_mbps", "wire_sum_mbps", "share_of_wires", "lost", "reordered", "per_path_mbps/3gpp",
                  "per_path_mbps/wifi", "turns"}
        wanted |= {"longest_gap_ms", "stalls"} if phase["longest_gap_ms"] is not None else set()
        assert {f"/phases/{n}/{w}" for w in wanted} <= set(seen)
    assert {f"/outages/0/{w}" for w in ("at_s", "longest_gap_ms", "fail_over_ms", "back_in_use_ms", "lost")} <= set(seen)
    assert {f"/keys/{n}/{w}" for n in range(3) for w in ("generation", "ue", "amf", "upf", "delivered_ms")} <= set(seen)
    assert {f"/checks/{n}/value" for n in range(len(RESULT["checks"]))} <= set(seen)
    assert {f"/paths/{a}/rtt_ms/{p}" for a in ("3gpp", "wifi") for p in ("p50", "p99")} <= set(seen)
    assert {"/scenario", "/verdict", "/duration_s", "/wire_realtime", "/versions/kernel", "/machine/cpus"} <= set(seen)
    assert "/wires/wifi/down/bytes" in seen
    assert "/drops/ue.path_queue_full" in seen and "/drops/ue.auth_failed" not in seen


def test_a_wrong_figure_would_be_seen(page: Page) -> None:
    """The canary of the test above."""
    other = copy.deepcopy(RESULT)
    other["phases"][2]["goodput_mbps"] += 1
    assert [p for p, value, _ in page.figures() if value != at(other, p)] == ["/phases/2/goodput_mbps"]


def test_a_spread_has_the_digits_of_a_figure(tmp_path: Path) -> None:
    """It had none: 41 and 44 beside a median of 42.9."""
    repeated = copy.deepcopy(RESULT)
    repeated["phases"][2]["spread"] = {"goodput_mbps": [41.31, 43.76]}
    repeated["phases"][3]["error"] = "iperf3 did not answer"
    page = Page(write_report(write(tmp_path, repeated, [sample(t) for t in TIMES])))
    shown = {pointer: text for pointer, _, text in page.figures()}
    assert [shown[f"/phases/2/spread/goodput_mbps/{i}"] for i in (0, 1)] == ["41.3", "43.8"]
    assert shown["/phases/0/spread/goodput_mbps/0"] == "–"
    heads = ["".join(th.itertext()) for th in page.root.iter("th")]
    assert heads[heads.index("goodput least") :][:3] == ["goodput least", "goodput most", "why not"]
    assert [td.get("class") for td in page.root.iter("td") if "".join(td.itertext()) == "iperf3 did not answer"] == ["words"]


def test_steps_are_marked_with_signs_and_words(page: Page) -> None:
    plot = page.plots()["goodput.down"]
    signs = [e.get("data-mark") for e in plot.iter(f"{SVG}path") if e.get("data-mark")]
    assert signs == ["cut", "restore", "rekey", "shape"]
    words = page.words()
    assert all(step in words for step in ("cut wifi", "restore wifi", "re-key by core", "shape 3gpp")) and "registered" not in words
    assert {r.get("data-phase") for r in plot.iter(f"{SVG}rect")} >= {"tcp8.down", "cut"}


def test_nothing_comes_from_outside(page: Page) -> None:
    text = page.text.replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[a-z]|\bsrc\s*=|url\(|@import|<script|<link|<iframe|<img|\son[a-z]+\s*=", text)
    assert all(str(a.get("href")).startswith("#") for a in page.root.iter("a"))
    assert {str(a.get("href"))[1:] for a in page.root.iter("a")} == {str(s.get("id")) for s in page.root.iter("section")}
    policy = next(m.get("content") for m in page.root.iter("meta") if m.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")


def test_both_colour_schemes_name_the_same_colours(page: Page) -> None:
    variables = [set(re.findall(r"(--[a-z0-9]+):", scheme)) for scheme in (LIGHT, DARK)]
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", page.text))
    assert variables[0] == variables[1] and used - {"--of"} <= variables[0]
    assert "@media (prefers-color-scheme: dark)" in page.text and "@media print" in page.text
    rules = re.sub(r"--[a-z0-9]+: *#[0-9a-f]{6};", "", page.text)
    assert not re.search(r"#[0-9a-f]{3,6}\b(?!\")", re.sub(r'href="#[a-z]+"', "", rules))  # no colour but by its name


def luminance(colour: str) -> float:
    """WCAG 2, relative."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_words_stand_out_from_their_ground(scheme: str) -> None:
    colours = dict(re.findall(r"(--[a-z0-9]+): *(#[0-9a-f]{6});", scheme))
    words = [(ink, "--ground", 4.5) for ink in ("--soft", "--good", "--bad", "--aim")]
    lines = [(ink, "--ground", 3) for ink in ("--a0", "--a1", "--a2", "--a3", "--cut", "--restore", "--rekey")]
    for ink, ground, least in [("--ink", "--ground", 7), *words, *lines, ("--on", "--a0", 3), ("--on", "--a1", 3)]:
        light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (ink, ground)


TRIES = 80
HOSTILE = '"><script>alert(1)</script>\x00\x1b[2J\u202e&<b x="\ud800'


def test_a_hostile_name_is_text(tmp_path: Path) -> None:
    document = copy.deepcopy(RESULT)
    document["scenario"] = document["error"] = HOSTILE
    document["verdict"] = HOSTILE
    for key, name in (("checks", "id"), ("checks", "why"), ("checks", "value"), ("phases", "id"), ("phases", "error"),
                      ("outages", "cause"), ("keys", "reason")):
        document[key][0][name] = HOSTILE
    for key in ("drops", "paths", "wires", "versions", "machine", "reorder"):
        document[key][HOSTILE] = next(iter(document[key].values()), {"waited": 1})
    document["drops"][HOSTILE] = 9
    bad = [sample(t, ("3gpp", HOSTILE)) | {"paths": [path(HOSTILE, 1, t, state=HOSTILE, reason=HOSTILE)]} for t in (1.0, 2.0, 3.0)]
    write(tmp_path, document, bad, names=("3gpp", HOSTILE), about=HOSTILE)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write(json.dumps({"t": 2.0, "node": "lab", "event": "attack", "attack": HOSTILE}) + "\n")
    page = Page(write_report(tmp_path))  # well formed
    assert not list(page.root.iter("script")) and not [e for e in page.root.iter() if e.get("x") == HOSTILE]
    assert "<script" not in page.text and "\x1b" not in page.text and "\u202e" not in page.text and page.text.count("alert(1)") > 10
    assert (tmp_path / "report.html").read_bytes().decode("utf-8")


def test_what_is_wrong_in_a_run_is_named_or_left_out(tmp_path: Path) -> None:
    """One value at a time is something else; the page is made, well formed, or the error is ours."""
    chance = random.Random(6)
    few = [sample(t) for t in (2.0, 3.0, 4.0, 5.0)]
    small = {**RESULT, "phases": RESULT["phases"][6:8], "checks": RESULT["checks"][:2], "keys": RESULT["keys"][:1]}
    files: dict[str, Any] = {"result.json": small, "metrics.jsonl": few[1], "events.jsonl": {"t": 1, "node": "lab", "event": "cut"}}
    files["delays.jsonl"] = {"phase": "cut", "turn": 1, "direction": "up", "count": 2, "ms": [[0, 1.0], [1, 2.0]]}
    files["scenario.yaml"] = {"scenario": {"accesses": [{"name": "wifi", "type": "non-3gpp"}], "seed": 1}}
    values: list[Any] = [None, [], {}, "x", -1, 1e400, -1e400, float("nan"), 10**400, True, [[]], {"a": {}}, 1e-300, 1e18]
    write(tmp_path, small, few)
    good = {name: (tmp_path / name).read_text() for name in files}
    refused = 0
    for _ in range(TRIES):
        name = chance.choice(list(files))
        document = copy.deepcopy(files[name])
        holder, key = chance.choice(list(places(document)))
        holder[key] = chance.choice(values)
        text = json.dumps(document)
        (tmp_path / name).write_text(text if name.endswith((".json", ".yaml")) else f"{good[name]}{text}\n[1]\nx\n{{\n")
        try:
            Page(write_report(tmp_path))
        except LabError as error:
            refused += 1
            assert "Traceback" not in str(error)
        (tmp_path / name).write_text(good[name])
    assert refused < TRIES / 4


def places(holder: Any) -> list[tuple[Any, Any]]:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    return [(holder, k) for k in keys] + [p for k in keys if isinstance(holder[k], dict | list) for p in places(holder[k])]


def test_a_long_run_is_drawn_with_a_bounded_number_of_points() -> None:
    spike = 0.1 * 4321
    one = sample(0.0)
    rtts = (9e9 if n == 4321 else 1e7 for n in range(10_000))
    samples = (
        {**one, "t": n / 10, "up": [n * 1e5, 0], "paths": [path("wifi", 1, 0, rtt_smoothed=rtt)]} for n, rtt in enumerate(rtts)
    )
    found = Samples.of(samples, ("3gpp", "wifi"))
    assert POINTS_MOST <= len(found.kept) <= 2 * POINTS_MOST and found.count == 10_000
    rates = found.rates("up", "3gpp")
    assert {round(v, 6) for _, v in rates} == {8.0} and len(rates) == len(found.kept) - 1
    (rtt,) = found.gauge("rtt", "ue", "wifi")
    peaks = [t for t, v in rtt if v == 9000]
    assert len(peaks) == 1 and abs(peaks[0] - spike) < 10_000 / 10 / POINTS_MOST
    assert found.kept[-1].t == 999.9


def test_a_hole_in_the_samples_is_a_hole_in_the_line() -> None:
    times = [t for t in TIMES if not 10 < t < 12]
    found = Samples.of([*(sample(t) for t in times), {"t": 99.0, "error": "upf: no answer"}], ("3gpp", "wifi"))
    assert [len(piece) for piece in found.gauge("rtt", "ue", "wifi")] == [81, len(times) - 81] and found.errors == 1
    rates = found.rates("up", "3gpp")  # the counters went on: level over the hole
    assert len(rates) == len(times) and {round(v, 6) for _, v in rates} == {8.0}
    assert len([t for t, _ in rates if t == 10.0]) == 2


def test_a_lab_that_was_late_makes_no_burst() -> None:
    """Both ends say when they counted: that their answers were read one right behind the other is no rate."""
    times = ((2.0, 2.0), (3.0, 3.99), (4.0, 4.0))
    late = [sample(t) | {"t": heard, "counted": {"up": t, "down": t}} for t, heard in times]
    assert {round(v, 6) for _, v in Samples.of(late, ("3gpp", "wifi")).rates("down", "wifi")} == {16.0}
    without = [{key: value for key, value in one.items() if key != "counted"} for one in late]
    assert max(v for _, v in Samples.of(without, ("3gpp", "wifi")).rates("down", "wifi")) > 1000  # the canary


def test_a_rekey_shows_the_new_connection_and_no_negative_rate() -> None:
    both = [path("wifi", 1, 1.0, cwnd=900_000), path("wifi", 0, 1.0, generation=2, cwnd=13_000)]
    samples = [sample(1.0), sample(1.1) | {"upf_paths": both}, sample(1.2) | {"up": [0, 0]}]
    found = Samples.of(samples, ("3gpp", "wifi"))
    assert found.gauge("cwnd", "upf", "wifi")[0][1][1] == 13.0
    assert all(v >= 0 for _, v in found.rates("up", "3gpp"))


EMPTY: dict[str, Any] = {
    "scenario": "demo", "verdict": "fail", "error": "the lab did not come up", "duration_s": 0.0, "up_s": 0.0, "versions": {},
    "machine": {}, "wire_realtime": False, "checks": [], "phases": [], "outages": [], "keys": [], "paths": {}, "drops": {},
    "cpu": {}, "wires": {}, "repeat": 1,
}


def test_a_run_that_failed_at_once_says_so(tmp_path: Path) -> None:
    write(tmp_path, EMPTY, [])
    (tmp_path / "delays.jsonl").unlink()
    page = Page(write_report(tmp_path))
    words = page.words()
    assert "The run did not reach its end: the lab did not come up" in words and page.plots() == {}
    for said in ("No wire was plugged in", "No phase has goodput", "No samples", "No phase had a probe", "Nothing was measured",
                 "No counters were read", "asks for no checks"):
        assert said in words


def test_one_path_and_a_phase_of_no_time(tmp_path: Path) -> None:
    document = copy.deepcopy(RESULT)
    nothing = {"from_s": 3.0, "to_s": 3.0, "goodput_mbps": None, "per_path_mbps": {}, "share_of_wires": None}
    document["phases"] = [{**document["phases"][0], **nothing, "id": "none", "error": "iperf3: no answer"}]
    document["wires"].pop("wifi")
    samples = [sample(t, ("3gpp",)) | {"up": [t * 1e6], "down": [0]} for t in TIMES]
    page = Page(write_report(write(tmp_path, document, samples)))
    plots = page.plots()
    assert "phases" not in plots and set(names_in(plots["rtt.up"])) == {"3gpp"}
    assert {e.get("data-flow") for e in plots["topology"].iter(f"{SVG}path") if e.get("data-flow")} >= {"3gpp.up", "3gpp.down"}
    assert "iperf3: no answer" in page.words() and "nan" not in page.text.lower().replace("nanos", "")
    states = {(r.get("data-state")) for r in plots["states"].iter(f"{SVG}rect")}
    assert states == {"active", ""}  # there is no path over wifi


def test_the_strip_tells_states_and_reasons(tmp_path: Path) -> None:
    states = [("active", "")] * 100 + [("suspect", "no answer")] * 100 + [("standby", "standby by rule 2")] * 100
    samples = [sample(t) | {"paths": [path("wifi", 1, t, state=s, reason=r)]} for t, (s, r) in zip(TIMES, states, strict=True)]
    plot = Page(write_report(write(tmp_path, RESULT, samples))).plots()["states"]
    told = [e.text for e in plot.iter(f"{SVG}text")]
    assert "no answer" in told and "standby by rule 2" in told


def test_a_run_without_a_result_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"result\.json: cannot be read"):
        write_report(tmp_path)
    write(tmp_path, RESULT, [])
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(LabError, match="is not the result of a run"):
        write_report(tmp_path)


def test_ticks_are_round() -> None:
    assert [round_step(v, 4) for v in (1, 3, 7.9, 100, 130, 0.02)] == [0.5, 1, 2, 50, 50, 0.005]
    assert [word for _, word in rising_scale(0.03, 0, 1, 4).ticks(4)] == ["0.00", "0.01", "0.02", "0.03"]
    assert rising_scale(0.0, 0, 1, 4).high == 1.0
    assert [word for _, word in Scale(0.9, 210, 0, 1, log=True).ticks(8)] == ["1", "2", "5", "10", "20", "50", "100", "200"]
    assert len(Scale(0.001, 1e6, 0, 1, log=True).ticks(8)) >= 5


def test_labels_keep_their_distance() -> None:
    placed = spread_labels([50, 50, 51, 100], 0, 100)
    assert sorted(placed) == placed and all(b - a >= LINE for a, b in pairwise(placed)) and placed[-1] == 100


def test_numbers_and_elements() -> None:
    assert [number(v) for v in (0, 3, 0.02345, 1234.4, -2.5)] == ["0", "3", "0.02345", "1\u202f234", "-2.5"]
    assert el("p", "<b>", el("i", "&"), title='"', nothing=None) == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert escape("a\nb\x07") == "a b\N{REPLACEMENT CHARACTER}"
