/* Connection IDs: ours by value -> (connection, path); the peer's per path; reset tokens (RFC 9000 §5.1, RFC 10069 §3.2). */
#include "core.h"

/* ---- tables */

static uint32_t cid_slot(const endpoint *e, const uint8_t *cid, size_t length)
{
    return (uint32_t)(hash_bytes(e, cid, length) >> (64 - e->table_bits));
}

struct cid_entry *cid_find(endpoint *e, const uint8_t *cid, size_t length)
{
    for (struct cid_entry *p = e->cids[cid_slot(e, cid, length)]; p; p = p->next)
        if (p->length == length && !memcmp(p->cid, cid, length))
            return p;
    return NULL;
}

void cid_insert(endpoint *e, struct cid_entry *entry)
{
    struct cid_entry **at = &e->cids[cid_slot(e, entry->cid, entry->length)];
    entry->next = *at;
    entry->used = true;
    *at = entry;
}

void cid_remove(endpoint *e, struct cid_entry *entry)
{
    if (!entry->used)
        return;
    struct cid_entry **at = &e->cids[cid_slot(e, entry->cid, entry->length)];
    while (*at != entry)
        at = &(*at)->next;
    *at = entry->next;
    entry->used = false;
}

struct cid_entry *cid_receive(endpoint *e, const uint8_t *cid, size_t length)
{
    struct cid_entry *p = cid_find(e, cid, length);
    if (!p || !p->until || (p->until > e->now && RULE(Q_90, true)))
        return p;
    cid_remove(e, p);
    return NULL;
}

static bool equal_constant_time(const uint8_t *a, const uint8_t *b, size_t n)
{
    uint8_t difference = 0;
    for (size_t i = 0; i < n; i++)
        difference |= a[i] ^ b[i];
    return !difference;
}

static bool sends_to(const struct peer_cid *cid, const struct address *remote)
{
    const struct conn *c = cid->conn;
    for (uint32_t i = 0; i < c->path_count; i++)
        if (c->paths[i]->dcid == cid && address_equal(&c->paths[i]->remote, remote))
            return true;
    return false;
}

/* Only the token of a CID counts that we send to, and only from where we send to (RFC 9000 §10.3.1). The hash is keyed, so its
 * time tells nothing. */
struct conn *token_find(endpoint *e, const struct address *remote, const uint8_t *token)
{
    for (struct peer_cid *p = e->tokens[cid_slot(e, token, 16)]; p; p = p->next)
        if (equal_constant_time(p->token, token, 16) && !RULE(Q_32, !sends_to(p, remote)))
            return p->conn;
    return NULL;
}

static bool token_listed(endpoint *e, const struct peer_cid *p)
{
    for (struct peer_cid *q = e->tokens[cid_slot(e, p->token, 16)]; q; q = q->next)
        if (q == p)
            return true;
    return false;
}

void token_insert(endpoint *e, struct peer_cid *p)
{
    if (!p->has_token || token_listed(e, p))
        return;
    struct peer_cid **at = &e->tokens[cid_slot(e, p->token, 16)];
    p->next = *at;
    *at = p;
}

void peer_cid_forget(endpoint *e, struct peer_cid *p)
{
    if (!p->used)
        return;
    if (p->has_token) {
        struct peer_cid **at = &e->tokens[cid_slot(e, p->token, 16)];
        while (*at && *at != p)
            at = &(*at)->next;
        if (*at)
            *at = p->next;
    }
    p->used = false;
}

/* ---- ours */

/* A free place, or that of the CID that was retired longest ago: a peer that retires them one after the other bounds itself. */
static struct cid_entry *cid_place(struct path *p)
{
    struct cid_entry *oldest = NULL;
    for (int i = 0; i < LIMIT_CIDS; i++) {
        struct cid_entry *entry = &p->local[i];
        if (!entry->used)
            return entry;
        if (entry->until && (!oldest || entry->until < oldest->until))
            oldest = entry;
    }
    if (oldest)
        cid_remove(p->conn->e, oldest);
    return oldest;
}

struct cid_entry *cid_issue(struct path *p)
{
    struct cid_entry *entry = cid_place(p);
    if (!entry)
        return NULL;
    memset(entry, 0, sizeof *entry);
    entry->length = ENGINE_CID_LENGTH;
    do
        random_bytes(p->conn->e, entry->cid, ENGINE_CID_LENGTH);
    while (cid_find(p->conn->e, entry->cid, ENGINE_CID_LENGTH));        /* never twice: RFC 10069 §3.2.1 */
    entry->conn = p->conn;
    entry->path = p->id;
    entry->sequence = p->local_next++;  /* from 0 on, for each path: RFC 10069 §3.2 */
    cid_insert(p->conn->e, entry);
    return entry;
}

static bool cid_announce(struct path *p, const struct cid_entry *entry)
{
    uint8_t b[80], *q = b;
    if (!RULE(MP_38, p->id != 0)) {
        q = put_varint(q, F_NEW_CONNECTION_ID);
    } else {
        q = put_varint(q, F_PATH_NEW_CONNECTION_ID);
        q = put_varint(q, p->id);
    }
    q = put_varint(q, entry->sequence);
    q = put_varint(q, p->local_retire_prior_to);
    *q++ = entry->length;
    q = put_bytes(q, entry->cid, entry->length);
    if (!reset_token_make(p->conn->e->config.reset_key, entry->cid, entry->length, q))
        return false;
    return conn_queue(p->conn, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q + 16 - b), FRAME_ENGINE);
}

/* At least one CID for every unused path id within both limits, lowest first, never above the peer's limit
 * (RFC 10069 §3.2.1); and replacements for retired ones (§3.2.2). */
void cids_issue(struct conn *c)
{
    if (!c->handshake_complete || !c->have_params || c->state != CONN_OPEN)
        return;
    uint32_t most = c->multipath ? (c->max_path_local < c->max_path_remote ? c->max_path_local : c->max_path_remote) : 0;
    uint32_t each = c->params.active_connection_id_limit;
    if (each > LIMIT_CIDS_ISSUED)
        each = LIMIT_CIDS_ISSUED;
    for (uint32_t i = 0; i < c->path_count; i++) {          /* paths are kept in ascending order of ids */
        struct path *p = c->paths[i];
        if (RULE(MP_44, p->id > most) || p->state == PATH_ABANDONED || (p->state == PATH_UNUSED && !RULE(MP_41, true)))
            continue;
        uint32_t have = 0;
        for (int k = 0; k < LIMIT_CIDS; k++)
            have += p->local[k].used && !p->local[k].until;
        for (; !RULE(Q_50, have >= each); have++) {
            struct cid_entry *entry = cid_issue(p);
            if (!entry || !cid_announce(p, entry))
                return;
        }
    }
}

void cids_forget_local(struct path *p)
{
    for (int i = 0; i < LIMIT_CIDS; i++)
        cid_remove(p->conn->e, &p->local[i]);
}

/* ---- the peer's */

static bool cid_retire(struct path *p, uint64_t sequence)
{
    uint8_t b[24], *q = b;
    if (!RULE(MP_38, p->id != 0)) {
        q = put_varint(q, F_RETIRE_CONNECTION_ID);
    } else {
        q = put_varint(q, F_PATH_RETIRE_CONNECTION_ID);
        q = put_varint(q, p->id);
    }
    q = put_varint(q, sequence);
    return conn_queue(p->conn, LEVEL_1RTT, ENGINE_PATH_ANY, b, (size_t)(q - b), FRAME_ENGINE);
}

/* The CID to send to on this path: the one with the lowest sequence number. */
bool path_choose_dcid(struct path *p)
{
    struct path *from = RULE(MP_46, true) ? p : p->conn->paths[0];     /* only of this path id: RFC 10069 §3.2.2 */
    const struct peer_cid *before = p->dcid;
    p->dcid = NULL;
    for (int i = 0; i < LIMIT_CIDS; i++)
        if (from->peer[i].used && (!p->dcid || from->peer[i].sequence < p->dcid->sequence))
            p->dcid = &from->peer[i];
    if (p->dcid)
        token_insert(p->conn->e, p->dcid);
    if (p->dcid && p->dcid != before)
        TRACE(p->conn->e, trace_cid(p));
    return p->dcid != NULL;
}

bool path_dcid_rotate(struct path *p)
{
    struct peer_cid *old = p->dcid, *next = NULL;
    for (int i = 0; i < LIMIT_CIDS; i++)
        if (p->peer[i].used && &p->peer[i] != old && (!next || p->peer[i].sequence < next->sequence))
            next = &p->peer[i];
    if (!old || !next || !cid_retire(p, old->sequence))
        return false;
    peer_cid_forget(p->conn->e, old);
    p->dcid = RULE(Q_52, true) ? next : old;
    TRACE(p->conn->e, trace_cid(p));
    token_insert(p->conn->e, next);
    return true;
}

/* RFC 9000 §9.5: from two addresses to one connection ID, and everybody sees that it is the same client. */
void cids_rotate_link(endpoint *e, uint32_t link)
{
    for (uint32_t i = 0; i < ENGINE_MAX_CONNS && !e->server; i++) {
        struct conn *c = e->conns[i];
        for (uint32_t k = 0; c && c->state == CONN_OPEN && c->handshake_confirmed && k < c->path_count; k++)
            if (c->paths[k]->link == link && path_speaks(c->paths[k]) && RULE(Q_53, true))
                path_dcid_rotate(c->paths[k]);
    }
}

void cids_forget_peer(struct path *p)
{
    for (int i = 0; i < LIMIT_CIDS; i++)
        peer_cid_forget(p->conn->e, &p->peer[i]);
    p->dcid = NULL;
}

/* RFC 9000 §19.15: the same CID again with another sequence number, path or token is an error. */
static uint64_t cid_compare(struct conn *c, struct path *own, const struct frame_in *f, bool *known)
{
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        for (int k = 0; k < LIMIT_CIDS; k++) {
            const struct peer_cid *o = &p->peer[k];
            if (!o->used)
                continue;
            bool same_cid = o->length == f->data_length && !memcmp(o->cid, f->data, o->length);
            bool same_number = p == own && o->sequence == f->sequence;
            bool same_token = o->has_token && equal_constant_time(o->token, f->token, 16);
            if (RULE(MP_43, same_cid != same_number || (same_cid && !same_token)))
                return PROTOCOL_VIOLATION;
            if (same_cid)
                *known = true;
        }
    }
    return 0;
}

uint64_t cid_new_received(struct conn *c, const struct frame_in *f)
{
    if (RULE(MP_66, f->path > c->max_path_local))
        return PROTOCOL_VIOLATION;                          /* RFC 10069 §4 */
    struct path *p = path_find(c, f->path);
    if (!p)
        return RULE(MP_64, true) ? 0 : PROTOCOL_VIOLATION;
    if (RULE(MP_59, p->state == PATH_ABANDONED))
        return 0;                                           /* §3.4: ignored */
    if (f->type == F_NEW_CONNECTION_ID && !RULE(MP_39, true))
        return 0;                                           /* §3.2: the same as PATH_NEW_CONNECTION_ID for path 0 */
    bool known = false;
    uint64_t error = cid_compare(c, p, f, &known);
    if (error || known)
        return error;
    if (RULE(MP_77, f->sequence < p->peer_retire_prior_to))
        return cid_retire(p, f->sequence) ? 0 : INTERNAL_ERROR;
    if (RULE(Q_51, f->retire_prior_to > p->peer_retire_prior_to)) {     /* retire first, then add (§4.4) */
        p->peer_retire_prior_to = f->retire_prior_to;
        for (int i = 0; i < LIMIT_CIDS; i++) {
            struct peer_cid *o = &p->peer[i];
            if (!o->used || o->sequence >= f->retire_prior_to)
                continue;
            if (!cid_retire(p, o->sequence))
                return INTERNAL_ERROR;
            if (p->dcid == o)
                p->dcid = NULL;
            peer_cid_forget(c->e, o);
        }
    }
    uint32_t active = 0;
    struct peer_cid *slot = NULL;
    for (int i = 0; i < LIMIT_CIDS; i++) {
        active += p->peer[i].used;
        if (!p->peer[i].used)
            slot = &p->peer[i];
    }
    if (RULE(Q_55, RULE(MP_08, active >= c->e->config.active_connection_id_limit)) || !slot)
        return CONNECTION_ID_LIMIT_ERROR;                   /* RFC 9000 §5.1.1, per path id */
    if (f->sequence >= p->peer_next)
        p->peer_next = f->sequence + 1;
    p->cids_blocked_told = false;
    memset(slot, 0, sizeof *slot);
    slot->conn = c;
    slot->sequence = f->sequence;
    slot->length = (uint8_t)f->data_length;
    memcpy(slot->cid, f->data, f->data_length);
    memcpy(slot->token, f->token, 16);
    slot->has_token = slot->used = true;
    if (RULE(MP_32, !p->dcid && p->state != PATH_UNUSED && p->state != PATH_ABANDONED))
        path_choose_dcid(p);
    conn_ready(c);
    return 0;
}

/* The CID of preferred_address is number 1 of path 0, whether or not we ever go there (RFC 9000 §5.1.1, RFC 10069 §2.2). */
void cid_preferred(struct conn *c, const struct peer_params *params)
{
    struct path *p = path_find(c, 0);
    for (int i = 0; p && i < LIMIT_CIDS; i++) {
        struct peer_cid *o = &p->peer[i];
        if (o->used)
            continue;
        *o = (struct peer_cid){ .conn = c, .sequence = 1, .used = true, .has_token = true, .length = params->preferred_cid_length };
        memcpy(o->cid, params->preferred_cid, params->preferred_cid_length);
        memcpy(o->token, params->preferred_token, 16);
        return;
    }
}

uint64_t cid_retire_received(struct conn *c, const struct frame_in *f, struct path *carrier, const struct cid_entry *dcid)
{
    if (RULE(MP_66, f->path > c->max_path_local))
        return PROTOCOL_VIOLATION;
    struct path *p = path_find(c, f->path);
    if (!p)
        return RULE(MP_64, true) ? 0 : PROTOCOL_VIOLATION;
    if (RULE(MP_78, f->sequence >= p->local_next || (p == carrier && dcid && dcid->sequence == f->sequence)))
        return PROTOCOL_VIOLATION;                          /* RFC 9000 §19.16 */
    /* What is under way to it comes later than this frame, if that took a faster path or overtook it: it is still taken. */
    for (int i = 0; i < LIMIT_CIDS; i++)
        if (p->local[i].used && p->local[i].sequence == f->sequence && !p->local[i].until)
            p->local[i].until = c->e->now + 3 * conn_max_pto(c);
    if (RULE(MP_47, true) && RULE(MP_49, true))             /* the path stays, whatever it lost: RFC 10069 §3.2.2 */
        cids_issue(c);
    return 0;
}
