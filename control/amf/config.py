"""amf.json (docs/interfaces.md)."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from control.sbi.client import NfAddress
from control.sbi.tls import SbiConfig
from node.subscriber import Plmn

MOST_SUBSCRIBERS = 10_000


@dataclass(frozen=True, slots=True)
class N1Config:
    """A listener; the port says which access a connection comes over."""

    access: Literal["3gpp", "non-3gpp"]
    address: str
    port: int

    def __post_init__(self) -> None:
        ip_address(self.address)  # ValueError: neither IPv4 nor IPv6
        if not 0 <= self.port < 65536:
            raise ValueError("port: must be 0..65535")


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """How K_MPQUIC is derived and brought to the UE. `fc`: one octet, or `FFxx` (TS 33.220 B.2.0)."""

    fc: str = "f0"
    bind: Literal["none", "session"] = "none"
    mode: Literal["delivered", "derived"] = "delivered"
    lifetime_s: int = 3600

    def __post_init__(self) -> None:
        try:
            octets = bytes.fromhex(self.fc)
        except ValueError:
            raise ValueError("fc: must be hex") from None
        if not ((len(octets) == 1 and octets != b"\xff") or (len(octets) == 2 and octets[0] == 0xFF)):
            raise ValueError("fc: must be one octet but not ff, or ff and one more")
        if not 60 <= self.lifetime_s <= 86400:
            raise ValueError("lifetime_s: must be 60..86400")

    @property
    def fc_octets(self) -> bytes:
        return bytes.fromhex(self.fc)


@dataclass(frozen=True, slots=True)
class AmfConfig:
    node: Literal["amf"]
    plmn: Plmn
    n1: tuple[N1Config, ...]
    sbi: SbiConfig
    smf: NfAddress
    subscribers: Path
    key: KeyConfig = KeyConfig()
    implicit_deregistration_s: int = 58 * 60
    """how long a UE may be without any access: T3512 (54 min) and the 4 min that TS 24.501 §5.3.7 adds"""

    def __post_init__(self) -> None:
        if not self.n1:
            raise ValueError("n1: must be at least one listener")
        if not 1 <= self.implicit_deregistration_s <= 86400:
            raise ValueError("implicit_deregistration_s: must be 1..86400")
