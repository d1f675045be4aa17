"""Parts of the AMF alone: framing of N1, the delivery schedule, the registration table, subscribers."""

import asyncio
import json

import pytest
from virtual_time import run_virtually

from control.amf.config import KeyConfig, N1Config
from control.amf.delivery import Delivery, Outcome
from control.amf.n1_server import N1Server
from control.amf.reachability import Reachability
from control.amf.registration_table import TABLE, Action, Event, State, step
from fiveg.nas.envelope import LONGEST
from node.budget import Budget
from node.counters import Counters
from node.errors import ConfigError
from node.subscriber import load_subscribers


def run(work):
    async def limited():
        async with asyncio.timeout(20):
            await work

    asyncio.run(limited())


class Echo:
    def __init__(self):
        self.seen, self.lost_ones = [], 0

    def connected(self, connection):
        connection.state = "here"

    def received(self, connection, pdu):
        self.seen.append((connection.access, pdu))
        connection.send(pdu[::-1])

    def lost(self, connection):
        assert connection.state == "here"
        self.lost_ones += 1


async def n1_server():
    handler, counters = Echo(), Counters()
    listeners = (N1Config("3gpp", "127.0.0.1", 0), N1Config("non-3gpp", "127.0.0.1", 0))
    server = N1Server(listeners, handler, counters)
    await server.start()
    return server, handler, counters


def test_n1_framing_in_pieces_and_in_heaps():
    async def main():
        server, handler, _ = await n1_server()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["non-3gpp"])
        stream = b"\x00\x03abc" + b"\x00\x01x" + b"\x00\x02yz"
        for octet in stream:
            writer.write(bytes((octet,)))
            await writer.drain()
        writer.write(stream)
        assert await reader.readexactly(2 * len(stream)) == (b"\x00\x03cba\x00\x01x\x00\x02zy") * 2
        assert handler.seen == [("non-3gpp", x) for x in (b"abc", b"x", b"yz")] * 2
        writer.close()
        await server.stop()
        assert handler.lost_ones == 1

    run(main())


@pytest.mark.parametrize("junk", [b"\x00\x00", (LONGEST + 1).to_bytes(2, "big"), b"\xff\xff"])
def test_n1_lengths_that_cannot_be(junk):
    async def main():
        server, handler, counters = await n1_server()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["3gpp"])
        writer.write(junk)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        assert counters.get("n1.bad_length") == 1 and handler.seen == []
        writer.close()
        await server.stop()

    run(main())


def test_n1_flood_ends_the_connection():
    async def main():
        server, handler, counters = await n1_server()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.ports["3gpp"])
        writer.write(b"\x00\x01x" * 5000)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(15000)
        assert counters.get("n1.flood") == 1 and len(handler.seen) < 1000
        writer.close()
        await server.stop()

    run(main())


class Accesses:
    def __init__(self, live):
        self.live, self.sent = list(live), []
        self.used = asyncio.Event()

    def send(self, previous):
        candidates = sorted(self.live, key=lambda a: a == previous)
        if not candidates:
            return None
        self.sent.append(candidates[0])
        self.used.set()
        return candidates[0]


QUICK = (0.01, 0.01, 0.01)


def test_delivery_alternates_and_gives_up():
    async def main():
        accesses = Accesses(["3gpp", "non-3gpp"])
        delivery = Delivery(accesses.send, QUICK)
        assert delivery.first()
        assert await delivery.run() is Outcome.NOT_REACHABLE
        assert accesses.sent == ["3gpp", "non-3gpp", "3gpp"]

    run(main())


def test_delivery_ends_with_the_answer():
    async def main():
        accesses = Accesses(["3gpp"])
        delivery = Delivery(accesses.send, (60.0,))
        delivery.first()
        waiting = asyncio.create_task(delivery.run())
        delivery.answered(Outcome.ACKNOWLEDGED)
        delivery.answered(Outcome.REFUSED)
        assert await waiting is Outcome.ACKNOWLEDGED and accesses.sent == ["3gpp"]

    run(main())


def test_delivery_waits_for_an_access_and_is_woken():
    async def main():
        accesses = Accesses([])
        delivery = Delivery(accesses.send, (60.0, 60.0))
        assert not delivery.first()
        waiting = asyncio.create_task(delivery.run())
        await asyncio.sleep(0)  # it runs until it waits
        accesses.live.append("non-3gpp")
        delivery.came_back()
        await accesses.used.wait()
        delivery.answered(Outcome.ACKNOWLEDGED)
        assert await waiting is Outcome.ACKNOWLEDGED

    run(main())


@pytest.mark.parametrize(("back_at", "sent"), [(17.9, 3), (18.1, 0)])
def test_delivery_to_a_ue_that_comes_back_at_the_last_moment_has_its_whole_schedule(back_at, sent):
    """In time of its own: 18 s are waited for an access, and from the first sending on the schedule counts anew."""

    async def main():
        loop = asyncio.get_running_loop()
        accesses = Accesses([])
        delivery = Delivery(accesses.send, (6.0, 6.0, 6.0))
        assert not delivery.first()

        def back():
            accesses.live.append("3gpp")
            delivery.came_back()

        loop.call_later(back_at, back)
        assert await delivery.run() is Outcome.NOT_REACHABLE
        assert accesses.sent == ["3gpp"] * sent and delivery.attempts == sent
        assert loop.time() == pytest.approx(back_at + 18.0 if sent else 18.0, abs=0.01)

    run_virtually(main())


class Context:
    """What Reachability asks of a UE."""

    def __init__(self):
        self.access = "3gpp"

    def live(self):
        return self.access


PATIENCE = 58 * 60


@pytest.mark.parametrize(("back_at", "expires_at"), [(None, PATIENCE), (PATIENCE - 1, None), (PATIENCE + 1, PATIENCE)])
def test_a_ue_that_no_access_reaches_is_gone_after_58_minutes(back_at, expires_at):
    async def main():
        loop, ue, other, gone = asyncio.get_running_loop(), Context(), Context(), []
        reachability = Reachability(PATIENCE, lambda who: gone.append((who, loop.time())))

        def back():
            ue.access = "3gpp"
            reachability.reached(ue)

        reachability.lost(ue)  # one of two: the other one is there
        await asyncio.sleep(2 * PATIENCE)
        assert not gone
        ue.access, began = None, loop.time()
        reachability.lost(ue)
        if back_at is not None:
            loop.call_later(back_at, back)
        await asyncio.sleep(60)
        reachability.lost(ue)  # said twice: counts from the first time
        await asyncio.sleep(2 * PATIENCE)
        assert [(who is ue, at - began) for who, at in gone] == ([] if expires_at is None else [(True, pytest.approx(expires_at))])
        other.access = None
        reachability.lost(other)
        reachability.stop()
        await asyncio.sleep(2 * PATIENCE)
        assert all(who is ue for who, _ in gone)

    run_virtually(main())


def test_registration_table():
    """Each procedure message in each state: the right next state, or ignored; every state but CLOSED has an exit."""
    assert step(State.DEREGISTERED, Event.REQUEST_WITH_SUCI) == (State.AUTHENTICATING, Action.CHALLENGE)
    assert step(State.REGISTERED, Event.REQUEST_WITH_CONTEXT) == (State.ACCEPTING, Action.ACCEPT)
    for event in (Event.IDENTITY, Event.RES_RIGHT, Event.RES_WRONG, Event.SYNC_FAILURE, Event.SECURED, Event.COMPLETED):
        allowed = [s for s in State if step(s, event)[1] is not Action.IGNORE]
        assert len(allowed) == 1, (event, allowed)
        assert step(State.DEREGISTERED, event) == (State.DEREGISTERED, Action.IGNORE)
    for state in State:
        exits = {target for (s, _), (target, _) in TABLE.items() if s is state}
        assert bool(exits - {state}) == (state is not State.CLOSED)


def test_budget():
    budget = Budget(2, 1.0, 0.0)
    assert [budget.take(t) for t in (0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 9.0, 9.0, 9.0)] == [
        True, True, False, False, True, False, True, True, False,
    ]  # fmt: skip


GOOD = {"supi": "imsi-001010000000001", "k": "00" * 16, "opc": "11" * 16, "sqn": "000000000020"}


def subscribers(tmp_path, value):
    path = tmp_path / "subscribers.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    path.chmod(0o600)
    return load_subscribers(path, 2)


def test_subscribers(tmp_path):
    loaded = subscribers(tmp_path, [GOOD])
    assert loaded["imsi-001010000000001"].sqn == 32 and "00" * 16 not in repr(loaded)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{", "not JSON"),
        ([], "must hold 1 to"),
        ([GOOD, GOOD], "stands twice"),
        ([{**GOOD, "supi": "imsi-12a"}], "supi: must be imsi-"),
        ([{**GOOD, "supi": "001010000000001"}], "supi: must be imsi-"),
        ([{**GOOD, "k": "77" * 15}], "must have 16 octets"),
        ([{**GOOD, "opc": "xy"}], "hex digits"),
        ([{k: v for k, v in GOOD.items() if k != "sqn"}], "sqn: missing"),
    ],
)
def test_bad_subscribers_are_named_and_not_shown(tmp_path, value, text):
    with pytest.raises(ConfigError) as e:
        subscribers(tmp_path, value)
    assert text in str(e.value) and "7777" not in str(e.value)


@pytest.mark.parametrize("fc", ["ff", "f", "", "f0f1", "ff0102", "zz"])
def test_fc_that_is_none(fc):
    with pytest.raises(ValueError, match="fc: must be"):
        KeyConfig(fc=fc)


def test_fc():
    assert KeyConfig(fc="ff03").fc_octets == b"\xff\x03"
