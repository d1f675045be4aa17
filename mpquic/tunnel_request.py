"""The CONNECT-IP request of a connection, both roles (RFC 9484): headers, capsules, and what was assigned."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, summarize_address_range
from itertools import islice

from mpquic.capsule import DATAGRAM, Capsule, CapsuleReader
from mpquic.connect_ip import (
    ADDRESS_ASSIGN,
    ADDRESS_REQUEST,
    CAPSULES,
    DEFAULT_PATH,
    PROTOCOL,
    ROUTE_ADVERTISEMENT,
    Assigned,
    Route,
    Target,
    address_assign,
    decode_assign,
    decode_request,
    decode_routes,
    route_advertisement,
)
from mpquic.errors import H3StreamError
from mpquic.h3_codes import Code

Network = IPv4Network | IPv6Network
Headers = list[tuple[bytes, bytes]]
CAPSULE_PROTOCOL = (b"capsule-protocol", b"?1")
SEQUENCED_DATAGRAMS = b"sequenced-datagrams"
SEQUENCED_CONTEXT = 2
"""The Context ID that a client offers for packets with sequence numbers (docs/sequenced_datagrams.md): the engine's."""
REQUESTS_MOST = 64  # addresses that one peer may ask for in a tunnel's life
ROUTES_MOST = 1024  # prefixes
REFUSED_IPV4, REFUSED_IPV6 = IPv4Network("0.0.0.0/32"), IPv6Network("::/128")


@dataclass(frozen=True, slots=True)
class ConnectIpReply:
    """What a server answers: with 200 the session's addresses and the routes it may use. `ready` is called when the tunnel is
    there and before the answer goes out: what it binds then takes the first packet that the answer brings."""

    status: int = 200
    addresses: tuple[Network, ...] = ()
    routes: tuple[Network, ...] = ()
    ready: Callable[[], None] | None = None


ConnectIpHandler = Callable[[Target], ConnectIpReply]


def request_headers(authority: str, sequenced: bool = True) -> Headers:
    """Extended CONNECT for all of IP (RFC 9484 §4.2, RFC 9220); sequenced: with the offer of a context with sequence numbers."""
    headers = [
        (b":method", b"CONNECT"),
        (b":protocol", PROTOCOL),
        (b":scheme", b"https"),
        (b":authority", authority.encode()),
        (b":path", DEFAULT_PATH.encode()),
        CAPSULE_PROTOCOL,
    ]
    return headers + sequenced_field() if sequenced else headers


def sequenced_field() -> Headers:
    return [(SEQUENCED_DATAGRAMS, b"%d" % SEQUENCED_CONTEXT)]


def sequenced_context(headers: Headers) -> int | None:
    """The Context ID of Sequenced-Datagrams: an Integer (RFC 9651 §3.3.1), of which parameters are ignored. None: the field is
    not there, twice, or not one; then it says nothing (§4.2)."""
    values = [value for name, value in headers if name == SEQUENCED_DATAGRAMS]
    found = re.fullmatch(rb" *([0-9]{1,15})(;[!-~ ]*)?", values[0]) if len(values) == 1 else None
    return None if found is None else int(found[1])


def target_of(headers: Headers) -> tuple[int, Target]:
    """(200, target), or the status with which a request is refused."""
    fields = dict(headers)
    if fields.get(b":method") != b"CONNECT" or b":protocol" not in fields:
        return 404, Target()
    if fields[b":protocol"] != PROTOCOL:
        return 501, Target()  # RFC 9220 §3
    try:
        return 200, Target.parse(fields[b":path"].decode("ascii"))
    except (ValueError, KeyError):
        return 400, Target()


@dataclass(slots=True)
class ConnectIp:
    """A request stream that is a tunnel. The lists are the peer's newest: each capsule replaces the whole former one.
    A server checks a client's routes and keeps none: it sends nothing by them."""

    stream_id: int
    client: bool = True
    addresses: tuple[Network, ...] = ()
    routes: tuple[Network, ...] = ()
    assigned: bool = False
    routed: bool = False
    failed: str = ""  # why the stream was aborted
    offered: bool = False  # by the client: packets with sequence numbers may come
    sequenced: bool = False  # and the proxy accepted them: both may send such
    _reader: CapsuleReader = field(default_factory=lambda: CapsuleReader(CAPSULES | {DATAGRAM}))
    _offered: tuple[Network, ...] = ()
    _requested: set[int] = field(default_factory=set)  # Request IDs that the peer has used
    log: Callable[[str, int, int], None] | None = field(default=None, repr=False)  # "created" or "parsed", type, octets
    datagrams: int = 0  # DATAGRAM capsules (RFC 9297 §3.5): dropped, the tunnel's packets come in DATAGRAM frames

    @property
    def quarter_stream_id(self) -> int:
        return self.stream_id // 4

    def offer(self, reply: ConnectIpReply) -> bytes:
        """Server: the capsules that go behind a 200."""
        self._offered = reply.addresses
        assign = address_assign([Assigned(0, network) for network in reply.addresses])
        routes = route_advertisement([Route.of(network) for network in reply.routes])
        for capsule in (assign, routes):
            self._told("created", capsule)
        return assign.encode() + routes.encode()

    def _told(self, what: str, capsule: Capsule) -> None:
        if self.log is not None:
            self.log(what, capsule.type, len(capsule.value))

    def feed(self, data: bytes) -> bytes:
        """Data of the stream; what is to be sent in answer. H3StreamError when a capsule is malformed."""
        answer = b""
        for capsule in self._reader.feed(data):
            answer += self._capsule(capsule)
        return answer

    def end(self) -> None:
        self._reader.end()

    def _capsule(self, capsule: Capsule) -> bytes:
        self._told("parsed", capsule)
        if capsule.type == ADDRESS_ASSIGN:
            entries = [entry.network for entry in decode_assign(capsule.value)]
            self.addresses = tuple(network for network in entries if network not in (REFUSED_IPV4, REFUSED_IPV6))
            self.assigned = True
        elif capsule.type == ROUTE_ADVERTISEMENT:
            routes = decode_routes(capsule.value)
            self.routes = _prefixes(routes) if self.client else ()
            self.routed = True
        elif capsule.type == ADDRESS_REQUEST:
            return self._answer(decode_request(capsule.value))
        elif capsule.type == DATAGRAM:
            self.datagrams += 1
        return b""

    def _answer(self, wanted: list[Assigned]) -> bytes:
        """Every request is answered with its ID: with an address of the session, or the all-zero refusal (§4.7.2)."""
        ids = {entry.request_id for entry in wanted}
        if ids & self._requested:
            raise H3StreamError(Code.MESSAGE_ERROR, "ADDRESS_REQUEST with a Request ID that was used before (RFC 9484 §4.7.2)")
        self._requested |= ids
        if len(self._requested) > REQUESTS_MOST:
            raise H3StreamError(Code.EXCESSIVE_LOAD, f"more than {REQUESTS_MOST} addresses requested")
        entries = [Assigned(0, network) for network in self._offered]
        for entry in wanted:
            same = [n for n in self._offered if n.version == entry.network.version]
            any_address = int(entry.network.network_address) == 0
            granted = next((n for n in same if any_address or n == entry.network), None)
            refused: Network = REFUSED_IPV4 if entry.network.version == 4 else REFUSED_IPV6
            entries.append(Assigned(entry.request_id, granted or refused))
        answer = address_assign(entries)
        self._told("created", answer)
        return answer.encode()


def _prefixes(routes: list[Route]) -> tuple[Network, ...]:
    """The ranges as prefixes. One range of IPv6 can be 254 of them: a few octets must not cost us a routing table."""
    every = (prefix for route in routes for prefix in summarize_address_range(route.start, route.end))
    found = tuple(islice(every, ROUTES_MOST + 1))
    if len(found) > ROUTES_MOST:
        raise H3StreamError(Code.EXCESSIVE_LOAD, f"ROUTE_ADVERTISEMENT of more than {ROUTES_MOST} prefixes")
    return found
