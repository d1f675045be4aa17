"""Re-key at the UPF: who carries the tunnel, in every order of events."""

from __future__ import annotations

from collections.abc import Callable

from upf.carrier import TAKEOVER, Carrier, State


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

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for _, call, cancelled in calls:
            if not cancelled:
                call()


def rig() -> tuple[Carrier[str], Clock, list[str]]:
    clock, done = Clock(), []
    carrier: Carrier[str] = Carrier(lambda c: done.append(f"bind {c}"), lambda c: done.append(f"end {c}"), clock.after)
    return carrier, clock, done


def test_first_connection_carries_at_once() -> None:
    carrier, clock, done = rig()
    carrier.ready("a")
    assert done == ["bind a"] and carrier.state is State.CARRIED and clock.calls == []


def test_new_one_carries_when_the_old_one_has_closed() -> None:
    carrier, clock, done = rig()
    carrier.ready("a")
    carrier.ready("b")
    assert done == ["bind a"] and carrier.state is State.WAITING and clock.calls[0][0] == TAKEOVER
    carrier.closed("a")
    clock.run()
    assert done == ["bind a", "bind b"] and carrier.active == "b" and carrier.state is State.CARRIED


def test_new_one_carries_after_the_time_and_the_old_one_is_ended() -> None:
    carrier, clock, done = rig()
    carrier.ready("a")
    carrier.ready("b")
    clock.run()
    assert done == ["bind a", "bind b", "end a"]
    carrier.closed("a")
    assert carrier.active == "b"


def test_old_one_goes_on_when_the_new_one_fails() -> None:
    carrier, clock, done = rig()
    carrier.ready("a")
    carrier.ready("b")
    carrier.closed("b")
    clock.run()
    assert done == ["bind a"] and carrier.active == "a" and carrier.state is State.CARRIED


def test_third_one_replaces_the_waiting_one() -> None:
    carrier, clock, done = rig()
    for name in "abc":
        carrier.ready(name)
    clock.run()
    assert done == ["bind a", "end b", "bind c", "end a"]


def test_session_end_ends_both() -> None:
    carrier, clock, done = rig()
    carrier.ready("a")
    carrier.ready("b")
    carrier.stop()
    clock.run()
    assert done == ["bind a", "end a", "end b"] and carrier.state is State.NONE
    carrier.closed("a")
    assert carrier.state is State.NONE
