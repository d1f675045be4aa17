/* What steering keeps of paths, flows and rules, and its modes as a table. docs/steering.md tells the numbers and why. */
#ifndef STEERING_H
#define STEERING_H
#include <stdbool.h>
#include "engine.h"

struct conn; struct path; struct tunnel; struct packet; struct rate_sample;

/* ---- gauge.c: how a path does. Never by its congestion window: that of a path which has little to carry says nothing */
struct gauge {
    double busy; uint64_t busy_at;      /* share of the time, lately, in which it had all that it could carry: 0..1 */
    double capacity; uint64_t capacity_at;      /* octets a second that it took then; 0: not known */
    uint64_t full_at;                   /* when it had all that it could carry; capacity is no less than that since then. 0: never */
    uint64_t acked, lost, loss_at;      /* packets, when the rate of loss was taken last */
    double loss;                        /* 0..1 */
};
void gauge_sample(struct path *p, const struct rate_sample *s, uint64_t now);
bool gauge_full(const struct path *p, bool before, uint64_t now);   /* it carries all that it can; before: so far */
uint64_t gauge_delay(const struct path *p, uint64_t now);           /* round trip of a packet that is queued now, ns */
double gauge_loss(struct path *p, uint64_t now);
void gauge_probe(struct path *p, uint64_t now);         /* it is asked for an answer, unless it was lately */

/* ---- flow.c */
struct flow {
    uint8_t key[40];
    uint64_t last;
    uint8_t home, rule, used;
    bool sequenced;
    uint32_t serial;                    /* of all flows that had this place, which one */
    uint32_t sequence;                  /* of the next packet */
    uint32_t left[2];                   /* redundant: behind the newest number that left over each access */
    uint32_t settled_ms, load_ms;       /* when it came to its home; load as of then (both wrap) */
    float load;                         /* octets of about the last SHARE_NS */
};

/* ---- steering.c: of a rule of a tunnel */
struct steering_state {
    uint64_t judged;
    double load[2]; uint64_t load_time;         /* octets over each access of about the last LOAD_NS */
    double share[2]; uint64_t share_time;       /* octets of the flows at home there, of about the last SHARE_NS */
    double weight[2];                           /* percent, as they are now */
    uint64_t weighed;                           /* autonomous: when they changed last */
    uint8_t preferred;                          /* smallest delay: the access in use */
    bool chosen;                                /* ... by measure */
    bool full[2];
    struct { bool on; uint64_t since; } over[2];        /* above a threshold; since when it has been the other way */
    uint64_t since;                             /* what would make flows move has been so since then; 0: it is not */
    uint64_t moved, dwell;                      /* when flows moved last; how long at least until the next time */
};
enum grade { GRADE_GOOD, GRADE_BACKUP, GRADE_SUSPECT, GRADE_NARROW, GRADE_NONE };
/* A rule at this time, and the best path over each access: what a mode decides by. */
struct steering {
    struct conn *c;
    struct tunnel *t;
    const struct steering_rule *rule;
    struct steering_state *state;
    struct path *path[2];
    enum grade grade[2];
    uint64_t now;
};
struct steering_mode_ops {
    bool measures;                      /* idle accesses are asked for their round-trip time while the rule has traffic */
    bool (*valid)(const struct steering_rule *r);
    void (*judge)(struct steering *s);  /* every JUDGE_NS of traffic; NULL: nothing changes by itself */
    int (*place)(struct steering *s);   /* the home of a new flow */
    int (*access)(const struct steering_rule *r, const struct steering_state *st, const struct flow *f);  /* of its next packet */
    /* Why this access carries nothing while all paths are good (enum path_reason); REASON_NONE: it does */
    int (*reason)(const struct steering_rule *r, const struct steering_state *st, int access);
};
extern const struct steering_mode_ops steer_standby, steer_delay, steer_balance, steer_priority, steer_redundant;
/* steer_redundant.c: k is about to wait for path p: if its rule says so, a copy for the other access. Both have their number then. */
void redundant_double(struct tunnel *t, struct packet *k, const struct path *p, uint64_t now);
/* One of two that has waited so long that the other one is there: it would only be in the way of new ones. */
bool redundant_is_stale(const struct path *p, const struct flow *f, const struct packet *k, uint64_t now);

/* The best path over this access for a packet of this length, and how good it is; NULL. */
struct path *steering_path_over(struct conn *c, int access, size_t length, enum grade *grade);
bool steering_has_threshold(const struct steering_rule *r);
bool steering_good(const struct steering *s, int access);       /* a good path, within the rule's thresholds */
/* The flow of this rule at this home whose load is nearest to aim, none above most, young ones left alone; NULL. */
struct flow *steering_flow_near(struct steering *s, int home, double aim, double most);
void steering_flow_move(struct steering *s, struct flow *f);    /* its home is the other access from now on */
void steering_load_decay(struct steering_state *st, uint64_t now);
void steering_share_decay(struct steering_state *st, uint64_t now);
double steering_flow_load(struct flow *f, uint64_t now);

struct path *steering_path(struct conn *c, struct tunnel *t, const uint8_t *packet, size_t length, uint64_t now,
                           uint32_t *flow, int *drop);
void steering_sent(struct tunnel *t, const struct packet *k, int access, size_t bytes, uint64_t now);
bool steering_valid(const struct steering_rule *r);
/* Its best path is better than any over the other access: what has its home there comes here, where its rule allows that */
bool steering_stands_in(struct conn *c, int access);
/* REASON_NONE: a rule puts traffic there now. Else the first rule says why not: *rule. */
int steering_reason(struct conn *c, const struct tunnel *t, int access, uint32_t *rule);
#endif
