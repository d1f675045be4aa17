/* How a path does, as steering rules ask: how long it takes, what it loses, and whether it carries all that it can. */
#include "core.h"

#define BUSY_NS 5e8                     /* half of what was known goes in so long */
#define BUSY_SAMPLE_NS 5e7              /* a sample stands for no more than that: one burst is no load */
#define BUSY_FULL 0.6
#define BUSY_FREE 0.3

/* What becomes of it when the path carries nothing for so long. */
static double busy_after(const struct gauge *g, double passed)
{
    return g->busy * BUSY_NS / (BUSY_NS + passed);
}

/* Only samples of packets that were sent while more waited tell what the path can carry (draft-ietf-ccwg-bbr §4.1.2.4); the others tell
 * that it carries at least so much. */
void gauge_sample(struct path *p, const struct rate_sample *s, uint64_t now)
{
    struct gauge *g = &p->gauge;
    if (!s->taken)
        return;
    double passed = (double)(now - g->busy_at), counts = passed < BUSY_SAMPLE_NS ? passed : BUSY_SAMPLE_NS;
    g->busy = busy_after(g, passed - counts);
    g->busy += ((s->app_limited ? 0 : 1) - g->busy) * counts / (BUSY_NS + counts);
    g->busy_at = now;
    double rate = (double)s->rate;
    if (rate <= 0 || (s->app_limited && rate <= g->capacity))
        return;
    g->capacity = s->app_limited || !g->capacity ? rate : g->capacity + (rate - g->capacity) / 8;
    g->capacity_at = now;
    if (!s->app_limited && g->busy > BUSY_FULL)
        g->full_at = now;               /* not by the first packets of a flow */
}

bool gauge_full(const struct path *p, bool before, uint64_t now)
{
    return busy_after(&p->gauge, (double)(now - p->gauge.busy_at)) > (before ? BUSY_FREE : BUSY_FULL);
}

/* The smoothed RTT is of the time when the path carried data; of one that does not, the last answer tells how it is now. Our own queue
 * is in front of the path. */
uint64_t gauge_delay(const struct path *p, uint64_t now)
{
    if (!p->rec.sampled)
        return INITIAL_RTT_NS;
    uint64_t rate = path_rate(p), waiting = rate ? (uint64_t)((double)p->queue.bytes * 1e9 / (double)rate) : 0;
    return (now - p->last_data > STEER_STALE_NS ? p->rec.latest : p->rec.smoothed) + waiting;
}

/* Of a window of a second and enough packets. A path that is left carries none: after a while its loss is not known any more. */
double gauge_loss(struct path *p, uint64_t now)
{
    struct gauge *g = &p->gauge;
    uint64_t passed = now - g->loss_at;
    if (passed < STEER_LOSS_NS)
        return g->loss;
    uint64_t lost = p->stats.packets_lost - p->stats.packets_spurious, fresh = lost > g->lost ? lost - g->lost : 0;
    uint64_t all = p->stats.packets_acked - g->acked + fresh;
    if (all < STEER_LOSS_PACKETS && passed < STEER_LOSS_FORGET_NS)
        return g->loss;
    bool first = !g->loss_at;           /* a window without a beginning */
    g->loss = !first && all >= STEER_LOSS_LEAST ? (double)fresh / (double)all : 0;
    g->acked = p->stats.packets_acked;
    g->lost = lost;
    g->loss_at = now;
    return g->loss;
}

void gauge_probe(struct path *p, uint64_t now)
{
    if (p->state != PATH_ACTIVE || p->probes || p->space.eliciting || now - p->last_eliciting < STEER_PROBE_NS)
        return;
    p->probes = 1;
    conn_ready(p->conn);
}
