"""`mpq inspect --export clear.pcapng`: the session's IP packets as the UE's applications saw them, an interface per path."""

from __future__ import annotations

import os
from pathlib import Path

from lab.capture_files import CaptureFiles
from lab.capture_scan import SERVER_PORT, CaptureDecryptor
from lab.decrypt_keys import KeyLog
from lab.inspect_paths import access_of
from lab.inspect_rows import Filter
from lab.packets.link import LINK_RAW
from lab.pcapng import INBOUND, OUTBOUND, PcapngWriter


def export(files: CaptureFiles, keylog: KeyLog, target: Path, wanted: Filter, port: int = SERVER_PORT) -> dict[str, int]:
    """Writes target (0600, whole or not at all); packets by interface. OSError when it cannot be written."""
    part = target.with_name(f".{target.name}.part")
    counts: dict[str, int] = {}
    numbers: dict[str, int] = {}
    try:
        with part.open("wb") as out:
            os.fchmod(out.fileno(), 0o600)      # the session's traffic in clear
            reader = CaptureDecryptor(files, keylog, port, lean=True)
            with PcapngWriter(out) as writer:
                for packet in reader.packets():
                    if packet.kind != "1rtt" or packet.reason or not packet.inner_count or not wanted.packet(packet):
                        continue
                    access = access_of(reader.interfaces[packet.interface].name)
                    name = f"path {packet.path} {access}".rstrip()
                    if name not in numbers:
                        numbers[name] = writer.interface(LINK_RAW, name)
                    for inner in packet.inner_packets():
                        if wanted.inner is not None and not wanted.inner(inner):
                            continue
                        writer.packet(numbers[name], packet.time_ns, inner, f"No. {packet.record} pn {packet.number}",
                                      OUTBOUND if packet.up else INBOUND)
                        counts[name] = counts.get(name, 0) + 1
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return counts
