"""NAS over TCP as captured: PDUs put together from segments, deciphered with the NAS keys of the run (TS 33.501 D).

A COUNT is accepted only when its MAC verifies, so a gap in the capture costs nothing but what it swallowed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from lab.packets.link import Flow
from lab.packets.nas_plain import EPD_5GMM, EPD_5GSM

PORTS = {38412: "3gpp", 38413: "non-3gpp"}
BEARER = {"3gpp": 1, "non-3gpp": 2}
CIPHERED, INTEGRITY_ONLY = (2, 4), (1, 3)
PLAIN_HEADER = bytes((EPD_5GMM, 0))     # with it every protected message begins inside (TS 24.501 §4.4.4)
STREAMS_MAX, BUFFER_MAX, CHUNKS_MAX = 256, 1 << 17, 256
OVERFLOWS_AHEAD = 8
NAS_KEYS_MAX = 1 << 20          # octets of nas.keys that are read
SYN = 2


class NasKeysError(Exception):
    """The file of NAS keys does not read; says the line, never its content."""


@dataclass(slots=True)
class NasKeys:
    ue: str
    encryption: bytes = field(repr=False)
    integrity: bytes = field(repr=False)
    counts: dict[tuple[str, bool], int] = field(default_factory=dict)   # (access, uplink) -> last COUNT


def load_nas_keys(path: Path) -> list[NasKeys]:
    """JSON lines: {"ue": name, "k_nas_enc": hex, "k_nas_int": hex}; the newest context last."""
    keys = []
    with path.open("rb") as file:
        content = file.read(NAS_KEYS_MAX)
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            enc, integrity = bytes.fromhex(entry["k_nas_enc"]), bytes.fromhex(entry["k_nas_int"])
            if len(enc) != 16 or len(integrity) != 16:
                raise ValueError
            keys.append(NasKeys(str(entry.get("ue", "")), enc, integrity))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise NasKeysError(f"{path.name}: line {number}: needs ue, k_nas_enc, k_nas_int (32 hex digits)") from None
    return keys


def nia2(key: bytes, count: int, bearer: int, uplink: bool, message: bytes) -> bytes:
    """128-NIA2 (TS 33.401 B.2.3)."""
    mac = CMAC(algorithms.AES(key))
    mac.update(count.to_bytes(4, "big") + bytes((bearer << 3 | (0 if uplink else 4), 0, 0, 0)) + message)
    return mac.finalize()[:4]


def nea2(key: bytes, count: int, bearer: int, uplink: bool, message: bytes) -> bytes:
    """128-NEA2 (TS 33.401 B.1.3); its own inverse."""
    block = count.to_bytes(4, "big") + bytes((bearer << 3 | (0 if uplink else 4),)) + bytes(11)
    return Cipher(algorithms.AES(key), modes.CTR(block)).encryptor().update(message)


@dataclass(slots=True)
class NasPdu:
    """One PDU of N1. plain is the message without its protection, None when it could not be read."""

    record: int
    time_ns: int
    access: str
    uplink: bool
    source: bytes
    destination: bytes
    data: bytes
    plain: bytes | None = None
    reason: str = ""


class _Stream:
    """One direction of a TCP connection, put in order (bounded); gives what the two-octet lengths delimit."""

    __slots__ = ("buffer", "chunks", "next", "problem")

    def __init__(self) -> None:
        self.next: int | None = None
        self.buffer = b""
        self.chunks: dict[int, bytes] = {}
        self.problem = ""

    def add(self, flow: Flow) -> list[bytes]:
        if flow.flags & SYN:
            self.next, self.buffer, self.chunks, self.problem = (flow.sequence + 1) & 0xFFFFFFFF, b"", {}, ""
            return []
        if not flow.payload or self.problem:
            return []
        if self.next is None:
            self.next = flow.sequence           # the capture began inside the connection
        if len(self.chunks) < CHUNKS_MAX:
            self.chunks[flow.sequence] = max(flow.payload, self.chunks.get(flow.sequence, b""), key=len)
        progress = True
        while progress:
            progress = False
            for start, data in list(self.chunks.items()):
                behind = (self.next - start) & 0xFFFFFFFF
                if behind < 0x80000000:
                    del self.chunks[start]
                    if behind < len(data):
                        self.buffer += data[behind:]
                        self.next = (self.next + len(data) - behind) & 0xFFFFFFFF
                        progress = True
        if len(self.buffer) > BUFFER_MAX:
            self.problem = "more octets than a NAS PDU can have"
        pdus = []
        while len(self.buffer) >= 2:
            length = int.from_bytes(self.buffer[:2], "big")
            if len(self.buffer) > 2 and self.buffer[2] not in (EPD_5GMM, EPD_5GSM):
                self.problem = "no NAS behind a length: the capture began inside a PDU"
                self.buffer = b""
                break
            if len(self.buffer) < 2 + length:
                break
            pdus.append(self.buffer[2:2 + length])
            self.buffer = self.buffer[2 + length:]
        return pdus


class NasReader:
    """Feed it the TCP segments of N1 in capture order."""

    def __init__(self, keys: list[NasKeys]) -> None:
        self._keys = keys
        self._streams: dict[tuple[bytes, int, bytes, int], _Stream] = {}
        self.problems: dict[str, int] = {}

    def feed(self, record: int, time_ns: int, flow: Flow) -> list[NasPdu]:
        uplink = flow.destination_port in PORTS
        access = PORTS[flow.destination_port if uplink else flow.source_port]
        key = (flow.source, flow.source_port, flow.destination, flow.destination_port)
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= STREAMS_MAX:
                self._problem("too many TCP connections")
                return []
            stream = self._streams[key] = _Stream()
        had = stream.problem
        out = []
        for data in stream.add(flow):
            pdu = NasPdu(record, time_ns, access, uplink, flow.source, flow.destination, data)
            self._open(pdu)
            out.append(pdu)
        if stream.problem and not had:
            self._problem(stream.problem)
        return out

    def _problem(self, what: str) -> None:
        self.problems[what] = self.problems.get(what, 0) + 1

    def _open(self, pdu: NasPdu) -> None:
        data = pdu.data
        if len(data) < 3:
            pdu.reason = "shorter than a NAS header"
            return
        security = data[1] & 15 if data[0] == EPD_5GMM else 0
        if security == 0:
            pdu.plain = data
            return
        if len(data) < 9:
            pdu.reason = "shorter than a protected NAS message"
            return
        mac, sqn, body, inner = data[2:6], data[6], data[6:], data[7:]
        bearer = BEARER[pdu.access]
        for keys in reversed(self._keys):
            last = keys.counts.get((pdu.access, pdu.uplink), -1)
            first = max(last, 0) >> 8
            for overflow in dict.fromkeys((first, *range(first + 1, first + OVERFLOWS_AHEAD), 0)):
                count = overflow << 8 | sqn
                if nia2(keys.integrity, count, bearer, pdu.uplink, body) == mac:
                    keys.counts[pdu.access, pdu.uplink] = max(last, count)
                    pdu.plain = inner
                    if security in CIPHERED:
                        clear = nea2(keys.encryption, count, bearer, pdu.uplink, inner)
                        null_cipher = inner[:2] == PLAIN_HEADER != clear[:2]    # NEA0 has this header type, too
                        pdu.plain = inner if null_cipher else clear
                    return
        if security in INTEGRITY_ONLY:
            pdu.plain = inner
        pdu.reason = "its MAC verifies under no NAS keys of this run" if self._keys else "no NAS keys"
