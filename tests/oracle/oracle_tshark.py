"""What tshark says of a capture: for each frame the values of the fields of a table."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence
from pathlib import Path

from oracle_compare import Row, Values

SEPARATOR = "\x1f"          # between the values of a field: no text of ours has it


@functools.cache
def known_fields() -> frozenset[str]:
    done = subprocess.run(["tshark", "-G", "fields"], capture_output=True, text=True, errors="replace", check=True, timeout=120)
    return frozenset(line.split("\t")[2] for line in done.stdout.split("\n") if line.startswith("F\t"))


def renamed(name: str) -> str:
    """NAS fields begin with `nas_5gs` in Debian 12's release and with `nas-5gs` in later ones."""
    return name if name in known_fields() else name.replace("nas_5gs", "nas-5gs")


def tshark(capture: Path, display_filter: str, table: Sequence[Row], *options: str) -> dict[int, Values]:
    """By number of the frame. Only the capture's own secrets are used."""
    fields = [renamed(row.theirs) for row in table]
    unknown = set(fields) - known_fields()
    assert not unknown, f"this tshark has no fields {sorted(unknown)}"
    command = ["tshark", "-n", "-r", str(capture), "-Y", display_filter, *options, "-T", "fields", "-E", f"aggregator={SEPARATOR}"]
    for name in ("frame.number", "_ws.malformed", *fields):
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[int, Values] = {}
    for line in done.stdout.split("\n")[:-1]:
        frame, _, *values = line.split("\t")
        found[int(frame)] = {row.theirs: [row.kind(value) for value in cell.split(SEPARATOR)] if cell else []
                             for row, cell in zip(table, values, strict=True)}
    return found
