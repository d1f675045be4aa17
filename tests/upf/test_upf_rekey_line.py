"""A re-key under a continuous stream of probes loses none of them, while both accesses are well."""

from __future__ import annotations

import random

import pytest
from rekey_rig import Rekey, in_virtual_time

from ue.mpquic_client import MpquicClient


def test_a_rekey_loses_nothing() -> None:
    async def work(rig: Rekey) -> None:
        await rig.run(200)
        for generation in (2, 3, 4):
            rig.key(generation)
            await rig.carried(generation)
            await rig.run(700)
        await rig.run(200, probes=False)
        assert rig.sent["up"] > 2000
        assert (rig.lost("up"), rig.lost("down")) == ([], [])
        assert [e["generation"] for e in rig.ue_events.of("connection_closed")] == [1, 2, 3]
        assert [e["generation"] for e in rig.upf.events.of("connection_closed")] == [1, 2, 3]
        assert len(rig.line.server.connections) <= 2

    in_virtual_time(work)


def test_rekeys_in_a_row_and_one_into_another_lose_nothing() -> None:
    """The next key comes while the last one's connection drains, or is not made yet (R-151)."""

    async def work(rig: Rekey) -> None:
        chance, generation = random.Random(151), 1
        for _ in range(15):
            await rig.run(chance.randint(1, 60))
            for _ in range(chance.choice((1, 1, 2))):
                generation += 1
                rig.key(generation)
                await rig.run(chance.randint(1, 80))
            await rig.carried(generation)
        await rig.run(1000)
        await rig.run(300, probes=False)
        assert generation > 18 and (rig.lost("up"), rig.lost("down")) == ([], [])
        assert len(rig.line.server.connections) == 1 and len(rig.upf.proxy.status()) == 1
        assert rig.upf.proxy.status()[0]["generation"] == generation

    in_virtual_time(work)


def test_canary_an_old_connection_that_closes_at_once_loses_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: with the drain taken away, what is under way on the slower access is lost."""

    async def no_drain(self: MpquicClient, old: object) -> None:
        await self._close(old.connection)  # type: ignore[attr-defined]

    monkeypatch.setattr(MpquicClient, "_drain", no_drain)

    async def work(rig: Rekey) -> None:
        await rig.run(200)
        rig.key(2)
        await rig.carried(2)
        await rig.run(500)
        await rig.run(200, probes=False)
        assert rig.lost("up") or rig.lost("down")

    in_virtual_time(work)


def test_a_rekey_with_an_access_cut_moves_within_a_second() -> None:
    """Only what the dead access swallowed before it was known to be dead is lost: not more than without a re-key."""

    async def work(rig: Rekey) -> None:
        await rig.run(500)
        rig.line.drop = lambda datagram, _to_server: datagram.link == 1
        rig.key(2)
        assert await rig.carried(2) < 1000
        before = {way: len(rig.came[way]) for way in rig.came}
        await rig.run(200)
        for way in ("up", "down"):
            assert len(rig.came[way]) - before[way] > 150
        await rig.run(2500, probes=False)
        assert max(rig.lost("up"), default=0) < 700 and max(rig.lost("down"), default=0) < 700
        assert len(rig.lost("up")) < 200 and len(rig.lost("down")) < 200
        assert [e["reason"] for e in rig.ue_events.of("connection_closed")] == ["re-keyed"]

    in_virtual_time(work)


def test_under_load_nothing_waits_in_the_old_connection() -> None:
    """32 Mbit/s in packets of 200 octets: what the old connection's window holds back goes over the new one."""

    async def work(rig: Rekey) -> None:
        rig.rate = 20
        await rig.run(300)
        rig.key(2)
        await rig.carried(2)
        await rig.run(300)
        await rig.run(200, probes=False)
        assert (rig.lost("up"), rig.lost("down")) == ([], [])

    in_virtual_time(work)


def test_a_goaway_that_is_lost_costs_nothing() -> None:
    """The UPF then hands over when its repetition comes, or after a second; the UE drains as long as something arrives."""

    async def work(rig: Rekey) -> None:
        await rig.run(300)
        assert rig.client._current is not None
        old = rig.client._current.connection

        async def silent() -> None:
            pass

        old.goaway = silent  # type: ignore[method-assign]
        rig.key(2)
        await rig.carried(2)
        bound = len(rig.upf.events.of("tunnel_bound"))
        await rig.run(500)
        assert bound == 1 and len(rig.upf.events.of("tunnel_bound")) == 1
        assert rig.ue_events.of("connection_closed") == []
        await rig.run(1000)
        assert len(rig.upf.events.of("tunnel_bound")) == 2
        await rig.run(300, probes=False)
        assert (rig.lost("up"), rig.lost("down")) == ([], [])
        assert [e["reason"] for e in rig.ue_events.of("connection_closed")] == ["re-keyed"]

    in_virtual_time(work)
