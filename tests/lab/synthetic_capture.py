"""Captures made by hand for the tests of the reader: real packet protection, fixed secrets, no engine and no handshake code.

The first connection has the messages and secrets of the handshake vector in the tests of mpquic (PSK `mpquic-kat-1`).
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Any

from lab.decrypt_keys import PacketKeys, initial_keys
from lab.packets import frames as f
from lab.packets.varint import write_varint
from lab.pcapng import PcapngReader, PcapngWriter, Record

CLIENT_HELLO = bytes.fromhex(
    "010000db0303a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf00000413011303010000ae003300260024001d0020"
    "79a631eede1bf9c98f12032cdeadd0e7a079398fc786b88cc846ec89af85a51a002b0003020304000d000400020403000a00040002001d002d0002"
    "01010010000500030268330039001f0104800075300404801000000f088394c8f03e51570820048000ffff3e0103002900370012000c6d70717569"
    "632d6b61742d3100000000002120d36b4d8386d9a3ef7b56cb39cf0b21d90d630a29333c10eeb3fb1ee7c4b00149")
SERVER_HELLO = bytes.fromhex(
    "0200005c0303c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf001301000034002b0002030400330024001d002067"
    "5dd574ed7789310b3d2e7681f3790b466c773b1521fecf36577958371ea52f002900020000")
ENCRYPTED_EXTENSIONS = bytes.fromhex(
    "08000038003600100005000302683300390029000811223344556677880104800075300404801000000f08f067a5502a4262b520048000ffff3e0103")
SERVER_FINISHED = bytes.fromhex("14000020486198f5eca1e706a37044077fc6130fa68f8dda7d7117e1cd65939ded3ec8b4")
CLIENT_FINISHED = bytes.fromhex("1400002043998c09eb384d93e0aa6d4c7211be2ffd30eff6b1d5a253776180ff91e39049")
KAT_SECRETS = {
    ("handshake", True): "985be654061f123af5cc82360a90e8e0c6c06866ceef3cc0fb2c2353c6c4c47b",
    ("handshake", False): "6a3f1e785fff9a4290135f8596de6869a0ca50e83bf13d52ecd8e31fc93a7bbb",
    ("1rtt", True): "b8d2d183025987685c3cef9c4340e7c6cc67466e4e63d364f8d5a7ef754e95db",
    ("1rtt", False): "fb2dca082bccdf276c35a8521d99a2d9a7a14d19b015254d7a46bef0a5ae58de",
}
LABELS = {("handshake", True): "CLIENT_HANDSHAKE_TRAFFIC_SECRET", ("handshake", False): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
          ("1rtt", True): "CLIENT_TRAFFIC_SECRET_0", ("1rtt", False): "SERVER_TRAFFIC_SECRET_0"}
UE = {"3gpp": "10.1.0.2", "wifi": "10.2.0.2"}
PROXY = "10.100.0.1"


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0) + addresses
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def udp4(source: str, source_port: int, destination: str, destination_port: int, payload: bytes) -> bytes:
    return ipv4(source, destination, 17, struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload)


def udp6(source: str, source_port: int, destination: str, destination_port: int, payload: bytes) -> bytes:
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address(destination).packed
    body = struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload
    body = body[:6] + checksum(addresses + struct.pack("!II", len(body), 17) + body).to_bytes(2, "big") + body[8:]
    return struct.pack("!IHBB", 0x60000000, len(body), 17, 64) + addresses + body


def tcp4(source: str, source_port: int, destination: str, destination_port: int, sequence: int, payload: bytes,
         flags: int = 0x18) -> bytes:
    head = struct.pack("!HHIIBBHHH", source_port, destination_port, sequence, 1, 0x50, flags, 65535, 0, 0)
    return ipv4(source, destination, 6, head + payload)


def ethernet(packet: bytes) -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return bytes.fromhex("020000000002020000000001") + kind + packet


def http_datagram(packet: bytes, quarter: int = 0, context: int = 0, has_length: bool = False) -> f.Datagram:
    return f.Datagram(write_varint(quarter) + write_varint(context) + packet, has_length)


@dataclass
class Side:
    """One direction of a connection."""

    up: bool
    handshake: PacketKeys
    generations: list[PacketKeys]
    generation: int = 0
    numbers: dict[tuple[str, int], int] = field(default_factory=dict)
    cids: dict[int, bytes] = field(default_factory=dict)       # of the receiver, by path


class Talk:
    """One connection that writes its packets."""

    def __init__(self, capture: Capture, seed: int = 0, suite: int = 0x1301, random: bytes | None = None,
                 cid_lengths: tuple[int, int] = (8, 8)) -> None:
        """cid_lengths: of the connection IDs that the client and the server issue."""
        self.capture = capture
        self.cid_lengths = {True: cid_lengths[0], False: cid_lengths[1]}
        mark = hashlib.sha256(b"talk %d" % seed).digest()
        self.random = random or (CLIENT_HELLO[6:38] if seed == 0 else mark)
        self.odcid, self.client_cid, self.server_cid = mark[:8], mark[8:16], mark[16:24]
        if cid_lengths != (8, 8):
            self.client_cid, self.server_cid = self.cid(True, 0, 0), self.cid(False, 0, 0)
        size = 48 if suite == 0x1302 else 32
        self.secrets = {key: bytes.fromhex(value) for key, value in KAT_SECRETS.items()} if seed == 0 and size == 32 else {
            key: hashlib.sha384(mark + label.encode()).digest()[:size] for key, label in LABELS.items()}
        self.suite = suite
        self.sides = {up: Side(up, PacketKeys(suite, self.secrets["handshake", up]),
                               [PacketKeys(suite, self.secrets["1rtt", up])]) for up in (True, False)}
        self.sides[True].cids[0], self.sides[False].cids[0] = self.server_cid, self.client_cid
        self.initial = initial_keys(self.odcid)
        self.token = b""

    def keylog(self) -> bytes:
        return "".join(f"{LABELS[key]} {self.random.hex()} {value.hex()}\n" for key, value in self.secrets.items()).encode()

    def cid(self, up: bool, path: int, sequence: int) -> bytes:
        """A connection ID that the end `up` issues for this path."""
        return hashlib.sha256(self.odcid + bytes((up, path, sequence))).digest()[:self.cid_lengths[up]]

    def long(self, kind: str, up: bool, frames: list[f.Frame], pad_to: int = 0) -> bytes:
        side = self.sides[up]
        number = side.numbers.get((kind, 0), 0)
        side.numbers[kind, 0] = number + 1
        dcid = (self.client_cid if not up else self.odcid if kind == "initial" else self.server_cid)
        scid = self.client_cid if up else self.server_cid
        payload = f.encode_frames(frames)
        head = bytes((0xC1 if kind == "initial" else 0xE1,)) + b"\0\0\0\1" + bytes((len(dcid),)) + dcid + bytes((len(scid),)) + scid
        if kind == "initial":
            head += write_varint(len(self.token) if up else 0) + (self.token if up else b"")
        missing = pad_to - (len(head) + 2 + 2 + len(payload) + 16)
        payload += bytes(max(0, missing))
        head += (0x4000 | (2 + len(payload) + 16)).to_bytes(2, "big")
        keys = self.initial[0 if up else 1] if kind == "initial" else side.handshake
        return keys.seal(0, number, head + number.to_bytes(2, "big"), len(head), payload)

    def short(self, up: bool, path: int, frames: list[f.Frame], dcid: bytes | None = None, number: int | None = None,
              pn_size: int = 2) -> bytes:
        side = self.sides[up]
        number = side.numbers.get(("1rtt", path), 0) if number is None else number
        side.numbers["1rtt", path] = number + 1
        payload = f.encode_frames(frames)
        payload += bytes(max(0, 4 - pn_size - len(payload)))
        head = bytes((0x40 | (side.generation & 1) << 2 | pn_size - 1,)) + (side.cids[path] if dcid is None else dcid)
        octets = (number & (1 << 8 * pn_size) - 1).to_bytes(pn_size, "big")
        return side.generations[side.generation].seal(path, number, head + octets, len(head), payload)

    def key_update(self, up: bool) -> None:
        side = self.sides[up]
        side.generations.append(side.generations[-1].updated())
        side.generation += 1

    def send(self, up: bool, access: str, payload: bytes) -> None:
        self.capture.udp(up, access, payload)

    def handshake(self, access: str = "3gpp") -> None:
        hello = CLIENT_HELLO[:6] + self.random + CLIENT_HELLO[38:]
        server_hello = SERVER_HELLO[:39] + self.suite.to_bytes(2, "big") + SERVER_HELLO[41:]
        self.send(True, access, self.long("initial", True, [f.Crypto(0, hello)], 1200))
        flight = self.long("handshake", False, [f.Crypto(0, ENCRYPTED_EXTENSIONS + SERVER_FINISHED)])
        answer = self.long("initial", False, [f.Ack([(0, 0)]), f.Crypto(0, server_hello)], 1200 - len(flight))
        self.send(False, access, answer + flight)
        self.send(True, access, self.long("handshake", True, [f.Ack([(0, 0)]), f.Crypto(0, CLIENT_FINISHED)])
                  + self.short(True, 0, [f.Ping()]))

    def announce(self, paths: tuple[int, ...] = (1,), access: str = "3gpp") -> None:
        """Each end announces one connection ID per further path, in a packet of path 0."""
        for up in (False, True):
            if not self.cid_lengths[up]:
                continue
            new: list[f.Frame] = [] if up else [f.HandshakeDone()]
            for path in paths:
                cid = self.cid(up, path, 0)
                new.append(f.PathNewConnectionId(path, 0, 0, cid, hashlib.sha256(cid).digest()[:16]))
                self.sides[not up].cids[path] = cid
            cid = self.cid(up, 0, 1)
            new.append(f.NewConnectionId(1, 0, cid, hashlib.sha256(cid).digest()[:16]))
            self.send(up, access, self.short(up, 0, new))

    def validate(self, path: int = 1, access: str = "wifi") -> None:
        self.send(True, access, self.short(True, path, [f.PathChallenge(b"12345678"), f.Padding(1100)]))
        self.send(False, access, self.short(False, path, [f.PathResponse(b"12345678"), f.PathChallenge(b"abcdefgh"),
                                                          f.PathAck([(0, 0)], 0, None, path)]))
        self.send(True, access, self.short(True, path, [f.PathResponse(b"abcdefgh"), f.PathStatusAvailable(path, 0)]))

    def data(self, count: int, paths: dict[int, str], size: int = 1000) -> None:
        """count inner packets in each direction, in turn over the paths."""
        order = list(paths.items())
        for i in range(count):
            path, access = order[i % len(order)]
            body = struct.pack("!I", i) + bytes(size - 4)
            up_packet = udp4("10.45.0.2", 5000, "10.99.0.2", 5201, body)
            down_packet = udp4("10.99.0.2", 5201, "10.45.0.2", 5000, body)
            self.send(True, access, self.short(True, path, [http_datagram(up_packet)]))
            tail = f.PathAck([(0, self.sides[True].numbers["1rtt", path] - 1)], 10, None, path)
            self.send(False, access, self.short(False, path, [http_datagram(down_packet, has_length=True), tail]))


class Capture:
    """What a capture engine at the UE end of each wire would have written."""

    def __init__(self, linktype: int = 1, port: int = 4433) -> None:
        self.port = port                # of the server
        self.stream = io.BytesIO()
        self.writer = PcapngWriter(self.stream)
        self.interfaces = {name: self.writer.interface(linktype, f"ue/{name}") for name in UE}
        self.linktype = linktype
        self.time = 1_790_000_000_000_000_000
        self.held: list[tuple[int, bytes]] | None = None

    def frame(self, access: str, packet: bytes) -> None:
        self.time += 100_000
        data = ethernet(packet) if self.linktype == 1 else packet
        if self.held is not None:
            self.held.append((self.interfaces[access], data))
        else:
            self.writer.packet(self.interfaces[access], self.time, data)

    def hold(self) -> None:
        """Frames from now on are kept back, until release."""
        self.held = []

    def release(self, reverse: bool = False) -> None:
        held, self.held = self.held or [], None
        for interface, data in reversed(held) if reverse else held:
            self.time += 1000
            self.writer.packet(interface, self.time, data)

    def udp(self, up: bool, access: str, payload: bytes) -> None:
        ends = (UE[access], 40000, PROXY, self.port)
        self.frame(access, udp4(*ends, payload) if up else udp4(PROXY, self.port, UE[access], 40000, payload))

    def bytes(self) -> bytes:
        return self.stream.getvalue()


def two_paths(packets: int = 20) -> tuple[bytes, bytes]:
    """A capture of one connection on two paths, without secrets in it, and its key log."""
    capture = Capture()
    talk = Talk(capture)
    talk.handshake()
    talk.announce()
    talk.validate()
    talk.data(packets, {0: "3gpp", 1: "wifi"})
    return capture.bytes(), talk.keylog()


def records_of(capture: bytes) -> list[Record]:
    return list(PcapngReader(io.BytesIO(capture)))


def stats_paths(document: dict[str, Any]) -> dict[str, Any]:
    """Of `mpq inspect --stats --json` of a capture with one connection: its paths."""
    (connection,) = document["connections"]
    return {str(path["path"]): path for path in connection["paths"]}
