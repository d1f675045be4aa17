"""The UPF's configuration, `upf.json` (docs/interfaces.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_interface,
    ip_network,
)
from pathlib import Path
from typing import Literal

from mpquic.psk import Psk, PskMode

MAX_SMFS = 4
MAX_ACCESSES = 4
"""Each access has two sockets, one per IP version, and the engine has eight links."""


@dataclass(frozen=True, slots=True)
class N4Config:
    """`smf`: the addresses that may associate. PFCP has no authentication of its own (TS 33.501 §9.9 wants IPsec on N4)."""

    address: str
    key: Path
    smf: tuple[str, ...]
    port: int = 8805

    def __post_init__(self) -> None:
        IPv4Address(self.address)
        if not 1 <= len(self.smf) <= MAX_SMFS or len(set(self.smf)) != len(self.smf):
            raise ValueError(f"smf: 1 to {MAX_SMFS} different addresses")
        for address in self.smf:
            IPv4Address(address)
        _port(self.port)


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """One access path; addresses with their prefix length."""

    name: str
    type: Literal["3gpp", "non-3gpp"]
    ue_ipv4: str
    upf_ipv4: str
    ue_ipv6: str | None = None
    upf_ipv6: str | None = None

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 100:
            raise ValueError("name: 1 to 100 characters")
        IPv4Interface(self.ue_ipv4)
        IPv4Interface(self.upf_ipv4)
        for address in (self.ue_ipv6, self.upf_ipv6):
            if address is not None:
                IPv6Interface(address)

    @property
    def networks(self) -> list[IPv4Network | IPv6Network]:
        return [ip_interface(text).network for text in (self.upf_ipv4, self.upf_ipv6) if text is not None]

    @property
    def ue_address(self) -> IPv4Address:
        return IPv4Interface(self.ue_ipv4).ip

    @property
    def ue_address6(self) -> IPv6Address | None:
        return None if self.ue_ipv6 is None else IPv6Interface(self.ue_ipv6).ip


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """The MPQUIC proxy's address, the same in every access namespace."""

    ipv4: str
    ipv6: str | None = None
    port: int = 4433

    def __post_init__(self) -> None:
        IPv4Address(self.ipv4)
        if self.ipv6 is not None:
            IPv6Address(self.ipv6)
        _port(self.port)


@dataclass(frozen=True, slots=True)
class RekeyConfig:
    """When the UPF asks for a new key by itself."""

    packets: int = 1 << 40
    """Packets of one connection, all paths, both directions."""

    def __post_init__(self) -> None:
        if self.packets < 1000:
            raise ValueError("packets: at least 1000")


@dataclass(frozen=True, slots=True)
class UpfConfig:
    node: Literal["upf"]
    n4: N4Config
    accesses: tuple[AccessConfig, ...]
    proxy: ProxyConfig
    tun: str = "n6"
    tun_mtu: int = 1280
    psk_mode: Literal["external", "imported"] = "external"
    suites: tuple[str, ...] = ("TLS_AES_128_GCM_SHA256",)
    keylog: Path | None = None
    qlog: Path | None = None
    qlog_detail: Literal["off", "events", "headers", "packets"] = "packets"
    backend: str | None = None
    congestion_control: Literal["cubic", "newreno", "bbr", "lia"] = "cubic"
    ecn: bool = True
    mss_clamp: bool = True
    rekey: RekeyConfig = field(default_factory=RekeyConfig)

    def __post_init__(self) -> None:
        if not 1 <= len(self.accesses) <= MAX_ACCESSES:
            raise ValueError(f"accesses: 1 to {MAX_ACCESSES}")
        if len({a.name for a in self.accesses}) != len(self.accesses):
            raise ValueError("accesses: two have the same name")
        if not 1280 <= self.tun_mtu <= 1500:
            raise ValueError("tun_mtu: 1280 to 1500")
        if not self.suites:
            raise ValueError("suites: at least one")
        try:  # what the first key would meet
            Psk(bytes(32), b"trial", PskMode(self.psk_mode), self.suites)
        except ValueError as error:
            raise ValueError(f"suites: {error}") from None

    def outside(self) -> list[IPv4Network | IPv6Network]:
        """Addresses of the tunnels' outer packets and of the control plane: nothing inside a tunnel goes there (R-39)."""
        addresses = [self.n4.address, *self.n4.smf, self.proxy.ipv4, *filter(None, [self.proxy.ipv6])]
        found: list[IPv4Network | IPv6Network] = [ip_network(address) for address in addresses]
        return found + [network for access in self.accesses for network in access.networks]

    def access(self, name: str) -> AccessConfig | None:
        return next((a for a in self.accesses if a.name == name), None)


def _port(port: int) -> None:
    if not 0 < port <= 0xFFFF:
        raise ValueError("port: 1 to 65535")
