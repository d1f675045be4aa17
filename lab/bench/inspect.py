"""How fast a capture comes in clear: what `mpq inspect` does before it shows anything, on a capture made for it."""

from __future__ import annotations

import asyncio
import io
import struct
import time
from ipaddress import IPv4Address, IPv4Network

from lab.bench.figure import Figure
from lab.bench.memory_line import SERVER_ADDRESS, Line, client_of, psks
from lab.bench.pair import BenchError
from lab.capture_scan import CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.inspect_stats import Stats
from lab.packets.link import LINK_RAW
from lab.pcapng import PcapngWriter
from mpquic.connection import Connection
from mpquic.endpoint import Endpoint, EndpointConfig
from mpquic.engine import Datagram
from mpquic.steering import SteeringRule
from mpquic.tunnel_request import ConnectIpReply

UE, DN = IPv4Address("10.45.0.2"), IPv4Address("10.99.0.2")
INNER = 1200  # octets of an inner packet
FLOWS = 16
ROUND = 32  # packets of each direction that are put in at once
ROUND_MS = 20
UDP = 17


def _ipv4(source: str, target: str, payload: bytes) -> bytes:
    """An IP packet of UDP; nobody here looks at its checksum."""
    return struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, UDP, 0, IPv4Address(source).packed, IPv4Address(target).packed
    ) + payload


def _udp(source: int, target: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", source, target, 8 + len(payload), 0) + payload


class Recording:
    """A capture of one session over two paths, from its first datagram on."""

    def __init__(self) -> None:
        self.octets = io.BytesIO()
        self.keylog: list[str] = []
        self.writer = PcapngWriter(self.octets)
        self.interfaces = [self.writer.interface(LINK_RAW, name) for name in ("3gpp", "wifi")]
        self.line: Line | None = None

    def take(self, datagram: Datagram, to_server: bool) -> bool:
        """The line asks whether to lose it: no, but it is written down."""
        assert self.line is not None
        near, far = client_of(datagram.link), SERVER_ADDRESS
        source, target = (near, far) if to_server else (far, near)
        packet = _ipv4(source[0], target[0], _udp(source[1], target[1], datagram.data))
        self.writer.packet(self.interfaces[datagram.link], self.line.now, packet)
        return False


async def record(packets: int) -> tuple[bytes, bytes, int]:
    """A capture of at least so many inner packets, half of them each way, its key log, and how many inner packets arrived."""
    known = {p.identity: p for p in psks(1)}
    accepted: list[Connection] = []
    recording = Recording()

    def on_connection(connection: Connection) -> None:
        accepted.append(connection)
        connection.on_connect_ip = lambda _target: ConnectIpReply(
            200, (IPv4Network(f"{UE}/32"),), (IPv4Network("0.0.0.0/0"),)
        )

    told = recording.keylog.append
    server = Endpoint(EndpointConfig(role="server", psk_lookup=known.get, on_connection=on_connection, keylog=told))
    client = Endpoint(EndpointConfig(role="client", keylog=told))
    line = recording.line = Line(client, server, drop=recording.take)
    try:
        connection = await line.do(client.connect(psks(1)[0], 0, SERVER_ADDRESS))
        await line.do(connection.connect_ip("proxy"))
        await line.do(connection.open_path(1, SERVER_ADDRESS))
        for endpoint, bound in ((client, connection), (server, accepted[0])):
            tunnel = endpoint.tunnel_new(1, ipv4=UE)
            tunnel.steering_set([SteeringRule(1, 1, weights={"3gpp": 50, "non-3gpp": 50})])
            tunnel.bind(bound)
        payload = bytes(INNER - 28)
        up = [_ipv4(str(UE), str(DN), _udp(40000 + i, 9000, payload)) for i in range(FLOWS)]
        down = [_ipv4(str(DN), str(UE), _udp(9000, 40000 + i, payload)) for i in range(FLOWS)]
        arrived = sent = 0
        while sent < packets:
            for i in range(ROUND):
                client.engine.tunnel_input(1, up[i % FLOWS], line.now)
                server.engine.tunnel_input(1, down[i % FLOWS], line.now)
            sent += 2 * ROUND
            await line.run(None, ROUND_MS)
            for endpoint in (client, server):
                while endpoint.engine.tunnel_output() is not None:
                    arrived += 1
        return recording.octets.getvalue(), "".join(recording.keylog).encode(), arrived
    finally:
        for endpoint in (client, server):
            endpoint.engine.free()


def measure_inspect(runs: int, packets: int) -> Figure:
    """Packets of QUIC a second of CPU that are read from a capture, opened and counted. BenchError: not all came in clear."""
    figure = Figure("inspect.decrypt", "packet/s")
    capture, keylog, inner = asyncio.run(record(packets))
    for _ in range(runs):
        log = KeyLog()
        log.add(keylog)
        stats = Stats()
        start = time.process_time()
        for packet in CaptureDecryptor(io.BytesIO(capture), log, lean=True).packets():
            stats.add(packet)
        spent = time.process_time() - start
        if stats.decrypted != stats.packets or stats.inner_packets < inner or not inner:
            found = f"{stats.decrypted} came in clear, with {stats.inner_packets} of {inner} inner ones"
            raise BenchError(f"of {stats.packets} packets {found}")
        figure.add(stats.packets / spent)
    return figure
