/* What must hold of an endpoint between any two calls: the books of its connections, paths, spaces, queues and pools agree. For the
 * simulator and the fuzzers; whoever adds a place where packets or frames are kept adds it here. */
#include <stdio.h>
#include "core.h"

struct books {
    endpoint *e;
    char *why;
    size_t capacity;
    bool wrong;
    uint64_t packets;                   /* buffers that somebody keeps */
};

#define WRONG(b, ...) \
    do { \
        if (!(b)->wrong) \
            snprintf((b)->why, (b)->capacity, __VA_ARGS__); \
        (b)->wrong = true; \
    } while (0)

static uint32_t packets_kept(struct books *b, const struct packet *k)
{
    uint32_t n = 0;
    for (; k && n <= LIMIT_POOL_PACKETS; k = k->next)
        n++;
    b->packets += n;
    return n;
}

/* Octets in flight of a space, by its records. */
static uint64_t space_check(struct books *b, const struct conn *c, const struct space *s, const char *name, uint32_t id)
{
    uint64_t in_flight = 0;
    uint32_t eliciting = 0;
    if (s->base > s->next_pn || s->next_pn - s->base > s->capacity)
        WRONG(b, "conn %u, %s %u: records %llu..%llu of %u", c->slot, name, id, (unsigned long long)s->base,
              (unsigned long long)s->next_pn, s->capacity);
    for (uint64_t pn = s->base; pn < s->next_pn && !b->wrong; pn++) {
        const struct sent *r = sent_get(s, pn);
        if (!r || !(r->flags & SENT_OUTSTANDING)) {
            if (r && r->frames)
                WRONG(b, "conn %u, %s %u: packet %llu is settled and has frames", c->slot, name, id, (unsigned long long)pn);
            continue;
        }
        if (r->flags & (SENT_ACKED | SENT_LOST))
            WRONG(b, "conn %u, %s %u: packet %llu is outstanding and settled", c->slot, name, id, (unsigned long long)pn);
        in_flight += r->flags & SENT_IN_FLIGHT ? r->bytes : 0;
        eliciting += (r->flags & SENT_ELICITING) != 0;
    }
    if (eliciting != s->eliciting)
        WRONG(b, "conn %u, %s %u: %u eliciting packets outstanding, %u by its records", c->slot, name, id, s->eliciting, eliciting);
    for (uint32_t i = 0; i < s->ranges.count; i++)
        if (s->ranges.r[i].first > s->ranges.r[i].last || (i && s->ranges.r[i].last + 1 >= s->ranges.r[i - 1].first))
            WRONG(b, "conn %u, %s %u: ACK range %u is not below the one before", c->slot, name, id, i);
    if (s->ranges.count && s->ranges.r[0].last != s->largest_recv)
        WRONG(b, "conn %u, %s %u: ACK ranges begin at %llu, largest received %llu", c->slot, name, id,
              (unsigned long long)s->ranges.r[0].last, (unsigned long long)s->largest_recv);
    return in_flight;
}

static void queue_check(struct books *b, const struct conn *c, const struct fq *q, const char *name, uint32_t id)
{
    uint32_t waiting = 0;
    uint64_t bytes = 0;
    for (uint32_t flow = 0; flow < LIMIT_QUEUE_FLOWS; flow++) {
        waiting += packets_kept(b, fq_list_of(q, flow));
        for (const struct packet *k = fq_list_of(q, flow); k && !b->wrong; k = k->next)
            bytes += k->length;
    }
    if (waiting != q->packets)
        WRONG(b, "conn %u, %s %u: its queue has %u packets, not %u", c->slot, name, id, waiting, q->packets);
    if (bytes != q->bytes)
        WRONG(b, "conn %u, %s %u: its queue has %llu octets, not %llu", c->slot, name, id, (unsigned long long)bytes,
              (unsigned long long)q->bytes);
}

static void path_check(struct books *b, const struct path *p)
{
    const struct conn *c = p->conn;
    uint64_t in_flight = space_check(b, c, &p->space, "path", p->id);
    for (int i = 0; p->id == 0 && i < 2; i++)
        in_flight += space_check(b, c, &c->early[i], "level", (uint32_t)i);
    if (in_flight != p->rec.in_flight)
        WRONG(b, "conn %u, path %u: %llu octets in flight, %llu by its records", c->slot, p->id, (unsigned long long)p->rec.in_flight,
              (unsigned long long)in_flight);
    queue_check(b, c, &p->queue, "path", p->id);
    if (p->queue.packets && (p->state == PATH_UNUSED || p->state == PATH_ABANDONED || c->state != CONN_OPEN))
        WRONG(b, "conn %u, path %u: %u packets wait on a path of state %d", c->slot, p->id, p->queue.packets, p->state);
    if (p->dcid && (p->dcid < p->peer || p->dcid >= p->peer + LIMIT_CIDS || !p->dcid->used))
        WRONG(b, "conn %u, path %u: its destination CID is not one of the peer's", c->slot, p->id);
    if (p->state == PATH_ABANDONED && p->dcid)
        WRONG(b, "conn %u, path %u: abandoned with a destination CID", c->slot, p->id);
    for (int i = 0; i < LIMIT_CIDS; i++)
        if (p->local[i].used && cid_find(b->e, p->local[i].cid, p->local[i].length) != &p->local[i])
            WRONG(b, "conn %u, path %u: CID %d of ours is not in the table", c->slot, p->id, i);
}

static void conn_check(struct books *b, struct conn *c)
{
    for (uint32_t i = 0; i < c->path_count; i++) {
        if (c->paths[i]->conn != c || (i && c->paths[i]->id <= c->paths[i - 1]->id))
            WRONG(b, "conn %u: paths out of order", c->slot);
        path_check(b, c->paths[i]);
    }
    queue_check(b, c, &c->split, "shared", 0);
    for (uint32_t i = 0; i < LIMIT_RESENDS_LAST; i++)
        b->packets += resend_packet(c, i) != NULL;
    if (c->split.packets && c->state != CONN_OPEN)
        WRONG(b, "conn %u: %u packets wait in a connection of state %d", c->slot, c->split.packets, c->state);
    for (int level = 0; level < 3; level++) {
        const struct frame_queue *q = &c->queue[level];
        uint32_t n = 0;
        struct frame_ref *const *tail = &q->head;
        for (struct frame_ref *r = q->head; r && n <= q->count; r = r->next, n++) {
            tail = &r->next;
            if (!r->frame->refs || r->frame->level != level)
                WRONG(b, "conn %u: frame of level %u in the queue of level %d", c->slot, r->frame->level, level);
        }
        if (n != q->count || q->tail != tail)
            WRONG(b, "conn %u: queue of level %d has %u frames, not %u", c->slot, level, n, q->count);
    }
    if (packets_kept(b, c->datagrams) != c->datagram_count)
        WRONG(b, "conn %u: not %u datagrams wait", c->slot, c->datagram_count);
    if (packets_kept(b, c->undecryptable) != c->undecryptable_count)
        WRONG(b, "conn %u: not %u packets wait for keys", c->slot, c->undecryptable_count);
    if (c->heap == UINT32_MAX ? !c->dirty : c->heap >= b->e->heap_count || b->e->heap[c->heap] != c)
        WRONG(b, "conn %u: not in the timer heap", c->slot);
}

/* Packets that wait for others, or for the sink. */
static void reorder_check(struct books *b, const endpoint *e)
{
    const struct reorder_pool *o = &e->reorder;
    uint32_t held = 0, flows = 0, windows = 0;
    for (const struct reorder_flow *f = o->waiting; f && flows <= o->flow_count; f = f->waiting_next, flows++) {
        held += f->held;
        if (!f->held || !f->window || f->first == f->next || f->tunnel->reorder.held < f->held)
            WRONG(b, "a flow waits with %u packets held", f->held);
        if (f->waiting_next && f->waiting_next->waiting_previous != f)
            WRONG(b, "the list of waiting flows is torn");
    }
    for (void *w = o->windows; w && windows <= o->window_count; w = *(void **)w)
        windows++;
    if (held != o->held || flows + windows != o->window_count || (o->next == NEVER) != !o->waiting)
        WRONG(b, "%u packets wait for others in %u flows, counted %u; windows %u of %u", held, flows, o->held, windows, o->window_count);
    b->packets += held;
    packets_kept(b, e->lent);
}

int endpoint_check(endpoint *e, char *why, size_t capacity)
{
    if (!e || !why || !capacity)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct books b = { .e = e, .why = why, .capacity = capacity };
    uint32_t conns = 0, half_open = 0;
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS && conns < e->conn_count; i++)
        if (e->conns[i]) {
            conns++;
            half_open += e->conns[i]->half_open;
            conn_check(&b, e->conns[i]);
        }
    if (conns != e->conn_count || half_open != e->half_open)
        WRONG(&b, "%u connections (%u half-open), counted %u (%u)", conns, half_open, e->conn_count, e->half_open);
    for (uint32_t i = 0; i + 1 < e->heap_count; i++)
        if (e->heap[i + 1]->deadline < e->heap[i / 2]->deadline && !e->heap[i + 1]->dirty && !e->heap[i / 2]->dirty)
            WRONG(&b, "the timer heap is out of order at %u", i + 1);
    for (uint32_t i = 0, left = e->tunnel_count; i < LIMIT_TUNNELS && left; i++)
        if (e->tunnels[i]) {
            left--;
            if (packets_kept(&b, e->tunnels[i]->hold_head) != e->tunnels[i]->hold_count)
                WRONG(&b, "tunnel %u does not hold %u packets", i, e->tunnels[i]->hold_count);
        }
    if (packets_kept(&b, e->out_head) != e->out_count)
        WRONG(&b, "not %u inner packets wait to be taken", e->out_count);
    reorder_check(&b, e);
    packets_kept(&b, e->pool);
    b.packets += e->raw_count + (e->pending.packet != NULL);
    if (b.packets != e->pool_total)
        WRONG(&b, "%llu packet buffers are somewhere, %u were made", (unsigned long long)b.packets, e->pool_total);
    endpoint_unlock(e);
    return b.wrong;
}
