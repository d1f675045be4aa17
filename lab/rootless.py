"""An ordinary user's lab: everything in a user, network, mount and PID namespace of its own (rootless is the default when not
root). With its first process all of it ends, and the host keeps no trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from lab import state
from lab.errors import LabError

INSIDE = "MPQ_INSIDE"
FORCE = "MPQ_ROOTLESS"
UNSHARE = ["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]


def inside() -> bool:
    """We are in the namespaces already."""
    return os.environ.get(INSIDE) == "1"


def needed() -> bool:
    """Not root, or told to (`MPQ_ROOTLESS=1`: how a root shell runs what users run)."""
    return not inside() and (os.geteuid() != 0 or os.environ.get(FORCE) == "1")


def command(arguments: list[str]) -> list[str]:
    """The command that runs `arguments` inside; as they are when no namespaces of our own are needed."""
    if not needed():
        return arguments
    program = shutil.which("unshare")
    if program is None:
        raise LabError("unshare is not installed (package util-linux): it is needed to run without root")
    probe = subprocess.run([program, *UNSHARE, "/bin/true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        raise LabError(
            f"no user namespaces for this user ({probe.stderr.strip()}): allow them (kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0), or run mpq as root"
        )
    return [program, *UNSHARE, *arguments]


def environment() -> dict[str, str]:
    """For a process inside: it thinks it is root, so it must be told where this user's labs are."""
    if not needed():
        return dict(os.environ)
    return {**os.environ, INSIDE: "1", "MPQ_STATE": str(state.root())}


def reexecute(arguments: list[str]) -> None:
    """Become `python -m lab arguments` inside. This process's pid stays, so whoever watches or kills it need not know."""
    program = command([sys.executable, "-m", "lab", *arguments])
    os.execve(program[0], program, environment())
