"""What became of each packet, as the qlogs of both ends tell it: a table in the engine (native/src/fates.c), which takes plain
records by itself (native/src/qlog_scan.c). A run of a minute has half a million packets: too many for an object each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from native import ffi, lib

FATES_MAX = 1_000_000           # packets of both directions; of more nothing is kept
NUMBER_MAX = 1 << 62            # of a packet (RFC 9000 §12.3)
SIZE_MAX = (1 << 32) - 1
HEX = frozenset("0123456789abcdef")
GROUP_MAX = 40                  # hex digits: a connection ID of 20 octets

Key = tuple[str, int, bool]     # original DCID in hex, path id, from the client


@dataclass(slots=True)
class Fate:
    """Nanoseconds of a clock that is the capture's, once Logs.align has been called. `why`: the trigger of packet_lost."""

    sent: int | None = None
    received: int | None = None
    acknowledged: int | None = None
    lost: int | None = None
    why: str = ""
    size: int = 0


class Fates:
    """Of both ends' logs; times are those of the log that told them. seed: random (native/engine.cdef). MemoryError."""

    def __init__(self, seed: int, most: int | None = None) -> None:
        table = lib.fates_new(FATES_MAX if most is None else most, seed)
        if table == ffi.NULL:
            raise MemoryError("no room for the packets of the qlogs")
        self._table = ffi.gc(table, lib.fates_free)
        self._numbers: dict[Key, int] = {}          # space -> its number in the table
        self._keys: list[Key] = []
        self._whys: dict[tuple[int, int], str] = {}

    def __len__(self) -> int:
        return int(lib.fates_count(self._table))

    @property
    def refused(self) -> int:
        """Records of packets for which there was no room."""
        return int(lib.fates_refused(self._table))

    def take(self, octets: bytes, at: int, client: bool) -> int:
        """Plain records of the log of that end, from `at` on; behind them is what it returns (QlogFile.left_by)."""
        text = ffi.from_buffer("char[]", octets)
        return at + int(lib.qlog_scan(self._table, text + at, len(octets) - at, client))

    # ---- records one by one

    def sent(self, key: Key, number: object, time: int, size: int) -> None:
        one = self._made(key, number)
        if one is not None:
            one.sent, one.size = time, min(max(size, 0), SIZE_MAX)

    def received(self, key: Key, number: object, time: int) -> None:
        one = self._made(key, number)
        if one is not None and one.received < 0:
            one.received = time

    def lost(self, key: Key, number: object, time: int, why: str) -> None:
        one = self._made(key, number)
        if one is not None:
            one.lost = time
            self._whys[one.space, one.number] = why

    def acknowledged(self, key: Key, numbers: list[object], time: int) -> None:
        known = [number for number in numbers if _is_number(number)]
        if known:
            lib.fates_acknowledged(self._table, self._space(key), ffi.new("uint64_t[]", known), len(known), time)

    def _space(self, key: Key) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = lib.fates_space(self._table)
            self._keys.append(key)
            group, path, up = key
            if 0 < len(group) <= GROUP_MAX and HEX.issuperset(group) and 0 <= path < NUMBER_MAX:
                lib.fates_name(self._table, number, group.encode(), len(group), path, up)   # without a name: more slowly
        return number

    def _made(self, key: Key, number: object) -> Any:
        """The entry of the table, made if need be; None: no packet has this number, or there is no room."""
        if not _is_number(number) or (len(self) >= FATES_MAX and key not in self._numbers):
            return None
        one = lib.fates_find(self._table, self._space(key), number, True)
        return None if one == ffi.NULL else one

    # ---- what they tell

    def find(self, key: Key, number: int) -> Fate | None:
        one = self._entry(key, number)
        return None if one is None else self._fate(one)

    def times(self, key: Key, number: int) -> tuple[int, int] | None:
        """When it was sent and received; -1: that nobody tells."""
        one = self._entry(key, number)
        return None if one is None else (one.sent, one.received)

    def never_received(self) -> Iterator[tuple[Key, int, Fate]]:
        """Space and number of each packet that one end sent and the other did not tell of."""
        at = ffi.new("uint32_t *")
        while (one := lib.fates_next_lost(self._table, at)) != ffi.NULL:
            yield self._keys[one.space], one.number, self._fate(one)

    def __iter__(self) -> Iterator[tuple[Key, int, Fate]]:
        every = lib.fates_all(self._table)
        for i in range(len(self)):
            one = every[i]
            yield self._keys[one.space], one.number, self._fate(one)

    def _entry(self, key: Key, number: int) -> Any:
        space = self._numbers.get(key)
        if space is None or not 0 <= number < NUMBER_MAX:
            return None
        one = lib.fates_find(self._table, space, number, False)
        return None if one == ffi.NULL else one

    def _fate(self, one: Any) -> Fate:
        sent, received, acknowledged, lost = (
            None if time < 0 else time for time in (one.sent, one.received, one.acknowledged, one.lost))
        return Fate(sent, received, acknowledged, lost, self._whys.get((one.space, one.number), ""), one.size)


def _is_number(number: object) -> bool:
    return type(number) is int and 0 <= number < NUMBER_MAX
