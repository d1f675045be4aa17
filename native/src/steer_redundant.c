/* Redundant: each packet goes over both accesses, and the receiver delivers the one that comes first (TS 23.501 §5.32.8). Both have the
 * same sequence number (docs/sequenced_datagrams.md), so the mode exists for flows with numbers only. With thresholds the primary access
 * carries all, and packets are doubled while it is above one. */
#include "core.h"

static bool valid(const struct steering_rule *r)
{
    bool primary = r->active_access == ACCESS_3GPP || r->active_access == ACCESS_NON_3GPP;
    return r->transport == TRANSPORT_SEQUENCED && (primary || (r->active_access == STEER_NO_PRIMARY && !steering_has_threshold(r)));
}

/* Without a primary access it only tells which of the two is the original: the one that is there first. */
static int place(struct steering *s)
{
    if (s->rule->active_access != STEER_NO_PRIMARY)
        return s->rule->active_access;
    uint64_t delay[2];
    for (int a = 0; a < 2; a++)
        delay[a] = s->path[a] ? gauge_delay(s->path[a], s->now) : NEVER;
    return delay[1] < delay[0];
}

static int access_now(const struct steering_rule *r, const struct steering_state *st, const struct flow *f)
{
    (void)r, (void)st;
    return f->home;
}

static int reason(const struct steering_rule *r, const struct steering_state *st, int access)
{
    bool doubles = !steering_has_threshold(r) || st->over[r->active_access].on;
    return doubles || access == r->active_access ? REASON_NONE : REASON_WITHIN_THRESHOLD;
}

const struct steering_mode_ops steer_redundant = { .measures = true, .valid = valid, .place = place, .access = access_now,
                                                   .reason = reason };

/* ---- doubling */

/* The good path over the other access; NULL: this packet goes once. */
static struct path *second_path(const struct tunnel *t, const struct packet *k, const struct path *p, uint64_t now)
{
    struct conn *c = p->conn;
    const struct flow *f = &t->flows[k->flow];
    const struct steering_rule *r = &t->rules[f->rule];
    if (r->mode != STEER_REDUNDANT || k->twin || k->serial != f->serial || !sequence_agreed(c, t))
        return NULL;
    if (steering_has_threshold(r) && !t->steering[f->rule].over[r->active_access].on)
        return NULL;
    enum grade grade;
    struct path *q = steering_path_over(c, !c->e->access[p->link], k->length, &grade);
    if (!q || grade != GRADE_GOOD || k->length > path_inner_mtu(p))
        return NULL;                    /* one that has no room for the number would be delivered beside the other */
    /* a copy that comes when the receiver waits for it no longer serves nobody, and after so many others it would not be known as one */
    uint64_t there = gauge_delay(q, now) / 2, here = gauge_delay(p, now) / 2;
    return q->queue.packets < LIMIT_QUEUE_PACKETS_LEAST && there < here + REORDER_WAIT_MOST_NS ? q : NULL;
}

/* The number is given here, and not when the packet leaves as that of others: it is that of both. */
void redundant_double(struct tunnel *t, struct packet *k, const struct path *p, uint64_t now)
{
    endpoint *e = p->conn->e;
    struct path *q = second_path(t, k, p, now);
    struct packet *copy = q ? packet_get(e) : NULL;
    if (!copy)
        return;
    k->twin = TWIN_ORIGINAL;
    k->number = t->flows[k->flow].sequence++;
    copy->flow = k->flow;
    copy->tunnel = k->tunnel;
    copy->serial = k->serial;
    copy->number = k->number;
    copy->twin = TWIN_COPY;
    copy->length = k->length;
    memcpy(copy->buffer + copy->offset, k->buffer + k->offset, k->length);
    COUNT(e, redundant_copies);
    if (!fq_push(&q->queue, copy, now))
        tunnel_drop(e, copy, COUNTER_redundant_dropped);
}

/* Over an access that carries less than the flow brings, its queue would be full of what came over the other one long ago: nothing new would
 * come for as long as that takes when the other one falls silent. While that one is good: it may have lost what left. */
bool redundant_is_stale(const struct path *p, const struct flow *f, const struct packet *k, uint64_t now)
{
    int access = p->conn->e->access[p->link];
    if (access < 0 || (k->twin != TWIN_ORIGINAL && k->twin != TWIN_COPY) || now - k->enqueued < REDUNDANT_STALE_NS)
        return false;
    enum grade grade;
    bool left = (int32_t)(f->left[!access] - k->number) > 0;
    return left && steering_path_over(p->conn, !access, 0, &grade) && grade == GRADE_GOOD;
}
