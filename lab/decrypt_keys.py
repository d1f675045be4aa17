"""Packet protection keys of QUIC for reading: key log, key schedule, opening a packet (RFC 9001 §5, RFC 10069 §2.4).

Written apart from the engine and on another library's interface, so that the agreement of the two means something. No
secret appears in a repr or an exception.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

INITIAL_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")        # RFC 9001 §5.2
RETRY_KEY = bytes.fromhex("be0c690b9f66575a1d766b54e368c84e")                   # RFC 9001 §5.8
RETRY_NONCE = bytes.fromhex("461599d35d632bf2239825bb")
AES_128, AES_256, CHACHA20 = 0x1301, 0x1302, 0x1303
LABELS = {
    "CLIENT_HANDSHAKE_TRAFFIC_SECRET": ("handshake", True), "SERVER_HANDSHAKE_TRAFFIC_SECRET": ("handshake", False),
    "CLIENT_TRAFFIC_SECRET_0": ("1rtt", True), "SERVER_TRAFFIC_SECRET_0": ("1rtt", False),
}
KEYLOG_CONNECTIONS_MAX = 65536
_LINE = re.compile(r"([A-Z0-9_]+) ([0-9a-fA-F]{64}) ((?:[0-9a-fA-F]{2}){32,48})")
_KEY_SIZE = {AES_128: 16, AES_256: 32, CHACHA20: 32}


def _hash(suite: int) -> Callable[..., hashlib._Hash]:
    return hashlib.sha384 if suite == AES_256 else hashlib.sha256


def hkdf_expand_label(secret: bytes, label: str, length: int, suite: int = AES_128) -> bytes:
    """RFC 9846 §7.1 with an empty context; length is at most one hash block here."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
    return hmac.new(secret, info + b"\x01", _hash(suite)).digest()[:length]


class PacketKeys:
    """Keys of one direction and generation. A key update keeps the header protection key (RFC 9001 §6.1)."""

    __slots__ = ("_aead", "_header_key", "_iv", "_mask", "_secret", "suite")

    def __init__(self, suite: int, secret: bytes, header: PacketKeys | None = None) -> None:
        self._header_key: bytes
        self._mask: Callable[[bytes], bytes]
        self.suite = suite
        self._secret = secret
        key = hkdf_expand_label(secret, "quic key", _KEY_SIZE[suite], suite)
        self._iv = int.from_bytes(hkdf_expand_label(secret, "quic iv", 12, suite), "big")
        self._aead: AESGCM | ChaCha20Poly1305 = ChaCha20Poly1305(key) if suite == CHACHA20 else AESGCM(key)
        if header is not None:
            self._header_key, self._mask = header._header_key, header._mask
            return
        self._header_key = hkdf_expand_label(secret, "quic hp", _KEY_SIZE[suite], suite)
        if suite == CHACHA20:
            self._mask = self._mask_chacha20
        else:
            self._mask = Cipher(algorithms.AES(self._header_key), modes.ECB()).encryptor().update

    def __repr__(self) -> str:
        return f"<PacketKeys 0x{self.suite:04x}>"

    def _mask_chacha20(self, sample: bytes) -> bytes:
        cipher = Cipher(algorithms.ChaCha20(self._header_key, sample), mode=None)
        return cipher.encryptor().update(bytes(5))

    def raw(self) -> tuple[bytes, bytes, bytes]:
        """AEAD key, IV and header protection key, for the engine's clear reader."""
        return (hkdf_expand_label(self._secret, "quic key", _KEY_SIZE[self.suite], self.suite),
                self._iv.to_bytes(12, "big"), self._header_key)

    def updated(self) -> PacketKeys:
        size = 48 if self.suite == AES_256 else 32
        return PacketKeys(self.suite, hkdf_expand_label(self._secret, "quic ku", size, self.suite), header=self)

    def unmask(self, packet: bytes, pn_offset: int) -> tuple[int, int, bytes]:
        """First octet and truncated packet number in clear, and its octets. The packet has pn_offset + 20 at least."""
        mask = self._mask(packet[pn_offset + 4:pn_offset + 20])
        first = packet[0]
        first ^= mask[0] & (0x0F if first & 0x80 else 0x1F)
        size = (first & 3) + 1
        number = int.from_bytes(packet[pn_offset:pn_offset + size], "big") ^ int.from_bytes(mask[1:1 + size], "big")
        return first, number, number.to_bytes(size, "big")

    def open(self, path: int, number: int, header: bytes, body: bytes) -> bytes | None:
        """The payload, or None when the packet is not authentic under this key, path and number."""
        nonce = (self._iv ^ (path << 64 | number)).to_bytes(12, "big")      # RFC 10069 §2.4
        try:
            return self._aead.decrypt(nonce, body, header)
        except InvalidTag:
            return None

    def seal(self, path: int, number: int, header: bytes, pn_offset: int, payload: bytes) -> bytes:
        """The inverse, for captures made by tests and for crafted packets. header ends with the packet number."""
        nonce = (self._iv ^ (path << 64 | number)).to_bytes(12, "big")
        packet = bytearray(header + self._aead.encrypt(nonce, payload, header))
        mask = self._mask(bytes(packet[pn_offset + 4:pn_offset + 20]))
        for i in range(len(header) - pn_offset):
            packet[pn_offset + i] ^= mask[1 + i]
        packet[0] ^= mask[0] & (0x0F if packet[0] & 0x80 else 0x1F)
        return bytes(packet)


def initial_keys(dcid: bytes) -> tuple[PacketKeys, PacketKeys]:
    """(client, server) Initial keys of the client's Destination Connection ID (RFC 9001 §5.2)."""
    secret = hmac.new(INITIAL_SALT, dcid, hashlib.sha256).digest()
    return (PacketKeys(AES_128, hkdf_expand_label(secret, "client in", 32)),
            PacketKeys(AES_128, hkdf_expand_label(secret, "server in", 32)))


def retry_is_authentic(packet: bytes, original_dcid: bytes) -> bool:
    """RFC 9001 §5.8; packet is the whole Retry."""
    pseudo = bytes((len(original_dcid),)) + original_dcid + packet[:-16]
    try:
        AESGCM(RETRY_KEY).decrypt(RETRY_NONCE, packet[-16:], pseudo)
    except InvalidTag:
        return False
    return True


@dataclass(slots=True)
class Secrets:
    """Traffic secrets of one client random: (level, from the client) -> secret."""

    by_level: dict[tuple[str, bool], bytes] = field(default_factory=dict, repr=False)

    def suites(self) -> tuple[int, ...]:
        """Cipher suites that the secrets' length allows, for a connection whose ServerHello was not seen."""
        size = max(map(len, self.by_level.values()), default=0)
        return (AES_256,) if size == 48 else (AES_128, CHACHA20)


@dataclass(slots=True)
class KeyLog:
    """SSLKEYLOGFILE (draft-ietf-tls-keylogfile): client random -> secrets. Lines that do not read are counted."""

    connections: dict[bytes, Secrets] = field(default_factory=dict, repr=False)
    malformed: int = 0
    conflicts: int = 0

    def add(self, text: bytes) -> None:
        for raw in text.removeprefix(b"\xef\xbb\xbf").splitlines():        # some editors put a byte order mark in front
            line = raw.decode("ascii", "replace").strip()
            if not line or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                self.malformed += 1
                continue
            level = LABELS.get(match[1])
            if level is None:
                continue
            random, secret = bytes.fromhex(match[2]), bytes.fromhex(match[3])
            if random not in self.connections and len(self.connections) >= KEYLOG_CONNECTIONS_MAX:
                self.malformed += 1
                continue
            secrets = self.connections.setdefault(random, Secrets())
            if secrets.by_level.setdefault(level, secret) != secret:
                self.conflicts += 1             # both ends log: they must say the same


def keylog_lines(text: bytes) -> bytes:
    """The lines of a key log that a reader can use, each once, in their order: what goes into a capture."""
    kept: dict[str, None] = {}
    for raw in text.splitlines():
        line = raw.decode("ascii", "replace").strip()
        match = _LINE.fullmatch(line)
        if match is not None and (match[1] in LABELS or match[1] == "EXPORTER_SECRET"):
            kept[line.lower().replace(match[1].lower(), match[1], 1)] = None
    return "".join(line + "\n" for line in kept).encode()
