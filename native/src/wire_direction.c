#include "rules.h"
#include "wire_direction.h"
#include <stdlib.h>
#include <string.h>

#define MILLISECOND 1000000u
#define LINE_AHEAD MILLISECOND          /* a change of the rate holds for what begins later than this */

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

static struct bottleneck *bottleneck_of(struct direction *d)
{
    return d->shared ? d->shared : &d->own;
}

/* It has left the line: delay and jitter, then it is there. */
static void propagate(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t left)
{
    const struct wire_point *point = wire_line_point(&bottleneck_of(d)->line, left);
    uint64_t delay = point ? point->delay_ns : d->shape.delay_ns;
    f->release = left + delay + wire_noise_jitter(&d->noise, &d->shape, left);
    f->order = d->order++;
    if (wire_noise_happens(&d->noise, d->shape.reorder_ppm)) {  /* held back, so that those behind it overtake */
        f->release += delay / 2 + MILLISECOND;
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

static uint64_t turn(const struct bottleneck *b)        /* when the first of the queue goes on the line */
{
    return b->line_free > b->first->release ? b->line_free : b->first->release;
}

/* Gives the line what it begins to send until `now` and a little later: the thread need not wake up for every frame. */
static void line_run(struct bottleneck *b, struct wire_pool *pool, uint64_t now)
{
    while (b->first && turn(b) <= now + LINE_AHEAD) {
        struct wire_frame *f = b->first;
        b->line_free = wire_line_send(&b->line, &b->shape, turn(b), f->length);
        b->first = f->next;
        b->last = b->first ? b->last : NULL;
        b->queued--;
        b->queued_bytes -= f->length;
        f->of->stats.queued_bytes -= f->length;
        propagate(f->of, pool, f, b->line_free);
    }
}

static bool queue_full(struct direction *d, uint32_t length)
{
    const struct bottleneck *b = bottleneck_of(d);
    const struct wire_shape *s = &b->shape;
    double limit = (double)wire_line_rate(&b->line, s) * (double)s->queue_ns / 8e9;
    double after = (double)(b->queued_bytes + length);
    if (b->queued + d->count >= WIRE_MAX_FRAMES)
        return true;
    return b->first && ((s->queue_ns && after > limit) || (s->queue_bytes && after > (double)s->queue_bytes));
}

static void enqueue(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t now)
{
    struct bottleneck *b = bottleneck_of(d);
    line_run(b, pool, now);
    if (!wire_line_limited(&b->line, &b->shape) && !b->first) {
        propagate(d, pool, f, now);
        return;
    }
    if (queue_full(d, f->length)) {
        d->stats.dropped_queue += RULE(R_72, 1);
        wire_frame_put(pool, f);
        return;
    }
    f->release = now;
    f->of = d;
    f->next = NULL;
    *(b->last ? &b->last->next : &b->first) = f;
    b->last = f;
    b->queued++;
    b->queued_bytes += f->length;
    d->stats.queued_bytes += f->length;
    if (d->stats.queued_bytes > d->stats.queued_max_bytes)
        d->stats.queued_max_bytes = d->stats.queued_bytes;
    line_run(b, pool, now);
}

void direction_accept(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t now)
{
    const struct wire_point *point = wire_line_point(&bottleneck_of(d)->line, now);
    if (d->shape.cut || wire_noise_lost(&d->noise, &d->shape, point ? point->loss_ppm : d->shape.loss_ppm)) {
        *(d->shape.cut ? &d->stats.dropped_cut : &d->stats.dropped_loss) += 1;
        wire_frame_put(pool, f);
        return;
    }
    struct wire_frame *twin = wire_noise_happens(&d->noise, d->shape.duplicate_ppm) ? wire_frame_get(pool, f->length) : NULL;
    if (twin) {
        twin->length = f->length;
        memcpy(twin->data, f->data, f->length);
        d->stats.duplicated++;
    }
    if (wire_noise_happens(&d->noise, d->shape.corrupt_ppm)) {
        wire_noise_corrupt(&d->noise, f->data, f->length);
        d->stats.corrupted++;
    }
    enqueue(d, pool, f, now);
    if (twin)
        enqueue(d, pool, twin, now);
}

uint64_t direction_due(const struct direction *d)
{
    const struct bottleneck *b = d->shared ? d->shared : &d->own;
    uint64_t release = d->count ? d->heap[0]->release : UINT64_MAX, line = b->first ? turn(b) : UINT64_MAX;
    return release < line ? release : line;
}

static void late_count(struct wire_stats *stats, uint64_t late_ns)
{
    uint64_t us = late_ns / 1000;
    unsigned bucket = us ? 64 - (unsigned)__builtin_clzll(us) : 0;
    stats->late[bucket < WIRE_LATE_BUCKETS ? bucket : WIRE_LATE_BUCKETS - 1]++;
    if (late_ns > stats->late_max_ns)
        stats->late_max_ns = late_ns;
}

struct wire_frame *direction_take(struct direction *d, struct wire_pool *pool, uint64_t now)
{
    line_run(bottleneck_of(d), pool, now);
    if (!d->count || d->heap[0]->release > now)
        return NULL;
    struct wire_frame *f = heap_pop(d);
    late_count(&d->stats, now - f->release);
    return f;
}

/* The rate changes: what is on the line arrives as it would have, the queue goes on at the new one. */
static void line_changed(struct bottleneck *b, uint64_t now)
{
    if (b->line_free > now)
        b->line_free = now;
}

/* Takes what of d waits before its line. */
static uint32_t queue_leave(struct direction *d, struct wire_pool *pool)
{
    struct bottleneck *b = bottleneck_of(d);
    struct wire_frame *f, **at = &b->first;
    uint32_t n = 0;
    b->last = NULL;
    while ((f = *at) != NULL) {
        if (f->of != d) {
            b->last = f;
            at = &f->next;
            continue;
        }
        *at = f->next;
        b->queued--;
        b->queued_bytes -= f->length;
        wire_frame_put(pool, f);
        n++;
    }
    d->stats.queued_bytes = 0;
    return n;
}

void direction_share(struct direction *d, struct wire_pool *pool, struct bottleneck *line, uint64_t now)
{
    line_run(bottleneck_of(d), pool, now);
    if (line != d->shared)
        d->stats.dropped_cut += queue_leave(d, pool);
    d->shared = line;
}

void direction_shape(struct direction *d, struct wire_pool *pool, const struct wire_shape *shape, uint64_t now)
{
    struct bottleneck *b = bottleneck_of(d);
    line_run(b, pool, now);             /* what was to begin until now */
    if (shape->rate_bps != b->shape.rate_bps)
        line_changed(b, now);
    d->shape = b->shape = *shape;
    if (shape->cut) {                   /* nothing of what is under way arrives */
        d->stats.dropped_cut += d->count;
        d->stats.dropped_cut += queue_leave(d, pool);
        direction_clear(d, pool);
    }
}

int direction_trace(struct direction *d, struct wire_pool *pool, const struct wire_point *points, uint32_t n, uint64_t length_ns,
                    uint64_t now)
{
    struct bottleneck *b = bottleneck_of(d);
    line_run(b, pool, now);             /* no frame of the queue begins before the new origin */
    int result = wire_line_trace(&b->line, points, n, length_ns, now);
    if (result == ENGINE_OK)
        line_changed(b, now);
    return result;
}

int direction_deliveries(struct direction *d, struct wire_pool *pool, const uint32_t *at_ms, uint32_t n, uint64_t now)
{
    struct bottleneck *b = bottleneck_of(d);
    line_run(b, pool, now);
    int result = wire_line_deliveries(&b->line, at_ms, n, now);
    if (result == ENGINE_OK)
        line_changed(b, now);
    return result;
}

void direction_clear(struct direction *d, struct wire_pool *pool)
{
    queue_leave(d, pool);
    for (uint32_t i = 0; i < d->count; i++)
        wire_frame_put(pool, d->heap[i]);
    d->count = 0;
    d->last_release = 0;
    if (!d->shared)
        d->own.line_free = 0;
}
