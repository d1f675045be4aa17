/* CUBIC (RFC 9438) with HyStart++ (RFC 9406), per path; windows in bytes. */
#include <math.h>
#include "core.h"

#define BETA 0.7
#define SCALE 0.4                       /* C, segments per s^3 */
#define ALPHA (3.0 * (1 - BETA) / (1 + BETA))
#define MS 1000000ull
#define CSS_ROUNDS 5
#define CSS_DIVISOR 4
#define RTT_SAMPLES 8

void cubic_init(struct cubic *cc, uint64_t mds)
{
    memset(cc, 0, sizeof *cc);
    cc->mds = mds;
    uint64_t floor = mds * 2 > 14720 ? mds * 2 : 14720;     /* RFC 9002 §7.2 */
    cc->cwnd = mds * 10 < floor ? mds * 10 : floor;
    cc->ssthresh = NEVER;
    cc->round_min = cc->last_round_min = NEVER;
}

static void round_begin(struct cubic *cc, uint64_t next_pn)
{
    cc->round_end = next_pn;
    cc->last_round_min = cc->round_min;
    cc->round_min = NEVER;
    cc->samples = 0;
}

/* Leaves slow start when the round-trip time has risen by an eighth, 4 to 16 ms (RFC 9406 §4.2). */
static void hystart(struct cubic *cc, uint64_t largest_acked, uint64_t next_pn, uint64_t rtt)
{
    if (rtt && rtt < cc->round_min)
        cc->round_min = rtt;
    cc->samples++;
    if (!cc->css && cc->samples >= RTT_SAMPLES && cc->round_min != NEVER && cc->last_round_min != NEVER) {
        uint64_t eta = cc->last_round_min / 8;
        eta = eta < 4 * MS ? 4 * MS : eta > 16 * MS ? 16 * MS : eta;
        if (cc->round_min >= cc->last_round_min + eta) {
            cc->css = true;
            cc->css_baseline = cc->round_min;
            cc->css_rounds = 0;
        }
    } else if (cc->css && cc->samples >= RTT_SAMPLES && cc->round_min < cc->css_baseline) {
        cc->css = false;                /* the rise was spurious */
    }
    if (largest_acked >= cc->round_end) {
        round_begin(cc, next_pn);
        if (cc->css && ++cc->css_rounds >= CSS_ROUNDS)
            cc->ssthresh = cc->cwnd;
    }
}

static void avoid(struct cubic *cc, uint64_t bytes, uint64_t smoothed, uint64_t now)
{
    double mds = (double)cc->mds, cwnd = (double)cc->cwnd / mds;
    if (!cc->epoch) {
        cc->epoch = now;
        cc->w_est = cwnd;
        if (cwnd < cc->w_max) {
            cc->k = cbrt((cc->w_max - cwnd) / SCALE);
        } else {
            cc->k = 0;
            cc->w_max = cwnd;
        }
    }
    double t = (double)(now - cc->epoch) / 1e9, after = t + (double)smoothed / 1e9, acked = (double)bytes / mds;
    double target = SCALE * (after - cc->k) * (after - cc->k) * (after - cc->k) + cc->w_max;
    double w = SCALE * (t - cc->k) * (t - cc->k) * (t - cc->k) + cc->w_max;
    target = target < cwnd ? cwnd : target > 1.5 * cwnd ? 1.5 * cwnd : target;
    cc->w_est += (cc->w_est >= cc->w_max ? 1.0 : ALPHA) * acked / cwnd;
    double next = cwnd + (target - cwnd) * acked / cwnd;
    if (w < cc->w_est && cc->w_est > next)
        next = cc->w_est;               /* the Reno-friendly region */
    double most = (double)LIMIT_SENT_RECORDS;
    cc->cwnd = (uint64_t)((next < most ? next : most) * mds);
}

void cubic_acked(struct cubic *cc, uint64_t bytes, bool limited, uint64_t largest_acked, uint64_t next_pn, uint64_t rtt,
                 uint64_t smoothed, uint64_t now)
{
    uint64_t since = cc->last_ack ? now - cc->last_ack : 0;
    cc->last_ack = now;
    if (!limited || !bytes) {           /* application-limited: no growth, and the time does not count (§5.8) */
        if (cc->epoch)
            cc->epoch += since;
        return;
    }
    if (cc->cwnd < cc->ssthresh) {
        hystart(cc, largest_acked, next_pn, rtt);
        cc->cwnd += cc->css ? bytes / CSS_DIVISOR : bytes;
        if (cc->cwnd > LIMIT_SENT_RECORDS * cc->mds)
            cc->cwnd = LIMIT_SENT_RECORDS * cc->mds;
        return;
    }
    avoid(cc, bytes, smoothed, now);
}

void cubic_congestion(struct cubic *cc, uint64_t sent_time, uint32_t lost, uint64_t now)
{
    cc->event_lost += lost;
    if (sent_time <= cc->recovery_start)
        return;                         /* the same event: RFC 9002 §7.3.2 */
    cc->event_lost = lost;
    cc->event_spurious = 0;
    cc->prior_cwnd = cc->cwnd;
    cc->prior_ssthresh = cc->ssthresh;
    cc->prior_w_max = cc->w_max;
    cc->recovery_start = now;
    double cwnd = (double)cc->cwnd / (double)cc->mds;
    cc->w_max = cwnd < cc->w_max ? cwnd * (1 + BETA) / 2 : cwnd;    /* fast convergence (§4.7) */
    uint64_t reduced = (uint64_t)((double)cc->cwnd * BETA);
    cc->ssthresh = cc->cwnd = reduced > 2 * cc->mds ? reduced : 2 * cc->mds;
    cc->epoch = 0;
    cc->css = false;
}

/* A packet declared lost has arrived after all. */
void cubic_spurious(struct cubic *cc, uint64_t sent_time)
{
    if (!cc->prior_cwnd || sent_time > cc->recovery_start || ++cc->event_spurious < cc->event_lost)
        return;
    if (cc->cwnd < cc->prior_cwnd)
        cc->cwnd = cc->prior_cwnd;
    cc->ssthresh = cc->prior_ssthresh;
    cc->w_max = cc->prior_w_max;
    cc->prior_cwnd = 0;
    cc->epoch = 0;
}

void cubic_persistent(struct cubic *cc)
{
    cc->cwnd = 2 * cc->mds;             /* RFC 9002 §7.6.2; then slow start up to ssthresh */
    cc->recovery_start = cc->prior_cwnd = 0;
    cc->epoch = 0;
    cc->round_min = cc->last_round_min = NEVER;
    cc->css = false;
}

uint64_t cubic_rate(const struct cubic *cc, uint64_t smoothed)
{
    uint64_t rtt = smoothed > 100000 ? smoothed : 100000;
    double gain = cc->cwnd < cc->ssthresh ? 2.0 : 1.25;
    double rate = gain * (double)cc->cwnd * 1e9 / (double)rtt;
    return rate < 1e12 ? (uint64_t)rate : 1000000000000ull;
}
