"""The UPF's proxy and the UE's client, both as they are, with their engines on a line in memory: time is the line's, and so is
the event loop's, so a second of traffic takes as long as its packets take to compute and is the same every time."""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Coroutine
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from proxy_rig import ProxyRig
from upf_rig import key_ie

from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.steering import ACCESS_3GPP, ACCESS_NON_3GPP, SteeringRule
from native.sim import serial_of, udp4
from node.counters import Counters
from node.events import EventList, Events
from ue import quic as ue_quic
from ue.atsss_rules import AtsssSetting, Proxy
from ue.config import AccessConfig
from ue.key_store import KeyStore
from ue.mpquic_client import MpquicClient
from ue.sm import Session
from upf import quic as upf_quic
from upf.steering import steering_of

sys.path.insert(0, str(Path(__file__).parent.parent / "mpquic"))
from line import SERVER, Line

UE_IPV4 = IPv4Address("10.45.0.2")
DELAYS_MS = {0: 15.0, 1: 5.0}
"""One way, 3GPP and Wi-Fi: what is told on one link arrives before what was sent earlier on the other."""
RULE = SteeringRule(1, 1, weights={ACCESS_3GPP: 30, ACCESS_NON_3GPP: 70})


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time is what `clock` says, in seconds."""

    def __init__(self) -> None:
        super().__init__(selectors.DefaultSelector())
        self.clock = lambda: 1.0

    def time(self) -> float:
        return self.clock()


class UeConfigPart:
    """What the MPQUIC client reads of its configuration."""

    accesses = (
        AccessConfig(name="3gpp", type="3gpp", address="10.1.0.2", device="d0", amf="10.90.0.10", amf_port=38412),
        AccessConfig(name="wifi", type="non-3gpp", address="10.2.0.2", device="d1", amf="10.90.0.10", amf_port=38413),
    )
    psk_mode = "external"
    suites = ("TLS_AES_128_GCM_SHA256",)
    tun_mtu = 1280


class NoTun:
    def configure(self, *_: object) -> None:
        pass

    def mtu_set(self, mtu: int) -> None:
        pass


class Rekey:
    """`up` and `down`: serials of the probes sent and of those that arrived, each way."""

    def __init__(self, loop: VirtualLoop, seed: int = 1) -> None:
        self.upf = ProxyRig()
        self.session = self.upf.establish()
        server = Endpoint(
            EndpointConfig(
                role="server",
                psk_lookup=self.upf.proxy.psk_lookup,
                on_connection=lambda c: self.upf.proxy.connected(upf_quic.QuicConnection(c)),
                random_seed=seed,
            )
        )
        client = Endpoint(EndpointConfig(role="client", random_seed=seed + 1))
        self.line = Line(client, server, delays_ms=DELAYS_MS)
        loop.clock = lambda: self.line.now / 1e9
        self._give_upf(server)
        ue = ue_quic.QuicEndpoint.__new__(ue_quic.QuicEndpoint)
        ue._endpoint, ue._tun = client, 0
        self.ue_events, self.ue_counters = EventList(), Counters()
        self.store = KeyStore(loop.time)
        self.client = MpquicClient(
            UeConfigPart(),  # type: ignore[arg-type]
            self.store,
            ue,
            NoTun(),
            Events(self.ue_events),
            self.ue_counters,
            refused=lambda slot: None,
            key_wanted=lambda: None,
            clock=loop.time,
        )
        proxy = Proxy(IPv4Address(SERVER[0]), None, SERVER[1])
        self.ue_session = Session(5, UE_IPV4, b"\0" * 7 + b"\1", AtsssSetting((), (RULE,), proxy))
        self.sent = {"up": 0, "down": 0}
        self.came: dict[str, list[int]] = {"up": [], "down": []}
        self.rate = 1
        """probes per millisecond and direction"""

    def _give_upf(self, server: Endpoint) -> None:
        """The session's tunnel, made anew on a real endpoint."""
        endpoint = upf_quic.QuicEndpoint.__new__(upf_quic.QuicEndpoint)
        endpoint._endpoint, endpoint._tun = server, 0
        self.upf.proxy.attach(endpoint, self.upf.routes, self.upf.agent.keys, lambda: None)
        self.upf.proxy.session_close(self.session)
        self.upf.proxy.session_open(self.session, self.session.rules, steering_of(self.session.rules))

    def key(self, generation: int) -> None:
        """Steps 5b and 6: both ends have it."""
        octets = bytes([generation]) * 32
        self.upf.modify(self.session, key=key_ie(self.session, generation, octets))
        self.store.provision(generation, octets, 3600)
        self.client.key_installed()

    def _probe(self) -> None:
        for direction, endpoint, up in (("up", self.line.client, True), ("down", self.line.server, False)):
            for _ in range(self.rate):
                serial = self.sent[direction]
                packet = udp4(200, up=up, flow=serial % 20, serial=serial)
                endpoint.engine.tunnel_input(0, packet, self.line.now)
                self.sent[direction] += 1

    def _collect(self) -> None:
        for direction, endpoint in (("up", self.line.server), ("down", self.line.client)):
            while (got := endpoint.engine.tunnel_output()) is not None:
                self.came[direction].append(serial_of(got[1]))

    async def run(self, milliseconds: int, probes: bool = True) -> None:
        for _ in range(milliseconds):
            if probes:
                self._probe()
            await self.line.run(None, 1)
            self._collect()

    async def carried(self, generation: int, limit_ms: int = 3000, probes: bool = True) -> int:
        """Milliseconds until the UE has a connection of this generation."""
        for passed in range(limit_ms):
            status = self.client.status()
            if status is not None and status["generation"] == generation:
                return passed
            await self.run(1, probes)
        raise AssertionError(f"generation {generation} carries nothing after {limit_ms} ms")

    def lost(self, direction: str) -> list[int]:
        return sorted(set(range(self.sent[direction])) - set(self.came[direction]))

    async def start(self) -> None:
        """The session over its first connection, two paths, without probes so far."""
        self.task = asyncio.create_task(self.client.run())
        self.client.session_changed(self.ue_session)
        self.key(1)
        await self.carried(1, probes=False)
        await self.run(300, probes=False)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        stopping = asyncio.create_task(self.client.stop())
        await self.line.run(stopping)  # type: ignore[arg-type]
        await self.upf.proxy.close()


def in_virtual_time(work: Any) -> None:
    """`work(rig)` in a loop whose time is the rig's."""
    loop = VirtualLoop()

    async def inner() -> None:
        rig = Rekey(loop)
        await rig.start()
        await work(rig)
        await rig.stop()

    coroutine: Coroutine[Any, Any, None] = inner()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()

