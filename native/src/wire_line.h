/* What the rate of a wire makes of a frame: when its last octet has left. A constant rate, a trace of rates, or times of delivery. */
#ifndef WIRE_LINE_H
#define WIRE_LINE_H
#include "engine.h"
#include <stdbool.h>

struct wire_line {
    struct wire_point *points;          /* a trace; NULL: none */
    uint32_t *deliveries;               /* times in ms; NULL: none */
    uint32_t count;                     /* of either */
    uint64_t length_ns;                 /* of one round */
    uint64_t origin;                    /* when the first round began */
    uint64_t mean_bps;
    uint64_t used;                      /* deliveries: the opportunity in use, counted over all rounds, */
    uint32_t room;                      /* and what is left of it */
};
/* -ENGINE_E_ARGUMENT, -ENGINE_E_MEMORY: as before. n 0: neither trace nor deliveries from now on. */
int wire_line_trace(struct wire_line *l, const struct wire_point *points, uint32_t n, uint64_t length_ns, uint64_t now);
int wire_line_deliveries(struct wire_line *l, const uint32_t *at_ms, uint32_t n, uint64_t now);
void wire_line_clear(struct wire_line *l);
bool wire_line_limited(const struct wire_line *l, const struct wire_shape *shape);
/* The rate that a queue in time is reckoned at. */
uint64_t wire_line_rate(const struct wire_line *l, const struct wire_shape *shape);
/* When a frame that begins at `start` has left; starts never fall. */
uint64_t wire_line_send(struct wire_line *l, const struct wire_shape *shape, uint64_t start, uint32_t octets);
/* The point of the trace that holds at this time; NULL: no trace. */
const struct wire_point *wire_line_point(const struct wire_line *l, uint64_t at);
#endif
