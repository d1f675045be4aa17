/* Answers that belong to no connection: version negotiation (RFC 9000 §6), stateless reset (§10.3); a Retry takes its room here, too. */
#include "core.h"

struct packet *raw_new(endpoint *e, uint32_t link, const struct address *remote)
{
    struct packet *k = e->raw_count < LIMIT_RAW_PACKETS ? packet_get(e) : NULL;
    if (k)
        e->raw[e->raw_count++] = (struct raw){ k, link, *remote };
    return k;
}

void raw_cancel(endpoint *e) { packet_put(e, e->raw[--e->raw_count].packet); }

void version_negotiation_send(endpoint *e, uint32_t link, const struct address *remote, const struct long_header *h)
{
    struct packet *k = raw_new(e, link, remote);
    if (!k)
        return;
    uint8_t *start = k->buffer + k->offset, *q = start;
    uint32_t grease;
    random_bytes(e, &grease, sizeof grease);
    *q++ = (uint8_t)(0xc0 | grease);
    q = put_be32(q, 0);
    bool echo = RULE(Q_02, true);       /* the client's source is our destination: RFC 9000 §17.2.1 */
    *q++ = echo ? h->scid_length : h->dcid_length;
    q = put_bytes(q, echo ? h->scid : h->dcid, echo ? h->scid_length : h->dcid_length);
    *q++ = h->dcid_length;
    q = put_bytes(q, h->dcid, h->dcid_length);
    q = put_be32(q, 1);
    q = put_be32(q, (grease & 0xf0f0f0f0) | 0x0a0a0a0a);    /* reserved, so that clients learn to read over it: RFC 9000 §6.3 */
    k->length = (uint16_t)(q - start);
    TRACE(e, trace_bare(e, NULL, TRACE_BARE_SENT, BARE_VERSION_NEGOTIATION, k->length, h->scid, h->scid_length, q - 8, 8));
}

/* RFC 9000 §10.3: shorter than what caused it, limited in rate. */
void stateless_reset_send(endpoint *e, uint32_t link, const struct address *remote, const uint8_t *packet, size_t length)
{
    if (length < 22)
        return;
    if (e->now - e->reset_window > 1000000000ull) {
        e->reset_window = e->now;
        e->resets = 0;
    }
    struct packet *k = RULE(Q_30, e->resets >= LIMIT_RESETS_PER_SECOND) ? NULL : raw_new(e, link, remote);
    if (!k)
        return;
    e->resets++;
    size_t n = RULE(Q_29, length <= 43) ? length - 1 : 43;
    uint8_t *p = k->buffer + k->offset;
    random_bytes(e, p, n - 16);
    p[0] = (uint8_t)(0x40 | (p[0] & 0x3f));
    k->length = (uint16_t)n;
    if (reset_token_make(e->config.reset_key, packet + 1, ENGINE_CID_LENGTH, p + n - 16)) {
        COUNT(e, reset_sent);
        TRACE(e, trace_bare(e, NULL, TRACE_BARE_SENT, BARE_STATELESS_RESET, n, NULL, 0, NULL, 0));
        return;
    }
    raw_cancel(e);
}
