"""ATSSS container (TS 24.193 §6.1): the rules that the network gives the UE, and where the MPQUIC proxies are.

    container: identifier (1) │ length (2) │ contents, repeated; 1 rules, 2 network steering functionalities information

Modes and functionalities have the names of PFCP everywhere (fiveg/pfcp/codes.py); the NAS codes stand in the tables
below and nowhere else. Those of MPQUIC, and the place of rule ID and operation, are our reading (docs: limits).
What is malformed is refused as a whole, never half applied: a rule that is not understood would steer wrongly (R-110).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, TypeVar

from fiveg.errors import FivegError
from fiveg.pfcp.codes import ProxyType, SteeringFunctionality, SteeringMode, TransportMode
from fiveg.pfcp.sdf import FlowDescription

Access = Literal["3gpp", "non-3gpp"]
K = TypeVar("K")
ANYTHING = FlowDescription()
MOST_RULES = 32
MOST_PROXIES = 8
RULES, STEERING_INFORMATION = 1, 2

FUNCTIONALITIES: dict[SteeringFunctionality | None, int] = {
    None: 1,  # whatever the UE supports
    SteeringFunctionality.MPTCP: 2,
    SteeringFunctionality.ATSSS_LL: 3,
    SteeringFunctionality.MPQUIC_UDP: 4,
    SteeringFunctionality.MPQUIC_IP: 5,
    SteeringFunctionality.MPQUIC_E: 6,
}
MODES = {
    SteeringMode.ACTIVE_STANDBY: 1,
    SteeringMode.SMALLEST_DELAY: 2,
    SteeringMode.LOAD_BALANCING: 3,
    SteeringMode.PRIORITY_BASED: 4,
    SteeringMode.REDUNDANT: 5,
}
Information = tuple[int | None, Access | None, bool]
"""What the information of a steering mode says: the load over 3GPP in percent, the active, preferred or primary access, whether
the other one is standby."""
INFORMATION: dict[SteeringMode, dict[Information, int]] = {
    SteeringMode.ACTIVE_STANDBY: {
        (None, "3gpp", False): 1,
        (None, "3gpp", True): 2,
        (None, "non-3gpp", False): 3,
        (None, "non-3gpp", True): 4,
    },
    SteeringMode.LOAD_BALANCING: {(100 - 10 * n, None, False): 1 + n for n in range(11)},
    SteeringMode.PRIORITY_BASED: {(None, "3gpp", False): 1, (None, "non-3gpp", False): 2},
    SteeringMode.REDUNDANT: {(None, None, False): 1, (None, "3gpp", False): 2, (None, "non-3gpp", False): 3},
}
"""Modes that are not here have no information. Those of redundant are our reading."""
TRANSPORT_MODES = {mode: int(mode) for mode in TransportMode}
LIMITS, ALBI, UEAI, MAX_RTT, MAX_LOSS = 0x80, 0x01, 0x02, 0x04, 0x08
"""Flags in front of what Rel-17 adds to the information of a mode: autonomous load balance, UE assistance, the thresholds
that follow. b8 tells them from a transport mode. Their place and codes are our reading; contents as in PFCP's IEs 288, 289."""
MATCH_ALL, IPV4_REMOTE, IPV6_REMOTE, PROTOCOL, REMOTE_PORT, REMOTE_PORTS = 0x01, 0x10, 0x21, 0x30, 0x50, 0x51
COMPONENT_LENGTHS = {MATCH_ALL: 0, IPV4_REMOTE: 8, IPV6_REMOTE: 17, PROTOCOL: 1, REMOTE_PORT: 2, REMOTE_PORTS: 4}


class AtsssError(FivegError):
    """An ATSSS container that is refused, or a rule that has no encoding."""


class Operation(IntEnum):
    """Of a rule; the codes are our reading"""

    ADD = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class AtsssRule:
    """One rule. `load_3gpp` (percent) for load balancing; `active` for active-standby and priority, and the primary access of
    redundant, if it has one; `standby`: the other access is one. `functionality` None: the UE's choice. Of the indicators one at
    most; thresholds in ms and percent. A deleted rule has nothing but its ID."""

    rule_id: int
    precedence: int = 0
    flow: FlowDescription = ANYTHING
    functionality: SteeringFunctionality | None = SteeringFunctionality.MPQUIC_IP
    mode: SteeringMode = SteeringMode.LOAD_BALANCING
    load_3gpp: int | None = None
    active: Access | None = None
    standby: bool = False
    transport: TransportMode | None = None
    operation: Operation = Operation.ADD
    autonomous: bool = False
    ue_assistance: bool = False
    max_rtt_ms: int | None = None
    max_loss_percent: int | None = None

    def encode(self) -> bytes:
        if not 1 <= self.rule_id <= 255 or not 0 <= self.precedence <= 255:
            raise AtsssError("a rule ID is 1 to 255, a precedence 0 to 255")
        if self.operation is Operation.DELETE:
            return _with_length(bytes((self.rule_id, self.operation)), 2)
        where = f"rule {self.rule_id}"
        descriptor = bytes((FUNCTIONALITIES[self.functionality], MODES[self.mode]))
        codes = INFORMATION.get(self.mode)
        if codes is not None:
            information = (self.load_3gpp, self.active, self.standby)
            if information not in codes:
                raise AtsssError(f"{where}: {self.mode.name} with load, access, standby {information} has no code")
            descriptor += bytes((codes[information],))
        descriptor += self._limits(where)
        if self.transport is not None:
            descriptor += bytes((TRANSPORT_MODES[self.transport],))
        head = bytes((self.rule_id, self.operation, self.precedence))
        return _with_length(head + _with_length(_traffic(self.flow), 2) + _with_length(descriptor, 1), 2)

    def _limits(self, where: str) -> bytes:
        """flags (1) [│ round-trip time (2, ms)] [│ packet loss rate (1, %)]; nothing when none is set"""
        _check_limits(self, where)
        flags = ALBI * self.autonomous | UEAI * self.ue_assistance
        flags |= MAX_RTT * (self.max_rtt_ms is not None) | MAX_LOSS * (self.max_loss_percent is not None)
        if not flags:
            return b""
        out = bytes((LIMITS | flags,))
        if self.max_rtt_ms is not None:
            out += self.max_rtt_ms.to_bytes(2, "big")
        return out if self.max_loss_percent is None else out + bytes((self.max_loss_percent,))

    @classmethod
    def decode(cls, data: bytes) -> AtsssRule:
        if len(data) < 2 or not data[0]:
            raise AtsssError("an ATSSS rule without ID and operation")
        if data[1] == Operation.DELETE:
            if len(data) != 2:
                raise AtsssError(f"rule {data[0]}: a deletion with {len(data) - 2} octets more")
            return cls(data[0], operation=Operation.DELETE)
        if data[1] != Operation.ADD:
            raise AtsssError(f"rule {data[0]}: operation {data[1]} is unknown")
        where = f"rule {data[0]}"
        if len(data) < 5:
            raise AtsssError(f"{where}: cut off")
        end = 5 + int.from_bytes(data[3:5], "big")
        if end + 3 > len(data):
            raise AtsssError(f"{where}: cut off")
        flow = _flow(data[5:end], where)
        descriptor = data[end + 1 :]
        # Readings differ on whether the length counts itself.
        if data[end] not in (len(descriptor), len(descriptor) + 1):
            raise AtsssError(f"{where}: access selection descriptor of {data[end]} octets, {len(descriptor)} are there")
        return _described(cls(data[0], data[2], flow), descriptor, where)


def _described(rule: AtsssRule, data: bytes, where: str) -> AtsssRule:
    functionality = _name(FUNCTIONALITIES, data[0], f"{where}: steering functionality")
    mode = _name(MODES, data[1], f"{where}: steering mode")
    information: Information = (None, None, False)
    at = 2
    if mode in INFORMATION:
        if len(data) < 3:
            raise AtsssError(f"{where}: {mode.name} lacks its information")
        information, at = _name(INFORMATION[mode], data[2], f"{where}: {mode.name} information"), 3
    flags = data[at] if len(data) > at and data[at] & LIMITS else 0
    rtt = loss = None
    if flags & ~(LIMITS | ALBI | UEAI | MAX_RTT | MAX_LOSS):
        raise AtsssError(f"{where}: indicators and thresholds {flags:#04x} are unknown")
    at += bool(flags)
    if flags & MAX_RTT:
        rtt, at = int.from_bytes(data[at : at + 2], "big"), at + 2
    if flags & MAX_LOSS:
        loss, at = int.from_bytes(data[at : at + 1], "big"), at + 1
    if len(data) < at:
        raise AtsssError(f"{where}: the thresholds are cut off")
    if len(data) > at + 1:
        raise AtsssError(f"{where}: {len(data) - at - 1} octets too many in the access selection descriptor")
    transport = _name(TRANSPORT_MODES, data[at], f"{where}: transport mode") if len(data) == at + 1 else None
    made = AtsssRule(
        rule.rule_id,
        rule.precedence,
        rule.flow,
        functionality,
        mode,
        *information,
        transport,
        autonomous=bool(flags & ALBI),
        ue_assistance=bool(flags & UEAI),
        max_rtt_ms=rtt,
        max_loss_percent=loss,
    )
    _check_limits(made, where)
    return made


def _check_limits(rule: AtsssRule, where: str) -> None:
    if rule.autonomous and rule.ue_assistance:
        raise AtsssError(f"{where}: both autonomous load balance and UE assistance (TS 29.244 §8.2.197: one at most)")
    if rule.max_rtt_ms is not None and not 0 <= rule.max_rtt_ms <= 0xFFFF:
        raise AtsssError(f"{where}: a round-trip time of {rule.max_rtt_ms} ms is not in 0..65535")
    if rule.max_loss_percent is not None and not 0 <= rule.max_loss_percent <= 100:
        raise AtsssError(f"{where}: a packet loss rate of {rule.max_loss_percent} % is not in 0..100")


@dataclass(frozen=True, slots=True)
class ProxyEntry:
    """An MPQUIC proxy (codes of ProxyType)."""

    ipv4: IPv4Address | None
    ipv6: IPv6Address | None
    port: int
    proxy_type: ProxyType

    def encode(self) -> bytes:
        if (self.ipv4 is None and self.ipv6 is None) or not 1 <= self.port <= 65535:
            raise AtsssError("an MPQUIC proxy has an address, and a port from 1 to 65535")
        return _address(self.ipv4, self.ipv6) + self.port.to_bytes(2, "big") + bytes((self.proxy_type,))


@dataclass(frozen=True, slots=True)
class SteeringInformation:
    """Network steering functionalities information. MPQUIC-IP needs no UE link-specific addresses: type 0, none."""

    proxies: tuple[ProxyEntry, ...] = ()

    def encode(self) -> bytes:
        if len(self.proxies) > MOST_PROXIES:
            raise AtsssError(f"more than {MOST_PROXIES} proxies")
        return b"\x00\x00" + b"\x00" + _with_length(b"".join(p.encode() for p in self.proxies), 1)

    @classmethod
    def decode(cls, data: bytes) -> SteeringInformation:
        at = _skip_address(data, _skip_address(data, 0))
        for what in ("MPTCP", "MPQUIC"):
            if at >= len(data):
                return cls()  # a network without MPQUIC ends before its list
            end = at + 1 + data[at]
            if end > len(data):
                raise AtsssError(f"the list of {what} proxies is cut off")
            entries, at = data[at + 1 : end], end
        return cls(tuple(_proxies(entries)))


@dataclass(frozen=True, slots=True)
class AtsssContainer:
    rules: tuple[AtsssRule, ...] = ()
    information: SteeringInformation | None = None

    def encode(self) -> bytes:
        _check_rules(self.rules)
        out = b""
        if self.rules:
            out += bytes((RULES,)) + _with_length(b"".join(r.encode() for r in self.rules), 2)
        if self.information is not None:
            out += bytes((STEERING_INFORMATION,)) + _with_length(self.information.encode(), 2)
        return out

    @classmethod
    def decode(cls, data: bytes) -> AtsssContainer:
        """Raises AtsssError and nothing else."""
        rules: tuple[AtsssRule, ...] = ()
        information: SteeringInformation | None = None
        seen: set[int] = set()
        at = 0
        while at < len(data):
            if at + 3 > len(data):
                raise AtsssError("the ATSSS container is cut off")
            identifier, end = data[at], at + 3 + int.from_bytes(data[at + 1 : at + 3], "big")
            contents, at = data[at + 3 : end], end
            if end > len(data):
                raise AtsssError("the ATSSS container is cut off")
            if identifier in seen and identifier in (RULES, STEERING_INFORMATION):
                raise AtsssError(f"parameter {identifier} stands twice in the ATSSS container")
            seen.add(identifier)
            if identifier == RULES:
                rules = tuple(_rules(contents))
                _check_rules(rules)
            elif identifier == STEERING_INFORMATION:
                information = SteeringInformation.decode(contents)
        return cls(rules, information)


def _rules(data: bytes) -> Iterator[AtsssRule]:
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise AtsssError("an ATSSS rule is cut off")
        yield AtsssRule.decode(data[at + 2 : end])
        at = end


def _check_rules(rules: tuple[AtsssRule, ...]) -> None:
    if len(rules) > MOST_RULES:
        raise AtsssError(f"{len(rules)} rules, at most {MOST_RULES} can be")
    if len({r.rule_id for r in rules}) != len(rules):
        raise AtsssError("two rules have the same ID")
    added = [r.precedence for r in rules if r.operation is Operation.ADD]
    if len(set(added)) != len(added):
        raise AtsssError("two rules have the same precedence")


def _traffic(flow: FlowDescription) -> bytes:
    """Traffic descriptor with the components of TS 24.526 §5.2; several are ANDed"""
    out = b""
    match flow.remote:
        case IPv4Network():
            out += bytes((IPV4_REMOTE,)) + flow.remote.network_address.packed + flow.remote.netmask.packed
        case IPv6Network():
            out += bytes((IPV6_REMOTE,)) + flow.remote.network_address.packed + bytes((flow.remote.prefixlen,))
    if flow.protocol is not None:
        out += bytes((PROTOCOL, flow.protocol))
    if flow.port is not None:
        low, high = (p.to_bytes(2, "big") for p in flow.port)
        out += bytes((REMOTE_PORT,)) + low if low == high else bytes((REMOTE_PORTS,)) + low + high
    return out or bytes((MATCH_ALL,))


def _flow(data: bytes, where: str) -> FlowDescription:
    protocol: int | None = None
    remote: IPv4Network | IPv6Network | None = None
    port: tuple[int, int] | None = None
    seen: set[int] = set()
    at = 0
    while at < len(data):
        kind = data[at]
        length = COMPONENT_LENGTHS.get(kind)
        if length is None:
            raise AtsssError(f"{where}: traffic descriptor component {kind:#04x} is unknown")
        value, at = data[at + 1 : at + 1 + length], at + 1 + length
        group = kind & 0xF0 if kind != IPV6_REMOTE else IPV4_REMOTE  # one remote address, one protocol, one port
        if len(value) != length or group in seen:
            raise AtsssError(f"{where}: traffic descriptor component {kind:#04x} is cut off or stands twice")
        seen.add(group)
        try:
            if kind == IPV4_REMOTE:
                remote = IPv4Network((value[:4], str(IPv4Address(value[4:]))))
                if remote.netmask.packed != value[4:]:
                    raise ValueError("not a netmask")
            elif kind == IPV6_REMOTE:
                remote = IPv6Network((value[:16], value[16]))
            elif kind == PROTOCOL:
                protocol = value[0]
            elif kind in (REMOTE_PORT, REMOTE_PORTS):
                port = (int.from_bytes(value[:2], "big"), int.from_bytes(value[-2:], "big"))
                if port[0] > port[1]:
                    raise ValueError(f"ports {port[0]}-{port[1]}")
        except ValueError as e:
            raise AtsssError(f"{where}: {e}") from None
    if not seen or (0 in seen and len(seen) > 1):
        raise AtsssError(f"{where}: a traffic descriptor has match-all or other components, and at least one")
    return FlowDescription(protocol, remote, port)


def _address(ipv4: IPv4Address | None, ipv6: IPv6Address | None) -> bytes:
    kind = (1 if ipv4 is not None else 0) | (2 if ipv6 is not None else 0)
    return bytes((kind,)) + (ipv4.packed if ipv4 else b"") + (ipv6.packed if ipv6 else b"")


def _skip_address(data: bytes, at: int) -> int:
    """Where the address that begins at `at` ends: type (1; 0 none), IPv4 if bit 1, IPv6 if bit 2"""
    if at >= len(data) or data[at] > 3:
        raise AtsssError("an address is missing or of an unknown type")
    end = at + 1 + 4 * (data[at] & 1) + 16 * (data[at] >> 1)
    if end > len(data):
        raise AtsssError(f"an address of {end - at} octets is cut off, {len(data) - at} are there")
    return end


def _proxies(data: bytes) -> Iterator[ProxyEntry]:
    at, count = 0, 0
    while at < len(data):
        end, count = _skip_address(data, at), count + 1
        if not data[at] or end + 3 > len(data) or count > MOST_PROXIES:
            raise AtsssError("an MPQUIC proxy without address, cut off, or one too many")
        has_ipv4, has_ipv6 = data[at] & 1, data[at] >> 1
        ipv4 = IPv4Address(data[at + 1 : at + 5]) if has_ipv4 else None
        ipv6 = IPv6Address(data[end - 16 : end]) if has_ipv6 else None
        port = int.from_bytes(data[end : end + 2], "big")
        try:
            kind = ProxyType(data[end + 2])
        except ValueError:
            raise AtsssError(f"MPQUIC proxy of type {data[end + 2]} is unknown") from None
        if not port:
            raise AtsssError("an MPQUIC proxy at port 0")
        yield ProxyEntry(ipv4, ipv6, port, kind)
        at = end + 3


def _with_length(data: bytes, size: int) -> bytes:
    if len(data) >= 1 << 8 * size:
        raise AtsssError(f"{len(data)} octets do not fit a length of {size}")
    return len(data).to_bytes(size, "big") + data


def _name(table: Mapping[K, int], code: int, what: str) -> K:
    for name, known in table.items():
        if known == code:
            return name
    raise AtsssError(f"{what} {code} is unknown")
