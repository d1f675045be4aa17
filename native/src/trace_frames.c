/* Frames in the trace: one table says which members of a parsed frame are kept and what qlog calls them, for the writer and the
 * reader alike. A kept frame: type, length, its members in the table's order, all varints; then what its `more` says. */
#include "core.h"
#include "trace_text.h"

enum more { NOTHING, RANGES, CONTENT, CONTENT_FIN, CID, OCTETS, TOKEN, CLOSE };
struct member { const char *name; size_t at; };
#define M(name, member) { name, offsetof(struct frame_in, member) }
#define MEMBERS 3

struct kept {
    uint64_t type, last;                /* of a range of types */
    const char *name, *fixed;           /* fixed: members that are the same for all of the type */
    enum more more;
    struct member members[MEMBERS];
};

static const struct kept table[] = {        /* what most frames are stands first */
    { F_DATAGRAM, F_DATAGRAM_LENGTH, "datagram", NULL, CONTENT, { { NULL, 0 } } },
    { F_PADDING, F_PADDING, "padding", NULL, NOTHING, { { NULL, 0 } } },
    { F_PING, F_PING, "ping", NULL, NOTHING, { { NULL, 0 } } },
    { F_ACK, F_ACK_ECN, "ack", NULL, RANGES, { { NULL, 0 } } },
    { F_RESET_STREAM, F_RESET_STREAM, "reset_stream", "\"error\":\"unknown\"", NOTHING,
      { M("stream_id", stream), M("error_code", code), M("final_size", value) } },
    { F_STOP_SENDING, F_STOP_SENDING, "stop_sending", "\"error\":\"unknown\"", NOTHING, { M("stream_id", stream), M("error_code", code) } },
    { F_CRYPTO, F_CRYPTO, "crypto", NULL, CONTENT, { M("offset", offset) } },
    { F_NEW_TOKEN, F_NEW_TOKEN, "new_token", NULL, TOKEN, { { NULL, 0 } } },
    { F_STREAM, F_STREAM_LAST, "stream", NULL, CONTENT_FIN, { M("stream_id", stream), M("offset", offset) } },
    { F_MAX_DATA, F_MAX_DATA, "max_data", NULL, NOTHING, { M("maximum", value) } },
    { F_MAX_STREAM_DATA, F_MAX_STREAM_DATA, "max_stream_data", NULL, NOTHING, { M("stream_id", stream), M("maximum", value) } },
    { F_MAX_STREAMS_BIDI, F_MAX_STREAMS_BIDI, "max_streams", "\"stream_type\":\"bidirectional\"", NOTHING, { M("maximum", value) } },
    { F_MAX_STREAMS_UNI, F_MAX_STREAMS_UNI, "max_streams", "\"stream_type\":\"unidirectional\"", NOTHING, { M("maximum", value) } },
    { F_DATA_BLOCKED, F_DATA_BLOCKED, "data_blocked", NULL, NOTHING, { M("limit", value) } },
    { F_STREAM_DATA_BLOCKED, F_STREAM_DATA_BLOCKED, "stream_data_blocked", NULL, NOTHING, { M("stream_id", stream), M("limit", value) } },
    { F_STREAMS_BLOCKED_BIDI, F_STREAMS_BLOCKED_BIDI, "streams_blocked", "\"stream_type\":\"bidirectional\"", NOTHING,
      { M("limit", value) } },
    { F_STREAMS_BLOCKED_UNI, F_STREAMS_BLOCKED_UNI, "streams_blocked", "\"stream_type\":\"unidirectional\"", NOTHING,
      { M("limit", value) } },
    { F_NEW_CONNECTION_ID, F_NEW_CONNECTION_ID, "new_connection_id", NULL, CID,
      { M("sequence_number", sequence), M("retire_prior_to", retire_prior_to) } },
    { F_RETIRE_CONNECTION_ID, F_RETIRE_CONNECTION_ID, "retire_connection_id", NULL, NOTHING, { M("sequence_number", sequence) } },
    { F_PATH_CHALLENGE, F_PATH_CHALLENGE, "path_challenge", NULL, OCTETS, { { NULL, 0 } } },
    { F_PATH_RESPONSE, F_PATH_RESPONSE, "path_response", NULL, OCTETS, { { NULL, 0 } } },
    { F_CLOSE, F_CLOSE, "connection_close", "\"error_space\":\"transport\"", CLOSE, { M("trigger_frame_type", value) } },
    { F_CLOSE_APPLICATION, F_CLOSE_APPLICATION, "connection_close", "\"error_space\":\"application\"", CLOSE, { { NULL, 0 } } },
    { F_HANDSHAKE_DONE, F_HANDSHAKE_DONE, "handshake_done", NULL, NOTHING, { { NULL, 0 } } },
    { F_PATH_ACK, F_PATH_ACK_ECN, "path_ack", NULL, RANGES, { M("path_id", path) } },
    { F_PATH_ABANDON, F_PATH_ABANDON, "path_abandon", NULL, NOTHING, { M("path_id", path), M("error_code", code) } },
    { F_PATH_STATUS_BACKUP, F_PATH_STATUS_BACKUP, "path_status_backup", NULL, NOTHING,
      { M("path_id", path), M("path_status_sequence_number", sequence) } },
    { F_PATH_STATUS_AVAILABLE, F_PATH_STATUS_AVAILABLE, "path_status_available", NULL, NOTHING,
      { M("path_id", path), M("path_status_sequence_number", sequence) } },
    { F_PATH_NEW_CONNECTION_ID, F_PATH_NEW_CONNECTION_ID, "path_new_connection_id", NULL, CID,
      { M("path_id", path), M("sequence_number", sequence), M("retire_prior_to", retire_prior_to) } },
    { F_PATH_RETIRE_CONNECTION_ID, F_PATH_RETIRE_CONNECTION_ID, "path_retire_connection_id", NULL, NOTHING,
      { M("path_id", path), M("sequence_number", sequence) } },
    { F_MAX_PATH_ID, F_MAX_PATH_ID, "max_path_id", NULL, NOTHING, { M("maximum_path_id", path) } },
    { F_PATHS_BLOCKED, F_PATHS_BLOCKED, "paths_blocked", NULL, NOTHING, { M("maximum_path_id", path) } },
    { F_PATH_CIDS_BLOCKED, F_PATH_CIDS_BLOCKED, "path_cids_blocked", NULL, NOTHING,
      { M("path_id", path), M("next_sequence_number", sequence) } },
};
#define ROWS (sizeof table / sizeof *table)

static const struct kept *kept_of(uint64_t type)
{
    for (size_t i = 0; i < ROWS; i++)
        if (type >= table[i].type && type <= table[i].last)
            return &table[i];
    return NULL;
}

/* ---- writing */

static uint8_t *ranges_put(uint8_t *p, const uint8_t *end, const struct frame_in *f, unsigned exponent)
{
    uint64_t delay = exponent < 21 && f->delay < 1ull << 40 ? f->delay << exponent : 0;
    uint64_t count = f->range_count < LIMIT_ACK_RANGES ? f->range_count : LIMIT_ACK_RANGES;
    if (end - p < 64 + 16 * (ptrdiff_t)count)
        return NULL;
    bool ecn = f->type == F_ACK_ECN || f->type == F_PATH_ACK_ECN;
    p = put_varint(p, delay);
    p = put_varint(p, f->largest);
    p = put_varint(p, count);
    p = put_varint(p, f->first_range);
    struct reader r = { f->ranges, f->ranges_end, false };
    for (uint64_t i = 0; i < 2 * count; i++)
        p = put_varint(p, read_varint(&r));
    for (int i = 0; ecn && i < 3; i++)
        p = put_varint(p, f->ecn[i]);
    return p;
}

static uint8_t *octets_put(uint8_t *p, const uint8_t *end, const uint8_t *data, size_t n)
{
    if ((size_t)(end - p) < n + 2)
        return NULL;
    p = put_varint(p, n);
    return n ? put_bytes(p, data, n) : p;
}

uint8_t *trace_frame_put(uint8_t *p, const uint8_t *end, const struct frame_in *f, unsigned ack_delay_exponent)
{
    const struct kept *k = kept_of(f->type);
    if (end - p < 64)
        return NULL;
    p = put_varint(p, k ? f->type : VARINT_MAX);
    p = put_varint(p, f->length);
    if (!k)
        return p;
    for (int i = 0; i < MEMBERS && k->members[i].name; i++) {
        uint64_t value;
        memcpy(&value, (const uint8_t *)f + k->members[i].at, sizeof value);
        p = put_varint(p, value);
    }
    switch (k->more) {
    case RANGES:
        return ranges_put(p, end, f, ack_delay_exponent);
    case CONTENT: case TOKEN:
        return put_varint(p, f->data_length);
    case CONTENT_FIN:
        *p++ = f->fin;
        return put_varint(p, f->data_length);
    case CID:
        return octets_put(p, end, f->data, f->data_length);
    case OCTETS:
        return octets_put(p, end, f->data, 8);
    case CLOSE:
        p = put_varint(p, f->code);
        return octets_put(p, end, f->data, f->data_length < 256 ? f->data_length : 256);
    case NOTHING:
        break;
    }
    return p;
}

/* ---- reading: JSON text */

static void ranges_text(struct trace_text *t, struct reader *r, bool ecn)
{
    uint64_t delay = read_varint(r), high = read_varint(r), count = read_varint(r), length = read_varint(r);
    text_put(t, ",\"ack_delay\":");
    text_ms(t, delay * 1000);
    text_put(t, ",\"acked_ranges\":[");
    for (uint64_t i = 0;; i++) {
        text_put(t, "[");
        text_number(t, high - length);
        if (length) {
            text_put(t, ",");
            text_number(t, high);
        }
        text_put(t, "]");
        if (i == count || r->bad)
            break;
        text_put(t, ",");
        uint64_t gap = read_varint(r);
        high = high - length - gap - 2;
        length = read_varint(r);
    }
    text_put(t, "]");
    static const char *const names[] = { ",\"ect0\":", ",\"ect1\":", ",\"ce\":" };
    for (int i = 0; ecn && i < 3; i++) {
        text_put(t, names[i]);
        text_number(t, read_varint(r));
    }
}

/* RFC 9000 §20.1, RFC 10069 §4.2.1. */
static void error_text(struct trace_text *t, uint64_t code, bool application)
{
    static const char *const names[] = {
        "no_error", "internal_error", "connection_refused", "flow_control_error", "stream_limit_error", "stream_state_error",
        "final_size_error", "frame_encoding_error", "transport_parameter_error", "connection_id_limit_error", "protocol_violation",
        "invalid_token", "application_error", "crypto_buffer_exceeded", "key_update_error", "aead_limit_reached", "no_viable_path",
    };
    text_put(t, ",\"error\":\"");
    if (!application && code < sizeof names / sizeof *names) {
        text_put(t, names[code]);
        text_put(t, "\"");
    } else if (!application && code >= 0x100 && code <= 0x1ff) {
        uint8_t low = (uint8_t)code;
        text_put(t, "crypto_error_0x1");
        text_hex(t, &low, 1);
        text_put(t, "\"");
    } else {
        text_put(t, "unknown\",\"error_code\":");
        text_number(t, code);
    }
}

/* A reason phrase is the peer's: plain text, or its octets. */
static void reason_text(struct trace_text *t, const uint8_t *p, size_t n)
{
    bool plain = true;
    for (size_t i = 0; i < n; i++)
        plain &= p[i] >= 0x20 && p[i] < 0x7f && p[i] != '"' && p[i] != '\\';
    text_put(t, plain ? ",\"reason\":\"" : ",\"reason_bytes\":\"");
    char one[2] = { 0, 0 };
    for (size_t i = 0; plain && i < n; i++) {
        one[0] = (char)p[i];
        text_put(t, one);
    }
    if (!plain)
        text_hex(t, p, n);
    text_put(t, "\"");
}

static void more_text(struct trace_text *t, struct reader *r, const struct kept *k, uint64_t type)
{
    uint64_t code, n;
    const uint8_t *p;
    switch (k->more) {
    case RANGES:
        ranges_text(t, r, type == F_ACK_ECN || type == F_PATH_ACK_ECN);
        return;
    case CONTENT_FIN:
        p = read_bytes(r, 1);
        text_put(t, p && *p ? ",\"fin\":true" : ",\"fin\":false");
        return;
    case TOKEN:
        text_put(t, ",\"token\":{\"type\":\"resumption\"}");
        return;
    case CID: case OCTETS:
        n = read_varint(r);
        p = read_bytes(r, n);
        if (k->more == CID) {
            text_put(t, ",\"connection_id_length\":");
            text_number(t, n);
        }
        text_put(t, k->more == CID ? ",\"connection_id\":\"" : ",\"data\":\"");
        if (p)
            text_hex(t, p, n);
        text_put(t, "\"");
        return;
    case CLOSE:
        code = read_varint(r);
        error_text(t, code, type == F_CLOSE_APPLICATION);
        n = read_varint(r);
        p = read_bytes(r, n);
        if (p && n)
            reason_text(t, p, n);
        return;
    case NOTHING: case CONTENT:
        return;
    }
}

void trace_frame_text(struct trace_text *t, struct reader *r)
{
    uint64_t type = read_varint(r), length = read_varint(r);
    const struct kept *k = kept_of(type);
    text_put(t, "{\"frame_type\":\"");
    if (!k) {                           /* it did not parse */
        text_put(t, "unknown\",\"frame_type_bytes\":0,\"raw\":{\"length\":");
        text_number(t, length);
        text_put(t, "}}");
        return;
    }
    text_put(t, k->name);
    text_put(t, "\"");
    if (k->fixed) {
        text_put(t, ",");
        text_put(t, k->fixed);
    }
    for (int i = 0; i < MEMBERS && k->members[i].name; i++) {
        text_put(t, ",\"");
        text_put(t, k->members[i].name);
        text_put(t, "\":");
        text_number(t, read_varint(r));
    }
    more_text(t, r, k, type);
    text_put(t, ",\"raw\":{\"length\":");
    text_number(t, length);
    if (k->more == CONTENT || k->more == CONTENT_FIN || k->more == TOKEN) {
        text_put(t, ",\"payload_length\":");
        text_number(t, read_varint(r));
    }
    text_put(t, "}}");
}
