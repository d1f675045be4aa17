/* Retry on both sides, and the other things said about tokens (RFC 9000 §8.1, §17.2.5; RFC 9001 §5.8). No state is kept for a
 * client that has not proved its address: what a Retry says comes back in its token. */
#include <stdlib.h>
#include "aead_backend.h"
#include "core.h"

/* AES-128-GCM over the Retry and the DCID that it answers, no text: who did not see the Initial cannot forge it. */
static bool integrity_tag(const uint8_t *odcid, size_t odcid_length, const uint8_t *packet, size_t length, uint8_t tag[16])
{
    static const uint8_t key[16] = {0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e};
    static const uint8_t nonce[12] = {0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb};
    static const uint8_t unused[16];
    uint8_t pseudo[1 + 20 + ENGINE_MAX_DATAGRAM], *q = pseudo;
    if (length > ENGINE_MAX_DATAGRAM)
        return false;
    struct aead_key *k = aead_key_new_raw("openssl", SUITE_AES_128_GCM_SHA256, key, nonce, unused);
    *q++ = (uint8_t)odcid_length;
    q = put_bytes(q, odcid, odcid_length);
    q = put_bytes(q, packet, length);
    bool ok = k && aead_seal_raw(k, nonce, pseudo, (size_t)(q - pseudo), pseudo, 0, tag) == AEAD_TAG_LENGTH;
    aead_key_free(k);
    return ok;
}

static uint8_t *long_start(uint8_t *q, uint8_t first, const struct long_header *h, const uint8_t *scid)
{
    *q++ = first;
    q = put_be32(q, 1);
    *q++ = h->scid_length;              /* what we answer: its source is our destination */
    q = put_bytes(q, h->scid, h->scid_length);
    *q++ = ENGINE_CID_LENGTH;
    return put_bytes(q, scid, ENGINE_CID_LENGTH);
}

void retry_send(endpoint *e, uint32_t link, const struct address *remote, const struct long_header *h)
{
    COUNT(e, retry_sent);
    struct packet *k = raw_new(e, link, remote);
    if (!k)
        return;
    uint8_t scid[ENGINE_CID_LENGTH], token[TOKEN_MAX];
    random_bytes(e, scid, sizeof scid);
    size_t n = token_retry_make(e, remote, scid, h->dcid, h->dcid_length, token);
    uint8_t *start = k->buffer + k->offset, *q = long_start(start, 0xf0, h, scid);
    q = put_bytes(q, token, n);
    if (!n || !integrity_tag(h->dcid, h->dcid_length, start, (size_t)(q - start), q)) {
        raw_cancel(e);
        return;
    }
    k->length = (uint16_t)(q + AEAD_TAG_LENGTH - start);
    TRACE(e, trace_bare(e, NULL, TRACE_BARE_SENT, BARE_RETRY, k->length, h->scid, h->scid_length, NULL, n));
}

/* A CONNECTION_CLOSE in an Initial of nobody: the client need not wait until it gives up (RFC 9000 §8.1.3). */
void invalid_token_send(endpoint *e, uint32_t link, const struct address *remote, const struct long_header *h)
{
    static const uint8_t frame[] = { F_CLOSE, INVALID_TOKEN, 0, 0 };
    COUNT(e, token_invalid);
    struct packet *k = raw_new(e, link, remote);
    if (!k)
        return;
    uint8_t client[32], server[32], scid[ENGINE_CID_LENGTH];
    struct aead_key *key = initial_secrets(h->dcid, h->dcid_length, client, server)
                           ? aead_key_new(NULL, SUITE_AES_128_GCM_SHA256, server, 32) : NULL;
    random_bytes(e, scid, sizeof scid);
    uint8_t *start = k->buffer + k->offset, *q = long_start(start, 0xc0 | (PN_LENGTH - 1), h, scid);
    *q++ = 0;
    q = put_varint(q, PN_LENGTH + sizeof frame + AEAD_TAG_LENGTH);
    q = put_be32(q, 0);
    struct aead_packet p = { .data = start, .header_length = (uint16_t)(q - start), .pn_length = PN_LENGTH,
                             .payload_length = sizeof frame };
    q = put_bytes(q, frame, sizeof frame);
    if (key) {
        aead_seal(key, &p, 1);
        k->length = (uint16_t)(q + AEAD_TAG_LENGTH - start);
    } else {
        raw_cancel(e);
    }
    aead_key_free(key);
    secret_wipe(client, sizeof client);
    secret_wipe(server, sizeof server);
}

void new_token_queue(struct conn *c)
{
    uint8_t token[TOKEN_MAX], frame[TOKEN_MAX + 4];
    size_t n = c->server && c->e->config.retry_half_open && c->handshake_complete ? token_address_make(c, token) : 0;
    if (!n)
        return;
    uint8_t *q = put_varint(frame, F_NEW_TOKEN);
    q = put_varint(q, n);
    q = put_bytes(q, token, n);
    conn_queue(c, LEVEL_1RTT, ENGINE_PATH_ANY, frame, (size_t)(q - frame), FRAME_ENGINE);
}

/* ---- client */

bool conn_token_keep(struct conn *c, const uint8_t *token, size_t length)
{
    uint8_t *kept = malloc(length);
    if (!kept)
        return false;
    memcpy(kept, token, length);
    free(c->token);
    c->token = kept;
    c->token_length = (uint16_t)length;
    return true;
}

static bool initial_keys_renew(struct conn *c)
{
    uint8_t client[32], server[32];
    struct keys *k = &c->keys[LEVEL_INITIAL];
    aead_key_free(k->send);
    aead_key_free(k->receive);
    k->send = k->receive = NULL;
    bool ok = initial_secrets(c->retry_cid, c->retry_cid_length, client, server) &&
              keys_install(c, LEVEL_INITIAL, DIRECTION_SEND, SUITE_AES_128_GCM_SHA256, client, 32) == 0 &&
              keys_install(c, LEVEL_INITIAL, DIRECTION_RECEIVE, SUITE_AES_128_GCM_SHA256, server, 32) == 0;
    secret_wipe(client, sizeof client);
    secret_wipe(server, sizeof server);
    return ok;
}

/* The connection that follows this Retry, or NULL: only one, only before anything else came, only with a token and another CID,
 * and only with the right tag (RFC 9000 §17.2.5.2). */
static struct conn *retry_conn(endpoint *e, const struct long_header *h, const uint8_t *packet, size_t length, size_t token_length)
{
    struct cid_entry *entry = h->dcid_length == ENGINE_CID_LENGTH ? cid_find(e, h->dcid, h->dcid_length) : NULL;
    struct conn *c = entry ? entry->conn : NULL;
    uint8_t tag[AEAD_TAG_LENGTH];
    if (!c || c->server || c->state != CONN_OPEN || token_length > LIMIT_TOKEN || !h->scid_length || h->scid_length > 20)
        return NULL;
    if (RULE(Q_107, c->have_peer_cid || c->retry_cid_length))
        return NULL;
    if (RULE(Q_108, !token_length))
        return NULL;
    if (RULE(Q_108, h->scid_length == c->odcid_length && !memcmp(h->scid, c->odcid, c->odcid_length)))
        return NULL;
    if (!integrity_tag(c->odcid, c->odcid_length, packet, length - AEAD_TAG_LENGTH, tag) ||
        RULE(Q_106, memcmp(tag, packet + length - AEAD_TAG_LENGTH, AEAD_TAG_LENGTH)))
        return NULL;
    return c;
}

void retry_received(endpoint *e, const struct long_header *h, const uint8_t *packet, size_t length)
{
    const uint8_t *token = h->scid + h->scid_length;
    size_t left = (size_t)(packet + length - token);
    struct conn *c = left >= AEAD_TAG_LENGTH ? retry_conn(e, h, packet, length, left - AEAD_TAG_LENGTH) : NULL;
    if (!c) {
        COUNT(e, retry_ignored);
        return;
    }
    struct path *p = path_find(c, 0);
    struct space *s = &c->early[LEVEL_INITIAL];
    COUNT(e, retry_accepted);
    TRACE(e, trace_bare(e, c, TRACE_BARE_RECEIVED, BARE_RETRY, length, h->dcid, h->dcid_length, NULL, left - AEAD_TAG_LENGTH));
    if (!conn_token_keep(c, token, left - AEAD_TAG_LENGTH))
        return;
    memcpy(c->retry_cid, h->scid, h->scid_length);
    c->retry_cid_length = h->scid_length;
    p->peer[0].length = h->scid_length;
    memcpy(p->peer[0].cid, h->scid, h->scid_length);
    TRACE(e, trace_cid(p));
    if (!initial_keys_renew(c)) {
        conn_fail(c, INTERNAL_ERROR, 0, "keys after Retry");
        return;
    }
    frames_repeat(c, s, LEVEL_INITIAL, LIMIT_FRAMES_EARLY);     /* the same ClientHello; packet numbers go on */
    space_discard(c, p, s);
    if (!RULE(Q_110, true))
        s->base = s->next_pn = 0;
    p->rec.pto_count = 0;
    conn_ready(c);
}
