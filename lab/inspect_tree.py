"""One captured packet as a full tree: outer headers, each QUIC packet in clear, its frames, what they carry."""

from __future__ import annotations

import struct
from typing import Any

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, CookedLinuxV2, Ether, Loopback

from lab.capture_files import CaptureFiles
from lab.capture_scan import SERVER_PORT, CaptureDecryptor, Step
from lab.decrypt import ClearPacket
from lab.decrypt_keys import KeyLog
from lab.packets import frames as f
from lab.packets.errors import PacketError
from lab.packets.fields import Layer
from lab.packets.http3 import Capsules, H3Data, H3Frames, H3UniStream, HttpDatagram
from lab.packets.link import LINK_ETHERNET, LINK_EXPORTED_PDU, LINK_LOOP, LINK_NULL, LINK_SLL, LINK_SLL2, LINKS, UDP
from lab.packets.nas import Nas  # binds the ports of N1
from lab.packets.nas_plain import EPD_5GMM, EPD_5GSM, without_key
from lab.packets.pfcp_plain import PFCP_PORT
from lab.packets.quic import QuicProtectedShort, QuicWire, TransportParameters, clear_layer
from lab.packets.tls import CryptoStream, read_hello, write_transport_parameters
from lab.pcapng import Interface, Record

LINE_MAX = 200
OCTETS_IN_LINE = 16
FIRST = {LINK_ETHERNET: Ether, LINK_SLL: CookedLinux, LINK_SLL2: CookedLinuxV2, LINK_NULL: Loopback, LINK_LOOP: Loopback}


def packet_trees(
    files: CaptureFiles, keylog: KeyLog, number: int, port: int = SERVER_PORT, start_ns: int | None = None
) -> list[str]:
    """The layers of captured packet `number`, as text blocks; empty when there is no such packet. start_ns: second 0 of what is
    shown."""
    found: Step | None = None
    interface = Interface(0)
    packets: list[ClearPacket] = []
    capture = CaptureDecryptor(files, keylog, port)
    for step in capture.steps():
        if step.record is not None and step.record.number == number:
            found = step
            interface = capture.interfaces[step.record.interface]
        packets += [packet for packet in step.packets if packet.record == number]
        oldest = capture.decryptor.oldest_waiting()
        if found is not None and (oldest is None or oldest > number):
            break
    if found is None or found.record is None:
        return []
    out = [_head(found.record, files, interface, start_ns or 0), *_outer(found, interface.linktype, packets)]
    for packet in packets:
        connection = None if packet.connection is None else capture.decryptor.connections[packet.connection]
        out += _clear(packet, 3 if connection is None else connection.ack_delay_exponent(packet.up))
    return out


def _head(record: Record, files: CaptureFiles, interface: Interface, start_ns: int) -> str:
    comment = f"\n{record.comment}" if record.comment else ""
    place = files.place(record.number) if len(files.parts) > 1 else None
    where = "" if place is None else f" (No. {place[1]} of {place[0].path.name})"
    when = f"{(record.time_ns - start_ns) / 1e9:.6f} s" + (f" on {interface.name}" if interface.name else "")
    octets = f"{len(record.data)} of {record.length or len(record.data)} octets captured"
    return f"packet {record.number}{where}: {when}, {octets}{comment}"


def _show(layer: Any) -> str:
    lines = str(layer.show(dump=True)).rstrip().splitlines()
    return "\n".join(line if len(line) <= LINE_MAX else line[:LINE_MAX - 1] + "…" for line in lines)


def _outer(step: Step, linktype: int, packets: list[ClearPacket]) -> list[str]:
    record, flow = step.record, step.flow
    assert record is not None
    if linktype == LINK_EXPORTED_PDU:
        return [_exported(record.data)]
    if linktype not in LINKS:
        return [f"link type {linktype}: {record.data[:64].hex()}"]
    if flow is not None and flow.protocol == UDP and PFCP_PORT in (flow.source_port, flow.destination_port):
        import lab.packets.pfcp  # noqa: F401  (binds our IEs into scapy's PFCP, which takes a second to load)
    first = FIRST.get(linktype) or (IPv6 if record.data[:1] >= b"\x60" else IP)
    try:
        packet = first(record.data)
    except (struct.error, IndexError, ValueError):      # scapy's layers do not take what ends inside their header
        return [f"no {first.__name__} header: {record.data[:64].hex() or 'empty'}"]
    outer = packet.getlayer("UDP")
    if step.quic and outer is not None:
        outer.remove_payload()
        payload = flow.payload if flow is not None else b""
        if packets and packets[0].kind == "1rtt":
            return [_show(packet), _show(QuicProtectedShort(payload, dcid_length=len(packets[0].dcid)))]
        return [_show(packet), _show(QuicWire(payload))]
    return [_show(packet)]


def _exported(data: bytes) -> str:
    offset = 0
    while offset + 4 <= len(data):
        tag, size = int.from_bytes(data[offset:offset + 2], "big"), int.from_bytes(data[offset + 2:offset + 4], "big")
        offset += 4 + size
        if tag == 0:
            break
    body = data[offset:]
    if body[:1] not in (bytes((EPD_5GMM,)), bytes((EPD_5GSM,))):
        return f"exported PDU: {body[:64].hex()}"
    return _show(Nas(without_key(body)[0] if body[1:2] == b"\0" else body))


def _clear(packet: ClearPacket, exponent: int) -> list[str]:
    """exponent: of the ACK delays that this end sends (RFC 9000 §18.2)."""
    direction = "from the client" if packet.up else "from the server"
    title = f"--- {packet.kind} {direction}: "
    if packet.number is None:
        told = title + (packet.reason or f"dcid {packet.dcid.hex()} scid {packet.scid.hex()}")
        return [told, _show(QuicWire(packet.header))] if packet.header else [told]
    title += f"connection {packet.connection} path {packet.path} packet number {packet.number} key updates {packet.generation}"
    out = [title + (f" ({packet.reason})" if packet.reason else ""), _show(clear_layer(
        packet.kind, packet.header, packet.payload)), _octets("header in clear", packet.header), _octets("frames", packet.payload)]
    for frame in packet.frames:
        if isinstance(frame, f.Ack) and packet.kind == "1rtt":          # in Initial and Handshake it says nothing (§13.2.5)
            out.append(f"{frame.name}: its delay {frame.delay} is {(frame.delay << exponent) / 1000:.3f} ms, in units of "
                       f"{1 << exponent} us (ack_delay_exponent {exponent})")
        inside = _inside(packet, frame)
        if inside is not None:
            out.append(f"inside {frame.words()}:\n{_show(inside)}")
    return out


def _octets(what: str, data: bytes) -> str:
    """As Wireshark's packet bytes: 16 in a line, behind the place of the first."""
    lines = [f"octets of the {what}: {len(data)}"]
    for at in range(0, len(data), OCTETS_IN_LINE):
        part = data[at:at + OCTETS_IN_LINE]
        text = "".join(chr(c) if 0x20 <= c < 0x7F else "." for c in part)
        lines.append(f"  {at:04x}  {part.hex(' '):<{3 * OCTETS_IN_LINE - 1}}  {text}")
    return "\n".join(lines)


def _inside(packet: ClearPacket, frame: f.Frame) -> Layer | None:
    """What a frame carries, where one packet is enough to know."""
    if isinstance(frame, f.Datagram):
        return HttpDatagram(frame.data)
    if isinstance(frame, f.Crypto) and frame.offset == 0 and packet.kind in ("initial", "handshake"):
        for message in CryptoStream().add(0, frame.data):
            try:
                hello = read_hello(message)
            except PacketError:
                return None
            if hello is not None and hello.parameters:
                return TransportParameters(write_transport_parameters(hello.parameters))
    if isinstance(frame, f.Stream) and frame.data:
        if frame.stream & 2:                                    # unidirectional (RFC 9000 §2.1)
            return H3UniStream(frame.data) if frame.offset == 0 else None
        frames = H3Frames(frame.data)
        data = b"".join(bytes(h3.data) for h3 in frames.frames if isinstance(h3, H3Data))
        return frames / Capsules(data) if data else frames
    return None
