#include "wire_direction.h"
#include <stdlib.h>
#include <string.h>

#define MILLISECOND 1000000u

struct wire_frame *wire_frame_get(struct wire_pool *pool, uint32_t capacity)
{
    struct wire_frame *f = pool->free;
    if (capacity <= WIRE_FRAME_ROOM && f) {
        pool->free = f->next;
        return f;
    }
    if (capacity < WIRE_FRAME_ROOM)
        capacity = WIRE_FRAME_ROOM;
    f = malloc(sizeof *f + capacity);
    if (f)
        f->capacity = capacity;
    return f;
}

void wire_frame_put(struct wire_pool *pool, struct wire_frame *f)
{
    if (f->capacity != WIRE_FRAME_ROOM) {
        free(f);
        return;
    }
    f->next = pool->free;
    pool->free = f;
}

void wire_pool_free(struct wire_pool *pool)
{
    while (pool->free) {
        struct wire_frame *f = pool->free;
        pool->free = f->next;
        free(f);
    }
}

static uint64_t random_next(struct direction *d)        /* xorshift64* */
{
    d->random ^= d->random >> 12;
    d->random ^= d->random << 25;
    d->random ^= d->random >> 27;
    return d->random * 0x2545f4914f6cdd1dull;
}

static bool happens(struct direction *d, uint32_t ppm)
{
    return ppm && (random_next(d) >> 32) % 1000000 < ppm;
}

static bool before(const struct wire_frame *a, const struct wire_frame *b)
{
    return a->release != b->release ? a->release < b->release : a->order < b->order;
}

static bool heap_push(struct direction *d, struct wire_frame *f)
{
    if (d->count == d->capacity) {
        uint32_t capacity = d->capacity ? 2 * d->capacity : 256;
        struct wire_frame **heap = d->count < WIRE_MAX_FRAMES ? realloc(d->heap, capacity * sizeof *heap) : NULL;
        if (!heap)
            return false;
        d->heap = heap;
        d->capacity = capacity;
    }
    uint32_t i = d->count++;
    for (; i && before(f, d->heap[(i - 1) / 2]); i = (i - 1) / 2)
        d->heap[i] = d->heap[(i - 1) / 2];
    d->heap[i] = f;
    return true;
}

static struct wire_frame *heap_pop(struct direction *d)
{
    struct wire_frame *top = d->heap[0], *f = d->heap[--d->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= d->count)
            break;
        if (child + 1 < d->count && before(d->heap[child + 1], d->heap[child]))
            child++;
        if (!before(d->heap[child], f))
            break;
        d->heap[i] = d->heap[child];
        i = child;
    }
    d->heap[i] = f;
    return top;
}

static void enqueue(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t now)
{
    const struct wire_shape *s = &d->shape;
    uint64_t out = now;
    if (s->rate_bps) {
        if (d->rate_free < now)
            d->rate_free = now;
        if (s->queue_ns && d->rate_free - now > s->queue_ns) {
            d->stats.dropped_queue++;
            wire_frame_put(pool, f);
            return;
        }
        d->rate_free += (uint64_t)((double)f->length * 8e9 / (double)s->rate_bps);
        out = d->rate_free;
    }
    f->release = out + s->delay_ns + (s->jitter_ns ? random_next(d) % s->jitter_ns : 0);
    f->order = d->order++;
    if (happens(d, s->reorder_ppm)) {   /* held back, so that those behind it overtake */
        f->release += s->delay_ns / 2 + MILLISECOND;
        d->stats.reordered++;
    } else {
        if (f->release < d->last_release)
            f->release = d->last_release;
        d->last_release = f->release;
    }
    if (!heap_push(d, f)) {
        d->stats.dropped_queue++;
        wire_frame_put(pool, f);
    }
}

void direction_accept(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t now)
{
    if (d->shape.cut || happens(d, d->shape.loss_ppm)) {
        *(d->shape.cut ? &d->stats.dropped_cut : &d->stats.dropped_loss) += 1;
        wire_frame_put(pool, f);
        return;
    }
    struct wire_frame *twin = happens(d, d->shape.duplicate_ppm) ? wire_frame_get(pool, f->length) : NULL;
    if (twin) {
        twin->length = f->length;
        memcpy(twin->data, f->data, f->length);
        d->stats.duplicated++;
    }
    enqueue(d, pool, f, now);
    if (twin)
        enqueue(d, pool, twin, now);
}

uint64_t direction_due(const struct direction *d)
{
    return d->count ? d->heap[0]->release : UINT64_MAX;
}

struct wire_frame *direction_take(struct direction *d, uint64_t now)
{
    if (!d->count || d->heap[0]->release > now)
        return NULL;
    struct wire_frame *f = heap_pop(d);
    if (now - f->release > d->stats.late_max_ns)
        d->stats.late_max_ns = now - f->release;
    return f;
}

void direction_clear(struct direction *d, struct wire_pool *pool)
{
    for (uint32_t i = 0; i < d->count; i++)
        wire_frame_put(pool, d->heap[i]);
    d->count = 0;
    d->rate_free = d->last_release = 0;
}
