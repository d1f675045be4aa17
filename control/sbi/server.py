"""An HTTP/2 server for the SBI. A handler is called with a whole request and the identity of the NF that sent it.

Everything that a peer can make us keep or do has a limit in `Limits`; a connection that goes over one is closed and
counted, the others are served on. Bodies are never logged: they hold keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from control.sbi.tls import PeerIdentity, SbiConfig, log_keys, server_context
from fiveg.sbi.errors import SbiError
from fiveg.sbi.types import ProblemDetails
from node.budget import Budget
from node.counters import Counters

JSON = "application/json"
PROBLEM = "application/problem+json"
READ_SIZE = 1 << 14


@dataclass(frozen=True, slots=True)
class Limits:
    connections: int = 64
    streams: int = 64
    header_octets: int = 16384
    path_octets: int = 1024
    body_octets: int = 65536
    partial_octets: int = 65536  # without a whole frame or header block: h2 itself would wait for 16 MiB
    events_burst: int = 2000  # frames that a peer may send at once ...
    events_per_s: float = 500.0  # ... and on the long run (SETTINGS, PING, empty DATA floods)
    resets_burst: int = 100  # CVE-2023-44487
    resets_per_s: float = 10.0
    output_octets: int = 1 << 20  # waiting for a peer that does not read
    handshake_s: float = 5.0
    request_s: float = 10.0  # from a request's first octet to its last; from a frame's first octet to its last
    answer_s: float = 20.0  # a handler's time
    idle_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    content_type: str
    body: bytes = field(repr=False)
    peer: PeerIdentity


@dataclass(frozen=True, slots=True)
class Response:
    """`no_store` for answers that hold keys."""

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str = JSON
    location: str | None = None
    no_store: bool = False

    @classmethod
    def problem(cls, error: SbiError) -> Response:
        return cls(error.status, ProblemDetails.of_error(error).text(), PROBLEM)


Handler = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class _Stream:
    """A request on its way in, then an answer on its way out."""

    method: str
    path: str
    content_type: str
    since: float
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    task: asyncio.Task[None] | None = None
    output: bytes = b""


class _TooMuch(Exception):
    """The peer went over a limit; the argument is the counter's name."""


class _Connection:
    def __init__(self, server: SbiServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader, self.writer = reader, writer
        self.limits = server.limits
        now = server.clock()
        self.events = Budget(self.limits.events_burst, self.limits.events_per_s, now)
        self.resets = Budget(self.limits.resets_burst, self.limits.resets_per_s, now)
        self.streams: dict[int, _Stream] = {}
        self.partial_since: float | None = now  # the preface is awaited
        self.partial_octets = 0
        self.busy_at = now
        self.peer: PeerIdentity | None = None
        configuration = h2.config.H2Configuration(client_side=False, header_encoding=None)
        self.h2 = h2.connection.H2Connection(configuration)
        self.h2.local_settings = h2.settings.Settings(
            client=False,
            initial_values={
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.limits.streams,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: self.limits.header_octets,
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
            },
        )
        self.h2.decoder.max_header_list_size = self.limits.header_octets

    async def run(self) -> None:
        ssl_object = self.writer.get_extra_info("ssl_object")
        if ssl_object is None or ssl_object.selected_alpn_protocol() != "h2":
            self.count("sbi.not_h2")
            return
        self.peer = PeerIdentity.of_certificate(ssl_object.getpeercert())
        if self.peer is None:
            self.count("sbi.not_an_nf")
            return
        self.h2.initiate_connection()
        self.flush()
        watch = asyncio.create_task(self.watch())
        try:
            while data := await self.reader.read(READ_SIZE):
                self.receive(data)
                await self.writer.drain()
        except _TooMuch as e:
            self.count(f"sbi.{e.args[0]}")
            self.goodbye(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
        except h2.exceptions.ProtocolError:  # h2 has queued the GOAWAY
            self.count("sbi.protocol_error")
            self.flush()
        except (OSError, EOFError):
            self.count("sbi.connection_lost")
        finally:
            watch.cancel()
            for stream in self.streams.values():
                if stream.task is not None:
                    stream.task.cancel()

    def count(self, name: str) -> None:
        self.server.counters.inc(name)

    async def watch(self) -> None:
        """Ends a peer that is slow or idle: closing the transport ends `run`."""
        while True:
            await asyncio.sleep(min(1.0, self.limits.request_s / 4))
            now = self.server.clock()
            late = now - self.limits.request_s
            slow = self.partial_since is not None and self.partial_since < late
            if slow or any(not s.complete and s.since < late for s in self.streams.values()):
                self.count("sbi.too_slow")
            elif not self.streams and self.busy_at < now - self.limits.idle_s:
                self.count("sbi.idle")
            else:
                continue
            self.goodbye(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM)
            self.writer.transport.abort()
            return

    def goodbye(self, code: int) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError, OSError, _TooMuch):
            self.h2.close_connection(error_code=code)
            self.flush()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            self.writer.write(data)
        if self.writer.transport.get_write_buffer_size() > self.limits.output_octets:
            raise _TooMuch("peer_reads_not")

    def receive(self, data: bytes) -> None:
        now = self.server.clock()
        events = self.h2.receive_data(data)
        if events:
            self.partial_since, self.busy_at, self.partial_octets = None, now, 0
        else:
            self.partial_octets += len(data)
            if self.partial_octets > self.limits.partial_octets:
                raise _TooMuch("oversized_frame")
            if self.partial_since is None:
                self.partial_since = now
        for event in events:
            if not self.events.take(now):
                raise _TooMuch("flood")
            self.event(event, now)
        self.flush()

    def event(self, event: Any, now: float) -> None:
        match event:
            case h2.events.RequestReceived():
                self.request(event.stream_id, event.headers, now)
            case h2.events.DataReceived():
                self.data(event)
            case h2.events.StreamEnded():
                self.ended(event.stream_id)
            case h2.events.StreamReset():
                self.forget(event.stream_id)
                if not self.resets.take(now):
                    raise _TooMuch("rapid_reset")
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                for number in list(self.streams):
                    self.push(number)
            case h2.events.ConnectionTerminated():
                self.count("sbi.goaway_received")
            case _:
                pass

    def request(self, number: int, headers: list[tuple[bytes, bytes]], now: float) -> None:
        fields = {bytes(k).decode("latin-1"): bytes(v).decode("latin-1") for k, v in headers}
        method, path = fields.get(":method", ""), fields.get(":path", "")
        self.streams[number] = _Stream(method, path, fields.get("content-type", ""), now)
        if len(path) > self.limits.path_octets:
            self.refuse(number, SbiError(400, "INVALID_MSG_FORMAT", f"a path has at most {self.limits.path_octets}"))
            return
        length = fields.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or len(length) > 9 or int(length) > self.limits.body_octets:
            self.refuse(number, SbiError(413, "INCORRECT_LENGTH", f"at most {self.limits.body_octets} octets"))

    def data(self, event: Any) -> None:
        self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self.streams.get(event.stream_id)
        if stream is None or stream.complete:
            return
        if len(stream.body) + len(event.data) > self.limits.body_octets:
            self.refuse(event.stream_id, SbiError(413, "INCORRECT_LENGTH", f"at most {self.limits.body_octets} octets"))
            return
        stream.body += event.data

    def ended(self, number: int) -> None:
        stream = self.streams.get(number)
        if stream is None or stream.complete:
            return
        stream.complete = True
        assert self.peer is not None
        request = Request(stream.method, stream.path, stream.content_type, bytes(stream.body), self.peer)
        stream.body.clear()
        stream.task = self.server.spawn(self.answer(number, request))

    async def answer(self, number: int, request: Request) -> None:
        try:
            async with asyncio.timeout(self.limits.answer_s):
                response = await self.server.handler(request)
        except SbiError as e:
            self.count(f"sbi.refused.{e.status}")
            response = Response.problem(e)
        except TimeoutError:
            self.count("sbi.handler_timeout")
            response = Response.problem(SbiError(504, "TIMED_OUT_REQUEST", "not answered in time"))
        except Exception as e:  # a fault of ours: the peer is told that much, the process stays up
            self.count(f"sbi.handler_fault.{type(e).__name__}")
            response = Response.problem(SbiError(500, "SYSTEM_FAILURE", "a fault of this NF"))
        try:
            self.respond(number, response)
        except _TooMuch as e:
            self.count(f"sbi.{e.args[0]}")
            self.writer.transport.abort()

    def refuse(self, number: int, error: SbiError) -> None:
        """Answer before the request is whole, and take no more of it."""
        self.count(f"sbi.refused.{error.status}")
        self.streams[number].complete = True
        self.streams[number].body.clear()
        self.respond(number, Response.problem(error))

    def respond(self, number: int, response: Response) -> None:
        stream = self.streams.get(number)
        if stream is None:
            return
        headers = [(":status", str(response.status)), ("content-length", str(len(response.body)))]
        if response.body:
            headers.append(("content-type", response.content_type))
        if response.location is not None:
            headers.append(("location", response.location))
        if response.no_store:
            headers.append(("cache-control", "no-store"))
        try:
            self.h2.send_headers(number, headers, end_stream=not response.body)
        except h2.exceptions.ProtocolError:  # the peer has reset the stream meanwhile
            self.forget(number)
            return
        stream.output = response.body
        if response.body:
            self.push(number)
        else:
            self.finish(number)
        self.flush()

    def push(self, number: int) -> None:
        """Send as much of the answer as the peer's windows allow."""
        stream = self.streams[number]
        try:
            while stream.output:
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
                if room <= 0:
                    return
                piece, stream.output = stream.output[:room], stream.output[room:]
                self.h2.send_data(number, piece, end_stream=not stream.output)
                if not stream.output:
                    self.finish(number)
        except h2.exceptions.ProtocolError:
            self.forget(number)

    def finish(self, number: int) -> None:
        del self.streams[number]

    def forget(self, number: int) -> None:
        stream = self.streams.pop(number, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()


class SbiServer:
    """`await start()`, then requests reach `handler` until `await stop()`."""

    def __init__(
        self,
        config: SbiConfig,
        handler: Handler,
        counters: Counters,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.handler, self.counters, self.clock = config, handler, counters, clock
        self.limits = limits or Limits()
        self._context = server_context(config)
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = config.port

    async def start(self) -> None:
        self._server = await asyncio.start_server(
            self._connected,
            self.config.address,
            self.config.port,
            ssl=self._context,
            ssl_handshake_timeout=self.limits.handshake_s,
            limit=READ_SIZE * 4,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        tasks = [*self._connections, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server = None

    def log_keys(self, path: Path) -> None:
        """Of connections that are made from now on. ConfigError."""
        log_keys(self._context, path)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= self.limits.connections:
            self.counters.inc("sbi.too_many_connections")
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            await _Connection(self, reader, writer).run()
        except asyncio.CancelledError:
            pass  # stop()
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()
            writer.transport.abort()
