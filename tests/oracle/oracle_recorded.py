"""A recorded run, by what the oracle tests ask of it. Read once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.clear import Clear, clear_packets
from lab.packets.link import LINK_EXPORTED_PDU, UDP, Flow, read_link
from lab.pcapng import PcapngReader, Record

PFCP_PORT, QUIC_PORT = 8805, 4433


@dataclass
class Recorded:
    directory: Path

    @property
    def capture(self) -> Path:
        return self.directory / "capture.pcapng"

    @cached_property
    def records(self) -> dict[int, tuple[int, str, Record]]:
        """Number of the frame -> link type, interface, frame."""
        with self.capture.open("rb") as stream:
            reader = PcapngReader(stream)
            return {r.number: (reader.interfaces[r.interface].linktype, reader.interfaces[r.interface].name, r) for r in reader}

    @cached_property
    def clear(self) -> dict[int, list[Clear]]:
        """Number of the frame -> its QUIC packets."""
        found: dict[int, list[Clear]] = {}
        for one in clear_packets(self.capture):
            found.setdefault(one.told.record, []).append(one)
        return found

    def udp(self, port: int) -> Iterator[tuple[int, bytes]]:
        """UDP payloads of the outer interfaces to or from a port."""
        for frame, (linktype, name, record) in self.records.items():
            flow: Flow | None = read_link(linktype, record.data) if name.partition("/")[0] in ("ue", "core", "upf") else None
            if flow is not None and flow.protocol == UDP and port in (flow.source_port, flow.destination_port):
                yield frame, flow.payload

    def nas(self) -> Iterator[tuple[int, bytes]]:
        """The deciphered NAS messages, as exported PDUs: behind the tags (number 2, length 2, value; 0 ends)."""
        for frame, (linktype, _, record) in self.records.items():
            if linktype == LINK_EXPORTED_PDU:
                yield frame, exported_payload(record.data)


def exported_payload(data: bytes) -> bytes:
    at = 0
    while at + 4 <= len(data):
        tag, size = int.from_bytes(data[at:at + 2], "big"), int.from_bytes(data[at + 2:at + 4], "big")
        at += 4 + size
        if tag == 0:
            break
    return data[at:]


def layers_of(packets: list[Clear]) -> list[Any]:
    return [one.layer for one in packets]
