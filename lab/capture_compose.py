"""After a run: the raw outer capture, the key log and the NAS keys become one file that reads well in stock Wireshark.

  capture.raw.pcapng   written by the engine's capture thread during the run
  keys.log             SSLKEYLOGFILE of both roles
  nas.keys             JSON lines {"ue", "k_nas_enc", "k_nas_int"}, only when the run asked for captures
  capture.pcapng       the key log first (Decryption Secrets Block); every outer packet with a comment in words, which
                       begins with `mark:` where a step of the scenario concerns it (lab.capture_marks); the
                       session's IP packets on `tunnel-inner` (raw IP); NAS without its protection on `n1-deciphered`
                       (exported PDU nas-5gs)
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from lab.capture_files import CAPTURE_NAME, KEYLOG_NAME, RAW_NAME
from lab.capture_marks import PREFIX, Marker, steps_of
from lab.capture_scan import INNER_INTERFACE, NAS_INTERFACE, CaptureDecryptor, Step, load_keylog, read_secrets
from lab.decrypt import ClearPacket
from lab.decrypt_keys import keylog_lines
from lab.decrypt_nas import PORTS, NasPdu, NasReader, load_nas_keys
from lab.inspect_run import read_run
from lab.packets.errors import PacketError
from lab.packets.link import LINK_EXPORTED_PDU, LINK_RAW, TCP, address_text
from lab.packets.nas_plain import nas_words, without_key
from lab.pcapng import INBOUND, OUTBOUND, PcapngWriter, Record

NAS_KEYS_NAME = "nas.keys"
COMMENT_MAX = 600
KEY_CONTAINER = "KEY PROVISION"
TAG_DISSECTOR, TAG_IPV4_SOURCE, TAG_IPV4_DESTINATION = 12, 20, 21      # of Wireshark's exported PDUs
TAG_IPV6_SOURCE, TAG_IPV6_DESTINATION = 22, 23


class ComposeError(Exception):
    """There is nothing to compose: what is missing, and where it should be."""


@dataclass(slots=True)
class ComposeResult:
    """What the file holds."""

    packets: int = 0            # outer packets of all interfaces
    quic: int = 0               # QUIC packets (several may share an outer one)
    decrypted: int = 0
    inner: int = 0
    nas: int = 0
    nas_plain: int = 0
    problem: str = ""           # why reading the raw capture ended early
    not_decrypted: dict[str, int] = field(default_factory=dict)


def exported_pdu(dissector: str, source: bytes, destination: bytes, data: bytes) -> bytes:
    """Wireshark's "exported PDU": tags with a padded length, an end tag, then the PDU."""
    name = dissector.encode()
    name += bytes(-len(name) % 4)
    tags = [(TAG_DISSECTOR, name),
            (TAG_IPV4_SOURCE if len(source) == 4 else TAG_IPV6_SOURCE, source),
            (TAG_IPV4_DESTINATION if len(destination) == 4 else TAG_IPV6_DESTINATION, destination), (0, b"")]
    return b"".join(tag.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for tag, value in tags) + data


def nas_comment(pdu: NasPdu) -> tuple[bytes, str]:
    """What `n1-deciphered` shows of a PDU: octets without a delivered key, and words."""
    where = f"{pdu.access} {'uplink' if pdu.uplink else 'downlink'}: "
    if pdu.plain is None:
        return pdu.data, f"{where}{nas_words(pdu.data)}, not deciphered: {pdu.reason}"
    words = nas_words(pdu.plain) + (f" ({pdu.reason})" if pdu.reason else "")
    try:
        return without_key(pdu.plain)[0], where + words
    except PacketError:
        return pdu.plain, where + words


class _Composer:
    def __init__(
        self, writer: PcapngWriter, nas: NasReader, inner_interface: int, nas_interface: int, marker: Marker, accesses: list[str]
    ) -> None:
        """`accesses`: by interface; empty for one that is not a UE's end."""
        self._marker = marker
        self._accesses = accesses
        self._keys: dict[int, str] = {}         # captured packet -> the key container in it, in words
        self.result = ComposeResult()
        self._writer = writer
        self._nas = nas
        self._inner_interface = inner_interface
        self._nas_interface = nas_interface
        self._pending: deque[tuple[Record, bool]] = deque()
        self._clear: dict[int, list[ClearPacket]] = {}

    def step(self, step: Step, oldest: int | None) -> None:
        """A captured frame is written when all its packets are out: the order of the capture stays."""
        if step.record is not None:
            self._pending.append((step.record, step.quic))
            if step.flow is not None and step.flow.protocol == TCP and (
                    step.flow.destination_port in PORTS or step.flow.source_port in PORTS):
                self._pdus(step)
        for packet in step.packets:
            self._clear.setdefault(packet.record, []).append(packet)
        while self._pending and (oldest is None or self._pending[0][0].number < oldest):
            record, quic = self._pending.popleft()
            self._write(record, quic, self._clear.pop(record.number, []))

    def _pdus(self, step: Step) -> None:
        assert step.record is not None and step.flow is not None
        for pdu in self._nas.feed(step.record.number, step.record.time_ns, step.flow):
            self.result.nas += 1
            self.result.nas_plain += pdu.plain is not None
            data, words = nas_comment(pdu)
            if KEY_CONTAINER in words:
                self._keys[step.record.number] = f"carries the key container: {words.partition(KEY_CONTAINER)[2].strip()}"
            flags = OUTBOUND if pdu.uplink else INBOUND
            self._pending.append((Record(step.record.number, -1, pdu.time_ns, exported_pdu(
                "nas-5gs", pdu.source, pdu.destination, data), 0, words, flags), False))

    def _write(self, record: Record, quic: bool, packets: list[ClearPacket]) -> None:
        if record.interface < 0:
            self._writer.packet(self._nas_interface, record.time_ns, record.data, record.comment, record.flags)
            return
        result = self.result
        result.packets += 1
        comment, flags = record.comment, record.flags
        access = self._accesses[record.interface]
        marks = self._marker.marks(record.time_ns, access, packets) if access else []
        if (key := self._keys.pop(record.number, None)) is not None:
            marks.append(key)
        if marks:
            comment = PREFIX + "; ".join(marks) + (f" | {comment}" if comment else "")
        if quic:
            words = " | ".join(packet.words() for packet in packets)
            comment = (f"{comment} | {words}" if comment else words)
        if len(comment) > COMMENT_MAX:
            comment = comment[:COMMENT_MAX - 1] + "…"
        if quic and packets:
            flags = OUTBOUND if packets[0].up else INBOUND
        self._writer.packet(record.interface, record.time_ns, record.data, comment, flags, record.length)
        for packet in packets:
            result.quic += 1
            if packet.reason:
                result.not_decrypted[packet.reason] = result.not_decrypted.get(packet.reason, 0) + 1
            else:
                result.decrypted += 1
            for inner in packet.inner_packets():
                result.inner += 1
                self._writer.packet(self._inner_interface, record.time_ns, inner,
                                    f"path {packet.path} pn {packet.number}", OUTBOUND if packet.up else INBOUND)


def compose(run_dir: Path, raw: str = RAW_NAME) -> ComposeResult:
    """run_dir/raw and the keys beside it -> run_dir/capture.pcapng, replaced at once when it is whole."""
    source, keys, nas_keys = run_dir / raw, run_dir / KEYLOG_NAME, run_dir / NAS_KEYS_NAME
    if not source.is_file():
        raise ComposeError(f"{source.name} is not in {run_dir}: the run captured nothing")
    keylog = load_keylog(source, keys if keys.is_file() else None)
    interfaces, secrets = read_secrets(source)
    lines = b"".join(secrets) + (keys.read_bytes() if keys.is_file() else b"")
    nas = NasReader(load_nas_keys(nas_keys) if nas_keys.is_file() else [])
    target = run_dir / CAPTURE_NAME
    part = target.with_suffix(".part")
    try:
        with source.open("rb") as stream, part.open("wb") as out:
            os.fchmod(out.fileno(), 0o600)          # it holds the connection's secrets
            with PcapngWriter(out) as writer:
                capture = CaptureDecryptor(stream, keylog)
                for interface in interfaces:
                    writer.interface(interface.linktype, interface.name, interface.snaplen)
                inner_interface = writer.interface(LINK_RAW, INNER_INTERFACE)
                nas_interface = writer.interface(LINK_EXPORTED_PDU, NAS_INTERFACE)
                if lines:
                    writer.secrets(keylog_lines(lines))
                accesses = [name.removeprefix("ue/") if name.startswith("ue/") else "" for name in (i.name for i in interfaces)]
                composer = _Composer(writer, nas, inner_interface, nas_interface, Marker(steps_of(read_run(source))), accesses)
                for step in capture.steps():
                    composer.step(step, capture.decryptor.oldest_waiting())
                composer.result.problem = capture.problem
                for number, figures in capture.statistics.items():
                    writer.statistics(number, figures)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return composer.result


def describe(pdu: NasPdu) -> str:
    """One line about a PDU, for a table."""
    return f"{address_text(pdu.source)} > {address_text(pdu.destination)} {nas_comment(pdu)[1]}"
