/* NewReno as RFC 9002 §7.3 has it: one datagram more per window, half after a congestion event. */
#include "core.h"

static void acked(struct congestion *cc, const struct cc_ack *a, struct delivery *d)
{
    (void)d;
    if (!a->growth || congestion_slow_start(cc, a))
        return;
    uint64_t grown = cc->cwnd + (RULE(Q_141, true) ? cc->mds * a->growth / cc->cwnd : a->growth), most = congestion_window_most(cc);
    cc->cwnd = grown < most ? grown : most;
}

static void event(struct congestion *cc, bool ecn, const struct delivery *d, uint64_t now)
{
    (void)ecn, (void)d, (void)now;
    congestion_reduce(cc, 0.5);
}

const struct cc_ops cc_newreno = { .name = "newreno", .acked = acked, .event = event, .rate = congestion_window_rate };
