"""The UPF's process on real packets, with the SMF's N4 and an MPQUIC client of our own:

     ue                         access `3gpp`, `wifi`               upf                 dn
    mpq0 ─ client ─ w1 10.1.0.2 ══ wire 10.1.0.1 ─ 10.100.0.1:4433 ┐
                    w2 10.2.0.2 ══ wire 10.2.0.1 ─ 10.100.0.1:4433 ┴─ UPF ─ n6 ─ d0 ══ d1 10.99.0.2
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP
from test_upf_n4_with_smf import CP_SEID, RULES
from upf_rig import K_N4, KEY

from control.smf.config import N4Config, PoolConfig, SmfConfig
from control.smf.n4 import N4 as SmfN4
from control.smf.n4_rules import establishment
from control.smf.pool import SessionAddress
from fiveg.keys import fingerprint, psk_identity
from fiveg.pfcp.codes import Cause, KeyEvent, KeyReason
from fiveg.pfcp.message import (
    SessionDeletionRequest,
    SessionDeletionResponse,
    SessionEstablishmentResponse,
    SessionModificationRequest,
    SessionModificationResponse,
    SessionReportRequest,
    SessionReportResponse,
)
from fiveg.pfcp.mpquic_ies import MpquicKey
from mpquic.connect_ip import ADDRESS_ASSIGN, Assigned, address_request
from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig, Tunnel
from mpquic.errors import HandshakeRefused
from mpquic.psk import Psk
from mpquic.steering import SteeringRule
from native import lib
from node.counters import Counters
from node.events import EventList, Events
from node.handle import NodeHandle
from node.netns import Netns
from node.secrets import Secret, write_secret_file

pytestmark = pytest.mark.system

PROXY = ("10.100.0.1", 4433)
UE4, UE6 = IPv4Address("10.45.0.2"), IPv6Address("fd45:0:0:2::1")
A = SessionAddress(UE4, UE6, 2)
DN = {socket.AF_INET: "10.99.0.2", socket.AF_INET6: "fd99::2"}
NODAD = 0x02
IP_RECVTTL = 12
SECOND = bytes(range(1, 33))


def no_dad() -> None:
    """Link-local addresses are there at once: neighbour discovery need not wait for their duplicate detection."""
    for name in ("all", "default"):
        Path(f"/proc/sys/net/ipv6/conf/{name}/accept_dad").write_text("0")


def address(ipr: Any, name: str, *addresses: str, mtu: int = 1500) -> int:
    """Bring an interface up with these addresses."""
    index = int(ipr.link_lookup(ifname=name)[0])
    ipr.link("set", index=index, state="up", mtu=mtu)
    for text in addresses:
        ip, length = text.split("/")
        ipr.addr("add", index=index, address=ip, prefixlen=int(length), **({"flags": NODAD} if ":" in ip else {}))
    return index


@dataclass
class Lab:
    """All of the picture; `upf` is the namespace that this code runs in."""

    upf: Netns
    ue: Netns
    dn: Netns
    directory: Path
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    reports: asyncio.Queue[SessionReportRequest] = field(default_factory=asyncio.Queue)
    seid: int = 0

    async def start(self) -> None:
        for netns in (self.upf, self.ue, self.dn):
            netns.call_sync(no_dad)
        self.upf.call_sync(self._plug_dn)
        self.dn.call_sync(self._dn_up)
        write_secret_file(self.directory / "n4.key", K_N4.hex())
        config = self.directory / "upf.json"
        config.write_text(json.dumps(self._config()))
        self._plugged: dict[str, asyncio.Future[None]] = {
            name: asyncio.get_running_loop().create_future() for name in ("3gpp", "wifi")
        }
        self.node = await NodeHandle.spawn(
            "upf",
            "upf",
            config,
            on_event=lambda name, t, fields: self.events.append((name, fields)),
            on_netns=self._plug_access,
            stderr=sys.stderr,
            environment={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        await self.node.ready(20)
        for name, plugged in self._plugged.items():
            await plugged
            await self.node.request("access_ready", {"access": name})
        self.n4_config = N4Config("10.90.0.11", 8805, "10.90.0.20", 8805, Path("unused"))
        self.smf = SmfN4(
            self.n4_config, Secret(K_N4), Counters(), Events(EventList()), self._report, lambda: None, os.urandom
        )
        await self.smf.open()
        self._smf_task = asyncio.create_task(self.smf.run())
        await self.smf.associated()
        self.client = Endpoint(EndpointConfig(role="client"))
        for link in (0, 1):
            sock = self.ue.call_sync(self._ue_socket, f"10.{link + 1}.0.2")
            self.client.add_socket(link, sock, ("3gpp", "non-3gpp")[link])
            sock.close()
        fd = self.ue.call_sync(lib.tun_open, b"mpq0")
        assert fd >= 0
        self.tun = self.client.add_tun(fd)
        os.close(fd)
        self.ue.call_sync(self._ue_tun_up)
        self.client.start()
        self.tunnel: Tunnel = self.client.tunnel_new(self.tun, ipv4=UE4, ipv6=IPv6Network((UE6, 64), strict=False))
        self.tunnel.steering_set([SteeringRule(1, 1, weights={"3gpp": 50, "non-3gpp": 50})])

    async def stop(self) -> None:
        await self.client.close()
        self._smf_task.cancel()
        await self.smf.close()
        assert await self.node.stop() == 0

    def _config(self) -> dict[str, Any]:
        return {
            "node": "upf",
            "n4": {"address": "10.90.0.20", "port": 8805, "smf": ["10.90.0.11"], "key": str(self.directory / "n4.key")},
            "accesses": [
                {"name": n, "type": t, "ue_ipv4": f"10.{k}.0.2/24", "upf_ipv4": f"10.{k}.0.1/24"}
                for k, (n, t) in enumerate((("3gpp", "3gpp"), ("wifi", "non-3gpp")), 1)
            ],
            "proxy": {"ipv4": PROXY[0], "ipv6": "fd64::1", "port": PROXY[1]},
            "keylog": str(self.directory / "keys.log"),
        }

    def _plug_dn(self) -> None:
        ipr = self.upf.ipr
        for text in ("10.90.0.11", "10.90.0.20"):
            ipr.addr("add", index=1, address=text, prefixlen=32)
        ipr.link("add", ifname="d0", kind="veth", peer={"ifname": "d1", "net_ns_fd": self.dn.fd})
        address(ipr, "d0", "10.99.0.1/24", "fd99::1/64")

    def _dn_up(self) -> None:
        index = address(self.dn.ipr, "d1", "10.99.0.2/24", "fd99::2/64")
        self.dn.ipr.route("add", dst="0.0.0.0/0", gateway="10.99.0.1", oif=index)
        self.dn.ipr.route("add", dst="::/0", gateway="fd99::1", oif=index)

    def _plug_access(self, info: dict[str, Any], fd: int) -> None:
        name = info["access"]
        number = 1 if name == "3gpp" else 2

        def plug() -> None:
            ipr = self.ue.ipr
            ipr.link("add", ifname=f"w{number}", kind="veth", peer={"ifname": "wire", "net_ns_fd": fd})
            index = address(ipr, f"w{number}", f"10.{number}.0.2/24")
            gateway = f"10.{number}.0.1"
            table = 100 + number
            ipr.route("add", dst="10.100.0.1/32", gateway=gateway, oif=index, table=table)
            ipr.rule("add", table=table, src=f"10.{number}.0.2", src_len=32)

        self.ue.call_sync(plug)
        os.close(fd)
        self._plugged[name].set_result(None)

    def proxy_routes(self, *ways: dict[str, Any]) -> None:
        """Where the UE's packets to the proxy go, by access."""
        for table, way in enumerate(ways, 101):
            self.ue.ipr.route("replace", dst="10.100.0.1/32", table=table, **way)

    @staticmethod
    def _ue_socket(source: str) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((source, 0))
        return sock

    def _ue_tun_up(self) -> None:
        index = address(self.ue.ipr, "mpq0", f"{UE4}/32", f"{UE6}/128", mtu=1280)
        self.ue.ipr.route("add", dst="10.99.0.0/24", oif=index)
        self.ue.ipr.route("add", dst="fd99::/64", oif=index)

    # ---- the control plane's part

    async def _report(self, seid: int, report: SessionReportRequest) -> tuple[SessionReportResponse, int]:
        self.reports.put_nowait(report)
        return SessionReportResponse(cause=Cause.ACCEPTED), self.seid

    async def establish(self, address: SessionAddress = A, cp_seid: int = CP_SEID) -> int:
        """A session of this address; the UPF's SEID of it. `self.seid` is the last one's."""
        unused: Any = None
        config = SmfConfig(
            node="smf",
            sbi=unused,
            amf=unused,
            n4=self.n4_config,
            ue_pool=PoolConfig("10.45.0.0/16", "fd45::/48"),
            dnn="internet",
            rules=RULES,
        )
        request = establishment(config, address, self.smf.node_id, self.smf.f_seid(cp_seid))
        answer = await self.smf.request(request, 0, SessionEstablishmentResponse)
        assert answer.cause is Cause.ACCEPTED and answer.up_f_seid is not None
        self.seid = answer.up_f_seid.seid
        return self.seid

    async def deliver(self, key: bytes, generation: int) -> SessionModificationResponse:
        wrapped = self.smf.key_wrap(self.seid).wrap(key, generation)
        request = SessionModificationRequest(key=MpquicKey(generation, 3600, bytes(8), wrapped))
        return await self.smf.request(request, self.seid, SessionModificationResponse)

    async def connect(self, key: bytes) -> Connection:
        """Connection with both paths and the session's address; the tunnel is bound to it."""
        connection = await self.client.connect(Psk(key, psk_identity(key)), 0, PROXY)
        request = await connection.connect_ip("mpquic-proxy")
        assert request.assigned
        await connection.open_path(1, PROXY)
        self.tunnel.bind(connection)
        return connection

    # ---- the application's part

    async def echo(self, family: int, count: int = 20, source: str | None = None) -> int:
        """Datagrams from an application of the UE to an echo in dn; how many came back, of `count` flows."""
        server = self.dn.call_sync(_bound, family, DN[family], 7)
        origin = source or str(UE4 if family == socket.AF_INET else UE6)
        clients = [self.ue.call_sync(_bound, family, origin, 0) for _ in range(count)]
        loop = asyncio.get_running_loop()

        async def reflect() -> None:
            while True:
                data, peer = await loop.sock_recvfrom(server, 2000)
                await loop.sock_sendto(server, data, peer)

        task = asyncio.create_task(reflect())
        got = 0
        try:
            for client in clients:
                client.sendto(b"x" * 1000, (DN[family], 7))
            for client in clients:
                try:
                    got += len(await asyncio.wait_for(loop.sock_recv(client, 2000), 2.0)) == 1000
                except TimeoutError:
                    break
        finally:
            task.cancel()
            for sock in (server, *clients):
                sock.close()
        return got

    async def event(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until the UPF has told this event so often."""
        async with asyncio.timeout(10):
            while len(found := [f for n, f in self.events if n == name]) < count:
                await self.node.request("status")  # events come in order with the answer
        return found


def _bound(family: int, host: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((host, port))
    return sock


def run(tmp_path: Path, work: Callable[[Lab], Awaitable[None]]) -> None:
    with Netns() as upf, Netns() as ue, Netns() as dn, Netns.open(upf.fd) as inside:

        async def main() -> None:
            lab = Lab(upf, ue, dn, tmp_path)
            async with asyncio.timeout(60):
                await lab.start()
                try:
                    await work(lab)
                finally:
                    await lab.stop()

        inside.call_sync(lambda: asyncio.run(main()))


def test_from_key_to_packets_and_through_a_rekey(tmp_path: Path) -> None:
    async def work(lab: Lab) -> None:
        await lab.establish()
        asked = await lab.reports.get()
        assert asked.key_request is not None and asked.key_request.reason is KeyReason.INITIAL

        with pytest.raises(HandshakeRefused):
            await lab.client.connect(Psk(KEY, psk_identity(KEY)), 0, PROXY)
        assert (await lab.deliver(KEY, 1)).cause is Cause.ACCEPTED
        with pytest.raises(HandshakeRefused):
            await lab.client.connect(Psk(SECOND, psk_identity(SECOND)), 0, PROXY)

        connection = await lab.connect(KEY)
        (ready,) = await lab.event("connection_ready")
        assert ready["fingerprint"] == fingerprint(KEY) and ready["client_random"] == connection.client_random
        used = await lab.reports.get()
        assert [k.event for k in used.key_reports] == [KeyEvent.IN_USE, KeyEvent.SPENT]
        assert await lab.echo(socket.AF_INET) == 20
        assert await lab.echo(socket.AF_INET6) == 20
        paths = await lab.node.request("paths")
        assert {p["access"] for p in paths} == {"3gpp", "wifi"}
        assert all(p["datagrams_received"] > 0 and p["datagrams_sent"] > 0 for p in paths)

        assert (await lab.deliver(SECOND, 2)).cause is Cause.ACCEPTED
        await connection.goaway()
        await connection.close()
        await lab.connect(SECOND)
        assert await lab.echo(socket.AF_INET) == 20
        spent = await lab.event("key_spent", 2)
        assert [s["fingerprint"] for s in spent] == [fingerprint(KEY), fingerprint(SECOND)]
        with pytest.raises(HandshakeRefused):
            await lab.client.connect(Psk(KEY, psk_identity(KEY)), 0, PROXY)
        counters = (await lab.node.request("metrics"))["engine"]
        assert counters["psk_spent"] == 1 and counters["psk_unknown_identity"] == 2

        gone = await lab.smf.request(SessionDeletionRequest(), lab.seid, SessionDeletionResponse)
        assert gone.cause is Cause.ACCEPTED
        assert (await lab.node.request("status"))["connections"] == []
        secrets = [KEY.hex(), SECOND.hex()]
        assert not any(s in json.dumps(lab.events) for s in secrets)
        assert not any(s in (tmp_path / "keys.log").read_text() for s in secrets)

    run(tmp_path, work)


def test_the_tunnel_does_not_lead_into_itself(tmp_path: Path) -> None:
    """R-39: an application sends to the outside of the tunnels and to the control plane; what is forwarded into the tunnel has one
    hop less to live; and the UE's routes to the proxy lead into the tunnel."""

    async def work(lab: Lab) -> None:
        await lab.establish()
        await lab.deliver(KEY, 1)
        await lab.connect(KEY)
        assert await lab.echo(socket.AF_INET) == 20

        outside = [("10.1.0.1", 9), ("10.2.0.1", 9), PROXY, ("10.90.0.20", 8805), ("10.90.0.11", 8805)]
        inside = lab.ue.call_sync(_bound, socket.AF_INET, str(UE4), 0)
        index = lab.ue.call_sync(lambda: int(lab.ue.ipr.link_lookup(ifname="mpq0")[0]))
        strangers = (await lab.node.request("metrics"))["pfcp"].get("requests_received", 0)
        with inside:
            lab.ue.call_sync(lambda: lab.ue.ipr.rule("add", table=200, src=str(UE4), src_len=32, priority=1))
            lab.ue.call_sync(lambda: lab.ue.ipr.route("add", dst="0.0.0.0/0", oif=index, table=200))
            for target in outside:
                inside.sendto(b"x", target)
            async with asyncio.timeout(5):
                while (await lab.node.request("metrics"))["engine"].get("inner_forbidden", 0) < len(outside):
                    pass
        assert (await lab.node.request("metrics"))["pfcp"].get("requests_received", 0) == strangers

        receiver = lab.ue.call_sync(_bound, socket.AF_INET, str(UE4), 5000)
        sender = lab.dn.call_sync(_bound, socket.AF_INET, DN[socket.AF_INET], 0)
        with receiver, sender:
            receiver.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
            for ttl in (1, 2, 64):
                sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
                sender.sendto(bytes([ttl]), (str(UE4), 5000))
            seen = {}
            async with asyncio.timeout(5):
                while len(seen) < 2:
                    await asyncio.sleep(0)
                    try:
                        data, extra, *_ = receiver.recvmsg(10, 100)
                    except BlockingIOError:
                        continue
                    seen[data[0]] = int.from_bytes(extra[0][2], sys.byteorder)
            assert seen == {2: 1, 64: 63}

        filtered = lab.client.all_counters()["ingress_filter"]
        before = lab.client.all_counters()["udp_sent"]
        lab.ue.call_sync(lambda: lab.proxy_routes({"oif": index}, {"oif": index}))
        assert await lab.echo(socket.AF_INET, 5) == 0
        looped = lab.client.all_counters()["ingress_filter"] - filtered
        sent_since = lab.client.all_counters()["udp_sent"] - before
        assert 0 < looped <= sent_since < 200  # each packet once, and nothing of them in another

        lab.ue.call_sync(lambda: lab.proxy_routes({"gateway": "10.1.0.1"}, {"gateway": "10.2.0.1"}))
        async with asyncio.timeout(20):
            while await lab.echo(socket.AF_INET, 5) < 5:
                pass

    run(tmp_path, work)


def test_packets_with_another_source_address_are_dropped_and_counted(tmp_path: Path) -> None:
    async def work(lab: Lab) -> None:
        await lab.establish()
        await lab.deliver(KEY, 1)
        connection = await lab.connect(KEY)
        lab.tunnel.free()  # a client that lies: its tunnel lets another address out
        lab.ue.call_sync(address, lab.ue.ipr, "mpq0", "10.45.0.3/32", mtu=1280)
        lab.tunnel = lab.client.tunnel_new(lab.tun, ipv4=IPv4Address("10.45.0.3"))
        lab.tunnel.steering_set([SteeringRule(1, 1, weights={"3gpp": 50, "non-3gpp": 50})])
        lab.tunnel.bind(connection)
        assert await lab.echo(socket.AF_INET, 5, source="10.45.0.3") == 0
        assert (await lab.node.request("metrics"))["engine"]["ingress_filter"] == 5
        assert (await lab.node.request("tunnel"))["packets_in"] == 0

    run(tmp_path, work)


def test_a_session_gets_nothing_of_another_one(tmp_path: Path) -> None:
    """R-41: B comes with A's key, asks for A's address, and sends as A; A's packets come and go all the while."""
    other4, other6 = IPv4Address("10.45.0.3"), IPv6Address("fd45:0:0:3::1")

    async def work(lab: Lab) -> None:
        await lab.establish()
        await lab.deliver(KEY, 1)
        await lab.connect(KEY)
        assert await lab.echo(socket.AF_INET) == 20

        await lab.establish(SessionAddress(other4, other6, 3), CP_SEID + 1)
        refused = await lab.deliver(KEY, 1)  # what made A's connection makes none of B's
        assert refused.cause is Cause.MANDATORY_IE_INCORRECT
        with pytest.raises(HandshakeRefused):
            await lab.client.connect(Psk(KEY, psk_identity(KEY)), 0, PROXY)
        assert (await lab.deliver(SECOND, 1)).cause is Cause.ACCEPTED
        b = await lab.client.connect(Psk(SECOND, psk_identity(SECOND)), 0, PROXY)
        request = await b.connect_ip("mpquic-proxy")
        own = IPv4Network(f"{other4}/32"), IPv6Network("fd45:0:0:3::/64")
        assert request.addresses == own

        answers: list[int] = []
        request.log = lambda what, kind, octets: answers.append(kind)
        wanted = [Assigned(1, IPv4Network(f"{UE4}/32")), Assigned(2, IPv6Network("fd45:0:0:2::/64"))]
        b._h3.send_data(request.stream_id, address_request(wanted).encode())
        b._flush()
        async with asyncio.timeout(10):
            while ADDRESS_ASSIGN not in answers:  # each request is answered: with all zeros, which is no address
                await lab.node.request("status")
        assert request.addresses == own

        as_a = IP(src=str(UE4), dst=DN[socket.AF_INET]) / UDP(sport=1, dport=7) / b"x"
        for _ in range(5):
            lab.client.engine.datagram_send(b.handle, bytes([request.quarter_stream_id, 0]) + bytes(as_a))
        async with asyncio.timeout(10):
            while (await lab.node.request("metrics"))["engine"].get("ingress_filter", 0) < 5:
                pass
        assert await lab.echo(socket.AF_INET) == 20 and await lab.echo(socket.AF_INET6) == 20
        bound = {c["fingerprint"] for c in (await lab.node.request("status"))["connections"]}
        assert bound == {fingerprint(KEY), fingerprint(SECOND)}

    run(tmp_path, work)
