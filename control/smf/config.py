"""smf.json (docs/interfaces.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from control.sbi.client import NfAddress
from control.sbi.tls import SbiConfig

LONGEST_LIFETIME = 86400
SHORTEST_LIFETIME = 60
PROTOCOLS_WITH_PORTS = (6, 17, 33, 132, 136)
"""TCP, UDP, DCCP, SCTP, UDP-Lite"""


@dataclass(frozen=True, slots=True)
class N4Config:
    address: str
    port: int
    upf: str
    upf_port: int
    key: Path

    def __post_init__(self) -> None:
        IPv4Address(self.address)
        IPv4Address(self.upf)
        if not 0 <= self.port < 65536 or not 0 < self.upf_port < 65536:
            raise ValueError("port, upf_port: must be 0..65535 and 1..65535")


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """`ipv4`: addresses one by one; `ipv6`: a /64 per session."""

    ipv4: str
    ipv6: str

    def __post_init__(self) -> None:
        if IPv4Network(self.ipv4).prefixlen > 30:
            raise ValueError("ipv4: must hold at least 4 addresses")
        if IPv6Network(self.ipv6).prefixlen > 62:  # the first two are the network's
            raise ValueError("ipv6: must hold at least four /64")


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """An access path of the UPF: the name is the Network Instance of its rules."""

    name: str
    type: Literal["3gpp", "non-3gpp"]


MEMBERS = {
    "LOAD_BALANCING": {"3gLoad", "thresValue", "steerModeInd"},
    "ACTIVE_STANDBY": {"active", "standby"},
    "SMALLEST_DELAY": set(),
    "PRIORITY_BASED": {"prioAcc", "thresValue"},
    "REDUNDANT": {"primary", "thresValue"},
}
REQUIRED = {"LOAD_BALANCING": "3gLoad", "ACTIVE_STANDBY": "active", "PRIORITY_BASED": "prioAcc"}
"""Of a steering mode: what it may have, and what it must; with AUTO_LOAD_BALANCE the load may be left open."""


@dataclass(frozen=True, slots=True)
class ThresholdConfig:
    """ThresholdValue of TS 29.512: above them an access is not used while the other one is within; with redundant, packets go
    twice while the primary access is above."""

    rtt_ms: int | None = field(default=None, metadata={"json": "rttThres"})
    loss_percent: int | None = field(default=None, metadata={"json": "plrThres"})

    def __post_init__(self) -> None:
        if self.rtt_ms is None and self.loss_percent is None:
            raise ValueError("must have rttThres or plrThres")
        if self.rtt_ms is not None and not 1 <= self.rtt_ms <= 65535:
            raise ValueError("rttThres: must be 1..65535 ms")
        if self.loss_percent is not None and not 0 <= self.loss_percent <= 100:
            raise ValueError("plrThres: must be 0..100 percent")


@dataclass(frozen=True, slots=True)
class ModeConfig:
    """SteeringMode of TS 29.512, as far as it is supported."""

    value: Literal["LOAD_BALANCING", "ACTIVE_STANDBY", "SMALLEST_DELAY", "PRIORITY_BASED", "REDUNDANT"] = field(
        metadata={"json": "steerModeValue"}
    )
    load_3gpp: int | None = field(default=None, metadata={"json": "3gLoad"})
    active: Literal["3GPP_ACCESS", "NON_3GPP_ACCESS"] | None = None
    standby: Literal["3GPP_ACCESS", "NON_3GPP_ACCESS"] | None = None
    priority: Literal["3GPP_ACCESS", "NON_3GPP_ACCESS"] | None = field(default=None, metadata={"json": "prioAcc"})
    thresholds: ThresholdConfig | None = field(default=None, metadata={"json": "thresValue"})
    indicator: Literal["AUTO_LOAD_BALANCE"] | None = field(default=None, metadata={"json": "steerModeInd"})
    primary: Literal["3GPP_ACCESS", "NON_3GPP_ACCESS"] | None = None

    def __post_init__(self) -> None:
        given = {
            "3gLoad": self.load_3gpp,
            "active": self.active,
            "standby": self.standby,
            "prioAcc": self.priority,
            "thresValue": self.thresholds,
            "steerModeInd": self.indicator,
            "primary": self.primary,
        }
        wrong = {name for name, value in given.items() if value is not None} - MEMBERS[self.value]
        if wrong:
            raise ValueError(f"{min(wrong)}: not with {self.value}")
        required = REQUIRED.get(self.value)
        if required is not None and given[required] is None and self.indicator is None:
            raise ValueError(f"{required}: is required with {self.value}")
        if self.load_3gpp is not None and (not 0 <= self.load_3gpp <= 100 or self.load_3gpp % 10):
            raise ValueError("3gLoad: must be 0, 10, … 100")
        if self.standby is not None and self.standby == self.active:
            raise ValueError("standby: must be the other access")
        if self.value == "REDUNDANT" and self.thresholds is not None and self.primary is None:
            raise ValueError("primary: is required with thresValue")
        if self.thresholds is not None and self.indicator is not None:
            raise ValueError("thresValue: not with AUTO_LOAD_BALANCE")


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """One steering rule. `match`: any of "ip" (prefix), "protocol" (number), "port" (n or [low, high]); {} is all."""

    id: int
    precedence: int
    steering: Literal["MPQUIC_IP"]
    mode: ModeConfig
    match: dict[str, Any] = field(default_factory=dict)
    transport: Literal["DATAGRAM_1", "DATAGRAM_2"] = "DATAGRAM_2"
    """With sequence numbers, so that load balancing splits packet by packet; or without: flow by flow."""

    def __post_init__(self) -> None:
        if not 1 <= self.id <= 255:
            raise ValueError("id: must be 1..255")
        if not 0 <= self.precedence <= 255:
            raise ValueError("precedence: must be 0..255")
        if self.mode.value == "REDUNDANT" and self.transport != "DATAGRAM_1":
            raise ValueError("transport: must be DATAGRAM_1 with REDUNDANT: by its number the second copy is known")
        if set(self.match) - {"ip", "protocol", "port"}:
            raise ValueError("match: allowed are ip, protocol, port")
        self.remote, self.protocol, self.ports  # noqa: B018  (each refuses what it cannot be)
        if self.ports is not None and self.protocol not in (None, *PROTOCOLS_WITH_PORTS):
            raise ValueError("match.port: not with a protocol that has no ports: such a rule would match nothing")

    @property
    def remote(self) -> IPv4Network | IPv6Network | None:
        text = self.match.get("ip")
        if text is None:
            return None
        if not isinstance(text, str):
            raise ValueError("match.ip: must be a prefix such as 10.99.0.0/16")
        return IPv6Network(text) if ":" in text else IPv4Network(text)

    @property
    def protocol(self) -> int | None:
        number = self.match.get("protocol")
        if number is not None and (type(number) is not int or not 0 <= number <= 255):
            raise ValueError("match.protocol: must be 0..255")
        return number

    @property
    def ports(self) -> tuple[int, int] | None:
        value = self.match.get("port")
        if value is None:
            return None
        low, high = value if isinstance(value, list) and len(value) == 2 else (value, value)
        if type(low) is not int or type(high) is not int or not 0 <= low <= high <= 65535:
            raise ValueError("match.port: must be a port, or [low, high]")
        return low, high


@dataclass(frozen=True, slots=True)
class RekeyConfig:
    lifetime_s: int = 3600

    def __post_init__(self) -> None:
        if not SHORTEST_LIFETIME <= self.lifetime_s <= LONGEST_LIFETIME:
            raise ValueError(f"lifetime_s: must be {SHORTEST_LIFETIME}..{LONGEST_LIFETIME}")


@dataclass(frozen=True, slots=True)
class SmfConfig:
    node: Literal["smf"]
    sbi: SbiConfig
    amf: NfAddress
    n4: N4Config
    ue_pool: PoolConfig
    dnn: str
    rules: tuple[RuleConfig, ...]
    rekey: RekeyConfig = RekeyConfig()
    accesses: tuple[AccessConfig, ...] = (AccessConfig("3gpp", "3gpp"), AccessConfig("wifi", "non-3gpp"))

    def __post_init__(self) -> None:
        if not 1 <= len(self.rules) <= 16:
            raise ValueError("rules: must be 1 to 16")
        if len({r.id for r in self.rules}) != len(self.rules):
            raise ValueError("rules: two have the same id")
        if len({r.precedence for r in self.rules}) != len(self.rules):
            raise ValueError("rules: two have the same precedence")
        if sorted(a.type for a in self.accesses) != ["3gpp", "non-3gpp"]:
            raise ValueError("accesses: must be one of type 3gpp and one of type non-3gpp")
        if self.accesses[0].name == self.accesses[1].name:
            raise ValueError("accesses: two have the same name")

    def access_name(self, kind: str) -> str:
        return next(a.name for a in self.accesses if a.type == kind)
