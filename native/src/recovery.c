/* RTT, loss detection and PTO (RFC 9002), per path and space. The PTO counts from the last progress, not from the last
 * packet sent: a path that swallows a steady stream of small packets must become suspect too (design §4). */
#include "core.h"

uint64_t recovery_pto(const struct conn *c, const struct path *p)
{
    const struct recovery *r = &p->rec;
    uint64_t smoothed = r->sampled ? r->smoothed : INITIAL_RTT_NS, var = r->sampled ? r->var : INITIAL_RTT_NS / 2;
    uint64_t margin = 4 * var > PTO_MARGIN_NS ? 4 * var : PTO_MARGIN_NS;
    return smoothed + margin + (c->handshake_confirmed ? c->params.max_ack_delay_ns : 0);
}

/* RFC 9002 §7.6.1: without the margin of ours, with the delay of ACKs whatever the space. */
static uint64_t persistent_duration(const struct conn *c, const struct path *p)
{
    const struct recovery *r = &p->rec;
    uint64_t margin = 4 * r->var > GRANULARITY_NS ? 4 * r->var : GRANULARITY_NS;
    return 3 * (r->smoothed + margin + c->params.max_ack_delay_ns);
}

uint64_t conn_max_pto(const struct conn *c)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < c->path_count; i++) {
        const struct path *p = c->paths[i];
        if (p->state == PATH_UNUSED || (most && !p->rec.sampled))
            continue;
        uint64_t pto = recovery_pto(c, p);
        if (pto > most)
            most = pto;
    }
    return most ? most : 3 * INITIAL_RTT_NS;
}

void recovery_returned(struct path *p, uint32_t via)
{
    if (!RULE(MP_87, p->ack_via != via))
        return;
    p->ack_via = via;                   /* a sample is the sum of both ways: another way back, another minimum (RFC 10069 §5.4) */
    p->rec.min = NEVER;
    p->rec.restarted = true;
}

/* RFC 9002 §5. An ACK that waited longer than the peer promised could not leave in time, for the path was down or the ACK was
 * held back by the 3x limit: that says how long the outage was, not how long the path is. Such a sample is not taken from a
 * path that did not answer, and the first of a path, with nothing to compare, is taken without the delay (§5.3 would count
 * all beyond max_ack_delay as the network's, and a new path began with an RTT of seconds). False: no sample was taken. */
static bool rtt_sample(struct conn *c, struct path *p, uint64_t latest, uint64_t delay, uint64_t now)
{
    struct recovery *r = &p->rec;
    bool late = c->handshake_confirmed && delay > c->params.max_ack_delay_ns + GRANULARITY_NS;
    if (late && r->sampled && p->state != PATH_ACTIVE)
        return false;
    r->latest = latest ? latest : 1;
    if (!r->sampled) {
        if (late && r->latest > delay)
            r->latest -= delay;
        r->sampled = true;
        r->sampled_at = now;
        r->min = r->smoothed = r->latest;
        r->var = r->latest / 2;
        return true;
    }
    if (r->latest < r->min)
        r->min = r->latest;
    if (RULE(Q_124, c->handshake_confirmed && delay > c->params.max_ack_delay_ns))
        delay = c->params.max_ack_delay_ns;
    uint64_t adjusted = RULE(Q_125, r->latest < r->min + delay) ? r->latest : r->latest - delay;
    uint64_t deviation = r->smoothed > adjusted ? r->smoothed - adjusted : adjusted - r->smoothed;
    r->var = (3 * r->var + deviation) / 4;
    r->smoothed = (7 * r->smoothed + adjusted) / 8;
    return true;
}

/* ---- frames */

static void frame_acked(struct conn *c, struct frame_ref *r)
{
    struct frame *f = r->frame;
    if (!f->acked) {
        f->acked = true;
        if (!(f->flags & (FRAME_ONCE | FRAME_ENGINE))) {
            struct event ev = { .type = EVENT_ACKED, .path = f->path, .level = f->level, .token = f->token };
            event_push(c, &ev, NULL, 0);
        }
    }
    ref_put(c->e, r);
}

/* Whether an engine's frame that was lost still says something true and new (RFC 10069 §4.3, §4.6, §4.7). */
static bool frame_relevant(struct conn *c, const struct frame *f)
{
    struct frame_in in;
    if (f->flags & FRAME_NO_RESEND || frame_parse(f->bytes, f->length, f->level, true, &in))
        return false;
    struct path *p = path_find(c, in.path);
    switch (in.type) {
    case F_MAX_PATH_ID: return !RULE(MP_81, in.path != c->max_path_local);
    case F_PATHS_BLOCKED: return !RULE(MP_84, in.path != c->max_path_remote);
    case F_PATH_CIDS_BLOCKED: return !RULE(MP_84, !p || p->state != PATH_UNUSED || path_choose_dcid(p));
    case F_PATH_STATUS_AVAILABLE: case F_PATH_STATUS_BACKUP: return !RULE(MP_73, !p || in.sequence + 1 != p->status_sent);
    case F_PATH_ABANDON: return RULE(MP_69, true);
    case F_PATH_NEW_CONNECTION_ID: case F_PATH_RETIRE_CONNECTION_ID: return p && p->state != PATH_ABANDONED;
    default: return true;
    }
}

/* The last packet that carried it is lost. Early and engine frames go again; of the rest Python decides. */
static void frame_lost(struct conn *c, struct frame_ref *r)
{
    struct frame *f = r->frame;
    if (f->acked || f->refs > 1 || c->state != CONN_OPEN) {
        ref_put(c->e, r);
        return;
    }
    if (f->level != LEVEL_1RTT ? !(f->flags & FRAME_NO_RESEND) : f->flags & FRAME_ENGINE && frame_relevant(c, f)) {
        queue_push_front(&c->queue[f->level], r);
        conn_ready(c);
        return;
    }
    if (!(f->flags & (FRAME_ONCE | FRAME_ENGINE))) {
        struct event ev = { .type = EVENT_LOST, .path = f->path, .level = f->level, .token = f->token };
        event_push(c, &ev, NULL, 0);
    }
    ref_put(c->e, r);
}

static void frames_each(struct conn *c, struct sent *s, void (*fate)(struct conn *, struct frame_ref *))
{
    while (s->frames) {
        struct frame_ref *r = s->frames;
        s->frames = r->next;
        fate(c, r);
    }
}

/* Python's frames that wait for this path alone go nowhere any more: it is told that they are lost. */
void frames_forsake(struct conn *c, uint32_t path)
{
    struct frame_queue *q = &c->queue[LEVEL_1RTT];
    for (struct frame_ref **at = &q->head; c->state == CONN_OPEN && *at;)
        if ((*at)->frame->path == path && !((*at)->frame->flags & FRAME_ENGINE))
            frame_lost(c, queue_take(q, at));
        else
            at = &(*at)->next;
}

static void frame_drop(struct conn *c, struct frame_ref *r) { ref_put(c->e, r); }

/* Puts the frames in flight of a space into the queue once more, without declaring them lost (RFC 9002 §6.2.4, RFC 10069
 * §5.7: they may go on another path). */
void frames_repeat(struct conn *c, struct space *s, int level, uint32_t limit)
{
    for (uint64_t pn = s->base; pn < s->next_pn && limit; pn++) {
        struct sent *r = sent_get(s, pn);
        if (!r || !(r->flags & SENT_OUTSTANDING))
            continue;
        for (struct frame_ref *q = r->frames; q && limit; q = q->next) {
            struct frame *f = q->frame;
            if (f->acked || f->refs > (level == LEVEL_1RTT ? 2u : 8u) || f->flags & FRAME_NO_RESEND || f->path != ENGINE_PATH_ANY)
                continue;
            struct frame_ref *again = ref_get(c->e, f);
            if (!again)
                return;
            queue_push(&c->queue[level], again);
            limit--;
        }
    }
}

/* A path that answers nothing keeps none of them: its packets may stay in flight, neither acknowledged nor lost, for ever, and
 * frames_repeat passes over a frame that already lies in three of them. Each goes into the queue once, for the paths that answer. */
void frames_move(struct conn *c, struct space *s)
{
    for (uint64_t pn = s->base; pn < s->next_pn; pn++) {
        struct sent *r = sent_get(s, pn);
        if (!r || !(r->flags & SENT_OUTSTANDING))
            continue;
        for (struct frame_ref **at = &r->frames; *at;) {
            struct frame_ref *q = *at;
            struct frame *f = q->frame;
            if (!f->acked && (f->flags & FRAME_NO_RESEND || f->path != ENGINE_PATH_ANY)) {
                at = &q->next;
                continue;
            }
            *at = q->next;
            if (f->acked || f->refs > 1)
                ref_put(c->e, q);
            else
                queue_push(&c->queue[LEVEL_1RTT], q);
        }
    }
}

/* ---- sent */

void recovery_sent(struct path *p, struct space *s, struct sent *r, uint64_t now)
{
    r->time = now;
    p->last_sent = now;
    if (r->flags & SENT_IN_FLIGHT) {
        r->flags |= SENT_OUTSTANDING;
        if (p->cc.ops->sent)
            p->cc.ops->sent(&p->cc, p->rec.in_flight, &p->delivery, now);
        delivery_sent(&p->delivery, r, p->rec.in_flight, now);
        p->rec.in_flight += r->bytes;
    }
    if (r->flags & SENT_ELICITING) {
        p->last_eliciting = now;
        if (s->eliciting++ == 0)
            s->pto_from = now;
    }
}

static void base_advance(struct space *s)
{
    while (s->base < s->next_pn) {
        struct sent *r = sent_get(s, s->base);
        if (r && r->flags & SENT_OUTSTANDING)
            return;
        s->base++;
    }
}

static void packet_out(struct path *p, struct space *s, struct sent *r)
{
    if (r->flags & SENT_IN_FLIGHT)
        p->rec.in_flight -= r->bytes;
    if (r->flags & SENT_ELICITING)
        s->eliciting--;
    r->flags &= (uint8_t)~SENT_OUTSTANDING;
}

void space_discard(struct conn *c, struct path *p, struct space *s)
{
    bool silent = c->state != CONN_OPEN || s == &c->early[0] || s == &c->early[1];
    for (uint64_t pn = s->base; pn < s->next_pn; pn++) {
        struct sent *r = sent_get(s, pn);
        if (!r)
            continue;
        if (r->flags & SENT_OUTSTANDING) {
            packet_out(p, s, r);
            if (!silent)
                TRACE_PACKETS(c->e, trace_lost(p, s, r, pn));
            c->stats.packets_lost += !silent;
            c->stats.datagrams_lost += silent ? 0 : r->datagrams;
        }
        frames_each(c, r, silent ? frame_drop : frame_lost);
    }
    s->base = s->next_pn;
    s->loss_time = s->ack_at = NEVER;
    s->unacked = 0;
}

/* ---- lost */

static void packet_lost(struct conn *c, struct path *p, struct space *s, struct sent *r, uint64_t pn, uint64_t now)
{
    bool counts = r->flags & SENT_IN_FLIGHT && !(r->flags & SENT_MTU_PROBE) && pn >= p->rec.since;
    packet_out(p, s, r);
    r->flags |= SENT_LOST;
    TRACE_PACKETS(c->e, trace_lost(p, s, r, pn));
    if (counts) {
        p->delivery.lost += r->bytes;
        if (p->cc.ops->lost)
            p->cc.ops->lost(&p->cc, r, &p->delivery, now);
    }
    if (s == &p->space)
        resend_lost(p, r, pn, now);
    p->stats.packets_lost++;
    c->stats.packets_lost++;
    p->stats.datagrams_lost += r->datagrams;
    c->stats.datagrams_lost += r->datagrams;
    if (s == &p->space)
        ecn_lost(p, r, pn);
    pmtud_lost(p, r->bytes, r->flags & SENT_MTU_PROBE, now);
    if (s->lost_low == NONE)
        s->lost_low = pn;
    s->lost_time = now;
    frames_each(c, r, frame_lost);
}

/* Now and then a packet number is left out: who acknowledges it acknowledges what it has not received, to be sent more
 * (RFC 9000 §21.4). Often at first, then ever more rarely, since each costs the peer an ACK range. */
static void number_skip(struct conn *c, struct space *s)
{
    uint32_t chance;
    random_bytes(c->e, &chance, sizeof chance);
    if (s->skip_at && sent_add(s))
        s->skipped[s->skips++ % LIMIT_SKIPS] = s->next_pn - 1;
    uint32_t doublings = s->skips < 7 ? s->skips : 7;
    s->skip_at = s->next_pn + SKIP_LEAST + chance % (SKIP_LEAST << doublings);
}

/* The record of the next packet. When the ring is full, the oldest packet counts as lost. */
struct sent *recovery_record(struct conn *c, struct path *p, struct space *s)
{
    struct sent *r;
    if (s == &p->space && s->next_pn >= s->skip_at)
        number_skip(c, s);
    while (!(r = sent_add(s))) {
        struct sent *oldest = sent_get(s, s->base);
        if (!oldest)
            return NULL;
        packet_lost(c, p, s, oldest, s->base, c->e->now);
        base_advance(s);
    }
    return r;
}

void recovery_detect(struct conn *c, struct path *p, struct space *s, uint64_t now)
{
    s->loss_time = NEVER;
    if (s->largest_acked == NONE)
        return;
    uint64_t rtt = p->rec.latest > p->rec.smoothed ? p->rec.latest : p->rec.smoothed;
    uint64_t delay = rtt + (rtt >> p->rec.patience);
    delay = delay > GRANULARITY_NS ? delay : GRANULARITY_NS;
    uint64_t newest = 0, run_from = 0, run = 0;
    uint32_t lost = 0;
    for (uint64_t pn = s->base; pn < s->largest_acked; pn++) {
        struct sent *r = sent_get(s, pn);
        if (!r || !(r->flags & SENT_OUTSTANDING)) {
            if (RULE(Q_144, r && r->flags & SENT_ACKED))
                run_from = 0;
            continue;
        }
        if (RULE(Q_126, s->largest_acked - pn < p->rec.threshold) && r->time + delay > now) {
            s->loss_time = RULE(Q_127, true) ? r->time + delay : NEVER;
            break;                      /* those behind are younger still */
        }
        bool probe = RULE(Q_118, r->flags & SENT_MTU_PROBE);        /* of the MTU: no sign of congestion (RFC 9000 §14.4) */
        if (r->flags & SENT_IN_FLIGHT && !probe && pn >= p->rec.since)
            newest = r->time;
        if (r->flags & SENT_ELICITING && !probe && pn >= p->rec.since &&
            !RULE(Q_143, !p->rec.sampled || r->time <= p->rec.sampled_at)) {
            run_from = run_from ? run_from : r->time;
            run = r->time - run_from > run ? r->time - run_from : run;
        }
        packet_lost(c, p, s, r, pn, now);
        lost += !probe;
    }
    base_advance(s);
    if (RULE(Q_140, newest)) {
        congestion_event(&(RULE(R_55, true) ? p : c->paths[0])->cc, newest, lost, &p->delivery, now);    /* its own: RFC 10069 §5.3 */
        /* RFC 9002 §7.6: two that ask for an ACK, nothing between them acknowledged, both sent after the first RTT sample */
        if (RULE(Q_142, run > 0 && run > persistent_duration(c, p))) {
            congestion_persistent(&p->cc);
            p->rec.min = p->rec.latest;
        }
        conn_ready(c);
    }
}

/* ---- acknowledged */

struct ack_walk {
    uint64_t bytes, growth;             /* in flight until now; of them, what may let the window grow */
    uint64_t marked;                    /* packets with ECT(0) */
    bool any, eliciting, largest_new, sampled;
    uint64_t largest_time;
    struct rate_sample sample;
};

static void packet_acked(struct conn *c, struct path *p, struct space *s, uint64_t pn, struct sent *r, struct ack_walk *w,
                         uint64_t now)
{
    if (r->flags & SENT_ACKED)
        return;
    bool lost = r->flags & SENT_LOST;
    r->flags |= SENT_ACKED;
    TRACE_PACKETS(c->e, trace_acked(p, s, pn));
    w->marked += r->marked;
    if (s == &p->space)
        pmtud_acked(p, r->bytes, r->flags & SENT_MTU_PROBE, now);
    if (r->ack_largest != NONE) {       /* the peer has our ACK: its ranges need not be told again */
        struct path *of = path_find(c, r->ack_path);
        struct space *space = s == &c->early[0] || s == &c->early[1] ? s : of ? &of->space : NULL;
        if (RULE(Q_97, space))
            ranges_forget(&space->ranges, r->ack_largest);
    }
    if (lost) {                         /* it was only late: be more patient (RFC 9002 §6.1.1) */
        uint64_t distance = s->largest_acked != NONE && s->largest_acked > pn ? s->largest_acked - pn : 0;
        p->stats.packets_spurious++;
        p->spurious_at = now;
        if (RULE(R_65, distance >= p->rec.threshold))
            p->rec.threshold = distance < 127 ? (uint32_t)distance + 1 : 128;
        p->rec.patience -= RULE(R_65, p->rec.patience > 0);
        if (r->flags & SENT_IN_FLIGHT && pn >= p->rec.since)
            p->delivery.delivered += r->bytes;
        if (RULE(R_65, true))
            congestion_spurious(&p->cc, r->time);
        return;
    }
    p->stats.packets_acked++;
    w->any = true;
    if (s == &p->space)
        resend_acked(p, r, pn);
    if (r->flags & SENT_OUTSTANDING) {
        w->eliciting |= (r->flags & SENT_ELICITING) != 0;
        if (pn >= p->rec.since) {
            w->bytes += r->bytes;
            if (!(r->flags & SENT_APP_LIMITED) && r->time > p->cc.recovery_start)
                w->growth += r->bytes;
            delivery_acked(&p->delivery, r, &w->sample, now);
        }
        packet_out(p, s, r);
    }
    frames_each(c, r, frame_acked);
}

/* RFC 6356 §3: over the paths that carry data. */
static struct cc_group group_of(const struct conn *c)
{
    struct cc_group g = { 0 };
    for (uint32_t i = 0; i < c->path_count; i++) {
        const struct path *p = c->paths[i];
        if (p->state != PATH_ACTIVE || !p->rec.sampled)
            continue;
        double cwnd = (double)p->cc.cwnd, rtt = (double)p->rec.smoothed / 1e9, best = cwnd / (rtt * rtt);
        g.cwnd += cwnd;
        g.sum += cwnd / rtt;
        g.best = best > g.best ? best : g.best;
    }
    return g;
}

static void controller_acked(struct conn *c, struct path *p, struct space *s, struct ack_walk *w, uint64_t largest,
                             uint64_t now)
{
    delivery_sample(&p->delivery, &w->sample, p->rec.min == NEVER ? 0 : p->rec.min);
    gauge_sample(p, &w->sample, now);
    struct cc_group group;
    struct cc_ack a = { .now = now, .bytes = w->bytes, .growth = w->growth, .largest = largest, .next_pn = s->next_pn,
                        .rtt = w->sampled ? p->rec.latest : 0, .smoothed = p->rec.smoothed, .rtt_restart = p->rec.restarted,
                        .in_flight = p->rec.in_flight, .sample = &w->sample };
    if (p->cc.ops->coupled) {
        group = group_of(c);
        a.group = &group;
    }
    p->rec.restarted = false;
    split_sample(p, &w->sample, a.rtt, now);
    p->cc.ops->acked(&p->cc, &a, &p->delivery);
}

uint64_t recovery_acked(struct conn *c, struct path *p, struct space *s, int level, const struct frame_in *f, uint64_t now)
{
    if (RULE(Q_49, RULE(MP_67, f->largest >= s->next_pn)))
        return PROTOCOL_VIOLATION;      /* RFC 9000 §13.1 */
    struct reader check = { f->ranges, f->ranges_end, false };
    for (uint64_t i = 0, last = f->largest, n = f->first_range;; i++) {
        if (RULE(Q_48, space_is_skipped(s, last - n, last)))
            return PROTOCOL_VIOLATION;  /* §21.4 */
        if (i == f->range_count)
            break;
        last -= n + read_varint(&check) + 2;
        n = read_varint(&check);
    }
    if (s->lost_low != NONE && now - s->lost_time > 3 * recovery_pto(c, p))
        s->lost_low = NONE;
    uint64_t low = s->lost_low < s->base ? s->lost_low : s->base;
    if (s->next_pn > s->capacity && low < s->next_pn - s->capacity)
        low = s->next_pn - s->capacity;
    struct ack_walk w = { 0 };
    struct reader ranges = { f->ranges, f->ranges_end, false };
    uint64_t high = f->largest, length = f->first_range;
    for (uint64_t i = 0;; i++) {
        uint64_t from = high - length > low ? high - length : low;
        for (uint64_t pn = high; pn >= from && pn != NONE && high >= low; pn--) {
            struct sent *r = sent_get(s, pn);
            if (!r)
                break;
            bool fresh = !(r->flags & (SENT_ACKED | SENT_LOST));
            packet_acked(c, p, s, pn, r, &w, now);
            if (pn == f->largest && fresh) {
                w.largest_new = true;
                w.largest_time = r->time;
            }
        }
        if (i == f->range_count || high - length <= low)
            break;
        uint64_t gap = read_varint(&ranges), next = read_varint(&ranges);
        high = high - length - gap - 2;
        length = next;
    }
    TRACE_PACKETS(c->e, trace_acked_flush(p, s));
    bool raises = s->largest_acked == NONE || f->largest > s->largest_acked;
    if (raises)
        s->largest_acked = f->largest;
    bool marks = s == &p->space && !RULE(Q_102, !raises) && ecn_acked(p, f, w.marked);
    if (level == LEVEL_1RTT && !c->phase_acked && f->largest >= p->phase_first_sent && w.any) {
        c->phase_acked = true;          /* RFC 10069 §2.5: three PTOs of the slowest path from here */
        c->update_from = now + 3 * conn_max_pto(c);
    }
    if (!w.any)
        return 0;
    if (!RULE(Q_122, !w.largest_new) && !RULE(Q_123, !w.eliciting) && (s != &p->space || f->largest >= p->rec.since)) {
        uint64_t delay = level == LEVEL_INITIAL || f->delay > 1u << 30 ? 0
                         : (f->delay << c->params.ack_delay_exponent) * 1000;
        w.sampled = rtt_sample(c, p, now - w.largest_time, delay, now);
    }
    base_advance(s);
    recovery_detect(c, p, s, now);
    if (RULE(Q_105, marks))             /* RFC 9002 §7.1: CE is congestion, when the largest acknowledged was sent */
        congestion_event(&p->cc, sent_get(s, f->largest) ? sent_get(s, f->largest)->time : now, 0, &p->delivery, now);
    controller_acked(c, p, s, &w, f->largest, now);
    if (w.eliciting) {                  /* an ACK of our ACKs says nothing of what is still unanswered */
        s->pto_from = now;
        if (!RULE(Q_131, !c->server && level == LEVEL_INITIAL))
            p->rec.pto_count = 0;       /* RFC 9002 §6.2.1: a client backs off until the server knows its address */
        if (level == LEVEL_1RTT)
            path_answered(p);
    }
    TRACE_PACKETS(c->e, trace_recovery(p, s));
    conn_ready(c);
    return 0;
}

/* ---- timers */

uint64_t recovery_deadline(struct conn *c, struct path *p, struct space *s, int level)
{
    if (s->loss_time != NEVER)
        return s->loss_time;
    if (level != LEVEL_1RTT && !c->keys[level].send)
        return NEVER;
    uint64_t least = level != LEVEL_1RTT && c->early[LEVEL_INITIAL].eliciting ? 1200 : 100;      /* RFC 9000 §14.1 */
    if (RULE(Q_132, c->server && path_amplification_left(p) < least))
        return NEVER;                   /* RFC 9002 §6.2.2.1: the client's packet will set us going */
    uint64_t from = s->pto_from;
    if (!s->eliciting) {
        /* RFC 9002 §6.2.2.1: a client whose address the server may not know yet keeps the handshake going */
        int highest = c->keys[LEVEL_HANDSHAKE].send ? LEVEL_HANDSHAKE : LEVEL_INITIAL;
        if (c->server || c->handshake_confirmed || level != highest || !RULE(Q_133, true))
            return NEVER;
        from = from > p->last_sent ? from : p->last_sent;
        from = from > c->started ? from : c->started;   /* nothing was sent yet: its ClientHello is on its way from Python */
    }
    if (level == LEVEL_1RTT && (RULE(Q_130, !c->handshake_confirmed) ||
                                (p->state != PATH_ACTIVE && p->state != PATH_SUSPECT && p->state != PATH_FAILED)))
        return NEVER;
    uint64_t period = recovery_pto(c, p) << RULE(Q_128, p->rec.pto_count < 6 ? p->rec.pto_count : 6);
    if ((p->state == PATH_SUSPECT || p->state == PATH_FAILED) && period > PROBE_INTERVAL_NS)
        period = PROBE_INTERVAL_NS;
    return from + period;
}

/* Both early spaces again, in one datagram: what is missing of a flight is seldom only one of them (RFC 9002 §6.2.4). */
void early_repeat(struct conn *c, int probe, uint64_t now)
{
    for (int level = LEVEL_INITIAL; level <= LEVEL_HANDSHAKE; level++) {
        struct space *s = &c->early[level];
        if (!c->keys[level].send || (level != probe && !RULE(Q_134, s->eliciting)))
            continue;
        frames_repeat(c, s, level, LIMIT_FRAMES_EARLY);
        c->early_probes[level] = 1;
        s->pto_from = now;
    }
    conn_ready(c);
}

void recovery_timeout(struct conn *c, struct path *p, struct space *s, int level, uint64_t now)
{
    if (s->loss_time != NEVER) {
        recovery_detect(c, p, s, now);
        return;
    }
    s->pto_from = now;
    p->rec.pto_count++;
    TRACE_PACKETS(c->e, trace_recovery(p, s));
    if (level == LEVEL_1RTT) {
        path_pto(p, now);
    } else if (RULE(R_53, true)) {
        early_repeat(c, level, now);
    }
    conn_ready(c);
}
