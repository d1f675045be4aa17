/* Keys per level and the key phases of 1-RTT (RFC 9001 §4.9, §6; RFC 10069 §2.5): one key set for all paths. */
#include "core.h"

static void level_free(struct keys *k)
{
    aead_key_free(k->send);
    aead_key_free(k->receive);
    k->send = k->receive = NULL;
}

static bool secret_next(const uint8_t *secret, size_t length, uint8_t *out)
{
    return hkdf_expand_label(secret, length, "quic ku", out, length);
}

/* The next generation is made ahead, so that a peer's update costs no more time than any packet (RFC 9001 §9.5). */
static bool next_prepare(struct conn *c)
{
    uint8_t secret[48];
    struct keys *now = &c->keys[LEVEL_1RTT];
    bool ok = true;
    if (now->send && !c->next.send) {
        ok = secret_next(c->secret_send, c->secret_length, secret) &&
             (c->next.send = aead_key_update(now->send, secret, c->secret_length));
        memcpy(c->secret_send, secret, c->secret_length);
    }
    if (ok && now->receive && !c->next.receive) {
        ok = secret_next(c->secret_receive, c->secret_length, secret) &&
             (c->next.receive = aead_key_update(now->receive, secret, c->secret_length));
        memcpy(c->secret_receive, secret, c->secret_length);
    }
    secret_wipe(secret, sizeof secret);
    return ok;
}

int keys_install(struct conn *c, int level, int direction, int suite, const uint8_t *secret, size_t length)
{
    struct keys *k = &c->keys[level];
    struct aead_key **slot = direction == DIRECTION_SEND ? &k->send : &k->receive;
    if (*slot)
        return -ENGINE_E_STATE;
    struct aead_key *key = aead_key_new(NULL, suite, secret, length);
    if (!key)
        return -ENGINE_E_CRYPTO;
    *slot = key;
    k->suite = suite;
    TRACE(c->e, trace_key(c, TRACE_KEY_UPDATED, level, direction, TRACE_KEY_TLS));
    if (level == LEVEL_1RTT) {
        c->secret_length = length;
        memcpy(direction == DIRECTION_SEND ? c->secret_send : c->secret_receive, secret, length);
        if (!next_prepare(c))
            return -ENGINE_E_CRYPTO;
    }
    return 0;
}

void keys_discard(struct conn *c, int level)
{
    if (c->keys[level].send || c->keys[level].receive)
        TRACE(c->e, trace_key(c, TRACE_KEY_DISCARDED, level, -1, TRACE_KEY_TLS));
    level_free(&c->keys[level]);
    if (level != LEVEL_1RTT) {
        if (RULE(Q_135, true))
            space_discard(c, path_find(c, 0), &c->early[level]);
        queue_clear(c->e, &c->queue[level]);
        c->early_probes[level] = 0;
    }
    conn_touch(c);
}

void keys_drop_previous(struct conn *c)
{
    level_free(&c->previous);
    c->previous_until = NEVER;
}

/* RFC 9001 §6.1 and §6.5, RFC 10069 §2.5: confirmed, the current phase acknowledged, 3 PTO of the slowest path past. */
bool keys_may_update(struct conn *c, uint64_t now)
{
    return c->state == CONN_OPEN && !RULE(Q_42, !c->handshake_confirmed) && !RULE(MP_18, !c->phase_acked) && !c->previous.receive &&
           !RULE(MP_16, now < c->update_from) && c->next.send && c->next.receive;
}

bool keys_advance(struct conn *c, bool by_peer, uint64_t now)
{
    struct keys *k = &c->keys[LEVEL_1RTT];
    aead_key_free(c->previous.receive);
    c->previous.receive = k->receive;
    aead_key_free(k->send);
    k->send = c->next.send;
    k->receive = c->next.receive;
    c->next.send = c->next.receive = NULL;
    c->phase++;
    TRACE(c->e, trace_key(c, TRACE_KEY_UPDATED, LEVEL_1RTT, -1, by_peer ? TRACE_KEY_REMOTE : TRACE_KEY_LOCAL));
    c->phase_acked = false;
    c->phase_seen = by_peer;
    c->phase_ack_owed = by_peer;
    c->packets_under_key = 0;
    c->previous_until = by_peer ? now + 3 * conn_max_pto(c) : NEVER;
    c->stats.key_updates++;
    for (uint32_t i = 0; i < c->path_count; i++) {
        c->paths[i]->phase_first_sent = c->paths[i]->space.next_pn;
        c->paths[i]->phase_first_recv = NONE;
    }
    conn_touch(c);
    event_simple(c, EVENT_KEY_PHASE, 0, c->phase, by_peer);
    return next_prepare(c);
}

void keys_free(struct conn *c)
{
    for (int i = 0; i < 3; i++)
        level_free(&c->keys[i]);
    level_free(&c->next);
    level_free(&c->previous);
    secret_wipe(c->secret_send, sizeof c->secret_send);
    secret_wipe(c->secret_receive, sizeof c->secret_receive);
}
