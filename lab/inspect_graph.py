"""`mpq inspect --flow-graph`: the procedure between UE, AMF, SMF and UPF as a ladder diagram, text and SVG.

Messages come from the capture: NAS on N1, PFCP on N4, and QUIC where a packet sets something up or ends it. SBI is TLS of
the core and stays closed: its messages, and what happens inside a node, come from the run's events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from lab.capture_compose import NAS_KEYS_NAME, nas_comment
from lab.capture_files import CaptureFiles
from lab.capture_scan import SERVER_PORT, CaptureDecryptor
from lab.decrypt import ClearPacket
from lab.decrypt_keys import KeyLog
from lab.decrypt_nas import PORTS, NasReader, load_nas_keys
from lab.inspect_paths import access_of
from lab.inspect_rows import Filter
from lab.inspect_run import RunRecord
from lab.packets import frames as f
from lab.packets.link import TCP, UDP, address_text
from lab.packets.masque import H3_FRAMES, read_typed
from lab.packets.pfcp_plain import PFCP_PORT, pfcp_words
from lab.packets.tls import CryptoStream

NODES = ("UE", "AMF", "SMF", "UPF")
MESSAGES_MAX = 2000
HANDSHAKE = {1: "ClientHello", 2: "ServerHello", 4: "NewSessionTicket", 8: "EncryptedExtensions", 20: "Finished"}
TOLD = (f.PathChallenge, f.PathResponse, f.PathAbandon, f.PathStatusBackup, f.PathStatusAvailable, f.HandshakeDone,
        f.ConnectionClose, f.ApplicationClose)
FROM_SMF = ("Session Establishment Request", "Session Modification Request", "Session Deletion Request")
PLAIN_BITS = sum(1 << kind for kind in (0x00, 0x01, 0x02, 0x03, 0x30, 0x31, 0x3E, 0x3F))
# Messages that cross SBI, which the capture has in TLS only: event -> from, to, words (of the event's fields)
SBI = {
    ("amf", "pdu_session_requested"): ("AMF", "SMF", "Nsmf_PDUSession_CreateSMContext, session {pdu_session_id}"),
    ("smf", "pdu_session_established"): ("SMF", "AMF", "Namf_Communication_N1N2MessageTransfer: accept, {ipv4}"),
    ("smf", "key_request_forwarded"): ("SMF", "AMF", "POST MPQUIC key request, {reason}"),
    ("amf", "key_sent_smf"): ("AMF", "SMF", "MPQUIC key generation {generation}, fingerprint {fingerprint}"),
}
# What happens inside a node: event -> words
INSIDE = {
    ("amf", "key_derived"): "derives K_MPQUIC generation {generation} from K_AMF, fingerprint {fingerprint}",
    ("upf", "key_installed"): "installs key generation {generation}, fingerprint {fingerprint}",
    ("upf", "key_spent"): "key generation {generation} is spent: the client's Finished verified",
    ("upf", "tunnel_bound"): "the session's address is bound to the connection of generation {generation}",
    ("ue", "key_received"): "has key generation {generation}, fingerprint {fingerprint}",
    ("ue", "connection_ready"): "connection of key generation {generation} is ready",
    ("ue", "connection_closed"): "connection of key generation {generation} is closed: {reason}",
    ("ue", "rekey_requested"): "wants a new key", ("amf", "rekey_requested"): "has a new key made, asked by {by}",
}
LAB = {"cut": "the lab cuts {access}", "restore": "the lab restores {access}", "rekey": "the lab asks for a re-key, by {by}",
       "phase": "traffic: {phase}", "kill": "the lab kills {target}", "shape": "the lab shapes {access}"}


@dataclass(frozen=True, slots=True)
class Message:
    """target None: something inside `source`; source None, too: something of the lab, across all."""

    time_ns: int
    source: str | None
    target: str | None
    channel: str                # N1 wifi, N4, SBI, QUIC path 0, or empty
    text: str


class _Fields(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "-"


def _event_messages(run: RunRecord) -> Iterator[Message]:
    if run.start_ns is None:
        return
    for event in run.events:
        node, name = str(event.get("node")), str(event.get("event"))
        time_ns = run.start_ns + round(event["t"] * 1e9)
        fields = _Fields({k: v for k, v in event.items() if isinstance(v, str | int | float)})
        if (node, name) in SBI:
            source, target, words = SBI[node, name]
            yield Message(time_ns, source, target, "SBI", words.format_map(fields))
        elif (node, name) in INSIDE:
            yield Message(time_ns, node.upper(), None, "", INSIDE[node, name].format_map(fields))
        elif node == "lab" and name in LAB:
            yield Message(time_ns, None, None, "", LAB[name].format_map(fields))


class _Quic:
    """Which QUIC packets are worth a line, and its words."""

    def __init__(self) -> None:
        self._carries: set[tuple[int, int, bool]] = set()
        self._generations: dict[tuple[int, bool], int] = {}
        self._crypto: dict[tuple[int | None, str, bool], CryptoStream] = {}

    def words(self, packet: ClearPacket) -> list[str]:
        if packet.kind in ("retry", "version-negotiation", "stateless-reset"):
            return [packet.kind]
        if packet.number is None or packet.reason:
            return []
        out: list[str] = []
        if packet.kind == "1rtt":
            assert packet.connection is not None and packet.path is not None
            if packet.inner_count and (key := (packet.connection, packet.path, packet.up)) not in self._carries:
                self._carries.add(key)
                out.append("first IP packet on this path")
            before = self._generations.setdefault((packet.connection, packet.up), packet.generation)
            if packet.generation > before:
                self._generations[packet.connection, packet.up] = packet.generation
                out.append(f"key update {packet.generation}")
            if packet.frame_bits and not packet.frame_bits & ~PLAIN_BITS:
                return out
        for frame in packet.frames:
            if isinstance(frame, f.Crypto):
                stream = self._crypto.setdefault((packet.connection, packet.kind, packet.up), CryptoStream())
                for message in stream.add(frame.offset, frame.data):
                    out.append(HANDSHAKE.get(message[0], f"handshake message {message[0]}"))
            elif isinstance(frame, TOLD):
                name = frame.words() if not isinstance(frame, f.PathChallenge | f.PathResponse) else frame.name
                out.append(name)
            elif isinstance(frame, f.Stream) and frame.data:
                out += _http3(frame)
        return list(dict.fromkeys(out))


def _http3(frame: f.Stream) -> list[str]:
    """HTTP/3 frames that begin with this STREAM frame; the control stream's type is passed over (RFC 9114 §6.2)."""
    data = frame.data
    if frame.stream & 2 and frame.offset == 0:
        if data[0] != 0:
            return []
        data = data[1:]
    names = {0x01: "HEADERS (CONNECT-IP)", 0x04: "SETTINGS", 0x07: "GOAWAY"}
    return [f"HTTP/3 {names[kind]}" for kind, _, _ in read_typed(data) if kind in names and kind in H3_FRAMES]


def graph_messages(files: CaptureFiles, keylog: KeyLog, run: RunRecord, wanted: Filter,
                   port: int = SERVER_PORT) -> tuple[list[Message], int]:
    """In the order of time; and how many more there were than MESSAGES_MAX."""
    nas_keys = files.first.with_name(NAS_KEYS_NAME)
    nas = NasReader(load_nas_keys(nas_keys) if nas_keys.is_file() else [])
    upf = {str(e.get("peer")) for e in run.events if e.get("node") == "smf" and e.get("event") == "association_up"}
    smf = {str(e.get("peer")) for e in run.events if e.get("node") == "upf" and e.get("event") == "association_up"}
    found: list[Message] = []
    left_out = 0
    quic = _Quic()

    def put(message: Message) -> None:
        nonlocal left_out
        if wanted.time(message.time_ns):
            if len(found) < MESSAGES_MAX:
                found.append(message)
            else:
                left_out += 1

    reader = CaptureDecryptor(files, keylog, port, lean=True)
    for step in reader.steps():
        record, flow = step.record, step.flow
        if record is not None and flow is not None and not step.quic:
            if flow.protocol == UDP and PFCP_PORT in (flow.source_port, flow.destination_port):
                words = pfcp_words(flow.payload)
                if words.startswith("Heartbeat"):
                    continue
                source = address_text(flow.source)
                if words.startswith(FROM_SMF):
                    smf.add(source)
                up = source in smf or (source not in upf and words.startswith("Association Setup Request"))
                put(Message(record.time_ns, *(("SMF", "UPF") if up else ("UPF", "SMF")), "N4", words))
            elif flow.protocol == TCP and (flow.destination_port in PORTS or flow.source_port in PORTS):
                access = access_of(reader.interfaces[record.interface].name)
                for pdu in nas.feed(record.number, record.time_ns, flow):
                    ends = ("UE", "AMF") if pdu.uplink else ("AMF", "UE")
                    put(Message(record.time_ns, *ends, f"N1 {access}", nas_comment(pdu)[1].partition(": ")[2]))
        for packet in step.packets:
            words_of = quic.words(packet)
            if words_of:
                level = {"1rtt": f"path {packet.path}", "initial": "Initial", "handshake": "Handshake"}.get(packet.kind, "")
                access = access_of(reader.interfaces[packet.interface].name)
                put(Message(packet.time_ns, *(("UE", "UPF") if packet.up else ("UPF", "UE")), f"QUIC {access}",
                            (f"{level}: " if level else "") + "; ".join(words_of)))
    for message in _event_messages(run):
        put(message)
    return sorted(found, key=lambda message: message.time_ns), left_out


# ---- text ------------------------------------------------------------------------------------------------------------

GAP = 13                        # between two lifelines


def graph_text(messages: list[Message], start_ns: int, left_out: int = 0) -> str:
    lines = [f"{'time/s':>10}  " + "".join(f"{node:<{GAP}}" for node in NODES).rstrip()]
    for message in messages:
        t = f"{(message.time_ns - start_ns) / 1e9:>10.3f}  "
        if message.source is None:
            lines.append(t + "~" * (GAP * (len(NODES) - 1) + 1) + "  " + message.text)
            continue
        row = list(("│" + " " * (GAP - 1)) * (len(NODES) - 1) + "│")
        start = NODES.index(message.source) * GAP
        if message.target is None:
            row[start] = "●"
        else:
            end = NODES.index(message.target) * GAP
            low, high = min(start, end), max(start, end)
            row[low + 1:high] = ("═" if message.channel.startswith("QUIC") else "─") * (high - low - 1)
            row[end - 1 if end > start else end + 1] = ">" if end > start else "<"
        channel = f"{message.channel}: " if message.channel else f"{message.source} "
        lines.append(t + "".join(row) + "  " + channel + message.text)
    if left_out:
        lines.append(f"{left_out} more messages are left out: --between chooses a part")
    return "\n".join(lines)


# ---- SVG -------------------------------------------------------------------------------------------------------------

ROW, LEFT, COLUMN = 22, 90, 260
COLOURS = {"N1": "#1b6e3c", "N4": "#8a4b08", "SBI": "#5b2a86", "QUIC": "#0b5394"}


def graph_svg(messages: list[Message], start_ns: int, title: str) -> str:
    """A page of its own: no script, no font or style from elsewhere."""
    height = 70 + ROW * len(messages)
    width = LEFT + COLUMN * (len(NODES) - 1) + 520
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="12">',
           f"<title>{escape(title)}</title>", '<rect width="100%" height="100%" fill="white"/>']
    for index, node in enumerate(NODES):
        x = LEFT + COLUMN * index
        out.append(f'<text x="{x}" y="28" text-anchor="middle" font-size="15" font-weight="bold">{node}</text>'
                   f'<line x1="{x}" y1="36" x2="{x}" y2="{height - 10}" stroke="#999"/>')
    last = LEFT + COLUMN * (len(NODES) - 1)
    for number, message in enumerate(messages):
        y = 60 + ROW * number
        t = (message.time_ns - start_ns) / 1e9
        out.append(f'<text x="{LEFT - 14}" y="{y + 4}" text-anchor="end" fill="#666">{t:.3f}</text>')
        text = escape((f"{message.channel}: " if message.channel else "") + message.text)
        if message.source is None:
            out.append(f'<line x1="{LEFT}" y1="{y}" x2="{last}" y2="{y}" stroke="#c00" stroke-dasharray="4 3"/>'
                       f'<text x="{last + 16}" y="{y + 4}" fill="#c00">{text}</text>')
            continue
        x1 = LEFT + COLUMN * NODES.index(message.source)
        if message.target is None:
            out.append(f'<circle cx="{x1}" cy="{y}" r="4"/><text x="{x1 + 10}" y="{y + 4}" fill="#333">{text}</text>')
            continue
        x2 = LEFT + COLUMN * NODES.index(message.target)
        colour = COLOURS.get(message.channel.split(" ")[0], "#333")
        tip = 8 if x2 > x1 else -8
        out.append(f'<line x1="{x1}" y1="{y}" x2="{x2}" y2="{y}" stroke="{colour}" stroke-width="1.5"/>'
                   f'<path d="M{x2} {y} l{-tip} -4 v8 z" fill="{colour}"/>'
                   f'<text x="{last + 16}" y="{y + 4}" fill="{colour}">{text}</text>')
    return "\n".join([*out, "</svg>", ""])
