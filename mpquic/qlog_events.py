"""The events of Python's half of a connection in qlog's terms: its start and end, parameters, HTTP/3 and capsules."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from mpquic.h3_framing import Frame
from mpquic.h3_message import Headers
from mpquic.h3_settings import (
    BLOCKED_STREAMS,
    ENABLE_CONNECT_PROTOCOL,
    H3_DATAGRAM,
    MAX_FIELD_SECTION_SIZE,
    MAX_TABLE_CAPACITY,
)
from mpquic.reader import Reader

Emit = Callable[[str, dict[str, Any]], None]

_TRIGGERS = {"idle": "idle_timeout", "reset": "stateless_reset", "version": "version_mismatch", "error": "error"}
_ERRORS = (  # RFC 9000 §20.1, by code
    "no_error",
    "internal_error",
    "connection_refused",
    "flow_control_error",
    "stream_limit_error",
    "stream_state_error",
    "final_size_error",
    "frame_encoding_error",
    "transport_parameter_error",
    "connection_id_limit_error",
    "protocol_violation",
    "invalid_token",
    "application_error",
    "crypto_buffer_exceeded",
    "key_update_error",
    "aead_limit_reached",
    "no_viable_path",
)
_FIELDS_MOST, _VALUE_MOST = 16, 64  # of a field section: a peer must not make our log grow at will
_SETTINGS = {  # identifier -> name in a frame, name in parameters_set
    MAX_TABLE_CAPACITY: ("settings_qpack_max_table_capacity", "max_table_capacity"),
    MAX_FIELD_SECTION_SIZE: ("settings_max_field_section_size", "max_field_section_size"),
    BLOCKED_STREAMS: ("settings_qpack_blocked_streams", "blocked_streams_count"),
    ENABLE_CONNECT_PROTOCOL: ("settings_enable_connect_protocol", "extended_connect"),
    H3_DATAGRAM: ("settings_h3_datagram", "h3_datagram"),
}
_STREAM_TYPES = {0x00: "control", 0x01: "push", 0x02: "qpack_encode", 0x03: "qpack_decode"}
_CAPSULES = {0x00: "datagram", 0x01: "address_assign", 0x02: "address_request", 0x03: "route_advertisement"}


def endpoint(remote: tuple[str, int]) -> dict[str, Any]:
    """TupleEndpointInfo."""
    version = ip_address(remote[0].partition("%")[0]).version
    return {f"ip_v{version}": remote[0], f"port_v{version}": remote[1]}


def closed(source: str, code: int, application: bool, reason: str) -> dict[str, Any]:
    """quic:connection_closed. `source`: as CloseReason.source."""
    data: dict[str, Any] = {"initiator": "remote" if source in ("peer", "reset", "version") else "local"}
    if application:
        data |= {"application_error": "unknown", "error_code": code}
    elif source in ("local", "peer", "error"):
        if 0x100 <= code <= 0x1FF:
            data["connection_error"] = f"crypto_error_0x{code:x}"
        elif code < len(_ERRORS):
            data["connection_error"] = _ERRORS[code]
        else:
            data |= {"connection_error": "unknown", "error_code": code}
    if reason:
        data["reason"] = reason
    plain = "application" if application or code == 0 else "error"
    return data | {"trigger": _TRIGGERS.get(source, plain)}


class H3Log:
    """What HTTP/3 sends and gets. Header fields stand in it, contents of DATA do not."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    def stream(self, stream_id: int, kind: int | None, *, ours: bool) -> None:
        """`kind`: of a unidirectional stream; None: a request."""
        data: dict[str, Any] = {"initiator": "local" if ours else "remote", "stream_id": stream_id}
        known = "request" if kind is None else _STREAM_TYPES.get(kind)
        if known is None:
            reserved = kind is not None and kind >= 0x21 and (kind - 0x21) % 0x1F == 0
            data |= {"stream_type": "reserved" if reserved else "unknown", "stream_type_bytes": kind}
        else:
            data["stream_type"] = known
        self._emit("http3:stream_type_set", data)

    def settings(self, stream_id: int, payload: bytes, *, ours: bool) -> None:
        """`payload` of a good SETTINGS frame."""
        reader = Reader(payload)
        values = []
        while reader.left:
            values.append((reader.varint(), reader.varint()))
        parameters: dict[str, Any] = {"initiator": "local" if ours else "remote"}
        told = []
        for identifier, value in values:
            if identifier in _SETTINGS:
                name, parameter = _SETTINGS[identifier]
                told.append({"name": name, "value": value})
                parameters[parameter] = value
            else:
                told.append({"name": "unknown", "name_bytes": identifier, "value": value})
        self._frame(stream_id, {"frame_type": "settings", "settings": told}, ours)
        self._emit("http3:parameters_set", parameters)

    def headers(self, stream_id: int, headers: Headers, *, ours: bool) -> None:
        fields = [
            {"name": name[:_VALUE_MOST].decode("latin-1"), "value": value[:_VALUE_MOST].decode("latin-1")}
            for name, value in headers[:_FIELDS_MOST]
        ]
        self._frame(stream_id, {"frame_type": "headers", "headers": fields}, ours)

    def frame(self, stream_id: int, kind: int, length: int, *, ours: bool, value: int = 0) -> None:
        """Any other frame; `value`: its only varint, where it has one."""
        raw = {"payload_length": length}
        if kind == Frame.DATA:
            data: dict[str, Any] = {"frame_type": "data", "raw": raw}
        elif kind == Frame.GOAWAY:
            data = {"frame_type": "goaway", "id": value}
        elif kind in (Frame.MAX_PUSH_ID, Frame.CANCEL_PUSH):
            data = {"frame_type": Frame(kind).name.lower(), "push_id": value}
        else:
            reserved = kind >= 0x21 and (kind - 0x21) % 0x1F == 0
            data = {"frame_type": "reserved" if reserved else "unknown", "frame_type_bytes": kind, "raw": raw}
        self._frame(stream_id, data, ours)

    def _frame(self, stream_id: int, frame: dict[str, Any], ours: bool) -> None:
        self._emit("http3:frame_created" if ours else "http3:frame_parsed", {"stream_id": stream_id, "frame": frame})


def capsule(stream_id: int, kind: int, length: int) -> dict[str, Any]:
    """Our own schema: mpquic:capsule_created, mpquic:capsule_parsed."""
    return {"stream_id": stream_id, "capsule_type": _CAPSULES.get(kind, f"0x{kind:x}"), "raw": {"payload_length": length}}
