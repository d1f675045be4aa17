"""One connection as the decryptor knows it: keys by level, key generations, packet numbers per path and direction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from lab.decrypt_keys import PacketKeys, Secrets
from lab.packets.errors import PacketError
from lab.packets.headers import decode_packet_number
from lab.packets.tls import CryptoStream
from lab.packets.varint import read_varint

TAG = 16
ACK_DELAY_EXPONENT = 0x0A       # transport parameter
NARROW, MODEST, WIDE = 0, 1, 2          # how far open_short searches behind a gap of the capture
Ends = tuple[bytes, int, bytes, int]    # address and port of the client, of the server
GENERATIONS_AHEAD = 6           # key updates that a gap in the capture may have swallowed
WIDE_STEPS = {1: 4096, 2: 4096, 3: 256, 4: 1}     # windows of the packet number tried behind a gap, by its length
MODEST_STEPS = 64
WIDE_BUDGET = 32                # searches without success per path and direction


@dataclass(slots=True)
class Opened:
    number: int
    header: bytes
    payload: bytes
    generation: int


@dataclass(slots=True)
class Space:
    """A packet number space in one direction."""

    largest: int = -1
    wide_budget: int = WIDE_BUDGET
    native: int = -1            # its number in the engine's clear reader (lab/capture_scan.py)


class Generations:
    """1-RTT keys of one direction: one key phase for all paths (RFC 10069 §2.5)."""

    __slots__ = ("_keys", "current", "first_number")

    def __init__(self, keys: PacketKeys) -> None:
        self._keys = {0: keys}
        self.current = 0
        self.first_number: dict[int, int] = {}      # path -> first packet number seen of the current generation

    def keys(self, generation: int) -> PacketKeys:
        while generation not in self._keys:
            newest = max(self._keys)
            self._keys[newest + 1] = self._keys[newest].updated()
        return self._keys[generation]

    def candidates(self, phase: int, path: int, number: int, wide: bool) -> Iterator[int]:
        """Generations that a packet of this key phase may have, likeliest first (RFC 9001 §6.3)."""
        now = self.current
        if now & 1 == phase:
            yield now
        elif now and number < self.first_number.get(path, 0):
            yield now - 1
            yield now + 1
        else:
            yield now + 1
            if now:
                yield now - 1
        if wide:
            for ahead in range(2, GENERATIONS_AHEAD + 1):
                if (now + ahead) & 1 == phase:
                    yield now + ahead

    def confirm(self, generation: int, path: int, number: int) -> None:
        if generation > self.current:
            self.current = generation
            self.first_number.clear()
        if generation == self.current:
            self.first_number.setdefault(path, number)


class Connection:
    """What is known of one connection."""

    __slots__ = ("_generations", "_level_keys", "cid_lengths", "cids", "client_random", "crypto", "index", "initial",
                 "initial_dcids", "last_seen", "original_dcid", "parameters", "places", "secrets", "spaces", "suite", "tokens",
                 "without_cid")

    def __init__(self, index: int, original_dcid: bytes) -> None:
        self.index = index
        self.original_dcid = original_dcid
        self.initial: tuple[PacketKeys, PacketKeys] | None = None
        self.initial_dcids: list[bytes] = [original_dcid]
        self.client_random = b""
        self.suite = 0
        self.secrets: Secrets | None = None
        self.parameters: dict[bool, dict[int, bytes]] = {}
        self.cids: dict[bytes, tuple[bool, int]] = {}           # connection ID -> (issued by the client, path id)
        self.cid_lengths: dict[bool, int] = {}                  # issued by the client -> octets of the last one
        self.without_cid: set[bool] = set()                     # directions whose packets carry no connection ID
        self.places: set[tuple[bool, Ends]] = set()             # such directions, and addresses where it was seen
        self.tokens: set[bytes] = set()                         # stateless reset tokens
        self.crypto: dict[tuple[str, bool], CryptoStream] = {}
        self.spaces: dict[tuple[str, bool, int], Space] = {}
        self.last_seen = 0
        self._level_keys: dict[tuple[str, bool], PacketKeys] = {}
        self._generations: dict[bool, Generations] = {}

    def space(self, kind: str, up: bool, path: int) -> Space:
        key = (kind, up, path)
        space = self.spaces.get(key)
        if space is None:
            space = self.spaces[key] = Space()
        return space

    def _suites(self) -> tuple[int, ...]:
        assert self.secrets is not None
        return (self.suite,) if self.suite else self.secrets.suites()

    def level_keys(self, kind: str, up: bool) -> list[PacketKeys]:
        """Keys to try for an Initial or Handshake packet."""
        if kind == "initial":
            return [self.initial[0 if up else 1]] if self.initial else []
        known = self._level_keys.get((kind, up))
        if known is not None:
            return [known]
        secret = self.secrets.by_level.get((kind, up)) if self.secrets else None
        if secret is None:
            return []
        keys = [PacketKeys(suite, secret) for suite in self._suites()]
        if len(keys) == 1:
            self._level_keys[kind, up] = keys[0]
        return keys

    def ack_delay_exponent(self, up: bool) -> int:
        """Of the end that sends the acknowledgement (RFC 9000 §18.2); 3 also when it was not captured."""
        try:
            return min(read_varint(self.parameters.get(up, {}).get(ACK_DELAY_EXPONENT, b"\x03"), 0)[0], 20)
        except PacketError:
            return 3

    def keys_in_force(self, up: bool) -> tuple[int, PacketKeys] | None:
        """Generation and keys with which the last packet of this direction opened."""
        known = self._generations.get(up)
        return None if known is None else (known.current, known.keys(known.current))

    def confirm(self, up: bool, path: int, number: int) -> None:
        """A packet opened by the clear reader, which has the keys in force."""
        known = self._generations[up]
        known.confirm(known.current, path, number)

    def has_keys(self, up: bool) -> bool:
        return up in self._generations or (self.secrets is not None and ("1rtt", up) in self.secrets.by_level)

    def open_long(self, kind: str, up: bool, packet: bytes, pn_offset: int) -> Opened | None:
        """An Initial or Handshake packet: path 0's nonce (RFC 10069 §2.4)."""
        if len(packet) < pn_offset + 4 + TAG:
            return None
        space = self.space(kind, up, 0)
        for keys in self.level_keys(kind, up):
            first, truncated, octets = keys.unmask(packet, pn_offset)
            number = decode_packet_number(truncated, len(octets) * 8, space.largest)
            header = bytes((first,)) + packet[1:pn_offset] + octets
            payload = keys.open(0, number, header, packet[len(header):])
            if payload is not None:
                space.largest = max(space.largest, number)
                if kind != "initial":
                    self.suite = self.suite or keys.suite
                return Opened(number, header, payload, 0)
        return None

    def open_short(self, up: bool, path: int, packet: bytes, pn_offset: int, search: int) -> Opened | None:
        """A 1-RTT packet of this path. search: NARROW, MODEST or WIDE (which has a budget per space)."""
        if len(packet) < pn_offset + 4 + TAG:
            return None
        known = self._generations.get(up)
        if known is not None:
            return self._open_with(known, up, path, packet, pn_offset, search)
        secret = self.secrets.by_level.get(("1rtt", up)) if self.secrets else None
        if secret is None:
            return None
        for suite in self._suites():
            generations = Generations(PacketKeys(suite, secret))
            opened = self._open_with(generations, up, path, packet, pn_offset, search)
            if opened is not None:
                self._generations[up] = generations
                self.suite = suite
                return opened
        return None

    def _open_with(self, generations: Generations, up: bool, path: int, packet: bytes, pn_offset: int,
                   search: int) -> Opened | None:
        first, truncated, octets = generations.keys(0).unmask(packet, pn_offset)
        space = self.space("1rtt", up, path)
        if search == WIDE:
            if space.wide_budget <= 0:
                return None
            space.wide_budget -= 1
        size = len(octets)
        number = decode_packet_number(truncated, size * 8, space.largest)
        header = bytes((first,)) + packet[1:pn_offset] + octets
        body = packet[len(header):]
        steps = 1 if search == NARROW else WIDE_STEPS[size] if search == WIDE else min(MODEST_STEPS, WIDE_STEPS[size])
        for generation in generations.candidates(first >> 2 & 1, path, number, search == WIDE):
            keys = generations.keys(generation)
            for step in range(steps):
                candidate = number + (step << size * 8)
                payload = keys.open(path, candidate, header, body)
                if payload is not None:
                    generations.confirm(generation, path, candidate)
                    space.largest = max(space.largest, candidate)
                    space.wide_budget = WIDE_BUDGET
                    return Opened(candidate, header, payload, generation)
        return None


@dataclass(slots=True)
class ConnectionSummary:
    """What `mpq inspect` and the lab's checks say about one connection."""

    index: int
    client_random: str
    original_dcid: str
    packets: dict[int, int] = field(default_factory=dict)           # path -> decrypted 1-RTT packets
    datagrams: dict[int, int] = field(default_factory=dict)         # path -> DATAGRAM frames
