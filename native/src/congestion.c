/* What is common to all congestion controllers: the table of them, congestion events once per round trip, their undoing,
 * slow start, the pacing rate of those that have a window only (RFC 9002 §7). */
#include "core.h"

static const struct cc_ops *const controllers[CC_COUNT] = {
    [CC_CUBIC] = &cc_cubic, [CC_NEWRENO] = &cc_newreno, [CC_BBR] = &cc_bbr, [CC_LIA] = &cc_lia,
};

const char *congestion_control_name(int which)
{
    return which >= 0 && which < CC_COUNT ? controllers[which]->name : NULL;
}

int congestion_which(const struct congestion *cc)
{
    int which = 0;
    while (controllers[which] != cc->ops)
        which++;
    return which;
}

void congestion_init(struct congestion *cc, int which, uint64_t mds, uint64_t seed, uint64_t now)
{
    memset(cc, 0, sizeof *cc);
    cc->ops = controllers[which];
    cc->mds = mds;
    uint64_t floor = mds * 2 > 14720 ? mds * 2 : 14720;     /* RFC 9002 §7.2 */
    cc->cwnd = RULE(Q_136, mds * 10 < floor) ? mds * 10 : floor;
    cc->ssthresh = NEVER;
    hystart_init(&cc->hystart);
    if (cc->ops->init)
        cc->ops->init(cc, seed, now);
}

uint64_t congestion_window_least(const struct congestion *cc) { return 2 * cc->mds; }

/* Records of packets in flight are bounded, a window above them would never be used. */
uint64_t congestion_window_most(const struct congestion *cc) { return LIMIT_SENT_RECORDS * cc->mds; }

void congestion_reduce(struct congestion *cc, double factor)
{
    uint64_t reduced = (uint64_t)((double)cc->cwnd * factor), least = congestion_window_least(cc);
    cc->ssthresh = cc->cwnd = reduced > least ? reduced : least;
    cc->hystart.css = cc->hystart.ended = false;
}

bool congestion_slow_start(struct congestion *cc, const struct cc_ack *a)
{
    if (cc->cwnd >= cc->ssthresh) {
        if (!hystart_resumes(&cc->hystart, a))
            return false;
        cc->ssthresh = NEVER;
    }
    uint64_t grown = cc->cwnd + hystart_growth(&cc->hystart, a), most = congestion_window_most(cc);
    cc->cwnd = grown < most ? grown : most;
    if (hystart_done(&cc->hystart))
        cc->ssthresh = cc->cwnd;
    return true;
}

bool congestion_event(struct congestion *cc, uint64_t sent_time, uint32_t count, const struct delivery *d, uint64_t now)
{
    if (RULE(Q_139, sent_time <= cc->recovery_start)) {  /* RFC 9002 §7.3.2: part of the event that goes on */
        cc->event_lost += count;
        return false;
    }
    cc->event_lost = count;
    cc->event_spurious = 0;
    cc->events++;
    cc->prior_cwnd = count ? cc->cwnd : 0;  /* a CE mark is never spurious */
    cc->prior_ssthresh = cc->ssthresh;
    cc->recovery_start = now;
    cc->ops->event(cc, count == 0, d, now);
    return true;
}

void congestion_spurious(struct congestion *cc, uint64_t sent_time)
{
    if (!cc->prior_cwnd || sent_time > cc->recovery_start || ++cc->event_spurious < cc->event_lost)
        return;
    if (cc->cwnd < cc->prior_cwnd)
        cc->cwnd = cc->prior_cwnd;
    cc->ssthresh = cc->prior_ssthresh;
    cc->prior_cwnd = 0;
    if (cc->ops->undo)
        cc->ops->undo(cc);
}

void congestion_persistent(struct congestion *cc)
{
    cc->cwnd = congestion_window_least(cc);     /* RFC 9002 §7.6.2; then slow start up to ssthresh */
    cc->recovery_start = cc->prior_cwnd = 0;
    hystart_init(&cc->hystart);
    if (cc->ops->persistent)
        cc->ops->persistent(cc);
}

void congestion_restart(struct congestion *cc)
{
    congestion_persistent(cc);
    cc->ssthresh = NEVER;
}

uint64_t congestion_rate(const struct congestion *cc, uint64_t smoothed) { return cc->ops->rate(cc, smoothed); }

/* RFC 9002 §7.7: a little faster than the window per RTT, so that the window stays the limit; twice in slow start. */
uint64_t congestion_window_rate(const struct congestion *cc, uint64_t smoothed)
{
    uint64_t rtt = smoothed > 100000 ? smoothed : 100000;
    double rate = (cc->cwnd < cc->ssthresh ? 2.0 : 1.25) * (double)cc->cwnd * 1e9 / (double)rtt;
    return rate < 1e12 ? (uint64_t)rate : 1000000000000ull;
}
