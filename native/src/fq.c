/* FQ-CoDel (RFC 8290 §4): one queue for each flow, lists of new and of old ones, CoDel (RFC 8289) in each.
 *
 *   list   its packet arrives     its turn, deficit spent    its turn, empty      its turn, else
 *   none   to new, a quantum      -                          -                    -
 *   new    -                      to old, a quantum          to old               sends
 *   old    -                      to old's end, a quantum    to none              sends
 *
 * A flow has a queue of its own while there are any in its set of LIMIT_QUEUE_WAYS, then it shares one: steering's flow table has told
 * the flows apart already, so no packet is hashed a second time. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "fq.h"

#define TARGET_PART 20                  /* RFC 8289 §4.3: a target of 5 % of the interval: 5 ms of 100 ms */
#define INTERVAL_NS 100000000ull        /* RFC 8289 §4.2, where the way is not longer than that */
#define PACKET 1500                     /* octets of a large one */
#define BURST 2                         /* packets that the pacer lets go at once at the lowest rates (pacer.c) */
#define AGAIN 16                        /* RFC 8289 §5.5: intervals for which the control law remembers its place */

enum fq_which { LIST_NONE, LIST_NEW, LIST_OLD };
struct fq_table {
    uint64_t owner[LIMIT_QUEUE_FLOWS];  /* tunnel and flow */
    uint32_t bytes[LIMIT_QUEUE_FLOWS];
    struct fq_flow flows[LIMIT_QUEUE_FLOWS];
    struct fq_list lists[3];            /* by fq_which; of none, none */
    uint32_t last;                      /* whose packet came last: they come in bursts */
};

void fq_init(struct fq *q)
{
    *q = (struct fq){ .target = INTERVAL_NS / TARGET_PART, .interval = INTERVAL_NS, .quantum = PACKET };
}

void fq_free(struct fq *q)
{
    free(q->table);
    q->table = NULL;
}

/* A quantum of what the pacer releases at once, 1 ms: a turn is a whole batch of the sender's, and costs the others no more than
 * that. A way that is longer than the interval gives its sender that much time to react; one that takes longer than the target
 * for the least burst cannot do better (RFC 8290 §5.2.1). */
void fq_tune(struct fq *q, uint64_t rate, uint64_t rtt)
{
    uint64_t quantum = rate / 1000, interval = rtt + rtt / 2, burst = rate ? BURST * PACKET * 1000000000ull / rate : 0;
    q->quantum = (int32_t)(quantum < PACKET ? PACKET : quantum > TX_BATCH_BYTES ? TX_BATCH_BYTES : quantum);
    interval = interval > INTERVAL_NS ? interval : INTERVAL_NS;
    q->target = interval / TARGET_PART > burst ? interval / TARGET_PART : burst;
    q->interval = interval > 2 * q->target ? interval : 2 * q->target;
}

/* ---- lists */

static void list_add(struct fq_table *t, struct fq_flow *f, enum fq_which which)
{
    struct fq_list *l = &t->lists[which];
    f->list = (uint8_t)which;
    f->next = NULL;
    if (l->head)
        l->tail->next = f;
    else
        l->head = f;
    l->tail = f;
}

static struct fq_flow *list_take(struct fq_list *l)
{
    struct fq_flow *f = l->head;
    l->head = f->next;
    f->list = LIST_NONE;
    return f;
}

/* ---- flows */

/* Its own; or one that nobody uses, which dropped longest ago; or by chance. */
static uint32_t flow_place(const struct fq_table *t, uint64_t owner)
{
    if (t->owner[t->last] == owner && t->flows[t->last].list != LIST_NONE)
        return t->last;
    uint32_t hash = (uint32_t)(owner ^ owner >> 32) * 2654435761u;      /* Knuth's multiplier: neighbours fall far apart */
    uint32_t set = (hash >> 16) % (LIMIT_QUEUE_FLOWS / LIMIT_QUEUE_WAYS) * LIMIT_QUEUE_WAYS, unused = LIMIT_QUEUE_FLOWS;
    for (uint32_t i = set; i < set + LIMIT_QUEUE_WAYS; i++) {
        if (t->owner[i] == owner)
            return i;
        if (t->flows[i].list == LIST_NONE && (unused == LIMIT_QUEUE_FLOWS || t->flows[i].codel.next < t->flows[unused].codel.next))
            unused = i;
    }
    return unused < LIMIT_QUEUE_FLOWS ? unused : set + (hash >> 8) % LIMIT_QUEUE_WAYS;
}

bool fq_push(struct fq *q, struct packet *k, uint64_t now)
{
    if (!q->table && !(q->table = calloc(1, sizeof *q->table)))
        return false;
    struct fq_table *t = q->table;
    uint64_t owner = (uint64_t)k->tunnel << 32 | k->flow;
    uint32_t at = flow_place(t, owner);
    struct fq_flow *f = &t->flows[at];
    if (f->list == LIST_NONE) {
        if (t->owner[at] != owner)
            f->codel = (struct codel){ 0 };
        t->owner[at] = owner;
        f->deficit = q->quantum;
        list_add(t, f, LIST_NEW);
    }
    t->last = at;
    k->next = NULL;
    k->enqueued = now;
    if (f->head)
        *f->tail = k;
    else
        f->head = k;
    f->tail = &k->next;
    t->bytes[at] += k->length;
    q->packets++;
    q->bytes += k->length;
    return true;
}

/* Whose turn it is; there is a packet. Asked again, it answers the same. */
static inline struct fq_flow *flow_next(struct fq *q)
{
    struct fq_table *t = q->table;
    for (;;) {
        enum fq_which which = t->lists[LIST_NEW].head ? LIST_NEW : LIST_OLD;
        struct fq_flow *f = t->lists[which].head;
        if (f->head && f->deficit > 0)
            return f;
        list_take(&t->lists[which]);
        if (f->head) {
            f->deficit += q->quantum;
        } else {
            f->codel.above = 0;         /* RFC 8289 §5.6: nothing was there to be sent */
            f->codel.dropping = f->codel.owed = false;
        }
        if (f->head || which == LIST_NEW)
            list_add(t, f, LIST_OLD);   /* an empty new one, too: else it could come back as new at once (RFC 8290 §4.2) */
    }
}

static struct packet *take(struct fq *q, struct fq_flow *f)
{
    struct packet *k = f->head;
    f->head = k->next;
    q->table->bytes[f - q->table->flows] -= k->length;
    q->packets--;
    q->bytes -= k->length;
    k->next = NULL;
    return k;
}

struct packet *fq_peek(struct fq *q)
{
    if (!q->packets)
        return NULL;
    q->turn = flow_next(q);
    return q->turn->head;
}

struct packet *fq_pop(struct fq *q)
{
    struct packet *k = take(q, q->turn);
    q->turn->deficit -= k->length;
    return k;
}

struct packet *fq_drop(struct fq *q)
{
    return take(q, q->turn);
}

struct packet *fq_shed(struct fq *q)
{
    if (!q->packets)
        return NULL;
    uint32_t fat = 0;
    for (uint32_t i = 1; i < LIMIT_QUEUE_FLOWS; i++)
        if (q->table->bytes[i] > q->table->bytes[fat])
            fat = i;
    return take(q, &q->table->flows[fat]);
}

struct packet *fq_drain(struct fq *q)
{
    struct packet *list = NULL, **end = &list;
    if (!q->packets)
        return NULL;
    for (uint32_t i = 0; i < LIMIT_QUEUE_FLOWS; i++)
        if (q->table->flows[i].head) {
            *end = q->table->flows[i].head;
            end = q->table->flows[i].tail;
        }
    memset(q->table, 0, sizeof *q->table);
    q->packets = 0;
    q->bytes = 0;
    return list;
}

const struct packet *fq_list_of(const struct fq *q, uint32_t flow)
{
    return q->table && flow < LIMIT_QUEUE_FLOWS ? q->table->flows[flow].head : NULL;
}

/* ---- CoDel */

static uint64_t control_law(const struct fq *q, uint64_t from, uint32_t count)
{
    return from + (uint64_t)((double)q->interval / sqrt(count));
}

/* Above the target for a whole interval, and more than one large packet behind it (RFC 8289 §5.6): of its own flow, since one whose
 * last packet is dropped has nothing behind it to show the loss. */
static bool stands(const struct fq *q, struct codel *c, const struct packet *k, uint32_t behind, uint64_t now)
{
    bool below = now < k->enqueued + q->target || behind <= PACKET;
    if (below)
        c->above = 0;
    else if (!c->above)
        c->above = now + q->interval;
    return !below && now >= c->above;
}

/* RFC 8289 §5.5, one packet at a time: its loop is the caller's, who asks of the next one when this one is dropped. */
bool fq_late(struct fq *q, uint64_t now)
{
    struct fq_flow *f = q->turn;
    struct codel *c = &f->codel;
    if (!stands(q, c, f->head, q->table->bytes[f - q->table->flows] - f->head->length, now)) {
        c->dropping = c->owed = false;
        return false;
    }
    if (c->dropping) {
        if (c->owed)
            c->next = control_law(q, c->next, c->count);
        c->owed = now >= c->next;
        c->count += c->owed;
        return c->owed;
    }
    c->dropping = true;
    uint32_t since = c->count - c->last_count;      /* drops of the last time: the rate that it came to holds still, if not long ago */
    c->count = since > 1 && now < c->next + AGAIN * q->interval ? since : 1;
    c->last_count = c->count;
    c->next = control_law(q, now, c->count);
    return true;
}
