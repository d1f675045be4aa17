"""The UE's configuration, `ue.json`, and the file of its subscriber (docs/interfaces.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from mpquic.psk import Psk, PskMode
from node.config import parse, strict_json
from node.errors import ConfigError
from node.secrets import Secret, read_secret_file

MAX_ACCESSES = 2
"""One per access type (TS 23.501 §5.32.1)"""
MOST_PDU_SESSION_ID = 15
IFNAMSIZ = 15


@dataclass(frozen=True, slots=True)
class Plmn:
    mcc: str
    mnc: str

    def __post_init__(self) -> None:
        if not (self.mcc.isascii() and self.mcc.isdigit() and len(self.mcc) == 3):
            raise ValueError("mcc: must be 3 digits")
        if not (self.mnc.isascii() and self.mnc.isdigit() and len(self.mnc) in (2, 3)):
            raise ValueError("mnc: must be 2 or 3 digits")


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
    backend: str | None = None
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


@dataclass(frozen=True, slots=True)
class _SubscriberText:
    supi: str
    k: str = field(repr=False)
    opc: str = field(repr=False)
    sqn: str = field(repr=False)


@dataclass(slots=True)
class Subscriber:
    """What the USIM holds. `sqn` is the highest sequence number accepted so far."""

    supi: str
    k: Secret
    opc: Secret
    sqn: int

    def wipe(self) -> None:
        self.k.wipe()
        self.opc.wipe()


def load_subscriber(path: Path) -> Subscriber:
    """From a file of mode 0600. No refusal repeats a value: they are secrets."""
    try:
        value = strict_json(read_secret_file(path))
    except ValueError:
        raise ConfigError(f"{path}: not JSON") from None
    text = parse(value, _SubscriberText, str(path))
    digits = text.supi.removeprefix("imsi-")
    if digits == text.supi or not (digits.isascii() and digits.isdigit() and 6 <= len(digits) <= 15):
        raise ConfigError(f"{path}: supi: must be imsi- and 6 to 15 digits")
    try:
        k, opc, sqn = Secret.from_hex(text.k, 16), Secret.from_hex(text.opc, 16), Secret.from_hex(text.sqn, 6)
    except ConfigError as e:
        raise ConfigError(f"{path}: k, opc (16 octets) and sqn (6 octets): {e}") from None
    return Subscriber(text.supi, k, opc, int.from_bytes(sqn.reveal(), "big"))
