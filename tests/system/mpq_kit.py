"""`mpq` as a user runs it: a process of its own, with its labs and runs in a directory of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 60.0
DN, DN6 = "10.99.0.2", "fd99::2"

# A datagram to a closed port of `dn`: the refusal (ICMP) can only come back through the tunnel.
ROUND_TRIP = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((sys.argv[1], 9))
for _ in range(10):
    try:
        s.send(b"x")
        s.recv(1)
    except ConnectionRefusedError:
        print("round trip from", s.getsockname()[0])
        sys.exit(0)
    except TimeoutError:
        continue
sys.exit(1)
"""


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Mpq:
    """`place` is in the environment of every process that belongs to this test: that is how they are found."""

    place: Path
    rootless: bool = False

    def environment(self) -> dict[str, str]:
        more = {"MPQ_STATE": str(self.place / "labs"), "MPQ_RUNS": str(self.place / "runs"), "PYTHONPATH": str(ROOT)}
        return {**os.environ, **more, **({"MPQ_ROOTLESS": "1"} if self.rootless else {})}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lab", *arguments], env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str], limit: float = 180.0) -> Done:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=PATIENCE_S)
            raise AssertionError(f"not done after {limit} s:\n{out}\n{err}") from None
        return Done(process.returncode, out, err)

    def __call__(self, *arguments: str, limit: float = 180.0) -> Done:
        return self.finish(self.start(*arguments), limit)

    def round_trip(self, lab: str = "default", address: str = DN) -> Done:
        return self("exec", "--lab", lab, "ue", sys.executable, "-c", ROUND_TRIP, address)

    def supervisor(self, lab: str = "default") -> int:
        return int(json.loads((self.place / "labs" / lab / "process.json").read_text())["pid"])

    def processes(self) -> list[int]:
        """Everything that this test's `mpq` started and that still runs."""
        mark = f"MPQ_STATE={self.place / 'labs'}".encode()
        found = []
        for path in Path("/proc").iterdir():
            if not path.name.isdigit() or int(path.name) == os.getpid():
                continue
            try:
                marked = mark in (path / "environ").read_bytes().split(b"\0")
                zombie = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if marked and not zombie:
                found.append(int(path.name))
        return found

    def nothing_left(self) -> bool:
        """Waits until the last process is gone; namespaces, links and TUNs are held by processes only. AssertionError says which
        stay."""
        deadline = time.monotonic() + PATIENCE_S
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = [self._described(pid) for pid in self.processes()]
        assert not left, f"still there after {PATIENCE_S:g} s: {left}"
        return True

    @staticmethod
    def _described(pid: int) -> str:
        try:
            command = (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            status = (Path("/proc") / str(pid) / "status").read_text().splitlines()
            wanted = ("State", "PPid", "Threads", "SigPnd", "ShdPnd")
            return f"{pid} {command[:200]!r} {[line for line in status if line.startswith(wanted)]}"
        except OSError:
            return f"{pid}, which has ended meanwhile"

    def labs(self) -> list[str]:
        root = self.place / "labs"
        return sorted(p.name for p in root.iterdir()) if root.is_dir() else []

    def end(self) -> None:
        """Whatever the test left: its own processes, by their pids."""
        for lab in self.labs():
            self("down", "--lab", lab)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def wait_until(holds: Callable[[], bool]) -> bool:
    """Whether it holds before patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held


@dataclass(frozen=True, slots=True)
class Host:
    """What a lab must not change on the machine."""

    links: frozenset[str]
    named: frozenset[str]

    @classmethod
    def look(cls) -> Host:
        named = Path("/run/netns")
        return cls(
            frozenset(p.name for p in Path("/sys/class/net").iterdir()),
            frozenset(p.name for p in named.iterdir()) if named.is_dir() else frozenset(),
        )
