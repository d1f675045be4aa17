/* The trace's ring and what writes into it (trace.h). One writer, who holds the endpoint's lock; one reader, who does not:
 * head and tail are all that they share. Full: the record is lost and counted; the engine never waits. */
#include <stdatomic.h>
#include <stdlib.h>
#include "core.h"
#include "trace_ring.h"

#define ROUND8(n) (((n) + 7) & ~(size_t)7)
#define DATAGRAM_HEAD 48                /* first byte, version, both connection IDs */

int endpoint_trace(endpoint *e, uint32_t octets)
{
    if (!e || octets < 1u << 16 || octets > 1u << 28 || octets & (octets - 1))
        return -ENGINE_E_ARGUMENT;
    struct trace *t = aligned_alloc(_Alignof(struct trace), sizeof *t);
    uint8_t *ring = malloc(octets);
    endpoint_lock(e);
    int result = !t || !ring ? -ENGINE_E_MEMORY : e->trace ? -ENGINE_E_STATE : 0;
    if (result == 0) {
        memset(t, 0, sizeof *t);
        t->ring = ring;
        t->capacity = octets;
        e->trace = t;
    }
    endpoint_unlock(e);
    if (result) {
        free(ring);
        free(t);
    }
    return result;
}

void trace_free(endpoint *e)
{
    if (!e->trace)
        return;
    free(e->trace->ring);
    free(e->trace);
    e->trace = NULL;
}

/* ---- the ring */

/* Room for a record with this body; NULL when there is none (counted). Records lie in one piece: what is left of the ring's end is
 * padding. Not seen by the reader before `commit`. */
static struct trace_record *begin(endpoint *e, int kind, size_t body)
{
    struct trace *t = e->trace;
    if (t->rare_only && kind < TRACE_MTU)
        return NULL;
    uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&t->head, memory_order_acquire);
    size_t size = sizeof(struct trace_record) + ROUND8(body), at = tail & (t->capacity - 1), left = t->capacity - at;
    size_t pad = left < size ? left : 0;
    if (t->capacity - (tail - head) < pad + size) {
        atomic_fetch_add_explicit(&t->lost, 1, memory_order_relaxed);
        return NULL;
    }
    if (pad) {
        uint32_t *mark = (uint32_t *)(void *)(t->ring + at);
        mark[0] = (uint32_t)pad;        /* at least 8 octets: everything is a multiple of 8 */
        mark[1] = TRACE_PAD;
        tail += pad;
        at = 0;
    }
    struct trace_record *r = (struct trace_record *)(void *)(t->ring + at);
    memset(r, 0, sizeof *r);
    r->size = (uint32_t)size;
    r->kind = (uint8_t)kind;
    r->time = e->now;
    t->written = tail;
    return r;
}

static void commit(struct trace *t, struct trace_record *r)
{
    r->size = (uint32_t)(sizeof *r + ROUND8(r->body));      /* the body may have become shorter than its room */
    t->records++;
    atomic_store_explicit(&t->tail, t->written + r->size, memory_order_release);
}

static void of_conn(struct trace_record *r, const struct conn *c)
{
    r->odcid_length = c->odcid_length;
    memcpy(r->odcid, c->odcid, sizeof r->odcid);
    r->flags |= c->server ? TRACE_SERVER : 0;
}

static void of_path(struct trace_record *r, const struct path *p)
{
    of_conn(r, p->conn);
    r->path = p->id;
    r->tuple = p->trace.tuple;
    r->flags |= TRACE_HAS_PATH | (p->trace.tuple_told ? TRACE_HAS_TUPLE : 0);
}

static uint8_t *body(struct trace_record *r) { return (uint8_t *)(r + 1); }

static int level_of(const struct path *p, const struct space *s)
{
    const struct conn *c = p->conn;
    return s == &c->early[LEVEL_INITIAL] ? LEVEL_INITIAL : s == &c->early[LEVEL_HANDSHAKE] ? LEVEL_HANDSHAKE : LEVEL_1RTT;
}

/* Most records: no body. */
static void simple(struct path *p, int kind, int level, int detail, uint64_t a, uint64_t b)
{
    struct trace_record *r = begin(p->conn->e, kind, 0);
    if (!r)
        return;
    of_path(r, p);
    r->level = (uint8_t)level;
    r->detail = (uint8_t)detail;
    r->a = a;
    r->b = b;
    commit(p->conn->e->trace, r);
}

/* ---- packets */

/* The 4-tuple of a path is told before the first packet on it. */
static void tuple_tell(struct path *p)
{
    struct trace_record *r = begin(p->conn->e, TRACE_TUPLE, sizeof p->remote);
    if (!r)
        return;
    p->trace.tuple_told = true;
    of_path(r, p);
    r->a = p->link;
    r->body = sizeof p->remote;
    memcpy(body(r), &p->remote, sizeof p->remote);
    commit(p->conn->e->trace, r);
}

void trace_tuple_new(struct path *p)
{
    p->trace.tuple++;
    p->trace.tuple_told = false;
}

void trace_packet(struct path *p, int kind, int level, uint64_t pn, size_t length, const uint8_t *payload, size_t payload_length,
                  bool probe)
{
    struct conn *c = p->conn;
    if (!p->trace.tuple_told && p->state != PATH_UNUSED)
        tuple_tell(p);
    struct trace_record *r = begin(c->e, kind, payload_length < TRACE_BODY / 2 ? 2 * payload_length + 128 : TRACE_BODY);
    if (!r)
        return;
    of_path(r, p);
    r->level = (uint8_t)level;
    r->a = pn;
    r->b = level == LEVEL_1RTT ? c->phase : 0;
    r->length = (uint32_t)length;
    r->flags |= probe ? TRACE_PROBE : 0;
    unsigned exponent = kind == TRACE_PACKET_SENT ? c->e->config.ack_delay_exponent : c->params.ack_delay_exponent;
    uint8_t *q = body(r), *end = (uint8_t *)r + r->size;
    size_t at = 0;
    if (payload_length && payload[0] == F_DATAGRAM && level == LEVEL_1RTT) {    /* most packets: what frame_parse would say, sooner */
        q = trace_frame_put(q, end, &(struct frame_in){ .type = F_DATAGRAM, .length = payload_length, .data_length = payload_length - 1 }, 0);
        r->frames = 1;
        at = payload_length;
    }
    while (at < payload_length) {
        struct frame_in f;
        bool ok = !frame_parse(payload + at, payload_length - at, level, true, &f);
        if (!ok)
            f = (struct frame_in){ .type = NONE, .start = payload + at, .length = payload_length - at };
        uint8_t *next = r->frames < TRACE_FRAMES ? trace_frame_put(q, end, &f, exponent) : NULL;
        if (!next) {
            r->flags |= TRACE_OMITTED;
            break;
        }
        q = next;
        r->frames++;
        at += f.length;
    }
    r->body = (uint16_t)(q - body(r));
    commit(c->e->trace, r);
}

void trace_buffered(struct conn *c, int level, size_t length)
{
    struct trace_record *r = begin(c->e, TRACE_PACKET_BUFFERED, 0);
    if (!r)
        return;
    of_conn(r, c);
    r->level = (uint8_t)level;
    r->length = (uint32_t)length;
    commit(c->e->trace, r);
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
    t->head_length = length < DATAGRAM_HEAD ? (uint8_t)length : DATAGRAM_HEAD;
    if (t->head_length)
        memcpy(t->datagram_head, data, t->head_length);
}

static bool drop_may_be_told(endpoint *e)
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
    t->drops_untold++;
    return false;
}

/* What the datagram's first packet says: its level is 0 to 3 as in a long header, 4 short, 5 another version. */
static void header_read(endpoint *e, struct trace_record *r)
{
    const struct trace *t = e->trace;
    struct reader in = { t->datagram_head, t->datagram_head + t->head_length, false };
    const uint8_t *first = read_bytes(&in, 1), *version = NULL;
    bool is_long = first && *first & 0x80;
    uint64_t length = ENGINE_CID_LENGTH;
    if (is_long) {
        version = read_bytes(&in, 4);
        const uint8_t *n = read_bytes(&in, 1);
        length = n ? *n : 0;
    }
    const uint8_t *dcid = read_bytes(&in, length);
    r->level = !first ? 5 : !is_long ? 4 : version && !memcmp(version, "\0\0\0\1", 4) ? *first >> 4 & 3 : 5;
    if (!dcid || length > 20)
        return;
    const struct cid_entry *entry = cid_find(e, dcid, (size_t)length);
    if (entry) {
        of_conn(r, entry->conn);
        r->path = entry->path;
        r->flags |= TRACE_HAS_PATH;
    }
    r->body = (uint16_t)length;
    memcpy(body(r), dcid, (size_t)length);
}

void trace_drop(endpoint *e, int counter)
{
    struct trace *t = e->trace;
    bool inner = trace_drop_trigger(counter) == NULL;
    struct trace_record *r = drop_may_be_told(e) ? begin(e, inner ? TRACE_INNER_DROPPED : TRACE_PACKET_DROPPED, 24) : NULL;
    if (!r)
        return;
    if (!inner && t->datagram) {
        header_read(e, r);
        r->length = t->datagram;
    }
    r->a = (uint64_t)counter;
    r->b = t->drops_untold;
    t->drops_untold = 0;
    commit(t, r);
}

/* ---- recovery */

void trace_acked_flush(struct path *p, const struct space *s)
{
    struct trace *t = p->conn->e->trace;
    uint32_t count = t->acked_count;
    struct trace_record *r = count ? begin(p->conn->e, TRACE_PACKETS_ACKED, count * sizeof *t->acked) : NULL;
    t->acked_count = t->acked_numbers = 0;
    if (!r)
        return;
    of_path(r, p);
    r->level = (uint8_t)level_of(p, s);
    r->body = (uint16_t)(count * sizeof *t->acked);
    memcpy(body(r), t->acked, r->body);
    commit(t, r);
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
        simple(p, TRACE_CONGESTION, LEVEL_1RTT, state, (uint64_t)before, (uint64_t)congestion_which(&p->cc));
    } else if (p->rec.pto_count == p->trace.pto_count && e->now - p->trace.metrics_at < TRACE_METRICS_NS) {
        return;
    }
    const struct recovery *m = &p->rec;
    struct trace_record *r = begin(e, TRACE_METRICS, METRICS * sizeof(uint64_t));
    if (!r)
        return;
    p->trace.metrics_at = e->now;
    p->trace.pto_count = m->pto_count;
    of_path(r, p);
    r->detail = m->sampled;
    r->body = METRICS * sizeof(uint64_t);
    uint64_t values[METRICS] = {
        [METRIC_MIN_RTT] = m->min, [METRIC_SMOOTHED] = m->smoothed, [METRIC_LATEST] = m->latest, [METRIC_VARIANCE] = m->var,
        [METRIC_PTO] = m->pto_count, [METRIC_CWND] = p->cc.cwnd, [METRIC_IN_FLIGHT] = m->in_flight,
        [METRIC_SSTHRESH] = p->cc.ssthresh, [METRIC_PACING] = 8 * path_rate(p),
    };
    memcpy(body(r), values, sizeof values);
    commit(e->trace, r);
}

/* ---- paths and keys */

void trace_mtu(struct path *p)
{
    if (p->trace.mtu == p->pmtud.size)
        return;
    simple(p, TRACE_MTU, LEVEL_1RTT, 0, p->trace.mtu, p->pmtud.size);
    p->trace.mtu = p->pmtud.size;
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

/* Of the client or of the server, whichever sends with it. */
void trace_key(struct conn *c, int kind, int level, int direction, int by)
{
    for (int d = DIRECTION_SEND; d <= DIRECTION_RECEIVE; d++) {
        struct trace_record *r = direction < 0 || direction == d ? begin(c->e, kind, 0) : NULL;
        if (!r)
            continue;
        of_conn(r, c);
        r->level = (uint8_t)level;
        r->detail = (uint8_t)by;
        r->a = c->server == (d == DIRECTION_SEND);
        r->b = c->phase;
        commit(c->e->trace, r);
    }
}

/* ---- notes of Python's */

int endpoint_trace_note(endpoint *e, const uint8_t *odcid, size_t odcid_length, const char *text, size_t length)
{
    if (!e || (odcid_length && !odcid) || odcid_length > 20 || !text || !length || length > TRACE_NOTE)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    e->now = endpoint_now(e);
    struct trace_record *r = e->trace ? begin(e, TRACE_NOTED, length) : NULL;
    int result = r ? 0 : e->trace ? -ENGINE_E_LIMIT : -ENGINE_E_STATE;
    if (r) {
        r->odcid_length = (uint8_t)odcid_length;
        if (odcid_length)
            memcpy(r->odcid, odcid, odcid_length);
        r->body = (uint16_t)length;
        memcpy(body(r), text, length);
        commit(e->trace, r);
    }
    endpoint_unlock(e);
    return result;
}

int endpoint_trace_packets(endpoint *e, int enabled)
{
    if (!e)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int result = e->trace ? 0 : -ENGINE_E_STATE;
    if (e->trace)
        e->trace->rare_only = !enabled;
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
