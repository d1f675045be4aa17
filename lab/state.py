"""Where a lab is found: a 0700 directory with its socket, and the pid and start time of its supervisor.

What a killed lab left there is removed by the next `mpq` that looks. Nothing else of it is left (namespaces, links and
nodes end with the supervisor), but for what a user's command put into the background: it carries the lab's mark.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from lab.errors import LabError, Misuse

SOCKET, PROCESS, SHOWN = "socket", "process.json", "shown.json"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}"
NAMED = Path("/run/netns")
MNT_DETACH = 2
MARK = "MPQ_MARK"
"""In the environment of what a user runs inside a lab: whose it is."""
SOCKET_PATH_MAX = 107  # unix(7): sun_path, with its end


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


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """No other `mpq` of this user claims or removes labs meanwhile."""
    fd = os.open(root(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def mark(pid: int, started: int | None) -> str:
    """Of the lab that this process supervises. No other process of this boot has both."""
    return f"{pid}:{started}"


def end_marked(word: str) -> list[int]:
    """Kill what carries this mark; the pids."""
    entry = f"{MARK}={word}".encode()
    killed = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            fd = os.pidfd_open(int(path.name))  # before its environment is read: this process and no later one
        except OSError:
            continue
        try:
            if entry in (path / "environ").read_bytes().split(b"\0"):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                killed.append(int(path.name))
        except OSError:  # another user's, or gone
            continue
        finally:
            os.close(fd)
    return killed


def start_time(pid: int) -> int | None:
    """Of a process, in clock ticks since boot; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


class StateDir:
    def __init__(self, lab: str) -> None:
        if not re.fullmatch(NAME, lab) or ".." in lab:
            raise Misuse(f"{lab}: a lab's name is 1 to 41 letters, digits, '.', '_' and '-'")
        self.lab = lab
        self.path = root() / lab
        if len(os.fsencode(self.socket)) > SOCKET_PATH_MAX:
            raise Misuse(f"{self.socket}: longer than {SOCKET_PATH_MAX} octets, too long for a socket: set MPQ_STATE")

    @property
    def socket(self) -> Path:
        return self.path / SOCKET

    def claim(self, pid: int | None = None) -> None:
        """Make it ours. LabError when a lab of this name runs. `pid`: of the process to watch, as others see it."""
        private_directory(root())
        with _alone():
            if self.running():
                raise LabError(f"lab {self.lab} is up already; `mpq down --lab {self.lab}` ends it")
            self.remove()
            try:
                self.path.mkdir(mode=0o700)
            except FileExistsError:
                raise LabError(f"{self.path} is not a lab's and in the way: set MPQ_STATE, or take another --lab") from None
            self.write_process(pid or os.getpid())

    def write_process(self, pid: int) -> None:
        """At once: whoever reads it meanwhile must not take the lab for a dead one."""
        fresh = self.path / f".{PROCESS}"
        fresh.write_text(json.dumps({"pid": pid, "start": start_time(pid)}))
        fresh.replace(self.path / PROCESS)

    def _written(self) -> tuple[int, int] | None:
        """Pid and start time of the supervisor, which may be gone."""
        try:
            document = json.loads((self.path / PROCESS).read_text())
            pid, started = document["pid"], document["start"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (pid, started) if type(pid) is int and pid > 0 and type(started) is int else None

    def process(self) -> int | None:
        """Pid of the supervisor, if it still runs."""
        written = self._written()
        return written[0] if written is not None and start_time(written[0]) == written[1] else None

    def running(self) -> bool:
        return self.process() is not None

    def kill(self, patience_s: float = 5.0) -> None:
        """SIGTERM, then SIGKILL, to the supervisor and nobody else."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            pid = self.process()
            if pid is None:
                return
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            try:
                if self.process() == pid:  # the descriptor is that process's, whoever gets its pid later
                    signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                return
            finally:
                os.close(fd)
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
        """What is left of the lab, its process file last: a directory without one is not a lab's, and stays unless empty."""
        if not self.path.is_dir() or self.path.is_symlink():
            return
        if (self.path / PROCESS).exists():
            self._unshow()
            if (written := self._written()) is not None:
                end_marked(mark(*written))
            with contextlib.suppress(OSError):  # its supervisor may remove it at the same time
                for child in self.path.iterdir():
                    if child.is_dir() and not child.is_symlink():
                        shutil.rmtree(child, ignore_errors=True)
                    elif child.name != PROCESS:
                        child.unlink(missing_ok=True)
            (self.path / PROCESS).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()


def stale_remove() -> list[str]:
    """Directories of labs whose supervisor is gone."""
    removed: list[str] = []
    if not root().is_dir():
        return removed
    with _alone():
        for path in root().iterdir():
            if path.is_dir() and re.fullmatch(NAME, path.name) and ".." not in path.name:
                state = StateDir(path.name)
                if (path / PROCESS).exists() and not state.running():
                    state.remove()
                    removed.append(path.name)
    return removed
