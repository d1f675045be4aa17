"""Seeded runs as `make simulate` does them, the determinism of the simulator, and canaries of its rules."""

from __future__ import annotations

import os
from typing import Any

import pytest
import simulate
from world import DOWN, UP, Broken, World

from native import ffi, lib
from native.sim import MS, SECOND, Simulator, SimulatorError, address, check

SEEDS = int(os.environ.get("MPQ_SIMULATE", "2000"))


def test_a_few_thousand_seeds() -> None:
    failed = simulate.many(1, SEEDS, min(4, os.cpu_count() or 1))
    assert not failed, "\n".join(f"make simulate SEED={seed}\n{why}" for seed, why in list(failed.items())[:3])


def test_the_same_seed_gives_the_same_trace() -> None:
    traces = [simulate.run(seed) for seed in range(1, 21)]
    assert traces == [simulate.run(seed) for seed in range(1, 21)]
    assert len(set(traces)) == 20


def test_one_octet_changes_the_trace() -> None:
    def trace(size: int) -> int:
        with Simulator(3) as s:
            conn, _ = s.connect()
            check(lib.conn_datagram_send(s.client.endpoint, conn, b"\x05" + bytes(size), 1 + size))
            s.run(SECOND)
            return s.trace

    assert trace(10) == trace(10) != trace(11)


# ---- canaries: each rule can fail


@pytest.fixture
def world() -> Any:
    w = World(1)
    w.connect()
    w.open_path(1)
    w.wait(SECOND)
    yield w
    w.close()


def test_a_repeated_packet_number_is_seen(world: World) -> None:
    sent: list[bytes] = []
    world.sim.tap = lambda direction, link, data: (sent.append(data) if direction == UP else None, data)[1]
    world.inner(UP, 3, 100, 1)
    world.wait(10 * MS)
    assert sent
    assert lib.simnet_observe(world.sim.net, UP, sent[0], len(sent[0])) == -lib.ENGINE_E_STATE
    with pytest.raises(SimulatorError, match="was used before"):
        world.wait(MS)


def test_a_repeated_handshake_packet_number_is_seen() -> None:
    sent: list[bytes] = []
    with Simulator(5) as s:
        s.tap = lambda direction, link, data: (sent.append(data), data)[1]
        conn = check(lib.conn_connect(s.client.endpoint, 0, s.server_address, s.now))
        s.client_handshake.start(conn)
        s.flush()
        assert sent[0][0] & 0xF0 == 0xC0
        assert lib.simnet_observe(s.net, UP, sent[0], len(sent[0])) == -lib.ENGINE_E_STATE


def test_an_altered_inner_packet_is_seen(world: World) -> None:
    with pytest.raises(Broken, match="altered"):
        world._inner(1, bytes(60))


def test_an_inner_packet_that_comes_twice_is_seen(world: World) -> None:
    world.inner(UP, 1, 100, 1)
    world.wait(SECOND)
    (packet,) = world.inner_got[UP]
    with pytest.raises(Broken, match="twice"):
        world._inner(1, packet)


def test_a_datagram_that_came_from_nowhere_breaks_the_account(world: World) -> None:
    world.check()
    world.sim.deliver(world.sim.server, 0, address("10.9.9.9", 9), bytes(40))
    with pytest.raises(Broken, match="datagrams received"):
        world.check()


def test_a_stuck_network_is_no_progress(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.shape(0, cut=True)
    world.shape(1, cut=True)
    world.shape(2, cut=True)
    monkeypatch.setattr(world, "heal", lambda: None)
    with pytest.raises(Broken, match="no progress"):
        world.settle()


def test_a_lost_packet_in_a_good_network_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world, "heal", lambda: None)
    for wire in world.sim.wires.values():
        wire.loss = 0.1
    with pytest.raises(Broken, match="were lost"):
        world.settle()


@pytest.mark.parametrize(
    ("events", "match"),
    [
        ([("EVENT_PATH_STATE", {"path": 9, "a": lib.PATH_ACTIVE})], "was not validated"),
        ([("EVENT_GONE", {})], "GONE without CLOSED"),
        ([("EVENT_CLOSED", {}), ("EVENT_GONE", {}), ("EVENT_ACKED", {})], "that is gone"),
        ([("EVENT_CLOSED", {}), ("EVENT_CLOSED", {})], "after CLOSED"),
        ([("EVENT_PATH_VALIDATED", {"path": 9})] * 2, "validated twice"),
        ([("EVENT_KEY_PHASE", {"a": 5})], "key phase"),
        ([("EVENT_CLOSED", {"token": lib.CLOSE_ERROR, "a": 1})], "closed for"),
    ],
)
def test_senseless_events_are_seen(world: World, events: list[tuple[str, dict[str, int]]], match: str) -> None:
    from native.sim import Event

    fields = {"conn": 77, "path": 0, "level": 1, "a": 0, "b": 0, "token": 0, "time": 0, "data": b""}
    with pytest.raises(Broken, match=match):
        for name, changes in events:
            world._event(0, Event(**{"type": getattr(lib, name), **fields, **changes}))


def test_the_white_box_rules_are_asked(world: World) -> None:
    """endpoint_check has no switch to break an engine with; that it reads the books is shown by a handle that is none."""
    why = ffi.new("char[200]")
    assert lib.endpoint_check(ffi.NULL, why, 200) == -lib.ENGINE_E_ARGUMENT
    assert lib.endpoint_check(world.sim.client.endpoint, why, 200) == 0
    _ = DOWN
