"""Values of single IEs that are more than a number: each a dataclass with its wire layout (TS 29.244 §8.2)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Self

from fiveg.pfcp.codec import LABELS, Enumeration, need
from fiveg.pfcp.codes import AccessType, ProxyType, RuleKind, UpFeature
from fiveg.pfcp.errors import IeIncorrect, InvalidLength

RULE_KIND = Enumeration(RuleKind, 0x1F)
RULE_ID_SIZES = {RuleKind.PDR: 2, RuleKind.MAR: 2, RuleKind.BAR: 1, RuleKind.SRR: 1}
"""Octets of a rule ID where they are not 4"""
PROXY_TYPE = Enumeration(ProxyType)


class Reader:
    """Takes octets off the front of a value; running out is InvalidLength."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def take(self, size: int) -> bytes:
        need(self._data, size)
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def uint(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def ipv4(self) -> IPv4Address:
        return IPv4Address(self.take(4))

    def ipv6(self) -> IPv6Address:
        return IPv6Address(self.take(16))

    @property
    def left(self) -> int:
        return len(self._data)


@dataclass(frozen=True, slots=True)
class NodeId:
    """type (low nibble: 0 IPv4, 1 IPv6, 2 FQDN) ‖ address or labels (§8.2.38)"""

    value: IPv4Address | IPv6Address | str

    def encode(self) -> bytes:
        if isinstance(self.value, IPv4Address):
            return b"\x00" + self.value.packed
        if isinstance(self.value, IPv6Address):
            return b"\x01" + self.value.packed
        return b"\x02" + LABELS.encode(self.value)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        kind = reader.uint(1) & 0x0F
        if kind == 0:
            return cls(reader.ipv4())
        if kind == 1:
            return cls(reader.ipv6())
        if kind == 2:
            return cls(LABELS.decode(reader.take(reader.left)))
        raise IeIncorrect(f"node ID type {kind} is unknown")


@dataclass(frozen=True, slots=True)
class FSeid:
    """flags (V6 b1, V4 b2) ‖ SEID (8) ‖ IPv4 ‖ IPv6 (§8.2.37)"""

    seid: int
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None

    def encode(self) -> bytes:
        if not 0 < self.seid < 1 << 64:
            raise IeIncorrect("SEID 0 names no session")
        if self.ipv4 is None and self.ipv6 is None:
            raise IeIncorrect("F-SEID without an address")
        flags = (2 if self.ipv4 else 0) | (1 if self.ipv6 else 0)
        out = bytes((flags,)) + self.seid.to_bytes(8, "big")
        return out + (self.ipv4.packed if self.ipv4 else b"") + (self.ipv6.packed if self.ipv6 else b"")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags, seid = reader.uint(1), reader.uint(8)
        if not flags & 3:
            raise IeIncorrect("F-SEID without an address")
        if seid == 0:
            raise IeIncorrect("SEID 0 names no session")
        return cls(seid, reader.ipv4() if flags & 2 else None, reader.ipv6() if flags & 1 else None)


@dataclass(frozen=True, slots=True)
class FTeid:
    """flags (V4 b1, V6 b2, CH b3, CHID b4) ‖ TEID (4) ‖ addresses; CH: no TEID, then CHOOSE ID if CHID (§8.2.3)"""

    teid: int = 0
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    choose_ipv4: bool = False
    choose_ipv6: bool = False
    choose_id: int | None = None

    def encode(self) -> bytes:
        if self.choose_ipv4 or self.choose_ipv6:
            flags = (1 if self.choose_ipv4 else 0) | (2 if self.choose_ipv6 else 0) | 4
            return bytes((flags,)) if self.choose_id is None else bytes((flags | 8, self.choose_id))
        flags = (1 if self.ipv4 else 0) | (2 if self.ipv6 else 0)
        if not flags:
            raise IeIncorrect("F-TEID without an address")
        out = bytes((flags,)) + self.teid.to_bytes(4, "big")
        return out + (self.ipv4.packed if self.ipv4 else b"") + (self.ipv6.packed if self.ipv6 else b"")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(1)
        if not flags & 3:
            raise IeIncorrect("F-TEID without an address")
        if flags & 4:
            choose_id = reader.uint(1) if flags & 8 else None
            return cls(choose_ipv4=bool(flags & 1), choose_ipv6=bool(flags & 2), choose_id=choose_id)
        teid = reader.uint(4)
        return cls(teid, reader.ipv4() if flags & 1 else None, reader.ipv6() if flags & 2 else None)


@dataclass(frozen=True, slots=True)
class UeIpAddress:
    """flags (V6 b1, V4 b2, S/D b3, IPv6D b4, CHV4 b5, CHV6 b6, IP6PL b7) ‖ IPv4 ‖ IPv6 ‖ delegation bits ‖
    prefix length (§8.2.62)"""

    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    destination: bool = False
    delegation_bits: int | None = None
    prefix_length: int | None = None
    choose_ipv4: bool = False
    choose_ipv6: bool = False

    def encode(self) -> bytes:
        flags = (1 if self.ipv6 else 0) | (2 if self.ipv4 else 0) | (4 if self.destination else 0)
        flags |= (8 if self.delegation_bits is not None else 0) | (16 if self.choose_ipv4 else 0)
        flags |= (32 if self.choose_ipv6 else 0) | (64 if self.prefix_length is not None else 0)
        out = bytes((flags,)) + (self.ipv4.packed if self.ipv4 else b"") + (self.ipv6.packed if self.ipv6 else b"")
        out += b"" if self.delegation_bits is None else bytes((self.delegation_bits,))
        out += b"" if self.prefix_length is None else bytes((self.prefix_length,))
        self._check()
        return out

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(1)
        ipv4 = reader.ipv4() if flags & 2 else None
        ipv6 = reader.ipv6() if flags & 1 else None
        bits = reader.uint(1) if flags & 8 else None
        length = reader.uint(1) if flags & 64 else None
        value = cls(ipv4, ipv6, bool(flags & 4), bits, length, bool(flags & 16), bool(flags & 32))
        value._check()
        return value

    def _check(self) -> None:
        if not (self.ipv4 or self.ipv6 or self.choose_ipv4 or self.choose_ipv6):
            raise IeIncorrect("UE IP address without an address")
        if (self.ipv4 and self.choose_ipv4) or (self.ipv6 and self.choose_ipv6):
            raise IeIncorrect("UE IP address both given and to be chosen")
        if self.prefix_length is not None and self.prefix_length > 128:
            raise IeIncorrect(f"IPv6 prefix length {self.prefix_length}")


@dataclass(frozen=True, slots=True)
class SdfFilter:
    """flags (FD b1, TTC b2, SPI b3, FL b4, BID b5) ‖ spare ‖ length (2), flow description ‖ ToS, mask ‖ SPI (4) ‖
    flow label (3) ‖ filter ID (4) (§8.2.5). The flow description is text: fiveg.pfcp.sdf reads it."""

    flow: str | None = None
    tos: tuple[int, int] | None = None
    spi: int | None = None
    flow_label: int | None = None
    filter_id: int | None = None

    def encode(self) -> bytes:
        flags = 0
        out = bytearray()
        if self.flow is not None:
            flags |= 1
            text = self.flow.encode()
            out += len(text).to_bytes(2, "big") + text
        if self.tos is not None:
            flags |= 2
            out += bytes(self.tos)
        if self.spi is not None:
            flags |= 4
            out += self.spi.to_bytes(4, "big")
        if self.flow_label is not None:
            flags |= 8
            out += self.flow_label.to_bytes(3, "big")
        if self.filter_id is not None:
            flags |= 16
            out += self.filter_id.to_bytes(4, "big")
        return bytes((flags, 0)) + out

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(2) >> 8
        flow = None
        if flags & 1:
            try:
                flow = reader.take(reader.uint(2)).decode("ascii")
            except UnicodeDecodeError:
                raise IeIncorrect("flow description is not ASCII") from None
        tos = (reader.uint(1), reader.uint(1)) if flags & 2 else None
        spi = reader.uint(4) if flags & 4 else None
        label = reader.uint(3) if flags & 8 else None
        return cls(flow, tos, spi, label, reader.uint(4) if flags & 16 else None)


@dataclass(frozen=True, slots=True)
class BitRate:
    """MBR, GBR: UL (5) ‖ DL (5), kbit/s (§8.2.8)"""

    uplink: int
    downlink: int

    def encode(self) -> bytes:
        return self.uplink.to_bytes(5, "big") + self.downlink.to_bytes(5, "big")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        return cls(reader.uint(5), reader.uint(5))


@dataclass(frozen=True, slots=True)
class GateStatus:
    """UL b4-3, DL b2-1: 0 open, 1 closed (§8.2.7)"""

    uplink_closed: bool = False
    downlink_closed: bool = False

    def encode(self) -> bytes:
        return bytes((self.uplink_closed << 2 | self.downlink_closed,))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        octet = Reader(data).uint(1)
        if octet & 0b1010:
            raise IeIncorrect(f"gate status {octet & 15}")
        return cls(bool(octet & 4), bool(octet & 1))


@dataclass(frozen=True, slots=True)
class OuterHeaderCreation:
    """description (2) ‖ TEID (4, GTP-U) ‖ IPv4 ‖ IPv6 ‖ port (2, UDP) (§8.2.56)"""

    teid: int | None = None
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    port: int | None = None

    def encode(self) -> bytes:
        gtp = self.teid is not None
        if gtp == (self.port is not None) or not (self.ipv4 or self.ipv6):
            raise IeIncorrect("outer header is GTP-U with a TEID or UDP with a port, to an address")
        flags = (1 if gtp else 4) * bool(self.ipv4) | (2 if gtp else 8) * bool(self.ipv6)
        out = bytes((flags, 0)) + (b"" if self.teid is None else self.teid.to_bytes(4, "big"))
        out += (self.ipv4.packed if self.ipv4 else b"") + (self.ipv6.packed if self.ipv6 else b"")
        return out + (b"" if self.port is None else self.port.to_bytes(2, "big"))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(2) >> 8
        if bool(flags & 3) == bool(flags & 12) or flags & 0xF0:
            raise IeIncorrect(f"outer header description {flags:#04x}")
        teid = reader.uint(4) if flags & 3 else None
        ipv4 = reader.ipv4() if flags & 5 else None
        ipv6 = reader.ipv6() if flags & 10 else None
        return cls(teid, ipv4, ipv6, reader.uint(2) if flags & 12 else None)


@dataclass(frozen=True, slots=True)
class FailedRule:
    """rule ID type (5 bits) ‖ rule ID, 2 octets for PDR, MAR and 1 for BAR, SRR, else 4 (§8.2.80)"""

    kind: RuleKind
    id: int

    def encode(self) -> bytes:
        return bytes((self.kind,)) + self.id.to_bytes(RULE_ID_SIZES.get(self.kind, 4), "big")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        kind = RULE_KIND.decode(reader.take(1))
        return cls(kind, reader.uint(RULE_ID_SIZES.get(kind, 4)))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """flags (RTT b1, PLR b2) ‖ RTT (2, ms) ‖ packet loss rate (1, %) (§8.2.196)"""

    rtt_ms: int | None = None
    loss_percent: int | None = None

    def encode(self) -> bytes:
        self._check()
        flags = (self.rtt_ms is not None) | (self.loss_percent is not None) << 1
        out = bytes((flags,)) + (b"" if self.rtt_ms is None else self.rtt_ms.to_bytes(2, "big"))
        return out + (b"" if self.loss_percent is None else bytes((self.loss_percent,)))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(1)
        rtt = reader.uint(2) if flags & 1 else None
        loss = reader.uint(1) if flags & 2 else None
        value = cls(rtt, loss)
        value._check()
        return value

    def _check(self) -> None:
        if self.rtt_ms is None and self.loss_percent is None:
            raise IeIncorrect("thresholds without a threshold")
        if self.loss_percent is not None and not 0 <= self.loss_percent <= 100:
            raise IeIncorrect(f"packet loss rate {self.loss_percent} is not in 0..100 percent")


@dataclass(frozen=True, slots=True)
class SNssai:
    """SST (1) ‖ SD (3; ffffff = none) (§8.2.176)"""

    sst: int
    sd: int | None = None

    def encode(self) -> bytes:
        return bytes((self.sst,)) + (0xFFFFFF if self.sd is None else self.sd).to_bytes(3, "big")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        sst, sd = reader.uint(1), reader.uint(3)
        return cls(sst, None if sd == 0xFFFFFF else sd)


@dataclass(frozen=True, slots=True)
class UserId:
    """flags (IMSIF b1, IMEIF b2, MSISDNF b3, NAIF b4) ‖ per flag: length (1) ‖ value (§8.2.101). Only NAI is ours."""

    nai: str | None = None

    def encode(self) -> bytes:
        if self.nai is None:
            return b"\x00"
        text = self.nai.encode()
        if len(text) > 255:
            raise InvalidLength("NAI is longer than 255 octets")
        return bytes((8, len(text))) + text

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(1)
        for bit in (1, 2, 4):
            if flags & bit:
                reader.take(reader.uint(1))
        if not flags & 8:
            return cls()
        try:
            return cls(reader.take(reader.uint(1)).decode())
        except UnicodeDecodeError:
            raise IeIncorrect("NAI is not UTF-8") from None


@dataclass(frozen=True, slots=True)
class AccessAvailability:
    """access type b2-1, status b4-3 (0 became unavailable, 1 available) (§8.2.153)"""

    access: AccessType
    available: bool

    def encode(self) -> bytes:
        return bytes((self.access | self.available << 2,))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        octet = Reader(data).uint(1)
        if octet & 0b1010:
            raise IeIncorrect(f"access availability {octet:#04x}")
        return cls(AccessType(octet & 1), bool(octet & 4))


@dataclass(frozen=True, slots=True)
class LinkSpecificAddress:
    """flags (V4 b1, V6 b2, NV4 b3, NV6 b4) ‖ v4 and v6 for 3GPP ‖ v4 and v6 for non-3GPP (§8.2.158)"""

    ipv4_3gpp: IPv4Address | None = None
    ipv6_3gpp: IPv6Address | None = None
    ipv4_non_3gpp: IPv4Address | None = None
    ipv6_non_3gpp: IPv6Address | None = None

    def encode(self) -> bytes:
        parts = (self.ipv4_3gpp, self.ipv6_3gpp, self.ipv4_non_3gpp, self.ipv6_non_3gpp)
        flags = sum(1 << bit for bit, part in enumerate(parts) if part is not None)
        if not flags:
            raise IeIncorrect("link-specific address without an address")
        return bytes((flags,)) + b"".join(part.packed for part in parts if part is not None)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags = reader.uint(1)
        if not flags & 15:
            raise IeIncorrect("link-specific address without an address")
        v4 = reader.ipv4() if flags & 1 else None
        v6 = reader.ipv6() if flags & 2 else None
        n4 = reader.ipv4() if flags & 4 else None
        return cls(v4, v6, n4, reader.ipv6() if flags & 8 else None)


@dataclass(frozen=True, slots=True)
class MpquicAddress:
    """flags (V4 b1, V6 b2) ‖ proxy type (1) ‖ proxy UDP port (2) ‖ IPv4 ‖ IPv6 (§8.2.226)"""

    proxy_type: ProxyType
    port: int
    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None

    def encode(self) -> bytes:
        flags = (1 if self.ipv4 else 0) | (2 if self.ipv6 else 0)
        if not flags or not 0 < self.port <= 0xFFFF:
            raise IeIncorrect("MPQUIC proxy without an address or port")
        out = bytes((flags, self.proxy_type)) + self.port.to_bytes(2, "big")
        return out + (self.ipv4.packed if self.ipv4 else b"") + (self.ipv6.packed if self.ipv6 else b"")

    @classmethod
    def decode(cls, data: bytes) -> Self:
        reader = Reader(data)
        flags, kind, port = reader.uint(1), PROXY_TYPE.decode(reader.take(1)), reader.uint(2)
        if not flags & 3 or not port:
            raise IeIncorrect("MPQUIC proxy without an address or port")
        return cls(kind, port, reader.ipv4() if flags & 1 else None, reader.ipv6() if flags & 2 else None)


class UpFeatures:
    """UP Function Features as a set; written with 10 octets so that the MPQUIC bits have room (§8.2.25)."""

    def encode(self, value: frozenset[UpFeature]) -> bytes:
        out = bytearray(10)
        for feature in value:
            octet, bit = feature.value
            out[octet - 5] |= 1 << (bit - 1)
        return bytes(out)

    def decode(self, data: bytes) -> frozenset[UpFeature]:
        need(data, 1)
        padded = data + bytes(10)
        return frozenset(f for f in UpFeature if padded[f.value[0] - 5] >> (f.value[1] - 1) & 1)
