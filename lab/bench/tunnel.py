"""The tunnel on an unshaped veth pair against the forwarder that has our offloads and no cryptography: iperf3 through both in turn.
Both ends, iperf3 and this process share the machine's cores, so ratios and CPU-seconds per Gbit say more than rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from lab.bench.figure import Figure
from lab.bench.iperf import GBIT, Iperf, Load, Outcome, Pair, measure
from lab.bench.mptcp import MptcpPair
from lab.bench.packages import Peer, turn_of
from lab.bench.pair import OUTER, SERVER, EnginePair, ForwarderPair, Line, check
from lab.bench.vpn import PEER_INNER, OpenVpnPair, WireguardGoPair
from native._engine import ffi, lib


@contextmanager
def forced(backend: str | None) -> Iterator[None]:
    """Connections made inside use this AEAD backend."""
    check(lib.aead_backend_force(ffi.NULL if backend is None else backend.encode()), "aead_backend_force")
    try:
        yield
    finally:
        lib.aead_backend_force(ffi.NULL)


LOADS = (
    Load("tunnel.tcp.up", ("-C", "cubic")),  # whatever the machine's default is
    Load("tunnel.tcp.down", ("-C", "cubic", "-R")),
    Load("tunnel.udp1200", ("-u", "-b", "0", "-l", "1200"), 1200),
    Load("tunnel.udp64", ("-u", "-b", "0", "-l", "64"), 64),
)
TCP_LOADS = LOADS[:2]


def _turn(line: Line, pair: Pair, loads: Sequence[Load], seconds: int, iperf: Iperf | None = None) -> dict[str, Outcome]:
    """All loads through one pair, which is closed then."""
    try:
        return {load.id: measure(pair, iperf or Iperf(line), load, seconds) for load in loads}
    finally:
        pair.close()


def _peer_turn(line: Line, peer: Peer, seconds: int) -> dict[str, Outcome]:
    """The TCP loads through a peer, over the same line; MPTCP has a line of two links."""
    if peer.name == "mptcp":
        with Line(2) as two:
            return _turn(two, MptcpPair(two), TCP_LOADS, seconds, Iperf(two, OUTER[0][SERVER], (peer.program, "run")))
    pair = OpenVpnPair(line, peer.program) if peer.name == "openvpn" else WireguardGoPair(line, peer.program)
    return _turn(line, pair, TCP_LOADS, seconds, Iperf(line, PEER_INNER[SERVER]))


def measure_tunnel(
    runs: int,
    seconds: int,
    progress: Callable[[str], None],
    suite: int = 0x1301,
    backend: str | None = None,
    prefix: str = "tunnel",
    peers: list[Peer] | None = None,
    loads: Sequence[Load] = LOADS,
) -> list[Figure]:
    """Engine, forwarder and peers in turn over the same line; the peers carry the TCP loads. A peer's own figures: its CPU per
    Gbit and its rates, `peer.<name>.*`. One that fails is marked absent in `peers`, with what it said."""
    rates = {load.id: Figure(load.id.replace("tunnel", prefix), load.unit) for load in loads}
    cpu = Figure(f"{prefix}.cpu", "CPU-s/Gbit")
    limit = Figure("forwarder.cpu", "CPU-s/Gbit")
    theirs: dict[str, Figure] = {}
    with Line() as line, forced(backend):
        for turn in range(runs):
            ours = _turn(line, EnginePair(line, suite), loads, seconds)
            others = {"forwarder": _turn(line, ForwarderPair(line), loads, seconds)}
            for name in [peer.name for peer in peers or ()]:
                outcome = turn_of(peers or [], name, lambda peer: _peer_turn(line, peer, seconds))
                others |= {name: outcome} if outcome else {}
            for load in loads:
                rates[load.id].add(
                    ours[load.id].of(load), **{name: other[load.id].of(load) for name, other in others.items() if load.id in other}
                )
            for load in TCP_LOADS:
                cpu.add(ours[load.id].cpu_per_gbit, **{name: other[load.id].cpu_per_gbit for name, other in others.items()})
                limit.add(others["forwarder"][load.id].cpu_per_gbit)
                for name, other in others.items():
                    own = f"peer.{name}.{load.id.removeprefix('tunnel.')}"
                    theirs.setdefault(own, Figure(own, load.unit)).add(other[load.id].of(load))
                    if other[load.id].cpu_per_gbit:
                        own = f"peer.{name}.cpu"
                        theirs.setdefault(own, Figure(own, "CPU-s/Gbit")).add(other[load.id].cpu_per_gbit)
            said = ", ".join(f"{name} {other['tunnel.tcp.up'].bits_per_second / GBIT:.2f}" for name, other in others.items())
            progress(f"{prefix}, turn {turn + 1} of {runs}: {ours['tunnel.tcp.up'].bits_per_second / GBIT:.2f} Gbit/s up; {said}")
    return [*rates.values(), cpu, limit, *theirs.values()]


def measure_ciphers(
    runs: int, seconds: int, progress: Callable[[str], None], peers: list[Peer] | None = None
) -> list[Figure]:
    """CPU per Gbit of the tunnel with the other suites, and with the backend that every CPU has. wireguard-go has ChaCha20-Poly1305
    only: it is measured again beside ours with that."""
    figures = []
    same = [peer for peer in peers or () if peer.name.startswith("wireguard_go")]
    for prefix, suite, backend in (
        ("tunnel.aes_256_gcm", 0x1302, None),
        ("tunnel.chacha20_poly1305", 0x1303, None),
        ("tunnel.openssl", 0x1301, "openssl"),
    ):
        beside = same if suite == 0x1303 else []
        found = measure_tunnel(runs, seconds, progress, suite, backend, prefix, beside, TCP_LOADS)
        figures += [figure for figure in found if figure.id.startswith(prefix)]
    return figures


def measure_multipath(runs: int, seconds: int, progress: Callable[[str], None]) -> list[Figure]:
    """CPU per Gbit over two unshaped paths, half the flows on each, against one path: the same eight flows down."""
    cpu = Figure("multipath.cpu", "CPU-s/Gbit")
    load = Load("multipath.tcp.down", ("-C", "cubic", "-R", "-P", "8"))
    with Line(2) as two, Line() as one:
        for turn in range(runs):
            spent = []
            for line in (two, one):
                pair = EnginePair(line, 0x1301)
                try:
                    spent.append(measure(pair, Iperf(line), load, seconds).cpu_per_gbit)
                finally:
                    pair.close()
            cpu.add(spent[0], single=spent[1])
            progress(f"multipath, turn {turn + 1} of {runs}: {spent[0]:.2f} against {spent[1]:.2f} CPU-s per Gbit")
    return [cpu]
