"""Both ends' own records of a packet, from the qlogs beside a capture, on the capture's clock: sent, received, acknowledged, lost.

The logs have a monotonic clock each, of an unknown epoch. A packet that the UE sends is captured right behind its socket, so the
least difference between the capture's time and the UE's is the clocks' offset. The UPF's log has the same clock on the same host:
then no packet arrives before it was sent. Otherwise its offset is estimated as NTP does, from the fastest packet of either
direction, as if both took as long; that is said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.decrypt import ClearPacket
from lab.decrypt_connection import Connection
from lab.inspect_fates import Fate, Fates, Key
from lab.inspect_rows import Inspection
from lab.qlog_file import QlogError, QlogFile, Record, beside

DROPS_MAX = 100_000
BACKWARDS_NS = 1_000_000        # a packet that arrives this much before it was sent: the clocks are not the same

@dataclass(slots=True)
class Drop:
    """A packet that the receiver dropped: mostly it cannot say of which number."""

    time: int
    up: bool
    counter: str


def _fates() -> Fates:
    return Fates(int.from_bytes(os.urandom(8)))


@dataclass(slots=True)
class Logs:
    """The logs beside a capture, by role; what became of the packets, on the logs' own clocks."""

    files: dict[str, QlogFile] = field(default_factory=dict)
    fates: Fates = field(default_factory=_fates)
    drops: list[Drop] = field(default_factory=list)
    closed: dict[tuple[str, str], int] = field(default_factory=dict)    # role, connection -> when it was over there
    drops_not_kept: int = 0
    remarks: list[str] = field(default_factory=list)
    aligned: str = ""               # "", "same clock", "estimated"
    offsets: dict[str, int] = field(default_factory=dict)

    def fate(self, key: Key, number: int) -> Fate | None:
        """On the capture's clock."""
        fate = self.fates.find(key, number)
        return None if fate is None else self._on_the_clock(key, fate)

    def never_received(self) -> Iterator[tuple[Key, int, Fate]]:
        """What one end sent and the other did not receive, on the capture's clock."""
        for key, number, fate in self.fates.never_received():
            yield key, number, self._on_the_clock(key, fate)

    def _on_the_clock(self, key: Key, fate: Fate) -> Fate:
        sender, receiver = (self.offsets.get(role, 0) for role in (("client", "server") if key[2] else ("server", "client")))
        fate.sent = None if fate.sent is None else fate.sent + sender
        fate.acknowledged = None if fate.acknowledged is None else fate.acknowledged + sender
        fate.lost = None if fate.lost is None else fate.lost + sender
        fate.received = None if fate.received is None else fate.received + receiver
        return fate

    @property
    def complete(self) -> bool:
        """What neither end told did not happen."""
        return (len(self.files) == 2 and not self.drops_not_kept and not self.fates.refused and bool(len(self.fates))
                and bool(self.aligned)
                and not any(f.lost or f.malformed or f.cut or f.full_ns is not None for f in self.files.values()))

    # ---- reading

    def read(self, file: QlogFile) -> None:
        role = file.role
        if role not in ("client", "server") or role in self.files:
            self.remarks.append(f"{file.path.name}: vantage point {role or 'unknown'} again or of neither end: not read")
            return
        self.files[role] = file
        client = role == "client"
        for record in file.left_by(lambda octets, at: self.fates.take(octets, at, client)):
            taken = _TAKERS.get(record.name)
            if taken is not None:
                taken(self, record, client)
        self.remarks += file.words()

    @staticmethod
    def _packet(record: Record, up: bool) -> tuple[Key, object] | None:
        """Space and packet number of a 1-RTT packet."""
        header = record.data.get("header")
        if not isinstance(header, dict) or header.get("packet_type") != "1RTT":
            return None
        path = header.get("path_id", 0)
        return ((record.group, path, up), header.get("packet_number")) if isinstance(path, int) else None

    def sent(self, record: Record, client: bool) -> None:
        packet = self._packet(record, client)
        if packet is not None:
            raw = record.data.get("raw")
            size = raw.get("length") if isinstance(raw, dict) else None
            self.fates.sent(*packet, record.time_ns, size if isinstance(size, int) else 0)

    def received(self, record: Record, client: bool) -> None:
        packet = self._packet(record, not client)
        if packet is not None:
            self.fates.received(*packet, record.time_ns)

    def lost(self, record: Record, client: bool) -> None:
        packet = self._packet(record, client)
        if packet is not None:
            self.fates.lost(*packet, record.time_ns, str(record.data.get("trigger", ""))[:40])

    def acknowledged(self, record: Record, client: bool) -> None:
        numbers, path = record.data.get("packet_numbers"), record.data.get("path_id", 0)
        if record.data.get("packet_number_space", "application_data") == "application_data" and isinstance(path, int) \
                and isinstance(numbers, list):
            self.fates.acknowledged((record.group, path, client), numbers, record.time_ns)

    def dropped(self, record: Record, client: bool) -> None:
        if len(self.drops) < DROPS_MAX:
            self.drops.append(Drop(record.time_ns, not client, str(record.data.get("counter", "unknown"))[:40]))
        else:
            self.drops_not_kept += 1

    def over(self, record: Record, client: bool) -> None:
        self.closed.setdefault(("client" if client else "server", record.group), record.time_ns)

    # ---- clocks

    def align(self, captured: Iterable[tuple[Key, int, int]]) -> None:
        """To the capture's clock. captured: space, packet number and time of packets at the UE's end."""
        ue: int | None = None
        up: int | None = None           # the UPF's clock, less the capture's, plus the way there
        down: int | None = None         # the capture's, less the UPF's, plus the way here
        for key, number, time in captured:
            told = self.fates.times(key, number)
            if told is None:
                continue
            sent, received = told
            if key[2]:
                if sent >= 0:
                    ue = min(ue, time - sent) if ue is not None else time - sent
                if received >= 0:
                    up = min(up, received - time) if up is not None else received - time
            elif sent >= 0:
                down = min(down, time - sent) if down is not None else time - sent
        if not self.files:
            return
        if ue is None:
            self.remarks.append("qlog: none of its packets is in the capture, so their clocks cannot be compared")
            return
        upf, self.aligned = ue, "same clock"
        if up is not None and down is not None and (up + ue < -BACKWARDS_NS or down - ue < -BACKWARDS_NS):
            upf, self.aligned = (down - up) // 2, "estimated"
            self.remarks.append("qlog: the ends' clocks are not the same; the UPF's is estimated from the fastest packets, as if "
                                f"both directions took as long: right to {(up + down) / 2e6:.3f} ms")
        self.offsets = {"client": ue, "server": upf}
        for drop in self.drops:
            drop.time += upf if drop.up else ue
        self.closed = {(role, group): time + self.offsets[role] for (role, group), time in self.closed.items()}


_TAKERS = {
    "quic:packet_sent": Logs.sent, "quic:packet_received": Logs.received, "quic:packet_lost": Logs.lost,
    "quic:packets_acked": Logs.acknowledged, "quic:packet_dropped": Logs.dropped, "quic:udp_datagram_dropped": Logs.dropped,
    "quic:connection_closed": Logs.over,
}


def logs_beside(capture: Path) -> Logs:
    """Of a run: `ue.sqlog` and `upf.sqlog` beside its capture; what does not read is said in `remarks`."""
    logs = Logs()
    for _, path in beside(capture):
        try:
            logs.read(QlogFile(path))
        except (QlogError, OSError) as error:
            logs.remarks.append(str(error))
    return logs


def aligned(inspection: Inspection, each: Callable[[ClearPacket, str], object] | None = None) -> Logs:
    """One pass over the capture: every packet to `each`, and the logs beside it on its clock."""
    logs = logs_beside(inspection.path)

    def captured() -> Iterator[tuple[Key, int, int]]:
        keys: dict[tuple[int, int, bool], Key] = {}
        for packet, access in inspection.packets():
            if each is not None:
                each(packet, access)
            if not len(logs.fates) or packet.kind != "1rtt" or packet.number is None:
                continue
            if packet.connection is None or packet.path is None:
                continue
            space = (packet.connection, packet.path, packet.up)
            key = keys.get(space)
            if key is None:
                key = keys[space] = key_of(inspection.connections, *space)
            yield key, packet.number, packet.time_ns

    logs.align(captured())
    return logs


def key_of(connections: list[Connection], connection: int, path: int, up: bool) -> Key:
    """qlog's name of a connection is the DCID of the client's first Initial."""
    return (connections[connection].original_dcid.hex(), path, up)


def fate_document(fate: Fate | None, start_ns: int) -> dict[str, Any] | None:
    """`ends` of a row of `mpq inspect --qlog --json`: seconds as in `t`."""
    if fate is None:
        return None
    times = {name: getattr(fate, name) for name in ("sent", "received", "acknowledged", "lost")}
    return {name: None if t is None else round((t - start_ns) / 1e9, 9) for name, t in times.items()} | {"why": fate.why or None}


def fate_words(fate: Fate | None, up: bool, start_ns: int) -> str:
    if fate is None:
        return "not in the ends' qlogs"
    sender, receiver = ("UE", "UPF") if up else ("UPF", "UE")

    def at(t: int) -> str:
        return f"{(t - start_ns) / 1e9:.6f}"

    words = [f"{sender} sent {at(fate.sent)}" if fate.sent is not None else f"{sender} did not send it"]
    words.append(f"{receiver} received {at(fate.received)}" if fate.received is not None else f"{receiver} never received it")
    if fate.acknowledged is not None:
        words.append(f"acknowledged {at(fate.acknowledged)}")
    if fate.lost is not None:
        words.append(f"lost {at(fate.lost)}" + (f" ({fate.why})" if fate.why else ""))
    return ", ".join(words)
