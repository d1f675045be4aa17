"""Re-key at the UPF: who carries the tunnel, in every order of events."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upf.carrier import DRAIN, TABLE, TAKEOVER, Carrier, Event, State


class Clock:
    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None], list[bool]]] = []

    def after(self, delay: float, call: Callable[[], None]) -> Clock.Handle:
        cancelled: list[bool] = []
        self.calls.append((delay, call, cancelled))
        return Clock.Handle(cancelled)

    class Handle:
        def __init__(self, cancelled: list[bool]) -> None:
            self._cancelled = cancelled

        def cancel(self) -> None:
            self._cancelled.append(True)

    @property
    def running(self) -> list[float]:
        return [delay for delay, _, cancelled in self.calls if not cancelled]

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for _, call, cancelled in calls:
            if not cancelled:
                call()


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.done: list[str] = []

        def told(what: str) -> Callable[[str], None]:
            return lambda c: self.done.append(f"{what} {c}")

        self.carrier: Carrier[str] = Carrier(told("admit"), told("bind"), told("end"), self.clock.after)


def test_first_connection_carries_at_once() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    assert rig.done == ["bind a"] and rig.carrier.state is State.CARRIED and rig.clock.running == []


@pytest.mark.parametrize("goaway_first", [True, False])
def test_goaway_on_the_old_one_hands_over_and_it_drains(goaway_first: bool) -> None:
    rig = Rig()
    rig.carrier.ready("a")
    for step in (rig.carrier.goaway, rig.carrier.ready) if goaway_first else (rig.carrier.ready, rig.carrier.goaway):
        step("a" if step == rig.carrier.goaway else "b")
    assert rig.done == ["bind a", "admit b", "bind b"] and rig.carrier.state is State.DRAINING
    assert rig.clock.running == [DRAIN]
    rig.carrier.closed("a")
    assert rig.done[3:] == [] and rig.carrier.state is State.CARRIED and rig.carrier.active == "b"
    assert rig.clock.running == []


def test_new_one_carries_when_the_old_one_has_closed() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.ready("b")
    assert rig.done == ["bind a", "admit b"] and rig.carrier.state is State.WAITING and rig.clock.running == [TAKEOVER]
    rig.carrier.closed("a")
    rig.clock.run()
    assert rig.done[2:] == ["bind b"] and rig.carrier.active == "b" and rig.carrier.state is State.CARRIED


def test_a_client_that_says_nothing_loses_the_old_one_after_both_times() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.ready("b")
    rig.clock.run()
    assert rig.done[2:] == ["bind b"] and rig.clock.running == [DRAIN]
    rig.clock.run()
    assert rig.done[3:] == ["end a"]
    rig.carrier.closed("a")
    assert rig.carrier.active == "b" and rig.carrier.state is State.CARRIED


def test_old_one_goes_on_when_the_new_one_fails() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.ready("b")
    rig.carrier.closed("b")
    rig.clock.run()
    assert rig.done == ["bind a", "admit b"] and rig.carrier.active == "a" and rig.carrier.state is State.CARRIED


def test_old_one_carries_again_when_the_new_one_fails_while_it_drains() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.goaway("a")
    rig.carrier.ready("b")
    rig.carrier.closed("b")
    assert rig.done[-1] == "bind a" and rig.carrier.active == "a" and rig.clock.running == []
    rig.carrier.ready("c")  # what it said of the old one holds still
    assert rig.done[-2:] == ["admit c", "bind c"]


def test_third_one_replaces_the_waiting_one() -> None:
    rig = Rig()
    for name in "abc":
        rig.carrier.ready(name)
    assert rig.done == ["bind a", "admit b", "admit c", "end b"]
    rig.carrier.closed("b")
    assert rig.carrier.state is State.WAITING
    rig.clock.run()
    assert rig.done[4:] == ["bind c"]


def test_the_next_rekey_ends_the_drain() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.goaway("a")
    rig.carrier.ready("b")
    rig.carrier.ready("c")
    assert rig.done[3:] == ["end a", "admit c"] and rig.carrier.state is State.WAITING
    assert rig.clock.running == [TAKEOVER]


def test_goaway_on_a_waiting_one_is_remembered() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.ready("b")
    rig.carrier.goaway("b")
    assert rig.carrier.active == "a"
    rig.carrier.closed("a")
    rig.carrier.ready("c")
    assert rig.carrier.active == "c" and rig.carrier.state is State.DRAINING


def test_session_end_ends_both() -> None:
    rig = Rig()
    rig.carrier.ready("a")
    rig.carrier.ready("b")
    rig.carrier.stop()
    rig.clock.run()
    assert rig.done[2:] == ["end a", "end b"] and rig.carrier.state is State.NONE
    rig.carrier.closed("a")
    assert rig.carrier.state is State.NONE


def test_every_state_has_a_way_out() -> None:
    assert {state for state, _ in TABLE} == set(State)
    assert {event for _, event in TABLE} == set(Event)


@given(st.lists(st.tuples(st.sampled_from(["ready", "goaway", "closed", "time"]), st.integers(0, 3)), max_size=30))
def test_in_any_order_the_tunnel_is_with_a_live_connection(steps: list[tuple[str, int]]) -> None:
    """Whatever comes: if any admitted connection lives, the last one bound does, and no timer runs without a reason."""
    rig = Rig()
    alive: list[str] = []
    for number, (what, which) in enumerate(steps):
        name = f"c{number}"
        if what == "ready":
            alive.append(name)
            rig.carrier.ready(name)
        elif what == "time":
            rig.clock.run()
        elif alive:
            name = alive[which % len(alive)]
            if what == "closed":
                alive.remove(name)
            getattr(rig.carrier, what)(name)
        for ended in [d.split()[1] for d in rig.done if d.startswith("end ")]:
            if ended in alive:
                rig.carrier.closed(alive.pop(alive.index(ended)))
        bound = [d.split()[1] for d in rig.done if d.startswith("bind ")]
        assert (rig.carrier.active is None) == (not alive)
        assert set(alive) == {c for c in (rig.carrier.active, rig.carrier.other) if c is not None}
        assert not alive or bound[-1] == rig.carrier.active
        assert len(rig.clock.running) == (rig.carrier.state in (State.WAITING, State.DRAINING))
        assert set(rig.carrier.leaving) <= set(alive)
