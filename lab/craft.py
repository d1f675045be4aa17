"""Packets made to measure for a running lab: from the keys of its run, right or deliberately wrong, put in at any point of it.

    craft = Craft(lab)
    seen = await craft.look()                       what the run's capture and key log say now, and where each path stands
    packet = craft.short(seen.up, [QuicPing()])     a 1-RTT packet as the UE would send it next
    await craft.access(seen.up.last, [packet], up=True)     onto the wire of its access, towards the UPF

What goes out is built of the scapy layers of `lab.packets`; protection is `lab.decrypt_keys`'s, which is not the engine's. Frames
leave through AF_PACKET sockets that are made inside the lab's namespaces: nothing else can be reached with this.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from lab.capture_scan import SERVER_PORT
from lab.decrypt import ClearPacket, Decryptor
from lab.decrypt_connection import Connection
from lab.decrypt_keys import KeyLog, PacketKeys, initial_keys
from lab.decrypt_nas import NasKeys, NasPdu, NasReader, load_nas_keys, nea2, nia2
from lab.errors import LabError, Misuse
from lab.lab import Lab
from lab.packets.errors import PacketError
from lab.packets.link import TCP, Flow, address_text, read_link
from lab.packets.link import UDP as UDP_PROTOCOL
from lab.packets.nas import NasSecured
from lab.packets.quic import QuicLong, QuicShort
from lab.pcapng import PcapngReader, Record
from lab.topology import DN, N1_PORTS, TAMPER_N1_OFFSET

BURST = 64  # frames between two breaths: the receiver's socket buffer is not what an attack is about
BREATH_S = 0.002
PFCP_PORT = 8805
CIPHERED = 2  # security header type (TS 24.501 §9.3)
CAPTURED_AFTER_S = 0.05  # the capture's ring hands its blocks over within this
TRIES, TRY_S = 24, 0.25
QUIET_TRIES, QUIET_S = 10, 0.06  # longer than an acknowledgement is delayed
DISCARD_PORT = 9


@dataclass(frozen=True, slots=True)
class Taken:
    """A UDP datagram of the capture: `frame` with its Ethernet header, `flow` its addresses and payload."""

    record: int
    interface: str
    frame: bytes
    flow: Flow


@dataclass(frozen=True, slots=True)
class Spoofed:
    """A UDP payload that leaves with an address and a port of its own."""

    payload: bytes
    source: str
    port: int


@dataclass(frozen=True, slots=True)
class Direction:
    """One direction of one path of the connection in use. `number`: the largest packet number seen on it."""

    up: bool
    access: str
    path: int
    dcid: bytes
    number: int
    keys: PacketKeys = field(repr=False)
    generation: int  # key updates so far
    last: Taken

    @property
    def key_phase(self) -> int:
        return self.generation & 1


@dataclass(slots=True)
class Seen:
    """The run so far. `up` and `down`: the path that carried last, in each direction; `paths` all of them, by (up, path)."""

    connection: Connection
    paths: dict[tuple[bool, int], Direction]
    up: Direction
    down: Direction
    initial: Taken
    n4: list[Taken]
    nas: list[NasPdu]
    nas_keys: NasKeys | None = field(repr=False)

    def pfcps(self, kind: int) -> list[Taken]:
        """The PFCP messages of this type in the capture, oldest first; LabError when there is none."""
        found = [d for d in self.n4 if d.flow.payload[1:2] == bytes((kind,))]
        if not found:
            raise LabError(f"no PFCP message of type {kind} in the capture")
        return found

    def nas_pdus(self, access_type: str, uplink: bool) -> list[NasPdu]:
        """Ciphered PDUs of this access that verified, oldest first; LabError when there is none."""
        way = [p for p in self.nas if p.access == access_type and p.uplink is uplink]
        found = [p for p in way if p.plain is not None and p.data[1] & 15 == CIPHERED]
        if not found:
            raise LabError(f"no ciphered NAS PDU over {access_type} in the capture")
        return found


class _Memory:
    """The capture as far as it was read: only what is new is deciphered at the next look."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._stream: BinaryIO = (run / "capture.raw.pcapng").open("rb")
        self._reader = PcapngReader(self._stream)
        self._decryptor = Decryptor(KeyLog())
        self._datagrams: dict[int, Taken] = {}  # of QUIC, until their packets are in clear
        self._pfcp: list[Taken] = []
        self._paths: dict[tuple[int, bool, int], Direction] = {}
        self._initials: dict[int, Taken] = {}
        self._nas_keys: list[NasKeys] = []
        self._nas_reader = NasReader(self._nas_keys)
        self._nas: list[NasPdu] = []
        self._last: Taken | None = None

    def read(self) -> None:
        self._decryptor.keylog.add((self._run / "keys.log").read_bytes())
        self._nas_keys += load_nas_keys(self._run / "nas.keys")[len(self._nas_keys):]
        for record in self._reader:
            interface = self._reader.interfaces[record.interface]
            with contextlib.suppress(PacketError):
                flow = read_link(interface.linktype, record.data)
                if flow is not None and not flow.cut:
                    self._keep(record, flow, interface.name)
        for packet in self._decryptor.flush():  # what waits for a connection ID of nobody (our own) holds up the rest
            self._place(packet)

    def _keep(self, record: Record, flow: Flow, name: str) -> None:
        taken = Taken(record.number, name, record.data, flow)
        if flow.protocol == UDP_PROTOCOL and name == "upf/n4":
            self._pfcp.append(taken)
        elif flow.protocol == UDP_PROTOCOL and SERVER_PORT in (flow.source_port, flow.destination_port):
            self._datagrams[record.number] = taken
            up = flow.destination_port == SERVER_PORT
            for packet in self._decryptor.feed(record.number, record.time_ns, record.interface, up, flow.payload):
                self._place(packet)
            self._decryptor.announced.clear()  # what other readers learn from
            self._decryptor.opened.clear()
        elif flow.protocol == TCP and name.startswith("ue/") and _n1_port(flow):
            self._nas += self._nas_reader.feed(record.number, record.time_ns, _without_relay(flow))

    def _place(self, packet: ClearPacket) -> None:
        taken = self._datagrams.pop(packet.record, None) or self._last_taken(packet)
        self._last = taken
        if packet.connection is None or packet.number is None or packet.path is None or taken is None:
            return
        if packet.kind == "initial" and packet.up:
            self._initials.setdefault(packet.connection, taken)
        if packet.kind != "1rtt":
            return
        key = (packet.connection, packet.up, packet.path)
        before = self._paths.get(key)
        connection = self._decryptor.connections[packet.connection]
        same = before is not None and before.generation == packet.generation
        keys = before.keys if same and before is not None else _packet_keys(connection, packet.up, packet.generation)
        self._paths[key] = Direction(
            packet.up, taken.interface.removeprefix("ue/"), packet.path, packet.dcid,
            max(packet.number, before.number if before else 0), keys, packet.generation, taken,
        )

    def _last_taken(self, packet: ClearPacket) -> Taken | None:
        """The datagram of a packet that was coalesced behind another."""
        return self._last if self._last is not None and self._last.record == packet.record else None

    def seen(self, client_random: bytes) -> Seen:
        connection = next((c for c in self._decryptor.connections if c.client_random == client_random), None)
        if connection is None:
            raise LabError("the connection in use is not in the run's capture")
        paths = {(up, path): d for (index, up, path), d in self._paths.items() if index == connection.index}
        ways = ([d for d in paths.values() if d.up is way] for way in (True, False))
        up, down = (max(way, key=lambda d: d.last.record, default=None) for way in ways)
        initial = self._initials.get(connection.index)
        if up is None or down is None or initial is None:
            raise LabError("the connection in use has no packet of each direction in the run's capture")
        return Seen(connection, paths, up, down, initial, self._pfcp, self._nas, self._nas_keys[-1] if self._nas_keys else None)


def _packet_keys(connection: Connection, up: bool, generation: int) -> PacketKeys:
    assert connection.secrets is not None  # a packet was in clear
    keys = PacketKeys(connection.suite or connection.secrets.suites()[0], connection.secrets.by_level["1rtt", up])
    for _ in range(generation):
        keys = keys.updated()
    return keys


class Craft:
    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._access_types = {a.name: a.type for a in lab.scenario.accesses}
        self._reading = asyncio.Lock()
        self._memory: _Memory | None = None
        self._counts: dict[tuple[str, bool], int] = {}

    @property
    def accesses(self) -> list[str]:
        return list(self._access_types)

    def access_type(self, access: str) -> str:
        return self._access_types[access]

    # ---- what there is

    async def look(self) -> Seen:
        """Reads what is new in the run's capture and keys."""
        lab = self._lab
        if lab.capture is None or lab.scenario.ring is not None:
            raise Misuse("packets are crafted from a run's keys: this lab has none (`capture: true` in its scenario, no ring)")
        await asyncio.sleep(CAPTURED_AFTER_S)
        lab.capture.flush()
        status = await lab.ask("ue", "status")
        random = bytes.fromhex(str((status.get("connection") or {}).get("client_random", "")))
        async with self._reading:
            if self._memory is not None:
                await asyncio.to_thread(self._memory.read)
                with contextlib.suppress(LabError):  # the last look may have been in the middle of a handshake: anew
                    return self._memory.seen(random)
            self._memory = _Memory(lab.run_dir)
            await asyncio.to_thread(self._memory.read)
            return self._memory.seen(random)

    async def counters(self) -> dict[str, int]:
        """Every counter of every node: `upf:packet_duplicate`, `amf:nas.replayed`, ..."""
        found: dict[str, int] = {}
        for node in self._lab.nodes:
            for name, value in _numbers(await self._lab.ask(node, "metrics")):
                found[f"{node}:{name}"] = value
        return found

    async def quiet(self, counter: str) -> None:
        """Until this counter has not moved for a while (or it never stops, under traffic)."""
        before = -1
        for _ in range(QUIET_TRIES):
            now = (await self.counters()).get(counter, 0)
            if now == before:
                return
            before = now
            await asyncio.sleep(QUIET_S)

    async def round_trip(self) -> bool:
        """Whether a datagram gets through the tunnel to `dn` and its answer (a refusal of the port) back."""
        space = self._lab.topology.netns["ue"]
        sock: socket.socket = await space.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.setblocking(False)
            sock.connect((DN, DISCARD_PORT))
            loop = asyncio.get_running_loop()
            for _ in range(TRIES):
                try:
                    sock.send(b"?")
                    async with asyncio.timeout(TRY_S):
                        await loop.sock_recv(sock, 1)
                except ConnectionRefusedError:
                    return True
                except (TimeoutError, OSError):
                    continue
        return False

    def nodes_alive(self) -> str:
        """The names of nodes that ended; empty when all run."""
        return ", ".join(name for name, node in self._lab.nodes.items() if node.exited.done())

    async def paths(self) -> list[dict[str, Any]]:
        return list(await self._lab.ask("upf", "paths"))

    def events(self, node: str, event: str) -> int:
        return self._lab.count_events(node, event)

    async def wait_event(self, node: str, event: str, count: int, limit: float) -> None:
        await self._lab.wait_event(node, event, limit, count=count)

    # ---- QUIC packets

    def short(self, at: Direction, frames: list[Any], *, path: int | None = None, number: int | None = None,
              dcid: bytes | None = None, keys: PacketKeys | None = None) -> bytes:
        """A protected 1-RTT packet of a direction: the next of its path, unless told otherwise. Frames are scapy layers."""
        number = at.number + 1 if number is None else number
        pn = (number & 0xFFFFFFFF).to_bytes(4, "big")
        clear = bytes(QuicShort(key_phase=at.key_phase, pn_length=3, dcid=at.dcid if dcid is None else dcid, pn=pn, frames=frames))
        pn_offset = 1 + len(at.dcid if dcid is None else dcid)
        header, payload = clear[:pn_offset + 4], clear[pn_offset + 4:]
        return (keys or at.keys).seal(at.path if path is None else path, number, header, pn_offset, payload)

    def initial(self, frames: list[Any], *, dcid: bytes | None = None, scid: bytes | None = None, number: int = 0, size: int = 1200,
                up: bool = True, keys_of: bytes | None = None, **header: Any) -> bytes:
        """A protected Initial, padded to `size` octets. `keys_of`: the DCID that its keys come from, if it is not `dcid`."""
        dcid = secrets.token_bytes(8) if dcid is None else dcid
        scid = secrets.token_bytes(8) if scid is None else scid
        packet = QuicLong(long_type=0, pn_length=3, dcid=dcid, scid=scid, pn=number.to_bytes(4, "big"), frames=frames, **header)
        tag = 16
        missing = size - len(bytes(packet)) - tag
        if missing > 0:
            from lab.packets.quic import QuicPadding

            packet.frames = [*frames, QuicPadding(more=bytes(max(0, missing - 2)))]  # Length takes one octet more
            while len(bytes(packet)) + tag < size:
                packet.frames[-1].more += b"\0"
        clear = bytes(packet)
        pn_offset = len(clear) - sum(len(bytes(f)) for f in packet.frames) - 4
        client, server = initial_keys(dcid if keys_of is None else keys_of)
        return (client if up else server).seal(0, number, clear[:pn_offset + 4], pn_offset, clear[pn_offset + 4:])

    # ---- NAS

    def nas(self, keys: NasKeys, access_type: str, uplink: bool, count: int, plain: bytes, *, mac: bytes | None = None,
            mac_uplink: bool | None = None, mac_access: str | None = None) -> bytes:
        """A ciphered NAS PDU; `mac`, `mac_uplink` and `mac_access` make its MAC wrong."""
        bearer = {"3gpp": 1, "non-3gpp": 2}
        body = bytes((count & 0xFF,)) + nea2(keys.encryption, count, bearer[access_type], uplink, plain)
        way = uplink if mac_uplink is None else mac_uplink
        right = nia2(keys.integrity, count, bearer[mac_access or access_type], way, body)
        return bytes(NasSecured(security=2, mac=right if mac is None else mac, sqn=count & 0xFF) / body[1:])

    def count_take(self, access_type: str, uplink: bool, count: int) -> int:
        """The next COUNT of a direction, `count` or above, which nobody has taken with this before: what is put in behind the
        relay is not in the capture."""
        key = (access_type, uplink)
        self._counts[key] = max(count, self._counts.get(key, -1) + 1)
        return self._counts[key]

    async def n1(self, access_type: str, uplink: bool, pdus: Iterable[bytes]) -> int:
        """PDUs into the N1 connection of an access, through the relay (`tamper: ["n1:none"]`); how many."""
        port, sent = N1_PORTS[access_type], 0
        for pdu in pdus:
            await self._lab.n1_inject(port, uplink, pdu)
            sent += 1
        return sent

    # ---- injection

    async def access(self, like: Taken, payloads: Iterable[bytes | Spoofed], *, up: bool) -> int:
        """UDP datagrams onto the wire of the access of `like`, with its addresses and ports, to the UPF or the UE; how many."""
        access, ether, flow = like.interface.removeprefix("ue/"), Ether(like.frame), like.flow
        ends = [(ether.src, address_text(flow.source), flow.source_port),
                (ether.dst, address_text(flow.destination), flow.destination_port)]
        if (flow.destination_port == SERVER_PORT) is not up:
            ends.reverse()
        (src, from_ip, from_port), (dst, to_ip, to_port) = ends
        frames = []
        for item in payloads:
            one = item if isinstance(item, Spoofed) else Spoofed(item, from_ip, from_port)
            packet = IP(src=one.source, dst=to_ip) / UDP(sport=one.port, dport=to_port) / one.payload
            frames.append(bytes(Ether(src=src, dst=dst) / packet))
        place, device = ("ue", f"acc{self.accesses.index(access) + 1}") if up else (f"access:{access}", "wire")
        return await self.frames(place, device, frames)

    async def n4(self, like: Taken, payloads: Iterable[bytes], *, source: str | None = None) -> int:
        """PFCP datagrams between core and UPF, in the direction of `like`; how many."""
        ether = Ether(like.frame)
        towards_upf = like.flow.destination[-1] == 20
        header = IP(src=source or address_text(like.flow.source), dst=address_text(like.flow.destination))
        base = Ether(src=ether.src, dst=ether.dst) / header
        payloads = list(payloads)
        made = {p: bytes(base / UDP(sport=PFCP_PORT, dport=PFCP_PORT) / p) for p in dict.fromkeys(payloads)}
        frames = [made[p] for p in payloads]
        return await self.frames("core" if towards_upf else "upf", "n4", frames)

    async def tunnel(self, packets: Iterable[bytes]) -> int:
        """IP packets into the UE's TUN, whatever their source address; how many."""
        space = self._lab.topology.netns["ue"]

        def make() -> socket.socket:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"mpq0")
            return sock

        sent = 0
        with await space.call(make) as sock:
            for packet in packets:
                sock.sendto(packet, (DN, 0))
                sent += 1
        return sent

    async def frames(self, place: str, device: str, frames: list[bytes]) -> int:
        """Ethernet frames out of a device of a namespace of this lab; how many."""
        space = self._lab.topology.netns.get(place)
        if space is None:
            raise Misuse(f"{place}: there is no such place; there are {', '.join(self._lab.topology.netns)}")

        def make() -> socket.socket:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # 0: it receives nothing
            sock.bind((device, 0))
            return sock

        with await space.call(make) as sock:
            for i, frame in enumerate(frames):
                sock.send(frame)
                if i % BURST == BURST - 1:
                    await asyncio.sleep(BREATH_S)
        return len(frames)


def _n1_port(flow: Flow) -> bool:
    ports = {p + offset for p in N1_PORTS.values() for offset in (0, TAMPER_N1_OFFSET)}
    return flow.source_port in ports or flow.destination_port in ports


def _without_relay(flow: Flow) -> Flow:
    """The ports as they are where no relay stands in between."""
    back = {p + TAMPER_N1_OFFSET: p for p in N1_PORTS.values()}
    return replace(flow, source_port=back.get(flow.source_port, flow.source_port),
                   destination_port=back.get(flow.destination_port, flow.destination_port))


def _numbers(value: Any, name: str = "") -> Iterable[tuple[str, int]]:
    """Counters in metrics, under their own names: groups such as `counters` and `drops` do not show."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, str(key))
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, value
