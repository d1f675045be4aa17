/* A queue of inner packets that is managed: FQ-CoDel (RFC 8290). Flows take turns by deficit round robin, those with little to send
 * come first, and CoDel (RFC 8289) tells of each packet whether it waited too long. Knows nothing of paths: time, rate and RTT are
 * passed in. */
#ifndef FQ_H
#define FQ_H
#include <stdbool.h>
#include "endpoint.h"
#include "limits.h"

/* RFC 8289 §5.4, of one flow. Times in ns of the caller's clock; 0: none. */
struct codel {
    uint64_t above;                     /* first_above_time: when it will have been above the target for an interval */
    uint64_t next;                      /* drop_next */
    uint32_t count, last_count;         /* drops since dropping began; the same when it began */
    bool dropping, owed;                /* owed: it dropped, and has not reckoned yet when it drops next */
};
struct fq_flow {
    struct codel codel;
    struct packet *head, **tail;
    struct fq_flow *next;               /* in its list */
    int32_t deficit;                    /* octets that it may still send in this round */
    uint8_t list;                       /* enum fq_which */
};
_Static_assert(sizeof(struct fq_flow) == 64, "one cache line");
struct fq_list { struct fq_flow *head, *tail; };
struct fq_table;                        /* made with the first packet: a path that carries nothing has none */
struct fq {
    struct fq_table *table;
    struct fq_flow *turn;               /* of the last fq_peek */
    uint32_t packets;
    uint64_t bytes;                     /* of the inner packets */
    uint64_t target, interval;          /* CoDel's, ns */
    int32_t quantum;                    /* octets a flow sends before it is the next one's turn */
};

void fq_init(struct fq *q);
void fq_free(struct fq *q);             /* it is empty: fq_drain */
/* What the queue is sent with: octets a second, and the round-trip time of the way (ns; 0: unknown). */
void fq_tune(struct fq *q, uint64_t rate, uint64_t rtt);
/* At the end of its flow, which is the packet's tunnel and flow; stamped with the time. False: no memory. */
bool fq_push(struct fq *q, struct packet *k, uint64_t now);
/* Whose turn it is; NULL: empty. The same one until something comes or leaves. */
struct packet *fq_peek(struct fq *q);
/* These three are about the packet of an fq_peek that gave one, with nothing coming or leaving since. CoDel's word on it, asked once,
 * when it would leave now. True: it waited too long, and is to be dropped (fq_drop), or marked if its flow does ECN. */
bool fq_late(struct fq *q, uint64_t now);
struct packet *fq_pop(struct fq *q);    /* it leaves, sent: its flow pays for it */
struct packet *fq_drop(struct fq *q);   /* it leaves otherwise */
struct packet *fq_shed(struct fq *q);   /* the oldest packet of the flow with the most octets leaves (RFC 8290 §4.1.3); NULL: empty */
/* All that wait, a list by `next`, each flow in its order; the queue is as after fq_init, but for its tuning. */
struct packet *fq_drain(struct fq *q);
const struct packet *fq_list_of(const struct fq *q, uint32_t flow);    /* those of flow 0..LIMIT_QUEUE_FLOWS-1, for the books */
#endif
