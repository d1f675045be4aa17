"""The MPQUIC client when nothing lasts: what it asks of the network stays bounded, and it never waits for nobody."""

import asyncio
from ipaddress import IPv4Address, IPv6Network, ip_network

import pytest
from ue_rig import EVERYWHERE, FakeEndpoint, FakeTun, config

from mpquic.steering import SteeringRule
from node.counters import Counters
from node.events import EventList, Events
from ue.atsss_rules import AtsssSetting, Proxy
from ue.errors import DatapathError, NoAnswer
from ue.key_store import KeyStore
from ue.mpquic_client import KEY_BACKOFF, MpquicClient, addresses
from ue.ports import Assignment
from ue.sm import Session

SESSION = Session(
    5,
    IPv4Address("10.45.0.2"),
    bytes(7) + b"\x05",
    AtsssSetting((), (SteeringRule(1, 1, weights={"3gpp": 30, "non-3gpp": 70}),), Proxy(IPv4Address("10.100.0.1"), None, 4433)),
)


class Rig:
    """Time is what was slept; a key that is asked for is there at once."""

    def __init__(self, directory):
        self.now, self.generation, self.asked = 0.0, 0, []
        self.endpoint, self.events, self.counters = FakeEndpoint(), EventList(), Counters()
        self.endpoint.ipv4 = lambda: "10.45.0.2"
        self.store = KeyStore(lambda: self.now)
        self.tun = FakeTun("mpq0", 1280)
        self.client = MpquicClient(
            config(directory, {"3gpp": 1, "non-3gpp": 2}),
            self.store,
            self.endpoint,
            self.tun,
            Events(self.events),
            self.counters,
            refused=lambda slot: None,
            key_wanted=self.key_wanted,
            sleep=self.sleep,
            clock=lambda: self.now,
        )

    async def sleep(self, seconds):
        self.now += seconds
        await asyncio.sleep(0)

    def key_wanted(self):
        self.asked.append(self.now)
        if len(self.asked) < 40:
            self.key()

    def key(self, lifetime=10**6):
        self.generation += 1
        self.store.provision(self.generation, bytes([self.generation]) * 32, lifetime)
        self.client.key_installed()

    async def run(self, until, lifetime=10**6):
        task = asyncio.create_task(self.client.run())
        self.client.session_changed(SESSION)
        self.key(lifetime)
        async with asyncio.timeout(5):
            while not until():  # noqa: ASYNC110 (it comes from many places)
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.client.stop()


def test_a_tunnel_that_is_never_given_is_asked_for_ever_more_slowly(tmp_path):
    """A proxy that refuses CONNECT-IP, or a TUN that cannot be set: each try costs the network a key."""
    rig = Rig(tmp_path)

    def refuse():
        raise DatapathError("the proxy refused the tunnel")

    rig.endpoint.assignment = refuse
    asyncio.run(rig.run(lambda: len(rig.asked) == 12))
    gaps = [b - a for a, b in zip([0.0, *rig.asked], rig.asked, strict=False)]
    assert gaps[:7] == list(KEY_BACKOFF) and set(gaps[7:]) == {KEY_BACKOFF[-1]}


def test_a_key_that_lapses_before_anybody_answers_is_replaced(tmp_path):
    rig = Rig(tmp_path)
    real = rig.endpoint.connect

    async def silent(psk, remote, links):
        if rig.now < 10:
            raise NoAnswer("nobody")
        return await real(psk, remote, links)

    rig.endpoint.connect = silent
    asyncio.run(rig.run(lambda: rig.client.status() is not None, lifetime=5))
    assert len(rig.asked) == 1 and rig.generation == 2


def test_a_rekey_with_the_same_addresses_keeps_the_tunnel_and_what_it_holds(tmp_path):
    """Other routes are set on the TUN; the tunnel, and with it every packet that waits, stays."""
    rig = Rig(tmp_path)
    routes = [EVERYWHERE, (ip_network("10.99.0.0/24"),)]
    rig.endpoint.assignment = lambda: Assignment((ip_network("10.45.0.2/32"), ip_network("fd45::/64")), routes.pop(0))

    def second():
        if rig.client.status() is not None and rig.generation == 1:
            rig.key()
        status = rig.client.status()
        return status is not None and status["generation"] == 2

    asyncio.run(rig.run(second))
    (tunnel,) = rig.endpoint.tunnels
    assert tunnel.bound == rig.endpoint.connections and [s[3] for s in rig.tun.settings] == [
        EVERYWHERE,
        (ip_network("10.99.0.0/24"),),
    ]


@pytest.mark.parametrize("by", ["revocation", "release", "stop"])
def test_a_connection_that_drains_ends_with_what_it_is_of(tmp_path, by):
    """Its key may be taken back, its session go: then nothing more is waited for."""
    rig = Rig(tmp_path)

    def drains():
        status = rig.client.status()
        if status is not None and rig.generation == 1:
            rig.key()
        if status is None or status["generation"] != 2:
            return False
        assert rig.endpoint.connections[0].log[-1] != "close"
        if by == "revocation":
            rig.client.key_revoked(1)
        if by == "release":
            rig.client.session_changed(None)
        return True

    asyncio.run(rig.run(drains))
    assert [c.log[-1] for c in rig.endpoint.connections] == ["close", "close"]


def test_a_release_while_the_new_connection_is_made_ends_it(tmp_path):
    rig = Rig(tmp_path)
    real = rig.endpoint.assignment

    def released():
        rig.client.session_changed(None)
        return real()

    rig.endpoint.assignment = released
    asyncio.run(rig.run(lambda: rig.counters.get("mpquic.connect_ip_failed")))
    assert rig.endpoint.tunnels == [] and rig.endpoint.connections[0].ended.done() and rig.asked == []


@pytest.mark.parametrize("prefix", ["fd45::1/128", "fd45::/65", "ff02::/64", "fe80::/64", "::/64"])
def test_a_prefix_that_is_none_of_a_session_is_refused(prefix):
    given = (ip_network("10.45.0.2/32"), IPv6Network(prefix))
    with pytest.raises(DatapathError):
        addresses(SESSION, Assignment(given, EVERYWHERE))
    good = (given[0], IPv6Network("fd45::/64"))
    assert addresses(SESSION, Assignment(good, EVERYWHERE)) == (SESSION.ipv4, good[1])
