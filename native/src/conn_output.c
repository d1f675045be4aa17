/* Packing: which frames go into the next datagram of a connection, coalescing, padding, ACKs, CONNECTION_CLOSE.
 * Order in a packet: DATAGRAM, then everything else, PATH_ACK last (design §4). */
#include "core.h"

/* One packet of a datagram that is being built. */
struct build {
    struct conn *c;
    struct path *path;
    struct space *space;
    struct sent *sent;
    int level;
    uint64_t pn;
    uint8_t *header, *length_at, *payload, *p, *end;
    struct frame_ref *frames, **frames_tail;
};

static struct space *space_of(struct conn *c, struct path *p, int level)
{
    return level == LEVEL_1RTT ? &p->space : &c->early[level];
}

static bool build_begin(struct build *b, struct conn *c, struct path *p, int level, uint8_t *at, uint8_t *end)
{
    size_t least = level == LEVEL_1RTT ? SHORT_HEADER + 32 : level == LEVEL_INITIAL ? 64u + c->token_length : 64;
    if (end - at < (ptrdiff_t)(least + AEAD_TAG_LENGTH))
        return false;
    *b = (struct build){ .c = c, .path = p, .level = level, .space = space_of(c, p, level), .header = at,
                         .end = end - AEAD_TAG_LENGTH };
    b->frames_tail = &b->frames;
    b->sent = recovery_record(c, p, b->space);
    if (!b->sent)
        return false;
    b->pn = b->space->next_pn - 1;
    uint8_t *q = at;
    if (level == LEVEL_1RTT) {
        *q++ = (uint8_t)(0x40 | (c->phase & 1) << 2 | (PN_LENGTH - 1));
        const struct peer_cid *to = RULE(MP_24, true) ? p->dcid : c->paths[0]->dcid;    /* of the same path id: RFC 10069 §3.1 */
        q = put_bytes(q, to->cid, to->length);
    } else {
        *q++ = (uint8_t)(0xc0 | (level == LEVEL_INITIAL ? 0 : 2) << 4 | (PN_LENGTH - 1));
        q = put_be32(q, 1);
        *q++ = p->dcid->length;
        q = put_bytes(q, p->dcid->cid, p->dcid->length);
        uint8_t source = RULE(MP_03, ENGINE_CID_LENGTH);    /* never empty: RFC 10069 §2.1 */
        *q++ = source;
        q = put_bytes(q, c->local_cid, source);
        if (level == LEVEL_INITIAL) {
            size_t token = RULE(Q_109, c->token_length);
            q = put_varint(q, token);
            q = put_bytes(q, c->token ? c->token : q, token);
        }
        b->length_at = q;
        q += 2;
    }
    q = put_be32(q, (uint32_t)b->pn);
    b->payload = b->p = q;
    return true;
}

static void build_cancel(struct build *b) { b->space->next_pn--; }

static size_t room(const struct build *b) { return (size_t)(b->end - b->p); }

/* ---- frames */

static bool ack_wanted(const struct space *s, uint64_t now) { return s->ack_at <= now && s->ranges.count; }

static void add_ack(struct build *b, struct space *s, struct path *of, uint64_t now)
{
    struct conn *c = b->c;
    bool ecn = RULE(Q_100, s->ecn[0] | s->ecn[1] | s->ecn[2]);
    bool path_ack = RULE(MP_12, c->multipath) && !RULE(MP_11, b->level != LEVEL_1RTT);
    if (!s->ranges.count || room(b) < 64)
        return;
    bool told = b->level != LEVEL_INITIAL && RULE(Q_98, true);
    uint64_t delay = told ? (now - s->largest_time) / 1000 >> c->e->config.ack_delay_exponent : 0;
    uint8_t *q = b->p, *end = b->end - (ecn ? 24 : 0);
    q = put_varint(q, (path_ack ? F_PATH_ACK : F_ACK) + (ecn ? 1 : 0));
    if (path_ack)
        q = put_varint(q, of->id);
    q = put_varint(q, s->ranges.r[0].last);
    q = put_varint(q, delay);
    uint8_t *count_at = q++;            /* at most 31 further ranges: one octet */
    q = put_varint(q, s->ranges.r[0].last - s->ranges.r[0].first);
    uint8_t count = 0;
    for (uint32_t i = 1; i < s->ranges.count && end - q >= 16; i++, count++) {
        q = put_varint(q, s->ranges.r[i - 1].first - s->ranges.r[i].last - 2);
        q = put_varint(q, s->ranges.r[i].last - s->ranges.r[i].first);
    }
    *count_at = count;
    for (int i = 0; ecn && i < 3; i++)
        q = put_varint(q, (RULE(MP_68, true) ? s : &c->paths[0]->space)->ecn[i]);    /* of the path acknowledged alone */
    b->p = q;
    b->sent->ack_largest = s->ranges.r[0].last;
    b->sent->ack_path = of->id;
    s->unacked = 0;
    s->ack_sent = now;
    s->ack_at = NEVER;
    if (b->level == LEVEL_1RTT)
        c->phase_ack_owed = false;
}

static void add_frames(struct build *b, bool any_path)
{
    struct frame_queue *q = &b->c->queue[b->level];
    for (struct frame_ref **at = &q->head; *at;) {
        struct frame *f = (*at)->frame;
        if (f->acked) {                 /* acknowledged while it waited to be repeated */
            ref_put(b->c->e, queue_take(q, at));
            continue;
        }
        bool here = f->path == ENGINE_PATH_ANY ? any_path : f->path == b->path->id;
        if (!here || f->length > room(b)) {
            if (here && f->path == ENGINE_PATH_ANY)
                break;                  /* keep the order */
            at = &(*at)->next;
            continue;
        }
        struct frame_ref *r = queue_take(q, at);
        b->p = put_bytes(b->p, f->bytes, f->length);
        b->sent->flags |= SENT_ELICITING;
        *b->frames_tail = r;
        b->frames_tail = &r->next;
    }
    *b->frames_tail = NULL;
}

static void add_datagrams(struct build *b)
{
    struct conn *c = b->c;
    while (c->datagrams && (size_t)c->datagrams->length + 4 <= room(b)) {
        struct packet *k = c->datagrams;
        c->datagrams = k->next;
        if (!c->datagrams)
            c->datagrams_tail = &c->datagrams;
        c->datagram_count--;
        b->p = put_varint(b->p, F_DATAGRAM_LENGTH);
        b->p = put_varint(b->p, k->length);
        b->p = put_bytes(b->p, k->buffer + k->offset, k->length);
        b->sent->flags |= SENT_ELICITING;
        b->sent->datagrams++;
        c->stats.datagrams_sent++;
        packet_put(c->e, k);
    }
}

static void add_challenge(struct build *b, uint64_t now)
{
    struct path *p = b->path;
    if (p->challenge_tries >= VALIDATION_TRIES || room(b) < 9)
        return;
    uint8_t *data = p->challenges[p->challenge_tries++];
    if (RULE(Q_56, true))
        random_bytes(b->c->e, data, 8); /* new each time: RFC 9000 §8.2.1 */
    *b->p++ = F_PATH_CHALLENGE;
    b->p = put_bytes(b->p, data, 8);
    b->sent->flags |= SENT_ELICITING;
    p->challenge_due = false;
    p->challenge_sent = now;
    p->challenge_at = now + (VALIDATION_INTERVAL_NS << (p->challenge_tries - 1));
}

/* ---- sealing */

/* Updates keys when it is time; false when no packet may be sealed any more (RFC 9001 §6.6). */
bool conn_seal_count(struct conn *c, uint32_t n, uint64_t now)
{
    const struct endpoint_config *g = &c->e->config;
    uint64_t update = g->key_update_packets ? g->key_update_packets : 1ull << 22;
    uint64_t limit = aead_confidentiality_limit(c->keys[LEVEL_1RTT].suite);
    if (g->close_after_packets && g->close_after_packets < limit)
        limit = g->close_after_packets;
    if (RULE(Q_46, c->packets_under_key >= update) && keys_may_update(c, now) && !keys_advance(c, false, now)) {
        conn_fail(c, INTERNAL_ERROR, 0, "key update");
        return false;
    }
    c->packets_under_key += RULE(MP_92, n);     /* of all paths: RFC 10069 §7.3 */
    if (c->packets_under_key < limit)
        return true;
    conn_fail(c, AEAD_LIMIT_REACHED, 0, "packets under one key");
    return false;
}

static uint8_t *build_finish(struct build *b, uint64_t now)
{
    struct conn *c = b->c;
    struct sent *r = b->sent;
    size_t payload = (size_t)(b->p - b->payload), header = (size_t)(b->payload - b->header);
    if (b->length_at) {
        size_t n = PN_LENGTH + payload + AEAD_TAG_LENGTH;
        b->length_at[0] = (uint8_t)(0x40 | n >> 8);
        b->length_at[1] = (uint8_t)n;
    }
    struct aead_packet k = { .data = b->header, .header_length = (uint16_t)header, .pn_length = PN_LENGTH,
                             .payload_length = (uint32_t)payload, .packet_number = b->pn,
                             .path_id = b->level == LEVEL_1RTT && RULE(MP_14, c->multipath) ? b->path->id : 0 };
    TRACE_PACKETS(c->e, trace_packet(b->path, TRACE_PACKET_SENT, b->level, b->pn, header + payload + AEAD_TAG_LENGTH, b->payload, payload,
                             r->flags & SENT_MTU_PROBE));
    aead_seal(c->keys[b->level].send, &k, 1);
    uint8_t *end = b->p + AEAD_TAG_LENGTH;
    r->bytes = (uint16_t)(end - b->header);
    r->frames = b->frames;
    if (r->flags & SENT_ELICITING)
        r->flags |= SENT_IN_FLIGHT;
    r->flags |= SENT_APP_LIMITED;       /* control packets do not make the window grow */
    if (!path_waits(b->path))           /* nor do they show how fast the path is */
        delivery_app_limited(&b->path->delivery, b->path->rec.in_flight);
    recovery_sent(b->path, b->space, r, now);
    if (r->flags & SENT_ELICITING && !c->idle_restarted) {
        c->idle_restarted = true;       /* RFC 9000 §10.1: the first since something came */
        c->idle_from = now;
    }
    b->path->stats.packets_sent++;
    b->path->stats.bytes_sent += r->bytes;
    c->stats.packets_sent++;
    c->stats.bytes_sent += r->bytes;
    COUNT(c->e, packets_sent);
    return end;
}

static void pad(struct build *b, uint8_t *to)
{
    if (to > b->end)
        to = b->end;
    if (b->p >= to)
        return;
    memset(b->p, 0, (size_t)(to - b->p));
    b->p = to;
    b->sent->flags |= SENT_IN_FLIGHT;
}

void batch_one(struct tx_batch *b, struct packet *k, uint32_t link, const struct address *remote)
{
    b->link = link;
    b->remote = *remote;
    b->ecn = 0;
    b->count = 1;
    b->segment_size = k->length;
    b->packet = k;
    b->iov[0] = (struct iovec){ k->buffer + k->offset, k->length };
}

/* Size of a datagram of control frames on this path; 0 when the 3x limit leaves no room. */
static size_t datagram_limit(struct conn *c, struct path *p, size_t least)
{
    const struct endpoint_config *g = &c->e->config;
    size_t n = g->validation_size < g->max_udp_payload ? g->validation_size : g->max_udp_payload;
    n = RULE(Q_155, true) ? n : 1200;   /* what a tunnel with an MTU of 1280 needs: RFC 9484 §7.2 */
    if (c->have_params && c->params.max_udp_payload_size >= 1200 && c->params.max_udp_payload_size < n)
        n = c->params.max_udp_payload_size;
    uint64_t left = path_amplification_left(p);
    if (left < n)
        n = (size_t)left;
    if (n < least) {
        COUNT(c->e, anti_amplification);
        return 0;
    }
    return n;
}

static bool datagram_done(struct path *p, struct packet *k, uint8_t *end, struct tx_batch *out, uint32_t link,
                          const struct address *remote, uint8_t ecn)
{
    k->length = (uint16_t)(end - (k->buffer + k->offset));
    if (!p->address_validated && link == p->link && address_equal(remote, &p->remote))
        p->amp_sent += k->length;       /* what goes to the address that the peer left has a limit of its own */
    batch_one(out, k, link, remote);
    out->ecn = ecn;
    return true;
}

/* ---- 1-RTT */

static bool acks_itself(const struct path *p)
{
    return path_speaks(p) && (p->state == PATH_ACTIVE || p->state == PATH_VALIDATING);
}

/* ACKs of path q travel on q while it answers, else on the best other path. */
static bool carries_ack(const struct path *p, const struct path *best, const struct path *q)
{
    return q == p ? acks_itself(p) || p == best : p == best && RULE(MP_62, !acks_itself(q));
}

static bool has_frames(struct conn *c, const struct path *p, bool any_path)
{
    for (struct frame_ref *r = c->queue[LEVEL_1RTT].head; r; r = r->next)
        if (r->frame->path == ENGINE_PATH_ANY ? any_path : r->frame->path == p->id)
            return true;
    return any_path && c->datagrams;
}

static bool control_wanted(struct conn *c, struct path *p, struct path *best, uint64_t now)
{
    if (p->challenge_due || p->response_count || RULE(Q_138, p->probes))       /* RFC 9002 §7.5: whatever is in flight */
        return true;
    for (uint32_t i = 0; i < c->path_count; i++)
        if (ack_wanted(&c->paths[i]->space, now) && carries_ack(p, best, c->paths[i]))
            return true;
    return p->rec.in_flight < p->cc.cwnd && c->handshake_complete && has_frames(c, p, p == best);
}

/* One who only receives knows neither whether its ACKs arrive nor how long the path is (RFC 9000 §13.2.4). Only in an ACK of
 * several packets: an answer to such a PING acknowledges one, so that two ends never keep each other busy. */
static bool asks_for_ack(const struct path *p, uint64_t now)
{
    const struct space *s = &p->space;
    return p->state == PATH_ACTIVE && s->ack_at != NEVER && s->unacked > 1 && !s->eliciting &&
           !RULE(Q_96, now - p->last_eliciting < ACK_PING_NS);
}

static void build_1rtt(struct build *b, struct path *best, uint64_t now, bool *padded, struct path_response *to)
{
    struct conn *c = b->c;
    struct path *p = b->path;
    bool window = !RULE(MP_86, p->rec.in_flight >= p->cc.cwnd) || p->probes;
    uint8_t *end = b->end;
    b->end -= room(b) > 300 ? 160 : 0;  /* what ACKs may need */
    if (window && p == best && c->handshake_complete)
        add_datagrams(b);
    while (p->response_count && room(b) >= 9) {
        struct path_response *r = &p->responses[p->response_count - 1];
        if (*padded && !(to->link == r->link && address_equal(&to->remote, &r->remote)))
            break;                      /* each answer goes where its challenge came from: RFC 9000 §8.2.2 */
        *to = *r;
        *b->p++ = r->type;
        b->p = put_bytes(b->p, r->data, 8);
        b->sent->flags |= SENT_ELICITING;
        p->response_count--;
        *padded = true;
    }
    bool elsewhere = *padded && !(to->link == p->link && address_equal(&to->remote, &p->remote));
    if (p->challenge_due && !elsewhere) {
        add_challenge(b, now);
        *padded = true;
    }
    if (window && c->handshake_complete && !elsewhere)
        add_frames(b, p == best);
    b->end = end;
    if (p->probes && !elsewhere) {
        p->probes--;
        if (RULE(Q_129, !(b->sent->flags & SENT_ELICITING) && room(b))) {
            *b->p++ = F_PING;
            b->sent->flags |= SENT_ELICITING;
        }
    }
    if (!elsewhere && !(b->sent->flags & SENT_ELICITING) && window && asks_for_ack(p, now) && carries_ack(p, best, p) && room(b)) {
        *b->p++ = F_PING;
        b->sent->flags |= SENT_ELICITING;
    }
    for (uint32_t i = 0; i < c->path_count && !elsewhere; i++) {
        struct path *q = c->paths[i];
        if (q->space.ack_at != NEVER && carries_ack(p, best, q))
            add_ack(b, &q->space, q, now);
    }
}

static bool control_transmit(struct conn *c, struct path *p, struct path *best, struct tx_batch *out, uint64_t now)
{
    if (!conn_seal_count(c, 1, now))
        return false;
    size_t n = datagram_limit(c, p, 64);
    const struct path_response *next = p->response_count ? &p->responses[p->response_count - 1] : NULL;
    if (next && !(next->link == p->link && address_equal(&next->remote, &p->remote)) && RULE(Q_27, next->limit < n))
        n = next->limit;
    struct packet *k = n ? packet_get(c->e) : NULL;
    if (!k)
        return false;
    uint8_t *start = k->buffer + k->offset;
    struct build b;
    bool padded = false;
    struct path_response to = { .link = p->link, .remote = p->remote };
    if (!build_begin(&b, c, p, LEVEL_1RTT, start, start + n)) {
        packet_put(c->e, k);
        return false;
    }
    uint32_t challenges = p->challenge_tries;
    build_1rtt(&b, best, now, &padded, &to);
    if (p->challenge_tries > challenges && n >= 1200)
        p->challenges_full |= 1u << challenges;
    if (b.p == b.payload) {
        build_cancel(&b);
        packet_put(c->e, k);
        return false;
    }
    if (RULE(Q_57, RULE(MP_30, padded)))
        pad(&b, start + n - AEAD_TAG_LENGTH);
    bool here = to.link == p->link && address_equal(&to.remote, &p->remote);
    uint8_t ecn = here ? ecn_codepoint(p, b.sent->flags & SENT_ELICITING) : 0;
    ecn_sent(p, b.sent, ecn);
    uint8_t *end = build_finish(&b, now);
    return datagram_done(p, k, end, out, to.link, &to.remote, ecn);
}

static bool probe_transmit(struct conn *c, struct path *p, struct tx_batch *out, uint64_t now)
{
    if (p->rec.in_flight + p->pmtud.probe > p->cc.cwnd || !conn_seal_count(c, 1, now))
        return false;
    struct packet *k = packet_get(c->e);
    if (!k)
        return false;
    struct build b;
    uint8_t *start = k->buffer + k->offset;
    if (!build_begin(&b, c, p, LEVEL_1RTT, start, start + p->pmtud.probe)) {
        packet_put(c->e, k);
        return false;
    }
    *b.p++ = F_PING;
    b.sent->flags |= SENT_ELICITING | SENT_MTU_PROBE;
    pad(&b, b.end);
    pmtud_sent(p);
    return datagram_done(p, k, build_finish(&b, now), out, p->link, &p->remote, 0);
}

/* ---- Initial and Handshake, coalesced (and 1-RTT behind them) */

static bool early_wanted(struct conn *c, struct path *p, int level, uint64_t now)
{
    if (!c->keys[level].send)
        return false;
    bool window = p->rec.in_flight < p->cc.cwnd;
    return c->early_probes[level] || ack_wanted(&c->early[level], now) || (window && c->queue[level].head);
}

static bool early_transmit(struct conn *c, struct path *p, struct tx_batch *out, uint64_t now)
{
    bool initial = early_wanted(c, p, LEVEL_INITIAL, now), handshake = early_wanted(c, p, LEVEL_HANDSHAKE, now);
    if ((!initial && !handshake) || !p->dcid)
        return false;
    size_t n = datagram_limit(c, p, initial ? 1200 : 100);
    struct packet *k = n ? packet_get(c->e) : NULL;
    if (!k)
        return false;
    uint8_t *start = k->buffer + k->offset, *at = start;
    struct build builds[2];
    int count = 0;
    bool eliciting = false;
    for (int level = LEVEL_INITIAL; level <= LEVEL_HANDSHAKE; level++) {
        struct build *b = &builds[count];
        if (!(level == LEVEL_INITIAL ? initial : handshake) || !build_begin(b, c, p, level, at, start + n))
            continue;
        bool window = p->rec.in_flight < p->cc.cwnd || c->early_probes[level];
        uint8_t *end = b->end;
        b->end -= 80;
        if (window)
            add_frames(b, true);
        b->end = end;
        if (c->early_probes[level]) {
            c->early_probes[level] = 0;
            if (!(b->sent->flags & SENT_ELICITING)) {
                *b->p++ = F_PING;
                b->sent->flags |= SENT_ELICITING;
            }
        }
        if (c->early[level].ack_at != NEVER)
            add_ack(b, &c->early[level], p, now);
        if (b->p == b->payload) {
            build_cancel(b);
            continue;
        }
        eliciting |= level == LEVEL_INITIAL && b->sent->flags & SENT_ELICITING;
        count++;
        at = b->p + AEAD_TAG_LENGTH;
    }
    if (!count) {
        packet_put(c->e, k);
        return false;
    }
    /* RFC 9000 §14.1: every client datagram with an Initial, every server datagram with an ack-eliciting one */
    if (RULE(Q_09, builds[0].level == LEVEL_INITIAL && (!c->server || eliciting)))
        pad(&builds[count - 1], start + n - AEAD_TAG_LENGTH);
    uint8_t *end = start;
    for (int i = 0; i < count; i++)
        end = build_finish(&builds[i], now);
    if (RULE(Q_38, !c->server && builds[count - 1].level == LEVEL_HANDSHAKE))
        keys_discard(c, LEVEL_INITIAL); /* RFC 9001 §4.9.1 */
    return datagram_done(p, k, end, out, p->link, &p->remote, 0);
}

/* ---- CONNECTION_CLOSE (RFC 9000 §10.2.3: at every level that the peer may be able to read) */

static void add_close(struct build *b)
{
    struct conn *c = b->c;
    bool hide = RULE(Q_158, c->close_application && b->level != LEVEL_1RTT);
    size_t reason = hide ? 0 : c->close_reason_length;
    if (reason + 32 > room(b))
        reason = room(b) > 32 ? room(b) - 32 : 0;
    bool application = c->close_application && !hide;
    *b->p++ = application ? F_CLOSE_APPLICATION : F_CLOSE;
    b->p = put_varint(b->p, hide ? APPLICATION_ERROR : c->close_code);
    if (!application)
        b->p = put_varint(b->p, hide ? 0 : c->close_frame);
    b->p = put_varint(b->p, reason);
    b->p = put_bytes(b->p, c->close_reason, reason);
}

static bool close_on(struct conn *c, struct path *p, struct tx_batch *out, uint64_t now)
{
    size_t n = datagram_limit(c, p, 100);
    struct packet *k = n ? packet_get(c->e) : NULL;
    if (!k)
        return false;
    uint8_t *start = k->buffer + k->offset, *at = start, *end = start;
    struct build builds[3];
    int count = 0;
    bool initial = false;
    for (int level = LEVEL_INITIAL; level <= LEVEL_1RTT; level++) {
        bool usable = c->keys[level].send && (level == LEVEL_1RTT ? c->handshake_complete : p->id == 0 && !c->handshake_confirmed);
        if (!usable || !build_begin(&builds[count], c, p, level, at, start + n))
            continue;
        add_close(&builds[count]);
        initial |= level == LEVEL_INITIAL;
        at = builds[count++].p + AEAD_TAG_LENGTH;
    }
    if (initial && !c->server)
        pad(&builds[count - 1], start + n - AEAD_TAG_LENGTH);
    for (int i = 0; i < count; i++) {
        if (builds[i].level != LEVEL_1RTT && builds[i].p - builds[i].payload < 4)
            pad(&builds[i], builds[i].payload + 4);
        end = build_finish(&builds[i], now);
    }
    if (count)
        return datagram_done(p, k, end, out, p->link, &p->remote, 0);
    packet_put(c->e, k);
    return false;
}

static bool close_transmit(struct conn *c, struct tx_batch *out, uint64_t now)
{
    for (uint32_t i = 0; i < c->path_count; i++) {
        if (!(c->close_paths >> i & 1))
            continue;
        c->close_paths &= ~(1u << i);
        if (path_speaks(c->paths[i]) && close_on(c, c->paths[i], out, now))
            return true;
    }
    return false;
}

/* ---- the next batch of a connection */

static bool may_carry(const struct conn *c)
{
    return c->state == CONN_OPEN && c->keys[LEVEL_1RTT].send && c->handshake_complete;
}

bool path_transmit_full(struct path *p, struct tx_batch *b, uint64_t now)
{
    return may_carry(p->conn) && path_speaks(p) && path_transmit_tunnel(p, b, now);
}

bool conn_transmit(struct conn *c, struct tx_batch *out, uint64_t now)
{
    if (c->state == CONN_OPEN && !c->handshake_confirmed) {
        struct path *p = path_find(c, 0);
        if (p && early_transmit(c, p, out, now))
            return true;
    }
    if (may_carry(c)) {
        struct path *best = conn_best_path(c);
        if (c->split.packets)
            split_check(c, now);
        for (uint32_t i = 0; i < c->path_count && c->state == CONN_OPEN; i++) {
            struct path *p = c->paths[(c->path_cursor + i) % c->path_count];
            if (!path_speaks(p))
                continue;
            if ((pmtud_due(p, now) && probe_transmit(c, p, out, now)) ||
                (control_wanted(c, p, best, now) && control_transmit(c, p, best, out, now)) ||
                (c->state == CONN_OPEN && path_waits(p) && path_transmit_tunnel(p, out, now))) {
                c->path_cursor = (c->path_cursor + i + 1) % c->path_count;
                return true;
            }
        }
    }
    return close_transmit(c, out, now);
}
