"""What the model of a simulated world remembers: of one direction of the stream, and of one connection at one end."""

from __future__ import annotations

from dataclasses import dataclass, field

CHUNK = 400


def varint(value: int) -> bytes:
    for octets, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * octets - 2):
            return (prefix << (8 * octets - 2) | value).to_bytes(octets, "big")
    raise ValueError(value)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    octets = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + octets], "big") & (1 << (8 * octets - 2)) - 1, at + octets


PATTERN = bytes(i * 7 & 0xFF for i in range(256)) * (CHUNK // 256 + 2)


def pattern(offset: int) -> bytes:
    return PATTERN[offset % 256 : offset % 256 + CHUNK]


@dataclass(slots=True)
class Stream:
    """One direction of stream 0: chunks of a pattern, sent again when lost."""

    sent: int = 0  # octets given to the engine at least once
    tokens: dict[int, int] = field(default_factory=dict)  # token of a frame on its way -> offset of its chunk
    waiting: list[int] = field(default_factory=list)  # offsets lost, or refused by a full queue
    got: dict[int, bytes] = field(default_factory=dict)  # receiver: offset -> data
    acked: set[int] = field(default_factory=set)


@dataclass(slots=True)
class View:
    """What one end has been told of one connection."""

    closed: bool = False
    gone: bool = False
    validated: set[int] = field(default_factory=set)
    abandoned: set[int] = field(default_factory=set)
    state: dict[int, int] = field(default_factory=dict)
    phase: int = 0
