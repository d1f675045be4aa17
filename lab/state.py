"""Where a lab is found: a 0700 directory with its socket, and the pid and start time of its supervisor.

What a killed lab left there (nothing else of it is left: namespaces, links and processes end with the supervisor) is
removed by the next `mpq` that looks.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import stat
import time
from pathlib import Path

from lab.errors import LabError, Misuse

SOCKET, PROCESS, SHOWN = "socket", "process.json", "shown.json"
NAMED = Path("/run/netns")
MNT_DETACH = 2


def root() -> Path:
    """Of this user."""
    given = os.environ.get("MPQ_STATE")
    if given:
        return Path(given)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "mpq"
    return Path("/run/mpq") if os.geteuid() == 0 and os.access("/run", os.W_OK) else Path(f"/tmp/mpq-{os.getuid()}")


def private_directory(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o077:
        raise LabError(f"{path}: must be a directory of yours with mode 0700")
    return path


def start_time(pid: int) -> int | None:
    """Of a process, in clock ticks since boot; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class StateDir:
    def __init__(self, lab: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", lab) or ".." in lab:
            raise Misuse(f"{lab}: a lab's name is 1 to 41 letters, digits, '.', '_' and '-'")
        self.lab = lab
        self.path = root() / lab

    @property
    def socket(self) -> Path:
        return self.path / SOCKET

    def claim(self, pid: int | None = None) -> None:
        """Make it ours. LabError when a lab of this name runs. `pid`: of the process to watch, as others see it."""
        private_directory(root())
        if self.running():
            raise LabError(f"lab {self.lab} is up already; `mpq down --lab {self.lab}` ends it")
        self.remove()
        self.path.mkdir(mode=0o700)
        self.write_process(pid or os.getpid())

    def write_process(self, pid: int) -> None:
        (self.path / PROCESS).write_text(json.dumps({"pid": pid, "start": start_time(pid)}))

    def process(self) -> int | None:
        """Pid of the supervisor, if it still runs."""
        try:
            document = json.loads((self.path / PROCESS).read_text())
            pid, started = int(document["pid"]), document["start"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return pid if started is not None and start_time(pid) == started else None

    def running(self) -> bool:
        return self.process() is not None

    def kill(self, patience_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL, to the supervisor and nobody else."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.process()
            if pid is None:
                return
            os.kill(pid, number)
            deadline = time.monotonic() + patience_s
            while self.process() is not None and time.monotonic() < deadline:
                time.sleep(0.05)

    def wait_end(self, limit_s: float) -> None:
        """Until the supervisor is gone; then it is killed."""
        deadline = time.monotonic() + limit_s
        while self.process() is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def will_show(self, names: list[str]) -> None:
        """Before namespaces are shown under /run/netns: those of these names that are not there yet will be ours."""
        (self.path / SHOWN).write_text(json.dumps([n for n in names if not (NAMED / n).exists()]))

    def _unshow(self) -> None:
        """A killed lab's names: nothing else of it outlives its processes."""
        try:
            names = json.loads((self.path / SHOWN).read_text())
        except (OSError, ValueError):
            return
        libc = ctypes.CDLL(None, use_errno=True)
        for name in names if isinstance(names, list) else []:
            if isinstance(name, str) and name.startswith(f"{self.lab}-") and "/" not in name and (NAMED / name).exists():
                libc.umount2(os.fsencode(NAMED / name), MNT_DETACH)
                (NAMED / name).unlink(missing_ok=True)

    def remove(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            self._unshow()
            shutil.rmtree(self.path, ignore_errors=True)  # its supervisor may remove it at the same time


def stale_remove() -> list[str]:
    """Directories of labs whose supervisor is gone."""
    removed: list[str] = []
    if not root().is_dir():
        return removed
    for path in root().iterdir():
        if path.is_dir() and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", path.name):
            state = StateDir(path.name)
            if (path / PROCESS).exists() and not state.running():
                state.remove()
                removed.append(path.name)
    return removed
