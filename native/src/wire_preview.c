/* One direction of a wire without sockets and clock: what a shape makes of given frames. */
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

int wire_preview(uint64_t seed, const struct wire_shape *shape, const struct wire_point *points, uint32_t point_count,
                 uint64_t length_ns, const uint32_t *deliveries, uint32_t delivery_count, const uint64_t *arrival_ns,
                 const uint32_t *octets, uint32_t n, uint64_t *release_ns, struct wire_stats *stats)
{
    struct direction d = {.shape = *shape};
    struct wire_pool pool = {NULL};
    wire_noise_init(&d.noise, seed);
    int result = points ? direction_trace(&d, &pool, points, point_count, length_ns, 0)
                        : deliveries ? direction_deliveries(&d, &pool, deliveries, delivery_count, 0) : ENGINE_OK;
    for (uint32_t i = 0; i < n; i++)
        release_ns[i] = UINT64_MAX;
    for (uint32_t i = 0; i < n && result == ENGINE_OK; i++) {
        if (octets[i] < sizeof i || octets[i] > WIRE_FRAME_ROOM || (i && arrival_ns[i] < arrival_ns[i - 1])) {
            result = -ENGINE_E_ARGUMENT;
            break;
        }
        preview_take(&d, &pool, arrival_ns[i], release_ns);
        struct wire_frame *f = wire_frame_get(&pool, octets[i]);
        if (!f) {
            result = -ENGINE_E_MEMORY;
            break;
        }
        f->length = octets[i];
        memset(f->data, 0, octets[i]);
        memcpy(f->data, &i, sizeof i);
        direction_accept(&d, &pool, f, arrival_ns[i]);
    }
    if (result == ENGINE_OK)
        preview_take(&d, &pool, UINT64_MAX - 1, release_ns);
    *stats = d.stats;
    direction_clear(&d, &pool);
    wire_line_clear(&d.line);
    free(d.heap);
    wire_pool_free(&pool);
    return result;
}
