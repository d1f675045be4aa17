/* What each received frame does. Frames are parsed and checked by frame.c; rules about state are here. */
#include "core.h"

struct context {
    struct conn *c;
    struct path *path;                  /* of the packet */
    const struct cid_entry *cid;        /* its DCID */
    int level;
    uint32_t link;
    const struct address *remote;
    uint64_t now;
    size_t length;                      /* of all frames */
};

/* The path that a multipath frame names: ok, ignored (abandoned, RFC 10069 §4) or beyond our limit (an error). */
static uint64_t named_path(struct conn *c, uint64_t id, struct path **p)
{
    *p = NULL;
    if (RULE(MP_66, id > c->max_path_local))
        return PROTOCOL_VIOLATION;
    *p = path_find(c, id);
    return *p || RULE(MP_64, true) ? 0 : PROTOCOL_VIOLATION;
}

static uint64_t on_ack(struct context *x, const struct frame_in *f)
{
    struct conn *c = x->c;
    if (x->level != LEVEL_1RTT)
        return recovery_acked(c, x->path, &c->early[x->level], x->level, f, x->now);
    /* ACK means path 0 for ever, whatever path it comes on (RFC 10069 §2.3); PATH_ACK says its path */
    bool plain = f->type == F_ACK || f->type == F_ACK_ECN;
    struct path *p;
    uint64_t error = named_path(c, plain ? (RULE(MP_13, true) ? 0 : x->path->id) : RULE(MP_33, f->path), &p);
    if (error || !p)
        return error;
    recovery_returned(p, x->path->id);
    return recovery_acked(c, p, &p->space, x->level, f, x->now);
}

static uint64_t on_challenge(struct context *x, const struct frame_in *f)
{
    struct path *p = RULE(MP_28, true) ? x->path : conn_best_path(x->c);
    if (p->state == PATH_ABANDONED)
        return 0;
    if (p->response_count == LIMIT_PATH_RESPONSES) {
        COUNT(x->c->e, path_challenge_limit);
        return 0;
    }
    struct path_response *r = &p->responses[p->response_count++];
    /* to an address that is not the path's: three times what came from there, if it is only this (RFC 9000 §8.2.2) */
    uint32_t limit = 3 * (uint32_t)(1 + ENGINE_CID_LENGTH + 1 + x->length + AEAD_TAG_LENGTH);
    *r = (struct path_response){ .type = F_PATH_RESPONSE, .link = x->link, .remote = *x->remote, .limit = limit };
    memcpy(r->data, f->data, 8);
    return 0;
}

static uint64_t on_response(struct context *x, const struct frame_in *f)
{
    struct path *p = x->path;
    uint32_t n = p->challenge_tries < VALIDATION_TRIES ? p->challenge_tries : VALIDATION_TRIES;
    for (uint32_t i = 0; p->challenge_live && i < n; i++)
        if (!memcmp(p->challenges[i], f->data, 8)) {
            path_challenge_answered(p, i, x->now);
            break;
        }
    return 0;                           /* RFC 9000 §19.18: an unknown one may be an error; late ones are normal */
}

static uint64_t on_datagram(struct context *x, const struct frame_in *f)
{
    if (RULE(Q_77, f->length > x->c->e->config.max_datagram_frame_size))
        return PROTOCOL_VIOLATION;      /* RFC 9221 §3 */
    x->c->stats.datagrams_received++;
    x->path->stats.datagrams_received++;
    x->path->stats.datagram_bytes_received += f->data_length;
    tunnel_datagram(x->c, x->path, f->data, f->data_length);
    return 0;
}

static uint64_t on_abandon(struct context *x, const struct frame_in *f)
{
    struct path *p;
    uint64_t error = named_path(x->c, f->path, &p);
    if (!error && p && (p->state != PATH_UNUSED || RULE(MP_57, true)))
        path_drop(p, f->code, true, REASON_BY_PEER, x->now);
    return error;
}

static uint64_t on_status(struct context *x, const struct frame_in *f)
{
    struct path *p;
    uint64_t error = named_path(x->c, f->path, &p);
    if (error || !p || p->state == PATH_ABANDONED || RULE(MP_72, f->sequence < p->status_received))
        return error;                   /* RFC 10069 §4.3: only newer ones count */
    if (!p->validated && !(p->state == PATH_UNUSED ? RULE(MP_74, true) : RULE(MP_75, true)))
        return 0;                       /* §4.3: it may come before the path is used, and with what validates it */
    p->status_received = f->sequence + 1;
    bool before = p->peer_backup;
    p->peer_backup = f->type == F_PATH_STATUS_BACKUP;
    event_simple(x->c, EVENT_PATH_STATUS, p->id, !p->peer_backup, f->sequence);
    if (p->peer_backup)
        path_backup_told(p, !before, x->now);
    conn_ready(x->c);                   /* what waits may have to go elsewhere */
    return 0;
}

static uint64_t on_max_path_id(struct context *x, const struct frame_in *f)
{
    struct conn *c = x->c;
    if (RULE(MP_79, f->path > UINT32_MAX || f->path < c->params.initial_max_path_id))
        return PROTOCOL_VIOLATION;      /* RFC 10069 §4.6 */
    if (RULE(MP_80, f->path <= c->max_path_remote))
        return 0;
    c->max_path_remote = (uint32_t)f->path;
    cids_issue(c);
    return 0;
}

static uint64_t on_cids_blocked(struct context *x, const struct frame_in *f)
{
    struct path *p = path_find(x->c, f->path);
    if (RULE(MP_82, f->path > x->c->max_path_local))
        return PROTOCOL_VIOLATION;      /* RFC 10069 §4.7 */
    if (!p)
        return 0;
    if (RULE(MP_83, f->sequence > p->local_next))
        return PROTOCOL_VIOLATION;
    cids_issue(x->c);
    return 0;
}

static uint64_t on_frame(struct context *x, const struct frame_in *f)
{
    struct conn *c = x->c;
    switch (f->type) {
    case F_PADDING: case F_PING:
        return 0;
    case F_ACK: case F_ACK_ECN: case F_PATH_ACK: case F_PATH_ACK_ECN:
        return on_ack(x, f);
    case F_DATAGRAM: case F_DATAGRAM_LENGTH:
        return on_datagram(x, f);
    case F_NEW_CONNECTION_ID: case F_PATH_NEW_CONNECTION_ID:
        return cid_new_received(c, f);
    case F_RETIRE_CONNECTION_ID: case F_PATH_RETIRE_CONNECTION_ID:
        return cid_retire_received(c, f, x->path, x->cid);
    case F_PATH_CHALLENGE:
        return on_challenge(x, f);
    case F_PATH_RESPONSE:
        return on_response(x, f);
    case F_PATH_ABANDON:
        return on_abandon(x, f);
    case F_PATH_STATUS_BACKUP: case F_PATH_STATUS_AVAILABLE:
        return on_status(x, f);
    case F_MAX_PATH_ID:
        return on_max_path_id(x, f);
    case F_PATHS_BLOCKED:
        return RULE(MP_82, f->path > c->max_path_local) ? PROTOCOL_VIOLATION : 0;
    case F_PATH_CIDS_BLOCKED:
        return on_cids_blocked(x, f);
    case F_CLOSE: case F_CLOSE_APPLICATION:
        if (x->path->id == 0 || RULE(MP_19, true))      /* on whatever path it comes: RFC 10069 §2.6 */
            conn_close_begin(c, CLOSE_PEER, f->type == F_CLOSE_APPLICATION, f->code, f->value, f->data, f->data_length, true, x->now);
        return 0;
    case F_HANDSHAKE_DONE:
        if (RULE(Q_20, c->server))
            return PROTOCOL_VIOLATION;  /* RFC 9000 §19.20 */
        c->done_received = true;        /* it may overtake Python's word that the Finished went out */
        if (c->handshake_complete)
            conn_handshake_confirm(c);
        return 0;
    case F_NEW_TOKEN:
        if (RULE(Q_20, c->server))
            return PROTOCOL_VIOLATION;  /* RFC 9000 §19.7 */
        break;
    }
    event_frame(c, x->level, x->path->id, f);
    return 0;
}

static bool is_eliciting(uint64_t type)
{
    switch (type) {
    case F_PADDING: case F_ACK: case F_ACK_ECN: case F_PATH_ACK: case F_PATH_ACK_ECN: case F_CLOSE: case F_CLOSE_APPLICATION:
        return false;
    default:
        return true;
    }
}

static bool is_probing(uint64_t type)
{
    return type == F_PADDING || type == F_PATH_CHALLENGE || type == F_PATH_RESPONSE || type == F_NEW_CONNECTION_ID ||
           type == F_PATH_NEW_CONNECTION_ID;
}

bool conn_frames(struct conn *c, int level, struct path *p, const struct cid_entry *cid, const uint8_t *payload,
                 size_t length, uint32_t link, const struct address *remote, bool *eliciting, bool *probing, uint64_t now)
{
    struct context x = { c, p, cid, level, link, remote, now, length };
    if (RULE(Q_16, !length)) {
        conn_fail(c, PROTOCOL_VIOLATION, 0, "packet without frames");       /* RFC 9000 §12.4 */
        return false;
    }
    for (size_t at = 0; at < length;) {
        struct frame_in f;
        uint64_t error = frame_parse(payload + at, length - at, level, c->multipath, &f);
        if (!error)
            error = on_frame(&x, &f);
        if (error)
            conn_fail(c, RULE(R_16, error), f.type, "frame refused");
        if (c->state != CONN_OPEN)
            return false;
        *eliciting |= is_eliciting(f.type);
        *probing &= is_probing(f.type);
        at += f.length;
    }
    return true;
}
