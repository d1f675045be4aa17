"""A capture to measure the readers with: two paths, full data packets down, small ones up, acknowledgements both ways, real packet
protection. Made from fixed secrets, so that each machine reads the same."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from pathlib import Path

from lab.decrypt_keys import AES_128, PacketKeys
from lab.packets.frames import Datagram, Frame, PathAck
from lab.packets.link import LINK_ETHERNET
from lab.packets.varint import write_varint
from lab.pcapng import INBOUND, OUTBOUND, PcapngWriter
from lab.topology import PROXY_PORT

UE_PORT = 40000
PATHS = ("3gpp", "wifi")
FULL, SMALL = 1360, 52          # octets of inner packets: TCP data down, its acknowledgements up
ACK_EVERY = 4                   # packets of the other direction
INTERVAL_NS = 20_000


def _secret(text: str) -> bytes:
    return hashlib.sha256(b"mpquic-upf bench " + text.encode()).digest()


def keylog() -> bytes:
    random = _secret("client random").hex()
    return "".join(f"{way}_TRAFFIC_SECRET_0 {random} {_secret(way).hex()}\n" for way in ("CLIENT", "SERVER")).encode()


class _Direction:
    """What one end sends on one path."""

    def __init__(self, up: bool, path: int) -> None:
        self.up, self.path = up, path
        self.keys = PacketKeys(AES_128, _secret("CLIENT" if up else "SERVER"))
        self.cid = _secret(f"{up} {path}")[:8]
        self.number = 0
        size = SMALL if up else FULL
        source, destination = (b"\x0a\x2d\0\2", b"\x0a\x63\0\2") if up else (b"\x0a\x63\0\2", b"\x0a\x2d\0\2")
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, size, 0, 0x4000, 64, 6, 0, source, destination)
        self._inner = write_varint(0) + write_varint(0) + ip + bytes(size - 20)

    def frame(self, acknowledges: int | None) -> bytes:
        """The next packet in an Ethernet frame; acknowledges: the other end's largest number."""
        frames: list[Frame] = [Datagram(self._inner, True)]
        if acknowledges is not None:
            frames.append(PathAck([(max(0, acknowledges - 200), acknowledges)], 10, path=self.path))
        header = bytes((0x42,)) + self.cid + self.number.to_bytes(3, "big")
        packet = self.keys.seal(self.path, self.number, header, 9, b"".join(frame.encode() for frame in frames))
        self.number += 1
        ports = (UE_PORT, PROXY_PORT) if self.up else (PROXY_PORT, UE_PORT)
        udp = struct.pack("!HHHH", *ports, 8 + len(packet), 0) + packet
        addresses = (bytes((10, self.path + 1, 0, 2)), b"\x0a\x64\0\1")
        addresses = addresses if self.up else addresses[::-1]
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0, *addresses)
        return bytes(12) + b"\x08\x00" + ip + udp


def _packets(count: int) -> Iterator[tuple[int, bool, bytes]]:
    """Path, direction and frame: two down for one up."""
    ways = {(up, path): _Direction(up, path) for up in (False, True) for path in range(len(PATHS))}
    for i in range(count):
        up, path = i % 3 == 2, i // 12 % 2
        other = ways[not up, path].number
        yield path, up, ways[up, path].frame(other - 1 if other and (up or i % (3 * ACK_EVERY) == 0) else None)


def write_capture(path: Path, count: int) -> int:
    """A file of so many packets; its octets."""
    with path.open("wb") as out, PcapngWriter(out) as writer:
        for name in PATHS:
            writer.interface(LINK_ETHERNET, f"ue/{name}")
        writer.secrets(keylog())
        for i, (number, up, frame) in enumerate(_packets(count)):
            writer.packet(number, 1_700_000_000_000_000_000 + i * INTERVAL_NS, frame, flags=OUTBOUND if up else INBOUND)
    return path.stat().st_size
