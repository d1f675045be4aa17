/* A packet of a connection: unmask, packet number, key (and key phase), duplicate, open, frames, acknowledge. */
#include "core.h"

static uint64_t integrity_limit(const struct conn *c, int level)
{
    uint64_t limit = aead_integrity_limit(c->keys[level].suite), ours = c->e->config.close_after_forgeries;
    return ours && ours < limit ? ours : limit;
}

static void not_authentic(struct conn *c, int level)
{
    COUNT(c->e, auth_failed);
    c->stats.auth_failures++;
    if (RULE(Q_47, c->stats.auth_failures >= integrity_limit(c, level)))    /* RFC 9001 §6.6 */
        conn_fail(c, AEAD_LIMIT_REACHED, 0, "too many forged packets");
}

/* Keeps a packet whose keys are not there yet: they may be on their way from Python. */
static void keep(struct conn *c, int level, const uint8_t *packet, size_t length, uint32_t link, uint8_t ecn, uint64_t now)
{
    bool hopeless = level == LEVEL_INITIAL || (level == LEVEL_HANDSHAKE && c->handshake_confirmed);
    struct packet *k = hopeless || length > PACKET_CAPACITY || c->undecryptable_count >= LIMIT_UNDECRYPTABLE ? NULL
                       : packet_get(c->e);
    if (!k) {
        COUNT(c->e, keys_unavailable);
        return;
    }
    memcpy(k->buffer, packet, length);
    k->offset = 0;
    k->length = (uint16_t)length;
    k->flow = (uint32_t)level | (uint32_t)ecn << 8;
    k->tunnel = link;
    k->enqueued = now;
    struct packet **at = &c->undecryptable;
    while (*at)
        at = &(*at)->next;
    *at = k;
    c->undecryptable_count++;
    TRACE_PACKETS(c->e, trace_buffered(c, level, length));
}

void conn_receive_closing(struct conn *c)
{
    COUNT(c->e, conn_closing);
    if (RULE(Q_37, c->state != CONN_CLOSING) || RULE(Q_36, ++c->close_received < c->close_next))
        return;
    c->close_next *= 2;                 /* RFC 9000 §10.2.1: repeat it ever more rarely */
    c->close_received = 0;
    for (uint32_t i = 0; i < c->path_count; i++)
        if (path_speaks(c->paths[i]))
            c->close_paths |= 1u << i;
    conn_ready(c);
}

/* ---- long headers */

uint8_t *long_open(struct aead_key *key, uint64_t largest, const struct long_header *h, uint8_t *packet,
                   uint64_t *pn, size_t *payload_length, uint8_t *first)
{
    uint64_t truncated;
    int n = aead_unmask(key, packet, h->pn_offset, &truncated);
    *first = packet[0];
    *pn = pn_decode(largest, truncated, 8 * (unsigned)n);
    struct aead_packet k = { .data = packet, .header_length = (uint16_t)(h->pn_offset + (size_t)n), .pn_length = (uint8_t)n,
                             .payload_length = (uint32_t)(h->length - h->pn_offset - (size_t)n), .packet_number = *pn };
    aead_open(key, &k, 1);
    if (RULE(R_15, RULE(R_54, k.status)))
        return NULL;
    *payload_length = k.payload_length;
    return packet + k.header_length;
}

void conn_accept_payload(struct conn *c, const struct long_header *h, uint8_t first, uint64_t pn, const uint8_t *payload,
                         size_t length, uint32_t link, const struct address *remote, uint8_t ecn, uint64_t now)
{
    struct path *p = path_find(c, 0);
    struct space *s = &c->early[h->level];
    COUNT(c->e, packets_received);
    c->stats.packets_received++;
    c->stats.bytes_received += h->length;
    TRACE_PACKETS(c->e, trace_packet(p, TRACE_PACKET_RECEIVED, h->level, pn, h->length, payload, length, false));
    if (RULE(Q_13, first & 0x0c)) {
        conn_fail(c, PROTOCOL_VIOLATION, 0, "reserved bits");       /* RFC 9000 §17.2 */
        return;
    }
    if (!c->have_peer_cid) {            /* RFC 9000 §7.2: the SCID of the first packet is where we send from now on */
        struct peer_cid *o = &p->peer[0];
        memset(o, 0, sizeof *o);
        o->used = true;
        o->conn = c;
        o->length = h->scid_length;
        memcpy(o->cid, h->scid, h->scid_length);
        p->dcid = o;
        c->have_peer_cid = true;
        TRACE(c->e, trace_cid(p));
    }
    conn_idle_restart(c, now);
    if (c->server && h->level == LEVEL_HANDSHAKE && c->keys[LEVEL_INITIAL].receive) {
        p->address_validated = RULE(Q_23, true);    /* RFC 9000 §8.1 */
        if (RULE(Q_38, true))
            keys_discard(c, LEVEL_INITIAL);         /* RFC 9001 §4.9.1 */
    }
    bool eliciting = false, probing = true;
    if (!conn_frames(c, h->level, p, NULL, payload, length, link, remote, &eliciting, &probing, now))
        return;
    if (c->keys[h->level].receive)      /* not if a frame made us discard the level */
        space_received(s, pn, eliciting, ecn, RULE(Q_91, true) ? 0 : c->e->config.max_ack_delay_ns, 0, now);     /* §13.2.1 */
    /* no migration during the handshake (RFC 9000 §9): as if nothing but probing */
    path_received(p, NULL, link, remote, h->length, RULE(Q_63, true), !RULE(Q_63, true), now);
    /* RFC 9002 §6.2.3: a client that still speaks Initial has not got our flight */
    const struct space *initial = &c->early[LEVEL_INITIAL], *handshake = &c->early[LEVEL_HANDSHAKE];
    if (c->server && h->level == LEVEL_INITIAL && eliciting &&
        ((initial->eliciting && now - initial->pto_from > EARLY_REPEAT_NS) ||
         (handshake->eliciting && now - handshake->pto_from > EARLY_REPEAT_NS)))
        early_repeat(c, LEVEL_INITIAL, now);
    conn_ready(c);
}

void conn_receive_long(struct conn *c, const struct long_header *h, uint8_t *packet, uint32_t link,
                       const struct address *remote, uint8_t ecn, uint64_t now)
{
    struct aead_key *key = c->keys[h->level].receive;
    if (c->state != CONN_OPEN) {
        conn_receive_closing(c);
        return;
    }
    struct path *p = path_find(c, 0);
    if (RULE(Q_21, !c->server && p && (link != p->link || !address_equal(remote, &p->remote)))) {
        COUNT(c->e, cid_unroutable_link);       /* RFC 9000 §9: only the client's address may change */
        return;
    }
    if (!key || !p) {
        keep(c, h->level, packet, h->length, link, ecn, now);
        return;
    }
    if (RULE(Q_14, !c->server && h->token_length)) {
        COUNT(c->e, header_malformed);  /* RFC 9000 §17.2.2: a server shows no token */
        return;
    }
    if (RULE(Q_15, c->have_peer_cid) && !(h->scid_length == p->peer[0].length && !memcmp(h->scid, p->peer[0].cid, h->scid_length)) &&
        !c->handshake_complete) {
        COUNT(c->e, header_malformed);  /* RFC 9000 §7.2: another SCID than before */
        return;
    }
    uint64_t pn;
    size_t length;
    uint8_t first;
    uint8_t *payload = long_open(key, c->early[h->level].largest_recv, h, packet, &pn, &length, &first);
    if (!payload) {
        not_authentic(c, h->level);
        return;
    }
    if (RULE(Q_10, space_is_duplicate(&c->early[h->level], pn))) {
        COUNT(c->e, packet_duplicate);
        return;
    }
    conn_accept_payload(c, h, first, pn, payload, length, link, remote, ecn, now);
}

/* ---- short headers */

/* Which generation of keys a packet of the other key phase needs (RFC 9001 §6.3, §6.5; packet numbers of its own path). */
enum generation { CURRENT, PREVIOUS, NEXT };
static enum generation generation_of(const struct conn *c, const struct path *p, uint64_t pn, int phase)
{
    if (phase == (int)(c->phase & 1))
        return CURRENT;
    if (!c->previous.receive)
        return NEXT;
    return p->phase_first_recv == NONE || pn < p->phase_first_recv ? PREVIOUS : NEXT;
}

static int short_try(struct aead_key *key, struct aead_packet *k)
{
    if (!key)
        return -1;
    aead_open(key, k, 1);
    return RULE(R_15, RULE(R_54, k->status)) ? -1 : (int)k->payload_length;
}

/* The payload length, or -1. A failed trial changes nothing. While old keys are kept, a packet that does not open is tried twice,
 * whatever its phase bit and number, so that the time tells nothing of what header protection hides (RFC 9001 §9.5). */
static int short_open(struct conn *c, struct aead_packet *k, enum generation *g)
{
    struct aead_key *old = RULE(MP_17, c->previous.receive);
    struct aead_key *key_of[] = { [CURRENT] = c->keys[LEVEL_1RTT].receive, [PREVIOUS] = old, [NEXT] = c->next.receive };
    if (!old)
        return short_try(key_of[*g], k);
    enum generation second = *g == NEXT ? PREVIOUS : NEXT;
    struct aead_packet before = *k;
    size_t n = k->header_length + k->payload_length;
    memcpy(c->e->scratch, k->data, n);
    int got = short_try(key_of[*g], k);
    if (got >= 0)
        return got;
    *k = before;
    memcpy(k->data, c->e->scratch, n);
    got = short_try(key_of[second], k);
    if (*g == CURRENT)
        return -1;                      /* keys of another phase than its bit says: not even if they open it */
    *g = second;
    return got;
}

static bool phase_follow(struct conn *c, struct path *p, enum generation g, uint64_t pn, uint64_t now)
{
    bool known = p->phase_first_recv != NONE;
    if (RULE(Q_44, known && ((g == PREVIOUS && pn > p->phase_first_recv) || (g == NEXT && pn < p->phase_first_recv)))) {
        conn_fail(c, KEY_UPDATE_ERROR, 0, "older keys behind newer ones");      /* RFC 9001 §6.4 */
        return false;
    }
    if (g == NEXT) {
        if (RULE(Q_43, c->phase_ack_owed)) {        /* RFC 9001 §6.2 */
            conn_fail(c, KEY_UPDATE_ERROR, 0, "second key update before the first was acknowledged");
            return false;
        }
        if (!keys_advance(c, true, now)) {
            conn_fail(c, INTERNAL_ERROR, 0, "key update");
            return false;
        }
    }
    if (g != PREVIOUS) {
        if (p->phase_first_recv == NONE || pn < p->phase_first_recv)
            p->phase_first_recv = pn;
        if (!c->phase_seen && c->previous.receive) {    /* the peer follows our update */
            c->phase_seen = true;
            c->previous_until = now + 3 * conn_max_pto(c);
            conn_touch(c);
        }
    }
    return true;
}

void conn_receive_short(struct conn *c, struct cid_entry *cid, uint8_t *packet, size_t length, uint32_t link,
                        const struct address *remote, uint8_t ecn, uint64_t now)
{
    endpoint *e = c->e;
    if (c->state != CONN_OPEN) {
        conn_receive_closing(c);
        return;
    }
    struct path *p = path_find(c, cid->path);
    struct aead_key *hp = c->keys[LEVEL_1RTT].receive;
    if (!p || length < SHORT_HEADER + AEAD_TAG_LENGTH) {
        COUNT(e, datagram_short);
        return;
    }
    if (!hp || RULE(Q_40, !c->handshake_complete)) {        /* RFC 9001 §5.7 */
        keep(c, LEVEL_1RTT, packet, length, link, ecn, now);
        return;
    }
    /* Only the client opens paths, and only the client's address may change (RFC 10069 §3; RFC 9000 §9). */
    bool unused = p->state == PATH_UNUSED, moved = !unused && (link != p->link || !address_equal(remote, &p->remote));
    if (!c->server && (RULE(MP_21, unused) || RULE(Q_21, moved))) {
        COUNT(e, cid_unroutable_link);
        return;
    }
    uint64_t truncated;
    size_t pn_offset = 1 + ENGINE_CID_LENGTH;
    int n = aead_unmask(hp, packet, pn_offset, &truncated);
    uint64_t pn = pn_decode(p->space.largest_recv, truncated, 8 * (unsigned)n);
    uint8_t first = packet[0];
    struct aead_packet k = { .data = packet, .header_length = (uint16_t)(pn_offset + (size_t)n), .pn_length = (uint8_t)n,
                             .payload_length = (uint32_t)(length - pn_offset - (size_t)n), .packet_number = pn,
                             .path_id = RULE(MP_15, c->multipath) ? p->id : 0 };
    enum generation g = generation_of(c, p, pn, first >> 2 & 1);
    int got = short_open(c, &k, &g);
    if (got < 0) {
        not_authentic(c, LEVEL_1RTT);
        return;
    }
    if (RULE(Q_10, space_is_duplicate(&p->space, pn))) {    /* only now: RFC 9000 §12.3, RFC 9001 §9.5 */
        COUNT(e, packet_duplicate);
        return;
    }
    COUNT(e, packets_received);
    c->stats.packets_received++;
    c->stats.bytes_received += length;
    TRACE_PACKETS(e, trace_packet(p, TRACE_PACKET_RECEIVED, LEVEL_1RTT, pn, length, packet + k.header_length, (size_t)got, false));
    if (RULE(Q_13, first & 0x18)) {
        conn_fail(c, PROTOCOL_VIOLATION, 0, "reserved bits");       /* RFC 9000 §17.3.1 */
        return;
    }
    if (!phase_follow(c, p, g, pn, now))
        return;
    if (RULE(MP_90, true) || p->id == 0)    /* one idle timeout for all paths: RFC 10069 §5.9 */
        conn_idle_restart(c, now);
    if (RULE(MP_29, p->state == PATH_UNUSED))
        path_peer_opens(p, link, remote, now);
    bool eliciting = false, probing = true;
    bool largest = p->space.largest_recv == NONE || pn > p->space.largest_recv;
    p->ecn.received = ecn;
    if (!conn_frames(c, LEVEL_1RTT, p, cid, packet + k.header_length, (size_t)got, link, remote, &eliciting, &probing, now))
        return;
    /* RFC 10069 §3.4.3: what comes late on an abandoned path is acknowledged at once */
    space_received(&p->space, pn, eliciting, ecn, p->state == PATH_ABANDONED ? 0 : e->config.max_ack_delay_ns,
                   p->rec.sampled ? p->rec.smoothed : 0, now);
    path_received(RULE(MP_35, true) ? p : c->paths[0], cid, link, remote, length, probing, largest, now);
    conn_ready(c);
}

/* ---- packets that waited for their keys */

void conn_receive_kept(struct conn *c, int level, uint64_t now)
{
    struct packet *list = c->undecryptable, *next;
    struct path *p = path_find(c, 0);
    c->undecryptable = NULL;
    c->undecryptable_count = 0;
    for (; list; list = next) {
        next = list->next;
        list->next = NULL;
        if ((list->flow & 0xff) != (uint32_t)level || !p) {
            struct packet **at = &c->undecryptable;
            while (*at)
                at = &(*at)->next;
            *at = list;
            c->undecryptable_count++;
            continue;
        }
        struct address remote = p->remote;
        endpoint_receive(c->e, list->tunnel, &remote, list->buffer, list->length, (uint8_t)(list->flow >> 8), now);
        c->e->counters[COUNTER_udp_received]--;             /* it was counted when it came */
        packet_put_read(c->e, list);
    }
}
