"""The MPQUIC proxy: connections made from the sessions' keys, each bound to the one session whose key it has, carrying
that session's address and nothing else. Packets are the engine's; here is only who may connect, and which connection
carries a session now (carrier.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from socket import socket
from typing import Any, Protocol

from mpquic.errors import PskSpent
from mpquic.psk import Psk, PskMode
from node.counters import Counters
from node.events import Events
from upf.carrier import Carrier
from upf.config import AccessConfig, UpfConfig
from upf.errors import DatapathError
from upf.key_slots import KeySlot
from upf.ports import Assignment, ConnectionPort, EndpointPort, TunnelPort, TunnelSpec
from upf.rules import IPV6_PREFIX, RuleSet
from upf.session import Session
from upf.steering import Steering

HOLD_PACKETS = 4096
HOLD_SECONDS = 1.0
"""Packets of a session without a connection wait this long, then are dropped by name."""
EVERYWHERE = (IPv4Network("0.0.0.0/0"), IPv6Network("::/0"))
OK, FORBIDDEN, CONFLICT = 200, 403, 409


class Keys(Protocol):
    """What the proxy tells of the keys."""

    def used(self, session: Session, slot: KeySlot, now: float) -> None: ...

    def connection_ended(self, session: Session, generation: int, now: float) -> None: ...


class Routes(Protocol):
    """N6."""

    def route_add(self, ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> None: ...

    def route_remove(self, ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> None: ...


@dataclass(slots=True, eq=False)
class Carried:
    """What the data path has of a session; `connections` by generation: at a re-key there are two."""

    session: Session
    tunnel: TunnelPort
    carrier: Carrier[Bound]
    connections: dict[int, Bound] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Bound:
    """A connection, and the session and key that it is bound to for its life."""

    connection: ConnectionPort
    slot: KeySlot
    carried: Carried
    asked: bool = False


class Proxy:
    """Implements `Datapath` for the PFCP agent; `attach` gives it its endpoint before anything else is called."""

    def __init__(self, config: UpfConfig, events: Events, counters: Counters, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._events = events
        self._counters = counters
        self._clock = clock
        self._carried: dict[int, Carried] = {}
        self._identities: dict[bytes, Session] = {}
        self._psks: dict[bytes, Psk] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: list[AccessConfig] = []
        self._endpoint: EndpointPort
        self._routes: Routes
        self._keys: Keys
        self._flush: Callable[[], None]

    def attach(self, endpoint: EndpointPort, routes: Routes, keys: Keys, flush: Callable[[], None]) -> None:
        """`flush` sends what the PFCP agent has to say after it was told something."""
        self._endpoint, self._routes, self._keys, self._flush = endpoint, routes, keys, flush

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for identity in list(self._identities):
            self._identity_drop(identity)

    def access_add(self, access: AccessConfig, sockets: list[socket]) -> None:
        """All of its sockets, or none; once, however often the supervisor plugs the wire in."""
        if access in self._links:
            return
        first = len(self._links)
        try:
            for link, sock in enumerate(sockets, first):
                self._endpoint.socket_add(link, sock, access.type)
                self._links.append(access)
        except DatapathError:
            for link in range(first, len(self._links)):
                self._endpoint.socket_remove(link)
            del self._links[first:]
            raise

    def access_state(self, access: AccessConfig, up: bool) -> None:
        """The kernel says that the access's device is down, or up."""
        for link, of in enumerate(self._links):
            if of is access:
                self._endpoint.link_state(link, up)

    # ---- Datapath: what the PFCP agent wants done

    def session_open(self, session: Session, rules: RuleSet, steering: list[Steering]) -> None:
        address = rules.ue_address
        if address is None:  # no rule of this session is steered here
            return
        tunnel = self._endpoint.tunnel_new(
            TunnelSpec(address.ipv4, _prefix(address.ipv6), self._config.tun_mtu, HOLD_PACKETS, HOLD_SECONDS)
        )
        try:
            tunnel.steering_set(steering)
            self._routes.route_add(address.ipv4, address.ipv6)
        except DatapathError:
            tunnel.free()
            raise
        carrier: Carrier[Bound] = Carrier(self._admit, self._bind, self._end, self._after)
        self._carried[session.seid] = Carried(session, tunnel, carrier)

    def session_change(self, session: Session, rules: RuleSet, steering: list[Steering]) -> None:
        carried = self._carried.get(session.seid)
        if carried is None:
            self.session_open(session, rules, steering)
        else:
            carried.tunnel.steering_set(steering)

    def session_close(self, session: Session) -> None:
        for identity in [i for i, s in self._identities.items() if s is session]:
            self._identity_drop(identity)
        carried = self._carried.pop(session.seid, None)
        if carried is None:
            return
        carried.carrier.stop()
        for bound in list(carried.connections.values()):
            self._end(bound)
        carried.tunnel.free()
        address = session.rules.ue_address
        if address is not None:
            try:
                self._routes.route_remove(address.ipv4, address.ipv6)
            except DatapathError as error:  # the session is over all the same
                self._counters.inc("proxy.route_not_removed")
                self._events.emit("route_not_removed", seid=session.name, reason=str(error))

    def keys_changed(self, session: Session) -> None:
        """The one key that waits is held here too; of the others no more than that they are known."""
        waiting = session.keys.next
        for identity in [i for i, s in self._identities.items() if s is session]:
            if not session.keys.is_known(identity):
                self._identity_drop(identity)
            elif waiting is None or identity != waiting.identity:
                self._psk_drop(identity)
        if waiting is not None and waiting.identity not in self._psks:
            self._identities[waiting.identity] = session
            mode = PskMode(self._config.psk_mode)
            self._psks[waiting.identity] = Psk(waiting.key.reveal(), waiting.identity, mode, self._config.suites)

    def connection_end(self, session: Session, generation: int) -> None:
        bound = self._bound(session, generation)
        if bound is not None:
            self._end(bound)

    def packets(self, session: Session) -> int:
        current = session.keys.current
        bound = None if current is None else self._bound(session, current.generation)
        return 0 if bound is None else bound.connection.packets()

    def _bound(self, session: Session, generation: int) -> Bound | None:
        carried = self._carried.get(session.seid)
        return None if carried is None else carried.connections.get(generation)

    def _after(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(delay, call)

    # ---- who may connect

    def psk_lookup(self, identity: bytes) -> Psk | None:
        """The key that a ClientHello names. Unknown and spent are told apart in the counters only."""
        session = self._identities.get(identity)
        if session is None:
            return None
        if session.keys.lookup(identity, self._clock()) is not None:
            return self._psks[identity]
        if session.keys.is_spent(identity):
            raise PskSpent("the key has made its connection")
        return None

    def _identity_drop(self, identity: bytes) -> None:
        del self._identities[identity]
        self._psk_drop(identity)

    def _psk_drop(self, identity: bytes) -> None:
        psk = self._psks.pop(identity, None)
        if psk is not None:
            psk.wipe()

    def connected(self, connection: ConnectionPort) -> None:
        """The client's Finished is verified: the key is spent now, by this connection and no other."""
        identity = connection.identity
        session = self._identities.get(identity)
        carried = None if session is None else self._carried.get(session.seid)
        slot = None if session is None or carried is None else session.keys.spend(identity)
        if session is None or carried is None or slot is None:
            self._counters.inc("proxy.key_gone")
            self._task(connection.close, "close")
            return
        self._psk_drop(identity)
        bound = Bound(connection, slot, carried)
        for idle in [b for b in carried.connections.values() if not b.asked]:
            self._end(idle)  # it has made nothing of its key; so a session has three at most, whatever its UE does
        carried.connections[slot.generation] = bound
        connection.on_connect_ip(partial(self._connect_ip, bound))
        connection.on_event(partial(self._path_event, bound))
        self._events.emit(
            "connection_ready",
            generation=slot.generation,
            fingerprint=slot.fingerprint,
            client_random=connection.client_random,
        )
        self._keys.used(session, slot, self._clock())
        self._flush()
        self._task(partial(self._watch, bound), "watch")

    def _connect_ip(self, bound: Bound) -> Assignment:
        """CONNECT-IP on a connection: the answer is the session's address, whatever was asked for; once."""
        carried = bound.carried
        address = carried.session.rules.ue_address
        if bound.asked:
            self._counters.inc("proxy.connect_ip_twice")
            return Assignment(CONFLICT)
        if address is None or carried.connections.get(bound.slot.generation) is not bound:
            self._counters.inc("proxy.connect_ip_without_session")
            return Assignment(FORBIDDEN)
        others = [b for b in carried.connections.values() if b is not bound]
        if any(b.asked and b.slot.generation > bound.slot.generation for b in others):
            # Whoever has an old key, and kept its connection for later, takes nothing from the new one.
            self._counters.inc("proxy.connect_ip_outdated")
            return Assignment(FORBIDDEN)
        bound.asked = True
        addresses: list[IPv4Network | IPv6Network] = []
        if address.ipv4 is not None:
            addresses.append(IPv4Network(address.ipv4))
        prefix = _prefix(address.ipv6)
        if prefix is not None:
            addresses.append(prefix)
        versions = {a.version for a in addresses}
        routes = tuple(r for r in EVERYWHERE if r.version in versions)
        # Before the answer goes out: the UE's first packets are as fast as it is.
        return Assignment(OK, tuple(addresses), routes, partial(carried.carrier.ready, bound))

    # ---- connections of a session

    def _admit(self, bound: Bound) -> None:
        try:
            bound.carried.tunnel.admit(bound.connection)
        except DatapathError as error:  # it closed in this moment; `_watch` does the rest
            self._counters.inc("proxy.admit_failed")
            self._events.emit("tunnel_bind_failed", generation=bound.slot.generation, reason=str(error))

    def _bind(self, bound: Bound) -> None:
        slot = bound.slot
        try:
            bound.carried.tunnel.bind(bound.connection)
        except DatapathError as error:  # it closed in this moment; `_watch` does the rest
            self._counters.inc("proxy.bind_failed")
            self._events.emit("tunnel_bind_failed", generation=slot.generation, reason=str(error))
            return
        self._events.emit("tunnel_bound", generation=slot.generation, fingerprint=slot.fingerprint)

    def _end(self, bound: Bound) -> None:
        self._task(bound.connection.close, "close")

    async def _watch(self, bound: Bound) -> None:
        """Until the connection is over: then its key's generation is over too."""
        reason = await bound.connection.closed()
        carried, generation = bound.carried, bound.slot.generation
        carried.connections.pop(generation, None)
        carried.carrier.closed(bound)
        self._events.emit("connection_closed", generation=generation, reason=reason)
        self._keys.connection_ended(carried.session, generation, self._clock())
        self._flush()

    def _path_event(self, bound: Bound, name: str, fields: dict[str, Any]) -> None:
        self._events.emit(name, generation=bound.slot.generation, **self._named(fields))
        if name == "goaway":
            bound.carried.carrier.goaway(bound)

    def _named(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Fields of a path with the access's name in place of the link."""
        link = fields.get("link")
        if isinstance(link, int) and 0 <= link < len(self._links):
            return {**fields, "access": self._links[link].name}
        return fields

    def _task(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        async def run() -> None:
            await work()

        task = asyncio.get_running_loop().create_task(run(), name=f"proxy {name}")
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._counters.inc("proxy.task_failed")
            self._events.emit("proxy_task_failed", task=task.get_name(), reason=type(task.exception()).__name__)

    # ---- what people ask

    def paths(self) -> list[dict[str, Any]]:
        return [
            {"seid": carried.session.name, "generation": generation, **self._named(path)}
            for carried in self._carried.values()
            for generation, bound in sorted(carried.connections.items())
            for path in bound.connection.paths()
        ]

    def tunnels(self) -> dict[str, Any]:
        """Of the one session there is; of several, by SEID."""
        found = {c.session.name: c.tunnel.stats() for c in self._carried.values()}
        return next(iter(found.values())) if len(found) == 1 else found

    def status(self) -> list[dict[str, Any]]:
        return [
            {
                "seid": carried.session.name,
                "generation": generation,
                "fingerprint": bound.slot.fingerprint,
                "carries": carried.carrier.active is bound,
            }
            for carried in self._carried.values()
            for generation, bound in sorted(carried.connections.items())
        ]

    def metrics(self) -> dict[str, Any]:
        return {"engine": self._endpoint.counters(), "tunnel": self.tunnels(), "paths": self.paths()}


def _prefix(address: IPv6Address | None) -> IPv6Network | None:
    return None if address is None else IPv6Network((address, IPV6_PREFIX), strict=False)
