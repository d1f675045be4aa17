/* Pools: packet buffers, frames to send and references to them. Chunks are made when needed and kept. */
#include <stdlib.h>
#include "core.h"

struct chunk { struct chunk *next; };

static void *chunk_new(void **list, size_t bytes)
{
    struct chunk *c = malloc(sizeof *c + bytes);
    if (!c)
        return NULL;
    c->next = *list;
    *list = c;
    return c + 1;
}

static void chunks_free(void *list)
{
    for (struct chunk *c = list, *next; c; c = next) {
        next = c->next;
        free(c);
    }
}

struct packet *packet_get(endpoint *e)
{
    if (!e->pool && e->pool_total < LIMIT_POOL_PACKETS) {
        struct packet *p = chunk_new(&e->pool_chunks, LIMIT_POOL_CHUNK * sizeof *p);
        for (int i = 0; p && i < LIMIT_POOL_CHUNK; i++) {
            p[i].next = e->pool;
            e->pool = &p[i];
        }
        e->pool_total += p ? LIMIT_POOL_CHUNK : 0;
    }
    struct packet *p = e->pool;
    if (!p)
        return NULL;
    e->pool = p->next;
    if (e->pool) {                      /* the next one's head, while this one is filled */
        __builtin_prefetch(e->pool, 1);
        __builtin_prefetch(e->pool->buffer + PACKET_HEADROOM, 1);
    }
    p->next = NULL;
    p->tunnel = p->flow = 0;
    p->twin = TWIN_NONE;
    p->offset = PACKET_HEADROOM;
    p->length = 0;
    return p;
}

void packet_put(endpoint *e, struct packet *p)
{
    p->next = e->pool;
    e->pool = p;
}

void packet_put_read(endpoint *e, struct packet *p)
{
    if (!e->has_sink) {
        packet_put(e, p);
        return;
    }
    p->next = e->lent;
    e->lent = p;
}

void endpoint_delivered(endpoint *e)
{
    while (e->lent) {
        struct packet *p = e->lent;
        e->lent = p->next;
        packet_put(e, p);
    }
}

struct frame *frame_get(endpoint *e)
{
    if (!e->frames) {
        struct frame *f = chunk_new(&e->frame_chunks, 16 * sizeof *f);
        for (int i = 0; f && i < 16; i++) {
            f[i].next = e->frames;
            e->frames = &f[i];
        }
    }
    struct frame *f = e->frames;
    if (!f)
        return NULL;
    e->frames = f->next;
    memset(f, 0, offsetof(struct frame, bytes));
    return f;
}

void frame_put(endpoint *e, struct frame *f)
{
    f->next = e->frames;
    e->frames = f;
}

struct frame_ref *ref_get(endpoint *e, struct frame *f)
{
    if (!e->refs) {
        struct frame_ref *r = chunk_new(&e->ref_chunks, 64 * sizeof *r);
        for (int i = 0; r && i < 64; i++) {
            r[i].next = e->refs;
            e->refs = &r[i];
        }
    }
    struct frame_ref *r = e->refs;
    if (!r)
        return NULL;
    e->refs = r->next;
    r->next = NULL;
    r->frame = f;
    f->refs++;
    return r;
}

void ref_put(endpoint *e, struct frame_ref *r)
{
    if (--r->frame->refs == 0)
        frame_put(e, r->frame);
    r->next = e->refs;
    e->refs = r;
}

void queue_init(struct frame_queue *q)
{
    q->head = NULL;
    q->tail = &q->head;
    q->count = 0;
}

void queue_push(struct frame_queue *q, struct frame_ref *r)
{
    r->next = NULL;
    *q->tail = r;
    q->tail = &r->next;
    q->count++;
}

void queue_push_front(struct frame_queue *q, struct frame_ref *r)
{
    if (!q->head)
        q->tail = &r->next;
    r->next = q->head;
    q->head = r;
    q->count++;
}

struct frame_ref *queue_take(struct frame_queue *q, struct frame_ref **at)
{
    struct frame_ref *r = *at;
    *at = r->next;
    if (q->tail == &r->next)
        q->tail = at;
    r->next = NULL;
    q->count--;
    return r;
}

void queue_clear(endpoint *e, struct frame_queue *q)
{
    while (q->head)
        ref_put(e, queue_take(q, &q->head));
}

void pools_free(endpoint *e)
{
    chunks_free(e->pool_chunks);
    chunks_free(e->frame_chunks);
    chunks_free(e->ref_chunks);
}
