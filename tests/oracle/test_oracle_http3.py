"""HTTP/3 by our layers, by aioquic's H3 and by tshark: the streams of a run, and generated frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aioquic.h3.connection import (
    FrameType,
    H3Connection,
    H3Stream,
    encode_frame,
    encode_settings,
    parse_max_push_id,
    parse_settings,
)
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from drawn_layers import drawn
from hypothesis import strategies as st
from needs import needs_tun
from oracle_compare import Mismatch, Tally, assert_flips_are_caught, compare, ours
from oracle_recorded import Recorded
from oracle_tables import HTTP3
from oracle_tshark import tshark
from synthetic_capture import Capture, Talk
from test_oracle_quic_tshark import with_secrets

from lab.packets import frames as f
from lab.packets import http3
from lab.packets.varint import VARINT_MAX


class Quic:
    """As much of a connection as H3Connection asks for while it reads."""

    def __init__(self, is_client: bool) -> None:
        self.configuration = QuicConfiguration(is_client=is_client)
        self._quic_logger = None
        self._streams = iter(range(3, 100, 4))

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        return next(self._streams)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        pass

    def close(self, error_code: int, reason_phrase: str) -> None:
        raise AssertionError(f"aioquic refuses: {error_code:#x} {reason_phrase}")


class Frames(H3Connection):
    """Its reader, which tells the frames it finds instead of acting on them."""

    def __init__(self, is_client: bool) -> None:
        self.found: list[tuple[int, bytes]] = []
        super().__init__(Quic(is_client))

    def _check_control_frame_type(self, frame_type: int) -> None:
        pass

    def _check_request_or_push_frame_type(self, frame_type: int, stream: H3Stream) -> None:
        pass

    def _handle_control_frame(self, frame_type: int, frame_data: bytes) -> None:
        self.found.append((frame_type, frame_data))

    def _handle_request_or_push_frame(self, frame_type: int, frame_data: bytes | None, stream: H3Stream,
                                      stream_ended: bool) -> list[Any]:
        self.found.append((frame_type, frame_data or b""))
        return []


def by_aioquic(data: bytes, stream: int, is_client: bool) -> list[tuple[int, bytes]]:
    reader = Frames(is_client)
    reader.handle_event(StreamDataReceived(data=data, end_stream=False, stream_id=stream))
    return reader.found


PASSED_OVER = http3.H3Goaway | http3.H3CancelPush | http3.H3Frame | http3.Raw
"""What aioquic reads over: GOAWAY and CANCEL_PUSH, and unknown types (RFC 9114 §9). What follows shows how long they were."""


def by_us(data: bytes, stream: int) -> list[tuple[int, bytes]]:
    layer = http3.H3UniStream(data).payload if stream & 2 else http3.H3Frames(data)
    return [(frame.type, value(frame)) for frame in layer.frames if not isinstance(frame, PASSED_OVER)]


def value(frame: Any) -> bytes:
    """The frame without its type and length."""
    data = bytes(frame)
    for _ in range(2):
        data = data[1 << (data[0] >> 6):]
    return data


def streams_alike(data: bytes, stream: int, is_client: bool, tally: Tally) -> Any:
    theirs = by_aioquic(data, stream, is_client)
    mine = {"frames": by_us(data, stream)}
    compare(f"stream {stream}", mine, {"frames": theirs}, tally)
    return f"stream {stream}", mine, {"frames": theirs}


# ---- a run -----------------------------------------------------------------------------------------------------------------


def streams_of(recorded: Recorded) -> dict[tuple[int, bool, int], bytes]:
    """(connection, from the client, stream) -> its octets in order, as far as they are there without a gap."""
    pieces: dict[tuple[int, bool, int], dict[int, bytes]] = {}
    for packets in recorded.clear.values():
        for one in packets:
            for frame in one.layer.frames if one.told.number is not None else []:
                if frame.name == "STREAM":
                    at = frame.offset if frame.type & 4 else 0
                    pieces.setdefault((one.told.connection, one.told.up, frame.stream), {})[at] = frame.data
    whole = {}
    for key, parts in pieces.items():
        data = b""
        for at in sorted(parts):
            if at <= len(data):
                data += parts[at][len(data) - at:]
        whole[key] = data
    return whole


@needs_tun
def test_streams_of_a_run(recorded: Recorded) -> None:
    """Control streams and CONNECT-IP streams of both ends, before and after the re-key."""
    tally, pairs, settings = Tally(), [], 0
    for (_, up, stream), data in streams_of(recorded).items():
        if stream & 2 and data[0] != 0:
            continue                                        # QPACK
        pairs.append(streams_alike(data, stream, not up, tally))
        if stream & 2:
            (first, *_) = http3.H3UniStream(data).payload.frames
            assert parse_settings(value(first)) == {one.id: one.value for one in first.settings}
            settings += 1
    tally.require(6, ["frames"])
    assert settings >= 4
    kinds = {kind for _, mine, _ in pairs for kind, _ in mine["frames"]}
    assert {FrameType.SETTINGS, FrameType.HEADERS, FrameType.DATA} <= kinds


# ---- generated -------------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.integers(0, 63), st.integers(0, 16383), st.integers(0, VARINT_MAX))
some = st.binary(min_size=1, max_size=60)
SETTINGS = st.dictionaries(st.sampled_from([1, 6, 7, 8, 0x33, 0x21, 0x2B603742]), numbers, min_size=1)
REQUEST = st.lists(st.one_of(st.builds(lambda data: http3.H3Data(data=data), some),
                             st.builds(lambda section: http3.H3Headers(section=section), some),
                             st.builds(lambda data: http3.H3Frame(type=0x21, value=data), some)), min_size=1, max_size=4)
CONTROL = st.lists(st.one_of(st.builds(lambda n: http3.H3Goaway(id=n), numbers),
                             st.builds(lambda n: http3.H3MaxPushId(push_id=n), numbers),
                             st.builds(lambda n: http3.H3CancelPush(push_id=n), numbers)), max_size=3)


def settings_layer(values: dict[int, int]) -> http3.H3Settings:
    return http3.H3Settings(settings=[http3.H3Setting(id=key, value=number) for key, number in values.items()])


def test_any_frames_by_aioquic() -> None:
    tally, pairs = Tally(), []
    for request, values, control in drawn(st.tuples(REQUEST, SETTINGS, CONTROL), 80):
        pairs.append(streams_alike(b"".join(map(bytes, request)), 0, False, tally))
        first = settings_layer(values)
        pairs.append(streams_alike(b"\0" + bytes(first) + b"".join(map(bytes, control)), 2, False, tally))
        assert parse_settings(value(first)) == values and encode_settings(values) == value(first)
        assert bytes(first) == encode_frame(FrameType.SETTINGS, encode_settings(values))
        for frame in control:
            if isinstance(frame, http3.H3MaxPushId):
                assert parse_max_push_id(value(frame)) == frame.push_id
        for frame in request:
            assert encode_frame(frame.type, value(frame)) == bytes(frame)
    tally.require(160, ["frames"])
    where, mine, theirs = pairs[0]
    with pytest.raises(Mismatch, match="frames"):
        compare(where, {"frames": [(mine["frames"][0][0] ^ 1, mine["frames"][0][1]), *mine["frames"][1:]]}, theirs, Tally())


def test_any_frames_by_tshark(tmp_path: Path) -> None:
    """One STREAM frame carries a whole stream's beginning: tshark takes each apart for itself."""
    capture, talks, wanted, frame = Capture(), [], {}, 3
    connections = drawn(st.tuples(SETTINGS, CONTROL, st.lists(REQUEST, min_size=1, max_size=3)), 15)
    for seed, (values, control, requests) in enumerate(connections):
        talk = Talk(capture, seed=200 + seed)
        talks.append(talk)
        talk.handshake()
        frame = len(wanted) + 3 * len(talks)
        data = b"\0" + bytes(settings_layer(values)) + b"".join(map(bytes, control))
        talk.send(True, "3gpp", talk.short(True, 0, [f.Stream(2, data)]))
        frame += 1
        wanted[frame] = http3.H3UniStream(data)
        for number, request in enumerate(requests):
            data = b"".join(map(bytes, request))
            talk.send(True, "3gpp", talk.short(True, 0, [f.Stream(4 * number, data)]))
            frame += 1
            wanted[frame] = http3.H3Frames(data)
    path = with_secrets(capture, talks, tmp_path / "http3.pcapng")
    tally, pairs = Tally(), []
    for number, theirs in tshark(path, "http3", HTTP3).items():
        mine = ours([wanted[number]], HTTP3)
        compare(f"frame {number}", mine, theirs, tally)
        pairs.append((f"frame {number}", mine, theirs))
    tally.require(30, [row.theirs for row in HTTP3])
    assert assert_flips_are_caught(pairs) == len(HTTP3)
