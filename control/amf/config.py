"""amf.json and the subscriber file (docs/interfaces.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from control.sbi.client import NfAddress
from control.sbi.tls import SbiConfig
from node.config import parse, strict_json
from node.errors import ConfigError
from node.secrets import Secret, read_secret_file

MOST_SUBSCRIBERS = 10_000


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
class N1Config:
    """A listener; the port says which access a connection comes over."""

    access: Literal["3gpp", "non-3gpp"]
    address: str
    port: int


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

    def __post_init__(self) -> None:
        if not self.n1:
            raise ValueError("n1: must be at least one listener")


@dataclass(frozen=True, slots=True)
class _SubscriberText:
    supi: str
    k: str = field(repr=False)
    opc: str = field(repr=False)
    sqn: str = field(repr=False)


@dataclass(slots=True)
class Subscriber:
    """What the AMF, playing AUSF and UDM too, knows of a subscriber. `sqn` is the last one used (48 bits)."""

    supi: str
    k: Secret
    opc: Secret
    sqn: int


def load_subscribers(path: Path) -> dict[str, Subscriber]:
    """SUPI to subscriber, from a file of mode 0600. No refusal repeats a value: they are secrets."""
    try:
        value = strict_json(read_secret_file(path))
    except ValueError:
        raise ConfigError(f"{path}: not JSON") from None
    texts = parse({"subscribers": value}, _File, str(path)).subscribers
    if not texts or len(texts) > MOST_SUBSCRIBERS:
        raise ConfigError(f"{path}: must hold 1 to {MOST_SUBSCRIBERS} subscribers")
    result = {}
    for number, text in enumerate(texts):
        where = f"{path}: [{number}]"
        digits = text.supi.removeprefix("imsi-")
        if digits == text.supi or not (digits.isascii() and digits.isdigit() and 6 <= len(digits) <= 15):
            raise ConfigError(f"{where}.supi: must be imsi- and 6 to 15 digits")
        if text.supi in result:
            raise ConfigError(f"{where}.supi: stands twice")
        try:
            k, opc, sqn = Secret.from_hex(text.k, 16), Secret.from_hex(text.opc, 16), Secret.from_hex(text.sqn, 6)
        except ConfigError as e:
            raise ConfigError(f"{where}: k, opc (16 octets) and sqn (6 octets): {e}") from None
        result[text.supi] = Subscriber(text.supi, k, opc, int.from_bytes(sqn.reveal(), "big"))
    return result


@dataclass(frozen=True, slots=True)
class _File:
    subscribers: list[_SubscriberText]
