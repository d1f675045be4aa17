/* The trace's ring, and how records come into it. One writer, who holds the endpoint's lock; one reader, who does not: head and
 * tail are all that they share. Full: the record is lost and counted; the engine never waits.
 *
 * Data packets of a batch differ in nothing but their number, so a run of them is one record. The run that grows stands beside
 * the ring; what else is told ends it, and so does the end of the lock, so that no reader waits for it. */
#include <stdlib.h>
#include "trace_ring.h"

int endpoint_trace(endpoint *e, uint32_t octets)
{
    if (!e || octets < 1u << 16 || octets > 1u << 28 || octets & (octets - 1))
        return -ENGINE_E_ARGUMENT;
    struct trace *t = aligned_alloc(_Alignof(struct trace), sizeof *t);
    uint8_t *ring = aligned_alloc(64, octets);
    uint64_t *named = calloc(ENGINE_MAX_CONNS, sizeof *named);             /* pages of slots that are never used cost nothing */
    struct trace_name *names = calloc(ENGINE_MAX_CONNS, sizeof *names);
    endpoint_lock(e);
    int result = !t || !ring || !named || !names ? -ENGINE_E_MEMORY : e->trace ? -ENGINE_E_STATE : 0;
    if (result == 0) {
        memset(t, 0, sizeof *t);
        t->ring = ring;
        t->capacity = octets;
        t->named = named;
        t->names = names;
        t->detail = TRACE_DETAIL_PACKETS;
        t->ms = NONE;
        e->trace = e->packet_trace = t;
    }
    endpoint_unlock(e);
    if (result) {
        free(ring);
        free(named);
        free(names);
        free(t);
    }
    return result;
}

void trace_free(endpoint *e)
{
    if (!e->trace)
        return;
    free(e->trace->ring);
    free(e->trace->named);
    free(e->trace->names);
    free(e->trace);
    e->trace = e->packet_trace = NULL;
}

/* ---- the ring */

/* Room for a record with this body; NULL when there is none: `count` records are lost then. Records lie in one piece: what is
 * left of the ring's end is padding. Not seen by the reader before `trace_commit`. */
static struct trace_record *append(struct trace *t, size_t body, uint32_t count)
{
    uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);
    size_t size = sizeof(struct trace_record) + ROUND8(body), at = tail & (t->capacity - 1), left = t->capacity - at;
    size_t pad = left < size ? left : 0;
    if (t->capacity - (tail - t->head_seen) < pad + size) {
        t->head_seen = atomic_load_explicit(&t->head, memory_order_acquire);    /* the reader's line is looked at when it must be */
        if (t->capacity - (tail - t->head_seen) < pad + size) {
            atomic_fetch_add_explicit(&t->lost, count, memory_order_relaxed);
            return NULL;
        }
    }
    if (pad) {
        struct { uint16_t skip; uint8_t kind; } *mark = (void *)(t->ring + at);
        mark->skip = (uint16_t)pad;     /* less than a record: 65535 at most */
        mark->kind = TRACE_PAD;
        tail += pad;
        at = 0;
    }
    t->written = tail;
    return (struct trace_record *)(void *)(t->ring + at);
}

void trace_commit(struct trace *t, struct trace_record *r)
{
    size_t size = sizeof *r + ROUND8(r->body);          /* the body may have become shorter than its room */
    t->records += r->flags & TRACE_DATAGRAM ? r->frames : 1;
    atomic_store_explicit(&t->tail, t->written + size, memory_order_release);
    __builtin_prefetch((uint8_t *)r + size + 64, 1);    /* where the next ones go; the reader's core has these lines */
}

/* ---- runs */

void trace_settle(struct trace *t)
{
    if (!t->run.frames)
        return;
    struct trace_record *r = append(t, 0, t->run.frames);
    if (r) {
        *r = t->run;
        trace_commit(t, r);
    }
    t->run.frames = 0;
}

/* The first record of a connection is preceded by its name, so that no other carries it. False: there was no room for it, and the
 * record is not to be written either. `number`: what records say; 0 while it has no name yet. */
static bool name_known(struct conn *c, uint32_t *number)
{
    struct trace *t = c->e->trace;
    *number = c->odcid_length ? c->slot + 1 : 0;
    if (!c->odcid_length || t->named[c->slot] == (uint64_t)c->handle + 1)
        return true;
    trace_settle(t);
    struct trace_record *r = append(t, c->odcid_length, 1);
    if (!r)
        return false;
    *r = (struct trace_record){ .kind = TRACE_CONN, .time = c->e->now, .a = c->slot, .body = c->odcid_length };
    memcpy(r + 1, c->odcid, c->odcid_length);
    trace_commit(t, r);
    t->named[c->slot] = (uint64_t)c->handle + 1;
    return true;
}

static void place(struct trace_record *r, const struct path *p)
{
    r->path = p->id;
    r->tuple = p->trace.tuple;
    r->flags = TRACE_HAS_PATH | (p->trace.tuple_told ? TRACE_HAS_TUPLE : 0);
}

bool trace_run_grows(struct trace *t, const struct path *p, int kind, uint64_t pn, size_t length, uint64_t now)
{
    struct trace_record *r = &t->run;
    if (!r->frames || t->run_path != p || r->a + r->frames != pn || r->time != now || r->length != length || r->kind != kind ||
        r->tuple != p->trace.tuple || r->b != (uint32_t)p->conn->phase || r->frames == TRACE_RUN)
        return false;
    r->frames++;
    return true;
}

struct trace_record *trace_run_begin(struct path *p, int kind)
{
    struct trace *t = p->conn->e->trace;
    trace_settle(t);
    uint32_t conn;
    if (!name_known(p->conn, &conn))
        return NULL;
    t->run_path = p;
    t->run = (struct trace_record){ .kind = (uint8_t)kind, .time = p->conn->e->now, .conn = conn, .frames = 1 };
    place(&t->run, p);
    t->run.flags |= TRACE_DATAGRAM;
    return &t->run;
}

/* ---- records */

struct trace_record *trace_begin(endpoint *e, int kind, size_t body)
{
    struct trace *t = e->trace;
    if (t->detail == TRACE_DETAIL_EVENTS && kind < TRACE_MTU)
        return NULL;
    trace_settle(t);
    struct trace_record *r = append(t, body, 1);
    if (r)
        *r = (struct trace_record){ .kind = (uint8_t)kind, .time = e->now };
    return r;
}

struct trace_record *trace_begin_of(struct conn *c, int kind, size_t body)
{
    struct trace *t = c->e->trace;
    uint32_t number;
    if ((t->detail == TRACE_DETAIL_EVENTS && kind < TRACE_MTU) || !name_known(c, &number))
        return NULL;
    struct trace_record *r = trace_begin(c->e, kind, body);
    if (r)
        r->conn = number;
    return r;
}

struct trace_record *trace_begin_on(struct path *p, int kind, size_t body)
{
    struct trace_record *r = trace_begin_of(p->conn, kind, body);
    if (r)
        place(r, p);
    return r;
}
