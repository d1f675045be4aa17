"""An authenticated peer that means no good (bars B): floods that must cost neither memory nor other connections anything."""

from __future__ import annotations

import gc

import frames as f
from heap import heap_in_use
from raw_peer import RawPeer

from native import lib
from native.sim import SECOND, Simulator, check

CYCLES = 1000
SETTLED = 200  # cycles until pools and tables have the size that they keep
SPARE = 16 << 10
"""octets that come and go with what happens to be under way; one path alone is 10 KiB"""
SLOTS = 32  # LIMIT_PATH_SLOTS
FRAMES = 1024  # LIMIT_FRAMES_QUEUED
INTERNAL_ERROR = 0x01
INITIAL_LIMIT = 3


class Growth:
    """The heap since it settled: `sample` every cycle."""

    def __init__(self, after: int = SETTLED) -> None:
        self._left, self.most, self._base = after, 0, 0

    def sample(self) -> None:
        self._left -= 1
        if self._left == 0:
            gc.collect()
            self._base = heap_in_use()
        elif self._left < 0:
            self.most = max(self.most, heap_in_use() - self._base)


def test_retirements_that_cannot_be_sent_are_bounded() -> None:
    """R-22: each new CID retires the one before it, and nothing is ever acknowledged: what the window does not let out waits, up to
    the limit of the queue. Then the connection ends by name, and all of it is given back."""
    with RawPeer("server") as peer:
        peer.connect()
        peer.answers = False
        gc.collect()
        before = heap_in_use()
        for number in range(10, 10 + 3 * FRAMES):
            peer.send(0, peer.cid_frame(0, number, number))
            peer.cids.clear()
            peer.cids.update({peer.cid_of(0, n): (0, n) for n in range(max(0, number - 2), number + 1)})
            peer.packets.clear()
            if peer.error is not None:
                break
        assert peer.error == INTERNAL_ERROR and peer.counter("frame_queue_full") == 1
        assert FRAMES / 2 < number < 3 * FRAMES
        peer.run(30 * SECOND)
        assert peer.node.connections() == []
        peer.node.events.clear()
        gc.collect()
        assert heap_in_use() < before + 128 * SPARE  # the pool keeps its thousand frames of 1 KiB


def paths_come_and_go(cycles: int) -> int:
    """A client that opens a path, abandons it, opens the next; how much the heap of both ends grew."""
    growth = Growth()
    with Simulator(25) as sim:
        lib.simnet_checks_set(sim.net, 0)  # which remember every path that ever was
        conn, peer = sim.connect()
        for expected in range(1, cycles + 1):
            assert sim.open_path(conn, 1) == expected  # no id comes twice
            check(lib.path_abandon(sim.client.endpoint, conn, expected, 0))
            sim.client.events.clear()
            sim.server.events.clear()
            growth.sample()
        sim.run(SECOND)
        assert len(sim.server.paths(peer)) == 1 and sim.server.stats(peer).closing == 0
        assert sim.server.stats(peer).max_path_id_local == cycles + INITIAL_LIMIT
    return growth.most


def test_paths_that_come_and_go_cost_nothing() -> None:
    """R-25; a hundred times as many in tests/soak."""
    assert paths_come_and_go(CYCLES) < SPARE


def test_ids_come_back_no_faster_than_paths_are_forgotten() -> None:
    """R-25: a peer abandons ids as fast as it gets them. In one moment it gets as many as there are slots, then as many per three
    PTO, while it likes: never more than the slots at a time, and never none."""
    with RawPeer("server", params={"initial_max_path_id": 100 * SLOTS}) as peer:
        peer.connect()
        gone = 0

        def abandon_all() -> int:
            nonlocal gone
            before = gone
            while gone < peer.stats().max_path_id_local and gone - before < 10 * SLOTS:
                gone += 1
                peer.send(0, f.frame(f.PATH_ABANDON, gone, 0))
            return gone - before

        assert abandon_all() == SLOTS - 1  # path 0 lives
        assert peer.stats().max_path_id_local == gone and peer.error is None
        for _ in range(20):
            peer.run(4 * max(p.pto for p in peer.paths().values()))
            assert 0 < abandon_all() < SLOTS
            peer.packets.clear()
        assert peer.error is None
        peer.run(5 * SECOND)
        peer.send(gone + 1, f.frame(f.PATH_CHALLENGE) + b"validate", link=1, pad=1200)  # an honest path after all that
        peer.run(SECOND)
        assert peer.error is None


def test_abandonments_that_are_never_mirrored_cost_nothing() -> None:
    """R-25: our own client abandons path after path; its server acknowledges and says nothing more, retires no CID. When all slots
    hold a path that may still be sent on, no further one is opened; the first mirrored abandonment makes room."""
    with RawPeer("client", params={"initial_max_path_id": 4 * SLOTS}) as peer:
        peer.connect()
        opened = 0
        heap = []
        for _ in range(4 * SLOTS):
            if (path := peer.engine_opens()) < 0:
                assert path == -lib.ENGINE_E_LIMIT
            else:
                opened += 1
                assert path == opened
                peer.engine_abandons(path)
            peer.run(4 * max(p.pto for p in peer.paths().values()))
            assert peer.error is None
            if opened + 3 <= peer.stats().max_path_id_local:
                peer.send(0, *(peer.cid_frame(opened + 3, number) for number in range(2)))
            heap.append(heap_in_use())
        assert opened == SLOTS - 1
        assert max(heap[2 * SLOTS:]) - heap[2 * SLOTS] < SPARE
        peer.packets.clear()
        for path in range(1, opened + 1):
            peer.send(0, f.frame(f.PATH_ABANDON, path, 0))
        peer.run(SECOND)
        gc.collect()
        assert heap_in_use() < heap[0] + 2 * SPARE  # there were a few slots then, too
        peer.send(0, peer.cid_frame(opened + 1, 0))
        assert peer.engine_opens() == opened + 1
