"""QUIC streams and flow control (RFC 9000 §2 to §4, §19.4 to §19.14), sans-IO: frames in, frames out.

The engine hands over whole frames and says of every frame given to it whether it was acknowledged or lost; packets are
its business. Octets are delivered as soon as they are in order, so credit grows with what was delivered.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from mpquic.errors import StreamsExhausted, TransportError
from mpquic.reader import Reader, ReadError, varint
from mpquic.receiver import Receiver
from mpquic.sender import Sender
from mpquic.stream_events import SendingStopped, StreamData, StreamEvent, StreamReset, TokenReceived
from mpquic.stream_limits import StreamLimits
from mpquic.transport_codes import STREAM_FIN, STREAM_LEN, STREAM_OFF, FrameType, TransportCode

CHUNK = 1000  # octets of one STREAM frame: with its header below the engine's ENGINE_MAX_FRAME
SEND_BUFFER_MOST = 1 << 20  # unacknowledged octets of one stream; a peer that makes us write and never acks ends there
IN_FLIGHT_MOST = 256  # frames out at once
STREAMS_MOST = 1 << 60
SERVER, UNI = 0x01, 0x02  # bits of a stream id


@dataclass(slots=True)
class _Stream:
    receiver: Receiver | None
    sender: Sender | None

    @property
    def done(self) -> bool:
        return (self.receiver is None or self.receiver.done) and (self.sender is None or self.sender.done)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A frame in flight. Octets: start, end, fin. A control frame: its key, and the value it carried."""

    stream_id: int
    start: int = 0
    end: int = 0
    fin: bool = False
    key: tuple[int, int] | None = None  # frame type, stream id or 0
    value: int = 0


class Streams:
    """All streams of one connection."""

    def __init__(
        self, is_client: bool, local: StreamLimits, remote: StreamLimits | None = None, tokens: Iterator[int] | None = None
    ) -> None:
        """tokens: where the tokens of frames come from, when others share the number space."""
        self._mine = 0 if is_client else SERVER
        self._is_client = is_client
        self._local = local
        self._remote = StreamLimits()
        self._tokens = tokens if tokens is not None else itertools.count(1)
        self._streams: dict[int, _Stream] = {}
        self._opened = {0: 0, UNI: 0}  # by us: number of streams, by direction
        self._peer_opened = {0: 0, UNI: 0}
        self._peer_most = {0: local.streams_bidi, UNI: local.streams_uni}  # announced
        self._most = {0: 0, UNI: 0}  # the peer's
        self._data_limit = local.data  # announced for the connection
        self._data_received = 0  # sum of the highest offsets
        self._data_delivered = 0
        self._send_limit = 0
        self._sent_octets = 0  # sum of `next` of all streams
        self._waiting: dict[int, None] = {}  # streams with octets or an end to send, in their order
        self._controls: dict[tuple[int, int], int] = {}  # frames to send: key and the value at the time of queueing
        self._flight: dict[int, _Sent] = {}
        if remote is not None:
            self.set_remote(remote)

    # ---- application ------------------------------------------------------------------------------------------------

    def set_remote(self, remote: StreamLimits) -> None:
        """The peer's transport parameters."""
        self._remote = remote
        self._most = {0: remote.streams_bidi, UNI: remote.streams_uni}
        self._send_limit = remote.data
        for stream_id, stream in self._streams.items():
            if stream.sender is not None:
                stream.sender.limit = max(stream.sender.limit, self._send_window(stream_id))

    def open_bidi(self) -> int:
        return self._open(0)

    def open_uni(self) -> int:
        return self._open(UNI)

    def can_open(self, uni: bool) -> bool:
        kind = UNI if uni else 0
        return self._opened[kind] < self._most[kind]

    def requests_allowed(self) -> int:
        """How many bidirectional streams the client may have opened, as far as both know."""
        return self._most[0] if self._is_client else self._peer_most[0]

    def _open(self, kind: int) -> int:
        count = self._opened[kind]
        if count >= self._most[kind]:
            self._controls[(FrameType.STREAMS_BLOCKED_UNI if kind else FrameType.STREAMS_BLOCKED_BIDI, 0)] = self._most[kind]
            raise StreamsExhausted(f"the peer allows {self._most[kind]} streams of this kind")
        self._opened[kind] = count + 1
        stream_id = count << 2 | kind | self._mine
        self._create(stream_id)
        return stream_id

    def send(self, stream_id: int, data: bytes, fin: bool = False) -> None:
        """Nothing happens on a stream that is reset or over: the peer's wish overtook ours."""
        sender = self._sender(stream_id)
        if sender is None or sender.reset is not None:
            return
        if sender.fin:
            if data:
                raise TransportError(TransportCode.INTERNAL_ERROR, 0, f"octets after the end of stream {stream_id}")
            return
        if len(sender.buffer) + len(data) > SEND_BUFFER_MOST:
            raise TransportError(
                TransportCode.INTERNAL_ERROR, 0, f"stream {stream_id}: {SEND_BUFFER_MOST} octets are not acknowledged"
            )
        sender.buffer += data
        sender.fin = fin
        self._waiting[stream_id] = None

    def reset(self, stream_id: int, code: int) -> None:
        """RESET_STREAM, unless everything arrived already."""
        sender = self._sender(stream_id)
        if sender is None or sender.done or sender.reset is not None:
            return
        sender.reset = code
        sender.again = []
        sender.buffer = sender.buffer[: sender.next - sender.base]
        self._waiting.pop(stream_id, None)
        self._controls[(FrameType.RESET_STREAM, stream_id)] = code

    def stop_sending(self, stream_id: int, code: int) -> None:
        """We read no more: what still comes is counted, not delivered."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver is None or stream.receiver.done or stream.receiver.stopped:
            return
        stream.receiver.stopped = True
        self._controls[(FrameType.STOP_SENDING, stream_id)] = code
        self._discard(stream_id, stream.receiver)

    def _sender(self, stream_id: int) -> Sender | None:
        stream = self._streams.get(stream_id)
        if stream is None and not self._is_past(stream_id):
            raise TransportError(TransportCode.INTERNAL_ERROR, 0, f"stream {stream_id} does not exist")
        return stream.sender if stream is not None else None

    def _is_past(self, stream_id: int) -> bool:
        opened = self._opened if stream_id & SERVER == self._mine else self._peer_opened
        return stream_id >> 2 < opened[stream_id & UNI]

    # ---- frames in --------------------------------------------------------------------------------------------------

    def receive_frame(self, frame: bytes) -> list[StreamEvent]:
        """One whole frame, type first. TransportError closes the connection."""
        reader = Reader(frame)
        kind = 0
        try:
            kind = reader.varint()
            if FrameType.STREAM <= kind <= FrameType.STREAM | STREAM_OFF | STREAM_LEN | STREAM_FIN:
                stream_id = reader.varint()
                offset = reader.varint() if kind & STREAM_OFF else 0
                data = reader.octets(reader.varint()) if kind & STREAM_LEN else reader.rest()
                reader.end()
                return self._on_stream(kind, stream_id, offset, data)
            if kind == FrameType.NEW_TOKEN:
                token = reader.octets(reader.varint())
                reader.end()
                return self._on_new_token(token)
            handler = _HANDLERS.get(kind)
            if handler is None:
                _fail(TransportCode.FRAME_ENCODING_ERROR, kind, "not a frame of streams")
            values = [reader.varint() for _ in range(handler[0])]
            reader.end()
        except ReadError as error:
            raise TransportError(TransportCode.FRAME_ENCODING_ERROR, kind, f"frame does not parse: {error}") from None
        return handler[1](self, kind, values)

    def _on_stream(self, kind: int, stream_id: int, offset: int, data: bytes) -> list[StreamEvent]:
        stream = self._incoming(kind, stream_id, sends=True)
        if stream is None or stream.receiver is None:
            return []
        receiver = stream.receiver
        end = offset + len(data)
        self._account(kind, stream_id, receiver, end, fin=bool(kind & STREAM_FIN))
        if receiver.done:
            return []
        if receiver.stopped:
            self._discard(stream_id, receiver)
            return []
        out = receiver.put(offset, data)
        self._deliver(stream_id, receiver, len(out))
        fin = receiver.final is not None and receiver.offset == receiver.final
        if fin:
            self._finish_receiver(stream_id, receiver)
        return [StreamData(stream_id, out, fin)] if out or fin else []

    def _discard(self, stream_id: int, receiver: Receiver) -> None:
        """Of a stopped stream: what is there counts as read, so that the connection's credit comes back."""
        if receiver.final is not None:
            self._finish_receiver(stream_id, receiver)
            return
        gone = receiver.highest - receiver.offset
        receiver.offset = receiver.highest
        receiver.drop()
        self._deliver(stream_id, receiver, gone)

    def _account(self, kind: int, stream_id: int, receiver: Receiver, end: int, fin: bool) -> None:
        """All rules before anything changes (RFC 9000 §4.1, §4.5)."""
        if receiver.final is not None and (end > receiver.final or (fin and end != receiver.final)):
            _fail(TransportCode.FINAL_SIZE_ERROR, kind, f"stream {stream_id} ended at {receiver.final}, now {end}")
        if fin and end < receiver.highest:
            _fail(TransportCode.FINAL_SIZE_ERROR, kind, f"stream {stream_id} ends at {end}, below {receiver.highest}")
        if end > receiver.limit:
            _fail(TransportCode.FLOW_CONTROL_ERROR, kind, f"stream {stream_id} up to {end}: {receiver.limit} allowed")
        grown = max(0, end - receiver.highest)
        if self._data_received + grown > self._data_limit:
            _fail(
                TransportCode.FLOW_CONTROL_ERROR,
                kind,
                f"connection up to {self._data_received + grown}: {self._data_limit} allowed",
            )
        receiver.highest += grown
        self._data_received += grown
        if fin:
            receiver.final = end

    def _deliver(self, stream_id: int, receiver: Receiver, count: int) -> None:
        """Credit for octets that are gone: a new limit when half of the window is used."""
        self._data_delivered += count
        if self._data_limit - self._data_delivered < self._local.data // 2:
            self._data_limit = self._data_delivered + self._local.data
            self._controls[(FrameType.MAX_DATA, 0)] = self._data_limit
        if receiver.final is not None or receiver.stopped:
            return
        if receiver.limit - receiver.offset < receiver.size // 2:
            receiver.limit = receiver.offset + receiver.size
            self._controls[(FrameType.MAX_STREAM_DATA, stream_id)] = receiver.limit

    def _finish_receiver(self, stream_id: int, receiver: Receiver) -> None:
        if receiver.done:
            return
        receiver.done = True
        left = (receiver.final or 0) - receiver.offset
        receiver.offset += left
        receiver.drop()
        self._controls.pop((FrameType.MAX_STREAM_DATA, stream_id), None)
        self._controls.pop((FrameType.STOP_SENDING, stream_id), None)
        self._deliver(stream_id, receiver, left)
        self._forget(stream_id)

    def _on_reset(self, kind: int, values: list[int]) -> list[StreamEvent]:
        stream_id, code, final = values
        stream = self._incoming(kind, stream_id, sends=True)
        if stream is None or stream.receiver is None:
            return []
        receiver = stream.receiver
        self._account(kind, stream_id, receiver, final, fin=True)
        if receiver.done:
            return []
        stopped = receiver.stopped
        self._finish_receiver(stream_id, receiver)
        return [] if stopped else [StreamReset(stream_id, code)]

    def _on_stop_sending(self, kind: int, values: list[int]) -> list[StreamEvent]:
        stream_id, code = values
        stream = self._incoming(kind, stream_id, sends=False)
        if stream is None or stream.sender is None or stream.sender.done or stream.sender.reset is not None:
            return []
        self.reset(stream_id, code)
        return [SendingStopped(stream_id, code)]

    def _on_max_data(self, kind: int, values: list[int]) -> list[StreamEvent]:
        self._send_limit = max(self._send_limit, values[0])
        return []

    def _on_max_stream_data(self, kind: int, values: list[int]) -> list[StreamEvent]:
        stream = self._incoming(kind, values[0], sends=False)
        if stream is not None and stream.sender is not None:
            stream.sender.limit = max(stream.sender.limit, values[1])
        return []

    def _on_max_streams(self, kind: int, values: list[int]) -> list[StreamEvent]:
        if values[0] > STREAMS_MOST:
            _fail(TransportCode.FRAME_ENCODING_ERROR, kind, f"{values[0]} streams")
        direction = UNI if kind == FrameType.MAX_STREAMS_UNI else 0
        self._most[direction] = max(self._most[direction], values[0])
        return []

    def _on_data_blocked(self, kind: int, values: list[int]) -> list[StreamEvent]:
        return []  # credit follows delivery, not complaints

    def _on_stream_data_blocked(self, kind: int, values: list[int]) -> list[StreamEvent]:
        self._incoming(kind, values[0], sends=True)
        return []

    def _on_streams_blocked(self, kind: int, values: list[int]) -> list[StreamEvent]:
        if values[0] > STREAMS_MOST:
            _fail(TransportCode.FRAME_ENCODING_ERROR, kind, f"{values[0]} streams")
        return []

    def _on_new_token(self, token: bytes) -> list[StreamEvent]:
        if not self._is_client:
            _fail(TransportCode.PROTOCOL_VIOLATION, FrameType.NEW_TOKEN, "NEW_TOKEN from a client")
        if not token:
            _fail(TransportCode.FRAME_ENCODING_ERROR, FrameType.NEW_TOKEN, "empty token")
        return [TokenReceived(token)]

    def _incoming(self, kind: int, stream_id: int, sends: bool) -> _Stream | None:
        """The stream of a frame; None = it is over. sends: the peer says something about its sending part."""
        mine = stream_id & SERVER == self._mine
        if stream_id & UNI and mine == sends:
            _fail(TransportCode.STREAM_STATE_ERROR, kind, f"stream {stream_id} has no such direction")
        if not mine:
            self._open_for_peer(kind, stream_id)
        elif not self._is_past(stream_id):
            _fail(TransportCode.STREAM_STATE_ERROR, kind, f"stream {stream_id} was never opened")
        return self._streams.get(stream_id)

    def _open_for_peer(self, kind: int, stream_id: int) -> None:
        """A stream opens all lower ones of its kind (RFC 9000 §3.2); the announced limit bounds them."""
        direction, number = stream_id & UNI, stream_id >> 2
        if number >= self._peer_most[direction]:
            _fail(TransportCode.STREAM_LIMIT_ERROR, kind, f"stream {stream_id}: {self._peer_most[direction]} of its kind allowed")
        while self._peer_opened[direction] <= number:
            self._create(self._peer_opened[direction] << 2 | direction | (self._mine ^ SERVER))
            self._peer_opened[direction] += 1

    def _create(self, stream_id: int) -> None:
        mine = stream_id & SERVER == self._mine
        receiver = sender = None
        if not stream_id & UNI:
            size = self._local.bidi_local if mine else self._local.bidi_remote
            receiver = Receiver(limit=size, size=size)
        elif not mine:
            receiver = Receiver(limit=self._local.uni, size=self._local.uni)
        if mine or not stream_id & UNI:
            sender = Sender(self._send_window(stream_id))
        self._streams[stream_id] = _Stream(receiver, sender)

    def _send_window(self, stream_id: int) -> int:
        if stream_id & UNI:
            return self._remote.uni
        return self._remote.bidi_remote if stream_id & SERVER == self._mine else self._remote.bidi_local

    def _forget(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or not stream.done:
            return
        del self._streams[stream_id]
        if stream_id & SERVER != self._mine:
            direction = stream_id & UNI
            self._peer_most[direction] = min(self._peer_most[direction] + 1, STREAMS_MOST)
            self._controls[(FrameType.MAX_STREAMS_UNI if direction else FrameType.MAX_STREAMS_BIDI, 0)] = self._peer_most[direction]

    # ---- frames out -------------------------------------------------------------------------------------------------

    def pending(self, most: int = 64) -> list[tuple[bytes, int]]:
        """Frames to send now, each with the token by which acked() or lost() name it; at most `most`."""
        room = min(most, IN_FLIGHT_MOST - len(self._flight))
        out: list[tuple[bytes, int]] = []
        while len(out) < room and self._controls:
            key = next(iter(self._controls))
            value = self._controls.pop(key)
            self._emit(out, self._control(key, value), _Sent(key[1], key=key, value=value))
        for stream_id in list(self._waiting):
            if len(out) >= room:
                break
            sender = self._streams[stream_id].sender
            assert sender is not None  # send() checked it
            self._send_octets(out, room, stream_id, sender)
            if not sender.unsent:
                del self._waiting[stream_id]
        return out

    def _control(self, key: tuple[int, int], value: int) -> bytes:
        kind, stream_id = key
        if kind == FrameType.RESET_STREAM:
            sender = self._streams[stream_id].sender
            assert sender is not None  # reset() checked it
            return varint(kind) + varint(stream_id) + varint(value) + varint(sender.next)
        if kind in (FrameType.STOP_SENDING, FrameType.MAX_STREAM_DATA, FrameType.STREAM_DATA_BLOCKED):
            return varint(kind) + varint(stream_id) + varint(value)
        return varint(kind) + varint(value)

    def _send_octets(self, out: list[tuple[bytes, int]], room: int, stream_id: int, sender: Sender) -> None:
        while sender.again and len(out) < room:
            start, end = sender.again.pop()
            if end - start > CHUNK:
                sender.again.append((start + CHUNK, end))
                end = start + CHUNK
            self._emit_octets(out, stream_id, sender, start, end)
        while len(out) < room:
            end = min(sender.end, sender.next + CHUNK, sender.limit, sender.next + self._send_limit - self._sent_octets)
            if end <= sender.next and not (sender.fin and not sender.fin_sent and sender.next == sender.end):
                break
            start, end = sender.next, max(end, sender.next)
            self._sent_octets += end - start
            sender.next = end
            self._emit_octets(out, stream_id, sender, start, end)
        if sender.next < sender.end and len(out) < room:
            if sender.next >= sender.limit:
                self._blocked(out, (FrameType.STREAM_DATA_BLOCKED, stream_id), sender.limit)
            else:
                self._blocked(out, (FrameType.DATA_BLOCKED, 0), self._send_limit)

    def _blocked(self, out: list[tuple[bytes, int]], key: tuple[int, int], limit: int) -> None:
        """Said once while it is in flight; a lost or acknowledged one is said again if nothing changed by then."""
        if all(sent.key != key or sent.value != limit for sent in self._flight.values()):
            self._emit(out, self._control(key, limit), _Sent(key[1], key=key, value=limit))

    def _emit_octets(self, out: list[tuple[bytes, int]], stream_id: int, sender: Sender, start: int, end: int) -> None:
        fin = sender.fin and end == sender.end
        data = bytes(sender.buffer[start - sender.base : end - sender.base])
        kind = FrameType.STREAM | STREAM_LEN | (STREAM_OFF if start else 0) | (STREAM_FIN if fin else 0)
        frame = varint(kind) + varint(stream_id) + (varint(start) if start else b"") + varint(len(data)) + data
        sender.fin_sent = sender.fin_sent or fin
        self._emit(out, frame, _Sent(stream_id, start, end, fin))

    def _emit(self, out: list[tuple[bytes, int]], frame: bytes, sent: _Sent) -> None:
        token = next(self._tokens)
        self._flight[token] = sent
        out.append((frame, token))

    def acked(self, token: int) -> bool:
        """False: not a token of ours."""
        sent = self._flight.pop(token, None)
        if sent is None:
            return False
        stream = self._streams.get(sent.stream_id)
        if stream is None or stream.sender is None:
            return True
        sender = stream.sender
        if sent.key is not None:
            if sent.key[0] == FrameType.RESET_STREAM:
                sender.done = True
                self._forget(sent.stream_id)
            return True
        if sender.reset is not None or sender.done:
            return True
        if sent.end > sent.start:
            sender.acknowledge(sent.start, sent.end)
        sender.fin_acked = sender.fin_acked or sent.fin
        if sender.fin_acked and sender.base == sender.end:
            sender.done = True
            self._forget(sent.stream_id)
        return True

    def lost(self, token: int) -> bool:
        """What was in the frame goes out again, if it still says something."""
        sent = self._flight.pop(token, None)
        if sent is None:
            return False
        stream = self._streams.get(sent.stream_id)
        if sent.key is not None:
            if self._still_needed(sent.key, sent.value, stream):
                self._controls.setdefault(sent.key, sent.value)
            return True
        if stream is None or stream.sender is None or stream.sender.reset is not None:
            return True
        sender = stream.sender
        sender.again.extend(sender.missing(sent.start, sent.end))
        if sent.fin and not sender.fin_acked:
            sender.fin_sent = False  # goes with the last octets, or alone if those got through
        if sender.unsent:
            self._waiting[sent.stream_id] = None
        return True

    def _still_needed(self, key: tuple[int, int], value: int, stream: _Stream | None) -> bool:
        kind = key[0]
        if kind in (FrameType.RESET_STREAM, FrameType.STOP_SENDING):
            part = None if stream is None else (stream.sender if kind == FrameType.RESET_STREAM else stream.receiver)
            return part is not None and not part.done
        if kind == FrameType.MAX_DATA:
            return value == self._data_limit
        if kind == FrameType.MAX_STREAM_DATA:
            return stream is not None and stream.receiver is not None and value == stream.receiver.limit
        if kind in (FrameType.MAX_STREAMS_BIDI, FrameType.MAX_STREAMS_UNI):
            return value == self._peer_most[UNI if kind == FrameType.MAX_STREAMS_UNI else 0]
        return False  # *_BLOCKED: pending() says it again while it is true

    @property
    def idle(self) -> bool:
        """Nothing is in flight and nothing waits to be sent."""
        return (
            not self._flight
            and not self._controls
            and all(
                stream.sender is None or stream.sender.done or (not stream.sender.buffer and not stream.sender.fin)
                for stream in self._streams.values()
            )
        )

    @property
    def buffered(self) -> int:
        """Octets that wait for a gap to close, over all streams."""
        return sum(len(stream.receiver.window) for stream in self._streams.values() if stream.receiver is not None)


_Handler = Callable[[Streams, int, list[int]], list[StreamEvent]]
# Number of integers after the type, and who takes them
_HANDLERS: dict[int, tuple[int, _Handler]] = {
    FrameType.RESET_STREAM: (3, Streams._on_reset),
    FrameType.STOP_SENDING: (2, Streams._on_stop_sending),
    FrameType.MAX_DATA: (1, Streams._on_max_data),
    FrameType.MAX_STREAM_DATA: (2, Streams._on_max_stream_data),
    FrameType.MAX_STREAMS_BIDI: (1, Streams._on_max_streams),
    FrameType.MAX_STREAMS_UNI: (1, Streams._on_max_streams),
    FrameType.DATA_BLOCKED: (1, Streams._on_data_blocked),
    FrameType.STREAM_DATA_BLOCKED: (2, Streams._on_stream_data_blocked),
    FrameType.STREAMS_BLOCKED_BIDI: (1, Streams._on_streams_blocked),
    FrameType.STREAMS_BLOCKED_UNI: (1, Streams._on_streams_blocked),
}


def _fail(code: int, frame: int, reason: str) -> NoReturn:
    raise TransportError(code, frame, reason)
