"""QUIC by our layers and by aioquic's parsers, field by field: headers, frames, transport parameters; of a run and generated."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import pull_quic_transport_parameters
from drawn_layers import built, drawn
from hypothesis import strategies as st
from needs import needs_tun
from oracle_aioquic import FRAMES, HEADER, NAMES, AioquicReader, header, header_values, theirs
from oracle_compare import Mismatch, Tally, Values, assert_flips_are_caught, compare, ours
from oracle_recorded import QUIC_PORT, Recorded
from synthetic_capture import Capture, Talk
from test_oracle_quic_tshark import ANY_FRAME, EACH, LAST, PARAMETERS, retry

from lab.packets import frames as f
from lab.packets import quic
from lab.packets.tls import TRANSPORT_PARAMETERS, CryptoStream, read_hello, write_transport_parameters

Pair = tuple[str, Values, Values]


def frames_alike(where: str, kind: str, layers: list[Any], tally: Tally, reader: AioquicReader) -> list[Pair]:
    """Frame by frame, so that those that aioquic has are compared beside those that it does not have. It must take the octets
    of one frame for one frame: where frames end is compared, too."""
    pairs = []
    for layer in layers:
        if type(layer).__name__ not in NAMES:
            tally.left_out[layer.name] += 1
            continue
        mine, other = ours([layer], FRAMES), theirs(reader.frames(kind, bytes(layer)))
        compare(where, mine, other, tally)
        pairs.append((where, mine, other))
    return pairs


@needs_tun
def test_frames_of_a_run(recorded: Recorded) -> None:
    """Of every path: frames do not know on which they came."""
    tally, pairs, reader = Tally(), [], AioquicReader()
    for frame, packets in recorded.clear.items():
        for one in packets:
            if one.told.number is not None:
                pairs += frames_alike(f"frame {frame}", one.told.kind, one.layer.frames, tally, reader)
    tally.require(150, ["frame_type", "ack.acked_ranges", "ack.ack_delay", "crypto.offset", "crypto.data", "stream.stream_id",
                        "stream.data", "datagram.length", "connection_close.error_code", "path_challenge.data",
                        "path_response.data"])
    assert assert_flips_are_caught(pairs) > 10


@needs_tun
def test_headers_of_a_run(recorded: Recorded) -> None:
    """Every packet of every datagram, on every path."""
    tally, pairs = Tally(), []
    for frame, data in recorded.udp(QUIC_PORT):
        while data:
            layer, size = quic.QuicWire(data), header(data).packet_length
            rest = bytes(layer.payload) if isinstance(layer, quic.QuicProtectedLong) else b""
            assert len(rest) == len(data) - size, f"frame {frame}: aioquic sees a packet of {size} octets"
            layer.remove_payload()
            mine, other = ours([layer], HEADER), header_values(data)
            compare(f"frame {frame}", mine, other, tally)
            pairs.append((f"frame {frame}", mine, other))
            data = rest
    tally.require(200, ["version", "packet_type", "destination_cid", "source_cid", "token"])
    assert assert_flips_are_caught(pairs) >= 5


# ---- generated -------------------------------------------------------------------------------------------------------------


def test_any_frames() -> None:
    tally, pairs, reader = Tally(), [], AioquicReader()
    some = drawn(st.tuples(st.lists(ANY_FRAME, min_size=1, max_size=4), LAST), 150)
    for frames, last in [*some, *(([frame], f.Padding(3)) for frame in EACH)]:
        payload = f.encode_frames([*frames, last])
        layers = quic.QuicShort(b"\x40" + bytes(9) + payload).frames
        pairs += frames_alike("generated", "1rtt", layers, tally, reader)
    assert set(tally.left_out) == {"ACK_FREQUENCY"}
    tally.require(200, [row.theirs for row in FRAMES if not row.theirs.startswith("crypto.")])
    assert assert_flips_are_caught(pairs) >= len(FRAMES) - 2


@pytest.mark.parametrize("spoilt", [
    "0205000006", "06", "1801000101", "0240", "0807", "3005",
], ids=["range below 0", "no offset", "short connection ID", "varint cut off", "no octet", "any datagram"])
def test_what_one_refuses_the_other_does(spoilt: str) -> None:
    """A frame that ends inside itself, or that says what cannot be."""
    data = bytes.fromhex(spoilt)
    read = AioquicReader().frames("1rtt", data)
    _, error = f.read_frames(data)
    assert (read[-1]["frame_type"] == "refused") == (error is not None)


def test_headers_of_every_kind() -> None:
    capture = Capture()
    tally, pairs = Tally(), []
    some = st.tuples(st.binary(max_size=40), st.lists(ANY_FRAME, min_size=2, max_size=3))
    for seed, (token, frames) in enumerate(drawn(some, 40)):
        talk = Talk(capture, seed=seed)
        talk.token = token
        for data in (talk.long("initial", True, frames), talk.long("handshake", False, [f.Padding(40)]),
                     talk.short(True, 0, frames), retry(talk, token + b"x"),
                     bytes(quic.QuicVersionNegotiation(dcid=talk.client_cid, scid=talk.server_cid, versions=[1, 0x1A2A3A4A]))):
            mine, other = ours([quic.QuicWire(data)], HEADER), header_values(data)
            compare("generated", mine, other, tally)
            pairs.append(("generated", mine, other))
            if data[0] & 0x80 and data[1:5] == bytes(4):
                assert header(data).supported_versions == quic.QuicWire(data).versions == [1, 0x1A2A3A4A]
    tally.require(200, ["version", "packet_type", "destination_cid", "source_cid", "token", "integrity_tag"])
    assert assert_flips_are_caught(pairs) == 6


# ---- transport parameters --------------------------------------------------------------------------------------------------

ATTRIBUTES = {key: name for key, name in TRANSPORT_PARAMETERS.items() if key <= 0x11 or key == 0x20}


def parameters_alike(data: bytes, tally: Tally) -> None:
    read = pull_quic_transport_parameters(Buffer(data=data))
    layer = quic.TransportParameters(data)
    for key, name in ATTRIBUTES.items():
        mine, other = layer.parameter(key), getattr(read, name)
        if key == 0x0C:
            mine, other = mine is not None, bool(other)
        elif key == 0x0D and other is not None:
            (address,) = mine
            mine = ((address.ipv4, address.ipv4_port), (address.ipv6, address.ipv6_port), address.cid, address.token)
            other = (other.ipv4_address, other.ipv6_address, other.connection_id, other.stateless_reset_token)
        elif key == 0x11 and other is not None:
            mine, other = (mine[0].chosen, mine[0].available), (other.chosen_version, other.available_versions)
        if mine != other:
            raise Mismatch(f"{name}: ours {mine!r}, theirs {other!r}")
        tally.fields[name] += mine is not None and mine is not False
    tally.packets += 1


@needs_tun
def test_transport_parameters_of_a_run(recorded: Recorded) -> None:
    tally = Tally()
    streams: dict[tuple[int | None, str, bool], CryptoStream] = {}
    for packets in recorded.clear.values():
        for one in packets:
            for frame in one.told.frames if one.told.number is not None else []:
                if isinstance(frame, f.Crypto):
                    stream = streams.setdefault((one.told.connection, one.told.kind, one.told.up), CryptoStream())
                    for message in stream.add(frame.offset, frame.data):
                        hello = read_hello(message)
                        if hello is not None and hello.parameters:
                            parameters_alike(write_transport_parameters(hello.parameters), tally)
    tally.require(4, ["max_idle_timeout", "initial_source_connection_id", "max_datagram_frame_size", "initial_max_data",
                      "original_destination_connection_id", "stateless_reset_token"])


def test_any_transport_parameters() -> None:
    tally = Tally()
    versions = st.none() | built("TransportParameterVersions").filter(
        lambda one: one.value and 0 not in (one.value[0].chosen, *one.value[0].available))
    for parameters, more in drawn(st.tuples(PARAMETERS, versions), 50):
        layers = [*parameters.values(), *([more] if more is not None else []), quic.TransportParameter(id=0x0C)]
        parameters_alike(bytes(quic.TransportParameters(parameters=layers)), tally)
    tally.require(50, ATTRIBUTES.values())
    with pytest.raises(Mismatch, match="max_idle_timeout"):
        quic.PARAMETER_LAYERS[0x01], kept = quic.TransportParameter, quic.PARAMETER_LAYERS[0x01]
        try:
            parameters_alike(bytes.fromhex("01024064"), tally)
        finally:
            quic.PARAMETER_LAYERS[0x01] = kept
