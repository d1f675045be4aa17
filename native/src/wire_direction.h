/* One direction of a wire: chance, the queue before the rate, the line, delay, order. No sockets, no clock of its own. */
#ifndef WIRE_DIRECTION_H
#define WIRE_DIRECTION_H
#include "engine.h"
#include "wire_line.h"
#include "wire_noise.h"
#include <stdbool.h>

#define WIRE_MAX_FRAMES 65536           /* under way in one direction */

struct direction;
struct wire_frame {
    struct wire_frame *next;            /* in the pool, or in the queue */
    struct direction *of;               /* in the queue: whose it is */
    uint64_t release, order;            /* release: in the queue, when it came */
    uint32_t length;
    uint32_t capacity;
    uint8_t data[];
};
#define WIRE_FRAME_ROOM 2048
struct wire_pool { struct wire_frame *free; };
struct wire_frame *wire_frame_get(struct wire_pool *pool, uint32_t capacity);
void wire_frame_put(struct wire_pool *pool, struct wire_frame *f);
void wire_pool_free(struct wire_pool *pool);

/* A line with the queue before it: a direction's own, or one that several directions share. What meets a frame before it (chance) and
 * behind it (delay, jitter) is each direction's own. */
struct bottleneck {
    struct wire_shape shape;            /* rate_bps, queue_ns and queue_bytes count here, nothing else */
    struct wire_line line;
    uint64_t line_free;                 /* when the line has sent what was given to it */
    struct wire_frame *first, *last;
    uint32_t queued;
    uint64_t queued_bytes;
};
struct direction {
    struct wire_shape shape;
    struct wire_stats stats;
    struct wire_noise noise;
    struct bottleneck own, *shared;     /* shared NULL: its own */
    uint64_t last_release;              /* jitter does not change the order */
    uint64_t order;
    struct wire_frame **heap;           /* under way: by release, then order of arrival */
    uint32_t count, capacity;
};
/* Takes the frame (or drops it, counted). */
void direction_accept(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t now);
uint64_t direction_due(const struct direction *d);      /* UINT64_MAX: empty */
/* The next frame whose time has come; NULL if none. */
struct wire_frame *direction_take(struct direction *d, struct wire_pool *pool, uint64_t now);
/* From now on it goes through this line, NULL: its own. What waits in the one before is lost there, counted as cut. */
void direction_share(struct direction *d, struct wire_pool *pool, struct bottleneck *line, uint64_t now);
void direction_shape(struct direction *d, struct wire_pool *pool, const struct wire_shape *shape, uint64_t now);
/* As wire_line_trace and wire_line_deliveries; what is in the queue goes by the new one. */
int direction_trace(struct direction *d, struct wire_pool *pool, const struct wire_point *points, uint32_t n, uint64_t length_ns,
                    uint64_t now);
int direction_deliveries(struct direction *d, struct wire_pool *pool, const uint32_t *at_ms, uint32_t n, uint64_t now);
void direction_clear(struct direction *d, struct wire_pool *pool);      /* drops all under way */
#endif
