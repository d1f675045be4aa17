/* Directions of wires without sockets and clock: what shapes make of given frames. */
#include "wire_direction.h"
#include <stdlib.h>
#include <string.h>

static void preview_take(struct direction *d, struct wire_pool *pool, uint64_t until, uint64_t *release_ns)
{
    uint64_t due;
    while ((due = direction_due(d)) <= until) {
        struct wire_frame *f = direction_take(d, pool, due);
        uint32_t number;
        if (!f)                         /* due was the queue's, not the line's */
            continue;
        memcpy(&number, f->data, sizeof number);
        if (due < release_ns[number])
            release_ns[number] = due;
        d->stats.packets++;
        d->stats.bytes += f->length;
        wire_frame_put(pool, f);
    }
}

/* `d`: made, by n ways; of each frame, which way it goes. */
static int preview_run(struct direction *d, uint32_t ways, struct wire_pool *pool, const uint32_t *way, const uint64_t *arrival_ns,
                       const uint32_t *octets, uint32_t n, uint64_t *release_ns)
{
    for (uint32_t i = 0; i < n; i++)
        release_ns[i] = UINT64_MAX;
    for (uint32_t i = 0; i < n; i++) {
        if (octets[i] < sizeof i || octets[i] > WIRE_FRAME_ROOM || (i && arrival_ns[i] < arrival_ns[i - 1]) || (way && way[i] >= ways))
            return -ENGINE_E_ARGUMENT;
        for (uint32_t k = 0; k < ways; k++)
            preview_take(d + k, pool, arrival_ns[i], release_ns);
        struct wire_frame *f = wire_frame_get(pool, octets[i]);
        if (!f)
            return -ENGINE_E_MEMORY;
        f->length = octets[i];
        memset(f->data, 0, octets[i]);
        memcpy(f->data, &i, sizeof i);
        direction_accept(d + (way ? way[i] : 0), pool, f, arrival_ns[i]);
    }
    for (uint32_t k = 0; k < ways; k++)
        preview_take(d + k, pool, UINT64_MAX - 1, release_ns);
    return ENGINE_OK;
}

static void preview_end(struct direction *d, struct wire_pool *pool, struct wire_stats *stats)
{
    *stats = d->stats;
    direction_clear(d, pool);
    wire_line_clear(&d->own.line);
    free(d->heap);
}

int wire_preview(uint64_t seed, const struct wire_shape *shape, const struct wire_point *points, uint32_t point_count,
                 uint64_t length_ns, const uint32_t *deliveries, uint32_t delivery_count, const uint64_t *arrival_ns,
                 const uint32_t *octets, uint32_t n, uint64_t *release_ns, struct wire_stats *stats)
{
    struct direction d = {.own.line.count = 0};
    struct wire_pool pool = {NULL};
    wire_noise_init(&d.noise, seed);
    direction_shape(&d, &pool, shape, 0);
    int result = points ? direction_trace(&d, &pool, points, point_count, length_ns, 0)
                        : deliveries ? direction_deliveries(&d, &pool, deliveries, delivery_count, 0) : ENGINE_OK;
    if (result == ENGINE_OK)
        result = preview_run(&d, 1, &pool, NULL, arrival_ns, octets, n, release_ns);
    preview_end(&d, &pool, stats);
    wire_pool_free(&pool);
    return result;
}

int wire_preview_shared(uint64_t seed, const struct wire_shape *shapes, uint32_t ways, const uint32_t *way, const uint64_t *arrival_ns,
                        const uint32_t *octets, uint32_t n, uint64_t *release_ns, struct wire_stats *stats)
{
    struct bottleneck line = {.first = NULL};
    struct direction d[4] = {0};
    struct wire_pool pool = {NULL};
    if (ways == 0 || ways > sizeof d / sizeof *d)
        return -ENGINE_E_ARGUMENT;
    for (uint32_t i = 0; i < ways; i++) {
        wire_noise_init(&d[i].noise, seed + i);
        direction_share(d + i, &pool, &line, 0);
        direction_shape(d + i, &pool, shapes + i, 0);
    }
    int result = preview_run(d, ways, &pool, way, arrival_ns, octets, n, release_ns);
    for (uint32_t i = 0; i < ways; i++)
        preview_end(d + i, &pool, stats + i);
    wire_pool_free(&pool);
    return result;
}
