"""A thousand times an access of a whole lab is cut and restored: both accesses, silently and by the link, in turn. Each time the
path carries again, the session stands, and nothing grows. MPQ_SOAK_CYCLES says how often; 1,000 take 26 minutes."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mpq_kit import DN, Mpq, wait_until

from lab.client import ask

CYCLES = int(os.environ.get("MPQ_SOAK_CYCLES", "1000"))
DOWN_S, UP_S = 0.7, 0.8
PATIENCE_S = 20.0
"""How long a path may take to come back before the test says that it does not."""
WARM = 20
"""Cycles after which memory and descriptors are looked at first."""
SPARE_DESCRIPTORS, GROWTH_KIB = 4, 20_000
FLOWS = 8
KINDS = [(access, link_down) for access in ("wifi", "3gpp") for link_down in (False, True)]
SCENARIO = """\
accesses:
  - {name: 3gpp, type: 3gpp, wire: {rate_mbps: 30, delay_ms: 15}}
  - {name: wifi, type: non-3gpp, wire: {rate_mbps: 30, delay_ms: 15}}
rules:
  - {id: 1, precedence: 10, mode: {steerModeValue: LOAD_BALANCING, 3gLoad: 50}}
"""
ECHO = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 7007))
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(data, peer)
"""
# Each of the flows sends 200 octets every 20 ms and counts what comes back, until there is a file of that name; then it says so.
SEND = """
import json, os, socket, select, sys, time
address, flows, stop = sys.argv[1], int(sys.argv[2]), sys.argv[3]
socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(flows)]
for s in socks:
    s.connect((address, 7007))
    s.setblocking(False)
sent = got = 0
due = time.monotonic()
while not os.path.exists(stop):
    if time.monotonic() >= due:
        due += 0.02
        for s in socks:
            try:
                s.send(bytes(200))
                sent += 1
            except OSError:
                pass
    for s in select.select(socks, [], [], max(0, due - time.monotonic()))[0]:
        try:
            s.recv(2000)
            got += 1
        except OSError:
            pass
print(json.dumps({"sent": sent, "got": got}))
"""


@pytest.fixture
def mpq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mpq]:
    one = Mpq(tmp_path)
    monkeypatch.setenv("MPQ_STATE", one.environment()["MPQ_STATE"])
    yield one
    one.end()


def use(mpq: Mpq) -> dict[int, tuple[str, int, int]]:
    """Name, descriptors and resident KiB by pid, of the lab and its nodes."""
    found = {}
    for pid in mpq.processes():
        try:
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes().split(b"\0")
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except OSError:
            continue
        module = command[command.index(b"-m") + 1].decode() if b"-m" in command else ""
        if module and module != "lab" and "VmRSS" in status:
            found[pid] = (module, descriptors, int(status["VmRSS"].split()[0]))
    return found


def newest_paths(access: str) -> list[dict[str, Any] | None]:
    """The newest path over an access, at either end."""
    paths = ask("default", "top")["paths"]
    of = [[p for p in paths[end] if p["access"] == access] for end in ("ue", "upf")]
    return [max(found, key=lambda p: int(p["path"]), default=None) for found in of]


def carried(access: str) -> list[int]:
    """Datagrams that came over that path, at either end."""
    return [p["datagrams_received"] if p is not None else 0 for p in newest_paths(access)]


def active(access: str) -> bool:
    return all(p is not None and p["state"] == "active" for p in newest_paths(access))


def back_after(access: str, since: float) -> float:
    """Seconds until the path over it carried both ways again."""
    before = carried(access)
    while time.monotonic() - since < PATIENCE_S:
        time.sleep(0.05)
        if active(access) and all(now > then for now, then in zip(carried(access), before, strict=True)):
            return time.monotonic() - since
    raise AssertionError(f"{access} does not carry {PATIENCE_S:g} s after it was restored: {newest_paths(access)}")


@pytest.mark.system
def test_a_thousand_cuts_of_a_lab(mpq: Mpq, tmp_path: Path) -> None:
    (tmp_path / "cycles.yaml").write_text(SCENARIO)
    assert mpq("up", str(tmp_path / "cycles.yaml")).code == 0
    limit, stop = str(CYCLES * PATIENCE_S), tmp_path / "stop"
    echo = mpq.start("exec", "--timeout", limit, "dn", sys.executable, "-c", ECHO)
    send = mpq.start("exec", "--timeout", limit, "ue", sys.executable, "-c", SEND, DN, str(FLOWS), str(stop))
    for access in ("3gpp", "wifi"):
        assert wait_until(lambda access=access: active(access) and min(carried(access)) > 10)  # type: ignore[misc]
    took: dict[tuple[str, bool], list[float]] = {kind: [] for kind in KINDS}
    generation = ask("default", "top")["key"]
    before: dict[int, tuple[str, int, int]] = {}
    for turn in range(CYCLES):
        access, link_down = KINDS[turn % len(KINDS)]
        ask("default", "cut", {"access": access, "link_down": link_down})
        time.sleep(DOWN_S)
        ask("default", "restore", {"access": access})
        restored = time.monotonic()
        took[access, link_down].append(back_after(access, restored))
        time.sleep(max(0.0, restored + UP_S - time.monotonic()))
        if turn + 1 == min(WARM, CYCLES):
            before = use(mpq)
        if (turn + 1) % 50 == 0:
            print(turn + 1, {f"{a} {'down' if d else 'silent'}": f"{statistics.median(t):.2f}, most {max(t):.2f} s"
                             for (a, d), t in took.items() if t}, use(mpq).values(), flush=True)
    top = ask("default", "top")
    after = use(mpq)
    assert top["key"] == generation  # one connection all the time
    paths = {end: sorted(p["path"] for p in top["paths"][end]) for end in ("ue", "upf")}
    counters = {end: {name: n for name, n in top["counters"][end].items() if n} for end in ("ue", "upf")}
    stop.touch()
    echoes = mpq.finish(send).document
    echo.terminate()
    print(json.dumps({"paths": paths, "before": list(before.values()), "after": list(after.values()), "echoes": echoes,
                      "counters": counters}), flush=True)
    assert all(len(of) == 2 for of in paths.values())  # no path is given up because it was cut
    for pid, (name, descriptors, memory) in before.items():
        assert after[pid][1] <= descriptors + SPARE_DESCRIPTORS, name
        assert after[pid][2] <= memory + GROWTH_KIB, name
    # each cut costs the flows of that access no more than half a second, of the 1.5 s that a cycle takes
    assert echoes["got"] > 0.8 * echoes["sent"] > 100 * CYCLES
