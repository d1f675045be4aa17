"""Packets with sequence numbers: the order they leave in, against a model; bounds; duplicates; what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reorder_model import Model

from native import ffi, lib
from native.sim import MS, SECOND, Node, check, serial_of, udp4

WINDOW = 4096


class Receiver:
    """A tunnel at the UE's end without a network: packets are put in with their numbers."""

    def __init__(self) -> None:
        self.node = Node(0, 5)
        self.now = SECOND
        config = ffi.new("struct tunnel_config *")
        config.has_ipv4, config.ipv4, config.mtu = 1, bytes([10, 45, 0, 2]), 1280
        self.tunnel = check(lib.tunnel_new(self.node.endpoint, config))
        self._room = ffi.new("uint8_t[2048]")
        self._tun = ffi.new("uint32_t *")

    def put(self, number: int, *, path: int = 0, flow: int = 0, serial: int | None = None, size: int = 60, conn: int = 1) -> bool:
        serial = number if serial is None else serial
        packet = udp4(size, up=False, flow=flow, serial=serial)
        return bool(check(lib.tunnel_sequenced_input(
            self.node.endpoint, self.tunnel, conn, path, number % (1 << 32), packet, len(packet), self.now)))  # fmt: skip

    def packets(self) -> Iterator[bytes]:
        while n := check(lib.tunnel_output(self.node.endpoint, self._tun, self._room, 2048)):
            yield bytes(self._room[0:n])

    def take(self) -> list[int]:
        """The serial numbers of what came out; every packet is as it was."""
        out = []
        for packet in self.packets():
            flow = int.from_bytes(packet[22:24], "big") - 20000
            assert packet == udp4(len(packet), up=False, flow=flow, serial=serial_of(packet))
            out.append(serial_of(packet))
        return out

    def wait(self, time: int) -> None:
        self.now += time
        check(lib.endpoint_advance(self.node.endpoint, self.now))

    def tire(self) -> None:
        """Wait in vain for 16 numbers below 0: then what all paths have passed counts as lost at once."""
        for n in range(-33, 0, 2):
            self.put(n, serial=0)
            self.wait(60 * MS)
        assert len(self.take()) == 17 and self.stats.reorder_timeouts == 16

    @property
    def deadline(self) -> int:
        return int(lib.endpoint_deadline(self.node.endpoint))

    @property
    def stats(self) -> Any:
        out = ffi.new("struct tunnel_stats *")
        check(lib.tunnel_stats(self.node.endpoint, self.tunnel, out))
        return out

    def check(self) -> None:
        why = ffi.new("char[200]")
        assert not lib.endpoint_check(self.node.endpoint, why, 200), ffi.string(why)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    r = Receiver()
    yield r
    r.check()
    r.node.close()


def test_in_order_passes_at_once(receiver: Receiver) -> None:
    for n in range(2000):
        receiver.put((1 << 32) - 1000 + n, serial=n)  # over the end of the numbers, too
        assert receiver.take() == [n]
    assert receiver.stats.reorder_waited == 0 and receiver.deadline == (1 << 64) - 1


def test_a_gap_holds_what_is_behind_it_until_it_is_filled(receiver: Receiver) -> None:
    for n in (0, 2, 3, 5):
        receiver.put(n, path=n % 2)
    assert receiver.take() == [0] and receiver.deadline == receiver.now + 60 * MS
    receiver.put(1)
    assert receiver.take() == [1, 2, 3] and receiver.deadline < (1 << 64) - 1
    receiver.put(4)
    assert receiver.take() == [4, 5] and receiver.deadline == (1 << 64) - 1
    assert receiver.stats.reorder_waited == 3 and receiver.stats.reorder_depth == 3


def test_a_number_that_all_paths_have_passed_is_waited_for_while_that_pays(receiver: Receiver) -> None:
    """It may be sent again."""
    for n in (0, 2, 3, 4, 5, 6):
        receiver.put(n)
    assert receiver.take() == [0]
    receiver.wait(40 * MS)
    receiver.put(1)
    assert receiver.take() == [1, 2, 3, 4, 5, 6]
    for n in range(8, 40, 2):
        receiver.put(n)
        receiver.wait(SECOND)
    receiver.take()
    for n in (40, 41, 42):
        receiver.put(n)
    assert receiver.take() == [40, 41, 42] and receiver.stats.reorder_lost == 1


def test_what_is_lost_at_one_time_is_in_vain_once(receiver: Receiver) -> None:
    """The queue of a path that overflows loses every other one of a hundred: patience is not over with that."""
    for n in range(0, 200, 2):
        receiver.put(n)
    receiver.wait(SECOND)
    assert receiver.take() == list(range(0, 200, 2)) and receiver.stats.reorder_timeouts == 99
    for n in (200, 201, 202):
        receiver.put(n)
    assert receiver.take() == []


def test_a_number_that_all_paths_have_passed_is_not_waited_for_when_none_came_late(receiver: Receiver) -> None:
    receiver.tire()
    for n in range(4):
        receiver.put(n, path=n % 2)
    receiver.take()
    for n, out in ((5, []), (7, []), (9, []), (6, []), (8, []), (10, [5, 6, 7, 8, 9, 10])):
        receiver.put(n, path=n % 2)  # 4 is missing, which either path may have carried
        assert receiver.take() == out, n
    stats = receiver.stats
    assert (stats.reorder_lost, stats.reorder_timeouts) == (1, 16)


def test_a_path_that_lately_carried_nothing_is_not_asked(receiver: Receiver) -> None:
    receiver.tire()
    receiver.wait(501 * MS)
    receiver.put(0, path=1)
    receiver.wait(501 * MS)
    for n in (1, 3, 4, 5):
        receiver.put(n)
    assert receiver.take() == [0, 1, 3, 4, 5]
    receiver.put(6, path=1)  # the canary: now it is
    for n in (8, 9, 10):
        receiver.put(n)
    assert receiver.take() == [6]


def test_a_path_that_brings_what_it_passed_makes_the_receiver_patient(receiver: Receiver) -> None:
    receiver.tire()
    for n in (0, 2, 3, 4, 1):
        receiver.put(n)
    assert receiver.take() == [0, 2, 3, 4, 1]  # 1 was lost, and came
    for n in (6, 7, 8, 9, 10, 5):
        receiver.put(n)
    assert receiver.take() == [5, 6, 7, 8, 9, 10]


def test_what_is_missing_for_too_long_is_given_up(receiver: Receiver) -> None:
    receiver.put(0)
    receiver.put(2)
    receiver.wait(60 * MS - 1)
    assert receiver.take() == [0]
    receiver.wait(1)
    assert receiver.take() == [2] and receiver.stats.reorder_timeouts == 1
    receiver.put(1)  # late is better than never
    assert receiver.take() == [1] and receiver.stats.reorder_late == 1


def test_the_time_out_follows_the_lateness_that_is_seen(receiver: Receiver) -> None:
    receiver.put(0)
    n = 1
    for _ in range(3000):  # one path is 8 ms behind the other
        receiver.put(n + 1, path=0)
        receiver.wait(8 * MS)
        receiver.put(n, path=1)
        n += 2
    assert 14 * MS <= receiver.stats.reorder_timeout_ns <= 16 * MS
    receiver.put(n + 1)
    receiver.wait(100 * MS)
    receiver.put(n, path=1)  # given up, and yet measured
    assert receiver.stats.reorder_timeout_ns >= 125 * MS and receiver.stats.reorder_late == 1
    receiver.put(n + 3)
    receiver.wait(1000 * MS)
    receiver.put(n + 2, path=1)
    assert receiver.stats.reorder_timeout_ns == 250 * MS
    receiver.wait(60 * SECOND)
    assert receiver.stats.reorder_timeout_ns < 6 * MS


def test_duplicates_are_dropped_by_number(receiver: Receiver) -> None:
    assert [receiver.put(n) for n in (0, 1, 1, 3, 3, 0)] == [True, True, False, True, False, False]
    receiver.wait(SECOND)
    assert receiver.take() == [0, 1, 3]
    assert not receiver.put(3) and receiver.put(2) and not receiver.put(2)
    assert receiver.take() == [2] and receiver.stats.reorder_duplicates == 5
    assert receiver.node.drops() == {"reorder_duplicate": 5}


def test_other_flows_do_not_wait(receiver: Receiver) -> None:
    for flow in range(3):
        receiver.put(0, flow=flow, serial=flow)
    receiver.put(2, flow=1, serial=9)
    receiver.put(1, flow=0, serial=10)
    receiver.put(1, flow=2, serial=11)
    assert receiver.take() == [0, 1, 2, 10, 11]


@pytest.mark.parametrize("far", [WINDOW + 1, 1 << 31, (1 << 32) - WINDOW - 2, 0xDEADBEEF])
def test_a_far_jump_begins_anew(receiver: Receiver, far: int) -> None:
    for n in (0, 2):
        receiver.put(n)
    receiver.put(far, serial=100)
    receiver.put(far + 1, serial=101)
    assert receiver.take() == [0, 2, 100, 101]  # what waited went first
    receiver.put(1)  # of before: delivered, and nothing begins anew for it
    receiver.put(far + 2, serial=102)
    assert receiver.take() == [1, 102] and receiver.stats.reorder_jumps == 1
    assert not receiver.put(far + 1, serial=101)


def test_a_window_is_what_may_wait(receiver: Receiver) -> None:
    receiver.put(0)
    for n in range(2, WINDOW + 1):
        receiver.put(n)
        if n == 2:
            receiver.put(3, path=1)  # a path that does not pass on: no loss is seen
    assert receiver.take() == [0] and receiver.stats.reorder_depth == WINDOW - 1
    receiver.put(WINDOW + 1)
    assert receiver.take() == [0][1:] + list(range(2, WINDOW + 2)) and receiver.stats.reorder_jumps == 1


def test_a_tunnel_holds_so_many_and_lets_the_rest_pass(receiver: Receiver) -> None:
    """LIMIT_REORDER_TUNNEL, over two flows."""
    for flow in range(2):
        receiver.put(0, flow=flow)
        receiver.put(3, flow=flow, path=1)
    for n in range(4, 2052):
        for flow in range(2):
            receiver.put(n, flow=flow)
    assert receiver.stats.reorder_full > 0 and receiver.stats.reorder_depth == 4096
    receiver.wait(SECOND)
    out = receiver.take()
    assert len(out) == 2 * 2050 and receiver.node.drops() == {}


def test_no_room_to_wait_lets_packets_pass(receiver: Receiver) -> None:
    """Half of the buffers wait for others, half to be taken: nobody waits any more, and what finds no buffer is dropped by name."""
    config = ffi.new("struct tunnel_config *")
    config.tun, config.has_ipv4, config.ipv4, config.mtu = 1, 1, bytes([10, 45, 0, 2]), 1280
    tunnels = [receiver.tunnel, check(lib.tunnel_new(receiver.node.endpoint, config))]
    for receiver.tunnel in tunnels:
        for n in (0, *range(2, 4097)):
            receiver.put(n, path=n == 3)
    receiver.tunnel = tunnels[0]
    for n in range(8190):
        receiver.put(n, flow=1)
    assert receiver.node.drops() == {} and receiver.stats.reorder_full == 0
    for n in (0, 2):
        assert receiver.put(n, flow=2)
    assert receiver.stats.reorder_full == 0 and receiver.node.drops() == {"packet_pool_empty": 1}
    assert receiver.put(4, flow=2)
    assert receiver.stats.reorder_full == 1 and receiver.node.drops() == {"packet_pool_empty": 3}
    assert len(receiver.take()) == 8192
    receiver.wait(SECOND)
    assert receiver.take() == [*range(2, 4097)] * 2


def test_oldest_flow_of_a_set_gives_way_with_what_it_holds(receiver: Receiver) -> None:
    for flow in range(2000):
        receiver.put(0, flow=flow, serial=2 * flow)
        receiver.put(2, flow=flow, serial=2 * flow + 1)
        receiver.now += 1
    out = receiver.take()
    receiver.check()
    receiver.wait(SECOND)
    assert sorted(out + receiver.take()) == list(range(4000))


def test_a_tunnel_that_ends_gives_back_what_waits_in_it(receiver: Receiver) -> None:
    for n in (0, 2, 3):
        receiver.put(n)
    check(lib.tunnel_free(receiver.node.endpoint, receiver.tunnel))
    assert receiver.node.drops() == {"tunnel_none": 2}
    receiver.wait(SECOND)


def test_a_re_key_changes_nothing(receiver: Receiver) -> None:
    """The same numbers over the paths of another connection, which are other paths."""
    for n in range(10):
        receiver.put(n)
    for n in (11, 12, 13, 14):
        receiver.put(n, conn=2)
    assert receiver.take() == list(range(10))  # 10 may be under way on the old one
    receiver.put(10)
    assert receiver.take() == [10, 11, 12, 13, 14]


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 3, 20, 70, 300, 700]),  # ms
        st.integers(0, 2),  # flow
        st.one_of(st.integers(0, 1), st.integers(0, 5)),  # path
        st.one_of(  # from the highest so far
            st.integers(-6, 12), st.sampled_from([-66000, -5000, -4097, -4096, 4095, 4096, 5000, 1 << 31])
        ),
        st.booleans(),  # may it raise it
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(steps=STEPS, start=st.sampled_from([0, 7, (1 << 32) - 3, (1 << 31) - 5]), tired=st.booleans())
def test_as_the_model(steps: list[tuple[int, int, int, int, bool]], start: int, tired: bool) -> None:
    receiver, model = Receiver(), Model()
    if tired:
        steps = [(300, 0, 0, 2, True)] * 17 + steps
    flow_of = [flow for _, flow, *_ in steps]

    def compare() -> None:
        """Flow by flow: which of them comes first does not matter."""
        ours, theirs = receiver.take(), model.out
        for flow in range(3):
            assert [s for s in ours if flow_of[s] == flow] == [s for s in theirs if flow_of[s] == flow]
        theirs.clear()

    try:
        highest = [start] * 3
        for serial, (wait, flow, path, distance, raises) in enumerate(steps):
            receiver.wait(wait * MS)
            model.timer(receiver.now)
            compare()
            assert receiver.deadline == (model.armed if model.armed is not None else (1 << 64) - 1)
            number = (highest[flow] + distance) % (1 << 32)
            if raises and distance > 0:
                highest[flow] = number
            taken = receiver.put(number, flow=flow, path=path, serial=serial)
            assert taken == model.packet(flow, path, number, serial, receiver.now)
            compare()
            receiver.check()
        stats = receiver.stats
        assert {name: getattr(stats, f"reorder_{name}") for name in model.counts} == model.counts
        receiver.wait(10 * SECOND)
        model.timer(receiver.now)
        compare()
        assert not any(f.held for f in model.flows.values())
    finally:
        receiver.node.close()
