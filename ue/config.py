"""The UE's configuration, `ue.json` (docs/interfaces.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from mpquic.psk import Psk, PskMode
from node.subscriber import Plmn

MAX_ACCESSES = 2
"""One per access type (TS 23.501 §5.32.1)"""
MOST_PDU_SESSION_ID = 15
IFNAMSIZ = 15


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """One access: the UE's address and device there, and where the AMF listens for this access type."""

    name: str
    type: Literal["3gpp", "non-3gpp"]
    address: str
    device: str
    amf: str
    amf_port: int
    address6: str | None = None

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 100:
            raise ValueError("name: 1 to 100 characters")
        if not self.device or len(self.device) > IFNAMSIZ:
            raise ValueError(f"device: 1 to {IFNAMSIZ} characters")
        IPv4Address(self.address)
        IPv4Address(self.amf)
        if self.address6 is not None:
            IPv6Address(self.address6)
        if not 0 < self.amf_port <= 0xFFFF:
            raise ValueError("amf_port: 1 to 65535")


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """The MA PDU session that the UE asks for."""

    id: int = 5
    dnn: str = "internet"
    type: Literal["IPv4", "IPv6", "IPv4v6"] = "IPv4v6"

    def __post_init__(self) -> None:
        if not 1 <= self.id <= MOST_PDU_SESSION_ID:
            raise ValueError(f"id: 1 to {MOST_PDU_SESSION_ID}")
        if not 1 <= len(self.dnn) <= 100:
            raise ValueError("dnn: 1 to 100 characters")


@dataclass(frozen=True, slots=True)
class KeyConfig:
    """How K_MPQUIC is derived when only P0 comes over NAS; as in amf.json."""

    fc: str = "f0"
    bind: Literal["none", "session"] = "none"

    def __post_init__(self) -> None:
        try:
            octets = bytes.fromhex(self.fc)
        except ValueError:
            raise ValueError("fc: must be hex") from None
        if not ((len(octets) == 1 and octets != b"\xff") or (len(octets) == 2 and octets[0] == 0xFF)):
            raise ValueError("fc: must be one octet but not ff, or ff and one more")

    @property
    def fc_octets(self) -> bytes:
        return bytes.fromhex(self.fc)


@dataclass(frozen=True, slots=True)
class UeConfig:
    """`nas_keys`: only for captures, the NAS keys of each security context are appended there (mode 0600).
    `probe_spent_key`: the last spent key is kept for the verb of this name. `test_verbs`: for tests alone."""

    node: Literal["ue"]
    subscriber: Path
    plmn: Plmn
    accesses: tuple[AccessConfig, ...]
    session: SessionConfig = field(default_factory=SessionConfig)
    tun: str = "mpq0"
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
    key: KeyConfig = field(default_factory=KeyConfig)
    nas_keys: Path | None = None
    probe_spent_key: bool = False
    test_verbs: bool = False

    def __post_init__(self) -> None:
        if not 1 <= len(self.accesses) <= MAX_ACCESSES:
            raise ValueError(f"accesses: 1 to {MAX_ACCESSES}")
        for what, values in (("name", [a.name for a in self.accesses]), ("type", [a.type for a in self.accesses])):
            if len(set(values)) != len(values):
                raise ValueError(f"accesses: two have the same {what}")
        if not 1 <= len(self.tun) <= IFNAMSIZ:
            raise ValueError(f"tun: 1 to {IFNAMSIZ} characters")
        if not 1280 <= self.tun_mtu <= 1500:
            raise ValueError("tun_mtu: 1280 to 1500")
        if not self.suites:
            raise ValueError("suites: at least one")
        try:  # what the first key would meet
            Psk(bytes(32), b"trial", PskMode(self.psk_mode), self.suites)
        except ValueError as error:
            raise ValueError(f"suites: {error}") from None
