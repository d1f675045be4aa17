"""An MPQUIC endpoint for a process: the engine with its I/O thread, its connections and tunnels, in one event loop."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Network
from typing import Any, Literal

from mpquic.connection import Connection, RaceLost
from mpquic.engine import CONGESTION_CONTROLLERS, NEVER, Engine, EngineConfig, Event, Remote
from mpquic.errors import EngineError, HandshakeFailed, HandshakeRefused, HandshakeTimeout, PskSpent
from mpquic.grease import Grease
from mpquic.keylog import line
from mpquic.psk import Psk
from mpquic.psk_choice import PskLookup
from mpquic.qlog import OCTETS_MOST, Qlog
from mpquic.steering import SteeringRule
from mpquic.suites import SUITES, Suite
from mpquic.tls_client import ClientTls
from mpquic.tls_errors import SpentKey
from mpquic.tls_server import ServerTls
from mpquic.tls_states import Role
from mpquic.token_store import TokenStore
from mpquic.trace import DETAILS, Trace
from mpquic.transport_parameters import TransportParameters
from mpquic.tunnel_request import ConnectIp
from native import lib

ALPN = b"h3"
MILLISECOND = 1_000_000
SECOND = 1_000_000_000
# Whoever sees the Initials of one access can forge a refusal there (their keys are public, RFC 9001 §7): the other accesses
# have so long to say otherwise
REFUSAL_PATIENCE_S = 0.5


CongestionControl = Literal["cubic", "newreno", "bbr", "lia"]


@dataclass(slots=True)
class EndpointConfig:
    """`psk_lookup` (server): identity -> Psk, None, or PskSpent. `on_connection` (server): after the client's Finished is
    verified. `keylog` gets SSLKEYLOGFILE lines, `qlog` whole JSON-SEQ records from a thread of its own, `qlog_octets_most` at most
    (and an eighth more for rare events); what the sink gets is good for the call. `qlog_detail`: one of mpquic.trace.DETAILS."""

    role: Literal["client", "server"]
    psk_lookup: PskLookup | None = None
    on_connection: Callable[[Connection], None] | None = None
    keylog: Callable[[str], object] | None = None
    qlog: Callable[[bytes | memoryview], object] | None = None
    qlog_octets_most: int = OCTETS_MOST
    qlog_detail: str = DETAILS[-1]
    name: str = "mpquic"
    suites: Sequence[Suite] = field(default_factory=lambda: tuple(SUITES.values()))
    backend: str | None = None
    max_connections: int = 256
    max_half_open: int = 64
    # Server: from so many half-open connections on, clients prove their address first (Retry, RFC 9000 §8.1.2). 1: always, 0: never
    retry_half_open: int = 32
    idle_timeout_ms: int = 30_000
    initial_max_path_id: int = 3
    active_connection_id_limit: int = 4
    max_udp_payload: int = 1452
    validation_size: int = 1331  # carries an inner packet of 1280 octets (RFC 9484 §7.2)
    initial_max_data: int = 1 << 20
    key_update_packets: int = 0
    congestion_control: CongestionControl = "cubic"
    sequenced: bool = True  # offer, or accept, packets with sequence numbers (docs/sequenced_datagrams.md)
    ecn: bool = True  # mark packets where the path lets marks pass (RFC 9000 §13.4)
    mss_clamp: bool = True  # lower the maximum segment size of inner TCP to what the paths carry
    handshake_timeout_s: float = 10.0
    reset_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    random_seed: int = 0
    random: Callable[[int], bytes] = os.urandom


class Tunnel:
    """IP packets of one PDU session; outlives connections."""

    def __init__(self, engine: Engine, number: int) -> None:
        self._engine = engine
        self.number = number

    def steering_set(self, rules: Sequence[SteeringRule]) -> None:
        self._engine.tunnel_steering_set(self.number, rules)

    def admit(self, connection: Connection) -> None:
        """What arrives on the stream of its CONNECT-IP request is the tunnel's from now on; sending stays where it is."""
        request = _request_of(connection)
        self._engine.tunnel_admit(self.number, connection.handle, request.quarter_stream_id)
        self._engine.tunnel_contexts_set(self.number, connection.handle, request.offered, request.sequenced)

    def bind(self, connection: Connection) -> None:
        """The connection carries the tunnel from now on, on the stream of its CONNECT-IP request. The one before delivers
        what is under way until it closes."""
        self.admit(connection)  # first: it may send with numbers from its first packet on
        self._engine.tunnel_bind(self.number, connection.handle, _request_of(connection).quarter_stream_id)

    def unbind(self, connection: Connection) -> None:
        self._engine.tunnel_unbind(self.number, connection.handle)

    def stats(self) -> dict[str, Any]:
        return self._engine.tunnel_stats(self.number)

    def free(self) -> None:
        self._engine.tunnel_free(self.number)


def _request_of(connection: Connection) -> ConnectIp:
    if connection.tunnel is None:
        raise HandshakeFailed("the connection has no CONNECT-IP request")
    return connection.tunnel


def _parameters(config: EndpointConfig) -> TransportParameters:
    """Ours, the same for every connection."""
    return TransportParameters(
        max_idle_timeout=config.idle_timeout_ms,
        max_udp_payload_size=65527,
        initial_max_data=config.initial_max_data,
        initial_max_stream_data_bidi_local=config.initial_max_data // 4,
        initial_max_stream_data_bidi_remote=config.initial_max_data // 4,
        initial_max_stream_data_uni=config.initial_max_data // 4,
        initial_max_streams_bidi=8,
        initial_max_streams_uni=8,
        max_ack_delay=25,
        active_connection_id_limit=config.active_connection_id_limit,
        max_datagram_frame_size=65535,
        initial_max_path_id=config.initial_max_path_id,
    )


class Endpoint:
    """Made and used in the thread of a running event loop."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.counters: Counter[str] = Counter()
        self.grease = Grease(config.random)
        self.connections: dict[int, Connection] = {}
        self.tokens = TokenStore()
        self.parameters_set(_parameters(config))
        if config.backend is not None:
            Engine.backend_force(config.backend)
        self.engine = Engine(
            EngineConfig(
                role=Role.SERVER if config.role == "server" else Role.CLIENT,
                reset_key=config.reset_key,
                max_connections=config.max_connections,
                max_half_open=config.max_half_open,
                random_seed=config.random_seed,
                max_idle_timeout_ns=config.idle_timeout_ms * MILLISECOND,
                max_ack_delay_ns=25 * MILLISECOND,
                ack_delay_exponent=3,
                active_connection_id_limit=config.active_connection_id_limit,
                initial_max_path_id=config.initial_max_path_id,
                max_datagram_frame_size=65535,
                max_udp_payload=config.max_udp_payload,
                validation_size=config.validation_size,
                key_update_packets=config.key_update_packets,
                close_after_packets=0,
                congestion_control=CONGESTION_CONTROLLERS.index(config.congestion_control),
                ecn_off=int(not config.ecn),
                mss_clamp_off=int(not config.mss_clamp),
                retry_half_open=config.retry_half_open if config.role == "server" else 0,
            )
        )
        if config.role == "server":
            self.engine.accept(True)
        self._loop = asyncio.get_running_loop()
        self._event_fd = -1
        self._clock: Callable[[], int] = time.monotonic_ns
        self._qlog: Qlog | None = None
        if config.qlog is not None:
            wall_clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            self._qlog = Qlog(
                Trace(self.engine.endpoint), config.qlog, config.name, config.role, wall_clock, config.qlog_octets_most,
                config.qlog_detail,
            )

    # ---- sockets, TUN, thread

    def add_socket(self, link: int, sock: socket.socket, access: str) -> None:
        """A bound, non-blocking UDP socket; its descriptor is duplicated."""
        self.engine.link_set(link, access)
        self.engine.io_socket_add(sock.fileno(), link)

    def add_tun(self, fd: int) -> int:
        return self.engine.io_tun_add(fd)

    def start(self) -> None:
        """Starts the I/O thread. Sans-IO users never call it: they drive `engine` and call `process_events`."""
        if self._qlog is not None:
            self._qlog.start()
        self._event_fd = self.engine.io_start()
        self._loop.add_reader(self._event_fd, self._readable)

    def _readable(self) -> None:
        try:
            os.read(self._event_fd, 8)
        except BlockingIOError:
            return
        self.process_events()

    async def close(self) -> None:
        """Closes every connection, then the engine."""
        for connection in list(self.connections.values()):
            if not connection.closed.done():
                try:
                    async with asyncio.timeout(1.0):
                        await connection.close()
                except (TimeoutError, EngineError):
                    continue
        if self._event_fd >= 0:
            self._loop.remove_reader(self._event_fd)
            self._event_fd = -1
            self.engine.io_stop()
        if self._qlog is not None:
            self._qlog.stop()
            self._qlog = None
        self.engine.free()

    # ---- tunnels

    def tunnel_new(
        self,
        tun: int,
        *,
        ipv4: IPv4Address | None = None,
        ipv6: IPv6Network | None = None,
        mtu: int = 1280,
        hold_packets: int = 1024,
        hold_s: float = 1.0,
    ) -> Tunnel:
        number = self.engine.tunnel_new(tun, ipv4, ipv6, mtu, hold_packets, int(hold_s * SECOND))
        return Tunnel(self.engine, number)

    # ---- connections

    async def connect(self, psk: Psk, link: int, remote: Remote) -> Connection:
        """Handshake confirmed by the server. HandshakeRefused, HandshakeTimeout."""
        return await self.connect_race(psk, [(link, remote)])

    async def connect_race(self, psk: Psk, ways: Sequence[tuple[int, Remote]]) -> Connection:
        """One ClientHello over each way with one key; the first that the server answers is finished, the others are closed
        without a Finished, so the key is not spent by them."""
        outcome = await self._race(psk, ways)
        if isinstance(outcome, Connection):
            return outcome
        try:
            raise outcome
        finally:
            del outcome  # the traceback holds this frame: the frame must not hold the error, nor the connections that know it

    async def _race(self, psk: Psk, ways: Sequence[tuple[int, Remote]]) -> Connection | HandshakeFailed:
        """The first connection that is confirmed, or why there is none: told, not raised, since a traceback would keep this
        frame, and by it the connections with their keys, until the garbage collector comes by."""
        winner: list[Connection] = []
        racers: list[Connection] = []
        failure: HandshakeFailed | None = None
        try:
            for link, remote in ways:
                racers.append(self._client(psk, link, remote, winner))
            waiting = {r.confirmed for r in racers}
            async with asyncio.timeout(self.config.handshake_timeout_s) as limit:
                while waiting:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    for future in done:
                        racer = next(r for r in racers if r.confirmed is future)
                        error = future.exception()
                        if error is None:
                            return racer
                        # Once one has sent its Finished the key may be spent: the server refuses the others, rightly
                        if isinstance(error, HandshakeRefused) and (not winner or winner[0] is racer):
                            if winner:
                                return error
                            if not isinstance(failure, HandshakeRefused):
                                limit.reschedule(min(limit.when() or 0.0, self._loop.time() + REFUSAL_PATIENCE_S))
                            failure = error
                        elif isinstance(error, HandshakeFailed) and not isinstance(error, RaceLost | HandshakeRefused):
                            failure = failure or error
            return failure or HandshakeTimeout("no access led to an answer")
        except TimeoutError:
            if isinstance(failure, HandshakeRefused):
                return failure
            return HandshakeTimeout(f"no answer in {self.config.handshake_timeout_s:g} s")
        finally:
            for racer in racers:
                done_well = racer.confirmed.done() and not racer.confirmed.cancelled() and racer.confirmed.exception() is None
                if not done_well and not racer.closed.done():
                    racer.fail(RaceLost("given up"))
                    racer.abort()

    def _client(self, psk: Psk, link: int, remote: Remote, winner: list[Connection]) -> Connection:
        handle = self.engine.connect(link, remote, self.now())
        connection = self.connections[handle] = Connection(self, handle, Role.CLIENT, link)
        connection.psk = psk

        def authorise() -> None:
            if winner:
                raise RaceLost("another access was faster")
            winner.append(connection)

        try:
            token = self.tokens.take(remote)
            if token is not None:
                self.engine.token_set(handle, token)
            connection.start_tls(
                ClientTls(
                    psk,
                    alpn=[ALPN],
                    transport_parameters=connection.transport_parameters,
                    on_peer_parameters=connection.peer_parameters_received,
                    authorise=authorise,
                    keylog=self._keylog,
                    grease=self.grease,
                    random=self.config.random,
                )
            )
        except BaseException:  # a key that is wiped, or has the other role: the engine's half goes, too
            connection.abort()
            raise
        return connection

    def _accept(self, handle: int, link: int) -> None:
        connection = self.connections[handle] = Connection(self, handle, Role.SERVER, link)
        lookup = self.config.psk_lookup or (lambda _identity: None)

        def authorise() -> None:
            """The client's Finished is verified: is its key still to be had?"""
            assert isinstance(handshake, ServerTls)
            psk = handshake.psk
            try:
                still = psk is not None and lookup(psk.identity) is not None
            except PskSpent:
                still = False
            if not still:
                raise SpentKey("another connection was faster with this key")

        handshake = ServerTls(
            lookup,
            suites=self.config.suites,
            alpn=[ALPN],
            transport_parameters=connection.transport_parameters,
            on_peer_parameters=connection.peer_parameters_received,
            authorise=authorise,
            keylog=self._keylog,
            random=self.config.random,
        )
        connection.start_tls(handshake)

    def _keylog(self, label: str, client_random: bytes, secret: bytes) -> None:
        if self.config.keylog is not None:
            self.config.keylog(line(label, client_random, secret))

    # ---- events

    def process_events(self) -> None:
        for event in self.engine.events():
            try:
                self._dispatch(event)
            except Exception as error:  # a user's callback failed: the other connections' events must still be served
                self.count("callback_failed")
                self._loop.call_exception_handler({"message": "mpquic: a callback failed", "exception": error})
                connection = self.connections.get(event.conn)
                if connection is not None:
                    connection.abort()
        if self._qlog is not None and not self._qlog.threaded:
            self._qlog.pump()

    def _dispatch(self, event: Event) -> None:
        if event.type == lib.EVENT_CONN_NEW:
            try:
                self._accept(event.conn, event.a)
            except EngineError as error:  # gone already, by the I/O thread
                self.count(f"engine_error_{error.call}")
                self.connections.pop(event.conn, None)
        elif event.type == lib.EVENT_GONE:
            gone = self.connections.pop(event.conn, None)
            if gone is not None:
                gone.gone()
        elif event.type == lib.EVENT_OVERFLOW:
            self.count("event_overflow")
            self._reconcile()
        else:
            connection = self.connections.get(event.conn)
            if connection is not None:
                connection.event(event)

    def _reconcile(self) -> None:
        """Events were lost: connections that the engine has no more are over."""
        alive = self.engine.connections()
        for handle in [h for h in self.connections if h not in alive]:
            self.connections.pop(handle).gone()

    # ---- for connections (connection.Host)

    def parameters_set(self, parameters: TransportParameters) -> None:
        """Of the connections to come; what no two of them share is added to it."""
        self.parameters = parameters
        self.parameters_encoded = parameters.encode()

    def count(self, counter: str, times: int = 1) -> None:
        self.counters[counter] += times

    def now(self) -> int:
        return self._clock()

    def clock_set(self, clock: Callable[[], int]) -> None:
        """Virtual time, for sans-IO use."""
        self._clock = clock

    def token_received(self, connection: Connection, token: bytes) -> None:
        self.tokens.put(connection.remote, token)

    def connection_ready(self, connection: Connection) -> None:
        if self.config.on_connection is not None:
            self.config.on_connection(connection)

    @property
    def sequenced(self) -> bool:
        return self.config.sequenced

    @property
    def logs(self) -> bool:
        return self._qlog is not None

    def log(self, connection: Connection, name: str, data: dict[str, Any]) -> None:
        if self._qlog is not None:
            self._qlog.event(bytes.fromhex(connection.original_dcid), name, data)

    def all_counters(self) -> dict[str, int]:
        """The engine's and ours."""
        return {**self.engine.counters(), **self.counters}

    def io_stats(self) -> dict[str, int]:
        return self.engine.io_stats()


__all__ = ["NEVER", "Connection", "Endpoint", "EndpointConfig", "Tunnel"]
