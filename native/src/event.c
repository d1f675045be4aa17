/* The event ring: records of struct event and data, for Python. Full: the connection concerned is closed; the end of a
 * connection is never lost, it is told as soon as there is room. */
#include "core.h"

#define ROUND8(n) (((n) + 7) & ~7u)
#define RESERVE 65536                   /* kept free for CLOSED, GONE and OVERFLOW */

static void ring_copy(struct event_ring *r, uint32_t at, void *data, uint32_t n, bool in)
{
    at %= LIMIT_EVENT_BYTES;
    uint32_t first = LIMIT_EVENT_BYTES - at < n ? LIMIT_EVENT_BYTES - at : n;
    if (in) {
        memcpy(r->buffer + at, data, first);
        memcpy(r->buffer, (uint8_t *)data + first, n - first);
    } else {
        memcpy(data, r->buffer + at, first);
        memcpy((uint8_t *)data + first, r->buffer, n - first);
    }
}

static bool ring_push(endpoint *e, struct event *ev, const uint8_t *data, uint32_t length, uint32_t limit)
{
    struct event_ring *r = &e->events;
    uint32_t need = ROUND8((uint32_t)sizeof *ev) + ROUND8(length);
    if (need > limit || r->used > limit - need)
        return false;
    ev->length = length;
    ring_copy(r, r->head + r->used, ev, sizeof *ev, true);
    if (length)
        ring_copy(r, r->head + r->used + ROUND8((uint32_t)sizeof *ev), (void *)(uintptr_t)data, length, true);
    r->used += need;
    return true;
}

bool event_push(struct conn *c, struct event *ev, const uint8_t *data, size_t length)
{
    endpoint *e = c->e;
    ev->conn = c->handle;
    ev->time = e->now;
    bool last = ev->type == EVENT_CLOSED || ev->type == EVENT_GONE;
    uint32_t need = (uint32_t)(sizeof *ev + length);
    if (last || (c->event_bytes + need <= LIMIT_EVENT_BYTES_CONN)) {
        if (ring_push(e, ev, data, (uint32_t)length, last ? LIMIT_EVENT_BYTES : LIMIT_EVENT_BYTES - RESERVE)) {
            c->event_bytes += need;
            return true;
        }
    }
    if (last)
        return false;
    e->events.lost++;
    COUNT(e, event_overflow);
    if (c->state == CONN_OPEN)
        conn_close_begin(c, CLOSE_ERROR, false, INTERNAL_ERROR, 0, NULL, 0, false, e->now);
    return false;
}

bool event_simple(struct conn *c, int type, uint32_t path, uint64_t a, uint64_t b)
{
    struct event ev = { .type = (uint32_t)type, .path = path, .level = LEVEL_1RTT, .a = a, .b = b };
    return event_push(c, &ev, NULL, 0);
}

/* STREAM and CRYPTO get explicit offset and length; more than one event carries becomes several. */
void event_frame(struct conn *c, int level, uint32_t path, const struct frame_in *f)
{
    struct event ev = { .type = EVENT_FRAME, .path = path, .level = (uint32_t)level };
    bool stream = f->type >= F_STREAM && f->type <= F_STREAM_LAST;
    if (!stream && f->type != F_CRYPTO) {
        if (f->length <= ENGINE_MAX_EVENT_DATA)     /* only NEW_TOKEN can be longer: of no use to us */
            event_push(c, &ev, f->start, f->length);
        return;
    }
    size_t done = 0;
    do {
        uint8_t out[ENGINE_MAX_EVENT_DATA], *p = out;
        size_t part = f->data_length - done;
        if (part > ENGINE_MAX_EVENT_DATA - 32)
            part = ENGINE_MAX_EVENT_DATA - 32;
        bool fin = f->fin && done + part == f->data_length;
        p = put_varint(p, stream ? F_STREAM | 6 | (fin ? 1 : 0) : F_CRYPTO);
        if (stream)
            p = put_varint(p, f->stream);
        p = put_varint(p, f->offset + done);
        p = put_varint(p, part);
        p = put_bytes(p, f->data + done, part);
        if (!event_push(c, &ev, out, (size_t)(p - out)))
            return;
        done += part;
    } while (done < f->data_length && c->state == CONN_OPEN);
}

bool endpoint_has_events(endpoint *e) { return e->events.used > 0 || e->events.lost > 0; }

int endpoint_event_next(endpoint *e, struct event *ev, uint8_t *data, size_t capacity)
{
    if (!e || !ev || !data || capacity < ENGINE_MAX_EVENT_DATA)
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    struct event_ring *r = &e->events;
    int result = 0;
    if (r->used) {
        ring_copy(r, r->head, ev, sizeof *ev, false);
        uint32_t head = ROUND8((uint32_t)sizeof *ev);
        ring_copy(r, r->head + head, data, ev->length, false);
        uint32_t n = head + ROUND8(ev->length);
        r->head = (r->head + n) % LIMIT_EVENT_BYTES;
        r->used -= n;
        struct conn *c = conn_find(e, ev->conn);
        if (c)
            c->event_bytes -= (uint32_t)sizeof *ev + ev->length;
        result = 1;
    } else if (r->lost) {
        memset(ev, 0, sizeof *ev);
        ev->type = EVENT_OVERFLOW;
        ev->a = r->lost;
        ev->time = e->now;
        r->lost = 0;
        result = 1;
    }
    if (e->events_pending && result)
        conn_events_retry(e);
    endpoint_unlock(e);
    return result;
}
