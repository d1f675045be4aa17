"""Runs of a sweep, one after the other, each `mpq run` in a process of its own; what is done stays done.

A directory: `sweep.json` (what is swept), `cells.jsonl` (a line for each run that has ended), `cells/` (the scenarios), `runs/`,
and at every end `table.csv`, `table.json` and `plot.svg`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.errors import LabError, Misuse
from lab.figures import Figures, Spread, figures_of
from lab.sweep_file import Cell, Sweep
from lab.sweep_plot import plot

ENDS_S = 120.0  # for the lab to come up, and for what comes behind the traffic, of each run
AFTER_STOP_S = 30.0
TRIES_MOST = 2  # of a run that gives no figure: a lab may fail to come up on a busy machine

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """Of one run."""

    run: str = ""
    verdict: str = ""
    error: str = ""
    figures: Figures = field(default_factory=dict)


class SweepRun:
    """`run()` until every cell has its outcome; again after an interruption, where it stood."""

    def __init__(self, sweep: Sweep, directory: Path, say: Say, command: tuple[str, ...] = (sys.executable, "-m", "lab")) -> None:
        self.sweep, self.directory, self._say, self._command = sweep, directory, say, command
        self.done: dict[str, Outcome] = {}

    def open(self) -> None:
        """Make the directory, or take up the one that is there. Misuse when it is another sweep's."""
        digest = {"sweep": self.sweep.name, "digest": self._digest()}
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "cells").mkdir(exist_ok=True)
        path = self.directory / "sweep.json"
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                found = None
            if found != digest:
                raise Misuse(f"{self.directory} is of another sweep, or of this one before it was changed: give another --out")
        else:
            path.write_text(json.dumps(digest) + "\n", encoding="utf-8")
        self.done = dict(self._read())
        kept = self.directory / "cells.jsonl"
        if kept.is_file() and not kept.read_bytes().endswith(b"\n"):  # the next line must not stand behind a piece of one
            with kept.open("a", encoding="utf-8") as file:
                file.write("\n")

    def _digest(self) -> str:
        """Of everything that the runs are made from; more repetitions of the same go into the same directory."""
        whole = [[cell.key, self.sweep.scenario_of(cell)] for cell in self.sweep.cells() if cell.attempt == 0]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    def _read(self) -> list[tuple[str, Outcome]]:
        """A line that a kill cut off is a run that is made again."""
        path, found = self.directory / "cells.jsonl", []
        for line in path.read_bytes().splitlines() if path.is_file() else []:
            try:
                entry = json.loads(line)
                found.append((json.dumps(entry["cell"]), Outcome(**entry["outcome"])))
            except (ValueError, KeyError, TypeError):
                continue
        return found

    # ---- running

    def run(self) -> dict[str, Any]:
        """The table as a document. LabError after an interruption: what is done is kept."""
        cells = self.sweep.cells()
        left = [cell for cell in cells if cell.key not in self.done]
        if len(left) < len(cells):
            self._say(f"{len(cells) - len(left)} of {len(cells)} runs are there already")
        started = time.monotonic()
        try:
            for number, cell in enumerate(left):
                outcome = self._cell(cell)
                self._keep(cell, outcome)
                passed = time.monotonic() - started
                rest = passed / (number + 1) * (len(left) - number - 1)
                value = outcome.figures.get(self.sweep.figure)
                said = f"{value:.4g}" if value is not None else outcome.error or "not measured"
                better = outcome.figures.get(f"{self.sweep.figure.rpartition('.')[0]}.of_better")
                said += f", {better:.2f} times the better path alone" if better is not None else ""
                at = ", ".join(f"{axis.set.rpartition('/')[2]} {v}" for axis, v in zip(self.sweep.axes, cell.values, strict=True))
                self._say(f"[{len(cells) - len(left) + number + 1}/{len(cells)}] {at}: {said} (about {rest / 60:.0f} min left)")
        except KeyboardInterrupt:
            raise LabError(f"interrupted: {len(self.done)} of {len(cells)} runs are kept, the same command goes on") from None
        finally:
            self._write()
        return self.document()

    def _cell(self, cell: Cell) -> Outcome:
        scenario = self.directory / "cells" / f"{hashlib.sha256(cell.key.encode()).hexdigest()[:12]}.yaml"
        document = self.sweep.scenario_of(cell)
        scenario.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")  # JSON is YAML
        seconds = sum(float(phase.get("seconds", 10.0)) for phase in document.get("steps", []))
        for _ in range(TRIES_MOST):
            outcome = self._once(scenario, seconds + ENDS_S)
            if outcome.figures:
                break
        return outcome

    def _once(self, scenario: Path, limit: float) -> Outcome:
        """Ctrl-C reaches the run, too, which ends its lab; it is waited for."""
        process = subprocess.Popen(
            [*self._command, "run", str(scenario), "--quiet", "--json"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, "MPQ_RUNS": str(self.directory / "runs")},
        )
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _stop(process)
            return Outcome(error=f"not done after {limit:.0f} s")
        except BaseException:
            _stop(process)
            raise
        try:
            document = json.loads(out)
        except ValueError:
            words = err.decode("utf-8", "replace").strip().splitlines()
            return Outcome(error=words[-1][:300] if words else f"ended with {process.returncode}")
        if "phases" not in document:
            return Outcome(error=str(document.get("error", ""))[:300])
        error = str(document.get("error", ""))[:300]
        return Outcome(Path(str(document["run"])).name, str(document["verdict"]), error, figures_of(document))

    def _keep(self, cell: Cell, outcome: Outcome) -> None:
        self.done[cell.key] = outcome
        entry = {"cell": [*cell.values, cell.attempt], "outcome": {
            "run": outcome.run, "verdict": outcome.verdict, "error": outcome.error, "figures": outcome.figures,
        }}
        with (self.directory / "cells.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    # ---- what comes of it

    def spreads(self, figure: str) -> dict[tuple[Any, ...], Spread]:
        """By combination of values, those that were measured."""
        values: dict[tuple[Any, ...], list[float]] = {}
        for cell in self.sweep.cells():
            outcome = self.done.get(cell.key)
            if outcome is not None and figure in outcome.figures:
                values.setdefault(cell.values, []).append(outcome.figures[figure])
        return {combination: Spread.of(found) for combination, found in values.items()}

    def figures(self) -> list[str]:
        return list(dict.fromkeys(name for outcome in self.done.values() for name in outcome.figures))

    def document(self) -> dict[str, Any]:
        """One row a combination; each figure as median, least, most."""
        by_figure = {name: self.spreads(name) for name in self.figures()}
        rows = []
        for combination in dict.fromkeys(cell.values for cell in self.sweep.cells()):
            found = {name: spreads[combination] for name, spreads in by_figure.items() if combination in spreads}
            outcomes = [self.done.get(Cell(combination, attempt).key) for attempt in range(self.sweep.repeat)]
            rows.append({
                "values": dict(zip((axis.set for axis in self.sweep.axes), combination, strict=True)),
                "figures": {n: {"median": s.median, "least": s.least, "most": s.most, "runs": s.runs} for n, s in found.items()},
                "runs": [outcome.run for outcome in outcomes if outcome is not None and outcome.run],
                "errors": [outcome.error for outcome in outcomes if outcome is not None and outcome.error],
            })
        return {
            "sweep": self.sweep.name, "about": self.sweep.about, "figure": self.sweep.figure, "directory": str(self.directory),
            "done": len(self.done), "of": len(self.sweep.cells()), "rows": rows,
        }

    def _write(self) -> None:
        document = self.document()
        (self.directory / "table.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        names = self.figures()
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*(axis.set for axis in self.sweep.axes), *names])
        for row in document["rows"]:
            medians = [row["figures"].get(name, {}).get("median", "") for name in names]
            writer.writerow([*row["values"].values(), *medians])
        (self.directory / "table.csv").write_text(out.getvalue(), encoding="utf-8")
        drawing = plot(self.sweep, self.spreads(self.sweep.figure))
        if drawing:
            (self.directory / "plot.svg").write_text(drawing, encoding="utf-8")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """It ends its lab before it ends; a second Ctrl-C does not cut that short."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.terminate()
        process.communicate(timeout=AFTER_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    finally:
        signal.signal(signal.SIGINT, before)
