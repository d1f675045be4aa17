/* Inner packets of a path's queue -> a batch of equal 1-RTT packets, each with one DATAGRAM frame, sealed into the batch's buffer
 * (RFC 9221 §5, RFC 9297 §2.1, RFC 9484 §6), within the path's window and pacing. */
#include "core.h"

/* What stands between the short header and the inner packet: frame type, Quarter Stream ID, Context ID, sequence number. */
static size_t frame_head(uint64_t quarter_id, bool sequenced)
{
    return 1 + varint_size(quarter_id) + 1 + (sequenced ? SEQUENCE_LENGTH : 0);
}

static void frame_write(struct packet *k, uint64_t quarter_id, struct flow *f)
{
    size_t n = frame_head(quarter_id, f);
    k->offset = (uint16_t)(k->offset - n);
    k->length = (uint16_t)(k->length + n);
    uint8_t *q = k->buffer + k->offset;
    *q++ = F_DATAGRAM;
    q = put_varint(q, quarter_id);
    *q++ = f ? CONTEXT_SEQUENCED : 0;
    if (f)
        put_be32(q, k->number = k->twin ? k->number : f->sequence++);
}

/* RFC 9221 §3, and the path's MTU: else it goes without its number. */
static bool sequence_fits(const struct path *p, size_t frame, size_t header)
{
    return frame <= p->conn->params.max_datagram_frame_size && header + frame + AEAD_TAG_LENGTH <= p->pmtud.size;
}

static void header_write(const struct path *p, uint8_t *q, uint64_t pn)
{
    const struct conn *c = p->conn;
    *q++ = (uint8_t)(0x40 | (c->phase & 1) << 2 | (PN_LENGTH - 1));
    if (p->dcid->length == ENGINE_CID_LENGTH)   /* our own ends: a copy of a known length is one move */
        q = put_bytes(q, p->dcid->cid, ENGINE_CID_LENGTH);
    else
        q = put_bytes(q, p->dcid->cid, p->dcid->length);
    put_be32(q, (uint32_t)pn);
}

struct batch_state { struct aead_packet sealed[TX_BATCH]; struct packet *packets[TX_BATCH]; uint16_t keep[TX_BATCH]; size_t bytes; uint32_t n; };

static void account(struct path *p, struct batch_state *s, struct tunnel *t, const struct packet *k, struct sent *r, size_t inner,
                    size_t length, uint64_t now)
{
    struct conn *c = p->conn;
    r->bytes = (uint16_t)length;
    r->flags = SENT_ELICITING | SENT_IN_FLIGHT;
    r->datagrams = 1;
    recovery_sent(p, &p->space, r, now);
    pacer_sent(&p->pacer, length);
    s->bytes += length;
    if (!p->address_validated)
        p->amp_sent += length;
    p->stats.datagrams_sent++;
    p->stats.datagram_bytes_sent += inner;
    c->stats.datagrams_sent++;
    steering_sent(t, k, c->e->access[p->link], inner, now);
}

bool path_waits(const struct path *p)
{
    const struct fq *shared = &p->conn->split;
    return p->queue.packets || (shared->packets && shared->bytes > split_leaves(p));
}

/* A batch of packets from this queue, down to so many octets in it. */
static bool queue_transmit(struct path *p, struct fq *queue, uint64_t leave, struct tx_batch *b, uint64_t now)
{
    struct conn *c = p->conn;
    endpoint *e = c->e;
    if (!conn_seal_count(c, 0, now) || !p->dcid)
        return false;
    uint64_t rate = path_rate(p);
    struct batch_state s = { .n = 0 };
    uint8_t ecn = ecn_codepoint(p, true);   /* one for the batch */
    size_t segment = 0;
    bool held = false;                      /* by the pacer: the application has more */
    bool filled = false;                    /* nothing more fits the window: of one of few packets that is less than its part below */
    struct packet *k;
    while (s.n < TX_BATCH && queue->bytes > leave && (k = fq_peek(queue))) {
        __builtin_prefetch(k->next);    /* it was queued many packets ago */
        uint32_t at = binding_at(c, k->tunnel);
        const struct binding *binding = at < c->binding_count ? &c->bindings[at] : NULL;
        struct tunnel *t = tunnel_find(e, k->tunnel);
        if (!t || !binding) {           /* unbound meanwhile: to the connection that has it now */
            tunnel_requeue(e, c, fq_drop(queue), now);
            continue;
        }
        struct flow *f = sequence_flow(t, binding, k);
        size_t inner = k->length, header = 1 + p->dcid->length + PN_LENGTH;
        if (f && !sequence_fits(p, frame_head(binding->quarter_id, true) + inner, header))
            f = NULL;
        /* without its number it would be delivered beside the other one */
        if (k->twin && (!f || redundant_is_stale(p, f, k, now))) {
            tunnel_drop(e, fq_drop(queue), COUNTER_redundant_dropped);
            continue;
        }
        size_t length = header + frame_head(binding->quarter_id, f) + inner + AEAD_TAG_LENGTH;
        if (length > p->pmtud.size) {   /* it became smaller while the packet waited */
            tunnel_requeue(e, c, fq_drop(queue), now);     /* to a path that carries it, or its sender is told */
            continue;
        }
        if (s.n && (length > segment || s.bytes + length > TX_BATCH_BYTES))
            break;                      /* segments of a batch are equal, but the last; it leaves in one call */
        if (RULE(Q_137, p->rec.in_flight + length > p->cc.cwnd) || length > path_amplification_left(p)) {
            filled = true;
            break;
        }
        if (RULE(Q_145, pacer_allowance(&p->pacer, rate, length, now) <= 0)) {
            held = p->paced = true;     /* its timer makes the connection ready again */
            conn_touch(c);
            break;
        }
        if (fq_late(queue, now)) {
            if (!inner_mark_ce(k->buffer + k->offset)) {
                tunnel_drop(e, fq_drop(queue), COUNTER_path_queue_codel);
                continue;
            }
            COUNT(e, path_queue_ce);
        }
        struct sent *r = recovery_record(c, p, &p->space);
        if (!r)
            break;
        fq_pop(queue);
        int access = e->access[p->link];
        if (k->twin && access >= 0)
            f->left[access] = k->number + 1;
        uint64_t pn = p->space.next_pn - 1;
        uint8_t *out = b->buffer + s.bytes;
        frame_write(k, binding->quarter_id, f);
        header_write(p, out, pn);
        s.sealed[s.n] = (struct aead_packet){ .data = out, .text = k->buffer + k->offset, .payload_length = k->length,
            .header_length = (uint16_t)(1 + p->dcid->length + PN_LENGTH), .pn_length = PN_LENGTH, .packet_number = pn,
            .path_id = RULE(MP_14, c->multipath) ? p->id : 0 };
        TRACE_PACKETS(e, trace_packet(p, TRACE_PACKET_SENT, LEVEL_1RTT, pn, length, k->buffer + k->offset, k->length, false));
        s.packets[s.n] = k;
        s.keep[s.n] = f && !k->twin ? (uint16_t)inner : 0;
        b->iov[s.n] = (struct iovec){ out, length };
        segment = s.n ? segment : length;
        account(p, &s, t, k, r, inner, length, now);
        ecn_sent(p, r, ecn);
        s.n++;
        if (length < segment)
            break;
    }
    if (!s.n)
        return false;
    /* Application-limited: the window is not used, and what waits, if anything, goes in the next batch of this turn (RFC 9002
     * §7.8). A window that grows because a queue is sent in several batches has no bound, nor one that grows because now and then a
     * burst waits for the pacer: with less than half of it in flight the pacer is not what keeps it from being used. */
    uint64_t used = p->cc.cwnd < p->cc.ssthresh || held ? p->cc.cwnd / 2 : p->cc.cwnd / 4 * 3;
    if (!path_waits(p) && p->rec.in_flight < p->cc.cwnd)
        delivery_app_limited(&p->delivery, p->rec.in_flight);
    if (RULE(Q_146, !filled && p->rec.in_flight < used))
        for (uint32_t i = 0; i < s.n; i++)
            sent_get(&p->space, p->space.next_pn - 1 - i)->flags |= SENT_APP_LIMITED;
    aead_seal(c->keys[LEVEL_1RTT].send, s.sealed, s.n);
    for (uint32_t i = 0; i < s.n; i++) {
        uint64_t pn = s.sealed[i].packet_number;
        if (!s.keep[i] || !resend_keep(p, sent_get(&p->space, pn), pn, s.packets[i], s.keep[i], now))
            packet_put(e, s.packets[i]);        /* the next ones to be used: they are in the cache */
    }
    c->packets_under_key += RULE(MP_92, s.n);
    b->link = p->link;
    b->remote = p->remote;
    b->ecn = ecn;
    b->count = s.n;
    b->packet = NULL;
    b->segment_size = (uint16_t)segment;
    p->last_data = now;
    p->stats.packets_sent += s.n;
    p->stats.bytes_sent += s.bytes;
    c->stats.packets_sent += s.n;
    c->stats.bytes_sent += s.bytes;
    COUNT_N(e, packets_sent, s.n);
    COUNT_N(e, inner_sent, s.n);
    if (!c->idle_restarted) {
        c->idle_restarted = true;
        c->idle_from = now;
    }
    return true;
}

/* Its own packets and those it shares with other paths, in turns. */
bool path_transmit_tunnel(struct path *p, struct tx_batch *b, uint64_t now)
{
    struct conn *c = p->conn;
    uint64_t leave = c->split.packets ? split_leaves(p) : NEVER;
    bool shared = c->split.bytes > leave;
    if (p->queue.packets)
        fq_tune(&p->queue, path_rate(p), p->rec.sampled ? p->rec.min : 0);
    if (shared)
        split_tune(c);
    for (int turn = 0; turn < 2; turn++) {
        bool from_shared = (p->shared_next && shared) != (turn == 1);
        if (from_shared ? shared && queue_transmit(p, &c->split, leave, b, now) : p->queue.packets && queue_transmit(p, &p->queue, 0, b, now)) {
            p->shared_next = !from_shared;      /* not when nothing could leave: whose turn it is would be a matter of chance */
            return true;
        }
    }
    return false;
}
