/* Load balancing: flows get homes so that the accesses carry octets by the rule's weights, and move, one at a time, when they do not. An
 * access above a threshold is left while the other one is within (TS 23.501 §5.32.8). Autonomous weights follow what the paths carry. */
#include <math.h>
#include "core.h"

#define YOUNG_NS 500000000ull
#define YOUNG_CHARGE 262144.0           /* what a flow younger than that is thought to carry */
#define SHARE_LEAST 16384.0             /* less than 64 kbit/s: nothing to balance */

static bool valid(const struct steering_rule *r)
{
    unsigned sum = r->weight[0] + r->weight[1];
    return sum == 100 || (r->autonomous && sum == 0);
}

static double *weights(const struct steering_rule *r, struct steering_state *st)
{
    if (!st->weight[0] && !st->weight[1]) {
        bool given = r->weight[0] || r->weight[1];
        st->weight[0] = given ? r->weight[0] : 50;
        st->weight[1] = given ? r->weight[1] : 50;
        if (r->autonomous)              /* an access that gets nothing would never be known */
            st->weight[0] = fmin(fmax(st->weight[0], STEER_WEIGHT_LEAST), 100 - STEER_WEIGHT_LEAST);
        if (r->autonomous)
            st->weight[1] = 100 - st->weight[0];
    }
    return st->weight;
}

/* The home of a new flow: the usable access that is furthest below its weight once it has the flow, counting what young flows
 * will carry. */
static int place(struct steering *s)
{
    struct tunnel *t = s->t;
    const double *weight = weights(s->rule, s->state);
    uint8_t rule = (uint8_t)(s->rule - t->rules);
    double charge[2] = { 0, 0 }, score[2] = { 0, 0 };
    while (t->young_count && s->now - t->young[t->young_first].time > YOUNG_NS) {
        t->young_first = (t->young_first + 1) % YOUNG_MAX;
        t->young_count--;
    }
    for (uint32_t i = 0; i < t->young_count; i++) {
        const struct young *y = &t->young[(t->young_first + i) % YOUNG_MAX];
        charge[y->access] += y->rule == rule ? YOUNG_CHARGE : 0;
    }
    steering_load_decay(s->state, s->now);
    for (int a = 0; a < 2; a++)
        score[a] = weight[a] > 0 ? (s->state->load[a] + charge[a] + YOUNG_CHARGE) / weight[a] : INFINITY;
    int home = score[0] == score[1] ? weight[1] > weight[0] : score[1] < score[0];
    if (s->grade[home] > s->grade[!home])
        home = !home;
    uint32_t at = (t->young_first + t->young_count) % YOUNG_MAX;
    t->young[at] = (struct young){ s->now, (uint8_t)home, rule };
    if (t->young_count < YOUNG_MAX)
        t->young_count++;
    else
        t->young_first = (t->young_first + 1) % YOUNG_MAX;
    return home;
}

/* One access carries all that it can and the other does not: that one gets more, and so shows what it can carry. Both do: their shares
 * are as what they carry then. Neither: there is nothing to gain, and the flows stay where they are. Flows move slower than weights could:
 * these do not run far ahead, or too many would move in the end. */
static void weigh(struct steering *s)
{
    struct steering_state *st = s->state;
    double *w = weights(s->rule, st);
    steering_share_decay(st, s->now);
    double all = st->share[0] + st->share[1];
    if (s->now - st->weighed < STEER_MOVE_NS || all < SHARE_LEAST)
        return;
    st->weighed = s->now;
    double share = 100 * st->share[0] / all, aim = share;
    double carried[2] = { s->path[0]->gauge.capacity, s->path[1]->gauge.capacity };
    if (st->full[0] && st->full[1]) {
        aim = carried[0] + carried[1] > 0 ? 100 * carried[0] / (carried[0] + carried[1]) : w[0];
        aim = fmin(fmax(aim, w[0] - STEER_WEIGHT_STEP), w[0] + STEER_WEIGHT_STEP);
    } else if (st->full[0]) {
        aim = fmax(w[0] - STEER_WEIGHT_STEP, share - STEER_WEIGHT_AHEAD);
    } else if (st->full[1]) {
        aim = fmin(w[0] + STEER_WEIGHT_STEP, share + STEER_WEIGHT_AHEAD);
    }
    w[0] = fmin(fmax(aim, STEER_WEIGHT_LEAST), 100 - STEER_WEIGHT_LEAST);
    w[1] = 100 - w[0];
}

/* Shares that are off for some time, by more than some points: of the flows at the access with too much, the one that is nearest to what it
 * has too much moves. Not to an access that is full: there it would carry no more, only wait. */
static void rebalance(struct steering *s)
{
    struct steering_state *st = s->state;
    const double *w = weights(s->rule, st);
    steering_share_decay(st, s->now);
    double all = st->share[0] + st->share[1], off = all > 0 ? 100 * st->share[0] / all - w[0] : 0;
    int heavy = off > 0 ? 0 : 1;
    if (all < SHARE_LEAST || fabs(off) <= STEER_OFF_POINTS || st->full[!heavy]) {
        st->since = 0;
        return;
    }
    if (!st->since)
        st->since = s->now;
    if (s->now - st->since < STEER_OFF_NS || s->now - st->moved < STEER_MOVE_NS)
        return;
    double excess = fabs(off) / 100 * all;
    struct flow *f = steering_flow_near(s, heavy, excess, excess * 1.75);
    if (RULE(R_61, f))
        steering_flow_move(s, f);
    st->moved = s->now;                 /* all flows are looked at no more often, either */
}

static void judge(struct steering *s)
{
    if (!steering_good(s, 0) || !steering_good(s, 1)) {         /* what the other one carries meanwhile is no balance */
        s->state->since = 0;
        return;
    }
    if (s->rule->autonomous)
        weigh(s);
    rebalance(s);
}

static int access_now(const struct steering_rule *r, const struct steering_state *st, const struct flow *f)
{
    (void)r;
    return st->over[f->home].on && !st->over[!f->home].on ? !f->home : f->home;
}

static int reason(const struct steering_rule *r, const struct steering_state *st, int access)
{
    if (st->over[access].on && !st->over[!access].on)
        return REASON_OVER_THRESHOLD;
    return r->autonomous || r->weight[access] ? REASON_NONE : REASON_STANDBY_BY_RULE;
}

const struct steering_mode_ops steer_balance = { .valid = valid, .judge = judge, .place = place, .access = access_now,
                                                 .reason = reason };
