"""Step 7: from a key to a connection that carries the session, and from one key to the next.

A key makes one connection. At a re-key the new one is made beside the old one, which carries on: handshake (the UPF may not
have the new key yet, and says no), a path over each access that the old one uses, GOAWAY on the old and CONNECT-IP on the new
one. Then the tunnel sends on the new one, and still takes what arrives on the old one; when nothing does any more, that is
closed. So a key that the proxy does not take never costs the connection that there is, and no packet is lost to a re-key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

from mpquic.psk import Psk, PskMode
from node.counters import Counters
from node.events import Events
from ue.config import UeConfig
from ue.errors import DatapathError, HandshakeRefused, NoAnswer, UeError
from ue.key_store import KeyStore, Slot
from ue.path_keeper import PathKeeper, Sleep
from ue.ports import Assignment, ConnectionPort, EndpointPort, TunnelPort, TunnelSpec, TunPort
from ue.sm import Session, usable
from ue.tun_mtu import TunMtu

REFUSED_RETRIES = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds after each refusal: step 5b may be faster than step 6 (design §3)."""
NO_ANSWER_RETRY = 1.0
CONNECT_IP_LIMIT = 5.0
IPV6_PREFIX = 64
"""Of a session (TS 23.501 §5.8.2.2): the interface identifier is the rest."""
CLOSE_LIMIT = 0.5
PATHS_LIMIT = 0.3
"""Seconds that the paths of a new connection are waited for while the old one carries."""
DRAIN_PTOS, DRAIN_LEAST, DRAIN_MOST = 3, 0.1, 2.0
"""The old connection is closed when nothing has come on it for so many PTOs of its slowest path; at least and at most seconds."""
HOLD_PACKETS = 4096
HOLD_SECONDS = 1.0
KEY_BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a new key is asked for after a connection ended by itself."""


@dataclass(slots=True, eq=False)
class Carried:
    """A connection and the key that it was made from."""

    connection: ConnectionPort
    generation: int
    fingerprint: str
    keeper: PathKeeper
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    ending: bool = False
    """we close it ourselves"""
    replaced: bool = False
    """and a newer one has taken over"""


class MpquicClient:
    def __init__(
        self,
        config: UeConfig,
        store: KeyStore,
        endpoint: EndpointPort,
        tun: TunPort,
        events: Events,
        counters: Counters,
        *,
        refused: Callable[[Slot], None],
        key_wanted: Callable[[], None],
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refused`: the proxy does not take this key. `key_wanted`: there is no key that could make a connection."""
        self._config, self._store, self._endpoint, self._tun = config, store, endpoint, tun
        self._events, self._counters, self._sleep, self._clock = events, counters, sleep, clock
        self._refused, self._key_wanted = refused, key_wanted
        self._mtu = TunMtu(tun, config.tun_mtu, events, counters)
        self._links: list[tuple[str, str]] = [(a.name, a.type) for a in config.accesses]
        self._session: Session | None = None
        self._tunnel: TunnelPort | None = None
        self._assignment: Assignment | None = None
        self._addresses: tuple[IPv4Address | None, IPv6Network | None] = (None, None)
        self._current: Carried | None = None
        self._coming: Carried | None = None
        """made, and not yet bound"""
        self._draining: dict[asyncio.Task[None], Carried] = {}
        self._changed = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[int]]] = []
        self._losses = 0
        self._wanting: asyncio.Task[None] | None = None

    # ---- what happens around it

    def session_changed(self, session: Session | None) -> None:
        self._session = session
        if session is None:
            for carried in (self._current, self._coming, *self._draining.values()):
                if carried is not None:
                    self._end(carried)
        else:
            if self._tunnel is not None:
                self._steer(self._tunnel, session)
            if self._current is not None:
                self._current.keeper.standby_set(session.atsss.standby_only)
        self._changed.set()

    def _steer(self, tunnel: TunnelPort, session: Session) -> None:
        try:
            tunnel.steering_set(session.atsss.steering)
        except DatapathError as e:  # the rules before stay
            self._counters.inc("mpquic.rules_not_set")
            self._events.emit("rules_refused", pdu_session_id=session.psi, reason="engine", text=str(e))

    def key_installed(self) -> None:
        self._changed.set()

    def key_revoked(self, generation: int) -> None:
        for carried in (self._current, self._coming, *self._draining.values()):
            if carried is not None and carried.generation == generation:
                self._end(carried)

    async def carried_beyond(self, generation: int) -> int:
        """When a connection of a later generation carries the session: which."""
        if self._current is not None and self._current.generation > generation:
            return self._current.generation
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.append((generation, future))
        try:
            return await future
        finally:
            self._waiters = [w for w in self._waiters if w[1] is not future]

    def fail_waiters(self, error: UeError) -> None:
        for _, future in self._waiters:
            if not future.done():
                future.set_exception(error)

    # ---- the loop

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            session, slot = self._session, self._store.usable()
            if session is None or slot is None:
                await self._changed.wait()
                continue
            connection = await self._connect(session, slot)
            if connection is not None:
                await self._take(session, connection, slot)

    async def _connect(self, session: Session, slot: Slot) -> ConnectionPort | None:
        """A connection from this key, or None: it is refused, or not the newest any more."""
        psk = Psk(slot.key.reveal(), slot.identity, PskMode(self._config.psk_mode), self._config.suites)
        remote = (str(session.atsss.proxy.ipv4), session.atsss.proxy.port)
        refusals, unanswered = 0, False
        try:
            while self._store.usable() is slot and self._session is not None:
                try:
                    connection = await self._endpoint.connect(psk, remote, range(len(self._links)))
                except HandshakeRefused as e:
                    self._counters.inc("mpquic.refused")
                    if refusals == len(REFUSED_RETRIES):
                        self._give_up(slot, e, unanswered)
                        return None
                    await self._sleep(REFUSED_RETRIES[refusals])
                    refusals += 1
                except (NoAnswer, DatapathError):
                    self._counters.inc("mpquic.no_answer")
                    unanswered = True
                    await self._sleep(NO_ANSWER_RETRY)
                else:
                    self._store.spent(slot)
                    self._events.emit("key_spent", generation=slot.generation, fingerprint=slot.fingerprint)
                    return connection
            if self._store.usable() is None and self._current is None:
                self._ask_for_key(0.0)  # its time is over, or it was taken back: nobody else asks for the next
            return None
        finally:
            psk.wipe()

    def _give_up(self, slot: Slot, error: HandshakeRefused, unanswered: bool) -> None:
        self._store.refused(slot)
        self._events.emit("key_refused", generation=slot.generation, fingerprint=slot.fingerprint, by="upf", reason=str(error))
        self._refused(slot)
        self.fail_waiters(error)
        if unanswered:  # an attempt whose end we did not see may have spent it
            self._key_wanted()

    async def _take(self, session: Session, connection: ConnectionPort, slot: Slot) -> None:
        """The session moves to this connection."""
        keeper = PathKeeper(
            connection,
            slot.generation,
            self._links,
            session.atsss.standby_only,
            self._events,
            self._counters,
            self._sleep,
        )
        new = Carried(connection, slot.generation, slot.fingerprint, keeper)
        # The further paths open while the old connection still carries.
        new.tasks.append(asyncio.get_running_loop().create_task(keeper.run(), name=f"paths {slot.generation}"))
        old, self._coming = self._current, new
        try:
            async with asyncio.timeout(CONNECT_IP_LIMIT):
                if old is not None:
                    await self._paths_opened(old, new)
                    await self._goaway(old)
                assignment = await connection.connect_ip(self._tunnel)
            if new.ending or self._session is None:
                raise DatapathError("the session or the key was taken away meanwhile")
            self._bind(self._session, connection, assignment)
        except (UeError, TimeoutError) as e:
            self._counters.inc("mpquic.connect_ip_failed")
            self._events.emit("connection_closed", generation=slot.generation, reason=f"CONNECT-IP: {e or 'no answer'}")
            for task in new.tasks:
                task.cancel()
            await self._close(connection)
            self.fail_waiters(DatapathError(f"CONNECT-IP: {e or 'no answer'}"))
            if self._current is None:
                self._ask_for_key(0.0)
            return
        except asyncio.CancelledError:  # the endpoint closes the connection
            for task in new.tasks:
                task.cancel()
            raise
        finally:
            self._coming = None
        if self._current is not None:
            self._replace(self._current)
        self._current = new
        self._mtu.follow(connection)
        self._events.emit(
            "connection_ready",
            generation=slot.generation,
            fingerprint=slot.fingerprint,
            client_random=connection.client_random,
        )
        new.tasks.append(asyncio.get_running_loop().create_task(self._watch(new), name=f"connection {slot.generation}"))
        if slot.generation > 1:
            self._events.emit("rekey_done", generation=slot.generation, fingerprint=slot.fingerprint)
        for generation, future in self._waiters:
            if slot.generation > generation and not future.done():
                future.set_result(slot.generation)

    async def _paths_opened(self, old: Carried, new: Carried) -> None:
        """The new connection has a path wherever the old one is alive: else it could not take what the old one carries."""
        alive = {p["link"] for p in old.connection.paths() if p.get("state") in ("active", "standby")}
        try:
            async with asyncio.timeout(PATHS_LIMIT):
                await new.keeper.opened(alive)
        except TimeoutError:  # an access that died just now
            self._counters.inc("mpquic.moved_with_fewer_paths")

    async def _goaway(self, old: Carried) -> None:
        """Tells the UPF that it need not wait with the tunnel; whether that works is no matter of the new connection."""
        try:
            await old.connection.goaway()
        except UeError:
            self._counters.inc("mpquic.goaway_not_sent")

    def _replace(self, old: Carried) -> None:
        """The tunnel has left this connection: it drains, then ends."""
        old.ending = old.replaced = True
        for task in old.tasks:
            task.cancel()
        task = asyncio.get_running_loop().create_task(self._drain(old), name=f"drain {old.generation}")
        self._draining[task] = old
        task.add_done_callback(lambda done: self._draining.pop(done, None))

    async def _drain(self, old: Carried) -> None:
        ended = asyncio.ensure_future(old.connection.closed())
        try:
            received, until = -1, self._clock() + DRAIN_MOST
            while not ended.done() and received != (now := _datagrams(old)) and self._clock() < until:
                received = now
                await asyncio.wait([ended], timeout=_drain_interval(old))
        finally:
            ended.cancel()
        await self._close(old.connection)
        self._events.emit("connection_closed", generation=old.generation, reason="re-keyed")

    def _bind(self, session: Session, connection: ConnectionPort, assignment: Assignment) -> None:
        """Addresses come from the session (NAS) and the assignment (CONNECT-IP); where both tell, they must agree."""
        ipv4, ipv6 = addresses(session, assignment)
        tunnel = self._tunnel
        if tunnel is None or self._addresses != (ipv4, ipv6):
            if tunnel is not None:
                tunnel.free()
                self._tunnel = None
            tunnel = self._endpoint.tunnel_new(TunnelSpec(ipv4, ipv6, self._config.tun_mtu, HOLD_PACKETS, HOLD_SECONDS))
            try:
                tunnel.steering_set(session.atsss.steering)
                self._tun.configure(ipv4, ipv6, session.interface_id, assignment.routes)
            except UeError:
                tunnel.free()
                raise
        elif assignment != self._assignment:
            self._tun.configure(ipv4, ipv6, session.interface_id, assignment.routes)
        self._tunnel, self._addresses, self._assignment = tunnel, (ipv4, ipv6), assignment
        tunnel.bind(connection)

    # ---- ends

    async def _watch(self, carried: Carried) -> None:
        started = self._clock()
        reason = await carried.connection.closed()
        for task in carried.tasks:
            if task is not asyncio.current_task():
                task.cancel()
        if carried.replaced:
            return
        self._events.emit("connection_closed", generation=carried.generation, reason=reason)
        if self._current is carried:
            self._current = None
        if not carried.ending and self._store.usable() is None:
            self._ask_for_key(self._clock() - started)

    def _ask_for_key(self, lasted: float) -> None:
        """Nothing carries and there is no key. `lasted`: seconds that the last connection carried; those that do not last are
        replaced ever more slowly, whoever's fault it is."""
        if lasted > KEY_BACKOFF[-1]:
            self._losses = 0
        delay = KEY_BACKOFF[min(self._losses, len(KEY_BACKOFF) - 1)]
        self._losses += 1
        if self._wanting is not None:
            self._wanting.cancel()
        self._wanting = asyncio.get_running_loop().create_task(self._want_key(delay), name="key wanted")

    async def _want_key(self, delay: float) -> None:
        await self._sleep(delay)
        if self._session is None or self._store.usable() is not None:
            return
        if self._current is None and self._coming is None:
            self._key_wanted()

    def _end(self, carried: Carried) -> None:
        carried.ending = True
        task = asyncio.get_running_loop().create_task(self._close(carried.connection), name="close")
        carried.tasks.append(task)

    async def _close(self, connection: ConnectionPort) -> None:
        """Bounded: what the peer does not acknowledge is not waited for."""
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await connection.close()
        except (UeError, TimeoutError):
            self._counters.inc("mpquic.close_unfinished")

    async def stop(self) -> None:
        self._mtu.stop()
        if self._wanting is not None:
            self._wanting.cancel()
        gone = [c for c in (self._current, self._coming, *self._draining.values()) if c is not None]
        for task in list(self._draining):
            task.cancel()
        self._current = self._coming = None
        for carried in gone:
            carried.ending = True
            for task in carried.tasks:
                task.cancel()
        await asyncio.gather(*(self._close(carried.connection) for carried in gone))
        if self._tunnel is not None:
            self._tunnel.free()
            self._tunnel = None

    # ---- the verb probe_spent_key, and tests

    async def probe(self, key: bytes, identity: bytes) -> str:
        """One handshake with a key that should not work; what came of it, by name. Nothing is ever carried over it."""
        session = self._session
        if session is None:
            return "no session"
        psk = Psk(key, identity, PskMode(self._config.psk_mode), self._config.suites)
        remote = (str(session.atsss.proxy.ipv4), session.atsss.proxy.port)
        try:
            connection = await self._endpoint.connect(psk, remote, range(len(self._links)))
        except HandshakeRefused as e:
            return "key refused" if e.key_refused else f"refused: {e}"
        except NoAnswer:
            return "no answer"
        except DatapathError as e:
            return f"failed: {e}"
        finally:
            psk.wipe()
        await self._close(connection)
        return "connected"

    # ---- what people ask

    def status(self) -> dict[str, Any] | None:
        current = self._current
        if current is None:
            return None
        return {
            "generation": current.generation,
            "fingerprint": current.fingerprint,
            "client_random": current.connection.client_random,
        }

    def paths(self) -> list[dict[str, Any]]:
        """Of the connection that carries the session, with the generation of its key: counters are that connection's."""
        if self._current is None:
            return []
        return [{"generation": self._current.generation, **path, **self._named(path)} for path in self._current.connection.paths()]

    def _named(self, path: dict[str, Any]) -> dict[str, Any]:
        link = path.get("link")
        if isinstance(link, int) and 0 <= link < len(self._links):
            return {"access": self._links[link][0], "access_type": self._links[link][1]}
        return {}

    def key_update(self) -> None:
        """Of the connection that carries the session. UeError."""
        if self._current is None:
            raise UeError("no connection carries the session")
        self._current.connection.key_update()

    def tunnel(self) -> dict[str, Any]:
        return {} if self._tunnel is None else self._tunnel.stats()


def _datagrams(carried: Carried) -> int:
    """HTTP datagrams received so far."""
    return sum(int(path.get("datagrams_received", 0)) for path in carried.connection.paths())


def _drain_interval(carried: Carried) -> float:
    """Seconds"""
    slowest = max((int(path.get("pto", 0)) for path in carried.connection.paths()), default=0) / 1e9
    return min(max(DRAIN_PTOS * slowest, DRAIN_LEAST), DRAIN_MOST)


def addresses(session: Session, assignment: Assignment) -> tuple[IPv4Address | None, IPv6Network | None]:
    """The session's IPv4 address and IPv6 prefix."""
    ipv4 = next((n.network_address for n in assignment.addresses if isinstance(n, IPv4Network) and n.prefixlen == 32), None)
    ipv6 = next((n for n in assignment.addresses if isinstance(n, IPv6Network)), None)
    if ipv4 != session.ipv4 or (ipv6 is None) != (session.interface_id is None):
        raise DatapathError("the proxy assigns other addresses than the network gave the session")
    if ipv6 is not None and (ipv6.prefixlen != IPV6_PREFIX or not usable(ipv6.network_address)):
        raise DatapathError(f"the proxy assigns {ipv6}: a session has a /{IPV6_PREFIX} of unicast addresses")
    return ipv4, ipv6
