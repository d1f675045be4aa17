"""The UE with its real endpoint, against a server that has the keys which the core gave the UPF: packets over loopback."""

import socket
from ipaddress import IPv4Address, ip_network

import pytest
import upf_script
from core_kit import Core, run
from ue_rig import EVERYWHERE, Rig, until

from fiveg.keys import psk_identity
from fiveg.pfcp.codes import ProxyType
from fiveg.pfcp.values import MpquicAddress
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.errors import PskSpent
from mpquic.psk import Psk, PskMode
from mpquic.tunnel_request import ConnectIpReply
from native import lib
from node.errors import VerbError
from node.netns import Netns
from ue.quic import QuicEndpoint


class Proxy:
    """A server that knows the scripted UPF's keys and spends them, one connection each."""

    def __init__(self, core, ipv4):
        self.core, self.ipv4, self.spent, self.connections = core, ipv4, set(), []
        self.endpoint = Endpoint(
            EndpointConfig(role="server", psk_lookup=self.lookup, on_connection=self.connected, name="upf")
        )
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        self.endpoint.add_socket(0, sock, "3gpp")
        sock.close()
        self.endpoint.start()

    def lookup(self, identity):
        for keys in self.core.upf.keys.values():
            for _, key in keys:
                if psk_identity(key) == identity:
                    if identity in self.spent:
                        raise PskSpent("spent")
                    return Psk(key, identity, PskMode.EXTERNAL, ("TLS_AES_128_GCM_SHA256",))
        return None

    def connected(self, connection):
        self.spent.add(connection.psk.identity)
        self.connections.append(connection)
        addresses = (ip_network(f"{self.ipv4()}/32"), ip_network("fd45:0:0:1::/64"))
        connection.on_connect_ip = lambda target: ConnectIpReply(200, addresses, EVERYWHERE)


def with_proxy(tmp_path, monkeypatch, work, **more):
    async def inner():
        (tmp_path / "ue").mkdir()
        space = Netns()
        tun = space.call_sync(lib.tun_open, b"mpq0")
        assert tun >= 0
        async with Core(tmp_path) as core:
            rig = Rig(core, tmp_path / "ue", **more)
            proxy = Proxy(core, lambda: rig.ue.status()["session"]["ipv4"])
            monkeypatch.setattr(
                upf_script, "PROXY", MpquicAddress(ProxyType.CONNECT_IP, proxy.port, IPv4Address("127.0.0.1"))
            )
            rig.make_endpoint = lambda config, fd, counters: QuicEndpoint(config, tun, counters)
            async with rig:
                await work(rig, proxy)
            await proxy.endpoint.close()
        space.close()

    run(inner())


def test_two_paths_then_a_new_key_then_the_old_one(tmp_path, monkeypatch):
    keylog = tmp_path / "keys.log"

    async def work(rig, proxy):
        ready = await rig.event("connection_ready")
        assert ready["client_random"] == proxy.connections[0].client_random
        await rig.event("path_validated", 2)
        assert {e["access"] for e in rig.events.of("path_validated")} == {"3gpp", "wifi"}
        assert sorted(p["access"] for p in await rig.verb("paths")) == ["3gpp", "wifi"]
        assert len((await rig.verb("tunnel"))["access_bytes_in"]) == 2
        assert (await rig.verb("rekey"))["generation"] == 2
        await until(lambda: proxy.connections[0].closed.done())
        assert proxy.connections[0].closed.result().source == "peer"
        await rig.event("path_validated", 4)
        outcome = await rig.verb("probe_spent_key")
        assert outcome["outcome"] == "key refused"
        assert len(proxy.connections) == 2
        assert keylog.read_text().count("CLIENT_TRAFFIC_SECRET_0") >= 2

    with_proxy(tmp_path, monkeypatch, work, probe_spent_key=True, keylog=str(keylog))


def test_another_key_never_gets_a_connection(tmp_path, monkeypatch):
    async def work(rig, proxy):
        await rig.event("connection_ready")
        outcome = await rig.verb("connect_with_key", key="5a" * 32)
        assert outcome == {"outcome": "key refused"} and len(proxy.connections) == 1

    with_proxy(tmp_path, monkeypatch, work, test_verbs=True)


def test_a_proxy_that_ends_the_connection_gets_a_new_one_on_a_new_key(tmp_path, monkeypatch):
    async def work(rig, proxy):
        await rig.event("connection_ready")
        await proxy.connections[0].close()
        assert (await rig.event("connection_ready", 2))["generation"] == 2
        assert rig.events.of("connection_closed")[0]["reason"].startswith("peer")

    with_proxy(tmp_path, monkeypatch, work)


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_a_key_that_is_none_is_misuse(tmp_path, monkeypatch, text):
    async def work(rig, proxy):
        await rig.event("connection_ready")
        with pytest.raises(VerbError, match="64 hex digits"):
            await rig.verb("connect_with_key", key=text)

    with_proxy(tmp_path, monkeypatch, work, test_verbs=True)
