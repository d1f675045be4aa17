"""First inputs of the fuzz targets: one of every frame, packet and kind of segment. What the fuzzers add stands beside them.

python tests/fuzz/seeds.py writes tests/fuzz/corpus/TARGET/seed-NAME.
"""

from __future__ import annotations

import struct
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def varint(value: int) -> bytes:
    for octets, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * octets - 2):
            return (prefix << (8 * octets - 2) | value).to_bytes(octets, "big")
    raise ValueError(value)


def frame(kind: int, *fields: int | bytes) -> bytes:
    return varint(kind) + b"".join(f if isinstance(f, bytes) else varint(f) for f in fields)


CID = b"\x08" + bytes(range(8)) + bytes(16)
FRAMES: dict[str, bytes] = {
    "padding": bytes(4),
    "ping": frame(0x01),
    "ack": frame(0x02, 3, 10, 1, 0, 0, 1),
    "ack-ecn": frame(0x03, 3, 10, 0, 0, 1, 2, 3),
    "reset-stream": frame(0x04, 0, 1, 9),
    "stop-sending": frame(0x05, 0, 1),
    "crypto": frame(0x06, 0, 3, b"abc"),
    "new-token": frame(0x07, 2, b"to"),
    "stream": frame(0x0F, 0, 5, 3, b"abc"),
    "stream-rest": frame(0x08, 4, b"until the end"),
    "max-data": frame(0x10, 99),
    "max-stream-data": frame(0x11, 0, 99),
    "max-streams": frame(0x12, 9) + frame(0x13, 9),
    "blocked": frame(0x14, 9) + frame(0x15, 0, 9) + frame(0x16, 9) + frame(0x17, 9),
    "new-cid": frame(0x18, 5, 2, CID),
    "retire-cid": frame(0x19, 1),
    "challenge": frame(0x1A, bytes(8)),
    "response": frame(0x1B, bytes(8)),
    "close": frame(0x1C, 10, 6, 2, b"no"),
    "close-application": frame(0x1D, 256, 0),
    "done": frame(0x1E),
    "datagram": frame(0x31, 4, b"\0\0hi"),
    "datagram-rest": frame(0x30, b"\5what is left"),
    "path-ack": frame(0x3E, 1, 2, 10, 0, 1),
    "path-ack-ecn": frame(0x3F, 0, 3, 10, 1, 0, 0, 0, 4, 0, 0),
    "path-abandon": frame(0x3E75, 1, 0x3E),
    "path-status": frame(0x3E76, 1, 0) + frame(0x3E77, 0, 1),
    "path-new-cid": frame(0x3E78, 1, 2, 2, CID),
    "path-retire-cid": frame(0x3E79, 1, 0),
    "max-path-id": frame(0x3E7A, 9),
    "paths-blocked": frame(0x3E7B, 3),
    "path-cids-blocked": frame(0x3E7C, 1, 2),
}


def record(operation: int, data: bytes) -> bytes:
    unit = 6 if operation & 15 > 12 else 1
    return bytes([operation, min(255, -(-len(data) // unit))]) + data + bytes(-len(data) % unit)


def sum16(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(protocol: int, body: bytes, *, source: str = "10.45.0.2", target: str = "10.99.0.2") -> bytes:
    ends = bytes(int(x) for x in f"{source}.{target}".split("."))
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0x4000, 64, protocol, 0)
    return head[:10] + sum16(head + ends).to_bytes(2, "big") + ends + body


def ipv6(protocol: int, body: bytes) -> bytes:
    ends = bytes.fromhex("fd450000000000000000000000000002fd990000000000000000000000000002")
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + ends + body


def tcp(size: int) -> bytes:
    return struct.pack("!HHIIBBHHH", 20000, 5201, 1, 1, 0x50, 0x18, 1000, 0, 0) + bytes(size)


def udp(size: int) -> bytes:
    return struct.pack("!HHHH", 20000, 5201, 8 + size, 0) + bytes(size)


PACKETS = {
    "udp4": ipv4(17, udp(30)),
    "tcp4": ipv4(6, tcp(30)),
    "icmp4": ipv4(1, b"\x08\0\0\0\0\1\0\1ping"),
    "icmp4-error": ipv4(1, b"\x03\x04\0\0\0\0\5\0" + ipv4(17, udp(8))),
    "udp4-big": ipv4(17, udp(1290)),
    "udp6": ipv6(17, udp(30)),
    "tcp6": ipv6(6, tcp(0)),
    "icmp6": ipv6(58, b"\x80\0\0\0\0\1\0\1"),
    "fragment6": ipv6(44, b"\x11\0\0\1\0\0\0\1" + udp(8)),
    "udp6-big": ipv6(17, udp(1290)),
    "foreign": ipv4(17, udp(3), source="10.45.0.9"),
    "down": ipv4(17, udp(3), source="10.99.0.2", target="10.45.0.2"),
    "multicast": ipv4(17, udp(3), target="224.0.0.1"),
}


def vnet(flags: int, kind: int, headers: int, segment: int, start: int, offset: int) -> bytes:
    return struct.pack("<BBHHHH", flags, kind, headers, segment, start, offset)


SEGMENTS = {
    "whole": b"\0" + vnet(0, 0, 0, 0, 0, 0) + ipv4(17, udp(30)),
    "whole-sum": b"\0" + vnet(1, 0, 0, 0, 20, 6) + ipv4(17, udp(30)),
    "tso4": b"\0" + vnet(1, 1, 40, 500, 20, 16) + ipv4(6, tcp(2100)),
    "tso6": b"\0" + vnet(1, 4, 60, 500, 40, 16) + ipv6(6, tcp(2100)),
    "uso4": b"\0" + vnet(1, 5, 28, 500, 20, 6) + ipv4(17, udp(2100)),
    "uso6": b"\0" + vnet(1, 5, 48, 500, 40, 6) + ipv6(17, udp(2100)),
    "tso4-ethernet": b"\1" + vnet(1, 1, 54, 500, 34, 16) + bytes(12) + b"\x08\0" + ipv4(6, tcp(2100)),
}


def stranger() -> dict[str, bytes]:
    """For fuzz_packet.c: what anybody can send to either end."""

    def step(operation: int, data: bytes = b"") -> bytes:
        unit = 6 if operation & 8 else 1
        return bytes([operation, min(255, -(-len(data) // unit))]) + data + bytes(-len(data) % unit)

    crypto, token = FRAMES["crypto"], bytes([40]) + bytes(range(40))
    long = b"\xc3\0\0\0\1\x08" + bytes(8) + b"\x08" + bytes(8)
    return {
        "server-initial": b"\1" + step(1, b"\0" + crypto) + step(1, b"\0" + FRAMES["ack"]) + step(0x74, b"\xff"),
        "server-retry": b"\3" + step(1, b"\0" + crypto) + step(1, token + crypto) + step(5, b"\1") + step(1, token + crypto),
        "server-small": b"\1" + step(2, b"\0" + crypto),
        "server-refuses": b"\1" + step(6) + step(1, b"\0" + crypto),
        "server-version": b"\1" + step(8, b"\xc3\x1a\x2a\x3a\x4a" + long[5:] + bytes(1200)),
        "server-coalesced": b"\1" + step(8, long + b"\0\x40\x20" + bytes(32) + long + b"\x40\x20" + bytes(1150)),
        "server-zero-rtt": b"\1" + step(8, b"\xd3" + long[1:] + b"\x44\0" + bytes(1200)),
        "server-short": b"\1" + step(0, b"\x43" + bytes(60)),
        "client-initial": b"\0" + step(1, b"\0" + crypto) + step(1, b"\0" + FRAMES["ack"]) + step(1, b"\0" + FRAMES["close"]),
        "client-token": b"\0" + step(1, token + crypto),
        "client-retry": b"\0" + step(3, b"\x08" + bytes(8) + b"token") + step(3, b"\x08" + bytes(8) + b"again"),
        "client-empty-retry": b"\0" + step(3, b"\x08" + bytes(8)),
        "client-version": b"\0" + step(0, b"\x80\0\0\0\0\x08" + bytes(8) + b"\x08" + bytes(8) + b"\0\0\0\2"),
        "both": b"\0" + step(1, b"\0" + crypto) + step(7) + step(1, b"\0" + crypto) + step(0x44, b"\xff"),
    }


ORDERS = {  # for fuzz_reorder.c: ms, flow and path, distance of the number + 128
    "in-order": bytes([0, 0, 129, 0] * 20),
    "gap": bytes([0, 0, 129, 0, 0, 0, 130, 0, 0, 4, 129, 0, 1, 0, 126, 0, 0, 0, 128, 0]),
    "lost": bytes([0, 0, 129, 0, 0, 0, 130, 0] + [0, 0, 129, 0] * 4 + [70, 4, 124, 0]),
    "two-paths": bytes([0, 0, 130, 0, 0, 4, 127, 0, 3, 4, 130, 0, 3, 0, 131, 0] * 8),
    "time-out": bytes([0, 0, 129, 0, 0, 4, 130, 0, 0, 0, 131, 0, 250, 0, 125, 0, 255, 0, 129, 0]),
    "jump": bytes([0, 0, 129, 0, 0, 0, 131, 0, 0, 0, 255, 0, 0, 0, 129, 0, 0, 0, 0, 0, 0, 0, 255, 1]),
    "four-flows": bytes([v for i in range(40) for v in (1, i & 3, 128 + (i * 7) % 5 - 2, 0)]),
    "re-key": bytes([0, 0, 129, 0, 0, 32, 131, 0, 0, 32, 129, 0, 0, 0, 126, 0]),
}


def logged(name: bytes, data: bytes, path: bytes = b"") -> bytes:
    """A record of a qlog, for fuzz_qlog.c: with the separator of the next one behind it."""
    head = b'{"time":27918930.868,"group_id":"37d5b7e81fa823bd",' + path
    return head + b'"name":"quic:' + name + b'","data":' + data + b"}\n\x1e"


HEADER = b'{"header":{"packet_type":"1RTT","packet_number":5},"raw":{"length":84}'
PATH_ACK = b'{"frame_type":"path_ack","path_id":1,"ack_delay":0.960,"acked_ranges":[[617,658],[480,615]],"raw":{"length":17}}'
LOGS = {
    "sent": logged(b"packet_sent", HEADER + b',"frames":[{"frame_type":"datagram"}]}') * 3,
    "received": logged(b"packet_received", HEADER.replace(b'","pa', b'","key_phase":1,"path_id":1,"pa') + b"}", b'"tuple":"1",'),
    "behind": logged(b"packet_sent", HEADER.replace(b"5}", b'5,"path_id":1}') + b',"frames":[' + PATH_ACK + b"]}"),
    "acked": logged(b"packets_acked", b'{"path_id":1,"packet_numbers":[5,6,900]}')
        + logged(b"packets_acked", b'{"packet_numbers":[1]}'),
    "metrics": logged(b"recovery_metrics_updated", b'{"path_id":0,"min_rtt":10.106,"pto_count":0}'),
    "others": logged(b"packet_lost", HEADER + b',"trigger":"time_threshold"}')
        + b"{]\n\x1e\x1e" + logged(b"packet_sent", HEADER + b"}"),
    "values": b"".join(logged(b"packet_sent", HEADER + b',"frames":' + value + b"}") for value in (
        b"null", b"-0.25", b'{"a":[[[[]]]]}', b'"x\\u0041"', b"01", b"[[[[[[[[[1]]]]]]]]]", b"12345678901234567890")),
}


def main() -> None:
    targets = ("session", "packet", "frame", "inner", "offload", "reorder", "qlog")
    inputs: dict[str, dict[str, bytes]] = {target: {} for target in targets}
    for name, body in FRAMES.items():
        inputs["frame"][name] = body
        for side in range(2):
            inputs["session"][f"{name}-{side}"] = bytes([side]) + record(0x00, body) + record(0x10, body) + record(8, b"\x20")
    inputs["session"]["half-initial"] = b"\2" + record(7, FRAMES["crypto"]) + record(7, FRAMES["ack"])
    inputs["session"]["half-handshake"] = b"\2" + record(0x17, FRAMES["ack"])
    for which in range(12):
        inputs["session"][f"call-{which}"] = (
            b"\1" + record(9, bytes([which, 1, 2, 3])) + record(0, FRAMES["ping"]) + record(0x58, b"\xff")
        )
    inputs["session"]["key-update"] = (
        b"\1" + record(12, b"") + record(0, FRAMES["ping"]) + record(12, b"") + record(0x10, FRAMES["ping"])
    )
    inputs["session"]["rebinding"] = (
        b"\1" + record(11, b"\7") + record(0, FRAMES["ping"]) + record(0x78, b"\xff") + record(0, FRAMES["ack"])
    )
    inputs["session"]["raw"] = b"\1" + record(10, b"\xc0\0\0\0\1\x08" + bytes(8) + b"\0\0\x40\x20" + bytes(32))
    inputs["session"]["tun"] = b"\0" + record(13, PACKETS["udp4"]) + record(13, PACKETS["tcp6"]) + record(0x38, b"\xff")
    for name, packet in PACKETS.items():
        for side in range(2):
            inputs["inner"][f"{name}-{side}"] = bytes([side]) + (len(packet).to_bytes(2, "big") + packet) * 2
    inputs["session"]["cid-rotate"] = b"\0" + record(9, bytes([71, 0])) + record(9, bytes([71, 1])) + record(0x10, FRAMES["ping"])
    order = [(name, n.to_bytes(4, "big")) for name in ("down", "udp4") for n in (1, 3, 2)]
    numbered = [frame(0x31, 6 + len(PACKETS[name]), b"\0\2" + n + PACKETS[name]) for name, n in order]
    for side in range(2):
        inputs["session"][f"numbered-{side}"] = (
            bytes([side]) + b"".join(record(0x10 * i, numbered[3 * side + i]) for i in range(3)) + record(0x38, b"\xff")
        )
    inputs["session"]["short-number"] = b"\0" + record(0, frame(0x31, 4, b"\0\2\0\0"))
    inputs["reorder"] = ORDERS
    inputs["qlog"] = {f"{name}-{end}": bytes([end]) + text for name, text in LOGS.items() for end in range(2)}
    inputs["packet"] = stranger()
    inputs["offload"] = SEGMENTS
    for target, named in inputs.items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in named.items():
            (CORPUS / target / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
