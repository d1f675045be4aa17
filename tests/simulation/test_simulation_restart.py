"""One end loses all its state: what the other learns of it, and when; and connection IDs that change meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from world import DOWN, IDLE_MOST, UP, World

from native.sim import MS, SECOND


@pytest.fixture
def world() -> Iterator[World]:
    w = World(1)
    w.connect()
    w.open_path(1)
    w.wait(SECOND)
    yield w
    w.close()


def carries(world: World) -> bool:
    """Both directions of the tunnel deliver."""
    before = [len(world.inner_got[d]) for d in range(2)]
    world.inner(UP, 4, 300, 2)
    world.inner(DOWN, 4, 300, 2)
    world.wait(SECOND)
    return [len(world.inner_got[d]) - before[d] for d in range(2)] == [4, 4]


@pytest.mark.parametrize("rotated", [False, True])
def test_a_client_learns_from_a_reset_that_its_server_forgot(world: World, rotated: bool) -> None:
    """RFC 9000 §10.3: whatever of its connection IDs the client sends to, its token is known."""
    if rotated:
        for path in range(2):
            world.cid_rotate(0, path)
        world.wait(SECOND)
    conn = world.conns[0]
    world.restart(1)
    world.inner(UP, 1, 100, 1)
    world.wait(SECOND)
    assert world.views[0][conn].closed and not world.conns[0]
    assert world.counters(0)["stateless_reset"] == 1 and world.counters(1)["reset_sent"] >= 1
    world.connect()
    assert carries(world)
    world.settle()
    world.finish()


def test_a_client_that_hears_no_reset_gives_up_by_itself(world: World) -> None:
    conn = world.conns[0]
    world.restart(1)
    for wire in world.sim.wires.values():
        wire.cut = 1
    world.wait(IDLE_MOST)
    assert world.views[0][conn].closed and "stateless_reset" not in world.counters(0)
    for wire in world.sim.wires.values():
        wire.cut = 0
    world.connect()
    assert carries(world)
    world.finish()


def test_a_server_carries_a_client_that_starts_anew_beside_what_is_left_of_it(world: World) -> None:
    """A client tells no one that it has forgotten: the old connection goes by its idle time-out and disturbs nothing."""
    old = world.conns[1]
    world.restart(0)
    world.wait(100 * MS)
    world.connect()
    assert world.conns[1] not in (0, old) and not world.views[1][old].closed
    assert carries(world)
    world.wait(IDLE_MOST)
    assert world.views[1][old].gone and all(world.conns)
    assert carries(world)
    world.settle()
    world.finish()


def test_what_waited_in_a_process_that_ended_is_accounted_for(world: World) -> None:
    world.inner(DOWN, 150, 1200, 4)
    world.restart(1)
    assert world.forgotten[DOWN] == 150
    world.wait(SECOND)
    world.inner_account(DOWN)
    assert world.counters(1)["inner_sent"] < world.given_count[DOWN]


@pytest.mark.parametrize("side", [0, 1])
def test_paths_go_on_over_changes_of_connection_ids(world: World, side: int) -> None:
    """RFC 9000 §5.1.2, RFC 10069 §3.2.2: ten in a row under traffic, replaced each time, and nothing is lost for it."""
    world.shape(0, delay=5 * MS)
    world.shape(1, delay=60 * MS)  # RETIRE_CONNECTION_ID takes the faster one
    world.wait(SECOND)
    world.traffic(5 * MS, 3 * SECOND, 300)
    for _ in range(10):
        for path in range(2):
            world.cid_rotate(side, path)
        world.wait(200 * MS)
    world.wait(2 * SECOND)
    assert [len(world.inner_got[d]) for d in range(2)] == world.given_count
    assert not world.nodes[1 - side].drops().get("cid_unknown")
    world.settle()
    world.finish()
