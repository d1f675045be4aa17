/* The public calls of connections and paths (engine.cdef): arguments and state are checked, the lock is held. */
#include "core.h"

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

int conn_token_set(endpoint *e, uint32_t conn, const uint8_t *token, size_t length)
{
    if (!token || !length || length > LIMIT_TOKEN)
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (c->server || c->token || c->early[LEVEL_INITIAL].next_pn || c->state != CONN_OPEN)
        LEAVE(-ENGINE_E_STATE);
    LEAVE(conn_token_keep(c, token, length) ? 0 : -ENGINE_E_MEMORY);
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
    o->retry_cid_length = c->retry_cid_length;
    memcpy(o->retry_cid, c->retry_cid, c->retry_cid_length);
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
    c->multipath = !RULE(MP_01, !params->multipath);
    c->max_path_remote = params->multipath ? params->initial_max_path_id : 0;
    if (!c->server)
        paths_extend(c);                /* the server's CIDs for them may overtake Python's word that the Finished went out */
    struct path *p = path_find(c, 0);
    if (!c->server && params->has_reset_token && p->dcid) {
        memcpy(p->dcid->token, params->reset_token, 16);
        p->dcid->has_token = true;
        token_insert(e, p->dcid);
    }
    if (!c->server && RULE(MP_10, params->preferred_cid_length) && params->preferred_cid_length <= 20)
        cid_preferred(c, params);
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
        conn_handshake_finish(c);
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

int conn_congestion_control_set(endpoint *e, uint32_t conn, int which)
{
    if (!congestion_control_name(which))
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    c->congestion_control = which;
    for (uint32_t i = 0; i < c->path_count; i++)
        path_congestion_reset(c->paths[i]);
    conn_ready(c);
    LEAVE(0);
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
    o->queue_packets = c->split.packets;
    o->queue_bytes = c->split.bytes;
    for (uint32_t i = 0; i < c->path_count; i++)
        o->paths += path_speaks(c->paths[i]);
    o->max_path_id_local = c->max_path_local;
    o->max_path_id_remote = c->max_path_remote;
    o->handshake_confirmed = c->handshake_confirmed;
    o->closing = c->state != CONN_OPEN;
    o->multipath = c->multipath;
    o->congestion_control = c->congestion_control;
    LEAVE(0);
}

/* ---- paths */

static struct path *path_next_free(struct conn *c, uint32_t *cid_lacks)
{
    uint32_t most = c->max_path_local < c->max_path_remote ? c->max_path_local : c->max_path_remote;
    *cid_lacks = 0;
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[RULE(MP_42, true) ? i : c->path_count - 1 - i];   /* lowest first: RFC 10069 §3.2.1 */
        if (RULE(MP_23, p->state != PATH_UNUSED) || p->id == 0 || RULE(MP_22, p->id > most || !p->local_next))
            continue;
        if (path_choose_dcid(p))
            return p;
        if (!*cid_lacks)
            *cid_lacks = p->id;
    }
    return NULL;
}

static void cids_blocked_tell(struct path *p)
{
    uint8_t b[24], *q = put_varint(b, F_PATH_CIDS_BLOCKED);
    if (!RULE(MP_48, true) || RULE(MP_84, p->cids_blocked_told))
        return;
    p->cids_blocked_told = true;
    q = put_varint(q, p->id);
    q = put_varint(q, p->peer_next);
    conn_queue(p->conn, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE);
}

/* No path can be opened: says what is missing (RFC 10069 §3.2.1, §3.2.2, §4.7). */
static void blocked_tell(struct conn *c, uint32_t cid_lacks)
{
    if (cid_lacks) {
        cids_blocked_tell(path_find(c, cid_lacks));
        return;
    }
    if (!RULE(MP_45, true))
        return;
    if (c->max_path_local <= c->max_path_remote && !c->raises_owed) {   /* our own limit binds */
        c->raises_owed++;
        conn_path_limit_raise(c);
    }
    if (c->max_path_remote >= c->max_path_local || RULE(MP_84, c->paths_blocked_told == c->max_path_remote + 1ull))
        return;
    c->paths_blocked_told = c->max_path_remote + 1ull;
    uint8_t b[24], *q = put_varint(b, F_PATHS_BLOCKED);
    q = put_varint(q, c->max_path_remote);
    conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE);
}

int64_t path_open(endpoint *e, uint32_t conn, uint32_t link, const struct address *remote)
{
    if (!remote || link >= ENGINE_MAX_LINKS || (remote->family != 4 && remote->family != 6))
        return -ENGINE_E_ARGUMENT;
    ENTER(conn)
    if (RULE(MP_21, c->server) || !c->multipath || !c->handshake_confirmed || c->state != CONN_OPEN)
        LEAVE(-ENGINE_E_STATE);
    if (e->access[link] < 0)
        LEAVE(-ENGINE_E_HANDLE);
    if (RULE(MP_09, c->params.disable_active_migration && address_equal(&c->first_remote, remote)))
        LEAVE(-ENGINE_E_STATE);         /* RFC 10069 §2.2 */
    uint32_t lacks;
    struct path *p = path_next_free(c, &lacks);
    if (!p) {
        blocked_tell(c, lacks);
        LEAVE(-ENGINE_E_LIMIT);
    }
    p->link = link;
    p->remote = *remote;
    p->address_validated = true;        /* a client has no 3x limit */
    path_state_set(p, PATH_VALIDATING, REASON_NOT_VALIDATED);
    if (RULE(MP_25, true))
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

int path_cid_rotate(endpoint *e, uint32_t conn, uint32_t path)
{
    ENTER(conn)
    struct path *p = path_find(c, path);
    if (!p)
        LEAVE(-ENGINE_E_HANDLE);
    if (c->state != CONN_OPEN || !c->handshake_confirmed || !path_speaks(p))
        LEAVE(-ENGINE_E_STATE);
    if (path_dcid_rotate(p))
        LEAVE(0);
    if (c->multipath && c->state == CONN_OPEN)
        cids_blocked_tell(p);           /* RFC 10069 §3.2.2 */
    LEAVE(-ENGINE_E_LIMIT);
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
