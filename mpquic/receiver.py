"""The receiving part of a stream (RFC 9000 §3.2)."""

from __future__ import annotations

from dataclasses import dataclass

from mpquic.reassembly import Reassembly


@dataclass(slots=True)
class Receiver(Reassembly):
    limit: int = 0  # announced
    size: int = 0  # of the window to keep announced
    highest: int = 0
    final: int | None = None
    done: bool = False
    stopped: bool = False  # nobody reads: octets are counted and thrown away
