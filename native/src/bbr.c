/* BBRv3 (draft-ietf-ccwg-bbr): a model of the path (bandwidth, round-trip time, how much in flight it bears) instead of a
 * window that grows until something is lost. Names and constants are the draft's.
 *
 * One rule differs, on purpose. The draft takes a loss rate above 2 % for congestion; on a radio access 5 % may be noise,
 * and then it gives up much of the bandwidth. Here 2 % counts while there is a queue (no RTT of the last round trip was
 * below 1.5 times the minimum); without one, a loss is congestion only above 10 % of what was in flight: more than noise, less than
 * the 20 % that probing with a gain of 1.25 loses at a very short queue. A CE mark counts as such a loss.
 *
 * And one is added: an access changes its delay (handover, another gateway). A minimum of before that is too low makes the
 * window too small, the bandwidth seen shrinks with it, and the draft's filter forgets only after 10 s. What is in flight,
 * two bandwidth-delay products at most, cannot by itself make the RTT more than twice the minimum: STALE_ROUNDS round trips above
 * 2.5 times are taken as a sign to measure it at once; if it has doubled, the search for bandwidth begins anew. */
#include "core.h"

enum state { STARTUP, DRAIN, PROBE_DOWN, PROBE_CRUISE, PROBE_REFILL, PROBE_UP, PROBE_RTT };
enum ack_phase { ACKS_INIT, ACKS_REFILLING, ACKS_PROBE_STARTING, ACKS_PROBE_FEEDBACK, ACKS_PROBE_STOPPING };

static const struct { double pacing, cwnd; } gains[] = {    /* draft §2.4, §5.6.1 */
    [STARTUP] = { 2.77, 2.0 }, [DRAIN] = { 0.5, 2.0 }, [PROBE_DOWN] = { 0.9, 2.0 }, [PROBE_CRUISE] = { 1.0, 2.0 },
    [PROBE_REFILL] = { 1.0, 2.0 }, [PROBE_UP] = { 1.25, 2.25 }, [PROBE_RTT] = { 1.0, 0.5 },
};
#define MS 1000000ull
#define MARGIN 0.99                     /* pace a little below the estimate: queues drain */
#define LOSS_THRESH 0.02
#define LOSS_THRESH_NOISE 0.10          /* without a queue, */
#define LOSSES_NOISE 3                  /* and so many datagrams more: a share of few is no share */
#define QUEUE_RTT 1.5
#define STARTUP_LOSSES 6                /* packets; fewer prove nothing */
#define BETA 0.7
#define HEADROOM 0.85
#define MIN_PIPE 4                      /* datagrams */
#define FULL_BW_GROWTH 1.25
#define FULL_BW_ROUNDS 3
#define RENO_ROUNDS_MOST 63
#define EXTRA_ROUNDS 5                  /* two windows of it: the draft's filter of 10 round trips */
#define DRAIN_ROUNDS 4                  /* no longer, whatever is in flight */
#define STALE_RTT 2.5
#define STALE_ROUNDS 4
#define PROBE_RTT_INTERVAL (5000 * MS)
#define PROBE_RTT_DURATION (200 * MS)
#define MIN_RTT_LENGTH (10000 * MS)
#define PROBE_WAIT (2000 * MS)          /* and up to 1 s more */

static uint64_t max64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t random_next(struct bbr *b)      /* splitmix64: only to keep flows from probing in step */
{
    uint64_t z = b->random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static uint64_t max_bw(const struct bbr *b) { return max64(b->max_bw[0], b->max_bw[1]); }
static uint64_t bw(const struct bbr *b) { return min64(max_bw(b), b->bw_short); }
static bool is_probe_bw(const struct bbr *b) { return b->state >= PROBE_DOWN && b->state <= PROBE_UP; }
static bool is_probing(const struct bbr *b) { return b->state == STARTUP || b->state == PROBE_REFILL || b->state == PROBE_UP; }

/* Octets in flight at this bandwidth and gain, and the little more that batches and delayed ACKs need. */
static uint64_t inflight(const struct congestion *cc, uint64_t rate, double gain)
{
    const struct bbr *b = &cc->u.bbr;
    if (b->min_rtt == NEVER)
        return 10 * cc->mds;
    uint64_t bdp = (uint64_t)(gain * (double)rate * (double)b->min_rtt / 1e9);
    uint64_t quantum = max64(rate / 1000, 2 * cc->mds);     /* the pacer's bursts of 1 ms */
    uint64_t n = max64(max64(bdp, 3 * quantum), MIN_PIPE * cc->mds);
    return b->state == PROBE_UP ? n + 2 * cc->mds : n;
}

static uint64_t inflight_headroom(const struct congestion *cc)
{
    const struct bbr *b = &cc->u.bbr;
    if (b->inflight_long == NEVER)
        return NEVER;
    return max64((uint64_t)((double)b->inflight_long * HEADROOM), MIN_PIPE * cc->mds);
}

static uint64_t target_inflight(const struct congestion *cc)
{
    return min64(inflight(cc, bw(&cc->u.bbr), 1.0), cc->cwnd);
}

static uint64_t probe_rtt_cwnd(const struct congestion *cc)
{
    return max64(inflight(cc, bw(&cc->u.bbr), gains[PROBE_RTT].cwnd), MIN_PIPE * cc->mds);
}

/* ---- states */

static void round_begin(struct bbr *b, const struct delivery *d) { b->next_round_delivered = d->delivered; }

static void full_bw_reset(struct bbr *b)
{
    b->full_bw = 0;
    b->full_count = 0;
    b->full_now = false;
}

static void bounds_short_reset(struct bbr *b) { b->bw_short = b->inflight_short = NEVER; }

static void probe_down(struct congestion *cc, const struct delivery *d, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    b->congested_in_round = false;
    b->bw_latest = b->inflight_latest = 0;
    b->probe_up_count = NEVER;
    b->rounds_since_probe = (uint32_t)(random_next(b) & 1);
    b->probe_wait = PROBE_WAIT + random_next(b) % (1000 * MS);
    b->cycle_stamp = now;
    b->ack_phase = ACKS_PROBE_STOPPING;
    round_begin(b, d);
    b->state = PROBE_DOWN;
}

static void probe_refill(struct bbr *b, const struct delivery *d)
{
    bounds_short_reset(b);
    b->probe_up_rounds = 0;
    b->probe_up_acks = 0;
    b->ack_phase = ACKS_REFILLING;
    round_begin(b, d);
    b->state = PROBE_REFILL;
}

/* How many octets acknowledged raise the long-term bound by one: twice as steep every round. */
static void slope_raise(struct congestion *cc)
{
    struct bbr *b = &cc->u.bbr;
    uint64_t growth = cc->mds << (b->probe_up_rounds < 30 ? b->probe_up_rounds++ : 30);
    b->probe_up_count = max64(cc->cwnd / growth, 1);
}

static void probe_up(struct congestion *cc, const struct delivery *d, const struct rate_sample *s, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    b->ack_phase = ACKS_PROBE_STARTING;
    round_begin(b, d);
    full_bw_reset(b);
    b->full_bw = s->rate;
    b->cycle_stamp = now;
    b->state = PROBE_UP;
    slope_raise(cc);
}

/* ---- the model */

static bool is_too_high(const struct congestion *cc, uint64_t lost, uint64_t in_flight)
{
    const struct bbr *b = &cc->u.bbr;
    if (b->last_round_rtt != NEVER && (double)b->last_round_rtt > QUEUE_RTT * (double)b->min_rtt)
        return (double)lost > (double)in_flight * LOSS_THRESH;
    return (double)lost > (double)in_flight * LOSS_THRESH_NOISE + (double)(LOSSES_NOISE * cc->mds);
}

/* What was in flight was more than the path bears. */
static void too_high(struct congestion *cc, uint64_t in_flight, bool app_limited, const struct delivery *d, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    b->probing = false;                 /* one answer per probe */
    if (!app_limited)
        b->inflight_long = max64(in_flight, (uint64_t)((double)target_inflight(cc) * BETA));
    if (b->state == PROBE_UP)
        probe_down(cc, d, now);
}

static void round_update(struct bbr *b, const struct cc_ack *a, const struct delivery *d)
{
    b->round_start = a->sample->prior_delivered >= b->next_round_delivered;
    if (a->rtt)
        b->round_rtt = min64(b->round_rtt, a->rtt);
    if (!b->round_start)
        return;
    round_begin(b, d);
    b->rounds_since_probe++;
    b->last_round_rtt = b->round_rtt;
    b->drain_rounds += b->state == DRAIN;
    bool high = is_probe_bw(b) && b->last_round_rtt != NEVER && (double)b->last_round_rtt > STALE_RTT * (double)b->min_rtt;
    b->stale_rounds = high ? b->stale_rounds + 1 : 0;
    b->round_rtt = NEVER;
}

/* Short-term bounds: what the last round trip delivered, when it was congested. */
static void bounds_short(struct congestion *cc)
{
    struct bbr *b = &cc->u.bbr;
    if (is_probing(b) || !b->congested_in_round)
        return;
    uint64_t rate = b->bw_short == NEVER ? max_bw(b) : b->bw_short;
    uint64_t most = b->inflight_short == NEVER ? cc->cwnd : b->inflight_short;
    b->bw_short = max64(b->bw_latest, (uint64_t)((double)rate * BETA));
    b->inflight_short = max64(b->inflight_latest, (uint64_t)((double)most * BETA));
}

static void startup_loss(struct congestion *cc)
{
    struct bbr *b = &cc->u.bbr;
    if (b->state != STARTUP || b->full_reached || !b->congested_in_round || b->round_losses < STARTUP_LOSSES)
        return;
    b->full_reached = true;
    b->inflight_long = max64(inflight(cc, max_bw(b), 1.0), b->inflight_latest);
}

static void signals_update(struct congestion *cc, const struct cc_ack *a, const struct delivery *d)
{
    struct bbr *b = &cc->u.bbr;
    const struct rate_sample *s = a->sample;
    b->bw_latest = max64(b->bw_latest, s->rate);
    b->inflight_latest = max64(b->inflight_latest, s->delivered);
    b->loss_round_start = s->prior_delivered >= b->loss_round_delivered;
    if (s->rate && (s->rate >= max_bw(b) || !s->app_limited))
        b->max_bw[0] = max64(b->max_bw[0], s->rate);
    if (!b->loss_round_start)
        return;
    uint64_t lost = d->lost - b->round_lost_from, delivered = d->delivered - b->round_delivered_from;
    b->congested_in_round |= is_too_high(cc, lost, lost + delivered);
    bounds_short(cc);
    startup_loss(cc);
    b->congested_in_round = false;
    b->round_losses = 0;
    b->round_lost_from = d->lost;
    b->round_delivered_from = b->loss_round_delivered = d->delivered;
}

static void signals_advance(struct bbr *b, const struct rate_sample *s)
{
    if (!b->loss_round_start)
        return;
    b->bw_latest = s->rate;
    b->inflight_latest = s->delivered;
}

/* More acknowledged at once than the bandwidth explains: batches on the way, delayed ACKs. The window allows for it. */
static void aggregation_update(struct congestion *cc, const struct cc_ack *a)
{
    struct bbr *b = &cc->u.bbr;
    uint64_t expected = (uint64_t)((double)bw(b) * (double)(a->now - b->extra_stamp) / 1e9);
    if (b->extra_delivered <= expected) {
        b->extra_delivered = expected = 0;
        b->extra_stamp = a->now;
    }
    b->extra_delivered += a->bytes;
    if (b->round_start && ++b->extra_rounds >= EXTRA_ROUNDS) {
        b->extra_rounds = 0;
        b->extra[1] = b->extra[0];
        b->extra[0] = 0;
    }
    b->extra[0] = max64(b->extra[0], min64(b->extra_delivered - expected, cc->cwnd));
}

static void full_bw_check(struct bbr *b, const struct rate_sample *s)
{
    if (b->full_now || s->app_limited)
        return;
    if ((double)s->rate >= (double)b->full_bw * FULL_BW_GROWTH) {
        full_bw_reset(b);
        b->full_bw = s->rate;
        return;
    }
    if (!b->round_start)
        return;
    b->full_now = ++b->full_count >= FULL_BW_ROUNDS;
    b->full_reached |= b->full_now;
}

/* Long-term bound: tried upwards while nothing is lost for it. */
static void bounds_long(struct congestion *cc, const struct cc_ack *a, const struct delivery *d)
{
    struct bbr *b = &cc->u.bbr;
    const struct rate_sample *s = a->sample;
    if (b->round_start && b->ack_phase == ACKS_PROBE_STARTING)
        b->ack_phase = ACKS_PROBE_FEEDBACK;
    if (b->round_start && b->ack_phase == ACKS_PROBE_STOPPING) {
        b->probing = false;
        b->ack_phase = ACKS_INIT;
        if (is_probe_bw(b) && !s->app_limited) {
            b->max_bw[1] = b->max_bw[0];
            b->max_bw[0] = 0;
        }
    }
    if (is_too_high(cc, s->lost, s->in_flight)) {
        if (b->probing)
            too_high(cc, s->in_flight, s->app_limited, d, a->now);
        return;
    }
    if (b->inflight_long == NEVER)
        return;
    b->inflight_long = max64(b->inflight_long, s->in_flight);
    bool limited = a->in_flight + a->bytes + 2 * cc->mds >= cc->cwnd;
    if (b->state != PROBE_UP || !limited || cc->cwnd < b->inflight_long)
        return;
    b->probe_up_acks += a->bytes;
    b->inflight_long += b->probe_up_acks / b->probe_up_count;
    b->probe_up_acks %= b->probe_up_count;
    if (b->round_start)
        slope_raise(cc);
}

/* Reno's sawtooth at this window is that many round trips long: probe as often, so that neither starves the other. */
static bool is_time_to_probe(const struct congestion *cc, uint64_t now)
{
    const struct bbr *b = &cc->u.bbr;
    return now - b->cycle_stamp > b->probe_wait ||
           b->rounds_since_probe >= min64(target_inflight(cc) / cc->mds, RENO_ROUNDS_MOST);
}

static void cycle_update(struct congestion *cc, const struct cc_ack *a, const struct delivery *d)
{
    struct bbr *b = &cc->u.bbr;
    if (!b->full_reached)
        return;
    bounds_long(cc, a, d);
    switch (b->state) {
    case PROBE_DOWN:
        if (is_time_to_probe(cc, a->now))
            probe_refill(b, d);
        else if (a->in_flight <= inflight_headroom(cc) && a->in_flight <= inflight(cc, max_bw(b), 1.0))
            b->state = PROBE_CRUISE;
        break;
    case PROBE_CRUISE:
        if (is_time_to_probe(cc, a->now))
            probe_refill(b, d);
        break;
    case PROBE_REFILL:
        if (b->round_start) {
            b->probing = true;
            probe_up(cc, d, a->sample, a->now);
        }
        break;
    case PROBE_UP:
        if (a->in_flight + a->bytes + 2 * cc->mds >= cc->cwnd && cc->cwnd >= b->inflight_long) {
            full_bw_reset(b);
            b->full_bw = a->sample->rate;
        } else if (b->full_now) {
            probe_down(cc, d, a->now);
        }
        break;
    }
}

/* ---- the round-trip time without a queue of ours: seen, or made by sending little for 200 ms every 5 s */

static void probe_rtt_exit(struct congestion *cc, const struct delivery *d, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    b->probe_rtt_stamp = now;
    cc->cwnd = max64(cc->cwnd, b->prior_cwnd);
    bounds_short_reset(b);
    if (b->stale && (b->probe_rtt_min == NEVER || b->probe_rtt_min / 2 > b->min_rtt)) {
        b->full_reached = false;
        b->inflight_long = NEVER;
        full_bw_reset(b);
    }
    b->min_rtt = b->probe_rtt_min;      /* what was measured with little in flight */
    b->min_rtt_stamp = now;
    b->stale = false;
    b->stale_rounds = 0;
    if (!b->full_reached) {
        b->drain_rounds = 0;
        b->state = STARTUP;
        return;
    }
    probe_down(cc, d, now);
    b->state = PROBE_CRUISE;
}

static void min_rtt_update(struct congestion *cc, const struct cc_ack *a, struct delivery *d)
{
    struct bbr *b = &cc->u.bbr;
    if (a->rtt_restart)
        b->min_rtt = b->probe_rtt_min = NEVER;
    b->stale |= b->stale_rounds >= STALE_ROUNDS && b->state != PROBE_RTT;
    bool expired = (a->now > b->probe_rtt_stamp + PROBE_RTT_INTERVAL || (b->stale && b->state != PROBE_RTT)) &&
                   b->probe_rtt_min != NEVER;
    if (a->rtt && (a->rtt < b->probe_rtt_min || expired)) {
        b->probe_rtt_min = a->rtt;
        b->probe_rtt_stamp = a->now;
    }
    if (b->probe_rtt_min < b->min_rtt || a->now > b->min_rtt_stamp + MIN_RTT_LENGTH) {
        b->min_rtt = b->probe_rtt_min;
        b->min_rtt_stamp = b->probe_rtt_stamp;
    }
    if (b->state != PROBE_RTT && expired && !b->restart) {
        b->state = PROBE_RTT;
        b->prior_cwnd = cc->cwnd;
        b->probe_rtt_done = 0;
        b->ack_phase = ACKS_PROBE_STOPPING;
        round_begin(b, d);
    }
    if (b->state == PROBE_RTT) {
        delivery_app_limited(d, a->in_flight);
        if (!b->probe_rtt_done && a->in_flight <= probe_rtt_cwnd(cc)) {
            b->probe_rtt_done = a->now + PROBE_RTT_DURATION;
            b->probe_rtt_round_done = false;
            round_begin(b, d);
        } else if (b->probe_rtt_done) {
            b->probe_rtt_round_done |= b->round_start;
            if (b->probe_rtt_round_done && a->now > b->probe_rtt_done)
                probe_rtt_exit(cc, d, a->now);
        }
    }
    if (a->sample->delivered)
        b->restart = false;
}

/* ---- what follows from the model */

static void rate_set(struct congestion *cc, uint64_t smoothed)
{
    struct bbr *b = &cc->u.bbr;
    if (!max_bw(b)) {
        b->pacing_rate = (uint64_t)(gains[STARTUP].pacing * (double)cc->cwnd * 1e9 / (double)max64(smoothed, MS));
        return;
    }
    uint64_t rate = (uint64_t)(gains[b->state].pacing * (double)bw(b) * MARGIN);
    if (b->full_reached || rate > b->pacing_rate)
        b->pacing_rate = rate;
}

static void window_set(struct congestion *cc, const struct cc_ack *a, const struct delivery *d)
{
    struct bbr *b = &cc->u.bbr;
    uint64_t most = inflight(cc, bw(b), gains[b->state].cwnd) + max64(b->extra[0], b->extra[1]), least = MIN_PIPE * cc->mds;
    if (b->full_reached)
        cc->cwnd = min64(cc->cwnd + a->bytes, most);
    else if (cc->cwnd < most || d->delivered < 10 * cc->mds)
        cc->cwnd += a->bytes;
    uint64_t bound = NEVER;
    if (b->state == PROBE_RTT || b->state == PROBE_CRUISE)
        bound = inflight_headroom(cc);
    else if (is_probe_bw(b))
        bound = b->inflight_long;
    bound = max64(min64(bound, b->inflight_short), least);
    if (b->state == PROBE_RTT)
        bound = min64(bound, probe_rtt_cwnd(cc));
    cc->cwnd = min64(min64(max64(cc->cwnd, least), bound), congestion_window_most(cc));
}

/* ---- the interface */

static void init(struct congestion *cc, uint64_t seed, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    b->random = seed;
    b->round_rtt = b->last_round_rtt = b->min_rtt = b->probe_rtt_min = b->inflight_long = b->probe_up_count = NEVER;
    b->min_rtt_stamp = b->probe_rtt_stamp = b->extra_stamp = now;
    bounds_short_reset(b);
    rate_set(cc, INITIAL_RTT_NS);
}

static void sent(struct congestion *cc, uint64_t in_flight, const struct delivery *d, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    if (in_flight || !d->app_limited)
        return;
    b->restart = true;                  /* after idle time (draft §5.4.1): at the estimated rate, without a burst */
    b->extra_stamp = now;
    b->extra_delivered = 0;
    if (is_probe_bw(b))
        b->pacing_rate = (uint64_t)((double)bw(b) * MARGIN);
    else if (b->state == PROBE_RTT && b->probe_rtt_done && now > b->probe_rtt_done)
        probe_rtt_exit(cc, d, now);
}

static void acked(struct congestion *cc, const struct cc_ack *a, struct delivery *d)
{
    struct bbr *b = &cc->u.bbr;
    if (!a->bytes || !a->sample->taken)
        return;
    round_update(b, a, d);
    signals_update(cc, a, d);
    aggregation_update(cc, a);
    full_bw_check(b, a->sample);
    if (b->state == STARTUP && b->full_reached)
        b->state = DRAIN;
    if (b->state == DRAIN && (a->in_flight <= inflight(cc, bw(b), 1.0) || b->drain_rounds >= DRAIN_ROUNDS))
        probe_down(cc, d, a->now);
    cycle_update(cc, a, d);
    min_rtt_update(cc, a, d);
    signals_advance(b, a->sample);
    rate_set(cc, a->smoothed);
    window_set(cc, a, d);
}

static void lost(struct congestion *cc, const struct sent *r, const struct delivery *d, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    b->round_losses++;
    uint64_t gone = (uint32_t)d->lost - r->lost;
    if (b->probing && is_too_high(cc, gone, r->in_flight))
        too_high(cc, r->in_flight, r->flags & SENT_RATE_LIMITED, d, now);
}

static void event(struct congestion *cc, bool ecn, const struct delivery *d, uint64_t now)
{
    struct bbr *b = &cc->u.bbr;
    if (!ecn)
        return;                         /* lost() has seen each packet */
    b->congested_in_round = true;
    b->round_losses += STARTUP_LOSSES;
    if (b->probing)
        too_high(cc, b->inflight_latest, d->app_limited != 0, d, now);
}

static uint64_t rate(const struct congestion *cc, uint64_t smoothed)
{
    (void)smoothed;
    return cc->u.bbr.pacing_rate;
}

const struct cc_ops cc_bbr = { .name = "bbr", .init = init, .sent = sent, .acked = acked, .lost = lost, .event = event,
                               .rate = rate };
