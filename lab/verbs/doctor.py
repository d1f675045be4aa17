"""`mpq doctor`: what is missing on this machine, and the remedy."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lab import rootless
from lab.errors import LabError
from lab.verbs.common import runs_root, show

AF_PACKET_ALL = 0x0003


@dataclass(frozen=True, slots=True)
class Finding:
    id: str
    ok: bool
    needed: bool  # without it no lab comes up; else something smaller is missing
    text: str
    remedy: str = ""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "Exit code 1 when something is missing without which no lab comes up."


def _privileges() -> Finding:
    if os.geteuid() == 0 and not rootless.needed():
        return Finding("privileges", True, True, "root")
    try:
        rootless.command(["/bin/true"])
    except LabError as error:
        return Finding("privileges", False, True, "not root", str(error))
    return Finding("privileges", True, True, "user namespaces")


def _inside(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """As a lab would run it: as root, or inside a user namespace."""
    return subprocess.run(rootless.command(arguments), capture_output=True, text=True, check=False)


def _tun() -> Finding:
    try:
        done = _inside(["/bin/sh", "-c", "exec 3<>/dev/net/tun"])
    except LabError as error:
        return Finding("tun", False, True, "not tried", str(error))
    if done.returncode == 0:
        return Finding("tun", True, True, "/dev/net/tun opens")
    if not Path("/dev/net/tun").exists():
        return Finding("tun", False, True, "/dev/net/tun is not there", "modprobe tun (as root)")
    return Finding("tun", False, True, "/dev/net/tun does not open for this user",
                   "chmod 0666 /dev/net/tun (as root; what udev does on a stock Debian), or run mpq as root")


def _program(name: str, package: str, needed: bool, what: str) -> Callable[[], Finding]:
    def look() -> Finding:
        path = shutil.which(name)
        return Finding(name, path is not None, needed, path or f"{name} is not installed ({what})",
                       "" if path else f"apt-get install {package}")

    return look


def _engine() -> Finding:
    try:
        from native import ffi, lib
    except ImportError as error:
        return Finding("engine", False, True, f"the C engine does not load: {error}", "make native")
    names = [ffi.string(lib.aead_backend_name(i)).decode() for i in range(lib.aead_backend_count())]
    return Finding("engine", bool(names), True, f"AEAD backends: {', '.join(names)}")


def _aes() -> Finding:
    try:
        flags = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith(("flags", "Features"))), "")
    except OSError:
        flags = ""
    ok = " aes" in flags
    return Finding("aes", ok, False, "the CPU has AES instructions" if ok else "the CPU has no AES instructions",
                   "" if ok else "use the suite TLS_CHACHA20_POLY1305_SHA256 in scenarios")


def _realtime() -> Finding:
    try:
        old = os.sched_getscheduler(0)
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, old, os.sched_param(0))
    except OSError:
        return Finding("realtime", False, False, "wires will not be real-time: no verdict on delays finer than 5 ms",
                       "run mpq as root, or allow SCHED_FIFO (ulimit -r 1)")
    inside = rootless.needed()
    return Finding("realtime", not inside, False, "SCHED_FIFO is allowed" if not inside else "not in a user namespace")


def _cubic() -> Finding:
    try:
        with socket.socket() as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    except OSError:
        return Finding("cubic", False, True, "the kernel has no CUBIC for the inner TCP", "modprobe tcp_cubic (as root)")
    return Finding("cubic", True, True, "TCP CUBIC is there")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding("cores", count >= 2, False, f"{count} CPU cores, kernel {platform.release()}",
                   "" if count >= 2 else "figures need two cores: UE and UPF share one here")


def _runs() -> Finding:
    root = runs_root()
    parent = next(p for p in (root, *root.parents) if p.exists())
    ok = os.access(parent, os.W_OK) and parent.is_dir()
    return Finding("runs", ok, True, f"runs go to {root}", "" if ok else f"{parent} is not writable: set MPQ_RUNS")


FINDINGS: tuple[Callable[[], Finding], ...] = (
    _privileges,
    _tun,
    _engine,
    _aes,
    _cubic,
    _cores,
    _realtime,
    _program("iperf3", "iperf3", True, "the traffic of scenarios"),
    _program("setpriv", "util-linux", True, "ends programs with the lab"),
    _program("tshark", "tshark", False, "tests only; runs are captured without it"),
    _runs,
)


def run(options: argparse.Namespace) -> int:
    found = [look() for look in FINDINGS]
    lines = []
    for f in found:
        word = "ok     " if f.ok else ("MISSING" if f.needed else "less   ")
        lines.append(f"{word} {f.id:<11} {f.text}" + (f"\n                    remedy: {f.remedy}" if f.remedy else ""))
    show(options, {"findings": [asdict(f) for f in found], "ok": all(f.ok for f in found if f.needed)}, "\n".join(lines))
    return 0 if all(f.ok for f in found if f.needed) else 1
