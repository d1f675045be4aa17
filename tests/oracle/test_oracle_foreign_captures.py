"""Captures of another stack, with its own key log and connection IDs of other lengths than ours: aioquic's endpoints talk, and what
the decryptor reads is held against what they log themselves, against their parsers, and against tshark."""

from __future__ import annotations

import io
import os
import ssl
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.logger import QuicLogger
from oracle_aioquic import AioquicReader
from oracle_compare import Row, Tally, assert_flips_are_caught, compare, number, octets
from oracle_tshark import tshark
from synthetic_capture import UE, Capture, ethernet, udp4
from test_oracle_quic_aioquic import frames_alike

from lab.bench.certificate import self_signed
from lab.capture_scan import CaptureDecryptor
from lab.clear import clear_packets
from lab.decrypt import NO_CID, NOT_AUTHENTIC, PADDING_BEHIND, ClearPacket
from lab.decrypt_keys import KeyLog
from lab.pcapng import PcapngReader, PcapngWriter

LENGTHS = [(8, 8), (0, 4), (4, 0), (0, 0), (4, 8), (18, 20), (20, 18), (1, 20), (20, 0)]      # client's, server's
ROUNDS = 40
FIRST_DCID = 11                  # octets that the client's first Initial goes to


class Endpoints:
    """An aioquic client and server in one process, every datagram of theirs in a capture."""

    def __init__(self, capture: Capture, lengths: tuple[int, int], folder: Path) -> None:
        self.capture, self.lengths = capture, lengths
        self.keys = io.StringIO()
        self.now = 1000.0
        self.access = "3gpp"
        self.loggers = {True: QuicLogger(), False: QuicLogger()}
        made = self_signed("localhost")
        for name, text in (("cert.pem", made.certificate), ("key.pem", made.private_key)):
            (folder / name).write_text(text)
        shared: dict[str, Any] = {"alpn_protocols": ["oracle"], "max_datagram_frame_size": 1200, "secrets_log_file": self.keys}
        client = QuicConfiguration(is_client=True, connection_id_length=lengths[0], quic_logger=self.loggers[True],
                                   verify_mode=ssl.CERT_NONE, server_name="localhost", **shared)
        server = QuicConfiguration(is_client=False, connection_id_length=lengths[1], quic_logger=self.loggers[False], **shared)
        server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.client = QuicConnection(configuration=client)
        first = os.urandom(FIRST_DCID)          # RFC 9000 §7.2: at least 8 octets; aioquic takes as many as its own have
        self.client._peer_cid.cid = self.client._original_destination_connection_id = first
        self.client.connect(("10.100.0.1", 4433), now=self.now)
        self.server = QuicConnection(configuration=server,
                                     original_destination_connection_id=self.client.original_destination_connection_id)
        self.ends = {True: self.client, False: self.server}
        for up, length in zip((True, False), lengths, strict=True):
            if not length:                      # an end without connection IDs must not issue any (RFC 9000 §19.15); aioquic would
                self.ends[up]._replenish_connection_ids = lambda: None  # type: ignore[method-assign]

    def exchange(self) -> None:
        """Until nobody has anything to send."""
        for _ in range(50):
            self.now += 0.03
            sent = 0
            for up in (True, False):
                one, other = self.ends[up], self.ends[not up]
                timer = one.get_timer()
                if timer is not None and timer <= self.now:
                    one.handle_timer(self.now)
                for data, _ in one.datagrams_to_send(self.now):
                    self.capture.udp(up, self.access, data)
                    other.receive_datagram(data, (UE[self.access], 40000) if up else ("10.100.0.1", 4433), self.now)
                    sent += 1
            if not sent:
                return

    def talk(self, rounds: int) -> None:
        for i in range(rounds):
            self.client.send_stream_data(0, b"up %d " % i * 50)
            self.server.send_datagram_frame(b"down %d " % i * 40)
            self.exchange()

    def told(self, up: bool) -> Counter[tuple[Any, ...]]:
        """What this end says that it sent: kind, packet number, connection IDs, frames."""
        (trace,) = self.loggers[up].to_dict()["traces"]
        kinds = {"initial": "initial", "handshake": "handshake", "1RTT": "1rtt"}
        out: Counter[tuple[Any, ...]] = Counter()
        for event in trace["events"]:
            if event["name"] == "transport:packet_sent":
                header = event["data"]["header"]
                kind = kinds[header["packet_type"]]
                out[kind, header["packet_number"], header["dcid"], header["scid"] if kind != "1rtt" else "",
                    tuple(frame["frame_type"] for frame in event["data"]["frames"] if frame["frame_type"] != "padding")] += 1
        return out


def whole_talk(lengths: tuple[int, int], folder: Path) -> tuple[Endpoints, bytes]:
    """A handshake, traffic, another connection ID, another address of the client, two key updates."""
    capture = Capture()
    ends = Endpoints(capture, lengths, folder)
    ends.exchange()
    ends.talk(ROUNDS)
    if lengths[1]:
        ends.client.change_connection_id()
        ends.talk(3)
        ends.access = "wifi"                    # the same connection from another address
        ends.talk(ROUNDS)
        ends.access = "3gpp"
    for end in (ends.client, ends.server):
        end.request_key_update()
        ends.talk(ROUNDS)
    ends.client.close()
    ends.exchange()
    return ends, capture.bytes()


def read(capture: bytes, keys: str, **options: Any) -> list[ClearPacket]:
    log = KeyLog()
    log.add(keys.encode())
    packets = CaptureDecryptor(io.BytesIO(capture), log, **options).packets()
    return [packet for packet in packets if packet.reason != PADDING_BEHIND]       # aioquic pads datagrams, not packets


def ours(packets: list[ClearPacket], up: bool) -> Counter[tuple[Any, ...]]:
    names = {"new_connection_id": "new_connection_id"}
    out: Counter[tuple[Any, ...]] = Counter()
    for packet in packets:
        if packet.up == up:
            frames = [frame.name.lower() for frame in packet.frames if frame.name != "PADDING"]
            out[packet.kind, packet.number, packet.dcid.hex(), packet.scid.hex(), tuple(
                "connection_close" if name.startswith("connection_close") else names.get(name, name) for name in frames)] += 1
    return out


@pytest.fixture(scope="module", params=LENGTHS, ids=lambda pair: f"client {pair[0]}, server {pair[1]}")
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoints, bytes]]:
    yield whole_talk(request.param, tmp_path_factory.mktemp("foreign"))


@pytest.mark.parametrize("native", [True, False], ids=["with the clear reader", "Python alone"])
def test_every_packet_of_another_stack(foreign: tuple[Endpoints, bytes], native: bool) -> None:
    ends, capture = foreign
    packets = read(capture, ends.keys.getvalue(), native=native)
    assert not [packet.words() for packet in packets if packet.reason]
    assert {packet.generation for packet in packets} == {0, 1, 2}
    assert len(packets) > 4 * ROUNDS
    for up in (True, False):
        told = ends.told(up)
        assert told and ours(packets, up) == told


def test_frames_as_its_parsers_read_them(foreign: tuple[Endpoints, bytes], tmp_path: Path) -> None:
    ends, capture = foreign
    (tmp_path / "capture.pcapng").write_bytes(capture)
    (tmp_path / "keys.log").write_text(ends.keys.getvalue())
    tally, pairs, reader = Tally(), [], AioquicReader()
    for one in clear_packets(tmp_path / "capture.pcapng", tmp_path / "keys.log"):
        if one.told.reason == PADDING_BEHIND:
            continue
        assert one.layer.dcid == one.told.dcid and bytes(one.layer)[:len(one.told.header)] == one.told.header
        pairs += frames_alike(f"frame {one.told.record}", one.told.kind, one.layer.frames, tally, reader)
    tally.require(150, ["frame_type", "ack.acked_ranges", "crypto.data", "stream.data", "datagram.length"])
    assert assert_flips_are_caught(pairs) > 5


FIELDS = (
    Row("quic.packet_number", number, {"ClearPacket": "number"}),
    Row("quic.dcid", octets, {"ClearPacket": lambda packet: packet.dcid}),
    Row("quic.frame_type", number, {}),
)


def unpadded(frame: bytes, octets: int) -> bytes:
    """Ethernet, IPv4, UDP and `octets` of its payload: without the zeros that aioquic puts behind its packets. tshark takes them
    for one packet more; when what it makes of that looks like a key update, one time in five, it opens nothing behind it."""
    source, destination = (str(IPv4Address(frame[at : at + 4])) for at in (26, 30))
    ports = [int.from_bytes(frame[at : at + 2], "big") for at in (34, 36)]
    return ethernet(udp4(source, ports[0], destination, ports[1], frame[42 : 42 + octets]))


def test_as_tshark_reads_it(foreign: tuple[Endpoints, bytes], tmp_path: Path) -> None:
    """With the key log in the capture. Packet numbers and connection IDs of every frame that it opens; it must open most of them:
    where an end has no connection IDs, it loses the connection when the address changes."""
    ends, capture = foreign
    mine: dict[int, list[ClearPacket]] = {}
    for packet in read(capture, ends.keys.getvalue()):
        mine.setdefault(packet.record, []).append(packet)
    with (tmp_path / "capture.pcapng").open("wb") as out:
        writer, source = PcapngWriter(out), PcapngReader(io.BytesIO(capture))
        records = list(source)
        for interface in source.interfaces:
            writer.interface(interface.linktype, interface.name)
        writer.secrets(ends.keys.getvalue().encode())
        for record in records:
            octets_told = sum(packet.size for packet in mine.get(record.number, ()))
            writer.packet(record.interface, record.time_ns, unpadded(record.data, octets_told) if octets_told else record.data)
    theirs = tshark(tmp_path / "capture.pcapng", "quic", FIELDS)
    assert set(theirs) <= set(mine)
    tally, pairs = Tally(), []
    for record, packets in mine.items():
        told = theirs.get(record)
        if told is None or not told["quic.frame_type"]:
            tally.left_out["not opened"] += 1
            continue
        values = {"quic.packet_number": [packet.number for packet in packets],
                  "quic.dcid": [packet.dcid for packet in packets if packet.dcid], "quic.frame_type": []}
        other = told | {"quic.frame_type": [], "quic.dcid": [dcid for dcid in told["quic.dcid"] if dcid]}
        compare(f"frame {record}", values, other, tally)
        pairs.append((f"frame {record}", values, other))
    assert len(pairs) > (2 * ROUNDS if 0 in ends.lengths else 0.6 * len(mine)), tally.left_out
    assert assert_flips_are_caught(pairs) >= 1


# ---- what else must hold -------------------------------------------------------------------------------------------------------


def test_connections_of_every_length_at_once(tmp_path: Path) -> None:
    """In one capture, from the same addresses one behind the other, as a port is used again."""
    capture = Capture()
    keys, told = "", {True: Counter[Any](), False: Counter[Any]()}
    for at, lengths in enumerate(LENGTHS):
        folder = tmp_path / str(at)
        folder.mkdir()
        ends = Endpoints(capture, lengths, folder)
        ends.exchange()
        ends.talk(10)
        keys += ends.keys.getvalue()
        for up in told:
            told[up] += ends.told(up)
    packets = read(capture.bytes(), keys)
    assert not [packet.words() for packet in packets if packet.reason]
    assert {packet.connection for packet in packets} == set(range(len(LENGTHS)))
    for up, expected in told.items():
        assert ours(packets, up) == expected


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_a_capture_that_begins_behind_the_handshake(lengths: tuple[int, int], tmp_path: Path) -> None:
    """Then nobody said how long connection IDs are: the key log is tried on every length."""
    capture = Capture()
    ends = Endpoints(capture, lengths, tmp_path)
    ends.exchange()
    capture.hold()
    ends.talk(20)
    late = Capture()
    late.held = capture.held
    late.release()
    packets = read(late.bytes(), ends.keys.getvalue())
    assert len(packets) > 40
    assert not [packet.words() for packet in packets if packet.reason]


def test_the_canary_lengths_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what the handshake tells of lengths, nothing of 1-RTT opens."""
    ends, capture = whole_talk((4, 20), tmp_path)
    monkeypatch.setattr("lab.decrypt_routes.Routes.new_length", lambda self, length: False)
    monkeypatch.setattr("lab.decrypt.TRIAL_BUDGET", 0)
    reasons = Counter(packet.reason for packet in read(capture, ends.keys.getvalue()) if packet.kind == "1rtt")
    assert reasons[NO_CID] > ROUNDS and not reasons[""] and not reasons[NOT_AUTHENTIC]
