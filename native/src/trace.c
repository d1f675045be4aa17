/* What happens, as records of the trace (trace.h): written into its ring (trace_ring.c) with the endpoint's lock held. */
#include "trace_ring.h"

#define DATAGRAM_HEAD 48                /* of one that is dropped: first byte, version, both connection IDs */

static uint8_t *body(struct trace_record *r) { return (uint8_t *)(r + 1); }

static int level_of(const struct path *p, const struct space *s)
{
    const struct conn *c = p->conn;
    return s == &c->early[LEVEL_INITIAL] ? LEVEL_INITIAL : s == &c->early[LEVEL_HANDSHAKE] ? LEVEL_HANDSHAKE : LEVEL_1RTT;
}

/* Most records: no body. */
static void simple(struct path *p, int kind, int level, int detail, uint64_t a, uint32_t b)
{
    struct trace_record *r = trace_begin_on(p, kind, 0);
    if (!r)
        return;
    r->level = (uint8_t)level;
    r->detail = (uint8_t)detail;
    r->a = a;
    r->b = b;
    trace_commit(p->conn->e->trace, r);
}

/* ---- packets */

/* The 4-tuple of a path is told before the first packet on it. */
static void tuple_tell(struct path *p)
{
    struct trace_record *r = trace_begin_on(p, TRACE_TUPLE, sizeof p->remote);
    if (!r)
        return;
    p->trace.tuple_told = true;
    r->a = p->link;
    r->body = sizeof p->remote;
    memcpy(body(r), &p->remote, sizeof p->remote);
    trace_commit(p->conn->e->trace, r);
}

void trace_tuple_new(struct path *p)
{
    p->trace.tuple++;
    p->trace.tuple_told = false;
}

static void frames_put(struct trace_record *r, const uint8_t *end, const uint8_t *payload, size_t length, unsigned ack_delay_exponent)
{
    uint8_t *q = body(r);
    for (size_t at = 0; at < length;) {
        struct frame_in f;
        bool ok = !frame_parse(payload + at, length - at, r->level, true, &f);
        if (!ok)
            f = (struct frame_in){ .type = NONE, .start = payload + at, .length = length - at };
        uint8_t *next = r->frames < TRACE_FRAMES ? trace_frame_put(q, end, &f, ack_delay_exponent) : NULL;
        if (!next) {
            r->flags |= TRACE_OMITTED;
            break;
        }
        q = next;
        r->frames++;
        at += f.length;
    }
    r->body = (uint16_t)(q - body(r));
}

void trace_packet(struct path *p, int kind, int level, uint64_t pn, size_t length, const uint8_t *payload, size_t payload_length,
                  bool probe)
{
    struct conn *c = p->conn;
    struct trace *t = c->e->trace;
    bool told = t->detail == TRACE_DETAIL_PACKETS;
    bool one = payload_length && payload[0] == F_DATAGRAM && level == LEVEL_1RTT && !probe;     /* most packets: no body, soon done */
    if (one && trace_run_grows(t, p, kind, pn, length, c->e->now))
        return;
    if (!p->trace.tuple_told && p->state != PATH_UNUSED)
        tuple_tell(p);
    size_t room = one || !told ? 0 : payload_length < TRACE_BODY / 2 ? 2 * payload_length + 128 : TRACE_BODY;
    struct trace_record *r = one ? trace_run_begin(p, kind) : trace_begin_on(p, kind, room);
    if (!r)
        return;
    r->level = (uint8_t)level;
    r->a = pn;
    r->b = level == LEVEL_1RTT ? (uint32_t)c->phase : 0;
    r->length = (uint16_t)length;
    r->flags |= (probe ? TRACE_PROBE : 0) | (told ? TRACE_FRAMED : 0);
    if (one)
        return;                         /* it is committed when the run is over */
    if (told)
        frames_put(r, (uint8_t *)(r + 1) + ROUND8(room), payload, payload_length, kind == TRACE_PACKET_SENT
                   ? c->e->config.ack_delay_exponent : c->params.ack_delay_exponent);
    trace_commit(t, r);
}

void trace_buffered(struct conn *c, int level, size_t length)
{
    struct trace_record *r = trace_begin_of(c, TRACE_PACKET_BUFFERED, 0);
    if (!r)
        return;
    r->level = (uint8_t)level;
    r->length = (uint16_t)length;
    trace_commit(c->e->trace, r);
}

static bool may_be_told(endpoint *e)
{
    struct trace *t = e->trace;
    if (e->now - t->drop_window >= 1000000000ull) {
        t->drop_window = e->now;
        t->drops = 0;
    }
    if (t->drops < TRACE_DROPS_PER_SECOND) {
        t->drops++;
        return true;
    }
    return false;
}

/* Nothing that a stranger makes us say is without a bound. */
void trace_bare(endpoint *e, struct conn *c, int kind, int type, size_t length, const uint8_t *dcid, size_t n, const uint8_t *rest,
                size_t rest_length)
{
    if (!c && !may_be_told(e))
        return;
    size_t kept = type == BARE_VERSION_NEGOTIATION ? rest_length < 64 ? rest_length : 64 : 0;
    struct trace_record *r = c ? trace_begin_of(c, kind, n + kept) : trace_begin(e, kind, n + kept);
    if (!r)
        return;
    r->level = (uint8_t)type;
    r->detail = (uint8_t)n;
    r->length = (uint16_t)(length ? length : e->trace->datagram);
    r->a = rest_length;
    r->body = (uint16_t)(n + kept);
    if (n)
        memcpy(body(r), dcid, n);
    if (kept)
        memcpy(body(r) + n, rest, kept);
    trace_commit(e->trace, r);
}

void trace_lost(struct path *p, const struct space *s, const struct sent *sent, uint64_t pn)
{
    bool answered = s->largest_acked != NONE && s->largest_acked > pn;
    int why = !answered ? LOSS_OTHER : s->largest_acked - pn >= p->rec.threshold ? LOSS_REORDERING : LOSS_TIME;
    simple(p, TRACE_PACKET_LOST, level_of(p, s), why, pn, sent->flags & SENT_MTU_PROBE);
}

/* ---- drops */

void trace_datagram(endpoint *e, uint32_t link, const uint8_t *data, size_t length)
{
    struct trace *t = e->trace;
    t->link = link;
    t->datagram = (uint32_t)length;
    t->delimited = false;
    t->datagram_head = data;            /* what protection hides of it is not looked at; the caller says when it is gone */
}

void trace_delimited(endpoint *e) { e->trace->delimited = true; }

/* What the datagram's first packet says: its level is 0 to 3 as in a long header, 4 short, 5 another version. The record is of the
 * connection that its connection ID belongs to, if of any. */
static struct trace_record *header_read(endpoint *e)
{
    const struct trace *t = e->trace;
    struct reader in = { t->datagram_head, t->datagram_head + (t->datagram < DATAGRAM_HEAD ? t->datagram : DATAGRAM_HEAD), false };
    const uint8_t *first = read_bytes(&in, 1), *version = NULL;
    bool is_long = first && *first & 0x80;
    uint64_t length = ENGINE_CID_LENGTH;
    if (is_long) {
        version = read_bytes(&in, 4);
        const uint8_t *n = read_bytes(&in, 1);
        length = n ? *n : 0;
    }
    const uint8_t *dcid = read_bytes(&in, length);
    bool known = dcid && length <= 20;
    const struct cid_entry *entry = known ? cid_find(e, dcid, (size_t)length) : NULL;
    struct trace_record *r = entry ? trace_begin_of(entry->conn, TRACE_PACKET_DROPPED, 24) : trace_begin(e, TRACE_PACKET_DROPPED, 24);
    if (!r)
        return NULL;
    r->level = !first ? 5 : !is_long ? 4 : version && !memcmp(version, "\0\0\0\1", 4) ? *first >> 4 & 3 : 5;
    r->length = (uint16_t)t->datagram;
    if (entry) {
        r->path = entry->path;
        r->flags |= TRACE_HAS_PATH;
    }
    if (known && length) {
        r->body = (uint16_t)length;
        memcpy(body(r), dcid, (size_t)length);
    }
    return r;
}

void trace_drop(endpoint *e, int counter)
{
    struct trace *t = e->trace;
    bool inner = trace_drop_trigger(counter) == NULL;
    if (!may_be_told(e)) {
        t->drops_untold++;
        return;
    }
    bool no_packet = t->datagram && !t->delimited && (counter == COUNTER_datagram_short || counter == COUNTER_fixed_bit ||
                                                      counter == COUNTER_header_malformed);
    struct trace_record *r = no_packet ? trace_begin(e, TRACE_DATAGRAM_DROPPED, 0) : !inner && t->datagram ? header_read(e)
                             : trace_begin(e, inner ? TRACE_INNER_DROPPED : TRACE_PACKET_DROPPED, 0);
    if (!r)
        return;
    r->length = no_packet ? (uint16_t)t->datagram : r->length;
    r->a = (uint64_t)counter;
    r->b = t->drops_untold < UINT32_MAX ? (uint32_t)t->drops_untold : UINT32_MAX;
    t->drops_untold = 0;
    trace_commit(t, r);
}

/* ---- recovery */

void trace_acked_flush(struct path *p, const struct space *s)
{
    struct trace *t = p->conn->e->trace;
    uint32_t count = t->acked_count;
    struct trace_record *r = count ? trace_begin_on(p, TRACE_PACKETS_ACKED, count * sizeof *t->acked) : NULL;
    t->acked_count = t->acked_numbers = 0;
    if (!r)
        return;
    r->level = (uint8_t)level_of(p, s);
    r->body = (uint16_t)(count * sizeof *t->acked);
    memcpy(body(r), t->acked, r->body);
    trace_commit(t, r);
}

/* Newest first, as ACK ranges are walked. */
void trace_acked(struct path *p, const struct space *s, uint64_t pn)
{
    struct trace *t = p->conn->e->trace;
    if (t->acked_count && t->acked[t->acked_count - 1].first == pn + 1) {
        t->acked[t->acked_count - 1].first = pn;
    } else {
        if (t->acked_count == TRACE_ACKED_RANGES)
            trace_acked_flush(p, s);
        t->acked[t->acked_count++] = (struct range){ pn, pn };
    }
    if (++t->acked_numbers == TRACE_ACKED)
        trace_acked_flush(p, s);
}

static int congestion_of(const struct path *p, const struct space *s)
{
    const struct sent *r = s->largest_acked != NONE ? sent_get(s, s->largest_acked) : NULL;
    if (p->cc.recovery_start && (!r || r->time <= p->cc.recovery_start))
        return RECOVERY;
    return p->cc.cwnd < p->cc.ssthresh ? SLOW_START : CONGESTION_AVOIDANCE;
}

void trace_recovery(struct path *p, const struct space *s)
{
    endpoint *e = p->conn->e;
    int state = congestion_of(p, s), before = p->trace.congestion;
    if (state != before) {
        p->trace.congestion = (uint8_t)state;
        simple(p, TRACE_CONGESTION, LEVEL_1RTT, state, (uint64_t)before, (uint32_t)congestion_which(&p->cc));
    } else if (p->rec.pto_count == p->trace.pto_count && e->now - p->trace.metrics_at < TRACE_METRICS_NS) {
        return;
    }
    const struct recovery *m = &p->rec;
    struct trace_record *r = trace_begin_on(p, TRACE_METRICS, METRICS * sizeof(uint64_t));
    if (!r)
        return;
    p->trace.metrics_at = e->now;
    p->trace.pto_count = m->pto_count;
    r->detail = m->sampled;
    r->body = METRICS * sizeof(uint64_t);
    uint64_t values[METRICS] = {
        [METRIC_MIN_RTT] = m->min, [METRIC_SMOOTHED] = m->smoothed, [METRIC_LATEST] = m->latest, [METRIC_VARIANCE] = m->var,
        [METRIC_PTO] = m->pto_count, [METRIC_CWND] = p->cc.cwnd, [METRIC_IN_FLIGHT] = m->in_flight,
        [METRIC_SSTHRESH] = p->cc.ssthresh, [METRIC_PACING] = 8 * path_rate(p),
    };
    memcpy(body(r), values, sizeof values);
    trace_commit(e->trace, r);
}

/* ---- paths and keys */

void trace_mtu(struct path *p)
{
    bool done = !p->pmtud.probe;        /* the search is over, until it is raised */
    if (p->trace.mtu == p->pmtud.size && (p->trace.mtu_done || !done))
        return;
    simple(p, TRACE_MTU, LEVEL_1RTT, done, p->trace.mtu, p->pmtud.size);
    p->trace.mtu = p->pmtud.size;
    p->trace.mtu_done = done;
}

void trace_ecn(struct path *p, int before)
{
    simple(p, TRACE_ECN, LEVEL_1RTT, p->ecn.state, (uint64_t)before, p->ecn.failure);
}

void trace_migration(struct path *p, int state)
{
    if (!p->trace.tuple_told)
        tuple_tell(p);
    simple(p, TRACE_MIGRATION, LEVEL_1RTT, state, 0, 0);
}

void trace_cid(struct path *p)
{
    struct trace_record *r = p->dcid ? trace_begin_on(p, TRACE_CID, p->dcid->length) : NULL;
    if (!r)
        return;
    r->body = p->dcid->length;
    if (r->body)
        memcpy(body(r), p->dcid->cid, r->body);
    trace_commit(p->conn->e->trace, r);
}

/* Of the client or of the server, whichever sends with it. */
void trace_key(struct conn *c, int kind, int level, int direction, int by)
{
    for (int d = DIRECTION_SEND; d <= DIRECTION_RECEIVE; d++) {
        struct trace_record *r = direction < 0 || direction == d ? trace_begin_of(c, kind, 0) : NULL;
        if (!r)
            continue;
        r->level = (uint8_t)level;
        r->detail = (uint8_t)by;
        r->a = c->server == (d == DIRECTION_SEND);
        r->b = (uint32_t)c->phase;
        trace_commit(c->e->trace, r);
    }
}

/* ---- notes of Python's */

/* They carry their connection's name themselves: the connection may be gone, or not be yet. */
int endpoint_trace_note(endpoint *e, const uint8_t *odcid, size_t odcid_length, const char *text, size_t length)
{
    if (!e || (odcid_length && !odcid) || odcid_length > 20 || !text || !length || length > TRACE_NOTE)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    e->now = endpoint_now(e);
    struct trace_record *r = e->trace ? trace_begin(e, TRACE_NOTED, odcid_length + length) : NULL;
    int result = r ? 0 : e->trace ? -ENGINE_E_LIMIT : -ENGINE_E_STATE;
    if (r) {
        r->detail = (uint8_t)odcid_length;
        r->body = (uint16_t)(odcid_length + length);
        if (odcid_length)
            memcpy(body(r), odcid, odcid_length);
        memcpy(body(r) + odcid_length, text, length);
        trace_commit(e->trace, r);
    }
    endpoint_unlock(e);
    return result;
}

int endpoint_trace_detail(endpoint *e, int detail)
{
    if (!e || detail < TRACE_DETAIL_EVENTS || detail > TRACE_DETAIL_PACKETS)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int result = e->trace ? 0 : -ENGINE_E_STATE;
    if (e->trace) {
        e->trace->detail = detail;
        e->packet_trace = detail > TRACE_DETAIL_EVENTS ? e->trace : NULL;
    }
    endpoint_unlock(e);
    return result;
}

int endpoint_trace_stats(endpoint *e, struct trace_stats *out)
{
    if (!e || !out)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int result = e->trace ? 0 : -ENGINE_E_STATE;
    if (e->trace)
        *out = (struct trace_stats){ e->trace->records, atomic_load(&e->trace->lost) };
    endpoint_unlock(e);
    return result;
}
