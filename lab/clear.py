"""The packets of a run or capture in clear, as scapy layers: for a scapy shell and for scripts (docs/packets.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.capture_scan import CaptureDecryptor
from lab.decrypt import ClearPacket
from lab.decrypt_keys import KeyLog
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
    path = Path(source)
    if path.is_dir():
        keys = keys or path / "keys.log"
        path /= "capture.pcapng"
    keylog = KeyLog()
    if keys is not None and Path(keys).is_file():
        keylog.add(Path(keys).read_bytes())
    with path.open("rb") as stream:
        for packet in CaptureDecryptor(stream, keylog).packets():
            opened = packet.number is not None
            yield Clear(packet, clear_layer(packet.kind, packet.header, packet.payload) if opened else QuicWire(packet.header))
