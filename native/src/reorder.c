/* Inner packets with sequence numbers, put back into order (reorder.h). */
#include <stdlib.h>
#include "core.h"

#define CAME (2 * LIMIT_REORDER_WINDOW)
_Static_assert((LIMIT_REORDER_WINDOW & (LIMIT_REORDER_WINDOW - 1)) == 0, "numbers wrap around at 2^32");

/* Numbers wrap: a is so far behind b (RFC 1982). */
static int32_t behind(uint32_t a, uint32_t b) { return (int32_t)(b - a); }

static bool came(const struct reorder_flow *f, uint32_t n) { return f->came[n % CAME / 64] >> (n % 64) & 1; }
static void came_set(struct reorder_flow *f, uint32_t n) { f->came[n % CAME / 64] |= 1ull << (n % 64); }

/* All below `to` is over: its numbers at the far end of the bitmap are new ones from now on. */
static void advance(struct reorder_flow *f, uint32_t to)
{
    while (f->next != to) {
        uint32_t n = f->next++ + LIMIT_REORDER_WINDOW;
        f->came[n % CAME / 64] &= ~(1ull << (n % 64));
    }
}

/* ---- lateness and time-out */

static uint64_t lateness_now(const struct reorder *r, uint64_t now)
{
    uint64_t halvings = (now - r->lateness_at) / REORDER_HALF_LIFE_NS;
    return halvings < 32 ? r->lateness >> halvings : 0;
}

static void lateness_sample(struct reorder *r, uint64_t sample, uint64_t now)
{
    uint64_t known = lateness_now(r, now);
    r->lateness = sample > known ? sample : known - (known - sample) / 256;
    r->lateness_at = now;
}

/* What is lost its sender knows a round trip after it left; those behind it are here after half of one, and what it sends again comes the
 * other half later, and over the shortest path. */
uint64_t reorder_timeout(const struct reorder *r, uint64_t now)
{
    uint64_t late = lateness_now(r, now), again = r->patience ? r->again : 0;
    late = late > again ? late : again;
    uint64_t wait = late + late / 4 + REORDER_WAIT_LEAST_NS, least = r->lateness_at ? 0 : REORDER_WAIT_FIRST_NS;
    wait = wait > least ? wait : least;
    return wait < REORDER_WAIT_MOST_NS ? wait : REORDER_WAIT_MOST_NS;
}

/* ---- windows, and the list of flows with a gap */

static bool window_take(endpoint *e, struct reorder_flow *f)
{
    struct reorder_pool *o = &e->reorder;
    if (o->windows) {
        f->window = o->windows;
        o->windows = *(void **)o->windows;
    } else if (o->window_count < LIMIT_REORDER_WINDOWS && (f->window = malloc(LIMIT_REORDER_WINDOW * sizeof *f->window))) {
        o->window_count++;
    }
    return f->window;
}

/* There is a gap at next, since then. */
static void since_set(endpoint *e, struct reorder_flow *f, uint64_t since, uint64_t now)
{
    uint64_t until = since + reorder_timeout(&f->tunnel->reorder, now);
    f->since = since;
    e->reorder.next = until < e->reorder.next ? until : e->reorder.next;
}

static void gap_open(endpoint *e, struct reorder_flow *f, uint64_t now)
{
    struct reorder_pool *o = &e->reorder;
    f->waiting_previous = NULL;
    f->waiting_next = o->waiting;
    if (o->waiting)
        o->waiting->waiting_previous = f;
    o->waiting = f;
    since_set(e, f, now, now);
}

/* Nothing is held any more. */
static void gap_close(endpoint *e, struct reorder_flow *f)
{
    struct reorder_pool *o = &e->reorder;
    if (f->waiting_previous)
        f->waiting_previous->waiting_next = f->waiting_next;
    else
        o->waiting = f->waiting_next;
    if (f->waiting_next)
        f->waiting_next->waiting_previous = f->waiting_previous;
    f->waiting_next = f->waiting_previous = NULL;
    if (!o->waiting)
        o->next = NEVER;
    *(void **)f->window = o->windows;
    o->windows = f->window;
    f->window = NULL;
}

/* ---- delivering */

static struct packet *held_take(endpoint *e, struct reorder_flow *f, uint32_t n)
{
    f->held--;
    f->tunnel->reorder.held--;
    e->reorder.held--;
    return f->window[n % LIMIT_REORDER_WINDOW];
}

static void held_deliver(endpoint *e, struct reorder_flow *f, uint64_t now)
{
    struct packet *k = held_take(e, f, f->next);
    struct tunnel_stats *s = &f->tunnel->stats;
    uint64_t wait = now - k->enqueued;
    s->reorder_wait_ns += wait;
    s->reorder_wait_most_ns = wait > s->reorder_wait_most_ns ? wait : s->reorder_wait_most_ns;
    inner_deliver(e, f->tunnel->config.tun, k->buffer + k->offset, k->length);
    packet_put_read(e, k);
    advance(f, f->next + 1);
}

/* Delivers what is held up to the next gap, which is one since the packet behind it came. */
static void run(endpoint *e, struct reorder_flow *f, uint64_t now)
{
    while (f->held && came(f, f->next))
        held_deliver(e, f, now);
    if (!f->held) {
        if (f->window)
            gap_close(e, f);
        return;
    }
    f->first = f->next;
    while (!came(f, f->first))
        f->first++;
    since_set(e, f, f->window[f->first % LIMIT_REORDER_WINDOW]->enqueued, now);
}

/* Nobody waits for the gap at next any more. */
static void give_up(endpoint *e, struct reorder_flow *f, uint64_t now)
{
    f->given_up[f->given_up_next++ % REORDER_GAPS] = (struct reorder_gap){ f->since, f->next, f->first };
    advance(f, f->first);
    run(e, f, now);
}

static void release(endpoint *e, struct reorder_flow *f, uint64_t now)
{
    while (f->held)
        give_up(e, f, now);
}

/* A gap that is since then was waited for, and is not filled. Many of one time count once. */
static void vain(struct reorder *r, uint64_t since, uint64_t now)
{
    if (since < r->vain_at)
        return;
    r->vain_at = now;
    r->patience -= r->patience > 0;
}

/* n comes although it was given up: how late that is. It is worth waiting for such ones. */
static void late_note(const struct reorder_flow *f, uint32_t n, uint64_t now)
{
    for (const struct reorder_gap *g = f->given_up; g < f->given_up + REORDER_GAPS; g++)
        if (behind(g->from, n) >= 0 && behind(n, g->to) > 0) {
            lateness_sample(&f->tunnel->reorder, now - g->since, now);
            f->tunnel->reorder.patience = REORDER_PATIENCE;
            return;
        }
}

/* ---- losses */

static struct reorder_carrier *carrier_find(struct reorder_flow *f, uint32_t conn, uint32_t path)
{
    for (struct reorder_carrier *c = f->carriers; c < f->carriers + REORDER_CARRIERS; c++)
        if (c->conn == conn && c->path == path)
            return c;
    return NULL;
}

/* n came over this path. */
static void carrier_note(struct reorder_flow *f, uint32_t conn, uint32_t path, uint32_t n, uint64_t now)
{
    struct reorder_carrier *c = carrier_find(f, conn, path);
    if (!c) {
        c = f->carriers;                /* the oldest */
        for (struct reorder_carrier *i = f->carriers; i < f->carriers + REORDER_CARRIERS; i++)
            c = !i->conn || (c->conn && i->last < c->last) ? i : c;
        *c = (struct reorder_carrier){ .conn = conn, .path = path };
    }
    c->last = now;
    uint32_t at = c->count;
    while (at && behind(c->highest[at - 1], n) > 0)
        at--;
    if (at == REORDER_TOLERANCE || (at && c->highest[at - 1] == n))
        return;
    c->count += c->count < REORDER_TOLERANCE;
    for (uint32_t i = c->count - 1; i > at; i--)
        c->highest[i] = c->highest[i - 1];
    c->highest[at] = n;
}

/* Every path that may carry the flow has brought several numbers behind n: it is lost, since each keeps their order. One that has carried
 * nothing of it lately may be the one that n is on: a slow path gets a packet now and then, and brings it long after the next ones. */
static bool is_passed(endpoint *e, struct reorder_flow *f, uint32_t conn, uint32_t n, uint64_t now)
{
    struct conn *c = conn_find(e, conn);
    for (uint32_t i = 0; c && i < c->path_count; i++)
        if (path_good(c->paths[i]) && !carrier_find(f, conn, c->paths[i]->id))
            return false;
    for (const struct reorder_carrier *r = f->carriers; r < f->carriers + REORDER_CARRIERS; r++) {
        const struct path *p = c && r->conn == conn ? path_find(c, r->path) : NULL;
        if (!r->conn || (now - r->last > REORDER_LATELY_NS && !(p && path_good(p))))
            continue;
        if (r->count < REORDER_TOLERANCE || behind(n, r->highest[REORDER_TOLERANCE - 1]) <= 0)
            return false;
    }
    return true;
}

/* Of the paths that may carry the flow; 0: not known */
static uint64_t longest_round_trip(endpoint *e, uint32_t conn)
{
    const struct conn *c = conn_find(e, conn);
    uint64_t longest = 0;
    for (uint32_t i = 0; c && i < c->path_count; i++)
        if (path_good(c->paths[i]) && c->paths[i]->rec.sampled && c->paths[i]->rec.smoothed > longest)
            longest = c->paths[i]->rec.smoothed;
    return longest;
}

static void losses(endpoint *e, struct reorder_flow *f, uint32_t conn, uint64_t now)
{
    while (f->held && !f->tunnel->reorder.patience && is_passed(e, f, conn, f->first - 1, now)) {
        f->tunnel->stats.reorder_lost += (uint32_t)behind(f->next, f->first);
        give_up(e, f, now);
    }
}

/* ---- flows */

static void flow_free(endpoint *e, struct reorder_flow *f, uint64_t now)
{
    release(e, f, now);
    e->reorder.flow_count--;
    free(f);
}

/* The flow with this key, a new one in place of the oldest of its set; NULL: there is no memory for it. */
static struct reorder_flow *flow_get(endpoint *e, struct tunnel *t, const uint8_t key[40], uint32_t sequence, uint64_t now)
{
    struct reorder *r = &t->reorder;
    if (!r->flows) {
        if (!(r->flows = calloc(LIMIT_REORDER_SETS * LIMIT_REORDER_WAYS, sizeof *r->flows)))
            return NULL;
        r->patience = REORDER_PATIENCE;
    }
    struct reorder_flow **set = r->flows + hash_bytes(e, key, 40) % LIMIT_REORDER_SETS * LIMIT_REORDER_WAYS, **place = set;
    for (struct reorder_flow **i = set; i < set + LIMIT_REORDER_WAYS; i++) {
        if (*i && !memcmp((*i)->key, key, 40)) {
            (*i)->last = now;
            return *i;
        }
        if (*place && (!*i || (*i)->last < (*place)->last))
            place = i;
    }
    if (*place)
        flow_free(e, *place, now);
    *place = NULL;
    struct reorder_flow *f = e->reorder.flow_count < LIMIT_REORDER_FLOWS ? calloc(1, sizeof *f) : NULL;
    if (!f)
        return NULL;
    e->reorder.flow_count++;
    memcpy(f->key, key, 40);
    f->tunnel = t;
    f->last = now;
    f->next = f->high = sequence;
    return *place = f;
}

/* The sender has begun anew, or more is missing than we wait for. */
static void jump(endpoint *e, struct reorder_flow *f, uint32_t n, uint64_t now)
{
    release(e, f, now);
    f->before = f->next;
    f->has_before = true;
    f->next = f->high = n;
    memset(f->given_up, 0, sizeof f->given_up);
    memset(f->came, 0, sizeof f->came);
    memset(f->carriers, 0, sizeof f->carriers);
    f->tunnel->stats.reorder_jumps++;
}

static bool in_window(uint32_t next, uint32_t n)
{
    int32_t ahead = behind(next, n);
    return ahead < LIMIT_REORDER_WINDOW && ahead >= -LIMIT_REORDER_WINDOW;
}

/* Of a flow of which packets come twice, so far behind that it is not known whether it came: so long a way only copies have. */
static bool is_late_copy(const struct reorder_flow *f, uint32_t n, uint64_t now)
{
    int32_t late = behind(n, f->next);
    return f->twice && now - f->twice < REORDER_TWICE_NS && late > LIMIT_REORDER_WINDOW && late < REORDER_COPY_MOST;
}

/* A copy waits behind the gap; false: there is no room for one. */
static bool hold(endpoint *e, struct reorder_flow *f, uint32_t conn, uint32_t n, const uint8_t *data, size_t length, uint64_t now)
{
    struct reorder *r = &f->tunnel->reorder;
    if (!RULE(R_60, true) || r->held >= LIMIT_REORDER_TUNNEL || e->reorder.held >= LIMIT_REORDER_ALL || length > PACKET_CAPACITY ||
        !(f->window || window_take(e, f)))
        return false;
    struct packet *k = packet_get(e);
    if (!k) {
        if (!f->held) {
            *(void **)f->window = e->reorder.windows;
            e->reorder.windows = f->window;
            f->window = NULL;
        }
        return false;
    }
    k->offset = 0;
    k->length = (uint16_t)length;
    k->enqueued = now;
    memcpy(k->buffer, data, length);
    f->window[n % LIMIT_REORDER_WINDOW] = k;
    if (!f->held++) {
        r->again = longest_round_trip(e, conn);
        gap_open(e, f, now);
    }
    if (f->held == 1 || behind(n, f->first) > 0)
        f->first = n;
    came_set(f, n);
    struct tunnel_stats *s = &f->tunnel->stats;
    s->reorder_waited++;
    e->reorder.held++;
    if (++r->held > s->reorder_depth)
        s->reorder_depth = r->held;
    return true;
}

/* ---- calls */

bool reorder_packet(endpoint *e, struct tunnel *t, uint32_t conn, uint32_t path, uint32_t n, const uint8_t *data, size_t length,
                    uint64_t now)
{
    struct tunnel_stats *s = &t->stats;
    uint8_t key[40];
    flow_key(data, length, false, key);
    struct reorder_flow *f = flow_get(e, t, key, n, now);
    if (f && is_late_copy(f, n, now)) {
        s->reorder_duplicates++;
        return false;
    }
    bool old = f && !in_window(f->next, n) && f->has_before && in_window(f->before, n);
    if (f && !old && !in_window(f->next, n))
        jump(e, f, n, now);
    if (!f || old) {
        if (f)
            s->reorder_late++;
        else
            s->reorder_full++, COUNT(e, reorder_full);
        inner_deliver(e, t->config.tun, data, length);
        return true;
    }
    carrier_note(f, conn, path, n, now);        /* also of what came before: this path still brings the flow, and may bring what is missing */
    if (came(f, n)) {
        f->twice = now;
        s->reorder_duplicates++;
        return false;
    }
    if (behind(f->high, n) > 0)
        f->high = n;
    int32_t ahead = behind(f->next, n);
    if (ahead < 0) {
        came_set(f, n);
        s->reorder_late++;
        late_note(f, n, now);
        inner_deliver(e, t->config.tun, data, length);
        return true;
    }
    if (f->held && behind(n, f->first) > 0) {   /* it is what the gap has waited for */
        lateness_sample(&t->reorder, now - f->since, now);
        if (is_passed(e, f, conn, n, now))      /* it was sent again, perhaps: so will be the next one that is missing */
            t->reorder.patience = REORDER_PATIENCE;
    }
    if (ahead > 0 && !hold(e, f, conn, n, data, length, now)) {
        s->reorder_full++;
        COUNT(e, reorder_full);
        release(e, f, now);
        if (behind(f->next, n) < 0) {   /* what was held reached behind it */
            came_set(f, n);
            inner_deliver(e, t->config.tun, data, length);
            return true;
        }
        advance(f, n);
        ahead = 0;
    }
    if (!ahead) {
        came_set(f, n);
        inner_deliver(e, t->config.tun, data, length);
        advance(f, n + 1);
        run(e, f, now);
    }
    losses(e, f, conn, now);
    return true;
}

void reorder_timer(endpoint *e, uint64_t now)
{
    struct reorder_pool *o = &e->reorder;
    if (now < o->next)
        return;
    uint64_t next = NEVER;
    for (struct reorder_flow *f = o->waiting, *following; f; f = following) {
        following = f->waiting_next;
        struct reorder *r = &f->tunnel->reorder;
        uint64_t wait = reorder_timeout(r, now);
        while (f->held && f->since + wait <= now) {
            f->tunnel->stats.reorder_timeouts++;
            vain(r, f->since, now);
            give_up(e, f, now);
        }
        if (f->held && f->since + wait < next)
            next = f->since + wait;
    }
    o->next = next;
}

void reorder_free(endpoint *e, struct tunnel *t)
{
    struct reorder *r = &t->reorder;
    for (uint32_t i = 0; r->flows && i < LIMIT_REORDER_SETS * LIMIT_REORDER_WAYS; i++) {
        struct reorder_flow *f = r->flows[i];
        for (; f && f->held; advance(f, f->next + 1))
            if (came(f, f->next)) {
                packet_put(e, held_take(e, f, f->next));
                COUNT(e, tunnel_none);
            }
        if (f && f->window)
            gap_close(e, f);
        e->reorder.flow_count -= f != NULL;
        free(f);
    }
    free(r->flows);
    r->flows = NULL;
}

void reorder_pool_free(endpoint *e)
{
    while (e->reorder.windows) {
        void *w = e->reorder.windows;
        e->reorder.windows = *(void **)w;
        free(w);
    }
}
