"""From a capture and a key log to packets in clear, on every path.

Stock tools read path 0 only: the nonce of RFC 10069 §2.4 needs the path id, and the path id is nowhere in the packet.
It follows from the Destination Connection ID, which was announced in a frame that was encrypted itself. So this works
as an endpoint does: Initial keys from the first connection ID, client random from the ClientHello, secrets from the key
log, connection IDs, of whatever length, from the handshake, NEW_CONNECTION_ID and PATH_NEW_CONNECTION_ID. A packet whose
connection ID is not known yet waits (bounded); packets come out in the order of the capture; one that stays closed says why.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.decrypt_connection import MODEST, NARROW, TAG, WIDE, Connection, ConnectionSummary, Ends, Opened
from lab.decrypt_keys import KeyLog, initial_keys, retry_is_authentic
from lab.decrypt_routes import CIDS_MAX, Key, Route, Routes, segment_size
from lab.packets.errors import PacketError
from lab.packets.frames import Ack, Crypto, Datagram, Frame, NewConnectionId, PathAck, PathNewConnectionId, read_frame, read_frames
from lab.packets.headers import CID_LENGTH, CID_MAX, Header, read_header
from lab.packets.masque import inner_packet
from lab.packets.tls import CLIENT_HELLO, RETRY_RANDOM, SERVER_HELLO, CryptoStream, preferred_address_cid, read_hello

WAITING_MAX = 4096              # packets held back for a connection ID that is not known yet
CONNECTIONS_MAX = 1024
PATH_ID_MAX = 0xFFFFFFFF        # its part of the nonce (RFC 10069 §2.4)
TRIAL_PATHS = 8                 # path ids tried for a connection ID that nobody announced
TRIAL_CONNECTIONS = 8
TRIAL_BUDGET = 64               # connection IDs tried without success
EARLY_TRIAL = 64                # packets that wait for a handshake before it is given up, when none has been seen

NO_CID = "connection ID not announced in any packet that was captured and opened"
NO_SECRETS = "key log has no secret of this client random"
NO_HELLO = "ClientHello not captured: which secrets apply is not known"
NOT_AUTHENTIC = "not authentic under the keys of this path"
NO_FIRST = "no Initial keys: the client's first Initial was not captured, or this is not authentic"
NO_EARLY = "0-RTT is not read"
CUT = "captured with less octets than the packet had"
OVERSIZE = "larger than a packet: captured before segmentation, and where one packet ends is not known"
RESET = "stateless reset"
PADDING_BEHIND = "octets behind the last packet of a datagram"
UDP_PAYLOAD_MAX = 2048
# Of ClearPacket.frame_bits
STREAM_BITS, DATAGRAM_BITS, PATH_ACK_BITS = 0xFF << 0x08, 1 << 0x30 | 1 << 0x31, 1 << 0x3E | 1 << 0x3F
ACK_BITS = 1 << 0x02 | 1 << 0x03 | PATH_ACK_BITS


Acknowledged = tuple[int, list[tuple[int, int]], int]       # path, ranges (first, last) from the largest down, delay as it was sent


@dataclass(slots=True)
class ClearPacket:
    """One QUIC packet. reason says why it is not in clear; then path, number and frames are unknown."""

    record: int                     # number of the captured frame, from 1
    time_ns: int
    interface: int
    up: bool                        # from the client
    kind: str                       # of the header, or stateless-reset, unreadable
    size: int
    dcid: bytes = b""
    scid: bytes = b""
    connection: int | None = None
    path: int | None = None
    number: int | None = None
    generation: int = 0             # key updates so far
    header: bytes = field(default=b"", repr=False)      # in clear, ends with the packet number; all of a Retry
                                                        # or Version Negotiation, which are not protected
    payload: bytes = field(default=b"", repr=False)     # frames in clear
    reason: str = ""
    inner: tuple[int, int, int] | None = field(default=None, repr=False)
    """IP packets, and where in the payload the last of them stands: known already when the clear reader opened it"""
    frame_bits: int = 0             # bit n: a frame of type n; 0: not looked at
    ack_at: int = -1                # where in the payload its one ACK or PATH_ACK begins, when the clear reader saw one and no more
    _frames: list[Frame] | None = field(default=None, repr=False)
    _acks: list[Acknowledged] | None = field(default=None, repr=False)      # known already when it is of one range

    @property
    def frames(self) -> list[Frame]:
        """Read when they are asked for: most packets of a large capture are only counted."""
        if self._frames is None:
            self._frames = read_frames(self.payload)[0]
        return self._frames

    @frames.setter
    def frames(self, frames: list[Frame]) -> None:
        self._frames, self._acks = frames, None

    @property
    def acks(self) -> list[Acknowledged]:
        """Of ACK and PATH_ACK frames."""
        if self._acks is None:
            if self.frame_bits and not self.frame_bits & ACK_BITS:
                self._acks = []
            else:
                frames = [read_frame(self.payload, self.ack_at)[0]] if self.ack_at >= 0 else self.frames
                self._acks = [(frame.path if isinstance(frame, PathAck) else 0, frame.ranges, frame.delay)
                              for frame in frames if isinstance(frame, Ack)]
        return self._acks

    @property
    def inner_count(self) -> int:
        return self.inner[0] if self.inner is not None else len(self.inner_packets())

    def inner_packets(self) -> list[bytes]:
        if self.inner is not None and self.inner[0] < 2:
            count, offset, length = self.inner
            return [self.payload[offset:offset + length]] if count else []
        out = []
        for frame in self.frames:
            if type(frame) is Datagram:
                packet = inner_packet(frame.data)
                if packet is not None:
                    out.append(packet)
        return out

    def words(self) -> str:
        """The comment of the packet in a capture."""
        if self.reason:
            return f"{self.kind}: {self.reason}"
        frames = "; ".join(frame.words() for frame in self.frames) or "no frame"
        whose = "" if self.connection is None else f" connection {self.connection}"
        if self.number is None:
            return f"{self.kind}{whose}: {frames}"
        phase = f" key phase {self.generation}" if self.kind == "1rtt" and self.generation else ""
        return f"{self.kind}{whose} path {self.path} pn {self.number}{phase}: {frames}"


@dataclass(slots=True, eq=False)
class _Slot:
    packet: ClearPacket
    raw: bytes
    ends: Ends | None = None
    done: bool = False


class Decryptor:
    """Feed it UDP payloads in capture order; packets come out in that order, some later."""

    def __init__(self, keylog: KeyLog, waiting_max: int = WAITING_MAX) -> None:
        self.keylog = keylog
        self.connections: list[Connection] = []
        self.summaries: list[ConnectionSummary] = []
        self._waiting_max = waiting_max
        self._order: deque[_Slot] = deque()
        self._waiting: dict[Key, dict[_Slot, None]] = {}        # by all that they may be found by, oldest first
        self._routes = Routes()
        self._by_initial: dict[bytes, Connection] = {}          # DCID of a client's first Initial, or a Retry's SCID
        self._trial_failures: Counter[bytes] = Counter()
        self._trial_budget = TRIAL_BUDGET
        self._orphans: list[Connection] | None = None
        self.announced: list[tuple[Connection, bytes]] = []     # for lab/capture_scan.py: connection IDs that are new,
        self.opened: set[tuple[int, bool, int]] = set()         # and (connection, up, path) that 1-RTT packets came from

    # ---- in and out ----------------------------------------------------------------------------------------------

    def feed(self, record: int, time_ns: int, interface: int, up: bool, data: bytes,
             cut: bool = False, ends: Ends | None = None) -> list[ClearPacket]:
        """One UDP payload; returns the packets that are ready. ends: without them, nothing is found that goes to an end without
        connection IDs."""
        start, first_dcid = 0, None
        while start < len(data):
            try:
                header = read_header(data, start)
            except PacketError as error:
                reason = CUT if cut else PADDING_BEHIND if start else str(error)
                self._order.append(_Slot(ClearPacket(record, time_ns, interface, up, "unreadable", len(data) - start,
                                                     reason=reason), b"", done=True))
                break
            raw = data[start:header.end] if start or header.end != len(data) else data
            if header.kind == "1rtt" and not start and (segment := segment_size(raw, self._routes.lengths)):
                for at in range(0, len(raw), segment):
                    part = raw[at:at + segment]
                    slot = _Slot(ClearPacket(record, time_ns, interface, up, "1rtt", len(part)), part, ends)
                    self._feed_short(slot, cut and at + segment >= len(raw))
                break
            packet = ClearPacket(record, time_ns, interface, up, header.kind, len(raw), header.dcid, header.scid)
            slot = _Slot(packet, raw, ends)
            if first_dcid is not None and (raw[1:1 + len(first_dcid)] if header.kind == "1rtt" else header.dcid) != first_dcid:
                self._order.append(slot)
                self._close(slot, "coalesced with another connection ID (RFC 9000 §12.2)")
            elif header.kind == "1rtt":
                self._feed_short(slot, cut)
            else:
                self._order.append(slot)
                self._process_long(slot, header)
            first_dcid = header.dcid
            start = header.end
        return self._ready()

    def _feed_short(self, slot: _Slot, cut: bool) -> None:
        self._order.append(slot)
        if cut:
            self._close(slot, CUT)
        elif len(slot.raw) > UDP_PAYLOAD_MAX:
            self._close(slot, OVERSIZE)
        else:
            self._process_short(slot)

    def flush(self) -> list[ClearPacket]:
        """Give up on what still waits, and return it."""
        out: list[ClearPacket] = []
        while self._order:
            if not self._order[0].done:
                self._give_up(self._order[0])
            out += self._ready()
        return out

    @property
    def waits(self) -> bool:
        """Whether a packet waits, so that later ones must not overtake it."""
        return bool(self._order)

    def oldest_waiting(self) -> int | None:
        """The captured frame whose packets are not all out yet; None when nothing waits."""
        return self._order[0].packet.record if self._order else None

    def _ready(self) -> list[ClearPacket]:
        order = self._order
        out: list[ClearPacket] = []
        while order:
            if not order[0].done:
                if len(order) <= self._waiting_max:
                    break
                self._give_up(order[0])
                continue
            out.append(order.popleft().packet)
        return out

    def count_clear(
        self, connection: Connection, up: bool, path: int, first: int, last_ns: int, packets: int, datagrams: int
    ) -> None:
        """1-RTT packets of a path that the engine's clear reader has opened, from number `first` on."""
        connection.last_seen = max(connection.last_seen, last_ns)
        connection.confirm(up, path, first)
        summary = self.summaries[connection.index]
        summary.packets[path] = summary.packets.get(path, 0) + packets
        if datagrams:
            summary.datagrams[path] = summary.datagrams.get(path, 0) + datagrams

    def feed_clear(self, packet: ClearPacket) -> list[ClearPacket]:
        """One of those, in its turn."""
        if not self._order:
            return [packet]
        self._order.append(_Slot(packet, b"", done=True))
        return self._ready()

    # ---- long header ---------------------------------------------------------------------------------------------

    def _process_long(self, slot: _Slot, header: Header) -> None:
        packet = slot.packet
        if header.kind == "version-negotiation":
            packet.header = slot.raw
            slot.done = True
            return
        if header.kind == "0rtt":
            self._close(slot, NO_EARLY)
            return
        connection = self._by_initial.get(header.dcid) if packet.up else None
        connection = connection or self._routes.long(header.dcid, packet.up, slot.ends)
        fresh = False
        if connection is None and packet.up and header.kind == "initial":
            connection = self._routes.long(header.scid, packet.up, None)
            if connection is None:
                connection, fresh = Connection(len(self.connections), header.dcid), True
                connection.initial = initial_keys(header.dcid)
        if connection is None:
            self._wait(slot)
            return
        packet.connection = connection.index
        connection.last_seen = packet.time_ns
        if header.kind == "retry":
            self._process_retry(slot, header, connection)
            return
        opened = connection.open_long(header.kind, packet.up, slot.raw, header.pn_offset)
        if opened is None and not fresh and packet.up and header.kind == "initial" and header.dcid not in connection.cids:
            opened = self._after_a_retry(connection, slot, header)
        if opened is None:
            packet.connection = None if fresh else packet.connection
            if header.kind == "handshake" and not connection.level_keys("handshake", packet.up):
                if connection.client_random:
                    self._close(slot, NO_SECRETS)
                else:
                    self._wait(slot)
            else:
                self._close(slot, NO_FIRST if fresh else NOT_AUTHENTIC)
            return
        if fresh:
            if len(self.connections) >= CONNECTIONS_MAX:
                self._close(slot, f"more than {CONNECTIONS_MAX} connections in this capture")
                packet.connection = None
                return
            self._register(connection)
        self._announce(connection, packet.up, header.scid, 0)
        self._finish(slot, connection, 0, opened)

    def _after_a_retry(self, connection: Connection, slot: _Slot, header: Header) -> Opened | None:
        """A client's Initial to a connection ID that nobody gave: the Retry that gave it was not captured."""
        before, connection.initial = connection.initial, initial_keys(header.dcid)
        opened = connection.open_long(header.kind, True, slot.raw, header.pn_offset)
        if opened is None:
            connection.initial = before
            return None
        connection.initial_dcids.append(header.dcid)
        self._by_initial[header.dcid] = connection
        return opened

    def _register(self, connection: Connection) -> None:
        self.connections.append(connection)
        self.summaries.append(ConnectionSummary(connection.index, connection.client_random.hex(),
                                                connection.original_dcid.hex()))
        if connection.original_dcid:
            self._by_initial[connection.original_dcid] = connection

    def _process_retry(self, slot: _Slot, header: Header, connection: Connection) -> None:
        if slot.packet.up or not retry_is_authentic(slot.raw, connection.original_dcid):
            self._close(slot, "Retry with a wrong integrity tag")
            return
        connection.initial = initial_keys(header.scid)
        connection.initial_dcids.append(header.scid)
        self._by_initial[header.scid] = connection
        slot.packet.header = slot.raw
        slot.done = True

    # ---- short header --------------------------------------------------------------------------------------------

    def _process_short(self, slot: _Slot, last_chance: bool = False) -> None:
        packet, raw = slot.packet, slot.raw
        routes = self._routes.short(raw, packet.up, slot.ends)
        if len(raw) < 1 + min((len(route.dcid) for route in routes), default=0) + 4 + TAG:
            self._close_short(slot, "shorter than a protected packet")
            return
        if not routes:
            if not self._process_unannounced(slot, last_chance):
                if last_chance:
                    self._close_short(slot, NO_CID)
                else:
                    self._wait(slot)
            return
        packet.connection, packet.path, packet.dcid = routes[0].connection.index, routes[0].path, routes[0].dcid
        able = [route for route in routes if route.by_client != packet.up]
        if not able:
            self._close_short(slot, "sent to its own connection ID")
            return
        keyed = [route for route in able if route.connection.has_keys(packet.up)]
        for search in (NARROW, WIDE):
            for route in keyed:
                if self._open_short(slot, route, search):
                    return
        if any(not route.connection.client_random for route in able) and not last_chance:
            self._wait(slot)
        elif keyed:
            self._close_short(slot, NOT_AUTHENTIC)
        else:
            self._close_short(slot, NO_SECRETS if able[0].connection.client_random else NO_HELLO)

    def _open_short(self, slot: _Slot, route: Route, search: int) -> bool:
        packet, connection = slot.packet, route.connection
        opened = connection.open_short(packet.up, route.path, slot.raw, 1 + len(route.dcid), search)
        if opened is None:
            return False
        packet.connection, packet.path, packet.dcid = connection.index, route.path, route.dcid
        connection.last_seen = packet.time_ns
        self._finish(slot, connection, route.path, opened)
        return True

    def _process_unannounced(self, slot: _Slot, last_chance: bool) -> bool:
        """A connection ID that no captured frame announced: try the paths of the likeliest connections. A success tells
        the path of all that follow; an endpoint must not do this (it is an oracle), a reader of a file may."""
        packet, raw = slot.packet, slot.raw
        # it seems that the capture began behind every handshake
        early = len(self._order) >= EARLY_TRIAL and not any(connection.original_dcid for connection in self.connections)
        if self._trial_budget <= 0 or self._trial_failures[packet.dcid] >= (3 if last_chance else 2 if early else 1):
            return False
        last_chance = last_chance or early
        recent = [c for c in self.connections if c.has_keys(packet.up)]
        recent.sort(key=lambda c: c.last_seen, reverse=True)
        for connection in recent[:TRIAL_CONNECTIONS] + (self._keylog_orphans() if last_chance else []):
            if not connection.has_keys(packet.up):
                continue
            for length, path in self._guesses(connection, packet.up, slot.ends is not None):
                search = MODEST if last_chance and path is not None else NARROW
                opened = connection.open_short(packet.up, path or 0, raw, 1 + length, search)
                if opened is None:
                    continue
                if connection.index < 0:
                    connection.index = len(self.connections)
                    self._register(connection)
                packet.dcid = raw[1:1 + length]
                self._announce(connection, not packet.up, packet.dcid, path or 0)
                packet.connection, packet.path = connection.index, path or 0
                self._finish(slot, connection, path or 0, opened)
                return True
        if len(self._trial_failures) >= CIDS_MAX:
            self._trial_failures.clear()
        self._trial_failures[packet.dcid] += 1
        if last_chance:
            self._trial_budget -= 1
        return False

    @staticmethod
    def _guesses(connection: Connection, up: bool, with_ends: bool) -> Iterator[tuple[int, int | None]]:
        """Lengths of a connection ID and paths; path None: of another kind of endpoint than ours, which has one path."""
        known = connection.cid_lengths.get(not up)
        usual = CID_LENGTH if known is None else known
        for path in range(TRIAL_PATHS if usual else 1):
            yield usual, path
        if known is None:
            yield from ((length, None) for length in range(0 if with_ends else 1, CID_MAX + 1) if length != usual)

    def _keylog_orphans(self) -> list[Connection]:
        """Connections that only the key log knows: the capture began after their handshake."""
        if self._orphans is None:
            known = {connection.client_random for connection in self.connections}
            self._orphans = []
            for random, secrets in list(self.keylog.connections.items())[:4 * TRIAL_CONNECTIONS]:
                if random not in known:
                    orphan = Connection(-1, b"")
                    orphan.client_random, orphan.secrets = random, secrets
                    self._orphans.append(orphan)
        return [orphan for orphan in self._orphans if orphan.client_random
                and all(c.client_random != orphan.client_random or c is orphan for c in self.connections)]

    # ---- what a packet in clear teaches --------------------------------------------------------------------------

    def _finish(self, slot: _Slot, connection: Connection, path: int, opened: Opened) -> None:
        packet = slot.packet
        packet.path, packet.number, packet.generation = path, opened.number, opened.generation
        packet.header, packet.payload = opened.header, opened.payload
        packet.frames, error = read_frames(opened.payload)
        slot.done = True
        slot.raw = b""
        if connection.without_cid:
            found = self._routes.place(connection, slot.ends)
            if found:
                self._retry(found)
        if error is not None:
            packet.reason = f"in clear, but its frames do not read: {error}"
        summary = self.summaries[connection.index]
        if packet.kind == "1rtt":
            self.opened.add((connection.index, packet.up, path))
            summary.packets[path] = summary.packets.get(path, 0) + 1
        for frame in packet.frames:
            kind = type(frame)
            if kind is Datagram:
                summary.datagrams[path] = summary.datagrams.get(path, 0) + 1
            elif isinstance(frame, PathNewConnectionId):
                connection.tokens.add(frame.token)
                self._announce(connection, packet.up, frame.cid, frame.path)
            elif isinstance(frame, NewConnectionId):        # path 0's, for ever (RFC 10069 §3.2)
                connection.tokens.add(frame.token)
                self._announce(connection, packet.up, frame.cid, 0)
            elif isinstance(frame, Crypto) and packet.kind in ("initial", "handshake"):
                self._learn_crypto(connection, packet, frame)

    def _learn_crypto(self, connection: Connection, packet: ClearPacket, frame: Crypto) -> None:
        stream = connection.crypto.setdefault((packet.kind, packet.up), CryptoStream())
        for message in stream.add(frame.offset, frame.data):
            try:
                hello = read_hello(message)
            except PacketError as error:
                packet.reason = f"in clear, but its handshake message does not read: {error}"
                continue
            if hello is None:
                continue
            if hello.parameters:
                connection.parameters[packet.up] = hello.parameters
                connection.tokens.add(hello.parameters.get(0x02, b"-"))
                preferred = preferred_address_cid(hello.parameters)
                if preferred:
                    self._announce(connection, packet.up, preferred, 0)
            if hello.kind == CLIENT_HELLO and not connection.client_random:
                connection.client_random = hello.random
                connection.secrets = self.keylog.connections.get(hello.random)
                self.summaries[connection.index].client_random = hello.random.hex()
                self._retry([key for key in (*connection.cids, *connection.places) if key in self._waiting])
            elif hello.kind == SERVER_HELLO and hello.random != RETRY_RANDOM:
                connection.suite = hello.suite if hello.suite in (0x1301, 0x1302, 0x1303) else 0

    def _announce(self, connection: Connection, by_client: bool, cid: bytes, path: int) -> None:
        if not cid:                             # what goes to this end has none from now on (RFC 9000 §5.1)
            connection.without_cid.add(not by_client)
            connection.cid_lengths[by_client] = 0
            return
        if path > PATH_ID_MAX or not self._routes.announce(connection, by_client, cid, path):
            return
        self.announced.append((connection, cid))
        if self._routes.new_length(len(cid)):
            for slot in self._order:            # they may be found by so many octets, too
                if not slot.done and slot.packet.kind == "1rtt":
                    self._file(slot, slot.raw[1:1 + len(cid)])
        if cid in self._waiting:
            self._retry([cid])

    def _retry(self, keys: Iterable[Key]) -> None:
        for key in keys:
            for slot in self._waiting.pop(key, ()):
                if slot.done:
                    continue
                if slot.packet.kind == "1rtt":
                    self._process_short(slot)
                else:
                    self._process_long(slot, read_header(slot.raw, 0))

    # ---- what stays closed ---------------------------------------------------------------------------------------

    def _keys(self, slot: _Slot) -> list[Key]:
        packet = slot.packet
        if packet.kind == "1rtt":
            return self._routes.keys(slot.raw, packet.up, slot.ends)
        return [packet.dcid] if packet.dcid or slot.ends is None else [(packet.up, slot.ends)]

    def _wait(self, slot: _Slot) -> None:
        for key in self._keys(slot):
            self._file(slot, key)

    def _file(self, slot: _Slot, key: Key) -> None:
        self._waiting.setdefault(key, {})[slot] = None

    def _give_up(self, slot: _Slot) -> None:
        for key in self._keys(slot):            # forgotten here, so that what never opens takes no memory
            waiting = self._waiting.get(key)
            if waiting is not None:
                waiting.pop(slot, None)
                if not waiting:
                    del self._waiting[key]
        if slot.packet.kind == "1rtt":
            self._process_short(slot, last_chance=True)
        if not slot.done:
            self._close(slot, NO_CID if slot.packet.connection is None else NO_HELLO)

    def _close_short(self, slot: _Slot, reason: str) -> None:
        """A short header that does not open may be a stateless reset (RFC 9000 §10.3): its last 16 octets tell."""
        if len(slot.raw) >= 21:
            tail = slot.raw[-16:]
            if any(tail in connection.tokens for connection in self.connections):
                slot.packet.kind = "stateless-reset"
                slot.packet.path = None
                self._close(slot, RESET)
                return
        self._close(slot, reason)

    def _close(self, slot: _Slot, reason: str) -> None:
        slot.packet.reason = reason
        slot.raw = b""
        slot.done = True
