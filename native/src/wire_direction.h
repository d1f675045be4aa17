/* One direction of a wire: loss, the queue before the rate, delay, jitter, order. No sockets, no clock of its own. */
#ifndef WIRE_DIRECTION_H
#define WIRE_DIRECTION_H
#include "engine.h"
#include <stdbool.h>

#define WIRE_MAX_FRAMES 65536           /* under way in one direction */

struct wire_frame {
    struct wire_frame *next;            /* in the pool */
    uint64_t release, order;
    uint32_t length;
    uint32_t capacity;
    uint8_t data[];
};
#define WIRE_FRAME_ROOM 2048
struct wire_pool { struct wire_frame *free; };
struct wire_frame *wire_frame_get(struct wire_pool *pool, uint32_t capacity);
void wire_frame_put(struct wire_pool *pool, struct wire_frame *f);
void wire_pool_free(struct wire_pool *pool);

struct direction {
    struct wire_shape shape;
    struct wire_stats stats;
    uint64_t random;
    uint64_t rate_free;                 /* when the line has sent all that is queued */
    uint64_t last_release;              /* jitter does not change the order */
    uint64_t order;
    struct wire_frame **heap;           /* by release, then order of arrival */
    uint32_t count, capacity;
};
/* Takes the frame (or drops it, counted). */
void direction_accept(struct direction *d, struct wire_pool *pool, struct wire_frame *f, uint64_t now);
uint64_t direction_due(const struct direction *d);      /* UINT64_MAX: empty */
/* The next frame whose time has come; NULL if none. */
struct wire_frame *direction_take(struct direction *d, uint64_t now);
void direction_clear(struct direction *d, struct wire_pool *pool);      /* drops all under way */
#endif
