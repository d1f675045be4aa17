"""The packets of a run or capture in clear, as scapy layers: for a scapy shell and for scripts (docs/packets.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.capture_files import InspectError, find_capture
from lab.capture_scan import CaptureDecryptor
from lab.decrypt import ClearPacket
from lab.inspect_stats import find_keylog
from lab.packets.quic import QuicWire, clear_layer


@dataclass(frozen=True, slots=True)
class Clear:
    """One QUIC packet: `told` has what the decryptor knows of it (path, number, direction, reason), `layer` is it in scapy."""

    told: ClearPacket
    layer: Any


def clear_packets(source: str | Path, keys: str | Path | None = None) -> Iterator[Clear]:
    """Every QUIC packet of a capture, in its order. `source`: a capture, or the directory of a run. Keys are those in the
    capture and those of `keys`, by default the run's keys.log. A packet that stays closed has its reason in `told`, and an
    empty layer."""
    try:
        files = find_capture(str(source))
    except InspectError as error:
        raise FileNotFoundError(str(error)) from None
    keylog = find_keylog(files, None if keys is None else str(keys))
    for packet in CaptureDecryptor(files, keylog).packets():
        opened = packet.number is not None
        yield Clear(packet, clear_layer(packet.kind, packet.header, packet.payload) if opened else QuicWire(packet.header))
