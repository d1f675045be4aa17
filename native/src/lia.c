/* LIA, the coupled increase of RFC 6356: all paths of a connection together are no more aggressive than one flow on the
 * best of them, wherever they share a bottleneck. Slow start and decrease are those of each path (§3). */
#include "core.h"

static void acked(struct congestion *cc, const struct cc_ack *a, struct delivery *d)
{
    (void)d;
    if (!a->growth || congestion_slow_start(cc, a))
        return;
    double growth = (double)a->growth * (double)cc->mds, alone = growth / (double)cc->cwnd, step = alone;
    if (a->group && a->group->sum > 0) {
        double alpha = a->group->cwnd * a->group->best / (a->group->sum * a->group->sum);
        double coupled = alpha * growth / a->group->cwnd;
        step = coupled < alone ? coupled : alone;
    }
    cc->u.lia.part += step;             /* an ACK is worth a few octets, and each part of one that is lost is a tenth of them */
    uint64_t whole = (uint64_t)cc->u.lia.part;
    cc->u.lia.part -= (double)whole;
    uint64_t grown = cc->cwnd + whole, most = congestion_window_most(cc);
    cc->cwnd = grown < most ? grown : most;
}

static void event(struct congestion *cc, bool ecn, const struct delivery *d, uint64_t now)
{
    (void)ecn, (void)d, (void)now;
    congestion_reduce(cc, 0.5);
}

const struct cc_ops cc_lia = { .name = "lia", .coupled = true, .acked = acked, .event = event, .rate = congestion_window_rate };
