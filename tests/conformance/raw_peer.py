"""A real end of the engine and, in the place of its peer, one written here: it sends any frame in any packet on any path, and reads
what the engine says. Sans-IO under a virtual clock; a datagram arrives in the moment it is sent. The secrets are those of
`native.sim.FixedHandshake`, so the peer has every key."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import frames as f

from mpquic.key_schedule import hkdf_expand_label, hkdf_extract
from native import ffi, lib
from native.sim import ANY, MS, SECOND, SUITE, Event, FixedHandshake, Node, address, check, udp4

SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
Role = Literal["client", "server"]
INITIAL, HANDSHAKE, ONE_RTT = 0, 1, 2
HELLO = b"hello" * 40
NONE = (1 << 64) - 1


class Keys:
    """One direction of one level: seals and opens; 1-RTT has generations, header protection only one key (RFC 9001 §6)."""

    def __init__(self, secret: bytes) -> None:
        self.hp = hkdf_expand_label("sha256", secret, "quic hp", b"", 16)
        self.secrets = [secret]
        self._keys: list[Any] = []

    def _key(self, generation: int) -> Any:
        while len(self.secrets) <= generation:
            self.secrets.append(hkdf_expand_label("sha256", self.secrets[-1], "quic ku", b"", 32))
        while len(self._keys) <= generation:
            secret = self.secrets[len(self._keys)]
            key = hkdf_expand_label("sha256", secret, "quic key", b"", 16)
            iv = hkdf_expand_label("sha256", secret, "quic iv", b"", 12)
            made = lib.aead_key_new_raw(b"openssl", SUITE, key, iv, self.hp)
            self._keys.append(ffi.gc(made, lib.aead_key_free))
        return self._keys[generation]

    def seal(self, header: bytes, payload: bytes, path: int, pn: int, generation: int = 0) -> bytes:
        """`header` ends with four packet number octets."""
        buffer = ffi.new("uint8_t[]", header + payload + bytes(17))
        n = check(lib.packet_seal(self._key(generation), buffer, len(header), 4, len(payload), path, pn))
        return bytes(buffer[0:n])

    def open(self, packet: bytes, pn_offset: int, path: int, largest: int, generation: int = 0) -> tuple[bytes, int, bytes] | None:
        """Plain header, packet number, payload; None if it is not authentic."""
        buffer = ffi.new("uint8_t[]", packet)
        pn, header = ffi.new("uint64_t *"), ffi.new("size_t *")
        n = lib.packet_open(self._key(generation), buffer, len(packet), pn_offset, path, largest, pn, header)
        if n < 0:
            return None
        return bytes(buffer[0 : header[0]]), pn[0], bytes(buffer[header[0] : header[0] + n])


@dataclass(slots=True)
class Packet:
    """One packet of the engine as the peer read it."""

    level: int
    path: int
    pn: int
    frames: list[f.Frame]
    link: int
    remote: tuple[str, int]
    size: int  # of the datagram it came in
    time: int
    generation: int
    dcid: bytes
    scid: bytes
    ecn: int
    token: bytes = b""

    @property
    def eliciting(self) -> bool:
        return any(frame.kind not in f.NOT_ELICITING for frame in self.frames)


@dataclass(slots=True)
class RawSpace:
    """The peer's packet number space of a path or level."""

    next_pn: int = 0
    largest: int = NONE
    received: set[int] = field(default_factory=set)
    owed: bool = False


CLIENT_ADDRESS = {0: ("10.1.0.2", 40000), 1: ("10.2.0.2", 40001)}
SERVER_ADDRESS = ("10.100.0.1", 4433)


class RawPeer:
    """`role` is the engine's. `params`: transport parameters of the peer as the engine gets them; `config`: of the engine.

    With `answers`, the peer acknowledges and answers PATH_CHALLENGE by itself, on every path in `speaks` (None: all)."""

    def __init__(self, role: Role, seed: int = 1, params: dict[str, int] | None = None, **config: int) -> None:
        self.role: Role = role
        self.now = SECOND
        self.node = Node(0 if role == "client" else 1, seed, **config)
        self.handshake = FixedHandshake(self.node, dict(params or {}))
        self.multipath = bool((params or {}).get("multipath", 1))
        self.node.on_event = self.handshake
        self.conn = 0
        self.answers = True
        self.reports_ecn = False  # with its acknowledgements the peer says how many packets came marked
        self.deaf: set[int] = set()  # paths on which the peer neither hears nor speaks by itself
        self.packets: list[Packet] = []
        self.on_packet: Callable[[Packet], None] | None = None
        self.spaces: dict[tuple[int, int], RawSpace] = defaultdict(RawSpace)  # level, path
        self.generation = 0
        self.cids: dict[bytes, tuple[int, int]] = {}  # issued by the peer: cid -> path, sequence
        self.engine_cids: dict[tuple[int, int], bytes] = {}  # issued by the engine
        self.tokens: dict[tuple[int, int], bytes] = {}  # of the engine's CIDs
        self.resets = 0  # stateless resets that came
        self.link_of: dict[int, int] = defaultdict(int)  # where the peer sends the packets of a path from
        self.address_of: dict[int, tuple[str, int]] = {}
        self.own_cid = self.cid_of(0, 0)
        self.cids[self.own_cid] = (0, 0)
        self._out = ffi.new("struct datagram *")
        self._buffer = ffi.new("uint8_t[]", 2048)
        for link, access in ((0, lib.ACCESS_3GPP), (1, lib.ACCESS_NON_3GPP)):
            check(lib.endpoint_link_set(self.node.endpoint, link, access))
        if role == "server":
            check(lib.endpoint_accept(self.node.endpoint, 1))
        mine = "server" if role == "client" else "client"
        self.send_keys = {level: Keys(self.handshake.secret(f"{mine} {level}")) for level in (HANDSHAKE, ONE_RTT)}
        self.receive_keys = {level: Keys(self.handshake.secret(f"{role} {level}")) for level in (HANDSHAKE, ONE_RTT)}

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.node.close()

    # ---- connection IDs

    @staticmethod
    def cid_of(path: int, sequence: int) -> bytes:
        return hashlib.sha256(f"peer cid {path} {sequence}".encode()).digest()[:8]

    @staticmethod
    def token_of(cid: bytes) -> bytes:
        return hashlib.sha256(b"token" + cid).digest()[:16]

    def cid_frame(self, path: int, sequence: int, retire: int = 0) -> bytes:
        """The frame that issues the peer's CID number `sequence` of a path; the peer knows it from now on."""
        cid = self.cid_of(path, sequence)
        self.cids[cid] = (path, sequence)
        return f.new_cid(path or None, sequence, retire, cid, self.token_of(cid))

    # ---- what the peer sends

    def _initial_keys(self, dcid: bytes) -> None:
        initial = hkdf_extract("sha256", SALT, dcid)
        secret = {r: hkdf_expand_label("sha256", initial, f"{r} in", b"", 32) for r in ("client", "server")}
        mine = "server" if self.role == "client" else "client"
        self.send_keys[INITIAL], self.receive_keys[INITIAL] = Keys(secret[mine]), Keys(secret[self.role])

    def seal_long(self, level: int, payload: bytes, dcid: bytes | None = None, nonce_path: int = 0, token: bytes = b"") -> bytes:
        space = self.spaces[level, 0]
        pn, space.next_pn = space.next_pn, space.next_pn + 1
        payload = payload.ljust(4, b"\0")
        target = self.engine_cids[0, 0] if dcid is None else dcid
        header = bytes([0xC3 | (0 if level == INITIAL else 0x20)]) + b"\0\0\0\1"
        header += bytes([len(target)]) + target + bytes([len(self.own_cid)]) + self.own_cid
        if level == INITIAL:
            header += f.varint(len(token)) + token
        header += (0x4000 | (4 + len(payload) + 16)).to_bytes(2, "big") + pn.to_bytes(4, "big")
        return self.send_keys[level].seal(header, payload, nonce_path, pn)

    def seal(
        self,
        path: int,
        payload: bytes,
        *,
        pn: int | None = None,
        cid: bytes | None = None,
        nonce_path: int | None = None,
        generation: int | None = None,
        first: int = 0,
    ) -> bytes:
        """A 1-RTT packet on a path: to the newest CID of the engine that is known for it, unless `cid` says otherwise."""
        space = self.spaces[ONE_RTT, path]
        if pn is None:
            pn, space.next_pn = space.next_pn, space.next_pn + 1
        else:
            space.next_pn = max(space.next_pn, pn + 1)
        if cid is None:
            cid = self.engine_cids[path, max(seq for p, seq in self.engine_cids if p == path)]
        generation = self.generation if generation is None else generation
        nonce = (path if self.multipath else 0) if nonce_path is None else nonce_path
        header = bytes([0x43 | (generation & 1) << 2 | first]) + cid + (pn & 0xFFFFFFFF).to_bytes(4, "big")
        return self.send_keys[ONE_RTT].seal(header, payload.ljust(4, b"\0"), nonce, pn, generation)

    def source(self, link: int) -> tuple[str, int]:
        return SERVER_ADDRESS if self.role == "client" else CLIENT_ADDRESS[link]

    def deliver(self, datagram: bytes, link: int = 0, remote: tuple[str, int] | None = None, ecn: int = 0) -> None:
        d = ffi.new("struct datagram *")
        keep = ffi.from_buffer(datagram)
        source = address(*(remote or self.source(link)))
        d.link, d.remote, d.ecn, d.length, d.data = link, source[0], ecn, len(datagram), ffi.cast("uint8_t *", keep)
        check(lib.endpoint_input(self.node.endpoint, d, self.now))
        self.flush()

    def send(
        self,
        path: int,
        *payload: bytes,
        link: int | None = None,
        remote: tuple[str, int] | None = None,
        pad: int = 0,
        ecn: int = 0,
        **options: Any,
    ) -> int:
        """These frames in one packet on a path; its packet number. `pad`: least size of the datagram."""
        body = b"".join(payload)
        body += bytes(max(0, pad - len(body) - 1 - 8 - 4 - 16))
        link = self.link_of[path] if link is None else link
        pn = options.get("pn", self.spaces[ONE_RTT, path].next_pn)
        self.deliver(self.seal(path, body, **options), link, remote or self.address_of.get(path), ecn)
        return int(pn)

    # ---- what the engine sends

    def flush(self) -> None:
        """Everything that the engine does in this instant."""
        while True:
            self.node.pump(self.now)
            d = self._out
            d.data, d.length = self._buffer, 2048
            if lib.endpoint_output(self.node.endpoint, d, self.now) != 1:
                break
            remote = (".".join(str(d.remote.ip[i]) for i in range(4)), d.remote.port)
            self._read(bytes(self._buffer[0 : d.length]), d.link, remote, d.ecn)
        self.node.pump(self.now)
        if self.answers and self.conn:
            self._acknowledge()

    def _read(self, datagram: bytes, link: int, remote: tuple[str, int], ecn: int) -> None:
        at = 0
        while at < len(datagram):
            packet, at = self._read_packet(datagram, at, link, remote, ecn)
            if packet is None:
                return
            self.packets.append(packet)
            self._note(packet)
            if self.on_packet:
                self.on_packet(packet)

    def _read_packet(self, datagram: bytes, at: int, link: int, remote: tuple[str, int], ecn: int) -> tuple[Packet | None, int]:
        token = b""
        if datagram[at] & 0x80:
            level = HANDSHAKE if datagram[at] >> 4 & 3 == 2 else INITIAL
            r = f._Reader(datagram[at:])
            r.octets(5)
            dcid = r.octets(r.octets(1)[0])
            scid = r.octets(r.octets(1)[0])
            if level == INITIAL:
                token = r.octets(r.varint())
                if INITIAL not in self.send_keys:
                    self._initial_keys(dcid)
            length = r.varint()
            path, pn_offset, end = 0, r.at, at + r.at + length
        else:
            level, scid, pn_offset, end = ONE_RTT, b"", 9, len(datagram)
            dcid = datagram[at + 1 : at + 9]
            if dcid not in self.cids and datagram[-16:] in self.tokens.values():
                self.resets += 1
                return None, end
            if dcid not in self.cids:
                raise AssertionError(f"the engine sends to a CID it was never given: {dcid.hex()}")
            path = self.cids[dcid][0]
        space = self.spaces[level, path]
        nonce = path if self.multipath else 0
        for generation in range(self.generation + 2 if level == ONE_RTT else 1):
            opened = self.receive_keys[level].open(datagram[at:end], pn_offset, nonce, space.largest, generation)
            if opened:
                break
        assert opened, f"the peer cannot open a packet of level {level}, path {path}"
        _, pn, payload = opened
        assert pn not in space.received, f"packet number {pn} of path {path} twice"
        space.received.add(pn)
        space.largest = max(pn, space.largest) if space.largest != NONE else pn
        found = list(f.parse(payload))
        packet = Packet(level, path, pn, found, link, remote, len(datagram), self.now, generation, dcid, scid, ecn, token)
        return packet, end

    def _note(self, packet: Packet) -> None:
        if packet.scid and (0, 0) not in self.engine_cids:
            self.engine_cids[0, 0] = packet.scid
        for frame in packet.frames:
            if frame.kind in (f.NEW_CONNECTION_ID, f.PATH_NEW_CONNECTION_ID):
                key = frame.path, frame.fields["sequence"]
                assert key not in self.engine_cids or self.engine_cids[key] == frame.data, f"number {key} for another CID"
                assert all(k == key for k, cid in self.engine_cids.items() if cid == frame.data), "a CID issued twice"
                self.engine_cids[key], self.tokens[key] = frame.data, frame.token
        if packet.level == ONE_RTT and packet.path not in self.deaf:
            self.spaces[ONE_RTT, packet.path].owed |= packet.eliciting
            for frame in packet.frames:
                if frame.kind == f.PATH_CHALLENGE and self.answers:
                    self.send(packet.path, f.frame(f.PATH_RESPONSE) + frame.data, link=packet.link, pad=1200)

    def _acknowledge(self) -> None:
        for (level, path), space in list(self.spaces.items()):
            if level == ONE_RTT and space.owed and path not in self.deaf:
                space.owed = False
                self.send(path, self.ack(path))

    def ack(self, path: int, *pns: int, **options: Any) -> bytes:
        """The acknowledgement of everything that came on a path, or of these numbers."""
        numbers = pns or tuple(self.spaces[ONE_RTT, path].received)
        if self.reports_ecn:
            options.setdefault("ecn", self.ecn_counts(path))
        return f.ack(*numbers, path=path if self.multipath else None, **options)

    def ecn_counts(self, path: int) -> tuple[int, int, int]:
        """ECT(0), ECT(1) and CE as they came on a path."""
        came = [p.ecn for p in self.packets if p.level == ONE_RTT and p.path == path]
        return came.count(2), came.count(1), came.count(3)

    def run(self, duration: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; True when `until` came true (or there is none)."""
        end = self.now + duration
        self.flush()
        while not (until and until()):
            when = max(lib.endpoint_deadline(self.node.endpoint), self.now)
            if when > end:
                self.now = end
                check(lib.endpoint_advance(self.node.endpoint, self.now))
                self.flush()
                return until is None or until()
            self.now = when
            check(lib.endpoint_advance(self.node.endpoint, self.now))
            self.flush()
        return True

    # ---- what most tests need

    def connect(self, paths: int = 3) -> None:
        """A complete and confirmed handshake, and CIDs of the peer for the first `paths` further paths."""
        if self.role == "client":
            self._connect_client()
        else:
            self._connect_server()
        self.flush()
        for path in range(1, paths + 1 if self.multipath else 1):
            self.send(0, self.cid_frame(path, 0), self.cid_frame(path, 1))
        self.run(100 * MS)
        assert self.stats().handshake_confirmed, self.node.counters()
        info = ffi.new("struct conn_info *")
        check(lib.conn_info(self.node.endpoint, self.conn, info))
        self.tokens[0, 0] = bytes(info.reset_token[0:16])

    def start_client(self) -> None:
        """Engine as client: its first Initial is there afterwards."""
        target = address(*SERVER_ADDRESS)
        self.conn = check(lib.conn_connect(self.node.endpoint, 0, target, self.now))
        self.handshake.start(self.conn)
        self.flush()

    def _connect_client(self) -> None:
        self.start_client()
        hello = self.seal_long(INITIAL, f.ack(0) + self.crypto(b"server hello"))
        self.deliver(hello + self.seal_long(HANDSHAKE, self.crypto(b"server finished")))
        self.run(50 * MS, lambda: bool(self.spaces[HANDSHAKE, 0].received))
        self.send(0, f.frame(f.HANDSHAKE_DONE))

    def start_server(self, dcid: bytes = b"first dc", **options: Any) -> None:
        """Engine as server: its first flight is there afterwards."""
        self._initial_keys(dcid)
        hello = self.seal_long(INITIAL, self.crypto(HELLO).ljust(1170, b"\0"), dcid, **options)
        self.deliver(hello)
        self.conn = (self.node.connections() or [0])[0]

    def _connect_server(self) -> None:
        self.start_server()
        finished = self.seal_long(HANDSHAKE, f.ack(0) + self.crypto(b"client finished"))
        self.deliver(self.seal_long(INITIAL, f.ack(0).ljust(1050, b"\0")) + finished)

    @staticmethod
    def crypto(data: bytes) -> bytes:
        return f.frame(f.CRYPTO, 0, len(data)) + data

    def open_path(self, path: int = 1, link: int = 1) -> None:
        """A further path, opened by whoever is the client, validated by both."""
        self.link_of[path] = link
        if self.role == "client":
            assert check(lib.path_open(self.node.endpoint, self.conn, link, address(*SERVER_ADDRESS))) == path
        else:
            self.send(path, f.frame(f.PATH_CHALLENGE) + b"validate", link=link, pad=1200)
        assert self.run(2 * SECOND, lambda: path in self.paths() and self.paths()[path].validated == 1)
        self.run(100 * MS)

    def engine_sends(self, payload: bytes, path: int = ANY, token: int = 0) -> None:
        """The engine is given a frame to send: on any path, or on this one."""
        check(lib.conn_frame_send(self.node.endpoint, self.conn, ONE_RTT, path, payload, len(payload), token, 0 if token else 1))
        self.flush()

    def tunnel(self, **rule: int) -> None:
        """A tunnel of the engine for the address of `native.sim.udp4`, steered by one rule."""
        config = ffi.new("struct tunnel_config *")
        config.has_ipv4, config.ipv4, config.mtu = 1, bytes([10, 45, 0, 2]), 1280
        tunnel = check(lib.tunnel_new(self.node.endpoint, config))
        steering = ffi.new("struct steering_rule[1]")
        steering[0].rule_id = 1
        for name, value in rule.items():
            setattr(steering[0], name, value)
        check(lib.tunnel_steering_set(self.node.endpoint, tunnel, steering, 1))
        check(lib.tunnel_bind(self.node.endpoint, tunnel, self.conn, 0))

    def inner(self) -> None:
        """The engine gets an inner packet to send."""
        packet = udp4(300, up=self.role == "client")
        check(lib.tunnel_input(self.node.endpoint, 0, packet, len(packet), self.now))
        self.flush()

    def engine_opens(self, link: int = 1, remote: tuple[str, int] = SERVER_ADDRESS) -> int:
        """path_open of an engine that is the client: a path id, or an error below 0."""
        result = int(lib.path_open(self.node.endpoint, self.conn, link, address(*remote)))
        self.flush()
        return result

    def engine_abandons(self, path: int, code: int = 0) -> None:
        check(lib.path_abandon(self.node.endpoint, self.conn, path, code))
        self.flush()

    def paths(self) -> dict[int, Any]:
        return self.node.paths(self.conn)

    def stats(self) -> Any:
        return self.node.stats(self.conn)

    def found(self, *kinds: int, since: int = 0) -> Iterator[tuple[Packet, f.Frame]]:
        """Frames of these types in the engine's packets, from packet number `since` of the record on."""
        for packet in self.packets[since:]:
            for frame in packet.frames:
                if frame.kind in kinds:
                    yield packet, frame

    def frames(self, *kinds: int, since: int = 0) -> list[f.Frame]:
        return [frame for _, frame in self.found(*kinds, since=since)]

    def events(self, kind: int) -> list[Event]:
        return self.node.of_type(kind)

    def counter(self, name: str) -> int:
        return self.node.counters().get(name, 0)

    def mark(self) -> int:
        """Where the record stands now, for `since`."""
        return len(self.packets)

    @property
    def error(self) -> int | None:
        """The transport error with which the engine closed; None while it is open."""
        closes = [e for e in self.node.events if e.type == lib.EVENT_CLOSED]
        return closes[0].a if closes else None
