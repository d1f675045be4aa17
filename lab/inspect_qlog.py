"""Both ends' own records of a packet, from the qlogs beside a capture, on the capture's clock: sent, received, acknowledged, lost.

The logs have a monotonic clock each, of an unknown epoch. A packet that the UE sends is captured right behind its socket, so the
least difference between the capture's time and the UE's is the clocks' offset. The UPF's log has the same clock on the same host:
then no packet arrives before it was sent. Otherwise its offset is estimated as NTP does, from the fastest packet of either
direction, as if both took as long; that is said.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.decrypt import ClearPacket
from lab.decrypt_connection import Connection
from lab.inspect_rows import Inspection
from lab.qlog_file import Plain, QlogError, QlogFile, Record, beside

FATES_MAX = 1_000_000           # packets of both directions; of more nothing is kept
DROPS_MAX = 100_000
BACKWARDS_NS = 1_000_000        # a packet that arrives this much before it was sent: the clocks are not the same
NUMBER_MAX = 1 << 62

Key = tuple[str, int, bool]     # original DCID in hex, path id, from the client


@dataclass(slots=True)
class Fate:
    """Nanoseconds of the capture's clock, once Logs.align has been called. `why`: the trigger of packet_lost."""

    sent: int | None = None
    received: int | None = None
    acknowledged: int | None = None
    lost: int | None = None
    why: str = ""
    size: int = 0


@dataclass(slots=True)
class Drop:
    """A packet that the receiver dropped: mostly it cannot say of which number."""

    time: int
    up: bool
    counter: str


@dataclass(slots=True)
class Logs:
    """The logs beside a capture. `role` -> file; fates by space and packet number."""

    files: dict[str, QlogFile] = field(default_factory=dict)
    spaces: dict[Key, dict[int, Fate]] = field(default_factory=dict)
    drops: list[Drop] = field(default_factory=list)
    closed: dict[tuple[str, str], int] = field(default_factory=dict)    # role, connection -> when it was over there
    kept: int = 0
    not_kept: int = 0
    remarks: list[str] = field(default_factory=list)
    aligned: str = ""               # "", "same clock", "estimated"
    offsets: dict[str, int] = field(default_factory=dict)

    def fate(self, key: Key, number: int) -> Fate | None:
        return self.spaces.get(key, {}).get(number)

    @property
    def complete(self) -> bool:
        """What neither end told did not happen."""
        return (len(self.files) == 2 and not self.not_kept and bool(self.spaces) and bool(self.aligned)
                and not any(f.lost or f.malformed or f.cut or f.full_ns is not None for f in self.files.values()))

    # ---- reading

    def read(self, file: QlogFile) -> None:
        role = file.role
        if role not in ("client", "server") or role in self.files:
            self.remarks.append(f"{file.path.name}: vantage point {role or 'unknown'} again or of neither end: not read")
            return
        self.files[role] = file
        for one in file.pieces():
            if isinstance(one, list):
                self.packets(one, role == "client")
                continue
            taken = _TAKERS.get(one.name)
            if taken is not None:
                taken(self, one, role == "client")
        self.remarks += file.words()

    def packets(self, plain: list[Plain], client: bool) -> None:
        """Plain packets, as `sent` and `received` take any."""
        spaces: dict[tuple[bytes, bytes, bytes | None], dict[int, Fate]] = {}
        for ms, us, group, what, path, digits, length in plain:
            number = int(digits)
            space = spaces.get((group, what, path))
            fate = space.get(number) if space is not None else None
            if fate is None:
                key = (group.decode(), int(path or 0), client == (what == b"sent"))
                fate = self._fate(key, number)
                if fate is None:
                    continue
                spaces[group, what, path] = self.spaces[key]
            if what == b"sent":
                fate.sent, fate.size = int(ms + us) * 1000, int(length)
            elif fate.received is None:
                fate.received = int(ms + us) * 1000

    def _fate(self, key: Key, number: object) -> Fate | None:
        if not isinstance(number, int) or not 0 <= number < NUMBER_MAX:
            return None
        space = self.spaces.setdefault(key, {}) if self.kept < FATES_MAX else self.spaces.get(key, {})
        fate = space.get(number)
        if fate is None:
            if self.kept >= FATES_MAX:
                self.not_kept += 1
                return None
            self.kept += 1
            fate = space[number] = Fate()
        return fate

    def _packet(self, record: Record, up: bool) -> Fate | None:
        header = record.data.get("header")
        if not isinstance(header, dict) or header.get("packet_type") != "1RTT":
            return None
        path = header.get("path_id", 0)
        return self._fate((record.group, path, up), header.get("packet_number")) if isinstance(path, int) else None

    def sent(self, record: Record, client: bool) -> None:
        fate = self._packet(record, client)
        if fate is not None:
            fate.sent = record.time_ns
            raw = record.data.get("raw")
            size = raw.get("length") if isinstance(raw, dict) else None
            fate.size = size if isinstance(size, int) else 0

    def received(self, record: Record, client: bool) -> None:
        fate = self._packet(record, not client)
        if fate is not None and fate.received is None:
            fate.received = record.time_ns

    def lost(self, record: Record, client: bool) -> None:
        fate = self._packet(record, client)
        if fate is not None:
            fate.lost, fate.why = record.time_ns, str(record.data.get("trigger", ""))[:40]

    def acknowledged(self, record: Record, client: bool) -> None:
        numbers, path = record.data.get("packet_numbers"), record.data.get("path_id", 0)
        if record.data.get("packet_number_space", "application_data") != "application_data" or not isinstance(path, int):
            return
        space = self.spaces.get((record.group, path, client), {})
        for number in numbers if isinstance(numbers, list) else ():
            fate = space.get(number) if type(number) is int else None
            if fate is None:
                fate = self._fate((record.group, path, client), number)
                if fate is None:
                    continue
            fate.acknowledged = record.time_ns

    def dropped(self, record: Record, client: bool) -> None:
        if len(self.drops) < DROPS_MAX:
            self.drops.append(Drop(record.time_ns, not client, str(record.data.get("counter", "unknown"))[:40]))
        else:
            self.not_kept += 1

    def over(self, record: Record, client: bool) -> None:
        self.closed.setdefault(("client" if client else "server", record.group), record.time_ns)

    # ---- clocks

    def align(self, captured: Iterable[tuple[Key, int, int]]) -> None:
        """To the capture's clock. captured: space, packet number and time of packets at the UE's end."""
        ue: int | None = None
        up: int | None = None           # the UPF's clock, less the capture's, plus the way there
        down: int | None = None         # the capture's, less the UPF's, plus the way here
        for key, number, time in captured:
            fate = self.fate(key, number)
            if fate is None:
                continue
            if key[2]:
                if fate.sent is not None:
                    ue = min(ue, time - fate.sent) if ue is not None else time - fate.sent
                if fate.received is not None:
                    up = min(up, fate.received - time) if up is not None else fate.received - time
            elif fate.sent is not None:
                down = min(down, time - fate.sent) if down is not None else time - fate.sent
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
        for (_, _, from_client), space in self.spaces.items():
            sender, receiver = (ue, upf) if from_client else (upf, ue)
            for fate in space.values():
                fate.sent = None if fate.sent is None else fate.sent + sender
                fate.acknowledged = None if fate.acknowledged is None else fate.acknowledged + sender
                fate.lost = None if fate.lost is None else fate.lost + sender
                fate.received = None if fate.received is None else fate.received + receiver
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
    collecting = gc.isenabled()
    gc.disable()                # a million small objects come, none of them in a ring: the collector would look for one in vain
    try:
        _read_ends(logs, capture)
    finally:
        if collecting:
            gc.enable()
    return logs


def _read_ends(logs: Logs, capture: Path) -> None:
    for _, path in beside(capture):
        try:
            logs.read(QlogFile(path))
        except (QlogError, OSError) as error:
            logs.remarks.append(str(error))


def aligned(inspection: Inspection, each: Callable[[ClearPacket, str], object] | None = None) -> Logs:
    """One pass over the capture: every packet to `each`, and the logs beside it on its clock."""
    logs = logs_beside(inspection.path)

    def captured() -> Iterator[tuple[Key, int, int]]:
        keys: dict[tuple[int, int, bool], Key] = {}
        for packet, access in inspection.packets():
            if each is not None:
                each(packet, access)
            if not logs.spaces or packet.kind != "1rtt" or packet.number is None:
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
