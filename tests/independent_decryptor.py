"""A second decryptor, sharing no code with the project: 1-RTT packets of every path, from one pcapng with its key log inside.

It never reads a frame: it tries path ids in the nonce (path id ‖ packet number, RFC 10069 §2.4) until the AEAD agrees, once
per connection ID. Use: python tests/independent_decryptor.py capture.pcapng
"""

import hashlib
import hmac
import json
import struct
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

PATHS, GENERATIONS, WINDOWS = range(8), range(4), range(2048)


def expand(secret, label, size):
    name = b"tls13 " + label
    info = struct.pack("!HB", size, len(name)) + name + b"\0\x01"
    return hmac.new(secret, info, hashlib.sha384 if len(secret) == 48 else hashlib.sha256).digest()[:size]


class Direction:
    """One traffic secret under one cipher: header protection, and AEAD keys by generation."""

    def __init__(self, label, random, secret, chacha):
        self.name, self.size, self.chacha = (label, random, chacha), 16 if len(secret) == 32 and not chacha else 32, chacha
        self.hp, self.keys, self.largest = expand(secret, b"quic hp", self.size), [], {}
        for _ in GENERATIONS:
            key = expand(secret, b"quic key", self.size)
            self.keys.append(((ChaCha20Poly1305 if chacha else AESGCM)(key), int.from_bytes(expand(secret, b"quic iv", 12), "big")))
            secret = expand(secret, b"quic ku", len(secret))

    def open(self, packet, path, windows):
        sample = packet[13:29]
        cipher = Cipher(algorithms.ChaCha20(self.hp, sample), None) if self.chacha else Cipher(algorithms.AES(self.hp), modes.ECB())
        mask = cipher.encryptor().update(bytes(5) if self.chacha else sample)
        first = packet[0] ^ mask[0] & 0x1F
        size = (first & 3) + 1
        low = int.from_bytes(packet[9:9 + size], "big") ^ int.from_bytes(mask[1:1 + size], "big")
        header, window = bytes([first]) + packet[1:9] + low.to_bytes(size, "big"), 1 << 8 * size
        near = self.largest.get(path, -1) + 1
        number = near // window * window + low
        number += window if number <= near - window // 2 else -window if number > near + window // 2 and number >= window else 0
        for generation in GENERATIONS:
            if generation & 1 == first >> 2 & 1:
                aead, iv = self.keys[generation]
                for step in windows:
                    try:
                        nonce = (iv ^ (path << 64) ^ (number + step * window)).to_bytes(12, "big")
                        clear = aead.decrypt(nonce, packet[9 + size:], header)
                    except InvalidTag:
                        continue
                    self.largest[path] = max(near - 1, number + step * window)
                    return clear
        return None


def blocks(data):
    """(block type, body) of a little-endian pcapng."""
    while len(data) >= 12:
        kind, length = struct.unpack_from("<II", data)
        yield kind, data[8:length - 4]
        data = data[length:]


def datagrams(data):
    """(from the client, UDP payload) of every Ethernet/IPv4|IPv6/UDP frame to or from port 4433, and the key log."""
    links, log = [], b""
    for kind, body in blocks(memoryview(data)):
        if kind == 1:
            links.append(struct.unpack_from("<H", body)[0])
        elif kind == 10:
            log += bytes(body[8:8 + struct.unpack_from("<I", body, 4)[0]])
        elif kind == 6 and links[struct.unpack_from("<I", body)[0]] == 1:
            frame = bytes(body[20:20 + struct.unpack_from("<I", body, 12)[0]])
            offset, protocol = (34, frame[23]) if frame[12:14] == b"\x08\0" else (54, frame[20] if len(frame) > 20 else 0)
            if frame[12:14] in (b"\x08\0", b"\x86\xdd") and protocol == 17:
                source, destination, length = struct.unpack_from("!HHH", frame, offset)
                if 4433 in (source, destination):
                    yield destination == 4433, frame[offset + 8:offset + length], log


def short_packet(payload):
    """The 1-RTT packet of a datagram, behind the long header packets that it may be coalesced with."""
    def varint(at):
        size = 1 << (payload[at] >> 6)
        return int.from_bytes(payload[at:at + size], "big") & (1 << 8 * size - 2) - 1, at + size
    at = 0
    while at < len(payload) and payload[at] & 0x80:
        kind, at = payload[at] >> 4 & 3, at + 5
        at += 1 + payload[at]
        at += 1 + payload[at]
        if kind == 3:
            return b""
        if kind == 0:
            token, at = varint(at)
            at += token
        length, at = varint(at)
        at += length
    return payload[at:]


def decrypt(data):
    """{"packets", "decrypted", "paths": {path: decrypted}}, and the clear payloads in order."""
    directions, owner, packets, paths, clear_payloads, seen = {True: [], False: []}, {}, 0, {}, [], 0
    for up, payload, log in datagrams(data):
        for line in log[seen:].decode().splitlines():
            label, random, secret = line.split()
            if label in ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"):
                for chacha in (False, True)[:1 + (len(secret) == 64)]:
                    directions[label[0] == "C"].append(Direction(label, random, bytes.fromhex(secret), chacha))
        seen = len(log)
        packet = short_packet(payload)
        if len(packet) < 29 or packet[0] & 0xC0 != 0x40:
            continue
        packets += 1
        known = owner.get(packet[1:9])
        tries = [known] if known else [(d, path) for d in directions[up] for path in PATHS]
        for windows in ((0,), WINDOWS) if known else ((0,), range(16)):
            clear, where = next(((c, t) for t in tries if (c := t[0].open(packet, t[1], windows)) is not None), (None, None))
            if clear is not None:
                owner[packet[1:9]] = where
                paths[where[1]] = paths.get(where[1], 0) + 1
                clear_payloads.append(clear)
                break
    counts = {str(path): paths[path] for path in sorted(paths)}
    return {"packets": packets, "decrypted": len(clear_payloads), "paths": counts}, clear_payloads


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as capture:
        print(json.dumps(decrypt(capture.read())[0]))
