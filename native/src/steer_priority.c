/* Priority: all flows at the access of high priority until it is congested; then the flows to come, and some of those that are there, at the
 * other one, and back when it is not any more (TS 23.501 §5.32.8: "how a congestion is determined is implementation dependent"). Congested
 * is one that carries all that it can: it is shared then. One above its threshold, of round-trip time or loss, is left. */
#include "core.h"

#define HEADROOM 0.9                    /* of what the access can carry, to be used by flows that return */
#define SHARE_S 2.0                     /* st->share is so many seconds' worth of octets */
#define CAPACITY_LATELY_NS 30000000000ull

static bool valid(const struct steering_rule *r)
{
    return r->active_access == ACCESS_3GPP || r->active_access == ACCESS_NON_3GPP;
}

static int place(struct steering *s)
{
    int high = s->rule->active_access, low = !high;
    return s->state->full[high] && !s->state->full[low] && steering_good(s, low) ? low : high;
}

/* What may return to the access of high priority, in st->share's unit: not so much that it would be congested again. What it could carry
 * when it was full is forgotten after a while: it may carry more now. */
static double room(const struct steering *s, int high)
{
    const struct gauge *g = &s->path[high]->gauge;
    if (g->capacity <= 0 || s->now - g->capacity_at > CAPACITY_LATELY_NS)
        return 1e18;
    double most = g->capacity * HEADROOM * SHARE_S - s->state->share[high];
    return most > 0 ? most : 0;
}

static void judge(struct steering *s)
{
    struct steering_state *st = s->state;
    int high = s->rule->active_access, low = !high;
    if (!steering_good(s, high) || !steering_good(s, low)) {
        st->since = 0;
        return;
    }
    bool spills = st->full[high] && !st->full[low], drains = !st->full[high];
    if (!spills && !drains) {
        st->since = 0;
        return;
    }
    if (!st->since)
        st->since = s->now;
    if (s->now - st->since < (spills ? STEER_HOLD_NS : STEER_OFF_NS) || s->now - st->moved < STEER_MOVE_NS)
        return;
    st->moved = s->now;                 /* all flows are looked at no more often */
    steering_share_decay(st, s->now);
    if (drains && st->share[low] <= 0)
        return;
    double most = spills ? st->share[high] / 2 : room(s, high);         /* the only one would fill the other access as well */
    struct flow *f = steering_flow_near(s, spills ? high : low, most < st->share[low] || spills ? most : st->share[low], most);
    if (f)
        steering_flow_move(s, f);
}

static int access_now(const struct steering_rule *r, const struct steering_state *st, const struct flow *f)
{
    (void)r;
    return st->over[f->home].on && !st->over[!f->home].on ? !f->home : f->home;
}

static int reason(const struct steering_rule *r, const struct steering_state *st, int access)
{
    int high = r->active_access;
    if (access == high)
        return st->over[high].on && !st->over[!high].on ? REASON_OVER_THRESHOLD : REASON_NONE;
    return st->full[high] || st->over[high].on || st->share[access] > 1 ? REASON_NONE : REASON_STANDBY_BY_RULE;
}

const struct steering_mode_ops steer_priority = { .measures = true, .valid = valid, .judge = judge, .place = place,
                                                  .access = access_now, .reason = reason };
