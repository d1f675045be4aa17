"""The ladder diagrams of our pages, and of a run, made alike: what is by chance in a run (times, numbers, which access was faster)
is taken out; who says what to whom stays."""

from __future__ import annotations

import re
from pathlib import Path

HEAD = "    time/s  UE           AMF          SMF          UPF"
LOTTERY = (
    (r" seq \d+", ""), (r" SEID 0x[0-9a-f]+", ""), (r"fingerprint [0-9a-f]{8}", "fingerprint"),
    (r" \(its octets are zeroed here\)", ""), (r", lifetime \d+ s", ""), (r"sequence \d+", "sequence"), (r"N1 \w+:", "N1:"),
)
# Frames that go on either path, and what an access that lost the race still hears: not in every run
BY_CHANCE = re.compile(r"PATH_STATUS|CONNECTION_CLOSE|first IP packet|Session Report Request \[MPQUIC Key Report|"
                       r"Session Report Response|repair|is closed: re-keyed")


def blocks(page: Path) -> list[list[str]]:
    """The lines of each diagram of a page."""
    found = re.findall(r"```\n(" + re.escape(HEAD) + r".*?)```", page.read_text(), re.DOTALL)
    return [block.splitlines() for block in found]


def alike(lines: list[str]) -> list[str]:
    """Without the time; the access of QUIC's path 0 is `first`, the other one `second`."""
    out = []
    first = next((match[1] for line in lines if (match := re.search(r"QUIC (\w+): path 0:", line))), "")
    for line in lines:
        if line.startswith("    time/s") or not re.match(r" *\d+\.\d{3}  ", line):
            continue
        text = line[12:]
        if "HTTP/3" in text:                                # streams are of the connection: any path carries them
            text = re.sub(r"QUIC \w+: path \d+:", "QUIC:", text)
        for pattern, instead in LOTTERY:
            text = re.sub(pattern, instead, text)
        out.append(re.sub(r"QUIC (\w+):", lambda match: f"QUIC {'first' if match[1] == first else 'second'}:", text))
    return out


def missing(page: list[str], run: list[str]) -> list[str]:
    """Lines of the page's diagram that the run's does not have."""
    there = set(alike(run))
    return [line for line in alike(page) if line not in there and not BY_CHANCE.search(line)]


def order_of(lines: list[str], parts: list[str]) -> list[str]:
    """These parts in the order in which they first stand in the diagram."""
    text = alike(lines)
    places = {part: next((i for i, line in enumerate(text) if part in line), None) for part in parts}
    return sorted((part for part in parts if places[part] is not None), key=lambda part: places[part] or 0)
