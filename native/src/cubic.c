/* CUBIC (RFC 9438) with HyStart++; windows in segments here, as the RFC's formulas have them. */
#include <math.h>
#include "core.h"

#define BETA 0.7
#define SCALE 0.4                       /* C, segments per s^3 */
#define ALPHA (3.0 * (1 - BETA) / (1 + BETA))

static void avoid(struct congestion *cc, const struct cc_ack *a)
{
    struct cubic *u = &cc->u.cubic;
    double mds = (double)cc->mds, cwnd = (double)cc->cwnd / mds;
    if (!u->epoch) {
        u->epoch = a->now;
        u->w_est = cwnd;
        if (cwnd < u->w_max) {
            u->k = cbrt((u->w_max - cwnd) / SCALE);
        } else {                        /* after slow start without loss, or a time-out (§4.8) */
            u->k = 0;
            u->w_max = cwnd;
        }
    }
    double t = (double)(a->now - u->epoch) / 1e9, after = t + (double)a->smoothed / 1e9, acked = (double)a->growth / mds;
    double target = SCALE * (after - u->k) * (after - u->k) * (after - u->k) + u->w_max;
    double w = SCALE * (t - u->k) * (t - u->k) * (t - u->k) + u->w_max;
    target = target < cwnd ? cwnd : target > 1.5 * cwnd ? 1.5 * cwnd : target;
    u->w_est += (u->w_est >= u->cwnd_prior ? 1.0 : ALPHA) * acked / cwnd;
    double next = cwnd + (target - cwnd) * acked / cwnd;
    if (w < u->w_est && u->w_est > next)
        next = u->w_est;                /* the Reno-friendly region (§4.3) */
    uint64_t grown = (uint64_t)(next * mds), most = congestion_window_most(cc);
    cc->cwnd = grown < most ? grown : most;
}

static void acked(struct congestion *cc, const struct cc_ack *a, struct delivery *d)
{
    (void)d;
    struct cubic *u = &cc->u.cubic;
    uint64_t since = u->last_ack ? a->now - u->last_ack : 0;
    u->last_ack = a->now;
    if (!a->growth) {                   /* application-limited: no growth, and the time does not count (§5.8) */
        if (u->epoch)
            u->epoch += since;
        return;
    }
    if (congestion_slow_start(cc, a))
        u->epoch = 0;
    else
        avoid(cc, a);
}

static void event(struct congestion *cc, bool ecn, const struct delivery *d, uint64_t now)
{
    (void)ecn, (void)d, (void)now;
    struct cubic *u = &cc->u.cubic;
    u->prior_w_max = u->w_max;
    u->cwnd_prior = (double)cc->cwnd / (double)cc->mds;
    u->w_max = u->cwnd_prior < u->w_max ? u->cwnd_prior * (1 + BETA) / 2 : u->cwnd_prior;   /* fast convergence (§4.7) */
    congestion_reduce(cc, BETA);
    u->epoch = 0;
}

static void undo(struct congestion *cc)
{
    cc->u.cubic.w_max = cc->u.cubic.prior_w_max;
    cc->u.cubic.epoch = 0;
}

static void persistent(struct congestion *cc) { cc->u.cubic.epoch = 0; }

const struct cc_ops cc_cubic = { .name = "cubic", .acked = acked, .event = event, .undo = undo, .persistent = persistent,
                                 .rate = congestion_window_rate };
