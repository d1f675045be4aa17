"""The UE as it is, with an endpoint and a TUN that only write down what they are told."""

import asyncio
import json
from ipaddress import ip_network

from node.config import parse
from node.counters import Counters
from node.events import EventList, Events
from node.main import NodeContext
from ue.config import UeConfig
from ue.errors import HandshakeRefused, NoAnswer, PathNotOpened
from ue.node import Ue
from ue.ports import Assignment

EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class FakeConnection:
    def __init__(self, endpoint, link, number):
        self.endpoint, self.link, self.client_random = endpoint, link, f"{number:064x}"
        self.ended = asyncio.get_running_loop().create_future()
        self.opened = {0: link}
        self.status = {}
        self.handlers = []
        self.log = []

    def on_path(self, handler):
        self.handlers.append(handler)

    def handler(self, name, fields):
        for handler in self.handlers:
            handler(name, fields)

    async def connect_ip(self, tunnel):
        self.admitted_by = tunnel
        self.log.append("connect_ip")
        return self.endpoint.assignment()

    async def open_path(self, link):
        if link in self.endpoint.dead:
            raise PathNotOpened("no answer")
        path = max(self.opened) + 1
        self.opened[path] = link
        return path

    def path_available(self, path, available):
        self.status[path] = available

    async def goaway(self):
        self.log.append("goaway")

    async def close(self):
        self.log.append("close")
        self.end("closed by us")

    async def closed(self):
        return await asyncio.shield(self.ended)

    def end(self, reason):
        if not self.ended.done():
            self.ended.set_result(reason)

    def paths(self):
        return [{"path": p, "link": link, "state": "active"} for p, link in self.opened.items()]


class FakeTunnel:
    def __init__(self, spec):
        self.spec, self.rules, self.bound, self.freed = spec, None, [], False

    def steering_set(self, rules):
        self.rules = rules

    def bind(self, connection):
        self.bound.append(connection)

    def stats(self):
        return {"packets_out": 0}

    def free(self):
        self.freed = True


class FakeEndpoint:
    """`accepts(key)` says whether the proxy takes a key; `addresses` is what CONNECT-IP assigns."""

    def __init__(self):
        self.accepts = lambda key: True
        self.dead = set()
        self.offers, self.connections, self.tunnels = [], [], []
        self.ipv4 = None
        self.ipv6 = "fd45:0:0:1::/64"
        self.closed = False

    def start(self):
        pass

    async def close(self):
        self.closed = True

    def counters(self):
        return {}

    def assignment(self):
        return Assignment((ip_network(f"{self.ipv4()}/32"), ip_network(self.ipv6)), EVERYWHERE)

    async def connect(self, psk, remote, links):
        await asyncio.sleep(0)
        key = bytes(psk.offers()[0].key)
        self.offers.append((key, psk.identity, remote))
        alive = [link for link in links if link not in self.dead]
        if not alive:
            raise NoAnswer("nobody")
        if not self.accepts(key):
            raise HandshakeRefused("unknown_psk_identity", key_refused=True)
        connection = FakeConnection(self, alive[0], len(self.connections) + 1)
        self.connections.append(connection)
        return connection

    def tunnel_new(self, spec):
        tunnel = FakeTunnel(spec)
        self.tunnels.append(tunnel)
        return tunnel


class FakeTun:
    fd = -1

    def __init__(self, name, mtu):
        self.name, self.mtu, self.settings = name, mtu, []

    def configure(self, ipv4, ipv6, interface_id, routes):
        self.settings.append((ipv4, ipv6, interface_id, tuple(routes)))

    def mtu_set(self, mtu):
        self.mtu = mtu

    def close(self):
        pass


class Channel:
    def __init__(self):
        self.verbs = {}

    def verb(self, name, handler):
        self.verbs[name] = handler


def config(directory, ports, **more):
    from ue_script import OPC, SUPI, K

    subscriber = directory / "usim.json"
    k = more.pop("k", K)
    if not subscriber.exists():
        subscriber.write_text(json.dumps({"supi": SUPI, "k": k.hex(), "opc": OPC.hex(), "sqn": more.pop("sqn", "000000000020")}))
        subscriber.chmod(0o600)
    accesses = [
        {"name": name, "type": kind, "address": "127.0.0.1", "device": "lo", "amf": "127.0.0.1", "amf_port": ports[kind]}
        for name, kind in (("3gpp", "3gpp"), ("wifi", "non-3gpp"))
    ]
    value = {"node": "ue", "subscriber": str(subscriber), "plmn": {"mcc": "001", "mnc": "01"}, "accesses": accesses, **more}
    return parse(value, UeConfig, "ue.json")


class Rig:
    """`async with Rig(core, directory) as rig`: the UE of this core."""

    def __init__(self, core, directory, **more):
        ports = {**core.amf.n1.ports, **more.pop("ports", {})}
        self.config = config(directory, ports, **more)
        self.events, self.counters, self.channel = EventList(), Counters(), Channel()
        self.endpoint = FakeEndpoint()
        self.endpoint.ipv4 = lambda: self.ue.status()["session"]["ipv4"]
        self.make_endpoint = lambda config, fd, counters: self.endpoint
        self.tun = None

    async def __aenter__(self):
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        context = NodeContext(Events(self.events), self.counters, self.channel, self.group)

        def make_tun(name, mtu):
            self.tun = FakeTun(name, mtu)
            return self.tun

        self.ue = Ue(self.config, context, make_tun, self.make_endpoint)
        await self.ue.start()
        return self

    async def __aexit__(self, *error):
        await self.ue.stop()
        for task in list(self.group._tasks):
            task.cancel()
        await self.group.__aexit__(None, None, None)

    async def event(self, name, count=1, limit=10.0):
        """The count-th event of this name."""
        await until(lambda: len(self.events.of(name)) >= count, limit)
        return self.events.of(name)[count - 1]

    async def verb(self, name, **args):
        return await self.channel.verbs[name](args)


async def until(condition, limit=10.0):
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 (events come from many places)
            await asyncio.sleep(0.01)
