/* Steering (TS 24.193 §5.2, TS 23.501 §5.32.8): the rule of a flow, its home access, and the path a packet takes now. What is special
 * to a mode stands in its own file. */
#include <math.h>
#include "core.h"

#define LOAD_NS 2e8                     /* so short that flows that ended are soon forgotten, or a burst of new ones would all go where
                                           the last ones were not */
#define SHARE_MS 2000.0                 /* so long that the bursts of a flow even out */

/* ---- rules */

static bool prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8))
        return false;
    uint8_t mask = (uint8_t)(0xff00 >> bits % 8);
    return !(bits % 8) || !((a[bits / 8] ^ b[bits / 8]) & mask);
}

static bool rule_matches(const struct steering_rule *r, const uint8_t key[40])
{
    if (r->match_ip_version && (r->match_ip_version != key[0] || !prefix_equal(r->remote, key + 2, r->remote_prefix)))
        return false;
    if (r->match_protocol && r->protocol != key[1])
        return false;
    uint16_t port = (uint16_t)(key[34] << 8 | key[35]);
    return !r->match_port || (port >= r->port_low && port <= r->port_high);
}

static const struct steering_mode_ops *mode_of(int mode)
{
    static const struct steering_mode_ops *const modes[] = {
        [STEER_ACTIVE_STANDBY] = &steer_standby, [STEER_SMALLEST_DELAY] = &steer_delay,
        [STEER_LOAD_BALANCING] = &steer_balance, [STEER_PRIORITY] = &steer_priority, [STEER_REDUNDANT] = &steer_redundant,
    };
    return mode >= 0 && mode < (int)(sizeof modes / sizeof *modes) ? modes[mode] : NULL;
}

bool steering_has_threshold(const struct steering_rule *r) { return r->max_rtt_ms || r->has_max_loss; }

bool steering_valid(const struct steering_rule *r)
{
    const struct steering_mode_ops *mode = mode_of(r->mode);
    bool match = r->match_ip_version == 0 || (r->match_ip_version == 4 && r->remote_prefix <= 32) ||
                 (r->match_ip_version == 6 && r->remote_prefix <= 128);
    bool transport = r->transport == TRANSPORT_PLAIN || r->transport == TRANSPORT_SEQUENCED;
    /* TS 23.501 §5.32.8: thresholds go with fixed weights, with priority and with redundant */
    bool threshold = !steering_has_threshold(r) || (r->mode == STEER_LOAD_BALANCING && !r->autonomous) || r->mode == STEER_PRIORITY ||
                     r->mode == STEER_REDUNDANT;
    bool autonomous = !r->autonomous || r->mode == STEER_LOAD_BALANCING;
    return mode && mode->valid(r) && match && transport && threshold && autonomous && r->max_loss_percent <= 100 &&
           r->port_low <= r->port_high;
}

/* ---- paths */

static enum grade grade_of(const struct path *p, size_t length)
{
    /* narrow: too small for this packet, whose sender would have to be told: of a path whose MTU is still looked for that is wrong soon */
    if (path_usable(p) && length > path_inner_mtu(p))
        return GRADE_NARROW;
    if (path_usable(p))
        return RULE(MP_50, p->peer_backup) ? GRADE_BACKUP : GRADE_GOOD;
    return p->state == PATH_SUSPECT && p->dcid ? GRADE_SUSPECT : GRADE_NONE;
}

struct path *steering_path_over(struct conn *c, int access, size_t length, enum grade *grade)
{
    struct path *best = NULL;
    *grade = GRADE_NONE;
    for (uint32_t i = 0; i < c->path_count; i++) {
        struct path *p = c->paths[i];
        if (p->state == PATH_UNUSED || c->e->access[p->link] != access)
            continue;
        enum grade g = grade_of(p, length);
        if (g == GRADE_NONE || g > *grade)
            continue;
        if (!best || g < *grade || RULE(R_71, p->queue.bytes < best->queue.bytes)) {
            best = p;
            *grade = g;
        }
    }
    return best;
}

bool steering_good(const struct steering *s, int access)
{
    return s->grade[access] == GRADE_GOOD && !s->state->over[access].on;
}

/* ---- load */

void steering_load_decay(struct steering_state *st, uint64_t now)
{
    uint64_t passed = now - st->load_time;
    if (passed < 1000000)
        return;
    double keep = exp(-(double)passed / LOAD_NS);
    st->load[0] *= keep;
    st->load[1] *= keep;
    st->load_time = now;
}

/* In steps of a millisecond, as the loads of flows, of which it is the sum. */
void steering_share_decay(struct steering_state *st, uint64_t now)
{
    uint64_t at = now / 1000000;
    if (at == st->share_time)
        return;
    double keep = exp(-(double)(at - st->share_time) / SHARE_MS);
    st->share[0] *= keep;
    st->share[1] *= keep;
    st->share_time = at;
}

double steering_flow_load(struct flow *f, uint64_t now)
{
    uint32_t at = (uint32_t)(now / 1000000);
    if (at != f->load_ms) {
        f->load = (float)((double)f->load * exp(-(double)(at - f->load_ms) / SHARE_MS));
        f->load_ms = at;
    }
    return (double)f->load;
}

void steering_sent(struct tunnel *t, const struct packet *k, int access, size_t bytes, uint64_t now)
{
    if (access < 0)                     /* its link is gone meanwhile */
        return;
    bool copy = k->twin >= TWIN_COPY;
    t->stats.copies_out += copy;
    t->stats.packets_out += !copy;
    t->stats.bytes_out += copy ? 0 : bytes;
    t->stats.access_packets_out[access]++;
    t->stats.access_bytes_out[access] += bytes;
    struct flow *f = t->flows ? &t->flows[k->flow] : NULL;
    if (!f || !f->used || f->serial != k->serial)       /* another flow has its place now */
        return;
    struct steering_state *st = &t->steering[f->rule];
    steering_load_decay(st, now);
    steering_share_decay(st, now);
    st->load[access] += (double)bytes;
    st->share[f->home] += (double)bytes;
    f->load = (float)(steering_flow_load(f, now) + (double)bytes);
}

struct flow *steering_flow_near(struct steering *s, int home, double aim, double most)
{
    struct flow *found = NULL;
    double nearest = aim;               /* one that is further away is not worth moving */
    uint32_t now_ms = (uint32_t)(s->now / 1000000);
    for (uint32_t i = 0; s->t->flows && i < LIMIT_FLOW_SETS * LIMIT_FLOW_WAYS; i++) {
        struct flow *f = &s->t->flows[i];
        if (!f->used || f->home != home || &s->t->rules[f->rule] != s->rule || now_ms - f->settled_ms < STEER_SETTLE_MS)
            continue;
        double load = steering_flow_load(f, s->now), off = fabs(load - aim);
        if (load <= most && off < nearest) {
            nearest = off;
            found = f;
        }
    }
    return found;
}

void steering_flow_move(struct steering *s, struct flow *f)
{
    double load = steering_flow_load(f, s->now);
    steering_share_decay(s->state, s->now);
    double *from = &s->state->share[f->home];
    *from = *from > load ? *from - load : 0;
    f->home = !f->home;
    f->settled_ms = (uint32_t)(s->now / 1000000);
    s->state->share[f->home] += load;
    s->state->moved = s->now;
    s->t->stats.flows_moved++;
}

/* ---- judging a rule */

/* Above a threshold: at once, nearly; within again: well below it, and for a while. */
static void over_judge(struct steering *s, int a)
{
    const struct steering_rule *r = s->rule;
    struct path *p = s->path[a];
    uint64_t most = NEVER, delay = p ? gauge_delay(p, s->now) : 0;
    double loss = p && r->has_max_loss ? gauge_loss(p, s->now) * 100 - r->max_loss_percent : 0;        /* points too much */
    if (r->max_rtt_ms)
        most = r->max_rtt_ms * 1000000ull;
    else if (r->mode == STEER_PRIORITY && p && p->rec.min != NEVER)
        most = 2 * p->rec.min + STEER_BLOAT_NS;
    bool above = delay > most || loss > 0, below = delay <= most - most / 8 && loss <= 0;
    bool on = s->state->over[a].on;
    if (!(on ? below : above))
        s->state->over[a].since = 0;
    else if (!s->state->over[a].since)
        s->state->over[a].since = s->now;
    else if (s->now - s->state->over[a].since >= (on ? STEER_BACK_NS : STEER_HOLD_NS)) {
        s->state->over[a].on = !on;
        s->state->over[a].since = 0;
    }
}

static void judge(struct steering *s, const struct steering_mode_ops *mode)
{
    struct steering_state *st = s->state;
    bool thresholds = steering_has_threshold(s->rule) || s->rule->mode == STEER_PRIORITY;
    st->judged = s->now;
    for (int a = 0; a < 2; a++) {
        struct path *p = s->path[a] = steering_path_over(s->c, a, 0, &s->grade[a]);
        st->full[a] = p && gauge_full(p, st->full[a], s->now);
        if (p && (mode->measures || thresholds))
            gauge_probe(p, s->now);
        if (thresholds)
            over_judge(s, a);
    }
    if (mode->judge)
        mode->judge(s);
}

/* ---- packets */

static struct flow *flow_start(struct steering *s, const struct steering_mode_ops *mode, struct flow *f)
{
    for (int a = 0; a < 2; a++)
        s->path[a] = steering_path_over(s->c, a, 0, &s->grade[a]);
    f->rule = (uint8_t)(s->rule - s->t->rules);
    f->home = (uint8_t)mode->place(s);
    f->settled_ms = f->load_ms = (uint32_t)(s->now / 1000000);
    f->load = 0;
    f->used = 1;
    sequence_start(s->c->e, s->t, f, s->rule);
    s->t->flow_count++;
    s->t->stats.flows++;
    return f;
}

/* While its access has no good path */
static bool may_leave_home(const struct steering_rule *r) { return r->mode != STEER_ACTIVE_STANDBY || r->has_standby; }

struct path *steering_path(struct conn *c, struct tunnel *t, const uint8_t *packet, size_t length, uint64_t now,
                           uint32_t *flow, int *drop)
{
    struct flow *f = flow_find(c->e, t, packet, length, !c->server, now);
    *drop = COUNTER_steering_no_rule;
    if (!f)
        return NULL;
    int rule = f->used ? f->rule : 0;
    while (!f->used && rule < t->rule_count && !rule_matches(&t->rules[rule], f->key))
        rule++;
    if (rule == t->rule_count)
        return NULL;
    const struct steering_rule *r = &t->rules[rule];
    const struct steering_mode_ops *mode = mode_of(r->mode);
    struct steering s = { .c = c, .t = t, .rule = r, .state = &t->steering[rule], .now = now };
    if (now - s.state->judged >= STEER_JUDGE_NS)
        judge(&s, mode);
    if (!f->used)
        flow_start(&s, mode, f);
    *flow = (uint32_t)(f - t->flows);
    if (!inner_is_plain(packet))
        flow_settled(c->e, t, f, packet, length, now);
    int home = mode->access(r, s.state, f);
    bool other = may_leave_home(r);
    enum grade at_home, away = GRADE_NONE;
    struct path *here = steering_path_over(c, home, length, &at_home);
    if (at_home == GRADE_GOOD)
        return here;
    struct path *elsewhere = other ? steering_path_over(c, !home, length, &away) : NULL;
    *drop = COUNTER_steering_no_path;
    return away < at_home ? elsewhere : here;
}

bool steering_stands_in(struct conn *c, int access)
{
    enum grade here, elsewhere;
    steering_path_over(c, !access, 0, &elsewhere);
    return steering_path_over(c, access, 0, &here) && here < elsewhere;
}

/* Of several rules the first one's answer, unless another one uses the access. */
int steering_reason(struct conn *c, const struct tunnel *t, int access, uint32_t *rule)
{
    int why = REASON_STANDBY_BY_RULE;
    bool stands_in = steering_stands_in(c, access);
    *rule = 0;
    for (int i = 0; i < t->rule_count; i++) {
        const struct steering_rule *r = &t->rules[i];
        int own = mode_of(r->mode)->reason(r, &t->steering[i], access);
        if (stands_in && may_leave_home(r))
            own = REASON_NONE;
        if (own == REASON_NONE) {
            *rule = 0;
            return REASON_NONE;
        }
        if (i == 0) {
            why = own;
            *rule = r->rule_id;
        }
    }
    return why;
}

/* ---- active-standby: all flows at the active access; the other one is for when it has no good path */

static bool standby_valid(const struct steering_rule *r)
{
    return r->active_access == ACCESS_3GPP || r->active_access == ACCESS_NON_3GPP;
}

static int standby_place(struct steering *s) { return s->rule->active_access; }

static int standby_access(const struct steering_rule *r, const struct steering_state *st, const struct flow *f)
{
    (void)st, (void)f;
    return r->active_access;
}

static int standby_reason(const struct steering_rule *r, const struct steering_state *st, int access)
{
    (void)st;
    return r->active_access == access ? REASON_NONE : REASON_STANDBY_BY_RULE;
}

const struct steering_mode_ops steer_standby = { .valid = standby_valid, .place = standby_place, .access = standby_access,
                                                 .reason = standby_reason };
