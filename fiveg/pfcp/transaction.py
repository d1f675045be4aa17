"""PFCP transactions without I/O (TS 29.244 §6.4): sequence numbers, retransmission with T1 and N1, a response for each
request exactly once, and nothing believed that was not asked for. Time is an argument; datagrams to send are collected
and taken by the caller.

    engine = Transactions(random_sequence)
    engine.request(peer, message, seid, now, token)     a request of ours
    for event in engine.receive(data, peer, now): ...   RequestReceived, RequestFaulty, ResponseReceived, ...
    engine.respond(event.transaction, message, seid, now)
    for data, peer in engine.datagrams(): sendto(...)
    engine.deadline(); engine.advance(now)              RequestTimedOut

A retransmitted request is answered from the cache and not seen by the caller again. Everything kept has a limit:
requests of ours in flight, responses cached per peer, peers.
"""

import hashlib
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fiveg.pfcp.codes import MessageType
from fiveg.pfcp.errors import HeaderError, NoResources, PfcpError, UnknownMessage, VersionNotSupported
from fiveg.pfcp.message import (
    SEQUENCE_MODULUS,
    Header,
    Message,
    VersionNotSupportedResponse,
    body_decode,
    encode,
    header_decode,
)

Peer = tuple[str, int]

T1 = 1.0
"""Seconds until a request without a response is sent again."""
N1 = 3
"""Times that it is sent again."""
CACHE_SECONDS = 2 * T1 * (N1 + 1)
"""A response is kept for as long as a retransmission of its request can still come."""
MAX_OUTSTANDING = 1024
MAX_CACHED_PER_PEER = 256
MAX_PEERS = 64
VERSION_ANSWER_INTERVAL = 1.0
"""One "version not supported" per peer and second: a flood of them is not answered (R-139)."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A request that came in, to be answered with `respond`."""

    peer: Peer
    type: MessageType
    sequence: int


@dataclass(frozen=True, slots=True)
class RequestReceived:
    transaction: Transaction
    header: Header
    message: Message


@dataclass(frozen=True, slots=True)
class RequestFaulty:
    """A request whose body is wrong: to be answered with message.rejection(...); nothing of it may be applied."""

    transaction: Transaction
    header: Header
    error: PfcpError


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """The response to a request of ours; `request` is that message, `token` what was given with it."""

    peer: Peer
    header: Header
    message: Message
    request: Message
    token: Any


@dataclass(frozen=True, slots=True)
class ResponseFaulty:
    """The response came and is not well-formed: the request has failed."""

    peer: Peer
    header: Header
    error: PfcpError
    request: Message
    token: Any


@dataclass(frozen=True, slots=True)
class VersionRefused:
    """The peer says it does not know our PFCP version."""

    peer: Peer
    request: Message
    token: Any


@dataclass(frozen=True, slots=True)
class RequestTimedOut:
    """N1 retransmissions went unanswered."""

    peer: Peer
    request: Message
    token: Any


Event = RequestReceived | RequestFaulty | ResponseReceived | ResponseFaulty | VersionRefused | RequestTimedOut


@dataclass(slots=True)
class _Outstanding:
    peer: Peer
    message: Message
    data: bytes = field(repr=False)
    token: Any
    due: float
    left: int


@dataclass(slots=True)
class _Cached:
    digest: bytes
    expires: float
    response: bytes | None = field(default=None, repr=False)


@dataclass(slots=True)
class _PeerState:
    cache: OrderedDict[int, _Cached] = field(default_factory=OrderedDict)
    version_answered: float | None = None


class Transactions:
    """Both directions of PFCP transactions with any number of peers."""

    def __init__(self, first_sequence: int, *, t1: float = T1, n1: int = N1) -> None:
        self._next = first_sequence % SEQUENCE_MODULUS
        self._t1 = t1
        self._n1 = n1
        self._outstanding: dict[int, _Outstanding] = {}
        self._peers: OrderedDict[Peer, _PeerState] = OrderedDict()
        self._out: deque[tuple[bytes, Peer]] = deque()
        self.counters: Counter[str] = Counter()

    # ---- ours

    def request(self, peer: Peer, message: Message, seid: int | None, now: float, token: Any = None) -> int:
        """Send a request; its sequence number. Numbers in use by a request in flight are passed over."""
        if len(self._outstanding) >= MAX_OUTSTANDING:
            self.counters["outstanding_full"] += 1
            raise NoResources(f"{MAX_OUTSTANDING} requests are in flight")
        while self._next in self._outstanding:
            self._next = (self._next + 1) % SEQUENCE_MODULUS
        sequence = self._next
        data = encode(message, sequence, seid)
        self._next = (sequence + 1) % SEQUENCE_MODULUS
        self._outstanding[sequence] = _Outstanding(peer, message, data, token, now + self._t1, self._n1)
        self._out.append((data, peer))
        self.counters["requests_sent"] += 1
        return sequence

    def respond(self, transaction: Transaction, message: Message, seid: int | None, now: float) -> None:
        """Answer a request, once; to the port that it came from (§6.4), with its sequence number."""
        data = encode(message, transaction.sequence, seid)
        cached = self._peer(transaction.peer).cache.get(transaction.sequence)
        if cached is not None and cached.response is None:
            cached.response = data
            cached.expires = now + CACHE_SECONDS
        self._out.append((data, transaction.peer))
        self.counters["responses_sent"] += 1

    def forget(self, host: str) -> None:
        """Drop what is in flight to a peer that is gone; no event follows. Its cached responses stay: they are true."""
        for sequence in [s for s, o in self._outstanding.items() if o.peer[0] == host]:
            del self._outstanding[sequence]

    def datagrams(self) -> Iterator[tuple[bytes, Peer]]:
        """What is to be sent, each taken once."""
        while self._out:
            yield self._out.popleft()

    # ---- time

    def deadline(self) -> float | None:
        """When `advance` has something to do; None: nothing is waited for."""
        return min((o.due for o in self._outstanding.values()), default=None)

    def advance(self, now: float) -> list[Event]:
        events: list[Event] = []
        for sequence, waiting in list(self._outstanding.items()):
            if waiting.due > now:
                continue
            if waiting.left == 0:
                del self._outstanding[sequence]
                self.counters["requests_timed_out"] += 1
                events.append(RequestTimedOut(waiting.peer, waiting.message, waiting.token))
                continue
            waiting.left -= 1
            waiting.due = now + self._t1
            self._out.append((waiting.data, waiting.peer))
            self.counters["requests_retransmitted"] += 1
        return events

    # ---- theirs

    def receive(self, data: bytes, peer: Peer, now: float) -> list[Event]:
        """What a datagram means: at most one event; every datagram without one is counted by its reason."""
        try:
            header, body = header_decode(data)
        except VersionNotSupported:
            self._version_refuse(peer, now)
            return []
        except UnknownMessage:
            self.counters["unknown_message_type"] += 1
            return []
        except HeaderError:
            self.counters["malformed_header"] += 1
            return []
        if header.request:
            return self._request_in(header, body, data, peer, now)
        return self._response_in(header, body, peer)

    def _request_in(self, header: Header, body: bytes, data: bytes, peer: Peer, now: float) -> list[Event]:
        # Heartbeats change nothing: each is answered anew, and a flood of them displaces no cached response.
        if header.type is not MessageType.HEARTBEAT_REQUEST and self._answered(header, data, peer, now):
            return []
        self.counters["requests_received"] += 1
        transaction = Transaction(peer, header.type, header.sequence)
        try:
            message = body_decode(header, body)
        except PfcpError as error:
            self.counters[f"request_refused_cause_{int(error.cause)}"] += 1
            return [RequestFaulty(transaction, header, error)]
        return [RequestReceived(transaction, header, message)]

    def _answered(self, header: Header, data: bytes, peer: Peer, now: float) -> bool:
        """Whether this is a retransmission; if so the cached response goes out again. A new request takes its place in
        the cache. The same number with other content is a new request (a peer that started again)."""
        state = self._peer(peer)
        digest = hashlib.sha256(data).digest()
        cached = state.cache.get(header.sequence)
        if cached is not None and cached.digest == digest and cached.expires > now:
            self.counters["requests_repeated"] += 1
            if cached.response is not None:
                self._out.append((cached.response, peer))
            return True
        state.cache.pop(header.sequence, None)
        while len(state.cache) >= MAX_CACHED_PER_PEER:
            state.cache.popitem(last=False)
        state.cache[header.sequence] = _Cached(digest, now + CACHE_SECONDS)
        return False

    def _response_in(self, header: Header, body: bytes, peer: Peer) -> list[Event]:
        waiting = self._outstanding.get(header.sequence)
        version = header.type is MessageType.VERSION_NOT_SUPPORTED_RESPONSE
        if waiting is None or waiting.peer != peer or not (version or header.type == waiting.message.TYPE + 1):
            self.counters["stray_response"] += 1
            return []
        del self._outstanding[header.sequence]
        if version:
            self.counters["version_refused_by_peer"] += 1
            return [VersionRefused(peer, waiting.message, waiting.token)]
        self.counters["responses_received"] += 1
        try:
            message = body_decode(header, body)
        except PfcpError as error:
            self.counters["response_malformed"] += 1
            return [ResponseFaulty(peer, header, error, waiting.message, waiting.token)]
        return [ResponseReceived(peer, header, message, waiting.message, waiting.token)]

    def _version_refuse(self, peer: Peer, now: float) -> None:
        """§7.6.2: answered with our version; the sequence number of a foreign version's header is not ours to read."""
        self.counters["version_not_supported"] += 1
        state = self._peer(peer)
        if state.version_answered is not None and now - state.version_answered < VERSION_ANSWER_INTERVAL:
            return
        state.version_answered = now
        self._out.append((encode(VersionNotSupportedResponse(), 0), peer))

    def _peer(self, peer: Peer) -> _PeerState:
        state = self._peers.get(peer)
        if state is None:
            while len(self._peers) >= MAX_PEERS:
                self._peers.popitem(last=False)
            state = self._peers[peer] = _PeerState()
        self._peers.move_to_end(peer)
        return state
