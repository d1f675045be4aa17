"""The sending part of a stream (RFC 9000 §3.1): what is acknowledged, what was lost, what was never sent."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Sender:
    limit: int  # of the peer
    base: int = 0  # everything below is acknowledged
    buffer: bytearray = field(default_factory=bytearray)  # from base
    next: int = 0  # first octet never sent
    acked: list[tuple[int, int]] = field(default_factory=list)  # above base; sorted, disjoint
    again: list[tuple[int, int]] = field(default_factory=list)  # lost, to send again
    fin: bool = False  # the application is through
    fin_sent: bool = False
    fin_acked: bool = False
    reset: int | None = None  # our RESET_STREAM's code
    done: bool = False

    @property
    def end(self) -> int:
        return self.base + len(self.buffer)

    @property
    def unsent(self) -> bool:
        """Octets, or the end, wait to be sent: for the first time or again."""
        return bool(self.again) or self.next < self.end or (self.fin and not self.fin_sent)

    def acknowledge(self, start: int, end: int) -> None:
        merged: list[tuple[int, int]] = []
        for low, high in self.acked:
            if high < start or low > end:
                merged.append((low, high))
            else:
                start, end = min(start, low), max(end, high)
        merged.append((start, end))
        merged.sort()
        if merged[0][0] <= self.base:
            high = merged.pop(0)[1]
            if high > self.base:
                del self.buffer[: high - self.base]
                self.base = high
        self.acked = merged

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of a lost range that no other frame got through."""
        out = []
        start = max(start, self.base)
        for low, high in self.acked:
            if high <= start:
                continue
            if low >= end:
                break
            if low > start:
                out.append((start, low))
            start = max(start, high)
        if start < end:
            out.append((start, end))
        return out
