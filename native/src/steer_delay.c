/* Smallest delay: all flows of the rule over the access whose path takes the least time now, our own queue counted (TS 23.501 §5.32.8).
 * They change over when the other one is better by a margin and for a while, or they would follow every packet's luck; and no sooner
 * than some time after they did: the load that moves makes the delay that is measured. */
#include "core.h"

static bool valid(const struct steering_rule *r) { (void)r; return true; }

#define SHARE_S 2.0                     /* st->share is so many seconds' worth of octets */
#define CAPACITY_LATELY_NS 30000000000ull
#define CHOKED 4                        /* times what the access carries; with less the rule says which one it is, not what fits */

/* The other access was full with a quarter of what the rule's flows bring now, and this one carries more: what is shorter while it is empty would
 * not be with them on it. One that loses is always empty: its window is small. */
static bool would_choke(struct steering *s, int here, int there)
{
    const struct gauge *g = &s->path[there]->gauge;
    if (!g->full_at || s->now - g->full_at > CAPACITY_LATELY_NS)
        return false;                   /* not known: it is tried, and known then */
    steering_share_decay(s->state, s->now);
    double load = (s->state->share[0] + s->state->share[1]) / SHARE_S;
    return g->capacity * CHOKED < load && g->capacity * CHOKED < s->path[here]->gauge.capacity;
}

static void change(struct steering *s)
{
    struct steering_state *st = s->state;
    bool again = st->moved && s->now - st->moved < 4 * st->dwell;
    st->dwell = !again ? STEER_DWELL_NS : st->dwell * 2 < STEER_DWELL_MOST_NS ? st->dwell * 2 : STEER_DWELL_MOST_NS;
    st->preferred = !st->preferred;
    st->moved = s->now;
    st->since = 0;
    s->t->stats.flows_moved++;
}

static void judge(struct steering *s)
{
    struct steering_state *st = s->state;
    int here = st->preferred, there = !here;
    if (s->grade[here] != GRADE_GOOD || s->grade[there] != GRADE_GOOD) {        /* one that fails is left by its grade, and at once */
        st->since = 0;
        return;
    }
    uint64_t now_here = gauge_delay(s->path[here], s->now), now_there = gauge_delay(s->path[there], s->now);
    if (!st->chosen && s->path[here]->rec.sampled && s->path[there]->rec.sampled) {
        st->chosen = true;
        st->preferred = (uint8_t)(now_there < now_here ? there : here);
        return;
    }
    uint64_t margin = now_here / 8 > STEER_MARGIN_NS ? now_here / 8 : STEER_MARGIN_NS;
    if (now_there + margin >= now_here || would_choke(s, here, there))
        st->since = 0;
    else if (!st->since)
        st->since = s->now;
    else if (RULE(R_66, s->now - st->since >= STEER_HOLD_NS && s->now - st->moved >= st->dwell))
        change(s);
}

static int place(struct steering *s) { return s->state->preferred; }

static int access_now(const struct steering_rule *r, const struct steering_state *st, const struct flow *f)
{
    (void)r, (void)f;
    return st->preferred;
}

static int reason(const struct steering_rule *r, const struct steering_state *st, int access)
{
    (void)r;
    return st->preferred == access ? REASON_NONE : REASON_SHORTER_ELSEWHERE;
}

const struct steering_mode_ops steer_delay = { .measures = true, .valid = valid, .judge = judge, .place = place,
                                               .access = access_now, .reason = reason };
