#include "wire_line.h"
#include <stdlib.h>
#include <string.h>

#define SECOND 1e9
#define MILLISECOND 1000000u
#define FRAME_BITS (8.0 * 2048)         /* a round that carries less would make one frame walk through many */
#define DELIVERY_OCTETS 1504            /* Mahimahi: an MTU and a TUN header */
#define MAX_ENTRIES 10000000u

void wire_line_clear(struct wire_line *l)
{
    free(l->points);
    free(l->deliveries);
    memset(l, 0, sizeof *l);
}

static uint64_t round_end(const struct wire_line *l, uint32_t i)
{
    return i + 1 < l->count ? l->points[i + 1].at_ns : l->length_ns;
}

int wire_line_trace(struct wire_line *l, const struct wire_point *points, uint32_t n, uint64_t length_ns, uint64_t now)
{
    struct wire_line made = {.count = n, .length_ns = length_ns, .origin = now};
    if (n == 0) {
        wire_line_clear(l);
        return ENGINE_OK;
    }
    if (n > MAX_ENTRIES || points[0].at_ns != 0 || points[n - 1].at_ns >= length_ns)
        return -ENGINE_E_ARGUMENT;
    double bits = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t end = i + 1 < n ? points[i + 1].at_ns : length_ns;
        if (end <= points[i].at_ns || points[i].loss_ppm > 1000000)
            return -ENGINE_E_ARGUMENT;
        bits += (double)points[i].rate_bps * (double)(end - points[i].at_ns) / SECOND;
    }
    if (bits < FRAME_BITS)
        return -ENGINE_E_ARGUMENT;
    made.mean_bps = (uint64_t)(bits * SECOND / (double)length_ns);
    made.points = malloc(n * sizeof *points);
    if (!made.points)
        return -ENGINE_E_MEMORY;
    memcpy(made.points, points, n * sizeof *points);
    wire_line_clear(l);
    *l = made;
    return ENGINE_OK;
}

int wire_line_deliveries(struct wire_line *l, const uint32_t *at_ms, uint32_t n, uint64_t now)
{
    struct wire_line made = {.count = n, .origin = now, .room = DELIVERY_OCTETS};
    if (n == 0) {
        wire_line_clear(l);
        return ENGINE_OK;
    }
    if (n > MAX_ENTRIES || at_ms[n - 1] == 0)
        return -ENGINE_E_ARGUMENT;
    for (uint32_t i = 1; i < n; i++)
        if (at_ms[i] < at_ms[i - 1])
            return -ENGINE_E_ARGUMENT;
    made.length_ns = (uint64_t)at_ms[n - 1] * MILLISECOND;
    made.mean_bps = (uint64_t)((double)n * DELIVERY_OCTETS * 8 * SECOND / (double)made.length_ns);
    made.deliveries = malloc(n * sizeof *at_ms);
    if (!made.deliveries)
        return -ENGINE_E_MEMORY;
    memcpy(made.deliveries, at_ms, n * sizeof *at_ms);
    wire_line_clear(l);
    *l = made;
    return ENGINE_OK;
}

bool wire_line_limited(const struct wire_line *l, const struct wire_shape *shape)
{
    return l->count || shape->rate_bps;
}

uint64_t wire_line_rate(const struct wire_line *l, const struct wire_shape *shape)
{
    return l->count ? l->mean_bps : shape->rate_bps;
}

/* The last point whose time is not after `at` (of a round). */
static uint32_t point_at(const struct wire_line *l, uint64_t at)
{
    uint32_t low = 0, high = l->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (l->points[middle].at_ns <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const struct wire_point *wire_line_point(const struct wire_line *l, uint64_t at)
{
    return l->points ? l->points + point_at(l, (at - l->origin) % l->length_ns) : NULL;
}

static uint64_t trace_send(const struct wire_line *l, uint64_t start, uint32_t octets)
{
    uint64_t at = (start - l->origin) % l->length_ns, finish = start;
    double bits = 8.0 * octets;
    for (uint32_t i = point_at(l, at);; i = i + 1 < l->count ? i + 1 : 0) {
        double rate = (double)l->points[i].rate_bps;
        uint64_t left = round_end(l, i) - at;
        double carries = rate * (double)left / SECOND;
        if (bits <= carries)
            return finish + (uint64_t)(bits * SECOND / rate);
        bits -= carries;
        finish += left;
        at = i + 1 < l->count ? round_end(l, i) : 0;
    }
}

static uint64_t delivery_time(const struct wire_line *l, uint64_t number)
{
    return l->origin + number / l->count * l->length_ns + (uint64_t)l->deliveries[number % l->count] * MILLISECOND;
}

/* The first opportunity that is not before `start`. A round ends with its last opportunity, so there is one in the round of `start`. */
static uint64_t delivery_from(const struct wire_line *l, uint64_t start)
{
    uint64_t round = start > l->origin ? (start - l->origin - 1) / l->length_ns : 0, low = 0, high = l->count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (delivery_time(l, round * l->count + middle) < start)
            low = middle + 1;
        else
            high = middle;
    }
    return round * l->count + low;
}

static uint64_t delivery_send(struct wire_line *l, uint64_t start, uint32_t octets)
{
    if (delivery_time(l, l->used) < start) {    /* what nobody used is gone */
        l->used = delivery_from(l, start);
        l->room = DELIVERY_OCTETS;
    }
    while (octets > l->room) {
        octets -= l->room;
        l->used++;
        l->room = DELIVERY_OCTETS;
    }
    l->room -= octets;
    return delivery_time(l, l->used);
}

uint64_t wire_line_send(struct wire_line *l, const struct wire_shape *shape, uint64_t start, uint32_t octets)
{
    if (l->points)
        return trace_send(l, start, octets);
    if (l->deliveries)
        return delivery_send(l, start, octets);
    return shape->rate_bps ? start + (uint64_t)((double)octets * 8 * SECOND / (double)shape->rate_bps) : start;
}
