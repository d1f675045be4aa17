"""JSON Schema of the qlog records that we write, made by hand from the drafts' CDDL (draft-ietf-quic-qlog-main-schema,
-quic-events, -h3-events; WG repository at f8dfcfc). Stricter than the drafts: a member that is neither the draft's nor marked
as our extension below is an error, so that a misspelt one is found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

Schema = dict[str, Any]

UINT: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 64) - 1}
FLOAT: Schema = {"type": "number", "minimum": 0}
TEXT: Schema = {"type": "string"}
BOOL: Schema = {"type": "boolean"}
HEX: Schema = {"type": "string", "pattern": "^([0-9a-f]{2})*$"}
UINT8: Schema = UINT | {"maximum": 255}
UINT16: Schema = UINT | {"maximum": 65535}
UINT32: Schema = UINT | {"maximum": (1 << 32) - 1}


def words(text: str) -> list[str]:
    return text.split()


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def array(item: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": item, "minItems": least}


def group(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    """A CDDL group: these members and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


INITIATOR = one_of("local", "remote")
PATH = {"path_id": UINT32}  # our extension
RAW = group({}, {"length": UINT, "payload_length": UINT, "data": HEX})
ENDPOINT = group({}, {"ip_v4": TEXT, "port_v4": UINT16, "ip_v6": TEXT, "port_v6": UINT16, "connection_ids": array(HEX, 1)})
TOKEN = group({}, {"type": one_of("retry", "resumption"), "raw": RAW})
TRANSPORT_ERROR: Schema = {
    "anyOf": [
        one_of(
            *words(
                "no_error internal_error connection_refused flow_control_error stream_limit_error stream_state_error "
                "final_size_error frame_encoding_error transport_parameter_error connection_id_limit_error protocol_violation "
                "invalid_token application_error crypto_buffer_exceeded key_update_error aead_limit_reached no_viable_path unknown"
            ),
        ),
        {"type": "string", "pattern": "^crypto_error_0x1[0-9a-f][0-9a-f]$"},
    ]
}
HEADER = group(
    {"packet_type": one_of("initial", "handshake", "0RTT", "1RTT", "retry", "version_negotiation", "stateless_reset", "unknown")},
    {"packet_number": UINT, "key_phase": UINT, "scid": HEX, "dcid": HEX, "token": TOKEN} | PATH,
)
SPACE = one_of("initial", "handshake", "application_data")
DIRECTION = one_of("unidirectional", "bidirectional")
ACK: Schema = {
    "ack_delay": FLOAT,
    "acked_ranges": array(array(UINT, 1) | {"maxItems": 2}, 1),
    "ect0": UINT,
    "ect1": UINT,
    "ce": UINT,
}
NEW_CID = {"sequence_number": UINT, "retire_prior_to": UINT, "connection_id": HEX}

# frame_type -> its required and optional members; `raw` may stand in all. Those behind the line are RFC 10069's, of our own schema.
FRAMES: dict[str, tuple[dict[str, Schema], dict[str, Schema]]] = {
    "padding": ({}, {}),
    "ping": ({}, {}),
    "ack": ({}, ACK),
    "reset_stream": ({"stream_id": UINT, "error": one_of("unknown"), "final_size": UINT}, {"error_code": UINT}),
    "stop_sending": ({"stream_id": UINT, "error": one_of("unknown")}, {"error_code": UINT}),
    "crypto": ({"offset": UINT, "raw": RAW}, {}),
    "new_token": ({"token": TOKEN}, {}),
    "stream": ({"stream_id": UINT}, {"offset": UINT, "fin": BOOL}),
    "max_data": ({"maximum": UINT}, {}),
    "max_stream_data": ({"stream_id": UINT, "maximum": UINT}, {}),
    "max_streams": ({"stream_type": DIRECTION, "maximum": UINT}, {}),
    "data_blocked": ({"limit": UINT}, {}),
    "stream_data_blocked": ({"stream_id": UINT, "limit": UINT}, {}),
    "streams_blocked": ({"stream_type": DIRECTION, "limit": UINT}, {}),
    "new_connection_id": (NEW_CID, {"connection_id_length": UINT8}),
    "retire_connection_id": ({"sequence_number": UINT}, {}),
    "path_challenge": ({}, {"data": HEX}),
    "path_response": ({}, {"data": HEX}),
    "connection_close": (
        {},
        {
            "error_space": one_of("transport", "application"),
            "error": TRANSPORT_ERROR,
            "error_code": UINT,
            "reason": TEXT,
            "reason_bytes": HEX,
            "trigger_frame_type": UINT,
        },
    ),
    "handshake_done": ({}, {}),
    "unknown": ({"frame_type_bytes": UINT}, {}),
    "datagram": ({}, {}),
    # ----
    "path_ack": (PATH, ACK),
    "path_abandon": (PATH | {"error_code": UINT}, {}),
    "path_status_backup": (PATH | {"path_status_sequence_number": UINT}, {}),
    "path_status_available": (PATH | {"path_status_sequence_number": UINT}, {}),
    "path_new_connection_id": (PATH | NEW_CID, {"connection_id_length": UINT8}),
    "path_retire_connection_id": (PATH | {"sequence_number": UINT}, {}),
    "max_path_id": ({"maximum_path_id": UINT}, {}),
    "paths_blocked": ({"maximum_path_id": UINT}, {}),
    "path_cids_blocked": (PATH | {"next_sequence_number": UINT}, {}),
}


def _choice(key: str, table: dict[str, tuple[dict[str, Schema], dict[str, Schema]]]) -> Schema:
    """A union told apart by a member: errors name the branch that was meant."""
    branches = [
        {
            "if": {"properties": {key: {"const": name}}},
            "then": group({key: {"const": name}} | required, {"raw": RAW} | optional if key == "frame_type" else optional),
        }
        for name, (required, optional) in table.items()
    ]
    return {"type": "object", "required": [key], "properties": {key: one_of(*table)}, "allOf": branches}


FRAME = _choice("frame_type", FRAMES)
PACKET = {
    "frames": array(FRAME),
    "raw": RAW,
    "supported_versions": array(HEX | {"minLength": 8, "maxLength": 8}, 1),
    "frames_omitted": BOOL,  # our extension
}
KEY_TYPE = one_of(*(f"{side}_{level}_secret" for side in ("server", "client") for level in ("initial", "handshake", "1rtt")))
KEY = ({"key_type": KEY_TYPE}, {"key_phase": UINT, "trigger": one_of("tls", "remote_update", "local_update")})
PARAMETERS = words(
    "max_idle_timeout max_udp_payload_size ack_delay_exponent max_ack_delay active_connection_id_limit initial_max_data "
    "initial_max_stream_data_bidi_local initial_max_stream_data_bidi_remote initial_max_stream_data_uni initial_max_streams_bidi "
    "initial_max_streams_uni max_datagram_frame_size"
)
HEADER_FIELD = group({}, {"name": TEXT, "name_bytes": HEX, "value": TEXT, "value_bytes": HEX})
SETTING = group(
    {"value": UINT},
    {
        "name": one_of(
            "settings_qpack_max_table_capacity",
            "settings_max_field_section_size",
            "settings_qpack_blocked_streams",
            "settings_enable_connect_protocol",
            "settings_h3_datagram",
            "reserved",
            "unknown",
        ),
        "name_bytes": UINT,
    },
)
H3_FRAME = _choice(
    "frame_type",
    {
        "data": ({}, {}),
        "headers": ({"headers": array(HEADER_FIELD)}, {}),
        "settings": ({"settings": array(SETTING)}, {}),
        "goaway": ({"id": UINT}, {}),
        "cancel_push": ({"push_id": UINT}, {}),
        "max_push_id": ({"push_id": UINT}, {}),
        "reserved": ({"frame_type_bytes": UINT}, {}),
        "unknown": ({"frame_type_bytes": UINT}, {}),
    },
)
H3_EVENT = ({"stream_id": UINT, "frame": H3_FRAME}, {})
OURS_PATH = {"path": UINT32}

EVENTS: dict[str, tuple[dict[str, Schema], dict[str, Schema]]] = {
    "quic:connection_started": ({"local": ENDPOINT, "remote": ENDPOINT}, {"link": UINT}),
    "quic:connection_closed": (
        {},
        {
            "initiator": INITIATOR,
            "connection_error": TRANSPORT_ERROR,
            "application_error": one_of("unknown"),
            "error_code": UINT,
            "internal_code": UINT,
            "reason": TEXT,
            "trigger": one_of(
                "idle_timeout", "application", "error", "version_mismatch", "stateless_reset", "aborted", "unspecified"
            ),
        },
    ),
    "quic:parameters_set": (
        {},
        {
            "initiator": INITIATOR,
            "tls_cipher": TEXT,
            "original_destination_connection_id": HEX,
            "initial_source_connection_id": HEX,
            "retry_source_connection_id": HEX,
            "disable_active_migration": BOOL,
            "initial_max_path_id": UINT32,  # our extension
        }
        | dict.fromkeys(PARAMETERS, UINT),
    ),
    "quic:alpn_information": ({}, {"chosen_alpn": group({}, {"byte_value": HEX, "string_value": TEXT})}),
    "quic:tuple_assigned": ({"tuple_id": TEXT}, {"tuple_remote": ENDPOINT, "tuple_local": ENDPOINT, "link": UINT} | PATH),
    "quic:mtu_updated": ({"new": UINT32}, {"old": UINT32, "done": BOOL} | PATH),
    "quic:packet_sent": ({"header": HEADER}, PACKET | {"is_mtu_probe_packet": BOOL}),
    "quic:packet_received": ({"header": HEADER}, PACKET),
    "quic:packet_buffered": ({}, {"header": HEADER, "raw": RAW, "trigger": one_of("backpressure", "keys_unavailable")}),
    "quic:packet_dropped": (
        {"counter": TEXT},  # our extension
        {
            "header": HEADER,
            "raw": RAW,
            "details": {"type": "object"},
            "untold_before": UINT,
            "trigger": one_of(
                "internal_error",
                "rejected",
                "unsupported",
                "invalid",
                "duplicate",
                "connection_unknown",
                "decryption_failure",
                "key_unavailable",
                "general",
            ),
        },
    ),
    "quic:udp_datagram_dropped": ({"counter": TEXT}, {"raw": RAW, "untold_before": UINT}),  # counter, untold_before: our extension
    "quic:packets_acked": ({}, {"packet_number_space": SPACE, "packet_numbers": array(UINT, 1)} | PATH),
    "quic:packet_lost": (
        {},
        {
            "header": HEADER,
            "frames": array(FRAME),
            "is_mtu_probe_packet": BOOL,
            "trigger": one_of("reordering_threshold", "time_threshold", "pto_expired"),
        },
    ),
    "quic:recovery_metrics_updated": (
        {},
        dict.fromkeys(("min_rtt", "smoothed_rtt", "latest_rtt", "rtt_variance"), FLOAT)
        | dict.fromkeys(("congestion_window", "bytes_in_flight", "ssthresh", "packets_in_flight", "pacing_rate"), UINT)
        | {"pto_count": UINT16}
        | PATH,
    ),
    "quic:congestion_state_updated": ({"new": TEXT}, {"old": TEXT, "trigger": TEXT, "controller": TEXT} | PATH),
    "quic:ecn_state_updated": (
        {"new": one_of("testing", "unknown", "failed", "capable")},
        {"old": one_of("testing", "unknown", "failed", "capable"), "failure": TEXT} | PATH,  # failure: our extension
    ),
    "quic:connection_id_updated": ({"initiator": INITIATOR}, {"old": HEX, "new": HEX} | PATH),
    "quic:key_updated": KEY,
    "quic:key_discarded": KEY,
    "quic:migration_state_updated": (
        {
            "new": one_of(
                "probing_started",
                "probing_abandoned",
                "probing_successful",
                "migration_started",
                "migration_abandoned",
                "migration_complete",
            )
        },
        {"tuple_id": TEXT} | PATH,
    ),
    "http3:parameters_set": (
        {},
        {
            "initiator": INITIATOR,
            "max_field_section_size": UINT,
            "max_table_capacity": UINT,
            "blocked_streams_count": UINT,
            "extended_connect": UINT16,
            "h3_datagram": UINT16,
            "waits_for_settings": BOOL,
        },
    ),
    "http3:stream_type_set": (
        {
            "stream_id": UINT,
            "stream_type": one_of("request", "control", "push", "reserved", "unknown", "qpack_encode", "qpack_decode"),
        },
        {"initiator": INITIATOR, "stream_type_bytes": UINT},
    ),
    "http3:frame_created": H3_EVENT,
    "http3:frame_parsed": H3_EVENT,
    # our own schema
    "mpquic:inner_dropped": ({"counter": TEXT}, {"untold_before": UINT}),
    "mpquic:records_lost": ({"count": UINT}, {}),
    "mpquic:log_full": ({"octets": UINT}, {}),
    "mpquic:path_validated": (OURS_PATH | {"link": UINT, "rtt_ns": UINT}, {}),
    "mpquic:path_state": (OURS_PATH | {"state": TEXT, "reason": TEXT}, {}),
    "mpquic:path_abandoned": (OURS_PATH | {"code": UINT, "by_peer": BOOL}, {}),
    "mpquic:path_peer_opened": (OURS_PATH | {"link": UINT}, {}),
    "mpquic:path_status": (OURS_PATH | {"available": BOOL}, {}),
    "mpquic:path_mtu": (OURS_PATH | {"udp_payload": UINT, "inner_mtu": UINT}, {}),
    "mpquic:path_remote_changed": (OURS_PATH, {}),
    "mpquic:goaway": ({"identifier": UINT}, {}),
    "mpquic:connect_ip": ({"stream_id": UINT}, {}),
    "mpquic:tunnel_ended": ({"code": {"type": ["integer", "null"]}}, {}),
    "mpquic:capsule_created": ({"stream_id": UINT, "capsule_type": TEXT, "raw": RAW}, {}),
    "mpquic:capsule_parsed": ({"stream_id": UINT, "capsule_type": TEXT, "raw": RAW}, {}),
}

FIRST: Schema = group(
    {
        "file_schema": {"const": "urn:ietf:params:qlog:file:sequential"},
        "serialization_format": {"const": "application/qlog+json-seq"},
        "trace": group(
            {"event_schemas": array(TEXT | {"pattern": "^urn:"}, 1)},
            {
                "vantage_point": group({"type": one_of("client", "server", "network", "unknown")}, {"name": TEXT}),
                "common_fields": group(
                    {},
                    {
                        "time_format": one_of("relative_to_epoch", "relative_to_previous_event"),
                        "reference_time": group(
                            {"clock_type": TEXT, "epoch": {"const": "unknown"}},
                            {"wall_clock_time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}},
                        ),
                        "group_id": TEXT,
                    },
                ),
                "title": TEXT,
            },
        ),
    },
    {"title": TEXT, "description": TEXT},
)

_first = Draft202012Validator(FIRST)
_envelope = Draft202012Validator(
    group(
        {"time": FLOAT, "name": one_of(*EVENTS), "data": {"type": "object"}},
        {"tuple": TEXT, "group_id": HEX},
    )
)
_events = {name: Draft202012Validator(group(*members)) for name, members in EVENTS.items()}


class InvalidQlog(AssertionError):
    """A record is not as the drafts say."""


def records_of(text: bytes) -> list[dict[str, Any]]:
    """RFC 7464: each record is 0x1E, JSON, 0x0A; nothing stands between."""
    if text and (not text.startswith(b"\x1e") or not text.endswith(b"\n")):
        raise InvalidQlog("not a sequence of whole records")
    return [json.loads(one) for one in text.split(b"\x1e")[1:]]


def check_event(record: dict[str, Any]) -> None:
    try:
        _envelope.validate(record)
        _events[record["name"]].validate(record["data"])
    except ValidationError as error:
        raise InvalidQlog(f"{error.message} at {error.json_path} of {record}") from None


def check_first(record: dict[str, Any]) -> None:
    try:
        _first.validate(record)
    except ValidationError as error:
        raise InvalidQlog(f"{error.message} at {error.json_path} of {record}") from None


def check_events(records: Iterable[dict[str, Any]]) -> None:
    """Each is valid, and no time goes back."""
    last = 0.0
    for record in records:
        check_event(record)
        if record["time"] < last:
            raise InvalidQlog(f"time goes back to {record['time']} from {last}")
        last = record["time"]
