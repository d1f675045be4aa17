"""What an end tells its peer of a path that does not answer (RFC 10069 §3.3): in time, and no more often than is useful."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from native import lib
from native.sim import ACTIVE_3GPP, MS, SECOND, Node, Simulator, address, check, udp4

BACKUP, AVAILABLE = 0, 1
RETRIES = (0, 1, 3, 7)
"""Seconds after which a SYN, and a SYN-ACK, is sent again while nothing comes back (RFC 6298 §5)."""


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(83) as s:
        yield s
        s.check()


def two_paths(sim: Simulator) -> tuple[int, int]:
    for link in range(2):
        sim.shape(link, rate=20e6, delay=20 * MS)
    conn, peer = sim.connect()
    sim.open_path(conn, 1)
    sim.tunnel(conn, peer, [ACTIVE_3GPP])
    return conn, peer


def told(node: Node, path: int = 0) -> list[int]:
    """What this end was told of a path."""
    return [e.a for e in node.of_type(lib.EVENT_PATH_STATUS) if e.path == path]


class TcpHandshake:
    """SYN of the UE, SYN-ACK of the host in the data network, each again by the clock; `took` when the first SYN-ACK is there."""

    def __init__(self, sim: Simulator) -> None:
        self.sim, self.begin, self.took, self.heard = sim, sim.now, 0, False
        sim.server.on_inner, sim.client.on_inner = self._syn, self._syn_ack
        self._repeat(True)

    def finish(self) -> int:
        """How long it took. In short steps: what a packet that arrives sets going is due within the step."""
        while not self.took and self.sim.now - self.begin < 10 * SECOND:
            self.sim.run(10 * MS)
        return self.took

    def _repeat(self, up: bool) -> None:
        for delay in RETRIES:
            self.sim.after(delay * SECOND, lambda: self._send(up))

    def _send(self, up: bool) -> None:
        if not self.took:
            self.sim.inner(self.sim.client if up else self.sim.server, udp4(60, up=up, serial=up))

    def _syn(self, _tun: int, _packet: bytes) -> None:
        first, self.heard = not self.heard, True
        if first:
            self._repeat(False)
        else:
            self._send(False)

    def _syn_ack(self, _tun: int, packet: bytes) -> None:
        self.took = self.took or self.sim.now - self.begin


def test_a_flow_that_begins_after_a_silent_cut_is_not_held_up_by_the_peer(sim: Simulator) -> None:
    """The UE knows from its keep-alives, the UPF from the UE: it had to lose packets of its own before, a SYN-ACK first."""
    conn, peer = two_paths(sim)
    sim.shape(0, cut=True)
    sim.run(12 * SECOND)
    assert sim.client.paths(conn)[0].state == lib.PATH_FAILED
    assert not sim.server.paths(peer)[0].peer_available and sim.server.paths(peer)[0].datagrams_sent == 0
    assert 0 < TcpHandshake(sim).finish() < 100 * MS


def test_a_flow_that_finds_the_path_dead_waits_for_one_retry(sim: Simulator) -> None:
    """Its first SYN is what finds it out; the second one goes over the other path, and so does its answer."""
    two_paths(sim)
    sim.shape(0, cut=True)
    assert SECOND < TcpHandshake(sim).finish() < 1100 * MS


def test_a_path_that_is_back_is_told_so(sim: Simulator) -> None:
    conn, peer = two_paths(sim)
    sim.shape(0, cut=True)
    sim.run(12 * SECOND)
    sim.shape(0, cut=False)
    sim.run(SECOND)
    assert told(sim.server) == [BACKUP, AVAILABLE]
    sim.inner(sim.server, udp4(200, up=False))
    sim.run(100 * MS)
    assert sim.server.paths(peer)[0].datagrams_sent == 1 and sim.client.paths(conn)[0].state == lib.PATH_ACTIVE


def test_a_path_that_flaps_is_told_of_ever_more_seldom(sim: Simulator) -> None:
    """R-40, from our side: cut and restored every two seconds, it fails 150 times at each end."""
    conn, _ = two_paths(sim)
    sim.every(100 * MS, sim.now + 600 * SECOND, lambda: sim.inner(sim.client, udp4(200)))
    failures = 0
    for turn in range(300):
        sim.shape(0, cut=turn % 2 == 0)
        sim.run(2 * SECOND)
        failures += sim.client.paths(conn)[0].state in (lib.PATH_SUSPECT, lib.PATH_FAILED)
    assert failures >= 140
    assert 10 <= told(sim.server).count(BACKUP) <= 40
    sim.run(40 * SECOND)
    assert told(sim.server)[-1] == AVAILABLE
    before = len(told(sim.server))
    sim.run(60 * SECOND)  # it has kept still: told at once again
    sim.shape(0, cut=True)
    sim.run(12 * SECOND)
    assert told(sim.server)[before:] == [BACKUP]


def test_a_direction_that_works_is_left_to_the_peer(sim: Simulator) -> None:
    """The uplink of a path is cut: the UE leaves it, the UPF's packets still arrive on it and are acknowledged elsewhere."""
    conn, peer = two_paths(sim)
    sim.every(10 * MS, sim.now + 10 * SECOND, lambda: sim.inner(sim.server, udp4(200, up=False)))
    sim.every(10 * MS, sim.now + 10 * SECOND, lambda: sim.inner(sim.client, udp4(200)))
    sim.run(SECOND)
    sim.wires[0, 0].cut = True
    sim.run(5 * SECOND)
    assert sim.client.paths(conn)[0].state in (lib.PATH_SUSPECT, lib.PATH_FAILED)
    assert told(sim.server) == []
    assert sim.server.paths(peer)[1].datagrams_sent < 40 < 400 < sim.server.paths(peer)[0].datagrams_sent


def test_without_another_path_nothing_is_told(sim: Simulator) -> None:
    """Of two that fail at once: a peer that avoids all has won nothing. When one comes back it is told of the other."""
    two_paths(sim)
    for link in range(2):
        sim.shape(link, cut=True)
    sim.run(12 * SECOND)
    assert told(sim.server) == told(sim.server, 1) == []
    sim.shape(1, cut=False)
    sim.run(2 * SECOND)
    assert told(sim.server) == [BACKUP] and told(sim.server, 1) == []


def test_a_path_whose_address_changed_is_not_left_because_of_it(sim: Simulator) -> None:
    """The UPF's packets go to where the UE was. Told that the path does not answer the UE sends no data there, and with nothing
    from its new address the path would stay dead up to the next keep-alive (seed 977 of the simulator). One small packet must do:
    the question to the address that it left counted against what may go to the new one, and left nothing for a question there."""
    conn, peer = two_paths(sim)
    sim.client_address[0] = address("10.1.0.2", 50123)
    sim.inner(sim.server, udp4(200, up=False))
    sim.run(SECOND)
    assert BACKUP in told(sim.client) and told(sim.client)[-1] == AVAILABLE
    assert sim.server.paths(peer)[0].state == lib.PATH_ACTIVE and sim.server.paths(peer)[0].remote.port == 50123
    assert sim.client.paths(conn)[0].state == lib.PATH_ACTIVE


@pytest.mark.parametrize("available", [True, False])
def test_what_the_application_says_of_a_path_that_fails_holds_when_it_is_back(sim: Simulator, available: bool) -> None:
    """One that it wants left free is not called available because it answers; one that it wants used is not before it answers."""
    conn, _ = two_paths(sim)
    sim.shape(0, cut=True)
    sim.run(12 * SECOND)
    assert told(sim.server) == [BACKUP]
    check(lib.path_status_set(sim.client.endpoint, conn, 0, available))
    sim.run(SECOND)
    assert AVAILABLE not in told(sim.server)
    sim.shape(0, cut=False)
    sim.run(2 * SECOND)
    assert told(sim.server)[-1] == int(available)


def test_loss_of_a_few_percent_tells_nothing(sim: Simulator) -> None:
    """Both directions carry traffic: a lost probe does not make the path suspect in the peer's eyes."""
    two_paths(sim)
    sim.shape(0, loss=0.03)
    for node, up in ((sim.client, True), (sim.server, False)):
        sim.every(10 * MS, sim.now + 60 * SECOND, lambda node=node, up=up: sim.inner(node, udp4(200, up=up)))  # type: ignore[misc]
    sim.run(61 * SECOND)
    assert len(told(sim.server)) + len(told(sim.client)) <= 2
