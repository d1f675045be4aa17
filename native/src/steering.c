/* Steering (TS 24.193 §5.2, TS 23.501 §5.32.8): the rule of a flow, its home access, and the path a packet takes now. */
#include <math.h>
#include "core.h"

#define LOAD_NS 2e8                     /* the load of an access: bytes of about the last 0.2 s: flows that ended are soon forgotten,
                                           or a burst of new ones would all go where the last ones were not */
#define YOUNG_NS 500000000ull
#define YOUNG_CHARGE 262144.0           /* what a flow younger than that is thought to carry */

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

/* narrow: too small for this packet, whose sender would have to be told: of a path whose MTU is still looked for that is wrong soon */
enum grade { GRADE_GOOD, GRADE_BACKUP, GRADE_SUSPECT, GRADE_NARROW, GRADE_NONE };

static enum grade grade_of(const struct path *p, size_t length)
{
    if (path_usable(p) && length > path_inner_mtu(p))
        return GRADE_NARROW;
    if (path_usable(p))
        return RULE(MP_50, p->peer_backup) ? GRADE_BACKUP : GRADE_GOOD;
    return p->state == PATH_SUSPECT && p->dcid ? GRADE_SUSPECT : GRADE_NONE;
}

/* The best path over this access for a packet of this length, and how good it is. */
static struct path *path_over(struct conn *c, int access, size_t length, enum grade *grade)
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
        if (!best || g < *grade || p->queue.bytes < best->queue.bytes) {
            best = p;
            *grade = g;
        }
    }
    return best;
}

static void load_decay(struct tunnel *t, uint64_t now)
{
    uint64_t passed = now - t->load_time;
    if (passed < 1000000)
        return;
    double keep = exp(-(double)passed / LOAD_NS);
    t->load[0] *= keep;
    t->load[1] *= keep;
    t->load_time = now;
}

void steering_sent(struct tunnel *t, int access, size_t bytes, uint64_t now)
{
    load_decay(t, now);
    t->load[access] += (double)bytes;
    t->stats.packets_out++;
    t->stats.bytes_out += bytes;
    t->stats.access_packets_out[access]++;
    t->stats.access_bytes_out[access] += bytes;
}

/* The home of a new flow: the usable access that is furthest below its weight once it has the flow, counting what young flows
 * will carry. */
static int home_choose(struct conn *c, struct tunnel *t, const struct steering_rule *r, uint64_t now)
{
    double charge[2] = { 0, 0 }, score[2] = { 0, 0 };
    enum grade grade[2];
    load_decay(t, now);
    while (t->young_count && now - t->young[t->young_first].time > YOUNG_NS) {
        t->young_first = (t->young_first + 1) % YOUNG_MAX;
        t->young_count--;
    }
    for (uint32_t i = 0; i < t->young_count; i++)
        charge[t->young[(t->young_first + i) % YOUNG_MAX].access] += YOUNG_CHARGE;
    for (int a = 0; a < 2; a++) {
        path_over(c, a, 0, &grade[a]);
        score[a] = r->weight[a] ? (t->load[a] + charge[a] + YOUNG_CHARGE) / r->weight[a] : INFINITY;
    }
    int home = score[0] == score[1] ? r->weight[1] > r->weight[0] : score[1] < score[0];
    if (grade[home] > grade[!home])
        home = !home;
    uint32_t at = (t->young_first + t->young_count) % YOUNG_MAX;
    t->young[at] = (struct young){ now, (uint8_t)home };
    if (t->young_count < YOUNG_MAX)
        t->young_count++;
    else
        t->young_first = (t->young_first + 1) % YOUNG_MAX;
    return home;
}

struct path *steering_path(struct conn *c, struct tunnel *t, const uint8_t *packet, size_t length, uint64_t now,
                           uint32_t *flow, int *drop)
{
    struct flow *f = flow_find(c->e, t, packet, length, !c->server, now);
    *drop = COUNTER_steering_no_rule;
    if (!f)
        return NULL;
    if (!f->used) {
        int rule = 0;
        while (rule < t->rule_count && !rule_matches(&t->rules[rule], f->key))
            rule++;
        if (rule == t->rule_count)
            return NULL;
        const struct steering_rule *r = &t->rules[rule];
        f->rule = (uint8_t)rule;
        f->home = (uint8_t)(r->mode == STEER_ACTIVE_STANDBY ? r->active_access : home_choose(c, t, r, now));
        f->used = 1;
        sequence_start(c->e, t, f, r);
        t->flow_count++;
        t->stats.flows++;
    }
    *flow = (uint32_t)(f - t->flows);
    flow_settled(c->e, t, f, packet, length, now);
    const struct steering_rule *r = &t->rules[f->rule];
    bool other = r->mode == STEER_LOAD_BALANCING || r->has_standby;
    enum grade at_home, away = GRADE_NONE;
    struct path *home = path_over(c, f->home, length, &at_home);
    if (at_home == GRADE_GOOD)
        return home;
    struct path *elsewhere = other ? path_over(c, !f->home, length, &away) : NULL;
    *drop = COUNTER_steering_no_path;
    return away < at_home ? elsewhere : home;
}

/* Whether a rule would put traffic on this access while all is well. */
bool steering_uses(const struct tunnel *t, int access)
{
    for (int i = 0; i < t->rule_count && access >= 0; i++) {
        const struct steering_rule *r = &t->rules[i];
        if (r->mode == STEER_LOAD_BALANCING ? r->weight[access] > 0 : r->active_access == access)
            return true;
    }
    return false;
}
