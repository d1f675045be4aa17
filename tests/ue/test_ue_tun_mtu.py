"""The TUN's MTU follows the paths of the connection that carries."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

import ue.tun_mtu
from ue.errors import DatapathError
from ue.tun_mtu import LEAST, TunMtu


class Connection:
    def __init__(self, *paths: tuple[str, int]) -> None:
        self.state = [{"state": state, "inner_mtu": mtu} for state, mtu in paths]
        self.handlers = []

    def on_path(self, handler) -> None:
        self.handlers.append(handler)

    def paths(self):
        return self.state

    def change(self, *paths: tuple[str, int]) -> None:
        self.state = [{"state": state, "inner_mtu": mtu} for state, mtu in paths]
        for handler in self.handlers:
            handler("path_mtu", {})


class Tun:
    def __init__(self) -> None:
        self.set: list[int] = []
        self.broken = False

    def mtu_set(self, mtu: int) -> None:
        if self.broken:
            raise DatapathError("no such device")
        self.set.append(mtu)


class Sink(Counter):
    def inc(self, name: str) -> None:
        self[name] += 1

    def emit(self, name: str, **_: object) -> None:
        self[name] += 1


@pytest.fixture
def following(monkeypatch):
    monkeypatch.setattr(ue.tun_mtu, "LOWER_AFTER", 0.01)

    def run(work) -> tuple[Tun, Sink]:
        tun, sink = Tun(), Sink()

        async def main() -> None:
            await work(TunMtu(tun, 1400, sink, sink), tun)

        asyncio.run(main())
        return tun, sink

    return run


def test_it_grows_at_once_to_the_smallest_path_s_and_never_above_what_is_configured(following) -> None:
    async def work(mtu: TunMtu, _tun: Tun) -> None:
        connection = Connection(("active", 1299))
        mtu.follow(connection)
        connection.change(("active", 1420), ("validating", 1299))
        connection.change(("active", 1420), ("abandoned", 1299), ("failed", 1299), ("standby", 1350))

    tun, _ = following(work)
    assert tun.set == [1299, 1400]  # the third change is smaller: not at once


def test_a_path_that_stays_small_makes_it_smaller_one_that_grows_does_not(following) -> None:
    async def work(mtu: TunMtu, _tun: Tun) -> None:
        connection = Connection(("active", 1420))
        mtu.follow(connection)
        connection.change(("active", 1420), ("active", 1299))
        connection.change(("active", 1420), ("active", 1420))
        await asyncio.sleep(0.03)
        connection.change(("active", 1420), ("active", 1340))
        await asyncio.sleep(0.03)

    tun, sink = following(work)
    assert tun.set == [1400, 1340] and sink["tun_mtu"] == 2


def test_never_below_what_ipv6_needs_and_only_the_newest_connection_counts(following) -> None:
    async def work(mtu: TunMtu, _tun: Tun) -> None:
        old, new = Connection(("active", 1400)), Connection(("active", 1400))
        mtu.follow(old)
        mtu.follow(new)
        old.change(("active", 1290))
        await asyncio.sleep(0.03)
        new.change(("active", 600))
        await asyncio.sleep(0.03)
        mtu.stop()
        new.change(("active", 1400))

    tun, _ = following(work)
    assert tun.set == [1400, LEAST]


def test_a_tun_that_refuses_is_counted_and_tried_again_with_the_next_change(following) -> None:
    async def work(mtu: TunMtu, tun: Tun) -> None:
        tun.broken = True
        connection = Connection(("active", 1400))
        mtu.follow(connection)
        tun.broken = False
        connection.change(("active", 1400))

    tun, sink = following(work)
    assert sink["tun.mtu_not_set"] == 1 and sink["tun_mtu_refused"] == 1 and tun.set == [1400]
