"""Two readers of the same packets, held against each other field by field.

A table says which of our fields is which of theirs. For every packet each side gives, for each field of theirs, the list of its
values in the order in which they stand; the lists must be equal. What was compared is counted, so that a comparison of nothing
does not pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from scapy.packet import NoPayload, Packet

Getter = str | Callable[[Any], Any]
Values = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Row:
    """`theirs`: the other reader's field; `kind`: how both sides' values are made alike; `ours`: layer (`*`: any) -> field of
    it, or what to make of the layer (None: this one has no such value)."""

    theirs: str
    kind: Callable[[Any], Any]
    ours: Mapping[str, Getter]


class Mismatch(AssertionError):
    """Where the two differ, and what each says."""


@dataclass(slots=True)
class Tally:
    packets: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def require(self, packets: int, fields: Iterable[str]) -> None:
        """At least so many packets, and a value of each of these fields."""
        assert self.packets >= packets, f"{self.packets} packets compared, {packets} wanted; left out: {dict(self.left_out)}"
        missing = [name for name in fields if not self.fields[name]]
        assert not missing, f"no value compared of {missing}"


# ---- values ----------------------------------------------------------------------------------------------------------------


def number(value: Any) -> int:
    """tshark gives numbers as 5, 0x05, True, or with a unit behind."""
    if isinstance(value, str):
        text = value.strip()
        return {"True": 1, "False": 0}[text] if text in ("True", "False") else int(text, 0)
    return int(value)


def octets(value: Any) -> bytes:
    """tshark says <MISSING> for no octets."""
    return bytes.fromhex(value.replace(":", "").removeprefix("<MISSING>")) if isinstance(value, str) else bytes(value)


def text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")


def address(value: Any) -> Any:
    return ip_address(value)


# ---- our side --------------------------------------------------------------------------------------------------------------


def walk(layer: Any, opaque: Callable[[Any], bool]) -> Iterator[Any]:
    """A layer, then what its lists hold, then its payload; in the order of the octets as far as layers nest."""
    yield layer
    if opaque(layer):
        return
    for described in layer.fields_desc:
        value = layer.fields.get(described.name)
        for element in value if isinstance(value, list) else []:
            if isinstance(element, Packet):
                yield from walk(element, opaque)
    if isinstance(layer.payload, Packet) and not isinstance(layer.payload, NoPayload):
        yield from walk(layer.payload, opaque)


def ours(layers: Iterable[Any], table: Sequence[Row], opaque: Callable[[Any], bool] = lambda _: False) -> Values:
    """`opaque`: a layer into which the other reader does not look."""
    found: Values = {row.theirs: [] for row in table}
    by_layer: dict[str, list[tuple[Row, Getter]]] = {}
    for row in table:
        for name, getter in row.ours.items():
            by_layer.setdefault(name, []).append((row, getter))
    for top in layers:
        for layer in walk(top, opaque):
            for row, getter in (*by_layer.get(type(layer).__name__, []), *by_layer.get("*", [])):
                value = _value(layer, getter)
                if value is not None:
                    found[row.theirs].append(row.kind(value))
    return found


def _value(layer: Any, getter: Getter) -> Any:
    """None for a field that this packet does not have."""
    if not isinstance(getter, str):
        return getter(layer)
    described = layer.get_field(getter)
    if described.isconditional and not described._evalcond(layer):
        return None
    return layer.getfieldval(getter)


# ---- both ------------------------------------------------------------------------------------------------------------------


def compare(where: str, mine: Values, theirs: Values, tally: Tally) -> None:
    for name, values in theirs.items():
        if mine[name] != values:
            raise Mismatch(f"{where}: {name}: ours {mine[name]}, theirs {values}")
        tally.fields[name] += len(values)
    tally.packets += 1


def altered(value: Any) -> Any:
    """Another value of the same kind, for canaries."""
    if isinstance(value, bool | int):
        return int(value) ^ 1
    if isinstance(value, bytes):
        return bytes((value[0] ^ 1,)) + value[1:] if value else b"\0"
    return "altered"


def assert_flips_are_caught(pairs: Sequence[tuple[str, Values, Values]]) -> int:
    """Canary: each field that was compared, altered once in our output, must be told; how many there were."""
    tried = set()
    for where, mine, theirs in pairs:
        for name, values in theirs.items():
            if name in tried or not values:
                continue
            tried.add(name)
            flipped = {**mine, name: [altered(mine[name][0]), *mine[name][1:]]}
            try:
                compare(where, flipped, theirs, Tally())
            except Mismatch:
                continue
            raise AssertionError(f"{name} was altered and nothing was told")
    return len(tried)
