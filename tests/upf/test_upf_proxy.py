"""The proxy with connections that are none: who may connect, what they get, who carries the session at a re-key."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import socket
from typing import Any

import pytest
from proxy_rig import FakeConnection, ProxyRig, settle
from upf_rig import KEY, balancing, config, establishment, key_ie

from fiveg.keys import psk_identity
from fiveg.pfcp import message as m
from fiveg.pfcp import rules as r
from fiveg.pfcp.codes import Cause, KeyFlags
from mpquic.errors import EngineError, PskSpent
from upf.carrier import DRAIN, TAKEOVER
from upf.errors import DatapathError
from upf.quic import QuicConnection

Scenario = Callable[[ProxyRig], Coroutine[Any, Any, None]]


def run(scenario: Scenario) -> None:
    async def main() -> None:
        rig = ProxyRig()
        await scenario(rig)
        await rig.proxy.close()

    asyncio.run(main())


SECOND = bytes(32)


def test_session_gets_a_tunnel_with_its_addresses_and_routes() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        assert rig.tunnel.spec.ipv4 == IPv4Address("10.45.0.2")
        assert rig.tunnel.spec.ipv6 == IPv6Network("fd45::/64")
        assert rig.tunnel.steering[0].weights == {"3gpp": 30, "non-3gpp": 70}
        assert rig.routes.routes == [(IPv4Address("10.45.0.2"), IPv6Address("fd45::"))]
        rig.ask(m.SessionDeletionRequest(), session.seid)
        assert rig.routes.routes == [] and rig.tunnel.freed

    run(scenario)


@pytest.mark.parametrize("what", ["steering", "route"])
def test_data_path_that_fails_leaves_no_tunnel(what: str) -> None:
    async def scenario(rig: ProxyRig) -> None:
        rig.associate()
        rig.endpoint.fail, rig.routes.fail = what == "steering", what == "route"
        answer = rig.ask(establishment(), 0)
        assert isinstance(answer, m.SessionEstablishmentResponse) and answer.cause is Cause.SYSTEM_FAILURE
        assert rig.tunnel.freed and rig.routes.routes == [] and rig.agent.sessions == {}

    run(scenario)


def test_only_a_held_key_is_found_and_a_spent_one_is_told_apart() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        assert rig.proxy.psk_lookup(psk_identity(KEY)) is None
        rig.modify(session, key=key_ie(session))
        assert rig.proxy.psk_lookup(psk_identity(SECOND)) is None
        psk = rig.proxy.psk_lookup(psk_identity(KEY))
        assert psk is not None and not psk.wiped
        await rig.connect()
        assert psk.wiped
        with pytest.raises(PskSpent):
            rig.proxy.psk_lookup(psk_identity(KEY))
        rig.ask(m.SessionDeletionRequest(), session.seid)
        assert rig.proxy.psk_lookup(psk_identity(KEY)) is None

    run(scenario)


@pytest.mark.parametrize("end", ["superseded", "expired", "revoked", "deleted", "lapsed"])
def test_a_key_that_can_make_no_connection_is_nowhere_any_more(end: str) -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session, lifetime=60))
        psk = rig.proxy.psk_lookup(psk_identity(KEY))
        assert psk is not None and not psk.wiped
        match end:
            case "superseded":
                rig.modify(session, key=key_ie(session, 2, SECOND))
                assert rig.proxy.psk_lookup(psk_identity(SECOND)) is not None
            case "expired":
                rig.advance(61)
            case "lapsed":  # a client names it before anybody has noticed its end
                rig.now += 61
                assert rig.proxy.psk_lookup(psk_identity(KEY)) is None
                rig.advance(0)
            case "revoked":
                rig.modify(session, key=replace(key_ie(session), flags=KeyFlags.REVOKE))
            case _:
                rig.ask(m.SessionDeletionRequest(), session.seid)
        assert psk.wiped
        with contextlib.suppress(PskSpent):
            assert rig.proxy.psk_lookup(psk_identity(KEY)) is None
        if end in ("expired", "lapsed"):
            assert [e["reason"] for e in rig.events.of("key_requested")] == ["initial", "lifetime"]

    run(scenario)


def test_connection_gets_the_address_of_its_session_once() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        connection = await rig.connect(connect_ip=False)
        assert rig.tunnel.bound == []
        answer = connection.connect_ip()
        assert answer.status == 200
        assert answer.addresses == (IPv4Network("10.45.0.2/32"), IPv6Network("fd45::/64"))
        assert answer.routes == (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
        await settle()
        assert rig.tunnel.bound == [connection]
        assert connection.connect_ip().status == 409
        (ready,) = rig.events.of("connection_ready")
        assert ready["fingerprint"] == rig.events.of("key_installed")[0]["fingerprint"]

    run(scenario)


def test_second_connection_with_the_same_key_is_closed() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        first = await rig.connect()
        late = FakeConnection(psk_identity(KEY))  # its handshake was half done when the first one finished
        rig.proxy.connected(late)
        await settle()
        assert late.over.done() and late.handler is None and not first.over.done()
        assert rig.counters.get("proxy.key_gone") == 1

    run(scenario)


def test_rekey_hands_the_tunnel_over_when_the_old_connection_closes() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        old = await rig.connect()
        rig.modify(session, key=key_ie(session, 2, SECOND))
        new = await rig.connect(SECOND)
        assert rig.tunnel.bound == [old]
        old.over.set_result("closed by peer")
        await settle()
        assert rig.tunnel.bound == [old, new]
        assert [c["carries"] for c in rig.proxy.status()] == [True]
        assert rig.events.of("connection_closed") == [{"generation": 1, "reason": "closed by peer"}]
        assert [p["access"] for p in rig.proxy.paths() if "access" in p] == []

    run(scenario)


def test_rekey_takes_the_tunnel_from_a_connection_that_does_not_close() -> None:
    async def scenario(rig: ProxyRig) -> None:
        timers: list[tuple[float, Callable[[], None]]] = []

        def after(delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
            timers.append((delay, call))
            return asyncio.get_running_loop().call_later(3600, lambda: None)

        rig.proxy._after = after  # type: ignore[method-assign]
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        old = await rig.connect()
        rig.modify(session, key=key_ie(session, 2, SECOND))
        new = await rig.connect(SECOND)
        assert rig.tunnel.bound == [old] and rig.tunnel.admitted == [new]
        for patience in (TAKEOVER, DRAIN):
            assert not old.over.done()
            delay, call = timers.pop()
            assert delay == patience and not timers
            call()
            await settle()
        assert rig.tunnel.bound == [old, new] and old.over.done() and not new.over.done()

    run(scenario)


def test_goaway_hands_the_tunnel_over_at_once() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        old = await rig.connect()
        rig.modify(session, key=key_ie(session, 2, SECOND))
        old.event("goaway", {"identifier": 0})
        assert rig.tunnel.bound == [old]
        new = await rig.connect(SECOND)
        assert rig.tunnel.bound == [old, new] and not old.over.done()
        assert [c["carries"] for c in rig.proxy.status()] == [False, True]

    run(scenario)


def test_a_connection_kept_from_an_old_key_takes_nothing_from_a_new_one() -> None:
    """Somebody who had the old key first makes its connection and waits: the session on the new key must not be his."""

    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        kept = await rig.connect(connect_ip=False)
        rig.modify(session, key=key_ie(session, 2, SECOND))
        new = await rig.connect(SECOND)
        assert rig.tunnel.bound == [new] and not new.over.done()
        assert kept.over.done()
        again = kept.connect_ip()
        await settle()
        assert again.status == 403 and rig.tunnel.bound == [new] and rig.tunnel.admitted == []

    run(scenario)


def test_an_old_connection_that_asks_before_it_has_ended_is_refused_by_name() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        kept = await rig.connect(connect_ip=False)

        async def deaf() -> None:
            """it is told to end, and does not"""

        kept.close = deaf  # type: ignore[method-assign]
        rig.modify(session, key=key_ie(session, 2, SECOND))
        new = await rig.connect(SECOND, connect_ip=False)
        assert new.connect_ip().status == 200
        assert kept.connect_ip().status == 403
        assert rig.counters.get("proxy.connect_ip_outdated") == 1

    run(scenario)


def test_a_session_has_three_connections_at_most() -> None:
    """A UE that asks for keys, makes a connection of each, and never asks for its tunnel."""

    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        carries = await rig.connect()
        for generation in range(2, 20):
            key = bytes([generation]) * 32
            rig.modify(session, key=key_ie(session, generation, key))
            await rig.connect(key, connect_ip=False)
            assert [c["generation"] for c in rig.proxy.status()] == [1, generation]
        assert not carries.over.done()

    run(scenario)


def test_last_connection_that_ends_makes_the_session_ask_for_a_key() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        only = await rig.connect()
        rig.now += 5
        only.over.set_result("idle")
        await settle()
        assert [e["reason"] for e in rig.events.of("key_requested")] == ["initial", "restart"]

    run(scenario)


def test_changed_weights_reach_the_tunnel_and_deletion_closes_the_connection() -> None:
    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.modify(session, key=key_ie(session))
        connection = await rig.connect()
        changed = balancing(1, 80, 20)
        update = r.UpdateMar(mar_id=1, access_3gpp=changed.access_3gpp, access_non_3gpp=changed.access_non_3gpp)
        rig.modify(session, update_mars=(update,))
        assert rig.tunnel.steering[0].weights == {"3gpp": 80, "non-3gpp": 20}
        rig.ask(m.SessionDeletionRequest(), session.seid)
        await settle()
        assert connection.over.done() and rig.tunnel.freed
        assert rig.proxy.status() == []

    run(scenario)


def test_a_route_that_cannot_be_removed_does_not_hold_the_end_of_a_session() -> None:
    """Nor, when an association goes, of the sessions behind it."""

    async def scenario(rig: ProxyRig) -> None:
        session = rig.establish()
        rig.routes.fail = True
        answer = rig.ask(m.SessionDeletionRequest(), session.seid)
        assert answer.cause is Cause.ACCEPTED  # type: ignore[union-attr]
        assert rig.agent.sessions == {} and rig.tunnel.freed
        assert rig.counters.get("proxy.route_not_removed") == 1

    run(scenario)


def test_an_access_is_added_whole_and_once() -> None:
    async def scenario(rig: ProxyRig) -> None:
        near, far = config().accesses
        sockets = [socket(), socket()]
        rig.endpoint.refuse_link = 1
        with pytest.raises(DatapathError):
            rig.proxy.access_add(near, sockets)
        assert rig.endpoint.sockets == {} and rig.proxy._links == []
        rig.endpoint.refuse_link = None
        for _ in range(2):  # the supervisor may plug a new wire in
            rig.proxy.access_add(near, sockets)
            rig.proxy.access_add(far, sockets)
        assert rig.endpoint.sockets == {0: "3gpp", 1: "3gpp", 2: "non-3gpp", 3: "non-3gpp"}
        rig.proxy.access_state(far, False)
        assert rig.endpoint.links_told == [(2, False), (3, False)]
        for sock in sockets:
            sock.close()

    run(scenario)


def test_a_connection_that_the_engine_has_let_go_has_no_packets_and_no_paths() -> None:
    """Its end is on the way to us; a look at the limits meanwhile must not fail."""

    class Gone:
        link = 0

        def stats(self) -> dict[str, int]:
            raise EngineError("conn_stats", 2, "no such connection")

        paths = stats

    connection = QuicConnection(Gone())  # type: ignore[arg-type]
    assert connection.packets() == 0 and connection.paths() == []
