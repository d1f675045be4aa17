/* One frame on the wire -> struct frame_in (RFC 9000 §19, RFC 9221 §4, RFC 10069 §4). Every field is checked here, once. */
#include "core.h"

enum { I = 1, H = 2, O = 4 };           /* levels a frame may stand in (RFC 9000 §12.4) */

static bool is_multipath(uint64_t type)
{
    return type == F_PATH_ACK || type == F_PATH_ACK_ECN || (type >= F_PATH_ABANDON && type <= F_PATH_CIDS_BLOCKED);
}

static int allowed_levels(uint64_t type)
{
    if (is_multipath(type))
        return RULE(MP_65, true) ? O : I | H | O;
    switch (type) {
    case F_PADDING: case F_PING: case F_ACK: case F_ACK_ECN: case F_CRYPTO: case F_CLOSE:
        return I | H | O;
    default:
        return O;
    }
}

static bool known_type(uint64_t type, bool multipath)
{
    if (type <= F_HANDSHAKE_DONE || type == F_DATAGRAM || type == F_DATAGRAM_LENGTH)
        return true;
    return multipath && is_multipath(type);
}

/* RFC 9000 §19.3.1: no range may reach below 0. */
static bool ack_read(struct reader *r, struct frame_in *f, bool ecn)
{
    f->largest = read_varint(r);
    f->delay = read_varint(r);
    f->range_count = read_varint(r);
    f->first_range = read_varint(r);
    if (r->bad || f->first_range > f->largest)
        return false;
    uint64_t smallest = f->largest - f->first_range;
    f->ranges = r->p;
    for (uint64_t i = 0; i < f->range_count; i++) {
        uint64_t gap = read_varint(r), length = read_varint(r);
        if (r->bad || RULE(MP_67, gap + 2 > smallest || length > smallest - gap - 2))
            return false;
        smallest -= gap + 2 + length;
    }
    f->ranges_end = r->p;
    for (int i = 0; ecn && i < 3; i++)
        f->ecn[i] = read_varint(r);
    return !r->bad;
}

static bool cid_read(struct reader *r, struct frame_in *f)
{
    f->sequence = read_varint(r);
    f->retire_prior_to = read_varint(r);
    const uint8_t *n = read_bytes(r, 1);
    if (!n || *n > 20 || RULE(MP_76, *n < 1 || f->retire_prior_to > f->sequence))
        return false;
    f->data_length = *n;
    f->data = read_bytes(r, *n);
    f->token = read_bytes(r, 16);
    return !r->bad;
}

static bool data_read(struct reader *r, struct frame_in *f, bool explicit_length)
{
    uint64_t n = explicit_length ? read_varint(r) : (uint64_t)(r->end - r->p);
    f->data = read_bytes(r, n);
    f->data_length = (size_t)n;
    return !r->bad && f->offset + n <= VARINT_MAX;
}

static bool body_read(struct reader *r, struct frame_in *f)
{
    uint64_t t = f->type;
    switch (t) {
    case F_PADDING:
        while (r->p < r->end && *r->p == 0)
            r->p++;
        return true;
    case F_PING: case F_HANDSHAKE_DONE:
        return true;
    case F_PATH_ACK: case F_PATH_ACK_ECN:
        f->path = read_varint(r);
        return ack_read(r, f, t == F_PATH_ACK_ECN);
    case F_ACK: case F_ACK_ECN:
        return ack_read(r, f, t == F_ACK_ECN);
    case F_RESET_STREAM: case F_STOP_SENDING:
        f->stream = read_varint(r);
        f->code = read_varint(r);
        f->value = t == F_RESET_STREAM ? read_varint(r) : 0;
        return !r->bad;
    case F_MAX_STREAM_DATA: case F_STREAM_DATA_BLOCKED:
        f->stream = read_varint(r);
        f->value = read_varint(r);
        return !r->bad;
    case F_MAX_DATA: case F_DATA_BLOCKED:
        f->value = read_varint(r);
        return !r->bad;
    case F_MAX_STREAMS_BIDI: case F_MAX_STREAMS_UNI: case F_STREAMS_BLOCKED_BIDI: case F_STREAMS_BLOCKED_UNI:
        f->value = read_varint(r);
        return f->value <= 1ull << 60 && !r->bad;           /* RFC 9000 §19.11 */
    case F_CRYPTO:
        f->offset = read_varint(r);
        return data_read(r, f, true);
    case F_NEW_TOKEN:
        return data_read(r, f, true) && f->data_length > 0;
    case F_NEW_CONNECTION_ID:
        return cid_read(r, f);
    case F_PATH_NEW_CONNECTION_ID:
        f->path = read_varint(r);
        return cid_read(r, f);
    case F_RETIRE_CONNECTION_ID:
        f->sequence = read_varint(r);
        return !r->bad;
    case F_PATH_RETIRE_CONNECTION_ID: case F_PATH_STATUS_BACKUP: case F_PATH_STATUS_AVAILABLE: case F_PATH_CIDS_BLOCKED:
        f->path = read_varint(r);
        f->sequence = read_varint(r);
        return !r->bad;
    case F_PATH_ABANDON:
        f->path = read_varint(r);
        f->code = read_varint(r);
        return !r->bad;
    case F_MAX_PATH_ID: case F_PATHS_BLOCKED:
        f->path = read_varint(r);
        return !r->bad;
    case F_PATH_CHALLENGE: case F_PATH_RESPONSE:
        f->data = read_bytes(r, 8);
        return !r->bad;
    case F_CLOSE: case F_CLOSE_APPLICATION:
        f->code = read_varint(r);
        f->value = t == F_CLOSE ? read_varint(r) : 0;
        return data_read(r, f, true);
    case F_DATAGRAM: case F_DATAGRAM_LENGTH:
        return data_read(r, f, t == F_DATAGRAM_LENGTH);
    default:                                                /* STREAM: the only types left */
        f->fin = t & 1;
        f->stream = read_varint(r);
        f->offset = t & 4 ? read_varint(r) : 0;
        return data_read(r, f, t & 2);
    }
}

uint64_t frame_parse(const uint8_t *p, size_t n, int level, bool multipath, struct frame_in *f)
{
    struct reader r = { p, p + n, false };
    memset(f, 0, sizeof *f);
    f->start = p;
    f->type = read_varint(&r);
    /* before 1-RTT the peer's parameters may be on their way: a multipath frame is known, and wrong there (RFC 10069 §4) */
    if (r.bad || RULE(Q_17, !known_type(f->type, multipath || level != LEVEL_1RTT)))
        return FRAME_ENCODING_ERROR;
    if (RULE(Q_18, (size_t)(r.p - p) != varint_size(f->type)))
        return PROTOCOL_VIOLATION;                          /* RFC 9000 §12.4: shortest form of the type */
    if (RULE(Q_19, !(allowed_levels(f->type) & 1 << level)))
        return PROTOCOL_VIOLATION;
    if (!body_read(&r, f))
        return FRAME_ENCODING_ERROR;
    f->length = (size_t)(r.p - p);
    return 0;
}
