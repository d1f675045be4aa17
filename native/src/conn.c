/* A connection: made, timed, closed, freed. */
#include <stdlib.h>
#include "core.h"

struct conn *conn_find(endpoint *e, uint32_t handle)
{
    uint32_t slot = handle & 0xffff;
    struct conn *c = slot < ENGINE_MAX_CONNS ? e->conns[slot] : NULL;
    return c && c->handle == handle ? c : NULL;
}

struct conn *conn_new(endpoint *e, bool server, uint32_t link, const struct address *remote, uint64_t now)
{
    if (e->conn_count >= e->config.max_connections)
        return NULL;
    uint32_t slot = e->conn_next;
    while (e->conns[slot])              /* there is one: max_connections is not above the number of slots */
        slot = (slot + 1) % ENGINE_MAX_CONNS;
    struct conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->e = e;
    c->server = server;
    c->slot = slot;
    c->heap = UINT32_MAX;
    c->started = c->idle_from = now;
    c->previous_until = c->close_until = NEVER;
    c->params.max_ack_delay_ns = 25000000;
    c->params.ack_delay_exponent = 3;
    c->params.active_connection_id_limit = 2;
    c->datagrams_tail = &c->datagrams;
    c->max_path_local = e->config.initial_max_path_id;
    c->congestion_control = e->config.congestion_control;
    for (int i = 0; i < 2; i++)
        space_init(&c->early[i]);
    for (int i = 0; i < 3; i++)
        queue_init(&c->queue[i]);
    fq_init(&c->split);
    struct path *p = path_create(c, 0);
    if (!p) {
        free(c);
        return NULL;
    }
    c->path_next = 1;
    p->link = link;
    p->remote = c->first_remote = *remote;
    p->state = PATH_VALIDATING;
    p->address_validated = !server;
    struct cid_entry *local = cid_issue(p);
    memcpy(c->local_cid, local->cid, ENGINE_CID_LENGTH);
    if (++e->generations[slot] == 0)
        e->generations[slot] = 1;
    c->handle = slot | (uint32_t)e->generations[slot] << 16;
    c->half_open = server;
    e->half_open += server;
    e->conns[slot] = c;
    e->conn_next = (slot + 1) % ENGINE_MAX_CONNS;
    e->conn_count++;
    conn_touch(c);
    return c;
}

static void half_open_end(struct conn *c)
{
    c->e->half_open -= c->half_open;
    c->half_open = false;
}

static void undecryptable_clear(struct conn *c)
{
    TRACE(c->e, trace_datagram(c->e, 0, NULL, 0));      /* it is not the one being read that is dropped */
    for (struct packet *k = c->undecryptable, *next; k; k = next) {
        next = k->next;
        packet_put(c->e, k);
        COUNT(c->e, keys_unavailable);
    }
    c->undecryptable = NULL;
    c->undecryptable_count = 0;
}

static void datagrams_clear(struct conn *c)
{
    for (struct packet *k = c->datagrams, *next; k; k = next) {
        next = k->next;
        packet_put(c->e, k);
    }
    c->datagrams = NULL;
    c->datagrams_tail = &c->datagrams;
    c->datagram_count = 0;
}

void conn_free(struct conn *c)
{
    endpoint *e = c->e;
    if (c->state == CONN_OPEN)
        c->state = CONN_DRAINING;
    tunnels_leave(c);
    half_open_end(c);
    conn_unready(c);
    timers_settle(e);                   /* takes it off the dirty list */
    timer_remove(c);
    struct path *first = path_find(c, 0);
    for (int i = 0; i < 2; i++) {
        if (first)
            space_discard(c, first, &c->early[i]);
        free(c->early[i].ring);
    }
    for (int i = 0; i < 3; i++)
        queue_clear(e, &c->queue[i]);
    while (c->path_count)
        path_free(c->paths[c->path_count - 1]);
    split_free(c);
    resend_free(c);
    cid_remove(e, &c->odcid_entry);
    undecryptable_clear(c);
    datagrams_clear(c);
    keys_free(c);
    free(c->token);
    conn_unready(c);
    for (struct conn **at = &e->dirty; *at; at = &(*at)->dirty_next)
        if (*at == c) {
            *at = c->dirty_next;
            break;
        }
    timer_remove(c);
    e->conns[c->slot] = NULL;
    e->conn_count--;
    free(c);
}

/* ---- frames of the engine */

bool conn_queue(struct conn *c, int level, uint32_t path, const uint8_t *bytes, size_t length, int flags)
{
    struct frame *f = RULE(R_22, c->queue[level].count >= LIMIT_FRAMES_QUEUED) ? NULL : frame_get(c->e);
    struct frame_ref *r = f ? ref_get(c->e, f) : NULL;
    if (!r) {
        if (f)
            frame_put(c->e, f);
        COUNT(c->e, frame_queue_full);
        conn_fail(c, INTERNAL_ERROR, 0, "frame queue full");
        return false;
    }
    f->level = (uint8_t)level;
    f->path = path;
    f->flags = (uint8_t)flags;
    f->length = (uint16_t)length;
    memcpy(f->bytes, bytes, length);
    queue_push(&c->queue[level], r);
    conn_ready(c);
    return true;
}

/* One more path id for every one that was abandoned, so that ids never run out (RFC 10069 §4.6). */
void conn_path_limit_raise(struct conn *c)
{
    bool raised = false;
    while (c->raises_owed && c->max_path_local < UINT32_MAX && !RULE(R_25, c->path_count == LIMIT_PATH_SLOTS) &&
           c->state == CONN_OPEN) {
        c->raises_owed--;
        c->max_path_local++;
        raised = true;
        paths_extend(c);
    }
    if (!raised)
        return;
    uint8_t b[16], *q = put_varint(b, F_MAX_PATH_ID);
    q = put_varint(q, c->max_path_local);
    if (conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE))
        cids_issue(c);
}

/* ---- handshake */

void conn_handshake_confirm(struct conn *c)
{
    if (c->handshake_confirmed)
        return;
    c->handshake_confirmed = true;
    struct path *p = path_find(c, 0);
    p->address_validated = true;
    keys_discard(c, LEVEL_INITIAL);
    if (RULE(Q_39, true))
        keys_discard(c, LEVEL_HANDSHAKE);       /* RFC 9001 §4.9.2 */
    cid_remove(c->e, &c->odcid_entry);
    if (!c->server)
        event_simple(c, EVENT_HANDSHAKE_DONE, 0, 0, 0);
    conn_ready(c);
}

void conn_handshake_finish(struct conn *c)
{
    endpoint *e = c->e;
    c->handshake_complete = true;
    half_open_end(c);
    paths_extend(c);
    struct path *p = path_find(c, 0);
    if (!p->validated) {
        p->validated = true;
        event_simple(c, EVENT_PATH_VALIDATED, 0, p->link, p->rec.sampled ? p->rec.smoothed : 0);
        path_state_set(p, PATH_ACTIVE, REASON_NONE);
        pmtud_start(p, e->now);
    }
    if (c->server) {
        static const uint8_t done = F_HANDSHAKE_DONE;
        conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, &done, 1, RULE(Q_99, true) ? FRAME_ENGINE : FRAME_ENGINE | FRAME_NO_RESEND);
        new_token_queue(c);
    }
    if (c->server || c->done_received || !RULE(Q_41, true))
        conn_handshake_confirm(c);
    cids_issue(c);
    conn_receive_kept(c, LEVEL_1RTT, e->now);
}

/* ---- closing (RFC 9000 §10) */

void conn_events_retry(endpoint *e)
{
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS && e->events_pending; i++) {
        struct conn *c = e->conns[i];
        if (!c || !(c->closed_pending || c->gone_pending))
            continue;
        if (c->closed_pending) {
            struct event ev = { .type = EVENT_CLOSED, .a = c->close_code, .b = c->close_frame,
                                .level = c->close_application, .token = (uint64_t)c->close_source };
            if (!event_push(c, &ev, c->close_reason, c->close_reason_length))
                return;
            c->closed_pending = false;
            e->events_pending--;
        }
        if (c->gone_pending) {
            struct event ev = { .type = EVENT_GONE };
            if (!event_push(c, &ev, NULL, 0))
                return;
            e->events_pending--;
            c->gone_pending = false;
            conn_free(c);
        }
    }
}

void conn_close_begin(struct conn *c, int source, bool application, uint64_t code, uint64_t frame, const uint8_t *reason,
                      size_t length, bool draining, uint64_t now)
{
    endpoint *e = c->e;
    if (c->state != CONN_OPEN) {
        if (draining) {
            c->state = CONN_DRAINING;   /* RFC 9000 §10.2.1: the peer closed too */
            c->close_paths = 0;
        }
        return;
    }
    c->state = draining ? CONN_DRAINING : CONN_CLOSING;
    bool refused = c->half_open;        /* a server forgets those soon: else refusals could fill the connection table */
    half_open_end(c);
    c->close_code = code;
    c->close_frame = frame;
    c->close_application = application;
    c->close_source = source;
    c->close_reason_length = length < sizeof c->close_reason ? length : sizeof c->close_reason;
    if (c->close_reason_length)
        memcpy(c->close_reason, reason, c->close_reason_length);
    c->close_until = source == CLOSE_IDLE ? now : now + (refused ? REFUSED_LINGER_NS : RULE(MP_20, 3 * conn_max_pto(c)));
    c->close_next = 1;
    for (int i = 0; i < 3; i++)
        queue_clear(e, &c->queue[i]);
    datagrams_clear(c);
    undecryptable_clear(c);
    tunnels_leave(c);
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        path_resteer(p, now);           /* to the tunnel's next connection */
        if (!draining && RULE(MP_19, path_speaks(p)))
            c->close_paths |= 1u << i;
    }
    split_resteer(c, now);
    conn_ready(c);
    c->closed_pending = true;
    e->events_pending++;
    struct event ev = { .type = EVENT_CLOSED, .a = code, .b = frame, .level = application, .token = (uint64_t)source };
    if (event_push(c, &ev, c->close_reason, c->close_reason_length)) {
        c->closed_pending = false;
        e->events_pending--;
    }
}

void conn_fail(struct conn *c, uint64_t code, uint64_t frame, const char *why)
{
    conn_close_begin(c, CLOSE_ERROR, false, code, frame, (const uint8_t *)why, strlen(why), false, c->e->now);
}

/* ---- timers */

static uint64_t idle_timeout(const struct conn *c)
{
    uint64_t ours = c->e->config.max_idle_timeout_ns, theirs = c->have_params ? c->params.max_idle_timeout_ns : 0;
    uint64_t t = ours && theirs ? (RULE(Q_33, ours < theirs) ? ours : theirs) : ours | theirs;
    if (!t)
        return NEVER;
    uint64_t floor = 3 * conn_max_pto(c);
    return RULE(Q_34, t < floor) ? floor : t;       /* RFC 9000 §10.1 */
}

void conn_idle_restart(struct conn *c, uint64_t now)
{
    c->idle_from = now;
    c->idle_restarted = false;
}

static uint64_t idle_at(const struct conn *c)
{
    uint64_t t = idle_timeout(c);
    return t == NEVER ? NEVER : c->idle_from + t;
}

/* When the keys of the phase before go (RFC 9001 §6.5). */
static uint64_t previous_at(const struct conn *c)
{
    return RULE(Q_45, c->previous.receive) ? c->previous_until : NEVER;
}

uint64_t conn_deadline(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return c->close_until;
    uint64_t d = idle_at(c), t;
    if (!c->handshake_complete && c->started + HANDSHAKE_TIMEOUT_NS < d)
        d = c->started + HANDSHAKE_TIMEOUT_NS;
    if (previous_at(c) < d)
        d = previous_at(c);
    struct path *first = path_find(c, 0);
    for (int i = 0; first && !c->handshake_confirmed && i < 2; i++) {
        if ((t = recovery_deadline(c, first, &c->early[i], i)) < d)
            d = t;
        if (!c->ready && c->early[i].ack_at < d)
            d = c->early[i].ack_at;
    }
    for (uint32_t i = 0; i < c->path_count; i++)
        if ((t = path_deadline(c->paths[i])) < d)
            d = t;
    return d;
}

void conn_timer(struct conn *c, uint64_t now)
{
    if (c->state != CONN_OPEN) {
        if (now < c->close_until)
            return;
        struct event ev = { .type = EVENT_GONE };
        if (!c->closed_pending && event_push(c, &ev, NULL, 0)) {
            conn_free(c);
        } else if (!c->gone_pending) {
            c->gone_pending = true;
            c->close_until = NEVER;
            c->e->events_pending++;
        }
        return;
    }
    if (now >= idle_at(c) || (!c->handshake_complete && now >= c->started + HANDSHAKE_TIMEOUT_NS)) {
        conn_close_begin(c, CLOSE_IDLE, false, NO_ERROR, 0, NULL, 0, true, now);    /* silently: RFC 9000 §10.1 */
        return;
    }
    if (previous_at(c) <= now)
        keys_drop_previous(c);
    struct path *first = path_find(c, 0);
    for (int i = 0; first && !c->handshake_confirmed && i < 2; i++) {
        if (recovery_deadline(c, first, &c->early[i], i) <= now)
            recovery_timeout(c, first, &c->early[i], i, now);
        if (c->early[i].ack_at <= now)
            conn_ready(c);
    }
    for (uint32_t i = c->path_count; i-- > 0 && c->state == CONN_OPEN;)
        if (i < c->path_count)
            path_timer(c->paths[i], now);
}
