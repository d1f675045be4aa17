"""`make test-report`: the report in a browser. RUN=DIRECTORY has the page of a run of yours looked at, too; PICTURES=DIRECTORY
keeps what was seen."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import Chromium
from report_kit import at, result, sample, write
from test_lab_report import EMPTY, RESULT, TIMES

from lab.cli import main
from lab.report import write_report

WIDTHS = (375, 1440)
PAGES = ("good", "failed", "crowded", *["yours"] * bool(os.environ.get("RUN")))
Pages = dict[str, tuple[Path, dict[str, Any]]]
LONG = "a-phase-with-a-name-of-60-characters.which-is-as-long-as-it-c"


def crowded() -> dict[str, Any]:
    """Names as long as they may be, and many of all things."""
    text = json.dumps(result())
    for short in ("3gpp", "wifi"):
        text = text.replace(f'"{short}"', f'"{short}-with-a-long"')
    document: dict[str, Any] = json.loads(text)
    document["phases"] = [{**copy.deepcopy(document["phases"][n % 10]), "id": f"{LONG[:57]}{n}", "from_s": 2.0 + n, "to_s": 2.9 + n}
                          for n in range(28)]
    document["checks"] += [{**document["checks"][0], "id": "x" * 60, "aim": "y" * 200, "why": "no answer " * 30, "ok": False}]
    document["drops"] |= {f"ue.counter_{n}": 10**n for n in range(9)}
    return document


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    made: Pages = {}
    short, long = ("3gpp", "wifi"), ("3gpp-with-a-long", "wifi-with-a-long")
    for name, document, of, names in (
        ("good", RESULT, [sample(t) for t in TIMES], short),
        ("failed", EMPTY, [], short),
        ("crowded", crowded(), [sample(t, long) for t in TIMES], long),
    ):
        directory = write(tmp_path_factory.mktemp(name), document, of, names=names)
        if name == "failed":
            (directory / "delays.jsonl").unlink()
        if name == "crowded":
            with (directory / "events.jsonl").open("a") as file:
                for n in range(60):
                    attack = {"t": 4 + n / 3, "node": "lab", "event": "attack", "attack": f"quic-attack-{n}"}
                    file.write(json.dumps(attack) + "\n")
        made[name] = (write_report(directory), document)
    if run := os.environ.get("RUN"):
        made["yours"] = (write_report(Path(run)), json.loads((Path(run) / "result.json").read_text()))
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


SIGHTS = [(name, width, dark) for name in PAGES for width in WIDTHS for dark in (False, True)]


@pytest.fixture(params=SIGHTS, ids=lambda p: f"{p[0]}-{p[1]}-{'dark' if p[2] else 'light'}")
def seen(request: pytest.FixtureRequest, browser: Chromium, pages: Pages) -> tuple[Chromium, Any, bool]:
    name, width, dark = request.param
    page, document = pages[name]
    browser.open(page, width=width, dark=dark)
    if pictures := os.environ.get("PICTURES"):
        scheme = "dark" if dark else "light"
        (Path(pictures) / f"{name}-{width}-{scheme}.png").write_bytes(browser.picture())
    return browser, document, dark


def test_the_console_is_silent_and_nothing_else_is_loaded(seen: tuple[Chromium, Any, bool]) -> None:
    browser, _, _ = seen
    assert browser.noise == [] and len(browser.asked) == 1 and browser.asked[0].startswith("file://")


def test_a_page_with_an_error_would_be_heard(browser: Chromium, tmp_path: Path) -> None:
    """The canary: a script, and something from outside, against the page's policy."""
    page = tmp_path / "bad.html"
    page.write_text('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'"><script>1</script><img src="x.png">'
                    f'<pre>{"wide" * 1000}</pre>')
    browser.open(page, width=1440, dark=False)
    assert any("Content Security Policy" in words for words in browser.noise)
    assert browser.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_nothing_is_wider_than_the_page(seen: tuple[Chromium, Any, bool]) -> None:
    browser, _, _ = seen
    assert browser.evaluate("[document.documentElement.scrollWidth, innerWidth]")[0] <= browser.evaluate("innerWidth")


def test_plots_and_figures_are_seen(seen: tuple[Chromium, Any, bool]) -> None:
    browser, document, dark = seen
    plots = browser.evaluate("[...document.querySelectorAll('svg')].map(s => [s.dataset.plot, s.getBoundingClientRect().height])")
    assert all(height > 40 for _, height in plots), plots
    assert bool(plots) == bool(document["phases"])
    figures = browser.evaluate(
        "[...document.querySelectorAll('data')].map(d => [d.dataset.of, d.value, d.innerText, d.getBoundingClientRect().height])"
    )
    assert len(figures) > 5
    for pointer, value, shown, height in figures:
        assert json.loads(value) == at(document, pointer), pointer
        assert (shown and height > 0) or value in ('""', "null"), pointer
    ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) < 120) is dark


OVERLAPS = """[...document.querySelectorAll('svg[data-plot]')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const boxes = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
  const bad = boxes.filter(([w, b]) => b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1
    || b.bottom > frame.bottom + 1).map(([w]) => [svg.dataset.plot, 'outside', w]);
  boxes.forEach(([w, a], i) => boxes.slice(i + 1).forEach(([v, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (wide > 1 && high > 0.3 * Math.min(a.height, b.height)) bad.push([svg.dataset.plot, w, v]);
  }));
  return bad;
})"""


def test_labels_overlap_nowhere_and_are_legible(seen: tuple[Chromium, Any, bool]) -> None:
    browser, _, _ = seen
    assert browser.evaluate(OVERLAPS) == []
    heights = browser.evaluate("[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height)")
    assert min(heights, default=9.0) >= 9.0


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_is_a_page_like_that(width: int, browser: Chromium, tmp_path: Path) -> None:
    runs = []
    for number in range(3):
        (tmp_path / f"run{number}").mkdir()
        (tmp_path / f"run{number}" / "result.json").write_text(json.dumps(crowded()))
        runs.append(f"{'one' if number else 'another'}={tmp_path}/run{number}")
    made = tmp_path / "comparison.html"
    assert main(["compare", *runs, "-o", str(made)]) == 0
    browser.open(made, width=width, dark=True)
    assert browser.noise == [] and len(browser.asked) == 1
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    heights = browser.evaluate("[...document.querySelectorAll('svg')].map(s => s.getBoundingClientRect().height)")
    assert len(heights) > 50 and min(heights) > 20


@pytest.mark.parametrize("name", PAGES)
def test_it_prints(name: str, browser: Chromium, pages: Pages) -> None:
    browser.open(pages[name][0], width=1440, dark=True)
    document = browser.pdf()
    assert document.startswith(b"%PDF") and 1 <= document.count(b"/Type /Page\n") + document.count(b"/Type /Page ") <= 40
    if pictures := os.environ.get("PICTURES"):
        (Path(pictures) / f"{name}.pdf").write_bytes(document)
