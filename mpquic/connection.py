"""One MPQUIC connection: what the engine's events mean. TLS, transport parameters, streams, HTTP/3 and CONNECT-IP meet
here; packets stay in C. All of it runs in the event loop's thread, whenever the engine has something to say."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from mpquic import h3_events as h3
from mpquic import qlog_events, tls
from mpquic.close_reason import CloseReason
from mpquic.crypto_stream import CryptoReceiver
from mpquic.engine import E_HANDLE, E_LIMIT, E_STATE, Engine, Event, PeerParams, Remote, path_state
from mpquic.errors import (
    ConnectionClosed,
    ConnectRefused,
    EngineError,
    H3Error,
    H3StreamError,
    HandshakeFailed,
    MpquicError,
    PathFailed,
    TransportError,
)
from mpquic.grease import Grease
from mpquic.h3 import H3
from mpquic.h3_codes import Code
from mpquic.path_reasons import path_reason
from mpquic.psk import Psk
from mpquic.qlog_events import H3Log
from mpquic.reader import Reader, ReadError, varint
from mpquic.stream_events import SendingStopped, StreamData, StreamReset, TokenReceived
from mpquic.stream_limits import StreamLimits
from mpquic.streams import Streams
from mpquic.tls_client import ClientTls
from mpquic.tls_server import ServerTls
from mpquic.tls_states import LEVELS, Level, Role
from mpquic.transport_codes import FrameType, TransportCode
from mpquic.transport_parameters import TransportParameters
from mpquic.tunnel_request import (
    CAPSULE_PROTOCOL,
    SEQUENCED_CONTEXT,
    ConnectIp,
    ConnectIpHandler,
    ConnectIpReply,
    request_headers,
    sequenced_context,
    sequenced_field,
    target_of,
)
from native import lib

CRYPTO_CHUNK = 1000
MILLISECOND = 1_000_000
IDLE_TIMEOUT_MOST_MS = 7 * 86_400_000  # a peer may say up to 2^62-1 ms, which is too much for a number of nanoseconds
CIDS_PATIENCE_S = 2.0  # for the peer's connection IDs of the next path
T = TypeVar("T")
PathHandler = Callable[[str, dict[str, Any]], None]


class RaceLost(HandshakeFailed):
    """Another connection of the same race was faster."""


class Host(Protocol):
    """What a connection needs of its endpoint."""

    engine: Engine
    grease: Grease

    @property
    def parameters(self) -> TransportParameters: ...  # ours, but for those of the single connection
    @property
    def parameters_encoded(self) -> bytes: ...
    def count(self, counter: str, times: int = 1) -> None: ...
    def now(self) -> int: ...
    def connection_ready(self, connection: Connection) -> None: ...
    def token_received(self, connection: Connection, token: bytes) -> None: ...
    @property
    def logs(self) -> bool: ...
    @property
    def sequenced(self) -> bool: ...  # tunnels may have packets with sequence numbers
    def log(self, connection: Connection, name: str, data: dict[str, Any]) -> None: ...


class Connection:
    def __init__(self, host: Host, handle: int, role: Role, link: int) -> None:
        self.handle = handle
        self.role = role
        self.link = link  # of path 0
        self.psk: Psk | None = None
        self.peer_parameters: TransportParameters | None = None
        self.on_connect_ip: ConnectIpHandler | None = None
        self.handlers: list[PathHandler] = []
        loop = asyncio.get_running_loop()
        self.confirmed: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[CloseReason] = loop.create_future()
        self.tunnel: ConnectIp | None = None  # the request that is one
        self._host = host
        self._engine = host.engine
        self._info = self._engine.conn_info(handle)
        self._tls: tls.Tls
        self._crypto_in = {level: CryptoReceiver() for level in LEVELS}
        self._crypto_out = dict.fromkeys(LEVELS, 0)
        self._parameters = self._own_parameters()
        self._encoded_parameters = host.parameters_encoded + self._parameters.encode() + host.grease.transport_parameter()
        self._streams = Streams(role is Role.CLIENT, StreamLimits.of(host.parameters), tokens=itertools.count(1))
        self._h3 = H3(
            "client" if role is Role.CLIENT else "server",
            self._streams.send,
            self._streams.open_uni,
            self._streams.open_bidi,
            self._streams.requests_allowed,
            host.grease,
            H3Log(self._log) if host.logs else None,
        )
        self._settings: asyncio.Future[None] = loop.create_future()
        self._response: asyncio.Future[int] | None = None
        self._closing = False
        self._accepted = False  # the tunnel stands: 2xx went, or came
        self._capsules = asyncio.Event()
        self._paths: dict[int, asyncio.Future[None]] = {}
        for future in (self.confirmed, self._settings):
            future.add_done_callback(lambda f: f.cancelled() or f.exception())

    # ---- handshake

    def start_tls(self, handshake: tls.Tls) -> None:
        self._tls = handshake
        self.closed.add_done_callback(lambda _: handshake.forget())
        if isinstance(handshake, ClientTls):
            handshake.start()
        if self._host.logs:
            self._log("quic:connection_started", {"local": {}, "remote": qlog_events.endpoint(self.remote), "link": self.link})
            ours = self._host.parameters.describe() | self._parameters.describe()
            self._log("quic:parameters_set", {"initiator": "local", **ours})
        self._tls_actions()

    @property
    def transport_parameters(self) -> bytes:
        return self._encoded_parameters

    def _own_parameters(self) -> TransportParameters:
        """Those that no other connection has."""
        info = self._info
        if self.role is Role.CLIENT:
            return TransportParameters(initial_source_connection_id=info.local_cid)
        return TransportParameters(
            initial_source_connection_id=info.local_cid,
            retry_source_connection_id=info.retry_cid or None,
            original_destination_connection_id=info.original_dcid,
            stateless_reset_token=info.reset_token,
        )

    def peer_parameters_received(self, data: bytes) -> None:
        """Called by TLS with the extension's octets: decode, authenticate the CIDs, tell engine and streams."""
        info = self._info = self._engine.conn_info(self.handle)
        client = self.role is Role.CLIENT
        parameters = TransportParameters.decode(data, from_server=client)
        parameters.authenticate(
            source=info.remote_cid,
            original_destination=info.original_dcid if client else None,
            retry_source=info.retry_cid or None,
        )
        self.peer_parameters = parameters
        self._engine.peer_params(
            self.handle,
            PeerParams(
                max_idle_timeout_ns=min(parameters.max_idle_timeout or 0, IDLE_TIMEOUT_MOST_MS) * MILLISECOND,
                max_ack_delay_ns=(25 if parameters.max_ack_delay is None else parameters.max_ack_delay) * MILLISECOND,
                ack_delay_exponent=3 if parameters.ack_delay_exponent is None else parameters.ack_delay_exponent,
                disable_active_migration=parameters.disable_active_migration,
                reset_token=parameters.stateless_reset_token,
                preferred=parameters.preferred_address,
                initial_max_path_id=parameters.initial_max_path_id,
                active_connection_id_limit=parameters.active_connection_id_limit or 2,
                max_udp_payload_size=parameters.max_udp_payload_size or 65527,
                max_datagram_frame_size=parameters.max_datagram_frame_size or 0,
            ),
        )
        self._streams.set_remote(StreamLimits.of(parameters))
        if self._host.logs:
            self._log("quic:parameters_set", {"initiator": "remote", **parameters.describe()})

    def _tls_actions(self) -> None:
        for action in self._tls.take_actions():
            match action:
                case tls.SendCrypto(level, data):
                    self._crypto_send(level, data)
                case tls.InstallKeys():
                    if self.peer_parameters is not None:
                        self.peer_parameters.check_nonce(action.suite.nonce_length)
                    self._engine.keys_install(
                        self.handle, action.level, action.direction, action.suite.code, action.secret
                    )
                case tls.HandshakeComplete():
                    self._engine.handshake_complete(self.handle)
                    self._log("quic:alpn_information", {"chosen_alpn": {"string_value": "h3"}})
                    self._h3.start()
                    if isinstance(self._tls, ServerTls):
                        self.psk = self._tls.psk
                        self._confirm()
                        self._host.connection_ready(self)

    def _crypto_send(self, level: Level, data: bytes) -> None:
        for start in range(0, len(data), CRYPTO_CHUNK):
            piece = data[start : start + CRYPTO_CHUNK]
            frame = varint(FrameType.CRYPTO) + varint(self._crypto_out[level]) + varint(len(piece)) + piece
            self._engine.frame_send(self.handle, level, frame, 0, once=True)  # the engine repeats it until acknowledged
            self._crypto_out[level] += len(piece)

    def _confirm(self) -> None:
        if not self.confirmed.done():
            self.confirmed.set_result(None)

    @property
    def remote(self) -> Remote:
        """The peer's address when the connection began."""
        return self._info.remote

    @property
    def client_random(self) -> str:
        return self._tls.client_random.hex()

    @property
    def original_dcid(self) -> str:
        return self._info.original_dcid.hex()

    def _capsule_log(self, stream_id: int) -> Callable[[str, int, int], None] | None:
        if not self._host.logs:
            return None
        return lambda what, kind, octets: self._log(f"mpquic:capsule_{what}", qlog_events.capsule(stream_id, kind, octets))

    def _log(self, name: str, data: dict[str, Any]) -> None:
        self._host.log(self, name, data)

    # ---- events of the engine

    def event(self, event: Event) -> None:
        """One event. What breaks a rule closes the connection; nothing escapes."""
        try:
            self._event(event)
            self._flush()
        except RaceLost:
            self.fail(RaceLost("another access was faster"))
            self._engine_close(False, 0, 0, "")
        except TransportError as error:
            self._host.count(error.counter)
            # During a server's handshake no words go out: wrong key, wrong binder and spent key look alike (quic.md PSK-01).
            quiet = self.role is Role.SERVER and not self.confirmed.done()
            self._engine_close(False, error.code, error.frame, "" if quiet else error.reason)
        except H3Error as error:
            self._host.count(error.counter)
            self._engine_close(True, error.code, 0, error.reason)
        except EngineError as error:
            self._host.count(f"engine_error_{error.call}")
            if error.code != E_HANDLE:  # the handle is gone already: then an EVENT_CLOSED is on its way
                self._engine_close(False, TransportCode.INTERNAL_ERROR, 0, "internal error")
        except MpquicError as error:
            self._host.count(f"unexpected_{type(error).__name__}")
            self._engine_close(False, TransportCode.INTERNAL_ERROR, 0, "internal error")

    def _event(self, event: Event) -> None:
        if self._closing and event.type != lib.EVENT_CLOSED:
            return  # the rest of the packet that made us close, and what comes until the peer knows
        match event.type:
            case lib.EVENT_FRAME:
                self._frame(LEVELS[event.level], event.data)
            case lib.EVENT_ACKED:
                self._streams.acked(event.token)
            case lib.EVENT_LOST:
                self._streams.lost(event.token)
            case lib.EVENT_HANDSHAKE_DONE:
                self._confirm()
            case lib.EVENT_DATAGRAM:
                # One that no tunnel of the engine takes. A request without datagrams is refused and gone at once
                found = self._h3.datagram(event.data)
                self._host.count("datagram_without_request" if found is None else "datagram_before_tunnel")
            case lib.EVENT_PATH_VALIDATED:
                future = self._paths.pop(event.path, None)
                if future is not None and not future.done():
                    future.set_result(None)
                self._tell("path_validated", {"path": event.path, "link": event.a, "rtt_ns": event.b})
            case lib.EVENT_PATH_STATE:
                state, reason = path_state(event.a), path_reason(event.b)
                self._tell("path_state", {"path": event.path, "state": state, "reason": reason})
            case lib.EVENT_PATH_ABANDONED:
                future = self._paths.pop(event.path, None)
                if future is not None and not future.done():
                    future.set_exception(PathFailed(f"path {event.path}: abandoned with error 0x{event.a:x}"))
                    future.exception()
                self._tell("path_abandoned", {"path": event.path, "code": event.a, "by_peer": bool(event.b)})
            case lib.EVENT_PATH_PEER_OPENED:
                self._tell("path_peer_opened", {"path": event.path, "link": event.a})
            case lib.EVENT_PATH_STATUS:
                self._tell("path_status", {"path": event.path, "available": bool(event.a)})
            case lib.EVENT_PATH_MTU:
                self._tell("path_mtu", {"path": event.path, "udp_payload": event.a, "inner_mtu": event.b})
            case lib.EVENT_PATH_REMOTE_CHANGED:
                self._tell("path_remote_changed", {"path": event.path})
            case lib.EVENT_CLOSED:
                self.over(CloseReason.told(event.token, event.a, event.level == 1, event.data))

    def _tell(self, name: str, fields: dict[str, Any]) -> None:
        self._log(f"mpquic:{name}", fields)
        for handler in list(self.handlers):
            handler(name, fields)

    def _frame(self, level: Level, frame: bytes) -> None:
        reader = Reader(frame)
        try:
            kind = reader.varint()
            if kind == FrameType.CRYPTO:
                offset = reader.varint()
                data = reader.octets(reader.varint())
                ready = self._crypto_in[level].receive(offset, data)
                if ready:
                    self._tls.receive(level, ready)
                    for over in LEVELS[: self._tls.reading]:
                        self._crypto_in[over].close()
                    self._tls_actions()
                return
        except ReadError as error:
            raise TransportError(TransportCode.FRAME_ENCODING_ERROR, frame[0] if frame else 0, str(error)) from None
        for found in self._streams.receive_frame(frame):
            match found:
                case StreamData(stream_id, data, fin):
                    self._h3_events(self._h3.receive(stream_id, data, fin))
                case StreamReset(stream_id, code):
                    self._h3_events(self._h3.reset(stream_id, code))
                case TokenReceived(token):
                    self._host.token_received(self, token)
                case SendingStopped(stream_id, code):
                    self._h3_events(self._h3.stopped(stream_id, code))

    def _flush(self) -> None:
        if self.closed.done() or self._closing:
            return
        while frames := self._streams.pending():
            for number, (frame, token) in enumerate(frames):
                try:
                    self._engine.frame_send(self.handle, Level.ONE_RTT, frame, token)
                except EngineError as error:
                    if error.code not in (E_LIMIT, E_STATE):
                        raise
                    for _, later in frames[number:]:
                        self._streams.lost(later)  # goes out when something was acknowledged
                    return

    # ---- HTTP/3

    def _h3_events(self, events: list[h3.H3Event]) -> None:
        for event in events:
            match event:
                case h3.SettingsReceived():
                    if not self._settings.done():
                        self._settings.set_result(None)
                case h3.RequestReceived(stream_id, headers):
                    self._request(stream_id, headers)
                case h3.ResponseReceived(_, status, headers):
                    if self._response is not None and not self._response.done():
                        self._accepted = 200 <= status < 300
                        if self.tunnel is not None and self.tunnel.offered:
                            self.tunnel.sequenced = self._accepted and sequenced_context(headers) == SEQUENCED_CONTEXT
                        self._response.set_result(status)
                case h3.DataReceived(stream_id, data):
                    self._tunnel_data(stream_id, data)
                case h3.StreamEnded(stream_id, code):
                    self._tunnel_ended(stream_id, code)
                case h3.StreamFailed(stream_id, error):
                    self._stream_failed(stream_id, error)
                case h3.GoawayReceived(identifier):
                    self._tell("goaway", {"identifier": identifier})

    def _request(self, stream_id: int, headers: list[tuple[bytes, bytes]]) -> None:
        status, target = target_of(headers)
        if status == 200 and not self._datagrams_allowed:
            status = 400  # no tunnel of datagrams with a peer that takes none (RFC 9221 §3, RFC 9297 §2.1.1)
        reply = ConnectIpReply(status)
        if status == 200:
            handler = None if self.tunnel is not None else self.on_connect_ip
            reply = ConnectIpReply(403) if handler is None else handler(target)
        if not 200 <= reply.status < 300:
            self._host.count(f"connect_ip_refused_{reply.status}")
            self._h3.respond(stream_id, reply.status, fin=True)
            self._streams.stop_sending(stream_id, Code.NO_ERROR)  # RFC 9114 §4.1: the rest of the request is not read
            self._h3.abandon(stream_id)
            return
        sequenced = self._host.sequenced and sequenced_context(headers) == SEQUENCED_CONTEXT
        self.tunnel = ConnectIp(
            stream_id, client=False, log=self._capsule_log(stream_id), offered=sequenced, sequenced=sequenced
        )
        self._accepted = True
        self._h3.respond(stream_id, reply.status, [CAPSULE_PROTOCOL, *(sequenced_field() if sequenced else [])])
        self._h3.send_data(stream_id, self.tunnel.offer(reply))
        if reply.ready is not None:
            reply.ready()
        self._tell("connect_ip", {"stream_id": stream_id})

    def _tunnel_data(self, stream_id: int, data: bytes) -> None:
        if self.tunnel is None or self.tunnel.stream_id != stream_id:
            return
        known = self.tunnel.datagrams
        try:
            answer = self.tunnel.feed(data)
        except H3StreamError as error:
            self._stream_failed(stream_id, error)
            return
        finally:
            self._host.count("capsule_datagram_dropped", self.tunnel.datagrams - known)
        if answer:
            self._h3.send_data(stream_id, answer)
        self._capsules.set()

    @property
    def _datagrams_allowed(self) -> bool:
        settings, parameters = self._h3.settings, self.peer_parameters
        return settings is not None and settings.datagram and parameters is not None and bool(parameters.max_datagram_frame_size)

    def _tunnel_ended(self, stream_id: int, code: int | None) -> None:
        """FIN or RESET of the request ends the tunnel, and for us the connection (one tunnel, one connection)."""
        tunnel = self.tunnel
        if tunnel is not None and tunnel.stream_id == stream_id and self._accepted:
            answer, reason = int(Code.NO_ERROR), ""
            if code is None:
                try:
                    tunnel.end()
                except H3StreamError as error:
                    self._host.count(error.counter)
                    answer, reason = error.code, error.reason
            self._tell("tunnel_ended", {"code": code})
            self._engine_close(True, answer, 0, reason)
        elif self._response is not None and not self._response.done():
            self._response.set_exception(ConnectRefused(0, f"the proxy ended the request with code {code}"))

    def _stream_failed(self, stream_id: int, error: H3StreamError) -> None:
        self._host.count(error.counter)
        self._abort_stream(stream_id, error.code)
        if self._response is not None and not self._response.done():
            self._response.set_exception(ConnectRefused(0, error.reason))
        if self.tunnel is not None and self.tunnel.stream_id == stream_id:
            self.tunnel.failed = error.reason
            self._capsules.set()
            self._tell("tunnel_ended", {"code": error.code})
            if self.role is Role.SERVER:  # its client may send on, but not on a tunnel without a request
                self._engine_close(True, error.code, 0, error.reason)

    def _abort_stream(self, stream_id: int, code: int) -> None:
        self._streams.reset(stream_id, code)
        self._streams.stop_sending(stream_id, code)
        self._h3.abandon(stream_id)

    # ---- what users of the connection do

    async def connect_ip(self, authority: str, opened: Callable[[], None] = lambda: None) -> ConnectIp:
        """Client: the extended CONNECT; returns when addresses and routes are there. ConnectRefused, ConnectionClosed.
        `opened` is called when the stream is known and the request not sent yet: the proxy's first datagrams may come before
        its answer (RFC 9484 §6)."""
        await self._unless_closed(self._settings)
        if self.peer_parameters is None or not self.peer_parameters.max_datagram_frame_size:
            raise ConnectRefused(0, "the proxy takes no DATAGRAM frames (RFC 9221 §3)")
        offered = self._host.sequenced
        stream_id = self._h3.request_connect(request_headers(authority, offered))
        self._response = asyncio.get_running_loop().create_future()
        self.tunnel = tunnel = ConnectIp(stream_id, log=self._capsule_log(stream_id), offered=offered)
        try:
            opened()
            self._flush()
            status = await self._unless_closed(self._response)
            if not self._accepted:
                raise ConnectRefused(status, "the proxy refused the tunnel")
            while not (tunnel.assigned and tunnel.routed):
                if tunnel.failed:
                    raise ConnectRefused(status, tunnel.failed)
                if self.closed.done():
                    raise ConnectionClosed(str(self.closed.result()))
                self._capsules.clear()
                await self._capsules.wait()
        except BaseException:  # cancelled, too: nobody waits for this request any more
            self.tunnel, self._accepted = None, False
            if not self.closed.done():
                self._abort_stream(stream_id, Code.REQUEST_CANCELLED)
                self._flush()
            raise
        return tunnel

    async def _unless_closed(self, wanted: asyncio.Future[T]) -> T:
        both: list[asyncio.Future[Any]] = [wanted, self.closed]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        wanted.cancel()
        raise ConnectionClosed(str(self.closed.result()))

    async def open_path(self, link: int, remote: Remote, patience_s: float = 10.0) -> int:
        """The next path over `link`, validated. PathFailed when nobody answers, or no connection ID came for it."""
        if self.peer_parameters is None or self.peer_parameters.initial_max_path_id is None:
            raise PathFailed(f"no path over link {link}: the peer has no multipath")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CIDS_PATIENCE_S
        wait = 0.005
        while True:
            try:
                path = self._engine.path_open(self.handle, link, remote)
                break
            except EngineError as error:
                # The peer's connection IDs for the next path may still be on their way.
                if error.code not in (E_LIMIT, E_STATE) or loop.time() > deadline or self.closed.done():
                    raise PathFailed(f"no path over link {link}: {error.name}") from None
            await asyncio.sleep(wait)
            wait = min(wait * 2, 0.1)
        future = self._paths[path] = loop.create_future()
        try:
            async with asyncio.timeout(patience_s):
                await self._unless_closed(future)
        except TimeoutError:
            self._paths.pop(path, None)
            self.abandon_path(path, 0)
            raise PathFailed(f"path {path}: not validated in {patience_s:g} s") from None
        except ConnectionClosed as error:
            raise PathFailed(str(error)) from None
        return path

    def abandon_path(self, path: int, code: int) -> None:
        self._engine.path_abandon(self.handle, path, code)

    def path_available(self, path: int, available: bool) -> None:
        """PATH_STATUS_AVAILABLE or PATH_STATUS_BACKUP (RFC 10069 §4.3)."""
        self._engine.path_status_set(self.handle, path, available)

    def key_update(self) -> None:
        """New 1-RTT keys for all paths (RFC 9001 §6, RFC 10069 §2.5). EngineError: not yet."""
        self._engine.key_update(self.handle)

    def paths(self) -> list[dict[str, Any]]:
        """Live paths (engine.paths); each with what waits in the connection for whichever path may carry it first."""
        if self.closed.done():
            return []
        waiting = self._engine.conn_stats(self.handle)["queue_bytes"]
        return [{**path, "shared_queue_bytes": waiting} for path in self._engine.paths(self.handle)]

    def stats(self) -> dict[str, Any]:
        return {} if self.closed.done() else self._engine.conn_stats(self.handle)

    async def goaway(self) -> None:
        if not self.closed.done():
            self._h3.goaway()
            self._flush()

    async def close(self, code: int = Code.NO_ERROR, reason: str = "") -> None:
        """Ends the connection (application close) and waits until it is over."""
        self._engine_close(True, code, 0, reason)
        await asyncio.wait([self.closed])

    def _engine_close(self, application: bool, code: int, frame: int, reason: str) -> None:
        if self.closed.done():
            return
        self._closing = True
        try:
            self._engine.close(self.handle, application, code, frame, reason)
        except EngineError:
            self.over(CloseReason("local", code, application, reason))  # closing already, or gone

    def abort(self) -> None:
        """Ends an attempt that nobody wants any more; does not wait."""
        self._engine_close(False, 0, 0, "")

    def gone(self) -> None:
        """The engine has freed the handle."""
        self.over(CloseReason("error", 0, False, "the connection is gone"))

    def fail(self, error: HandshakeFailed) -> None:
        if not self.confirmed.done():
            self.confirmed.set_exception(error)

    def over(self, reason: CloseReason) -> None:
        """Wakes everybody who waits for something that will not come."""
        if self.closed.done():
            return
        self.closed.set_result(reason)
        self._capsules.set()
        self.fail(reason.handshake_error())
        for future in self._paths.values():
            if not future.done():
                future.set_exception(PathFailed(str(reason)))
                future.exception()
        self._paths.clear()
        self._log("quic:connection_closed", qlog_events.closed(reason.source, reason.code, reason.application, reason.reason))
