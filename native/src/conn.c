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
    uint32_t slot = 0;
    if (e->conn_count >= e->config.max_connections)
        return NULL;
    while (slot < ENGINE_MAX_CONNS && e->conns[slot])
        slot++;
    struct conn *c = slot < ENGINE_MAX_CONNS ? calloc(1, sizeof *c) : NULL;
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
    for (int i = 0; i < 2; i++)
        space_init(&c->early[i]);
    for (int i = 0; i < 3; i++)
        queue_init(&c->queue[i]);
    struct path *p = path_create(c, 0);
    if (!p) {
        free(c);
        return NULL;
    }
    c->path_next = 1;
    p->link = link;
    p->remote = *remote;
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
    cid_remove(e, &c->odcid_entry);
    undecryptable_clear(c);
    datagrams_clear(c);
    keys_free(c);
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
    struct frame *f = c->queue[level].count < LIMIT_FRAMES_QUEUED ? frame_get(c->e) : NULL;
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
    while (c->raises_owed && c->max_path_local < UINT32_MAX && c->path_count < LIMIT_PATH_SLOTS && c->state == CONN_OPEN) {
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
    keys_discard(c, LEVEL_HANDSHAKE);   /* RFC 9001 §4.9.2 */
    cid_remove(c->e, &c->odcid_entry);
    if (!c->server)
        event_simple(c, EVENT_HANDSHAKE_DONE, 0, 0, 0);
    conn_ready(c);
}

static void handshake_complete(struct conn *c)
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
    }
    if (c->server) {
        static const uint8_t done = F_HANDSHAKE_DONE;
        conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, &done, 1, FRAME_ENGINE);
    }
    if (c->server || c->done_received)
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
        if (draining)
            c->state = CONN_DRAINING;   /* RFC 9000 §10.2.1: the peer closed too */
        return;
    }
    c->state = draining ? CONN_DRAINING : CONN_CLOSING;
    half_open_end(c);
    c->close_code = code;
    c->close_frame = frame;
    c->close_application = application;
    c->close_source = source;
    c->close_reason_length = length < sizeof c->close_reason ? length : sizeof c->close_reason;
    if (c->close_reason_length)
        memcpy(c->close_reason, reason, c->close_reason_length);
    c->close_until = source == CLOSE_IDLE ? now : now + 3 * conn_max_pto(c);
    c->close_next = 1;
    for (int i = 0; i < 3; i++)
        queue_clear(e, &c->queue[i]);
    datagrams_clear(c);
    undecryptable_clear(c);
    tunnels_leave(c);
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        struct packet *k = p->queue_head;
        p->queue_head = NULL;
        p->queue_tail = &p->queue_head;
        p->queue_packets = 0;
        p->queue_bytes = 0;
        for (struct packet *next; k; k = next) {    /* to the tunnel's next connection */
            next = k->next;
            k->next = NULL;
            tunnel_requeue(e, k, now);
        }
        if (!draining && path_speaks(p))
            c->close_paths |= 1u << i;
    }
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
    uint64_t t = ours && theirs ? (ours < theirs ? ours : theirs) : ours | theirs;
    if (!t)
        return NEVER;
    uint64_t floor = 3 * conn_max_pto(c);
    return t > floor ? t : floor;
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

uint64_t conn_deadline(struct conn *c)
{
    if (c->state != CONN_OPEN)
        return c->close_until;
    uint64_t d = idle_at(c), t;
    if (!c->handshake_complete && c->started + HANDSHAKE_TIMEOUT_NS < d)
        d = c->started + HANDSHAKE_TIMEOUT_NS;
    if (c->previous.receive && c->previous_until < d)
        d = c->previous_until;
    struct path *first = path_find(c, 0);
    for (int i = 0; first && !c->handshake_confirmed && i < 2; i++) {
        if ((t = recovery_deadline(c, first, &c->early[i], i)) < d)
            d = t;
        if (c->early[i].ack_at > c->e->now && c->early[i].ack_at < d)
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
    if (c->previous.receive && c->previous_until <= now)
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

/* ---- public calls */

#define ENTER(handle) \
    if (!e) \
        return -ENGINE_E_ARGUMENT; \
    endpoint_lock(e); \
    e->now = endpoint_now(e); \
    struct conn *c = conn_find(e, handle); \
    if (!c) { \
        endpoint_unlock(e); \
        return -ENGINE_E_HANDLE; \
    }
#define LEAVE(result) \
    do { \
        int64_t result_ = (result); \
        endpoint_wake(e); \
        endpoint_unlock(e); \
        return (int)result_; \
    } while (0)

int64_t conn_connect(endpoint *e, uint32_t link, const struct address *remote, uint64_t now)
{
    if (!e || !remote || e->server || link >= ENGINE_MAX_LINKS || (remote->family != 4 && remote->family != 6))
        return -ENGINE_E_ARGUMENT;
    endpoint_lock(e);
    int64_t result = -ENGINE_E_LIMIT;
    if (now > e->now)
        e->now = now;
    if (e->driven)
        e->now = endpoint_now(e);
    uint8_t client[32], server[32];
    struct conn *c = e->access[link] < 0 ? NULL : conn_new(e, false, link, remote, e->now);
    if (e->access[link] < 0)
        result = -ENGINE_E_HANDLE;
    if (c) {
        c->odcid_length = 8;
        random_bytes(e, c->odcid, 8);
        struct path *p = c->paths[0];
        struct peer_cid *o = &p->peer[0];
        o->used = true;
        o->conn = c;
        o->length = 8;
        memcpy(o->cid, c->odcid, 8);
        p->dcid = o;
        if (initial_secrets(c->odcid, 8, client, server) &&
            keys_install(c, LEVEL_INITIAL, DIRECTION_SEND, SUITE_AES_128_GCM_SHA256, client, 32) == 0 &&
            keys_install(c, LEVEL_INITIAL, DIRECTION_RECEIVE, SUITE_AES_128_GCM_SHA256, server, 32) == 0) {
            result = c->handle;
        } else {
            conn_free(c);
            result = -ENGINE_E_CRYPTO;
        }
        secret_wipe(client, 32);
        secret_wipe(server, 32);
    }
    endpoint_wake(e);
    endpoint_unlock(e);
    return result;
}

int conn_info(endpoint *e, uint32_t conn, struct conn_info *o)
{
    if (!o)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    memset(o, 0, sizeof *o);
    memcpy(o->local_cid, c->local_cid, ENGINE_CID_LENGTH);
    o->local_cid_length = ENGINE_CID_LENGTH;
    struct path *p = path_find(c, 0);
    if (p && c->have_peer_cid && p->dcid) {
        o->remote_cid_length = p->dcid->length;
        memcpy(o->remote_cid, p->dcid->cid, p->dcid->length);
    }
    o->original_dcid_length = c->odcid_length;
    memcpy(o->original_dcid, c->odcid, c->odcid_length);
    bool ok = reset_token_make(e->config.reset_key, c->local_cid, ENGINE_CID_LENGTH, o->reset_token);
    struct path *shown = p ? p : conn_best_path(c);
    if (shown) {
        o->link = shown->link;
        o->remote = shown->remote;
    }
    LEAVE(ok ? 0 : -ENGINE_E_CRYPTO);
}

int conn_peer_params(endpoint *e, uint32_t conn, const struct peer_params *params)
{
    if (!params || params->ack_delay_exponent > 20)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (c->have_params || c->state != CONN_OPEN)
        LEAVE(-ENGINE_E_STATE);
    c->params = *params;
    c->have_params = true;
    c->multipath = params->multipath;
    c->max_path_remote = params->multipath ? params->initial_max_path_id : 0;
    struct path *p = path_find(c, 0);
    if (!c->server && params->has_reset_token && p->dcid) {
        memcpy(p->dcid->token, params->reset_token, 16);
        p->dcid->has_token = true;
        token_insert(e, p->dcid);
    }
    conn_touch(c);
    LEAVE(0);
}

int conn_keys_install(endpoint *e, uint32_t conn, int level, int direction, int suite, const uint8_t *secret,
                      size_t secret_length)
{
    if (level < LEVEL_HANDSHAKE || level > LEVEL_1RTT || direction < 0 || direction > 1 || !secret ||
        !aead_hash_length(suite) || aead_hash_length(suite) != secret_length || secret_length > 48)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (c->state != CONN_OPEN || (level == LEVEL_HANDSHAKE && c->handshake_confirmed))
        LEAVE(-ENGINE_E_STATE);
    int result = keys_install(c, level, direction, suite, secret, secret_length);
    if (result == 0 && direction == DIRECTION_RECEIVE)
        conn_receive_kept(c, level, e->now);
    conn_ready(c);
    LEAVE(result);
}

int conn_keys_discard(endpoint *e, uint32_t conn, int level)
{
    if (level != LEVEL_INITIAL && level != LEVEL_HANDSHAKE)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    keys_discard(c, level);
    LEAVE(0);
}

int conn_handshake_complete(endpoint *e, uint32_t conn)
{
    ENTER(conn)
    if (c->state != CONN_OPEN || !c->have_params || !c->keys[LEVEL_1RTT].send)
        LEAVE(-ENGINE_E_STATE);
    if (!c->handshake_complete)
        handshake_complete(c);
    LEAVE(0);
}

int conn_frame_send(endpoint *e, uint32_t conn, int level, uint32_t path, const uint8_t *frame, size_t length,
                    uint64_t token, int flags)
{
    if (!frame || length < 1 || length > ENGINE_MAX_FRAME || level < 0 || level > LEVEL_1RTT || flags & ~FRAME_ONCE)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (path != ENGINE_PATH_ANY && (level != LEVEL_1RTT || !path_find(c, path)))
        LEAVE(-ENGINE_E_HANDLE);
    if (c->state != CONN_OPEN || (level != LEVEL_1RTT && c->handshake_confirmed))
        LEAVE(-ENGINE_E_STATE);
    uint32_t limit = level == LEVEL_1RTT ? LIMIT_FRAMES_QUEUED - 256 : LIMIT_FRAMES_EARLY;  /* the rest is the engine's */
    if (c->queue[level].count >= limit) {
        COUNT(e, frame_queue_full);
        LEAVE(-ENGINE_E_LIMIT);
    }
    struct frame *f = frame_get(e);
    struct frame_ref *r = f ? ref_get(e, f) : NULL;
    if (!r) {
        if (f)
            frame_put(e, f);
        LEAVE(-ENGINE_E_MEMORY);
    }
    f->level = (uint8_t)level;
    f->path = path;
    f->token = token;
    f->flags = (uint8_t)flags;
    f->length = (uint16_t)length;
    memcpy(f->bytes, frame, length);
    queue_push(&c->queue[level], r);
    conn_ready(c);
    LEAVE(0);
}

int conn_datagram_send(endpoint *e, uint32_t conn, const uint8_t *payload, size_t length)
{
    if (!payload || length > ENGINE_MAX_FRAME)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (c->state != CONN_OPEN || !c->handshake_complete || c->params.max_datagram_frame_size < length + 3)
        LEAVE(-ENGINE_E_STATE);
    struct packet *k = c->datagram_count < LIMIT_DATAGRAMS_QUEUED ? packet_get(e) : NULL;
    if (!k)
        LEAVE(-ENGINE_E_LIMIT);
    memcpy(k->buffer + k->offset, payload, length);
    k->length = (uint16_t)length;
    *c->datagrams_tail = k;
    c->datagrams_tail = &k->next;
    c->datagram_count++;
    conn_ready(c);
    LEAVE(0);
}

int conn_key_update(endpoint *e, uint32_t conn)
{
    ENTER(conn)
    if (!keys_may_update(c, e->now))
        LEAVE(-ENGINE_E_STATE);
    bool ok = keys_advance(c, false, e->now);
    struct path *p = conn_best_path(c);
    if (p)
        p->probes = 1;                  /* so that the peer follows even when nothing else is sent */
    conn_ready(c);
    LEAVE(ok ? 0 : -ENGINE_E_CRYPTO);
}

int conn_close(endpoint *e, uint32_t conn, int application, uint64_t code, uint64_t frame_type, const uint8_t *reason,
               size_t reason_length)
{
    if (reason_length && !reason)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (c->state != CONN_OPEN)
        LEAVE(-ENGINE_E_STATE);
    conn_close_begin(c, CLOSE_LOCAL, application != 0, code, application ? 0 : frame_type, reason, reason_length, false, e->now);
    LEAVE(0);
}

int conn_stats(endpoint *e, uint32_t conn, struct conn_stats *o)
{
    if (!o)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    *o = c->stats;
    o->packets_under_key = c->packets_under_key;
    for (uint32_t i = 0; i < c->path_count; i++)
        o->paths += path_speaks(c->paths[i]);
    o->max_path_id_local = c->max_path_local;
    o->max_path_id_remote = c->max_path_remote;
    o->handshake_confirmed = c->handshake_confirmed;
    o->closing = c->state != CONN_OPEN;
    o->multipath = c->multipath;
    LEAVE(0);
}

/* ---- paths */

static struct path *path_next_free(struct conn *c, uint32_t *cid_lacks)
{
    uint32_t most = c->max_path_local < c->max_path_remote ? c->max_path_local : c->max_path_remote;
    *cid_lacks = 0;
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        if (p->state != PATH_UNUSED || p->id == 0 || p->id > most)
            continue;
        if (p->local_next && path_choose_dcid(p))
            return p;
        if (!*cid_lacks)
            *cid_lacks = p->id;
    }
    return NULL;
}

int64_t path_open(endpoint *e, uint32_t conn, uint32_t link, const struct address *remote)
{
    if (!remote || link >= ENGINE_MAX_LINKS || (remote->family != 4 && remote->family != 6))
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (c->server || !c->multipath || !c->handshake_confirmed || c->state != CONN_OPEN)
        LEAVE(-ENGINE_E_STATE);
    if (e->access[link] < 0)
        LEAVE(-ENGINE_E_HANDLE);
    struct path *first = path_find(c, 0);
    if (c->params.disable_active_migration && first && address_equal(&first->remote, remote))
        LEAVE(-ENGINE_E_STATE);         /* RFC 10069 §2.2 */
    uint32_t lacks;
    struct path *p = path_next_free(c, &lacks);
    if (!p) {                           /* RFC 10069 §4.7: say what is missing */
        uint8_t b[24], *q = b;
        if (lacks) {
            q = put_varint(q, F_PATH_CIDS_BLOCKED);
            q = put_varint(q, lacks);
            q = put_varint(q, 0);
        } else {
            q = put_varint(q, F_PATHS_BLOCKED);
            q = put_varint(q, c->max_path_remote);
        }
        conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE | (lacks ? FRAME_NO_RESEND : 0));
        LEAVE(-ENGINE_E_LIMIT);
    }
    p->link = link;
    p->remote = *remote;
    p->address_validated = true;        /* a client has no 3x limit */
    path_state_set(p, PATH_VALIDATING, REASON_NOT_VALIDATED);
    path_validate_start(p, e->now);
    LEAVE(p->id);
}

int path_abandon(endpoint *e, uint32_t conn, uint32_t path, uint64_t code)
{
    ENTER(conn)
    struct path *p = path_find(c, path);
    if (!p)
        LEAVE(-ENGINE_E_HANDLE);
    if (c->state != CONN_OPEN || !c->multipath || !c->handshake_complete || p->state == PATH_ABANDONED)
        LEAVE(-ENGINE_E_STATE);
    path_drop(p, code, false, REASON_BY_APPLICATION, e->now);
    LEAVE(0);
}

int path_status_set(endpoint *e, uint32_t conn, uint32_t path, int available)
{
    ENTER(conn)
    struct path *p = path_find(c, path);
    if (!p)
        LEAVE(-ENGINE_E_HANDLE);
    if (c->state != CONN_OPEN || !c->multipath || !c->handshake_complete || p->state == PATH_ABANDONED)
        LEAVE(-ENGINE_E_STATE);
    uint8_t b[24], *q = put_varint(b, available ? F_PATH_STATUS_AVAILABLE : F_PATH_STATUS_BACKUP);
    q = put_varint(q, path);
    q = put_varint(q, p->status_sent++);
    conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE);
    LEAVE(0);
}

int path_info(endpoint *e, uint32_t conn, uint32_t path, struct path_info *out)
{
    if (!out)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    struct path *p = path_find(c, path);
    if (!p)
        LEAVE(-ENGINE_E_HANDLE);
    path_info_fill(p, out);
    LEAVE(0);
}

int conn_paths(endpoint *e, uint32_t conn, struct path_info *out, int capacity)
{
    if (!out || capacity < 0)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    int n = 0;
    for (uint32_t i = 0; i < c->path_count && n < capacity; i++)
        if (c->paths[i]->state != PATH_UNUSED && c->paths[i]->state != PATH_ABANDONED)
            path_info_fill(c->paths[i], &out[n++]);
    LEAVE(n);
}
