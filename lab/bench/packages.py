"""Which peers this machine has, and Debian's packages for those it lacks.

wireguard-go has used the kernel's offloads since 2023. Where the system's package is older, the next Debian release's is taken too:
apt fetches and checks it with lists of its own in a temporary folder, and it is unpacked there; nothing of it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from lab.bench.pair import BenchError

PACKAGES = {"openvpn": "openvpn", "wireguard-go": "wireguard-go", "mptcpize": "mptcpize"}  # program: package
OFFLOAD_SINCE = "0.0.20230223"  # TUN vnet_hdr and UDP GSO and GRO came after this version
NEXT_RELEASE = "trixie"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
INSTALL_S = 300
FETCH_S = 120
MPTCP_ENABLED = Path("/proc/sys/net/mptcp/enabled")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Peer:
    """A program to measure against, or the reason why it is not there (`absent`)."""

    name: str
    program: str = ""
    version: str = ""
    absent: str = ""

    def document(self) -> dict[str, str]:
        if self.absent:
            return {"name": self.name, "absent": self.absent}
        return {"name": self.name, "version": self.version}


def turn_of(peers: list[Peer], name: str, work: Callable[[Peer], T]) -> T | None:
    """What `work` gives for the peer of this name; None when it is not there. One that fails is marked absent with what it said."""
    for i, peer in enumerate(peers):
        if peer.name == name and not peer.absent:
            try:
                return work(peer)
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                peers[i] = replace(peer, absent=f"it failed: {error}")
    return None


def _run(argv: list[str], limit: float) -> str:
    """What it printed. OSError: it could not be run, failed, or took too long; the text says what it said."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=limit, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise OSError(f"{argv[0]} took more than {limit:.0f} s") from None
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise OSError(f"{argv[0]}: {words[-1] if words else f'ended with {done.returncode}'}")
    return done.stdout


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def install() -> str:
    """Installs what is missing; "" or why that cannot be. Asks nothing, starts nothing: the programs only."""
    missing = [package for program, package in PACKAGES.items() if _which(program) is None]
    if not missing:
        return ""
    if os.geteuid() != 0:
        return f"that needs root: apt-get install --no-install-recommends {' '.join(missing)}"
    try:
        _run(["apt-get", "update", "-qq"], INSTALL_S)
        _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], INSTALL_S)
    except OSError as error:
        return str(error)
    return ""


def _version(package: str) -> str:
    try:
        return _run(["dpkg-query", "-W", "-f", "${Version}", package], 10).strip()
    except OSError:
        return ""


def _with_offloads(version: str) -> bool:
    try:
        _run(["dpkg", "--compare-versions", version, "gt", OFFLOAD_SINCE + "-~"], 10)
    except OSError:
        return False
    return True


def _mirror() -> str:
    """The archive that this machine's apt takes its own Debian packages from."""
    found = _run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(COMPONENT)", "Created-By: Packages"], 10)
    for line in found.splitlines():
        uri, _, rest = line.partition(" ")
        if rest == "Debian main":
            return uri
    raise OSError("apt knows no Debian archive")


def _fetch_offload(folder: Path) -> Peer:
    """The next release's package, unpacked under `folder`."""
    name = "wireguard_go_offload"
    try:
        for part in ("parts", "lists/partial", "archives/partial"):
            (folder / part).mkdir(parents=True)
        source = f"Types: deb\nURIs: {_mirror()}\nSuites: {NEXT_RELEASE}\nComponents: main\nSigned-By: {KEYRING}\n"
        (folder / "parts" / "next.sources").write_text(source, encoding="ascii")
        options = [
            f"-oDir::Etc::SourceList={os.devnull}",
            f"-oDir::Etc::SourceParts={folder / 'parts'}",
            f"-oDir::State::Lists={folder / 'lists'}",
            f"-oDir::Cache={folder}",
            "-oAcquire::Languages=none",
            "-oAPT::Sandbox::User=root",
        ]
        _run(["apt-get", "-qq", *options, "update"], FETCH_S)
        version = _run(["apt-cache", *options, "show", "--no-all-versions", "wireguard-go"], 30)
        found = next((line.partition(":")[2].strip() for line in version.splitlines() if line.startswith("Version:")), "")
        if not _with_offloads(found):
            raise OSError(f"{NEXT_RELEASE} has {found or 'none'}")
        _run(["sh", "-c", 'cd "$0" && exec apt-get -qq "$@"', str(folder), *options, "download", f"wireguard-go={found}"], FETCH_S)
        package = next(folder.glob("wireguard-go_*.deb"))
        _run(["dpkg-deb", "-x", str(package), str(folder / "root")], 30)
        return Peer(name, str(folder / "root" / "usr" / "bin" / "wireguard-go"), found)
    except (OSError, StopIteration) as error:
        return Peer(name, absent=f"no build with offloads: {error or 'apt downloaded nothing'}")


def _mptcp() -> Peer:
    try:
        enabled = MPTCP_ENABLED.read_text(encoding="ascii").strip() == "1"
    except OSError:
        enabled = False
    if not enabled:
        return Peer("mptcp", absent="this kernel has no MPTCP, or net.mptcp.enabled is 0")
    if (program := _which("mptcpize")) is None:
        return Peer("mptcp", absent="mptcpize is not installed (mpq bench --peers installs it)")
    return Peer("mptcp", program, f"kernel {os.uname().release}")


@contextmanager
def peers(asked: bool, trouble: str = "") -> Iterator[list[Peer]]:
    """All peers by name, there or not. `asked`: a build of wireguard-go with offloads may be fetched for the time of the block;
    `trouble`: why the packages could not be installed."""
    hint = trouble or ("" if asked else "mpq bench --peers installs it")
    found = []
    with TemporaryDirectory(prefix="mpq-bench-") as folder:
        for name, program in (("openvpn", "openvpn"), ("wireguard_go", "wireguard-go")):
            path = _which(program)
            absent = "" if path else f"{program} is not installed" + (f" ({hint})" if hint else "")
            found.append(Peer(name, path or "", _version(PACKAGES[program]), absent))
        wireguard = found[-1]
        if not wireguard.absent and _with_offloads(wireguard.version):
            old = "the installed wireguard-go has offloads: it is measured as wireguard_go_offload"
            found[-1:] = [Peer("wireguard_go", absent=old), Peer("wireguard_go_offload", wireguard.program, wireguard.version)]
        elif asked:
            found.append(_fetch_offload(Path(folder)))
        else:
            found.append(Peer("wireguard_go_offload", absent="mpq bench --peers fetches a build with offloads"))
        found.append(_mptcp())
        yield found
