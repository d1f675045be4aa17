/* The queue that a connection's paths share: packets with sequence numbers under a load-balancing rule. Each is bound to a path only when
 * one may send it, so that no path waits while another has work queued; and a slower path takes one only when it arrives there earlier
 * than by waiting for the faster ones: what they can send meanwhile is left to them. So a flow that one path can carry stays on
 * it, and one that fills it spreads over all. */
#include "core.h"

#define CAPACITY_QUEUE_NS 5000000ull    /* an RTT so much above the least, or by a quarter: there is a queue */
#define CAPACITY_LATELY_NS 10000000000ull

/* A rate sample with queueing in its RTT tells what the path carries; one without tells only that it carries that much. */
void split_sample(struct path *p, const struct rate_sample *s, uint64_t rtt, uint64_t now)
{
    struct capacity *c = &p->capacity;
    if (!s->rate || p->rec.min == NEVER)
        return;
    uint64_t queueing = p->rec.min / 4 > CAPACITY_QUEUE_NS ? p->rec.min / 4 : CAPACITY_QUEUE_NS;
    bool full = rtt > p->rec.min + queueing;
    if (s->rate > c->rate)
        c->rate = c->rate ? c->rate + (s->rate - c->rate) / 4 : s->rate;
    else if (full)
        c->rate -= (c->rate - s->rate) / 8;
    if (full)
        c->full_at = now;
}

/* Octets per second that it carries: as measured; of a path that was not filled lately no less than its window allows. */
static double drain(const struct path *p)
{
    double measured = (double)p->capacity.rate;
    if (measured > 0 && p->conn->e->now - p->capacity.full_at < CAPACITY_LATELY_NS)
        return measured;
    uint64_t rtt = p->rec.sampled ? p->rec.smoothed : INITIAL_RTT_NS, paced = path_rate(p);
    double window = (double)p->cc.cwnd * 1e9 / (double)(rtt ? rtt : 1);
    window = window < (double)paced ? window : (double)paced;
    return window > measured ? window : measured;
}

/* How long a packet is on its way when it leaves now: half of the least RTT, and the time that what is in flight beyond one such RTT
 * takes at the path's rate: it stands in front of the bottleneck. Told by what we sent, not by RTTs: those come so late that all
 * would go over one path until its queue is full, and then over another. */
static uint64_t way(const struct path *p)
{
    if (!p->rec.sampled || p->rec.min == NEVER)
        return INITIAL_RTT_NS / 2;
    uint64_t flight = (uint64_t)((double)p->rec.in_flight * 1e9 / drain(p));
    return p->rec.min / 2 + (flight > p->rec.min ? flight - p->rec.min : 0);
}

/* Until a packet that is put into the path's own queue now may leave: its window lets what is in it go at the path's rate. */
static uint64_t held_back(const struct path *p)
{
    uint64_t before = p->rec.in_flight + p->queue.bytes;
    return before > p->cc.cwnd ? (uint64_t)((double)(before - p->cc.cwnd) * 1e9 / drain(p)) : 0;
}

struct path *split_soonest(struct conn *c, uint64_t *takes)
{
    struct path *soonest = NULL;
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        uint64_t there = path_good(p) ? way(p) + held_back(p) : NEVER;
        if (there == NEVER || (soonest && there >= *takes))
            continue;
        soonest = p;
        *takes = there;
    }
    return soonest;
}

/* So many octets of the queue are left to faster paths: they have sent them before a packet would arrive over this one. NEVER: no packet
 * of the queue goes over it. */
uint64_t split_leaves(const struct path *p)
{
    const struct conn *c = p->conn;
    if (!path_good(p))
        return NEVER;
    uint64_t here = way(p), soonest = here;
    double rate = 0, queued = 0;
    for (uint32_t i = 0; i < c->path_count; i++) {
        const struct path *q = c->paths[i];
        uint64_t there = q != p && path_good(q) ? way(q) : NEVER;
        if (there >= here)
            continue;
        rate += drain(q);
        queued += (double)q->queue.bytes;
        soonest = there < soonest ? there : soonest;
    }
    double octets = RULE(R_56, true) ? rate * (double)(here - soonest) / 1e9 - queued : 0;
    return octets > 0 ? (uint64_t)octets : 0;
}

/* What the queue is managed by: it is left at all good paths' rate; and as long as the ways differ it must wait, or the slower
 * would never be worth taking. */
void split_tune(struct conn *c)
{
    uint64_t rate = 0, rtt = 0, least = NEVER, most = 0;
    for (uint32_t i = 0; i < c->path_count; i++) {
        const struct path *p = c->paths[i];
        if (!path_good(p))
            continue;
        uint64_t w = way(p);
        least = w < least ? w : least;
        most = w > most ? w : most;
        rate += path_rate(p);
        rtt = p->rec.sampled && p->rec.min > rtt ? p->rec.min : rtt;
    }
    fq_tune(&c->split, rate, rtt);
    uint64_t apart = most > least ? most - least : 0;
    c->split.target += apart < LIMIT_QUEUE_NS ? apart : LIMIT_QUEUE_NS;
}

/* May the paths of c share this packet, of a flow that is steered already? */
bool split_takes(const struct conn *c, const struct tunnel *t, const struct packet *k)
{
    const struct flow *f = &t->flows[k->flow];
    const struct steering_rule *r = &t->rules[f->rule];
    const struct steering_state *st = &t->steering[f->rule];
    if (k->serial != f->serial)
        return false;                   /* it only follows the flow, and has no number */
    if (!RULE(R_59, f->sequenced) || r->mode != STEER_LOAD_BALANCING || (!r->autonomous && (!r->weight[0] || !r->weight[1])))
        return false;
    if (st->over[0].on != st->over[1].on)
        return false;                   /* one is above a threshold of the rule: all goes over the other */
    bool agreed = sequence_agreed(c, t), good = false;
    for (uint32_t i = 0; agreed && i < c->path_count; i++)
        if (path_good(c->paths[i])) {
            good = true;
            if (k->length > path_inner_mtu(c->paths[i]))
                return false;           /* a path of its own, one that it fits */
        }
    return good;
}

/* For what has to be there soon rather than in order: the good path with the least round trip, there is one. Not the one with the least
 * queue now: acknowledgements of what comes in say little of how much the way out carries, and their RTT has the queue of the way in. */
struct path *split_quickest(struct conn *c)
{
    struct path *best = NULL;
    for (uint32_t i = 0; i < c->path_count; i++)
        if (path_good(c->paths[i]) && (!best || c->paths[i]->rec.min < best->rec.min))
            best = c->paths[i];
    return best;
}

uint64_t split_rate(const struct conn *c)
{
    uint64_t rate = 0;
    for (uint32_t i = 0; i < c->path_count; i++)
        rate += path_good(c->paths[i]) ? path_rate(c->paths[i]) : 0;
    return rate;
}

void split_resteer(struct conn *c, uint64_t now)
{
    for (struct packet *k = fq_drain(&c->split), *next; k; k = next) {
        next = k->next;
        k->next = NULL;
        tunnel_requeue(c->e, c, k, now);
    }
}

/* No path is good any more, or there are others now: what waits is steered anew when none of them would take it. */
void split_check(struct conn *c, uint64_t now)
{
    for (uint32_t i = 0; i < c->path_count; i++)
        if (path_good(c->paths[i]))
            return;
    split_resteer(c, now);
}

void split_free(struct conn *c)
{
    for (struct packet *k = fq_drain(&c->split), *next; k; k = next) {
        next = k->next;
        tunnel_drop(c->e, k, COUNTER_steering_no_path);
    }
    fq_free(&c->split);
}
