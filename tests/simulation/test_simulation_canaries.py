"""Each rule that the simulator holds can fail: shown by making the mistake that it forbids (native/src/simnet_break.c)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from remembered import CHUNK, pattern, varint
from world import UP, Broken, World, changes_back

from native import ffi, lib
from native.sim import MS, SECOND, Event, Simulator, SimulatorError, address, check


@pytest.fixture
def world() -> Iterator[World]:
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
    fields = {"conn": 77, "path": 0, "level": 1, "a": 0, "b": 0, "token": 0, "time": 0, "data": b""}
    with pytest.raises(Broken, match=match):
        for name, changes in events:
            world._event(0, Event(**{"type": getattr(lib, name), **fields, **changes}))


def event(kind: int, world: World, side: int, **fields: int | bytes) -> Event:
    zero = {"conn": world.conns[side], "path": 0, "level": 2, "a": 0, "b": 0, "token": 0, "time": 0, "data": b""}
    return Event(**{"type": kind, **zero, **fields})  # type: ignore[arg-type]


def test_altered_stream_data_is_seen(world: World) -> None:
    wrong = b"\x0e\x00" + varint(CHUNK) + varint(CHUNK) + pattern(CHUNK)[:-1] + b"?"
    with pytest.raises(Broken, match="stream data altered"):
        world._event(1, event(lib.EVENT_FRAME, world, 1, data=wrong))


def test_a_frame_whose_fate_is_told_twice_is_seen(world: World) -> None:
    world.stream(0, 1)
    (token,) = world.streams[0].tokens
    world.wait(SECOND)
    with pytest.raises(Broken, match="came back twice"):
        world._event(0, event(lib.EVENT_LOST, world, 0, token=token))


def test_a_frame_that_is_acknowledged_and_did_not_arrive_is_seen(world: World) -> None:
    world.shape(0, cut=True)
    world.shape(1, cut=True)
    world.stream(0, 1)
    (token,) = world.streams[0].tokens
    with pytest.raises(Broken, match="did not arrive"):
        world._event(0, event(lib.EVENT_ACKED, world, 0, token=token))


@pytest.mark.parametrize("twice", [False, True])
def test_a_datagram_of_python_altered_or_repeated_is_seen(world: World, twice: bool) -> None:
    world.datagram(0, 10)
    world.wait(SECOND)
    (data,) = world.datagrams_got[0]
    with pytest.raises(Broken, match="twice" if twice else "altered"):
        world._event(1, event(lib.EVENT_DATAGRAM, world, 1, data=data if twice else data + b"?"))


@pytest.mark.parametrize(
    ("what", "match"),
    [
        (lib.BREAK_IN_FLIGHT, "octets in flight"),
        (lib.BREAK_ELICITING, "eliciting packets outstanding"),
        (lib.BREAK_QUEUE, "its queue has"),
        (lib.BREAK_POOL, "packet buffers are somewhere"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_books_that_do_not_agree_are_seen(world: World, side: int, what: int, match: str) -> None:
    why = ffi.new("char[200]")
    world.check()
    check(lib.simnet_break(world.sim.net, side, what))
    with pytest.raises(SimulatorError, match=match):
        world.check()
    with pytest.raises(SimulatorError, match=match):  # and by the network itself, every now and then
        world.wait(SECOND)
    assert lib.endpoint_check(world.nodes[side].endpoint, why, 200) == 1
    check(lib.simnet_break(world.sim.net, side, what))  # or the ends could not be freed
    assert lib.endpoint_check(world.nodes[side].endpoint, why, 200) == 0


@pytest.mark.parametrize("side", [0, 1])
def test_sending_above_the_window_is_seen(world: World, side: int) -> None:
    world.inner(side, 150, 1200, 1)
    world.wait(0)
    check(lib.simnet_break(world.sim.net, side, lib.BREAK_WINDOW))
    with pytest.raises(SimulatorError, match=r"are in flight|above the window"):
        world.wait(SECOND)


@pytest.mark.parametrize("side", [0, 1])
def test_a_datagram_that_vanishes_in_an_end_is_seen(world: World, side: int) -> None:
    check(lib.simnet_break(world.sim.net, side, lib.BREAK_SWALLOW))
    world.inner(1 - side, 1, 100, 1)
    with pytest.raises(SimulatorError, match="neither taken nor counted"):
        world.wait(SECOND)


def test_an_inner_packet_that_no_counter_knows_is_seen(world: World) -> None:
    world.inner(UP, 3, 100, 1)
    world.wait(SECOND)
    world.inner_account(UP)
    world.given_count[UP] += 1
    with pytest.raises(Broken, match="unaccounted for"):
        world.inner_account(UP)


def test_an_end_that_is_left_alone_and_never_learns_it_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with another reset key cannot tell a client that it has forgotten it."""
    monkeypatch.setattr("world.IDLE_MOST", 3 * SECOND)
    world.restart(1)
    world.sim.restart(1, 99, reset_key=bytes(32))  # type: ignore[arg-type]
    world.nodes[1] = world.sim.server
    with pytest.raises(Broken, match="has not learned"):
        world._start_anew()


def test_a_connection_that_does_not_come_up_in_a_good_network_is_seen(world: World) -> None:
    world.restart(1)
    check(lib.endpoint_accept(world.nodes[1].endpoint, 0))
    with pytest.raises(Broken, match="no connection in a network without faults"):
        world._start_anew()


@pytest.mark.parametrize("connections_left", [False, True])
def test_what_a_close_leaves_behind_is_seen(world: World, connections_left: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if connections_left:
        monkeypatch.setattr(world, "close_connection", lambda side, code: None)
    else:
        world.views[1][world.conns[1] + 7] = type(next(iter(world.views[1].values())))()
    with pytest.raises(Broken, match="are left" if connections_left else "did not say GONE"):
        world.finish()


@pytest.mark.parametrize(
    ("came", "changes"),
    [
        ([1, 2, 3, 4], 0),
        ([1, 2, 4, 3], 1),
        ([1, 5, 2, 3, 6, 4], 1),  # three on a slow path, and two behind them on a fast one
        ([2, 1, 4, 3], 2),
        ([1, 3, 5, 7, 2, 4, 6], 3),  # to and fro with each packet
    ],
)
def test_changes_back_to_a_faster_path_are_counted(came: list[int], changes: int) -> None:
    assert changes_back(came) == changes
