"""A subscriber as a file brings it to AMF and UE: SUPI, K, OPc, SQN (docs/interfaces.md); and the PLMN that both are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.config import parse, strict_json
from node.errors import ConfigError
from node.secrets import Secret, read_secret_file

K_SIZE = OPC_SIZE = 16
SQN_SIZE = 6
SHORTEST_IMSI, LONGEST_IMSI = 6, 15
"""Digits: MCC, MNC and at least one of the MSIN; TS 23.003 §2.2 allows 15."""


@dataclass(frozen=True, slots=True)
class Plmn:
    mcc: str
    mnc: str

    def __post_init__(self) -> None:
        if not (self.mcc.isascii() and self.mcc.isdigit() and len(self.mcc) == 3):
            raise ValueError("mcc: must be 3 digits")
        if not (self.mnc.isascii() and self.mnc.isdigit() and len(self.mnc) in (2, 3)):
            raise ValueError("mnc: must be 2 or 3 digits")


@dataclass(slots=True)
class Subscriber:
    """`sqn` (48 bits): at the UE the highest accepted so far, at the AMF, playing UDM, the last one used."""

    supi: str
    k: Secret
    opc: Secret
    sqn: int

    def wipe(self) -> None:
        self.k.wipe()
        self.opc.wipe()


@dataclass(frozen=True, slots=True)
class _Text:
    """As it stands in the file, in hex."""

    supi: str
    k: str = field(repr=False)
    opc: str = field(repr=False)
    sqn: str = field(repr=False)

    def subscriber(self, where: str) -> Subscriber:
        digits = self.supi.removeprefix("imsi-")
        length = SHORTEST_IMSI <= len(digits) <= LONGEST_IMSI
        if digits == self.supi or not (digits.isascii() and digits.isdigit() and length):
            raise ConfigError(f"{where}: supi: must be imsi- and {SHORTEST_IMSI} to {LONGEST_IMSI} digits")
        try:
            k, opc = Secret.from_hex(self.k, K_SIZE), Secret.from_hex(self.opc, OPC_SIZE)
            sqn = Secret.from_hex(self.sqn, SQN_SIZE)
        except ConfigError as e:
            raise ConfigError(f"{where}: k, opc ({K_SIZE} octets) and sqn ({SQN_SIZE} octets): {e}") from None
        return Subscriber(self.supi, k, opc, int.from_bytes(sqn.reveal(), "big"))


@dataclass(frozen=True, slots=True)
class _List:
    subscribers: list[_Text]


def load_subscriber(path: Path) -> Subscriber:
    """The one of a UE, from a file of mode 0600. No refusal repeats a value: they are secrets."""
    return parse(_json(path), _Text, str(path)).subscriber(str(path))


def load_subscribers(path: Path, most: int) -> dict[str, Subscriber]:
    """SUPI to subscriber, 1 to `most` of them, from a file of mode 0600."""
    texts = parse({"subscribers": _json(path)}, _List, str(path)).subscribers
    if not 1 <= len(texts) <= most:
        raise ConfigError(f"{path}: must hold 1 to {most} subscribers")
    found: dict[str, Subscriber] = {}
    for number, text in enumerate(texts):
        where = f"{path}: [{number}]"
        if text.supi in found:
            raise ConfigError(f"{where}: supi: stands twice")
        found[text.supi] = text.subscriber(where)
    return found


def _json(path: Path) -> Any:
    try:
        return strict_json(read_secret_file(path))
    except ValueError:  # its text could show a piece of the file
        raise ConfigError(f"{path}: not JSON") from None
