/* The simulator's network: datagrams between two endpoints on a virtual clock. Everything random comes from the seed, each wire has a
 * stream of its own, so what one path meets does not depend on how much another one sends. */
#include <stdlib.h>
#include "simnet.h"

#define IP_UDP 28                       /* octets of IPv4 and UDP headers */
#define DUPLICATE_LATER 1000000ull
#define CHECK_EVERY 100000000ull        /* virtual time between two white-box checks: they walk every pool */

/* ---- random */

static uint64_t rotate(uint64_t x, int k) { return x << k | x >> (64 - k); }

static uint64_t random_next(uint64_t *s)
{
    uint64_t result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;     /* xoshiro256** */
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static bool chance(uint64_t *s, double share)
{
    /* always one draw: the luck of the later ones does not hang on the shares */
    return (double)(random_next(s) >> 11) * 0x1p-53 < share;
}

static void random_seed(uint64_t *s, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {       /* splitmix64 */
        uint64_t z = seed += 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        s[i] = z ^ z >> 31;
    }
}

static void trace_add(struct simnet *n, const void *data, size_t length)
{
    const uint8_t *p = data;
    uint64_t h = n->state.trace;
    while (length) {
        uint64_t v = 0;
        size_t take = length < 8 ? length : 8;
        memcpy(&v, p, take);
        h = (rotate(h, 29) ^ v) * 0x9e3779b97f4a7c15;
        p += take;
        length -= take;
    }
    n->state.trace = h ^ h >> 31;
}

/* ---- life */

static void wire_init(struct simnet_wire *w)
{
    *w = (struct simnet_wire){ .delay = 5000000, .queue = 50000000, .reorder_by = 3000000, .ecn = { 0, 1, 2, 3 }, .mark = NEVER };
}

simnet *simnet_new(endpoint *client, endpoint *server, uint64_t seed, uint64_t now)
{
    if (!client || !server || client->server || !server->server)
        return NULL;
    struct simnet *n = calloc(1, sizeof *n);
    if (!n)
        return NULL;
    n->ends[0] = client;
    n->ends[1] = server;
    n->state.now = n->check_at = now;
    for (uint32_t i = 0; i < ENGINE_MAX_LINKS; i++) {
        for (int d = 0; d < 2; d++) {
            wire_init(&n->wires[d][i]);
            random_seed(n->random[d][i], seed * 64 + i * 2 + (uint64_t)d);
        }
        wire_init(&n->common[i]);
    }
    return n;
}

int simnet_end_set(simnet *n, int side, endpoint *e)
{
    if (!n || !e || side < 0 || side > 1 || e->server != (side == 1))
        return -ENGINE_E_ARGUMENT;
    n->ends[side] = e;
    n->told[side] = 0;
    for (uint32_t i = 0; i < n->seen_count;)    /* its handles begin anew */
        if (n->seen[i].side == side)
            n->seen[i] = n->seen[--n->seen_count];
        else
            i++;
    return 0;
}

void simnet_free(simnet *n)
{
    if (!n)
        return;
    while (n->heap_count)
        free(n->heap[--n->heap_count]);
    for (struct flight *f = n->pool, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    free(n->heap);
    free(n->seen);
    free(n->windows);
    free(n);
}

struct simnet_wire *simnet_wire(simnet *n, uint32_t link, int direction)
{
    return n && link < ENGINE_MAX_LINKS && (direction == 0 || direction == 1) ? &n->wires[direction][link] : NULL;
}

struct simnet_wire *simnet_common(simnet *n, uint32_t number)
{
    return n && number < ENGINE_MAX_LINKS ? &n->common[number] : NULL;
}

const struct simnet_state *simnet_state(simnet *n) { return &n->state; }

int simnet_client_set(simnet *n, uint32_t link, const struct address *client)
{
    if (!n || !client || link >= ENGINE_MAX_LINKS)
        return -ENGINE_E_ARGUMENT;
    n->clients[link] = *client;
    return 0;
}

int simnet_server_set(simnet *n, const struct address *server)
{
    if (!n || !server)
        return -ENGINE_E_ARGUMENT;
    n->server = *server;
    return 0;
}

void simnet_tap(simnet *n, int enabled) { n->tapped = enabled != 0; }
struct simnet_tapped *simnet_tapped(simnet *n) { return &n->tap; }

/* ---- datagrams on their way: a heap by time, then by order of sending */

static bool earlier(const struct flight *a, const struct flight *b)
{
    return a->time != b->time ? a->time < b->time : a->serial < b->serial;
}

static bool heap_push(struct simnet *n, struct flight *f)
{
    if (n->heap_count == n->heap_capacity) {
        uint32_t capacity = n->heap_capacity ? 2 * n->heap_capacity : 256;
        struct flight **heap = realloc(n->heap, capacity * sizeof(struct flight *));
        if (!heap)
            return false;
        n->heap = heap;
        n->heap_capacity = capacity;
    }
    uint32_t i = n->heap_count++;
    for (; i > 0 && earlier(f, n->heap[(i - 1) / 2]); i = (i - 1) / 2)
        n->heap[i] = n->heap[(i - 1) / 2];
    n->heap[i] = f;
    return true;
}

static struct flight *heap_pop(struct simnet *n)
{
    struct flight *first = n->heap[0], *last = n->heap[--n->heap_count];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < n->heap_count; i = child) {
        child += child + 1 < n->heap_count && earlier(n->heap[child + 1], n->heap[child]);
        if (!earlier(n->heap[child], last))
            break;
        n->heap[i] = n->heap[child];
    }
    n->heap[i] = last;
    return first;
}

static struct flight *flight_get(struct simnet *n)
{
    struct flight *f = n->pool;
    if (f)
        n->pool = f->next;
    else
        f = malloc(sizeof *f);
    if (!f)
        simnet_fail(n, "out of memory");
    return f;
}

static void flight_put(struct simnet *n, struct flight *f)
{
    f->next = n->pool;
    n->pool = f;
}

/* ---- the wire */

/* When the line of this rate has sent a datagram that comes to it at `from`; NEVER: its queue is full. Marks it when it waits long. */
static uint64_t line_pass(struct simnet_wire *line, uint64_t from, size_t octets, uint8_t *ecn, struct simnet_wire *count)
{
    uint64_t start = from > line->busy_until ? from : line->busy_until;
    if (*ecn && start - from > line->mark) {
        count->marked += *ecn != 3;
        *ecn = 3;
    }
    if (line->rate <= 0)
        return start;
    if (start - from > line->queue)
        return NEVER;
    line->busy_until = start + (uint64_t)((double)(octets * 8) / line->rate * 1e9);
    return line->busy_until;
}

static void launch(struct simnet *n, struct flight *f)
{
    f->serial = n->serial++;
    if (!heap_push(n, f)) {
        flight_put(n, f);
        simnet_fail(n, "out of memory");
        return;
    }
    n->state.in_flight++;
    n->state.inner_in_flight[f->direction] += f->inner;
}

static void wire_send(struct simnet *n, int direction, uint32_t link, const struct address *remote, uint8_t ecn, bool inner,
                      const uint8_t *data, uint32_t length)
{
    struct simnet_wire *w = &n->wires[direction][link];
    uint64_t *luck = n->random[direction][link], now = n->state.now;
    bool lost = chance(luck, w->loss), late = chance(luck, w->reorder), twice = chance(luck, w->duplicate);
    bool corrupt = chance(luck, w->corrupt);
    uint64_t jitter = random_next(luck), place = random_next(luck);
    w->sent++;
    w->inner_sent += inner;
    w->bytes += length;
    ecn = w->ecn[ecn & 3];
    uint64_t *dropped = w->cut ? &w->cut_drops : lost ? &w->lost : w->mtu && length + IP_UDP > w->mtu ? &w->mtu_drops : NULL;
    uint64_t at = now;
    if (!dropped)
        at = line_pass(w, now, length + IP_UDP, &ecn, w);
    if (!dropped && at != NEVER && w->shared)
        at = line_pass(w->shared, at, length + IP_UDP, &ecn, w);
    if (!dropped && at == NEVER)
        dropped = &w->queue_drops;
    if (dropped) {
        ++*dropped;
        w->dropped++;
        w->inner_dropped += inner;
        return;
    }
    w->passed++;
    at += w->delay;
    if (w->jitter) {
        at += jitter % (w->jitter + 1);
        at = at > w->last_arrival ? at : w->last_arrival;
        w->last_arrival = at;
    }
    if (late) {
        w->reordered++;
        at += w->reorder_by;
    }
    for (int i = 0; i <= twice; i++) {
        struct flight *f = flight_get(n);
        if (!f)
            return;
        f->time = at + (i ? DUPLICATE_LATER : 0);
        f->link = link;
        f->length = length;
        f->remote = *remote;
        f->direction = (uint8_t)direction;
        f->ecn = ecn;
        f->inner = inner;
        f->damaged = false;
        memcpy(f->data, data, length);
        if (corrupt && !i && length) {
            w->corrupted++;
            f->damaged = true;
            f->data[place / 8 % length] ^= (uint8_t)(1u << place % 8);
        }
        w->duplicated += (uint64_t)i;
        w->inner_duplicated += (uint64_t)(i && inner);
        launch(n, f);
    }
}

static void deliver(struct simnet *n, struct flight *f, const struct address *source)
{
    endpoint *e = n->ends[!f->direction];
    endpoint_lock(e);
    struct received before = {0};
    if (!n->unchecked)
        before = check_before_receive(n, !f->direction);
    if (!break_swallows(n, !f->direction))
        endpoint_receive(e, f->link, source, f->data, f->length, f->ecn, n->state.now);
    if (!n->unchecked)
        check_after_receive(n, !f->direction, f, before);
    endpoint_unlock(e);
}

static void arrive(struct simnet *n, struct flight *f)
{
    struct simnet_wire *w = &n->wires[f->direction][f->link];
    n->state.in_flight--;
    n->state.inner_in_flight[f->direction] -= f->inner;
    if (f->direction == 1 && !address_equal(&f->remote, &n->clients[f->link])) {
        w->nobody++;                    /* the client's address changed meanwhile */
        w->inner_dropped += f->inner;
    } else {
        w->delivered++;
        deliver(n, f, f->direction == 0 ? &n->clients[f->link] : &n->server);
    }
    flight_put(n, f);
}

int simnet_inject(simnet *n, int direction, uint32_t link, const struct address *source, const uint8_t *data, uint32_t length, int ecn)
{
    if (!n || direction < 0 || direction > 1 || link >= ENGINE_MAX_LINKS || !source || !data || length > SIMNET_DATAGRAM)
        return -ENGINE_E_ARGUMENT;
    struct flight *f = flight_get(n);
    if (!f)
        return -ENGINE_E_MEMORY;
    *f = (struct flight){ .link = link, .length = length, .direction = (uint8_t)direction, .ecn = (uint8_t)(ecn & 3), .damaged = true };
    memcpy(f->data, data, length);
    deliver(n, f, source);
    flight_put(n, f);
    return n->state.failure[0] ? -ENGINE_E_STATE : 0;
}

/* ---- sending */

static void on_wire(struct simnet *n, int direction, uint32_t link, const struct address *remote, uint8_t ecn, bool inner,
                    const uint8_t *data, uint32_t length)
{
    uint64_t head[4] = { n->state.now, (uint64_t)direction, link, ecn };
    trace_add(n, head, sizeof head);
    trace_add(n, data, length);
    wire_send(n, direction, link, remote, ecn, inner, data, length);
}

void simnet_checks_set(simnet *n, int enabled)
{
    n->unchecked = !enabled;
}

/* One datagram of this end; false: it has none. */
static bool send_one(struct simnet *n, int side)
{
    endpoint *e = n->ends[side];
    struct datagram d = { .data = n->tap.data, .length = sizeof n->tap.data };
    uint64_t inner_before = e->counters[COUNTER_inner_sent];
    bool fresh = e->pending_next >= e->pending.count;
    if (fresh && !n->unchecked)
        check_before_send(n, side);
    break_windows_open(n, side);
    int sent = endpoint_output(e, &d, n->state.now);
    break_windows_close(n, side);
    if (sent != 1)
        return false;
    if (fresh && !n->unchecked) {
        check_after_send(n, side);
        n->tap_inner = e->counters[COUNTER_inner_sent] != inner_before;     /* all of a batch or none */
    }
    if (!n->unchecked)
        check_nonces(n, side, d.data, d.length);
    if (d.link >= ENGINE_MAX_LINKS) {
        simnet_fail(n, "side %d sends on link %u", side, d.link);
        return false;
    }
    if (n->tapped) {
        n->tap.direction = (uint32_t)side;
        n->tap.link = d.link;
        n->tap.length = d.length;
        n->tap.ecn = d.ecn;
        n->tap_remote = d.remote;
        n->tap_waits = true;
    } else {
        on_wire(n, side, d.link, &d.remote, d.ecn, n->tap_inner, d.data, d.length);
    }
    return true;
}

int simnet_pass(simnet *n, int pass)
{
    struct simnet_tapped *t = &n->tap;
    if (!n->tap_waits || t->length > SIMNET_DATAGRAM)
        return -ENGINE_E_STATE;
    n->tap_waits = false;
    struct simnet_wire *w = &n->wires[t->direction][t->link];
    if (pass) {
        on_wire(n, (int)t->direction, t->link, &n->tap_remote, t->ecn, n->tap_inner, t->data, t->length);
    } else {
        w->sent++;
        w->lost++;
        w->dropped++;
        w->inner_sent += n->tap_inner;
        w->inner_dropped += n->tap_inner;
    }
    return 0;
}

/* Whether an end has something for Python that it was not told of: a Python that stalls is not asked for ever. */
static bool has_output(struct simnet *n, int side)
{
    const endpoint *e = n->ends[side];
    uint64_t waits = e->events.used + e->events.lost + e->out_count;
    bool news = waits > n->told[side];
    n->told[side] = waits;
    return news;
}

/* Everything that can happen at this instant; SIMNET_TIME when it is all done. */
static int settle(struct simnet *n)
{
    for (;;) {
        if (n->state.failure[0])
            return SIMNET_FAILED;
        if (n->tap_waits)
            return SIMNET_TAP;
        if (has_output(n, 0) | has_output(n, 1))
            return SIMNET_OUTPUT;
        bool moved = false;
        for (int side = 0; side < 2; side++)
            while (!n->tap_waits && send_one(n, side)) {
                moved = true;
                if (n->state.failure[0])
                    return SIMNET_FAILED;
            }
        if (!moved)
            return SIMNET_TIME;
    }
}

static void advance(struct simnet *n)
{
    for (int side = 0; side < 2; side++)
        endpoint_advance(n->ends[side], n->state.now);
    if (n->unchecked || n->state.now < n->check_at)
        return;
    n->check_at = n->state.now + CHECK_EVERY;
    char why[200];
    for (int side = 0; side < 2; side++)
        if (endpoint_check(n->ends[side], why, sizeof why))
            simnet_fail(n, "%s: %s", side ? "server" : "client", why);
}

int simnet_run(simnet *n, uint64_t until, int step)
{
    uint64_t instants = 0;
    for (;;) {
        int stop = settle(n);
        if (stop != SIMNET_TIME)
            return stop;
        if (step && n->moved) {
            n->moved = false;
            return SIMNET_STEP;
        }
        uint64_t next = n->heap_count ? n->heap[0]->time : NEVER;
        for (int side = 0; side < 2; side++) {
            uint64_t d = endpoint_deadline(n->ends[side]);
            next = d < next ? d : next;
        }
        next = next > n->state.now ? next : n->state.now;
        if (next > until) {
            n->state.now = until > n->state.now ? until : n->state.now;
            advance(n);
            return n->state.failure[0] ? SIMNET_FAILED : SIMNET_TIME;
        }
        if (next == n->state.now && ++instants > 10000) {
            simnet_fail(n, "10000 turns without time passing: a timer that is due stays due");
            return SIMNET_FAILED;
        }
        if (next != n->state.now)
            instants = 1;
        n->state.now = next;
        n->moved = true;
        while (n->heap_count && n->heap[0]->time <= next)
            arrive(n, heap_pop(n));
        advance(n);
    }
}
