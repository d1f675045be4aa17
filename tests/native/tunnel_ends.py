"""Ends of a tunnel, and what goes through it, for tests of what becomes of a flow's packets (on the simulator)."""

from __future__ import annotations

from typing import Any

from native import ffi, lib
from native.sim import MS, SECOND, Node, Simulator, check, serial_of, udp4


class BothWays:
    """A packet from each end every millisecond for so long (ns); `sent`: from each, numbered from 0."""

    def __init__(self, sim: Simulator, size: int, length: int) -> None:
        self.sim, self.size, self.sent = sim, size, 0
        sim.every(MS, sim.now + length, self._send)

    def _send(self) -> None:
        self.sim.inner(self.sim.client, udp4(self.size, serial=self.sent))
        self.sim.inner(self.sim.server, udp4(self.size, up=False, serial=self.sent))
        self.sent += 1


class Ends:
    """Over two paths: packets of one flow from the UE, and what came out at the UPF."""

    def __init__(self, sim: Simulator, rule: dict[str, Any], numbers: bool = True) -> None:
        self.sim, self.sent = sim, 0
        self.conn, self.peer = sim.connect()
        sim.open_path(self.conn, 1)
        self.tunnels = sim.tunnel(self.conn, self.peer, [rule])
        if numbers:
            sim.sequence(sim.client, self.tunnels[0], self.conn)
            sim.sequence(sim.server, self.tunnels[1], self.peer)
        sim.run(SECOND)

    def send(self, count: int, every: int = 10 * MS, size: int = 200) -> None:
        """One at a time."""
        for _ in range(count):
            self.sim.inner(self.sim.client, udp4(size, serial=self.sent))
            self.sent += 1
            self.sim.run(every)

    def got(self) -> list[int]:
        """Serial numbers in the order in which they came out."""
        return [serial_of(packet) for _, _, packet in self.sim.server.inner]

    def stats(self, node: Node) -> Any:
        out = ffi.new("struct tunnel_stats *")
        check(lib.tunnel_stats(node.endpoint, self.tunnels[node.role], out))
        return out
